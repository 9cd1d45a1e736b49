"""FreeSWITCH killed and started again under each of examples/programs: each serves the next call, and ends well."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.link_parts import kill
from tests.functional.node_parts import Program
from tests.functional.real_switch import RealSwitch
from tests.functional.test_programs import LIMIT, House, asked, ends_well, house, sounds, style
from tests.support import free_port, until
from tests.switchsim import SwitchSim

__all__ = ["house", "sounds", "style"]
Serves = Callable[[House], None]


def an_ivr(house: House, sounds: Path) -> tuple[Program, Serves]:
    program = house.run("ivr", "default", "error/USER_BUSY", SOUNDS=str(sounds), RECORDINGS=str(house.folder))
    program.says("taking calls in default")
    calls = iter(range(7001, 7100))

    def serves(house: House) -> None:
        until(lambda: house.client.request("dialplan.status")["data"]["mode"] == "park", "park mode", LIMIT)
        number = str(next(calls))
        house.call(number)
        program.says(f"calls '{number}'", LIMIT)
        uuid = next(line for line in program.output.splitlines() if f"calls '{number}'" in line).split()[0]
        until(lambda: house.runs(uuid, "play_and_get_digits"), lambda: f"the menu:\n{program.output}", LIMIT)

    return program, serves


def a_counter(house: House, _: Path) -> tuple[Program, Serves]:
    program = house.run("live_counter", EVERY="1")
    program.says("fs-1 0")

    def serves(house: House) -> None:
        house.call("park")
        until(lambda: house.channels() > 0, "a call", LIMIT)
        until(lambda: program.output.splitlines()[-1] == f"fs-1 {house.channels()}", lambda: program.output, LIMIT)

    return program, serves


def a_router(house: House, _: Path) -> tuple[Program, Serves]:
    table = house.folder / "routes.csv"
    table.write_text("prefix,action,value\n81,hangup,USER_BUSY\n")
    program = house.run("router", str(table), "default")
    program.says("routing calls in default")

    def serves(house: House) -> None:
        until(lambda: house.client.request("dialplan.status")["data"]["route"]["enabled"], "routing is on", LIMIT)
        before = program.output.count("hangup USER_BUSY")

        def routed() -> bool:
            house.call("811")
            return program.output.count("hangup USER_BUSY") > before

        until(routed, lambda: program.output, LIMIT)

    return program, serves


def click_to_call(house: House, _: Path) -> tuple[Program, Serves]:
    address = f"127.0.0.1:{free_port()}"
    program = house.run("click_to_call", "--listen", address, "--user", "loopback/", "--gateway", "loopback/")
    program.says("listening on")
    url = f"http://{address}/calls"

    def serves(_: House) -> None:
        status, call = asked(url, "POST", {"from": "park", "to": "99"})
        assert status == 201
        state = f"{url}/{call['id']}"
        until(lambda: asked(state)[1]["state"] in ("ringing to", "talking"), lambda: program.output, LIMIT)

    return program, serves


def a_queue(house: House, _: Path) -> tuple[Program, Serves]:
    options = ["--context", "default", "--number", "^7", "--wrap-up", "0.1", "--rest", "0.1", "--look", "0.5"]
    program = house.run("call_queue", *options, "loopback/park/default")
    program.says("1 agents for calls in default")

    def serves(house: House) -> None:
        house.parks("^7")
        before = len(re.findall("talks to", program.output))
        house.call("7001")
        until(lambda: len(re.findall("talks to", program.output)) > before, lambda: program.output, LIMIT)

    return program, serves


PROGRAMS = {"router": a_router, "counter": a_counter, "click_to_call": click_to_call, "ivr": an_ivr, "queue": a_queue}


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_killed_freeswitch(
    name: str, house: House, parking: tuple[RealSwitch | SwitchSim, int], sounds: Path
) -> None:
    program, serves = PROGRAMS[name](house, sounds)
    serves(house)
    switch, _ = parking
    kill(switch)
    house.agent.logged("FreeSWITCH is unreachable|FreeSWITCH lost", 1, LIMIT)
    switch.start()
    house.agent.logged("FreeSWITCH events: subscribed", 2, LIMIT)
    until(lambda: house.client.request("agent.status")["data"]["readiness"]["ready"], "it takes calls", LIMIT)
    serves(house)
    house.client.request("hupall")
    ends_well(program)
