"""Each key once in a published event, whatever fired it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.protocol import events as module
from event_agent.protocol.doubles import cut, doubled, needle
from event_agent.protocol.events import LEARNED, SAMPLE, Cut, EventEncoder, Published
from event_agent.protocol.raw_event import RawEvent
from tests.unit.test_events import NASTY

Pairs = list[tuple[str, Any]]
KEY = st.sampled_from(["X", "Hangup-Cause", "Unique-ID", "variable_a", "PD-a", "Event-Subclass"]) | NASTY.filter(bool)
NAMES = ["X", "Hangup-Cause", "Unique-ID", "variable_a"]
STAMP = 1795419171640125  # microseconds since 1970, 16 digits as they are since 2001
SIMPLE: st.SearchStrategy[Pairs] = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(["1", "", ["p", "q"]])))
PAIRS = SIMPLE | st.lists(st.tuples(KEY, NASTY | st.lists(NASTY, max_size=3)), max_size=6)


def write(pairs: Pairs) -> bytes:
    """As FreeSWITCH writes headers: all of them, in their order."""
    members = (f"{json.dumps(k, ensure_ascii=False)}:{json.dumps(v, ensure_ascii=False, separators=(',', ':'))}"
               for k, v in pairs)  # fmt: skip
    return ("{" + ",".join(members) + "}").encode()


def read(data: bytes) -> Pairs:
    """The members of the outermost object."""
    found: list[Pairs] = []
    json.loads(data, object_pairs_hook=found.append)
    return found[-1]


def head(name: str, file: str = "switch_channel.c", line: int = 1) -> Pairs:
    """What FreeSWITCH begins an event with (switch_event_prep_for_delivery)."""
    return [
        ("Event-Name", name), ("Core-UUID", "core"), ("FreeSWITCH-Hostname", "h"),
        ("Event-Date-Timestamp", str(STAMP)),
        ("Event-Calling-File", file), ("Event-Calling-Function", "f"), ("Event-Calling-Line-Number", str(line)),
        ("Event-Sequence", "5"),
    ]  # fmt: skip


def encoder() -> EventEncoder:
    return EventEncoder("fs", "node")


def once(data: bytes) -> None:
    """No object in it has a key twice."""

    def pairs(members: Pairs) -> None:
        counted = Counter(key for key, _ in members)
        assert max(counted.values(), default=1) == 1, counted

    json.loads(data, object_pairs_hook=pairs)


def check(one: EventEncoder, pairs: Pairs) -> Published | Cut:
    """It is published with each key once, and with the value that parsers take: the last."""
    published = one.encode(RawEvent(write(pairs)))
    expected = dict(pairs)
    body = expected.pop("_body", None)
    event = json.loads(published.payload)
    once(published.payload)
    assert event["headers"] == expected and event.get("body") == body
    return published


def learned(one: EventEncoder, name: str, line: int = 1, *pairs: tuple[str, Any]) -> None:
    """So many events of a kind that the next one is not looked at."""
    for _ in range(LEARNED + 1):
        check(one, [*head(name, line=line), *pairs])


# -- finding and cutting


@given(PAIRS)
def test_what_is_doubled_is_found(pairs: Pairs) -> None:
    counted = Counter(key for key, _ in pairs)
    assert sorted(doubled(write(pairs))) == sorted(key.encode() for key, count in counted.items() if count > 1)


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'"x"', b"\xff", b"[" * 100000])
def test_nothing_is_doubled_in_what_is_no_object(data: bytes) -> None:
    assert doubled(data) == []


@given(PAIRS, KEY)
def test_cutting_leaves_the_last(pairs: Pairs, key: str) -> None:
    data = write(pairs)
    shorter = cut(data, needle(key.encode()))
    if shorter is not None:
        assert dict(read(shorter)) == dict(pairs)
        assert {each for each, _ in read(shorter)} == {each for each, _ in pairs}


def test_several_are_cut_but_the_last() -> None:
    pairs = [("A", "0"), ("X", "1"), ("B", "b"), ("X", "2"), ("X", "3"), ("C", "c"), ("X", "4")]
    assert cut(write(pairs), needle(b"X")) == write([("A", "0"), ("B", "b"), ("C", "c"), ("X", "4")])


# -- what is published


@given(st.lists(st.tuples(PAIRS, st.integers(1, 3)), min_size=1, max_size=8))
def test_events_of_freeswitch(sequence: list[tuple[Pairs, int]]) -> None:
    one = encoder()
    for line in (1, 2, 3):
        learned(one, "CHANNEL_STATE", line)
    for pairs, line in sequence:
        if any(count > 1 for count in Counter(key for key, _ in pairs).values()):
            continue  # it would be found the next time only, as another test has it
        others = [each for each in pairs if each[0] not in ("Event-Subclass", "_body")]
        check(one, head("CHANNEL_STATE", line=line) + others)


@given(PAIRS, st.booleans())
def test_events_of_a_client(pairs: Pairs, placed: bool) -> None:
    """`sendevent` writes the client's headers first, then FreeSWITCH's."""
    pairs = [each for each in pairs if each[0] != "Event-Subclass"]
    own = [("Event-Subclass", "a::b"), ("Command", "sendevent CUSTOM"), *pairs, ("Event-UUID", "u")]
    check(encoder(), own + head("CUSTOM", "mod_event_socket.c") if placed else head("CUSTOM") + own)


@given(PAIRS, st.sampled_from(["switch_cpp.cpp", "mod_dptools.c", "mod_sms.c", "unknown.c"]))
def test_events_of_scripts_are_each_looked_at(pairs: Pairs, file: str) -> None:
    one = encoder()
    for _ in range(LEARNED + 5):
        check(one, [*head("MESSAGE" if file == "unknown.c" else "CUSTOM", file), ("Event-Subclass", "a::b")])
    check(one, [*head("MESSAGE" if file == "unknown.c" else "CUSTOM", file), *pairs, ("Event-Subclass", "a::b")])


def test_a_client_can_not_give_an_event_another_name_or_time() -> None:
    theirs: Pairs = [("Command", "sendevent CHANNEL_ANSWER"), ("Event-Name", "EVIL"), ("Event-Date-Timestamp", "99")]
    theirs += [("Core-UUID", "evil"), ("Event-Sequence", "99")]
    published = check(EventEncoder("fs", "node", ids=True), theirs + head("CHANNEL_ANSWER", "mod_event_socket.c"))
    assert published.msg_id == b"core.5", "else a stream would take a true event for a copy of this one"
    assert (published.name, published.subject) == ("CHANNEL_ANSWER", b"fs.events.channel.answer")
    assert json.loads(published.payload)["timestamp"] == STAMP


@pytest.mark.parametrize("where", range(1, 4))
def test_a_body_is_found(where: int) -> None:
    """FreeSWITCH writes it last; what a client calls so is taken for one as well."""
    one = encoder()
    learned(one, "BACKGROUND_JOB")
    check(one, [*head("BACKGROUND_JOB"), ("B", ["2", "3"]), ("Content-Length", "5"), ("_body", 'a","b":"c')])
    check(one, [*head("BACKGROUND_JOB"), ("_body", "")])
    theirs = [("Command", "sendevent NAT"), ("A", "1"), ("Event-UUID", "u"), *head("NAT")]
    check(one, [*theirs[:where], ("_body", "x"), *theirs[where:]])


def test_a_uuid_that_has_to_be_decoded() -> None:
    one = encoder()
    learned(one, "CHANNEL_STATE")
    for unique in ('a"b', "a\\", ["a", "b"]):
        published = check(one, [*head("CHANNEL_STATE"), ("Unique-ID", unique)])
        assert json.loads(published.payload)["uuid"] == unique


def slow_ways(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    ways: list[bytes] = []
    whole = EventEncoder.slow

    def noted(self: EventEncoder, event: RawEvent) -> Published:
        ways.append(event.data)
        return whole(self, event)

    monkeypatch.setattr(EventEncoder, "slow", noted)
    return ways


def looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How often all keys of an event were looked at."""
    count = [0]

    def noted(data: bytes) -> list[bytes]:
        count[0] += 1
        return doubled(data)

    monkeypatch.setattr(module, "doubled", noted)
    return count


