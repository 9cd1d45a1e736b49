"""examples/programs/cdr_to_postgres.py: each record in PostgreSQL once, whatever is killed meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import event_agent_client as ea
from tests.functional.keeper import Keeper
from tests.functional.node_parts import Program
from tests.functional.parts import ROOT, SCALE, Agent, EventSocket, NatsServer, hang_up_all
from tests.functional.postgres_parts import PYTHON, Postgres, needs_postgres
from tests.functional.real_switch import RealSwitch
from tests.functional.streams import drop_stream, make_stream, say
from tests.functional.test_ea_client import LIMIT, PARK, run
from tests.functional.test_programs import STYLES
from tests.support import until

pytestmark = needs_postgres
CDR = {"event_name": "CDR", "node_id": "n", "uuid": "u", "created": 1795446556309076}


@pytest.fixture(scope="module")
def shared_postgres() -> Iterator[Postgres]:
    found = Postgres().start()
    yield found
    found.stop()


@pytest.fixture
def postgres(shared_postgres: Postgres) -> Postgres:
    shared_postgres.query("drop table if exists cdr, cdr_rejected")
    return shared_postgres


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with JetStream and the stream of records."""
    server = NatsServer("-js", "-sd", str(tmp_path / "js")).start()
    run(make_calls(server))
    yield server
    server.stop()


def ask(server: NatsServer, work: Callable[[ea.Client], Coroutine[Any, Any, None]]) -> None:
    async def asked() -> None:
        async with ea.connect(server.url) as fs:
            await work(fs)

    run(asked())


async def make_calls(server: NatsServer) -> None:
    await make_stream(server.url, "CALLS", "freeswitch.events.>", "freeswitch.cdr.>")


async def say_records(server: NatsServer, *messages: bytes) -> None:
    """Records that no agent has made."""
    await say(server.url, "freeswitch.cdr.n", *messages)


@pytest.fixture(params=STYLES)
def write(
    request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres, stored: NatsServer
) -> Iterator[Callable[[], Program]]:
    """Starts the program, in each style."""
    program = ROOT / "examples" / "programs" / f"cdr_to_postgres{STYLES[request.param]}.py"
    started: list[Program] = []

    def start() -> Program:
        command = [PYTHON, "-u", str(program), postgres.dsn]
        variables = {"PYTHONPATH": str(ROOT), "NATS_URL": stored.url, "PATIENCE": "1"}
        started.append(Program(command, tmp_path / f"writer{len(started)}.out", variables))
        return started[-1]

    yield start
    for each in started:
        each.kill()


def test_each_record_is_stored_once(
    write: Callable[[], Program], postgres: Postgres, stored: NatsServer, one_switch: Any,
    start_agent: Callable[..., Agent],
) -> None:  # fmt: skip
    """The program, PostgreSQL and the NATS server are killed while calls end."""
    agent = start_agent(stored, one_switch, cdr="true", events_delivery="at_least_once", node_id="r-1")
    made: list[str] = []
    writer = write()
    writer.says("ready")

    async def call(fs: ea.Client) -> None:
        async with fs.dial(PARK) as found:
            made.append(found.uuid)

    def calls(count: int) -> None:
        async def work(fs: ea.Client) -> None:
            await asyncio.gather(*(call(fs) for _ in range(count)))

        ask(stored, work)

    def all_there() -> bool:
        return set(made) <= {uuid for uuid, in postgres.query("select uuid from cdr")}

    calls(3)
    until(all_there, lambda: f"the first ones:\n{writer.output}", LIMIT)
    writer.kill()
    calls(3)
    writer = write()
    until(all_there, lambda: f"those that ended without the program:\n{writer.output}", LIMIT)
    postgres.kill()
    calls(3)
    writer.says("; again in")
    postgres.start()
    until(all_there, lambda: f"those that ended without PostgreSQL:\n{writer.output}", LIMIT)
    stored.kill()
    stored.start()
    agent.logged("NATS connected", 2, LIMIT)
    calls(3)
    until(all_there, lambda: f"those after the NATS server was killed:\n{writer.output}", LIMIT)
    rows = postgres.query("select uuid, node, key, cause, ended >= created, record ->> 'cause' from cdr")
    ours = [row for row in rows if row[0] in made]
    assert len(ours) == len(made) == 12 and len({row[2] for row in rows}) == len(rows)
    assert {(*row[1:2], *row[3:]) for row in ours} == {("r-1", "NORMAL_CLEARING", "t", "NORMAL_CLEARING")}
    assert writer.interrupt() == 0 and "Traceback" not in writer.output, writer.output


def test_what_it_is_given_is_stored_or_rejected(
    write: Callable[[], Program], postgres: Postgres, stored: NatsServer
) -> None:
    """Twice the same, what PostgreSQL takes not at all or not as a text, what is no record, and a stream made anew."""
    one = json.dumps(CDR).encode()
    hostile = json.dumps(CDR | {"uuid": "h", "caller_id_name": "a\0b\ud800'; drop table cdr; --"}).encode()
    wrong = json.dumps(CDR | {"uuid": "w", "created": "yesterday"}).encode()
    long = json.dumps(CDR | {"uuid": "l", "created": 2**90}).encode()
    run(say_records(stored, one, b"no record", one, hostile, wrong, b'{"event_name":7}', long))
    writer = write()

    def uuids() -> list[list[str]]:
        return postgres.query("select uuid from cdr order by uuid") if "stored" in writer.output else []

    until(uuids, lambda: f"two are stored:\n{writer.output}", LIMIT, holds=lambda found: found == [["h"], ["u"]])
    assert postgres.query("select caller_name from cdr where uuid = 'h'") == [["a\ufffdb?'; drop table cdr; --"]]
    until(lambda: postgres.query("select count(*) from cdr_rejected"), "two are rejected", LIMIT,
          holds=lambda found: found == [["2"]])  # fmt: skip

    run(drop_stream(stored.url, "CALLS"))
    run(make_calls(stored))
    run(say_records(stored, json.dumps(CDR | {"uuid": "v"}).encode(), one))
    expected = [["h"], ["u"], ["v"]]
    until(uuids, lambda: f"the other stream's:\n{writer.output}", LIMIT, holds=lambda found: found == expected)
    assert "Traceback" not in writer.output, writer.output


