"""The thread that commands pass through: it waits on the broker's socket and on those of the command lane at once.

With a thread for each side the two wake each other, and hand the interpreter over, for every command: at 50 requests
in flight that was one to three switches a command, and most of the CPU it cost (docs/PERFORMANCE.md). Here what came
from the one side is through before the other is looked at, so requests and replies move in groups.

Threads: one, `io`. `watch`, `call` and `stop` may be called from any; a callback runs on `io` and must not wait.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

log = logging.getLogger(__name__)


def _no_pause() -> float:
    return 0.0


class Loop:
    """Calls back whoever has something to read."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._watched: dict[int, Callable[[], None]] = {}
        self._calls: deque[Callable[[], None]] = deque()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.EPOLLIN)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="io", daemon=True)
        self.pause: Callable[[], float] = _no_pause  # seconds to let more arrive before the next look

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread within `timeout` seconds; what is still watched is forgotten."""
        if self._stopping.is_set():
            return
        self._stopping.set()
        os.eventfd_write(self._bell, 1)
        if self._thread.ident:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("thread %s did not end in time", self._thread.name)
                return
        self._poll.close()
        os.close(self._bell)

    def watch(self, descriptor: int, readable: Callable[[], None]) -> None:
        """Call `readable` whenever the descriptor has something to read, until `forget`."""
        self._watched[descriptor] = readable
        self._poll.register(descriptor, select.EPOLLIN)

    def forget(self, descriptor: int) -> None:
        """End a watch. On the loop's thread, before the descriptor is closed."""
        if self._watched.pop(descriptor, None) is not None:
            self._poll.unregister(descriptor)

    def call(self, job: Callable[[], None]) -> None:
        """Have it called on the loop's thread."""
        self._calls.append(job)
        os.eventfd_write(self._bell, 1)

    @property
    def here(self) -> bool:
        """True on the loop's thread."""
        return threading.current_thread() is self._thread

    def _run(self) -> None:
        watched, wait = self._watched, self._poll.poll
        while not self._stopping.is_set():
            if pause := self.pause():
                time.sleep(pause)
            for descriptor, _ in wait():
                readable = watched.get(descriptor)
                if readable is not None:
                    self._do(readable, descriptor)
                elif descriptor == self._bell:
                    self._answer_the_bell()

    def _answer_the_bell(self) -> None:
        os.eventfd_read(self._bell)
        for _ in range(len(self._calls)):
            self._do(self._calls.popleft(), -1)

    def _do(self, job: Callable[[], None], descriptor: int) -> None:
        try:
            job()
        except Exception:
            # Its owner should have seen to it. Left unwatched, its bytes stay unread, which the health check finds.
            log.exception("the io thread met a fault that it should not")
            with suppress(OSError, ValueError):  # the fault may be that its owner has closed it
                self.forget(descriptor)
