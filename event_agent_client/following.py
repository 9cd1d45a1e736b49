"""The calls that a client has: their events, what agents say that concerns them, and whether their agents are there."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from typing import Any, Final

from event_agent_client import core
from event_agent_client._link import Link
from event_agent_client._wire import Message
from event_agent_client.asking import Asking
from event_agent_client.calls import Call
from event_agent_client.core import GATHER, Payload, slug
from event_agent_client.errors import AgentError, NoAgent, NoReply
from event_agent_client.events import AgentConnected, Gap, event_of, gap_of

PARTNER: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2)  # seconds between two questions to whom a leg is connected
LOOK: Final = 5.0  # seconds between two looks at agents of whose calls something is waited for, at most


class Following(Asking):
    """What a client needs to follow calls. Their events come to places of its inbox."""

    def __init__(self, prefix: str, link: Link, away: float, patience: float) -> None:
        super().__init__(prefix, link, away)
        self._patience = patience
        self._look = max(0.2, min(LOOK, patience / 2))
        self._calls: dict[str, Call] = {}
        self._places: dict[str, Call] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._nodes: dict[str, _Node] = {}

    def _spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=f"event-agent-client {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _set_again(self) -> None:
        """An agent is there, perhaps a new one: it may have to be told what was set."""

    def _agent_event(self, message: Message) -> None:
        event = event_of(message.data)
        if event is None:
            return
        if isinstance(event, AgentConnected):
            for call in self._calls_of(event.node):  # each is asked about: one may be younger than the event's list
                self._spawn(call._resume(), "resume")
            self._set_again()
        elif event.name == "AGENT_STOPPING":
            for call in self._calls_of(event.node):
                self._spawn(call._stopped(), "stopping")
        elif event.name == "AGENT_GAP":
            self._missed(gap_of(event))
        elif event.name == "AGENT_CHANNEL_GONE" and (gone := self._calls.get(event.uuid)) is not None:
            gone._state.gone()
            gone._ended()

    def _missed(self, gap: Gap) -> None:
        """Events and replies of this node may be lost."""
        for call in self._calls_of(gap.node):
            for each in call._state.running:
                each.lost = True
            self._spawn(call._resume(gap), "resume")

    def _calls_of(self, node: str) -> list[Call]:
        return [call for call in self._calls.values() if slug(call.node or core.UNNAMED) == slug(node)]

    def _enter(self, call: Call) -> None:
        self._calls[call.uuid] = call
        self._places[call._place] = call

    def _call_event(self, message: Message) -> None:
        call = self._places.get(message.subject[len(self._inbox) + 3 :].split(".", 1)[0])
        event = event_of(message.data)
        if call is not None and event is not None:
            before, called = call.bridged_to, call._state.called
            call._heard(event)
            if call.bridged_to != before:
                self._connected(call.uuid, before, call.bridged_to)
            if call._state.called and not called and call.up:
                self._spawn(self._find_partner(call), "partner")

    def _connected(self, uuid: str, before: str, now: str) -> None:
        """A call is connected to another one than before: FreeSWITCH says so of one of both only."""
        if (left := self._calls.get(before)) is not None and left.bridged_to == uuid:
            left._state.bridged = ""
        if (other := self._calls.get(now)) is not None:
            other._state.bridged = uuid

    async def _find_partner(self, call: Call) -> None:
        """A leg that was called is connected now: to whom, if nobody has heard it of the other one.

        Both have the other's uuid in `bridge_to` as long as they are; it is set after the leg's state has changed.
        """
        state, joins = call._state, call._state.joins
        with suppress(AgentError):
            for pause in PARTNER:
                await asyncio.sleep(pause)
                if state.bridged or state.joins != joins or not state.up:  # what events say is newer
                    return
                uuid = await call.get("bridge_to")
                if uuid is None or await self._bridge_to(uuid, call.node) != call.uuid:
                    continue  # not yet, or what is there is of the connection before
                if not state.bridged and state.joins == joins and state.up:
                    state.bridged = uuid
                    self._connected(call.uuid, "", uuid)
                return

    async def _bridge_to(self, uuid: str, node: str) -> str:
        data = Payload(command="uuid_getvar", args=f"{uuid} bridge_to").data
        return str((await self._ask(self._lane_of(node), data, GATHER)).data or "")

    # -- whether somebody is there

    async def _watch_nodes(self) -> None:
        """Agents of whose calls something is waited for are asked now and then whether they are there, and the same.

        One that was killed can't say so, and its watches and waits end with it.
        """
        while True:
            await asyncio.sleep(self._look * random.uniform(0.8, 1.2))
            names = {call.node for call in self._calls.values() if call._state.waits and call._settled}
            for name in [each for each in self._nodes if each not in names]:
                del self._nodes[name]
            if self._link.up:
                await asyncio.gather(*(self._look_at(name) for name in names))

    async def _look_at(self, name: str) -> None:
        node = self._nodes.setdefault(name, _Node())
        data = Payload(command="agent.status").data
        try:
            reply = await self._ask(self._lane_of(name), data, self._look)
        except (NoAgent, NoReply) as error:
            if self._link.up:
                node.missed += 1
                if node.missed >= 3:
                    for call in self._calls_of(name):
                        call._state.fail(NoAgent(f"the agent of node {name} is not there any more: {error}", "unknown"))
            return
        except AgentError:
            return
        if node.missed:  # it may have been cut off, and what it was asked meanwhile lost
            node.missed = 0
            self._missed(Gap("agent away", name))
        uptime = reply.get("uptime")
        if isinstance(uptime, (int, float)):
            started = time.monotonic() - uptime
            if node.started is not None and started > node.started + 3.0:
                for call in self._calls_of(name):
                    self._spawn(call._resume(), "resume")
            node.started = started


class _Node:
    """What is known of an agent."""

    def __init__(self) -> None:
        self.started: float | None = None  # time.monotonic(), to a second
        self.missed = 0
