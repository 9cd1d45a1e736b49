"""Dial strings read as FreeSWITCH reads them. What a real one makes of them: tests/functional/test_dial_strings.py."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from event_agent.freeswitch.dialreader import MAX_PARTS, Misread, arguments, read, true
from event_agent.freeswitch.dialstring import quoted
from tests.switchsim.text import separate
from tests.switchsim.text import variable_block as read_block

TOKENS = st.lists(
    st.sampled_from([*"ab=,|'\\{}[]<>:ns/", "\\\\", "^^"]),
    max_size=14,
).map("".join)


@pytest.mark.parametrize(
    ("text", "legs"),
    [
        ("loopback/9000", [["loopback/9000"]]),
        ("a/1,b/2|c/3", [["a/1", "b/2"], ["c/3"]]),
        ("[x=1,y=2]a/1,[z=3]b/2|[leg_timeout=5]c/3", [["a/1", "b/2"], ["c/3"]]),
        ("{a=1,b=2}a/1", [["a/1"]]),
        ("<a=1>{b=2}{c=3}[d=4][e=5]a/1", [["a/1"]]),
        ("{^^:a=1:b=2,3}a/1", [["a/1"]]),
        ("[^^:a=1:b=2,3]a/1,b/2", [["a/1", "b/2"]]),
        ("{a='x,y'}a/1", [["a/1"]]),
        ("sofia/internal/1@[::1]:5060", [["sofia/internal/1@[::1]:5060"]]),
        ("loopback/it\\'s", [["loopback/it's"]]),
        ("a/1|", [["a/1"]]),
    ],
)
def test_the_legs_of_a_dial_string(text: str, legs: list[list[str]]) -> None:
    assert [[leg.target for leg in group] for group in read(text).alternatives] == legs


def test_the_variables_of_a_dial_string() -> None:
    dial = read("<a=1>{b=2,^^x=no,c}{^^:c=3:d=4,5}[e=6,f=\\\\\\'7,8\\\\\\']a/1,[^^:g=9,0]b/2|[h=x\\\\sy]c/3")
    assert dial.variables == [("a", "1"), ("b", "2"), ("c", "3"), ("d", "4,5")]
    assert [leg.variables for group in dial.alternatives for leg in group] == [
        [("e", "6"), ("f", "7,8")], [("g", "9,0")], [("h", "x y")],
    ]  # fmt: skip
    assert len(dial.pairs()) == 8
    assert [leg.kind for group in read("SOFIA/x,user/1").alternatives for leg in group] == ["sofia", "user"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a/1'", "quotes that are not closed"),
        ("a/1\\", "backslash at its end"),
        ("{a=1", "a '{' that is not closed"),
        ("[a=1", "a '[' that is not closed"),
        ("<a=1", "a '<' that is not closed"),
        ("{a=1}", "nothing to call"),
        ("[a=1]", "nothing to call"),
        ("{a=1}{{b=2}c}x/1", "two '{' one after the other"),
        ("{^^}x/1", "without a character"),
        ("{a=x\\\\}x/1", "backslash at the end of a part"),
        ("|".join(["a/1"] * (MAX_PARTS + 1)), "more than 128 parts"),
        (",".join(["a/1"] * (MAX_PARTS + 1)), "more than 128 parts"),
        ("{" + ",".join(f"a{n}=1" for n in range(1025)) + "}a/1", "more than 1024 variables"),
    ],
)
def test_what_freeswitch_would_misread(text: str, fault: str) -> None:
    with pytest.raises(Misread, match=re.escape(fault)):
        read(text)


def test_as_many_as_freeswitch_takes() -> None:
    assert len(read("|".join(["a/1"] * MAX_PARTS)).alternatives) == MAX_PARTS
    assert len(read("{" + ",".join(f"a{n}=1" for n in range(1024)) + "}a/1").variables) == 1024


def test_true_is_what_freeswitch_takes_for_true() -> None:
    assert all(true(text) for text in ("true", "YES", "on", "T", "enabled", "active", "allow", "1", "-1", "2.5"))
    assert not any(true(text) for text in ("", "false", "no", "0", "0.9", "x1", "truely"))


@given(TOKENS)
@example("a\\\\'b' c'd e'\\'f'")
@example("^^s<\\s")
def test_arguments_are_cut_as_the_simulator_cuts_them(text: str) -> None:
    """Two readings of the same source."""
    line = f"{text} x"
    try:
        found = arguments(line)
    except Misread:
        return
    assert found == separate(line, limit=10)


@given(TOKENS, TOKENS)
@example("^^]^^[=/n^^", "}}s]{a")
@example("^^[^^^^>'", "\\s")
def test_a_block_is_read_as_the_simulator_reads_it(first: str, second: str) -> None:
    text = f"{{{first}}}{{last={second}}}loopback/1"
    try:
        dial = read(quoted(text))
    except Misread:
        return
    block = read_block(text)
    assert block is not None
    # A variable without a value is one that is not set.
    assert _set(dict(dial.variables)) == _set(block[0])


def _set(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if value}
