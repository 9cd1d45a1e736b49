"""The path of an event: what is published, what is dropped and counted, and which parts of ours see it."""

from __future__ import annotations

import json

import pytest

from event_agent.bridge.events import EventPath
from event_agent.bridge.losses import Losses
from event_agent.freeswitch.filters import EventFilter
from event_agent.protocol.events import EventEncoder
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeSink


class Path:
    def __init__(self, wanted: EventFilter | None = None) -> None:
        self.sink, self.stats = FakeSink(), Stats()
        self.losses = Losses(self.stats)
        self.sink.max_payload = 1000
        self.path = EventPath(EventEncoder("fs", "node"), self.sink, self.stats, self.losses)
        self.path.filter = wanted or EventFilter.of(True, (), ())

    def take(self, *names: str, **headers: str) -> None:
        self.path.take([event(name, **headers) for name in names])

    @property
    def taken(self) -> list[tuple[str, str]]:
        """Subject and name of each."""
        return [(subject, json.loads(payload)["event_name"]) for subject, payload in self.sink.taken]

    @property
    def counted(self) -> tuple[int, int]:
        return self.stats.events_published, self.stats.events_dropped


def event(name: str, **headers: str) -> RawEvent:
    fields = {"Event-Name": name, "Event-Date-Timestamp": "1", **headers}
    return RawEvent(json.dumps(fields, separators=(",", ":")).encode())


def test_the_events_of_a_read_leave_in_one_write_in_their_order() -> None:
    path = Path()
    path.take("CHANNEL_CREATE", "CHANNEL_ANSWER")
    path.take("CHANNEL_DESTROY")
    assert path.taken == [
        ("fs.events.channel.create", "CHANNEL_CREATE"), ("fs.events.channel.answer", "CHANNEL_ANSWER"),
        ("fs.events.channel.destroy", "CHANNEL_DESTROY"),
    ]  # fmt: skip
    assert path.sink.writes == [2, 1] and path.counted == (3, 0)


def test_the_filter_has_the_last_word() -> None:
    path = Path(EventFilter.of(True, (), ("API",)))
    path.take("API", "CHANNEL_ANSWER")
    assert [name for _, name in path.taken] == ["CHANNEL_ANSWER"] and path.counted == (1, 0)
    path.path.filter = EventFilter.of(False, ("API",), ())
    path.take("API", "CHANNEL_ANSWER")
    assert path.taken[1:] == [("fs.events.api", "API")]


def test_what_can_not_be_published_is_counted_and_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    path = Path()
    path.path.take([RawEvent(b"[]"), event("LARGE", **{"Unique-ID": "x" * 1000}), event("A")])
    assert path.counted == (1, 2)
    assert "event dropped: it is no JSON object" in caplog.text and "event LARGE dropped: 2138 bytes" in caplog.text
    path.sink.room = 0
    path.take("B")
    assert path.counted == (1, 3)


def test_an_event_that_is_too_large_comes_without_its_largest_parts(caplog: pytest.LogCaptureFixture) -> None:
    path = Path()
    large = {"X": "x" * 900, "Y": "y" * 300, "_body": "z" * 2000, "Small": "s", "Unique-ID": "u-1", "Job-UUID": "j"}
    path.path.take([event("BACKGROUND_JOB", **large), event("A")])
    (_, payload), _ = path.sink.taken
    reduced = json.loads(payload)
    assert len(payload) <= 1000 and path.counted == (2, 0)
    assert reduced["truncated"] == ["body", "X"]
    assert reduced["uuid"] == "u-1" and set(reduced["headers"]) == {
        "Event-Name", "Event-Date-Timestamp", "Y", "Small", "Unique-ID", "Job-UUID",
    }  # fmt: skip
    assert "body" not in reduced
    path.path.take([event("BACKGROUND_JOB", **large)] * 50)
    assert caplog.text.count("is published without its largest parts") == 1


def test_taps_get_what_they_named_published_or_not() -> None:
    path = Path(EventFilter.of(False, ("CHANNEL_PARK",), ()))
    seen: list[tuple[str, str]] = []
    path.path.tap("one", ("CHANNEL_PARK", "MODULE_LOAD"), lambda name, event: seen.append(("one", name)))
    path.path.tap("two", ("CHANNEL_PARK", "sofia::register"), lambda name, event: seen.append(("two", name)))
    path.take("CHANNEL_PARK", "MODULE_LOAD", "HEARTBEAT")
    path.take("CUSTOM", **{"Event-Subclass": "sofia::register"})
    assert seen[:2] == [("one", "CHANNEL_PARK"), ("two", "CHANNEL_PARK")]
    assert seen[2:] == [("one", "MODULE_LOAD"), ("two", "sofia::register")]
    assert [name for _, name in path.taken] == ["CHANNEL_PARK"]


def test_who_sees_events_hears_when_those_of_a_read_have_left() -> None:
    path = Path()
    left: list[int] = []
    path.path.tap("lanes", ("A",), lambda name, event: None, lambda: left.append(len(path.taken)))
    path.take("A", "A", "B")
    path.take("B")
    assert left == [3], "once, and not for a read of which it saw nothing"


def test_a_tap_that_fails_keeps_no_event_from_anybody(caplog: pytest.LogCaptureFixture) -> None:
    path = Path()
    seen: list[str] = []

    def fails(name: str, event: RawEvent) -> None:
        raise ZeroDivisionError

    path.path.tap("parked calls", ("A",), fails)
    path.path.tap("others", ("A",), lambda name, event: seen.append(name))
    path.take("A", "B")
    assert seen == ["A"] and len(path.taken) == 2
    assert "unhandled exception in parked calls at event A" in caplog.text


def test_each_way_in_which_an_event_is_lost_is_reported_with_its_reason() -> None:
    path = Path()
    path.path.take([RawEvent(b"no JSON")])
    path.take("X", **{"Core-UUID": "c" * 5000})
    path.sink.room = 1
    path.sink.refused = "spool full"
    path.take("A", "B", "C")
    gaps = {each.reason: each.count for each in path.losses.waiting()}
    assert gaps == {"unreadable": 1, "too large": 1, "spool full": 2}
    assert path.stats.events_dropped == sum(path.losses.events.values()) == 4