HANGUP: Pairs = [("Unique-ID", "u"), ("Hangup-Cause", "NORMAL_CLEARING"), ("variable_x", "1"), ("Hangup-Cause", "BUSY")]


def test_what_is_doubled_always_is_cut_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    ways, count, one = slow_ways(monkeypatch), looks(monkeypatch), encoder()
    for _ in range(10 * SAMPLE):
        check(one, head("CHANNEL_HANGUP_COMPLETE") + HANGUP)
    assert not ways and count[0] < 2 * LEARNED + 30


def test_most_events_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    count, one = looks(monkeypatch), encoder()
    for _ in range(LEARNED + 10 * SAMPLE):
        check(one, [*head("CHANNEL_STATE"), ("Unique-ID", "u")])
    assert count[0] == LEARNED + 10


def test_what_is_doubled_at_times_is_learned() -> None:
    """Of 64 events in a row one is looked at; from then on each is mended."""
    one = encoder()
    for _ in range(LEARNED):
        check(one, [*head("CODEC"), ("Unique-ID", "u")])
    pairs = [*head("CODEC"), ("Codec", "a"), ("Codec", "b")]
    published = [one.encode(RawEvent(write(pairs))) for _ in range(SAMPLE + 1)]
    once(published[-1].payload)
    for _ in range(3):
        check(one, pairs)


def test_places_are_told_apart() -> None:
    """The same name from another place in FreeSWITCH's code has other keys."""
    one = encoder()
    for _ in range(LEARNED + 1):
        check(one, [*head("CODEC", line=1), ("Unique-ID", "u")])
    check(one, [*head("CODEC", line=2), ("Codec", "a"), ("Codec", "b")])


def test_columns_of_presence_data_may_name_a_variable_twice() -> None:
    """The channel variable presence_data_cols=foo:foo makes two headers PD-foo in each event of that channel."""
    columns: Pairs = [("Presence-Data-Cols", "foo:foo"), ("PD-foo", "1"), ("PD-foo", "1")]
    one = encoder()
    for name in ("CHANNEL_CREATE", "CHANNEL_STATE"):
        for _ in range(LEARNED + 1):
            check(one, [*head(name), ("Unique-ID", "u")])
    check(one, [*head("CHANNEL_CREATE"), ("Unique-ID", "v"), *columns])
    check(one, [*head("CHANNEL_STATE"), ("Unique-ID", "v"), *columns])
    assert not any(b"PD-" in each for kind in one.kinds.values() for each in kind.doubles), "they are not of the place"


def test_what_is_learned_has_a_bound() -> None:
    one = EventEncoder("fs", "node", most_kinds=5)
    for number in range(40):
        keys: Iterable[str] = (f"K{number}-{each}" for each in range(3))
        check(one, head("CODEC", line=number % 10) + [(key, value) for key in keys for value in "ab"])
    assert len(one.kinds) == 5
    assert all(len(kind.doubles) <= module.MAX_DOUBLES for kind in one.kinds.values())
