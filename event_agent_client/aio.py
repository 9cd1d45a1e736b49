"""The client for asyncio. `event_agent_client.sync` has the same for threads; both stand on `core` and `_link`."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import ssl
import time
import uuid as uuids
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar

from event_agent_client import core
from event_agent_client._auth import Identity
from event_agent_client._link import Link
from event_agent_client._wire import Message
from event_agent_client.calls import Call, CallEvents, Dial, End, Recording
from event_agent_client.cdrs import Cdrs, Record
from event_agent_client.core import GATHER, SETTLE, WAIT, Payload, Reply, is_subject, payload_of, slug
from event_agent_client.errors import (
    AgentError,
    ConfigError,
    Hangup,
    LinkError,
    NoAgent,
    NoReply,
    NotAllowed,
    Refused,
)
from event_agent_client.events import AgentConnected, Event, EventLike, Gap, event_of, gap_of
from event_agent_client.incoming import Incoming, Router, RouteRequest, Routes
from event_agent_client.live import EVERY, Live, LiveCall
from event_agent_client.parts import Parts
from event_agent_client.state import CallState, Running
from event_agent_client.streams import Events

__all__ = [
    "All", "Call", "CallEvents", "Cdrs", "Client", "Dial", "End", "EventLike", "Events", "Live", "LiveCall", "Node",
    "Record", "Recording", "RouteRequest", "connect",
]  # fmt: skip

log = logging.getLogger("event_agent_client")

AWAY: Final = 120.0  # seconds for which waits outlast a link that is lost
CHANGES: Final = 3  # how often a call that is taken may be connected to another one meanwhile
LOOK: Final = 5.0  # seconds between two looks at agents of whose calls something is waited for, at most
T = TypeVar("T")
Handler = Callable[[Call], Awaitable[object]]


class Client:
    """A client of all agents on a NATS server or cluster. Made by `connect`.

    It reconnects by itself, with all subscriptions, until it is closed. While there is no link a request waits for it
    within its own time. One that was under way when the link broke ends with a LinkError, whose `executed` says whether
    it may have arrived.
    """

    def __init__(
        self,
        urls: Sequence[str],
        *,
        prefix: str,
        identity: Identity,
        tls: ssl.SSLContext | None,
        name: str,
        wait: float,
        connect_wait: float,
        patience: float,
        away: float,
        ping_interval: float,
    ) -> None:
        if not is_subject(prefix):
            raise ConfigError("prefix must be a plain subject")
        identity.check()
        self.prefix = prefix
        """`subject_prefix` of the agents."""
        self.streams: set[str] = set()
        """JetStream streams that have answered requests: their subjects include command lanes, and should not."""
        self._wait = wait
        self._connect_wait = connect_wait
        self._patience = patience
        self._away = away
        self._lost: asyncio.TimerHandle | None = None  # ends the waits of calls if there is no link by then
        self._look = max(0.2, min(LOOK, patience / 2))
        self._link = Link(urls, identity, tls, name, ping_interval)
        self._link.on_up, self._link.on_down, self._link.on_refused = self._up, self._down, self._refused
        self._inbox = f"_INBOX.{uuids.uuid4().hex}"
        self._number = 0
        self._pending: dict[str, _Pending] = {}
        self._calls: dict[str, Call] = {}
        self._places: dict[str, Call] = {}
        self._streams: set[Events] = set()
        self._incoming: list[Incoming] = []
        self._routes: list[Routes] = []
        self._pulls: set[Cdrs] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._nodes: dict[str, _Node] = {}
        self._lost_at: int | None = None  # microseconds since 1970
        self._failed: asyncio.Future[None] | None = None
        self._started = False
        self.all = All(self)
        """All nodes."""
        self.any = Node(self, "")
        """One node that is ready; which one is NATS's choice, for each request anew."""

    # -- the link

    async def connect(self) -> Client:
        """Connect to the first server that takes us; `async with` does it. Raises LinkError."""
        if self._started:
            raise ConfigError("a client is connected once; make another one")
        self._started = True
        self._failed = asyncio.get_running_loop().create_future()
        self._link.subscribe(f"{self._inbox}.r.*", self._replied)
        self._link.subscribe(f"{self._inbox}.c.>", self._call_event)
        self._link.subscribe(f"{self.prefix}.events.agent.>", self._agent_event)
        await self._link.start(self._connect_wait)
        self._spawn(self._watch_nodes(), "nodes")
        return self

    async def close(self) -> None:
        """End the link and all waits on it. Calls go on."""
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._link.close()
        for stream in list(self._streams):
            await stream.aclose()
        if self._failed is not None and not self._failed.done():
            self._failed.cancel()

    async def __aenter__(self) -> Client:
        return await self.connect()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __await__(self) -> Generator[Any, None, Client]:
        return self.connect().__await__()

    @property
    def connected(self) -> bool:
        """Whether there is a link to a NATS server now."""
        return self._link.up

    async def forever(self) -> None:
        """Wait until the task is cancelled (Ctrl-C). Raises what keeps `incoming` or `route` from working at all."""
        assert self._failed is not None
        await asyncio.shield(self._failed)

    def _spawn(self, work: Any, name: str) -> asyncio.Task[Any]:
        task = asyncio.create_task(work, name=f"event-agent-client {name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _up(self) -> None:
        if self._lost is not None:
            self._lost.cancel()
        if self._link.connects > 1:
            now = time.time_ns() // 1000
            gap = Gap("link lost", "", None, self._lost_at, now)
            for stream in self._streams:
                stream._put(Gap("link lost", "", None, stream._lost_at, now), now)
            for call in list(self._calls.values()):
                self._spawn(call._resume(gap), "resume")
            self._set_again()
            for pull in self._pulls:
                pull._again()

    def _set_again(self) -> None:
        """Park mode and routing, where they may not be set yet."""
        for each in self._incoming:
            self._spawn(each._again(), "incoming")
        for route in self._routes:
            self._spawn(route._again(), "route")

    def _give_up(self, error: AgentError) -> None:
        """What `forever` raises."""
        if self._failed is not None and not self._failed.done():
            self._failed.set_exception(error)
            self._failed.exception()

    def _down(self, reason: str) -> None:
        now = time.time_ns() // 1000
        for stream in self._streams:
            stream._lost_at = now
        self._lost_at = now
        left, closed = self._link.left, self._link._closed
        for pending in list(self._pending.values()):
            gone = pending.number <= left
            if pending.running is not None and gone and not closed:
                pending.running.lost = True  # what has come of it is asked when there is a link again
            else:
                pending.fail(LinkError(reason, "unknown" if gone else "no"))
        if closed:
            self._lose(reason)
        else:
            self._lost = asyncio.get_running_loop().call_later(self._away, self._lose, reason)

    def _lose(self, reason: str) -> None:
        """The link does not come back, so what is waited for can't be heard of."""
        if self._lost is not None:
            self._lost.cancel()
        for call in list(self._calls.values()):
            call._state.fail(LinkError(reason, "unknown"))

    def _refused(self, subject: str, words: str) -> None:
        """The server does not let us send there, or listen there."""
        for pending in list(self._pending.values()):
            if pending.subject == subject:
                pending.fail(NotAllowed(f"the NATS server does not allow us to publish on {subject}"))

    # -- requests

    async def request(
        self,
        command: str,
        args: str | None = None,
        *,
        node: str | None = None,
        wait: float | None = None,
        fields: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Reply:
        """The reply to one command: to `node`, else to one node that is ready.

        `fields` and `more` are further fields of the request (docs/API.md); `fields` for names that are taken here.
        With `parts=True` the answer may be longer than the NATS server's max_payload: its parts are put together.
        `wait` is how long the client waits, at most: 35 seconds if it is left out, or as long as the command itself
        says it may take. Raises CommandFailed (Refused, …) if the reply is an error, NoAgent, NoReply, LinkError.
        """
        payload = payload_of(command, args, fields, more)
        core.check_patience(payload, wait)
        return (await self.call(payload, node=node, wait=wait)).check()

    async def call(self, payload: Mapping[str, Any], *, node: str | None = None, wait: float | None = None) -> Reply:
        """The reply to a request as it stands, success or error. Raises NoAgent, NoReply, LinkError.

        If nobody listens on `any`, a command that only asks goes to all nodes, of which the first to answer is heard;
        one that acts goes to one node, which is ready by its own agent.status, or NoAgent says why none is.
        """
        payload = Payload(payload)
        data = payload.data
        wait = core.time_for(payload, self._wait) if wait is None else wait
        lane = self._lane(payload, node)
        try:
            return await self._ask(lane, data, wait)
        except NoAgent:
            if lane != f"{self.prefix}.any":
                raise
        if core.is_question(payload.get("command")):
            return await self._ask(f"{self.prefix}.api", data, wait)
        statuses = await self.gather("agent.status", wait=min(wait, GATHER))
        return await self._ask(core.lane_of_one(self.prefix, statuses), data, wait)

    async def send(
        self, command: str, args: str | None = None, *, node: str | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        """Send a request to which no reply comes (`async`). Returns when the server has it. Raises LinkError."""
        payload = payload_of(command, args, fields, more)
        payload["async"] = True
        await self._wait_up(self._wait)
        self._link.publish(self._lane(payload, node), payload.data)
        if not await self._link.flush(GATHER):
            raise LinkError("the NATS server has not confirmed it", "unknown")

    async def gather(
        self, command: str, args: str | None = None, *, wait: float = GATHER, settle: float = SETTLE,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> list[Reply]:  # fmt: skip
        """The replies of all nodes: those that come until none has come for `settle` seconds, or `wait` are over.

        The first one is waited for as long as `wait`. Nobody listening is an empty list. Raises LinkError.
        """
        return await self._gather(f"{self.prefix}.api", payload_of(command, args, fields, more).data, wait, settle)

    async def _gather(self, lane: str, data: bytes, wait: float, settle: float) -> list[Reply]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        await self._link.wait_up(deadline)
        found: list[Reply] = []
        parts = Parts()
        queue: asyncio.Queue[Message | AgentError] = asyncio.Queue()
        pending = self._begin(lane, data, queue.put_nowait)
        try:
            while True:
                until = min(deadline, loop.time() + settle) if found and not parts.missing else deadline
                if (left := until - loop.time()) <= 0:
                    break
                async with asyncio.timeout(left):
                    what = await queue.get()
                if isinstance(what, AgentError):
                    raise what
                if stream := core.acknowledging(what.data):
                    self._stream_answers(stream)
                    continue
                if (whole := parts.add(core.reply_of(what.headers, what.data, lane))) is not None:
                    found.append(whole)
        except (TimeoutError, NoAgent):
            pass
        finally:
            self._pending.pop(pending.token, None)
        return found

    def _lane(self, payload: Mapping[str, Any], node: str | None) -> str:
        node = node or payload.get("node_id")
        return f"{self.prefix}.node.{slug(node)}" if isinstance(node, str) and node else f"{self.prefix}.any"

    def _lane_of(self, node: str) -> str:
        """The lane of a node; that of all for one without a name."""
        return f"{self.prefix}.node.{slug(node)}" if node not in ("", core.UNNAMED) else f"{self.prefix}.api"

    async def _wait_up(self, wait: float) -> None:
        if not self._link.up:
            await self._link.wait_up(asyncio.get_running_loop().time() + wait)

    def _begin(self, subject: str, data: bytes, answer: Callable[[Message | AgentError], object]) -> _Pending:
        """Send a request. Raises LinkError, and Refused for what can't be sent."""
        self._number += 1
        token = str(self._number)
        try:
            number = self._link.publish(subject, data, f"{self._inbox}.r.{token}")
        except ValueError as fault:
            raise Refused(str(fault)) from None
        pending = self._pending[token] = _Pending(token, number, subject, answer)
        return pending

    async def _ask(
        self, subject: str, data: bytes, wait: float, state: CallState | None = None, running: Running | None = None
    ) -> Reply:
        """One request, one reply. With `state` the end of that call ends it, too; `running` outlasts a lost link."""
        what = await self._answer(subject, data, wait, state, running, Parts())
        return what if isinstance(what, Reply) else core.reply_of(what.headers, what.data, subject)

    def _new_inbox(self) -> str:
        """A subject of our own."""
        self._number += 1
        return f"{self._inbox}.n.{self._number}"

    async def _settle(self, subject: str, data: bytes) -> None:
        """Acknowledge, and have that confirmed."""
        await self._raw(subject, data, GATHER)

    async def _raw(self, subject: str, data: bytes, wait: float) -> Message:
        """One request; the message that answers it."""
        what = await self._answer(subject, data, wait)
        assert isinstance(what, Message)
        return what

    async def _answer(
        self, subject: str, data: bytes, wait: float, state: CallState | None = None, running: Running | None = None,
        parts: Parts | None = None,
    ) -> Message | Reply:  # fmt: skip
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        if not self._link.up:
            await self._link.wait_up(min(deadline, loop.time() + self._away))
        future: asyncio.Future[Message | Reply] = loop.create_future()

        def answer(what: Message | Reply | Event | AgentError) -> None:
            if future.done():
                return
            if isinstance(what, AgentError):
                future.set_exception(what)
            elif isinstance(what, Message) and b'"stream"' in what.data and (stream := core.acknowledging(what.data)):
                self._stream_answers(stream)
            elif parts is not None and isinstance(what, Message) and b'"parts":' in what.data:
                self._put_together(parts, what, subject, future)
            elif not isinstance(what, Event):
                future.set_result(what)

        def late() -> None:
            answer(NoReply(f"no reply within {wait:g} seconds{parts.late if parts is not None else ''}"))

        pending = self._begin(subject, data, answer)
        if running is not None:
            pending.running, running.end = running, answer
        number = state.wait(None, answer, command=True) if state is not None else 0
        if running is not None:
            running.number = number
        timer = loop.call_at(deadline, late)
        try:
            return await future
        finally:
            timer.cancel()
            self._pending.pop(pending.token, None)
            if state is not None:
                state.leave(number)

    @staticmethod
    def _put_together(parts: Parts, message: Message, subject: str, future: asyncio.Future[Message | Reply]) -> None:
        """A message that may be a part of a reply."""
        try:
            whole = parts.add(core.reply_of(message.headers, message.data, subject))
        except AgentError as error:
            future.set_exception(error)
        else:
            if whole is not None:
                future.set_result(whole)

    def _stream_answers(self, stream: str) -> None:
        if len(self.streams) < 100:
            self.streams.add(stream)

    def _replied(self, message: Message) -> None:
        pending = self._pending.get(message.subject.rpartition(".")[2])
        if pending is not None:  # else it came too late
            pending.answer(message)

    # -- nodes

    def node(self, name: str) -> Node:
        """One node, by the name in its `node_id`."""
        if not name:
            raise Refused("a node's name must not be empty", field="node")
        return Node(self, name)

    async def api(self, line: str, *, wait: float | None = None) -> str:
        """The output of a FreeSWITCH API command on one node that is ready: `await fs.api("sofia status")`."""
        return await self.any.api(line, wait=wait)

    async def nodes(self, *, wait: float = GATHER) -> list[Reply]:
        """agent.status of all nodes that answer."""
        return await self.gather("agent.status", wait=wait)

    # -- events

    def events(self, *names: str, node: str | None = None, size: int = 10_000, check: bool = True) -> Events:
        """Events from now on: `async for event in fs.events("CHANNEL_ANSWER", "sofia::register", node="fs-1")`.

        Without a name it is all events. Names are FreeSWITCH's, CHANNEL_* for all that begin so, or patterns of
        subjects (`channel.>`). What is missing, for whichever reason, is a `Gap` among the events. `size` events wait
        for a reader who is slower than they come. Raises Refused for what is no event, and, when it begins, for one
        that no node publishes (unless `check` is false); NotAllowed for what NATS does not let us listen to.
        """
        return Events(self, names or (">",), node, size, check)

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

    # -- calls

    def dial(
        self,
        endpoint: str,
        *,
        ring: float | None = None,
        caller_id: tuple[str, str] | str | None = None,
        variables: Mapping[str, str | int | float | bool] | None = None,
        early_media: bool = False,
        node: str | None = None,
        wait: float | None = None,
    ) -> Dial:
        """Call somebody: `async with fs.dial("user/1000", ring=20) as call`, or `call = await fs.dial(…)`.

        It is answered then, and parked: nothing happens to it but what you do. Leaving the `async with` hangs it up.
        `ring` is how many seconds it may ring (FreeSWITCH's own limit is 60), `caller_id` a name and a number, or a
        number. Events of the call are heard from its first on. Of several telephones of one user the first is called.
        Raises Busy, NoAnswer, NotRegistered, NoRoute or another CallFailed; Refused, NoAgent, LinkError, NoReply. If it
        isn't known what has become of it, it is hung up as soon as that is possible.
        """
        fields: dict[str, Any] = {"endpoint": endpoint, "extension": "&park"}
        if ring is not None:
            fields["timeout"] = ring
        if caller_id is not None:
            name, number = ("", caller_id) if isinstance(caller_id, str) else caller_id
            fields |= {"caller_id_name": name, "caller_id_number": number}
        if variables:
            fields["variables"] = dict(variables)
        if early_media:
            fields["early_media"] = True
        return Dial(self, fields, node, wait)

    async def take(self, uuid: str, node: str = "") -> Call:
        """A Call for a channel that is there already. Raises Hangup if it is not."""
        if (known := self._calls.get(uuid)) is not None:
            if not known.up:
                raise Hangup(known.cause)
            return known
        call = Call(self, CallState(uuid, node))
        self._enter(call)
        try:
            await call._watch_first()
        except BaseException:
            call._ended()
            raise
        call._state.bridged = next((each.uuid for each in self._calls.values() if each.bridged_to == uuid), "")
        if not call._state.bridged:
            await self._find_other_leg(call)
        return call

    async def _find_other_leg(self, call: Call) -> None:
        """To whom a call that was taken is connected. That leg is heard of too: the end may be an event of it.

        `bridge_to` is set as long as two legs are connected (switch_ivr_bridge.c, switch_ivr_multi_threaded_bridge).
        It is asked again once both are heard of, since they may have parted before that.
        """
        with suppress(AgentError):
            for _ in range(CHANGES):
                seen = call._state.joins
                uuid = await call.get("bridge_to")
                if uuid is None or call._state.joins != seen:  # what events say is newer
                    return
                if uuid in self._calls:
                    call._state.bridged, self._calls[uuid]._state.bridged = uuid, call.uuid
                    return
                other = Call(self, CallState(uuid, call.node))
                self._enter(other)
                try:
                    await other._watch()
                except BaseException:
                    other._ended()
                    raise

    def incoming(
        self,
        context: str | Sequence[str] | None = None,
        number: str | None = None,
        audio: str = "ringback",
        *,
        music: str = "",
        answer: bool = False,
        exceptions: str | Sequence[str] | None = None,
        group: str | None = None,
        node: str | None = None,
    ) -> Callable[[Handler], Handler]:
        """Decorates what is done with each incoming call of these contexts, to these numbers (a regular expression).

        Sets park mode for them on all nodes, also on those that come later, and takes each call that is parked. Callers
        hear `audio` (silence, ringback, music of the class `music`) until something else is played; with `answer` they
        are answered at once. Programs that are started several times share the calls: each call goes to one of them;
        `group` is the name by which they know each other, made of context and number if it is left out. `exceptions`
        are numbers that are never taken, such as "112".

        A handler that ends leaves no call behind: one that is still up, and was not transferred, is hung up. A Hangup
        that it does not catch is an ordinary end; other errors are logged.
        """
        contexts = [context] if isinstance(context, str) else list(context or ())
        never = [exceptions] if isinstance(exceptions, str) else list(exceptions or ())
        if audio not in ("silence", "ringback", "music"):
            raise Refused("audio must be silence, ringback or music", field="audio")

        def decorate(handler: Handler) -> Handler:
            each = Incoming(self, handler, contexts, number or "", audio, music, answer, never, group, node)
            self._incoming.append(each)
            self._spawn(each._begin(), "incoming")
            return handler

        return decorate

    def route(
        self,
        context: str | Sequence[str] | None = None,
        number: str | None = None,
        *,
        exceptions: str | Sequence[str] | None = None,
        variables: Sequence[str] = (),
        timeout: float = 0.8,
        fallback: str = "dialplan",
        subject: str | None = None,
        group: str = "event-agent-routers",
        node: str | None = None,
    ) -> Callable[[Router], Router]:
        """Decorates what decides over new incoming calls, before any dialplan: it gets a RouteRequest and returns one
        of its answers: `return call.transfer("1001")`, `call.park()`, `call.dialplan()`, `call.hangup("USER_BUSY")`,
        `call.apps(("answer", ""), ("playback", "closed.wav"))`.

        Sets `dialplan.route` on all nodes. `timeout` is how long FreeSWITCH's call waits, in seconds; a call that
        nobody decides in time, or whose router fails, gets the `fallback` (dialplan or park). Programs that are started
        several times share the calls. `variables` are the channel variables that the request is to have.
        """
        fields: dict[str, Any] = {"timeout": timeout, "fallback": fallback}
        for name, value in (("context", context), ("number", number), ("except", exceptions), ("subject", subject)):
            if value is not None:
                fields[name] = value if isinstance(value, str) else list(value)
        if variables:
            fields["variables"] = list(variables)

        def decorate(router: Router) -> Router:
            each = Routes(self, router, fields, subject or f"{self.prefix}.route", group, node)
            self._routes.append(each)
            self._spawn(each._begin(), "route")
            return router

        return decorate

    def cdrs(self, durable: str, *, stream: str = "", batch: int = 100, ack_wait: float = 30.0) -> Cdrs:
        """Call records from JetStream: `async for cdr in fs.cdrs(durable="billing"): store(cdr); await cdr.ack()`.

        Each record is handed out until it is acknowledged: again after `ack_wait` seconds, after a restart of this
        program, and to others of the same `durable`, which share the records. So a record can come twice: `cdr.key` is
        the same then. The agents must have `cdr` set, and a stream must take `<prefix>.cdr.>` (`event-agentctl stream
        create`), `stream` by name if it is given. Raises CommandFailed if there is none when it begins; a lost link,
        or a stream that is away later on, is waited for.
        """
        return Cdrs(self, durable, stream, batch, ack_wait)

    async def live(self, *, every: float = EVERY) -> Live:
        """The calls that there are now, of each node, kept up to date: FreeSWITCH's list, then events.

        After each loss, and every `every` seconds, the list is compared, so the picture does not drift.
        """
        return await Live(self, every).begin()

    def _call(self, state: CallState) -> Call:
        return Call(self, state)

    def _enter(self, call: Call) -> None:
        self._calls[call.uuid] = call
        self._places[call._place] = call

    def _call_event(self, message: Message) -> None:
        call = self._places.get(message.subject[len(self._inbox) + 3 :].split(".", 1)[0])
        event = event_of(message.data)
        if call is not None and event is not None:
            before = call.bridged_to
            call._heard(event)
            if call.bridged_to != before:
                self._connected(call.uuid, before, call.bridged_to)

    def _connected(self, uuid: str, before: str, now: str) -> None:
        """A call is connected to another one than before: FreeSWITCH says so of one of both only."""
        if (left := self._calls.get(before)) is not None and left.bridged_to == uuid:
            left._state.bridged = ""
        if (other := self._calls.get(now)) is not None:
            other._state.bridged = uuid

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


class _Pending:
    """A request under way."""

    __slots__ = ("token", "number", "subject", "answer", "running")

    def __init__(
        self, token: str, number: int, subject: str, answer: Callable[[Message | AgentError], object]
    ) -> None:
        self.token, self.number, self.subject, self.answer = token, number, subject, answer
        self.running: Running | None = None

    def fail(self, error: AgentError) -> None:
        self.answer(error)


class Node:
    """One node: `fs.node("fs-1")`; as `fs.any` whichever is ready."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self.name = name

    async def request(
        self, command: str, args: str | None = None, *, wait: float | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> Reply:  # fmt: skip
        """As `Client.request`, on this node."""
        return await self._client.request(command, args, node=self.name or None, wait=wait, fields=fields, **more)

    async def api(self, line: str, *, wait: float | None = None) -> str:
        """The output of a FreeSWITCH API command: `await fs.node("fs-1").api("sofia status", wait=35)`.

        However long it is: if it is over the NATS server's max_payload it comes in parts, and they are put together.
        Raises CommandFailed with FreeSWITCH's words.
        """
        verb, _, args = line.strip().partition(" ")
        return str((await self.request(verb, args.strip() or None, wait=wait, parts=True)).data or "")

    async def status(self, *, wait: float | None = None) -> Reply:
        """agent.status."""
        return await self.request("agent.status", wait=wait)

    async def drain(self, enabled: bool = True) -> None:
        """Let the node take no new work (`any`), or again."""
        await self.request("agent.drain", enabled=enabled)


class All:
    """All nodes: `fs.all`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def request(
        self, command: str, args: str | None = None, *, wait: float = WAIT, settle: float = 1.0,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> list[Reply]:  # fmt: skip
        """The reply of each node, success or error (`reply.ok`, `reply.check()`). Raises LinkError."""
        return await self._client.gather(command, args, wait=wait, settle=settle, fields=fields, **more)

    async def api(self, line: str, *, wait: float = WAIT, settle: float = 1.0) -> list[Reply]:
        """A FreeSWITCH API command on each node: `for reply in await fs.all.api("reloadxml")`."""
        verb, _, args = line.strip().partition(" ")
        return await self.request(verb, args.strip() or None, wait=wait, settle=settle, parts=True)


def connect(
    url: str | Sequence[str] = "",
    *,
    prefix: str = "freeswitch",
    token: str = "",
    nkey_seed: str = "",
    creds: str = "",
    tls: ssl.SSLContext | None = None,
    name: str = "",
    wait: float = WAIT,
    connect_wait: float = 10.0,
    patience: float = 10.0,
    away: float = AWAY,
    ping_interval: float = 5.0,
) -> Client:
    """A client: `async with ea.connect(url) as fs`, or `fs = await ea.connect(url)` and `await fs.close()`.

    `url` is one server of a cluster or several, as a list or separated by commas; the environment's NATS_URL, or
    nats://127.0.0.1:4222, if it is left out. `creds` is the name of a .creds file; it wins over an NKey seed, which
    wins over a token. `wait` is how long a request is waited for, in seconds; `connect_wait` how long the first
    connection may take (a server that refuses us ends it at once); `patience` how long a call's agent may be away (a
    restart) before a command on the call says NoAgent; `away` how long the link may be before what is waited for ends
    with LinkError. Raises ConfigError.
    """
    url = url or os.environ.get("NATS_URL", "") or "nats://127.0.0.1:4222"
    urls = [each.strip() for text in ([url] if isinstance(url, str) else url) for each in text.split(",")]
    return Client(
        [each for each in urls if each],
        prefix=prefix,
        identity=Identity(token, nkey_seed, creds),
        tls=tls,
        name=name or f"event-agent-client pid={os.getpid()}",
        wait=wait,
        connect_wait=connect_wait,
        patience=patience,
        away=away,
        ping_interval=ping_interval,
    )
