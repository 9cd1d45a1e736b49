"""Whether a client asks in turns: one command, its answer, and the next one as soon as that is there. Pure.

To put a thread to sleep and to wake it takes about as long as FreeSWITCH takes for a command. A lone command waits for
that twice in this program: until its request is read, and until its answer is. While a client asks in turns the loop's
thread does not sleep but looks again at once, for a part of a millisecond each time.

It sleeps as ever when more time passes between two commands, and when several are in flight: then it would only take
CPU from others.
"""

from __future__ import annotations

ROW = 3  # commands in turns from which on the next is counted on; of twice as many one may be late


class Turns:
    """Told how many commands are in flight whenever that changes; says until when to stay awake."""

    __slots__ = ("many", "_soon", "_changed", "_row", "_quick")

    def __init__(self, soon: float) -> None:
        """`soon`: seconds within which the answer, and after it the next command, has to be there; 0 is never."""
        self._soon = soon
        self.many = 0  # in flight, as was told last
        self._changed = 0.0  # since when
        self._row = 0  # commands that came in turns
        self._quick = False  # the last answer came soon

    def now(self, many: int, at: float) -> float:
        """So many are in flight at this time. Until when to stay awake, 0 for not at all."""
        before, self.many = self.many, many
        soon, self._changed = at - self._changed < self._soon, at
        if before + many != 1:
            self._row = 0
            return 0.0
        if many:  # somebody has asked
            self._row = min(self._row + 1, 2 * ROW) if soon and self._quick else self._row // 2
        else:
            self._quick = soon
        return at + self._soon if self._row >= ROW and self._quick else 0.0
