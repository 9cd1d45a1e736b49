// The table of calls, a row a leg. Rows are kept and changed, never made anew, so that focus and selection stay.

import { $, clean, duration, h, matches, setAttribute, setText, throttled } from "./dom.js";
import { partyOf, stateOf, waits } from "./legs.js";
import { reported } from "./notices.js";
import { doubt, inScope, keyOf, on, store } from "./store.js";
import { command } from "./stream.js";
import { askTransfer } from "./transfer.js";

const ROWS = 200; // shown; a filter finds the others
const LINGERS = 4000; // ms that a leg stays on the page after its end
const ARMED = 3500; // ms in which a second press hangs up
const TOO_SOON = 350; // ms in which it does not: that was a double click

const rows = new Map(); // key -> Row
const leaving = new Map(); // key -> {leg, until}

class Row {
  constructor(key) {
    this.key = key;
    this.state = h("span", { class: "badge" });
    this.name = h("bdi", { class: "name" });
    this.number = h("bdi", { class: "sub" });
    this.to = h("bdi", {});
    this.now = h("span", { class: "now" });
    this.node = h("span", {});
    this.time = h("span", {});
    this.answer = h("button", { type: "button", class: "main", onclick: () => answer(this.leg) }, "Answer");
    this.transfer = h("button", { type: "button", onclick: () => askTransfer(this.leg) }, "Transfer");
    this.hangup = h("button", { type: "button", class: "end", onclick: () => this.#hangup() }, "Hang up");
    this.element = h("tr", {},
      h("td", { class: "c-state" }, this.state),
      h("th", { class: "c-from", scope: "row" }, this.name, this.number),
      h("td", { class: "c-to" }, this.to),
      h("td", { class: "c-now" }, this.now),
      h("td", { class: "c-node node" }, this.node),
      h("td", { class: "c-time num" }, this.time),
      h("td", { class: "c-actions" }, h("div", { class: "buttons" }, this.answer, this.transfer, this.hangup)));
  }

  show(leg) {
    if (leg !== this.leg) {
      this.leg = leg;
      const { kind, word } = stateOf(leg);
      this.element.dataset.uuid = leg.uuid;
      setAttribute(this.element, "data-state", kind);
      setText(this.state, word);
      const name = clean(leg.name, 80);
      const number = clean(leg.number, 40);
      setText(this.name, name || number || clean(leg.channel, 60) || "unknown");
      setText(this.number, name && number !== name ? number : "");
      setAttribute(this.name, "title", [clean(leg.name), number, clean(leg.channel)].filter(Boolean).join("\n"));
      // Sent straight to a phone, FreeSWITCH has the whole instruction for the number.
      setText(this.to, clean(leg.to.replace(/^bridge:/, ""), 60));
      setAttribute(this.to, "title", clean(leg.to));
      setText(this.node, clean(leg.node, 60));
      const ended = leg.cause != null;
      this.answer.hidden = ended || leg.direction !== "inbound" || Boolean(leg.answered);
      this.transfer.hidden = this.hangup.hidden = ended;
      for (const [button, verb] of [[this.answer, "Answer"], [this.transfer, "Transfer"], [this.hangup, "Hang up"]]) {
        setAttribute(button, "aria-label", `${verb}: ${partyOf(leg)}`);
      }
    }
    const text = this.#now(leg);
    setText(this.now, text);
    setAttribute(this.now, "title", text);
    const away = doubt(leg.node);
    setAttribute(this.element, "data-doubt", away ? "" : null);
    setAttribute(this.element, "title", away ? `May be out of date: ${away}` : null);
    for (const button of [this.answer, this.transfer, this.hangup]) button.disabled = Boolean(away);
    this.tick();
  }

  #now(leg) {
    if (leg.cause != null) return clean(leg.cause, 60);
    const other = leg.other && store.calls.get(keyOf({ node: leg.node, uuid: leg.other }));
    if (other) return `with ${other.direction === "outbound" ? clean(other.to, 60) || partyOf(other) : partyOf(other)}`;
    if (leg.parked) return leg.answered ? "waits, answered" : "waits";
    return clean(leg.app, 120);
  }

  tick() {
    if (this.leg.cause == null && this.leg.since) setText(this.time, duration(Date.now() / 1000 - this.leg.since / 1e6));
  }

  /** The first press asks, the second within a few seconds does it: an ended call can't be taken back. */
  #hangup() {
    if (this.hangup.dataset.armed == null) {
      this.hangup.dataset.armed = "soon";
      setText(this.hangup, "Sure?");
      this.timers = [
        setTimeout(() => { this.hangup.dataset.armed = "ready"; }, TOO_SOON),
        setTimeout(() => this.#disarm(), ARMED),
      ];
      return;
    }
    if (this.hangup.dataset.armed !== "ready") return;
    this.#disarm();
    const leg = this.leg;
    reported(`Hang up ${partyOf(leg)}`, command({ command: "hangup", uuid: leg.uuid }, leg.node), `Hung up ${partyOf(leg)}`);
  }

  #disarm() {
    this.timers?.forEach(clearTimeout);
    delete this.hangup.dataset.armed;
    setText(this.hangup, "Hang up");
  }
}

