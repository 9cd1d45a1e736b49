"""The link of at-least-once delivery: what the server says of the subscription for acknowledgements, and when."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from event_agent.drivers.nats.options import StreamOptions
from event_agent.drivers.nats.stream import StreamEvents

REFUSAL = 'Permissions Violation for Subscription to "{}"'


class Link:
    """A connection to a server that refuses subscriptions while `refuses` is set."""

    def __init__(self, heard: Callable[[str], object], at_once: bool) -> None:
        self._nuid = self
        self._heard, self._at_once = heard, at_once
        self.refuses = True
        self.subjects: list[str] = []

    def next_(self) -> bytes:
        return b"nuid%d" % len(self.subjects)

    def subscribe(self, subject: str, callback: object) -> object:
        self.subjects.append(subject)
        if self.refuses and self._at_once:
            self._heard(REFUSAL.format(subject))  # as the loop's thread may, before `subscribe` has returned
        return subject

    def unsubscribe(self, sub: object) -> None:
        pass

    def stored(self, inbox: bytes, callback: object) -> None:
        pass


class Written:
    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def put(self, _: object, messages: Any) -> int:
        self.lines += messages
        return len(messages)


@pytest.mark.parametrize("at_once", [True, False])
def test_a_refusal_is_heard_whenever_it_comes(at_once: bool) -> None:
    sender = Written()
    nothing: Any = None
    events = StreamEvents(StreamOptions("fs.events.>"), sender, nothing, nothing, 1048576)
    link: Any = Link(events.complained, at_once)
    events.linked(link)
    if not at_once:
        events.complained(REFUSAL.format(link.subjects[-1]))
    assert events.figures()["state"] == "no acknowledgements"
    assert events.deaf
    asked = len(sender.lines)
    link.refuses = False
    events.linked(link)  # as it is tried again
    assert events.figures()["state"] != "no acknowledgements" and not events.deaf
    assert len(sender.lines) == asked + 1, "the stream is asked about"
