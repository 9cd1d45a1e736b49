// Who is free: the phones that are registered, and what each of them does now.

import { $, clean, duration, h, keyed, setAttribute, setText } from "./dom.js";
import { paced } from "./frames.js";
import { calledOf } from "./legs.js";
import { inScope, keyOf, on, store } from "./store.js";
import { count, t } from "./text.js";

const SHOWN = 200; // phones
const SIGN = { free: "○", rings: "◔", talks: "●" }; // not by colour alone

const rows = new Map(); // id -> row
const legsOf = new Map(); // "node user" -> Map(key -> leg)
const places = new Map(); // leg's key -> "node user"

/** A name by which a phone is known: in a leg's channel, presence, or in what was called. */
const userOf = (phone) => phone.split("@")[0];

function put(leg) {
  const key = keyOf(leg);
  const user = userOf(leg.presence) || /^[^/]+\/(?:[^/]+\/)?(?:sips?:)?([^@/;]+)/.exec(leg.channel)?.[1] || "";
  const place = user && `${leg.node} ${user}`;
  if (places.get(key) !== place) remove(leg);
  if (!place) return;
  places.set(key, place);
  if (!legsOf.has(place)) legsOf.set(place, new Map());
  legsOf.get(place).set(key, leg);
}

function remove(leg) {
  const key = keyOf(leg);
  const place = places.get(key);
  const legs = legsOf.get(place);
  legs?.delete(key);
  if (!legs?.size) legsOf.delete(place);
  places.delete(key);
}

/** The leg of a phone that says most. */
function legOf(node, phone) {
  const legs = [...legsOf.get(`${node} ${userOf(phone)}`)?.values() ?? []];
  return legs.find((leg) => leg.state === "active") ?? legs[0];
}

export function stateOfPhone(leg) {
  if (!leg) return "free";
  return leg.state === "active" || leg.state === "held" ? "talks" : "rings";
}

function make({ name }) {
  const sign = h("span", { class: "sign", "aria-hidden": "true" });
  const sub = h("span", { class: "sub" });
  return { element: h("li", {}, sign, h("bdi", { class: "name" }, clean(name, 60)), sub), sign, sub };
}

function show({ element, sign, sub }, { leg }) {
  const state = stateOfPhone(leg);
  const other = leg?.other && store.calls.get(keyOf({ node: leg.node, uuid: leg.other }));
  const since = leg && (leg.answered || leg.since);
  setAttribute(element, "data-phone", state);
  setText(sign, SIGN[state]);
  setText(sub, [t(`people.${state}`), other ? t("now.with", { who: calledOf(other) }) : "",
    since ? duration(Date.now() / 1000 - since / 1e6) : ""].filter(Boolean).join(" · "));
}

function draw() {
  const rank = { free: 0, rings: 1, talks: 2 };
  const phones = store.people.filter(({ node }) => inScope(node))
    .flatMap(({ node, phones: names }) => names.map((name) => ({ id: `${node} ${name}`, name, leg: legOf(node, name) })))
    .sort((a, b) => rank[stateOfPhone(a.leg)] - rank[stateOfPhone(b.leg)] || (a.name < b.name ? -1 : 1));
  const free = phones.filter(({ leg }) => !leg).length;
  keyed($("people-rows"), rows, phones.slice(0, SHOWN), make, show);
  setText($("people-count"), phones.length ? count("people.count", free, { all: phones.length }) : "");
  setText($("people-empty"), phones.length ? "" : t("people.none"));
}

export function start() {
  const soon = paced(draw, 1000);
  on("call", put);
  for (const news of ["gone", "forgotten"]) on(news, remove);
  for (const news of ["people", "call", "gone", "forgotten", "scope", "prefs"]) on(news, soon);
  setInterval(() => { if (store.people.length) soon(); }, 1000); // how long they have talked
  draw();
}
