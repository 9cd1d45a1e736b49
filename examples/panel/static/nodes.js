// The nodes for an engineer: what each carries, whether it takes calls, and what routes them; drain and undrain.

import { $, clean, duration, h, keyed, setText } from "./dom.js";
import { paced } from "./frames.js";
import { reported } from "./notices.js";
import { roving } from "./roving.js";
import { doubt, inScope, on, store } from "./store.js";
import { command } from "./stream.js";
import { said } from "./legs.js";
import { count, t } from "./text.js";

const SHOWN = 200;
const rows = new Map(); // id -> {element, parts}
let settle = null;

function make(node) {
  const part = { name: h("b", {}), state: h("span", { class: "sub" }), load: h("span", { class: "load" }), bar: h("meter", { min: "0" }) };
  part.drain = h("button", { type: "button", onclick: () => drain(node.id) });
  const element = h("li", {}, part.name, part.drain, part.bar, part.load, part.state);
  return { element, part };
}

async function drain(id) {
  const node = store.byId.get(id);
  const enabled = !node.load?.drained;
  await reported(`${clean(id, 40)}: ${t(enabled ? "nodes.drain" : "nodes.undrain")}`, command({ command: "agent.drain", enabled }, id));
}

function show({ element, part }, node) {
  const load = node.load ?? {};
  const away = doubt(node.id);
  setText(part.name, clean(node.id, 60));
  const most = load.most ?? 0;
  part.bar.max = most || 1;
  part.bar.value = load.sessions ?? 0;
  part.bar.setAttribute("aria-label", t("nodes.sessions", { number: load.sessions ?? "?", most: most || "?" }));
  const words = [t("nodes.sessions", { number: load.sessions ?? "?", most: most || "?" }),
    load.rate != null ? t("nodes.rate", { number: load.rate }) : "", load.idle != null ? t("nodes.idle", { number: Math.round(load.idle) }) : "",
    load.uptime != null ? t("nodes.uptime", { time: duration(load.uptime) }) : ""];
  setText(part.load, words.filter(Boolean).join(" · "));
  const state = [away ? said(away) : "", load.drained ? t("nodes.drained") : "",
    node.not_ready?.length ? t("node.not_ready", { why: node.not_ready.map((each) => clean(each)).join(", ") }) : "",
    node.waiting ? count("node.waited", node.waiting) : "",
    node.routing ? t("nodes.routing", { subject: clean(node.routing.subject, 64), waiting: node.routing.waiting }) : "", load.dropped ? count("nodes.dropped", load.dropped) : ""];
  setText(part.state, state.filter(Boolean).join(" · "));
  element.dataset.bad = Boolean(away);
  setText(part.drain, t(load.drained ? "nodes.undrain" : "nodes.drain"));
  part.drain.setAttribute("aria-label", `${part.drain.textContent}: ${clean(node.id, 60)}`);
  part.drain.disabled = Boolean(away) || load.drained == null;
}

function draw() {
  if (document.body.dataset.view !== "engineer") return;
  const nodes = store.nodes.filter((node) => inScope(node.id)).slice(0, SHOWN);
  const within = $("nodes-rows").contains(document.activeElement);
  keyed($("nodes-rows"), rows, nodes, make, show);
  settle(within);
  setText($("nodes-count"), nodes.length ? String(nodes.length) : "");
}

export function start() {
  settle = roving($("nodes-rows"));
  const soon = paced(draw, 100);
  for (const news of ["links", "load", "scope", "prefs", "view"]) on(news, soon);
  draw();
}
