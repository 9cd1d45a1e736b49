// Legs joined to calls: those that are bridged, that were made one for the other, the two ends of a loopback, who
// listens, whom somebody consults. Only the calls whose legs have changed are joined anew.

import { keyOf } from "./store.js";

const listening = (leg) => /^eavesdrop ([\w.:@-]+)/.exec(leg.app)?.[1] ?? "";
const isListener = (leg) => Boolean(listening(leg));

/** The legs that a leg is one call with, by their keys. */
function links(leg) {
  const found = [leg.pair, leg.other, listening(leg), leg.consult?.with, leg.consult?.to];
  // For whom a leg was made counts until it is somewhere of its own.
  if (!leg.other && !leg.parked) found.push(leg.origin);
  return found.filter(Boolean).sort().map((uuid) => `${leg.node}\n${uuid}`);
}

export class Groups {
  #legs = new Map(); // key -> leg
  #links = new Map(); // key -> keys of the legs that it names
  #named = new Map(); // key -> keys of the legs that name it, whether it is there or not
  #of = new Map(); // key -> its call
  #dirty = new Set(); // keys of legs to be joined anew
  #changed = new Set(); // calls
  all = new Map(); // id -> call: {id, node, legs, main, version}

  put(leg) {
    const key = keyOf(leg);
    const now = links(leg);
    const before = this.#links.get(key);
    const call = this.#of.get(key);
    this.#legs.set(key, leg);
    if (call && before?.join() === now.join()) { // else it is new, or was taken away and has not been joined since
      call.legs = call.legs.map((each) => (each.uuid === leg.uuid ? leg : each));
      freshen(call);
      this.#changed.add(call);
      return;
    }
    this.#link(key, before ?? [], now);
    this.#dirty.add(key);
  }

  remove(leg) {
    const key = keyOf(leg);
    for (const each of this.#of.get(key)?.legs ?? []) this.#dirty.add(keyOf(each));
    this.#link(key, this.#links.get(key) ?? [], []);
    this.#links.delete(key);
    this.#legs.delete(key);
    this.#dirty.add(key);
  }

  #link(key, before, now) {
    for (const name of before) {
      const names = this.#named.get(name);
      names?.delete(key);
      if (!names?.size) this.#named.delete(name);
    }
    for (const name of now) {
      if (!this.#named.has(name)) this.#named.set(name, new Set());
      this.#named.get(name).add(key);
    }
    this.#links.set(key, now);
  }

  /** Join what has changed: {changed, removed}, sets of calls. */
  update() {
    const changed = this.#changed;
    this.#changed = new Set();
    const removed = this.#dirty.size ? this.#join(changed) : new Set();
    for (const call of removed) changed.delete(call);
    return { changed, removed };
  }

  /** The legs to be joined, each with those it was one call with before. */
  #pool() {
    const pool = new Set();
    const before = new Set();
    const add = (key) => {
      const call = this.#of.get(key);
      if (call) before.add(call);
      if (this.#legs.has(key)) pool.add(key);
      for (const leg of call?.legs ?? []) if (this.#legs.has(keyOf(leg))) pool.add(keyOf(leg));
    };
    for (const key of this.#dirty) {
      add(key);
      for (const name of this.#links.get(key) ?? []) add(name);
      for (const name of this.#named.get(key) ?? []) add(name);
    }
    return { pool, before };
  }

  #join(changed) {
    const { pool, before } = this.#pool();
    const parent = new Map();
    const top = (key) => {
      let at = key;
      while (parent.has(at)) at = parent.get(at);
      return at;
    };
    for (const key of pool) {
      for (const name of this.#links.get(key)) {
        if (!pool.has(name)) continue;
        const [a, b] = [top(key), top(name)];
        if (a !== b) parent.set(a, b);
      }
    }
    const sets = new Map();
    for (const key of pool) {
      const at = top(key);
      if (sets.has(at)) sets.get(at).push(this.#legs.get(key));
      else sets.set(at, [this.#legs.get(key)]);
    }
    const removed = new Set(before);
    for (const call of before) this.all.delete(call.id);
    const made = [];
    for (const found of sets.values()) {
      found.sort((a, b) => a.since - b.since || (a.uuid < b.uuid ? -1 : 1));
      // It goes by the name it had, so that its row stays.
      const old = found.map((leg) => this.#of.get(keyOf(leg))).find((call) => removed.has(call) && !this.all.has(call.id));
      const call = old ?? { id: keyOf(found[0]), node: found[0].node };
      while (!old && this.all.has(call.id)) call.id += "+";
      removed.delete(call);
      this.all.set(call.id, call);
      made.push([call, found]);
    }
    for (const key of this.#dirty) if (!this.#legs.has(key)) this.#of.delete(key);
    for (const [call, found] of made) {
      call.legs = found;
      freshen(call);
      changed.add(call);
      for (const leg of found) this.#of.set(keyOf(leg), call);
    }
    this.#dirty.clear();
    return removed;
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
