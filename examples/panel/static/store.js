// What the page knows, and who wants to hear of changes. The server's stream fills it (stream.js), the views read it.

const listeners = new Map(); // kind -> functions

export const store = {
  page: { state: "connecting", reason: "", since: 0 }, // to the panel's server: connecting, ok, lost
  nats: { connected: false, reason: "" },
  nodes: [],
  load: {}, // id -> what the node carries
  byId: new Map(), // id -> node
  me: { users: false, name: "", role: "engineer" },
  untold: 0,
  calls: new Map(), // node + uuid -> leg
  people: [], // {node, phones}: who is registered
  lost: [], // callers whom nobody has spoken to, newest first
  scope: "", // the node chosen at the top; "" is all of them
};

export const keyOf = (leg) => `${leg.node}\n${leg.uuid}`;

export function on(kind, listener) {
  if (!listeners.has(kind)) listeners.set(kind, []);
  listeners.get(kind).push(listener);
}

export function tell(kind, value) {
  for (const listener of listeners.get(kind) ?? []) listener(value);
}

/** The nodes that the choice at the top stands for. */
export function nodesInScope() {
  return store.nodes.filter((node) => !store.scope || node.id === store.scope);
}

export function inScope(node) {
  return !store.scope || node === store.scope;
}

/** What is in the way between the page and a node: {say, words, since}; null where all is well. */
export function doubt(id) {
  if (store.page.state !== "ok") return { say: `page.${store.page.reason || "connecting"}`, words: {}, since: store.page.since };
  if (!store.nats.connected) return { say: "nats.lost", words: { why: store.nats.reason }, since: store.nats.since };
  if (!store.nodes.length) return { say: "agent.none", words: {} };
  const node = store.byId.get(id);
  if (!node || !node.up) return { say: `agent.${node?.away || "silent"}`, words: { node: id }, since: node?.since };
  if (!node.freeswitch) return { say: node.reason ? "switch.away_why" : "switch.away", words: { node: id, why: node.reason }, since: node.since };
  if (node.stalled) return { say: "switch.stalled", words: { node: id }, since: node.stalled };
  return null;
}

/** What is in the way to all nodes that the choice at the top stands for; null where one can be reached. */
export function doubtOfAll() {
  const nodes = nodesInScope();
  const doubts = nodes.length ? nodes.map(({ id }) => doubt(id)) : [doubt("")];
  return doubts.every(Boolean) ? doubts[0] : null;
}

/** May this person do that? Without users anybody may do everything. */
const RANKS = { viewer: 0, supervisor: 1, engineer: 2 };
export const may = (role) => RANKS[store.me.role] >= RANKS[role];
