// What is said of a leg, in words.

import { clean } from "./dom.js";

/** What a leg does, in a word, and how urgent that is. */
export function stateOf(leg) {
  if (leg.cause != null) return { kind: "ended", word: "Ended" };
  if (leg.parked) return { kind: "parked", word: "Parked" };
  if (leg.state === "held") return { kind: "held", word: "On hold" };
  if (leg.state === "active") return { kind: "active", word: leg.other ? "Talking" : "Connected" };
  if (leg.state === "ringing" || leg.state === "early") return { kind: "ringing", word: "Ringing" };
  return { kind: "new", word: "Begins" };
}

/** True for a caller who waits for somebody to do something. */
export const waits = (leg) => leg.cause == null && leg.direction === "inbound" &&
  (leg.parked || ((leg.state === "ringing" || leg.state === "early") && !leg.answered));

/** Who a leg is, in words: name and number, or its channel where it has neither. */
export function partyOf(leg) {
  const words = new Set([clean(leg.name, 80), clean(leg.number, 40)]);
  words.delete("");
  return [...words].join(" ") || clean(leg.channel, 60) || "unknown";
}
