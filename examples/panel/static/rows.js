// One row of the list of calls. A row is kept and changed, never made anew, so that focus and selection stay.

import { clean, duration, h, setAttribute, setText, since } from "./dom.js";
import { disarm, hangupArmed, perform } from "./acts.js";
import { calledOf, causeOf, partyOf, said, stateOf, waits } from "./legs.js";
import { notice } from "./notices.js";
import { urgency } from "./prefs.js";
import { doubt, may } from "./store.js";
import { language, t } from "./text.js";

const legOf = (call, uuid) => Boolean(uuid) && call.legs.find((leg) => leg.uuid === uuid);

/** The consultation that a caller waits for, while there is one. */
const consulting = (call) => legOf(call, call.main.consult?.with) && call.main.consult;

/** How far that is: the phone rings, they talk, or it is over because the other has hung up. */
function consultation(call) {
  const { to, with: ours, ended } = call.main.consult;
  if (ended) return "over";
  return to && legOf(call, to)?.other === ours ? "talks" : "rings";
}

/**
 * What can be done with a call, the most likely first. Some of it may have to wait (see `isDark`): it keeps its place,
 * so that nothing else comes under the finger when it can be done.
 */
export function actionsOf(call) {
  const { main } = call;
  if (main.cause != null || !may("supervisor")) return [];
  const found = [];
  if (consulting(call)) return ["connect", "back", "hangup"];
  if (waits(main)) found.push("take");
  if (main.other) found.push("listen", "whisper");
  found.push("transfer");
  if (main.other) found.push("consult");
  if (main.direction === "inbound" && !main.answered) found.push("answer");
  return [...found, "hangup"];
}

/** What stands there and can't be done now: taking what somebody is taking, connecting to one who has not answered. */
export const isDark = (action, call) => (action === "take" && Boolean(call.main.taking))
  || (action === "connect" && consulting(call) && consultation(call) !== "talks");

const PRESSING = ["take", "answer", "connect"]; // what a caller waits for stands out
const SETTLES = 350; // ms in which a button that has just come to mean something else does nothing
const SECOND = ["transfer", "back"]; // what has the place after the first

