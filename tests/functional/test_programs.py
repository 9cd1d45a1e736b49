"""examples/programs: run as somebody would, with calls, and with the NATS server, the agent and themselves killed.

Each of them in both styles: NAME.py is for asyncio, NAME_sync.py for threads.
"""

from __future__ import annotations

import json
import re
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.node_parts import Program
from tests.functional.parts import ROOT, SCALE, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.test_node_programs import sounds
from tests.support import free_port, until
from tests.switchsim import SwitchSim

LIMIT = 40.0  # seconds for what should take next to none
STYLES = {"asyncio": "", "threads": "_sync"}
__all__ = ["sounds"]


class House:
    """Parts to be harmed, and the programs on them."""

    def __init__(self, nats: NatsServer, agent: Agent, client: Client, folder: Path, style: str) -> None:
        self.nats, self.agent, self.client, self.folder = nats, agent, client, folder
        self._suffix = STYLES[style]
        self.programs: list[Program] = []
        self._connects = 1

    def run(self, name: str, *arguments: str, python: str = sys.executable, **environ: str) -> Program:
        path = ROOT / "examples" / "programs" / f"{name}{self._suffix}.py"
        command = [python, "-u", str(path), *arguments]
        variables = {"PYTHONPATH": str(ROOT), "NATS_URL": self.nats.url, **environ}
        self.programs.append(Program(command, self.folder / f"{name}{len(self.programs)}.out", variables))
        return self.programs[-1]

    def kill_nats(self) -> None:
        self.nats.kill()
        self.nats.start()
        self._connects += 1
        self.agent.logged("NATS connected", self._connects, LIMIT)

    def kill_agent(self) -> None:
        self.agent.kill()
        self.agent.start()
        self._connects += 1

    def call(self, number: str) -> None:
        """Somebody calls."""
        assert self.client.request("bgapi", f"originate loopback/{number}/default &park()")["success"]

    def api(self, command: str, args: str) -> str:
        return str(self.client.request(command, args)["data"])

    def runs(self, uuid: str, application: str) -> bool:
        return self.api("uuid_getvar", f"{uuid} current_application") == application

    def parks(self, number: str) -> None:
        """Wait until calls to this number are parked."""
        until(lambda: self.client.request("dialplan.status")["data"]["number"] == number, "park mode", LIMIT)

    def channels(self) -> int:
        found = re.search(r"(\d+) total", self.api("show", "channels count"))
        return int(found[1]) if found else -1


