"""How many events FreeSWITCH fired that were not seen here.

All events are numbered by Event-Sequence, wanted or not, from the start of a FreeSWITCH (its Core-UUID) on. The number
now is learned by firing an event of our own. Numbers do not come in order: FreeSWITCH dispatches from several threads,
and numbers an event as it makes it, not as it fires it. So of events with lower numbers than the last one that came, a
few may have been under way when a link broke: they are missed as well.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from event_agent.protocol.raw_event import Key, RawEvent

SEQUENCE = Key("Event-Sequence")
CORE, STAMP = Key("Core-UUID"), Key("Event-Date-Timestamp")
HIGHEST = Key("Highest-Sequence")  # in a trace: see `Gaps.trace`

MOST = 64  # holes that are kept apart
# Measured with FreeSWITCH short of processor time: an event was overtaken by 23 others at most, of the same 20 ms.
DEPTH = 128  # numbers below the highest one that may be under way
KEPT = 2 * DEPTH  # events
UNDER_WAY = 100_000  # microseconds that an event may take longer than those behind it


@dataclass(frozen=True, slots=True)
class Hole:
    """Events that were not seen."""

    count: int | None  # None: it can't be known
    before: bytes  # the last event that was seen
    after: bytes  # one that was fired behind them
    other: bool  # by another FreeSWITCH


class Gaps:
    """`holes`, `take` and `missed` are called on any thread, all else on the event thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._core_uuid = ""
        self._last = 0  # the highest number seen, of several that came at once the last one; 0 before the first
        self._final: RawEvent | None = None  # the last event seen
        self._unseen: int | None = 0
        self._holes: list[Hole] = []
        self._open = False  # something was missed since `seamless` was last asked
        self._mark = 0  # the number of the last mark: what is below it came, or was counted as missed
        self._recent: deque[RawEvent] = deque(maxlen=KEPT)  # what came since that mark, itself too

    def seen(self, events: Sequence[RawEvent]) -> None:
        """These came, at least one."""
        self._final = final = events[-1]
        self._recent.extend(events[-KEPT:])
        number = final.number(SEQUENCE)
        if number > self._last:
            self._last = number

    def linked(self, core_uuid: str, mark: RawEvent) -> bool:
        """A new link to this start of FreeSWITCH, which has just fired `mark`. True if the last link was to it too."""
        other = bool(self._core_uuid) and core_uuid != self._core_uuid
        under_way = self._settle()
        last = 0 if other else self._last
        self._core_uuid = core_uuid
        self._start(mark)
        # FreeSWITCH replaces a number that `sendevent` brings. Is one above the mark's all the same, nothing is known.
        unseen = self._last - last - 1 + under_way if 0 < last < self._last else None
        self.missed(unseen)
        self._open = self._open or unseen != 0
        self._hole(unseen, mark, other)
        return bool(last)

    def _start(self, mark: RawEvent) -> None:
        """What is below this came, or was counted as missed."""
        self._mark = self._last = mark.number(SEQUENCE)
        self._recent.clear()
        self._recent.append(mark)

    def _settle(self) -> int:
        """A link has broken: how many events were under way with lower numbers than the last one that came.

        What was seen last is now the event before the first of them. Events that nobody wanted look the same, so of
        those there may be some among them.
        """
        seen = {event.number(SEQUENCE): event for event in self._recent}
        self._recent.clear()
        self._last = last = max(self._last, *seen, 0)
        numbers = [number for number in sorted(seen, reverse=True) if number >= max(1, self._mark, last - DEPTH)]
        count = 0
        for number, below in zip(numbers, numbers[1:], strict=False):
            if seen[number].number(STAMP) < seen[numbers[0]].number(STAMP) - UNDER_WAY:
                break
            if number - below > 1:
                count += number - below - 1
                self._final = seen[below]
        return count

    def seamless(self) -> bool:
        """Whether nothing was missed since this was last asked."""
        was, self._open = self._open, False
        return not was

    def resume(self, core_uuid: str, trace: bytes, touched: int) -> None:
        """What the process before had seen of which FreeSWITCH. `trace`: see there; empty if it was killed.

        `touched`: when it had seen something, in microseconds since 1970.
        """
        event = RawEvent(trace)
        number = event.number(SEQUENCE)
        self._core_uuid, self._last = core_uuid, event.number(HIGHEST) or number
        self._final = event if number else RawEvent(_traced(0, touched, core_uuid))

    def trace(self) -> str:
        """The last event that was seen, as far as `resume` needs it. After the last event.

        Where events before it were under way, it is the one before the first of them, and Highest-Sequence says from
        where on all are missing: lower than the number of the last event by as many as were under way.
        """
        under_way = self._settle()
        event = self._final
        if event is None or not self._last:
            return ""
        number = event.number(SEQUENCE) if under_way else self._last
        return _traced(number, event.number(STAMP), self._core_uuid, self._last - under_way).decode()

    def _hole(self, count: int | None, mark: RawEvent, other: bool = False) -> None:
        """There may be one before `mark`."""
        before, self._final = self._final, mark
        if before is not None and (count is None or count > 0):
            with self._lock:
                self._holes = [*self._holes[-MOST + 1 :], Hole(count, before.data, mark.data, other)]

    def go_on(self, core_uuid: str) -> None:
        """The link of the process before us goes on here: nothing was missed."""
        self._core_uuid, self._last, self._mark = core_uuid, 0, 0
        self._recent.clear()

    def between(self, mark: RawEvent, came: Iterable[RawEvent]) -> None:
        """FreeSWITCH has just fired `mark`; these came since the last one, among them some that it fired later."""
        last, number = self._last, mark.number(SEQUENCE)
        heard = sum(last < event.number(SEQUENCE) < number for event in came)
        unseen = max(0, number - last - 1 - heard)
        self.missed(unseen)
        self._open = self._open or unseen > 0
        self._hole(unseen, mark)
        self._start(mark)

    def holes(self) -> list[Hole]:
        """What was not seen since this was last asked, each hole by itself: those of a first link are none."""
        with self._lock:
            holes, self._holes = self._holes, []
        return holes

    def take(self) -> int | None:
        """What was not seen since this was last asked; None if it can't be known: a first link, another FreeSWITCH."""
        with self._lock:
            unseen, self._unseen = self._unseen, 0
        return unseen

    def missed(self, count: int | None) -> None:
        """Further events that were not seen; also what `take` gave and could not be published."""
        with self._lock:
            self._unseen = None if count is None or self._unseen is None else self._unseen + max(0, count)


def _traced(number: int, stamp: int, core_uuid: str, highest: int = 0) -> bytes:
    """An event of which little is left, on one line."""
    fields = {"Event-Name": "", CORE.name: core_uuid, STAMP.name: str(stamp), SEQUENCE.name: str(number or "")}
    if highest:
        fields[HIGHEST.name] = str(highest)
    return json.dumps(fields, separators=(",", ":")).encode()