export class Row {
  constructor(id, choose) {
    this.id = id;
    this.state = h("span", { class: "badge" });
    this.name = h("bdi", { class: "name" });
    this.number = h("bdi", { class: "sub" });
    this.to = h("bdi", {});
    this.now = h("span", { class: "now" });
    this.node = h("span", {});
    this.time = h("span", { class: "time" });
    this.first = h("button", { type: "button", class: "main", onclick: () => this.#press(this.first) });
    this.second = h("button", { type: "button", onclick: () => this.#press(this.second) });
    this.hangup = h("button", { type: "button", class: "end", "data-act": "hangup", onclick: () => hangupArmed(this.hangup, this.call) });
    this.more = h("button", { type: "button", class: "more", "aria-haspopup": "dialog", onclick: () => choose(this.call) }, "⋯");
    this.buttons = [this.first, this.second, this.hangup, this.more];
    for (const button of [this.first, this.second]) button.addEventListener("blur", () => queueMicrotask(() => this.#free()));
    this.element = h("tr", { tabindex: "-1" },
      h("td", { class: "c-state" }, this.state),
      h("th", { class: "c-from", scope: "row" }, this.name, this.number),
      h("td", { class: "c-to" }, this.to),
      h("td", { class: "c-now" }, this.now),
      h("td", { class: "c-node node" }, this.node),
      h("td", { class: "c-time num" }, this.time),
      h("td", { class: "c-actions" }, h("div", { class: "buttons" }, ...this.buttons)));
    this.element.row = this;
  }

  /** What a button says is what it does, unless it came to say so under the finger, this moment. */
  #press(button) {
    if (performance.now() < (button.settled ?? 0)) notice(`${partyOf(this.call.main)}: ${t("act.changed")}`, "bad");
    else perform(button.dataset.act, this.call);
  }

  /** Enter on the row: what its first button does, or the transfer where there is no such button. */
  enter() {
    if (!this.first.hidden) this.first.click();
    else if (!this.second.hidden) this.second.click();
  }

  /** A button that has lost the focus may say what is due now. */
  #free() {
    if (!this.call || !this.element.isConnected) return;
    this.drawn = "";
    this.show(this.call);
  }

  /** Give a button its action. One that has the focus keeps what it has as long as that can be done. */
  #label(button, wanted, call) {
    const before = button.hidden ? "" : button.dataset.act;
    const keeps = button === document.activeElement && before && this.actions.includes(before);
    const action = keeps ? before : wanted;
    button.hidden = !action;
    if (!action) return;
    if (before && before !== action) {
      if (button === document.activeElement) this.element.focus({ preventScroll: true });
      if (this.element === document.activeElement || button.matches(":hover")) button.settled = performance.now() + SETTLES;
    }
    button.dataset.act = action;
    button.classList.toggle("main", PRESSING.includes(action));
    setText(button, t(`do.${action}`));
    setAttribute(button, "aria-label", `${t(`do.${action}`)}: ${partyOf(call.main)}`);
  }

  show(call) {
    const { main } = call;
    const focused = this.buttons.find((button) => button === document.activeElement);
    const away = main.cause == null ? doubt(main.node) : null;
    const drawn = `${call.version} ${language()} ${main.cause ?? ""}`;
    if (call !== this.call || drawn !== this.drawn) {
      this.call = call;
      this.drawn = drawn;
      this.#draw(call, main);
    }
    if (away !== this.away || away?.say !== this.away?.say) {
      this.away = away;
      setAttribute(this.element, "data-doubt", away ? "" : null);
      const why = away ? `${t("out_of_date")}: ${said(away)} ${since(away.since)}` : null;
      setAttribute(this.element, "title", why);
    }
    for (const button of this.buttons) button.disabled = Boolean(away) || isDark(button.dataset.act, call);
    // A button that goes or goes dark would take the focus with it, to nowhere.
    if (focused && (focused.hidden || focused.disabled)) this.element.focus({ preventScroll: true });
    this.tick();
  }

  #draw(call, main) {
    const { kind, word } = stateOf(main);
    this.element.dataset.uuid = main.uuid;
    this.element.dataset.legs = call.legs.map((leg) => leg.uuid).join(" ");
    setAttribute(this.element, "data-state", kind);
    setText(this.state, word);
    const name = clean(main.name, 80);
    const number = clean(main.number, 40);
    setText(this.name, name || number || clean(main.channel, 60) || t("unknown"));
    setText(this.number, name && number !== name ? number : "");
    setAttribute(this.name, "title", [clean(main.name), number, clean(main.channel)].filter(Boolean).join("\n"));
    // Sent straight to a phone, FreeSWITCH has the whole instruction for the number.
    setText(this.to, clean(main.to.replace(/^bridge:/, ""), 60));
    setAttribute(this.to, "title", clean(main.to));
    setText(this.node, clean(main.node, 60));
    const text = this.#now(call, main);
    setText(this.now, text);
    setAttribute(this.now, "title", text);
    this.actions = actionsOf(call);
    const party = partyOf(main);
    const [first] = this.actions;
    this.#label(this.first, SECOND.includes(first) ? "" : first, call);
    this.#label(this.second, this.actions.find((action) => SECOND.includes(action)), call);
    this.hangup.hidden = this.more.hidden = !this.actions.length;
    // Asked about one leg, it does not hang up another.
    if (this.hangup.dataset.armed != null && this.hangup.about !== main.uuid) disarm(this.hangup, call);
    if (this.hangup.dataset.armed == null) setText(this.hangup, t("do.hangup"));
    setAttribute(this.hangup, "aria-label", `${t(this.hangup.dataset.armed == null ? "do.hangup" : "do.sure")}: ${party}`);
    setAttribute(this.more, "aria-label", `${t("do.more")}: ${party}`);
  }

  #now(call, main) {
    if (main.cause != null) return main.cause ? causeOf(main.cause, { phone: main.to }) : "";
    const found = [];
    if (main.taking) found.push(t("now.taking", { who: clean(main.taking, 60) }));
    if (consulting(call)) found.push(t(`consult.${consultation(call)}`, { phone: clean(main.consult.phone, 60) }));
    else if (main.other && call.partner) found.push(t("now.with", { who: calledOf(call.partner) }));
    else if (main.parked) {
      if (main.answered && !main.taking) found.push(t("now.answered"));
    } else if (call.partner && call.partner.state !== "active") found.push(t("now.calls", { who: calledOf(call.partner) }));
    else found.push(clean(main.app, 120));
    for (const leg of call.listeners) found.push(t("now.listens", { who: calledOf(leg) }));
    return found.filter(Boolean).join(" · ");
  }

  /** The time: how long a caller has waited, or how long the call has lasted. */
  tick() {
    const { main } = this.call;
    if (main.cause != null) return;
    const waiting = waits(main);
    const seconds = Date.now() / 1000 - (waiting ? main.waits || main.since : main.since) / 1e6;
    if (main.since) setText(this.time, duration(seconds));
    setAttribute(this.element, "data-urgency", waiting ? urgency(seconds) : null);
  }
}
