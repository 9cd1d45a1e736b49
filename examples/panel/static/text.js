// The page's words: t("calls.title") from the table of the language that was chosen. A table is a module that exports
// `texts`; what a table lacks is said in English. index.html names its words in data-t, data-t-placeholder, data-t-label.

import { texts as de } from "./texts-de.js";
import { texts as en } from "./texts-en.js";

export const LANGUAGES = { en: "English", de: "Deutsch" };
const tables = { en, de };

let chosen = "en";

export const language = () => chosen;

/** Text by its name; {name} stands for a word that is put in. */
export function t(name, words = {}) {
  const text = tables[chosen][name] ?? en[name] ?? name;
  return text.replace(/\{(\w+)\}/g, (_, word) => shown(words[word]));
}

const numbers = new Map(); // language -> its way to write a number

/** A word that is put in; a number as the language writes it: 5,000 and 1.5, or 5.000 and 1,5. */
function shown(word) {
  if (typeof word !== "number") return String(word ?? "");
  if (!numbers.has(chosen)) numbers.set(chosen, new Intl.NumberFormat(chosen));
  return numbers.get(chosen).format(word);
}

const has = (name) => name in tables[chosen] || name in en;

const plurals = Object.fromEntries(Object.keys(tables).map((name) => [name, new Intl.PluralRules(name)]));

/** The text for that number: `name.one`, `name.other`, and what else the language has (see Intl.PluralRules). */
export function count(name, number, words = {}) {
  const form = `${name}.${plurals[chosen].select(Number(number) || 0)}`;
  return t(has(form) ? form : `${name}.other`, { ...words, number });
}

export function choose(wanted) {
  chosen = wanted in tables ? wanted : "en";
  document.documentElement.lang = chosen;
  translate(document);
}

/** Put the words of the chosen language into all that names them. */
export function translate(root) {
  for (const element of root.querySelectorAll("[data-t]")) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll("[data-t-placeholder]")) element.placeholder = t(element.dataset.tPlaceholder);
  for (const element of root.querySelectorAll("[data-t-label]")) element.setAttribute("aria-label", t(element.dataset.tLabel));
}
