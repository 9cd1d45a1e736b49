"""The client for asyncio. `event_agent_client.sync` has the same for threads; both stand on `core` and `_link`."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import random
import ssl
import time
import uuid as uuids
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar

from event_agent_client import core
from event_agent_client._auth import Identity
from event_agent_client._link import Link, Subscription
from event_agent_client._wire import Message
from event_agent_client.core import CallState, Payload, Reply, is_subject, payload_of, quoted, slug
from event_agent_client.errors import (
    AgentError,
    CallFailed,
    CommandFailed,
    ConfigError,
    Hangup,
    LinkError,
    NoAgent,
    NoInput,
    NoReply,
    NotAllowed,
    Refused,
    call_failed,
)
from event_agent_client.events import AgentConnected, Event, Gap, event_of, gap_of

log = logging.getLogger("event_agent_client")

WAIT: Final = 35.0  # seconds; the agents themselves give up on FreeSWITCH after 30
GATHER: Final = 5.0  # seconds
SETTLE: Final = 0.3  # seconds without a further reply after which nobody else is expected to answer
LOOK: Final = 5.0  # seconds between two looks at agents of whose calls something is waited for
LONGEST: Final = 3600.0  # seconds that an application may be waited for
T = TypeVar("T")
Handler = Callable[["Call"], Awaitable[object]]
EventLike = Event | Gap


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
        self._link = Link(urls, identity, tls, name, ping_interval)
        self._link.on_up, self._link.on_down, self._link.on_refused = self._up, self._down, self._refused
        self._inbox = f"_INBOX.{uuids.uuid4().hex}"
        self._number = 0
        self._pending: dict[str, _Pending] = {}
        self._calls: dict[str, Call] = {}
        self._places: dict[str, Call] = {}
        self._streams: set[Events] = set()
        self._incoming: list[_Incoming] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._nodes: dict[str, _Node] = {}
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
        """End the link and whoever waits on it. Calls go on."""
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
        if self._link.connects > 1:
            now = time.time_ns() // 1000
            for stream in self._streams:
                stream._put(Gap("link lost", "", None, stream._lost_at, now), now)
            for call in list(self._calls.values()):
                self._spawn(call._resume(), "resume")
            for each in self._incoming:
                self._spawn(each._again(), "incoming")

    def _down(self, reason: str) -> None:
        now = time.time_ns() // 1000
        for stream in self._streams:
            stream._lost_at = now
        left = self._link.left
        for pending in list(self._pending.values()):
            pending.fail(LinkError(reason, "unknown" if pending.number <= left else "no"))
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
        `wait` is how long the client waits, at most: 35 seconds if it is left out, or as long as the command itself
        says it may take. Raises CommandFailed (Refused, …) if the reply is an error, NoAgent, NoReply, LinkError.
        """
        return (await self.call(payload_of(command, args, fields, more), node=node, wait=wait)).check()

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
        queue: asyncio.Queue[Message | AgentError] = asyncio.Queue()
        pending = self._begin(lane, data, queue.put_nowait)
        try:
            while (left := (min(deadline, loop.time() + settle) if found else deadline) - loop.time()) > 0:
                async with asyncio.timeout(left):
                    what = await queue.get()
                if isinstance(what, AgentError):
                    raise what
                if stream := core.acknowledging(what.data):
                    self._stream_answers(stream)
                    continue
                found.append(core.reply_of(what.headers, what.data, lane))
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

    async def _ask(self, subject: str, data: bytes, wait: float, state: CallState | None = None) -> Reply:
        """One request, one reply. With `state` the end of that call ends it, too."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        if not self._link.up:
            await self._link.wait_up(deadline)
        future: asyncio.Future[Message | Event] = loop.create_future()

        def answer(what: Message | AgentError | Event) -> None:
            if future.done():
                return
            if isinstance(what, AgentError):
                future.set_exception(what)
            elif isinstance(what, Message) and b'"stream"' in what.data and (stream := core.acknowledging(what.data)):
                self._stream_answers(stream)
            else:
                future.set_result(what)

        pending = self._begin(subject, data, answer)
        number = state.wait(None, answer) if state is not None else 0
        timer = loop.call_at(deadline, answer, NoReply(f"no reply within {wait:g} seconds"))
        try:
            what = await future
        finally:
            timer.cancel()
            self._pending.pop(pending.token, None)
            if state is not None:
                state.leave(number)
        assert isinstance(what, Message)
        return core.reply_of(what.headers, what.data, subject)

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
            there = None if event.channels is None else {row.get("uuid") for row in event.channels}
            for call in self._calls_of(event.node):
                if there is not None and call.uuid not in there and call._settled:
                    call._state.gone()
                    call._ended()
                else:
                    self._spawn(call._resume(restarted=True), "resume")
            for each in self._incoming:
                self._spawn(each._again(), "incoming")
        elif event.name == "AGENT_STOPPING":
            for call in self._calls_of(event.node):
                call._state.fail(NoReply("the agent has stopped"))
        elif event.name == "AGENT_CHANNEL_GONE" and (gone := self._calls.get(event.uuid)) is not None:
            gone._state.gone()
            gone._ended()

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
            await call._watch()
        except BaseException:
            call._ended()
            raise
        return call

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
            each = _Incoming(self, handler, contexts, number or "", audio, music, answer, never, group, node)
            self._incoming.append(each)
            self._spawn(each._begin(), "incoming")
            return handler

        return decorate

    def _enter(self, call: Call) -> None:
        self._calls[call.uuid] = call
        self._places[call._place] = call

    def _call_event(self, message: Message) -> None:
        call = self._places.get(message.subject[len(self._inbox) + 3 :].split(".", 1)[0])
        event = event_of(message.data)
        if call is not None and event is not None:
            call._heard(event)

    # -- whether somebody is there

    async def _watch_nodes(self) -> None:
        """Agents of whose calls something is waited for are asked now and then whether they are there, and the same.

        One that was killed can't say so, and its watches and waits end with it.
        """
        while True:
            await asyncio.sleep(LOOK * random.uniform(0.8, 1.2))
            names = {call.node for call in self._calls.values() if call._state.waits and call._settled}
            for name in [each for each in self._nodes if each not in names]:
                del self._nodes[name]
            if self._link.up:
                await asyncio.gather(*(self._look_at(name) for name in names))

    async def _look_at(self, name: str) -> None:
        node = self._nodes.setdefault(name, _Node())
        data = Payload(command="agent.status").data
        try:
            reply = await self._ask(self._lane_of(name), data, LOOK)
        except (NoAgent, NoReply) as error:
            if self._link.up:
                node.missed += 1
                if node.missed >= 3:
                    for call in self._calls_of(name):
                        call._state.fail(NoAgent(f"the agent of node {name} is not there any more: {error}", "unknown"))
            return
        except AgentError:
            return
        node.missed = 0
        uptime = reply.get("uptime")
        if isinstance(uptime, (int, float)):
            started = time.monotonic() - uptime
            if node.started is not None and started > node.started + 3.0:
                for call in self._calls_of(name):
                    self._spawn(call._resume(restarted=True), "resume")
            node.started = started


class _Node:
    """What is known of an agent."""

    def __init__(self) -> None:
        self.started: float | None = None  # time.monotonic(), to a second
        self.missed = 0


class _Pending:
    """A request under way."""

    __slots__ = ("token", "number", "subject", "answer")

    def __init__(
        self, token: str, number: int, subject: str, answer: Callable[[Message | AgentError], object]
    ) -> None:
        self.token, self.number, self.subject, self.answer = token, number, subject, answer

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

        Raises CommandFailed with FreeSWITCH's words.
        """
        verb, _, args = line.strip().partition(" ")
        return str((await self.request(verb, args.strip() or None, wait=wait)).data or "")

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
        return await self.request(verb, args.strip() or None, wait=wait, settle=settle)


