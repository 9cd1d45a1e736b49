"""Writing to a NATS server without ever waiting for it: from many threads, in one write what comes together.

Owns the buffer, its lock, and the thread `nats-flush`, which takes over when the socket takes no more, and has the
last messages of a while confirmed. The client's own lines go the same way as messages, or they could fall into the
middle of one.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from event_agent.drivers.base import Event, Loss
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.outbuffer import CHUNK, PING, OutBuffer, Queue
from event_agent.errors import LinkError

log = logging.getLogger(__name__)

LOOK = 0.01  # seconds between two looks of `wait`
ROUND = 5.0  # seconds after which nats-flush wakes up although there is nothing to do: the watchdog looks for that


def _nobody(_: Loss) -> None:
    pass


class NatsSender:
    """Writes to the present link from any thread, and buffers what the link does not take."""

    def __init__(
        self,
        most: int,
        settled: Callable[[int, int], None],
        events_for_link: bool = False,
        lost: Callable[[Loss], None] = _nobody,
    ) -> None:
        """`most`: bytes that may wait. `events_for_link`: events are forgotten with the link. `lost`: see Observer.

        `settled` is called with the number of the last event that is through (they are numbered from 1), and with how
        many of all so far did not arrive or may not have. It is called on the thread that finds out, and without the
        lock: of two calls at one time the larger numbers count.
        """
        self._most = most
        self._settled = settled
        self._lost = lost
        self._lock = threading.Lock()  # guards all that follows, and all that is written
        self._out = OutBuffer(most, events_for_link)
        self.replies, self.events = self._out.replies, self._out.events
        self._client: NatsClient | None = None
        self._full = False  # and that was said
        self.blocked = False  # the socket took no more; nats-flush waits for it
        self._held = False  # nothing is written until another link is there
        self._resting = False  # nats-flush waits for work
        self._work = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nats-flush", daemon=True)
        self._told = (0, 0)  # the last call of `settled`

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread within `timeout` seconds."""
        self._stopping.set()
        self._work.set()
        if self._thread.ident:
            self._thread.join(timeout)

    def ended(self) -> None:
        """After the last link: what waits is lost."""
        with self._lock:
            self._out.events.ended()
        self._tell()

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._out.size

    def figures(self) -> dict[str, int]:
        """Counters, for agent.status."""
        with self._lock:  # or a count of two parts is less than before for a moment, which reads like a restart
            out = self._out
            return {"messages_sent": out.written, "messages_dropped": out.dropped, "buffered_bytes": out.size}

    # -- for publishers

    def put(self, queue: Queue, messages: Sequence[bytes]) -> int:
        """Write these, or keep them for later; returns how many there was room for. The rest is counted.

        `queue`: `replies` or `events`.
        """
        count = len(messages)
        with self._lock:
            if count and self._written_at_once(queue, messages, count, messages[0], messages[-1], lambda: messages):
                return count  # as nearly always
            at = self._out.add(queue, messages)
            if at == count:
                self._flush()
                return count
            refused = 0
            while at < count:
                refused += not self._passed(queue, messages[at])
                at = self._out.add(queue, messages, at + 1)
            self._flush()
            queue.dropped += refused
            full = refused > 0 and not self._full
            self._full = self._full or full
        if full:
            log.error("the buffer for NATS is full (%d bytes): messages are dropped", self._most)
        return count - refused

    def put_pieces(
        self, queue: Queue, pieces: Sequence[bytes], events: Sequence[Event], messages: Callable[[], Sequence[bytes]]
    ) -> bool:
        """Write the messages of these events now, which are in pieces; False if other things come first: then `put`.

        `messages` gives them one by one, if that is needed.
        """
        with self._lock:
            return self._written_at_once(
                queue, pieces, len(events), events[0].source, events[-1].source, messages
            )

    def _written_at_once(
        self, queue: Queue, pieces: Sequence[bytes], count: int, first: bytes, last: bytes,
        messages: Callable[[], Sequence[bytes]],
    ) -> bool:  # fmt: skip
        """Write so many messages past the buffer, if nothing is in it; it keeps what the socket does not take.

        `first`, `last`: what tells of them if they are lost. Lock held.
        """
        out, client = self._out, self._client
        if client is None or self._held or out.confirms:
            return False
        lines = out.lines_alone() if out.size else ()  # blocked, it holds something else
        if lines is None:
            return False
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        if lines:
            data = b"".join((*lines, data))
        size = len(data)
        if not size or size > 2 * CHUNK or size > queue.most:  # a read of events is somewhat more than CHUNK
            return False
        try:
            sent = client.send_now(data)
        except LinkError as error:
            log.debug("send: %s", error)  # the reader reports the end of the link
            self._client = None
            return False
        if sent == size:
            out.passed_by(queue, count, first, last)
            if lines:
                out.lines_passed()
            if not self._resting:
                return True
        else:
            for each in messages():
                out.add_beyond(queue, each)
            out.wrote(sent)
            self.blocked = True
        self._resting = False
        self._work.set()
        return True

    def announce(self, message: bytes) -> int:
        """Write an event if there is room for it; returns its number, or 0 and counts nothing."""
        events = self._out.events
        with self._lock:
            if not self._out.add(events, [message]):
                return 0
            number = events.passed + len(events.waiting)
            self._flush()
        return number

    def _passed(self, queue: Queue, message: bytes) -> bool:
        """True for a message that is larger than the room there is and need not wait for it. Lock held."""
        self._flush()
        if self._client is None or self.blocked or self._held:
            return False
        self._out.add_beyond(queue, message)
        return True

    def wait(self, done: Callable[[], bool], timeout: float) -> bool:
        """Wait until something is sent, or confirmed; False if it is not within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while not done():
            if time.monotonic() > deadline:
                return False
            self._work.set()  # nats-flush looks at once
            if self._stopping.wait(LOOK):
                return done()
        return True

    # -- for the owner of the link

    def attach(self, client: NatsClient, max_payload: int) -> int:
        """Write to this one, lines of its own too, from now on; first what waits.

        Returns how many messages were dropped (and counted) because they are larger than this server takes.
        """
        with self._lock:
            large = self._out.drop_larger(max_payload)
            self._out.on_ping = client.pings.sent
            client.hand_over(partial(self._line, client))
            self._client = client
            self.blocked = self._full = self._held = False
            self._flush()
        self._tell()
        return large

    def detach(self) -> int:
        """The link is lost. Returns how many messages may have been lost with it."""
        with self._lock:
            self._client = None
            self.blocked = self._held = False
            lost = self._out.link_lost()
        self._tell()
        return lost

    def rest(self, timeout: float) -> bool:
        """Write nothing more on this link; True if the server has confirmed all that was written, within `timeout`."""
        with self._lock:
            if self._client is None or self.blocked:
                return False
            self._out.on_ping()
            self._out.line(PING)
            self._flush()
            self._held = True
        return self.wait(lambda: not self._out.unconfirmed, timeout)

    def pong(self) -> None:
        """The server has answered a PING."""
        with self._lock:
            self._out.pong()
        self._tell()

    def _tell(self) -> None:
        """Say which events are through, and which are lost."""
        with self._lock:
            events = self._out.events
            before, self._told = self._told, (events.settled[0], events.lost)
            now = self._told
            losses, events.losses = events.losses, []
        for loss in losses:
            self._lost(loss)
        if now != before:
            self._settled(*now)

    # -- writing

    def _line(self, client: NatsClient, data: bytes, later: bool) -> None:
        """Lines of the client's own; `later`: they may wait for what is written next. b"": those that wait, now.

        Raises LinkError for lines whose link is gone: they mean nothing on the next.
        """
        if not data and not self._out.size:
            return
        with self._lock:
            if client is not self._client:
                raise LinkError("the link is gone")
            if data:
                self._out.line(data)
            if not later:
                self._flush()

    def _flush(self) -> None:
        """Write what waits, as much as the socket takes. Lock held."""
        client = self._client
        if client is None or self.blocked or self._held:
            return
        out = self._out
        while out.size:
            data = out.take()
            try:
                sent = client.send_now(data)
            except LinkError as error:
                log.debug("send: %s", error)  # the reader reports the end of the link
                self._client = None
                return
            out.wrote(sent)
            if sent < len(data):
                self.blocked = True
                self._resting = False
                self._work.set()
                return
            if self._resting:
                self._resting = False
                self._work.set()

    def _run(self) -> None:
        """The nats-flush thread."""
        while True:
            with self._lock:
                self._work.clear()
                if self._stopping.is_set():  # looked at after that: `stop` sets them the other way round
                    return
                if self._client is not None and not self.blocked and not self._held:
                    self._out.confirm()
                    self._flush()
                self._resting = not self.blocked and not self._out.unconfirmed
            if not self.blocked:
                self._work.wait(ROUND if self._resting else 1.0)
            while self.blocked and not self._stopping.is_set():
                client = self._client
                if client is None or not client.wait_writable(1.0):
                    self._stopping.wait(0.01)
                    continue
                with self._lock:
                    if client is self._client:
                        self.blocked = False
                        self._flush()
