"""An example of a driver: a broker that speaks lines of text over TCP. docs/DRIVERS.md explains it.

To the broker:    SUB <subject> <queue group or ->        a subscription
                  UNSUB <subject>                         its end
                  PUB <subject> <reply or -> <payload>    a message
From the broker:  MSG <subject> <reply or -> <payload>    a message for one of our subscriptions
                  DONE <subject>                          the answer to UNSUB: no more will come

A payload is one line, as all JSON of event-agent is. One thread, `lines-link`, owns the socket: it connects, reads,
sends and connects again. Other threads only put lines into the buffer and wake it.
"""

from __future__ import annotations

import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from event_agent.config.table import Settings
from event_agent.drivers.base import (
    MAX_SUBSCRIPTIONS,
    Deliver,
    Driver,
    Event,
    EventSink,
    Message,
    Observer,
    Reply,
)
from event_agent.errors import AgentError, LinkError
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.health import Signs
from event_agent.runtime.link import Link, LinkStatus, keep_connected
from event_agent.runtime.loop import Loop

log = logging.getLogger(__name__)

CONNECT_LIMIT = 5.0  # seconds
MAX_PAYLOAD = 1048576  # bytes; what this broker takes
REPLIES = 65536  # bytes that replies may take when the buffer is full of events
SETTLE = 0.5  # seconds to wait for DONE
LOOK = 0.01  # seconds between two looks whether all is sent
READ_SIZE = 65536


class _Line(NamedTuple):
    """A line that waits to be sent."""

    data: bytes
    event: bool = False
    this_link: bool = False  # it means nothing on the next one


