// Park mode: what is in force on each node, and the form that changes it.

import { $, clean, h, setText } from "./dom.js";
import { explain } from "./pattern.js";
import { notice } from "./notices.js";
import { nodesInScope, on, store } from "./store.js";
import { command } from "./stream.js";

let dirty = false;
let applying = false;
let drawn = "";

const form = () => $("park-form");
const listOf = (text) => text.split(/[\s,]+/).filter(Boolean);

function summary(node) {
  const { park } = node;
  if (!node.up) return "no answer";
  if (!park.available) return `not available${park.fault ? `: ${clean(park.fault, 200)}` : ""}`;
  const parts = [park.mode === "park" ? "on" : "off", park.audio + (park.audio === "music" && park.music_class ? ` (${clean(park.music_class, 40)})` : "")];
  if (park.auto_answer) parts.push("answers");
  if (park.context?.length) parts.push(`only ${clean(park.context.join(", "), 80)}`);
  if (park.number) parts.push(`only ${clean(park.number, 80)}${explain(park.number) ? ` (${clean(explain(park.number), 160)})` : ""}`);
  if (park.except?.length) parts.push(`never ${clean(park.except.join(", "), 80)}`);
  if (park.mode === "park" || park.calls_parked) parts.push(`${park.calls_parked} parked now`);
  if (park.calls_missed) parts.push(`${park.calls_missed} missed`);
  return parts.join(" · ");
}

function routing({ routing: route }) {
  if (!route) return "";
  const parts = [`${clean(route.subject, 64)} decides over new calls`, `${route.decided} decided`];
  if (route.waiting) parts.push(`${route.waiting} waiting`);
  if (route.median !== null) parts.push(`${route.median} ms`);
  parts.push(`${route.undecided} took the fallback (${clean(route.fallback, 16)})`);
  if (route.undecided && route.why) parts.push(`last: ${clean(route.why, 200)}`);
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

function draw() {
  const nodes = nodesInScope();
  const text = JSON.stringify(nodes.map((node) => [node.id, summary(node), routing(node)]));
  if (text !== drawn) {
    drawn = text;
    $("park-states").replaceChildren(...nodes.map((node) => h("li",
      { "data-on": node.up && node.park.mode === "park", "data-bad": !node.up || !node.park.available },
      nodes.length > 1 ? h("b", {}, clean(node.id, 60)) : null, h("span", {}, summary(node)),
      node.routing ? h("span", { class: "routing" }, routing(node)) : null,
      node.park.binding && !["ok", "unknown"].includes(node.park.binding)
        ? h("em", {}, `mod_xml_curl does not ask the agent: ${clean(node.park.binding)}`) : null)));
    const first = nodes.find(available);
    if (first && !dirty && !applying) fill(first.park);
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
  on("links", draw);
  on("scope", () => {
    dirty = false;
    drawn = "";
    draw();
  });
  draw();
}
