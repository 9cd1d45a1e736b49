"""pynats2's client, made fit for a daemon: one connection to one NATS server.

What is overridden, and why, stands in one line at each override. What is not: options and URL, publish/subscribe
bookkeeping, request with its inboxes, the life of the reader and pinger threads.
"""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import ssl
import sys
import threading
import time
import types
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from event_agent import __version__
from event_agent.drivers.base import Message
from event_agent.drivers.nats_auth import Credentials
from event_agent.drivers.nats_wire import Control, Delivery, WireReader
from event_agent.errors import LinkError

if "pkg_resources" not in sys.modules:
    # pynats2 asks it for its own version and for nothing else; newer setuptools lack it, and it costs 12 MB.
    _stub = types.ModuleType("pkg_resources")
    _stub.get_distribution = lambda _: types.SimpleNamespace(version="0.9.0")  # type: ignore[attr-defined]
    sys.modules["pkg_resources"] = _stub
    from pynats2 import NATSClient, NATSSubscription

    del sys.modules["pkg_resources"]
else:
    from pynats2 import NATSClient, NATSSubscription

log = logging.getLogger(__name__)

CONNECT_LIMIT = 5.0  # seconds for each step of connecting
PINGS_OUT = 2  # PINGs unanswered after which the link is dead
READ_SIZE = 262144  # bytes
SLOW_CONSUMER = 1.0  # seconds without a read after which a closed link is likely to be the server's cure for that


