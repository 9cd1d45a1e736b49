"""The `nats` driver: one link to a NATS server or cluster that comes back by itself.

Threads: `nats-link` connects and connects again; `nats-reader` (pynats2's waiter) hands messages on; `nats-pinger`
keeps the link honest; `nats-flush` writes what the socket did not take at once. Publishing never waits for the
network: what can't be sent is kept, in order, up to `reconnect_buf_size` bytes.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from event_agent.backoff import Backoff
from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Driver, Message
from event_agent.drivers.nats_auth import Credentials
from event_agent.drivers.nats_client import NatsClient, TlsOptions, client_name
from event_agent.drivers.nats_servers import ServerPool
from event_agent.drivers.nats_wire import hpub, pub
from event_agent.errors import AgentError, LinkError

log = logging.getLogger(__name__)

MAX_PAYLOAD = 1048576  # bytes, until a server says otherwise; nats-server's default
MARK = 600  # bytes at most of the headers that mark an error
PING = b"PING\r\n"
SETTLE = 0.5  # seconds an unsubscribe waits until all that was on its way has been handed on
CONFIRM = 0.05  # seconds between two PINGs while messages are sent: a PONG confirms what went before
GATHER = 65536  # bytes after which a batch is sent in parts


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


class _ForThisLink(bytes):
    """A protocol line (PING, SUB, …) that means nothing on the next connection."""


class NatsDriver(Driver):
    """See the module's text."""

    def __init__(self, options: NatsOptions) -> None:
        super().__init__()
        self._options = options
        self._servers = ServerPool(options.servers)
        self._client: NatsClient | None = None
        self._subs: dict[int, _Subscription] = {}
        self._next = 1
        self._lock = threading.Lock()  # guards all that is sent, and the buffer
        self._out: deque[bytes] = deque()  # whole messages, oldest first
        self._size = 0  # bytes in _out
        self._lines = 0  # lines in _out that are no messages
        self._begun = 0  # bytes of _out[0] that are on their way
        self._batches = 0
        self._blocked = False  # the socket took no more; nats-flush waits for it
        self._work = threading.Event()
        self._lost = threading.Event()
        self._stopping = threading.Event()
        self._reason = ""
        self._max_payload = MAX_PAYLOAD
        self._overflow_told = False
        self._sent = self._dropped = self._unconfirmed = self._reconnects = 0
        self._since_ping = 0  # messages written since the last PING
        self._pings: deque[int] = deque()  # for each PING that is out: the messages written before it
        self._pinged = 0.0  # time.monotonic() of the last PING
        self._threads = [
            threading.Thread(target=self._link, name="nats-link", daemon=True),
            threading.Thread(target=self._flusher, name="nats-flush", daemon=True),
        ]

    # -- life

    def connect(self) -> None:
        """Begin connecting; returns at once."""
        count = len(self._options.servers)
        log.info("NATS configured with %d server%s", count, "s (cluster failover)" if count > 1 else "")
        for thread in self._threads:
            thread.start()

    def close(self, timeout: float) -> None:
        """Send what waits, end the link and the threads, within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        client = self._client
        if client is not None:
            while self._size and not self._lost.is_set() and time.monotonic() < deadline:
                self._work.set()
                self._stopping.wait(0.01)
            client.flush(max(0.05, deadline - time.monotonic()))
        self._stopping.set()
        self._work.set()
        self._lost.set()
        if client is not None:
            client.close()
        for thread in self._threads:
            if thread.ident and thread is not threading.current_thread():
                thread.join(max(0.1, deadline - time.monotonic()))

    # -- subscriptions

    def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> int:
        """See Driver."""
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
        return self._put(pub(subject, payload))

    def reply(self, message: Message, payload: bytes, error: str = "") -> bool:
        """See Driver. A request with headers gets an error marked as the micro services protocol has it."""
        if error and message.headers and len(payload) + MARK <= self._max_payload:  # headers count too
            text = " ".join(error.split()).encode(errors="replace")[:512].decode(errors="ignore")
            headers = {"Nats-Service-Error": text, "Nats-Service-Error-Code": "500"}
            return self._put(hpub(message.reply, headers, payload))
        return self._put(pub(message.reply, payload))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """See Driver."""
        with self._lock:
            self._batches += 1
        try:
            yield
        finally:
            with self._lock:
                self._batches -= 1
                self._flush()

    def _put(self, data: bytes) -> bool:
        with self._lock:
            if self._size + len(data) > self._options.buffer:
                self._dropped += 1
                if not self._overflow_told:
                    self._overflow_told = True
                    log.error("the buffer for NATS is full (%d bytes): messages are dropped", self._options.buffer)
                return False
            self._out.append(data)
            self._size += len(data)
            self._sent += 1
            if not self._batches or self._size > GATHER:
                self._flush()
        return True

    def _put_line(self, client: NatsClient, data: bytes) -> None:
        """The client's own lines go the same way, or they could fall into the middle of a message; but first.

        Raises LinkError for a client whose link is gone: its lines would mean something else on the next one.
        """
        with self._lock:
            if client is not self._client:
                raise LinkError("the link is gone")
            self._line(data)
            self._flush()

    def _line(self, data: bytes) -> None:
        """Lock held."""
        if data == PING:
            # What waits in the buffer goes out after this PING; what was written before it, its PONG confirms.
            self._pings.append(self._since_ping)
            self._since_ping = 0
            self._pinged = time.monotonic()
        behind = self._begun > 0 and type(self._out[0]) is bytes  # a message of which a part is sent
        self._out.insert(self._lines + behind, _ForThisLink(data))  # before all messages, behind all earlier lines
        self._size += len(data)
        self._lines += 1

    def _pong(self) -> None:
        with self._lock:
            if self._pings:
                self._pings.popleft()

    def _confirm(self) -> None:
        """Ask the server to confirm what it was sent, now and then. Lock held."""
        if self._since_ping and len(self._pings) < 2 and time.monotonic() - self._pinged > CONFIRM:
            if self._client is not None:
                self._client.count_ping()
            self._line(PING)

    def _flush(self) -> None:
        """Send what waits, as much as the socket takes. Lock held."""
        client = self._client
        if client is None or self._blocked or not self._out:
            return
        self._confirm()
        data = b"".join(self._out) if len(self._out) > 1 else self._out[0]
        try:
            sent = client.send_now(data[self._begun :] if self._begun else data)
        except LinkError as error:
            log.debug("send: %s", error)  # the reader thread reports the end of the link
            self._client = None
            return
        if self._begun + sent == len(data):
            self._since_ping += len(self._out) - self._lines
            self._lines = 0
            self._out.clear()
            self._size = self._begun = 0
            return
        self._begun += sent
        while self._begun >= len(self._out[0]):
            message = self._out.popleft()
            if type(message) is bytes:
                self._since_ping += 1
            else:
                self._lines -= 1
            self._begun -= len(message)
            self._size -= len(message)
        self._blocked = True
        self._work.set()

    def _flusher(self) -> None:
        """The nats-flush thread: waits for a socket that took no more."""
        while not self._stopping.is_set():
            self._work.wait(1.0)
            self._work.clear()
            with self._lock:
                if self._client is not None and not self._blocked:
                    self._confirm()
                    self._flush()
            while self._blocked and not self._stopping.is_set():
                client = self._client
                if client is None or not client.wait_writable(1.0):
                    break
                with self._lock:
                    self._blocked = False
                    self._flush()
            if self._blocked and self._client is not None:
                self._work.set()

    # -- the link

    @property
    def is_connected(self) -> bool:
        """See Driver."""
        return self._client is not None

    @property
    def max_payload(self) -> int:
        """See Driver."""
        return self._max_payload

    def stats(self) -> dict[str, Any]:
        """See Driver."""
        client = self._client
        return {
            "server": str(client.info.get("server_name") or client.info.get("server_id", "")) if client else "",
            "messages_sent": self._sent,
            "messages_dropped": self._dropped,
            "messages_unconfirmed": self._unconfirmed,
            "buffered_bytes": self._size,
            "reconnects": self._reconnects,
        }

    def _link(self) -> None:
        """The nats-link thread: connect, wait for the end, connect again."""
        backoff = Backoff(self._options.reconnect_wait, max(self._options.reconnect_wait, 10.0))
        tries = 0
        told = ""
        while not self._stopping.is_set():
            url = self._servers.next()
            try:
                client = self._open(url)
            except LinkError as error:
                tries += 1
                if str(error) != told:
                    told = str(error)
                    log.warning("NATS at %s: %s; trying on", self._servers.shown(url), told)
                if 0 <= self._options.max_reconnect < tries // len(self._servers):
                    self.on_gave_up(f"NATS could not be reached in {tries} tries (max_reconnect): {told}")
                    return
                if self._servers.round_done:
                    self._stopping.wait(backoff.next())
                continue
            tries, told = 0, ""
            backoff.reset()
            self._up(client, url)
            self._lost.wait()
            with self._lock:
                self._client = None
                self._blocked = False
                self._begun = 0  # a message of which half was sent goes out whole again
                self._out = deque(each for each in self._out if type(each) is bytes)
                self._size = sum(map(len, self._out))
                self._lines = 0
                unconfirmed = sum(self._pings) + self._since_ping
                self._unconfirmed += unconfirmed
                self._pings.clear()
                self._since_ping = 0
            client.close()
            if not self._stopping.is_set():
                self._reconnects += 1
                if unconfirmed:
                    log.warning("NATS: %d messages may have been lost on their way to the server", unconfirmed)
                self.on_down(self._reason)
                self._stopping.wait(random.uniform(0, 0.1))

    def _open(self, url: str) -> NatsClient:
        client = NatsClient(
            url,
            name=client_name(),
            credentials=self._options.credentials,
            tls=self._options.tls,
            ping_interval=self._options.ping_interval,
        )
        self._lost.clear()
        if self._stopping.is_set():
            raise LinkError("stopping")

        def closed(reason: str) -> None:
            self._reason = reason
            self._lost.set()

        client.on_closed = closed
        client.on_info = self._informed
        client.on_error = lambda text: log.warning("NATS server says: %s", text)
        client.on_read_end = lambda: self.on_batch_end()
        client.on_pong = self._pong
        client.connect()
        return client

    def _up(self, client: NatsClient, url: str) -> None:
        self._informed(client.info)
        known: dict[int, _Subscription] = {}
        while True:
            with self._lock:
                new = {number: sub for number, sub in self._subs.items() if number not in known}
                if not new:  # from here on `subscribe` sees the client
                    gone = [sub for number, sub in known.items() if number not in self._subs]
                    client.write = partial(self._put_line, client)
                    self._client = client
                    self._blocked = False
                    self._overflow_told = False
                    self._flush()
                    break
            for sub in new.values():
                self._subscribe_on(client, sub)
            known |= new
        for sub in gone:
            self._leave(client, sub)
        log.info("NATS connected: %s (%s)", self._servers.shown(url), client.info.get("version", "?"))
        self.on_up()

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
            client.reason = "lame duck"
            client.abort()
