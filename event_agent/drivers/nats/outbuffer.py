"""What waits to be written to a NATS server, and what of it the server has confirmed. No sockets, no threads.

There are replies and events, each kind in its own order. What is written next:

    the rest of a message of which a part is written
    protocol lines (PING, SUB, …), which mean something on this link only
    replies
    events

So a reply does not wait behind events, and a full buffer of events leaves room for replies. When a link is lost its
lines are forgotten, and a message of which half was written goes out whole on the next one.

A server confirms nothing but PINGs: the PONG to one says that all written before it has arrived. So a PING is put in
now and then while messages are written, and what was written since the last one answered is unconfirmed.

Its user holds a lock of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice

from event_agent.drivers.base import STOPPED, TOO_LARGE, UNCONFIRMED, Loss

PING = b"PING\r\n"
CONFIRM = 0.05  # seconds between two PINGs while messages are written
PINGS = 2  # unanswered ones at most
CHUNK = 262144  # bytes offered to the socket at one time; all of a full buffer would be copied again for each part
REPLIES = 2097152  # bytes that replies may take beyond what waits for events

Mark = tuple[int, int]  # how many messages have passed, and how many of them were dropped before they were written


class Queue:
    """The messages of one kind. They are numbered from 1 in the order in which they were taken."""

    __slots__ = ("most", "for_link", "waiting", "dropped", "passed", "blank", "cut", "settled", "lost",
                 "latest", "since", "losses")

    def __init__(self, most: int, for_link: bool = False) -> None:
        """`for_link`: they mean something on this link only; their sender has them, and sends them again."""
        self.for_link = for_link
        self.most = most  # bytes that may wait, of both kinds, for one more to be taken
        self.waiting: deque[bytes] = deque()  # b"" stands for one that was dropped while it waited
        self.dropped = 0  # messages that were not taken, or dropped while they waited
        self.passed = 0  # number of the last one that was written, or dropped while it waited
        self.blank = 0  # b"" among those that wait
        self.cut = 0  # those that were b"" when their turn came
        self.settled: Mark = (0, 0)  # number of the last one that has arrived or is lost, and `cut` then
        self.lost = 0  # messages that were taken and did not arrive, or may not have
        self.latest = b""  # the last one that was written
        self.since = b""  # the last one that is known to have arrived, or the first that was written; b"" if unknown
        self.losses: list[Loss] = []  # the one that reports them takes them out

    @property
    def pending(self) -> int:
        """Messages that were taken, and have not arrived and are not lost."""
        return len(self.waiting) + self.passed - self.settled[0]

    @property
    def mark(self) -> Mark:
        """How far it is."""
        return (self.passed, self.cut)

    @property
    def written(self) -> int:
        """Messages that were written."""
        return self.passed - self.cut

    @property
    def unconfirmed(self) -> int:
        """Messages that were written and may not have arrived."""
        return self.written - (self.settled[0] - self.settled[1])

    def all_written(self) -> None:
        """All that wait were written; there are some."""
        waiting = self.waiting
        self.latest = waiting[-1]
        if not self.since:
            self.since = waiting[0]
        self.passed += len(waiting)
        if self.blank:
            self.cut += self.blank
            self.blank = 0
        waiting.clear()

    def first_written(self) -> None:
        """The first that waits was written."""
        self.passed += 1
        first = self.waiting.popleft()
        if not first:
            self.cut += 1
            self.blank -= 1
            return
        self.latest = first
        if not self.since:
            self.since = first

    def link_lost(self) -> int:
        """Nothing that was written will be confirmed any more. Returns how many may be lost with it."""
        if self.for_link:
            if self.waiting:
                self.all_written()
            self.settled = self.mark
            return 0
        lost = self.unconfirmed
        if lost:
            self.lost += lost
            self.losses.append(Loss(UNCONFIRMED, lost, self.since, self.latest))
        self.settled = self.mark
        self.since = b""
        return lost

    def ended(self) -> None:
        """What waits will not be written any more."""
        waiting = [each for each in self.waiting if each]
        if waiting and not self.for_link:
            self.lost += len(waiting)
            self.losses.append(Loss(STOPPED, len(waiting), waiting[0], waiting[-1]))

    def drop_larger(self, most: int) -> None:
        """Drop messages with a payload of more than `most` bytes. Only while nothing is unconfirmed."""
        larger = [(at, each) for at, each in enumerate(self.waiting) if each and _payload(each) > most]
        for at, _ in larger:
            self.waiting[at] = b""
        if count := len(larger):
            self.blank += count
            self.dropped += count
            self.lost += count
            self.losses.append(Loss(TOO_LARGE, count, larger[0][1], larger[-1][1]))
        while self.waiting and not self.waiting[0]:
            self.first_written()
        self.settled = self.mark


def _nothing() -> None:
    pass


class OutBuffer:
    """The two queues of a link, and which messages the server has confirmed."""

    __slots__ = ("on_ping", "size", "replies", "events", "_lines", "_rest", "_of", "_pings", "_pinged", "_marked",
                 "_confirm")  # fmt: skip

    def __init__(self, most: int, events_for_link: bool = False, confirm: float = CONFIRM) -> None:
        """`most`: bytes that may wait. `events_for_link`: see Queue."""
        self.on_ping: Callable[[], None] = _nothing  # called before a PING of this buffer's own
        self.size = 0  # bytes that wait, of all
        self.replies = Queue(most + REPLIES)
        self.events = Queue(most, events_for_link)
        self._lines: deque[bytes] = deque()
        self._rest = b""  # of what is half written
        self._of: Queue | None = None  # whose first message that is; None if it is a line
        self._pings: deque[tuple[Mark, Mark, bytes]] = deque()  # for each PING that is out: what was written before it
        self._confirm = confirm
        self._pinged = 0.0  # time.monotonic() of the last PING
        self._marked = self._marks()  # what was written before it

    def _marks(self) -> tuple[Mark, Mark]:
        return (self.replies.mark, self.events.mark)

    def add(self, queue: Queue, messages: Sequence[bytes], at: int = 0) -> int:
        """Take messages, from number `at` on, up to the first for which there is no room; returns its number."""
        most, size, take = queue.most, self.size, queue.waiting.append
        for message in messages[at:] if at else messages:
            after = size + len(message)
            if after > most:
                break
            take(message)
            size = after
            at += 1
        self.size = size
        return at

    def add_beyond(self, queue: Queue, message: bytes) -> None:
        """Take a message that the socket will take at once, so that it needs no room."""
        queue.waiting.append(message)
        self.size += len(message)

    @property
    def confirms(self) -> bool:
        """Whether a PING is due: then what comes is written together with it."""
        return time.monotonic() - self._pinged > self._confirm and len(self._pings) < PINGS

    def passed_by(self, queue: Queue, count: int, first: bytes, last: bytes) -> None:
        """So many messages, from `first` to `last`, were written without waiting here."""
        queue.latest = last
        if not queue.since:
            queue.since = first
        queue.passed += count

    def lines_alone(self) -> Sequence[bytes] | None:
        """The protocol lines that wait, if nothing else does."""
        if self._rest or self.replies.waiting or self.events.waiting:
            return None
        return self._lines

    def lines_passed(self) -> None:
        """Those that `lines_alone` has told were written."""
        self._lines.clear()
        self.size = 0

    def line(self, data: bytes) -> None:
        """Take a protocol line."""
        if data == PING:
            # What waits goes out after this PING; what was written before it, its PONG confirms.
            self._marked = self._marks()
            self._pings.append((*self._marked, self.events.latest))
            self._pinged = time.monotonic()
        self._lines.append(data)
        self.size += len(data)

    def confirm(self) -> None:
        """Ask the server to confirm what it was sent, if that is due."""
        due = time.monotonic() - self._pinged > self._confirm
        if due and len(self._pings) < PINGS and self._marks() != self._marked:
            self.on_ping()
            self.line(PING)

    def pong(self) -> None:
        """The server has answered the oldest PING."""
        if self._pings:
            self.replies.settled, self.events.settled, self.events.since = self._pings.popleft()

    @property
    def unconfirmed(self) -> int:
        """Messages that were written and may not have arrived."""
        return self.replies.unconfirmed + self.events.unconfirmed

    def take(self) -> bytes:
        """What is to be written next; `wrote` must follow. Only if `size` is not 0."""
        if time.monotonic() - self._pinged > self._confirm:
            self.confirm()
        if self.size <= CHUNK:
            if not self._rest and not self._lines:  # as nearly always
                replies, events = self.replies.waiting, self.events.waiting
                if not replies:
                    return events[0] if len(events) == 1 else b"".join(events)
                if not events:
                    return replies[0] if len(replies) == 1 else b"".join(replies)
            return b"".join(self._next())
        parts, size = [], 0
        for each in self._next():
            parts.append(each)
            size += len(each)
            if size >= CHUNK:
                break
        return b"".join(parts)

    def _next(self) -> Iterator[bytes]:
        """All that waits, in the order in which it is written."""
        return chain((self._rest,), self._lines, self._whole(self.replies), self._whole(self.events))

    def _whole(self, queue: Queue) -> Iterable[bytes]:
        """Those of which no part is written."""
        return islice(queue.waiting, 1, None) if self._of is queue else queue.waiting

    def wrote(self, count: int) -> None:
        """So many bytes of what `take` gave are written."""
        self.size -= count
        if not self.size:
            if self.replies.waiting:
                self.replies.all_written()
            if self.events.waiting:
                self.events.all_written()
            self._lines.clear()
            self._rest, self._of = b"", None
            return
        if count < len(self._rest):
            self._rest = self._rest[count:]
            return
        if self._rest:
            count -= len(self._rest)
            if self._of is not None:
                self._of.first_written()
            self._rest, self._of = b"", None
        lines = self._lines
        while lines and count >= len(lines[0]):
            count -= len(lines.popleft())
        if lines:
            if count:
                self._rest = lines.popleft()[count:]
            return
        for queue in (self.replies, self.events):
            waiting = queue.waiting
            while waiting and count >= len(waiting[0]):
                count -= len(waiting[0])
                queue.first_written()
            if waiting:
                if count:
                    self._rest, self._of = waiting[0][count:], queue
                return

    def link_lost(self) -> int:
        """Forget what meant this link only; returns how many messages may have been lost with it."""
        lost = self.replies.link_lost() + self.events.link_lost()
        self._marked = self._marks()
        self._pings.clear()
        self._lines.clear()
        self._rest, self._of = b"", None
        self.size = self._waiting_bytes()
        return lost

    def drop_larger(self, most: int) -> int:
        """Drop messages of more than `most` bytes: they would cut the link. Returns how many, which are counted too.

        Only before the first `take` on a link.
        """
        before = self.dropped
        for queue in (self.replies, self.events):
            queue.drop_larger(most)
        self.size = self._waiting_bytes()
        return self.dropped - before

    @property
    def dropped(self) -> int:
        """Messages for which there was no room, or that were too large for another server."""
        return self.replies.dropped + self.events.dropped

    @property
    def written(self) -> int:
        """Messages that were written."""
        return self.replies.written + self.events.written

    def _waiting_bytes(self) -> int:
        return sum(len(each) for queue in (self.replies, self.events) for each in queue.waiting)


def _payload(message: bytes) -> int:
    """Bytes of a message that count towards max_payload: the last number of its first line."""
    return int(message[: message.index(b"\r\n")].rpartition(b" ")[2])
