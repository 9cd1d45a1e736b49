"""The NATS protocol as a client sees it: bytes in, operations out; operations to bytes. No sockets.

Source: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from typing import NamedTuple

from event_agent_client.errors import LinkError

MAX_LINE = 65536  # bytes; INFO of a large cluster is the longest
MAX_SIZE = 64 * 1024 * 1024  # bytes of a message, the most that a nats-server can be set to
MAX_CONTROL = 4096  # bytes of a line that a server takes


class Message(NamedTuple):
    """MSG and HMSG."""

    subject: str
    sid: int
    reply: str
    headers: bytes
    data: bytes


class Control(NamedTuple):
    """Everything else: INFO, PING, PONG, +OK, -ERR."""

    name: str
    rest: bytes


class Parser:
    """Cuts the stream into operations, however it was cut on its way. Raises LinkError for what is none."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, data: bytes) -> list[Message | Control]:
        """The operations that are complete with these bytes."""
        data = self._left + data if self._left else data
        found: list[Message | Control] = []
        at = 0
        while True:
            end = data.find(b"\r\n", at)
            if end < 0:
                if len(data) - at > MAX_LINE:
                    raise LinkError("the server sent a line without an end", "unknown")
                break
            name, _, rest = data[at:end].partition(b" ")
            if name in (b"MSG", b"HMSG"):
                start = end + 2
                subject, sid, reply, head, size = self._sizes(name, rest)
                if len(data) < start + size + 2:
                    break
                body = start + head
                found.append(Message(subject, sid, reply, data[start:body], data[body : start + size]))
                at = start + size + 2
                continue
            found.append(Control(name.decode(errors="replace").upper(), rest))
            at = end + 2
        self._left = data[at:]
        return found

    @staticmethod
    def _sizes(name: bytes, rest: bytes) -> tuple[str, int, str, int, int]:
        words = rest.split()
        try:
            size = int(words[-1])
            head = int(words[-2]) if name == b"HMSG" else 0
            more = words[2 : -2 if name == b"HMSG" else -1]
            reply = more[0].decode(errors="replace") if more else ""
            if not 0 <= head <= size <= MAX_SIZE:
                raise ValueError
            return words[0].decode(errors="replace"), int(words[1]), reply, head, size
        except (ValueError, IndexError):
            raise LinkError("the server sent a line that is no message", "unknown") from None


def pub(subject: str, reply: str, data: bytes, headers: bytes = b"") -> bytes:
    """PUB, or HPUB with `headers` (whole, with the blank line at their end). Raises ValueError for a bad subject."""
    line = f"{subject} {reply} " if reply else f"{subject} "
    if len(line) > MAX_CONTROL - 32 or "\r" in line or "\n" in line or " " in subject or not subject:
        raise ValueError(f"{subject[:100]!r} is no subject that a message can be sent to")
    if headers:
        return b"HPUB %b%d %d\r\n%b%b\r\n" % (line.encode(), len(headers), len(headers) + len(data), headers, data)
    return b"PUB %b%d\r\n%b\r\n" % (line.encode(), len(data), data)


def sub(subject: str, queue: str, sid: int) -> bytes:
    """SUB."""
    return f"SUB {subject} {queue} {sid}\r\n".encode() if queue else f"SUB {subject} {sid}\r\n".encode()


def status_of(headers: bytes) -> int:
    """The status in a message's headers, such as 503: nobody listens; 0 if there is none."""
    words = headers[:32].split(b"\r\n", 1)[0].split()
    return int(words[1]) if len(words) > 1 and words[1].isdigit() else 0
