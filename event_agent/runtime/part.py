"""The parts of a daemon: what each must offer, and the order in which they start and end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from event_agent.runtime.health import Signs

log = logging.getLogger(__name__)

RESERVE = 0.2  # seconds kept for each part that still has to end
LEAST = 0.05  # seconds that a part is given even if others took longer than they should


class Part(Protocol):
    """Something with a beginning and an end, and most often threads of its own."""

    @property
    def name(self) -> str:
        """What it is called in the log."""
        ...

    def start(self) -> None:
        """Begin; returns at once."""
        ...

    def stop(self, timeout: float) -> None:
        """End within `timeout` seconds. Also called if `start` was not."""
        ...

    def signs(self) -> Signs:
        """By which its threads are known to be alive."""
        ...


class Parts:
    """Starts parts in order and ends them in the opposite one, each in its own try."""

    def __init__(self, parts: Sequence[Part], clock: Callable[[], float] = time.monotonic) -> None:
        self._parts = tuple(parts)
        self._clock = clock

    def start(self) -> None:
        """Start all. Where one can't be started, nothing is left running."""
        for part in self._parts:
            try:
                part.start()
            except BaseException:
                self.stop(LEAST)
                raise

    def stop(self, timeout: float) -> None:
        """End all within `timeout` seconds; one that can't end holds none of the others up."""
        deadline = self._clock() + timeout
        for others, part in reversed(list(enumerate(self._parts))):
            try:
                part.stop(max(LEAST, deadline - others * RESERVE - self._clock()))
            except Exception:
                log.exception("stopping: %s", part.name)

    def signs(self) -> list[Signs]:
        """Those of all parts."""
        return [part.signs() for part in self._parts]
