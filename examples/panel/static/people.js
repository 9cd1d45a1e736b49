// Who is free: the phones that are registered, and what each of them does now.

import { $, clean, duration, h, setText, throttled } from "./dom.js";
import { calledOf } from "./legs.js";
import { inScope, on, store } from "./store.js";
import { count, t } from "./text.js";

const SHOWN = 200; // phones
const SIGN = { free: "○", rings: "◔", talks: "●" }; // not by colour alone

/** A name by which a phone is known: in a leg's channel, presence, or in what was called. */
const userOf = (phone) => phone.split("@")[0];

/** Which legs are a phone's: "node user" -> the leg that says most. */
function busy() {
  const found = new Map();
  for (const leg of store.calls.values()) {
    const user = userOf(leg.presence) || /^[^/]+\/(?:[^/]+\/)?(?:sips?:)?([^@/;]+)/.exec(leg.channel)?.[1] || "";
    if (!user) continue;
    const key = `${leg.node} ${user}`;
    const before = found.get(key);
    if (!before || (before.state !== "active" && leg.state === "active")) found.set(key, leg);
  }
  return found;
}

export function stateOfPhone(leg) {
  if (!leg) return "free";
  return leg.state === "active" || leg.state === "held" ? "talks" : "rings";
}

function line(phone, leg) {
  const state = stateOfPhone(leg);
  const other = leg?.other && [...store.calls.values()].find((each) => each.uuid === leg.other && each.node === leg.node);
  const since = leg && (leg.answered || leg.since);
  return h("li", { "data-phone": state },
    h("span", { class: "sign", "aria-hidden": "true" }, SIGN[state]), h("bdi", { class: "name" }, clean(phone, 60)),
    h("span", { class: "sub" }, [t(`people.${state}`), other ? t("now.with", { who: calledOf(other) }) : "",
      since ? duration(Date.now() / 1000 - since / 1e6) : ""].filter(Boolean).join(" · ")));
}

function draw() {
  const legs = busy();
  const rank = { free: 0, rings: 1, talks: 2 };
  const phones = store.people.filter(({ node }) => inScope(node))
    .flatMap(({ node, phones: names }) => names.map((name) => ({ name, leg: legs.get(`${node} ${userOf(name)}`) })))
    .sort((a, b) => rank[stateOfPhone(a.leg)] - rank[stateOfPhone(b.leg)] || (a.name < b.name ? -1 : 1));
  const free = phones.filter(({ leg }) => !leg).length;
  $("people-rows").replaceChildren(...phones.slice(0, SHOWN).map(({ name, leg }) => line(name, leg)));
  setText($("people-count"), phones.length ? count("people.count", free, { all: phones.length }) : "");
  setText($("people-empty"), phones.length ? "" : t("people.none"));
}

export function start() {
  const soon = throttled(draw, 1000);
  for (const news of ["people", "calls", "more", "call", "gone", "scope", "prefs"]) on(news, soon);
  draw();
}
