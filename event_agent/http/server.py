"""A small HTTP listener: one thread, a table of routes, everything bounded.

mod_xml_curl opens a connection for each call and holds the call until it is answered, so what counts is the time
from connect to answer: 0.17 ms here, 0.64 ms with the standard library's ThreadingHTTPServer, which also takes 6 MB.
Routes run on the listener's thread, `http`, one after the other: they answer at once, or say that they will do so
later (`Later`), and never block. Connections that wait for such an answer keep nobody out; how many there may be is for
the route to say.

Bounded: connections, bytes of head and body, seconds for a request and for a connection without one. Nobody is kept
out by connections that ask nothing: when there are too many, the one that has waited longest without a complete
request is closed, and new ones are always taken. HTTP/1.1 as far as clients of such a listener go (RFC 9112):
Content-Length bodies, keep-alive, pipelining, Expect: 100-continue; no chunked requests (411).
"""

from __future__ import annotations

import errno
import logging
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from event_agent.runtime.log import Seldom

log = logging.getLogger(__name__)

MAX_HEAD = 16384  # bytes
MAX_BODY = 262144  # bytes; a call with very many variables posts some 20,000
PAUSE = 0.1  # seconds without new connections where the system has no descriptor for one
BACKLOG = 512
PHRASES = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed",
    411: "Length Required", 413: "Request Entity Too Large", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
ANSWERS = 65536  # bytes of answers to one connection after which it is to take them before there are more


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """How many connections there may be, and seconds after which one is closed."""

    connections: int = 128
    first: float = 2.0  # from the connection to the first byte of its first request
    request: float = 5.0  # from a request's first byte to its last, and for taking an answer
    idle: float = 30.0  # from an answer to the first byte of the next request
    later: float = 10.0  # for an answer that is made later


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request. `query` is the raw text behind the path's `?`."""

    method: str
    path: str
    query: str = ""
    body: bytes = b""
    gone: Callable[[], bool] = field(default=lambda: False, compare=False)
    """True if its sender waits no longer for the answer, as far as is known now."""
    later: Callable[[], Later] = field(default=lambda: Later(lambda job: job()), compare=False)
    """For a route that can't answer at once: it returns this, and gives it the answer when there is one."""


@dataclass(frozen=True, slots=True)
class HttpAnswer:
    """What a route answers."""

    body: bytes
    content_type: str = "text/plain; charset=utf-8"
    status: int = 200
    allow: str = ""  # the methods that the path takes, of an answer 405


class Later:
    """An answer that is made later, within `HttpLimits.later` seconds."""

    def __init__(self, call: Callable[[Callable[[], None]], None]) -> None:
        """`call` has something called on the listener's thread."""
        self._call = call
        self.made: HttpAnswer | None = None
        self._done: Callable[[], None] = _nothing

    def answer(self, make: Callable[[], HttpAnswer]) -> None:
        """Have `make` called on the listener's thread, whose result is the answer. From any thread, once.

        It is called also if the sender is gone meanwhile, which the request's `gone` tells.
        """
        self._call(lambda: self._take(make))

    def when_made(self, done: Callable[[], None]) -> None:
        """For the listener: `done` is called on its thread when the answer is there."""
        if self.made is not None:
            done()
        else:
            self._done = done

    def _take(self, make: Callable[[], HttpAnswer]) -> None:
        try:
            self.made = make()
        except Exception:
            log.exception("http: unhandled exception in an answer made later")
            self.made = HttpAnswer(b"", status=500)
        self._done()


def _nothing() -> None:
    pass


Route = Callable[[HttpRequest], HttpAnswer | Later]


