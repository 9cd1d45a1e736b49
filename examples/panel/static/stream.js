// The way to the panel's server: news by server-sent events, commands by POST.

import { inFrames } from "./frames.js";
import { said } from "./legs.js";
import { keyOf, store, tell } from "./store.js";
import { t } from "./text.js";

const SILENCE = 1800; // ms without a word after which the server counts as gone; it says something every 500
const WAITS = [300, 500, 1000, 2000]; // ms between tries
const BEHIND = 32_000_000; // characters that wait to be read; a page so far behind asks for a new picture

let source = null;
let heard = 0;
let tries = 0;
let timer = 0;
let watched = false;
let unread = []; // {handler, data}: what has come, and is read a piece a frame
let behind = 0; // characters of that
let reading = false;
let picture = null; // keys of the legs that the server's picture has

function state(name, reason = "") {
  if (store.page.state === name && store.page.reason === reason) return;
  const since = name === "lost" && store.page.state === "lost" ? store.page.since : Date.now() / 1000;
  store.page = { state: name, reason, since };
  tell("links");
}

function put(leg) {
  store.calls.set(keyOf(leg), leg);
  tell("call", leg);
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
    picture = new Set();
    handlers.more(value);
  },
  more(value) {
    for (const leg of value) {
      picture.add(keyOf(leg));
      put(leg);
    }
  },
  whole() {
    // What is not in the picture has gone while nobody told us: it is not known how.
    for (const [key, leg] of store.calls) {
      if (picture.has(key)) continue;
      store.calls.delete(key);
      tell("forgotten", leg);
    }
    picture = null;
  },
  changes(value) {
    for (const each of value) {
      if (!each.gone) {
        put(each);
        continue;
      }
      const leg = store.calls.get(keyOf(each));
      store.calls.delete(keyOf(each));
      if (leg) tell("gone", { ...leg, cause: each.cause });
    }
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

function read(end) {
  do {
    const { handler, data } = unread.shift();
    behind -= data.length;
    handler(JSON.parse(data));
  } while (unread.length && performance.now() < end);
  return reading = unread.length > 0;
}

function came(handler, data) {
  behind += data.length;
  if (behind > BEHIND) {
    open();
    return;
  }
  unread.push({ handler, data });
  if (reading) return;
  reading = true;
  inFrames((end) => unread.length > 0 ? read(end) : (reading = false));
}

function open() {
  clearTimeout(timer);
  source?.close();
  unread = [];
  behind = 0;
  const mine = new EventSource("stream");
  source = mine;
  heard = Date.now();
  for (const [kind, handler] of Object.entries(handlers)) {
    mine.addEventListener(kind, (message) => {
      if (mine !== source) return;
      heard = Date.now();
      tries = 0;
      if (kind === "tick") return;
      came(kind !== "links" ? handler : (value) => {
        if (mine === source) state("ok");
        handler(value);
      }, message.data);
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
  if (me?.users && !me.name) out("login.ended");
}

/** The session has ended: `why` is said where one logs in. */
function out(why) {
  clearTimeout(timer);
  source?.close();
  source = null;
  state("lost", "logged_out");
  tell("logged_out", why);
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
  if (watched) return;
  watched = true;
  setInterval(() => {
    if (source && Date.now() - heard > SILENCE) again("silent");
  }, 200);
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
    if (answer.login) out("login.ended_click");
    return { ...answer, status: response.status };
  } catch {
    return { ok: false, say: "page.no_answer", words: {} };
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
  const text = answer.say ? said(answer) : answer.error ?? answer.reply?.message ?? t("done");
  return { ok: Boolean(answer.ok), text: String(text), reply: answer.reply ?? null, login: Boolean(answer.login) };
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
