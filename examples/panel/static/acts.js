// What a person does with a call: the command, and what became of it in words.

import { setAttribute, setText } from "./dom.js";
import { partyOf, said } from "./legs.js";
import { notice } from "./notices.js";
import { myPhone } from "./prefs.js";
import { act } from "./stream.js";
import { t } from "./text.js";
import { askTransfer } from "./transfer.js";

const ARMED = 3500; // ms in which a second press hangs up
const TOO_SOON = 350; // ms in which it does not: that was a double click
const SLOW = 400; // ms after which it is said that something is under way

const underWay = new Set(); // action and leg: pressed twice, it is done once

/** Do it, and say what became of it. Resolves to the outcome. */
export async function follow(action, call, more = {}) {
  const { main } = call;
  const key = `${action}\n${main.node}\n${main.uuid}`;
  if (underWay.has(key)) return null;
  underWay.add(key);
  const party = partyOf(main);
  const about = { ...more, party, phone: more.phone ?? more.target ?? "" };
  let gone = () => {};
  const timer = setTimeout(() => { gone = notice(`${party}: ${t(`doing.${action}`, about)}`, "wait"); }, SLOW);
  const outcome = await act(action, { node: main.node, uuid: main.uuid, ...more });
  clearTimeout(timer);
  gone();
  underWay.delete(key);
  if (outcome.login) return outcome; // it is said where one logs in
  notice(`${party}: ${said(outcome)}`, outcome.ok ? "done" : "bad");
  return outcome;
}

const PHONE = ["take", "listen", "whisper"]; // they ring this person's phone

/** What a button stands for: at once, or after a question. It is about the leg that is shown now, whatever comes. */
export function perform(action, shown) {
  if (!shown || shown.main.cause != null) return;
  const call = { ...shown };
  if (action === "transfer" || action === "consult") askTransfer(call, action);
  else if (PHONE.includes(action)) {
    const phone = myPhone(() => perform(action, call));
    if (phone) follow(action, call, { phone });
  } else follow(action, call);
}

/** The first press asks, the second within a few seconds does it: an ended call can't be taken back. */
export function hangupArmed(button, call) {
  if (button.dataset.armed == null) {
    button.dataset.armed = "soon";
    button.about = call.main.uuid;
    setText(button, t("do.sure"));
    setAttribute(button, "aria-label", `${t("do.sure")} ${t("do.hangup")}: ${partyOf(call.main)}`);
    button.timers = [
      setTimeout(() => { button.dataset.armed = "ready"; }, TOO_SOON),
      setTimeout(() => disarm(button, call), ARMED),
    ];
    return;
  }
  if (button.dataset.armed !== "ready") return;
  disarm(button, call);
  follow("hangup", call);
}

export function disarm(button, call) {
  button.timers?.forEach(clearTimeout);
  delete button.dataset.armed;
  setText(button, t("do.hangup"));
  setAttribute(button, "aria-label", `${t("do.hangup")}: ${partyOf(call.main)}`);
}
