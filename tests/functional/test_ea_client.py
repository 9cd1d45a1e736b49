"""The client for programs, event_agent_client, against the agent: requests, calls, events, and links that are lost."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import event_agent_client as ea
from tests.functional.conftest import running
from tests.functional.park_parts import needs_freeswitch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim, XmlCurl

PARK = "loopback/park/default"
LIMIT = 30.0  # seconds for what should take next to none


def run(work: Coroutine[Any, Any, Any], limit: float = 90.0) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(limit):
            return await work

    return asyncio.run(limited())


async def eventually(value: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(LIMIT):
        while not value():
            await asyncio.sleep(0.01)
    assert value(), what


# -- requests


def test_requests(agent: Agent, nats: NatsServer) -> None:
    async def work() -> None:
        async with ea.connect(nats.url) as fs:
            assert "FreeSWITCH Version" in await fs.api("version")
            reply = await fs.request("show", "channels count", correlation_id=7)
            assert reply.ok and reply.node == "FS-Node-01" and reply["correlation_id"] == 7
            assert (await fs.node("fs_node_01").status()).data["version"]
            assert [each.node for each in await fs.nodes()] == ["FS-Node-01"]
            assert [each.ok for each in await fs.all.api("version")] == [True]
            with pytest.raises(ea.Refused) as refused:
                await fs.request("hangup", uuid="x")
            assert refused.value.executed == "no" and refused.value.field == "uuid"
            with pytest.raises(ea.Refused) as refused:
                await fs.dial("loopback/park/default", variables={"a": "${b}"})
            assert refused.value.field == "variables"
            with pytest.raises(ea.CommandFailed) as failed:
                await fs.api("uuid_kill no-such-channel")
            assert not isinstance(failed.value, ea.Refused) and failed.value.reply["data"].startswith("-ERR")
            with pytest.raises(ea.NoAgent):
                await fs.node("nobody").status()
            with pytest.raises(TypeError, match="ring="):
                await fs.request("originate", endpoint=PARK, destination="&park", timeout=20)
            assert (await fs.request("version", fields={"varibles": 1})).warnings
            replies = await asyncio.gather(*(fs.request("echo", str(number)) for number in range(500)))
            assert [each.data for each in replies] == [str(number) for number in range(500)]
            await fs.send("version")
            with pytest.raises(ea.NoReply):
                await fs.request("msleep", "1500", wait=0.3)

    run(work())


def test_without_a_server(agent: Agent) -> None:
    async def work() -> None:
        with pytest.raises(ea.LinkError) as lost:
            await ea.connect(f"nats://127.0.0.1:{free_port()}", connect_wait=0.5)
        assert lost.value.executed == "no"

    run(work())


@pytest.mark.parametrize("url", ["http://a:1", "nats://", "nats://a:x", "tls://"])
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ea.ConfigError, match="url"):
        ea.connect(url)


# -- calls


def test_a_call_from_dial_to_end(agent: Agent, nats: NatsServer) -> None:
    async def work() -> None:
        async with ea.connect(nats.url) as fs:
            async with fs.dial(PARK, ring=20, caller_id=("Shop", "555"), variables={"ticket": "4711, urgent"}) as call:
                assert call.up and call.answered and call.node == "FS-Node-01" and call.destination == "park"
                assert await call.get("origination_caller_id_number") == "555"
                assert await call.get("ticket") == "4711, urgent" and await call.get("nothing") is None
                await call.set(stage="two words", retries=3, paid=True)
                assert [await call.get(name) for name in ("stage", "retries", "paid")] == ["two words", "3", "true"]
                await call.play("silence_stream://100")
                with pytest.raises(ea.Refused):
                    await call.execute("no_such_app")
                reply = await call.execute("playback", "silence_stream://50", result="current_application")
                assert reply.data["variables"] == {"current_application": "playback"}
            end = await call.ended()
            assert end.cause == "NORMAL_CLEARING" and end.duration is not None and end.billsec is not None
            with pytest.raises(ea.Hangup):
                await call.play("silence_stream://100")
            await call.hangup()  # nothing happens
            await eventually(lambda: not fs._calls and not fs._places, "nothing is kept of it")
            with pytest.raises(ea.Hangup):
                await fs.take(call.uuid)
            assert not fs._pending

    run(work())


def test_digits(agent: Agent, nats: NatsServer) -> None:
    async def work() -> None:
        async with ea.connect(nats.url) as fs, fs.dial(PARK) as call:
            asked = asyncio.create_task(call.digits(4, prompt="silence_stream://200", timeout=20))
            await dialled(call, "play_and_get_digits")
            await fs.api(f"uuid_recv_dtmf {call.uuid} 1234")
            assert await asked == "1234"
            asked = asyncio.create_task(call.digits(1, 6, timeout=20, end="#"))
            await dialled(call, "play_and_get_digits")
            await fs.api(f"uuid_recv_dtmf {call.uuid} 12#")
            assert await asked == "12"
            with pytest.raises(ea.NoInput):
                await call.digits(4, timeout=0.3)

    run(work())


async def dialled(call: ea.Call, application: str) -> None:
    """Wait until it runs."""
    async with asyncio.timeout(LIMIT):
        async for event in call.events():
            if isinstance(event, ea.Gap):
                continue
            if event.name == "CHANNEL_EXECUTE" and event.header("Application") == application:
                return
    raise AssertionError(f"the call has ended without {application}")


@pytest.mark.parametrize("what", ["play", "digits", "wait_for", "ended", "sleep", "events"])
def test_a_hang_up_ends_every_wait(what: str, agent: Agent, nats: NatsServer, client: Client) -> None:
    async def work() -> None:
        async with ea.connect(nats.url) as fs:
            call = await fs.dial(PARK)

            async def events() -> list[str]:
                return [event.name async for event in call.events() if not isinstance(event, ea.Gap)]

            waits: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "play": lambda: call.play("silence_stream://60000"),
                "digits": lambda: call.digits(4, timeout=60),
                "wait_for": lambda: call.wait_for("DTMF"),
                "ended": call.ended,
                "sleep": lambda: call.sleep(60),
                "events": events,
            }
            waiting = asyncio.create_task(waits[what]())
            await asyncio.sleep(0.3)  # under way, most likely; if not, the outcome is the same
            assert (await fs.api(f"uuid_kill {call.uuid} CALL_REJECTED")).startswith("+OK")
            if what == "ended":
                assert (await waiting).cause == "CALL_REJECTED"
            elif what == "events":
                assert "CHANNEL_HANGUP" in await waiting
            else:
                with pytest.raises(ea.Hangup) as hangup:
                    await waiting
                assert hangup.value.cause == "CALL_REJECTED"

    run(work())


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [("loopback/ring/default", ea.NoAnswer), ("user/nobody@nowhere", ea.NotRegistered), ("error/user_busy", ea.Busy)],
)
def test_a_call_that_fails(
    endpoint: str, kind: type[ea.CallFailed], agent: Agent, nats: NatsServer, real: bool
) -> None:
    async def work() -> None:
        async with ea.connect(nats.url) as fs:
            with pytest.raises(ea.CallFailed) as failed:
                await fs.dial(endpoint, ring=1)
            assert isinstance(failed.value, kind) or not real, failed.value.cause
            assert not fs._calls

    run(work())


def test_two_calls_are_connected(agent: Agent, nats: NatsServer) -> None:
    async def work() -> None:
        async with ea.connect(nats.url) as fs, fs.dial(PARK) as one, fs.dial(PARK) as other:
            assert await one.bridge(other) is other
            await eventually(lambda: one.bridged_to == other.uuid, "they are connected")
            await eventually(lambda: other.bridged_to == one.uuid, "both know")
            await one.hangup()
            await eventually(lambda: other.bridged_to == "", "one of them is gone")

    run(work())


@pytest.mark.parametrize("first", [True, False], ids=["calling", "called"])
def test_a_leg_that_is_connected_to_one_that_nobody_here_has(agent: Agent, nats: NatsServer, first: bool) -> None:
    async def work() -> None:
        async with ea.connect(nats.url) as maker, ea.connect(nats.url) as fs:
            async with maker.dial(PARK) as one, maker.dial(PARK) as other:
                await one.bridge(other)
                ours, theirs = (one, other) if first else (other, one)
                for leg in (one, other):  # it is set right after the event
                    while await leg.get("bridge_to") is None:
                        await asyncio.sleep(0.01)
                taken = await fs.take(ours.uuid)
                assert taken.bridged_to == theirs.uuid
                assert (await fs.take(theirs.uuid)).bridged_to == ours.uuid
                await theirs.hangup()
                await eventually(lambda: taken.bridged_to == "", "it is connected to nobody")
                alone = await maker.dial(PARK)
                assert (await fs.take(alone.uuid)).bridged_to == ""
                await alone.hangup()

    run(work())


def test_a_called_leg_that_somebody_else_connects(agent: Agent, nats: NatsServer) -> None:
    """FreeSWITCH tells it of the calling leg only, of which nobody here has heard."""

    async def work() -> None:
        async with ea.connect(nats.url) as maker, ea.connect(nats.url) as fs:
            async with maker.dial(PARK) as one, maker.dial(PARK) as other, maker.dial(PARK) as third:
                called = await fs.take(other.uuid)
                assert called.bridged_to == ""
                await maker.api(f"uuid_bridge {one.uuid} {other.uuid}")
                await eventually(lambda: called.bridged_to == one.uuid, "it knows to whom")
                await maker.api(f"uuid_transfer {one.uuid} -both park inline")
                await eventually(lambda: called.bridged_to == "", "they were parted")
                await maker.api(f"uuid_bridge {one.uuid} {other.uuid}")
                await eventually(lambda: called.bridged_to == one.uuid, "it knows it again")
                await maker.api(f"uuid_bridge {third.uuid} {other.uuid}")
                await eventually(lambda: called.bridged_to == third.uuid, "it knows of the next one")
                await other.hangup()
                await eventually(lambda: called.bridged_to == "", "it has ended")

    run(work())


def test_a_called_leg_that_somebody_else_connects_in_threads(agent: Agent, nats: NatsServer) -> None:
    with ea.sync.connect(nats.url) as maker, ea.sync.connect(nats.url) as fs:
        with maker.dial(PARK) as one, maker.dial(PARK) as other:
            called = fs.take(other.uuid)
            one.execute("intercept", other.uuid, wait=0)
            until(lambda: called.bridged_to, "it knows to whom", holds=lambda uuid: uuid == one.uuid)


@needs_freeswitch
def test_a_bridge_to_an_endpoint_and_a_recording(agent: Agent, nats: NatsServer, tmp_path: Path) -> None:
    """What the simulator has not: an endpoint that answers a bridge, and sound."""
    async def work() -> None:
        async with ea.connect(nats.url) as fs, fs.dial(PARK) as call:
            other = await call.bridge("loopback/9/default", ring=10, caller_id=("Shop", "555"))
            assert other.up and other.bridged_to == call.uuid and call.bridged_to == other.uuid
            await other.hangup("NORMAL_CLEARING")
            await eventually(lambda: call.bridged_to == "", "the bridge has ended")
            assert call.up
            with pytest.raises(ea.Busy):
                await call.bridge("error/user_busy", ring=10)
            path = tmp_path / "message.wav"
            far = await call.get("other_loopback_leg_uuid")  # what is silent there is not recorded
            await fs.api(f"uuid_broadcast {far} tone_stream://%(10000,0,800) aleg")
            recording = await call.record(str(path), limit=1)
            assert recording.path == str(path) and recording.seconds > 0 and path.stat().st_size > 1000

    run(work())


def test_threads_have_the_same(agent: Agent, nats: NatsServer) -> None:
    with ea.sync.connect(nats.url) as fs:
        assert "FreeSWITCH Version" in fs.api("version")
        with fs.events("CHANNEL_ANSWER", node="fs-node-01") as events, fs.dial(PARK, ring=20) as call:
            event = events.next(LIMIT)
            assert isinstance(event, ea.ChannelAnswer)
            call.play("silence_stream://100")
            killer = threading.Timer(0.5, lambda: fs.api(f"uuid_kill {call.uuid} USER_BUSY"))
            killer.start()
            with pytest.raises(ea.Hangup) as hangup:
                call.play("silence_stream://60000")
            killer.join()
            assert hangup.value.cause == "USER_BUSY" and call.ended().cause == "USER_BUSY"
    with pytest.raises(ea.LinkError):
        fs.api("version")



# -- incoming calls


@pytest.fixture(scope="module")
def curl() -> XmlCurl:
    return XmlCurl(free_port())


@pytest.fixture(scope="module")
def parking(real: bool, curl: XmlCurl) -> Iterator[RealSwitch | SwitchSim]:
    """A switch that asks the agent for its dialplan."""
    url = f"http://127.0.0.1:{curl.port}/dialplan"
    with RealSwitch(dialplan_url=url) if real else SwitchSim(dialplan_hook=curl) as found:
        yield found


@pytest.fixture(scope="module")
def parker(parking: RealSwitch | SwitchSim, curl: XmlCurl, nats: NatsServer) -> Iterator[Agent]:
    """An agent with a prefix of its own, whose park mode can be used."""
    with running(
        nats, parking, http_listen=f"127.0.0.1:{curl.port}", subject_prefix="parks", exclude="API", node_id="p-1"
    ) as agent:
        yield agent


async def parks(fs: ea.Client, number: str) -> None:
    """Wait until calls to these numbers are parked."""
    async with asyncio.timeout(LIMIT):
        while number not in (await fs.request("dialplan.status")).data["number"]:
            await asyncio.sleep(0.02)


def test_incoming_calls_are_shared(parker: Agent, nats: NatsServer) -> None:
    taken: list[tuple[str, str]] = []
    ends: list[str] = []
    served: set[str] = set()

    async def worker(name: str, fs: ea.Client) -> None:
        @fs.incoming(context="default", number="^70", audio="silence")
        async def ivr(call: ea.Call) -> None:
            taken.append((name, call.destination))
            await call.answer()
            pin = await call.digits(4, timeout=20)
            await call.set(pin=pin)
            await call.hangup("CALL_REJECTED" if pin != "1234" else "NORMAL_CLEARING")
            ends.append((await call.ended()).cause)

    async def work() -> None:
        async with ea.connect(nats.url, prefix="parks") as one, ea.connect(nats.url, prefix="parks") as two:
            await worker("one", one)
            await worker("two", two)
            await parks(one, "^70")
            async with one.events("CHANNEL_EXECUTE", "DTMF") as events:
                for number in range(8):
                    await one.api(f"bgapi originate loopback/70{number}/default &park()")
                async with asyncio.timeout(LIMIT):
                    async for event in events:
                        if not isinstance(event, ea.Gap) and event.header("Application") == "play_and_get_digits":
                            await one.api(f"uuid_recv_dtmf {event.uuid} 1234")
                            served.add(event.uuid)
                            if len(served) == 8:
                                break
            await eventually(lambda: len(ends) == 8, "all have ended")
            assert sorted(number for _, number in taken) == [f"70{number}" for number in range(8)]
            assert set(ends) == {"NORMAL_CLEARING"}

    run(work())


def test_a_handler_leaves_no_call_behind(parker: Agent, nats: NatsServer) -> None:
    calls: list[ea.Call] = []

    async def work() -> None:
        async with ea.connect(nats.url, prefix="parks") as fs:
            @fs.incoming(context="default", number="^71$")
            async def ends(call: ea.Call) -> None:
                calls.append(call)

            @fs.incoming(context="default", number="^72$")
            async def fails(call: ea.Call) -> None:
                calls.append(call)
                raise ValueError("on purpose")

            @fs.incoming(context="default", number="^73$")
            async def sends_on(call: ea.Call) -> None:
                calls.append(call)
                await call.transfer("park")

            await parks(fs, "^73$")
            for number in ("71", "72", "73"):
                await fs.api(f"bgapi originate loopback/{number}/default &park()")
            await eventually(lambda: len(calls) == 3, "all are taken")
            for call in calls:
                if call.destination in ("71", "72"):
                    assert (await call.ended(LIMIT)).cause == "NORMAL_CLEARING"
            sent = next(call for call in calls if call.up)
            await eventually(lambda: sent.answered, "the dialplan has it")
            assert sent.up
            await sent.hangup()

    run(work())


def test_incoming_calls_on_threads(parker: Agent, nats: NatsServer) -> None:
    done = threading.Event()
    with ea.sync.connect(nats.url, prefix="parks") as fs:
        @fs.incoming(context="default", number="^75")
        def ivr(call: ea.sync.Call) -> None:
            call.answer()
            call.play("silence_stream://50")
            call.hangup()
            done.set()

        until(lambda: fs.request("dialplan.status").data["number"] == "^75", "park mode", LIMIT)
        fs.api("bgapi originate loopback/75/default &park()")
        assert done.wait(LIMIT)


def test_incoming_calls_of_which_nobody_would_hear(
    nats: NatsServer, parking: RealSwitch | SwitchSim, start_agent: Callable[..., Agent]
) -> None:
    port = free_port()
    start_agent(nats, parking, http_listen=f"127.0.0.1:{port}", subject_prefix="deaf", exclude="API,CHANNEL_PARK")

    async def work() -> None:
        async with ea.connect(nats.url, prefix="deaf") as fs:
            fs.incoming(context="default", number="^77")(lambda call: call.hangup())
            with pytest.raises(ea.Refused, match="exclude has CHANNEL_PARK") as refused:
                async with asyncio.timeout(LIMIT):
                    await fs.forever()
            assert refused.value.field == "events"

    run(work())


# -- events


def test_what_is_not_published_is_refused(parker: Agent, nats: NatsServer) -> None:
    async def work() -> None:
        async with ea.connect(nats.url, prefix="parks") as fs:
            with pytest.raises(ea.Refused, match="p-1: exclude has API"):
                await fs.events("CHANNEL_ANSWER", "API").begin()
            with pytest.raises(ea.Refused, match="several events"):
                fs.events("CHANNEL_ANSWER,DTMF")
            async with fs.events("CHANNEL_ANSWER", "DTMF"):
                pass

    run(work())


# -- routing


def test_a_router_decides(parker: Agent, nats: NatsServer) -> None:
    asked: list[str] = []

    async def work() -> None:
        async with ea.connect(nats.url, prefix="parks") as fs:
            @fs.route(context="default", number="^8", timeout=3)
            async def router(call: ea.RouteRequest) -> dict[str, Any]:
                asked.append(call.destination)
                if call.destination == "81":
                    return call.hangup("USER_BUSY")
                if call.destination == "82":
                    raise ValueError("on purpose")
                return call.transfer("park", context="default")

            async with asyncio.timeout(LIMIT):
                while not (await fs.request("dialplan.status")).data["route"]["enabled"]:
                    await asyncio.sleep(0.02)
            with pytest.raises(ea.CallFailed):
                await fs.dial("loopback/81/default", ring=5)
            async with fs.dial("loopback/83/default", ring=10) as call:
                assert call.up
            assert asked == ["81", "83"]

    run(work())
