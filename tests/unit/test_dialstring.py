"""Variable blocks and quoted arguments, read back the way FreeSWITCH reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.errors import CommandError
from event_agent.freeswitch.dialstring import MAX_BLOCK, as_text, quoted, variable_block
from tests.switchsim.text import separate
from tests.switchsim.text import variable_block as read_block

PIECES = "abnsrt ,='\"\\{}[]()|^~é日$:<>&%+;#!@*`"
NASTY = st.lists(
    st.sampled_from([*PIECES, "${", "$${", "\\\\", "''", "ARRAY::", "|:", "^^:", "  "])
    | st.characters(exclude_categories=("Cs", "Cc")),
    max_size=12,
).map("".join)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:-]{0,12}", fullmatch=True)


def arrived(variables: dict[str, str | int | float | bool]) -> dict[str, str]:
    """What stands on the channel: the arguments of originate are split, then the block."""
    line = f"{variable_block(variables)}loopback/x {quoted('&park')} {quoted('XML')} {quoted('default')}"
    words = separate(line, limit=10)
    assert words[1:] == ["&park", "XML", "default"], words
    block = read_block(words[0])
    assert block is not None
    assert block[1] == "loopback/x", block
    return block[0]


@given(st.dictionaries(NAMES, NASTY, max_size=5))
def test_every_value_arrives_whole_or_is_refused(variables: dict[str, str]) -> None:
    try:
        found = arrived(dict(variables))
    except CommandError as error:
        assert error.message.startswith("variables: ")
        assert any("{" in value or "}" in value or value.startswith("ARRAY::") for value in variables.values())
        return
    assert found == {name: value for name, value in variables.items() if value}  # FreeSWITCH keeps no empty ones


@given(st.dictionaries(NAMES, NASTY, min_size=1, max_size=5), NASTY)
def test_no_value_touches_its_neighbours(variables: dict[str, str], evil: str) -> None:
    try:
        found = arrived({**variables, "evil": evil, "last": "safe"})
    except CommandError:
        return
    assert found["last"] == "safe" and set(found) <= {*variables, "evil", "last"}


@given(NASTY.filter(bool), NASTY.filter(bool))
def test_a_quoted_argument_is_one_argument(first: str, second: str) -> None:
    line = f"loopback/x {quoted(first)} {quoted(second)} end"
    assert separate(line, limit=10) == ["loopback/x", first, second, "end"]


@pytest.mark.parametrize("value", ["}", "{", "}{", "a}b,c=d", "{{}", "${x}", "$${x}", "${", "ARRAY::a|:b"])
def test_what_can_not_arrive_is_refused(value: str) -> None:
    with pytest.raises(CommandError, match="variables: x can't hold") as caught:
        variable_block({"x": value})
    assert value not in caught.value.message.replace("${, which", "").replace("ARRAY:: at", "") or len(value) < 3


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a,b", "a}b", "1a", "ä", "a" * 129, "a\n", "a'b", "-a"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(CommandError, match="variables must have names"):
        variable_block({name: "x"})


def test_scalars() -> None:
    assert [as_text(value) for value in (True, False, 3, 2.5, "x")] == ["true", "false", "3", "2.5", "x"]
    assert variable_block({}) == "{}"
    assert arrived({"a": True, "b": 0, "c": -1.5}) == {"a": "true", "b": "0", "c": "-1.5"}


def test_the_block_has_a_limit() -> None:
    assert len(variable_block({"a": "x" * (MAX_BLOCK - 4)})) == MAX_BLOCK
    with pytest.raises(CommandError, match=f"{MAX_BLOCK} characters or fewer"):
        variable_block({"a": "x" * (MAX_BLOCK - 3)})
    with pytest.raises(CommandError, match="or fewer together"):
        variable_block({"a": "\\" * (MAX_BLOCK // 8)})  # it counts as it is sent
