"""What tells a server that found us too slow from one that just goes."""

from __future__ import annotations

import pytest

from event_agent.drivers.nats.pace import AT_ONCE, PILED_UP, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved on."""
    now = [1000.0]
    monkeypatch.setattr("event_agent.drivers.nats.pace.time.monotonic", lambda: now[0])
    return now


def read(pace: Pace, clock: list[float], *sizes: int, gap: float = 0.0, took: float = 0.001) -> str:
    """These reads, and what is said of an end after them."""
    for size in sizes:
        clock[0] += gap
        began = clock[0]
        clock[0] += took
        pace.read(size, began)
    return pace.end("it ended")


def test_an_end_like_any_other(clock: list[float]) -> None:
    assert Pace().end("it ended") == "it ended", "before anything was read"
    assert read(Pace(), clock, *[500] * 100) == "it ended"
    assert read(Pace(), clock, PILED_UP - 1) == "it ended"


def test_bytes_that_had_piled_up(clock: list[float]) -> None:
    assert read(Pace(), clock, PILED_UP, PILED_UP) == "it ended when 64 kB waited to be read by us (too slow for it)"
    assert "when 42 kB waited" in read(Pace(), clock, PILED_UP, 10500), "and the rest after them"
    assert read(Pace(), clock, PILED_UP, 300, 300) == "it ended", "that was long ago: all was read, and more came"
    assert read(Pace(), clock, PILED_UP, 300, gap=2 * AT_ONCE) == "it ended"


def test_a_long_time_without_reading(clock: list[float]) -> None:
    assert read(Pace(), clock, 100, took=3.25) == "it ended after 3.2 s in which we read nothing (too slow for it)"
    pace = Pace()
    read(pace, clock, 100, took=3.25)
    assert read(pace, clock, 100) == "it ended", "it has caught up"
