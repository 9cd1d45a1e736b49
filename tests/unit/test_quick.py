"""What is compiled does the same as the Python beside it, whatever comes, and keeps nothing."""

from __future__ import annotations

import ast
import gc
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent import quick
from event_agent.drivers.base import Message
from event_agent.drivers.nats.acks import is_plain_ack
from event_agent.drivers.nats.events import NatsEvents
from event_agent.drivers.nats.jetstream import JetStream
from event_agent.drivers.nats.lines import Lines
from event_agent.drivers.nats.sender import NatsSender
from event_agent.drivers.nats.wire import SHORT, Operation, Stored, WireReader
from event_agent.drivers.outbox import Outbox, Outgoing
from event_agent.errors import LinkError
from event_agent.freeswitch.frames import EVENT, Frame, FrameReader
from event_agent.protocol.carried import Carried, carried
from event_agent.protocol.events import BadEvent, Cut, EventEncoder, Published
from event_agent.protocol.raw_event import RawEvent
from tests.fuzz.mutator import damaged

RECORDINGS = sorted((Path(__file__).parent.parent / "fixtures" / "event-socket").glob("*.txt"))
INBOX = b"_INBOX.abc."
T = TypeVar("T")


@contextmanager
def plain() -> Iterator[None]:
    """Python alone."""
    kept, quick.compiled = quick.compiled, None
    try:
        yield
    finally:
        quick.compiled = kept


def both(run: Callable[[], T]) -> tuple[T, T]:
    """What it gives compiled, and plain."""
    compiled = run()
    with plain():
        return compiled, run()


def streams() -> list[bytes]:
    """What FreeSWITCH sent in each recording."""
    return [
        b"".join(ast.literal_eval(line[4:]) for line in path.read_text().splitlines() if line.startswith("<<< b"))
        for path in RECORDINGS
    ]


def recorded() -> list[bytes]:
    """The bodies of all recorded events, as they came."""
    return [frame.body for stream in streams() for frame in FrameReader().feed(stream) if frame.head is EVENT]


STREAMS, EVENTS = streams(), recorded()


def test_it_is_there() -> None:
    assert quick.compiled is not None, "event_agent._quick is not built, or EVENT_AGENT_PLAIN is set"
    assert len(EVENTS) > 20


# -- the event socket


def frames(data: bytes, marks: list[int]) -> tuple[list[Frame], int, int, str]:
    """What a reader gives that gets `data` cut there, what it waits for, and why it ended."""
    reader, found, why = FrameReader(), [], ""
    try:
        for start, end in zip([0, *marks], [*marks, len(data)], strict=True):
            found += reader.feed(data[start:end])
    except LinkError as error:
        why = str(error)
    return found, reader.held, reader.need, why


@pytest.mark.parametrize("seed", range(300))
def test_frames(seed: int) -> None:
    rng = random.Random(seed)
    data = b"".join(
        b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (len(event), event)
        for event in rng.sample(EVENTS, rng.randrange(4))
    ) + rng.choice(STREAMS)[: rng.randrange(20000)]
    if seed % 3:
        data = damaged(rng, data, STREAMS)
    marks = sorted(rng.randrange(len(data) + 1) for _ in range(rng.randrange(6)))
    compiled, python = both(lambda: frames(data, marks))
    assert compiled == python
    assert all((a.head is EVENT) == (b.head is EVENT) for a, b in zip(compiled[0], python[0], strict=True))


# -- what is published


def told(published: Published | Cut | BadEvent) -> tuple[Any, ...]:
    if isinstance(published, BadEvent):
        return (str(published),)
    return published.name, published.subject, published.payload, published.size, published.msg_id


def encoded(reads: list[list[bytes]], ids: bool, chosen: Carried | None = None) -> list[Any]:
    """All that an encoder gives and learns of these reads."""
    encoder, found = EventEncoder("fs", "node é", ids), []
    encoder.carried = chosen
    for read in reads:
        events = [RawEvent(data) for data in read]
        found += [told(each) for each in encoder.encode_all(events)]
        found += [(event.unique or b"", event.uuid) for event in events]
    kinds = [(key, kind.unseen, kind.learned, kind.doubles) for key, kind in encoder.kinds.items()]
    return [*found, kinds]


