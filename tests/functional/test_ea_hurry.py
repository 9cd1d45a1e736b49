"""The client for programs, used wrong: each ends at once, with an error that says what is wrong."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import pytest

import event_agent_client as ea
from event_agent_client.testing import FakeAgent
from tests.functional.parts import NatsServer
from tests.functional.test_ea_client import run

NAN: Any = math.nan
TEXT: Any = "3"
NONE: Any = None

BEFORE: dict[str, Callable[[ea.Client], Any]] = {
    "api": lambda fs: fs.api("version"),
    "gather": lambda fs: fs.gather("agent.status"),
    "send": lambda fs: fs.send("version"),
    "dial": lambda fs: fs.dial("user/1000"),
    "take": lambda fs: fs.take("a-uuid"),
    "events": lambda fs: fs.events("CHANNEL_ANSWER").next(),
    "live": lambda fs: fs.live(),
    "forever": lambda fs: fs.forever(),
}  # fmt: skip


@pytest.mark.parametrize("name", BEFORE)
def test_before_it_is_connected(name: str, nats: NatsServer) -> None:
    async def work() -> None:
        with pytest.raises(ea.ConfigError, match="not connected"):
            await BEFORE[name](ea.connect(nats.url, prefix="hurry"))

    run(work())


def test_after_it_is_closed(nats: NatsServer) -> None:
    async def work() -> None:
        fs = await ea.connect(nats.url, prefix="hurry")
        waiting = asyncio.create_task(fs.forever())
        await asyncio.sleep(0)  # for no time: so that it waits when the client is closed
        await fs.close()
        await fs.close()
        with pytest.raises(ea.LinkError, match="closed"):
            await waiting
        for each in (fs.forever, lambda: fs.api("version"), lambda: fs.events("CHANNEL_ANSWER").next()):
            with pytest.raises(ea.LinkError, match="closed"):
                await each()
        for decorate in (fs.incoming, fs.route):
            with pytest.raises(ea.LinkError, match="closed"):
                decorate()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(work())


WRONG: dict[str, Callable[[ea.Client, ea.Call], Any]] = {
    "api": lambda fs, call: fs.api("version", wait=NAN),
    "api text": lambda fs, call: fs.api("version", wait=TEXT),
    "api nothing": lambda fs, call: fs.api(NONE),
    "all": lambda fs, call: fs.all.api(NONE),
    "gather": lambda fs, call: fs.gather("agent.status", wait=NAN),
    "settle": lambda fs, call: fs.gather("agent.status", settle=NAN),
    "nodes": lambda fs, call: fs.nodes(wait=TEXT),
    "dial": lambda fs, call: fs.dial("user/1000", wait=NAN),
    "take": lambda fs, call: fs.take(NONE),
    "events": lambda fs, call: fs.events("CHANNEL_ANSWER").next(wait=NAN),
    "ended": lambda fs, call: call.ended(wait=NAN),
    "wait_for": lambda fs, call: call.wait_for("DTMF", wait=TEXT),
    "play": lambda fs, call: call.play("a.wav", wait=NAN),
    "request": lambda fs, call: call.request("uuid_dump", call.uuid, wait=NAN),
    "sleep": lambda fs, call: call.sleep(NAN),
    "digits": lambda fs, call: call.digits(1, timeout=NAN),
    "between": lambda fs, call: call.digits(1, between=TEXT),
    "bridge": lambda fs, call: call.bridge("user/1000", wait=NAN),
    "ring": lambda fs, call: call.bridge("user/1000", ring=TEXT),
    "to": lambda fs, call: call.bridge(NONE),
}  # fmt: skip


def test_what_makes_no_sense_is_refused_and_harms_nothing(nats: NatsServer) -> None:
    async def work() -> None:
        faults: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: faults.append(context))
        async with FakeAgent(nats.url, prefix="hurry"), ea.connect(nats.url, prefix="hurry") as fs:
            async with fs.dial("user/1000") as call:
                for name, use in WRONG.items():
                    with pytest.raises(TypeError, match="must be a"):
                        await use(fs, call)
                        pytest.fail(name)
                for to in ("", call):
                    with pytest.raises(ea.Refused, match="to must be"):
                        await call.bridge(to)
                # Timers still fire: one at "not a number" would have kept them from it.
                with pytest.raises(ea.NoReply):
                    await call.wait_for("DTMF", wait=0.01)
                with pytest.raises(ea.NoReply):
                    await call.ended(wait=-1)
                await call.play("a.wav")
        assert not faults

    run(work())


def test_the_same_in_threads(nats: NatsServer) -> None:
    fs = ea.sync.connect(nats.url, prefix="hurry")
    for use in (lambda: fs.api("version", wait=NAN), lambda: fs.api(NONE), lambda: fs.take(NONE)):
        with pytest.raises(TypeError, match="must be a"):
            use()
    fs.close()
    fs.close()
    for each in (fs.forever, lambda: fs.api("version"), lambda: fs.incoming()(print), lambda: fs.dial("user/1000")):
        with pytest.raises(ea.LinkError, match="closed"):
            each()