def test_without_a_stream_it_waits_for_one(
    write: Callable[[], Program], postgres: Postgres, stored: NatsServer
) -> None:
    run(drop_stream(stored.url, "CALLS"))
    writer = write()
    writer.says("no JetStream stream takes freeswitch.cdr.>")
    if SCALE > 1:
        postgres.freeze()
    try:
        run(make_calls(stored))
        run(say_records(stored, json.dumps(CDR).encode()))
        if SCALE > 1:
            writer.says("PostgreSQL has said nothing for 1 seconds", 60)
    finally:
        if SCALE > 1:
            postgres.thaw()
    writer.says("stored 1", 60)




MINUTES = float(os.environ.get("EVENT_AGENT_CDR_MINUTES", "0"))


@pytest.mark.skipif(not MINUTES, reason="EVENT_AGENT_CDR_MINUTES says how long; it needs a FreeSWITCH")
def test_the_table_agrees_with_mod_cdr_csv_after_faults(
    write: Callable[[], Program], postgres: Postgres, stored: NatsServer, real: bool
) -> None:
    """A fault every few seconds: of the program, PostgreSQL, the NATS server, the agent, FreeSWITCH frozen."""
    assert real, "the simulator has no mod_cdr_csv"
    with RealSwitch(modules=("mod_cdr_csv",)) as switch:
        agent = Agent(
            url=stored.url, esl_port=str(switch.port), esl_password=switch.password, cdr="true", node_id="r-1",
            events_delivery="at_least_once", spool_mode="always", ping_interval="1",
        )  # fmt: skip
        keeper = Keeper(agent)
        try:
            keeper.start().logged("NATS connected")
            agent.logged("FreeSWITCH events: subscribed", 1, LIMIT)
            counts = harm(switch, keeper, stored, postgres, write)
            hang_up_all(switch.port, switch.password)
            path = switch.folder / "log" / "cdr-csv" / "Master.csv"

            def rows() -> list[str]:
                with open(path, newline="", encoding="utf-8") as file:
                    return [row[0] for row in csv.reader(file) if row]

            def table() -> list[str]:
                return [uuid for uuid, in postgres.query("select uuid from cdr")]

            until(lambda: set(rows()) - set(table()), lambda: f"all are there:\n{agent.log[-2000:]}", 120.0,
                  holds=lambda left: not left)  # fmt: skip
            found, expected = table(), rows()
            assert sorted(found) == sorted(expected) and len(set(found)) == len(found)
            assert postgres.query("select count(*) from cdr_rejected") == [["0"]]
            print(f"{len(found)} records, as many as rows of mod_cdr_csv, none twice; {MINUTES:g} minutes, {counts}")
        finally:
            agent.remove()
            keeper.close()


def harm(
    switch: RealSwitch, keeper: Keeper, nats: NatsServer, postgres: Postgres, write: Callable[[], Program]
) -> Counter[str]:
    """Calls and faults for MINUTES; returns how often there was each fault."""
    writers = [write()]

    def program() -> None:
        writers[-1].kill()
        writers.append(write())

    def database() -> None:
        postgres.kill()
        time.sleep(1)  # that long the fault lasts
        postgres.start()

    def broker() -> None:
        nats.kill()
        time.sleep(1)  # that long the fault lasts
        nats.start()

    def frozen_broker() -> None:
        nats.signal(signal.SIGSTOP)
        time.sleep(4)  # that long the fault lasts
        nats.signal(signal.SIGCONT)

    def frozen_agent() -> None:
        keeper.agent.signal(signal.SIGSTOP)
        time.sleep(4)  # that long the fault lasts
        keeper.agent.signal(signal.SIGCONT)

    def frozen_switch() -> None:
        switch.freeze()
        time.sleep(2)  # that long the fault lasts
        switch.thaw()

    faults: dict[str, Callable[[], object]] = {
        "program killed": program, "PostgreSQL killed": database, "NATS server killed": broker,
        "NATS server frozen": frozen_broker, "agent killed": lambda: keeper.restart(signal.SIGKILL),
        "agent restarted": lambda: keeper.restart(signal.SIGTERM), "agent frozen": frozen_agent,
        "FreeSWITCH frozen": frozen_switch,
    }  # fmt: skip
    counts: Counter[str] = Counter()
    chance = random.Random(17)
    end = time.monotonic() + MINUTES * 60
    names: list[str] = []
    while time.monotonic() < end:
        with contextlib.suppress(OSError), contextlib.closing(EventSocket(switch.port)) as calls:  # it may be slow
            for _ in range(30):
                seconds = chance.randint(1, 4)
                block = f"{{originate_timeout=5,execute_on_answer='sched_hangup +{seconds} NORMAL_CLEARING'}}"
                target = chance.choice(("short", "park", "late500", "ring"))
                calls.api(f"bgapi originate {block}loopback/{target}/default &park()")
                time.sleep(0.1)  # the pace of the calls
        if not names:
            names = chance.sample(sorted(faults), len(faults))
        name = names.pop()
        faults[name]()
        counts[name] += 1
    return counts
