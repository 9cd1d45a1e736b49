"""The Node.js programs of examples/clients under faults: each server killed and frozen, and ends that are asked for.

No program stops by itself, says "Unhandled" or shows a stack, and each works again when the fault is over.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.node_parts import PACKAGE, Program, build, compile_in, needs_node
from tests.functional.park_parts import asking_switch
from tests.functional.parts import ROOT, SCALE, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim

pytestmark = needs_node

EXAMPLES = ROOT / "examples" / "clients" / "node"


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All examples as JavaScript, with the package beside them."""
    build()
    compile_in(PACKAGE, "tsconfig.examples.json")
    folder = tmp_path_factory.mktemp("examples")
    for path in [*EXAMPLES.glob("*.mjs"), *(PACKAGE / "build" / "examples").glob("*.js")]:
        (folder / f"{path.stem}.mjs").write_bytes(path.read_bytes())
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "event-agent-client").symlink_to(PACKAGE)
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(name: str, *arguments: str, **environ: str) -> Program:
        command = ["node", "--unhandled-rejections=strict", str(folder / f"{name}.mjs"), *arguments]
        started.append(Program(command, tmp_path / f"{name}-{len(started)}.out", environ))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def has_no_fault(program: Program) -> None:
    assert program.process.poll() is None, f"it has ended:\n{program.output[-3000:]}"
    assert not [word for word in ("Unhandled", "    at ", "node:internal") if word in program.output], program.output


WORDS = {"events": "listening on", "live_counter": "fs-1", "ivr": "taking calls", "park_and_route": "Park mode"}


@pytest.mark.parametrize("how", ["no link", "frozen"])
def test_programs_end_when_they_are_asked_to(
    how: str, run: Callable[..., Program], own_nats: NatsServer, switch: RealSwitch | SwitchSim,
    start_agent: Callable[..., Agent]
) -> None:  # fmt: skip
    """While the NATS server is killed or frozen: SIGTERM and SIGINT end each all the same."""
    start_agent(own_nats, switch, node_id="fs-1", http_listen=f"127.0.0.1:{free_port()}")
    programs = []
    for name, words in WORDS.items():
        for number in (signal.SIGTERM, signal.SIGINT):
            program = run(name, "default" if name != "events" else ">", "9999", NATS_URL=own_nats.url)
            programs.append((program, words, number))
    for program, words, _ in programs:
        program.says(words)
    if how == "frozen":
        own_nats.signal(signal.SIGSTOP)
    else:
        own_nats.kill()
    try:
        for program, _, number in programs:
            program.process.send_signal(number)
        for program, _, _ in programs:
            assert program.process.wait(60) == 0, program.output
            assert "Unhandled" not in program.output and "    at " not in program.output, program.output
    finally:
        if how == "frozen":
            own_nats.signal(signal.SIGCONT)


@pytest.mark.skipif(SCALE == 1, reason="six faults for each of the programs take minutes: EVENT_AGENT_SCALE=2")
@pytest.mark.parametrize("taker", ["ivr", "park_and_route"])
def test_programs_outlast_all_faults(
    taker: str, run: Callable[..., Program], own_nats: NatsServer, real: bool, start_agent: Callable[..., Agent],
    connect: Callable[..., Client]
) -> None:  # fmt: skip
    with asking_switch(real) as (switch, port):
        agent = start_agent(own_nats, switch, node_id="fs-1", http_listen=f"127.0.0.1:{port}")
        environ = {"NATS_URL": own_nats.url, "SOUNDS": "silence_stream://500,0"}
        program = run(taker, "default", "9999", **environ)
        program.says("taking calls" if taker == "ivr" else "Park mode enabled")
        counter = run("live_counter", **environ, RESYNC="1")
        counter.says("fs-1 0")
        events = run("events", **environ)
        events.says("listening on")
        client = connect(own_nats.url)
        number = 7000

        def works() -> None:
            """A new call is taken, followed and counted."""
            nonlocal number
            number += 1
            uuid = f"call-{number}-{taker}"
            done = f'calls "{number}"' if taker == "ivr" else "sent to 9999"
            before = program.output.count(done)

            def taken() -> bool:
                # A node that has just come back has no park mode for a moment: then the next call is taken.
                variables = f"{{origination_uuid={uuid}-{time.monotonic_ns()}}}"
                client.request("bgapi", f"originate {variables}loopback/{number}/default &park()")
                try:
                    until(lambda: program.output.count(done) > before, "taken", 10)
                except AssertionError:
                    return False
                return True

            until(taken, lambda: f"a call is taken:\n{program.output[-2000:]}\n{agent.log[-1000:]}", 90)
            client.request("hupall")
            until(lambda: uuid in events.output, lambda: f"its events are followed:\n{events.output[-2000:]}", 30)
            until(lambda: counter.output.splitlines()[-1] == "fs-1 0", lambda: f"it is counted:\n{counter.output}", 60)
            for each in (program, counter, events):
                has_no_fault(each)

        def nats_killed() -> None:
            own_nats.kill()
            time.sleep(2)  # programs try to connect meanwhile
            own_nats.start()

        def nats_frozen() -> None:
            own_nats.signal(signal.SIGSTOP)
            time.sleep(20)  # longer than three PINGs
            own_nats.signal(signal.SIGCONT)

        def agent_killed() -> None:
            agent.kill()
            agent.start()

        def agent_restarted() -> None:
            agent.stop()
            agent.start()

        def switch_killed() -> None:
            if isinstance(switch, RealSwitch):
                switch.kill()
                switch.start()
            else:
                switch.kill_connections(reset=True)

        def switch_frozen() -> None:
            switch.freeze()
            time.sleep(15)  # longer than the agent waits before it says so
            switch.thaw()

        works()
        for fault in (nats_killed, agent_killed, switch_killed, nats_frozen, agent_restarted, switch_frozen):
            client.request("bgapi", "originate loopback/7999/default &park()")  # one is under way
            fault()
            until(lambda: agent_answers(own_nats), f"the agent answers after {fault.__name__}", 60)
            works()
            print(f"{taker}: works after {fault.__name__}")
        for each in (program, counter, events):
            has_no_fault(each)
            each.process.send_signal(signal.SIGTERM)
            assert each.process.wait(60) == 0, each.output


def agent_answers(server: NatsServer) -> bool:
    client = Client(server.url, max_reconnect_attempts=-1)
    try:
        return bool(client.request("status")["success"])
    except Exception:
        return False
    finally:
        client.close()