class LineDriver(Driver):
    """See the module's text."""

    name = "lines"

    def __init__(self, host: str, port: int, buffer: int, reconnect_wait: float, observer: Observer) -> None:
        """`buffer`: bytes that may wait. `reconnect_wait`: seconds before the first new try."""
        self._address = (host, port)
        self._limit = buffer
        self._backoff = Backoff(reconnect_wait, 10.0)
        self._observer = observer
        self.max_payload = MAX_PAYLOAD
        self.events = LineEvents(self)
        self._lock = threading.Lock()  # guards the buffer, its counters and the subscriptions
        self._out: deque[_Line] = deque()
        self._size = 0
        self._subs: dict[int, tuple[str, str, Deliver]] = {}
        self._leaving: dict[bytes, threading.Event] = {}  # set when DONE came
        self._next = 1
        self._sent = self._dropped = 0
        self.events_taken = self.events_sent = 0
        self._linked = False  # lines go out on this link
        self._paused = False
        self._stopping = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._link = Link()
        self._link.observe(observer.link_changed)
        self._thread = threading.Thread(target=self._keep, name="lines-link", daemon=True)

    # -- life

    def start(self) -> None:
        """Begin connecting; returns at once."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Send what waits, as long as there is a link and time; then end."""
        deadline = time.monotonic() + timeout
        while self._linked and self._size and time.monotonic() < deadline:
            self._stopping.wait(LOOK)
        self._stopping.set()
        self._wake()
        if self._thread.ident:
            self._thread.join(max(0.1, deadline - time.monotonic()))
        self._wake_in.close()
        self._wake_out.close()

    def signs(self) -> Signs:
        return self._link.signs("lines-link")

    @property
    def status(self) -> LinkStatus:
        return self._link.status

    def stats(self) -> dict[str, Any]:
        return {"messages_sent": self._sent, "messages_dropped": self._dropped, "buffered_bytes": self._size}

    # -- what other threads call

    def subscribe(self, subject: str, deliver: Deliver, queue: str = "") -> int:
        """Known from now on, and told to the broker now or when it is there."""
        with self._lock:
            if len(self._subs) >= MAX_SUBSCRIPTIONS:
                raise AgentError(f"more than {MAX_SUBSCRIPTIONS} subscriptions: {subject}")
            number, self._next = self._next, self._next + 1
            self._subs[number] = (subject, queue, deliver)
            if self._linked:
                self._add(_sub(subject, queue))
        self._wake()
        return number

    def unsubscribe(self, number: int) -> None:
        """What the broker sent before it knew is handed on before this returns."""
        with self._lock:
            if number not in self._subs:
                return
            subject = self._subs[number][0].encode()
            done = self._leaving[subject] = threading.Event()
            if self._linked:
                self._add(_Line(b"UNSUB %b\n" % subject, this_link=True))
            else:
                done.set()
        self._wake()
        if threading.current_thread() is not self._thread:  # which would wait for itself
            done.wait(SETTLE)
        with self._lock:
            self._subs.pop(number, None)

    def pause(self) -> None:
        """This broker ends no link for it."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._wake()

    def send(self, replies: Sequence[Reply]) -> int:
        """This broker does not mark errors."""
        lines = [_Line(b"PUB %b - %b\n" % (message.reply, payload)) for message, payload, _ in replies]
        return self.put(lines, self._limit + REPLIES)

    def put(self, lines: list[_Line], limit: int | None = None) -> int:
        """Have them sent, as far as there is room; returns how many. The thread is woken once."""
        taken = 0
        with self._lock:
            for line in lines:
                if self._size + len(line.data) > (limit or self._limit):
                    continue
                self._add(line)
                self.events_taken += line.event
                taken += 1
            self._dropped += len(lines) - taken
            self._sent += taken
        self._wake()
        return taken

    def _add(self, line: _Line) -> None:
        """Lock held."""
        self._out.append(line)
        self._size += len(line.data)

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"x")
        except OSError:
            pass  # it is full, so the thread will wake; or we are closed

    # -- the thread

    def _keep(self) -> None:
        keep_connected(self._connect, self._serve, self._backoff, self._stopping, self._link)

    def _connect(self) -> socket.socket:
        """Raises LinkError."""
        try:
            link = socket.create_connection(self._address, CONNECT_LIMIT)
        except OSError as error:
            if str(error) != self._link.status.reason:  # once, and not at every try
                log.warning("the broker at %s:%d: %s; retrying", *self._address, error)
            raise LinkError(str(error)) from None
        link.setblocking(False)
        with self._lock:
            # Subscriptions first, then what waited. SUB and UNSUB for the last link mean nothing on this one.
            waiting = [line for line in self._out if not line.this_link]
            self._out = deque([_sub(subject, queue) for subject, queue, _ in self._subs.values()] + waiting)
            self._size = sum(len(line.data) for line in self._out)
            self._linked = True
        log.info("connected to the broker at %s:%d", *self._address)
        return link

    def _serve(self, link: socket.socket) -> None:
        """Read and send until the link ends. Raises LinkError."""
        received = b""
        begun = 0  # bytes of the first line that are sent; the next link gets it whole
        try:
            with link:
                while not self._stopping.is_set():
                    self._link.beat = self._link.clock()
                    wanted = [self._wake_in] if self._paused else [self._wake_in, link]
                    readable, writable, _ = select.select(wanted, [link] if self._out else [], [], 1.0)
                    if self._wake_in in readable:
                        self._wake_in.recv(4096)
                    if link in readable:
                        chunk = link.recv(READ_SIZE)
                        if not chunk:
                            raise LinkError("the broker closed the connection")
                        *lines, received = (received + chunk).split(b"\n")
                        self._hand_on(lines)
                    if link in writable:
                        begun = self._send(link, begun)
        except OSError as error:
            raise LinkError(str(error)) from None
        finally:
            with self._lock:
                self._linked = False
                for done in self._leaving.values():
                    done.set()  # nothing more comes of this link
                self._leaving.clear()

    def _hand_on(self, lines: list[bytes]) -> None:
        """The messages of one read, in one list for each of those that take them."""
        found: dict[Deliver, list[Message]] = {}
        ended: list[threading.Event] = []
        with self._lock:
            takers: dict[bytes, list[Deliver]] = {}
            for subject, _, deliver in self._subs.values():
                takers.setdefault(subject.encode(), []).append(deliver)
            for line in lines:
                parts = line.split(b" ", 3)
                if len(parts) == 4 and parts[0] == b"MSG":
                    for deliver in takers.get(parts[1], ()):
                        reply = b"" if parts[2] == b"-" else parts[2]
                        found.setdefault(deliver, []).append(Message(parts[1], reply, parts[3]))
                elif parts[0] == b"DONE" and (done := self._leaving.pop(parts[-1], None)):
                    ended.append(done)
        for deliver, messages in found.items():
            deliver(messages)
        for done in ended:
            done.set()

    def _send(self, link: socket.socket, begun: int) -> int:
        with self._lock:
            before = self.events_sent
            data = b"".join(line.data for line in self._out)
            begun += link.send(data[begun : begun + READ_SIZE])
            while self._out and begun >= len(self._out[0].data):
                line = self._out.popleft()
                begun -= len(line.data)
                self._size -= len(line.data)
                self.events_sent += line.event
            settled = self.events_sent
        if settled > before:
            self._observer.settled(settled, 0)
        return begun


class LineEvents(EventSink):
    """This broker confirms nothing: an event is settled when the socket has taken it."""

    def __init__(self, driver: LineDriver) -> None:
        self._driver = driver
        self.max_payload = MAX_PAYLOAD

    def offer(self, events: Sequence[Event]) -> int:
        return self._driver.put([_Line(b"PUB %b - %b\n" % (each.subject, each.payload), event=True) for each in events])

    @property
    def pending(self) -> int:
        return self._driver.events_taken - self._driver.events_sent

    def flush(self, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while self.pending and time.monotonic() < deadline:
            time.sleep(LOOK)
        return not self.pending


def _sub(subject: str, queue: str) -> _Line:
    return _Line(f"SUB {subject} {queue or '-'}\n".encode(), this_link=True)


def line_driver(settings: Settings, loop: Loop, observer: Observer) -> Driver:
    """What stands in the table of drivers. It has a thread of its own, and no use for the loop."""
    first = urlsplit(settings.url[0])
    assert first.hostname is not None and first.port is not None  # config/table.py has made sure of that
    return LineDriver(first.hostname, first.port, settings.reconnect_buf_size, settings.reconnect_wait, observer)
