"""pynats2's client, made fit for a daemon: one connection to one NATS server.

What is overridden, and why, stands in one line at each override. What is not: options and URL, subscription objects,
the names of inboxes. pynats2's own `request` is not used, and could not be: callbacks get lists here.
"""

from __future__ import annotations

import json
import logging
import socket
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Any

from event_agent.drivers.base import Message
from event_agent.drivers.nats.auth import Credentials
from event_agent.drivers.nats.introduction import Introduction
from event_agent.drivers.nats.pace import Pace
from event_agent.drivers.nats.pings import Pings
from event_agent.drivers.nats.race import QUIET
from event_agent.drivers.nats.socket import NatsSocket, TlsOptions
from event_agent.drivers.nats.timing import DEFAULT, Timing
from event_agent.drivers.nats.wire import CONTROL_LINE, Control, Operation, Stored, WireReader, line_size
from event_agent.errors import AgentError, LinkError
from event_agent.runtime.loop import Loop

# pynats2 imports these and nothing of them is used here: pkg_resources, which newer setuptools lack, to ask for its own
# version (12 MB), ssl for a connection of its own (4 MB), concurrent.futures for threads of its own (0.1 MB). So
# something else stands in their place for that import.
_UNUSED: dict[str, dict[str, object]] = {
    "pkg_resources": {"get_distribution": lambda _: types.SimpleNamespace(version="0.9.0")},
    "ssl": {},
    "concurrent.futures": {"ThreadPoolExecutor": None},
}
_stand_ins = {name: types.ModuleType(name) for name in _UNUSED if name not in sys.modules}
for _name, _each in _stand_ins.items():
    vars(_each).update(_UNUSED[_name])
sys.modules |= _stand_ins
try:
    from pynats2 import NATSClient, NATSSubscription
finally:
    for _name in _stand_ins:
        del sys.modules[_name]

log = logging.getLogger(__name__)

MANY = 1 << 30  # the first number of subscriptions that are not kept here one by one; see many.py
LOOK = 1.0  # seconds at most between two looks at unanswered PINGs
PING_TIMEOUT = 5.0  # seconds; a PING that is not answered by then ends the link

Deliver = Callable[[list[Message]], None]


def _nowhere(_: list[Message]) -> None:
    pass


class Observer:
    """What the owner of a connection hears. All on the thread that reads, none may wait."""

    def closed(self, reason: str) -> None:
        """It has ended, and not by `close`."""

    def informed(self, info: dict[str, Any]) -> None:
        """INFO came in mid-stream: the cluster has changed, or the server is about to shut down."""

    def complained(self, text: str) -> None:
        """-ERR came."""

    def ponged(self) -> None:
        """A PING was answered."""


class End:
    """How a link ends: by whom, and why."""

    def __init__(self, limit: float) -> None:
        """`limit`: seconds for which a reason counts."""
        self._limit = limit
        self._blamed = ("", 0.0)  # why the link will end, and when that was known
        self.ours = False  # `close` was called
        self.read = threading.Event()  # the loop has read to the end

    def blame(self, reason: str) -> None:
        """If the link ends now, this is why."""
        self._blamed = (reason, time.monotonic())

    @property
    def reason(self) -> str:
        """The reason that is known, if it is not too old."""
        reason, since = self._blamed
        return reason if time.monotonic() - since < self._limit else ""


