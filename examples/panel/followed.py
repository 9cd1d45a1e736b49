"""One call that somebody follows: its events as they come, and what is known of it now.

world.py feeds it under its lock; the thread that follows the call waits here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any

from .calls import Leg

MOST = 1000  # events kept for one who does not read them

Happened = tuple[str, Mapping[str, Any]]


class Followed:
    """A `with` statement ends it. `leg`: as it was at the beginning."""

    def __init__(self, leg: Leg, now: Callable[[], Leg | None], leave: Callable[[Followed], None]) -> None:
        self.leg = leg
        self.now = now
        """The leg as it is; None when it has ended."""
        self.cause = ""
        """Why it has ended."""
        self._leave = leave
        self._came: SimpleQueue[Happened] = SimpleQueue()

    def __enter__(self) -> Followed:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._leave(self)

    def put(self, name: str, headers: Mapping[str, Any]) -> None:
        if self._came.qsize() < MOST:
            self._came.put((name, headers))

    def ended(self, cause: str) -> None:
        self.cause = self.cause or cause
        self._came.put(("", {}))

    @property
    def waiting(self) -> bool:
        """Whether there are events that nobody has taken yet."""
        return not self._came.empty()

    def next(self, end: float) -> Happened | None:
        """The next event; None if none came until `end` (time.monotonic)."""
        try:
            return self._came.get(timeout=max(0.0, end - time.monotonic()))
        except Empty:
            return None

    def until(self, is_true: Callable[[Leg | None], object], seconds: float) -> bool:
        """Wait until something is true of the leg, None for one that has ended; False if it did not become so."""
        end = time.monotonic() + seconds
        while not is_true(self.now()):
            if time.monotonic() >= end:
                return False
            self.next(min(end, time.monotonic() + 1.0))
        return True
