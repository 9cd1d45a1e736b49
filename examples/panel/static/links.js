// The top of the page: which connections stand, which node the page is about, and in words what is wrong.

import { speaker } from "./announce.js";
import { $, clean, h, setText, since } from "./dom.js";
import { said } from "./legs.js";
import { notice } from "./notices.js";
import { doubt, may, on, store, tell } from "./store.js";
import { forget } from "./stream.js";
import { count, t } from "./text.js";

const FEW = 8; // nodes that are named each by itself

let drawn = "";
let known = ""; // what is wrong, as it was last announced
let wrong = "";

function nodeState(node) {
  if (store.page.state !== "ok" || !store.nats.connected) return { state: "unknown", text: t("links.unknown") };
  const away = doubt(node.id);
  if (away) return { state: "bad", text: sentence(away) };
  const warn = (text) => ({ state: "warn", text: `${clean(node.id, 40)}: ${text}` });
  if (node.list_fault) return warn(t("node.unlisted", { why: clean(node.list_fault) }));
  if (node.not_ready?.length) return warn(t("node.not_ready", { why: node.not_ready.map((each) => clean(each)).join(", ") }));
  const text = t("node.ok", { switch: clean(node.switch_version, 60), agent: clean(node.version, 20) });
  return { state: "ok", text: node.waiting ? `${text}, ${count("node.waited", node.waiting)}` : text };
}

const sentence = (away) => `${said(away).replace(/[.?!]*$/, "")} ${since(away.since)}`.trim();

function item(id, label, state, text) {
  return h("li", { "data-link": id, "data-state": state, title: text },
    h("span", { class: "dot", "aria-hidden": "true" }), h("span", {}, label), h("span", { class: "unseen" }, `: ${text}`));
}

/** The connections in their order, from the page to the switches. With many nodes: those that are not well. */
function items() {
  const page = { ok: ["ok", t("links.connected")], connecting: ["warn", t("links.connecting")],
    lost: ["bad", t(`page.${store.page.reason}`)] }[store.page.state];
  const nats = store.page.state !== "ok" ? ["unknown", t("links.unknown")]
    : store.nats.connected ? ["ok", `${t("links.connected")}, ${clean(store.nats.server)}`] : ["bad", clean(store.nats.reason)];
  const nodes = store.nodes.map((node) => [node, nodeState(node)]);
  const few = nodes.length <= FEW;
  const shown = few ? nodes : nodes.filter(([, { state }]) => state === "bad" || state === "warn").slice(0, FEW);
  const well = nodes.filter(([, { state }]) => state === "ok").length;
  return [item("page", t("links.server"), ...page), item("nats", "NATS", ...nats),
    ...(few ? [] : [item("all", t("links.nodes", { well, number: nodes.length }), well === nodes.length ? "ok" : "warn", "")]),
    ...shown.map(([node, { state, text }]) => item(node.id, clean(node.id, 40), state, text))];
}

/** What is wrong, the most important thing first; "" where all is well. */
function trouble() {
  const { page, nats } = store;
  if (page.state === "lost" && page.reason === "logged_out") return t("page.out", { since: since(page.since) });
  if (page.state === "lost") return t("page.trouble", { why: t(`page.${page.reason}`), since: since(page.since) });
  if (page.state === "connecting") return "";
  if (!nats.connected) return t("nats.trouble", { since: since(nats.since), why: clean(nats.reason, 250) });
  if (!store.nodes.length) return t("agent.none");
  const lines = store.nodes.map((node) => nodeState(node)).filter(({ state }) => state === "bad" || state === "warn")
    .map(({ text }) => `${text.replace(/[.?!]*$/, "")}.`);
  const more = lines.length > FEW ? [count("links.more", lines.length - FEW)] : [];
  if (store.untold) more.push(t("calls.untold"));
  return [...lines.slice(0, FEW), ...more].join("  ");
}

/** Which things are wrong: it stays the same while the reason for one changes with each try to mend it. */
function wrongs() {
  const { page, nats } = store;
  if (page.state === "lost") return page.reason === "logged_out" ? "" : "page"; // that is said where one logs in
  if (page.state === "connecting") return known;
  if (!nats.connected) return "nats";
  if (!store.nodes.length) return "agent";
  return store.nodes.map((node) => [node.id, nodeState(node).state]).filter(([, state]) => state === "bad" || state === "warn").join(" ");
}

const speaks = speaker($("alarm"));

/** For those who do not see the page: what is wrong, once for each thing, and that it is well again. */
function announce() {
  const now = wrongs();
  if (now === wrong) return;
  wrong = now;
  speaks.say(() => {
    if (wrong === known) return null;
    known = wrong;
    return known ? trouble() : t("links.well");
  });
}

function drawScope() {
  const select = $("scope");
  const ids = store.nodes.map((node) => node.id);
  const now = [...select.options].slice(1).map((option) => option.value);
  if (ids.join("\n") !== now.join("\n")) {
    select.replaceChildren(h("option", { value: "" }, t("scope.all")), ...ids.map((id) => h("option", { value: id }, clean(id, 60))));
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
    box.replaceChildren(h("span", {}, text), ...(may("engineer") ? away.slice(0, FEW) : []).map((node) => h("button", {
      type: "button",
      onclick: async () => {
        const outcome = await forget(node.id);
        if (!outcome.ok) notice(outcome.say ? said(outcome) : outcome.error, "bad");
      },
    }, t("do.forget", { node: clean(node.id, 30) }))));
  }
  announce();
  drawScope();
  setText($("scope").options[0], t("scope.all"));
}

export function start() {
  $("scope").addEventListener("change", (event) => choose(event.target.value));
  for (const news of ["links", "prefs", "me"]) on(news, draw);
  draw();
}