def like(rng: random.Random, event: bytes) -> bytes:
    """An event of the same kind, with something of its own."""
    new = b'"Event-Sequence":"%d"' % rng.randrange(10**9)
    at = event.find(b'"Event-Sequence":"')
    changed = event[:at] + new + event[event.find(b'"', at + 18) + 1 :]
    extra = rng.choice((
        b"", b"", b',"variable_x":"y"', b',"variable_x":"\\"y"', b',"_body":"b"', b',"Hangup-Cause":"A"',
        b',"x":"\xc3\xa9"', b',"x":"\xff"', b',"Unique-ID":"other"', b',"Presence-Data-Cols":"a:b"',
        b',"_body', b',"', b'","', b'"', b",",
    ))  # fmt: skip
    return changed[:-1] + extra + b"}"


@pytest.mark.parametrize("ids", (False, True), ids=("at most once", "at least once"))
@pytest.mark.parametrize("seed", range(60))
def test_what_is_published(seed: int, ids: bool) -> None:
    """Of a few kinds so many that all is learned and looked at again, and damaged ones in between."""
    rng = random.Random(seed)
    kinds = rng.sample(EVENTS, 4)
    reads = [[like(rng, rng.choice(kinds)) for _ in range(rng.randrange(60))] for _ in range(12)]
    reads += [[damaged(rng, event, EVENTS) if rng.random() < 0.3 else event for event in read] for read in reads]
    compiled, python = both(lambda: encoded(reads, ids))
    assert compiled == python


FIELDS = (
    "*", "Caller-*", "C*", "v*", "variable_*", "variable_s*", "variable_sip_h_*", "none", "Call-Direction",
    "Caller-ANI", "variable_x", "x", "Caller-Caller-ID-*", "Channel-*", "Answer-State", "Event-Date-Loca",
    "Event-Date-Locals", "(",
)  # fmt: skip
WITHIN = (
    b"", b"", b"", b"", b"", b',"Caller-X":"a\\"', b',"Caller-X":"\\\"b"', b',"variable_x":["a","b\\"]',
    b',"variable_x":[]', b',"variable_s\"":"x"', b',"":"x"', b',"C":""', b',"Caller-":"}"', b',"variable_":"]"',
    b',"X":["a",]', b',"X":["a""b"]', b',"X":7', b',"X":{"Caller-X":"y"}', b',"X":[["a"]]', b',"X":"a":"b"',
    b',"X" :"b"', b',"X\\":"b"', b',"X":"', b',"X":"a"|"Caller-X":"b"', b',"Caller-X"|"b"',
)  # fmt: skip
VARIABLES = ("*", "none", "x", "s*", "sip_*", "sip_call_id", "direction", "uuid", "u*", "event_agent_*")


