"""What tells a server that found us too slow from one that just goes."""

from __future__ import annotations

import pytest

from event_agent.drivers.nats.pace import MUCH, PILED_UP, SOON, Pace


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time, to be moved on."""
    now = [1000.0]
    monkeypatch.setattr("event_agent.drivers.nats.pace.time.monotonic", lambda: now[0])
    return now


def there_is_more() -> bool:
    return True


def read(pace: Pace, clock: list[float], *sizes: int, took: float = 0.001) -> str:
    """These reads, and what is said of an end after them."""
    for size in sizes:
        began = clock[0]
        clock[0] += took
        pace.read(size, began)
    return pace.end("it ended")


def test_an_end_like_any_other(clock: list[float]) -> None:
    assert Pace().end("it ended") == "it ended", "before anything was read"
    assert read(Pace(), clock, *[500] * 100) == "it ended"
    assert read(Pace(), clock, PILED_UP - 1) == "it ended"


def test_bytes_that_had_piled_up(clock: list[float]) -> None:
    full = [PILED_UP] * (MUCH // PILED_UP)
    assert read(Pace(), clock, *full) == "it ended when 256 kB waited to be read by us (too slow for it)"
    pace = Pace(more=there_is_more)
    assert "when 266 kB waited" in read(pace, clock, *full, 10500), "and the rest after them"
    assert read(Pace(more=there_is_more), clock, *full, 300, 300) == "it ended", "all was read, and more came"
    assert read(Pace(), clock, *full, 300) == "it ended", "the same: nothing more was there behind them"


def test_a_server_that_ends_while_it_is_busy(clock: list[float]) -> None:
    assert read(Pace(), clock, *[500] * 9, PILED_UP, 15000) == "it ended", "these were under way"
    pace = Pace()
    read(pace, clock, *[PILED_UP] * 100)
    clock[0] += SOON + 0.1
    assert pace.end("it ended") == "it ended", "all was read by then"


def test_a_long_time_without_reading(clock: list[float]) -> None:
    assert read(Pace(), clock, 100, took=3.25) == "it ended after 3.2 s in which we read nothing (too slow for it)"
    pace = Pace()
    read(pace, clock, 100, took=3.25)
    assert read(pace, clock, 100) == "it ended", "it has caught up"
    read(pace, clock, 100, took=3.25)
    clock[0] += SOON + 0.1
    assert pace.end("it ended") == "it ended", "and so it has here"
