// What became of what was asked for: short lines that go by themselves, faults that stay until they are dismissed.

import { $, clean, h } from "./dom.js";
import { t } from "./text.js";

const MOST = 5;
const STAYS = 6000; // ms

/** Say something. The function returned takes it away, or puts another in its place. */
export function notice(text, kind = "info") {
  const close = h("button", { type: "button", class: "quiet", "aria-label": t("dismiss") }, "×");
  const line = h("p", { class: `notice ${kind}` }, h("span", {}, clean(text, 300)), close);
  const gone = () => line.remove();
  close.addEventListener("click", gone);
  const box = $("notices");
  box.append(line);
  while (box.children.length > MOST) box.firstElementChild.remove();
  if (kind === "done" || kind === "info") setTimeout(gone, STAYS);
  return gone;
}

/** Say that something is under way, then how it ended. Returns the outcome. */
export async function reported(what, promise, done = "") {
  const slow = { gone: () => {} };
  const timer = setTimeout(() => {
    slow.gone = notice(`${what} …`, "wait");
  }, 400);
  const outcome = await promise;
  clearTimeout(timer);
  slow.gone();
  if (outcome.login) return outcome; // it is said where one logs in
  if (outcome.ok) notice(done || `${what}: ${t("done")}`, "done");
  else notice(`${what}: ${outcome.text}`, "bad");
  return outcome;
}
