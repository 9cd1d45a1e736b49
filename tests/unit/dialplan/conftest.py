"""Houses that are stopped after the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.dialplan.parts import House, Make


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    houses: list[House] = []

    def build(port: int | None = None, start: bool = True, key: str = "") -> House:
        houses.append(House(tmp_path, port, key))
        if start:
            houses[-1].start()
        return houses[-1]

    yield build
    for house in houses:
        house.stop()
    assert not [each.name for each in threading.enumerate() if each.name in ("http", "dialplan")]
