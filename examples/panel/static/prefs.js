// What a person sets for this browser: the language, the phone, after how long a waiting caller is marked.

import { choose, LANGUAGES } from "./text.js";
import { $, h } from "./dom.js";
import { tell } from "./store.js";

const STORED = "event-agent-panel.prefs";
const usual = { phone: "", soon: 20, late: 60, slash: true, language: navigator.language.startsWith("de") ? "de" : "en" };

export const prefs = { ...usual, ...load() };

let afterwards = null; // what waits for the phone to be set

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(STORED) ?? "{}");
    return Object.fromEntries(Object.entries(found ?? {}).filter(([name, value]) => typeof value === typeof usual[name]));
  } catch {
    return {}; // not JSON, or no storage in this browser
  }
}

function save() {
  try {
    localStorage.setItem(STORED, JSON.stringify(prefs));
  } catch {
    // no storage: it lasts as long as the page
  }
}

const fields = () => $("prefs-form").elements;

function open() {
  const { phone, soon, late, slash, language } = fields();
  phone.value = prefs.phone;
  soon.value = prefs.soon;
  late.value = prefs.late;
  slash.checked = prefs.slash;
  language.value = prefs.language;
  $("prefs").showModal();
  phone.focus();
}

/** This person's phone; asked for where it is not set. Null: not now, `then` is called when it is. */
export function myPhone(then) {
  if (prefs.phone) return prefs.phone;
  afterwards = then;
  open();
  return null;
}

/** How long a caller has waited, in three steps: 0, 1 (soon), 2 (late). */
export const urgency = (seconds) => (seconds >= prefs.late ? 2 : seconds >= prefs.soon ? 1 : 0);

export function start() {
  $("prefs-form").elements.language.replaceChildren(
    ...Object.entries(LANGUAGES).map(([value, name]) => h("option", { value, lang: value }, name)));
  $("prefs-open").addEventListener("click", () => {
    afterwards = null;
    open();
  });
  $("prefs-cancel").addEventListener("click", () => $("prefs").close());
  $("prefs-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const { phone, soon, late, slash, language } = fields();
    Object.assign(prefs, {
      phone: phone.value.trim(), soon: Number(soon.value), late: Math.max(Number(soon.value), Number(late.value)),
      slash: slash.checked, language: language.value,
    });
    save();
    choose(prefs.language);
    const then = prefs.phone ? afterwards : null;
    $("prefs").close();
    tell("prefs");
    then?.();
  });
  choose(prefs.language);
}
