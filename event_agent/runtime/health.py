"""Whether the threads are alive: what the service manager's watchdog is fed by.

Each thread is watched by a *sign*: a callable that tells for how many seconds the thread has owed a sign of life,
0 while it owes none. A thread that only waits for somebody else owes nothing: a broker that is away and a FreeSWITCH
that is frozen are for the links to mend, and a restart would lose the events that wait here. So:

Beat      the thread wakes up by itself and says so.
Rounds    the thread wakes up by itself and does not say so; the kernel knows how often it has slept.
Missing   a thread that comes and goes has to be there at the moment.
Echo      the thread is asked for an answer now and then, one question at a time.
Unread    bytes that a peer has sent wait in a socket of this process and nobody takes them.

Two threads have no sign: MainThread, on which all of this runs and without which systemd hears nothing, and
esl-connect-limit, whose absence shows in a thread that connects for too long.

All of it runs on the thread that calls `Health.well`, every two seconds or so; it costs nothing on the paths of
commands and events.
"""

from __future__ import annotations

import fcntl
import logging
import os
import socket
import stat
import struct
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import NamedTuple

log = logging.getLogger(__name__)

Sign = Callable[[], float]

STUCK = 20.0  # seconds without a sign of life after which a thread counts as stuck
CONNECTING = 120.0  # the same while it connects: names are resolved, addresses tried, waits grow
_CLOSE_WAIT = 8  # linux/tcp.h, TCP_CLOSE_WAIT: the peer has gone; a thread that rests between commands need not look
_TCP_INFO = struct.Struct("=B127xQ")  # struct tcp_info up to tcpi_bytes_received


class Watched(NamedTuple):
    """`what` is stuck if its `sign` says more than `limit` seconds."""

    what: str
    limit: float
    sign: Sign


class Signs(NamedTuple):
    """A part's signs of life: the threads that must not end, and those that must not be stuck."""

    lives: tuple[str, ...] = ()
    watched: tuple[Watched, ...] = ()

    def __add__(self, other: Signs) -> Signs:  # type: ignore[override]
        """Those of two parts together."""
        return Signs(self.lives + other.lives, self.watched + other.watched)


class Health:
    """The threads that must live, and the signs they must give. One thread calls all of it."""

    def __init__(self, signs: Iterable[Signs] = ()) -> None:
        """`signs`: those of all parts."""
        self._lives: set[str] = set()
        self._signs: list[Watched] = []
        self._before = self._told = False
        self.found: list[str] = []  # at the last look
        self._named: set[int | None] = set()
        for each in signs:
            self.add(each)

    def add(self, signs: Signs) -> None:
        """The signs of a further part."""
        self._lives |= set(signs.lives)
        self._signs += signs.watched

    @property
    def watched(self) -> set[str]:
        """What can be said to be stuck."""
        return {what for what, _, _ in self._signs}

    @property
    def lives(self) -> set[str]:
        """The threads that must not end: of an exception, say, after which nobody starts them again."""
        return set(self._lives)

    def stuck(self) -> list[str]:
        """What is wrong, a sentence each; empty if all is well."""
        threads = threading.enumerate()
        self._show_names(threads)
        found = [f"thread {name} has ended" for name in sorted(self._lives - {thread.name for thread in threads})]
        for what, limit, sign in self._signs:
            if (seconds := sign()) > limit:
                found.append(f"{what} has shown no sign of life for {seconds:.0f} s")
        return found

    def _show_names(self, threads: list[threading.Thread]) -> None:
        """Tell the kernel what Python alone knows (before 3.14), for `top -H` and debuggers; it keeps 15 bytes."""
        tids = {thread.native_id: thread.name for thread in threads if thread is not threading.main_thread()}
        for tid in tids.keys() - self._named:
            with suppress(OSError), open(f"/proc/self/task/{tid}/comm", "w") as file:
                file.write(tids[tid][:15])
        self._named = set(tids)

    def well(self) -> bool:
        """True if nothing is stuck. What is, is logged, once."""
        self.found = stuck = self.stuck()
        # At the first look it may be a machine that was paused: all its threads wake up right after.
        if stuck and self._before and not self._told:
            self._told = True
            for each in stuck:
                log.critical("%s; no longer feeding the watchdog", each)
        self._before = bool(stuck)
        self._told = self._told and self._before
        return not stuck


