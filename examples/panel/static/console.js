// The console: one line in, the reply out; the lines of before with the up and down keys, also after a reload.

import { $, cleanLines, h } from "./dom.js";
import { store } from "./store.js";
import { command } from "./stream.js";
import { count, t } from "./text.js";

const STORED = "event-agent-panel.history";
const LINES = 100; // remembered
const REPLIES = 50; // shown
const READ = 200; // characters of a reply that are read out
const QUICK = ["status", "show channels", "sofia status", "agent.status"];

let history = load();
let place = history.length; // where the up key has come to
let typed = ""; // what stood in the line before

function load() {
  try {
    const found = JSON.parse(localStorage.getItem(STORED) ?? "[]");
    return Array.isArray(found) ? found.filter((line) => typeof line === "string").slice(-LINES) : [];
  } catch {
    return []; // not JSON, or no storage in this browser
  }
}

function remember(line) {
  history = [...history.filter((each) => each !== line), line].slice(-LINES);
  place = history.length;
  try {
    localStorage.setItem(STORED, JSON.stringify(history));
  } catch {
    // no storage: the history lasts as long as the page
  }
}

/** The request a line stands for; null where it looks like JSON and is none. */
export function requestOf(line) {
  if (line.startsWith("{")) {
    try {
      const request = JSON.parse(line);
      return typeof request === "object" && typeof request.command === "string" ? request : null;
    } catch {
      return null;
    }
  }
  const [, verb, args] = /^(\S+)\s*(.*)$/s.exec(line);
  return args ? { command: verb, args } : { command: verb };
}

function outputOf(outcome) {
  const data = outcome.reply?.data;
  if (typeof data === "string" && data.trim()) return data.replace(/^\n+|\n+$/g, "");
  if (data != null && typeof data === "object") return JSON.stringify(data, null, 2);
  return outcome.text;
}

async function run(line) {
  const request = requestOf(line);
  remember(line);
  $("console-empty").hidden = true;
  const where = h("span", { class: "where" }, store.scope || t("scope.any"));
  const result = h("pre", { "data-result": "wait" }, "…");
  const out = $("console-out");
  out.append(h("li", {}, h("div", { class: "asked" }, h("code", {}, cleanLines(line, 500)), where), result));
  while (out.children.length > REPLIES) out.firstElementChild.remove();
  toEnd();
  const began = performance.now();
  const outcome = request ? await command(request, store.scope)
    : { ok: false, text: t("console.no_json"), reply: null };
  const took = Math.round(performance.now() - began);
  const output = cleanLines(outputOf(outcome));
  result.replaceChildren(output);
  const lines = output.split("\n");
  $("console-said").replaceChildren(output.length <= READ ? output : `${lines[0].slice(0, READ)} … ${count("console.lines", lines.length)}`);
  result.dataset.result = outcome.ok ? "ok" : "bad";
  where.textContent = [cleanLines(outcome.reply?.node_id ?? (store.scope || ""), 60), t("console.took", { number: took })].filter(Boolean).join(" · ");
  toEnd();
}

function toEnd() {
  const box = $("console-out").parentElement;
  box.scrollTop = box.scrollHeight;
}

function recall(step) {
  const line = $("console-line");
  if (place === history.length) typed = line.value;
  place = Math.min(Math.max(place + step, 0), history.length);
  line.value = place === history.length ? typed : history[place];
  line.setSelectionRange(line.value.length, line.value.length);
}

export function start() {
  const line = $("console-line");
  $("console-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const text = line.value.trim();
    if (!text) return;
    line.value = typed = "";
    run(text);
  });
  line.addEventListener("keydown", (event) => {
    const step = { ArrowUp: -1, ArrowDown: 1 }[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    recall(step);
  });
  $("console-clear").addEventListener("click", () => {
    $("console-out").replaceChildren();
    $("console-empty").hidden = false;
    line.focus();
  });
  $("console-quick").append(...QUICK.map((text) => h("button", { type: "button", class: "quiet", onclick: () => run(text) }, text)));
}
