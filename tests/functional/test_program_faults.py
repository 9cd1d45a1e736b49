"""The NATS server, one of a cluster, the agent, FreeSWITCH killed, frozen, restarted under each of examples/programs.

Each in both styles: it serves the next call, has an end for each call, and ends well when it is interrupted.
EVENT_AGENT_SCALE=2 runs the whole table; otherwise each program and each fault has its turn.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import nats.errors
import nats.js.errors
import pytest

from tests.functional.link_parts import kill
from tests.functional.node_parts import Program
from tests.functional.parts import SCALE, Agent, Client, EventSocket, NatsServer
from tests.functional.postgres_parts import PYTHON, Postgres, missing
from tests.functional.real_switch import RealSwitch
from tests.functional.streams import connected
from tests.functional.test_programs import LIMIT, STYLES, House, asked, ends_well, sounds
from tests.support import free_port, until
from tests.switchsim import SwitchSim

__all__ = ["sounds"]
FREEZE = 3.0 if SCALE < 2 else 13.0  # seconds; from 10 on the programs and the agent give a frozen NATS server up
SUBJECTS = ("freeswitch.cdr.>", "freeswitch.events.>")


class World(House):
    """The house, and all that can be harmed in it."""

    servers: list[NatsServer]
    switch: RealSwitch | SwitchSim
    postgres: Postgres | None

    def times(self, pattern: str) -> int:
        return len(re.findall(pattern, self.agent.log))

    def takes_calls(self) -> None:
        """Wait until the agent can be reached and says that it is ready: the harm is over for the agent then."""
        def ready() -> bool:
            with contextlib.suppress(nats.errors.Error, TimeoutError):
                status = self.client.request("agent.status", _timeout=5.0)
                return bool(status["data"]["readiness"]["ready"])
            return False

        until(ready, lambda: f"the agent is ready:\n{self.agent.log[-2000:]}", LIMIT)

    @contextlib.contextmanager
    def again(self, pattern: str) -> Iterator[None]:
        """Until the agent has logged this once more than before."""
        before = self.times(pattern)
        yield
        self.agent.logged(pattern, before + 1, LIMIT)


class Trial:
    """A program under trial."""

    program: Program

    def __init__(self, house: World, folder: Path) -> None:
        """Start it."""
        raise NotImplementedError

    def serves(self) -> None:
        """A call comes, and the program does with it what it is for. The call goes on."""
        raise NotImplementedError

    def meanwhile(self) -> None:
        """What goes on while something is out of order."""

    def settled(self) -> None:
        """Wait until nothing is left, when all calls have been hung up."""


class Ivr(Trial):
    def __init__(self, house: World, folder: Path) -> None:
        self._house, self._calls = house, iter(range(7001, 7100))
        environ = {"SOUNDS": str(folder), "RECORDINGS": str(house.folder)}
        self.program = house.run("ivr", "default", "error/USER_BUSY", **environ)
        self.program.says("taking calls in default")

    def serves(self) -> None:
        house, program = self._house, self.program
        until(lambda: house.client.request("dialplan.status")["data"]["mode"] == "park", "park mode", LIMIT)
        number = str(next(self._calls))
        house.call(number)
        program.says(f"calls '{number}'", LIMIT)
        uuid = next(line for line in program.output.splitlines() if f"calls '{number}'" in line).split()[0]
        until(lambda: house.runs(uuid, "play_and_get_digits"), lambda: f"the menu:\n{program.output}", LIMIT)

    def settled(self) -> None:
        self.program.says("is done", LIMIT, self.program.output.count("calls '"))


class Counter(Trial):
    def __init__(self, house: World, _: Path) -> None:
        self._house = house
        self.program = house.run("live_counter", EVERY="1")
        self.program.says("fs-1 0")

    def serves(self) -> None:
        house = self._house
        before = house.channels()
        house.call("park")
        until(lambda: house.channels() > before, "a call more", LIMIT)
        until(lambda: self.program.output.splitlines()[-1] == f"fs-1 {house.channels()}", lambda: self.program.output,
              LIMIT)  # fmt: skip

    def settled(self) -> None:
        until(lambda: self.program.output.splitlines()[-1] == "fs-1 0", lambda: self.program.output, LIMIT)


class Router(Trial):
    def __init__(self, house: World, _: Path) -> None:
        self._house = house
        table = house.folder / "routes.csv"
        table.write_text("prefix,action,value\n81,hangup,USER_BUSY\n")
        self.program = house.run("router", str(table), "default")
        self.program.says("routing calls in default")

    def serves(self) -> None:
        house = self._house
        until(lambda: house.client.request("dialplan.status")["data"]["route"]["enabled"], "routing is on", LIMIT)
        before = self.program.output.count("hangup USER_BUSY")

        def routed() -> bool:
            house.call("811")
            return self.program.output.count("hangup USER_BUSY") > before

        until(routed, lambda: self.program.output, LIMIT)


class ClickToCall(Trial):
    def __init__(self, house: World, _: Path) -> None:
        address = f"127.0.0.1:{free_port()}"
        self.program = house.run("click_to_call", "--listen", address, "--user", "loopback/", "--gateway", "loopback/")
        self.program.says("listening on")
        self._url = f"http://{address}/calls"
        self._calls: list[str] = []

    def _states(self, *wanted: str) -> Callable[[], bool]:
        return lambda: asked(self._calls[-1])[1]["state"] in wanted

    def serves(self) -> None:
        status, call = asked(self._url, "POST", {"from": "park", "to": "99"})
        assert status == 201
        self._calls.append(f"{self._url}/{call['id']}")
        until(self._states("ringing to", "talking"), lambda: self.program.output, LIMIT)

    def settled(self) -> None:
        def ended() -> bool:
            return all(asked(each)[1]["state"] == "ended" for each in self._calls)

        until(ended, lambda: f"all have ended:\n{self.program.output}", LIMIT)


class Queue(Trial):
    def __init__(self, house: World, _: Path) -> None:
        options = ["--context", "default", "--number", "^7", "--wrap-up", "0.1", "--rest", "0.1", "--look", "0.5"]
        self._house = house
        self.program = house.run("call_queue", *options, "loopback/park/default")
        self.program.says("1 agents for calls in default")

    def _talk(self) -> list[str]:
        return re.findall("(\\S+) .* talks to", self.program.output)

    def serves(self) -> None:
        house, before = self._house, self._talk()
        for uuid in before:  # who talks now: there is one agent
            house.api("uuid_kill", uuid)
        house.parks("^7")
        house.call("7001")
        until(lambda: len(self._talk()) > len(before), lambda: self.program.output, LIMIT)

    def settled(self) -> None:
        def left() -> set[str]:
            came = set(re.findall("(\\S+) .* in the queue", self.program.output))
            return came - set(re.findall("(\\S+) .* (?:has talked|is gone)", self.program.output))

        until(left, lambda: f"nobody is left:\n{self.program.output}", LIMIT, holds=lambda found: not found)


class Cdrs(Trial):
    def __init__(self, house: World, _: Path) -> None:
        assert house.postgres is not None
        self._house, self._postgres = house, house.postgres
        asyncio.run(make_stream(house))
        self.program = house.run("cdr_to_postgres", self._postgres.dsn, python=PYTHON, PATIENCE="1")
        self.program.says("ready")
        self._made: list[str] = []

    def serves(self) -> None:
        fields = {"endpoint": "loopback/park/default", "destination": "&park", "timeout": 10}
        reply = self._house.client.request("originate", fields=fields)
        assert reply["success"], reply
        self._made.append(reply["data"]["uuid"])
        self._house.api("uuid_kill", self._made[-1])
        self.settled()

    def meanwhile(self) -> None:
        """A call ends. It may wait for the dialplan of an agent that is frozen, as long as mod_xml_curl does."""
        switch = self._house.switch
        with contextlib.closing(EventSocket(switch.port, switch.password, LIMIT)) as bare:
            answer = bare.api("originate loopback/park/default &park").split()
            assert answer[0] == "+OK", answer
            self._made.append(answer[1])
            bare.api(f"uuid_kill {answer[1]}")

    def settled(self) -> None:
        """Each record is there once."""
        until(lambda: set(self._made) - set(self._stored()), lambda: f"all are stored:\n{self.program.output}", LIMIT,
              holds=lambda found: not found)  # fmt: skip
        stored = self._stored()
        assert len(stored) == len(set(stored))

    def _stored(self) -> list[str]:
        return [uuid for uuid, in self._postgres.query("select uuid from cdr")]


async def make_stream(house: World) -> None:
    """A stream of call records, on all servers."""
    until_then = time.monotonic() + LIMIT
    async with connected(house.servers[0].url) as link:
        while True:
            try:
                stream = link.jetstream(timeout=5)
                await stream.add_stream(name="CALLS", subjects=list(SUBJECTS), num_replicas=len(house.servers))
                return
            except (nats.errors.Error, nats.js.errors.Error):  # a cluster has no leader yet
                if time.monotonic() > until_then:
                    raise
                await asyncio.sleep(0.2)


PROGRAMS: dict[str, type[Trial]] = {
    "ivr": Ivr, "counter": Counter, "router": Router, "click_to_call": ClickToCall, "queue": Queue, "cdrs": Cdrs,
}  # fmt: skip

# Each yields once the harm is done, and again whenever the program must serve although not all is mended.
Fault = Callable[[World], Iterator[None]]


def broker_killed(house: World) -> Iterator[None]:
    with house.again("NATS connected"):
        house.nats.kill()
        yield
        house.nats.start()


def broker_frozen(house: World) -> Iterator[None]:
    house.nats.signal(signal.SIGSTOP)
    yield
    time.sleep(FREEZE)  # that long the fault lasts
    house.nats.signal(signal.SIGCONT)


def server_killed(house: World) -> Iterator[None]:
    """The server of the cluster that the program and the agent use."""
    with house.again("NATS connected"):
        house.servers[0].kill()
        yield
    yield
    house.servers[0].start()


def _agent_gone(house: World) -> Iterator[None]:
    with house.again("FreeSWITCH events: subscribed"):
        yield
        house.agent.start(ready=False)


def agent_killed(house: World) -> Iterator[None]:
    house.agent.kill()
    return _agent_gone(house)


def agent_restarted(house: World) -> Iterator[None]:
    assert house.agent.stop() == 0
    return _agent_gone(house)


def agent_frozen(house: World) -> Iterator[None]:
    house.agent.signal(signal.SIGSTOP)
    yield
    time.sleep(FREEZE)  # that long the fault lasts
    house.agent.signal(signal.SIGCONT)


def switch_killed(house: World) -> Iterator[None]:
    with house.again("FreeSWITCH events: subscribed"):
        with house.again("FreeSWITCH is unreachable|FreeSWITCH lost"):
            kill(house.switch)
        house.switch.start()
    yield


def switch_frozen(house: World) -> Iterator[None]:
    """What happens meanwhile happens as it goes on."""
    house.switch.freeze()
    time.sleep(FREEZE)  # that long the fault lasts
    house.switch.thaw()
    yield


FAULTS: dict[str, Fault] = {
    each.__name__: each
    for each in (
        broker_killed, broker_frozen, server_killed, agent_killed, agent_restarted, agent_frozen, switch_killed,
        switch_frozen,
    )
}  # fmt: skip


# What happens meanwhile is not lost. If the agent is killed that is so with systemd's descriptor store only, which
# test_cdr_to_postgres.py has.
KEPT = ("broker_killed", "broker_frozen", "server_killed", "agent_frozen", "switch_frozen")


@dataclass(frozen=True)
class Case:
    program: str
    style: str
    fault: str

    def __str__(self) -> str:
        return f"{self.program}-{self.style}-{self.fault}"


def cases() -> list[Case]:
    if SCALE > 1:
        return [Case(program, style, fault) for program in PROGRAMS for style in STYLES for fault in FAULTS]
    some = (
        "ivr threads agent_frozen", "ivr asyncio switch_killed", "counter threads agent_killed",
        "counter asyncio switch_frozen", "router threads agent_restarted", "click_to_call asyncio server_killed",
        "queue threads switch_killed", "queue asyncio broker_frozen", "cdrs asyncio broker_killed",
    )  # fmt: skip
    return [Case(*each.split()) for each in some]


@pytest.fixture(params=cases(), ids=str)
def case(request: pytest.FixtureRequest) -> Case:
    found = request.param
    assert isinstance(found, Case)
    if found.program == "cdrs" and missing():
        pytest.skip(missing())
    return found


@pytest.fixture
def servers(case: Case, tmp_path: Path) -> Iterator[list[NatsServer]]:
    """One NATS server, or three of a cluster; with JetStream if the program needs it."""
    count = 3 if case.fault == "server_killed" else 1
    routes = [free_port() for _ in range(count)]
    urls = ",".join(f"nats://127.0.0.1:{each}" for each in routes)
    found = []
    for number, route in enumerate(routes):
        options = ["-n", f"n{number}"]
        if case.program == "cdrs":
            options += ["-js", "-sd", str(tmp_path / f"js{number}")]
        if count > 1:
            options += ["--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{route}", "--routes", urls]
        found.append(NatsServer(*options))
    try:
        yield [each.start() for each in found]
    finally:
        for each in found:
            each.stop()


@pytest.fixture
def postgres(case: Case) -> Iterator[Postgres | None]:
    if case.program != "cdrs":
        yield None
        return
    found = Postgres()
    try:
        yield found.start()
    finally:
        found.stop()


@pytest.fixture
def world(
    case: Case, servers: list[NatsServer], postgres: Postgres | None, parking: tuple[RealSwitch | SwitchSim, int],
    start_agent: Callable[..., Agent], connect: Callable[..., Client], tmp_path: Path,
) -> Iterator[World]:  # fmt: skip
    switch, port = parking
    more = {"cdr": "true", "events_delivery": "at_least_once"} if postgres is not None else {}
    agent = start_agent(
        servers[0], switch, node_id="fs-1", http_listen=f"127.0.0.1:{port}", reconnect_wait="0.2", **more
    )
    found = World(servers[0], agent, connect(servers[-1].url), tmp_path, case.style)
    found.servers, found.switch, found.postgres = servers, switch, postgres
    yield found
    for each in found.programs:
        each.kill()


def test_a_program_outlasts(case: Case, world: World, sounds: Path) -> None:
    trial = PROGRAMS[case.program](world, sounds)
    trial.serves()
    harm = FAULTS[case.fault](world)
    next(harm)
    if case.fault in KEPT:
        trial.meanwhile()
    for _ in harm:
        world.takes_calls()
        trial.serves()
    world.takes_calls()
    trial.serves()
    world.client.request("hupall")
    trial.settled()
    ends_well(trial.program)
