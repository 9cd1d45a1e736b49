"""The path of an event, from top to bottom: RawEvent -> encode -> taps -> filter -> sink.

All of it runs on the event thread, a read's events at a time, and must not wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from event_agent.freeswitch.filters import EventFilter
from event_agent.protocol.events import BadEvent, EventEncoder
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

Tap = Callable[[str, RawEvent], None]  # gets the name, as filters call it, and the event


class Sink(Protocol):
    """What takes the events."""

    @property
    def max_payload(self) -> int: ...

    def publish(self, subject: str, payload: bytes) -> bool: ...

    def batch(self) -> AbstractContextManager[object]: ...


class EventPath:
    """Publishes what the filter lets through, and shows parts of ours the events that they need."""

    def __init__(self, encoder: EventEncoder, sink: Sink, stats: Stats) -> None:
        self._encoder = encoder
        self._sink = sink
        self._stats = stats
        self._taps: dict[str, list[tuple[str, Tap]]] = {}
        self.filter = EventFilter(False, frozenset(), frozenset())  # replaced from any thread

    def tap(self, who: str, names: Iterable[str], tap: Tap) -> None:
        """Show each event of these names to `tap`, published or not. Before the start."""
        for name in names:
            self._taps.setdefault(name, []).append((who, tap))

    def take(self, events: Sequence[RawEvent]) -> None:
        """The events of one read; they leave in one write."""
        encode, taps, wants = self._encoder.encode, self._taps, self.filter.wants
        with self._sink.batch():
            for event in events:
                try:
                    published = encode(event)
                except BadEvent as error:
                    log.warning("event dropped: %s", error)
                    self._stats.events_dropped += 1
                    continue
                name, subject, payload = published
                if name in taps:
                    self._show(name, event)
                if wants(name):
                    self._publish(name, subject, payload)

    def _show(self, name: str, event: RawEvent) -> None:
        for who, tap in self._taps[name]:
            try:
                tap(name, event)
            except Exception:
                log.exception("unhandled exception in %s at event %s", who, name)

    def _publish(self, name: str, subject: str, payload: bytes) -> None:
        sink = self._sink
        if len(payload) > sink.max_payload:
            log.warning("event %s dropped: %d bytes, the broker takes %d", name, len(payload), sink.max_payload)
            self._stats.events_dropped += 1
        elif sink.publish(subject, payload):
            self._stats.events_published += 1
        else:
            self._stats.events_dropped += 1