class Beat:
    """For a thread that wakes up by itself: `at` gives time.monotonic() of the last round, 0 before the first."""

    def __init__(self, at: Callable[[], float]) -> None:
        self._at = at
        self._started = time.monotonic()

    def __call__(self) -> float:
        return time.monotonic() - max(self._at(), self._started)


class Rounds:
    """For a thread that never sleeps long: how long it has slept. 0 while there is no such thread."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._slept = b""
        self._since = time.monotonic()

    def __call__(self) -> float:
        slept = b""
        for thread in threading.enumerate():
            if thread.name == self._name:
                with suppress(OSError), open(f"/proc/self/task/{thread.native_id}/status", "rb") as file:
                    slept += b"%d" % (thread.native_id or 0) + file.read().partition(b"\nvoluntary_ctxt_switches:")[2]
        if not slept or slept != self._slept:
            self._slept, self._since = slept, time.monotonic()
        return time.monotonic() - self._since


class Missing:
    """For a thread that must be there when this is asked: how long it has not been."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._since = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if any(thread.name == self._name for thread in threading.enumerate()):
            self._since = now
        self._since = self._since or now
        return now - self._since


class Echo:
    """For a thread that has to be asked: `ask` takes what is to be called, on that thread, as the answer."""

    def __init__(self, ask: Callable[[Callable[[], None]], None], every: float = 10.0) -> None:
        """`every`: seconds from an answer to the next question."""
        self._ask = ask
        self._every = every
        self._asked = 0.0  # time.monotonic() of the question that is open, else 0
        self._next = time.monotonic()

    def _answered(self) -> None:
        self._next = time.monotonic() + self._every
        self._asked = 0.0

    def __call__(self) -> float:
        now = time.monotonic()
        if asked := self._asked:
            return now - asked
        if now >= self._next:
            self._asked = now
            self._ask(self._answered)
        return 0.0


class Unread:
    """For threads that wait on a connection: the longest that bytes have waited on one of which none were taken."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[int, float]] = {}  # inode of a socket: bytes taken from it, and since when

    def __call__(self) -> float:
        now = time.monotonic()
        seen: dict[int, tuple[int, float]] = {}
        for inode, taken in _waiting():
            before = self._seen.get(inode)
            seen[inode] = before if before is not None and before[0] == taken else (taken, now)
        self._seen = seen
        return max((now - since for _, since in seen.values()), default=0.0)


def only_if(owed: Callable[[], bool], sign: Sign) -> Sign:
    """`sign`, of somebody who owes one only while `owed` says so."""

    def owing() -> float:
        owes, seconds = owed(), sign()  # looked at all the time, or it would go on from what it saw long ago
        return seconds if owes else 0.0

    return owing


def _waiting() -> Iterator[tuple[int, int]]:
    """Each TCP connection of this process on which bytes wait: (inode, bytes taken from it so far)."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # closed meanwhile
            found = os.fstat(int(name))
            if not stat.S_ISSOCK(found.st_mode):
                continue
            # A duplicate: the descriptor's number may belong to something else a moment later.
            with socket.socket(fileno=os.dup(int(name))) as ours:
                if ours.family not in (socket.AF_INET, socket.AF_INET6) or ours.type != socket.SOCK_STREAM:
                    continue
                waiting: int = struct.unpack("i", fcntl.ioctl(ours, termios.FIONREAD, b"\0" * 4))[0]
                if not waiting:
                    continue
                info = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
                state, received = _TCP_INFO.unpack(info)
                if state != _CLOSE_WAIT:
                    yield found.st_ino, received - waiting
