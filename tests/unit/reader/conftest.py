"""Readers that end with their test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

import pytest

from event_agent.freeswitch.bell import Bell
from tests.switchsim.in_process import FakeSwitch
from tests.unit.reader.parts import ALL, IMPATIENT, Reader, Readers, lives


@pytest.fixture
def readers() -> Iterator[Readers]:
    """Makes readers, impatient ones; all are ended after the test, and leave nothing behind."""
    made: list[Reader] = []

    def make(switch: FakeSwitch | None = None, wake: float = 0.0, bell: Bell | None = None, **timing: float) -> Reader:
        made.append(Reader(switch or FakeSwitch(lives), wake, replace(IMPATIENT, **timing), bell))
        made[-1].reader.subscribe(ALL)
        return made[-1]

    yield make
    for each in made:
        each.reader.stop(5)
        assert not each.switch.open, "a connection is left open"
        assert not each.reader.connected
    assert not [each.name for each in threading.enumerate() if each.name.startswith("esl-events")]
