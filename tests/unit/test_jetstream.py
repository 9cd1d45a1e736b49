"""Events into a stream, acknowledged: the states, what is sent again, what is given up, and all of it at random."""

from __future__ import annotations

import json
import random
import re
from typing import Any

import pytest

from event_agent.drivers.nats.acks import is_plain_ack, read_ack
from event_agent.drivers.nats.jetstream import (
    AGAIN,
    ASK,
    INFO,
    NAMES,
    PAUSE_FIRST,
    JetStream,
    StreamState,
    covers,
)
from event_agent.drivers.outbox import Outbox, Outgoing

STORED = b'{"stream":"events", "seq":%d}'
HPUB = re.compile(rb"HPUB (\S+) inbox\.(\d+) (\d+) (\d+)\r\n")


def events(first: int, count: int, payload: bytes = b"{}") -> list[Outgoing]:
    parts = (payload,)
    return [Outgoing(b"fs.events.x", b"core.%d" % number, parts, born=1.0) for number in range(first, first + count)]


def error(code: int, text: str = "refused") -> bytes:
    return json.dumps({"error": {"code": 500, "err_code": code, "description": text}, "stream": "events"}).encode()


def sent(stream: JetStream, now: float = 0.0) -> list[tuple[int, bytes, bytes]]:
    """What it gives to be written: ticket, message id, payload; the wire format is checked on the way."""
    found: list[tuple[int, bytes, bytes]] = []
    while messages := stream.take(b"inbox.", now):
        for data in messages:
            match = HPUB.match(data)
            assert match
            head, total = int(match[3]), int(match[4])
            block = data[match.end() : match.end() + total]
            assert data[match.end() + total :] == b"\r\n" and block[:head].endswith(b"\r\n\r\n")
            identity = re.search(rb"Nats-Msg-Id: (\S+)\r\n", block[:head])
            assert identity and block.startswith(b"NATS/1.0\r\n")
            found.append((int(match[2]), identity[1], block[head:]))
    return found


def ready(box: Outbox | None = None, wanted: str = "", **config: Any) -> tuple[JetStream, Outbox]:
    box = box or Outbox(1_000_000)
    stream = JetStream(box, wanted, "fs.events.>", 100, 5.0)
    assert stream.linked(0.0) == (NAMES, b'{"subject": "fs.events.>"}')
    assert stream.answered(b'{"streams":["events"]}', b"", 0.0) == (INFO + b"events", b"")
    assert stream.answered(json.dumps({"config": config}).encode(), b"", 0.0) is None
    assert stream.status.state is StreamState.READY and stream.status.stream == "events"
    return stream, box


def test_events_are_sent_when_a_stream_is_known_and_gone_when_acknowledged() -> None:
    box = Outbox(1_000_000)
    stream = JetStream(box, "", "fs.events.>", 100, 5.0)
    box.offer(events(0, 3, b'{"a":1}'))
    assert sent(stream) == []
    stream.linked(0.0)
    assert sent(stream) == [] and stream.status.state is StreamState.CHECKING
    stream.answered(b'{"streams":["events"]}', b"", 0.0)
    stream.answered(b'{"config":{"duplicate_window":120000000000}}', b"", 0.0)
    assert stream.window == 120.0
    out = sent(stream)
    assert [(identity, payload) for _, identity, payload in out] == [(b"core.%d" % n, b'{"a":1}') for n in range(3)]
    assert stream.acks([(ticket, STORED % 1, b"") for ticket, _, _ in out], 0.0) is None
    assert box.pending == 0 and box.acknowledged == 3


def test_the_stream_that_must_take_them_is_named_in_each() -> None:
    stream, box = ready(wanted="events")
    box.offer(events(0, 1))
    (data,) = stream.take(b"inbox.", 0.0)
    assert b"Nats-Expected-Stream: events\r\n" in data


