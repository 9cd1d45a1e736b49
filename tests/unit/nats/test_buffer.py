"""What waits to be written: order, bounds, lines between messages, and what a PONG confirms. No sockets."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.drivers.base import STOPPED, TOO_LARGE, UNCONFIRMED, Loss
from event_agent.drivers.nats.outbuffer import CHUNK, PING, REPLIES, OutBuffer
from event_agent.drivers.nats.wire import hpub, pub


def buffer(most: int = 1 << 20) -> OutBuffer:
    """One that asks for no confirmation by itself."""
    return OutBuffer(most, confirm=math.inf)


def write_all(out: OutBuffer) -> bytes:
    data = b""
    while out.size:
        piece = out.take()
        data += piece
        out.wrote(len(piece))
    return data


def test_events_in_order_and_in_bounds() -> None:
    out = buffer(100)
    events = [b"%02d" % number * 10 for number in range(8)]
    assert out.add(out.events, events) == 5, "the number of the first for which there is no room"
    assert out.add(out.events, events, 7) == 7 and out.size == 100
    assert write_all(out) == b"".join(events[:5])
    assert out.size == 0 and out.events.written == 5
    assert out.add(out.events, [b"x" * 100, b"x"]) == 1
    out.add_beyond(out.events, b"y")
    assert write_all(out) == b"x" * 100 + b"y"


def test_replies_have_room_of_their_own_and_go_first() -> None:
    out = buffer(100)
    assert out.add(out.events, [b"e" * 50, b"f" * 50, b"g"]) == 2
    assert out.add(out.replies, [b"r" * 1000] * 5000) == REPLIES // 1000
    assert out.add(out.events, [b"g"]) == 0, "and do not take that of events away for long"
    data = write_all(out)
    assert data == b"r" * (len(data) - 100) + b"e" * 50 + b"f" * 50
    assert out.add(out.events, [b"g"]) == 1


def test_lines_go_first_and_never_into_a_message() -> None:
    out = buffer()
    out.add(out.events, [b"event one"])
    out.add(out.replies, [b"reply one"])
    out.line(b"SUB a")
    out.line(b"SUB b")
    assert out.take() == b"SUB aSUB breply oneevent one"
    out.wrote(7)  # in the middle of the second line
    out.line(b"SUB c")
    assert write_all(out) == b"B bSUB creply oneevent one"


@pytest.mark.parametrize("kind", ["replies", "events"])
def test_what_is_half_written_is_finished_first(kind: str) -> None:
    out = buffer()
    out.add(getattr(out, kind), [b"message one;", b"message two;"])
    out.take()
    out.wrote(3)
    out.line(b"PONG;")
    out.line(b"SUB;")
    out.add(out.replies, [b"reply;"])
    rest = b"message two;reply;" if kind == "replies" else b"reply;message two;"
    assert write_all(out) == b"sage one;PONG;SUB;" + rest


@given(st.data())
def test_however_it_is_written(data: st.DataObject) -> None:
    """Parts of any size, lines at any time, links that are lost: messages whole, each kind in order, lines between."""
    out = buffer()
    links = [b""]
    added = {"r": 0, "e": 0}
    lines, lost = 0, 0
    steps = ["r", "e", "rs", "es", "line", "write", "write", "lose"]
    for step in data.draw(st.lists(st.sampled_from(steps), max_size=60)):
        if step[0] in "re":
            kind, queue = step[0], out.replies if step[0] == "r" else out.events
            many = 3 if step[1:] else 1
            assert out.add(queue, [b"<%b%d>" % (kind.encode(), added[kind] + more) for more in range(many)]) == many
            added[kind] += many
        elif step == "line":
            out.line(b"(l%d)" % lines)
            lines += 1
        elif step == "write" and out.size:
            piece = out.take()
            count = data.draw(st.integers(0, len(piece)))
            out.wrote(count)
            links[-1] += piece[:count]
        elif step == "lose":
            lost += out.link_lost()
            links.append(b"")
    links[-1] += write_all(out)
    seen: list[bytes] = []
    for link in links[:-1]:
        whole = link[: max(link.rfind(b">"), link.rfind(b")")) + 1]
        seen += read(whole)
    seen += read(links[-1])
    for kind in "re":
        mine = [each for each in seen if each.startswith(kind.encode())]
        assert mine == [b"%b%d" % (kind.encode(), number) for number in range(added[kind])], "each once, in order"
    total = sum(added.values())
    assert out.size == 0 and out.written == total and lost + out.unconfirmed == total, "none was confirmed"
    assert out.events.pending + out.events.settled[0] == added["e"]


def read(data: bytes) -> list[bytes]:
    """The messages; AssertionError where lines and messages are mixed."""
    found: list[bytes] = []
    while data:
        end = data.index({b"<": b">", b"(": b")"}[data[:1]])
        assert b"<" not in data[1:end] and b"(" not in data[1:end]
        if data[:1] == b"<":
            found.append(data[1:end])
        data = data[end + 1 :]
    return found


def test_a_full_buffer_is_not_copied_for_each_part() -> None:
    out = buffer(10 * CHUNK)
    messages = [b"%02d" % number * (CHUNK // 40) for number in range(50)]
    out.add(out.events, messages)
    assert CHUNK <= len(out.take()) < CHUNK + len(messages[0])
    assert write_all(out) == b"".join(messages)
    assert out.events.written == 50


def test_a_pong_confirms_what_was_written_before_its_ping() -> None:
    out = buffer()
    out.add(out.events, [b"x"] * 2)
    out.add(out.replies, [b"x"])
    write_all(out)
    assert out.unconfirmed == 3 and out.events.settled == (0, 0) and out.events.pending == 2
    out.line(PING)
    out.add(out.events, [b"y"])
    write_all(out)
    assert out.unconfirmed == 4
    out.pong()
    assert out.unconfirmed == 1 and out.events.settled == (2, 0) and out.events.pending == 1
    out.pong()  # one that nobody asked for
    assert out.unconfirmed == 1 and out.link_lost() == 1 and out.unconfirmed == 0
    assert out.events.settled == (3, 0) and out.events.lost == 1 and out.events.pending == 0


def test_it_asks_for_a_confirmation_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("event_agent.drivers.nats.outbuffer.time.monotonic", lambda: now[0])
    out = OutBuffer(1000)
    pings: list[float] = []
    out.on_ping = lambda: pings.append(now[0])
    out.confirm()
    assert not pings, "nothing was written"
    for number in range(40):
        now[0] += 0.01
        out.add(out.events if number % 2 else out.replies, [b"x"])
        write_all(out)
    assert len(pings) == 2, "no third one while two are not answered"
    out.pong()
    out.pong()
    now[0] += 1
    out.confirm()
    assert len(pings) == 3 and write_all(out) == PING


def test_what_another_server_does_not_take() -> None:
    out = buffer()
    small, large, marked = pub(b"a", b"x" * 50), pub(b"a", b"y" * 51), hpub(b"a", {"K": "v"}, b"z" * 40)
    out.add(out.events, [large, small, large, small])
    out.add(out.replies, [marked, small, large])
    assert out.drop_larger(50) == 4 and out.dropped == 4, "headers count too"
    assert out.drop_larger(50) == 0, "on the next link, where nothing was written on this one"
    assert out.events.settled[0] == 1 and out.events.lost == 2, "the first is through, the others when their turn comes"
    assert out.events.pending == 3 and out.replies.pending == 2
    assert out.size == 3 * len(small) and write_all(out) == small * 3
    assert out.events.written == 2 and out.replies.written == 1 and out.unconfirmed == 3
    out.line(PING)
    out.pong()
    assert out.events.pending == out.replies.pending == 0 and out.events.settled[0] == 4 and out.events.lost == 2
    assert out.drop_larger(50) == 0


def test_if_all_that_waits_is_too_large_nothing_is_left() -> None:
    out = buffer()
    out.add(out.events, [pub(b"a", b"y" * 51)] * 3)
    assert out.drop_larger(50) == 3 and out.size == 0
    assert out.events.pending == 0 and out.events.settled[0] == 3 and out.events.written == 0


def lost(out: OutBuffer) -> list[Loss]:
    found, out.events.losses = out.events.losses, []
    return found


def test_what_was_not_confirmed_is_reported_with_the_events_around_it() -> None:
    out = buffer()
    out.add(out.events, [b"1", b"2"])
    write_all(out)
    out.link_lost()
    assert lost(out) == [Loss(UNCONFIRMED, 2, b"1", b"2")]
    out.add(out.events, [b"3", b"4"])
    write_all(out)
    out.line(PING)
    write_all(out)
    out.add(out.events, [b"5", b"6"])
    write_all(out)
    out.pong()
    out.add(out.events, [b"7"])
    assert out.link_lost() == 2 and lost(out) == [Loss(UNCONFIRMED, 2, b"4", b"6")], "4 was the last that arrived"
    assert out.link_lost() == 0 and lost(out) == [], "what waits is not lost"
    out.events.ended()
    assert lost(out) == [Loss(STOPPED, 1, b"7", b"7")] and out.events.lost == 5


def test_what_another_server_does_not_take_is_reported() -> None:
    out = buffer()
    out.add(out.events, [pub(b"a", b"x" * size) for size in (10, 30, 5, 20)])
    assert out.drop_larger(15) == 2
    assert lost(out) == [Loss(TOO_LARGE, 2, pub(b"a", b"x" * 30), pub(b"a", b"x" * 20))]


def test_events_that_a_stream_acknowledges_are_not_reported_here() -> None:
    out = OutBuffer(1000, True)
    out.add(out.events, [b"1", b"2"])
    out.wrote(len(out.take()))
    out.add(out.events, [b"3"])
    out.link_lost()
    out.events.ended()
    assert lost(out) == [] and out.events.lost == 0
