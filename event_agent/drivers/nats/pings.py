"""The PINGs of one connection: which are not answered, and since when. No socket; any thread may call it."""

from __future__ import annotations

import threading
import time
from collections import deque


class Pings:
    """Counts PINGs and PONGs, and tells which PING has waited for too long."""

    def __init__(self, timeout: float) -> None:
        """`timeout`: seconds within which each has to be answered."""
        self.timeout = timeout
        self._changed = threading.Condition()
        self._unanswered: deque[float] = deque()  # time.monotonic() of each, oldest first
        self._sent = self._answered = 0
        self._paused = False  # nothing is read, so no answer is expected

    def sent(self) -> None:
        """One is about to be sent."""
        with self._changed:
            self._sent += 1
            self._unanswered.append(time.monotonic())

    def answered(self) -> None:
        """A PONG came."""
        with self._changed:
            self._answered += 1
            if self._unanswered:
                self._unanswered.popleft()
            self._changed.notify_all()

    def wait(self, timeout: float) -> bool:
        """Wait until all that were sent are answered; False if they are not within `timeout` seconds."""
        with self._changed:
            wanted = self._sent
            return self._changed.wait_for(lambda: self._answered >= wanted, timeout)

    def pause(self) -> None:
        """Expect no answer until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """What was not read was not answered: their time begins anew."""
        with self._changed:
            self._unanswered = deque([time.monotonic()] * len(self._unanswered))
        self._paused = False

    def look_at(self, due: float) -> float:
        """When to look next: at `due`, or when the time of the oldest is over."""
        with self._changed:
            if self._unanswered and not self._paused:
                return min(due, self._unanswered[0] + self.timeout)
        return due

    @property
    def late(self) -> bool:
        """One was not answered in time."""
        with self._changed:
            late = bool(self._unanswered) and time.monotonic() - self._unanswered[0] >= self.timeout
        return late and not self._paused
