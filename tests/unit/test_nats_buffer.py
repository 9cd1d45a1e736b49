"""What waits to be written: order, bounds, lines between messages, and what a PONG confirms. No sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.drivers.nats import outbuffer as module
from event_agent.drivers.nats.outbuffer import PING, OutBuffer
from event_agent.drivers.nats.wire import hpub, pub


def buffer(most: int = 1 << 20) -> OutBuffer:
    """One that asks for no confirmation by itself."""
    found = OutBuffer(most)
    found._pinged = float("inf")
    return found


def write_all(out: OutBuffer) -> bytes:
    data = b""
    while out.size:
        piece = out.take()
        data += piece
        out.wrote(len(piece))
    return data


def test_messages_in_order_and_in_bounds() -> None:
    out = buffer(100)
    assert [out.add(b"%02d" % number * 10) for number in range(8)] == [True] * 5 + [False] * 3
    assert out.size == 100 and out.dropped == 3 and out.written == 0
    assert write_all(out) == b"".join(b"%02d" % number * 10 for number in range(5))
    assert out.size == 0 and out.written == 5
    assert out.add(b"x" * 100) and not out.add(b"x")


def test_lines_go_first_and_never_into_a_message() -> None:
    out = buffer()
    out.add(b"message one")
    out.line(b"SUB a")
    out.line(b"SUB b")
    assert out.take() == b"SUB aSUB bmessage one"
    out.wrote(7)  # in the middle of the second line
    out.line(b"SUB c")
    assert write_all(out) == b"B bSUB cmessage one"


def test_a_line_waits_for_the_message_that_is_half_written() -> None:
    out = buffer()
    out.add(b"message one;")
    out.add(b"message two;")
    out.take()
    out.wrote(3)
    out.line(b"PONG;")
    out.line(b"SUB;")
    assert write_all(out) == b"sage one;PONG;SUB;message two;"


@given(st.data())
def test_however_it_is_written(data: st.DataObject) -> None:
    """Parts of any size, lines at any time, links that are lost: messages whole, in order, lines between them."""
    out = buffer()
    links = [b""]
    added, lines, lost = 0, 0, 0
    for step in data.draw(st.lists(st.sampled_from(["add", "line", "write", "write", "lose"]), max_size=60)):
        if step == "add":
            assert out.add(b"<m%d>" % added)
            added += 1
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
    seen: list[int] = []
    for link in links[:-1]:
        whole = link[: max(link.rfind(b">"), link.rfind(b")")) + 1]
        seen += read(whole)
    seen += read(links[-1])
    assert seen == list(range(added)), "each once, in order: a half one goes out whole on the next link"
    assert out.size == 0 and out.written == added and lost + out.unconfirmed == added, "none was confirmed"


def read(data: bytes) -> list[int]:
    """Numbers of the messages; AssertionError where lines and messages are mixed."""
    found: list[int] = []
    while data:
        end = data.index({b"<": b">", b"(": b")"}[data[:1]])
        assert b"<" not in data[1:end] and b"(" not in data[1:end]
        if data[:1] == b"<":
            found.append(int(data[2:end]))
        data = data[end + 1 :]
    return found


def test_a_full_buffer_is_not_copied_for_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", 100)
    out = buffer()
    for number in range(50):
        out.add(b"%02d" % number * 10)
    assert len(out.take()) == 100
    assert write_all(out) == b"".join(b"%02d" % number * 10 for number in range(50))
    assert out.written == 50


def test_a_pong_confirms_what_was_written_before_its_ping() -> None:
    out = buffer()
    for _ in range(3):
        out.add(b"x")
    write_all(out)
    assert out.unconfirmed == 3
    out.line(PING)
    out.add(b"y")
    write_all(out)
    assert out.unconfirmed == 4
    out.pong()
    assert out.unconfirmed == 1
    out.pong()  # one that nobody asked for
    assert out.unconfirmed == 1 and out.link_lost() == 1 and out.unconfirmed == 0


def test_it_asks_for_a_confirmation_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("event_agent.drivers.nats.outbuffer.time.monotonic", lambda: now[0])
    out = OutBuffer(1000)
    pings: list[float] = []
    out.on_ping = lambda: pings.append(now[0])
    out.confirm()
    assert not pings, "nothing was written"
    for _ in range(40):
        now[0] += 0.01
        out.add(b"x")
        write_all(out)
    assert len(pings) == 2, "no third one while two are not answered"
    out.pong()
    out.pong()
    now[0] += 1
    out.confirm()
    assert len(pings) == 3 and write_all(out) == PING


def test_what_another_server_does_not_take() -> None:
    out = buffer()
    small, large, marked = pub(b"a", b"x" * 50), pub(b"a 1", b"y" * 51), hpub(b"a", {"K": "v"}, b"z" * 40)
    for message in (large, small, marked, large):
        out.add(message)
    assert out.drop_larger(50) == 3 and out.dropped == 3, "headers count too"
    assert out.size == len(small) and write_all(out) == small
    assert out.drop_larger(50) == 0
