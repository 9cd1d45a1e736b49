"""What one connection wants to hear, and the queue in which it waits.

Owns the event list, the filters and the bounded queue of one connection. `offer` is called by whichever thread fires
an event, everything else by the connection's own thread; both under `lock`.
Source: event_handler() and the `event`, `nixevent`, `filter` commands of FreeSWITCH's mod_event_socket.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable
from threading import Lock
from typing import Final

from .events import Event
from .names import ALL, EVENT_NAMES, MYEVENTS, RESERVED_SUBCLASSES, event_name

QUEUE_BOUND: Final = 100_000
MAX_LOST: Final = 500
"""A connection that loses more events than this in a row is thrown out."""


class Subscription:
    """The events one connection is subscribed to, and those that wait for it."""

    def __init__(self, queue_bound: int = QUEUE_BOUND) -> None:
        self.format = "plain"
        self.listening = False
        self.uuid: str | None = None
        """The channel that `myevents` ties the connection to."""
        self.overrun = False
        """Too many events were lost: the connection has to be closed."""
        self.lock = Lock()
        self._names: set[str] = set()
        self._subclasses: set[str] = set()
        self._filters: list[tuple[str, str]] = []
        self._mine_only = False
        self._queue: deque[Event] = deque()
        self._bound = queue_bound
        self._lost = 0

    # --- subscribing -------------------------------------------------------------------------------------------

    def add(self, words: Iterable[str]) -> int:
        """Subscribes to the events named, after an optional format; returns how many words were event names."""
        known = 0
        custom = False
        with self.lock:
            for position, word in enumerate(words):
                if not position and word.lower() in ("plain", "json", "xml"):
                    self.format = word.lower()
                elif custom:  # all that follows CUSTOM are subclasses, event names too
                    self._subclasses.add(word)
                elif name := event_name(word):
                    known += 1
                    custom = name == "CUSTOM"
                    self._names.add(name)
                    if name == ALL:
                        self._names.update(EVENT_NAMES)
                        self._subclasses.update(RESERVED_SUBCLASSES)
            self.listening = self.listening or known > 0
        return known

    def nix(self, words: Iterable[str]) -> int:
        """Takes events out again; returns how many words were event names."""
        known = 0
        custom = False
        with self.lock:
            for word in words:
                if custom:
                    self._subclasses.discard(word)
                elif name := event_name(word):
                    known += 1
                    if name == "CUSTOM":
                        custom = True
                    elif name == ALL:
                        self._names.clear()
                    else:
                        self._names -= {ALL, name}
            self.listening = self.listening or known > 0
        return known

    def only_mine(self) -> bool:
        """`myevents`; False when it was on already."""
        with self.lock:
            if self._mine_only:
                return False
            self._mine_only = self.listening = True
            self._names |= MYEVENTS
        return True

    def clear(self) -> bool:
        """`noevents`: nothing is heard any more, what waits is dropped; False when nothing was subscribed."""
        with self.lock:
            was, self.listening = self.listening, False
            self._names.clear()
            self._subclasses.clear()
            self._queue.clear()
        return was

    # --- filters -----------------------------------------------------------------------------------------------

    def add_filter(self, header: str, value: str) -> None:
        with self.lock:
            if value:
                self._filters.append((header, value))

    def delete_filter(self, header: str, value: str | None) -> None:
        with self.lock:
            if header.lower() == "all":
                self._filters.clear()
            else:
                self._filters = [
                    (name, text)
                    for name, text in self._filters
                    if name.lower() != header.lower() or (value and text != value)
                ]

    def _filtered_in(self, event: Event) -> bool:
        """Any positive filter that fits lets an event in, one negative (`-value`) that fits keeps it out."""
        passes = False
        for header, wanted in self._filters:
            value = event.get(header)
            if value is None:
                continue
            pattern = wanted.lstrip("+- ")
            signs = wanted[: len(wanted) - len(pattern)]
            positive = signs.rfind("+") >= signs.rfind("-")
            if passes and positive:
                continue
            if wanted.startswith("/"):
                hit = re.search(pattern.strip("/"), value) is not None
            else:
                hit = value.lower() == pattern.lower()
            if hit and not positive:
                return False
            passes = passes or hit
        return passes

    # --- events ------------------------------------------------------------------------------------------------

    def wants(self, name: str) -> bool:
        """Whether events of that name can reach this connection at all (asked before an event is built)."""
        return self.listening and (name in self._names or ALL in self._names)

    def offer(self, event: Event) -> None:
        """Queues the event if it is wanted."""
        with self.lock:
            if not self.wants(event.name):
                return
            if event.subclass is not None and ALL not in self._names and event.subclass not in self._subclasses:
                return
            if self._filters and not self._filtered_in(event):
                return
            if self._mine_only and self.uuid not in (event.get("Unique-ID"), event.get("Job-Owner-UUID")):
                return
            if len(self._queue) < self._bound:
                self._queue.append(event)
                self._lost = 0
            else:
                self._lost += 1
                self.overrun = self.overrun or self._lost > MAX_LOST

    def take(self, limit: int = 256) -> list[Event]:
        """The events that wait, oldest first, at most `limit`; none while nothing is subscribed."""
        if not self._queue:
            return []
        with self.lock:
            if not self.listening:
                return []
            return [self._queue.popleft() for _ in range(min(limit, len(self._queue)))]
