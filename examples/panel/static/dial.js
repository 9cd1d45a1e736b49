// The form that makes a call.

import { $, setAttribute, setText, since } from "./dom.js";
import { said } from "./legs.js";
import { notice, reported } from "./notices.js";
import { doubtOfAll, on, store } from "./store.js";
import { command } from "./stream.js";
import { t } from "./text.js";

/** The request that the form stands for. */
export function originate(form) {
  const request = { command: "originate" };
  for (const name of ["endpoint", "extension", "caller_id_name", "caller_id_number", "context"]) {
    const value = form.elements[name].value.trim();
    if (value) request[name] = value;
  }
  const timeout = form.elements.timeout.value;
  if (timeout) request.timeout = Number(timeout);
  return request;
}

export function start() {
  const form = $("dial-form");
  const draw = () => {
    const away = doubtOfAll();
    $("dial-go").disabled = Boolean(away);
    setAttribute($("dial-go"), "title", away ? `${said(away)} ${since(away.since)}`.trim() : null);
  };
  for (const news of ["links", "scope", "prefs"]) on(news, draw);
  draw();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = originate(form);
    if (!request.endpoint || !request.extension) {
      notice(t("dial.missing"), "bad");
      return;
    }
    // Several may ring at a time: the form does not wait.
    const words = { phone: request.endpoint };
    reported(t("dial.calling", words), command(request, store.scope), t("dial.answered", words));
  });
}

/** What stands in the corner of each form: where its command goes. */
export function startScopes() {
  const draw = () => {
    for (const chip of document.querySelectorAll("[data-scope]")) {
      const many = store.nodes.length > 1;
      setText(chip, store.scope || (many ? t(chip.dataset.scope === "any" ? "scope.any" : "scope.every") : ""));
      chip.hidden = !chip.textContent;
    }
  };
  on("links", draw);
  on("scope", draw);
  on("prefs", draw);
  draw();
}