@pytest.mark.parametrize("seed", range(120))
def test_what_is_published_of_chosen_headers(seed: int) -> None:
    """The same, and a header of its own somewhere in each event."""
    rng = random.Random(seed)
    chosen = carried(tuple(rng.sample(FIELDS, rng.randrange(6))), tuple(rng.sample(VARIABLES, rng.randrange(4))))
    kinds = rng.sample(EVENTS, 4)

    def event() -> bytes:
        made = like(rng, rng.choice(kinds))
        places = [at for at in range(len(made)) if made.startswith(b',"', at)]
        at = rng.choice(places[len(places) // 4 :] or [1])
        return made[:at] + rng.choice(WITHIN) + made[at:]

    reads = [[event() for _ in range(rng.randrange(60))] for _ in range(8)]
    reads += [[damaged(rng, event, EVENTS) if rng.random() < 0.3 else event for event in read] for read in reads]
    compiled, python = both(lambda: encoded(reads, False, chosen))
    assert compiled == python


@pytest.mark.parametrize("chosen", [None, Carried(("Caller-*", "Call-Direction"), ("none",)), Carried((), ("sip_*",))])
def test_most_of_what_comes_is_published_by_what_is_compiled(chosen: Carried | None) -> None:
    """Or it would be compiled for nothing: of a kind that is known, 63 of 64."""
    assert quick.compiled is not None
    (event,) = [each for each in EVENTS if b'"CHANNEL_CREATE"' in each][:1]
    encoder = EventEncoder("fs", "n1")
    encoder.carried = chosen
    encoder.encode_all([RawEvent(event)] * 16)
    counted: list[int] = []
    kept = quick.compiled

    class Counting:
        def cuts(self, *args: Any) -> int:
            at = kept.cuts(*args)
            counted.append(at - args[1])
            return at

    quick.compiled = Counting()  # type: ignore[assignment]
    try:
        encoder.encode_all([RawEvent(event)] * 640)
    finally:
        quick.compiled = kept
    assert sum(counted) == 630


# -- NATS


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=2 * SHORT), st.lists(st.binary(), max_size=4)), max_size=5))
def test_messages_of_events(given_events: list[tuple[bytes, list[bytes]]]) -> None:
    """What goes to the sender, in pieces."""
    events = [
        Cut("X", subject, tuple(parts), sum(map(len, parts)), b"", b"".join(parts)) for subject, parts in given_events
    ]
    events += [Published("X", event.subject, event.payload) for event in events]  # type: ignore[misc]

    class Client:
        """Takes all."""

        def __init__(self) -> None:
            self.written = b""
            self.pings = self

        def sent(self) -> None: ...
        def hand_over(self, write: object) -> None: ...

        def send_now(self, data: bytes) -> int:
            self.written += data
            return len(data)

    def written() -> tuple[int, bytes]:
        sender, client = NatsSender(1 << 20, lambda number, lost: None), Client()
        sender.attach(client, 1 << 20)  # type: ignore[arg-type]
        return NatsEvents(sender, Lines()).offer(events), client.written.replace(b"PING\r\n", b"", 1)

    compiled, python = both(written)
    assert compiled == python


@given(
    st.lists(st.tuples(st.binary(max_size=30), st.binary(max_size=30), st.binary()), max_size=5),
    st.sampled_from(("", "EVENTS")),
)
def test_messages_to_a_stream(given_events: list[tuple[bytes, bytes, bytes]], stream: str) -> None:
    def taken() -> list[bytes]:
        box = Outbox(1 << 20)
        box.offer([Outgoing(subject, name, (b"{", body, b"}")) for subject, name, body in given_events])
        states = JetStream(box, stream, "fs.>", 100, 5.0)
        states.linked(0.0)
        states.tick(100.0)  # nobody answers: send all the same
        return states.take(INBOX, 0.0)

    compiled, python = both(taken)
    assert compiled == python and len(compiled) == len(given_events)


BLANKS = st.sampled_from((b" ", b"  "))
ACKS = st.sampled_from((
    b'{"stream":"EVENTS", "seq":7}', b'{"stream":"E","seq":12345678901234567890}',
    b'{"stream":"E","seq":123456789012345678901}',
    b'{"stream":"E", "seq":7, "domain":"d"}', b'{"stream":"E", "seq":7,"duplicate": true}', b'{"stream":"", "seq":7}',
    b'{"stream":"\\"", "seq":7}', b'{"stream":"' + b"x" * 256 + b'", "seq":7}', b'{"stream":"E", "seq":}', b"", b"}",
    b'{"error":{"code":503,"err_code":10077}}', b'{"stream":"E", "seq":7}}', b'{"stream":"E", "seq":-7}',
))  # fmt: skip


@st.composite
def wires(draw: st.DrawFn) -> bytes:
    """One operation of a server, as it comes; now and then not quite."""
    subject = draw(st.sampled_from((INBOX + b"17", INBOX + b"9" * 19, INBOX + b"x", INBOX, b"fs.api", b"a\rb")))
    reply = draw(st.sampled_from((b"", b"_INBOX.r", b"r\xff")))
    data = draw(ACKS | st.binary(max_size=40))
    size = draw(st.sampled_from((b"%d", b"%d", b"%d", b"%d", b"%06d", b"%09d", b"-%d"))) % len(data)
    sid = b"%d" % draw(st.integers(0, 10**19))
    fields = draw(BLANKS).join((b"MSG", subject, sid, *([reply] if reply else []), size))
    others = b"PONG\r\n", b"PING\r\n", b"-ERR 'x'\r\n"
    made: bytes = draw(st.sampled_from((fields + b"\r\n" + data + b"\r\n",) * 6 + others))
    return made


