// What the page knows, and who wants to hear of changes. The server's stream fills it (stream.js), the views read it.

const listeners = new Map(); // kind -> functions

export const store = {
  page: { state: "connecting", reason: "" }, // the way to the panel's server: connecting, ok, lost
  nats: { connected: false, reason: "" },
  nodes: [],
  untold: 0,
  calls: new Map(), // node + uuid -> leg
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

/** Why what is shown of a node may not be true, "" where it is. */
export function doubt(id) {
  if (store.page.state !== "ok") return "the page has no connection to its server";
  if (!store.nats.connected) return "there is no connection to NATS";
  const node = store.nodes.find((each) => each.id === id);
  if (!node || !node.up) return "its agent does not answer";
  if (!node.freeswitch) return "its FreeSWITCH is unreachable";
  return "";
}