class NatsClient(NATSClient):  # type: ignore[misc]
    """One connection. Messages come on its reader thread, `nats-reader`, or on a loop's; any thread may publish."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        credentials: Credentials | None = None,
        tls: TlsOptions | None = None,
        tls_name: str = "",
        ping_interval: float = 30.0,
        ping_timeout: float = PING_TIMEOUT,
        loop: Loop | None = None,
        observer: Observer | None = None,
        sock: socket.socket | None = None,
        timing: Timing = DEFAULT,
    ) -> None:
        """`tls_name`: what the server's certificate must stand for, if that is not the host of the URL.

        `sock`: connected to the server; without one `connect` makes it.

        `loop` reads instead of a thread `nats-reader`; messages then come on the loop's thread.
        """
        super().__init__(url, name=name, ping_interval=ping_interval)
        self._timing = timing
        user, password = self._conn_options["username"], self._conn_options["password"]
        self._introduction = Introduction(name, user, password, credentials or Credentials())
        self._tls = tls or TlsOptions()
        self._tls_name = tls_name
        self._loop = loop
        self._pace = Pace(timing.slow, lambda: self._stream.unread)
        self._sock = sock
        self._stream: NatsSocket
        self._wire = WireReader()
        self._early: deque[Operation] = deque()  # read during the handshake, and not looked at yet
        self.pings = Pings(ping_timeout)
        self.info: dict[str, Any] = {}
        self._write: Callable[[bytes, bool], None] | None = None  # see hand_over
        self.many: Deliver = _nowhere  # gets the messages of subscriptions from MANY on
        self._end = End(timing.blame)
        self._observer = observer or Observer()

    # -- connecting

    def connect(self) -> None:
        """Connect, authenticate, start the threads. Raises LinkError.

        Overridden: IPv4 only, no wait for the server's verdict on CONNECT, a thread pool a message.
        """
        host, port = self._conn_options["hostname"], self._conn_options["port"] or 4222
        self._stream = NatsSocket(host, port, self._timing.connect, self._sock)
        try:
            if not (self._conn_options["tls"] and self._begin_first()):
                self._merge_info(self._handshake("INFO"))
                if self._conn_options["tls"] or self.info.get("tls_required"):
                    self._connect_tls()
            self._send_connect_command()
            with suppress(LinkError):
                self._send(b"PING")
            self._handshake("PONG")
            self._handle(self._early)
            self._stream.ready()
        except BaseException:
            self._stream.close()
            raise
        # Not methods of our own: it is one call less for each write.
        self.send_now, self.wait_writable = self._stream.send_now, self._stream.wait_writable
        self._start_waiter()
        self._start_pinger()

    def _begin_first(self) -> bool:
        """Wait for the greeting; without one, TLS comes first (handshake_first). True if that is done with.

        Raises LinkError.
        """
        stream = self._stream
        begun = hasattr(stream.socket, "do_handshake")  # by the wait before
        if not begun and stream.wait_readable(QUIET):
            return False
        from event_agent.drivers.nats import tls  # only here: see there

        if not begun:
            stream.socket = tls.begin(stream.socket, self._tls, self.certified)
        if line := tls.greeting(stream.socket, time.monotonic() + self._timing.connect):
            self._early += self._wire.feed(line)  # it came all the same
            return False
        stream.socket.settimeout(self._timing.connect)
        self._stream = tls.TlsSocket(stream, self._tls, self.certified)
        self._merge_info(self._handshake("INFO"))
        return True

    @property
    def certified(self) -> str:
        """What the server's certificate must stand for."""
        return self._tls_name or str(self._conn_options["hostname"])

    def _handshake(self, wanted: str) -> bytes:
        """Read until this operation comes. Raises LinkError, with the server's words if it says -ERR."""
        deadline = time.monotonic() + self._timing.connect
        first = not self.info
        while True:
            while self._early:
                operation = self._early.popleft()
                if not isinstance(operation, Control):
                    continue
                if operation.name == b"-ERR":  # right behind INFO, where there are too many connections
                    raise self._introduction.explained(operation.words)
                if operation.name == b"INFO" and wanted != "INFO":
                    self._merge_info(operation.rest)
                if operation.name == wanted.encode():
                    return operation.rest
            chunk = self._stream.receive_by(deadline)
            if not chunk and not self.info and not self._conn_options["tls"]:
                raise LinkError("the server closed the connection without a greeting (does it want tls:// in url?)")
            if not chunk:
                raise LinkError("the server closed the connection")
            if first and not (b"INFO".startswith(chunk[:4].upper()) or chunk.startswith(b"-")):
                raise LinkError(f"the server sent {chunk[:80]!r}; is this a NATS server?")
            first = False
            self._early += self._wire.feed(chunk)

    def _merge_info(self, data: bytes) -> None:
        try:
            info = json.loads(data)
        except (ValueError, RecursionError):
            raise LinkError("the server sent an INFO that is not JSON") from None
        if not isinstance(info, dict):
            raise LinkError("the server sent an INFO that is no object")
        self.info.update(info)

    def _connect_tls(self) -> None:
        """Overridden: unverified by default, and the CA and client certificate were left out without verification."""
        if not (self.info.get("tls_required") or self.info.get("tls_available")):
            raise LinkError("the server offers no TLS")
        for operation in self._early:
            if isinstance(operation, Control) and operation.name == b"-ERR":
                raise LinkError(operation.words)
        # What came unencrypted behind INFO may have been put in by somebody on the line.
        self._early.clear()
        self._wire = WireReader()
        from event_agent.drivers.nats.tls import TlsSocket  # only here: see there

        self._stream.socket.settimeout(self._timing.connect)
        self._stream = TlsSocket(self._stream, self._tls, self.certified)

    def _send_connect_command(self) -> None:
        """Overridden: no headers, no no_responders, no NKey, no JWT, protocol 0, percent signs left in passwords."""
        text = self._introduction.text(self.info)
        with suppress(LinkError):  # a server that takes no more connections has said so, and that is yet to be read
            self._send(b"CONNECT", text)

    # -- sending

    def _send(self, *parts: bytes | str | int) -> None:
        """Overridden: sendall fails on the non-blocking socket that TLS needs; lines were not measured.

        Raises LinkError; AgentError for a line for which a server would end the link. A long CONNECT is sent: the
        server may be set up for it.
        """
        self.send_lines(self._line(*parts))

    def _line(self, *parts: bytes | str | int) -> bytes:
        data = b" ".join(self._encode(part) for part in parts) + b"\r\n"
        if len(data) > CONTROL_LINE and line_size(data) > CONTROL_LINE and parts[0] != b"CONNECT":
            raise AgentError(f"a protocol line of {line_size(data)} bytes: NATS servers take {CONTROL_LINE}")
        return data

    def send_lines(self, data: bytes, later: bool = False) -> None:
        """Whole protocol lines, each of a length that servers take, in one write. Raises LinkError.

        `later`: they may wait for what is written next, or for a call with no lines.
        """
        with self._send_lock:
            if self._write is None:
                while data:
                    data = data[self._stream.send_now(data) :]
                    if data and not self._stream.wait_writable(self._timing.connect):
                        self.abort()
                        raise LinkError("the server takes nothing any more")
                return
        self._write(data, later)

    def hand_over(self, write: Callable[[bytes, bool], None]) -> None:
        """From now on all that is sent goes to `write`, which buffers it and uses `send_now`. With True it may wait."""
        with self._send_lock:  # no line of ours is half written, and none will be
            self._write = write

    def take_back(self) -> None:
        """Write by ourselves again what is left to say."""
        with self._send_lock:
            self._write = None

    def publish(self, subject: str, *, payload: bytes = b"", reply: str = "") -> None:
        """Overridden: one write a message instead of two. Raises LinkError."""
        self._send(b"PUB", subject, *([reply] if reply else []), b"%d\r\n%b" % (len(payload), payload))

    def subscribe(
        self, subject: str, *, callback: Deliver, queue: str = "", instead: NATSSubscription | None = None
    ) -> NATSSubscription:
        """Overridden: each call stopped and started the reader thread, which may be the caller. Raises LinkError.

        `callback` gets the messages of one read, as far as they follow each other and are for the same callback.
        `instead`: the one whose place it takes, in one write. What came for that is handed on until `forget`.
        """
        with self._send_lock:
            self._ssid += 1
            sub = NATSSubscription(self._ssid, subject, queue, callback)
            self._subs[sub.sid] = sub
        line = self._line(b"SUB", subject, *([queue] if queue else []), sub.sid)
        self.send_lines(line if instead is None else self._line(b"UNSUB", instead.sid) + line)
        return sub

    def stored(self, inbox: bytes, callback: Callable[[list[int]], None]) -> None:
        """What a stream answers to `inbox` and a ticket, in its usual form, goes to `callback`, on the reader's thread.

        It gets the tickets. All other messages to that go where they are subscribed to.
        """
        self._wire.stored = Stored(inbox, callback)

    def forget(self, sub: NATSSubscription | None) -> None:
        """Nothing comes for it any more."""
        if sub is not None:
            self._subs.pop(sub.sid, None)

    def unsubscribe(self, sub: NATSSubscription) -> None:
        """Overridden: see subscribe."""
        self._subs.pop(sub.sid, None)
        self._send(b"UNSUB", sub.sid)

    def leave(self, sub: NATSSubscription, timeout: float) -> None:
        """End a subscription; what the server has sent before it knew is still handed on. Raises LinkError."""
        self._send(b"UNSUB", sub.sid)
        here = self._loop.here if self._loop is not None else threading.current_thread() is self._waiter
        if here or self.flush(timeout):
            self._subs.pop(sub.sid, None)

    def flush(self, timeout: float) -> bool:
        """True when the server has had all that was sent before, within `timeout` seconds."""
        try:
            self.ping()
        except LinkError:
            return False
        return self.pings.wait(timeout)  # for the answer to ours, or to one that came right behind it

    def ping(self) -> None:
        """Overridden: counted, so that a PONG can be told from that to an earlier PING. Raises LinkError."""
        self.pings.sent()
        super().ping()

    def pause(self) -> None:
        """Read nothing until `resume`, and expect no answers to our PINGs meanwhile. Only with a loop.

        The server must be read again before its buffers for us are full for long, and before it takes us for dead:
        see PAUSE in options.py.
        """
        if self._loop is not None:
            self.pings.pause()
            self._loop.pause(self._stream.fileno)

    def resume(self) -> None:
        """Read again."""
        if self._loop is not None:
            self.pings.resume()
            self._loop.resume(self._stream.fileno)

    def close(self) -> None:
        """Overridden: it pinged a dead link and joined the thread that might be the caller."""
        self._end.ours = True
        self.abort()
        self._pinger_timer.set()
        if self._loop is not None and self._stream.fileno >= 0 and not self._loop.here:
            self._end.read.wait(self._timing.connect)
        for thread in (self._waiter, self._pinger):
            if thread is not None and thread is not threading.current_thread():
                thread.join(self._timing.connect)
        self._stream.close()

    def abort(self) -> None:
        """From any thread: end the link; the reader reports it."""
        self._stream.abort()
        self.resume()

    def blame(self, reason: str) -> None:
        """If the link ends now, this is why."""
        self._end.blame(reason)

    @property
    def reason(self) -> str:
        """Why the link has ended, if that is known."""
        return self._end.reason

    # -- threads

    def _start_waiter(self) -> None:
        """Overridden: a thread has a name; with a loop none is needed."""
        if self._loop is not None:
            self._loop.watch(self._stream.fileno, partial(self._read, self._stream.receive_now))
            return
        self._waiter = threading.Thread(target=self._waiter_thread, name="nats-reader", daemon=True)
        self._waiter.start()

    def _start_pinger(self) -> None:
        """Overridden: a thread has a name."""
        self._pinger = threading.Thread(target=self._pinger_thread, name="nats-pinger", daemon=True)
        self._pinger.start()

    def _pinger_thread(self) -> None:
        """Overridden: PONGs were not counted, so a frozen server and a link that is half open went unnoticed."""
        due = time.monotonic() + self._ping_interval
        while not self._pinger_timer.wait(self._until_next(due)):
            if self._silent():
                self.blame(f"the server did not answer a PING within {self.pings.timeout:g} s (ping_timeout)")
                self.abort()
                return
            if time.monotonic() >= due:
                due += self._ping_interval
                try:
                    self.ping()
                except LinkError:
                    return  # the reader reports it

    def _until_next(self, due: float) -> float:
        """Seconds until the next look at unanswered PINGs, of any sender, or the next PING of ours."""
        now = time.monotonic()
        return min(max(self.pings.look_at(due) - now, 0.01), LOOK)

    def _silent(self) -> bool:
        """A PING was not answered in time, and nothing waits to be read or dealt with: we may have been away ourselves.

        In this order: what was there to be read may be read meanwhile, and what was read be dealt with.
        """
        return not self._stream.unread and not self._pace.busy and self.pings.late

    def _waiter_thread(self) -> None:
        """Overridden: end of file was a busy loop; -ERR, INFO and pauses inside a payload each ended it."""
        while self._read(self._stream.receive):
            pass

    def _read(self, receive: Callable[[], bytes | None]) -> bool:
        """Read once and hand on what came; False at the end of the link, which is reported."""
        self._pace.busy = self._loop is not None  # without a loop it waits here
        try:
            data = receive()
            self._pace.busy = True
            if data is None:
                return True
            if data:
                began = time.monotonic()
                self._handle(self._wire.feed(data))
                self._pace.read(len(data), began)
                return True
            reason = self._pace.end("the server closed the connection")
        except LinkError as error:
            reason = str(error)
        except OSError as error:
            reason = self._pace.end(error.strerror or str(error))
        finally:
            self._pace.busy = False
        self._pinger_timer.set()
        if self._loop is not None:
            self._loop.forget(self._stream.fileno)
            self._end.read.set()
        if not self._end.ours:
            self._observer.closed(self.reason or reason)
        return False

    def _handle(self, operations: Iterable[Operation]) -> None:
        """Hand on messages, in lists as long as they are for the same; see to the rest at once."""
        deliver: Deliver = _nowhere
        messages: list[Message] = []
        for operation in operations:
            if type(operation) is Message:
                sub = self._subs.get(operation.subscription)
                if sub is not None:
                    callback = sub.callback
                elif operation.subscription >= MANY:
                    callback = self.many
                else:
                    continue  # it was on its way when we unsubscribed
                if messages and deliver is not callback and deliver != callback:
                    deliver(messages)
                    messages = []
                deliver = callback
                messages.append(operation)
                continue
            if messages:  # a PONG says that what was sent before it has been handed on
                deliver(messages)
                messages = []
            if isinstance(operation, Control):
                self._control(operation)
            elif isinstance(operation, list):
                self._wire.stored.take(operation)
        if messages:
            deliver(messages)

    def _control(self, operation: Control) -> None:
        name = operation.name
        if name == b"PING":
            self._send(b"PONG")
        elif name == b"PONG":
            self.pings.answered()
            self._observer.ponged()
        elif name == b"INFO":
            self._merge_info(operation.rest)
            self._observer.informed(self.info)
        elif name == b"-ERR":
            text = operation.words
            if not text.startswith("Permissions Violation"):
                self.blame(text)  # nearly all others are followed by the end of the link
            self._observer.complained(text)
