"""The `nats` driver: one link to a NATS server or cluster that comes back by itself.

Threads: `nats-link` connects and connects again; the daemon's loop, or without one `nats-reader` (pynats2's waiter),
hands messages on; `nats-pinger` keeps the link honest; `nats-flush` writes what the socket did not take at once.
Publishing never waits for the network: what can't be sent is kept, in order, up to `reconnect_buf_size` bytes
(nats_sender.py, nats_buffer.py).
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Driver, Message
from event_agent.drivers.nats.auth import Credentials, client_name
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.sender import NatsSender
from event_agent.drivers.nats.servers import ServerPool
from event_agent.drivers.nats.socket import TlsOptions
from event_agent.drivers.nats.wire import CONTROL_LINE, SHORT, TOO_LONG, hpub, line_size, pub, sendable
from event_agent.errors import AgentError, LinkError
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.health import CONNECTING, STUCK, Missing, Rounds, Signs, Watched, only_if
from event_agent.runtime.log import Seldom

log = logging.getLogger(__name__)

MAX_PAYLOAD = 1048576  # bytes, until a server says otherwise; nats-server's default
LEAST_LINE = 256  # bytes; no server is taken to accept less on a line
SID = 24  # bytes at most of what else is on the line of a subscription
MARK = 600  # bytes at most of the headers that mark an error
SETTLE = 0.5  # seconds an unsubscribe waits until all that was on its way has been handed on
STEADY = 10.0  # seconds that a link must last; if it does not, the next try waits longer
TOLD = 16  # different complaints of a server, or faults of a try to connect, that are logged until things change
ROUND = 5.0  # seconds after which nats-link comes round although nothing has happened: the watchdog looks for that


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


@dataclass(slots=True)
class _Subscription:
    subject: str
    queue: str
    callback: Callable[[Message], None]
    wire: Any = None  # pynats2's own, on the present connection


class NatsDriver(Driver):
    """See the module's text."""

    def __init__(self, options: NatsOptions) -> None:
        super().__init__()
        self._options = options
        self._servers = ServerPool(options.servers)
        self._client: NatsClient | None = None
        self._subs: dict[int, _Subscription] = {}
        self._next = 1
        self._lock = threading.Lock()  # guards _subs, and which client they are on; never held while sending
        self._sender = NatsSender(options.buffer)
        self._lost = threading.Event()
        self._stopping = threading.Event()
        self._reason = ""
        self._max_payload = MAX_PAYLOAD
        self._most_line = CONTROL_LINE
        self._longest = 0  # bytes of the longest line that was sent, of those that are long at all
        self._unsendable = 0  # messages that were dropped for their subject
        self._say_unsendable = Seldom()
        self._complaints: set[str] = set()  # of this link's server, logged
        self._unconfirmed = self._reconnects = self._refused = 0
        self._thread = threading.Thread(target=self._link, name="nats-link", daemon=True)

    # -- life

    def connect(self) -> None:
        """Begin connecting; returns at once."""
        count = len(self._options.servers)
        log.info("NATS configured with %d server%s", count, "s (cluster failover)" if count > 1 else "")
        self._thread.start()
        self._sender.start()

    def close(self, timeout: float) -> None:
        """Send what waits, end the link and the threads, within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        client = self._client
        if client is not None:
            while self._sender.waiting and not self._lost.is_set() and time.monotonic() < deadline:
                self._sender.hurry()
                self._stopping.wait(0.01)
            client.flush(max(0.05, deadline - time.monotonic()))
        self._stopping.set()
        self._lost.set()
        if client is not None:
            client.close()
        self._sender.stop(max(0.1, deadline - time.monotonic()))
        if self._thread.ident and self._thread is not threading.current_thread():
            self._thread.join(max(0.1, deadline - time.monotonic()))

    def signs(self) -> Signs:
        """See Driver."""
        wait = CONNECTING + 2 * self._options.reconnect_wait
        pings = self._options.ping_interval + STUCK
        linked, away = lambda: self.is_connected, lambda: not self.is_connected
        return Signs(
            ("nats-link", "nats-flush"),
            (
                Watched("thread nats-pinger", STUCK, only_if(linked, Missing("nats-pinger"))),
                Watched("thread nats-pinger", pings, only_if(linked, Rounds("nats-pinger"))),
                Watched("thread nats-flush", STUCK, Rounds("nats-flush")),
                Watched("thread nats-link", STUCK, only_if(linked, Rounds("nats-link"))),
                Watched("thread nats-link", wait, only_if(away, Rounds("nats-link"))),
            ),
        )

    # -- subscriptions

    def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> int:
        """See Driver."""
        if len(subject.encode()) + len(queue.encode()) + SID > CONTROL_LINE:
            raise AgentError(f"a subject of {len(subject)} characters can't be subscribed to")
        with self._lock:
            if len(self._subs) >= MAX_SUBSCRIPTIONS:
                raise AgentError(f"more than {MAX_SUBSCRIPTIONS} subscriptions: {subject}")
            number = self._next
            self._next += 1
            sub = self._subs[number] = _Subscription(subject, queue, callback)
            client = self._client
        if client is not None:
            self._subscribe_on(client, sub)
        return number

    def unsubscribe(self, number: int) -> None:
        """See Driver."""
        with self._lock:
            sub = self._subs.pop(number, None)
            client = self._client
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
            sub.wire = client.subscribe(sub.subject, callback=sub.callback, queue=sub.queue)
        except LinkError as error:
            log.debug("subscribe: %s", error)  # done again at the next connect

    # -- publishing

    def publish(self, subject: str, payload: bytes) -> bool:
        """See Driver."""
        to = subject.encode()
        return self._put(to, pub(to, payload))

    def reply(self, message: Message, payload: bytes, error: str = "") -> bool:
        """See Driver. A request with headers gets an error marked as the micro services protocol has it."""
        to = message.reply
        if error and message.headers and len(payload) + MARK <= self._max_payload:  # headers count too
            text = " ".join(error.split()).encode(errors="replace")[:512].decode(errors="ignore")
            headers = {"Nats-Service-Error": text, "Nats-Service-Error-Code": "500"}
            return self._put(to, hpub(to, headers, payload))
        return self._put(to, pub(to, payload))

    def _put(self, subject: bytes, message: bytes) -> bool:
        """Have a message sent, unless the server would end the link for it: a subject may be anybody's choice."""
        if not sendable(subject, message, self._most_line):
            self._unsendable += 1
            if self._say_unsendable.due():
                log.warning(
                    "%d messages were dropped: their subject has a line break, or is too long for the NATS server; "
                    "the last one has %d bytes", self._unsendable, len(subject))  # fmt: skip
            return self._sender.drop()
        if len(subject) > SHORT:
            self._longest = max(self._longest, line_size(message))
        return self._sender.put(message)

    def batch(self) -> AbstractContextManager[object]:
        """See Driver."""
        return self._sender.batch()

    # -- the link

    @property
    def is_connected(self) -> bool:
        """See Driver."""
        return self._sender.linked

    @property
    def max_payload(self) -> int:
        """See Driver."""
        return self._max_payload

    def stats(self) -> dict[str, Any]:
        """See Driver."""
        client = self._client
        return {
            "server": str(client.info.get("server_name") or client.info.get("server_id", "")) if client else "",
            **self._sender.figures(),
            "messages_unconfirmed": self._unconfirmed,
            "messages_refused": self._refused,
            "reconnects": self._reconnects,
        }

    def _link(self) -> None:
        """The nats-link thread: connect, wait for the end, connect again."""
        first = self._options.reconnect_wait
        backoff = Backoff(first, max(first, min(10.0, 10 * first)))
        tries = 0
        told: set[str] = set()
        while not self._stopping.is_set():
            url = self._servers.next()
            try:
                client = self._open(url)
            except LinkError as error:
                tries += 1
                fault = str(error)
                if fault not in told and len(told) < TOLD:
                    told.add(fault)
                    log.warning("NATS at %s: %s; trying on", self._servers.shown(url), fault)
                if 0 <= self._options.max_reconnect < tries // len(self._servers):
                    self.on_gave_up(f"NATS could not be reached in {tries} tries (max_reconnect): {fault}")
                    return
                if self._servers.round_done:
                    self._pause(backoff.next())
                continue
            tries = 0
            told.clear()
            began = time.monotonic()
            self._up(client, url)
            while not self._lost.wait(ROUND):
                pass
            self._down(client)
            if time.monotonic() - began > STEADY:
                backoff.reset()
                self._pause(random.uniform(0, 0.1))
            else:  # a server that takes us and drops us must not be knocked at, nor the log filled, without a pause
                self._pause(backoff.next())

    def _pause(self, seconds: float) -> None:
        """Wait, unless the end comes. In parts: a thread that is not heard of for long counts as stuck."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._stopping.wait(min(left, 30.0)):
            pass

    def _down(self, client: NatsClient) -> None:
        """The link is lost."""
        with self._lock:
            self._client = None
        unconfirmed = self._sender.detach()
        self._unconfirmed += unconfirmed
        client.close()
        if not self._stopping.is_set():
            self._reconnects += 1
            if unconfirmed:
                log.warning("NATS: %d messages may have been lost on their way to the server", unconfirmed)
            self.on_down(self._reason)

    def _open(self, url: str) -> NatsClient:
        client = NatsClient(
            url,
            name=client_name(),
            credentials=self._options.credentials.renewed(),
            tls=self._options.tls,
            tls_name=self._servers.tls_name(url),
            ping_interval=self._options.ping_interval,
            loop=self.loop,
        )
        self._lost.clear()
        if self._stopping.is_set():
            raise LinkError("stopping")

        def closed(reason: str) -> None:
            self._reason = reason
            self._lost.set()

        client.on_closed = closed
        client.on_info = self._informed
        client.on_error = self._complained
        client.on_read_end = lambda: self.on_batch_end()
        client.on_pong = self._sender.pong
        client.connect()
        return client

    def _up(self, client: NatsClient, url: str) -> None:
        self._complaints.clear()
        self._informed(client.info)
        known: dict[int, _Subscription] = {}
        while True:
            with self._lock:
                new = {number: sub for number, sub in self._subs.items() if number not in known}
                if not new:  # from here on `subscribe` sees the client
                    gone = [sub for number, sub in known.items() if number not in self._subs]
                    self._client = client
                    break
            for sub in new.values():
                self._subscribe_on(client, sub)
            known |= new
        # Subscriptions first, then what waited.
        if large := self._sender.attach(client, self._max_payload):
            log.warning("%d messages are larger than this NATS server takes and were dropped", large)
        for sub in gone:
            self._leave(client, sub)
        log.info("NATS connected: %s (%s)", self._servers.shown(url), client.info.get("version", "?"))
        self.on_up()

    def _complained(self, text: str) -> None:
        """-ERR came. A refused subject goes on being used, so each is told once, and not any number of them."""
        if text.startswith("Permissions Violation for Publish"):
            self._refused += 1
        elif text.casefold() == TOO_LONG and self._longest:
            # Its limit was set below the usual one. It does not say how far; this finds out in a few links.
            self._most_line = max(LEAST_LINE, min(self._most_line, self._longest) // 2)
            self._longest = 0
            log.warning("NATS: from now on no message is sent whose line has more than %d bytes", self._most_line)
        if text not in self._complaints and len(self._complaints) < TOLD:
            self._complaints.add(text)
            log.warning("NATS server says: %s", text)
            if len(self._complaints) == TOLD:
                log.warning("NATS: further complaints of this server are not logged until it is connected again")

    def _informed(self, info: dict[str, Any]) -> None:
        """INFO came: at the start, and whenever the cluster changes."""
        size = info.get("max_payload")
        if isinstance(size, int) and size > 0:
            self._max_payload = size
        urls = info.get("connect_urls")
        if isinstance(urls, list):
            self._servers.discovered([str(url) for url in urls])
        client = self._client
        if info.get("ldm") and client is not None and len(self._servers) > 1:
            log.info("NATS server is about to shut down (lame duck): moving to another")
            client.blame("lame duck")
            client.abort()
