"""The `nats` driver: one link to a NATS server or cluster that comes back by itself.

Threads: `nats-link` connects and connects again (runtime/link.py); the daemon's loop reads and hands messages on;
`nats-pinger` keeps the link honest; `nats-flush` writes what the socket did not take at once. Sending never waits for
the network: what can't be sent is kept, in order, up to `reconnect_buf_size` bytes (sender.py, outbuffer.py).

Events are delivered at most once. They are settled when the server has confirmed, by a PONG, that it has them; what was
written and not confirmed when a link is lost counts as lost, and is not sent again.

Reading is in one of three states:

    FLOWING --pause--> PAUSED --resume--> FLOWING
                       PAUSED --`pause` seconds--> OVERRUN --resume, or a new link--> FLOWING

In OVERRUN it is read although nobody has room: the taker of the requests refuses them. A server that is not read for
long ends the link, and with it all that others wait for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from event_agent.drivers.base import SERVER_REFUSED, Deliver, Driver, Loss, Message, Observer, Reply
from event_agent.drivers.nats.asking import NatsQuestions
from event_agent.drivers.nats.bothlinks import BothLinks
from event_agent.drivers.nats.connecting import TOLD, Connected, Connecting
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.events import MAX_PAYLOAD, NatsEvents
from event_agent.drivers.nats.lines import Lines
from event_agent.drivers.nats.many import TOO_MANY, NatsMany
from event_agent.drivers.nats.options import HEADERS, NatsOptions
from event_agent.drivers.nats.sender import NatsSender
from event_agent.drivers.nats.servers import ServerPool
from event_agent.drivers.nats.subscriptions import Subscription, Subscriptions
from event_agent.drivers.nats.wire import SHORT, hpub, pub
from event_agent.errors import LinkError
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.health import STUCK, Missing, Rounds, Signs, Watched, only_if
from event_agent.runtime.link import STEADY, Link, LinkStatus, keep_connected
from event_agent.runtime.log import escaped
from event_agent.runtime.loop import Loop, Timer

log = logging.getLogger(__name__)

MARK = 600  # bytes at most of the headers that mark an error


class Reading(Enum):
    """Whether requests are read from the present link."""

    FLOWING = auto()
    PAUSED = auto()
    OVERRUN = auto()


class NatsDriver(Driver):
    """Keeps one link to a cluster of NATS servers, and what is subscribed to on it."""

    name = "nats"
    wildcards = True

    def __init__(self, options: NatsOptions, loop: Loop, observer: Observer | None = None) -> None:
        """`loop` reads. It runs before `start`, and until after `stop`."""
        self._options = options
        self._loop = loop
        self._observer = observer or Observer()
        self.servers = ServerPool(options.servers)
        self.subscriptions = Subscriptions(options.timing)  # its lock guards _reading, too
        self._connecting = Connecting(options, loop, self, self.servers, self._go_on)
        self._many: NatsMany | None = None
        self._questions: NatsQuestions | None = None
        self.sender = NatsSender(
            options.buffer, self._observer.settled, options.stream is not None, self._observer.lost
        )
        self._lines = Lines()
        self.events: NatsEvents | StreamEvents
        self._stream: StreamEvents | None = None
        if options.stream is None:
            self.events = NatsEvents(self.sender, self._lines)
        else:
            from event_agent.drivers.nats.stream import StreamEvents  # most agents never need it

            self._stream = StreamEvents(
                options.stream, self.sender, self.sender.events, loop, MAX_PAYLOAD, self._observer.lost
            )
            self.events = self._stream
        self.max_payload = MAX_PAYLOAD
        self._reading = Reading.FLOWING
        self._overrun: Timer | None = None
        self._stopping = threading.Event()
        self._wake = threading.Event()  # something has happened to a link
        self._unconfirmed = self._losses = self._refused = 0
        self._link = Link()
        self._link.observe(self._observer.link_changed)
        self._thread = threading.Thread(target=self._keep, name="nats-link", daemon=True)

    # -- life

    def start(self) -> None:
        """See Driver."""
        count = len(self._options.servers)
        log.info("NATS configured with %d server%s", count, "s (cluster failover)" if count > 1 else "")
        if self._stream is not None:
            self._stream.start()
        self._thread.start()
        self.sender.start()

    def stop(self, timeout: float) -> None:
        """See Driver."""
        deadline = time.monotonic() + timeout
        client, current = self.client, self._connecting.current
        if client is not None and current is not None:
            if self._stream is not None:
                self._stream.flush(timeout / 2)
            self.sender.wait(lambda: not self.sender.waiting or current.lost.is_set(), timeout)
            client.flush(max(0.05, deadline - time.monotonic()))
        self._stopping.set()
        self._connecting.stop()
        self._wake.set()
        if client is not None:
            client.close()
        self.sender.stop(max(0.1, deadline - time.monotonic()))
        if self._thread.ident and self._thread is not threading.current_thread():
            self._thread.join(max(0.1, deadline - time.monotonic()))
        self.sender.ended()
        if self._stream is not None:
            self._stream.stop()

    def signs(self) -> Signs:
        """See Driver."""
        link, interval = self._link.signs(self._thread.name), self._options.ping_interval

        def linked() -> bool:
            return self._link.up

        return Signs(
            (*link.lives, "nats-flush"),
            (
                *link.watched,
                Watched("thread nats-pinger", STUCK, only_if(linked, Missing("nats-pinger"))),
                Watched("thread nats-pinger", interval + STUCK, only_if(linked, Rounds("nats-pinger"))),
                Watched("thread nats-flush", STUCK, Rounds("nats-flush")),
            ),
        )

    @property
    def client(self) -> NatsClient | None:
        """The connection that all goes over; None without a link."""
        return self.subscriptions.client

    @property
    def status(self) -> LinkStatus:
        """See Driver."""
        return self._link.status

    def stats(self) -> dict[str, Any]:
        """See Driver."""
        client = self.client
        figures = self.sender.figures()
        figures["messages_dropped"] += self._lines.refused
        return {
            "server": str(client.info.get("server_name") or client.info.get("server_id", "")) if client else "",
            **figures,
            "messages_unconfirmed": self._unconfirmed,
            "messages_refused": self._refused,
            "reconnects": self._losses,
            "subscriptions_refused": self._refusals(needed=True),
            **({"delivery": self._stream.figures()} if self._stream is not None else {}),
        }

    def refused(self) -> Mapping[str, str]:
        """See Driver."""
        return self._refusals()

    def _refusals(self, needed: bool = False) -> dict[str, str]:
        found = self.subscriptions.refused(needed)
        if self._many is not None:
            found |= self._many.refused(needed)
        if self._stream is not None and (deaf := self._stream.deaf):
            found |= deaf
        return found

    # -- requests

    def subscribe(self, subject: str, deliver: Deliver, queue: str = "") -> int:
        """See RequestSource."""
        return self.subscriptions.add(Subscription(subject, queue, deliver))

    def subscribe_below(self, subject: str, deliver: Deliver, queue: str = "", optional: bool = False) -> int:
        """See RequestSource."""
        return self.subscriptions.add(Subscription(f"{subject}.>", queue, deliver, optional=optional))

    def unsubscribe(self, number: int) -> None:
        """See RequestSource."""
        self.subscriptions.remove(number)

    def many(self, deliver: Deliver) -> NatsMany:
        """See RequestSource. Before the start."""
        self._many = NatsMany(deliver, self._options.timing)
        return self._many

    def questions(self, name: str) -> NatsQuestions:
        """See Driver."""
        self._questions = NatsQuestions(name, self.subscribe, self._loop.after, lambda: self.client, self.refused)
        return self._questions

    def pause(self) -> None:
        """See RequestSource."""
        with self.subscriptions.lock:
            if self._reading is Reading.FLOWING and self.client is not None:
                self._reading = Reading.PAUSED
                self._overrun = self._loop.after(self._options.pause, self._read_all_the_same)
                self.client.pause()

    def resume(self) -> None:
        """See RequestSource."""
        with self.subscriptions.lock:
            self._flow()

    def _flow(self) -> None:
        """Lock held."""
        paused, self._reading = self._reading is Reading.PAUSED, Reading.FLOWING
        if paused and self.client is not None:
            self.client.resume()
        if self._overrun is not None:
            self._overrun.cancel()
            self._overrun = None

    def _read_all_the_same(self) -> None:
        with self.subscriptions.lock:
            if self._reading is Reading.PAUSED:
                self._flow()
                self._reading = Reading.OVERRUN

    # -- replies

    def send(self, replies: Sequence[Reply]) -> int:
        """See Replies. A request with headers gets an error marked as the micro services protocol has it."""
        messages = []
        for message, payload, error in replies:
            to = message.reply
            if message.carried is not None or (error and message.headers):
                data = self._marked(message, payload, error)
            else:
                data = pub(to, payload)
            # Most need not be measured; asking costs as much as the rest of this.
            if len(to) <= SHORT and b"\r" not in to or self._lines.takes(to, data):
                messages.append(data)
        return self.sender.put(self.sender.replies, messages)

    def _marked(self, message: Message, payload: bytes, error: str) -> bytes:
        """With the headers that belong to it, if there is room: they count too."""
        headers = dict(message.carried or {})
        if error and message.headers:
            text = escaped(" ".join(error.split())).encode()[:512].decode(errors="ignore")
            headers |= {"Nats-Service-Error": text, "Nats-Service-Error-Code": "500"}
        if len(payload) + MARK * (2 if message.carried else 1) > self.max_payload:
            return pub(message.reply, payload)
        return hpub(message.reply, headers, payload)

    # -- the link

    def _keep(self) -> None:
        """The nats-link thread."""
        first = self._options.reconnect_wait
        backoff = Backoff(first, max(first, min(10.0, 10 * first)))
        keep_connected(self._connect, self._serve, backoff, self._stopping, self._link)

    def _connect(self) -> Connected:
        """A link with our subscriptions to the first server that takes us. Raises LinkError."""
        current = self._connecting.first()
        self._take_over(current.client)
        self._say_connected(current)
        return current

    def _say_connected(self, current: Connected) -> None:
        version = current.client.info.get("version", "?")
        log.info("NATS connected: %s (%s)", self.servers.shown(current.url), version)

    def _go_on(self) -> bool:
        self._link.beat = self._link.clock()
        return not self._stopping.is_set()

    def _take_over(self, client: NatsClient) -> None:
        """All goes over this connection from now on: subscriptions first, then what waited."""
        self._learn(client)
        gone = self.subscriptions.take_over(client, self._flow)
        if self._many is not None:
            self._many.linked(client)
        self._write_to(client)
        self.subscriptions.leave(client, gone)
        self.subscriptions.confirm(client)  # the link counts as up when it has them: then requests may be sent

    def _write_to(self, client: NatsClient) -> None:
        if large := self.sender.attach(client, self.max_payload):
            log.warning("%d messages are larger than this NATS server takes and were dropped", large)
        if self._stream is not None:
            self._stream.linked(client)

    # -- a server that is about to shut down (lame duck): the new link stands before the old one is left

    def _move(self, old: Connected) -> Connected | None:
        """Take all over to another server; None if there is none, or we stop, and the old link goes on."""
        try:
            new = self._connecting.another(old)
        except LinkError as error:
            self._connecting.current = old
            log.debug("lame duck: %s", error)
            return None
        log.info("NATS server is about to shut down (lame duck): moving to another")
        both = BothLinks()
        held = self.subscriptions.held()
        self._bring_over(old.client, new.client, held, both)
        confirmed = self.sender.rest(self._options.timing.settle)
        gone, missing = self.subscriptions.move(new.client, held, self._flow)
        self._unconfirmed += (unconfirmed := self.sender.detach())
        if unconfirmed or not confirmed:
            log.warning("NATS: %d messages may have been lost on their way to the server", unconfirmed)
        old.client.take_back()
        if self._stream is not None:
            self._stream.unlinked()
        if self._many is not None:
            self._many.linked(new.client, both.of(1, self._many.deliver))
        self.servers.used(old.url, short=False)
        self._learn(new.client)
        self._write_to(new.client)
        if missing:
            self._bring_over(old.client, new.client, missing, both)
        self.subscriptions.leave(new.client, gone)
        self._say_connected(new)
        self._let_go(old.client, new.client, held | missing, both)
        return new

    def _bring_over(self, old: NatsClient, new: NatsClient, held: dict[int, Subscription], both: BothLinks) -> None:
        """Have these by both links. What the old one has brought before may still be on its way to the new server."""
        self.subscriptions.remember(held, both)
        if self._many is not None:
            old.many = both.of(0, self._many.deliver)
        self._stopping.wait(self._options.timing.crossing)
        self.subscriptions.hold_both(new, held, both)

    def _let_go(self, old: NatsClient, new: NatsClient, held: dict[int, Subscription], both: BothLinks) -> None:
        """Leave the old link when the cluster knows the new one, and all that came by it is handed on."""
        self._stopping.wait(self._options.timing.settle)
        both.sure()
        with suppress(LinkError):
            for wire in list(old._subs.values()):
                if wire.queue:
                    old._send(b"UNSUB", wire.sid)
        for then in (both.certain, old.close):
            for client in (old, new):
                client.flush(self._options.timing.settle)
            self._stopping.wait(self._options.timing.settle / 2)
            then()
        new.flush(self._options.timing.settle)
        self._stopping.wait(self._options.timing.settle)
        for sub in held.values():
            if sub.wire is not None:
                sub.wire.callback = sub.deliver
        if self._many is not None:
            new.many = self._many.deliver

    def _serve(self, current: Connected) -> None:
        """Wait for the end of the link. Raises LinkError."""
        began = self._link.clock()
        while not current.lost.is_set() and not self._stopping.is_set():
            if current.lame and (another := self._move(current)) is not None:
                current, began = another, self._link.clock()
            self._link.beat = self._link.clock()
            if not self._wake.wait(self._options.timing.round) or self.subscriptions.urgent:
                self._try_refused(current.client)
            self._wake.clear()
        self.subscriptions.unlinked()
        if self._many is not None:
            self._many.unlinked()
        if self._questions is not None:
            self._questions.unlinked()
        if self._stream is not None:
            self._stream.unlinked()
        unconfirmed = self.sender.detach()
        self._unconfirmed += unconfirmed
        current.client.close()
        if self._stopping.is_set():
            return
        self.servers.used(current.url, self._link.clock() - began < STEADY)
        self._losses += 1
        if unconfirmed:
            log.warning("NATS: %d messages may have been lost on their way to the server", unconfirmed)
        log.warning("NATS lost: %s", current.reason)
        raise LinkError(current.reason)

    def _try_refused(self, client: NatsClient) -> None:
        """Subscribe once more to what the server has refused or taken away: permissions change."""
        if self._many is not None:
            self._many.try_again()
        if self._stream is not None and self._stream.deaf:
            self._stream.linked(client)
        self.subscriptions.try_refused(client)

    def complained(self, text: str, before: set[str]) -> None:
        """See Owner. A refused subject goes on being used, so each is logged once, and not any number of them."""
        optional = False
        if text.startswith("Permissions Violation for Subscription"):
            optional = self.subscriptions.complained(text)
            if self._stream is not None and self._stream.complained(text):
                return
        elif text.casefold() == TOO_MANY:
            self.subscriptions.no_room(text)
            if self.subscriptions.urgent:
                self._wake.set()
        if text.startswith("Permissions Violation for Publish"):
            self._refused += 1
            if self._questions is not None:
                self._questions.refused(text)
            if self._stream is None:
                self._event_refused(text)
        self._lines.complained(text)
        if self._many is not None and self._many.complained(text):
            return
        if text not in before and len(before) < TOLD:
            before.add(text)
            log.log(logging.INFO if optional else logging.WARNING, "NATS server says: %s", text)
            if len(before) == TOLD:
                log.warning("NATS: further complaints of this server are not logged until it is connected again")

    def _event_refused(self, text: str) -> None:
        """The server names the subject to which we must not publish. Source: nats-server, pubPermissionViolation."""
        subject = text.partition('"')[2].rpartition('"')[0]
        if self._options.events and subject.startswith(self._options.events) and subject != self._options.gaps:
            self._observer.lost(Loss(SERVER_REFUSED, 1))

    def informed(self, client: NatsClient) -> None:
        """See Owner. At the start, and whenever the cluster changes."""
        if self.client in (None, client):
            self._learn(client)

    def ponged(self, client: NatsClient) -> None:
        """See Owner."""
        if self.client is client:
            self.sender.pong()

    def happened(self) -> None:
        """See Owner."""
        self._wake.set()

    def _learn(self, client: NatsClient) -> None:
        """What the server says of itself and of the cluster."""
        info = client.info
        size = info.get("max_payload")
        if type(size) is int and size > 0:  # JSON's true is an int too
            self.max_payload = size
            self.events.max_payload = size if self._stream is None else size - HEADERS
        urls = info.get("connect_urls")
        if isinstance(urls, list) and not self._options.ignore_discovered:
            self.servers.discovered(urls)
