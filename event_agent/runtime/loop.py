"""The thread that commands pass through: it waits on the broker's socket and on those of the command lane at once.

With a thread for each side the two wake each other, and hand the interpreter over, for every command: at 50 requests
in flight that was one to three switches a command, and most of the CPU it cost (docs/PERFORMANCE.md). Here what came
from the one side is through before the other is looked at, so requests and replies move in groups.

A descriptor is watched, paused, or not known. Of a paused one nothing is read: the kernel's buffers fill, and its
sender has to wait. That is how this program slows down a peer that sends too much. The end of the connection is not
seen either while it is paused.

Timers ring by a descriptor of their own (timerfd_create(2)). With a limit to each wait instead, the kernel sets up a
timer and takes it down again each time: 10 µs of CPU for a command that comes alone.

Sometimes it looks again at once instead of sleeping (`awake_until`): while commands come one by one, each upon the
answer to the last (freeswitch/turns.py), and no other thread has work (`rest`).

Threads: one, `io`. All methods may be called from any thread; what they are given is called on `io` and must not wait.
"""

from __future__ import annotations

import logging
import os
import select
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL, get_errno
from heapq import heappop, heappush

from event_agent.runtime.health import STUCK, Echo, Signs, Watched

log = logging.getLogger(__name__)

REST = 0.01  # seconds

Job = Callable[[], object]


class Timer:
    """A job that is called once, later."""

    __slots__ = ("at", "_job")

    def __init__(self, at: float, job: Job) -> None:
        self.at = at  # time.monotonic()
        self._job: Job | None = job

    def cancel(self) -> None:
        """It is not called any more. From any thread; if `io` is about to call it, it is called."""
        self._job = None

    def take(self) -> Job | None:
        """The job, which is called by the thread that takes it; None if it was cancelled."""
        job, self._job = self._job, None
        return job

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at


class _Clock:
    """A descriptor that can be read from a time on. Python has it from 3.13 on."""

    def __init__(self) -> None:
        self._libc = CDLL(None, use_errno=True)
        self.fileno = self._checked(self._libc.timerfd_create(time.CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC))

    def ring(self, seconds: float) -> None:
        """In so many seconds, and not at the time set before."""
        whole, part = divmod(max(1000, int(seconds * 1e9)), 1_000_000_000)
        self._checked(self._libc.timerfd_settime(self.fileno, 0, struct.pack("@4l", 0, 0, whole, part), None))

    def rest(self) -> None:
        """Not at all."""
        self._checked(self._libc.timerfd_settime(self.fileno, 0, bytes(struct.calcsize("@4l")), None))

    @staticmethod
    def _checked(result: int) -> int:
        if result < 0:
            raise OSError(get_errno(), os.strerror(get_errno()))
        return result


