"""Events made into what is published: the quick way, the slow way, and that nobody can tell which it was."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.freeswitch.frames import FrameReader
from event_agent.protocol.doubles import doubled
from event_agent.protocol.events import BadEvent, Cut, EventEncoder, Published
from event_agent.protocol.raw_event import RawEvent
from event_agent.protocol.validation import strict_subject

RECORDINGS = sorted((Path(__file__).parent.parent / "fixtures" / "event-socket").glob("*.txt"))
NASTY = st.lists(
    st.sampled_from([
        '"', "\\", "\\\\", ",", ":", "{", "}", "]", "é日", "\x01", "\n", "/", " ", "a", "Unique-ID", "_body",
        '","Unique-ID":"x', ',"Event-Name":"EVIL"', '"_body":', '{"Event-Name":"EVIL', ',"Event-Date-Timestamp":"9',
    ]),
    max_size=5,
).map("".join) | st.text(st.characters(codec="utf-8"), max_size=8)  # fmt: skip
STANDARD = ("Event-Name", "Event-Subclass", "Event-Date-Timestamp", "Unique-ID", "_body", "Content-Length")
HEADERS = st.dictionaries(
    NASTY.filter(lambda name: bool(name) and name not in STANDARD), NASTY | st.lists(NASTY, max_size=3), max_size=5
)
NAME = st.sampled_from(["CHANNEL_ANSWER", "HEARTBEAT", "CUSTOM", "X"]) | NASTY
EVENTS = st.fixed_dictionaries(
    {
        "Event-Name": NAME,
        "Event-Date-Timestamp": st.integers(0, 2**60).map(str) | st.sampled_from(["", "007", "x", "²"]),
    },
    optional={
        "Unique-ID": st.uuids().map(str) | NASTY,
        "Event-Subclass": st.sampled_from(["sofia::register", "plain", "a b::c"]) | NASTY,
        "_body": NASTY,
    },
)
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=6) | NASTY,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(STANDARD) | NASTY, inner, max_size=4),
    max_leaves=10,
)


def compact(value: Any) -> bytes:
    """As FreeSWITCH (cJSON) writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def encoder() -> EventEncoder:
    return EventEncoder("freeswitch", "FS-1")


def strict(data: bytes) -> Any:
    def no(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(data.decode(), parse_constant=no)


def meaning(published: Published | Cut) -> tuple[str, str, Any]:
    event = strict(published.payload)
    assert published.size == len(published.payload) and b"".join(published.parts) == published.payload
    assert list(event)[:3] == ["event_name", "timestamp", "node_id"], "the order of the keys is the same too"
    assert strict_subject(published.subject.decode())
    return published.name, published.subject.decode(), event


@given(st.permutations(range(3)), EVENTS, HEADERS, HEADERS)
def test_both_ways_mean_the_same(order: list[int], event: Any, before: Any, after: Any) -> None:
    parts: list[dict[str, Any]] = [event, before, after]
    merged: dict[str, Any] = {}
    for each in order:
        merged |= parts[each]
    data = compact(merged)
    quick, slow = meaning(encoder().encode(RawEvent(data))), meaning(encoder().slow(RawEvent(data)))
    assert quick == slow
    published = quick[2]
    body = merged.pop("_body", None)
    assert published["headers"] == merged and published.get("body") == body
    assert published["event_name"] == merged["Event-Name"] and published["node_id"] == "FS-1"
    assert published.get("uuid", "") == merged.get("Unique-ID", "")
    stamp = merged["Event-Date-Timestamp"]
    assert published["timestamp"] == (int(stamp) if stamp.isascii() and stamp.isdigit() else 0)


@given(ANY, st.booleans(), st.sampled_from([None, 1]))
def test_any_json_gives_json_or_is_refused(value: Any, escaped: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=escaped, indent=indent, allow_nan=True)
    if "NaN" in text or "Infinity" in text:
        return  # Python writes what is not JSON
    try:
        published = encoder().encode(RawEvent(text.encode(errors="replace")))
    except BadEvent:
        assert not (isinstance(value, dict) and isinstance(value.get("Event-Name"), str))
        return
    strict(published.payload)
    assert strict_subject(published.subject.decode())


@given(EVENTS, HEADERS, st.integers(0, 400), st.binary(min_size=1, max_size=3))
def test_any_bytes_give_utf8_or_are_refused(event: Any, headers: Any, at: int, evil: bytes) -> None:
    data = compact(event | headers)
    at %= len(data)
    try:
        published = encoder().encode(RawEvent(data[:at] + evil + data[at:]))
    except BadEvent:
        return
    published.payload.decode()
    assert strict_subject(published.subject.decode())


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"{}", b"[]", b"null", b'"x"', b"5", b"[" * 100000, b'{"Event-Name":5}', b'{"Event-Name":null}',
        b'{"a":"b"}', b'{"Event-Name":"X","a":1e999}', b"\xff",
    ],
    ids=range(13),
)  # fmt: skip
def test_what_is_no_event_is_refused(data: bytes) -> None:
    with pytest.raises(BadEvent):
        encoder().encode(RawEvent(data))


