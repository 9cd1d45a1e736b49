"""Events delivered at least once: each is stored by a JetStream stream and acknowledged, or stays with us.

Ties `jetstream.py` (what is sent, and when) and `outbox.py` (what waits, in memory and on disk) to the link.

Threads: `offer` is called by the threads that have events; acknowledgements, answers and the clock come on the loop's
thread. One lock guards all of it; nothing waits for the network under it. With spool_mode always, or when memory is
full, `offer` writes to disk under it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from event_agent.drivers.base import Event, EventSink, Loss, Message
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.jetstream import JetStream, Question, StreamState
from event_agent.drivers.nats.options import HEADERS, StreamOptions
from event_agent.drivers.nats.outbuffer import Queue
from event_agent.drivers.nats.sayings import Sayings
from event_agent.drivers.nats.spool import Spool
from event_agent.drivers.outbox import Outbox, Outgoing
from event_agent.drivers.segments import SegmentFiles, SpoolError
from event_agent.errors import LinkError
from event_agent.runtime.loop import Loop, Timer

log = logging.getLogger(__name__)

TICK = 0.25  # seconds between two looks at what is late
INBOX = b"_INBOX."
DEAF = "the NATS server refuses the subscription for acknowledgements, to _INBOX.>"
API = b"api"  # the token of answers to questions; a ticket is digits


class Sender(Protocol):
    """What writes to the present link."""

    def put(self, queue: Queue, messages: Sequence[bytes]) -> int: ...


def _nobody(_: Loss) -> None:
    pass


class StreamEvents(EventSink):
    """An event sink that keeps each event until a stream has acknowledged it."""

    def __init__(
        self,
        options: StreamOptions,
        sender: Sender,
        queue: Queue,
        loop: Loop,
        max_payload: int,
        lost: Callable[[Loss], None] = _nobody,
    ) -> None:
        """`queue`: the sender's for events; what is in it is forgotten with the link. `lost`: see Observer."""
        self._options = options
        self._put = partial(sender.put, queue)
        self._loop = loop
        self._lost = lost
        self.max_payload = max_payload - HEADERS
        self._instance = os.urandom(6).hex().encode()  # names the agent's own events, which FreeSWITCH does not
        self._lock = threading.Lock()  # guards all that follows
        self._box = Outbox(options.buffer)
        self._stream = self._make(self._box)
        self._spool = Spool(options, self._box)
        self._sayings = Sayings(self._stream, self._box)
        self._inbox = b""
        self._denied = b""  # the subject of an inbox that was refused before it was ours
        self._acks: tuple[NatsClient, Any] | None = None  # the subscription on the present link; of nats-link alone
        self._taken = 0
        self._ticking: Timer | None = None
        self._stopped = False

    def _make(self, box: Outbox) -> JetStream:
        options = self._options
        return JetStream(
            box, options.stream, options.subject, options.max_pending, options.ack_timeout,
            options.buffer // 2, options.records,
        )  # fmt: skip

    # -- life

    def start(self) -> None:
        """Take up what is on disk. Never raises: if the disk can't be used, that is logged and memory is used alone."""
        options = self._options
        if options.spool:
            self._spool.open(self._adopt)
        self._report()
        self._ticking = self._loop.after(TICK, self._tick)

    def _adopt(self, disk: SegmentFiles, front: SegmentFiles) -> None:
        """Raises SpoolError if it is too late."""
        with self._lock:
            if self._stopped:
                raise SpoolError("stopped")
            self._spool.adopted(disk, front)

    def stop(self) -> None:
        """After the link has ended: keep on disk what is not acknowledged."""
        with self._lock:
            self._stopped = True
            if self._ticking is not None:
                self._ticking.cancel()
            self._stream.unlinked()
            pending = self._box.pending
            lost = self._box.put_away()
            self._spool.close()
        self._report()
        if pending:
            log.info("%d events are not acknowledged: %d are kept on disk", pending, pending - lost)
        if lost:
            place = self._options.spool or "a spool: spool_max_bytes is 0"
            log.error("%d events are lost: what was not acknowledged has no room in %s", lost, place)

    # -- for those that have events

    def offer(self, events: Sequence[Event]) -> int:
        """See EventSink."""
        now = time.monotonic()
        ours = [Outgoing(event.subject, event.msg_id, event.parts, born=now) for event in events]
        with self._lock:
            if self._stopped:
                return 0
            for number, event in enumerate(ours, self._taken):
                if not event.msg_id:
                    event.msg_id = b"%b.%d" % (self._instance, number)
            taken = self._box.offer(ours)
            if taken < len(ours):
                self.refused = self._box.refused
            self._taken += taken
            self._spool.sync(now)
            self._pump(now)
        return taken

    def announce(self, event: Event) -> int:
        """See EventSink: what is in the box is delivered, at a later start if need be."""
        now = time.monotonic()
        with self._lock:
            msg_id = event.msg_id or b"%b.%d" % (self._instance, self._taken)
            news = Outgoing(event.subject, msg_id, event.parts, born=now, news=True)
            if self._stopped or not self._box.announce(news):
                return 0
            self._taken += 1
            self._spool.sync(now)
            self._pump(now)
        return -1

    @property
    def pending(self) -> int:
        """See EventSink."""
        return self._box.pending

    def flush(self, timeout: float) -> bool:
        """See EventSink."""
        deadline = time.monotonic() + timeout
        while self._box.pending and self._stream.status.state is StreamState.READY and time.monotonic() < deadline:
            threading.Event().wait(0.01)
        return not self._box.pending

    # -- the link

    def linked(self, client: NatsClient) -> None:
        """There is a link: what is put into the queue is written to it."""
        inbox = INBOX + client._nuid.next_() + b"."
        try:
            if self._acks is not None and self._acks[0] is client:  # that was refused
                client.unsubscribe(self._acks[1])
            self._acks = client, client.subscribe((inbox + b"*").decode(), callback=self._arrived)
            client.stored(inbox, self._stored)
        except LinkError as error:
            log.debug("stream: %s", error)  # it has ended already
            return
        with self._lock:
            if self._denied == inbox + b"*":  # the loop's thread was quicker
                self._stream.deaf(DEAF)
            else:
                self._inbox = inbox
                self._ask(self._stream.linked(time.monotonic()))
        self._say()

    def complained(self, text: str) -> bool:
        """The server does not let us subscribe to something; True if that is where acknowledgements come."""
        subject = text.partition('"')[2].partition('"')[0].encode()
        with self._lock:
            if not subject.startswith(INBOX):
                return False
            if self._inbox and subject == self._inbox + b"*":
                self._inbox = b""
                self._stream.deaf(DEAF)
            else:
                self._denied = subject
        self._say()
        return True

    @property
    def deaf(self) -> dict[str, str]:
        """The subject of acknowledgements and why the server does not take it; empty if it does."""
        status = self._stream.status
        return {f"{INBOX.decode()}>": status.reason} if status.state is StreamState.DEAF else {}

    def unlinked(self) -> None:
        """The link is lost."""
        with self._lock:
            self._inbox = b""
            self._stream.unlinked()
        self._say()

    def _arrived(self, messages: list[Message]) -> None:
        """Acknowledgements and answers, on the loop's thread."""
        now = time.monotonic()
        acks: list[tuple[int, bytes, bytes]] = []
        with self._lock:
            length = len(self._inbox)
            for message in messages:
                if not message.subject.startswith(self._inbox) or not length:
                    continue  # of a link that is over
                token = message.subject[length:]
                if token == API:
                    self._ask(self._stream.answered(message.data, message.headers, now))
                elif token.isdigit() and len(token) < 19:
                    acks.append((int(token), message.data, message.headers))
            if acks:
                self._ask(self._stream.acks(acks, now))
            self._pump(now)
        self._report()
        self._say()

    def _stored(self, tickets: list[int]) -> None:
        """Acknowledgements in their usual form, of the present link, on the loop's thread."""
        now = time.monotonic()
        with self._lock:
            if self._inbox:
                self._stream.stored(tickets)
            self._pump(now)
        self._report()
        self._say()

    def _ask(self, question: Question | None) -> None:
        """Lock held."""
        if question is not None and self._inbox:
            subject, payload = question
            line = b"PUB %b %b%b %d\r\n%b\r\n" % (subject, self._inbox, API, len(payload), payload)
            self._put([line])

    def _pump(self, now: float) -> None:
        """Send what may be sent. Lock held."""
        if self._inbox:
            while messages := self._stream.take(self._inbox, now):
                self._put(messages)

    def _tick(self) -> None:
        """On the loop's thread, a few times a second."""
        now = time.monotonic()
        with self._lock:
            if self._stopped:
                return
            self._ask(self._stream.tick(now))
            self._spool.sync(now)
            self._pump(now)
        if self._spool.look_due(now):
            self._look_at_disk()
        self._report()
        self._say()
        self._ticking = self._loop.after(TICK, self._tick)

    def _look_at_disk(self) -> None:
        """A disk that failed may have been mended."""
        if not self._spool.is_open:
            self._spool.open(self._adopt)
        elif self._box.fault:
            with self._lock:
                self._box.probe()

    # -- what is said

    def _report(self) -> None:
        """Events that had been taken are lost: say so."""
        while self._box.losses:
            with self._lock:
                losses, self._box.losses = self._box.losses, []
            for loss in losses:
                self._lost(loss)

    def _say(self) -> None:
        """One line for each change of state."""
        self._sayings.say()
        self._spool.say()

    @property
    def fault(self) -> str:
        """See EventSink."""
        if self._sayings.waits:
            return f"events wait: {self._sayings.waits}"
        if fault := self._spool.fault:
            return f"spool: {fault}"
        return ""

    @property
    def stored(self) -> bool:
        """A stream takes events now."""
        return self._stream.status.state is StreamState.READY

    def figures(self) -> dict[str, Any]:
        """For agent.status."""
        with self._lock:
            box, stream = self._box, self._stream
            return {
                "state": stream.status.state.value,
                "reason": stream.status.reason,
                "fault": self.fault,
                "stream": stream.status.stream,
                "acknowledged": box.acknowledged,
                "sent_again": box.again,
                "duplicates": stream.counters.duplicates,
                "pending": box.pending,
                "oldest_pending": round(box.oldest_age(time.monotonic()), 3),
                "buffered_bytes": box.memory,
                "spooled_bytes": box.on_disk,
                "spool_fault": self._spool.fault,
                "lost": {reason: count for reason, count in box.lost.items() if count},
            }
