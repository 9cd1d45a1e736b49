"""An event looked into without decoding it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.protocol.raw_event import Key, Names, RawEvent
from tests.unit.test_events import ANY, EVENTS, HEADERS, compact

UNIQUE, SEQUENCE = Key("Unique-ID"), Key("Event-Sequence")
CREATED = Names("CHANNEL_CREATE", "CHANNEL_DESTROY")


@given(EVENTS, HEADERS, st.booleans(), st.sampled_from(["Event-Name", "Unique-ID", "Event-Subclass", "Absent"]))
def test_a_header_is_the_one_that_decoding_gives(event: Any, headers: Any, first: bool, name: str) -> None:
    data = compact(headers | event if first else event | headers)
    expected = json.loads(data).get(name, "")
    assert RawEvent(data).get(Key(name)) == (expected if isinstance(expected, str) else "")


@given(ANY)
def test_any_json_can_be_looked_into(value: Any) -> None:
    event = RawEvent(json.dumps(value).encode(errors="replace"))
    assert isinstance(event.get(UNIQUE), str) and event.number(SEQUENCE) >= 0
    assert event.headers == (json.loads(event.data) if isinstance(value, dict) else {})


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"5", b"\xff", b"[" * 100000])
def test_what_is_no_object_has_no_headers(data: bytes) -> None:
    event = RawEvent(data)
    assert event.headers == {} and event.get(UNIQUE) == "" and event.number(SEQUENCE) == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [("417987", 417987), ("0", 0), ("9" * 19, int("9" * 19)), ("9" * 20, 0), ("9" * 5000, 0), ("-5", 0), ("x", 0)],
    ids=range(7),
)
def test_numbers(text: str, number: int) -> None:
    assert RawEvent(compact({"Event-Name": "A", "Event-Sequence": text})).number(SEQUENCE) == number


def test_names_are_those_of_events_that_freeswitch_fires() -> None:
    assert RawEvent(compact({"Event-Name": "CHANNEL_CREATE"})).is_one_of(CREATED)
    assert not RawEvent(compact({"Event-Name": "CHANNEL_CREATED"})).is_one_of(CREATED)
    assert not RawEvent(compact({"Command": "sendevent", "Event-Name": "CHANNEL_CREATE"})).is_one_of(CREATED)


def test_it_is_decoded_once() -> None:
    event = RawEvent(compact({"Event-Name": "A"}))
    assert event.headers is event.headers
