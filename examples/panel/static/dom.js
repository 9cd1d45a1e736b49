// Making elements. Text goes in as text and never as HTML: callers choose their names. (The page's
// Content-Security-Policy has the browser refuse innerHTML as well.)

import { language, t } from "./text.js";

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
  return text.length > longest ? `${shown}\n… ${text.length - longest} more characters` : shown;
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

/** A function that runs `work` at most once in `wait` ms, however often it is called. */
export function throttled(work, wait) {
  let due = false;
  return () => {
    if (due) return;
    due = true;
    setTimeout(() => {
      due = false;
      work();
    }, wait);
  };
}

/** True where all words of a filter are in `text`, and none of those that begin with a minus. */
export function matches(filter, text) {
  const lower = text.toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => {
    if (word.length > 1 && word.startsWith("-")) return !lower.includes(word.slice(1));
    return lower.includes(word === "-" ? "" : word);
  });
}

/** Seconds as 0:07, 12:05, 1:02:03. */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  return minutes < 60 ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** Microseconds since 1970 as the time of day here. */
export function clock(microseconds) {
  const date = new Date(microseconds / 1000);
  return Number.isNaN(date.getTime()) ? "" : date.toLocaleTimeString([], { hour12: false }) +
    `.${String(date.getMilliseconds()).padStart(3, "0")}`;
}

/** "since 10:15:30" of seconds since 1970, with the day if it is another one; "" of nothing. */
export function since(seconds) {
  if (!seconds) return "";
  const date = new Date(seconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return t("since", { time: today ? date.toLocaleTimeString(language(), { hour12: false }) : date.toLocaleString(language(), { hour12: false }) });
}
