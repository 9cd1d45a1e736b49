"""How late events come, told from a clock that differs.

An event has FreeSWITCH's time, and FreeSWITCH's clock need not be ours: it runs on by itself when the system's is
set. So the difference is measured: of an event that we had fired ourselves it is known between which two moments of
our clock it was fired. That is done at each link; and again when another event's time does not fit, because either
events pile up, or a clock was set, or that event has an odd time. Between two measurements the least that an event
was behind is the difference, for no event can come before it was fired.

All of it runs on the event thread.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from event_agent.protocol.raw_event import Key, Names, RawEvent

log = logging.getLogger(__name__)

STAMP = Key("Event-Date-Timestamp")
BEGAN = Names("API")  # fired when a command ends, with the time at which it began
ODD = 1.0  # seconds off the difference from which an event's time is looked into
AGAIN = 5.0  # seconds between two measurements; no backlog of LATE can come about sooner
LATE = 5.0  # seconds behind from which it is worth a line in the log


class Lag:
    """`seconds` is how late the last event came, `difference` how far FreeSWITCH's clock is behind ours."""

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
        again: float = AGAIN,
    ) -> None:
        """`again`: seconds between two measurements."""
        self._again = again
        self._now = now
        self._clock = clock
        self.seconds = 0.0
        self.difference = 0.0
        self._fired: tuple[float, float] | None = None  # both clocks, when the mark that is awaited was fired
        self._measured = 0.0  # the clock at the last measurement's begin
        self._odd = False
        self._late = False
        self._row = 0  # reads in a row whose last event was LATE, while it is not known whether it is a clock
        self._worst = 0.0  # and how late they were
        self._told = 0.0  # the difference that the log has told of

    def fired(self) -> None:
        """An event of ours is about to be fired."""
        self._fired = self._now(), self._clock()
        self._measured = self._clock()
        self._odd = False

    def linked(self, mark: RawEvent) -> None:
        """It came, on a new link, on which nothing was before it."""
        self.difference = float("-inf")
        self._measure(mark)

    def measured(self, mark: RawEvent) -> None:
        """It came, after whatever was before it."""
        self._measure(mark)

    @property
    def awaited(self) -> bool:
        """Whether an event that was fired has not come yet."""
        return self._fired is not None

    @property
    def odd(self) -> bool:
        """Whether it is time to fire another event."""
        return self._odd and self._fired is None and self._clock() - self._measured >= self._again

    def heard(self, event: RawEvent, verifiable: bool) -> None:
        """An event came; of several the last one. `verifiable`: whether an event of ours would be heard."""
        if not verifiable:
            self._fired = None
        behind = None if event.is_one_of(BEGAN) else self._behind(event)
        if behind is None:
            return
        off = behind - self.difference
        if -ODD < off < 0 or (off < 0 and not verifiable):
            self.difference = behind
        self.seconds = max(0.0, off)
        self._odd = abs(off) > ODD
        if self.seconds > LATE:
            self._row += 1
            self._worst = max(self._worst, self.seconds)
        elif not self._fired:
            self._row, self._worst = 0, 0.0
        waited = self._clock() - self._fired[1] if self._fired else 0.0
        if self.seconds > LATE and (waited > LATE or not verifiable):
            self._say_late(self.seconds)
        elif self._late and self.seconds < LATE / 2:
            self._late = False
            log.info("events are up to date again")

    def _behind(self, event: RawEvent) -> float | None:
        """Seconds from FreeSWITCH's time of the event to now; None without such a time."""
        stamp = event.number(STAMP)
        return self._now() - stamp / 1e6 if stamp else None

    def _measure(self, mark: RawEvent) -> None:
        stamp, fired, self._fired = mark.number(STAMP) / 1e6, self._fired, None
        if not stamp or fired is None:
            self.difference = max(self.difference, 0.0) if self.difference == float("-inf") else self.difference
            return
        now, before = self._now(), self.difference
        self.difference = min(max(before, fired[0] - stamp), now - stamp)
        self.seconds = max(0.0, now - stamp - self.difference)
        row, worst = self._row, self._worst
        self._row, self._worst = 0, 0.0
        if self.seconds > LATE:
            self._say_late(self.seconds)
        elif row > 1 and abs(self.difference - before) < ODD:
            self._say_late(worst)  # it is over by now, and it was no clock
        if abs(self.difference - self._told) > ODD:
            self._say_difference()

    def _say_late(self, seconds: float) -> None:
        """FreeSWITCH throws out a connection that lets 100,000 events pile up."""
        if not self._late:
            self._late = True
            log.warning(
                "events are %.0f s behind FreeSWITCH: publish fewer (include, exclude) or use a faster machine", seconds
            )

    def _say_difference(self) -> None:
        if abs(self.difference) > ODD:
            self._told = self.difference
            log.warning(
                "FreeSWITCH's clock differs from this machine's by %.0f s (%s), and so do the times of events: "
                "fsctl sync_clock", abs(self.difference), "it is behind" if self.difference > 0 else "it is ahead",
            )  # fmt: skip
        else:
            self._told = 0.0
            log.info("FreeSWITCH's clock and this machine's agree again")
