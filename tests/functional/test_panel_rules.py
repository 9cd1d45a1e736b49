"""The rules of the panel's page: its functions without side effects, in the browser that runs them."""

from __future__ import annotations

import pytest

from tests.functional import browser as browser_module
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel

pytestmark = pytest.mark.skipif(bool(browser_module.missing()), reason=browser_module.missing() or "all is there")


def test_the_rules_of_the_page(browser: Browser, panel: Panel) -> None:
    """Its functions without side effects, in the browser that runs them."""
    browser.open(panel.url)
    browser.sees("#trouble", "no agent answers")
    assert browser.js("""
        const { clean, cleanLines, duration, matches } = await import("/dom.js");
        const { transferRequest } = await import("/transfer.js");
        const { requestOf } = await import("/console.js");
        const { steps } = await import("/park.js");
        const usual = { kind: "extension", target: "9", context: "c" };
        const transfer = (more) => transferRequest({ ...usual, ...more });
        return [
          clean("a\\u202eb\\n c"), clean("x".repeat(300)).length, cleanLines("a\\r\\nb"),
          duration(59.9), duration(3723), matches("a -b", "xA"), matches("a -b", "ab"), matches("", "x"),
          transfer({}), transfer({ kind: "phone", target: "user/1,user/2" }),
          ["a b", "-both", "a'b", "", "a|b", "${x}"].map((target) => Boolean(transfer({ target }).fault)),
          requestOf("show  channels like x"), requestOf("status"), requestOf('{"command":"x","y":1}'), requestOf("{}"),
          steps({ mode: "park", audio: "music", music_class: "a", auto_answer: false, context: ["x"], number: "" },
            { mode: "disabled", audio: "music", music_class: "b", auto_answer: true, context: ["x"], number: "" })
            .map((each) => each.command),
          steps({ mode: "park", audio: "ringback", auto_answer: false, context: ["x"], number: "" },
            { mode: "park", audio: "ringback", music_class: "", auto_answer: false, context: ["x"], number: "^1" }),
          steps({ mode: "park", audio: "ringback", auto_answer: false, context: [], number: "", except: ["112"] },
            { mode: "park", audio: "ringback", auto_answer: false, context: ["x"], number: "", except: ["112"] }),
        ];
    """) == [
        "a□b c", 200, "a\nb", "0:59", "1:02:03", True, False, True,
        {"kind": "extension", "target": "9", "context": "c"}, {"kind": "phone", "target": "user/1,user/2"},
        [True] * 6,
        {"command": "show", "args": "channels like x"}, {"command": "status"}, {"command": "x", "y": 1}, None,
        ["dialplan.audio", "dialplan.autoanswer", "dialplan.disable"],
        [{"command": "dialplan.enable", "context": ["x"], "number": "^1"}],
        [{"command": "dialplan.enable", "context": ["x"], "except": ["112"]}],
    ]  # fmt: skip


EXPLAINED = {
    r"^0900\d{2,4}$": "is 0900, then a digit 2 to 4 times, and nothing else",
    "112|110": "has 112 in it; or has 110 in it",
    r"^\+49": "begins with +49",
    "[0-9]+$": "ends with a digit at least once",
    "(a|b)": "has a in it; or has b in it",
    "^(110|112)$": "is either 110 or 112, and nothing else",
    r"^(?:00|\+)49(30|89)\d{3,}$":
        "is either 00 or +, then 49, then either 30 or 89, then a digit at least 3 times, and nothing else",
    r"^(0900|(?:137|180)\d)?$": "is (either 0900 or (either 137 or 180, then a digit)) or nothing, and nothing else",
    "(^110$|^112$)": "is 110, and nothing else; or is 112, and nothing else",
    r"(\d\d){2}": "has (a digit, then a digit) 2 times in it",
    "^[1-9][^0-9][+]x?": "begins with one of 1 to 9, then a sign that is no digit, then +, then x or nothing",
    r"^[\d+#]{,3}": "begins with one of a digit, +, # 0 to 3 times",
    "^.*$": "is any character any number of times, and nothing else",
    "[]a-]": "has one of ], a, - in it",
    "a+?": "has a at least once in it",
    "^$": "is empty",
    "": "",
    # What is not known, or is no pattern: nothing is better than something wrong.
    **dict.fromkeys((
        "(?=a)b", "(?<=a)b", "(?P<x>a)", "(?i)a", r"\1", r"\bx", "a**", "a++", "a{99999}", "a{3,1}", "a{", "x{}", "[",
        "[z-a]", "(", ")", "a)b", "*", "\\", "(^|x)1", "a^", "$a",
        # However long or deep: at once.
        "(" * 255, "(a|" * 80, "[" * 255, "((a|b)*|c)+" * 20, "|" * 255, r"\d" * 127, "x" * 256, "x" * 100_000,
        "(" * 100_000, "(" * 9 + "a" + ")" * 9,
    ), ""),
}  # fmt: skip


