"""The NATS protocol: bytes of a server cut into operations, and operations made into bytes. No sockets.

Source: the NATS client protocol, https://docs.nats.io/reference/reference-protocols/nats-protocol, and what
nats-server really sends (protocol lines with two blanks, INFO at any time). The server checks no more of a subject
than that no blank and no tab is in it: any other byte may stand in a reply subject, and goes back as it came.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from event_agent import quick
from event_agent.drivers.base import Message
from event_agent.errors import LinkError

MAX_LINE = 1048576  # bytes; an INFO of a large cluster is some 10 kB
MAX_MESSAGE = 67108864  # bytes; nats-server's own upper limit for max_payload
CONTROL_LINE = 4096  # bytes behind PUB, SUB, …: a server's max_control_line, which INFO doesn't say
TOO_LONG = "maximum control line exceeded"  # the -ERR that says so, in any case of its letters
SHORT = 200  # bytes of a subject that fits on any line: what is shorter need not be measured


class Control(NamedTuple):
    """Any other operation: INFO, PING, PONG, +OK, -ERR."""

    name: bytes
    rest: bytes

    @property
    def words(self) -> str:
        """What a server says in an -ERR, on one line."""
        return " ".join(self.rest.decode(errors="replace").strip("'").split())[:512]


class Stored(NamedTuple):
    """Where a stream says what it has stored: `inbox` and a ticket. `take` gets the tickets of the usual form."""

    inbox: bytes
    take: Callable[[list[int]], None]


Operation = Message | Control | list[int]  # a list has tickets: see Stored


class WireReader:
    """Feed it what was read; it returns the operations completed by that. One thread at a time."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._held = 0
        self._need = 1
        self.stored = Stored(b"", lambda tickets: None)

    def feed(self, chunk: bytes) -> list[Operation]:
        """Operations completed by `chunk`. Raises LinkError when this is no NATS."""
        data = chunk
        if self._held:
            self._parts.append(chunk)
            self._held += len(chunk)
            if self._held < self._need:
                return []
            data = b"".join(self._parts)
        found: list[Operation] = []
        pos, size, need = 0, len(data), 1
        compiled, inbox = quick.compiled, self.stored.inbox
        while pos < size:
            if compiled is not None and (pos := compiled.messages(data, pos, found, Message, inbox)) == size:
                break
            end = data.find(b"\r\n", pos)
            if end < 0:
                if size - pos > MAX_LINE:
                    raise LinkError("the server sent a line without end; is this a NATS server?")
                break
            line = data[pos:end]
            if line.startswith(b"MSG "):  # nearly every message is one without headers, in its usual form
                fields = line.split(b" ")
                count = len(fields)
                if 4 <= count <= 5 and b"" not in fields:
                    sid, length = fields[2], fields[-1]
                    if sid.isdigit() and length.isdigit() and len(sid) < 19 and len(length) < 7:
                        stop = end + 2 + int(length)
                        if data.startswith(b"\r\n", stop):
                            reply = fields[3] if count == 5 else b""
                            found.append(Message(fields[1], reply, data[end + 2 : stop], b"", int(sid)))
                            pos = stop + 2
                            continue
            if line.startswith(_MESSAGES):
                message, stop = _message(line, data, end + 2)
                if message is None:
                    need = stop - pos
                    break
                found.append(message)
                pos = stop
                continue
            name, _, rest = line.partition(b" ")
            name = name.upper()
            if name not in _CONTROLS:
                raise LinkError(f"the server sent {line[:80]!r}; is this a NATS server?")
            found.append(Control(name, rest.strip()))
            pos = end + 2
        if pos < size:
            self._parts, self._held, self._need = [data[pos:]], size - pos, need
        elif self._held:
            self._parts, self._held = [], 0
        return found


_MESSAGES = (b"MSG ", b"HMSG ")
_CONTROLS = frozenset((b"INFO", b"PING", b"PONG", b"+OK", b"-ERR"))


def _message(line: bytes, data: bytes, start: int) -> tuple[Message | None, int]:
    """What a MSG or HMSG line announces, from `start` on, and where it ends. None: `data` does not reach so far.

    MSG subject sid [reply] total, HMSG subject sid [reply] header-length total
    """
    fields = line.split(b" ")  # and not at any white space, which a reply subject may hold
    if b"" in fields:
        fields = [field for field in fields if field]
    with_headers = fields[0] == b"HMSG"
    plain = 5 if with_headers else 4  # fields of one without a reply subject
    count = len(fields)
    if not plain <= count <= plain + 1 or not fields[2].isdigit() or len(fields[2]) > 18:
        raise LinkError(f"the server sent {line[:80]!r}")
    length = fields[-1]
    stop = start + (int(length) if len(length) < 7 and length.isdigit() else _size(length, line))
    end = stop + 2
    if end > len(data):
        return None, end
    if not data.startswith(b"\r\n", stop):
        raise LinkError(f"the server sent a message of another length than it said: {line[:80]!r}")
    reply = fields[3] if count > plain else b""
    if not with_headers:
        return Message(fields[1], reply, data[start:stop], b"", int(fields[2])), end
    body = start + _size(fields[-2], line)
    if body > stop:
        raise LinkError(f"the server sent headers longer than their message: {line[:80]!r}")
    return Message(fields[1], reply, data[body:stop], data[start:body], int(fields[2])), end


def _size(field: bytes, line: bytes) -> int:
    if not field.isdigit() or len(field) > 9 or int(field) > MAX_MESSAGE:
        raise LinkError(f"the server sent a bad length: {line[:80]!r}")
    return int(field)


def pub(subject: bytes, payload: bytes) -> bytes:
    """PUB; see `sendable` for the subject."""
    return b"PUB %b %d\r\n%b\r\n" % (subject, len(payload), payload)


def hpub(subject: bytes, headers: dict[str, str], payload: bytes) -> bytes:
    """HPUB with these headers; names and values hold no line breaks."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    block = f"NATS/1.0\r\n{lines}\r\n".encode()
    return b"HPUB %b %d %d\r\n%b%b\r\n" % (subject, len(block), len(block) + len(payload), block, payload)


def line_size(data: bytes) -> int:
    """Bytes of what stands behind the operation's name on the first line of `data`: what a server measures."""
    return data.index(b"\r\n") - data.index(b" ") - 1


def sendable(subject: bytes, message: bytes, most: int) -> bool:
    """False if `message`, a PUB or HPUB to `subject`, would end the link: its line has more than `most` bytes.

    Or a CR: nats-server loses one at which a read of its own happens to end, and with it the place in the stream.
    """
    return b"\r" not in subject and (len(subject) <= SHORT or line_size(message) <= most)
