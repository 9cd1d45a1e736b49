"""The path of an event, from top to bottom: RawEvent -> encode -> taps -> filter -> sink.

All of it runs on the event thread, a read's events at a time, and must not wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from event_agent.bridge.losses import UNREADABLE, Losses
from event_agent.drivers.base import TOO_LARGE, EventSink, Loss
from event_agent.freeswitch.filters import EventFilter
from event_agent.protocol.carried import Carried
from event_agent.protocol.events import BadEvent, Cut, EventEncoder, Published
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.log import Seldom
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

Tap = Callable[[str, RawEvent], None]  # gets the name, as filters call it, and the event


class Copies(Protocol):
    """Events that are published elsewhere as well, whatever the filter says."""

    @property
    def active(self) -> bool:
        """Whether there is anything to ask."""
        ...

    def subjects(self, event: RawEvent, name: str, own: bytes) -> list[bytes]:
        """The subjects on which this event is published in addition to `own`."""
        ...

    def add(self, subjects: Sequence[bytes], payload: bytes) -> None:
        """Publish it there, with the next `flush`."""
        ...

    def flush(self) -> None:
        """What was added leaves in one write."""
        ...


class EventPath:
    """Publishes what the filter lets through, and shows parts of ours the events that they need."""

    def __init__(self, encoder: EventEncoder, sink: EventSink, stats: Stats, losses: Losses) -> None:
        self._encoder = encoder
        self._sink = sink
        self._stats = stats
        self._losses = losses
        self._taps: dict[str, list[tuple[str, Tap]]] = {}
        self._after: list[Callable[[], None]] = []
        self._large = Seldom()
        self.filter = EventFilter(False, frozenset(), frozenset())  # replaced from any thread
        self.copies: Copies | None = None  # set before the start

    def carry(self, carried: Carried | None) -> None:
        """From any thread: what events carry from now on; None: all that they have."""
        self._encoder.carried = carried

    def tap(self, who: str, names: Iterable[str], tap: Tap, after: Callable[[], None] | None = None) -> None:
        """Show each event of these names to `tap`, published or not. Before the start.

        `after` is called when the events of a read have left, if any was shown to anybody. It raises nothing.
        """
        for name in names:
            self._taps.setdefault(name, []).append((who, tap))
        if after is not None:
            self._after.append(after)

    def take(self, events: Sequence[RawEvent]) -> None:
        """The events of one read; they leave in one write."""
        taps, chosen, most = self._taps, self.filter, self._sink.max_payload
        wants, exclude = chosen.wants, chosen.exclude
        plain = chosen.everything and "CUSTOM" not in exclude  # then only names that are excluded are not wanted
        copies = self.copies if self.copies is not None and self.copies.active else None
        ready: list[Published | Cut] = []
        shown = False
        for event, published in zip(events, self._encoder.encode_all(events), strict=True):
            if isinstance(published, BadEvent):
                log.warning("event dropped: %s", published)
                self._stats.events_dropped += 1
                self._losses.add(Loss(UNREADABLE, 1, event.data, event.data))
                continue
            name = published.name
            if name in taps:
                self._show(name, event)
                shown = True
            if copies is not None and (subjects := copies.subjects(event, name, published.subject)):
                self._copy(copies, subjects, event, published)
            if name in exclude or not (plain or wants(name)):
                continue
            if published.size > most:
                reduced = self._reduced(self._encoder, event, published)
                if reduced is None:
                    continue
                published = reduced
            ready.append(published)
        if copies is not None:
            copies.flush()
        if ready:
            self._stats.events_published += self._losses.offer(self._sink, ready)
        if shown:
            for each in self._after:
                each()

    def _copy(self, copies: Copies, subjects: Sequence[bytes], event: RawEvent, published: Published | Cut) -> None:
        """Copies have all that the event has, whatever others carry."""
        encoder = self._encoder.whole
        whole: Published | Cut | None = published
        if encoder is not self._encoder:
            try:
                whole = published = encoder.encode(event)
            except BadEvent as error:  # what made it so is not carried
                log.warning("no copy of event %s: %s", published.name, error)
                return
        if published.size > self._sink.max_payload:
            whole = self._reduced(encoder, event, published)
        if whole is not None:
            copies.add(subjects, whole.payload)

    def _reduced(self, encoder: EventEncoder, event: RawEvent, published: Published | Cut) -> Published | None:
        """An event that the broker does not take whole, without its largest parts."""
        size, most = len(published.payload), self._sink.max_payload
        try:
            reduced = encoder.reduced(event, most)
        except BadEvent as error:
            log.warning("event %s dropped: %d bytes, the broker takes %d: %s", published.name, size, most, error)
            self._stats.events_dropped += 1
            self._losses.add(Loss(TOO_LARGE, 1, event.data, event.data))
            return None
        if self._large.due():
            log.warning(
                "event %s is published without its largest parts: %d bytes, the broker takes %d",
                published.name, size, most,
            )  # fmt: skip
        return reduced

    def _show(self, name: str, event: RawEvent) -> None:
        for who, tap in self._taps[name]:
            try:
                tap(name, event)
            except Exception:
                log.exception("unhandled exception in %s at event %s", who, name)