@dataclass(frozen=True)
class TlsOptions:
    """Files for `tls://`, and whether the server must prove who it is."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


class NatsClient(NATSClient):  # type: ignore[misc]
    """One connection. Callbacks run on its reader thread, `nats-reader`; any thread may publish."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        credentials: Credentials | None = None,
        tls: TlsOptions | None = None,
        ping_interval: float = 30.0,
    ) -> None:
        super().__init__(url, name=name, ping_interval=ping_interval, socket_timeout=CONNECT_LIMIT)
        self._credentials = credentials or Credentials()
        self._tls = tls or TlsOptions()
        self._tls_lock: threading.Lock | None = None
        # recv(262144) would make and shrink a large object each time: three system calls more than the read itself.
        self._buffer = bytearray(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._wire = WireReader()
        self._pings_out = 0
        self._ponged = threading.Condition()
        self._pings = self._pongs = 0
        self._closing = False
        self.info: dict[str, Any] = {}
        self.write = self._write  # who buffers what is sent puts his own function here
        self.reason = ""  # what the server last complained of; it often closes right after
        self.on_closed: Callable[[str], None] = log.debug
        self.on_info: Callable[[dict[str, Any]], None] = lambda _: None
        self.on_error: Callable[[str], None] = log.warning
        self.on_read_end: Callable[[], None] = lambda: None
        self.on_pong: Callable[[], None] = lambda: None

    # -- connecting

    def connect(self) -> None:
        """Connect, authenticate, start the threads. Raises LinkError.

        Overridden: IPv4 only, no wait for the server's verdict on CONNECT, a thread pool a message.
        """
        host, port = self._conn_options["hostname"], self._conn_options["port"] or 4222
        try:
            self._socket = socket.create_connection((host, port), CONNECT_LIMIT)
        except (OSError, UnicodeError) as error:
            raise LinkError(getattr(error, "strerror", None) or str(error)) from None
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            first = self._handshake("INFO")
            self._merge_info(first)
            if self._conn_options["tls"] or self.info.get("tls_required"):
                self._connect_tls()
            self._send_connect_command()
            self._send(b"PING")
            self._handshake("PONG")
            self._socket.settimeout(None)
            if self._tls_lock is not None:
                self._socket.setblocking(False)
        except (OSError, ValueError) as error:
            self._socket.close()
            raise LinkError(str(error) or type(error).__name__) from None
        except LinkError:
            self._socket.close()
            raise
        self._start_waiter()
        self._start_pinger()

    def _handshake(self, wanted: str) -> bytes:
        """Read until this operation comes. Raises LinkError, with the server's words where it says -ERR."""
        while True:
            chunk = self._socket.recv(READ_SIZE)
            if not chunk:
                raise LinkError(self.reason or "the server closed the connection")
            for operation in self._wire.feed(chunk):
                if not isinstance(operation, Control):
                    continue
                if operation.name == b"-ERR":
                    self.reason = operation.rest.decode(errors="replace").strip("'")
                    raise LinkError(self.reason)
                if operation.name == b"INFO" and wanted != "INFO":
                    self._merge_info(operation.rest)
                if operation.name == wanted.encode():
                    return operation.rest

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
        context = ssl.create_default_context(cafile=self._tls.ca or None)
        if not self._tls.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self._tls.cert:
            context.load_cert_chain(self._tls.cert, self._tls.key or None)
        self._socket = context.wrap_socket(self._socket, server_hostname=self._conn_options["hostname"])
        self._tls_lock = threading.Lock()  # an SSL object may not be read and written at one time

    def _send_connect_command(self) -> None:
        """Overridden: no headers, no no_responders, no NKey, no JWT, protocol 0, percent signs left in passwords."""
        options: dict[str, Any] = {
            "name": self._conn_options["name"],
            "lang": "python-event-agent",
            "version": __version__,
            "protocol": 1,
            "headers": bool(self.info.get("headers")),
            "no_responders": bool(self.info.get("headers")),
            "verbose": False,
            "pedantic": False,
        }
        user, password = self._conn_options["username"], self._conn_options["password"]
        if user and password is not None:
            options |= {"user": unquote(user), "pass": unquote(password)}
        elif user:
            options["auth_token"] = unquote(user)
        options |= self._credentials.connect_fields(self.info)
        self._send(b"CONNECT", json.dumps(options))

    # -- sending

    def send_now(self, data: bytes) -> int:
        """Write as much as the socket takes without waiting; returns how much. One thread at a time.

        Raises LinkError. Ours: pynats2 waits, with two writes a message.
        """
        try:
            if self._tls_lock is None:
                return self._socket.send(data, socket.MSG_DONTWAIT)
            with self._tls_lock:
                return self._socket.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except OSError as error:
            self.abort()
            raise LinkError(str(error)) from None

    def wait_writable(self, timeout: float) -> bool:
        """True when the socket takes bytes again."""
        poll = select.poll()
        try:
            poll.register(self._socket, select.POLLOUT)
        except (OSError, ValueError):
            return False
        return bool(poll.poll(timeout * 1000))

    def _send(self, *parts: bytes | str | int) -> None:
        """Overridden: sendall fails on the non-blocking socket that TLS needs. Raises LinkError."""
        self.write(b" ".join(self._encode(part) for part in parts) + b"\r\n")

    def _write(self, data: bytes) -> None:
        """What `write` is at first: send all of it, waiting where needed. Raises LinkError."""
        with self._send_lock:
            while data:
                data = data[self.send_now(data) :]
                if data and not self.wait_writable(CONNECT_LIMIT):
                    self.abort()
                    raise LinkError("the server takes nothing any more")

    def publish(self, subject: str, *, payload: bytes = b"", reply: str = "") -> None:
        """Overridden: one write a message instead of two. Raises LinkError."""
        self._send(b"PUB", subject, *([reply] if reply else []), b"%d\r\n%b" % (len(payload), payload))

    def subscribe(
        self, subject: str, *, callback: Callable[[Any], None], queue: str = "", max_messages: int | None = None
    ) -> NATSSubscription:
        """Overridden: each call stopped and started the reader thread, which may be the caller. Raises LinkError."""
        with self._send_lock:
            self._ssid += 1
            sub = NATSSubscription(self._ssid, subject, queue, callback, max_messages)
            self._subs[sub.sid] = sub
        self._send(b"SUB", subject, *([queue] if queue else []), sub.sid)
        return sub

    def unsubscribe(self, sub: NATSSubscription) -> None:
        """Overridden: see subscribe."""
        self._subs.pop(sub.sid, None)
        self._send(b"UNSUB", sub.sid)

    def leave(self, sub: NATSSubscription, timeout: float) -> None:
        """End a subscription; what the server has sent before it knew is still handed on. Raises LinkError."""
        self._send(b"UNSUB", sub.sid)
        if threading.current_thread() is self._waiter or self.flush(timeout):
            self._subs.pop(sub.sid, None)

    def flush(self, timeout: float) -> bool:
        """True when the server has had all that was sent before, within `timeout` seconds."""
        try:
            self.ping()
        except LinkError:
            return False
        with self._ponged:
            wanted = self._pings  # ours, or one that came right behind it
            return self._ponged.wait_for(lambda: self._pongs >= wanted, timeout)

    def ping(self) -> None:
        """Overridden: counted, so that a PONG can be told from that to an earlier PING. Raises LinkError."""
        self.count_ping()
        super().ping()

    def count_ping(self) -> None:
        """For who sends a PING otherwise; before it is sent."""
        with self._ponged:
            self._pings += 1

    def close(self) -> None:
        """Overridden: it pinged a dead link and joined the thread that might be the caller."""
        self._closing = True
        self.abort()
        self._pinger_timer.set()
        for thread in (self._waiter, self._pinger):
            if thread is not None and thread is not threading.current_thread():
                thread.join(CONNECT_LIMIT)
        self._socket.close()

    def abort(self) -> None:
        """From any thread: end the link; the reader thread reports it."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was down already

    # -- threads

    def _start_waiter(self) -> None:
        """Overridden: a thread has a name."""
        self._waiter = threading.Thread(target=self._waiter_thread, name="nats-reader", daemon=True)
        self._waiter.start()

    def _start_pinger(self) -> None:
        """Overridden: a thread has a name."""
        self._pinger = threading.Thread(target=self._pinger_thread, name="nats-pinger", daemon=True)
        self._pinger.start()

    def _pinger_thread(self) -> None:
        """Overridden: PONGs were not counted, so a frozen server went unnoticed."""
        while not self._pinger_timer.wait(self._ping_interval):
            if self._pings_out >= PINGS_OUT:
                self.reason = f"the server did not answer {PINGS_OUT} PINGs"
                self.abort()
                return
            self._pings_out += 1
            try:
                self.ping()
            except LinkError:
                return  # the reader reports it

    def _waiter_thread(self) -> None:
        """Overridden: end of file was a busy loop; -ERR, INFO and pauses inside a payload each ended it."""
        reason = ""
        took = 0.0
        try:
            while True:
                size = self._receive()
                if not size:
                    if took > SLOW_CONSUMER:
                        # It says nothing to a slow consumer, so this is the sign of it.
                        reason = f"the server closed the connection after {took:.1f} s in which we read nothing"
                    break
                began = time.monotonic()
                self._handle(self._wire.feed(bytes(self._view[:size])))
                self.on_read_end()
                took = time.monotonic() - began
        except (LinkError, OSError) as error:
            reason = str(error)
        self._pinger_timer.set()
        if not self._closing:
            self.on_closed(self.reason or reason or "the server closed the connection")

    def _receive(self) -> int:
        """Read into the buffer; how many bytes, 0 at the end."""
        if self._tls_lock is None:
            return self._socket.recv_into(self._buffer)
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        while True:
            with self._tls_lock:
                try:
                    return self._socket.recv_into(self._buffer)
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    pass
            poll.poll(1000)

    def _handle(self, operations: Iterable[Delivery | Control]) -> None:
        for operation in operations:
            if isinstance(operation, Delivery):
                sid, subject, reply, data, headers = operation
                sub = self._subs.get(sid)
                if sub is not None:  # else it was on its way when we unsubscribed
                    sub.received_messages += 1
                    if sub.is_wasted():
                        self._subs.pop(sid, None)
                    sub.callback(Message(subject, reply, data, headers))
            elif operation.name == b"PING":
                self._send(b"PONG")
            elif operation.name == b"PONG":
                self._pings_out = 0
                with self._ponged:
                    self._pongs += 1
                    self._ponged.notify_all()
                self.on_pong()
            elif operation.name == b"INFO":
                self._merge_info(operation.rest)
                self.on_info(self.info)
            elif operation.name == b"-ERR":
                text = operation.rest.decode(errors="replace").strip("'")
                if not text.startswith("Permissions Violation"):
                    self.reason = text  # all others are followed by the end of the link
                self.on_error(text)


def client_name() -> str:
    """How we call ourselves to the server, for its monitoring."""
    return f"event-agent/{__version__} pid={os.getpid()}"
