"""A queue with agents: callers wait with music, the one who waits longest gets the next agent who is free.

    python3 call_queue.py --context public --number '^4930' user/1000 user/1001

Park mode must be set up on the nodes (docs/DIALPLAN.md). An agent who does not answer, or is busy, is left alone for
--rest seconds, and the caller keeps the first place. After a talk an agent has --wrap-up seconds. One process has a
queue: a second one would not know which agents are free. Callers outlast it: when it is started again it goes on with
those who wait.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import Awaitable
from contextlib import suppress
from typing import Any

import event_agent_client as ea

EMERGENCY = ["112", "911"]  # never taken
MARK = "call_queue"  # the channel variable that names the queue of those who wait
TALKED = "talked"  # its value for others
LOST = 8  # times in a row that nobody knows of a call, some 15 seconds each, until it is given up


async def first(*works: Awaitable[Any]) -> None:
    """Until one of them is done; the others are cancelled. Raises what that one raises."""
    tasks = [asyncio.ensure_future(each) for each in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def over(call: ea.Call) -> None:
    """Until the call has ended. A lost link, or an agent that is restarted, ends no call."""
    lost = 0
    while call.up and lost < LOST:
        try:
            await call.ended()
        except ea.NoAgent:
            lost += 1
        except ea.AgentError:
            await asyncio.sleep(0.5)


class Caller:
    """Somebody who waits, or talks."""

    def __init__(self, call: ea.Call) -> None:
        self.call = call
        self.since = time.monotonic()
        self.talks = False
        self.done = asyncio.Event()  # has talked
        self.gone = asyncio.Event()  # has hung up, or has talked


class Queue:
    """Who waits. Each agent is a task that takes the first of them, again and again."""

    def __init__(self, fs: ea.Client, given: argparse.Namespace) -> None:
        self._fs, self._given = fs, given
        self._waiting: deque[Caller] = deque()
        self._known: set[str] = set()
        self._more = asyncio.Condition()

    async def wait(self, call: ea.Call) -> None:
        """A caller's time here: returns when they have talked, or the caller has hung up."""
        self._known.add(call.uuid)
        caller = Caller(call)
        try:
            await call.set(**{MARK: self._given.name})
            await self._enter(caller, len(self._waiting))
            say(call, f"waits, {len(self._waiting)} in the queue")
            await first(over(call), caller.done.wait())
        finally:
            caller.gone.set()
            self._known.discard(call.uuid)
            with suppress(ValueError):
                self._waiting.remove(caller)
            say(call, "has talked" if caller.talks else "is gone")

    async def _enter(self, caller: Caller, place: int) -> None:
        async with self._more:
            self._waiting.insert(place, caller)
            self._more.notify()

    async def serve(self, agent: str) -> None:
        """An agent's day."""
        me = asyncio.current_task()
        assert me is not None
        while True:
            async with self._more:
                await self._more.wait_for(lambda: self._waiting)
                caller = self._waiting.popleft()
            place = 0
            talk = asyncio.create_task(self._talk(agent, caller))
            try:
                await first(asyncio.shield(talk), caller.gone.wait())
                if not caller.talks:
                    talk.cancel()  # the caller has hung up while the agent's telephone rings
                await talk
            except asyncio.CancelledError:
                talk.cancel()
                if me.cancelling():  # it is not only the talk that ends
                    raise
            except (ea.CallFailed, ea.Hangup) as error:
                print(agent, error.cause, flush=True)
            except ea.AgentError as error:  # NATS, the node or its agent is away: that may be the caller's node only
                print(agent, f"{type(error).__name__}: {error}", flush=True)
                place = len(self._waiting)
            if not caller.talks and not caller.gone.is_set():
                await self._enter(caller, place)
            await asyncio.sleep(self._given.wrap_up if caller.talks else self._given.rest)

    async def _talk(self, agent: str, caller: Caller) -> None:
        """Ring the agent, on the caller's node, and hand the caller over."""
        call = caller.call
        dial = self._fs.dial(agent, ring=self._given.ring, caller_id=("Queue", call.caller_number), node=call.node)
        async with dial as other:
            await call.bridge(other)
            caller.talks = True
            say(call, f"talks to {agent} after {time.monotonic() - caller.since:.0f} s")
            with suppress(ea.AgentError):  # they end together, also without this program
                await call.set(park_after_bridge=False, hangup_after_bridge=True, **{MARK: TALKED})
                await other.set(park_after_bridge=False, hangup_after_bridge=True)
            await first(over(other), caller.gone.wait())
            caller.done.set()

    async def take_up(self) -> None:
        """Callers who are left of an earlier life, now and then."""
        tasks: set[asyncio.Task[None]] = set()
        while True:
            with suppress(ea.AgentError):
                for reply in await self._fs.gather("dialplan.status", calls=True):
                    found = reply.data.get("calls") if reply.ok and isinstance(reply.data, dict) else None
                    for uuid in found or ():
                        if uuid not in self._known:
                            task = asyncio.create_task(self._left(uuid, reply.node))
                            tasks.add(task)
                            task.add_done_callback(tasks.discard)
            await asyncio.sleep(self._given.look)

    async def _left(self, uuid: str, node: str) -> None:
        try:
            call = await self._fs.take(uuid, node)
            if await call.get(MARK) == self._given.name and uuid not in self._known:
                await self.wait(call)
                await call.hangup()
        except ea.AgentError as error:
            print(uuid, f"{type(error).__name__}: {error}", flush=True)


def say(call: ea.Call, text: str) -> None:
    # !r: what a caller puts into a number must not reach the terminal as it is.
    print(call.uuid, repr(call.caller_number), text, flush=True)


async def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("agents", nargs="+", metavar="AGENT", help="an endpoint, such as user/1000")
    options.add_argument("--context", default="public")
    options.add_argument("--number", default="", help="a regular expression; without it all numbers")
    options.add_argument("--name", default="queue", help="of the queue, if there are several")
    options.add_argument("--music", default="", help="a class of music (local_stream)")
    options.add_argument("--ring", type=float, default=20.0, help="seconds for which an agent's telephone rings")
    options.add_argument("--rest", type=float, default=20.0, help="seconds until one who did not answer is rung again")
    options.add_argument("--wrap-up", type=float, default=10.0, help="seconds between two talks")
    options.add_argument("--look", type=float, default=10.0, help="seconds between two looks for callers left behind")
    given = options.parse_args()
    async with ea.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        queue = Queue(fs, given)
        fs.incoming(
            context=given.context, number=given.number, audio="music", music=given.music, answer=True,
            exceptions=EMERGENCY, group=given.name,
        )(queue.wait)  # fmt: skip
        print(f"{len(given.agents)} agents for calls in {given.context}", flush=True)
        me = asyncio.current_task()
        assert me is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, me.cancel)
        await first(fs.forever(), queue.take_up(), *(queue.serve(each) for each in given.agents))


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
