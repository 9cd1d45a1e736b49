// Today's callers whom nobody has spoken to, each with a number to call back.

import { $, clean, duration, h, setText } from "./dom.js";
import { causeOf, said } from "./legs.js";
import { notice } from "./notices.js";
import { myPhone } from "./prefs.js";
import { doubt, inScope, may, on, store } from "./store.js";
import { act } from "./stream.js";
import { language, t } from "./text.js";

const SHOWN = 100;

async function back(entry) {
  const phone = myPhone(() => back(entry));
  if (!phone) return;
  const gone = notice(`${clean(entry.number, 40)}: ${t("doing.take", { phone })}`, "wait");
  const outcome = await act("callback", { node: entry.node, id: entry.id, phone });
  gone();
  notice(`${clean(entry.number, 40)}: ${said(outcome)}`, outcome.ok ? "done" : "bad");
}

function line(entry) {
  const name = clean(entry.name, 60);
  const number = clean(entry.number, 40);
  const time = new Date(entry.at * 1000).toLocaleTimeString(language(), { hour: "2-digit", minute: "2-digit", hour12: false });
  const words = [time, t("lost.waited", { time: duration(entry.waited) }), entry.cause ? causeOf(entry.cause, { phone: clean(entry.to, 40) }) : "",
    entry.back ? t("lost.back", { who: clean(entry.back, 40) }) : ""];
  return h("li", { "data-back": Boolean(entry.back) }, h("bdi", { class: "name" }, name && name !== number ? `${name} ${number}` : number),
    h("span", { class: "sub" }, words.filter(Boolean).join(" · ")),
    may("supervisor") ? h("button", { type: "button", disabled: Boolean(doubt(entry.node)), "aria-label": `${t("lost.call")}: ${name} ${number}`,
      onclick: () => back(entry) }, t("lost.call")) : null);
}

let drawn = "";

function draw() {
  const midnight = new Date().setHours(0, 0, 0, 0) / 1000;
  const today = store.lost.filter((entry) => entry.at >= midnight && inScope(entry.node));
  const text = JSON.stringify([today, language(), store.me.role, today.map((entry) => Boolean(doubt(entry.node)))]);
  if (text === drawn) return; // so that a button keeps the focus
  drawn = text;
  $("lost-rows").replaceChildren(...today.slice(0, SHOWN).map(line));
  setText($("lost-count"), today.length ? String(today.length) : "");
  setText($("lost-empty"), today.length ? "" : t("lost.none"));
}

export function start() {
  for (const news of ["lost", "links", "scope", "prefs", "me"]) on(news, draw);
  draw();
}