def recorded() -> list[bytes]:
    found: list[bytes] = []
    for path in RECORDINGS:
        reader = FrameReader()
        for line in path.read_text().splitlines():
            if line.startswith("<<< b"):
                frames = reader.feed(ast.literal_eval(line[4:]))
                found += [frame.body for frame in frames if frame.content_type == b"text/event-json"]
    return found


def test_recorded_events(monkeypatch: pytest.MonkeyPatch) -> None:
    events = recorded()
    assert len(events) >= 6
    slow = [meaning(encoder().slow(RawEvent(data))) for data in events]
    ways: list[bytes] = []
    whole = EventEncoder.slow

    def noted(self: EventEncoder, event: RawEvent) -> Published:
        ways.append(event.data)
        return whole(self, event)

    monkeypatch.setattr(EventEncoder, "slow", noted)
    one = encoder()
    for data, expected in zip(events, slow, strict=True):
        published = one.encode(RawEvent(data))
        assert meaning(published) == expected
        headers = json.loads(data)
        assert published.subject.startswith(b"freeswitch.events.")
        assert json.loads(published.payload)["timestamp"] == int(headers["Event-Date-Timestamp"])
    assert all(b'"_body":' in data for data in ways), "an ordinary event takes the quick way"
    assert len(ways) < len(events)


@pytest.mark.parametrize(
    ("headers", "subject", "name"),
    [
        ({"Event-Name": "CHANNEL_EXECUTE_COMPLETE"}, "channel.execute.complete", "CHANNEL_EXECUTE_COMPLETE"),
        ({"Event-Name": "CUSTOM", "Event-Subclass": "sofia::register"}, "custom.sofia.register", "sofia::register"),
        ({"Event-Name": "CUSTOM", "Event-Subclass": "plain"}, "custom.plain", "CUSTOM"),
        ({"Event-Name": "CUSTOM"}, "custom", "CUSTOM"),
        ({"Event-Name": "HEARTBEAT", "Event-Subclass": "a::b"}, "heartbeat", "HEARTBEAT"),
        ({"Event-Name": "CUSTOM", "Event-Subclass": ["a::b", "c"]}, "custom", "CUSTOM"),
        ({"Event-Name": "CUSTOM", "Event-Subclass": 'q"::é'}, "custom.q", 'q"::é'),
    ],
)
def test_subjects_and_names(headers: dict[str, Any], subject: str, name: str) -> None:
    published = encoder().encode(RawEvent(compact(headers | {"Event-Date-Timestamp": "1"})))
    assert (published.subject.decode(), published.name) == (f"freeswitch.events.{subject}", name)


def test_a_caller_can_not_forge_a_uuid() -> None:
    evil = 'Bob","Unique-ID":"forged","x":"'
    for headers in (
        {"Event-Name": "A", "Event-Date-Timestamp": "1", "Caller-Name": evil, "Unique-ID": "true-one"},
        {"Caller-Name": evil, evil: "x", "Event-Name": "A", "Event-Date-Timestamp": "1", "Unique-ID": "true-one"},
        {"variable_x": [evil, evil], "Event-Name": "A", "Event-Date-Timestamp": "1", "Unique-ID": "true-one"},
    ):
        event = strict(encoder().encode(RawEvent(compact(headers))).payload)
        assert event["uuid"] == "true-one" and event["headers"] == headers
    without = compact({"Caller": evil, "Event-Name": "A", "Event-Date-Timestamp": "1"})
    event = strict(encoder().encode(RawEvent(without)).payload)
    assert "uuid" not in event