def test_regular_expressions_are_explained(browser: Browser, panel: Panel) -> None:
    browser.open(panel.url)
    script = 'const { explain } = await import("/pattern.js"); return arguments[0].map(explain)'
    assert dict(zip(EXPLAINED, browser.js(script, list(EXPLAINED)), strict=True)) == EXPLAINED


# Legs come, go and come again, in every order, with one and with several joinings between: what is one call stays so.
JOINED = """
const { Groups } = await import("/groups.js");
const groups = new Groups();
const leg = (uuid, more = {}) => ({ node: "n", uuid, since: uuid.charCodeAt(0), other: "", pair: "", origin: "",
  app: "", direction: "inbound", consult: null, ...more });
const now = () => {
  groups.update();
  return [...groups.all.values()].map(({ legs }) => legs.map(({ uuid }) => uuid).join("")).sort();
};
const found = [];
groups.put(leg("a")); groups.put(leg("b", { origin: "a" })); found.push(now());
groups.remove(leg("a")); groups.put(leg("a")); found.push(now());
groups.put(leg("b", { other: "c" })); found.push(now());
groups.put(leg("c", { other: "b" })); found.push(now());
groups.remove(leg("b")); found.push(now());
groups.remove(leg("a")); groups.remove(leg("c")); found.push(now());
groups.put(leg("c"));
groups.put(leg("b", { app: "eavesdrop c" }));
groups.put(leg("a", { consult: { with: "c", to: "b" } }));
found.push(now());
groups.remove(leg("a")); found.push(now(), [...groups.all.keys()].length === 1);
return found;
"""


def test_legs_are_joined_to_calls(browser: Browser, panel: Panel) -> None:
    browser.open(panel.url)
    assert browser.js(JOINED) == [["ab"], ["ab"], ["a", "b"], ["a", "bc"], ["a", "c"], [], ["abc"], ["bc"], True]


# A row of a call that changes while a person is at it: what has the focus, and what it would do.
ROW = """
const { Row } = await import("/rows.js");
const { store } = await import("/store.js");
store.page = { state: "ok" };
store.nats = { connected: true };
store.nodes = [{ id: "n", up: true, freeswitch: true }];
store.byId = new Map([["n", store.nodes[0]]]);
const leg = (uuid, more) => ({ node: "n", uuid, since: 1e15, name: uuid, number: "", to: "9", channel: "", app: "",
  other: "", parked: false, answered: 1, direction: "outbound", state: "active", taking: "", consult: null, ...more });
let version = 0;
const call = (main, ...more) => ({ id: "c", node: "n", main, legs: [main, ...more], partner: more[0] ?? null,
  listeners: [], version: ++version });
const caller = (more) => leg("c", { direction: "inbound", ...more });
const ours = leg("o", { other: "c" });
const asks = { with: "o", to: "p", phone: "x", ended: false };
const row = new Row("c", () => {});
document.querySelector("#calls-rows").append(row.element);
document.querySelector("#calls-table").hidden = false;
const sent = [];
window.fetch = async (_, { body }) => { sent.push(JSON.parse(body).action); return new Response("{}"); };
const at = () => {
  const { first, second, element } = row;
  const has = Object.entries({ row: element, first, second }).find(([, each]) => each === document.activeElement);
  const said = (button) => (button.hidden ? "-" : button.dataset.act + (button.disabled ? "!" : ""));
  return `${has?.[0]} ${said(first)} ${said(second)}`;
};
const found = [];
const show = (...legs) => { row.show(call(...legs)); found.push(at()); };
const talks = caller({ other: "o" });
const rings = caller({ parked: true, consult: asks });
row.show(call(caller({ parked: true })));
row.first.focus();
show(talks, ours);                               // taken by somebody: Take is not possible, and does not become Listen
row.first.click(); row.enter(); found.push(sent.join());
row.second.focus();
show(rings, ours, leg("p", { answered: 0 }));    // Transfer does not become Back
row.second.focus();
show(rings, ours, leg("p", { other: "o" }));     // and Connect takes nobody's place: it was dark and is not now
row.first.focus();
show(rings, ours);                               // who was asked is gone
await new Promise((done) => setTimeout(done, 400));
row.second.click(); found.push(sent.join());
row.hangup.click();
row.show(call(leg("z", {})));                    // another leg than was asked about
found.push(String(row.hangup.dataset.armed));
return found;
"""


