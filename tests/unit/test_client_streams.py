"""event_agent.client: streams of events, patterns, replies in parts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from event_agent.client.client import (
    AgentTimeout,
    Client,
    CommandFailed,
    event_pattern,
)
from event_agent.client.events import MAX_WAITING
from event_agent.drivers.base import Message
from event_agent.errors import LinkError
from tests.unit.client_parts import FakeNats, faked


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    faked(monkeypatch)


# -- events


def put(client: Client, subject: str, *payloads: object) -> None:
    for payload in payloads:
        data = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        FakeNats.made[0].subs[subject]([Message(subject.encode(), b"", data)])


def test_events_are_iterated_over() -> None:
    with Client() as client:
        stream = client.events("CHANNEL_*")
        messages = ({"event_name": "A"}, b"junk", b"[]", {"event_name": 1}, {"event_name": "B"})
        put(client, "freeswitch.events.channel.>", *messages)
        assert [stream.next(1), stream.next(1), stream.next(0)] == [{"event_name": "A"}, {"event_name": "B"}, None]
        assert stream.malformed == 3
        stream.close()
        assert list(stream) == []
        assert "freeswitch.events.channel.>" not in FakeNats.made[0].subs


def test_events_go_to_a_callback_whatever_it_does() -> None:
    seen: list[str] = []

    def callback(event: dict[str, Any]) -> None:
        seen.append(event["event_name"])
        raise RuntimeError("bug")

    with Client() as client, client.events(callback=callback):
        put(client, "freeswitch.events.>", {"event_name": "A"}, b"junk", {"event_name": "B"})
    assert seen == ["A", "B"]


def test_what_came_before_the_loss_is_still_read() -> None:
    with Client() as client:
        stream = client.events()
        put(client, "freeswitch.events.>", {"event_name": "A"})
        FakeNats.made[0].observer.closed("gone")
        assert stream.next(1) == {"event_name": "A"}
        with pytest.raises(LinkError, match="gone"):
            stream.next(1)


def test_a_slow_reader_loses_what_does_not_fit_and_can_count_it() -> None:
    with Client() as client, client.events() as stream:
        sent = ({"event_name": "A", "number": number} for number in range(MAX_WAITING + 3))
        put(client, "freeswitch.events.>", *sent)
        assert stream.dropped == 3
        numbers = [event["number"] for event in iter(lambda: stream.next(0), None)]
        assert numbers == list(range(MAX_WAITING))


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (">", ">"),
        ("*", "*"),
        ("channel.*", "channel.*"),
        ("channel.answer", "channel.answer"),
        ("CHANNEL_ANSWER", "channel.answer"),
        ("channel_answer", "channel.answer"),
        ("CHANNEL_*", "channel.>"),
        ("HEARTBEAT", "heartbeat"),
        ("sofia::register", "custom.sofia.register"),
        ("sofia::*", "custom.sofia.>"),
        ("CUSTOM", "custom"),
        ("CUSTOM_sofia::register", "custom.sofia.register"),
        ("shop::order/paid", "custom.shop.order.paid"),
        ("SHOP_", "shop"),
    ],
)
def test_patterns(text: str, pattern: str) -> None:
    assert event_pattern(text) == pattern


@pytest.mark.parametrize("text", ["", " ", "a..b", ".a", "a.", "a b", ">.a", "a*", "a\r\nPUB x 0", "a\0", "a>"])
def test_what_is_no_pattern(text: str) -> None:
    with pytest.raises(ValueError, match="neither an event's name nor a pattern"):
        event_pattern(text)


def in_parts(text: str, count: int, node: str = "n", **more: Any) -> list[dict[str, Any]]:
    size = -(-len(text) // count)
    return [
        {"success": True, "message": "m", "node_id": node, "timestamp": 5, "part": number + 1, "parts": count,
         "data": text[number * size : (number + 1) * size], **more}
        for number in range(count)
    ]  # fmt: skip


@pytest.fixture
def joined() -> Iterator[Client]:
    with Client() as client:
        yield client


def test_parts_are_put_together_in_whichever_order_they_come(joined: Client) -> None:
    FakeNats.answer = staticmethod(lambda subject, payload: in_parts("abcdefgh", 3)[::-1])
    assert joined.request("long", parts=True) == {
        "success": True, "message": "m", "node_id": "n", "timestamp": 5, "data": "abcdefgh",
    }  # fmt: skip
    FakeNats.answer = staticmethod(lambda subject, payload: in_parts('{"a":[1,2]}', 4, json=True))
    assert joined.request("long")["data"] == {"a": [1, 2]}


def test_parts_of_several_nodes(joined: Client) -> None:
    one, two = in_parts("one one", 2, "one"), in_parts("two two", 2, "two")
    mixed = [one[0], two[1], {"success": True, "data": 3}, one[1], two[0]]
    FakeNats.answer = staticmethod(lambda subject, payload: mixed)
    assert [each["data"] for each in joined.gather("long", expect=3)] == [3, "one one", "two two"]


def test_a_part_that_does_not_come(joined: Client) -> None:
    found = [each for each in in_parts("x" * 100, 9) if each["part"] not in (3, 7)]
    FakeNats.answer = staticmethod(lambda subject, payload: found)
    with pytest.raises(AgentTimeout, match=r"no reply within 0.2 seconds: parts 3, 7 of 9 of the reply did not come"):
        joined.call({"command": "long"}, timeout=0.2)


@pytest.mark.parametrize(
    ("part", "parts"), [(0, 3), (4, 3), (-1, 2), ("1", 2), (1, True), (1.0, 2), (1, 10**9), (None, None)]
)
def test_parts_that_can_not_be(joined: Client, part: Any, parts: Any) -> None:
    odd = {"success": True, "part": part, "parts": parts, "data": "x"}
    FakeNats.answer = staticmethod(lambda subject, payload: [odd])
    with pytest.raises(CommandFailed, match="the reply has parts that can't be"):
        joined.call({"command": "long"}, timeout=5)


def test_parts_that_do_not_fit_together(joined: Client) -> None:
    FakeNats.answer = staticmethod(lambda subject, payload: in_parts("{{{{", 2, json=True))
    with pytest.raises(CommandFailed, match="do not fit together"):
        joined.call({"command": "long"}, timeout=5)
