"""Events delivered at most once: written, and settled when a PONG of the server says that it has them.

Threads: `offer` and `announce` on whichever has an event, `flush` on the one that ends the driver.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from event_agent import quick
from event_agent.drivers.base import BUFFER_FULL, SERVER_REFUSED, Event, EventSink
from event_agent.drivers.nats.lines import Lines
from event_agent.drivers.nats.sender import NatsSender
from event_agent.drivers.nats.wire import SHORT, pub

MAX_PAYLOAD = 1048576  # bytes, until a server says otherwise; nats-server's default


class NatsEvents(EventSink):
    """An event sink that hands events to the link and forgets them."""

    def __init__(self, sender: NatsSender, lines: Lines) -> None:
        self.sender = sender
        self._lines = lines
        self._queue = sender.events
        self.max_payload = MAX_PAYLOAD

    def offer(self, events: Sequence[Event]) -> int:
        """See EventSink."""
        pieces = _pubs(events) if events else []
        if pieces and self.sender.put_pieces(self._queue, pieces, events, partial(self._messages, events)):
            return len(events)
        self.refused = BUFFER_FULL
        return self.sender.put(self._queue, self._messages(events))

    def _messages(self, events: Sequence[Event]) -> list[bytes]:
        """Those of them that the server takes."""
        messages = []
        for event in events:
            message = pub(event.subject, event.payload)
            if self._lines.takes(event.subject, message):
                messages.append(message)
            else:
                self.refused = SERVER_REFUSED
        return messages

    def announce(self, event: Event) -> int:
        """See EventSink."""
        message = pub(event.subject, event.payload)
        return self.sender.announce(message) if self._lines.takes(event.subject, message) else 0

    @property
    def pending(self) -> int:
        """See EventSink."""
        return self._queue.pending

    def flush(self, timeout: float) -> bool:
        """See EventSink."""
        return self.sender.wait(lambda: not self._queue.pending, timeout)


def _pubs(events: Sequence[Event]) -> list[bytes]:
    """Their PUBs in pieces; none if a subject may be too long for a line."""
    if quick.compiled is not None:
        data = quick.compiled.pubs(events, SHORT)
        return [data] if data is not None else []
    pieces: list[bytes] = []
    for event in events:
        subject = event.subject
        if len(subject) > SHORT:
            return []
        pieces += (b"PUB ", subject, b" %d\r\n" % event.size, *event.parts, b"\r\n")
    return pieces
