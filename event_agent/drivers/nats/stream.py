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
from typing import Any, Protocol

from event_agent.drivers.base import SPOOL_DAMAGED, Event, EventSink, Loss, Message
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.jetstream import JetStream, Question, StreamState
from event_agent.drivers.nats.options import HEADERS, StreamOptions
from event_agent.drivers.nats.outbuffer import Queue
from event_agent.drivers.outbox import FRONT, Outbox, Outgoing
from event_agent.drivers.segments import SegmentFiles, SpoolError
from event_agent.errors import LinkError
from event_agent.runtime.loop import Loop, Timer

log = logging.getLogger(__name__)

TICK = 0.25  # seconds between two looks at what is late
LOOK = 5.0  # seconds between two looks at a disk that has failed
SYNC = 1.0  # seconds between two fdatasync with spool_sync interval
INBOX = b"_INBOX."
WAITS = (StreamState.NO_STREAM, StreamState.DEAF, StreamState.PAUSED)
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
        self._sender = sender
        self._queue = queue
        self._loop = loop
        self._lost = lost
        self.max_payload = max_payload - HEADERS
        self._instance = os.urandom(6).hex().encode()  # names the agent's own events, which FreeSWITCH does not
        self._lock = threading.Lock()  # guards all that follows
        self._files: list[SegmentFiles] = []
        self._box = Outbox(options.buffer)
        self._stream = self._make(self._box)
        self._inbox = b""
        self._acks: tuple[NatsClient, Any] | None = None  # the subscription on the present link; of nats-link alone
        self._taken = 0
        self._said = (StreamState.DOWN, "")
        self._fault = ""  # of the spool: until its disk has taken everything for LOOK seconds
        self._failed = 0.0  # time.monotonic() at which it was last seen
        self._lost_said = 0
        self._no_spool = ""  # why there is none, although there should be
        self._looked = 0.0  # time.monotonic() of the last look at the disk
        self._waits = ""  # why events are not stored, until one is
        self._waits_said = False  # a line has said so
        self._stored = 0  # acknowledged before that
        self._synced = 0.0  # time.monotonic() of the last fdatasync
        self._dirty = False
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
            self._open_spool()
        self._report()
        self._ticking = self._loop.after(TICK, self._tick)

    def _open_spool(self) -> None:
        """Never raises; it is tried again until it works."""
        options = self._options
        disk = SegmentFiles(options.spool, options.spool_most)
        front = SegmentFiles(f"{options.spool}/{FRONT}", max(options.spool_most, 2 * options.buffer))
        self._looked = time.monotonic()
        try:
            found, first = disk.open(), front.open()
            with self._lock:
                if self._stopped:
                    raise SpoolError("stopped")
                self._box.adopt(disk, options.spool_always, front)
                self._files = [disk, front]
        except SpoolError as error:
            disk.close()
            front.close()
            if not self._no_spool:
                log.error("no spool: %s; events are lost when memory is full; retrying", error)
            self._no_spool = str(error)
            return
        if self._no_spool:
            log.info("spool: the disk takes events again")
            self._no_spool = ""
        if records := found.records + first.records:
            log.info("spool: %d events wait on disk", records)
        if torn := found.torn + first.torn:
            self._box.losses.append(Loss(SPOOL_DAMAGED, None))
            log.warning("spool: %d bytes of an incomplete record at its end were cut off", torn)
        if foreign := [name for name in found.foreign if name != FRONT]:
            log.warning("spool: %s holds files that are not ours: %s", options.spool, ", ".join(foreign)[:200])

    def stop(self) -> None:
        """After the link has ended: keep on disk what is not acknowledged."""
        with self._lock:
            self._stopped = True
            if self._ticking is not None:
                self._ticking.cancel()
            self._stream.unlinked()
            pending = self._box.pending
            lost = self._box.put_away()
            for files in self._files:
                files.close()
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
        ours = [Outgoing(event.subject, event.msg_id, event.payload, born=now) for event in events]
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
            self._sync(now)
            self._pump(now)
        return taken

    def announce(self, event: Event) -> int:
        """See EventSink: what is in the box is delivered, at a later start if need be."""
        now = time.monotonic()
        with self._lock:
            msg_id = event.msg_id or b"%b.%d" % (self._instance, self._taken)
            news = Outgoing(event.subject, msg_id, event.payload, born=now, news=True)
            if self._stopped or not self._box.announce(news):
                return 0
            self._taken += 1
            self._sync(now)
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
        except LinkError as error:
            log.debug("stream: %s", error)  # it has ended already
            return
        with self._lock:
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
                self._stream.deaf("the NATS server refuses the subscription for acknowledgements, to _INBOX.>")
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

    def _ask(self, question: Question | None) -> None:
        """Lock held."""
        if question is not None and self._inbox:
            subject, payload = question
            line = b"PUB %b %b%b %d\r\n%b\r\n" % (subject, self._inbox, API, len(payload), payload)
            self._sender.put(self._queue, [line])

    def _pump(self, now: float) -> None:
        """Send what may be sent. Lock held."""
        if self._inbox:
            while messages := self._stream.take(self._inbox, now):
                self._sender.put(self._queue, messages)

    def _tick(self) -> None:
        """On the loop's thread, a few times a second."""
        now = time.monotonic()
        with self._lock:
            if self._stopped:
                return
            self._ask(self._stream.tick(now))
            self._sync(now)
            self._pump(now)
        self._look_at_disk(now)
        self._report()
        self._say()
        self._ticking = self._loop.after(TICK, self._tick)

    # -- disk

    def _look_at_disk(self, now: float) -> None:
        """A disk that failed may have been mended."""
        if now - self._looked < LOOK or not self._options.spool:
            return
        self._looked = now
        if not self._files:
            self._open_spool()
        elif self._box.fault:
            with self._lock:
                self._box.probe()

    def _sync(self, now: float) -> None:
        """Have the disk confirm, as spool_sync wants it. Lock held."""
        how = self._options.spool_sync
        if not self._files or how == "off" or (how == "interval" and now - self._synced < SYNC):
            return
        disk = self._files[0]
        if disk.unsynced:
            self._synced = now
            try:
                disk.sync()
            except SpoolError as error:
                self._box.fault = str(error)

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
        status = self._stream.status
        if status.state in WAITS or (status.state is StreamState.CHECKING and status.reason):
            self._waits, self._stored = status.reason, self._box.acknowledged
        elif self._waits and status.state is not StreamState.DOWN and (
            self._box.acknowledged > self._stored or (status.state is StreamState.READY and not self._box.pending)
        ):
            self._waits, self._waits_said = "", False
        lost = sum(self._box.lost.values())
        now = (status.state, status.reason)
        trying = status.state is StreamState.CHECKING or (status.state is StreamState.READY and self._waits)
        if now != self._said and not trying:
            before, self._said = self._said, now
            self._waits_said = bool(self._waits)
            if status.state is StreamState.READY:
                log.info("events are stored by stream %s", status.stream or "(unknown)")
            elif status.state is StreamState.NO_STREAM:
                log.warning("events wait: %s; make one with event-agentctl stream create; retrying", status.reason)
            elif status.state is StreamState.DEAF:
                log.warning("events wait: %s; retrying", status.reason)
            elif status.state is StreamState.PAUSED and before[0] is not StreamState.PAUSED:
                log.warning("events wait: the stream is not storing them: %s; retrying", status.reason)
        if self._waits and not self._waits_said and status.state is StreamState.READY:
            # The stream is what it should be, and yet what was sent is not acknowledged.
            self._waits_said = True
            log.warning("events wait: %s; retrying", self._waits)
        self._say_of_disk()
        if lost and not self._lost_said:
            log.error("events are lost: %s", self._reasons())
        self._lost_said = lost

    def _say_of_disk(self) -> None:
        """A full disk still takes a small event now and then."""
        now = time.monotonic()
        if fault := self._box.fault:
            if not self._fault:
                log.error("spool: %s; events are kept in memory until it is full", fault)
            self._fault, self._failed = fault, now
        elif self._fault and now - self._failed >= LOOK:
            self._fault = ""
            log.info("spool: the disk takes events again")

    def _reasons(self) -> str:
        reasons = dict(self._box.lost) | self._stream.counters.given_up
        return ", ".join(f"{count} {reason}" for reason, count in reasons.items())

    @property
    def fault(self) -> str:
        """See EventSink."""
        if self._waits:
            return f"events wait: {self._waits}"
        if fault := self._no_spool or self._fault:
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
                "spool_fault": self._no_spool or self._fault,
                "lost": {reason: count for reason, count in box.lost.items() if count},
            }
