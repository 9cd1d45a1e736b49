// The form that makes a call.

import { $, setText } from "./dom.js";
import { notice, reported } from "./notices.js";
import { on, store } from "./store.js";
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
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const request = originate(form);
    if (!request.endpoint || !request.extension) {
      notice("Make a call: both fields are needed", "bad");
      return;
    }
    // Several may ring at a time: the form does not wait.
    reported(`Call ${request.endpoint}`, command(request, store.scope), `${request.endpoint} has answered`);
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
