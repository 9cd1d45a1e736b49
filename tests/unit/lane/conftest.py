"""Lanes that are ended after the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from event_agent.freeswitch.scheduler import Limits
from tests.support import until
from tests.switchsim.in_process import FakeSwitch
from tests.unit.lane.parts import IMPATIENT, THREADS, Lane, Lanes


@pytest.fixture
def lanes() -> Iterator[Lanes]:
    """Starts lanes, impatient ones; all are ended after the test, and leave nothing behind."""
    made: list[Lane] = []

    def make(switch: FakeSwitch, limits: Limits = IMPATIENT, workers: int = 3, start: bool = True) -> Lane:
        made.append(Lane(switch, limits, workers))
        return made[-1].start() if start else made[-1]

    yield make
    for each in made:
        each.stop()
        assert not each.switch.open, "a connection is left open"
        assert each.lane.pending == 0
    # On a busy machine a thread may take a moment longer than `stop` waits for it.
    until(lambda: not [each.name for each in threading.enumerate() if each.name.startswith(THREADS)], "all have ended")
