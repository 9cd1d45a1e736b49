// The events as they come, newest first: a filter, a pause, one event whole where one wants to see it.

import { $, clean, cleanLines, clock, h, matcher, setAttribute, setText } from "./dom.js";
import { paced } from "./frames.js";
import { roving } from "./roving.js";
import { inScope, on } from "./store.js";
import { wholeEvent } from "./stream.js";
import { count, t } from "./text.js";

const KEPT = 1000; // in short form
const ROWS = 250; // shown

let kept = []; // oldest first
let last = 0; // id of the newest that has come
let newest = 0; // id of the newest that is shown
let pausedAt = Infinity; // id of the newest when it was paused: none beyond it is shown
let missed = 0; // that have come while paused
let settle = null;

const textOf = (event) => `${event.event} ${event.node} ${event.uuid} ${event.from} ${event.to} ${event.text}`;
const filter = () => $("events-filter").value.trim();

function chosen() {
  const fits = matcher(filter());
  return (event) => inScope(event.node) && fits(textOf(event));
}

function row(event) {
  const family = event.event.split("_")[0].toLowerCase();
  const way = [clean(event.from, 40), clean(event.to, 40)].filter(Boolean).join(" → ");
  const text = clean(event.text, 160);
  const button = h("button", { type: "button", class: "line", "aria-expanded": "false" },
    h("time", {}, clock(event.time)),
    h("span", { class: "event" }, clean(event.event, 64)),
    h("span", { class: "text" }, text ? h("bdi", {}, text) : null, way ? h(text ? "i" : "bdi", {}, way) : null),
    h("span", { class: "node" }, clean(event.node, 40)));
  const line = h("li", { "data-family": family, "data-event": event.event }, button);
  button.addEventListener("click", () => toggle(line, button, event));
  return line;
}

async function toggle(line, button, event) {
  const open = button.getAttribute("aria-expanded") === "true";
  setAttribute(button, "aria-expanded", String(!open));
  line.querySelector(".whole")?.remove();
  if (open) return;
  const box = h("div", { class: "whole" }, "…");
  line.append(box);
  const whole = await wholeEvent(event.id);
  if (!whole) {
    box.replaceChildren(t("events.gone"));
    return;
  }
  const { headers = {}, body, ...rest } = whole;
  const list = h("dl", {});
  for (const [name, value] of [...Object.entries(rest), ...Object.entries(headers)]) {
    list.append(h("dt", {}, clean(name, 100)), h("dd", {}, cleanLines(typeof value === "string" ? value : JSON.stringify(value), 2000)));
  }
  box.replaceChildren(list, ...(body ? [h("pre", {}, cleanLines(body, 20_000))] : []));
}

function draw() {
  if (document.body.dataset.view !== "engineer") return;
  const list = $("events-rows");
  const shown = chosen();
  const fresh = [];
  for (let index = kept.length - 1; index >= 0 && kept[index].id > newest && fresh.length < ROWS; index -= 1) {
    if (kept[index].id <= pausedAt && shown(kept[index])) fresh.push(row(kept[index]));
  }
  newest = Math.min(last, pausedAt);
  const within = list.contains(document.activeElement);
  list.prepend(...fresh);
  while (list.children.length > ROWS) list.lastElementChild.remove();
  settle(within);
  counts();
}

function counts() {
  setText($("events-count"), !missed ? "" : missed >= KEPT ? t("events.over", { number: KEPT }) : count("events.new", missed));
  const any = $("events-rows").childElementCount > 0;
  setText($("events-empty"), any ? "" : t(kept.length ? "events.none_found" : "events.none"));
}

/** From the beginning: another filter, another node. */
function again() {
  $("events-rows").replaceChildren();
  newest = 0;
  draw();
}

/** The button's word changes with what it does. */
function words() {
  setText($("events-pause"), t(pausedAt === Infinity ? "events.pause" : "events.go"));
  counts();
}

function pause() {
  const paused = pausedAt === Infinity;
  pausedAt = paused ? last : Infinity;
  missed = 0;
  setAttribute($("events-pause"), "aria-pressed", String(paused));
  words();
  draw();
}

export function start() {
  settle = roving($("events-rows"));
  const soon = paced(draw, 150);
  on("view", soon);
  on("events", (events) => {
    // After a loss the server sends those of late again; its numbers only grow, also over its restarts.
    const fresh = events.filter((event) => event.id > last);
    last = fresh.at(-1)?.id ?? last;
    kept.push(...fresh);
    if (kept.length > KEPT) kept.splice(0, kept.length - KEPT);
    if (pausedAt !== Infinity) missed += fresh.length;
    soon();
  });
  on("scope", again);
  on("prefs", words);
  $("events-filter").addEventListener("input", paced(again, 150));
  $("events-pause").addEventListener("click", pause);
  $("events-clear").addEventListener("click", () => {
    kept = [];
    missed = 0;
    again();
  });
  counts();
}
