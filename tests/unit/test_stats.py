"""Counters and percentiles, held against sorted lists."""

from __future__ import annotations

import math
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.runtime import stats as module
from event_agent.runtime.stats import OTHER, Latency, Stats

TIMES = st.lists(st.integers(0, 200) | st.integers(0, 10**8) | st.integers(0, 3 * 10**9), min_size=1, max_size=60)


@given(TIMES, st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_percentiles_are_right_to_some_percent(times: list[int], share: float) -> None:
    latency = Latency()
    for each in times:
        latency.add(each, True)
    exact = sorted(times)[max(0, math.ceil(len(times) * share) - 1)] / 1000
    assert latency.percentile(share) == pytest.approx(exact, rel=0.063, abs=1e-9)
    assert latency.count == len(times) and latency.errors == 0


@given(st.integers(0, 10**9))
def test_buckets_grow_with_time(microseconds: int) -> None:
    one, two = Latency(), Latency()
    one.add(microseconds, True)
    two.add(microseconds + 1 + microseconds // 4, True)
    assert one.percentile(0.5) < two.percentile(0.5)


def test_any_time_has_its_bucket() -> None:
    latency = Latency()
    for microseconds in (0, 1, 15, 16, 17, 2**31, 2**40, 10**15):
        latency.add(microseconds, False)
    assert latency.count == latency.errors == sum(latency.buckets) == 8
    assert latency.percentile(1.0) > 3600_000, "more than an hour"
    assert Latency().percentile(0.99) == 0.0
    small = Latency()
    small.add(7, True)
    assert small.percentile(0.5) == 0.007


def test_what_is_counted() -> None:
    stats = Stats()
    stats.received += 3
    stats.finished("status", 0.001, True)
    stats.finished("status", 0.002, False)
    stats.finished("nonsense", 0.001, False)
    assert (stats.received, stats.succeeded, stats.failed) == (3, 1, 2)
    shown = stats.commands()
    assert set(shown) == {"status", OTHER}
    assert shown["status"]["count"] == 2 and shown["status"]["errors"] == 1
    assert shown["status"]["p50"] == pytest.approx(1.0, rel=0.07)
    assert shown["status"]["p99"] == pytest.approx(2.0, rel=0.07)
    assert shown[OTHER]["count"] == shown[OTHER]["errors"] == 1, "a name that never worked gets no row of its own"
    assert stats.uptime >= 0


def test_clients_can_not_fill_the_memory() -> None:
    stats = Stats()
    stats.most_commands = 5
    for number in range(50):
        stats.finished(f"name-{number}", 0.0, True)
        stats.finished(f"wrong-{number}", 0.0, False)
    shown = stats.commands()
    assert len(shown) <= 6 and sum(each["count"] for each in shown.values()) == 100
    assert stats.succeeded == stats.failed == 50


def test_many_threads_count_right() -> None:
    stats = Stats()

    def work() -> None:
        for _ in range(2000):
            stats.finished("x", 0.0, True)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert stats.succeeded == stats.commands()["x"]["count"] == 8000


@given(TIMES)
def test_how_many_were_below(times: list[int]) -> None:
    latency = Latency()
    for each in times:
        latency.add(each, True)
    powers = list(range(4, 35, 3))
    assert latency.below(powers) == [sum(each < 2**power for each in times) for power in powers]
    assert latency.microseconds == sum(times)


def test_what_came_on_a_lane() -> None:
    stats = Stats()
    stats.count_apart("freeswitch.api")
    stats.finished("status", 0.25, True, "freeswitch.api")
    stats.finished("status", 0.5, False, "freeswitch.api", "e" * 1000)
    stats.finished("status", 0.5, False, "another", "not counted here")
    stats.count_apart("freeswitch.api")
    stats.finished("status", 0.25, True, "freeswitch.api")
    (lane,) = stats.lanes().values()
    stats.finished("status", 0.25, True, "freeswitch.api")
    assert (lane.requests, lane.errors, lane.seconds, lane.last_error) == (3, 1, 1.0, "e" * module.LAST_ERROR)


def test_a_copy_stays_as_it_is() -> None:
    stats = Stats()
    stats.finished("status", 0.001, True)
    copied = stats.latencies()["status"]
    stats.finished("status", 0.001, False)
    assert (copied.count, copied.errors, copied.microseconds, sum(copied.buckets)) == (1, 0, 1000, 1)
