"""The NATS protocol cut into operations, however the bytes come."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.drivers.base import Message
from event_agent.drivers.nats.wire import (
    CONTROL_LINE,
    MAX_LINE,
    Control,
    Operation,
    WireReader,
    hpub,
    line_size,
    pub,
    sendable,
)
from event_agent.errors import LinkError

# What nats-server lets through as a reply subject: any bytes but a blank, a tab and a line feed.
TOKEN = st.text("abcXYZ0123.-_$é*>", min_size=1, max_size=12).map(str.encode) | st.binary(
    min_size=1, max_size=12
).filter(lambda data: not set(data) & set(b" \t\n"))
BLANKS = st.sampled_from([b" ", b"  "])
PAYLOAD = st.binary(max_size=60) | st.sampled_from([b"\r\n", b"PING\r\n", b"MSG a 1 5\r\n"])


@st.composite
def operations(draw: st.DrawFn) -> tuple[bytes, Message | Control]:
    """Bytes of one operation, and what it is."""
    kind = draw(st.sampled_from(["MSG", "HMSG", "PING", "PONG", "INFO", "-ERR", "+OK", "ping"]))
    if kind not in ("MSG", "HMSG"):
        rest = draw(st.sampled_from([b"", b'{"a":1}', b"'Unknown Protocol Operation'"]))
        return kind.encode() + (b" " + rest if rest else b"") + b"\r\n", Control(kind.upper().encode(), rest)
    subject, reply, data = draw(TOKEN), draw(st.just(b"") | TOKEN), draw(PAYLOAD)
    headers = draw(st.sampled_from([b"NATS/1.0\r\n\r\n", b"NATS/1.0 503\r\n\r\n"])) if kind == "HMSG" else b""
    sid = draw(st.integers(0, 10**17))
    fields = [kind.encode(), subject, b"%d" % sid]
    fields += [reply] if reply else []
    fields += [b"%d" % len(headers)] if headers else []
    line = draw(BLANKS).join([*fields, b"%d" % (len(headers) + len(data))])
    return line + b"\r\n" + headers + data + b"\r\n", Message(subject, reply, data, headers, sid)


def subscriptions(operation: Operation) -> int:
    """What does not count when two are compared."""
    return operation.subscription if isinstance(operation, Message) else 0


@given(st.lists(operations(), max_size=8), st.lists(st.integers(0, 3000), max_size=10))
def test_any_cutting_gives_the_same_operations(made: list[tuple[bytes, Message | Control]], cuts: list[int]) -> None:
    data = b"".join(raw for raw, _ in made)
    marks = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    reader = WireReader()
    found = [each for start, end in zip(marks, marks[1:], strict=False) for each in reader.feed(data[start:end])]
    assert found == [each for _, each in made]
    assert [subscriptions(each) for each in found] == [subscriptions(each) for _, each in made]


@given(st.lists(operations(), max_size=4))
def test_an_operation_is_given_out_with_its_last_byte(made: list[tuple[bytes, Message | Control]]) -> None:
    reader = WireReader()
    for raw, expected in made:
        for at in range(len(raw) - 1):
            assert reader.feed(raw[at : at + 1]) == []
        assert reader.feed(raw[-1:]) == [expected]


@given(st.binary(max_size=60))
def test_garbage_is_operations_or_a_link_error(data: bytes) -> None:
    for prefix in (b"", b"MSG ", b"HMSG a 1 ", b"HMSG "):
        try:
            WireReader().feed(prefix + data + b"\r\n\r\n")
        except LinkError:
            pass


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 400 Bad Request\r\n", b"\r\n", b"SSH-2.0-OpenSSH\r\n", b"\x15\x03\x01\x00\x02\x02\r\n",
        b"MSG \r\n", b"MSG a\r\n", b"MSG a 1\r\nx\r\n", b"MSG a x 0\r\n\r\n", b"MSG a 1 b c 0\r\n\r\n",
        b"MSG a 1 -1\r\n", b"MSG a 1 x\r\n", b"MSG a 1 99999999999\r\n", b"MSG a 1 67108865\r\n",
        b"MSG a 1 2\r\nabcd\r\n", b"HMSG a 1 5\r\nabcde\r\n", b"HMSG a 1 9 5\r\nabcde\r\n",
        b"HMSG a 1 x 5\r\nabcde\r\n",
        b"MSG a " + b"9" * 5000 + b" 0\r\n\r\n", b"MSG a 1 " + b"0" * 5000 + b"\r\n\r\n", b"MSG a \xb2 0\r\n\r\n",
    ],
)  # fmt: skip
def test_what_is_not_nats_ends_the_link(data: bytes) -> None:
    with pytest.raises(LinkError):
        WireReader().feed(data)


def test_a_line_without_end_ends_the_link() -> None:
    reader = WireReader()
    reader.feed(b"INFO " + b"x" * (MAX_LINE - 100))
    with pytest.raises(LinkError, match="without end"):
        reader.feed(b"x" * 200)


def test_a_large_payload_is_not_joined_at_every_read() -> None:
    reader = WireReader()
    assert reader.feed(b"MSG a 1 3000000\r\n") == []
    for _ in range(3000):
        assert reader.feed(b"x" * 1000) == []
    assert len(reader._parts) > 2000
    (delivery,) = reader.feed(b"\r\n")
    assert isinstance(delivery, Message) and len(delivery.data) == 3000000


def test_what_is_sent() -> None:
    assert pub(b"a.b", b"x\r\ny") == b"PUB a.b 4\r\nx\r\ny\r\n"
    assert pub(b"\xe9", b"") == b"PUB \xe9 0\r\n\r\n"
    sent = hpub(b"a.b", {"K": "v"}, b"xy")
    assert sent == b"HPUB a.b 18 20\r\nNATS/1.0\r\nK: v\r\n\r\nxy\r\n"
    received = b"HMSG" + sent[4:].replace(b"a.b", b"a.b 7 r")
    assert WireReader().feed(received) == [Message(b"a.b", b"r", b"xy", b"NATS/1.0\r\nK: v\r\n\r\n", 7)]


@pytest.mark.parametrize("make", [lambda to: pub(to, b"x" * 100), lambda to: hpub(to, {"K": "v"}, b"x" * 100)])
def test_a_line_is_measured_as_a_server_does(make: Callable[[bytes], bytes]) -> None:
    digits = len(make(b"").partition(b"\r\n")[0].partition(b" ")[2])
    fits, over = b"\xff" * (CONTROL_LINE - digits), b"\xff" * (CONTROL_LINE - digits + 1)
    assert line_size(make(fits)) == CONTROL_LINE and line_size(make(over)) == CONTROL_LINE + 1
    assert sendable(fits, make(fits), CONTROL_LINE) and not sendable(over, make(over), CONTROL_LINE)


@pytest.mark.parametrize("to", [b"\r", b"a\r", b"a\rb"])
def test_a_subject_with_a_line_break_is_not_sent(to: bytes) -> None:
    assert not sendable(to, pub(to, b""), CONTROL_LINE)