@pytest.mark.parametrize(
    ("answer", "headers", "why"),
    [
        (b'{"streams":null,"total":0}', b"", "no stream takes fs.events.>"),
        (b"", b"NATS/1.0 503\r\n\r\n", "the server has no JetStream"),
        (error(10039, "jetstream not enabled for account"), b"", "not enabled for account"),
        (b"garbage", b"", "can't be read"),
        (b"[]", b"", "can't be read"),
        (b'{"streams":7}', b"", "no stream takes"),
    ],
)
def test_without_a_stream_events_wait_and_it_is_looked_for_again(answer: bytes, headers: bytes, why: str) -> None:
    box = Outbox(1_000_000)
    stream = JetStream(box, "", "fs.events.>", 100, 5.0)
    box.offer(events(0, 2))
    stream.linked(0.0)
    assert stream.answered(answer, headers, 1.0) is None
    assert stream.status.state is StreamState.NO_STREAM and why in stream.status.reason
    assert sent(stream) == [] and stream.tick(1.0 + AGAIN - 0.1) is None
    question = stream.tick(1.0 + AGAIN)
    assert question and question[0] == NAMES
    stream.answered(b'{"streams":["events"]}', b"", 7.0)
    stream.answered(b"{}", b"", 7.0)
    assert len(sent(stream)) == 2


def test_another_stream_than_the_one_that_must_take_them_will_not_do() -> None:
    stream = JetStream(Outbox(1000), "mine", "fs.events.>", 100, 5.0)
    stream.linked(0.0)
    stream.answered(b'{"streams":["theirs"]}', b"", 0.0)
    assert stream.status.state is StreamState.NO_STREAM and "no stream mine takes" in stream.status.reason


def test_a_stream_that_does_not_acknowledge_will_not_do() -> None:
    stream = JetStream(Outbox(1000), "", "fs.events.>", 100, 5.0)
    stream.linked(0.0)
    stream.answered(b'{"streams":["events"]}', b"", 0.0)
    stream.answered(b'{"config":{"no_ack":true}}', b"", 0.0)
    assert stream.status.state is StreamState.NO_STREAM and "does not acknowledge" in stream.status.reason


@pytest.mark.parametrize(
    ("subjects", "fault"),
    [
        (["fs.events.>", "fs.cdr.>"], ""), (["fs.>"], ""), (["fs.*.>"], ""), ([">"], ""), ([], ""), (None, ""),
        (["fs.events.>"], "stream events does not take fs.cdr.>"),
        (["fs.events.>", "fs.cdr.*"], "stream events does not take fs.cdr.>"),
        (["fs.events.channel.>", "fs.cdr.>"], "stream events does not take fs.events.>"),
    ],
)
def test_a_stream_that_takes_a_part_of_the_subjects_will_not_do(subjects: object, fault: str) -> None:
    """What no stream takes would be asked for again and again, and hold up all that follows."""
    stream = JetStream(Outbox(1000), "", "fs.events.>", 100, 5.0, records="fs.cdr.>")
    stream.linked(0.0)
    stream.answered(b'{"streams":["events"]}', b"", 0.0)
    stream.answered(json.dumps({"config": {"subjects": subjects}}).encode(), b"", 0.0)
    assert stream.status.reason == fault
    assert stream.status.state is (StreamState.NO_STREAM if fault else StreamState.READY)


@pytest.mark.parametrize(
    ("pattern", "other", "does"),
    [
        ("a.b", "a.b", True), ("a.b", "a.c", False), ("a", "a.b", False), ("a.b", "a", False), ("a.>", "a.b.c", True),
        ("a.>", "a", False), ("a.>", "a.>", True), ("a.*", "a.>", False), ("a.*", "a.b", True), ("a.*", "a.*", True),
        ("a.b", "a.*", False), ("*.b", "a.b", True), (">", "a.>", True), ("a.*.>", "a.>", False),
    ],
)
def test_which_patterns_hold_others(pattern: str, other: str, does: bool) -> None:
    assert covers(pattern, other) is does


def test_who_may_not_ask_sends_all_the_same() -> None:
    box = Outbox(1_000_000)
    stream = JetStream(box, "", "fs.events.>", 100, 5.0)
    box.offer(events(0, 1))
    stream.linked(0.0)
    assert stream.tick(ASK - 0.1) is None and sent(stream) == []
    stream.tick(ASK)
    assert len(sent(stream)) == 1


def test_at_most_so_many_are_under_way() -> None:
    stream, box = ready()
    box.offer(events(0, 250))
    out = sent(stream)
    assert len(out) == 100 and box.under_way == 100
    stream.acks([(ticket, STORED % 1, b"") for ticket, _, _ in out[:30]], 0.0)
    assert len(sent(stream)) == 30


def test_at_most_so_many_bytes_are_under_way() -> None:
    stream, box = ready(Outbox(100_000_000))
    box.offer(events(0, 100, b"x" * 200_000))
    assert len(sent(stream)) < 60


