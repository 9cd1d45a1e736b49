"""The thread `dialplan`: what park mode has to do that may take a while, in turn."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from event_agent.dialplan.choices import Choices, Store
from event_agent.runtime.health import STUCK, Echo, Signs, Watched

log = logging.getLogger(__name__)


class Worker:
    """Does jobs in the order in which they came, and looks around now and then."""

    name = "dialplan"

    def __init__(self, first: Callable[[], None], last: Callable[[], None], tick: Callable[[], None], every: float):
        """`first` and `last` are called in each round, before the jobs and after them; `tick` all `every` seconds."""
        self._first, self._last, self._tick = first, last, tick
        self._every = every
        self._lock = threading.Lock()
        self._jobs: deque[Callable[[], None]] = deque()
        self._some = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="dialplan", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread within `timeout` seconds."""
        self._stopping.set()
        self._some.set()
        if self._thread.ident:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("thread %s did not end in time", self._thread.name)

    def signs(self) -> Signs:
        """By which the thread is known to be alive."""
        return Signs((self.name,), (Watched(f"thread {self.name}", STUCK, Echo(self.do)),))

    def do(self, job: Callable[[], None]) -> None:
        """Have it done; asked twice before its turn, it is done once."""
        with self._lock:
            if job not in self._jobs:
                self._jobs.append(job)
        self._some.set()

    def wake(self) -> None:
        """Have a round begin now."""
        self._some.set()

    def _run(self) -> None:
        tick_at = time.monotonic() + self._every
        while not self._stopping.is_set():
            self._some.wait(self._every)
            self._some.clear()
            now = time.monotonic()
            try:
                self._round()
                if now >= tick_at:
                    tick_at = now + self._every
                    self._tick()
            except Exception:
                log.exception("dialplan control: unhandled exception in a job")
        self._round()  # replies that wait

    def _round(self) -> None:
        with self._lock:
            jobs, self._jobs = self._jobs, deque()
        self._first()
        for job in jobs:
            job()
        self._last()


class Saving:
    """Choices on their way to disk, and the replies that wait for that."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._replies: deque[Callable[[bool], None]] = deque()
        self._unsaved = False
        self._kept = True  # the last choice is on disk, if it is to be

    def __len__(self) -> int:
        """Replies that wait."""
        return len(self._replies)

    def changed(self, reply: Callable[[bool], None]) -> None:
        """Choices have changed; `reply` is called when they are on disk, or could not be written."""
        with self._lock:
            self._unsaved = True
            self._replies.append(reply)

    def save(self, choices: Callable[[], Choices]) -> None:
        """Write them if they have changed, and call the replies. One thread at a time."""
        with self._lock:
            replies, self._replies = self._replies, deque()
            unsaved, self._unsaved = self._unsaved, False
        if unsaved:
            self._kept = self.store.save(choices())
        for reply in replies:
            reply(self._kept)
