"""What a Call of asyncio stands on: its lane, its events, its waits, and what becomes of them after a loss."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from event_agent_client import core, state
from event_agent_client.core import GATHER, SETTLE, WAIT, Payload, Reply
from event_agent_client.errors import AgentError, Hangup, LinkError, NoAgent, NoReply
from event_agent_client.events import Event, EventLike, Gap
from event_agent_client.state import CallState, Running

if TYPE_CHECKING:
    from event_agent_client.aio import Client

log = logging.getLogger("event_agent_client")

ON_THEIR_WAY: Final = 2.0  # seconds in which what was sent before an agent, or a link, came back arrives
ABANDONED: Final = 120.0  # seconds for which it is tried to hang up a call of which nothing is known


class Channel:
    """The base of Call: sends commands about one channel, and keeps what is waited for until it happens or ends."""

    def __init__(self, client: Client, state: CallState) -> None:
        self._client = client
        self._state = state
        client._number += 1
        self._place = str(client._number)
        self._settled = True  # False while it is being made: there may be no channel yet
        self._watched = False
        self._let_go = False
        self._listeners: list[CallEvents] = []
        self._resuming: asyncio.Lock = asyncio.Lock()

    # -- commands

    async def _checked(self, payload: Payload, wait: float, running: Running | None = None) -> Reply:
        """The reply. Raises what it stands for: Hangup if FreeSWITCH could not do it because the call has ended."""
        reply = await self._ask(payload, wait, running)
        if not reply.ok and "data" in reply and (not self._state.up or await self._gone()):
            raise Hangup(self._state.cause)
        return reply.check()

    async def _run(self, payload: Payload, wait: float, names: Sequence[str]) -> Reply:
        """The same of an application whose end is waited for: it outlasts a lost link."""
        running = Running(str(payload["app"]), names)
        self._state.running.append(running)
        try:
            return await self._checked(payload, wait, running)
        finally:
            self._state.running.remove(running)

    async def _ask(self, payload: Payload, wait: float, running: Running | None = None) -> Reply:
        client = self._client
        core.check_seconds(wait)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        patience = min(deadline, loop.time() + client._patience)
        lanes = [f"{client.prefix}.call.{self._state.uuid}"] if core.is_token(self._state.uuid) else []
        lanes.append(client._lane_of(self._state.node))
        data = payload.data
        while True:
            for lane in lanes:
                if not self._state.up:
                    raise Hangup(self._state.cause)
                try:
                    left = max(0.05, deadline - loop.time())
                    reply = await client._ask(lane, data, left, self._state, running)
                except NoAgent as error:
                    if error.executed != "no":
                        raise
                    missing = error
                except LinkError as error:
                    if error.executed != "no" or not client._link.up:
                        raise
                    break  # it had not left when the link was lost, and there is another one
                else:
                    if app_uuid := reply.get("app_uuid"):
                        self._state.known.add(str(app_uuid))
                    return reply
                if lane is not lanes[-1] and await self._gone():
                    raise Hangup(self._state.cause)
            else:
                if loop.time() > patience:
                    raise missing
                await asyncio.sleep(0.2)

    async def _gone(self) -> bool:
        """Nobody listens on the call's lane: whether that is because it has ended. Its node is asked."""
        data = Payload(command="uuid_exists", args=self._state.uuid).data
        with suppress(NoAgent, NoReply):
            try:
                reply = await self._client._ask(self._client._lane_of(self._state.node), data, GATHER, self._state)
            except Hangup:
                return True
            if reply.ok and str(reply.data).strip() == "false":
                if self._watched:
                    with suppress(Hangup, NoReply):  # its last events may be on their way, with the cause
                        await self._until(None, 1.0)
                self._state.gone()
                self._ended()
                return True
        return False

    # -- waiting

    def _expect(self, wanted: state.Wanted | None) -> asyncio.Future[Event]:
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def answer(what: object) -> None:
            if not future.done():
                if isinstance(what, AgentError):
                    future.set_exception(what)
                    future.exception()  # it is not to be complained about if nobody waits any more
                elif isinstance(what, Event):
                    future.set_result(what)

        number = self._state.wait(wanted, answer)
        future.add_done_callback(lambda _: self._state.leave(number))
        return future

    async def _within(self, future: asyncio.Future[Event], wait: float | None, late: str) -> Event:
        try:
            async with asyncio.timeout(wait):
                return await future
        except TimeoutError:
            raise NoReply(f"{late} within {wait:g} seconds") from None

    async def _until(self, wanted: state.Wanted | None, wait: float | None) -> Event:
        core.check_seconds(wait)
        future = self._expect(wanted)
        try:
            return await self._within(future, wait, "it has not happened")
        finally:
            future.cancel()

    # -- events

    def _heard(self, event: Event) -> None:
        self._state.feed(event)
        self._tell(event)
        if self._state.over:
            self._ended()

    def _tell(self, item: EventLike | None) -> None:
        for each in self._listeners:
            each._put(item)

    def _ended(self) -> None:
        """Nothing more is to be heard of it."""
        client = self._client
        if client._calls.get(self._state.uuid) is self:
            del client._calls[self._state.uuid]
        client._places.pop(self._place, None)
        client._connected(self._state.uuid, self._state.bridged, "")
        self._state.bridged = ""
        self._tell(None)

    async def _watch(self, wait: float = WAIT) -> Reply:
        """Have its events sent here. Raises Hangup if it is not there."""
        client = self._client
        payload = Payload(command="call.watch", uuid=self._state.uuid, to=f"{client._inbox}.c.{self._place}")
        reply = await self._ask(payload, wait)
        if not reply.ok:
            if await self._gone():
                raise Hangup(self._state.cause)
            reply.check()
        self._state.node = self._state.node or reply.node
        self._watched = True
        return reply

    async def _watch_first(self) -> None:
        """The same of a call that is new to us. It can be asked again, so it outlasts a link that is lost."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._client._away
        while True:
            try:
                await self._watch()
                return
            except LinkError:
                await self._client._link.wait_up(deadline)  # raises it if there is none again by then
                if loop.time() > deadline:
                    raise

    # -- after a loss

    async def _stopped(self) -> None:
        """The agent ends: what it has not answered by now it never will."""
        before = self._state.commands()
        await asyncio.sleep(ON_THEIR_WAY)
        self._state.fail_some(before, NoReply("the agent has stopped, so the end is not known"))

    async def _resume(self, lost: Gap | None = None) -> None:
        """Hear of it again, or of its end.

        `lost`: the link was, for so long. Without it the agent has a new link to FreeSWITCH, or is another one, which
        answers no command of before; the same one says which applications it still waits for.
        """
        if not self._settled:
            return
        if lost is not None:
            self._tell(lost)
        async with self._resuming:
            before = [] if lost is not None else self._state.commands()
            reply = await self._watch_again()
            if not self._state.up:
                return
            await asyncio.sleep(ON_THEIR_WAY)
            there = reply.data.get("applications", ()) if reply is not None and isinstance(reply.data, dict) else ()
            kept = {each.number for each in self._state.running if before and each.still_runs(there)}
            fault = NoReply("the agent was restarted, so the end is not known")
            self._state.fail_some([number for number in before if number not in kept], fault)
            if reply is None:
                return
            over = [each for each in self._state.running if each.lost and not each.still_runs(there)]
            with suppress(AgentError):
                await self._look(over)

    async def _watch_again(self) -> Reply | None:
        """The reply of call.watch; None if nobody takes it, or the link is lost again."""
        deadline = asyncio.get_running_loop().time() + ABANDONED
        while self._client._link.up and self._state.up and asyncio.get_running_loop().time() < deadline:
            try:
                return await self._watch(GATHER)  # asked again, as a reply may be lost with a link
            except Hangup:
                return None
            except (NoAgent, NoReply, LinkError):  # the agent may take longer than we do
                await asyncio.sleep(0.2)
            except AgentError as error:
                log.warning("call %s: its events can't be watched any more: %s", self._state.uuid, error)
                return None
        return None

    async def _look(self, over: Sequence[Running]) -> None:
        """What has come of it meanwhile, and of applications that have ended."""
        if not over and not self._state.waits:
            return
        payload = Payload(command="uuid_dump", uuid=self._state.uuid, args=f"{self._state.uuid} json")
        headers = state.headers_of(await self._ask(payload, GATHER))
        if headers is not None:
            self._state.found(headers)
        for each in over:
            if each not in self._state.running:  # its reply has come after all
                continue
            if headers is None:
                each.end(NoReply("the link to NATS was lost, and FreeSWITCH does not say what has come of it"))
            elif not each.app_uuid:
                each.end(NoReply("the link to NATS was lost, and nothing was heard of it since"))
            else:
                each.end(each.reply_by(self._state.node, self._state.uuid, headers))

    async def _abandon(self) -> None:
        """It is not known what has become of it: let it not live on without an owner."""
        deadline = asyncio.get_running_loop().time() + ABANDONED
        data = Payload(command="hangup", uuid=self._state.uuid, cause="ORIGINATOR_CANCEL").data
        while asyncio.get_running_loop().time() < deadline:
            with suppress(AgentError):
                await self._client._link.wait_up(deadline)
                await self._client._gather(core.all_lane(self._client.prefix), data, GATHER, SETTLE)
                return
            await asyncio.sleep(1.0)

    async def _end_quietly(self) -> None:
        """Hang up, however long the link takes to come back (a minute at most)."""
        if not self._state.up:
            return
        try:
            await self._hang_up("NORMAL_CLEARING")
        except AgentError as error:
            log.warning("call %s could not be hung up yet: %s", self._state.uuid, error)
            self._client._spawn(self._abandon(), "abandon")

    async def _hang_up(self, cause: str) -> None:
        """End it; nothing happens if it has."""
        payload = Payload(command="hangup", uuid=self._state.uuid, cause=cause)
        try:
            reply = await self._ask(payload, self._client._wait)
        except Hangup:
            return
        if not reply.ok and not await self._gone():
            reply.check()


class CallEvents:
    """The events of one call, until it ends; a Gap stands where some may be missing."""

    def __init__(self, call: Channel) -> None:
        self._call = call
        self._queue: asyncio.Queue[EventLike | None] = asyncio.Queue(10_000)
        call._listeners.append(self)
        if not call._state.up:
            self._put(None)

    def _put(self, event: EventLike | None) -> None:
        if not self._queue.full():
            self._queue.put_nowait(event)

    async def next(self) -> EventLike | None:
        """The next one; None when the call has ended."""
        event = await self._queue.get()
        if event is None and self in self._call._listeners:
            self._call._listeners.remove(self)
        return event

    async def __aiter__(self) -> AsyncIterator[EventLike]:
        try:
            while (event := await self.next()) is not None:
                yield event
        finally:
            if self in self._call._listeners:
                self._call._listeners.remove(self)