def operations(data: bytes, marks: list[int], inbox: bytes) -> tuple[list[Operation], str]:
    reader, found, why = WireReader(), [], ""
    reader.stored = Stored(inbox, lambda tickets: None)
    try:
        for start, end in zip([0, *marks], [*marks, len(data)], strict=True):
            found += reader.feed(data[start:end])
    except LinkError as error:
        why = str(error)
    return found, why


@given(st.lists(wires(), max_size=8), st.lists(st.integers(0, 3000), max_size=5), st.integers(0, 10**6))
def test_messages_that_come(raw: list[bytes], cuts: list[int], seed: int) -> None:
    data, rng = b"".join(raw), random.Random(seed)
    if seed % 3 == 0:
        data = damaged(rng, data, raw or [b""], 5000)
    marks = sorted(cut % (len(data) + 1) for cut in cuts)
    compiled, python = both(lambda: operations(data, marks, b""))
    assert compiled == python
    for one, other in zip(compiled[0], python[0], strict=True):
        if isinstance(one, Message) and isinstance(other, Message):
            assert (one.subscription, one.carried) == (other.subscription, other.carried)
    # With an inbox, what says that it is stored may come as a number; all else comes as before, all in its order.
    found, why = operations(data, marks, INBOX)
    flat = [each for one in found for each in (one if isinstance(one, list) else [one])]
    assert why == python[1] and len(flat) == len(python[0])
    for got, expected in zip(flat, python[0], strict=True):
        if isinstance(got, int):
            assert isinstance(expected, Message) and is_plain_ack(expected.data) and not expected.headers
            assert expected.subject == INBOX + b"%d" % got
        else:
            assert got == expected


def test_what_is_stored_comes_as_numbers() -> None:
    """In the forms in which servers say so; what is a duplicate, or has something else to say, as a message."""
    usual = b"MSG _INBOX.abc.%d 7 24\r\n" + b'{"stream":"E", "seq":77}\r\n'
    double = b"MSG _INBOX.abc.5 7  24\r\n" + b'{"stream":"E", "seq":77}\r\n'
    other = b"MSG _INBOX.abc.6 7 42\r\n" + b'{"stream":"E", "seq":77,"duplicate": true}\r\n'
    found, _ = operations(usual % 1 + usual % 2 + double + b"PONG\r\n" + usual % 3 + other + usual % 4, [], INBOX)
    assert found[0] == [1, 2, 5] and found[2] == [3] and found[4] == [4]
    assert isinstance(found[3], Message) and found[3].subject == INBOX + b"6"


# -- nothing stays behind


def test_nothing_is_kept() -> None:
    """As many references as before, to all that is shared; and no object more."""
    assert quick.compiled is not None
    event = next(each for each in EVENTS if b'"CHANNEL_CREATE"' in each)
    encoder = EventEncoder("fs", "n1", ids=True)
    learned = encoder.encode_all([RawEvent(event)] * 200)[-1]
    few = EventEncoder("fs", "n1")
    few.carried = Carried(("Caller-*", "Call-Direction"), ("none",))
    few.encode_all([RawEvent(event)] * 200)
    odd = [RawEvent(event[:-1] + each + b"}") for each in (b"", b',"X":7', b',"X":["a', b',"X":"')]
    assert isinstance(learned, Cut)
    stream = b"Content-Length: %d\nContent-Type: text/event-json\n\n%b" % (len(event), event)
    lines = b"MSG a.b 1 r 2\r\n{}\r\nMSG _INBOX.abc.5 7 24\r\n" + b'{"stream":"E", "seq":77}\r\n'
    shared: list[object] = [event, EVENT, Frame, Cut, None, INBOX, b"", *learned.parts[2:5:2], *encoder.kinds.values()]
    shared += [part for kind in encoder.kinds.values() for part in (kind.head, kind.subject, kind.name)]
    shared += [part for names in few.carried.rules for part in (names, *names)] + list(few.kinds.values())

    def run() -> None:
        for _ in range(50):
            found: list[Any] = encoder.encode_all([RawEvent(event)] * 20)
            few.encode_all([RawEvent(event)] * 20 + odd)
            quick.compiled.pubs(found, SHORT)  # type: ignore[union-attr]
            quick.compiled.pubs([("X", b"s" * 999, b"")], SHORT)  # type: ignore[union-attr]
            out = [(at, Outgoing(each.subject, each.msg_id, each.parts)) for at, each in enumerate(found)]
            quick.compiled.hpubs(out, INBOX, b"")  # type: ignore[union-attr]
            FrameReader().feed(stream * 5 + stream[:99])
            operations(lines * 5 + lines[:9], [], INBOX)

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in shared]

    run()
    tracemalloc.start()
    run()
    gc.collect()
    before, blocks, (size, _) = counts(), sys.getallocatedblocks(), tracemalloc.get_traced_memory()
    run()
    gc.collect()
    after, more = counts(), tracemalloc.get_traced_memory()[0] - size
    tracemalloc.stop()
    assert [b - a for a, b in zip(before, after, strict=True) if abs(b - a) > 20] == []
    assert sys.getallocatedblocks() - blocks < 500 and more < len(event) * 25, "50 rounds of it"


