"""Several servers are tried at one time, so that those that do not answer cost little.

A try goes: its host is looked up, it connects, and the server greets (with INFO, the first thing that a NATS server
sends). The next try begins when the one before has failed, or has taken STAGGER; so the order counts, and in general
one server is asked. A server that takes connections and says nothing holds nobody up either. One that is to be spoken
to with TLS, and says nothing for QUIET, may wait for us to begin that: see tls.py.

All on the thread that calls; no lock, no thread of its own.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from event_agent.errors import LinkError

STAGGER = 0.25  # seconds between two tries that begin
QUIET = 0.2  # seconds; below STAGGER, so that such a server is still asked alone
TURN = 0.1  # seconds at most between two looks whether to go on
PORT = 4222

Begin = Callable[[str, socket.socket], socket.socket]  # begins TLS; raises LinkError
Found = tuple[str, socket.socket | LinkError]


@dataclass(slots=True)
class _Try:
    url: str
    sock: socket.socket
    number: int  # the file descriptor of `sock`, which `sock` itself no longer has if TLS could not be begun
    ends: float  # time.monotonic()
    connected: bool = False
    quiet: float = 0.0  # time.monotonic() at which TLS is begun; 0 if it is not, or has been


def greetings(
    urls: Iterable[str], limit: float, go_on: Callable[[], bool], begin: Begin | None = None
) -> Generator[Found]:
    """Each URL once: with a socket on which the server has said something, or with why there is none.

    A try has `limit` seconds. `begin` is for URLs with tls://; what it returns takes the socket's place.
    Those that are not wanted any more end with the generator, or when `go_on` says so.
    """
    race = _Race(limit, begin)
    race.waiting.extend((url, None) for url in dict.fromkeys(urls))
    try:
        while (race.waiting or race.tries) and go_on():
            yield from race.turn()
    finally:
        race.end()


class _Race:
    def __init__(self, limit: float, begin: Begin | None) -> None:
        self.limit = limit
        self._begin_tls = begin
        self.waiting: deque[tuple[str, Any]] = deque()  # URL, and what is known of its address
        self.tries: dict[int, _Try] = {}
        self._left: Counter[str] = Counter()  # addresses of a URL that have not failed
        self._due = 0.0
        self._poll = select.poll()

    def turn(self) -> list[Found]:
        """Begin what is due, and look once."""
        found: list[Found] = []
        now = time.monotonic()
        if self.waiting and (now >= self._due or not self.tries):
            found += self._begin(*self.waiting.popleft(), now)
            self._due = now + STAGGER
            return found
        ends = min(each.quiet or each.ends for each in self.tries.values())
        wait = min(TURN, ends - now, self._due - now if self.waiting else TURN)
        for number, _ in self._poll.poll(max(0.0, wait) * 1000 + 1):
            found += self._look(self.tries[number], now)
        now = time.monotonic()
        for silent in [each for each in self.tries.values() if 0 < each.quiet <= now]:
            found += self._speak_first(silent)
        for late in [each for each in self.tries.values() if each.ends <= now]:
            found += self._failed(late, LinkError("the server does not answer" if late.connected else "timed out"))
        return found

    def _begin(self, url: str, address: Any, now: float) -> list[Found]:
        if address is None:
            try:
                parts = urlsplit(url)
                known = socket.getaddrinfo(parts.hostname or "", parts.port or PORT, 0, socket.SOCK_STREAM)
            except (OSError, UnicodeError) as error:
                return [(url, LinkError(getattr(error, "strerror", None) or str(error)))]
            self._left[url] = len(known)
            self.waiting.extendleft((url, each) for each in reversed(known))
            url, address = self.waiting.popleft()
        family, kind, protocol, _, where = address
        try:
            sock = socket.socket(family, kind, protocol)
        except OSError as error:
            return self._gone(url, LinkError(error.strerror or str(error)))
        sock.setblocking(False)
        each = _Try(url, sock, sock.fileno(), now + self.limit)
        try:
            sock.connect(where)
        except BlockingIOError:
            pass
        except OSError as error:
            sock.close()
            return self._gone(url, LinkError(error.strerror or str(error)))
        self.tries[each.number] = each
        self._poll.register(each.number, select.POLLOUT)
        return []

    def _look(self, each: _Try, now: float) -> list[Found]:
        """Something has happened to it."""
        if not each.connected:
            if fault := each.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return self._failed(each, LinkError(os.strerror(fault)))
            each.connected = True
            self._poll.modify(each.number, select.POLLIN)
            if self._begin_tls is not None and each.url.startswith("tls://"):
                each.quiet = time.monotonic() + QUIET
            return []
        self._forget(each)
        self.waiting = deque(one for one in self.waiting if one[0] != each.url)
        for other in [one for one in self.tries.values() if one.url == each.url]:
            self._forget(other)
            other.sock.close()
        each.sock.settimeout(self.limit)
        self._due = now  # if this one won't do, the next is tried at once
        return [(each.url, each.sock)]

    def _speak_first(self, each: _Try) -> list[Found]:
        """It says nothing."""
        assert self._begin_tls is not None
        each.quiet = 0.0
        try:
            # The descriptor stays what it is, and is watched as before.
            each.sock = self._begin_tls(each.url, each.sock)
        except LinkError as fault:
            return self._failed(each, fault)
        return []

    def _failed(self, each: _Try, fault: LinkError) -> list[Found]:
        self._forget(each)
        each.sock.close()
        return self._gone(each.url, fault)

    def _gone(self, url: str, fault: LinkError) -> list[Found]:
        """One address of it will not do."""
        self._due = 0.0
        self._left[url] -= 1
        return [] if self._left[url] else [(url, fault)]

    def _forget(self, each: _Try) -> None:
        self._poll.unregister(each.number)
        del self.tries[each.number]

    def end(self) -> None:
        """Close those that are left."""
        for each in self.tries.values():
            with suppress(OSError):
                each.sock.close()
        self.tries.clear()
