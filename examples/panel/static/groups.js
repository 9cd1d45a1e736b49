// Legs joined to calls: those that are bridged, that were made one for the other, the two ends of a loopback, who
// listens, whom somebody consults. Kept per node, and made anew only for nodes whose legs have other links.

import { keyOf } from "./store.js";

const listening = (leg) => /^eavesdrop ([\w.:@-]+)/.exec(leg.app)?.[1] ?? "";

/** The uuids that a leg is one call with. */
function links(leg) {
  const found = [leg.pair, leg.other, listening(leg), leg.consult?.with, leg.consult?.to];
  // For whom a leg was made counts until it is somewhere of its own.
  if (!leg.other && !leg.parked) found.push(leg.origin);
  return found.filter(Boolean).sort().join(" ");
}

const isListener = (leg) => Boolean(listening(leg));

export class Groups {
  #nodes = new Map(); // node -> Map(uuid -> leg)
  #links = new Map(); // leg's key -> its links
  #of = new Map(); // leg's key -> its call
  #ids = new Map(); // node -> ids of its calls
  #dirty = new Set(); // nodes
  all = new Map(); // id -> call: {id, node, legs, main, version}

  reset(legs) {
    this.#nodes.clear();
    this.#links.clear();
    this.#of.clear();
    this.#ids.clear();
    this.all.clear();
    for (const leg of legs) this.put(leg);
  }

  put(leg) {
    const key = keyOf(leg);
    let node = this.#nodes.get(leg.node);
    if (!node) this.#nodes.set(leg.node, node = new Map());
    node.set(leg.uuid, leg);
    const now = links(leg);
    const call = this.#of.get(key);
    if (!call || this.#links.get(key) !== now) {
      this.#links.set(key, now);
      this.#dirty.add(leg.node);
    } else {
      call.legs = call.legs.map((each) => (each.uuid === leg.uuid ? leg : each));
      freshen(call);
    }
  }

  remove(leg) {
    const key = keyOf(leg);
    this.#nodes.get(leg.node)?.delete(leg.uuid);
    this.#links.delete(key);
    this.#of.delete(key);
    this.#dirty.add(leg.node);
  }

  /** Join what has changed; true where calls came or went. */
  update() {
    const any = this.#dirty.size > 0;
    for (const node of this.#dirty) this.#join(node);
    this.#dirty.clear();
    return any;
  }

  #join(node) {
    const legs = this.#nodes.get(node) ?? new Map();
    const parent = new Map();
    const top = (uuid) => {
      let at = uuid;
      while (parent.has(at)) at = parent.get(at);
      return at;
    };
    for (const leg of legs.values()) {
      for (const other of this.#links.get(keyOf(leg)).split(" ")) {
        if (!legs.has(other)) continue;
        const [a, b] = [top(leg.uuid), top(other)];
        if (a !== b) parent.set(a, b);
      }
    }
    const sets = new Map();
    for (const leg of legs.values()) {
      const at = top(leg.uuid);
      if (sets.has(at)) sets.get(at).push(leg);
      else sets.set(at, [leg]);
    }
    const before = this.#ids.get(node) ?? new Set();
    const now = new Set();
    for (const id of before) this.all.delete(id);
    for (const found of sets.values()) {
      found.sort((a, b) => a.since - b.since || (a.uuid < b.uuid ? -1 : 1));
      // It goes by the name it had, so that its row stays.
      const old = found.map((leg) => this.#of.get(keyOf(leg))).find((call) => call && before.has(call.id) && !this.all.has(call.id));
      const call = old ?? { id: keyOf(found[0]), node };
      while (!old && this.all.has(call.id)) call.id += "+";
      call.legs = found;
      freshen(call);
      this.all.set(call.id, call);
      now.add(call.id);
    }
    this.#ids.set(node, now);
    for (const id of now) for (const leg of this.all.get(id).legs) this.#of.set(keyOf(leg), this.all.get(id));
  }

  callOf(leg) {
    return this.#of.get(keyOf(leg));
  }
}

let versions = 0;

/** Which leg a call is about: who waits, else who came in, else the first. */
export function freshen(call) {
  // The far end of a loopback that somebody talks to is where a phone would be, and no caller.
  const far = (leg) => leg.pair && call.legs.some((each) => each.uuid === leg.pair && (each.other || isListener(each)));
  const parties = call.legs.filter((leg) => !isListener(leg) && !far(leg));
  const wait = (leg) => leg.direction === "inbound" && (leg.parked || !leg.answered) && !leg.other;
  call.main = parties.find(wait) ?? parties.find((leg) => leg.direction === "inbound") ?? parties[0] ?? call.legs[0];
  call.partner = (call.main.other && call.legs.find((leg) => leg.uuid === call.main.other))
    || parties.find((leg) => leg.uuid !== call.main.uuid && leg.uuid !== call.main.pair) || null;
  call.listeners = call.legs.filter(isListener);
  call.version = ++versions;
  call.text = "";
}