@pytest.fixture(params=STYLES)
def style(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def house(
    style: str, own_nats: NatsServer, parking: tuple[RealSwitch | SwitchSim, int], start_agent: Callable[..., Agent],
    connect: Callable[..., Client], tmp_path: Path,
) -> Iterator[House]:  # fmt: skip
    switch, port = parking
    agent = start_agent(own_nats, switch, node_id="fs-1", http_listen=f"127.0.0.1:{port}")
    found = House(own_nats, agent, connect(own_nats.url), tmp_path, style)
    yield found
    for each in found.programs:
        each.kill()


def uuid_of(program: Program, text: str) -> str:
    """The first word of the first line that has this text."""
    return next(line for line in program.output.splitlines() if text in line).split()[0]


def ends_well(*programs: Program) -> None:
    for each in programs:
        assert each.interrupt() == 0, each.output
        assert "Traceback" not in each.output, each.output


def test_an_ivr_and_a_counter(house: House, sounds: Path, real: bool) -> None:
    ivr = house.run("ivr", "default", "error/USER_BUSY", SOUNDS=str(sounds), RECORDINGS=str(house.folder))
    ivr.says("taking calls in default")
    until(lambda: house.client.request("dialplan.status")["data"]["mode"] == "park", "park mode", LIMIT)
    counter = house.run("live_counter", EVERY="1")
    counter.says("fs-1 0")

    def caller(number: str) -> str:
        """One who has come as far as the menu."""
        house.call(number)
        ivr.says(f"calls '{number}'")
        uuid = uuid_of(ivr, f"calls '{number}'")
        until(lambda: house.runs(uuid, "play_and_get_digits"), lambda: f"the menu:\n{ivr.output}", LIMIT)
        return uuid

    def counts() -> None:
        until(lambda: counter.output.splitlines()[-1] == f"fs-1 {house.channels()}",
              lambda: f"the counter is right:\n{counter.output}", LIMIT)  # fmt: skip

    uuid = caller("7001")
    if real:  # the simulator's bridge neither fails nor rings
        house.api("uuid_recv_dtmf", f"{uuid} 0")
        ivr.says("the front desk: USER_BUSY")
        until(lambda: house.runs(uuid, "play_and_get_digits"), "the menu again", LIMIT)
    counts()
    house.kill_nats()
    house.api("uuid_recv_dtmf", f"{uuid} 2")  # the same menu goes on, whatever became of NATS
    ivr.says("chose 2", LIMIT)
    house.api("uuid_kill", uuid)
    ivr.says("is done", LIMIT)
    counts()
    caller("7002")
    if SCALE > 1:
        house.kill_agent()
        ivr.says("is done", LIMIT, 2)  # what became of the menu is not known: the caller is hung up
        caller("7003")
    house.client.request("hupall")
    ivr.says("is done", LIMIT, 3 if SCALE > 1 else 2)
    counts()
    ends_well(ivr, counter)


def asked(url: str, method: str = "GET", body: object = None, kind: str = "application/json") -> tuple[int, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.load(error)


def test_click_to_call(house: House, real: bool) -> None:
    address = f"127.0.0.1:{free_port()}"
    program = house.run("click_to_call", "--listen", address, "--user", "loopback/", "--gateway", "loopback/")
    program.says("listening on")
    url = f"http://{address}/calls"
    wrong: list[object] = [{"from": "park", "to": "12;34"}, {"from": "{a=b}park", "to": "1"}, {"from": 1}, [], "x"]
    for body in wrong:
        assert asked(url, "POST", body)[0] == 400, body
    assert asked(url, "POST", {"from": "park", "to": "9"}, "text/plain")[0] == 415
    assert asked(f"{url}/nobody")[0] == 404

    def begin() -> str:
        status, call = asked(url, "POST", {"from": "park", "to": "99"})
        assert status == 201
        return str(call["id"])

    def becomes(call: str, state: str) -> dict[str, str]:
        found = until(lambda: asked(f"{url}/{call}")[1], lambda: program.output, LIMIT,
                      holds=lambda found: found["state"] == state)  # fmt: skip
        return dict(found)

    talking = "talking" if real else "ringing to"  # the simulator's bridge never answers
    call = begin()
    becomes(call, talking)
    assert asked(f"{url}/{call}", "DELETE")[0] == 202
    assert becomes(call, "ended")["cause"]
    call = begin()
    becomes(call, talking)
    if SCALE > 1:
        house.kill_agent()
    else:  # which the call outlasts
        house.kill_nats()
        assert asked(f"{url}/{call}")[1]["state"] == talking
        assert asked(f"{url}/{call}", "DELETE")[0] == 202
    assert becomes(call, "ended")["cause"] or real
    call = begin()
    becomes(call, talking)
    ends_well(program)
    until(lambda: house.channels() == 0, "no call is left", LIMIT)


def test_a_router(house: House) -> None:
    table = house.folder / "routes.csv"
    table.write_text("prefix,action,value\n81,hangup,USER_BUSY\n8,transfer,park\n")
    router = house.run("router", str(table), "default")
    router.says("routing calls in default")

    def routed() -> bool:
        return bool(house.client.request("dialplan.status")["data"]["route"]["enabled"])

    def call(number: str) -> dict[str, Any]:
        fields = {"endpoint": f"loopback/{number}/default", "destination": "&park", "timeout": 10}
        return dict(house.client.request("originate", fields=fields))

    until(routed, "routing is on", LIMIT)
    assert call("811")["success"] is False
    assert call("823")["success"] is True
    router.says("'811': hangup USER_BUSY")
    router.says("'823': transfer park")
    table.write_text("81,transfer\n")  # a fault: the old table stays in force
    assert call("812")["success"] is False
    router.says("is not used: line 1")
    table.write_text("81,transfer,park\n")
    assert call("813")["success"] is True
    house.kill_nats()
    table.write_text("81,hangup,USER_BUSY\n# and no more\n")
    assert call("814")["success"] is False
    router.says("'814': hangup")
    ends_well(router)


def test_a_queue(house: House) -> None:
    options = ["--context", "default", "--number", "^7", "--wrap-up", "0.1", "--rest", "0.1", "--look", "0.5"]

    def start() -> Program:
        queue = house.run("call_queue", *options, "loopback/park/default")
        queue.says("1 agents for calls in default")
        house.parks("^7")
        return queue

    def other_leg(queue: Program, uuid: str) -> str:
        """The agent's, while they talk."""
        queue.says(f"{uuid} ", LIMIT)
        until(lambda: re.search(f"{uuid} .*talks to", queue.output), lambda: queue.output, LIMIT)
        return until(lambda: house.api("uuid_getvar", f"{uuid} bridge_uuid"), "they talk", LIMIT,
                     holds=lambda found: len(found) == 36)  # fmt: skip

    def waiting(queue: Program, count: int) -> str:
        queue.says("in the queue", LIMIT, count)
        return [line for line in queue.output.splitlines() if "in the queue" in line][count - 1].split()[0]

    queue = start()
    house.call("7001")
    one = waiting(queue, 1)
    agent = other_leg(queue, one)
    house.call("7002")
    two = waiting(queue, 2)
    house.call("7003")
    three = waiting(queue, 3)
    house.api("uuid_kill", three)  # has had enough
    until(lambda: re.search(f"{three} .*is gone", queue.output), lambda: queue.output, LIMIT)
    house.kill_nats()  # they talk, and wait, on
    time.sleep(0.5)  # nothing happens to them
    assert house.api("uuid_exists", one) == house.api("uuid_exists", two) == "true", queue.output
    house.api("uuid_kill", agent)
    until(lambda: re.search(f"{one} .*has talked", queue.output), lambda: queue.output, LIMIT)
    agent = other_leg(queue, two)  # who was next
    house.call("7004")
    four = waiting(queue, 4)
    queue.kill()
    queue = start()  # goes on with the one who waits; the others talk on
    assert waiting(queue, 1) == four
    if SCALE > 1:
        house.kill_agent()
    other_leg(queue, four)
    assert house.api("uuid_exists", two) == "true"
    house.api("uuid_kill", agent)
    until(lambda: house.api("uuid_exists", two) == "false", lambda: f"{two} has talked:\n{queue.output}", LIMIT)
    house.api("uuid_kill", four)
    queue.says("has talked", LIMIT)
    ends_well(queue)