def test_a_lost_link_sends_again_what_was_not_acknowledged_in_order() -> None:
    stream, box = ready()
    box.offer(events(0, 5))
    out = sent(stream)
    stream.acks([(out[1][0], STORED % 1, b"")], 0.0)
    stream.unlinked()
    assert sent(stream) == [] and stream.status.state is StreamState.DOWN
    stream.acks([(out[0][0], STORED % 2, b"")], 0.0)  # too late: it counts for nothing
    stream.linked(0.0)
    stream.answered(b'{"streams":["events"]}', b"", 0.0)
    stream.answered(b"{}", b"", 0.0)
    assert [identity for _, identity, _ in sent(stream)] == [b"core.0", b"core.2", b"core.3", b"core.4"]
    assert box.again == 4


def test_no_acknowledgement_in_time_looks_at_the_stream_and_sends_again() -> None:
    stream, box = ready()
    box.offer(events(0, 2))
    sent(stream, 10.0)
    assert stream.tick(14.9) is None
    question = stream.tick(15.1)
    assert question and question[0] == NAMES and "no acknowledgement within 5 s" in stream.status.reason
    stream.answered(b'{"streams":["events"]}', b"", 15.2)
    stream.answered(b"{}", b"", 15.2)
    assert len(sent(stream, 15.2)) == 2


def test_an_error_that_passes_pauses_longer_each_time_and_sends_again() -> None:
    stream, box = ready()
    box.offer(events(0, 2))
    pauses = []
    now = 0.0
    for _ in range(3):
        out = sent(stream, now)
        assert len(out) == 2
        stream.acks([(ticket, error(10023), b"") for ticket, _, _ in out], now)
        assert stream.status.state.name == "PAUSED" and "(10023)" in stream.status.reason
        began = now
        while stream.status.state.name == "PAUSED" and now < 100.0:
            now += 0.05
            stream.tick(now)
        pauses.append(now - began)
    assert PAUSE_FIRST <= pauses[0] < pauses[1] < pauses[2] and box.pending == 2
    stream.acks([(ticket, STORED % 1, b"") for ticket, _, _ in sent(stream, now)], now)
    assert box.pending == 0 and not box.lost


@pytest.mark.parametrize("code", [10003, 10059, 10060, 10076, 99999])
def test_an_error_that_stays_after_a_look_at_the_stream_ends_the_event_and_is_counted(code: int) -> None:
    stream, box = ready()
    box.offer(events(0, 1))
    question = stream.acks([(sent(stream)[0][0], error(code, "no"), b"")], 0.0)
    assert question and question[0] == NAMES
    stream.answered(b'{"streams":["events"]}', b"", 0.0)
    stream.answered(b"{}", b"", 0.0)
    assert stream.acks([(sent(stream)[0][0], error(code, "no"), b"")], 0.0) is None
    assert box.pending == 0 and box.acknowledged == 0
    assert box.lost == {"refused by the stream": 1} and stream.counters.given_up == {f"no ({code})": 1}
    box.offer(events(1, 1))
    assert len(sent(stream)) == 1, "the next one has its own chance"


def test_nobody_there_waits_for_a_stream_and_ends_no_event() -> None:
    stream, box = ready()
    box.offer(events(0, 1))
    for _ in range(4):
        question = stream.acks([(sent(stream)[0][0], b"", b"NATS/1.0 503\r\n\r\n")], 0.0)
        assert question is not None
        stream.answered(b'{"streams":["events"]}', b"", 0.0)
        stream.answered(b"{}", b"", 0.0)
    assert box.pending == 1 and not box.lost


def test_what_is_too_large_for_the_stream_ends_at_once() -> None:
    stream, box = ready()
    box.offer(events(0, 2))
    out = sent(stream)
    stream.acks([(out[0][0], error(10054), b""), (out[1][0], STORED % 1, b"")], 0.0)
    assert box.pending == 0 and sum(box.lost.values()) == 1 and stream.status.state is StreamState.READY


def test_a_full_stream_that_refuses_the_new_ends_the_event() -> None:
    stream, box = ready(discard="new", max_msgs=10)
    box.offer(events(0, 1))
    stream.acks([(sent(stream)[0][0], error(10077, "maximum messages exceeded"), b"")], 0.0)
    assert box.lost and stream.status.state is StreamState.READY
    assert list(stream.counters.given_up) == ["the stream is full (discard new)"]


