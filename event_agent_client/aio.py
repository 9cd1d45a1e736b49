"""The client for asyncio. `event_agent_client.sync` has the same for threads; both stand on `core` and `_link`."""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Final, TypeVar

from event_agent_client import core
from event_agent_client._auth import Identity
from event_agent_client._link import Link
from event_agent_client.calls import Call, CallEvents, Dial, End, Recording
from event_agent_client.cdrs import Cdrs, Record
from event_agent_client.core import GATHER, SETTLE, WAIT, Payload, Reply, is_subject, payload_of
from event_agent_client.errors import AgentError, ConfigError, Hangup, LinkError, NoAgent, Refused
from event_agent_client.events import EventLike, Gap
from event_agent_client.following import Following
from event_agent_client.incoming import Incoming, Router, RouteRequest, Routes
from event_agent_client.live import EVERY, Live, LiveCall
from event_agent_client.nodes import All, Node
from event_agent_client.state import CallState
from event_agent_client.streams import Events

__all__ = [
    "All", "Call", "CallEvents", "Cdrs", "Client", "Dial", "End", "EventLike", "Events", "Live", "LiveCall", "Node",
    "Record", "Recording", "RouteRequest", "connect",
]  # fmt: skip

log = logging.getLogger("event_agent_client")

AWAY: Final = 120.0  # seconds for which waits outlast a link that is lost
CHANGES: Final = 3  # how often a call that is taken may be connected to another one meanwhile
T = TypeVar("T")
Handler = Callable[[Call], Awaitable[object]]


class Client(Following):
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
        super().__init__(prefix, Link(urls, identity, tls, name, ping_interval), away, patience)
        self._wait = wait
        self._connect_wait = connect_wait
        self._lost: asyncio.TimerHandle | None = None  # ends the waits of calls if there is no link by then
        self._link.on_up, self._link.on_down, self._link.on_refused = self._up, self._down, self._refused
        self._streams: set[Events] = set()
        self._incoming: list[Incoming] = []
        self._routes: list[Routes] = []
        self._pulls: set[Cdrs] = set()
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
        self._give_up(LinkError("the client is closed"))

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
        self._check_begun()
        assert self._failed is not None
        await asyncio.shield(self._failed)

    def _check_begun(self) -> None:
        """Raises ConfigError for a client that was made and not connected: it would wait for a link in vain."""
        if not self._started:
            raise ConfigError("the client is not connected: async with ea.connect(url) as fs, or await it")

    def _check_open(self) -> None:
        if self._link._closed:
            raise LinkError("the client is closed")

    async def _wait_up(self, wait: float) -> None:
        self._check_begun()
        await super()._wait_up(wait)

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
        self._check_begun()
        core.check_seconds(wait)
        payload = Payload(payload)
        data = payload.data
        wait = core.time_for(payload, self._wait) if wait is None else wait
        lane = self._lane(payload, node)
        try:
            return await self._ask(lane, data, wait)
        except NoAgent:
            if lane != core.any_lane(self.prefix):
                raise
        if core.is_question(payload.get("command")):
            return await self._ask(core.all_lane(self.prefix), data, wait)
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
        self._check_begun()
        core.check_seconds(wait)
        core.check_seconds(settle, "settle")
        data = payload_of(command, args, fields, more).data
        return await self._gather(core.all_lane(self.prefix), data, wait, settle)

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
        self._check_begun()
        core.check_text(uuid, "uuid")
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
        self._check_open()
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
        self._check_open()
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
