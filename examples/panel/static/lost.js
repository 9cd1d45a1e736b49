// Today's callers whom nobody has spoken to, each with a number to call back.

import { $, clean, duration, h, hours, keyed, setAttribute, setText } from "./dom.js";
import { paced } from "./frames.js";
import { causeOf, said } from "./legs.js";
import { notice } from "./notices.js";
import { myPhone } from "./prefs.js";
import { roving } from "./roving.js";
import { doubt, inScope, may, on, store } from "./store.js";
import { act } from "./stream.js";
import { t } from "./text.js";

const SHOWN = 100;

async function back(entry) {
  const phone = myPhone(() => back(entry));
  if (!phone) return;
  const gone = notice(`${clean(entry.number, 40)}: ${t("doing.take", { phone })}`, "wait");
  const outcome = await act("callback", { node: entry.node, id: entry.id, phone });
  gone();
  if (outcome.login) return;
  notice(`${clean(entry.number, 40)}: ${said(outcome)}`, outcome.ok ? "done" : "bad");
}

const rows = new Map(); // id -> row
let settle = null;

function make(entry) {
  const name = h("bdi", { class: "name" });
  const sub = h("span", { class: "sub" });
  const button = h("button", { type: "button" });
  const row = { element: h("li", {}, name, sub, button), name, sub, button, entry };
  button.addEventListener("click", () => back(row.entry));
  return row;
}

function show(row, entry) {
  row.entry = entry;
  const name = clean(entry.name, 60);
  const number = clean(entry.number, 40);
  const words = [hours(entry.at), t("lost.waited", { time: duration(entry.waited) }), entry.cause ? causeOf(entry.cause, { phone: clean(entry.to, 40) }) : "",
    entry.back ? t("lost.back", { who: clean(entry.back, 40) }) : ""];
  setText(row.name, name && name !== number ? `${name} ${number}` : number);
  setText(row.sub, words.filter(Boolean).join(" · "));
  setText(row.button, t("lost.call"));
  setAttribute(row.button, "aria-label", `${t("lost.call")}: ${name} ${number}`);
  row.button.disabled = Boolean(doubt(entry.node));
  row.button.hidden = !may("supervisor");
  setAttribute(row.element, "data-back", entry.back ? "" : null);
}

function draw() {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  const today = store.lost.filter((entry) => entry.at >= midnight && inScope(entry.node));
  const within = $("lost-rows").contains(document.activeElement);
  keyed($("lost-rows"), rows, today.slice(0, SHOWN), make, show);
  settle(within);
  setText($("lost-count"), today.length ? String(today.length) : "");
  setText($("lost-empty"), today.length ? "" : t("lost.none"));
}

export function start() {
  settle = roving($("lost-rows"));
  const soon = paced(draw, 200);
  for (const news of ["lost", "links", "scope", "prefs", "me"]) on(news, soon);
  draw();
}
