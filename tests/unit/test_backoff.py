"""Growing waits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.runtime.backoff import Backoff


@given(st.floats(0.001, 10), st.floats(1, 100), st.integers(1, 60))
def test_waits_grow_to_the_most_with_jitter(first: float, factor: float, tries: int) -> None:
    most = first * factor
    backoff = Backoff(first, most)
    for number in range(tries):
        plain = min(first * 2.0**number, most)
        assert plain * 0.75 <= backoff.next() <= plain * 1.25
    backoff.reset()
    assert backoff.next() <= first * 1.25


def test_a_fleet_does_not_knock_all_at_once() -> None:
    assert len({Backoff(1, 10).next() for _ in range(20)}) > 10


def test_tries_without_end() -> None:
    backoff = Backoff(0.2, 10.0)
    for _ in range(5000):  # 2.0 ** 5000 would be too large
        wait = backoff.next()
    assert wait == pytest.approx(10, rel=0.25)
