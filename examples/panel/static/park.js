// Park mode: what is in force on each node, and the form that changes it.

import { $, clean, h, keyed, setAttribute, setText } from "./dom.js";
import { paced } from "./frames.js";
import { explain } from "./pattern.js";
import { notice } from "./notices.js";
import { nodesInScope, on, store } from "./store.js";
import { command } from "./stream.js";
import { count, t } from "./text.js";

let dirty = false;
let applying = false;
let drawn = "";

const form = () => $("park-form");
const listOf = (text) => text.split(/[\s,]+/).filter(Boolean);

function summary(node) {
  const { park } = node;
  if (!node.up) return t("park.no_answer");
  if (!park.available) return park.fault ? t("park.none_why", { why: clean(park.fault, 200) }) : t("park.none");
  const parts = [t(park.mode === "park" ? "park.on" : "park.off"), audio(park)];
  if (park.auto_answer) parts.push(t("park.answers"));
  if (park.context?.length) parts.push(t("park.only", { what: clean(park.context.join(", "), 80) }));
  if (park.number) parts.push(t("park.only", { what: explained(park.number) }));
  if (park.except?.length) parts.push(t("park.never", { what: clean(park.except.join(", "), 80) }));
  if (park.mode === "park" || park.calls_parked) parts.push(count("park.parked", park.calls_parked));
  if (park.calls_missed) parts.push(count("park.missed", park.calls_missed));
  return parts.join(" · ");
}

function audio(park) {
  if (park.audio === "music" && park.music_class) return t("park.music_of", { name: clean(park.music_class, 40) });
  return ["silence", "ringback", "music"].includes(park.audio) ? t(`park.${park.audio}`) : clean(park.audio, 20);
}

/** A pattern as it is, and in words. */
function explained(pattern) {
  const words = explain(pattern);
  return words ? `${clean(pattern, 80)} (${clean(words, 300)})` : clean(pattern, 80);
}

function routing({ routing: route }) {
  if (!route) return "";
  const parts = [t("route.decides", { subject: clean(route.subject, 64) }), count("route.decided", route.decided)];
  if (route.waiting) parts.push(count("route.waiting", route.waiting));
  if (route.median !== null) parts.push(t("route.median", { number: route.median }));
  parts.push(count("route.undecided", route.undecided, { fallback: clean(route.fallback, 16) }));
  if (route.undecided && route.why) parts.push(t("route.why", { why: clean(route.why, 200) }));
  return parts.join(" · ");
}

const available = (node) => store.page.state === "ok" && store.nats.connected && node.up && node.park.available === true;

/** What the form stands at, in the words of dialplan.status. */
function wanted() {
  const { enabled, audio, music_class, auto_answer, context, number, except } = form().elements;
  return {
    mode: enabled.checked ? "park" : "disabled",
    audio: audio.value,
    music_class: music_class.value.trim(),
    auto_answer: auto_answer.checked,
    context: listOf(context.value),
    number: number.value.trim(),
    except: except.value.split(",").map((each) => each.trim()).filter(Boolean), // a number may hold blanks
  };
}

function fill(park) {
  const { enabled, audio, music_class, auto_answer, context, number, except } = form().elements;
  enabled.checked = park.mode === "park";
  audio.value = park.audio ?? "ringback";
  music_class.value = park.music_class ?? "";
  auto_answer.checked = Boolean(park.auto_answer);
  context.value = (park.context ?? []).join(", ");
  number.value = park.number ?? "";
  except.value = (park.except ?? []).join(", ");
}

/** The commands that lead from what is in force on a node to what is wanted; none where nothing differs. */
export function steps(now, want) {
  const found = [];
  if (now.audio !== want.audio || (want.audio === "music" && (now.music_class ?? "") !== want.music_class)) {
    found.push({ command: "dialplan.audio", mode: want.audio, music_class: want.music_class });
  }
  if (Boolean(now.auto_answer) !== want.auto_answer) {
    found.push({ command: "dialplan.autoanswer", enabled: want.auto_answer });
  }
  const scope = (each) => JSON.stringify([each.context ?? [], each.number ?? "", each.except ?? []]);
  if (want.mode === "park" && (now.mode !== "park" || scope(now) !== scope(want))) {
    found.push({
      command: "dialplan.enable",
      ...(want.context.length ? { context: want.context } : {}),
      ...(want.number ? { number: want.number } : {}),
      ...(want.except?.length ? { except: want.except } : {}),
    });
  }
  if (want.mode !== "park" && now.mode === "park") found.push({ command: "dialplan.disable" });
  return found;
}

async function apply(event) {
  event.preventDefault();
  const want = wanted();
  applying = true;
  buttons();
  await Promise.all(nodesInScope().filter(available).map(async (node) => {
    for (const request of steps(node.park, want)) {
      const outcome = await command(request, node.id);
      notice(`${clean(node.id, 40)}: ${outcome.text}`, outcome.ok ? "done" : "bad");
      if (!outcome.ok) return;
    }
  }));
  applying = false;
  dirty = false;
  // What is in force comes with the next news of the nodes; until then the form stays as it was typed.
  buttons();
}

function buttons() {
  setText($("park-pattern"), explain(form().elements.number.value.trim()));
  const [submit, undo] = form().querySelectorAll("button");
  const possible = nodesInScope().some(available);
  submit.disabled = !dirty || applying || !possible;
  undo.disabled = !dirty || applying;
  form().elements.music_class.disabled = form().elements.audio.value !== "music";
  setTimeout(() => { form().inert = !possible; });
}

const rows = new Map(); // id -> row

function make() {
  const [name, text, route, fault] = [h("b", {}), h("span", {}), h("span", { class: "routing" }), h("em", {})];
  return { element: h("li", {}, name, text, route, fault), name, text, route, fault };
}

function show(row, node) {
  const { binding } = node.park;
  setText(row.name, store.nodes.length > 1 ? clean(node.id, 60) : "");
  setText(row.text, summary(node));
  setText(row.route, routing(node));
  setText(row.fault, binding && !["ok", "unknown"].includes(binding) ? t("park.binding", { why: clean(binding) }) : "");
  setAttribute(row.element, "data-on", node.up && node.park.mode === "park" ? "" : null);
  setAttribute(row.element, "data-bad", !node.up || !node.park.available ? "" : null);
}

function draw() {
  if (document.body.dataset.view !== "engineer") return;
  const nodes = nodesInScope();
  keyed($("park-states"), rows, nodes, make, show);
  const first = nodes.find(available);
  const news = JSON.stringify(first?.park ?? null);
  if (first && !dirty && !applying && news !== drawn) {
    drawn = news;
    fill(first.park);
  }
  buttons();
}

export function start() {
  form().addEventListener("submit", apply);
  form().addEventListener("input", () => {
    dirty = true;
    buttons();
  });
  form().addEventListener("reset", (event) => {
    event.preventDefault();
    dirty = false;
    drawn = "";
    draw();
  });
  const soon = paced(draw, 100);
  for (const news of ["links", "prefs", "view"]) on(news, soon);
  on("scope", () => {
    dirty = false;
    drawn = "";
    draw();
  });
  draw();
}
