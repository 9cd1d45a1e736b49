"""What waits to be written to a NATS server, and what of it the server has confirmed. No sockets, no threads.

Messages keep their order and have a bound in bytes; what does not fit is counted. Protocol lines (PING, SUB, …) go
before all messages, behind earlier lines, and never into the middle of a message of which a part is written. When a
link is lost its lines are forgotten, and a message of which half was written goes out whole on the next one.

A server confirms nothing but PINGs: the PONG to one says that all written before it has arrived. So a PING is put in
now and then while messages are written, and what was written since the last one answered is unconfirmed.

Whoever uses it holds a lock of his own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

PING = b"PING\r\n"
CONFIRM = 0.05  # seconds between two PINGs while messages are written
CHUNK = 262144  # bytes offered to the socket at one time; all of a full buffer would be copied again for each part


class _ForThisLink(bytes):
    """A protocol line, which means nothing on the next connection."""


def _nothing() -> None:
    pass


class OutBuffer:
    """See the module's text."""

    __slots__ = ("on_ping", "size", "dropped", "written", "_most", "_out", "_lines", "_begun", "_since", "_pings",
                 "_pinged")  # fmt: skip

    def __init__(self, most: int) -> None:
        """`most`: bytes that may wait."""
        self.on_ping: Callable[[], None] = _nothing  # called before a PING of this buffer's own
        self.size = 0  # bytes that wait
        self.dropped = 0  # messages that did not fit
        self.written = 0  # messages
        self._most = most
        self._out: deque[bytes] = deque()  # whole lines and messages, in the order in which they are written
        self._lines = 0  # lines in _out
        self._begun = 0  # bytes of _out[0] that are written
        self._since = 0  # messages written since the last PING
        self._pings: deque[int] = deque()  # for each PING that is out: the messages written before it
        self._pinged = 0.0  # time.monotonic() of the last PING

    def add(self, message: bytes, beyond: bool = False) -> bool:
        """Take a message. False where there is no room for it (unless `beyond` that is all right); it is counted."""
        size = self.size + len(message)
        if size > self._most and not beyond:
            self.dropped += 1
            return False
        self._out.append(message)
        self.size = size
        return True

    def line(self, data: bytes) -> None:
        """Take a protocol line."""
        if data == PING:
            # What waits goes out after this PING; what was written before it, its PONG confirms.
            self._pings.append(self._since)
            self._since = 0
            self._pinged = time.monotonic()
        behind = self._begun > 0 and type(self._out[0]) is bytes  # a message of which a part is written
        self._out.insert(self._lines + behind, _ForThisLink(data))
        self.size += len(data)
        self._lines += 1

    def confirm(self) -> None:
        """Ask the server to confirm what it was sent, where that is due."""
        if self._since and len(self._pings) < 2 and time.monotonic() - self._pinged > CONFIRM:
            self.on_ping()
            self.line(PING)

    def pong(self) -> None:
        """The server has answered the oldest PING."""
        if self._pings:
            self._pings.popleft()

    @property
    def unconfirmed(self) -> int:
        """Messages that were written and may not have arrived."""
        return sum(self._pings) + self._since

    def take(self) -> bytes:
        """What is to be written next; `wrote` must follow. Only where `size` is not 0."""
        out = self._out
        if self._since:
            self.confirm()
        if len(out) == 1:
            data = out[0]
        elif self.size <= CHUNK:
            data = b"".join(out)
        else:
            parts, size = [], 0
            for each in out:
                parts.append(each)
                size += len(each)
                if size >= CHUNK:
                    break
            data = b"".join(parts)
        return data[self._begun :] if self._begun else data

    def wrote(self, count: int) -> None:
        """So many bytes of what `take` gave are written."""
        if self._begun + count == self.size:  # all of it, as nearly always
            messages = len(self._out) - self._lines
            self._out.clear()
            self.size = self._begun = self._lines = 0
        else:
            messages = 0
            out = self._out
            self._begun += count
            while self._begun >= (length := len(out[0])):
                if type(out.popleft()) is bytes:
                    messages += 1
                else:
                    self._lines -= 1
                self._begun -= length
                self.size -= length
        self.written += messages
        self._since += messages

    def link_lost(self) -> int:
        """Forget what meant this link only; how many messages may have been lost with it."""
        unconfirmed = self.unconfirmed
        self._begun = self._lines = self._since = 0
        self._pings.clear()
        self._out = deque(each for each in self._out if type(each) is bytes)
        self.size = sum(map(len, self._out))
        return unconfirmed

    def drop_larger(self, most: int) -> int:
        """Drop messages of more than `most` bytes: they would cut the link. Returns how many, which are counted too.

        Only for PUB and HPUB messages, and only before the first `take` on a link.
        """
        before = len(self._out)
        self._out = deque(each for each in self._out if type(each) is not bytes or _payload(each) <= most)
        self.size = sum(map(len, self._out))
        self.dropped += before - len(self._out)
        return before - len(self._out)


def _payload(message: bytes) -> int:
    """Bytes of a message that count towards max_payload: the last number of its first line."""
    return int(message[: message.index(b"\r\n")].rpartition(b" ")[2])
