"""Growing waits between tries of the same thing."""

from __future__ import annotations

import random


class Backoff:
    """Waits in seconds: `first`, doubled at each try up to `most`, with a quarter of jitter either way."""

    def __init__(self, first: float, most: float) -> None:
        self._first = first
        self._most = most
        self._tries = 0

    def next(self) -> float:
        """The wait before the next try."""
        # The jitter keeps a fleet of agents from knocking at a restarted server all at once.
        wait = min(self._first * 2.0 ** min(self._tries, 30), self._most)
        self._tries += 1
        return wait * random.uniform(0.75, 1.25)

    def reset(self) -> None:
        """It worked: the next wait is the first one again."""
        self._tries = 0
