"""How the queue of the scheduler moves, and when a caller should pause. Pure: see scheduler.py."""

from __future__ import annotations


class Flow:
    """Whether there is room for more, by what waits and by when something was last sent."""

    __slots__ = ("few", "full", "since", "moved", "held_up", "_enough", "_pause")

    def __init__(self, window: int, enough: int, pause: float) -> None:
        """See Limits."""
        self.few = min(window, enough - 1)  # that wait: neither room nor the window is to be thought of
        self.full = False  # the caller should pause until there is room
        self.since: float | None = None  # when `enough` began to wait, until half of them do
        self.moved = 0.0  # when something was last sent
        self.held_up = False  # something is queued that could be sent, were it not for what is in flight
        self._enough = enough
        self._pause = pause

    def look(self, waiting: int, now: float) -> bool:
        """So many wait now, `enough` or more, or that was so; True if a caller that paused may go on."""
        if self.since is None:
            self.since, self.full = now, True
        elif waiting <= self._enough // 2:
            self.since, self.full = None, False
            return True
        elif self.full and now - max(self.since, self.moved) > self._pause:
            self.full = False  # FreeSWITCH does not move: what does not fit is refused
            return True
        return False