def test_a_button_under_the_finger_does_not_become_another(browser: Browser, panel: Panel) -> None:
    browser.open(panel.url)
    browser.sees("#trouble", "no agent answers")
    assert browser.js(ROW) == [
        "row listen transfer", "",
        "row connect! back",
        "second connect back",
        "row connect! back", "back",
        "undefined",
    ]  # fmt: skip


# What is known of a consultation's legs, in the order in which it comes to be known of each; the legs in every order
# among each other. `c` is the caller, `o` our phone and `p` the one that is asked, these two with a far end each (`O`,
# `P`), as a loopback phone has; `l` listens, with a far end `L`.
MAIN = """
const { Groups } = await import("/groups.js");
const leg = (uuid, since, more) => ({ node: "n", uuid, since, other: "", pair: "", origin: "", app: "", parked: false,
  answered: since, direction: "outbound", talked: false, consult: null, ...more });
const states = (uuid, since, ...all) => {
  let now = leg(uuid, since);
  return all.map((more) => (now = { ...now, ...more }));
};
const asks = { with: "o", to: "p", phone: "x", ended: false };
const threads = [
  states("c", 10, { direction: "inbound", other: "o", talked: true }, { consult: { ...asks, to: "" } }, { other: "" },
    { consult: asks, parked: true }, { other: "p", parked: false, consult: null }),
  states("o", 20, { other: "c", talked: true, pair: "O" }, { other: "" }, { other: "p" }, { other: "", parked: true }),
  states("O", 20, { direction: "inbound", answered: 0 }, { parked: true, answered: 20 }, { pair: "o" }),
  states("p", 30, { answered: 0 }, { pair: "P" }, { other: "o", talked: true, answered: 30 }, { other: "c" }),
  states("P", 30, { direction: "inbound", parked: true }, { pair: "p" }),
  states("l", 25, { pair: "L", app: "eavesdrop o" }),
  states("L", 25, { direction: "inbound", parked: true, pair: "l" }),
];
let seed = 1;
const chance = (most) => (seed = (seed * 48271) % 2147483647) % most;
const wrong = new Set();
for (let turn = 0; turn < 3000; turn++) {
  const groups = new Groups();
  const at = threads.map(() => 0);
  // The caller's row is there; then whatever comes. It stays the same row.
  groups.put(threads[0][at[0]++]);
  groups.update();
  const { id } = groups.callOf({ node: "n", uuid: "c" });
  const order = ["c"];
  for (let left = 1; left;) {
    const open = threads.map((_, i) => i).filter((i) => at[i] < threads[i].length);
    const next = open[chance(open.length)];
    const now = threads[next][at[next]++];
    groups.put(now);
    order.push(now.uuid);
    if (chance(3)) groups.update(); // the list is drawn now and then
    left = open.length - (at[next] === threads[next].length ? 1 : 0);
    const call = groups.update() && groups.callOf({ node: "n", uuid: "c" });
    if (call.main.uuid !== "c" || call.id !== id) wrong.add(`${order.join("")}: ${call.main.uuid}`);
  }
}
return [...wrong].slice(0, 20);
"""


def test_a_row_is_about_the_caller_in_whatever_order_events_come(browser: Browser, panel: Panel) -> None:
    browser.open(panel.url)
    assert browser.js(MAIN) == []


