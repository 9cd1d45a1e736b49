"""How many events FreeSWITCH fired that were not seen here.

All events are numbered by Event-Sequence, wanted or not, from the start of a FreeSWITCH (its Core-UUID) on. The number
now is learned by firing an event of our own. Numbers do not come in order: FreeSWITCH dispatches from several threads.
"""

from __future__ import annotations

import threading

from event_agent.protocol.raw_event import Key, RawEvent

SEQUENCE = Key("Event-Sequence")


class Gaps:
    """`seen`, `linked` and `between` are called on the event thread; `take` and `missed` on any."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._core_uuid = ""
        self._last = 0  # the highest number seen; 0 before the first
        self._unseen: int | None = 0

    def seen(self, event: RawEvent) -> None:
        """An event came; of several the last one."""
        number = event.number(SEQUENCE)
        if number > self._last:
            self._last = number

    def linked(self, core_uuid: str, mark: RawEvent) -> bool:
        """A new link to this start of FreeSWITCH, which has just fired `mark`. True if the last link was to it too."""
        last = self._last if core_uuid == self._core_uuid else 0
        self._core_uuid, self._last = core_uuid, mark.number(SEQUENCE)
        self.missed(self._last - last - 1 if last else None)
        return bool(last)

    def go_on(self, core_uuid: str) -> None:
        """The link of the process before us goes on here: nothing was missed."""
        self._core_uuid, self._last = core_uuid, 0

    def between(self, mark: RawEvent, heard: int) -> None:
        """FreeSWITCH has just fired `mark`; since the last one `heard` events came."""
        number = mark.number(SEQUENCE)
        self.missed(max(0, number - self._last - 1 - heard))
        self._last = number

    def take(self) -> int | None:
        """What was not seen since this was last asked; None if it can't be known: a first link, another FreeSWITCH."""
        with self._lock:
            unseen, self._unseen = self._unseen, 0
        return unseen

    def missed(self, count: int | None) -> None:
        """Further events that were not seen; also what `take` gave and could not be published."""
        with self._lock:
            self._unseen = None if count is None or self._unseen is None else self._unseen + max(0, count)
