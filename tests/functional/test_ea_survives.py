"""What a program waits for outlasts a lost link to NATS: it goes on, or what happened meanwhile is found out."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import event_agent_client as ea
from event_agent_client.testing import FakeAgent
from tests.functional.park_parts import needs_freeswitch
from tests.functional.parts import SCALE, Agent, EventSocket, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.real_switch import RealSwitch
from tests.functional.streams import say
from tests.functional.test_ea_client import LIMIT, PARK, dialled, eventually, run
from tests.switchsim import SwitchSim

Switch = RealSwitch | SwitchSim
LONG = "silence_stream://300000"


class House:
    """A broker, a switch with its agent, and a way to the broker that can be closed."""

    def __init__(self, nats: NatsServer, switch: Switch, proxy: Proxy) -> None:
        self.nats, self.switch, self.proxy = nats, switch, proxy

    async def does(self, *lines: str) -> None:
        """Have FreeSWITCH do this, without NATS."""

        def work() -> None:
            with contextlib.closing(EventSocket(self.switch.port, self.switch.password)) as bare:
                for line in lines:
                    bare.api(line)

        await asyncio.to_thread(work)


@pytest.fixture
def house(own_nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent]) -> Iterator[House]:
    start_agent(own_nats, switch, node_id="s-1")
    with Proxy(own_nats.port) as proxy:
        yield House(own_nats, switch, proxy)


@contextlib.asynccontextmanager
async def cut(house: House, fs: ea.Client) -> AsyncIterator[None]:
    """The client is cut off; the agent is not."""
    house.proxy.refusing = True
    house.proxy.cut()
    await eventually(lambda: not fs.connected, "the link is lost")
    yield
    house.proxy.refusing = False
    await eventually(lambda: fs.connected, "there is a link again")


@contextlib.asynccontextmanager
async def killed(house: House, fs: ea.Client) -> AsyncIterator[None]:
    """The broker is: nobody has a link."""
    await asyncio.to_thread(house.nats.kill)
    await eventually(lambda: not fs.connected, "the link is lost")
    yield
    await asyncio.to_thread(house.nats.start)
    await eventually(lambda: fs.connected, "there is a link again")


@contextlib.asynccontextmanager
async def frozen(house: House, fs: ea.Client) -> AsyncIterator[None]:
    """The broker takes nothing and says nothing."""
    house.nats.signal(signal.SIGSTOP)
    await eventually(lambda: not fs.connected, "the link is given up")
    yield
    house.nats.signal(signal.SIGCONT)
    await eventually(lambda: fs.connected, "there is a link again")


Fault = Callable[[House, ea.Client], contextlib.AbstractAsyncContextManager[None]]
FAULTS: list[Fault] = [cut, killed, *([frozen] if SCALE > 1 else [])]


class Waits:
    """One call for each kind of wait, and the wait."""

    async def begin(self, fs: ea.Client) -> Waits:
        self.calls = [await fs.dial(PARK) for _ in range(4)]
        play, digits, ended, heard = self.calls
        self.play = asyncio.create_task(play.play(LONG))
        self.digits = asyncio.create_task(digits.digits(4, prompt="silence_stream://100", timeout=60))
        self.ended = asyncio.create_task(ended.ended())
        self.heard = asyncio.create_task(heard.wait_for("CHANNEL_EXECUTE_COMPLETE"))
        await asyncio.gather(dialled(play, "playback"), dialled(digits, "play_and_get_digits"))
        return self

    @property
    def happen(self) -> list[str]:
        """What ends them, the last one excepted."""
        play, digits, ended, _ = (each.uuid for each in self.calls)
        return [f"uuid_break {play} all", f"uuid_recv_dtmf {digits} 1234", f"uuid_kill {ended} USER_BUSY"]

    async def over(self, house: House, cause: str) -> None:
        async with asyncio.timeout(LIMIT):
            await self.play
            assert await self.digits == "1234"
            assert (await self.ended).cause in (cause, "USER_BUSY")
            while not self.heard.done():  # one that was fired before the call was watched again is not seen
                await house.does(f"uuid_broadcast {self.calls[3].uuid} silence_stream://10 aleg")
                await asyncio.wait({self.heard}, timeout=0.5)
            assert isinstance(event := await self.heard, ea.ChannelExecuteComplete) and event.application == "playback"
            for each in self.calls:
                await each.hangup()


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_waits_outlast_a_lost_link(house: House, fault: Fault) -> None:
    async def work() -> None:
        async with ea.connect(house.proxy.url, ping_interval=0.5) as fs:
            later, meanwhile = await Waits().begin(fs), await Waits().begin(fs)
            found: list[ea.Event | ea.Gap] = []

            async def follow() -> None:
                async for event in later.calls[0].events():
                    found.append(event)

            following = asyncio.create_task(follow())
            async with fault(house, fs):
                await house.does(*meanwhile.happen)
            await eventually(lambda: any(isinstance(each, ea.Gap) for each in found), "a gap")
            gap = next(each for each in found if isinstance(each, ea.Gap))
            assert gap.reason == "link lost" and gap.since and gap.until and gap.since <= gap.until
            await meanwhile.over(house, "unknown")
            await house.does(*later.happen)
            await later.over(house, "USER_BUSY")
            async with asyncio.timeout(LIMIT):
                await following  # it ends with the call

    run(work())


def test_calls_that_are_younger_than_the_list_of_an_announcement(house: House) -> None:
    """AGENT_CONNECTED has a list that was made before the calls were: they go on, and so do their applications."""
    announced = {"event_name": "AGENT_CONNECTED", "node_id": "s-1", "headers": {}, "channels": [], "timestamp": 1}

    async def work() -> None:
        async with ea.connect(house.nats.url) as fs:
            waits = await Waits().begin(fs)
            await say(house.nats.url, "freeswitch.events.agent.connected", json.dumps(announced).encode())
            await asyncio.sleep(3.0)  # nothing happens to them
            assert all(each.up for each in waits.calls)
            assert not any(each.done() for each in (waits.play, waits.digits, waits.ended, waits.heard))
            await house.does(*waits.happen)
            await waits.over(house, "USER_BUSY")

    run(work())


def test_a_link_that_does_not_come_back_ends_them(house: House) -> None:
    async def work() -> None:
        async with ea.connect(house.proxy.url, away=0.5) as fs:
            waits = await Waits().begin(fs)
            house.proxy.refusing = True
            house.proxy.cut()
            for each in (waits.play, waits.digits, waits.ended, waits.heard):
                with pytest.raises(ea.LinkError) as lost:
                    async with asyncio.timeout(LIMIT):
                        await each
                assert lost.value.executed == "unknown"
            with pytest.raises(ea.LinkError) as unsent:
                async with asyncio.timeout(LIMIT):
                    await waits.calls[0].play("silence_stream://10")
            assert unsent.value.executed == "no"
            house.proxy.refusing = False
            await eventually(lambda: fs.connected, "there is a link again")
            for call in waits.calls:
                await call.hangup()
            waits = await Waits().begin(fs)
        for each in (waits.play, waits.digits, waits.ended, waits.heard):  # and so does closing the client
            with pytest.raises(ea.LinkError):
                async with asyncio.timeout(LIMIT):
                    await each
        await house.does(*(f"uuid_kill {call.uuid}" for call in waits.calls))

    run(work())


@needs_freeswitch
def test_a_recording_and_a_bridge_outlast_it(house: House, tmp_path: Path) -> None:
    """What the simulator has not: sound, and an endpoint that answers a bridge."""
    async def work() -> None:
        async with ea.connect(house.proxy.url) as fs:
            recorded, joined, refused = [await fs.dial(PARK) for _ in range(3)]
            path = tmp_path / "message.wav"
            far = await recorded.get("other_loopback_leg_uuid")
            await fs.api(f"uuid_broadcast {far} tone_stream://%(60000,0,800) aleg")
            recording = asyncio.create_task(recorded.record(str(path), limit=1))
            bridge = asyncio.create_task(joined.bridge("loopback/9/default", ring=30))
            other = asyncio.create_task(refused.bridge("error/user_busy", ring=30))
            begun = ((recorded, "record"), (joined, "bridge"), (refused, "bridge"))
            await asyncio.gather(*(dialled(each, app) for each, app in begun))
            async with cut(house, fs):
                await asyncio.sleep(2.0)  # the recording ends, and they are connected
            async with asyncio.timeout(LIMIT):
                found = await recording
                assert found.path == str(path) and found.seconds > 0
                leg = await bridge
                assert leg.up and leg.bridged_to == joined.uuid
                with pytest.raises(ea.Busy):
                    await other
            for each in (recorded, joined, refused):
                await each.hangup()

    run(work())


@pytest.mark.parametrize("outcome", ["", "USER_BUSY"])
def test_a_bridge_that_is_decided_meanwhile(nats: NatsServer, outcome: str) -> None:
    """The same for a bridge, by an agent that is none."""
    async def work() -> None:
        with Proxy(nats.port) as proxy:
            async with FakeAgent(nats.url) as agent, ea.connect(proxy.url) as fs:
                agent.rings["user/1000"] = 1.0
                if outcome:
                    agent.outcome("user/1000", outcome)
                call = await fs.dial("user/2000")
                bridge = asyncio.create_task(call.bridge("user/1000", ring=20))
                await dialled(call, "bridge")
                proxy.refusing = True
                proxy.cut()
                await eventually(lambda: not fs.connected, "the link is lost")
                decided = {"bridge_uuid", "originate_failed_cause"}
                await eventually(lambda: decided & set(agent.calls[call.uuid].variables), "it is decided")
                proxy.refusing = False
                async with asyncio.timeout(LIMIT):
                    if outcome:
                        with pytest.raises(ea.Busy):
                            await bridge
                    else:
                        assert (await bridge).bridged_to == call.uuid
                await call.hangup()

    run(work())


def test_a_call_that_ends_while_it_is_hung_up(nats: NatsServer) -> None:
    """Its end comes before the answer to whether it is still there: there is nothing more to do."""
    async def work() -> None:
        async with FakeAgent(nats.url) as agent, ea.connect(nats.url) as fs:
            call = await fs.dial("user/2000")

            def ends(request: dict[str, Any]) -> dict[str, Any]:
                agent.calls[call.uuid].hang_up("USER_BUSY")
                return {"data": "true"}

            agent.on("hangup", lambda request: {"success": False, "message": "-ERR No such channel!"})
            agent.on("uuid_exists", ends)
            await call.hangup()
            assert (await call.ended()).cause == "USER_BUSY"

    run(work())


def test_a_call_is_taken_while_the_link_is_lost(nats: NatsServer) -> None:
    """The first request for a call has left, and its reply is lost with the link."""
    async def work() -> None:
        with Proxy(nats.port) as proxy:
            async with FakeAgent(nats.url) as agent, ea.connect(nats.url) as maker, ea.connect(proxy.url) as fs:
                there = await maker.dial("user/2000")
                lost: list[str] = []

                def loses(request: dict[str, Any]) -> None:
                    lost.append(request["uuid"])
                    proxy.cut()
                    agent.on("call.watch", None)

                agent.on("call.watch", loses)
                call = await fs.take(there.uuid)
                assert lost == [there.uuid] and call.up
                await there.hangup("USER_BUSY")
                assert (await call.ended()).cause == "USER_BUSY"

    run(work())
