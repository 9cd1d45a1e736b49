"""Replies in parts, put together by the client for programs: whatever order they come in, of one node or several."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import event_agent_client as ea
from event_agent.protocol.replies import MOST_PARTS as MOST_OF_THE_AGENT
from event_agent.protocol.replies import Envelope
from event_agent_client.core import Reply
from event_agent_client.parts import MOST_PARTS, Parts

COMMON = {"success": True, "status": "success", "message": "m", "node_id": "n", "timestamp": 5}


def pieces(text: str, count: int, **more: Any) -> list[Reply]:
    size = -(-len(text) // count)
    return [
        Reply(COMMON | {"part": number + 1, "parts": count, "data": text[number * size : (number + 1) * size]} | more)
        for number in range(count)
    ]


@given(st.text(max_size=3000), st.integers(700, 1500), st.randoms(use_true_random=False))
def test_what_the_agent_cuts_is_put_together(text: str, most: int, random: Any) -> None:
    sent = [Reply(json.loads(each)) for each in Envelope("n1").parts(most, True, "done", text)]
    random.shuffle(sent)
    parts = Parts()
    found = [parts.add(each) for each in sent]
    if len(sent) > 1:
        assert found[:-1] == [None] * (len(sent) - 1) and parts.missing == parts.late == ""
        whole = found[-1]
        assert whole is not None and whole.data == text and not {"part", "parts", "json"} & set(whole)


def test_json_comes_as_what_it_was() -> None:
    sent = [Reply(json.loads(each)) for each in Envelope("n1").parts(400, True, "done", {"a": ["x" * 900, None, 1]})]
    parts = Parts()
    *others, whole = [parts.add(each) for each in sent]
    assert others and set(others) == {None}
    assert whole is not None and whole.data == {"a": ["x" * 900, None, 1]} and whole.ok and "json" not in whole


def test_parts_of_several_nodes_do_not_mix() -> None:
    one, two = pieces("one one", 2, node_id="one"), pieces("two two", 2, node_id="two")
    parts = Parts()
    found = [parts.add(each) for each in (one[0], two[1], Reply(COMMON | {"data": 3}), one[1], two[0], two[0])]
    assert [each and each.data for each in found] == [None, None, 3, "one one", "two two", "two two"]


def test_what_is_missing_is_named() -> None:
    parts = Parts()
    assert parts.missing == ""
    for each in pieces("x" * 100, 20)[:3]:
        parts.add(each)
    assert parts.missing == "parts 4, 5, 6, 7, 8, … of 20"
    assert parts.late == ": parts 4, 5, 6, 7, 8, … of 20 of the reply did not come"
    other = Parts()
    other.add(pieces("ab", 2)[1])
    assert other.missing == "part 1 of 2"


@pytest.mark.parametrize(
    ("part", "parts"),
    [(0, 3), (4, 3), (-1, 2), ("1", 2), (1, True), (1.0, 2), (1, 10**9), (None, None), (1, MOST_PARTS + 1)],
)
def test_parts_that_can_not_be(part: Any, parts: Any) -> None:
    with pytest.raises(ea.CommandFailed, match="the reply has parts that can't be") as caught:
        Parts().add(Reply(COMMON | {"part": part, "parts": parts, "data": "x"}))
    assert caught.value.executed == "unknown" and caught.value.reply["node_id"] == "n"


def test_parts_that_do_not_fit_together() -> None:
    parts = Parts()
    first, second = pieces("{{{{", 2, json=True)
    assert parts.add(first) is None
    with pytest.raises(ea.CommandFailed, match="do not fit together"):
        parts.add(second)


def test_the_agent_sends_no_more_parts_than_are_taken() -> None:
    assert MOST_PARTS == MOST_OF_THE_AGENT
