// Legs joined to calls: those that are bridged, that were made one for the other, the two ends of a loopback, who
// listens, whom somebody consults. Only the calls whose legs have changed are joined anew.

import { keyOf } from "./store.js";

const PIECE = 100; // legs that are joined at a time

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
    const call = this.#call(key);
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
    for (const each of this.#call(key)?.legs ?? []) this.#dirty.add(keyOf(each));
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

  /** Join what has changed, `most` legs of it: {changed, removed}, sets of calls, and whether there is `more`. */
  update(most = PIECE) {
    const changed = this.#changed;
    this.#changed = new Set();
    const removed = this.#dirty.size ? this.#join(changed, this.#piece(most)) : new Set();
    for (const call of removed) changed.delete(call);
    return { changed, removed, more: this.#dirty.size > 0 };
  }

  /** The legs that have waited for longest. */
  #piece(most) {
    const piece = [];
    for (const key of this.#dirty) if (piece.push(key) >= most) break;
    for (const key of piece) this.#dirty.delete(key);
    return piece;
  }

  /** The legs to be joined, each with those it was one call with before. */
  #pool(dirty) {
    const pool = new Set();
    const before = new Set();
    const add = (key) => {
      const call = this.#call(key);
      if (call) before.add(call);
      if (this.#legs.has(key)) pool.add(key);
      for (const leg of call?.legs ?? []) if (this.#legs.has(keyOf(leg))) pool.add(keyOf(leg));
    };
    for (const key of dirty) {
      add(key);
      for (const name of this.#links.get(key) ?? []) add(name);
      for (const name of this.#named.get(key) ?? []) add(name);
    }
    return { pool, before };
  }

  #join(changed, dirty) {
    const { pool, before } = this.#pool(dirty);
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
    const made = [...sets.values()].map((found) => {
      found.sort((a, b) => a.since - b.since || (a.uuid < b.uuid ? -1 : 1));
      return { found, main: mainOf(found).main, call: null };
    });
    // A call goes by the name it had, so that its row stays: where a call came apart, the part with whom it is about;
    // where two became one, the name of the one that it is about.
    const was = (leg) => this.#of.get(keyOf(leg));
    for (const rule of [
      ({ main }) => [was(main)].filter((call) => call?.main.uuid === main.uuid),
      ({ main }) => [was(main)],
      ({ found }) => found.map(was),
    ]) {
      for (const each of made) {
        each.call ??= rule(each).find((call) => removed.has(call)) ?? null;
        removed.delete(each.call);
      }
    }
    for (const each of made) if (each.call) this.all.set(each.call.id, each.call);
    for (const each of made) {
      if (each.call) continue;
      const { node } = each.main;
      each.call = { id: keyOf(each.main), node };
      while (this.all.has(each.call.id)) each.call.id += "+";
      this.all.set(each.call.id, each.call);
    }
    for (const key of dirty) if (!this.#legs.has(key)) this.#of.delete(key);
    for (const { call, found } of made) {
      call.legs = found;
      freshen(call);
      changed.add(call);
      for (const leg of found) this.#of.set(keyOf(leg), call);
    }
    return removed;
  }

  callOf(leg) {
    return this.#call(keyOf(leg));
  }

  /** Of a leg that has gone it may be a call that went with an earlier piece: that is none. */
  #call(key) {
    const call = this.#of.get(key);
    return call && this.all.get(call.id) === call ? call : undefined;
  }
}

let versions = 0;

/**
 * Which leg a call is about: the caller whom a consultation is for, who waits, who came in, else the first. It follows
 * from what the legs are now and not from the order in which that came to be known.
 */
function mainOf(all) {
  const legs = new Map(all.map((leg) => [leg.uuid, leg]));
  // The far end of a loopback that somebody talks or has talked to is where a phone would be, and no caller; so is what
  // is at the other end of somebody who is listening, or of a leg that takes part in a consultation.
  const met = new Set(all.flatMap(({ other, consult }) => [other, consult?.with, consult?.to]));
  const phone = (leg) => leg && (leg.talked || leg.other || met.has(leg.uuid) || isListener(leg));
  const farOf = new Map(all.filter(({ pair }) => pair).flatMap(({ uuid, pair }) => [[uuid, pair], [pair, uuid]]));
  const parties = all.filter((leg) => !isListener(leg) && !phone(legs.get(farOf.get(leg.uuid))));
  const inbound = (leg) => leg.direction === "inbound";
  const rules = [
    (leg) => leg.consult,
    (leg) => inbound(leg) && (leg.parked || !leg.answered) && !leg.other,
    inbound,
    () => true,
  ];
  const found = rules.map((rule) => parties.find(rule)).find(Boolean);
  const main = found ?? all.find((leg) => inbound(leg) && !isListener(leg)) ?? all[0];
  const partner = (main.other && legs.get(main.other))
    || parties.find(({ uuid }) => uuid !== main.uuid && uuid !== farOf.get(main.uuid));
  return { main, partner: partner ?? null };
}

function freshen(call) {
  Object.assign(call, mainOf(call.legs));
  call.listeners = call.legs.filter(isListener);
  call.version = ++versions;
  call.text = "";
}