class _Bad(Exception):
    """A request that is refused; the connection ends with it."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Peer:
    """One connection: bytes that came, bytes to send, and by when something must happen."""

    __slots__ = ("socket", "taken", "unsent", "since", "deadline", "last", "told_to_go_on", "need", "waits", "later")

    def __init__(self, connected: socket.socket, now: float, first: float) -> None:
        self.socket = connected
        self.taken = bytearray()
        self.unsent = b""
        self.since = now  # time.monotonic() since which there is no complete request
        self.deadline = now + first
        self.last = False  # close when all is sent
        self.told_to_go_on = False
        self.waits = False  # for the peer to read
        self.later: Later | None = None  # the answer that it waits for
        self.need = 0  # bytes of the request under way, as far as known: no parsing before they are here

    def gone(self) -> bool:
        """True if the other side has closed the connection, as a client does that gives up waiting."""
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True


class HttpServer:
    """Owns the listening socket, its connections and the thread."""

    def __init__(
        self,
        routes: Mapping[tuple[str, str], Route],
        opened: Callable[[], None] = lambda: None,
        limits: HttpLimits | None = None,
    ) -> None:
        """`routes`: (method, path) to what answers it; HEAD is answered as GET, without the body.

        `opened`: called when it listens.
        """
        self._routes = dict(routes)
        self._paths = {path for _, path in self._routes}
        self._opened = opened
        self._limits = limits or HttpLimits()
        self._selector = selectors.DefaultSelector()
        self.peers: set[_Peer] = set()
        self._later = 0  # of them, those whose answer is made later
        self._listener: socket.socket | None = None
        self._listening = False
        self._wake_in, self._wake_out = socket.socketpair()
        self._asked: deque[Callable[[], None]] = deque()
        self._resume_at = 0.0  # time.monotonic() before which no connection is taken
        self._crowded = Seldom()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)
        self.address: tuple[str, int] = ("", 0)
        self.fault = ""  # why it does not listen
        self.taken = False  # because somebody else does
        self._again = 0.0  # seconds between two tries to listen
        self._open_at = 0.0  # time.monotonic() of the next one

    def start(self, host: str, port: int, again: float = 0.0) -> None:
        """Listen and start the thread. Raises OSError, and may then be called again; but with `again` it does not.

        `again`: seconds between two tries of the thread if the address can't be listened on.
        """
        self.address, self._again = (host, port), again
        try:
            self._open()
        except OSError:
            if not again:
                raise
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        self._thread.start()

    def _open(self) -> None:
        """Raises OSError, and `fault` says why."""
        self._open_at = time.monotonic() + self._again
        try:
            listener = self._bound(*self.address)
        except OSError as error:
            self.fault, self.taken = error.strerror or str(error), error.errno == errno.EADDRINUSE
            raise
        self._listener, self.fault = listener, ""
        self.address = listener.getsockname()[:2]
        self._listen(True)
        self._opened()

    @staticmethod
    def _bound(host: str, port: int) -> socket.socket:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind(address)
            listener.listen(BACKLOG)
            listener.setblocking(False)
        except OSError:
            listener.close()
            raise
        return listener

    def ask(self, answered: Callable[[], None]) -> None:
        """Have the thread call back, however many connections wait. From any thread."""
        self._asked.append(answered)
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):
            self._wake_out.send(b"x")

    def stop(self, timeout: float) -> None:
        """End the thread and close everything, within `timeout` seconds."""
        self._stopping.set()
        self._wake()
        if self._thread.ident:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("thread %s did not end in time", self._thread.name)
                return
        for peer in list(self.peers):
            self._close(peer)
        if self._listener is not None:
            self._listener.close()
        self._wake_in.close()
        self._wake_out.close()
        self._selector.close()

    def _listen(self, wanted: bool) -> None:
        """Take new connections, or let them wait in the backlog."""
        if self._listener is not None and wanted != self._listening:
            self._listening = wanted
            if wanted:
                self._selector.register(self._listener, selectors.EVENT_READ)
            else:
                self._selector.unregister(self._listener)

    def _run(self) -> None:
        while not self._stopping.is_set():
            ready = self._selector.select(self._patience())
            for key, events in ready:
                if key.fileobj is self._listener:
                    self._accept()
                elif isinstance(key.data, _Peer):
                    self._serve(key.data, events)
                else:
                    self._answer_asked()
            now = time.monotonic()
            for peer in [peer for peer in self.peers if peer.deadline <= now]:
                self._close(peer)
            if self._listener is None and now >= self._open_at:
                with suppress(OSError):
                    self._open()
            self._listen(now >= self._resume_at)

    def _patience(self) -> float | None:
        """Seconds until something must be done although nothing comes."""
        at = [peer.deadline for peer in self.peers]
        if self._listener is None:
            at.append(self._open_at)
        elif not self._listening:
            at.append(self._resume_at)
        return max(0.0, min(at) - time.monotonic()) if at else None

    def _answer_asked(self) -> None:
        with suppress(OSError):
            self._wake_in.recv(4096)
        while self._asked:
            self._asked.popleft()()

    def _accept(self) -> None:
        # One a turn: a call too many of `accept` may cost a wait for the interpreter, `select` tells of the next.
        assert self._listener is not None
        try:
            connected, _ = self._listener.accept()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                self._resume_at = time.monotonic() + PAUSE  # it goes on waiting: `select` would tell of it at once
                self._make_room()
            return  # else it has gone again
        connected.setblocking(False)
        peer = _Peer(connected, time.monotonic(), self._limits.first)
        self.peers.add(peer)
        self._selector.register(connected, selectors.EVENT_READ, peer)
        self._serve(peer, selectors.EVENT_READ)  # its request is mostly here already
        if len(self.peers) - self._later > self._limits.connections:
            self._make_room()

    def _make_room(self) -> None:
        """Close the connection that has been longest without a complete request; else the one that takes no answer."""
        if self._crowded.due():
            log.warning("http: too many connections at one time; the oldest without a request is closed")
        others = [peer for peer in self.peers if peer.later is None]
        if others:
            self._close(min(others, key=lambda peer: (bool(peer.unsent), peer.since)))

    def _serve(self, peer: _Peer, events: int) -> None:
        try:
            if events & selectors.EVENT_READ and not peer.unsent:
                if not self._take(peer):
                    return
            while True:
                if peer.unsent:
                    self._send(peer)
                if peer.unsent or peer not in self.peers or not self._answer_some(peer):
                    return
        except OSError:
            self._close(peer)
        except Exception:
            log.exception("http: unhandled exception in a request")
            self._close(peer)

    def _take(self, peer: _Peer) -> bool:
        """Read what came; False when there is no more to do."""
        try:
            chunk = peer.socket.recv(65536)
        except BlockingIOError:
            return False
        if not chunk:
            self._close(peer)
            return False
        if not peer.taken and peer.later is None:
            peer.deadline = time.monotonic() + self._limits.request
        peer.taken += chunk
        if peer.later is not None and len(peer.taken) > MAX_HEAD + MAX_BODY:
            self._close(peer)  # it goes on sending requests
            return False
        return True

    def _answer_some(self, peer: _Peer) -> bool:
        """Answer requests that are complete, up to ANSWERS bytes: a read may hold a thousand, for a page each."""
        answers: list[bytes] = []
        size = 0
        try:
            while size < ANSWERS and len(peer.taken) >= max(peer.need, 1) and not peer.last and peer.later is None:
                if (answer := self._next(peer)) is None:
                    break
                answers.append(answer)
                size += len(answer)
        except _Bad as bad:
            peer.last = True
            answers.append(_written(HttpAnswer(b"", status=bad.status), False))
        peer.unsent += b"".join(answers)
        if answers and not peer.taken and not peer.last and peer.later is None:
            peer.since = time.monotonic()
            peer.deadline = peer.since + self._limits.idle
        return bool(answers)

    def _next(self, peer: _Peer) -> bytes | None:
        """The answer to the next request; None when it is not complete yet. Raises _Bad."""
        end = peer.taken.find(b"\r\n\r\n", 0, MAX_HEAD + 4)
        if end < 0:
            if len(peer.taken) > MAX_HEAD:
                raise _Bad(431)
            return None
        line, *rest = peer.taken[:end].decode("latin-1").split("\r\n")
        fields: dict[str, str] = {}
        for each in rest:
            name, colon, value = each.partition(":")
            if not colon or not name or name != name.strip():
                raise _Bad(400)
            if fields.setdefault(name.lower(), value.strip()) != value.strip() and name.lower() == "content-length":
                raise _Bad(400)
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1.") or not parts[1].startswith("/"):
            raise _Bad(400)
        if "transfer-encoding" in fields:
            raise _Bad(411)
        length = fields.get("content-length", "0")
        if not (length.isascii() and length.isdecimal()):
            raise _Bad(400)
        if len(length) > 9 or int(length) > MAX_BODY:
            raise _Bad(413)
        start, peer.need = end + 4, end + 4 + int(length)
        if len(peer.taken) < peer.need:
            if fields.get("expect", "").lower() == "100-continue" and not peer.told_to_go_on:
                peer.told_to_go_on = True
                return b"HTTP/1.1 100 Continue\r\n\r\n"
            return None
        body = bytes(peer.taken[start : peer.need])
        del peer.taken[: peer.need]
        peer.need, peer.told_to_go_on = 0, False
        words = fields.get("connection", "").lower()
        last = "close" in words or (parts[2] == "HTTP/1.0" and "keep-alive" not in words)
        path, _, query = parts[1].partition("?")
        request = HttpRequest(parts[0], path, query, body, peer.gone, lambda: Later(self.ask))
        answer = self._answer(request)
        if isinstance(answer, Later):
            self._wait_for(peer, answer, last)
            return None
        peer.last = last
        return _written(answer, not last, parts[0] != "HEAD")

    def _wait_for(self, peer: _Peer, later: Later, last: bool) -> None:
        """Go on with a connection when its answer is there; it is read on meanwhile, or its end would not be seen."""

        def made() -> None:
            if peer.later is later and later.made is not None:
                self._later -= 1
                peer.later, peer.last = None, last
                peer.since = time.monotonic()
                peer.deadline = peer.since + self._limits.idle
                peer.unsent += _written(later.made, not last)
                self._serve(peer, 0)

        peer.later = later
        peer.deadline = time.monotonic() + self._limits.later
        self._later += 1
        later.when_made(made)

    def _answer(self, request: HttpRequest) -> HttpAnswer | Later:
        route = self._routes.get(("GET" if request.method == "HEAD" else request.method, request.path))
        if route is None:
            if request.path not in self._paths:
                return HttpAnswer(b"", status=404)
            takes = [each for each, path in self._routes if path == request.path]
            return HttpAnswer(b"", status=405, allow=", ".join(takes + ["HEAD"] * ("GET" in takes)))
        try:
            return route(request)
        except Exception:
            log.exception("http: %s %s: unhandled exception", request.method, request.path)
            return HttpAnswer(b"", status=500)

    def _send(self, peer: _Peer) -> None:
        try:
            sent = peer.socket.send(peer.unsent)
        except BlockingIOError:
            sent = 0
        peer.unsent = peer.unsent[sent:]
        if peer.unsent:
            # It does not read: let it, for so long, and take nothing from it meanwhile.
            if not peer.waits:
                peer.waits = True
                self._selector.modify(peer.socket, selectors.EVENT_WRITE, peer)
            peer.deadline = min(peer.deadline, time.monotonic() + self._limits.request)
        elif peer.last:
            self._close(peer)
        elif peer.waits:
            peer.waits = False
            self._selector.modify(peer.socket, selectors.EVENT_READ, peer)

    def _close(self, peer: _Peer) -> None:
        if peer in self.peers:
            self.peers.discard(peer)
            if peer.later is not None:
                peer.later = None
                self._later -= 1
            self._selector.unregister(peer.socket)
            peer.socket.close()


def _written(answer: HttpAnswer, keep: bool, with_body: bool = True) -> bytes:
    head = (
        f"HTTP/1.1 {answer.status} {PHRASES.get(answer.status, '')}\r\n"
        f"Content-Type: {answer.content_type}\r\nContent-Length: {len(answer.body)}\r\n"
        f"{f'Allow: {answer.allow}' + chr(13) + chr(10) if answer.allow else ''}"
        f"{'' if keep else 'Connection: close' + chr(13) + chr(10)}\r\n"
    )
    return head.encode() + (answer.body if with_body else b"")
