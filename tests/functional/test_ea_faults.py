"""The client for programs when parts are killed, frozen and restarted under a call: named errors, no endless wait."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Iterator

import pytest
from nats.aio.msg import Msg

import event_agent_client as ea
from tests.functional.parts import SCALE, Agent, EventSocket, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.streams import connected, taken
from tests.functional.test_ea_client import LIMIT, PARK, dialled, run
from tests.support import free_port
from tests.switchsim import SwitchSim

Switch = RealSwitch | SwitchSim


class House:
    """One of each, to be harmed."""

    def __init__(self, nats: NatsServer, switch: Switch, agent: Agent) -> None:
        self.nats, self.switch, self.agent = nats, switch, agent


@pytest.fixture
def house(own_nats: NatsServer, own_switch: Switch, start_agent: Callable[..., Agent]) -> House:
    return House(own_nats, own_switch, start_agent(own_nats, own_switch, node_id="f-1", ping_interval="1"))


async def in_thread(what: Callable[[], object]) -> None:
    await asyncio.to_thread(what)


async def kill_agent(house: House) -> None:
    house.agent.kill()
    await in_thread(house.agent.start)


async def stop_agent(house: House) -> None:
    await in_thread(house.agent.stop)
    await in_thread(house.agent.start)


async def lose_agent(house: House) -> None:
    house.agent.kill()


async def freeze_agent(house: House) -> None:
    house.agent.signal(signal.SIGSTOP)


async def freeze_switch(house: House) -> None:
    house.switch.freeze()


FAULTS: dict[str, tuple[Callable[[House], Awaitable[None]], tuple[type[ea.AgentError], ...]]] = {
    "the agent is killed": (kill_agent, (ea.NoReply, ea.NoAgent)),
    "the agent stops": (stop_agent, (ea.CommandFailed, ea.NoReply)),
    "the agent is killed for good": (lose_agent, (ea.NoAgent, ea.NoReply)),
}
SLOW = {
    "the agent is frozen": (freeze_agent, (ea.NoAgent,)),
    "FreeSWITCH is frozen": (freeze_switch, (ea.CommandFailed, ea.NoReply)),
}


async def under(house: House, fs: ea.Client, name: str) -> None:
    """One fault under a call whose wait has just begun."""
    fault, kinds = (FAULTS | SLOW)[name]
    call = await fs.dial(PARK)
    play = asyncio.create_task(call.play("silence_stream://300000"))
    await dialled(call, "playback")
    await fault(house)
    with pytest.raises(kinds) as ended:
        async with asyncio.timeout(LIMIT):
            await play
    assert ended.value.executed == "unknown", name
    if name == "FreeSWITCH is frozen":
        house.switch.thaw()
    if name == "the agent is frozen":
        house.agent.signal(signal.SIGCONT)
    if name == "the agent is killed for good":
        with pytest.raises(ea.NoAgent):
            await call.play("silence_stream://10")
        return
    await works_again(fs)
    if call.up:  # and it is the same call as before
        await call.hangup()
        assert await ending(call) in ("NORMAL_CLEARING", "unknown"), name


async def ending(call: ea.Call) -> str:
    """Its cause, however long its agent takes to come back."""
    async with asyncio.timeout(LIMIT):
        while True:
            with contextlib.suppress(ea.NoAgent, ea.NoReply, ea.LinkError):
                return (await call.ended()).cause


def test_a_wait_ends_with_a_named_error(house: House) -> None:
    async def work() -> None:
        async with ea.connect(house.nats.url, patience=1.0, ping_interval=0.5) as fs:
            for name in (*(SLOW if SCALE > 1 else ()), *FAULTS):
                await under(house, fs, name)

    run(work(), 600 if SCALE > 1 else 120)


async def works_again(fs: ea.Client) -> None:
    """A new call can be made, by and by."""
    async with asyncio.timeout(LIMIT):
        while True:
            with contextlib.suppress(ea.AgentError):
                async with fs.dial(PARK) as call:
                    await call.play("silence_stream://10")
                    return
            await asyncio.sleep(0.1)


def test_a_hang_up_that_nobody_sees_ends_waits_too(house: House) -> None:
    async def work() -> None:
        async with ea.connect(house.nats.url, patience=1.0, ping_interval=0.5) as fs:
            call = await fs.dial(PARK)
            waiting = asyncio.create_task(call.wait_for("DTMF"))
            await asyncio.sleep(0)  # it begins
            house.agent.kill()
            if isinstance(house.switch, SwitchSim):
                house.switch.api(f"uuid_kill {call.uuid}")
            else:
                await in_thread(lambda: end_of(house.switch, call.uuid))
            await in_thread(house.agent.start)
            with pytest.raises((ea.Hangup, ea.NoAgent, ea.NoReply)):
                async with asyncio.timeout(LIMIT):
                    await waiting
            assert await ending(call) == "unknown"

    run(work())


def end_of(switch: Switch, uuid: str) -> None:
    with contextlib.closing(EventSocket(switch.port, switch.password)) as bare:
        bare.api(f"uuid_kill {uuid}")


@pytest.fixture
def cluster() -> Iterator[tuple[NatsServer, NatsServer]]:
    """Two servers of one cluster."""
    routes = [free_port(), free_port()]
    servers = [
        NatsServer("--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{own}", "--routes", f"nats://127.0.0.1:{other}")
        for own, other in (routes, reversed(routes))
    ]
    for server in servers:
        server.start()
    yield servers[0], servers[1]
    for server in servers:
        server.stop()


def test_another_server_of_the_cluster_takes_over(
    cluster: tuple[NatsServer, NatsServer], own_switch: Switch, start_agent: Callable[..., Agent]
) -> None:
    first, second = cluster
    start_agent(second, own_switch, node_id="c-1", url=second.url)

    async def work() -> None:
        async with ea.connect(first.url, patience=5.0) as fs:
            async with asyncio.timeout(LIMIT):
                while not await fs.nodes(wait=1.0):
                    pass
            async with fs.events("CHANNEL_ANSWER", check=False) as events, fs.dial(PARK):
                assert isinstance(await events.next(LIMIT), ea.ChannelAnswer)
                first.kill()
                while not isinstance(gap := await events.next(LIMIT), ea.Gap):
                    assert gap is not None
                assert gap.reason == "link lost" and gap.since and gap.until
                await works_again(fs)
                assert isinstance(await events.next(LIMIT), ea.ChannelAnswer)

    run(work())


def test_what_had_not_left_is_told_apart(own_nats: NatsServer) -> None:
    async def work() -> None:
        async with ea.connect(own_nats.url) as fs:
            async with connected(own_nats.url) as silent:
                asked: asyncio.Queue[Msg] = asyncio.Queue()
                await silent.subscribe("freeswitch.any", cb=asked.put)
                await taken(silent)
                sent = asyncio.create_task(fs.request("version", wait=LIMIT))
                await asyncio.wait_for(asked.get(), LIMIT)
                own_nats.kill()
                with pytest.raises(ea.LinkError) as lost:
                    await sent
            assert lost.value.executed == "unknown"
            with pytest.raises(ea.LinkError) as not_sent:
                await fs.request("version", wait=0.3)
            assert not_sent.value.executed == "no"

    run(work())