function answer(leg) {
  reported(`Answer ${partyOf(leg)}`, command({ command: "uuid_answer", args: leg.uuid }, leg.node), `Answered ${partyOf(leg)}`);
}

function inFilter(leg, filter) {
  return inScope(leg.node) && (!filter || matches(filter,
    `${stateOf(leg).word} ${leg.name} ${leg.number} ${leg.to} ${leg.node} ${leg.uuid} ${leg.channel} ${leg.app}`));
}

function draw() {
  const filter = $("calls-filter").value.trim();
  const scoped = [...store.calls.values()].filter((leg) => inScope(leg.node));
  const found = scoped.filter((leg) => inFilter(leg, filter));
  for (const { leg } of leaving.values()) if (inFilter(leg, filter)) found.push(leg);
  // One that has just ended keeps its place, so that no other comes under the finger.
  const first = (leg) => leg.waited ?? waits(leg);
  found.sort((a, b) => first(b) - first(a) || a.since - b.since || (a.uuid < b.uuid ? -1 : 1));
  const shown = found.slice(0, ROWS);
  const body = $("calls-rows");
  const focused = document.activeElement;
  const keep = new Set();
  let place = body.firstElementChild;
  for (const leg of shown) {
    const key = keyOf(leg);
    keep.add(key);
    let row = rows.get(key);
    if (!row) rows.set(key, row = new Row(key));
    row.show(leg);
    if (row.element === place) place = place.nextElementSibling;
    else body.insertBefore(row.element, place);
  }
  for (const [key, row] of rows) {
    if (keep.has(key)) continue;
    row.element.remove();
    rows.delete(key);
  }
  // An element that is moved loses the focus.
  if (focused !== document.activeElement && body.contains(focused)) focused.focus({ preventScroll: true });
  counts(scoped, found.length - shown.length, filter && !shown.length);
}

function counts(scoped, more, nothingFound) {
  const waiting = scoped.filter(waits).length;
  setText($("calls-count"), scoped.length ? `${scoped.length}${waiting ? ` · ${waiting} waiting` : ""}` : "");
  document.title = `${waiting ? `(${waiting}) ` : ""}Panel · event-agent`;
  const answering = store.nodes.some((node) => node.up && node.freeswitch);
  setText($("calls-empty"), more > 0 ? `… and ${more} more: filter to find them`
    : nothingFound ? "No call matches the filter."
      : rows.size ? ""
        : store.page.state !== "ok" || !store.nats.connected || !answering ? "Nothing is known of calls yet." : "No calls.");
  $("calls").classList.toggle("one-node", store.nodes.length < 2);
}

export function start() {
  const soon = throttled(draw, 80);
  on("calls", () => {
    leaving.clear();
    soon();
  });
  on("call", (leg) => {
    leaving.delete(keyOf(leg));
    soon();
  });
  on("gone", (leg) => {
    const waited = waits({ ...leg, cause: null });
    if (leaving.size < ROWS) leaving.set(keyOf(leg), { leg: { ...leg, waited }, until: Date.now() + LINGERS });
    soon();
  });
  on("links", soon);
  on("scope", soon);
  $("calls-filter").addEventListener("input", soon);
  setInterval(() => {
    for (const row of rows.values()) row.tick();
    for (const [key, { until }] of leaving) {
      if (Date.now() < until) continue;
      leaving.delete(key);
      soon();
    }
  }, 1000);
  draw();
}
