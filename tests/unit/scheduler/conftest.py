"""The bench."""

from __future__ import annotations

import pytest

from tests.unit.scheduler.parts import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
