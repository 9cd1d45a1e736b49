// The list of calls, a row a call. Waiting callers come first, the one that has waited longest at the top.

import { $, matches, setText } from "./dom.js";
import { perform } from "./acts.js";
import { Groups } from "./groups.js";
import { stateOf, waits } from "./legs.js";
import { List } from "./list.js";
import { askAction } from "./menu.js";
import { actionsOf, Row } from "./rows.js";
import { inScope, on, store } from "./store.js";
import { count, t } from "./text.js";

const LINGERS = 4000; // ms that a call stays on the page after its end
const LEAVING = 200; // calls that stay so at a time
const TOLD = 10_000; // ms between two words on callers who wait

export const groups = new Groups();
const leaving = new Map(); // id -> {call, until}
let list = null;
let told = { waiting: 0, at: 0 };

function textOf(call) {
  call.text ||= call.legs.map((leg) => `${stateOf(leg).word} ${leg.name} ${leg.number} ${leg.to} ${leg.node} ${leg.uuid} ` +
    `${leg.channel} ${leg.app}`).join(" ").toLowerCase();
  return call.text;
}

const inFilter = (call, filter) => inScope(call.node) && (!filter || matches(filter, textOf(call)));

/** How early it comes in the list: who waits, by how long; then the others, by their age. */
function order(call) {
  const { main } = call;
  const waiting = call.waited ?? waits(main);
  return (waiting ? 0 : 1e16) + ((waiting && main.waits) || main.since);
}

function draw() {
  groups.update();
  for (const id of leaving.keys()) if (groups.all.has(id)) leaving.delete(id);
  const filter = $("calls-filter").value.trim();
  const found = [];
  let [calls, waiting] = [0, 0];
  for (const call of groups.all.values()) {
    if (!inScope(call.node)) continue;
    calls++;
    if (waits(call.main)) waiting++;
    if (inFilter(call, filter)) found.push(call);
  }
  // One that has just ended keeps its place, so that no other comes under the finger.
  for (const { call } of leaving.values()) if (inFilter(call, filter)) found.push(call);
  for (const call of found) call.order = order(call);
  found.sort((a, b) => a.order - b.order || (a.id < b.id ? -1 : 1));
  list.set(found);
  counts(calls, waiting, found.length, filter);
}

function counts(calls, waiting, shown, filter) {
  const texts = [calls ? count("calls.count", calls) : "", waiting ? count("calls.waiting", waiting) : "",
    filter && shown && shown !== calls ? count("calls.found", shown) : ""];
  setText($("calls-count"), texts.filter(Boolean).join(" · "));
  document.title = `${waiting ? `(${waiting}) ` : ""}${t("title")} · event-agent`;
  const answering = store.nodes.some((node) => node.up && node.freeswitch);
  setText($("calls-empty"), filter && !shown ? t("calls.none_found") : shown ? ""
    : store.page.state !== "ok" || !store.nats.connected || !answering ? t("calls.unknown") : t("calls.none"));
  $("calls").classList.toggle("one-node", store.nodes.length < 2);
  $("calls-table").hidden = !shown;
  announce(waiting);
}

/** For those who do not see the list: that callers wait, when they become more, and not more often than they can hear. */
function announce(waiting) {
  if (waiting <= told.waiting) told.waiting = waiting;
  else if (Date.now() > told.at + TOLD) {
    told = { waiting, at: Date.now() };
    setText($("announce"), count("calls.announce", waiting));
  }
}

/** Runs `work` soon, and the seldomer the longer it takes: a fifth of the time at most. */
function sparing(work) {
  let [due, cost] = [false, 0];
  return () => {
    if (due) return;
    due = true;
    setTimeout(() => {
      due = false;
      const began = performance.now();
      work();
      cost = performance.now() - began;
    }, Math.max(80, cost * 4));
  };
}

function gone(leg) {
  const call = groups.callOf(leg);
  groups.remove(leg);
  if (!call) return;
  const left = call.legs.filter((each) => each.uuid !== leg.uuid);
  if (left.length) {
    call.legs = left;
    return;
  }
  // It was the last leg. What its first one ended with is what people want to know.
  const waited = waits({ ...call.main, cause: null });
  const main = { ...call.main, cause: leg.cause || "" };
  if (leaving.size < LEAVING) {
    leaving.set(call.id, { call: { ...call, main, legs: [main], waited, version: `${call.version}e`, text: "" }, until: Date.now() + LINGERS });
  }
}

function keys(event) {
  const row = event.target.closest("tr")?.row;
  if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
  const page = Math.max(1, Math.floor(list.scroller.clientHeight / list.height) - 2);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -1e9, End: 1e9 };
  if (event.key in steps) list.move(steps[event.key]);
  else if (event.key === "Enter" && event.target === row.element) perform(actionsOf(row.call)[0], row.call);
  else if (["ArrowRight", "ArrowLeft"].includes(event.key)) {
    const reach = [row.element, ...row.buttons.filter((each) => !each.hidden && !each.disabled)];
    const at = reach.indexOf(event.target) + (event.key === "ArrowRight" ? 1 : -1);
    reach[Math.min(reach.length - 1, Math.max(0, at))].focus();
  } else return;
  event.preventDefault();
}

export function start() {
  list = new List($("calls-scroll"), $("calls-rows"), (call) => new Row(call.id, askAction));
  const soon = sparing(draw);
  on("calls", (legs) => {
    leaving.clear();
    groups.reset(legs);
    soon();
  });
  on("more", (legs) => {
    for (const leg of legs) groups.put(leg);
    soon();
  });
  on("call", (leg) => {
    groups.put(leg);
    soon();
  });
  on("gone", (leg) => {
    gone(leg);
    soon();
  });
  for (const news of ["links", "scope", "prefs", "me"]) on(news, soon);
  $("calls-filter").addEventListener("input", soon);
  $("calls-filter").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") list.move(0);
    else if (event.key === "Escape" && event.target.value) {
      event.target.value = "";
      soon();
    } else return;
    event.preventDefault();
  });
  $("calls-rows").addEventListener("keydown", keys);
  $("calls-rows").addEventListener("focusin", (event) => list.at(event.target.closest("tr")));
  setInterval(() => {
    for (const row of list.rows) row.tick();
    for (const [id, { until }] of leaving) {
      if (Date.now() < until) continue;
      leaving.delete(id);
      soon();
    }
  }, 1000);
  draw();
}

/** The list, for keys that work everywhere. */
export const toList = () => list.move(0);
