// The way to the panel's server: news by server-sent events, commands by POST.

import { keyOf, store, tell } from "./store.js";
import { t } from "./text.js";

const SILENCE = 1800; // ms without a word after which the server counts as gone; it says something every 500
const WAITS = [300, 500, 1000, 2000]; // ms between tries

let source = null;
let heard = 0;
let tries = 0;
let timer = 0;
let waiting = null; // null until the connection is watched

function state(name, reason = "") {
  if (store.page.state === name && store.page.reason === reason) return;
  const since = name === "lost" && store.page.state === "lost" ? store.page.since : Date.now() / 1000;
  store.page = { state: name, reason, since };
  tell("links");
}

const handlers = {
  me(value) {
    store.me = value;
    tell("me");
  },
  links(value) {
    store.nats = value.nats;
    store.nodes = value.nodes.map((node) => ({ ...node, load: store.load[node.id] }));
    store.byId = new Map(store.nodes.map((node) => [node.id, node]));
    store.untold = value.untold;
    tell("links");
  },
  calls(value) {
    store.calls = new Map(value.map((leg) => [keyOf(leg), leg]));
    tell("calls", value);
  },
  more(value) {
    for (const leg of value) store.calls.set(keyOf(leg), leg);
    tell("more", value);
  },
  call(value) {
    store.calls.set(keyOf(value), value);
    tell("call", value);
  },
  gone(value) {
    const leg = store.calls.get(keyOf(value));
    store.calls.delete(keyOf(value));
    if (leg) tell("gone", { ...leg, cause: value.cause });
  },
  load(value) {
    store.load = value;
    for (const node of store.nodes) node.load = value[node.id];
    tell("load");
  },
  people(value) {
    store.people = value;
    tell("people");
  },
  lost(value) {
    store.lost = value;
    tell("lost");
  },
  events(value) {
    tell("events", value);
  },
  tick() {},
};

function open() {
  clearTimeout(timer);
  source?.close();
  const mine = new EventSource("stream");
  source = mine;
  heard = Date.now();
  for (const [kind, handler] of Object.entries(handlers)) {
    mine.addEventListener(kind, (message) => {
      if (mine !== source) return;
      heard = Date.now();
      tries = 0;
      if (kind === "links") state("ok");
      handler(JSON.parse(message.data));
    });
  }
  // The browser would try again by itself after most faults, but not after all of them: we do.
  mine.addEventListener("error", () => ended(mine));
}

/** Who is logged in; null where the server does not answer. */
export async function whoAmI() {
  try {
    const response = await fetch("me");
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}

/** The stream has ended; if that is because the session has, somebody has to log in first. */
async function ended(mine) {
  if (mine !== source) return;
  again("no_answer");
  const me = await whoAmI();
  if (me?.users && !me.name) out();
}

function out() {
  clearTimeout(timer);
  source?.close();
  source = null;
  state("lost", "logged_out");
  tell("logged_out");
}

function again(reason) {
  source?.close();
  source = null;
  state("lost", reason);
  clearTimeout(timer);
  timer = setTimeout(open, WAITS[Math.min(tries++, WAITS.length - 1)]);
}

export function connect() {
  open();
  if (waiting !== null) return;
  waiting = false;
  setInterval(() => {
    if (source && Date.now() - heard > SILENCE) again("silent");
  }, 400);
  // A phone that was asleep has an old picture.
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && store.page.reason !== "logged_out" && (!source || Date.now() - heard > SILENCE)) open();
  });
}

export async function post(path, value) {
  try {
    const response = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
    const answer = await response.json();
    if (answer.login) out();
    return { ...answer, status: response.status };
  } catch {
    return { ok: false, error: t("page.no_answer") };
  }
}

/** Do something with a call, followed until it is true. Always resolves: {ok, say, words}, see texts-en.js. */
export async function act(action, more) {
  const answer = await post("act", { action, ...more });
  return answer.say ? answer : { ok: false, say: "act.page", words: { why: answer.error } };
}

/** Give a command to a node, "" for any one. Always resolves: {ok, text, reply}; text is the outcome in words. */
export async function command(request, node = "") {
  const answer = await post("command", { request, node: node || null });
  const text = answer.error ?? answer.reply?.message ?? "done";
  return { ok: Boolean(answer.ok), text: String(text), reply: answer.reply ?? null };
}

export const forget = (node) => post("forget", { node });

/** All of an event; null where the server does not keep it any more. */
export async function wholeEvent(id) {
  try {
    const response = await fetch(`event?id=${encodeURIComponent(id)}`);
    return response.ok ? await response.json() : null;
  } catch {
    return null;
  }
}
