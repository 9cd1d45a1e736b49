"""The `nats` driver: one link to a NATS server or cluster that comes back by itself.

Threads: `nats-link` connects and connects again (runtime/link.py); the daemon's loop reads and hands messages on;
`nats-pinger` keeps the link honest; `nats-flush` writes what the socket did not take at once. Sending never waits for
the network: what can't be sent is kept, in order, up to `reconnect_buf_size` bytes (sender.py, outbuffer.py).

Events are delivered at most once. They are settled when the server has confirmed, by a PONG, that it has them; what was
written and not confirmed when a link is lost counts as lost, and is not sent again.

Reading is in one of three states:

    FLOWING --pause--> PAUSED --resume--> FLOWING
                       PAUSED --`pause` seconds--> OVERRUN --resume, or a new link--> FLOWING

In OVERRUN it is read although nobody has room: whoever takes the requests refuses them. A server that is not read for
long ends the link, and with it all that others wait for.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit

from event_agent.drivers.base import (
    BUFFER_FULL,
    MAX_SUBSCRIPTIONS,
    SERVER_REFUSED,
    Deliver,
    Driver,
    Event,
    EventSink,
    Loss,
    Observer,
    Reply,
)
from event_agent.drivers.nats import connection
from event_agent.drivers.nats.asking import NatsQuestions
from event_agent.drivers.nats.auth import Credentials, client_name
from event_agent.drivers.nats.bothlinks import BothLinks
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.lines import Lines
from event_agent.drivers.nats.many import TOO_MANY, NatsMany
from event_agent.drivers.nats.race import greetings
from event_agent.drivers.nats.sender import NatsSender
from event_agent.drivers.nats.servers import ServerPool
from event_agent.drivers.nats.socket import TlsOptions
from event_agent.drivers.nats.stream import HEADERS, StreamEvents, StreamOptions
from event_agent.drivers.nats.wire import CONTROL_LINE, SHORT, hpub, pub
from event_agent.errors import AgentError, GaveUp, LinkError, NotAuthorized
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.health import STUCK, Missing, Rounds, Signs, Watched, only_if
from event_agent.runtime.link import ROUND, STEADY, Link, LinkStatus, keep_connected
from event_agent.runtime.log import escaped
from event_agent.runtime.loop import Loop, Timer

log = logging.getLogger(__name__)

MAX_PAYLOAD = 1048576  # bytes, until a server says otherwise; nats-server's default
MARK = 600  # bytes at most of the headers that mark an error
SID = 24  # bytes at most of what else is on the line of a subscription
SETTLE = 0.5  # seconds the server has to take over subscriptions, or to hand on what was on its way to one that ends
PAUSE = 4.0  # seconds; nats-server ends the link of a client that takes nothing for 10 s (its write_deadline)
RARELY = 12  # rounds after which the server is asked once more for what is optional
TOLD = 16  # different complaints of a server, or faults of a try to connect, that are logged until things change


@dataclass(frozen=True)
class NatsOptions:
    """The link's settings; durations in seconds, sizes in bytes."""

    servers: tuple[str, ...]
    credentials: Credentials = field(default_factory=Credentials)
    tls: TlsOptions = field(default_factory=TlsOptions)
    max_reconnect: int = -1
    reconnect_wait: float = 1.0
    buffer: int = 8388608
    ping_interval: float = 30.0
    ping_timeout: float = connection.PING_TIMEOUT
    ignore_discovered: bool = False
    pause: float = PAUSE
    events: str = ""  # how the subjects of events begin
    gaps: str = ""  # the subject on which losses are announced: its own refusal is not one
    stream: StreamOptions | None = None  # how events are delivered at least once; None: at most once


class Reading(Enum):
    """See the module's text."""

    FLOWING = auto()
    PAUSED = auto()
    OVERRUN = auto()


@dataclass(slots=True)
class _Subscription:
    subject: str
    queue: str
    deliver: Deliver
    wire: Any = None  # pynats2's own, on the present connection
    optional: bool = False  # its refusal is no fault
    refused: str = ""  # what the server said of it; empty while it holds
    again: bool = False  # it has said so since it was tried last


