"""The client for programs: call records from a stream, the calls that there are, routing."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import event_agent_client as ea
from tests.functional.parts import Agent, EventSocket, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.streams import make_stream
from tests.functional.test_ea_client import LIMIT, PARK, eventually, run
from tests.switchsim import SwitchSim


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with JetStream."""
    server = NatsServer("-js", "-sd", str(tmp_path / "js")).start()
    yield server
    server.stop()


Start = Callable[..., Agent]


def test_records_come_until_they_are_acknowledged(
    stored: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Start
) -> None:
    start_agent(stored, own_switch, cdr="true", node_id="r-1")

    async def work() -> None:
        async with ea.connect(stored.url) as fs:
            with pytest.raises(ea.CommandFailed, match="no JetStream stream takes freeswitch.cdr"):
                await fs.cdrs("billing").next(1.0)
            await make_stream(stored.url, "RECORDS", "freeswitch.cdr.>")
            made = []
            for _ in range(3):
                async with fs.dial(PARK) as call:
                    made.append(call.uuid)
            keys, uuids = [], []
            async with fs.cdrs("billing", ack_wait=1.0) as cdrs:
                first = await cdrs.next(LIMIT)
                assert first is not None and first.deliveries == 1  # not acknowledged: it comes again
                again: ea.Record | None = None
                while again is None or again.key != first.key:
                    again = await cdrs.next(LIMIT)
                    assert again is not None
                    if again.key != first.key:
                        keys.append(again.key)
                        uuids.append(again.uuid)
                        await again.ack()
                assert again.deliveries == 2 and again == first
                uuids.append(again.uuid)
                await again.ack()
                keys.append(again.key)
            async with fs.cdrs("billing") as cdrs:  # the next life of the program goes on where this one stopped
                while not set(made) <= set(uuids):
                    record = await cdrs.next(LIMIT)
                    assert record is not None and record.cause and record.node == "r-1"
                    keys.append(record.key)
                    uuids.append(record.uuid)
                    await record.ack()
            assert len(set(keys)) == len(keys) and all(keys)

    run(work())


def test_records_go_on_after_the_server_was_killed(
    stored: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Start
) -> None:
    agent = start_agent(stored, own_switch, cdr="true", node_id="r-1")

    async def work() -> None:
        async with ea.connect(stored.url) as fs:
            await make_stream(stored.url, "RECORDS", "freeswitch.cdr.>")
            uuids: set[str] = set()

            async def collect() -> None:
                async for record in fs.cdrs("billing"):
                    with_again = 5
                    while with_again:
                        try:
                            await record.ack()
                            uuids.add(record.uuid)
                            break
                        except (ea.LinkError, ea.NoReply):
                            with_again -= 1

            collector = asyncio.create_task(collect())
            async with fs.dial(PARK) as one:
                pass
            await eventually(lambda: one.uuid in uuids, "the first one")
            stored.kill()
            stored.start()
            await asyncio.to_thread(agent.logged, "NATS connected", 2, LIMIT)
            async with asyncio.timeout(LIMIT):
                while True:
                    try:
                        other = await fs.dial(PARK)
                        break
                    except (ea.NoAgent, ea.LinkError):
                        await asyncio.sleep(0.1)
            await other.hangup()
            await eventually(lambda: other.uuid in uuids or collector.done(), "the second one")
            assert not collector.done()
            collector.cancel()

    run(work())


def test_the_picture_does_not_drift(
    own_nats: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Start
) -> None:
    agent = start_agent(own_nats, own_switch, node_id="l-1")

    async def work() -> None:
        async with ea.connect(own_nats.url) as fs:
            first = await fs.dial(PARK)
            live = await fs.live(every=1.0)
            await eventually(lambda: first.uuid in live.calls.get("l-1", {}), "FreeSWITCH lists it")
            changes: list[int] = []
            live.on_change(lambda live: changes.append(live.count()))
            second = await fs.dial(PARK)
            await eventually(lambda: second.uuid in live.calls["l-1"], "it is there")
            await second.hangup()
            await eventually(lambda: second.uuid not in live.calls["l-1"], "it is gone")
            assert changes
            agent.kill()  # the end of the first one is not seen by anybody
            with contextlib.closing(EventSocket(own_switch.port, own_switch.password)) as bare:
                bare.api(f"uuid_kill {first.uuid}")
            await asyncio.to_thread(agent.start)
            await eventually(lambda: not live.count("l-1"), "all are gone")

    run(work())


def test_threads_have_the_same(stored: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Start) -> None:
    start_agent(stored, own_switch, cdr="true", node_id="r-1")
    run(_with_stream(stored.url))
    with ea.sync.connect(stored.url) as fs:
        live = fs.live()
        with fs.dial(PARK) as call:
            assert call.node == "r-1"
        with fs.cdrs("billing") as cdrs:
            record = cdrs.next(LIMIT)
            assert record is not None and record.key and record.cause
            record.ack()
        live.close()


async def _with_stream(url: str) -> None:
    await make_stream(url, "RECORDS", "freeswitch.cdr.>")