# What is joined a leg or two at a time ends as what is joined at once: legs come, change, go and come again.
PIECES = """
const { Groups } = await import("/groups.js");
let seed = 7;
const chance = (most) => (seed = (seed * 48271) % 2147483647) % most;
const name = () => String.fromCharCode(97 + chance(12));
const some = () => (chance(2) ? name() : "");
const leg = (uuid) => ({ node: "n", uuid, since: uuid.charCodeAt(0), other: some(), pair: chance(4) ? "" : name(),
  origin: some(), app: chance(6) ? "" : `eavesdrop ${name()}`, parked: !chance(4), answered: chance(2), talked: false,
  direction: chance(2) ? "inbound" : "outbound", consult: null });
const wrong = new Set();
const calls = ({ all }) => JSON.stringify([...all].map(([id, { id: own, main, legs }]) =>
  [id === own, main.uuid, legs.map(({ uuid }) => uuid)]).sort());
for (let turn = 0; turn < 1000 && wrong.size < 3; turn++) {
  const [whole, pieces] = [new Groups(), new Groups()];
  const [there, said, shown] = [new Map(), [], new Set()];
  const take = ({ changed, removed, more }) => {
    for (const call of removed) shown.delete(call);
    for (const call of changed) shown.add(call);
    return more;
  };
  for (let step = 0; step < 40; step++) {
    const uuid = name();
    if (there.has(uuid) && !chance(3)) {
      for (const groups of [whole, pieces]) groups.remove(there.get(uuid));
      there.delete(uuid);
      said.push(`-${uuid}`);
    } else {
      there.set(uuid, leg(uuid));
      for (const groups of [whole, pieces]) groups.put(there.get(uuid));
      said.push(uuid);
    }
    if (!chance(3)) whole.update(Infinity);
    if (chance(3)) take(pieces.update(1 + chance(2)));
  }
  const fresh = new Groups();
  for (const each of there.values()) fresh.put(each);
  fresh.update(Infinity);
  whole.update(Infinity);
  while (take(pieces.update(1 + chance(2))));
  const found = [...there.values()].every((each) => pieces.callOf(each)?.legs.includes(each));
  const seen = JSON.stringify([...shown].map(({ id }) => id).sort()) === JSON.stringify([...pieces.all.keys()].sort());
  if (calls(whole) !== calls(pieces) || !found || !seen) {
    wrong.add(`${said.join("")}: ${calls(fresh)} ${calls(whole)} ${calls(pieces)} ${found} ${seen}`);
  }
}
return [...wrong];
"""


def test_legs_that_are_joined_in_pieces_end_as_the_same_calls(browser: Browser, panel: Panel) -> None:
    browser.open(panel.url)
    assert browser.js(PIECES) == []


# A call that comes apart, or becomes one with another, keeps its name where it is about the same caller.
NAMES = """
const { Groups } = await import("/groups.js");
const groups = new Groups();
const leg = (uuid, more) => ({ node: "n", uuid, since: uuid.charCodeAt(0), other: "", pair: "", origin: "", app: "",
  direction: "outbound", parked: false, answered: 1, talked: false, consult: null, ...more });
const found = [];
const now = () => {
  groups.update();
  found.push([...groups.all.values()].map(({ id, main }) => `${id.split("\\n")[1]}:${main.uuid}`).sort().join(" "));
};
groups.put(leg("a", { direction: "inbound", parked: true })); now();
groups.put(leg("b")); now();
groups.put(leg("b", { other: "a" })); groups.put(leg("a", { direction: "inbound", other: "b" })); now();
groups.put(leg("b")); groups.put(leg("a", { direction: "inbound" })); now();
// Older legs than the caller's go another way.
groups.put(leg("A", { other: "a" })); groups.put(leg("a", { direction: "inbound", other: "A" })); now();
groups.put(leg("A")); groups.put(leg("a", { direction: "inbound" })); now();
return found;
"""


def test_a_call_keeps_its_row(browser: Browser, panel: Panel) -> None:
    browser.open(panel.url)
    assert browser.js(NAMES) == ["a:a", "a:a b:b", "a:a", "a:a b:b", "a:a b:b", "A:A a:a b:b"]
