"""How many events FreeSWITCH fired that were not seen here.

All events are numbered by Event-Sequence, wanted or not, from the start of a FreeSWITCH (its Core-UUID) on. The number
now is learned by firing an event of our own. Numbers do not come in order: FreeSWITCH dispatches from several threads.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from event_agent.protocol.raw_event import Key, RawEvent

SEQUENCE = Key("Event-Sequence")


MOST = 64  # holes that are kept apart


@dataclass(frozen=True, slots=True)
class Hole:
    """Events that were not seen."""

    count: int | None  # None: it can't be known, because another FreeSWITCH is there now
    before: bytes  # the last event that was seen
    after: bytes  # one that was fired behind them


class Gaps:
    """`seen`, `linked` and `between` are called on the event thread; `holes`, `take` and `missed` on any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._core_uuid = ""
        self._last = 0  # the highest number seen; 0 before the first
        self._final: RawEvent | None = None  # the last event seen
        self._unseen: int | None = 0
        self._holes: list[Hole] = []

    def seen(self, event: RawEvent) -> None:
        """An event came; of several the last one."""
        self._final = event
        number = event.number(SEQUENCE)
        if number > self._last:
            self._last = number

    def linked(self, core_uuid: str, mark: RawEvent) -> bool:
        """A new link to this start of FreeSWITCH, which has just fired `mark`. True if the last link was to it too."""
        last = self._last if core_uuid == self._core_uuid else 0
        self._core_uuid, self._last = core_uuid, mark.number(SEQUENCE)
        unseen = self._last - last - 1 if last else None
        self.missed(unseen)
        self._hole(unseen, mark)
        return bool(last)

    def _hole(self, count: int | None, mark: RawEvent) -> None:
        """There may be one before `mark`."""
        before, self._final = self._final, mark
        if before is not None and (count is None or count > 0):
            with self._lock:
                self._holes = [*self._holes[-MOST + 1 :], Hole(count, before.data, mark.data)]

    def go_on(self, core_uuid: str) -> None:
        """The link of the process before us goes on here: nothing was missed."""
        self._core_uuid, self._last = core_uuid, 0

    def between(self, mark: RawEvent, heard: int) -> None:
        """FreeSWITCH has just fired `mark`; since the last one `heard` events came."""
        number = mark.number(SEQUENCE)
        unseen = max(0, number - self._last - 1 - heard)
        self.missed(unseen)
        self._hole(unseen, mark)
        self._last = number

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
