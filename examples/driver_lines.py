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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from event_agent.config.table import Settings
from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Driver, Message
from event_agent.errors import AgentError
from event_agent.runtime.backoff import Backoff

log = logging.getLogger(__name__)

CONNECT_LIMIT = 5.0  # seconds
MAX_PAYLOAD = 1048576  # bytes; what this broker takes
SETTLE = 0.5  # seconds to wait for DONE
READ_SIZE = 65536


class LineDriver(Driver):
    """See the module's text."""

    def __init__(self, host: str, port: int, buffer: int, reconnect_wait: float) -> None:
        """`buffer`: bytes that may wait. `reconnect_wait`: seconds before the first new try."""
        super().__init__()
        self._address = (host, port)
        self._limit = buffer
        self._wait = reconnect_wait
        self._lock = threading.Lock()  # guards the buffer, its counters and the subscriptions
        self._out: deque[bytes] = deque()
        self._size = 0
        self._batches = 0
        self._subs: dict[int, tuple[str, str, Callable[[Message], None]]] = {}
        self._leaving: dict[str, threading.Event] = {}  # set when DONE came
        self._next = 1
        self._sent = self._dropped = 0
        self._up = False
        self._stopping = threading.Event()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._thread = threading.Thread(target=self._run, name="lines-link", daemon=True)

    # -- life

    def connect(self) -> None:
        """Begin connecting; returns at once."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Send what waits, as long as there is a link and time; then end."""
        deadline = time.monotonic() + timeout
        while self._up and self._size and time.monotonic() < deadline:
            self._wake()
            time.sleep(0.01)
        self._stopping.set()
        self._wake()
        if self._thread.ident:
            self._thread.join(max(0.1, deadline - time.monotonic()))
        self._wake_in.close()
        self._wake_out.close()

    # -- what other threads call

    def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> int:
        """Known from now on, and told to the broker now or when it is there."""
        with self._lock:
            if len(self._subs) >= MAX_SUBSCRIPTIONS:
                raise AgentError(f"more than {MAX_SUBSCRIPTIONS} subscriptions: {subject}")
            number, self._next = self._next, self._next + 1
            self._subs[number] = (subject, queue, callback)
            if self._up:
                self._add(_sub(subject, queue))
        self._wake()
        return number

    def unsubscribe(self, number: int) -> None:
        """What the broker sent before it knew is handed on before this returns."""
        with self._lock:
            if number not in self._subs:
                return
            subject = self._subs[number][0]
            done = self._leaving[subject] = threading.Event()
            if self._up:
                self._add(f"UNSUB {subject}\n".encode())
            else:
                done.set()
        self._wake()
        if threading.current_thread() is not self._thread:  # which would wait for itself
            done.wait(SETTLE)
        with self._lock:
            self._subs.pop(number, None)

    def publish(self, subject: str, payload: bytes) -> bool:
        """Never blocks. False: the buffer is full."""
        return self._put(b"PUB %b - %b\n" % (subject.encode(), payload))

    def reply(self, message: Message, payload: bytes, error: str = "") -> bool:
        """This broker does not mark errors."""
        return self._put(b"PUB %b - %b\n" % (message.reply, payload))

    @contextmanager
    def batch(self) -> Iterator[None]:
        """The thread is woken once, at the end."""
        with self._lock:
            self._batches += 1
        try:
            yield
        finally:
            with self._lock:
                self._batches -= 1
            self._wake()

    @property
    def is_connected(self) -> bool:
        return self._up

    @property
    def max_payload(self) -> int:
        return MAX_PAYLOAD

    def stats(self) -> dict[str, Any]:
        return {"messages_sent": self._sent, "messages_dropped": self._dropped, "buffered_bytes": self._size}

    def _put(self, line: bytes) -> bool:
        with self._lock:
            if self._size + len(line) > self._limit:
                self._dropped += 1
                return False
            self._add(line)
            self._sent += 1
            wake = not self._batches
        if wake:
            self._wake()
        return True

    def _add(self, line: bytes) -> None:
        """Lock held."""
        self._out.append(line)
        self._size += len(line)

    def _wake(self) -> None:
        try:
            self._wake_out.send(b"x")
        except OSError:
            pass  # it is full, so the thread will wake; or we are closed

    # -- the thread

    def _run(self) -> None:
        backoff = Backoff(self._wait, 10.0)
        told = ""
        while not self._stopping.is_set():
            try:
                link = socket.create_connection(self._address, CONNECT_LIMIT)
            except OSError as error:
                if str(error) != told:  # once, and not at every try
                    told = str(error)
                    log.warning("the broker at %s:%d: %s; trying on", *self._address, told)
                self._stopping.wait(backoff.next())
                continue
            told = ""
            backoff.reset()
            with link:
                reason = self._serve(link)
            with self._lock:
                self._up = False
                for done in self._leaving.values():
                    done.set()  # nothing more comes of this link
                self._leaving.clear()
            if not self._stopping.is_set():
                self.on_down(reason)
                self._stopping.wait(backoff.next())

    def _serve(self, link: socket.socket) -> str:
        """Read and send until the link ends; returns why."""
        link.setblocking(False)
        with self._lock:
            # Subscriptions first, then what waited. SUB and UNSUB for the last link mean nothing on this one.
            waiting = [line for line in self._out if line.startswith(b"PUB ")]
            self._out = deque([_sub(subject, queue) for subject, queue, _ in self._subs.values()] + waiting)
            self._size = sum(map(len, self._out))
            self._up = True
        log.info("connected to the broker at %s:%d", *self._address)
        self.on_up()
        received = b""
        begun = 0  # bytes of the first line that are sent; the next link gets it whole
        try:
            while not self._stopping.is_set():
                wanted = [link] if self._out and not self._batches else []
                readable, writable, _ = select.select([link, self._wake_in], wanted, [], 1.0)
                if self._wake_in in readable:
                    self._wake_in.recv(4096)
                if link in readable:
                    chunk = link.recv(READ_SIZE)
                    if not chunk:
                        return "the broker closed the connection"
                    *lines, received = (received + chunk).split(b"\n")
                    self._hand_on(lines)
                if link in writable:
                    begun = self._send(link, begun)
        except OSError as error:
            return str(error)
        return "stopping"

    def _hand_on(self, lines: list[bytes]) -> None:
        for line in lines:
            parts = line.split(b" ", 3)
            if len(parts) == 4 and parts[0] == b"MSG":
                subject = parts[1].decode(errors="replace")
                for own, _, callback in list(self._subs.values()):
                    if own == subject:
                        callback(Message(subject, b"" if parts[2] == b"-" else parts[2], parts[3]))
            elif parts[0] == b"DONE" and (done := self._leaving.pop(parts[-1].decode(errors="replace"), None)):
                done.set()
        self.on_batch_end()  # or what came of them is not sent to FreeSWITCH

    def _send(self, link: socket.socket, begun: int) -> int:
        with self._lock:
            data = b"".join(self._out)
            begun += link.send(data[begun : begun + READ_SIZE])
            while self._out and begun >= len(self._out[0]):
                gone = len(self._out.popleft())
                begun -= gone
                self._size -= gone
        return begun


def _sub(subject: str, queue: str) -> bytes:
    return f"SUB {subject} {queue or '-'}\n".encode()


def line_driver(settings: Settings) -> Driver:
    """What stands in the table of drivers."""
    first = urlsplit(settings.url[0])
    assert first.hostname is not None and first.port is not None  # settings.py has seen to that
    return LineDriver(first.hostname, first.port, settings.reconnect_buf_size, settings.reconnect_wait)
