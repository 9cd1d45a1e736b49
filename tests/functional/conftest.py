"""Fixtures: a real nats-server, the FreeSWITCH that FREESWITCH_BIN or PATH names (else the simulator), the daemon."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest

from tests.functional import real_switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.switchsim import SwitchSim


class Switch(Protocol):
    """What a test may do with either switch."""

    port: int
    password: str

    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


def pytest_report_header() -> str:
    """Say which switch it is."""
    return f"switch: {real_switch.binary() or 'the simulator (FREESWITCH_BIN and PATH name no FreeSWITCH)'}"


@pytest.fixture(scope="session")
def nats() -> Iterator[NatsServer]:
    """A nats-server for all tests that do it no harm."""
    server = NatsServer().start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def real() -> bool:
    """True where the switch is a real FreeSWITCH."""
    return real_switch.binary() is not None


@pytest.fixture(scope="session")
def switch(real: bool) -> Iterator[Switch]:
    """A switch for all tests that do it no harm."""
    with RealSwitch() if real else SwitchSim() as found:
        yield found


@pytest.fixture
def own_switch(real: bool) -> Iterator[RealSwitch | SwitchSim]:
    """A switch of the test's own, to be killed and frozen."""
    with RealSwitch() if real else SwitchSim() as found:
        yield found


@pytest.fixture
def own_nats() -> Iterator[NatsServer]:
    """A nats-server of the test's own, to be killed and frozen."""
    server = NatsServer().start()
    yield server
    server.stop()


@pytest.fixture
def start_agent() -> Iterator[Callable[..., Agent]]:
    """Starts agents: `start_agent(nats, switch, ready=True, **settings)`; all are ended after the test."""
    started: list[Agent] = []

    def start(nats: NatsServer, switch: Switch, *, ready: bool = True, **settings: str) -> Agent:
        links = {"url": nats.url, "esl_port": str(switch.port), "esl_password": switch.password}
        agent = Agent(**(links | settings))
        started.append(agent)
        return agent.start(ready=ready)

    yield start
    for agent in started:
        agent.remove()


@pytest.fixture(scope="module")
def shared_agent(nats: NatsServer, switch: Switch) -> Iterator[Agent]:
    """One agent for the tests of a module that change nothing in it."""
    agent = Agent(url=nats.url, esl_port=str(switch.port), esl_password=switch.password)
    agent.start()
    yield agent
    try:
        assert agent.stop() == 0
    finally:
        agent.remove()


@pytest.fixture
def agent(shared_agent: Agent) -> Agent:
    """The module's agent, known to be alive."""
    assert shared_agent.process is not None and shared_agent.process.poll() is None, shared_agent.log
    return shared_agent


@pytest.fixture
def client(nats: NatsServer) -> Iterator[Client]:
    """A client that is not ours."""
    found = Client(nats.url)
    yield found
    found.close()


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """A test leaves no thread behind but those of the fixtures that outlive it."""
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if each not in before and not each.name.startswith("switchsim")]
    for thread in left:
        thread.join(5)
    assert not [thread.name for thread in left if thread.is_alive()]
