"""Whether a client asks in turns: one command, its answer, and the next one as soon as that is there. Pure.

To put a thread to sleep and wake it up takes about as long as FreeSWITCH takes for a command, and a command that is
alone has to wait for that twice: for its answer, and before it for the one who sends it. While somebody asks in turns
the loop's thread stays awake, for a part of a millisecond each time, and looks again and again instead.

Whoever leaves more time between two commands, and several at a time, never come to that: to stay awake would then cost
CPU that others need, and bring nothing.
"""

from __future__ import annotations

ROW = 3  # commands in turns from which on the next is counted on; of twice as many one may be late


class Turns:
    """Told how many commands are in flight whenever that changes; says until when to stay awake."""

    __slots__ = ("_soon", "_many", "_changed", "_row", "_quick")

    def __init__(self, soon: float) -> None:
        """`soon`: seconds within which the answer, and after it the next command, has to be there; 0 is never."""
        self._soon = soon
        self._many = 0  # in flight
        self._changed = 0.0  # since when
        self._row = 0  # commands that came in turns
        self._quick = False  # the last answer came soon

    @property
    def many(self) -> int:
        """In flight, as was told last."""
        return self._many

    def now(self, many: int, at: float) -> float:
        """So many are in flight at this time. Until when to stay awake, 0 for not at all."""
        before, self._many = self._many, many
        soon, self._changed = at - self._changed < self._soon, at
        if before + many != 1:
            self._row = 0
            return 0.0
        if many:  # somebody has asked
            self._row = min(self._row + 1, 2 * ROW) if soon and self._quick else self._row // 2
        else:
            self._quick = soon
        return at + self._soon if self._row >= ROW and self._quick else 0.0
