// What is said of a leg and of a call, in words.

import { clean } from "./dom.js";
import { t } from "./text.js";

/** What a leg does, in a word, and of what kind that is. */
export function stateOf(leg) {
  if (leg.cause != null) return { kind: "ended", word: t("state.ended") };
  if (leg.parked) return { kind: "parked", word: t("state.waits") };
  if (leg.state === "held") return { kind: "held", word: t("state.held") };
  if (leg.state === "active") return { kind: "active", word: t(leg.other ? "state.talks" : "state.connected") };
  if (leg.state === "ringing" || leg.state === "early") return { kind: "ringing", word: t("state.rings") };
  return { kind: "new", word: t("state.begins") };
}

/** True for a caller who waits for somebody to do something. */
export const waits = (leg) => leg.cause == null && leg.direction === "inbound" &&
  (leg.parked || ((leg.state === "ringing" || leg.state === "early") && !leg.answered));

/** Who a leg is, in words: name and number, or its channel where it has neither. */
export function partyOf(leg) {
  const words = new Set([clean(leg.name, 80), clean(leg.number, 40)]);
  words.delete("");
  return [...words].join(" ") || clean(leg.channel, 60) || t("unknown");
}

/** The other side of a call: who was called by the number, who called by name. */
export const calledOf = (leg) => (leg.direction === "outbound" && clean(leg.to.replace(/^bridge:/, ""), 60)) || partyOf(leg);

/** What became of something, in words: an outcome of the server's, {say, words}. */
export function said({ say, words = {} }) {
  const shown = Object.fromEntries(Object.entries(words).map(([name, value]) => [name, clean(value, 120)]));
  for (const name of ["role", "needs"]) if (shown[name]) shown[name] = t(`role.${shown[name]}`);
  if (shown.cause) shown.cause = causeOf(shown.cause, shown);
  return t(say, shown);
}

/** A cause of FreeSWITCH in words: SUBSCRIBER_ABSENT is "user/1000 is not registered". */
export function causeOf(cause, words = {}) {
  const name = `cause.${cause}`;
  const text = t(name, { ...words, phone: words.phone || t("cause.somebody") });
  return text === name ? t("cause.unknown", { cause }) : text;
}
