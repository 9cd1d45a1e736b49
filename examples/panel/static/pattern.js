// A regular expression for numbers, in words: "^0900\d{2,4}$" is "is 0900, then a digit 2 to 4 times, and nothing else".
// Groups, classes, alternatives and quantifiers, as Python's `re` reads them. Of what has other parts (looking ahead or
// behind, references, names) it says nothing at all, so that it says nothing wrong; nor of what is very long or deep.

import { count, language, t } from "./text.js";

const LONGEST = 255; // signs of a pattern, the agent's own limit
const DEEPEST = 8; // groups in groups
const WORDS = 400; // signs of what is said

class Unknown extends Error {}

const KINDS = { d: "digit", D: "no_digit", w: "word", W: "no_word", s: "blank", S: "no_blank" };
const TIMES = /^(?:[*+?]|\{(\d{1,4})?(?:(,)(\d{1,4})?)?\})\??/; // a lazy one fits the same texts

/** Reads a pattern: lists of alternatives, each a list of parts {kind, …, times}. */
class Reader {
  constructor(text) {
    this.rest = text;
    this.depth = 0;
  }

  take(length) {
    const taken = this.rest.slice(0, length);
    this.rest = this.rest.slice(length);
    return taken;
  }

  ways() {
    const found = [[]];
    while (this.rest && this.rest[0] !== ")") {
      if (this.rest[0] === "|") {
        this.take(1);
        found.push([]);
      } else found.at(-1).push(this.part());
    }
    return found;
  }

  part() {
    const part = this.atom();
    const times = TIMES.exec(this.rest);
    if (times) {
      if (part.kind === "edge" || times[0] === "{}" || times[0] === "{,}") throw new Unknown();
      this.take(times[0].length);
      part.times = timesOf(times);
      if (TIMES.test(this.rest) || this.rest[0] === "+") throw new Unknown();
    }
    return part;
  }

  atom() {
    const sign = this.take(1);
    if (sign === "(") return this.group();
    if (sign === "[") return this.signs();
    if (sign === "\\") return this.escaped();
    if (sign === ".") return { kind: "any", text: t("pattern.any") };
    if (sign === "^" || sign === "$") return { kind: "edge", text: sign };
    if ("*+?{}".includes(sign)) throw new Unknown();
    return { kind: "plain", text: sign };
  }

  group() {
    if (this.rest.startsWith("?")) {
      if (!this.rest.startsWith("?:")) throw new Unknown();
      this.take(2);
    }
    if (++this.depth > DEEPEST) throw new Unknown();
    const ways = this.ways();
    if (this.take(1) !== ")") throw new Unknown();
    this.depth--;
    return { kind: "group", ways };
  }

  escaped() {
    const sign = this.take(1);
    if (sign in KINDS) return { kind: "class", text: t(`pattern.${KINDS[sign]}`) };
    if (!sign || /[\p{L}\p{N}]/u.test(sign)) throw new Unknown();
    return { kind: "plain", text: sign };
  }

  /** What stands in square brackets. */
  signs() {
    const not = this.rest[0] === "^" && Boolean(this.take(1));
    const found = [];
    while (!found.length || this.rest[0] !== "]") {
      const from = this.sign();
      if (this.rest[0] === "-" && this.rest.length > 1 && this.rest[1] !== "]") {
        this.take(1);
        found.push(range(from, this.sign()));
      } else found.push(from);
    }
    this.take(1);
    const [only] = found;
    if (found.length > 1) {
      return { kind: "class", text: t(not ? "pattern.none_of" : "pattern.one_of", { signs: found.map(({ text }) => text).join(", ") }) };
    }
    if (only.digits) return { kind: "class", text: t(not ? "pattern.no_digit" : "pattern.digit") };
    if (not) return { kind: "class", text: t("pattern.none_of", { signs: only.text }) };
    return only.kind === "range" ? { kind: "class", text: t("pattern.one_of", { signs: only.text }) } : only;
  }

  sign() {
    const sign = this.take(1);
    if (!sign) throw new Unknown();
    return sign === "\\" ? this.escaped() : { kind: "plain", text: sign };
  }
}

function range(from, to) {
  if (from.kind !== "plain" || to.kind !== "plain" || from.text > to.text) throw new Unknown();
  return { kind: "range", digits: from.text + to.text === "09", text: t("pattern.range", { from: from.text, to: to.text }) };
}

function timesOf([whole, from, comma, to]) {
  const sign = whole[0];
  if (sign === "?") return t("pattern.maybe");
  if (sign === "*") return t("pattern.any_number");
  if (sign === "+") return count("pattern.at_least", 1);
  if (!comma) return count("pattern.times", Number(from));
  if (!to) return count("pattern.at_least", Number(from));
  if (Number(to) < Number(from ?? 0)) throw new Unknown();
  return t("pattern.from_to", { from: Number(from ?? 0), to: Number(to) });
}

/** The parts of one way, in words. */
function sequence(parts) {
  const found = [];
  let plain = "";
  for (const part of [...parts, null]) {
    if (part?.kind === "plain" && !part.times) {
      plain += part.text;
      continue;
    }
    if (plain) found.push(plain);
    plain = "";
    if (part) found.push(words(part));
  }
  return found.join(t("pattern.then"));
}

function words(part) {
  if (part.kind === "edge") throw new Unknown();
  if (part.kind !== "group") return part.times ? `${part.text} ${part.times}` : part.text;
  const [first, ...more] = part.ways;
  if (!more.length) {
    const simple = first.length === 1 && !first[0].times;
    return part.times ? `${simple ? sequence(first) : `(${sequence(first)})`} ${part.times}` : sequence(first);
  }
  const ways = part.ways.map((way) => (way.length === 1 || way.every(({ kind, times }) => kind === "plain" && !times))
    && way[0].kind !== "group" ? sequence(way) : `(${sequence(way) || t("pattern.nothing")})`);
  const either = t("pattern.either", { ways: ways.join(t("pattern.or_else")) });
  return part.times ? `(${either}) ${part.times}` : either;
}

/** One way of the whole, with where it begins and ends. */
function whole(parts) {
  const begins = parts[0]?.kind === "edge" && parts[0].text === "^";
  const ends = parts.length > Number(begins) && parts.at(-1).kind === "edge" && parts.at(-1).text === "$";
  const middle = sequence(parts.slice(Number(begins), parts.length - Number(ends)));
  if (begins && ends) return middle ? t("pattern.is", { middle }) : t("pattern.empty");
  if (!middle) return t("pattern.all");
  if (begins) return t("pattern.begins", { middle });
  return ends ? t("pattern.ends", { middle }) : t("pattern.holds", { middle });
}

const known = new Map(); // patterns and what they mean, in one language
const KNOWN = 50;

/** In words; "" for what has parts that this does not know. */
export function explain(pattern) {
  const key = `${language()} ${pattern}`;
  if (!known.has(key)) {
    if (known.size >= KNOWN) known.clear();
    known.set(key, made(pattern));
  }
  return known.get(key);
}

function made(pattern) {
  if (!pattern || pattern.length > LONGEST) return "";
  try {
    const reader = new Reader(pattern);
    let ways = reader.ways();
    if (reader.rest) return ""; // a bracket too many
    // Brackets around all of it change nothing.
    while (ways.length === 1 && ways[0].length === 1 && ways[0][0].kind === "group" && !ways[0][0].times) ways = ways[0][0].ways;
    const said = ways.map(whole).join(t("pattern.or"));
    return said.length > WORDS ? "" : said;
  } catch (error) {
    if (error instanceof Unknown) return "";
    throw error;
  }
}