class Loop:
    """Calls back when there is something to read, and when a time has come."""

    name = "loop"

    def __init__(self, sleep: Callable[[float], None] = time.sleep) -> None:
        self._sleep = sleep
        self._poll = select.epoll()
        self.watched: dict[int, Job] = {}
        self._paused: set[int] = set()
        self._changing = threading.Lock()  # guards what is registered with _poll
        self._calls: deque[Job] = deque()
        self._timers: list[Timer] = []  # a heap, its head is due first
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.EPOLLIN)
        self._clock = _Clock()
        self._poll.register(self._clock.fileno, select.EPOLLIN)
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="io", daemon=True)
        self.awake_until = 0.0  # time.monotonic() until which it looks again at once, and does not sleep; any thread
        self._rested = 0.0  # time.monotonic() up to which it sleeps all the same
        self.round = 0  # how often it has looked and found something
        self.gather = 0.0  # seconds to let more arrive before the next look; any thread may set it

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread within `timeout` seconds; what is still watched is forgotten."""
        if self._stopping:
            return
        self._stopping = True
        self._ring()
        if self._thread.ident:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("thread %s did not end in time", self._thread.name)
                return
        self._poll.close()
        os.close(self._bell)
        os.close(self._clock.fileno)

    def signs(self) -> Signs:
        """The signs of life of `io`."""
        return Signs((self._thread.name,), (Watched(f"thread {self._thread.name}", STUCK, Echo(self.call)),))

    # -- descriptors

    def watch(self, descriptor: int, readable: Job) -> None:
        """Call `readable` whenever the descriptor has something to read, until `forget`."""
        with self._changing:
            self.watched[descriptor] = readable
            self._poll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """End a watch, paused or not. On the loop's thread, before the descriptor is closed."""
        with self._changing:
            if self.watched.pop(descriptor, None) is None:
                return
            if descriptor in self._paused:
                self._paused.discard(descriptor)
            else:
                self._poll.unregister(descriptor)

    def pause(self, descriptor: int) -> None:
        """Read nothing of it until `resume`. Without effect for one that is not watched, or paused already."""
        with self._changing:
            if descriptor in self.watched and descriptor not in self._paused:
                self._paused.add(descriptor)
                self._poll.unregister(descriptor)

    def resume(self, descriptor: int) -> None:
        """Read it again. Without effect for one that is not paused."""
        with self._changing:
            if descriptor in self._paused:
                self._paused.discard(descriptor)
                self._poll.register(descriptor, select.EPOLLIN)

    # -- jobs

    def call(self, job: Job) -> None:
        """Have it called on the loop's thread."""
        self._calls.append(job)
        self._ring()

    def after(self, seconds: float, job: Job) -> Timer:
        """Have it called on the loop's thread, so much later."""
        timer = Timer(time.monotonic() + seconds, job)
        self.call(lambda: self._set(timer))  # so that the heap belongs to one thread
        return timer

    def rest(self, seconds: float = REST) -> None:
        """Another thread has work: for so long it does not stay awake. From any thread."""
        self._rested = time.monotonic() + seconds

    @property
    def here(self) -> bool:
        """True on the loop's thread."""
        return threading.current_thread() is self._thread

    # -- the thread

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        watched, paused, wait, monotonic = self.watched, self._paused, self._poll.poll, time.monotonic
        while not self._stopping:
            if self.gather:
                self._sleep(self.gather)
            found: list[tuple[int, int]] = []
            while not found and self._rested < monotonic() < self.awake_until:
                found = wait(0)
            found = found or wait()
            self.round += 1
            for descriptor, _ in found:
                readable = watched.get(descriptor)
                if readable is not None:
                    if descriptor not in paused:  # else it was paused since this look
                        try:
                            readable()
                        except Exception as fault:
                            self._failed(fault, descriptor)
                elif descriptor == self._bell:
                    self._answer_the_bell()
                elif descriptor == self._clock.fileno:
                    self._call_due()

    def _answer_the_bell(self) -> None:
        os.eventfd_read(self._bell)
        for _ in range(len(self._calls)):
            self._do(self._calls.popleft())

    def _set(self, timer: Timer) -> None:
        heappush(self._timers, timer)
        if self._timers[0] is timer:
            self._clock.ring(timer.at - time.monotonic())

    def _call_due(self) -> None:
        now = time.monotonic()
        while self._timers and self._timers[0].at <= now:
            job = heappop(self._timers).take()
            if job is not None:
                self._do(job)
        if self._timers:
            self._clock.ring(self._timers[0].at - time.monotonic())
        else:
            self._clock.rest()

    def _do(self, job: Job) -> None:
        try:
            job()
        except Exception as fault:
            self._failed(fault, -1)

    def _failed(self, fault: Exception, descriptor: int) -> None:
        """Its owner should have caught it. Left unwatched, its bytes stay unread, which the health check finds."""
        log.error("unhandled exception on the io thread", exc_info=fault)
        with suppress(OSError, ValueError):  # the fault may be that its owner has closed it
            self.forget(descriptor)
