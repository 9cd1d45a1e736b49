"""The simulator's own threads: one clock thread for what happens later, and one thread for each job that may block.

Every thread is a named daemon; `stop` ends and joins them all. Waiting is done with `pause`, which a stop interrupts.
"""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable
from itertools import count
from threading import TIMEOUT_MAX, Condition, Event, Lock, Thread, current_thread

log = logging.getLogger(__name__)

Job = Callable[[], None]


class Workers:
    """Runs jobs later, or at once in a thread of their own."""

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._order = count()
        self._stopping = Event()
        self._condition = Condition()
        self._due: list[tuple[float, int, Job]] = []
        self._lock = Lock()
        self._threads: set[Thread] = set()
        self.spawn("clock", self._run_clock)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def pause(self, seconds: float) -> bool:
        """Waits; True when the simulator is being stopped meanwhile."""
        return self._stopping.wait(min(seconds, TIMEOUT_MAX))

    def spawn(self, name: str, job: Job) -> bool:
        """Runs the job in a thread of its own; False when the simulator is being stopped."""
        thread = Thread(target=self._run, args=(job,), name=f"{self._prefix}-{name}", daemon=True)
        with self._lock:
            if self._stopping.is_set():
                return False
            self._threads.add(thread)
            thread.start()
        return True

    def later(self, seconds: float, job: Job) -> None:
        """Runs the job in the clock thread; jobs that are due together run in the order in which they came."""
        with self._condition:
            heapq.heappush(self._due, (time.monotonic() + seconds, next(self._order), job))
            self._condition.notify()

    def stop(self) -> None:
        """Ends all threads and waits for them. Jobs that were due later are dropped."""
        with self._lock:
            self._stopping.set()
        with self._condition:
            self._due.clear()
            self._condition.notify()
        while True:
            with self._lock:
                threads = [thread for thread in self._threads if thread is not current_thread()]
            if not threads:
                return
            for thread in threads:
                thread.join()

    def _run(self, job: Job) -> None:
        try:
            job()
        except Exception:
            log.exception("%s failed", current_thread().name)
        finally:
            with self._lock:
                self._threads.discard(current_thread())

    def _run_clock(self) -> None:
        while not self._stopping.is_set():
            with self._condition:
                wait = self._due[0][0] - time.monotonic() if self._due else None
                if wait is None or wait > 0:
                    if not self._stopping.is_set():
                        self._condition.wait(None if wait is None else min(wait, TIMEOUT_MAX))
                    continue
                job = heapq.heappop(self._due)[2]
            try:
                job()
            except Exception:
                log.exception("a job of the clock failed")
