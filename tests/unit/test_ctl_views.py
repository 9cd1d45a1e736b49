"""What event-agentctl shows, and that nothing a caller chose gets to a terminal as a control sequence."""

from __future__ import annotations

import io
import json
import re

import pytest

from event_agent.ctl.views import (
    Cell,
    Painter,
    clock,
    cut,
    duration,
    event_line,
    is_coloured,
    number,
    pick,
    safe,
    table,
    to_json,
    width,
)

PLAIN, COLOURED = Painter(False), Painter(True)
CONTROLS = "".join(map(chr, [*range(32), *range(127, 160), 0x2028, 0x202E, 0x2066, 0x200F, 0xFEFF, 0xD800]))
ATTACKS = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[2J\x1b[1;1Hgone", "gone"),
    ("\x9b31mred", "red"),
    ("\x1b]0;title\x07x", "x"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9d0;title\x9cx", "x"),
    ("\x1bP+q544e\x1b\\x", "x"),
    ("\x1b[6n", ""),
    ("\x1bcx", "x"),
    ("\x1b(0x", "x"),
    ("a\x1b", "a"),
    ("\x1b[", ""),
    ("a\rb\nc\td\r\ne", "a b c d e"),
    ("a\x00\x08\x7fb", "ab"),
    ("Alice \u202eecilA", "Alice ecilA"),
    ("Zoë 日本", "Zoë 日本"),
]


@pytest.mark.parametrize(("text", "shown"), ATTACKS)
def test_sequences_are_taken_out_whole(text: str, shown: str) -> None:
    assert safe(text) == shown


def test_no_control_character_is_left() -> None:
    bad = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028-\u202e\u2066-\u2069]")
    for text in (CONTROLS, CONTROLS * 2, f"\x1b{CONTROLS}\x1b[{CONTROLS}\x1b]{CONTROLS}"):
        assert not bad.search(safe(text))
        assert not bad.search(safe(text, lines=True).replace("\n", "").replace("\t", ""))
        assert not bad.search(to_json({text: text}))
        assert not bad.search(to_json({text: text}, pretty=True).replace("\n", ""))
    assert safe("a\n\x1b[2Jb\tc", lines=True) == "a\nb\tc"
    assert safe(None) == "None" and safe(12) == "12"


def test_json_says_the_same_as_before() -> None:
    value = {"a": [CONTROLS, "Zoë 日本", 1.5, None, True], CONTROLS: {}}
    assert json.loads(to_json(value)) == value
    assert json.loads(to_json(value, pretty=True)) == value
    assert to_json({"a": 1, "b": "ë"}) == '{"a":1,"b":"ë"}'
    assert to_json({"a": "x\ny"}, pretty=True) == '{\n  "a": "x\\ny"\n}'


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals_that_want_them() -> None:
    assert is_coloured(Terminal(), {"TERM": "xterm"})
    for environ in ({"TERM": "dumb"}, {}, {"TERM": "xterm", "NO_COLOR": "1"}):
        assert not is_coloured(Terminal(), environ)
    assert not is_coloured(io.StringIO(), {"TERM": "xterm"})
    assert COLOURED("x", "red", "bold") == "\x1b[31;1mx\x1b[0m"
    assert PLAIN("x", "red") == COLOURED("x") == "x" and COLOURED("", "red") == ""


def test_a_table() -> None:
    rows = [("a", Cell("1,000", "red")), ("日本", "2")]
    assert table(("NODE", "N"), rows, PLAIN, right=(1,)) == ["NODE      N", "a     1,000", "日本      2"]
    assert table(("NODE", "N"), rows, COLOURED, right=(1,))[1] == "a     \x1b[31m1,000\x1b[0m"
    assert table(("N", "X"), [("\x1b[31ma", "b\x1b[0m")], PLAIN) == ["N  X", "a  b"]
    assert table(("N",), [("x" * 50,)], PLAIN) == ["N", "x" * 39 + "…"]
    assert table(("N", "X"), [], PLAIN) == ["N  X"]


def test_widths() -> None:
    assert (width("abc"), width("日本"), width("e\u0301")) == (3, 4, 1)
    assert (cut("abcd", 4), cut("abcde", 4), cut("日本語", 4), cut("a", 0)) == ("abcd", "abc…", "日…", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59, "59s"), (60, "1m 0s"), (3725, "1h 2m"), (90061, "1d 1h"), (86400 * 400, "400d 0h"), (1.9, "1s"),
     (-1, "-"), (None, "-"), ("5", "-"), (True, "-"), (float("nan"), "-"), (1e300, "-")],
)  # fmt: skip
def test_durations(seconds: object, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (1234, "1,234"), (9_999_999, "9,999,999"), (12_345_678, "12.3M"), (5 * 10**9, "5.0G"),
     (7 * 10**12, "7.0T"), (1.25, "1.2"), (1500.7, "1,500"), (None, "-"), ("1", "-"), (True, "-"),
     (float("nan"), "-"), (float("inf"), "-"), (float("-inf"), "-"), (10**400, "-")],
)  # fmt: skip
def test_numbers(value: object, text: str) -> None:
    assert number(value) == text