class _Connection(connection.Observer):
    """One connection, and what is heard of it."""

    def __init__(self, driver: NatsDriver, url: str) -> None:
        self.driver = driver
        self.url = url
        self.client: NatsClient
        self.lost = threading.Event()
        self.lame = False  # the server is about to shut down
        self.reason = ""
        self.complaints: set[str] = set()  # logged

    def closed(self, reason: str) -> None:
        self.reason = reason
        self.lost.set()
        self.driver._wake.set()

    def informed(self, info: dict[str, Any]) -> None:
        if self.driver.client in (None, self.client):
            self.driver._informed(self.client)
        if info.get("ldm") and not self.lame:
            self.lame = True
            self.driver._wake.set()

    def complained(self, text: str) -> None:
        self.driver._complained(text, self.complaints)

    def ponged(self) -> None:
        if self.driver.client is self.client:
            self.driver.sender.pong()


class NatsEvents(EventSink):
    """Events delivered at most once; see the module's text."""

    def __init__(self, sender: NatsSender, lines: Lines) -> None:
        self.sender = sender
        self._lines = lines
        self._queue = sender.events
        self.max_payload = MAX_PAYLOAD

    def offer(self, events: Sequence[Event]) -> int:
        """See EventSink."""
        messages = []
        takes = self._lines.takes
        self.refused = BUFFER_FULL
        for event in events:
            subject = event.subject
            message = pub(subject, event.payload)
            if len(subject) <= SHORT or takes(subject, message):  # the names of events make no line breaks
                messages.append(message)
            else:
                self.refused = SERVER_REFUSED
        return self.sender.put(self._queue, messages)

    def announce(self, event: Event) -> int:
        """See EventSink."""
        message = pub(event.subject, event.payload)
        return self.sender.announce(message) if self._lines.takes(event.subject, message) else 0

    @property
    def pending(self) -> int:
        """See EventSink."""
        return self._queue.pending

    def flush(self, timeout: float) -> bool:
        """See EventSink."""
        return self.sender.wait(lambda: not self._queue.pending, timeout)


