"""Fixtures: a real nats-server, the FreeSWITCH that FREESWITCH_BIN or PATH names (else the simulator), the daemon.

The nats-server is that of PATH if NATS_SERVER_BIN names no other.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import pytest

from tests.functional import browser as browser_module
from tests.functional import real_switch
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel
from tests.functional.park_parts import House, asking_switch
from tests.functional.parts import Agent, Client, NatsServer, hang_up_all, nats_program
from tests.functional.real_switch import RealSwitch
from tests.functional.wire import SHOWN, WIRE
from tests.switchsim import SwitchSim


class Switch(Protocol):
    """What a test may do with either switch."""

    port: int
    password: str

    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


def pytest_report_header() -> list[str]:
    """Say which switch and which nats-server it is, and whether there is a browser."""
    without = browser_module.missing()
    return [
        subprocess.run([nats_program(), "--version"], capture_output=True, text=True).stdout.strip(),
        f"switch: {real_switch.binary() or 'the simulator (FREESWITCH_BIN and PATH name no FreeSWITCH)'}",
        f"browser: {f'none, its tests are skipped: {without}' if without else shutil.which('chromium')}",
    ]


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
def one_switch(real: bool) -> Iterator[Switch]:
    """The switch of all modules that have none of their own."""
    with RealSwitch() if real else SwitchSim() as found:
        yield found


@pytest.fixture(scope="module")
def switch(one_switch: Switch) -> Switch:
    """A switch for all tests that do it no harm; a module begins without the calls that others have left."""
    hang_up_all(one_switch.port, one_switch.password)
    return one_switch


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


@contextlib.contextmanager
def running(nats: NatsServer, switch: Switch, **settings: str) -> Iterator[Agent]:
    """An agent that ends well."""
    agent = Agent(url=nats.url, esl_port=str(switch.port), esl_password=switch.password, **settings)
    try:
        yield agent.start()
        assert agent.stop() == 0
    finally:
        agent.remove()


@pytest.fixture(scope="module")
def shared_agent(nats: NatsServer, switch: Switch) -> Iterator[Agent]:
    """One agent for the tests of a module that change nothing in it."""
    with running(nats, switch) as agent:
        yield agent


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


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    """Clients that are closed after the test."""
    clients: list[Client] = []

    def make(url: str, **options: Any) -> Client:
        clients.append(Client(url, max_reconnect_attempts=-1, reconnect_time_wait=0.1, **options))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory: pytest.TempPathFactory, nats: NatsServer) -> Iterator[House]:
    # As in FreeSWITCH's own configuration. Without a timer it sends packets only as packets come in.
    house = House(tmp_path_factory.mktemp("dialplan"), nats, {"rtp-timer-name": "soft"})
    yield house
    house.switch.stop()


@pytest.fixture
def parking(real: bool) -> Iterator[tuple[RealSwitch | SwitchSim, int]]:
    """A switch of the test's own whose mod_xml_curl asks for its dialplan, and the port on which it does."""
    with asking_switch(real) as found:
        yield found


@pytest.fixture
def house(shared_house: House, client: Client) -> Iterator[House]:
    yield shared_house
    shared_house.tidy(client)


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """One browser for all tests of a module."""
    with Browser() as found:
        yield found


@pytest.fixture
def browser(window: Browser) -> Iterator[Browser]:
    """The browser as new; at the end it must not have complained of a fault in the page's scripts or of the policy."""
    window.resize(1440, 900)
    window.complaints()
    yield window
    left = [line for line in window.complaints() if "Failed to load resource" not in line]
    window.open("about:blank")
    assert not left


@pytest.fixture
def panel(nats: NatsServer) -> Iterator[Panel]:
    found = Panel(nats.url).start()
    yield found
    log = found.log
    try:
        assert found.stop() == 0
    finally:
        found.remove()
    assert "Traceback" not in log, log


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    """A test leaves no thread behind but those of the fixtures that outlive it."""
    before = set(threading.enumerate())
    yield
    left = [each for each in threading.enumerate() if each not in before and not each.name.startswith("switchsim")]
    for thread in left:
        thread.join(5)
    assert not [thread.name for thread in left if thread.is_alive()]


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call() -> Generator[None, object, object]:
    """After a test's own work: what went over the wire is as docs/asyncapi.yaml says."""
    try:
        result = yield
    except BaseException:
        WIRE.check()  # the next test begins with nothing
        raise
    faults = WIRE.check()
    assert not faults, f"{len(faults)} messages are not as docs/schemas say:\n" + "\n".join(faults[:SHOWN])
    return result


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How much was held against the schemas."""
    checked = ", ".join(f"{count} {what}" for what, count in WIRE.checked.items())
    terminalreporter.write_line(f"held against docs/schemas: {checked}")
