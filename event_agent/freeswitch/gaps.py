"""How many events FreeSWITCH fired that were not seen here.

All events are numbered by Event-Sequence, wanted or not, from the start of a FreeSWITCH (its Core-UUID) on. The number
now is learned by firing an event of our own. Numbers do not come in order: FreeSWITCH dispatches from several threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable
from dataclasses import dataclass

from event_agent.protocol.raw_event import Key, RawEvent

SEQUENCE = Key("Event-Sequence")
CORE, STAMP = Key("Core-UUID"), Key("Event-Date-Timestamp")


MOST = 64  # holes that are kept apart


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
        self._last = 0  # the highest number seen; 0 before the first
        self._final: RawEvent | None = None  # the last event seen
        self._unseen: int | None = 0
        self._holes: list[Hole] = []
        self._open = False  # something was missed since `seamless` was last asked

    def seen(self, event: RawEvent) -> None:
        """An event came; of several the last one."""
        self._final = event
        number = event.number(SEQUENCE)
        if number > self._last:
            self._last = number

    def linked(self, core_uuid: str, mark: RawEvent) -> bool:
        """A new link to this start of FreeSWITCH, which has just fired `mark`. True if the last link was to it too."""
        other = bool(self._core_uuid) and core_uuid != self._core_uuid
        last = 0 if other else self._last
        self._core_uuid, self._last = core_uuid, mark.number(SEQUENCE)
        unseen = self._last - last - 1 if last else None
        self.missed(unseen)
        self._open = self._open or unseen != 0
        self._hole(unseen, mark, other)
        return bool(last)

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
        self._core_uuid, self._last = core_uuid, number
        self._final = event if number else RawEvent(_traced("", str(touched), core_uuid))

    def trace(self) -> str:
        """The last event that was seen, as far as `resume` needs it."""
        event = self._final
        if event is None or not self._last:
            return ""
        return _traced(str(self._last), str(event.number(STAMP)), self._core_uuid).decode()

    def _hole(self, count: int | None, mark: RawEvent, other: bool = False) -> None:
        """There may be one before `mark`."""
        before, self._final = self._final, mark
        if before is not None and (count is None or count > 0):
            with self._lock:
                self._holes = [*self._holes[-MOST + 1 :], Hole(count, before.data, mark.data, other)]

    def go_on(self, core_uuid: str) -> None:
        """The link of the process before us goes on here: nothing was missed."""
        self._core_uuid, self._last = core_uuid, 0

    def between(self, mark: RawEvent, came: Iterable[RawEvent]) -> None:
        """FreeSWITCH has just fired `mark`; these came since the last one, among them some that it fired later."""
        last, number = self._last, mark.number(SEQUENCE)
        heard = sum(last < event.number(SEQUENCE) < number for event in came)
        unseen = max(0, number - last - 1 - heard)
        self.missed(unseen)
        self._open = self._open or unseen > 0
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


def _traced(number: str, stamp: str, core_uuid: str) -> bytes:
    """An event of which little is left, on one line."""
    fields = {"Event-Name": "", CORE.name: core_uuid, STAMP.name: stamp, SEQUENCE.name: number}
    return json.dumps(fields, separators=(",", ":")).encode()
