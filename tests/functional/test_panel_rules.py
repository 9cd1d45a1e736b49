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