class Events:
    """A stream of events: `async for`, or `async with` for one that begins before its first event is asked for."""

    def __init__(self, client: Client, names: Sequence[str], node: str | None, size: int, check: bool) -> None:
        patterns = [core.event_pattern(name) for name in names]
        self._client = client
        self._names = names
        self._node = slug(node) if node else ""
        self._check = check
        self._subjects = [f"{client.prefix}.events.{each}" for each in dict.fromkeys(patterns)]
        gap = f"{client.prefix}.events.agent.gap"
        self._gap_too = any(core.pattern_takes(each, gap) for each in self._subjects)
        if not self._gap_too:
            self._subjects.append(gap)
        self._inbox = core.Inbox(size)
        self._more = asyncio.Event()
        self._subs: list[Subscription] = []
        self._lost_at: int | None = None
        self._begun = self._closed = False

    async def begin(self) -> Events:
        """Listen: events are kept from now on. Raises Refused, LinkError, NotAllowed."""
        if self._begun:
            return self
        self._begun = True
        client = self._client
        await client._wait_up(client._wait)
        if self._check:
            await self._look_at_filters()
        client._streams.add(self)
        self._subs = [client._link.subscribe(each, self._deliver) for each in self._subjects]
        await client._link.flush(GATHER)
        if refused := [each for each in self._subs if each.refused]:
            await self.aclose()
            raise NotAllowed(f"the NATS server does not let us listen on {refused[0].subject}")
        return self

    async def _look_at_filters(self) -> None:
        """Raises Refused for an event that no node publishes."""
        statuses = await self._client.gather("agent.status", wait=GATHER)
        if self._node:
            statuses = [each for each in statuses if slug(each.node) == self._node]
        filters = [
            (each.node, data["events"])
            for each in statuses
            if isinstance(data := each.data, dict) and isinstance(data.get("events"), dict)
        ]
        if not filters or len(filters) < len(statuses):  # nobody is there yet, or there are older agents
            return
        for name in self._names:
            reasons = {node: core.kept_back(name, each) for node, each in filters}
            if all(reasons.values()):
                said = "; ".join(f"{node}: {why}" for node, why in reasons.items())
                raise Refused(
                    f"{name} is not published ({said}); the events of one call are in call.events()", field="events"
                )

    def _deliver(self, message: Message) -> None:
        self._put(message.data, time.time_ns() // 1000)

    def _put(self, item: bytes | Gap, at: int) -> None:
        self._inbox.put(item, at)
        self._more.set()

    async def next(self, wait: float | None = None) -> EventLike | None:
        """The next event or gap; None if none came within `wait` seconds, or after the end."""
        await self.begin()
        deadline = None if wait is None else asyncio.get_running_loop().time() + wait
        while True:
            while len(self._inbox):
                if (found := self._read(self._inbox.take())) is not None:
                    return found
            if self._closed:
                return None
            self._more.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._more.wait()
            except TimeoutError:
                return None

    def _read(self, item: bytes | Gap) -> EventLike | None:
        if isinstance(item, Gap):
            return item
        event = event_of(item)
        if event is None or (self._node and slug(event.node) != self._node):
            return None
        return gap_of(event) if event.name == "AGENT_GAP" and not self._gap_too else event

    async def aclose(self) -> None:
        """No more events from here on."""
        self._closed = True
        self._client._streams.discard(self)
        for each in self._subs:
            self._client._link.unsubscribe(each)
        self._subs = []
        self._more.set()

    async def __aenter__(self) -> Events:
        return await self.begin()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def __aiter__(self) -> AsyncIterator[EventLike]:
        try:
            while (item := await self.next()) is not None:
                yield item
        finally:
            await self.aclose()


class End:
    """How a call ended."""

    def __init__(self, cause: str, event: Event | None) -> None:
        self.cause = cause
        """FreeSWITCH's word for why; "unknown" if its end was not seen."""
        self.event = event
        """CHANNEL_HANGUP_COMPLETE with all variables of the channel; None if it was not seen."""

    @property
    def duration(self) -> float | None:
        """Seconds from its beginning to its end; None if not known."""
        return self._seconds("mduration")

    @property
    def billsec(self) -> float | None:
        """Seconds from its answer to its end; None if not known."""
        return self._seconds("billmsec")

    def _seconds(self, name: str) -> float | None:
        value = self.event.variable(name) if self.event is not None else ""
        return int(value) / 1000 if value.isdigit() else None

    def __repr__(self) -> str:
        return f"End({self.cause!r})"


class Recording:
    """A recording that has ended."""

    def __init__(self, path: str, seconds: float, terminator: str) -> None:
        self.path = path
        """On the node's disk."""
        self.seconds = seconds
        self.terminator = terminator
        """The key that ended it, "" if none did."""

    def __repr__(self) -> str:
        return f"Recording({self.path!r}, {self.seconds:g} s)"


class Dial:
    """A call that is being made: to be awaited, or entered with `async with`, which hangs it up in the end."""

    def __init__(self, client: Client, fields: dict[str, Any], node: str | None, wait: float | None) -> None:
        self._client = client
        self._fields = fields
        self._node = node
        self._wait = wait
        self.uuid = str(uuids.uuid4())
        """The call's, chosen before anything is sent."""
        self._call: Call | None = None

    def __await__(self) -> Generator[Any, None, Call]:
        return self._dial().__await__()

    async def __aenter__(self) -> Call:
        self._call = await self._dial()
        return self._call

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._call is not None and not self._call._let_go:
            await self._call._end_quietly()

    async def _dial(self) -> Call:
        client = self._client
        call = Call(client, CallState(self.uuid, self._node or ""))
        call._settled, call._watched = False, True
        client._enter(call)
        payload = Payload(
            command="originate", uuid=self.uuid, events_to=f"{client._inbox}.c.{call._place}", **self._fields
        )
        try:
            reply = (await client.call(payload, node=self._node, wait=self._wait)).check()
        except CommandFailed as error:
            call._ended()
            if error.executed == "unknown":
                client._spawn(call._abandon(), "abandon")
            raise (core.cause_of(error) or error) from None
        except NoAgent:
            call._ended()
            raise
        except BaseException as error:
            if not isinstance(error, AgentError) or error.executed != "no":
                client._spawn(call._abandon(), "abandon")
            call._ended()
            raise
        call._state.node, call._state.answered, call._settled = reply.node, True, True
        uuid = reply.data.get("uuid") if isinstance(reply.data, dict) else None
        if isinstance(uuid, str) and uuid != self.uuid:  # another leg has answered
            call._ended()
            return await client.take(uuid, reply.node)
        if not call.event.headers:  # the reply has overtaken the events; they say who calls whom
            with suppress(AgentError):
                await call._until(lambda event: True, 1.0)
        return call


class Call:
    """One call (one channel). It knows its node, and hears of its own end.

    A method that waits ends with Hangup when the call does. Others that can come of each: Refused and CommandFailed,
    what FreeSWITCH or the agent said; NoAgent, no agent has it any more; NoReply and LinkError, what has become of the
    command is not known (`executed`).
    """

    def __init__(self, client: Client, state: CallState) -> None:
        self._client = client
        self._state = state
        client._number += 1
        self._place = str(client._number)
        self._settled = True  # False while it is being made: there may be no channel yet
        self._watched = False
        self._let_go = False
        self._listeners: list[_CallEvents] = []
        self._resuming: asyncio.Lock = asyncio.Lock()

    # -- what is known

    @property
    def uuid(self) -> str:
        return self._state.uuid

    @property
    def node(self) -> str:
        """The node that has it."""
        return self._state.node

    @property
    def up(self) -> bool:
        """False once it has ended."""
        return self._state.up

    @property
    def answered(self) -> bool:
        return self._state.answered

    @property
    def cause(self) -> str:
        """Why it has ended, "" while it has not."""
        return self._state.cause

    @property
    def bridged_to(self) -> str:
        """The other leg's uuid, "" if it is connected to none."""
        return self._state.bridged

    @property
    def event(self) -> Event:
        """The last event that was seen of it, with all headers and variables as they were then."""
        return self._state.last

    @property
    def caller_number(self) -> str:
        return self.event.header("Caller-Caller-ID-Number")

    @property
    def caller_name(self) -> str:
        return self.event.header("Caller-Caller-ID-Name")

    @property
    def destination(self) -> str:
        """The number dialled."""
        return self.event.header("Caller-Destination-Number")

    @property
    def context(self) -> str:
        return self.event.header("Caller-Context")

    def __repr__(self) -> str:
        return f"<Call {self.uuid} on {self.node or '?'}: {self.cause or 'up'}>"

    # -- commands

    async def request(
        self, command: str, args: str | None = None, *, wait: float | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> Reply:  # fmt: skip
        """A command on the call's own lane: it reaches the node that has the call. Raises Hangup if none has."""
        payload = payload_of(command, args, fields, more)
        return (await self._ask(payload, core.time_for(payload, self._client._wait) if wait is None else wait)).check()

    async def _ask(self, payload: Payload, wait: float) -> Reply:
        client = self._client
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait
        patience = min(deadline, loop.time() + client._patience)
        lanes = [f"{client.prefix}.call.{self.uuid}"] if core.is_token(self.uuid) else []
        lanes.append(client._lane_of(self.node))
        data = payload.data
        while True:
            if not self.up:
                raise Hangup(self.cause)
            for lane in lanes:
                try:
                    return await client._ask(lane, data, max(0.05, deadline - loop.time()), self._state)
                except NoAgent as error:
                    missing = error
                if lane is not lanes[-1] and await self._gone():
                    raise Hangup(self.cause)
            if loop.time() > patience:
                raise missing
            await asyncio.sleep(0.2)

    async def _gone(self) -> bool:
        """Nobody listens on the call's lane: whether that is because it has ended. Its node is asked."""
        data = Payload(command="uuid_exists", args=self.uuid).data
        with suppress(NoAgent, NoReply):
            reply = await self._client._ask(self._client._lane_of(self.node), data, GATHER, self._state)
            if reply.ok and str(reply.data).strip() == "false":
                if self._watched:
                    with suppress(Hangup, NoReply):  # its last events may be on their way, with the cause
                        await self._until(None, 1.0)
                self._state.gone()
                self._ended()
                return True
        return False

    async def execute(
        self, app: str, args: str = "", *, wait: float | None = None, result: str | Sequence[str] = ()
    ) -> Reply:
        """Run a dialplan application and wait for its end: `data` of the reply has `response` and `variables`.

        `result` names the channel variables that the reply is to have. `wait` is how long it may take, in seconds: an
        hour if it is left out; 0 does not wait. Raises Hangup when the call ends; Refused for an application that there
        is not.
        """
        payload = Payload(command="execute_app", uuid=self.uuid, app=app)
        if args:
            payload["args"] = args
        if wait == 0:
            return (await self._ask(payload, self._client._wait)).check()
        seconds = min(LONGEST, LONGEST if wait is None else max(0.1, wait))
        payload["wait"] = seconds
        if result:
            payload["result"] = result if isinstance(result, str) else list(result)
        reply = (await self._ask(payload, seconds + 10.0)).check()
        return reply

    async def answer(self) -> None:
        """Answer it; nothing happens if it is."""
        if not self.answered:
            await self.execute("answer", wait=30)
            self._state.answered = True

    async def ring(self) -> None:
        """Let the caller hear that it rings (180), without answering."""
        await self.execute("ring_ready", wait=30)

    async def play(self, what: str, *, wait: float | None = None) -> None:
        """Play a file, or a stream such as `tone_stream://%(300,100,800)`, and wait for its end.

        `wait=0` does not wait for it. A stream without an end is ended by `stop`.
        """
        await self.execute("playback", what, wait=wait)

    async def stop(self) -> None:
        """End what is played now."""
        await self.request("uuid_break", f"{self.uuid} all")

    async def sleep(self, seconds: float) -> None:
        """Silence for so long; ends with Hangup when the call does."""
        await self.execute("sleep", str(round(seconds * 1000)), wait=seconds + 30)

    async def digits(
        self,
        count: int,
        most: int | None = None,
        *,
        prompt: str = "",
        invalid: str = "",
        tries: int = 1,
        timeout: float = 6.0,
        between: float | None = None,
        end: str = "#",
        pattern: str = r"\d+",
    ) -> str:
        """What the caller dials: `count` digits, or `count` to `most`, ended early by the key `end`.

        `prompt` is played first, and ended by the first digit. The first one is waited for `timeout` seconds, each
        further one `between` (`timeout` if it is left out). What does not match `pattern`, or is too short, gets
        `invalid` played and another of the `tries`. Raises NoInput if none has brought what was asked for.
        """
        most = count if most is None else most
        if not 1 <= count <= most <= 128 or not 1 <= tries <= 100:
            raise Refused("count must be 1 to 128, and not over most; tries must be 1 to 100", field="count")
        silence = "silence_stream://10"
        words = [
            str(count), str(most), str(tries), str(round(timeout * 1000)), end or "none", prompt or silence,
            invalid or silence, "event_agent_digits", pattern, str(round((between or timeout) * 1000)),
        ]  # fmt: skip
        limit = tries * (timeout + most * (between or timeout) + 300.0)
        reply = await self.execute(
            "play_and_get_digits", " ".join(map(quoted, words)), wait=limit, result="event_agent_digits"
        )
        found = _variables(reply).get("event_agent_digits")
        if not isinstance(found, str) or not found:
            raise NoInput(f"nothing that fits was dialled in {tries} {'try' if tries == 1 else 'tries'}")
        return found

    async def say(self, text: str, *, kind: str = "number", method: str = "pronounced", language: str = "en") -> None:
        """Say a number, a date, …, with FreeSWITCH's `say` and its sound files: `say("4711", kind="number")`."""
        await self.execute("say", f"{language} {kind} {method} {text}")

    async def speak(self, text: str, *, engine: str, voice: str) -> None:
        """Say a text with a text-to-speech engine of FreeSWITCH, such as flite with voice kal."""
        await self.execute("speak", f"{engine}|{voice}|{text}")

    async def record(
        self, path: str, *, limit: float | None = None, silence: float | None = None, level: int = 200, end: str = "#"
    ) -> Recording:
        """Record the caller to a file on the node's disk; ends with the key `end`, `limit`, or `silence` (seconds)."""
        await self.set(playback_terminators=end or "none")
        words = [quoted(path)]
        if limit is not None or silence is not None:
            words.append(str(round(limit or 0)))
        if silence is not None:
            words += [str(level), str(max(1, round(silence)))]
        wanted = ("record_seconds", "record_ms", "playback_terminator_used")
        found = _variables(await self.execute("record", " ".join(words), result=wanted))
        ms = str(found.get("record_ms") or "")
        seconds = int(ms) / 1000 if ms.isdigit() else float(found.get("record_seconds") or 0)
        return Recording(path, seconds, str(found.get("playback_terminator_used") or ""))

    async def set(self, **variables: str | int | float | bool) -> None:
        """Set channel variables."""
        for name, value in variables.items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            await self.execute("set", f"{name}={text}", wait=0)

    async def get(self, name: str) -> str | None:
        """A channel variable, None if it is not set."""
        found = str((await self.request("uuid_getvar", f"{self.uuid} {name}")).data or "")
        return None if found in ("", "_undef_") else found

    async def send_digits(self, digits: str) -> None:
        """Dial digits to the other end."""
        await self.request("uuid_send_dtmf", f"{self.uuid} {digits}")

    async def bridge(
        self,
        to: str | Call,
        *,
        ring: float | None = None,
        caller_id: tuple[str, str] | str | None = None,
        variables: Mapping[str, str | int | float | bool] | None = None,
        wait: float = LONGEST,
    ) -> Call:
        """Connect it to an endpoint, or to another call; returns the other leg, once they are connected.

        The caller hears the other end ring. When the other leg hangs up this one goes on, and is yours again
        (`await b.ended()` waits for that). Raises Busy, NoAnswer, … if nobody answers, Hangup if the caller hangs up.
        """
        settings: dict[str, str] = {"hangup_after_bridge": "false", "continue_on_fail": "true"}
        if isinstance(to, Call):
            settings["park_after_bridge"] = "true"
            await self._set_all(settings)
            await to._set_all({"hangup_after_bridge": "false", "park_after_bridge": "true"})
            bridged = self._expect(lambda event: event.name == "CHANNEL_BRIDGE")
            try:
                await self.request("uuid_bridge", f"{self.uuid} {to.uuid}")
                await self._within(bridged, 30.0, "the two calls were not connected")
            finally:
                bridged.cancel()
            return to
        if ring is not None:
            settings["call_timeout"] = str(max(1, round(ring)))
        if caller_id is not None:
            name, number = ("", caller_id) if isinstance(caller_id, str) else caller_id
            settings |= {"effective_caller_id_name": name, "effective_caller_id_number": number}
        await self._set_all(settings)
        for key, value in (variables or {}).items():
            text = str(value).lower() if isinstance(value, bool) else str(value)
            await self.execute("export", f"nolocal:{key}={text}", wait=0)
        app_uuid = ""

        def decides(event: Event) -> bool:
            if event.name == "CHANNEL_BRIDGE":
                return True
            if event.name != "CHANNEL_EXECUTE_COMPLETE" or event.header("Application") != "bridge":
                return False
            return not app_uuid or event.header("Application-UUID") == app_uuid

        decided = self._expect(decides)
        try:
            app_uuid = str((await self.execute("bridge", to, wait=0)).get("app_uuid", ""))
            event = await self._within(decided, wait, f"{to} has neither answered nor failed")
        finally:
            decided.cancel()
        if event.name == "CHANNEL_BRIDGE" and (other := getattr(event, "other_uuid", "")):
            return await self._client.take(other, self.node)
        for key in ("originate_failed_cause", "last_bridge_hangup_cause", "originate_disposition"):
            if cause := event.variable(key):
                raise call_failed(cause)
        raise CallFailed(event.variable("DIALSTATUS") or "NORMAL_UNSPECIFIED")

    async def _set_all(self, variables: Mapping[str, str]) -> None:
        """Several variables, in one request."""
        mark = next((each for each in "|~;!^" if not any(each in value for value in variables.values())), None)
        if mark is None:
            await self.set(**variables)
            return
        pairs = mark.join(f"{name}={value}" for name, value in variables.items())
        await self.execute("multiset", f"^^{mark}{pairs}", wait=0)

    async def transfer(self, extension: str, *, context: str = "default", dialplan: str = "XML") -> None:
        """Send it to an extension of FreeSWITCH's dialplan. It is not hung up by us any more."""
        await self.request("uuid_transfer", f"{self.uuid} {extension} {dialplan} {context}")
        self._let_go = True

    def let_go(self) -> None:
        """Leave it as it is when the handler or the `async with` ends."""
        self._let_go = True

    async def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        """End it; nothing happens if it has."""
        try:
            reply = await self._ask(Payload(command="hangup", uuid=self.uuid, cause=cause), self._client._wait)
        except Hangup:
            return
        if not reply.ok and not await self._gone():
            reply.check()

    # -- waiting

    async def ended(self, wait: float | None = None) -> End:
        """Wait for its end, and tell why. Raises NoReply if it has not ended within `wait` seconds."""
        if self.up:
            with suppress(Hangup):
                await self._until(None, wait)
        for _ in range(100):  # what comes behind CHANNEL_HANGUP
            if self._state.told:
                break
            await asyncio.sleep(0.02)
        return End(self.cause, self._state.complete)

    async def wait_for(self, *names: str, wait: float | None = None) -> Event:
        """The next event of this call with one of these names. Raises Hangup, and NoReply if none came in time."""
        wanted = frozenset(names)
        return await self._until(lambda event: event.name in wanted, wait)

    def events(self) -> _CallEvents:
        """All events of this call from now on, whatever the agents publish: `async for event in call.events()`.

        It ends with the call.
        """
        return _CallEvents(self)

    def _expect(self, wanted: core.Wanted | None) -> asyncio.Future[Event]:
        future: asyncio.Future[Event] = asyncio.get_running_loop().create_future()

        def answer(what: Event | AgentError) -> None:
            if not future.done():
                if isinstance(what, AgentError):
                    future.set_exception(what)
                    future.exception()  # it is not to be complained about if nobody waits any more
                else:
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

    async def _until(self, wanted: core.Wanted | None, wait: float | None) -> Event:
        future = self._expect(wanted)
        try:
            return await self._within(future, wait, "it has not happened")
        finally:
            future.cancel()

    # -- events

    def _heard(self, event: Event) -> None:
        self._state.feed(event)
        for each in self._listeners:
            each._put(event)
        if self._state.over:
            self._ended()

    def _ended(self) -> None:
        """Nothing more is to be heard of it."""
        client = self._client
        if client._calls.get(self.uuid) is self:
            del client._calls[self.uuid]
        client._places.pop(self._place, None)
        for each in self._listeners:
            each._put(None)

    async def _watch(self) -> None:
        """Have its events sent here. Raises Hangup if it is not there."""
        client = self._client
        payload = Payload(command="call.watch", uuid=self.uuid, to=f"{client._inbox}.c.{self._place}")
        reply = await self._ask(payload, GATHER)
        if not reply.ok:
            if await self._gone():
                raise Hangup(self.cause)
            reply.check()
        self._state.node = self._state.node or reply.node
        self._watched = True

    async def _resume(self, restarted: bool = False) -> None:
        """After a loss: hear of it again, or of its end. An agent that was restarted answers no wait of before."""
        if not self._settled:
            return
        async with self._resuming:
            before = list(self._state._waits)
            with suppress(AgentError):
                await self._watch()
            if restarted and self.up:
                await asyncio.sleep(2.0)  # replies and events that are on their way
                self._state.fail_some(before, NoReply("the agent was restarted, so the end is not known"))

    async def _abandon(self) -> None:
        """It is not known what has become of it: let it not live on without an owner."""
        deadline = asyncio.get_running_loop().time() + 120.0
        data = Payload(command="hangup", uuid=self.uuid, cause="ORIGINATOR_CANCEL").data
        while asyncio.get_running_loop().time() < deadline:
            with suppress(AgentError):
                await self._client._link.wait_up(deadline)
                await self._client._gather(f"{self._client.prefix}.api", data, GATHER, SETTLE)
                return
            await asyncio.sleep(1.0)

    async def _end_quietly(self) -> None:
        """Hang up, however long the link takes to come back (a minute at most)."""
        if not self.up:
            return
        try:
            await self.hangup()
        except AgentError as error:
            log.warning("call %s could not be hung up yet: %s", self.uuid, error)
            self._client._spawn(self._abandon(), "abandon")


class _CallEvents:
    """The events of one call, until it ends."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._queue: asyncio.Queue[Event | None] = asyncio.Queue(10_000)
        call._listeners.append(self)
        if not call.up:
            self._put(None)

    def _put(self, event: Event | None) -> None:
        if not self._queue.full():
            self._queue.put_nowait(event)

    async def next(self) -> Event | None:
        """The next one; None when the call has ended."""
        event = await self._queue.get()
        if event is None and self in self._call._listeners:
            self._call._listeners.remove(self)
        return event

    async def __aiter__(self) -> AsyncIterator[Event]:
        try:
            while (event := await self.next()) is not None:
                yield event
        finally:
            if self in self._call._listeners:
                self._call._listeners.remove(self)


class _Incoming:
    """One handler of incoming calls."""

    def __init__(
        self, client: Client, handler: Handler, contexts: list[str], number: str, audio: str, music: str, answer: bool,
        never: list[str], group: str | None, node: str | None,
    ) -> None:  # fmt: skip
        self._client = client
        self._handler = handler
        self.contexts, self.number = contexts, number
        self._audio, self._music, self._answer, self._never = audio, music, answer, never
        self._node = node
        scope = f"{'-'.join(sorted(contexts))}.{number}"
        self._group = f"ea-{uuids.uuid5(uuids.NAMESPACE_URL, group or scope).hex[:16]}"
        self._listening = False

    async def _begin(self) -> None:
        """Listen, then have calls parked."""
        client = self._client
        if not self._listening:
            self._listening = True
            client._link.subscribe(f"{client.prefix}.events.channel.park", self._parked, self._group)
        await self._again()

    async def _again(self) -> None:
        """Set park mode, on all nodes that are there. Those that come later have it set when they say so."""
        client = self._client
        scope = core.union_of_scopes((each.contexts, each.number) for each in client._incoming)
        never = [each for one in client._incoming for each in one._never]
        if never:
            scope["except"] = list(dict.fromkeys(never))
        audio: dict[str, Any] = {"command": "dialplan.audio", "mode": self._audio}
        if self._music:
            audio["music_class"] = self._music
        lane = f"{client.prefix}.node.{slug(self._node)}" if self._node else f"{client.prefix}.api"
        try:
            for payload in (
                Payload(audio),
                Payload(command="dialplan.autoanswer", enabled=self._answer),
                Payload(command="dialplan.enable", **scope),
            ):
                for reply in await client._gather(lane, payload.data, GATHER, SETTLE):
                    reply.check()
        except LinkError as error:
            log.info("park mode is set when NATS is back: %s", error)
        except AgentError as error:
            log.error("incoming calls are not parked: %s", error)
            if client._failed is not None and not client._failed.done():
                client._failed.set_exception(error)
                client._failed.exception()

    def _parked(self, message: Message) -> None:
        event = event_of(message.data)
        if event is None or not event.uuid or not event.variable("event_agent_parked"):
            return
        if event.uuid in self._client._calls or not core.matches(self.contexts, self.number, event):
            return
        if event.variable("event_agent_worker"):
            return  # somebody has it already
        call = Call(self._client, CallState(event.uuid, event.node, event))
        self._client._enter(call)
        self._client._spawn(self._handle(call), f"call {call.uuid}")

    async def _handle(self, call: Call) -> None:
        try:
            await call._watch()
            await call.execute("set", f"event_agent_worker={self._client._inbox[-12:]}", wait=0)
            result = self._handler(call)
            if inspect.isawaitable(result):
                await result
        except Hangup:
            pass
        except asyncio.CancelledError:
            raise
        except AgentError as error:
            log.warning("call %s: %s: %s", call.uuid, type(error).__name__, error)
        except Exception:
            log.exception("call %s: the handler failed", call.uuid)
        finally:
            if call.up and not call._let_go and not self._client._link._closed:
                self._client._spawn(call._end_quietly(), "hang up")


def _variables(reply: Reply) -> dict[str, Any]:
    data = reply.data
    found = data.get("variables") if isinstance(data, dict) else None
    return found if isinstance(found, dict) else {}


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
    ping_interval: float = 5.0,
) -> Client:
    """A client: `async with ea.connect(url) as fs`, or `fs = await ea.connect(url)` and `await fs.close()`.

    `url` is one server of a cluster or several, as a list or separated by commas; the environment's NATS_URL, or
    nats://127.0.0.1:4222, if it is left out. `creds` is the name of a .creds file; it wins over an NKey seed, which
    wins over a token. `wait` is how long a request is waited for, in seconds; `connect_wait` how long the first
    connection may take (a server that refuses us ends it at once); `patience` how long a call's agent may be away (a
    restart) before a command on the call says NoAgent. Raises ConfigError.
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
        ping_interval=ping_interval,
    )
