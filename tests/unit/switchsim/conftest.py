"""A simulator for each test, and no thread after it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import ESL
import pytest

from tests.switchsim import SwitchSim
from tests.unit.switchsim.parts import OTHERS, Client, running, threads


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    OTHERS.clear()
    OTHERS.update(running())
    yield
    assert threads() == []


@pytest.fixture
def sim() -> Iterator[SwitchSim]:
    with SwitchSim() as simulator:
        yield simulator


@pytest.fixture
def client(sim: SwitchSim) -> Iterator[Client]:
    with Client(sim) as connection:
        yield connection


@pytest.fixture
def esl(sim: SwitchSim) -> Any:
    connection = ESL.ESLconnection(sim.host, str(sim.port), "ClueCon")
    assert connection.connected()
    return connection