def test_bytes_that_are_no_utf8_are_replaced() -> None:
    data = compact({"Event-Name": "A", "Event-Date-Timestamp": "1", "Name": "M?ller"}).replace(b"?", b"\xfc")
    assert strict(encoder().encode(RawEvent(data)).payload)["headers"]["Name"] == "M\N{REPLACEMENT CHARACTER}ller"


def test_a_timestamp_of_any_length_is_no_fault() -> None:
    """int() refuses thousands of digits; an event with these must not end the thread."""
    for stamp, expected in (("9" * 5000, 0), ("0" * 5000, 0), ("1" * 200, 0), ("9" * 20, 0), ("9" * 19, int("9" * 19))):
        event = strict(encoder().encode(RawEvent(compact({"Event-Name": "A", "Event-Date-Timestamp": stamp}))).payload)
        assert event["headers"]["Event-Date-Timestamp"] == stamp and event["timestamp"] == expected


def test_values_nested_deeply_are_refused_in_one_way() -> None:
    """Reading may take what writing does not."""
    for depth in range(700, 1100):
        data = b'{"Event-Name":"A","x":' + b"[" * depth + b"]" * depth + b"}"
        try:
            assert encoder().encode(RawEvent(data)).payload.endswith(b"]}}")
        except BadEvent:
            pass


def test_subclasses_do_not_pile_up() -> None:
    one = EventEncoder("freeswitch", "FS-1", most_kinds=5)
    for number in range(20):
        headers = {"Event-Name": "CUSTOM", "Event-Date-Timestamp": "1", "Event-Subclass": f"s::{number}"}
        assert one.encode(RawEvent(compact(headers))).subject.decode() == f"freeswitch.events.custom.s.{number}"
    assert len(one.kinds) == 5


PREFIX = ("Core-UUID", "FreeSWITCH-Hostname", "Event-Date-Local")
PLACE = ("Event-Calling-File", "Event-Calling-Function", "Event-Calling-Line-Number")
FIRED = st.fixed_dictionaries({
    "Event-Name": st.sampled_from(["CHANNEL_ANSWER", "CHANNEL_STATE", "CUSTOM"]),
    "FreeSWITCH-Hostname": st.sampled_from(["a", "b", "pbx-1.example.com"]),
    "Event-Date-Timestamp": st.sampled_from(["1795419171640125", "0795419171640125", "17954191716401", "x" * 16, ""]),
    "Event-Calling-Line-Number": st.sampled_from(["626", "1627"]),
    "Unique-ID": st.none() | st.uuids().map(str) | NASTY,
    "Event-Subclass": st.none() | st.sampled_from(["sofia::register", "plain"]),
    "Last": st.none() | NASTY,
    "_body": st.none() | NASTY,
})  # fmt: skip


def fired(values: dict[str, Any]) -> bytes:
    """In FreeSWITCH's order."""
    constant = {
        "Core-UUID": "2e5ae44e-e096-4bfb-b894-9af5728cd076", "Event-Date-Local": "2026-11-23 07:32:51",
        "Event-Calling-File": "switch_core.c", "Event-Calling-Function": "run", "Event-Sequence": "418067",
    }  # fmt: skip
    order = (
        "Event-Name", *PREFIX, "Event-Date-Timestamp", *PLACE, "Event-Sequence", "Event-Subclass", "Unique-ID", "Last",
        "_body",
    )  # fmt: skip
    return compact({name: value for name in order if (value := (constant | values).get(name)) is not None})


@given(st.lists(FIRED, min_size=2, max_size=12), st.integers(0, 400), st.binary(max_size=3), st.integers(0, 40))
def test_what_is_learned_of_events_changes_none(many: list[Any], at: int, evil: bytes, cut: int) -> None:
    """Of two FreeSWITCH in turn, in FreeSWITCH's shape and nearly so: as an encoder that has seen none has it."""
    learned = encoder()
    for values in many * 2:
        data = fired(values)
        for each in (data, data[:at] + evil + data[at:], data[:at] + data[at + cut :]):
            if doubled(each):
                continue  # what is done with keys that come twice is looked at elsewhere
            try:
                expected = meaning(encoder().slow(RawEvent(each)))
            except BadEvent:
                continue  # no JSON any more: nothing is said of it here
            event = RawEvent(each)
            assert meaning(learned.encode(event)) == expected
            assert event.uuid == RawEvent(each).uuid
