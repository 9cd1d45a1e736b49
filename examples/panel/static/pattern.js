// A regular expression for numbers, in words: "^0900\d{2,4}$" is "begins with 0900, then 2 to 4 digits, then the end".

import { t } from "./text.js";

const ATOM = /^(\\d|\\D|\\w|\\s|\\.|\\\+|\\\*|\\.|\[\^?[^\]]*\]|\(\?:|\(|\)|[\d#*a-zA-Z+@_-]|\.|\^|\$|\|)/;
const TIMES = /^(?:\*|\+|\?|\{(\d+)(,(\d*))?\})/;

function atomOf(text) {
  if (text === "\\d") return t("pattern.digit");
  if (text === ".") return t("pattern.any");
  if (text.startsWith("[^")) return t("pattern.none_of", { signs: text.slice(2, -1) });
  if (text.startsWith("[")) return text === "[0-9]" ? t("pattern.digit") : t("pattern.one_of", { signs: text.slice(1, -1) });
  return text.startsWith("\\") ? text.slice(1) : text;
}

function timesOf(found) {
  const [whole, from, more, to] = found;
  if (whole === "?") return t("pattern.maybe");
  if (whole === "*") return t("pattern.any_number");
  if (whole === "+") return t("pattern.at_least", { from: 1 });
  if (!more) return t("pattern.times", { from });
  return to ? t("pattern.from_to", { from, to }) : t("pattern.at_least", { from });
}

/** In words; "" for what has parts that this does not know, so that nothing wrong is said. */
export function explain(pattern) {
  if (!pattern) return "";
  const ways = pattern.split("|");
  if (/[()]/.test(pattern.replace(/\\./g, ""))) return "";
  const words = ways.map(explainOne);
  return words.every(Boolean) ? words.join(t("pattern.or")) : "";
}

function explainOne(pattern) {
  let rest = pattern;
  const begins = rest.startsWith("^");
  if (begins) rest = rest.slice(1);
  const ends = /(^|[^\\])\$$/.test(rest);
  if (ends) rest = rest.slice(0, -1);
  const parts = [];
  while (rest) {
    const atom = ATOM.exec(rest)?.[0];
    if (!atom || atom === "^" || atom === "$") return "";
    rest = rest.slice(atom.length);
    const times = TIMES.exec(rest);
    if (times) rest = rest.slice(times[0].length);
    const plain = !times && !/^(\.|\[|\\[a-zA-Z])/.test(atom);
    if (plain && parts.length && parts.at(-1).plain) parts.at(-1).text += atomOf(atom);
    else parts.push({ plain, text: times ? `${atomOf(atom)} ${timesOf(times)}` : atomOf(atom) });
  }
  const middle = parts.map((each) => each.text).join(t("pattern.then"));
  if (begins && ends) return middle ? t("pattern.is", { middle }) : t("pattern.empty");
  if (begins) return t("pattern.begins", { middle });
  return ends ? t("pattern.ends", { middle }) : t("pattern.holds", { middle });
}