EVENT = {
    "event_name": "CHANNEL_HANGUP",
    "timestamp": 1733433600123000,
    "node_id": "fs-1",
    "uuid": "u-1",
    "headers": {
        "Caller-Caller-ID-Name": "Al\x1b[2Jice",
        "Caller-Caller-ID-Number": "1001",
        "Caller-Destination-Number": "5551234",
        "Hangup-Cause": "NORMAL_CLEARING",
        "variable_x": ["a", "b"],
    },
}


def test_an_event_in_one_line() -> None:
    assert re.fullmatch(
        r"\d\d:\d\d:00\.123  fs-1  CHANNEL_HANGUP {10}  u-1  Alice <1001> → 5551234  cause=NORMAL_CLEARING",
        event_line(EVENT, PLAIN),
    )
    assert "\x1b[31mCHANNEL_HANGUP" in event_line(EVENT, COLOURED)
    assert event_line(EVENT, PLAIN, ["uuid", "Variable_X", "none"]).endswith("uuid=u-1  Variable_X=a, b")


def test_what_an_event_is_about() -> None:
    state = {"event_name": "CHANNEL_STATE", "headers": {"Channel-State": "CS_EXECUTE", "Channel-Call-State": "ACTIVE"}}
    assert event_line(state, PLAIN).endswith("CS_EXECUTE")
    custom = {"event_name": "CUSTOM", "headers": {"Event-Subclass": "sofia::register"}}
    assert event_line(custom, PLAIN).endswith("sofia::register")
    job = {"event_name": "API", "headers": {"API-Command": "show", "API-Command-Argument": "calls"}}
    assert event_line(job, PLAIN).endswith("api=show  calls")


@pytest.mark.parametrize(
    "event",
    [{}, {"event_name": 1, "timestamp": "x", "headers": []}, {"timestamp": 1e300, "headers": {"Application": {}}},
     {"timestamp": True, "uuid": ["\x1b[2J"], "node_id": {"\x1b": 1}}, {"headers": {"Hangup-Cause": [1, None]}}],
)  # fmt: skip
def test_odd_events_are_shown_too(event: dict[str, object]) -> None:
    assert "\x1b" not in event_line(event, PLAIN) and "\n" not in event_line(event, PLAIN)


def test_fields() -> None:
    assert pick(EVENT, ["uuid", "caller-destination-NUMBER", "nope"]) == {
        "uuid": "u-1", "caller-destination-NUMBER": "5551234",
    }  # fmt: skip
    assert pick({"headers": None, "body": "b"}, ["body", "headers"]) == {"body": "b"}
    assert clock(None) == clock(-1) == "--:--:--.---"