class NatsDriver(Driver):
    """See the module's text."""

    name = "nats"
    wildcards = True

    def __init__(self, options: NatsOptions, loop: Loop, observer: Observer | None = None) -> None:
        """`loop` reads. It runs before `start`, and until after `stop`."""
        self._options = options
        self._loop = loop
        self._observer = observer or Observer()
        self.servers = ServerPool(options.servers)
        self.client: NatsClient | None = None
        self._subs: dict[int, _Subscription] = {}
        self._next = 1
        self._lock = threading.Lock()  # guards _subs, which client they are on, _reading; never held while sending
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
            self._stream = StreamEvents(
                options.stream, self.sender, self.sender.events, loop, MAX_PAYLOAD, self._observer.lost
            )
            self.events = self._stream
        self.max_payload = MAX_PAYLOAD
        self._reading = Reading.FLOWING
        self._overrun: Timer | None = None
        self._stopping = threading.Event()
        self._current: _Connection | None = None  # of nats-link alone, but that `stop` ends it
        self._wake = threading.Event()  # something has happened to a link
        self._tries = 0  # since the last link
        self._faults: set[str] = set()  # of these, logged
        self._rounds = 0
        self._unconfirmed = self._losses = self._refused = 0
        self._too_many = ""  # what the server said of subscriptions, of which it did not name one
        self._tried: _Subscription | None = None  # the one that is tried again just now
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
        client, current = self.client, self._current
        if client is not None and current is not None:
            if self._stream is not None:
                self._stream.flush(timeout / 2)
            self.sender.wait(lambda: not self.sender.waiting or current.lost.is_set(), timeout)
            client.flush(max(0.05, deadline - time.monotonic()))
        self._stopping.set()
        if (last := self._current) is not None:  # looked at after that: `_open` looks at them the other way round
            last.lost.set()
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
        with self._lock:
            refused = [sub for sub in self._subs.values() if sub.refused]
        found = {sub.subject: sub.refused for sub in refused if not (needed and sub.optional)}
        if self._many is not None:
            found |= self._many.refused(needed)
        if self._stream is not None and (deaf := self._stream.deaf):
            found |= deaf
        return found

    # -- requests

    def subscribe(self, subject: str, deliver: Deliver, queue: str = "") -> int:
        """See RequestSource."""
        return self._add(_Subscription(subject, queue, deliver))

    def subscribe_below(self, subject: str, deliver: Deliver, queue: str = "", optional: bool = False) -> int:
        """See RequestSource."""
        return self._add(_Subscription(f"{subject}.>", queue, deliver, optional=optional))

    def _add(self, sub: _Subscription) -> int:
        subject, queue = sub.subject, sub.queue
        if len(subject.encode()) + len(queue.encode()) + SID > CONTROL_LINE:
            raise AgentError(f"a subject of {len(subject)} characters can't be subscribed to")
        with self._lock:
            if len(self._subs) >= MAX_SUBSCRIPTIONS:
                raise AgentError(f"more than {MAX_SUBSCRIPTIONS} subscriptions: {subject}")
            number = self._next
            self._next += 1
            self._subs[number] = sub
            client = self.client
        if client is not None:
            self._subscribe_on(client, sub)
        return number

    def unsubscribe(self, number: int) -> None:
        """See RequestSource."""
        with self._lock:
            sub = self._subs.pop(number, None)
            client = self.client
        if sub is not None and client is not None:
            self._leave(client, sub)

    def _leave(self, client: NatsClient, sub: _Subscription) -> None:
        if sub.wire is not None:
            try:
                client.leave(sub.wire, SETTLE)
            except LinkError as error:
                log.debug("unsubscribe: %s", error)  # the link is gone, and with it the subscription

    def _subscribe_on(self, client: NatsClient, sub: _Subscription) -> None:
        try:
            sub.wire = client.subscribe(sub.subject, callback=sub.deliver, queue=sub.queue)
        except LinkError as error:
            log.debug("subscribe: %s", error)  # done again at the next connect

    def many(self, deliver: Deliver) -> NatsMany:
        """See RequestSource. Before the start."""
        self._many = NatsMany(deliver)
        return self._many

    def questions(self, name: str) -> NatsQuestions:
        """See Driver."""
        self._questions = NatsQuestions(name, self.subscribe, self._loop.after, lambda: self.client, self.refused)
        return self._questions

    def pause(self) -> None:
        """See RequestSource."""
        with self._lock:
            if self._reading is Reading.FLOWING and self.client is not None:
                self._reading = Reading.PAUSED
                self._overrun = self._loop.after(self._options.pause, self._read_all_the_same)
                self.client.pause()

    def resume(self) -> None:
        """See RequestSource."""
        with self._lock:
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
        with self._lock:
            if self._reading is Reading.PAUSED:
                self._flow()
                self._reading = Reading.OVERRUN

    # -- replies

    def send(self, replies: Sequence[Reply]) -> int:
        """See Replies. A request with headers gets an error marked as the micro services protocol has it."""
        messages = []
        for message, payload, error in replies:
            to = message.reply
            if error and message.headers and len(payload) + MARK <= self.max_payload:  # headers count too
                text = escaped(" ".join(error.split())).encode()[:512].decode(errors="ignore")
                data = hpub(to, {"Nats-Service-Error": text, "Nats-Service-Error-Code": "500"}, payload)
            else:
                data = pub(to, payload)
            # Most need not be measured; asking costs as much as the rest of this.
            if len(to) <= SHORT and b"\r" not in to or self._lines.takes(to, data):
                messages.append(data)
        return self.sender.put(self.sender.replies, messages)

    # -- the link

    def _keep(self) -> None:
        """The nats-link thread."""
        first = self._options.reconnect_wait
        backoff = Backoff(first, max(first, min(10.0, 10 * first)))
        keep_connected(self._connect, self._serve, backoff, self._stopping, self._link)

    def _connect(self) -> _Connection:
        """A link with our subscriptions to the first server that takes us. Raises LinkError."""
        current = self._find()
        self._tries = 0
        self._faults.clear()
        self._take_over(current.client)
        self._say_connected(current)
        return current

    def _say_connected(self, current: _Connection) -> None:
        version = current.client.info.get("version", "?")
        log.info("NATS connected: %s (%s)", self.servers.shown(current.url), version)

    def _go_on(self) -> bool:
        self._link.beat = self._link.clock()
        return not self._stopping.is_set()

    def _find(self, leaving: _Connection | None = None) -> _Connection:
        """Try each server once, but not the one that we are leaving. Raises LinkError."""
        fault = LinkError("stopping")
        urls = [each for each in self.servers.round() if leaving is None or each != leaving.url]
        with closing(greetings(urls, connection.CONNECT_LIMIT, self._go_on, self._begin_tls)) as found:
            for url, answer in found:
                try:
                    if isinstance(answer, LinkError):
                        raise answer
                    return self._open(url, answer, leaving)
                except LinkError as error:
                    if not isinstance(answer, LinkError):
                        answer.close()
                    fault = error
                    if leaving is None:
                        self._failed(url, error)
        raise fault

    def _begin_tls(self, url: str, sock: socket.socket) -> socket.socket:
        from event_agent.drivers.nats import tls  # only here: see there

        return tls.begin(sock, self._options.tls, self.servers.tls_name(url) or urlsplit(url).hostname or "")

    def _failed(self, url: str, error: LinkError) -> None:
        """Raises GaveUp if that was the last try."""
        self._tries += 1
        fault = str(error)
        if fault not in self._faults and len(self._faults) < TOLD and not self._stopping.is_set():
            self._faults.add(fault)
            if isinstance(error, NotAuthorized):
                log.warning("NATS at %s refused us: %s; retrying", self.servers.shown(url), error.why)
            else:
                log.warning("NATS at %s: %s; retrying", self.servers.shown(url), fault)
        if 0 <= self._options.max_reconnect < self._tries // len(self.servers):
            raise GaveUp(f"NATS could not be reached in {self._tries} tries (max_reconnect): {fault}") from None

    def _open(self, url: str, sock: socket.socket, leaving: _Connection | None = None) -> _Connection:
        """The server has greeted: become its client. Raises LinkError."""
        options = self._options
        current = _Connection(self, url)
        current.client = client = NatsClient(
            url,
            name=client_name(),
            credentials=options.credentials.renewed(),
            tls=options.tls,
            tls_name=self.servers.tls_name(url),
            ping_interval=options.ping_interval,
            ping_timeout=options.ping_timeout,
            loop=self._loop,
            observer=current,
            sock=sock,
        )
        self._current = current
        if self._stopping.is_set():
            raise LinkError("stopping")
        client.connect()
        left = leaving.client.info.get("server_id") if leaving is not None else None
        if left and left == client.info.get("server_id"):  # by another of its addresses
            client.close()
            raise LinkError("it is the same server")
        return current

    def _take_over(self, client: NatsClient) -> None:
        """All goes over this connection from now on: subscriptions first, then what waited."""
        self._informed(client)
        with self._lock:
            for sub in self._subs.values():
                sub.refused = ""  # by another server
        known: dict[int, _Subscription] = {}
        while True:
            with self._lock:
                new = {number: sub for number, sub in self._subs.items() if number not in known}
                if not new:  # from here on `subscribe` sees the client
                    gone = [sub for number, sub in known.items() if number not in self._subs]
                    self.client = client
                    self._flow()
                    break
            for sub in new.values():
                self._subscribe_on(client, sub)
            known |= new
        if self._many is not None:
            self._many.linked(client)
        self._write_to(client)
        for sub in gone:
            self._leave(client, sub)
        client.flush(SETTLE)  # the link counts as up when the server has our subscriptions: then requests may be sent

    def _write_to(self, client: NatsClient) -> None:
        if large := self.sender.attach(client, self.max_payload):
            log.warning("%d messages are larger than this NATS server takes and were dropped", large)
        if self._stream is not None:
            self._stream.linked(client)

    # -- a server that is about to shut down (lame duck): the new link stands before the old one is left

    def _move(self, old: _Connection) -> _Connection | None:
        """Take all over to another server; None if there is none, or we stop, and the old link goes on."""
        try:
            new = self._find(old)
        except LinkError as error:
            self._current = old
            log.debug("lame duck: %s", error)
            return None
        log.info("NATS server is about to shut down (lame duck): moving to another")
        both = BothLinks()
        held = self._hold_both(old.client, new.client, both)
        confirmed = self.sender.rest(SETTLE)
        with self._lock:
            self._flow()
            self.client = new.client
            gone = [sub for number, sub in held.items() if number not in self._subs]
            missing = [sub for number, sub in self._subs.items() if number not in held]
        self._unconfirmed += (unconfirmed := self.sender.detach())
        if unconfirmed or not confirmed:
            log.warning("NATS: %d messages may have been lost on their way to the server", unconfirmed)
        old.client.take_back()
        if self._stream is not None:
            self._stream.unlinked()
        if self._many is not None:
            old.client.many = both.of(0, self._many.deliver)
            self._many.linked(new.client)
            new.client.many = both.of(1, self._many.deliver)
        self.servers.used(old.url, short=False)
        self._informed(new.client)
        self._write_to(new.client)
        for sub in missing:
            self._subscribe_on(new.client, sub)
        for sub in gone:
            self._leave(new.client, sub)
        self._say_connected(new)
        self._let_go(old.client, new.client, held)
        return new

    def _hold_both(self, old: NatsClient, new: NatsClient, both: BothLinks) -> dict[int, _Subscription]:
        """Subscribe on the new link too. What has no queue group comes by both of them from now on."""
        with self._lock:
            held = dict(self._subs)
            for sub in held.values():
                sub.refused = ""  # by another server
        for sub in held.values():
            if not sub.queue and sub.wire is not None:
                sub.wire.callback = both.of(0, sub.deliver)
            self._subscribe_on(new, sub)
            if not sub.queue and sub.wire is not None:
                sub.wire.callback = both.of(1, sub.deliver)
        new.flush(SETTLE)
        return held

    def _let_go(self, old: NatsClient, new: NatsClient, held: dict[int, _Subscription]) -> None:
        """Leave the old link when the cluster knows the new one, and all that came by it is handed on."""
        self._stopping.wait(SETTLE)
        with suppress(LinkError):
            for wire in list(old._subs.values()):
                if wire.queue:
                    old._send(b"UNSUB", wire.sid)
        for _ in range(2):
            old.flush(SETTLE)
            self._stopping.wait(SETTLE / 2)
        old.close()
        new.flush(SETTLE)
        self._stopping.wait(SETTLE)
        for sub in held.values():
            if sub.wire is not None:
                sub.wire.callback = sub.deliver
        if self._many is not None:
            new.many = self._many.deliver

    def _serve(self, current: _Connection) -> None:
        """Wait for the end of the link. Raises LinkError."""
        began = self._link.clock()
        while not current.lost.is_set() and not self._stopping.is_set():
            if current.lame and (another := self._move(current)) is not None:
                current, began = another, self._link.clock()
            self._link.beat = self._link.clock()
            if not self._wake.wait(ROUND) or self._too_many:
                self._try_refused(current.client)
            self._wake.clear()
        with self._lock:
            self.client = None
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
        self._rounds += 1
        rarely = self._rounds % RARELY == 0
        with self._lock:
            every, self._too_many = bool(self._too_many), ""  # which of them there is no room for, it does not say
            refused = [
                sub for sub in self._subs.values() if every or (sub.refused and (rarely or not sub.optional))
            ]
        for sub in refused:
            sub.again, self._tried = False, sub
            with suppress(LinkError):
                if sub.wire is not None:
                    client.unsubscribe(sub.wire)
            self._subscribe_on(client, sub)
            if not client.flush(SETTLE):
                break
            if sub.refused and not sub.again:
                sub.refused = ""
                log.info("NATS server takes the subscription to %s", sub.subject)
        self._tried = None

    def _subscription_refused(self, text: str) -> bool:
        """True if it was optional: that is no fault.

        The server names the subject. It says so at once, or when permissions are changed (nats-server, client.go:
        processSub, removeUnauthorizedSubs); the link goes on."""
        subject = text.partition('"')[2].partition('"')[0]
        optional = False
        with self._lock:
            for sub in self._subs.values():
                if sub.subject == subject:
                    sub.refused, sub.again = text, True
                    optional = sub.optional
        return optional

    def _no_room(self, text: str) -> None:
        """The server takes no further subscription."""
        if (tried := self._tried) is not None:
            tried.refused, tried.again = text, True
        else:
            self._too_many = text
            self._wake.set()

    def _complained(self, text: str, before: set[str]) -> None:
        """-ERR came. A refused subject goes on being used, so each is logged once, and not any number of them."""
        optional = False
        if text.startswith("Permissions Violation for Subscription"):
            optional = self._subscription_refused(text)
            if self._stream is not None and self._stream.complained(text):
                return
        elif text.casefold() == TOO_MANY:
            self._no_room(text)
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

    def _informed(self, client: NatsClient) -> None:
        """INFO came: at the start, and whenever the cluster changes."""
        info = client.info
        size = info.get("max_payload")
        if type(size) is int and size > 0:  # JSON's true is an int too
            self.max_payload = size
            self.events.max_payload = size if self._stream is None else size - HEADERS
        urls = info.get("connect_urls")
        if isinstance(urls, list) and not self._options.ignore_discovered:
            self.servers.discovered(urls)