@pytest.mark.parametrize("call", [
    lambda c: c.frames(b"", 0), lambda c: c.frames("", 0, [], Frame, EVENT), lambda c: c.frames(b"", 0, [], int, EVENT),
    lambda c: c.frames(b"", 0, (), Frame, EVENT), lambda c: c.frames(b"", "x", [], Frame, EVENT),
    lambda c: c.cuts([], 0, [], {}, 0, "", False, Cut, None), lambda c: c.cuts({}, 0, [], {}, 0, b"", False, Cut, None),
    lambda c: c.cuts([7], 0, [], {}, 1, b"", False, Cut, None), lambda c: c.cuts([], 0, [], {}, 0, b"", False, Cut),
    lambda c: c.cuts([], 0, [], {}, 0, b"", False, Cut, ()),
    lambda c: c.cuts([], 0, [], {}, 0, b"", False, Cut, [(), (), (), ()]),
    lambda c: c.cuts([], 0, [], {}, 0, b"", False, Cut, ((), (), (), 7)),
    lambda c: c.cuts([], 0, [], {}, 0, b"", False, Cut, ((), (b"x", "y"), (), ())),
    lambda c: c.limit_arenas("x"), lambda c: c.limit_arenas(-1), lambda c: c.pubs(7, 1), lambda c: c.pubs([], "x"),
    lambda c: c.hpubs([7], b"", b""), lambda c: c.hpubs([(1, 7)], b"", b""), lambda c: c.hpubs([(1, 2, 3)], b"", b""),
    lambda c: c.hpubs([("x", Outgoing(b"", b"", ()))], b"", b""),
    lambda c: c.hpubs([(-1, Outgoing(b"", b"", ()))], b"", b""),
    lambda c: c.messages(b"", 0, [], 7, b""), lambda c: c.messages(b"MSG a 1 0\r\n\r\n", 0, [], int, b""),
])  # fmt: skip
def test_a_slip_of_the_caller_is_an_error(call: Callable[[Any], object]) -> None:
    with pytest.raises((TypeError, AttributeError)):
        call(quick.compiled)


def test_large_numbers() -> None:
    """Tickets only grow; and what is far out of bounds is given up."""
    assert quick.compiled is not None
    for ticket in (2**31 - 1, 2**31, 2**32, 10**18 - 1):
        (message,) = quick.compiled.hpubs([(ticket, Outgoing(b"s", b"i", (b"p",)))], INBOX, b"")
        assert message.startswith(b"HPUB s _INBOX.abc.%d 28 29\r\n" % ticket)
    event = RawEvent(b'{"Event-Name":"CHANNEL_CREATE","Core-UUID":"ab-cd"}')
    for far in (-1, 10**6, sys.maxsize):
        assert quick.compiled.cuts([event], 0, [], {}, far, b"", False, Cut, None) == 0


def test_an_event_on_its_way_out_has_its_parts_where_they_are_looked_for() -> None:
    parts = (b"p", b"q")
    assert Cut("X", b"s", parts, 2, b"", b"")[1:3] == (b"s", parts)
    assert list(Cut.__annotations__)[1:3] == ["subject", "parts"]
    assert list(Published.__annotations__)[1:3] == ["subject", "payload"]


def test_without_it_all_goes_another_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quick, "compiled", None)
    encoder = EventEncoder("fs", "n1")
    assert all(isinstance(each, (Cut, Published)) for each in encoder.encode_all([RawEvent(each) for each in EVENTS]))
