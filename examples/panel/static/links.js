// The top of the page: which connections stand, which node the page is about, and in words what is wrong.

import { $, clean, h, setText } from "./dom.js";
import { notice } from "./notices.js";
import { on, store, tell } from "./store.js";
import { forget } from "./stream.js";

let drawn = "";

function nodeState(node) {
  if (store.page.state !== "ok" || !store.nats.connected) return { state: "unknown", text: "not known now" };
  if (!node.up) return { state: "bad", text: "its agent does not answer" };
  if (!node.freeswitch) return { state: "bad", text: `FreeSWITCH is unreachable${node.reason ? `: ${clean(node.reason)}` : ""}` };
  if (node.list_fault) return { state: "warn", text: `its calls can’t be listed: ${clean(node.list_fault)}` };
  if (node.not_ready?.length) return { state: "warn", text: `takes no new calls (${node.not_ready.map((each) => clean(each)).join(", ")})` };
  const waiting = node.waiting ? `, ${node.waiting} application${node.waiting > 1 ? "s" : ""} waited for` : "";
  return { state: "ok", text: `FreeSWITCH connected, ${clean(node.switch_version, 60)}, agent ${clean(node.version, 20)}${waiting}` };
}

function item(id, label, state, text) {
  return h("li", { "data-link": id, "data-state": state, title: text },
    h("span", { class: "dot", "aria-hidden": "true" }), h("span", {}, label), h("span", { class: "unseen" }, `: ${text}`));
}

/** The connections in their order, from the page to the switches. */
function items() {
  const page = { ok: ["ok", "connected"], connecting: ["warn", "connecting"], lost: ["bad", store.page.reason] }[store.page.state];
  const nats = store.page.state !== "ok" ? ["unknown", "not known now"]
    : store.nats.connected ? ["ok", `connected, ${clean(store.nats.server)}`] : ["bad", clean(store.nats.reason)];
  return [item("page", "Server", ...page), item("nats", "NATS", ...nats),
    ...store.nodes.map((node) => {
      const { state, text } = nodeState(node);
      return item(node.id, clean(node.id, 40), state, text);
    })];
}

/** What is wrong, the most important thing first; "" where all is well. */
function trouble() {
  if (store.page.state === "lost") return `This page is out of date: ${store.page.reason}. Trying again …`;
  if (store.page.state === "connecting") return "";
  if (!store.nats.connected) return `No connection to NATS, trying again: ${clean(store.nats.reason, 250)}`;
  if (!store.nodes.length) return "Connected to NATS, and no agent answers. Is one running, with this subject_prefix?";
  const lines = store.nodes.map((node) => [node, nodeState(node)]).filter(([, { state }]) => state === "bad" || state === "warn")
    .map(([node, { text }]) => `${clean(node.id, 40)}: ${text.replace(/[.?!]*$/, "")}.`);
  if (store.untold) lines.push("There are more calls than this page keeps.");
  return lines.join("  ");
}

function drawScope() {
  const select = $("scope");
  const ids = store.nodes.map((node) => node.id);
  const now = [...select.options].slice(1).map((option) => option.value);
  if (ids.join("\n") !== now.join("\n")) {
    select.replaceChildren(h("option", { value: "" }, "All nodes"), ...ids.map((id) => h("option", { value: id }, clean(id, 60))));
    if (store.scope && !ids.includes(store.scope)) choose("");
    select.value = store.scope;
  }
  select.parentElement.hidden = ids.length < 2;
}

function choose(node) {
  store.scope = node;
  $("scope").value = node;
  tell("scope");
}

function draw() {
  const fresh = items();
  const key = fresh.map((each) => each.outerHTML).join("");
  if (key !== drawn) {
    drawn = key;
    $("links").replaceChildren(...fresh);
  }
  const text = trouble();
  const box = $("trouble");
  box.hidden = !text;
  const away = store.page.state === "ok" && store.nats.connected ? store.nodes.filter((node) => !node.up) : [];
  if (box.dataset.text !== text) {
    box.dataset.text = text;
    box.replaceChildren(h("span", {}, text), ...away.map((node) => h("button", {
      type: "button",
      onclick: async () => {
        const outcome = await forget(node.id);
        if (!outcome.ok) notice(outcome.error, "bad");
      },
    }, `Take ${clean(node.id, 30)} off`)));
  }
  drawScope();
  setText($("scope").options[0], "All nodes");
}

export function start() {
  $("scope").addEventListener("change", (event) => choose(event.target.value));
  on("links", draw);
  draw();
}
