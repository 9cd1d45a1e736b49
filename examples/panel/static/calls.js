// The list of calls, a row a call. Waiting callers come first, the one that has waited longest at the top.

import { speaker } from "./announce.js";
import { $, matcher, setText } from "./dom.js";
import { inFrames, paced } from "./frames.js";
import { Groups } from "./groups.js";
import { stateOf, waits } from "./legs.js";
import { List } from "./list.js";
import { askAction } from "./menu.js";
import { Row } from "./rows.js";
import { Sorted } from "./sorted.js";
import { inScope, on, store } from "./store.js";
import { count, t } from "./text.js";

const LINGERS = 4000; // ms that a call stays on the page after its end
const LEAVING = 200; // calls that stay so at a time
const AGAIN = 100; // ms between two drawings of the list

export const groups = new Groups();
const leaving = new Map(); // id -> {call, until}
const counted = new Map(); // id -> whether it waits, of the calls in scope
let waiting = 0; // of these
let list = null;
let told = 0; // callers who waited when that was last looked at
let shown = chosen(); // the calls that the filter lets through, in their order
let fresh = null; // the same for another filter, until all calls have been looked at
let soon = null;
let behind = false; // what has changed is not all shown
let drawn = 0; // performance.now() when it last was

function textOf(call) {
  call.text ||= call.legs.map((leg) => `${stateOf(leg).word} ${leg.name} ${leg.number} ${leg.to} ${leg.node} ${leg.uuid} ` +
    `${leg.channel} ${leg.app}`).join(" ").toLowerCase();
  return call.text;
}

/** An empty list for what the filter and the choice of a node let through. */
function chosen() {
  const filter = $("calls-filter").value.trim();
  const fits = matcher(filter);
  return { sorted: new Sorted(), filter, fits: (call) => inScope(call.node) && (!filter || fits(textOf(call))) };
}

/** How early it comes in the list: who waits, by how long; then the others, by their age. */
function order(call) {
  const { main } = call;
  const now = call.waited ?? waits(main);
  return (now ? 0 : 1e16) + ((now && main.waits) || main.since);
}

/** Put a call where it belongs now. */
function place(call) {
  const lists = fresh ? [shown, fresh] : [shown];
  for (const each of lists) each.sorted.remove(call.id);
  call.order = order(call);
  for (const each of lists) if (each.fits(call)) each.sorted.put(call);
}

function take(id) {
  shown.sorted.remove(id);
  fresh?.sorted.remove(id);
}

function counting(call, there) {
  if (counted.get(call.id)) waiting--;
  counted.delete(call.id);
  if (!there || !inScope(call.node)) return;
  const now = waits(call.main);
  counted.set(call.id, now);
  if (now) waiting++;
}

/** Look at all calls with another filter, in pieces; the list is as it was until that is done. */
function again() {
  counted.clear();
  waiting = 0;
  for (const call of groups.all.values()) counting(call, true);
  const mine = fresh = chosen();
  const left = [...groups.all.values(), ...[...leaving.values()].map(({ call }) => call)][Symbol.iterator]();
  inFrames((end) => {
    if (mine !== fresh) return false;
    do {
      const { value: call, done } = left.next();
      if (done) {
        [shown, fresh] = [mine, null];
        soon();
        return false;
      }
      if ((groups.all.get(call.id) ?? leaving.get(call.id)?.call) === call) place(call);
    } while (performance.now() < end);
    return true;
  });
}

/** Take over what has changed, in pieces, and show it in a frame of its own: at most AGAIN ms later. True: do it again. */
function draw(end) {
  const late = behind && performance.now() > drawn + AGAIN;
  if (!late) {
    behind = true;
    while (join()) if (performance.now() > end) return true;
    if (performance.now() > end) return true;
  }
  show();
  return late;
}

function join() {
  const { changed, removed, more } = groups.update();
  for (const call of removed) {
    take(call.id);
    counting(call, false);
  }
  for (const call of changed) {
    leaving.delete(call.id);
    place(call);
    counting(call, true);
  }
  // One that has just ended keeps its place, so that no other comes under the finger.
  for (const call of removed) if (leaving.has(call.id)) place(leaving.get(call.id).call);
  return more;
}

function show() {
  list.set(shown.sorted.items);
  counts();
  behind = false;
  drawn = performance.now();
}

function counts() {
  const { sorted: { items }, filter } = shown;
  const calls = counted.size;
  const texts = [calls ? count("calls.count", calls) : "", waiting ? count("calls.waiting", waiting) : "",
    filter && items.length && items.length !== calls ? count("calls.found", items.length) : ""];
  setText($("calls-count"), texts.filter(Boolean).join(" · "));
  document.title = `${waiting ? `(${waiting}) ` : ""}${t("title")} · event-agent`;
  const answering = store.nodes.some((node) => node.up && node.freeswitch);
  setText($("calls-empty"), filter && !items.length ? t("calls.none_found") : items.length ? ""
    : store.page.state !== "ok" || !store.nats.connected || !answering ? t("calls.unknown") : t("calls.none"));
  $("calls").classList.toggle("one-node", store.nodes.length < 2);
  $("calls-table").hidden = !items.length;
  announce();
}

const speaks = speaker($("announce"));

/** For those who do not see the list: that callers wait, when they become more. */
function announce() {
  if (waiting > told) speaks.say(() => (waiting ? count("calls.announce", waiting) : null));
  else if (!waiting) speaks.hush();
  told = waiting;
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
  else if (event.key === "Enter" && event.target === row.element) row.enter();
  else if (["ArrowRight", "ArrowLeft"].includes(event.key)) {
    const reach = [row.element, ...row.buttons.filter((each) => !each.hidden && !each.disabled)];
    const at = reach.indexOf(event.target) + (event.key === "ArrowRight" ? 1 : -1);
    reach[Math.min(reach.length - 1, Math.max(0, at))].focus();
  } else return;
  event.preventDefault();
}

export function start() {
  list = new List($("calls-scroll"), $("calls-rows"), (call) => new Row(call.id, askAction));
  soon = paced(draw, AGAIN);
  on("call", (leg) => {
    groups.put(leg);
    soon();
  });
  on("gone", (leg) => {
    gone(leg);
    soon();
  });
  on("forgotten", (leg) => {
    groups.remove(leg);
    soon();
  });
  for (const news of ["links", "prefs", "me"]) on(news, soon);
  on("prefs", () => {
    for (const call of groups.all.values()) call.text = ""; // the words to be found are those of the language
    again();
  });
  on("scope", again);
  $("calls-filter").addEventListener("input", again);
  $("calls-filter").addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown") list.move(0);
    else if (event.key === "Escape" && event.target.value) {
      event.target.value = "";
      again();
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
      take(id);
      soon();
    }
  }, 1000);
  show();
}

/** The list, for keys that work everywhere. */
export const toList = () => list.move(0);