def test_the_same_error_of_a_stream_that_drops_the_old_passes() -> None:
    stream, box = ready(discard="old", max_msgs=10)
    box.offer(events(0, 1))
    stream.acks([(sent(stream)[0][0], error(10077, "store failed"), b"")], 0.0)
    assert not box.lost and stream.status.state is StreamState.PAUSED


@pytest.mark.parametrize(
    "data",
    [b"", b"garbage", b"[]", b"{}", b'{"stream":7,"seq":1}', b'{"stream":"a","seq":"x"}', b'{"error":{}}', b"\xff" * 99,
     b"[" * 100_000],
)  # fmt: skip
def test_acknowledgements_that_are_garbage_change_nothing_but_a_counter(data: bytes) -> None:
    stream, box = ready()
    box.offer(events(0, 1))
    (ticket, _, _), = sent(stream)
    assert not is_plain_ack(data)
    assert stream.acks([(ticket, data, b"")], 0.0) is None
    assert box.under_way == 1 and stream.counters.garbage == 1 and not box.lost
    stream.acks([(ticket, STORED % 1, b"")], 0.0)
    assert box.pending == 0


def test_an_acknowledgement_with_an_error_is_never_a_plain_one() -> None:
    assert is_plain_ack(b'{"stream":"events", "seq":5}')
    assert is_plain_ack(b'{"stream":"events","seq":5,"domain":"hub"}')
    assert is_plain_ack(b'{"stream":"events", "domain":"hub", "seq":5}')
    assert not is_plain_ack(error(10023)) and not is_plain_ack(b'{"stream":"e","seq":0,"error":{"code":1}}')
    assert not is_plain_ack(b'{"stream":"events", "seq":5, "duplicate":true}')
    assert read_ack(b'{"stream":"e", "seq":5, "duplicate":true}', b"").duplicate


@pytest.mark.parametrize("seed", range(30))
def test_at_random_every_event_is_stored_and_in_order(seed: int) -> None:
    """A server that loses links and acknowledgements, and now and then has no room.

    When it has no room it has none until we have heard of that; it would be no use to keep order otherwise.
    """
    dice = random.Random(seed)
    box = Outbox(10_000_000)
    stream = JetStream(box, "", "fs.events.>", dice.choice([3, 50]), 5.0)
    stored: dict[bytes, None] = {}
    now, number = 0.0, 0
    questions: list[tuple[bytes, bytes]] = []
    answers: list[tuple[int, bytes]] = []
    refusing = False

    def ask(question: tuple[bytes, bytes] | None) -> None:
        if question:
            questions.append(question)

    def serve(faults: bool) -> None:
        nonlocal refusing
        while questions:
            subject, _ = questions.pop(0)
            data = b'{"streams":["events"]}' if subject == NAMES else b"{}"
            if not faults or dice.random() < 0.9:
                ask(stream.answered(data, b"", now))
        for ticket, identity, _ in sent(stream, now):
            refusing = faults and (refusing or dice.random() < 0.02)
            if refusing:
                answers.append((ticket, error(10023)))
                continue
            known = identity in stored
            stored.setdefault(identity)
            data = b'{"stream":"events","seq":1,"duplicate":true}' if known else STORED % 1
            if not faults or dice.random() < 0.97:
                answers.append((ticket, data))
        while answers and (not faults or dice.random() < 0.9):
            ticket, data = answers.pop(0)
            ask(stream.acks([(ticket, data, b"")], now))
            refusing = refusing and stream.status.state is not StreamState.PAUSED

    ask(stream.linked(now))
    for _ in range(300):
        now += dice.random()
        if dice.random() < 0.5:
            batch = events(number, dice.randint(1, 20))
            number += len(batch)
            box.offer(batch)
        if dice.random() < 0.03:
            stream.unlinked()
            questions.clear()
            answers.clear()
            refusing = False
            ask(stream.linked(now))
        ask(stream.tick(now))
        serve(True)
    stream.unlinked()
    questions.clear()
    answers.clear()
    ask(stream.linked(now))
    for _ in range(1500):
        now += 1.0
        ask(stream.tick(now))
        serve(False)
    assert box.pending == 0 and not box.lost
    assert list(stored) == [b"core.%d" % each for each in range(number)], "all, once, in order"
