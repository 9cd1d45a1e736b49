// Making elements. Text goes in as text and never as HTML: callers choose their names. (The page's
// Content-Security-Policy has the browser refuse innerHTML as well.)

import { count, language, t } from "./text.js";

const LONGEST = 200;
// Control characters, and those that reorder or hide text around them; written as a box, so that one sees them.
const UNSAFE = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]|\p{Cs}|[\u{e0000}-\u{e007f}]/gu;

/** Text from elsewhere, fit to be shown on one line. */
export function clean(value, longest = LONGEST) {
  const text = String(value ?? "").slice(0, longest * 2).replace(/\s+/g, " ").replace(UNSAFE, "\u25a1").trim();
  const points = [...text];
  return points.length > longest ? points.slice(0, longest - 1).join("") + "…" : text;
}

/** Text from elsewhere with its line breaks. */
export function cleanLines(value, longest = 100_000) {
  const text = String(value ?? "");
  const shown = text.slice(0, longest).replace(/\r\n?/g, "\n").replace(UNSAFE, "\u25a1");
  return text.length > longest ? `${shown}\n${count("text.more", text.length - longest)}` : shown;
}

/** An element: h("button", {type: "button", class: "x", onclick: f}, "text", child, …). Strings become text nodes. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

export const $ = (id) => document.getElementById(id);

/** Set text only where it differs, so that selections and screen readers are left alone. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setAttribute(element, name, value) {
  if (value == null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value);
}

/** Whether a text has all words of a filter in it, and none of those that begin with a minus: a function. */
export function matcher(filter) {
  const words = filter.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
  const not = words.filter((word) => word.startsWith("-")).map((word) => word.slice(1));
  const all = words.filter((word) => !word.startsWith("-"));
  return (text) => {
    const lower = text.toLowerCase();
    return all.every((word) => lower.includes(word)) && !not.some((word) => lower.includes(word));
  };
}

export const matches = (filter, text) => matcher(filter)(text);

/** Elements for items, made once each and then kept: `rows` (id -> row) and the children of `list` become what `items` are. */
export function keyed(list, rows, items, make, show) {
  const keep = new Set(items.map(({ id }) => id));
  for (const [id, row] of rows) {
    if (keep.has(id)) continue;
    row.element.remove();
    rows.delete(id);
  }
  let place = list.firstElementChild;
  for (const item of items) {
    let row = rows.get(item.id);
    if (!row) rows.set(item.id, row = make(item));
    show(row, item);
    if (row.element === place) place = place.nextElementSibling;
    else list.insertBefore(row.element, place);
  }
}

/** Seconds as 0:07, 12:05, 1:02:03. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

const formats = new Map(); // making one takes longer than all that is done with it

function format(kind, options) {
  const key = `${kind} ${language()}`;
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat(language(), { hourCycle: "h23", ...options }));
  return formats.get(key);
}

const WHOLE = { hour: "2-digit", minute: "2-digit", second: "2-digit" };

/** Microseconds since 1970 as the time of day here, to the millisecond. */
export function clock(microseconds) {
  const date = new Date(microseconds / 1000);
  return Number.isNaN(date.getTime()) ? "" : format("milliseconds", { ...WHOLE, fractionalSecondDigits: 3 }).format(date);
}

/** Seconds since 1970 as hours and minutes here. */
export const hours = (seconds) => format("hours", { hour: "2-digit", minute: "2-digit" }).format(new Date(seconds * 1000));

/** "since 10:15:30" of seconds since 1970, with the day if it is another one; "" of nothing. */
export function since(seconds) {
  if (!seconds) return "";
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return t("since", { time: (today ? format("clock", WHOLE) : format("day", { dateStyle: "short", timeStyle: "medium" })).format(date) });
}
