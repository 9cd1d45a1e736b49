"""The client for threads: `ea.sync.connect`, the same as `ea.connect` without `await`.

    with ea.sync.connect("nats://127.0.0.1:4222") as fs:
        with fs.dial("user/1000", ring=20) as call:
            call.play("tone_stream://%(300,100,800)")

Every method may be called from any thread but the client's own. That one, `event-agent-client`, runs the client for
asyncio, so both behave alike. Handlers of `incoming` and `route` run on threads of a pool, one for each call.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import ssl
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, TypeVar

from event_agent_client import aio
from event_agent_client.calls import CallEvents, End, Recording
from event_agent_client.core import GATHER, LONGEST, SETTLE, WAIT, Reply
from event_agent_client.errors import LinkError
from event_agent_client.events import Cdr, Event, EventLike
from event_agent_client.incoming import RouteRequest
from event_agent_client.live import EVERY, LiveCall

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])
Handler = Callable[["Call"], object]
Router = Callable[[RouteRequest], Mapping[str, Any]]
HANDLERS: Final = 200  # calls that are handled at one time; further ones wait, parked


def _as(other: Callable[..., Any]) -> Callable[[F], F]:
    """With the docstring of the method that it stands for."""

    def take(function: F) -> F:
        function.__doc__ = other.__doc__
        return function

    return take


class _Thread:
    """The thread on which the client for asyncio runs."""

    def __init__(self, handlers: int) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="event-agent-client", daemon=True)
        self._thread.start()
        self.pool = concurrent.futures.ThreadPoolExecutor(handlers, thread_name_prefix="event-agent-call")

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            self.loop.close()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """What comes of it. Raises what it raises; LinkError once the client is closed."""
        if threading.current_thread() is self._thread:
            work.close()
            raise RuntimeError("the client's own thread can't wait for the client: use another thread")
        if self.loop.is_closed():
            work.close()
            raise LinkError("the client is closed")
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise LinkError("the client is closed", "unknown") from None
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """End both kinds of threads; handlers that wait for the client have been told by then."""
        ours = threading.current_thread() in getattr(self.pool, "_threads", ())  # a handler closes the client
        self.pool.shutdown(wait=not ours, cancel_futures=True)
        if self.loop.is_closed():
            return
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)


class Client:
    """A client of all agents on a NATS server or cluster. Made by `connect`; `with` closes it in the end."""

    def __init__(self, inner: aio.Client, handlers: int) -> None:
        self._inner = inner
        self._thread = _Thread(handlers)
        self.prefix = inner.prefix
        self.streams = inner.streams
        self.all = All(self)
        """All nodes."""
        self.any = Node(self, inner.any)
        """One node that is ready; which one is NATS's choice, for each request anew."""
        try:
            self._run(inner.connect())
        except BaseException:
            self._thread.stop()
            raise

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._thread.run(work)

    @_as(aio.Client.close)
    def close(self) -> None:
        if not self._thread.loop.is_closed():
            self._run(self._inner.close())
            self._thread.stop()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    @property
    def connected(self) -> bool:
        """Whether there is a link to a NATS server now."""
        return self._inner.connected

    @_as(aio.Client.forever)
    def forever(self) -> None:
        self._run(self._inner.forever())

    @_as(aio.Client.request)
    def request(
        self,
        command: str,
        args: str | None = None,
        *,
        node: str | None = None,
        wait: float | None = None,
        fields: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Reply:
        return self._run(self._inner.request(command, args, node=node, wait=wait, fields=fields, **more))

    @_as(aio.Client.call)
    def call(self, payload: Mapping[str, Any], *, node: str | None = None, wait: float | None = None) -> Reply:
        return self._run(self._inner.call(payload, node=node, wait=wait))

    @_as(aio.Client.send)
    def send(
        self, command: str, args: str | None = None, *, node: str | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self._run(self._inner.send(command, args, node=node, fields=fields, **more))

    @_as(aio.Client.gather)
    def gather(
        self, command: str, args: str | None = None, *, wait: float = GATHER, settle: float = SETTLE,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> list[Reply]:  # fmt: skip
        return self._run(self._inner.gather(command, args, wait=wait, settle=settle, fields=fields, **more))

    @_as(aio.Client.node)
    def node(self, name: str) -> Node:
        return Node(self, self._inner.node(name))

    @_as(aio.Client.api)
    def api(self, line: str, *, wait: float | None = None) -> str:
        return self._run(self._inner.api(line, wait=wait))

    @_as(aio.Client.nodes)
    def nodes(self, *, wait: float = GATHER) -> list[Reply]:
        return self._run(self._inner.nodes(wait=wait))

    @_as(aio.Client.events)
    def events(self, *names: str, node: str | None = None, size: int = 10_000, check: bool = True) -> Events:
        return Events(self, self._inner.events(*names, node=node, size=size, check=check))

    @_as(aio.Client.dial)
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
    ) -> Call:
        dial = self._inner.dial(
            endpoint, ring=ring, caller_id=caller_id, variables=variables, early_media=early_media, node=node, wait=wait
        )
        return Call(self, self._run(dial._dial()))

    @_as(aio.Client.take)
    def take(self, uuid: str, node: str = "") -> Call:
        return Call(self, self._run(self._inner.take(uuid, node)))

    @_as(aio.Client.incoming)
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
        def decorate(handler: Handler) -> Handler:
            async def handle(call: aio.Call) -> None:
                await self._thread.loop.run_in_executor(self._thread.pool, handler, Call(self, call))

            async def begin() -> None:
                self._inner.incoming(
                    context, number, audio, music=music, answer=answer, exceptions=exceptions, group=group, node=node
                )(handle)

            self._run(begin())
            return handler

        return decorate


    @_as(aio.Client.route)
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
        def decorate(router: Router) -> Router:
            async def decide(request: RouteRequest) -> Mapping[str, Any]:
                return await self._thread.loop.run_in_executor(self._thread.pool, router, request)

            async def begin() -> None:
                self._inner.route(
                    context, number, exceptions=exceptions, variables=variables, timeout=timeout, fallback=fallback,
                    subject=subject, group=group, node=node,
                )(decide)  # fmt: skip

            self._run(begin())
            return router

        return decorate

    @_as(aio.Client.cdrs)
    def cdrs(self, durable: str, *, stream: str = "", batch: int = 100, ack_wait: float = 30.0) -> Cdrs:
        return Cdrs(self, self._inner.cdrs(durable, stream=stream, batch=batch, ack_wait=ack_wait))

    @_as(aio.Client.live)
    def live(self, *, every: float = EVERY) -> Live:
        return Live(self, self._run(self._inner.live(every=every)))


class Record(Cdr):
    """A call record of a stream, as `ea.Record` is for asyncio. Acknowledge it when it is stored."""

    _client: Client
    _inner: aio.Record
    key: str
    """Names this record and no other, however often it comes: for a unique column."""
    deliveries: int
    """How often it was handed out: 1 for the first time."""
    pending: int
    """How many records wait behind it."""

    @_as(aio.Record.ack)
    def ack(self) -> None:
        self._client._run(self._inner.ack())

    @_as(aio.Record.nak)
    def nak(self, delay: float = 0.0) -> None:
        self._client._run(self._inner.nak(delay))

    @_as(aio.Record.term)
    def term(self) -> None:
        self._client._run(self._inner.term())


class Cdrs:
    """Call records: `for cdr in fs.cdrs(durable="billing")`."""

    def __init__(self, client: Client, inner: aio.Cdrs) -> None:
        self._client = client
        self._inner = inner

    @_as(aio.Cdrs.begin)
    def begin(self) -> Cdrs:
        self._client._run(self._inner.begin())
        return self

    @_as(aio.Cdrs.next)
    def next(self, wait: float | None = None) -> Record | None:
        found = self._client._run(self._inner.next(wait))
        if found is None:
            return None
        record = Record(found)
        record._client, record._inner = self._client, found
        record.key, record.deliveries, record.pending = found.key, found.deliveries, found.pending
        return record

    @_as(aio.Cdrs.aclose)
    def close(self) -> None:
        if not self._client._thread.loop.is_closed():
            self._client._run(self._inner.aclose())

    def __enter__(self) -> Cdrs:
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[Record]:
        try:
            while (record := self.next()) is not None:
                yield record
        finally:
            self.close()


class Live:
    """The calls that there are: `live = fs.live()`, `live.calls["fs-1"]`, `live.on_change(draw)`."""

    def __init__(self, client: Client, inner: aio.Live) -> None:
        self._client = client
        self._inner = inner

    @property
    def calls(self) -> Mapping[str, Mapping[str, LiveCall]]:
        """Of each node the calls by their uuids, as they are now: a copy."""

        async def copy() -> dict[str, dict[str, LiveCall]]:
            return {node: dict(calls) for node, calls in self._inner.calls.items()}

        return self._client._run(copy())

    @property
    def unreachable(self) -> set[str]:
        """Nodes that did not answer when they were last asked: what is known of their calls may be old."""
        return self._inner.unreachable

    @_as(aio.Live.count)
    def count(self, node: str | None = None) -> int:
        async def count() -> int:
            return self._inner.count(node)

        return self._client._run(count())

    @_as(aio.Live.on_change)
    def on_change(self, listener: Callable[[Live], object]) -> None:
        self._inner.on_change(lambda _: self._client._thread.pool.submit(listener, self))

    @_as(aio.Live.aclose)
    def close(self) -> None:
        if not self._client._thread.loop.is_closed():
            self._client._run(self._inner.aclose())


class Node:
    """One node: `fs.node("fs-1")`; as `fs.any` whichever is ready."""

    def __init__(self, client: Client, inner: aio.Node) -> None:
        self._client = client
        self._inner = inner
        self.name = inner.name

    @_as(aio.Node.request)
    def request(
        self, command: str, args: str | None = None, *, wait: float | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> Reply:  # fmt: skip
        return self._client._run(self._inner.request(command, args, wait=wait, fields=fields, **more))

    @_as(aio.Node.api)
    def api(self, line: str, *, wait: float | None = None) -> str:
        return self._client._run(self._inner.api(line, wait=wait))

    @_as(aio.Node.status)
    def status(self, *, wait: float | None = None) -> Reply:
        return self._client._run(self._inner.status(wait=wait))

    @_as(aio.Node.drain)
    def drain(self, enabled: bool = True) -> None:
        self._client._run(self._inner.drain(enabled))


class All:
    """All nodes: `fs.all`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @_as(aio.All.request)
    def request(
        self, command: str, args: str | None = None, *, wait: float = WAIT, settle: float = 1.0,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> list[Reply]:  # fmt: skip
        inner = self._client._inner.all
        return self._client._run(inner.request(command, args, wait=wait, settle=settle, fields=fields, **more))

    @_as(aio.All.api)
    def api(self, line: str, *, wait: float = WAIT, settle: float = 1.0) -> list[Reply]:
        return self._client._run(self._client._inner.all.api(line, wait=wait, settle=settle))


class Events:
    """A stream of events: `for`, or `with` for one that begins before its first event is asked for."""

    def __init__(self, client: Client, inner: aio.Events) -> None:
        self._client = client
        self._inner = inner

    @_as(aio.Events.begin)
    def begin(self) -> Events:
        self._client._run(self._inner.begin())
        return self

    @_as(aio.Events.next)
    def next(self, wait: float | None = None) -> EventLike | None:
        return self._client._run(self._inner.next(wait))

    def close(self) -> None:
        """No more events from here on."""
        if not self._client._thread.loop.is_closed():
            self._client._run(self._inner.aclose())

    def __enter__(self) -> Events:
        return self.begin()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def __iter__(self) -> Iterator[EventLike]:
        try:
            while (item := self.next()) is not None:
                yield item
        finally:
            self.close()


class Call:
    """One call (one channel), as `ea.Call` is for asyncio. As a `with` statement it is hung up in the end."""

    def __init__(self, client: Client, inner: aio.Call) -> None:
        self._client = client
        self._inner = inner

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._inner._let_go:
            self._client._run(self._inner._end_quietly())

    def __repr__(self) -> str:
        return repr(self._inner)

    @property
    def uuid(self) -> str:
        return self._inner.uuid

    @property
    def node(self) -> str:
        """The node that has it."""
        return self._inner.node

    @property
    def up(self) -> bool:
        """False once it has ended."""
        return self._inner.up

    @property
    def answered(self) -> bool:
        return self._inner.answered

    @property
    def cause(self) -> str:
        """Why it has ended, "" while it has not."""
        return self._inner.cause

    @property
    def bridged_to(self) -> str:
        """The other leg's uuid, "" if it is connected to none."""
        return self._inner.bridged_to

    @property
    def event(self) -> Event:
        """The last event that was seen of it, with all headers and variables as they were then."""
        return self._inner.event

    @property
    def caller_number(self) -> str:
        return self._inner.caller_number

    @property
    def caller_name(self) -> str:
        return self._inner.caller_name

    @property
    def destination(self) -> str:
        """The number dialled."""
        return self._inner.destination

    @property
    def context(self) -> str:
        return self._inner.context

    @_as(aio.Call.request)
    def request(
        self, command: str, args: str | None = None, *, wait: float | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> Reply:  # fmt: skip
        return self._client._run(self._inner.request(command, args, wait=wait, fields=fields, **more))

    @_as(aio.Call.execute)
    def execute(
        self, app: str, args: str = "", *, wait: float | None = None, result: str | Sequence[str] = ()
    ) -> Reply:
        return self._client._run(self._inner.execute(app, args, wait=wait, result=result))

    @_as(aio.Call.answer)
    def answer(self) -> None:
        self._client._run(self._inner.answer())

    @_as(aio.Call.ring)
    def ring(self) -> None:
        self._client._run(self._inner.ring())

    @_as(aio.Call.play)
    def play(self, what: str, *, wait: float | None = None) -> None:
        self._client._run(self._inner.play(what, wait=wait))

    @_as(aio.Call.stop)
    def stop(self) -> None:
        self._client._run(self._inner.stop())

    @_as(aio.Call.sleep)
    def sleep(self, seconds: float) -> None:
        self._client._run(self._inner.sleep(seconds))

    @_as(aio.Call.digits)
    def digits(
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
        return self._client._run(
            self._inner.digits(
                count, most, prompt=prompt, invalid=invalid, tries=tries, timeout=timeout, between=between, end=end,
                pattern=pattern,
            )
        )  # fmt: skip

    @_as(aio.Call.say)
    def say(self, text: str, *, kind: str = "number", method: str = "pronounced", language: str = "en") -> None:
        self._client._run(self._inner.say(text, kind=kind, method=method, language=language))

    @_as(aio.Call.speak)
    def speak(self, text: str, *, engine: str, voice: str) -> None:
        self._client._run(self._inner.speak(text, engine=engine, voice=voice))

    @_as(aio.Call.record)
    def record(
        self, path: str, *, limit: float | None = None, silence: float | None = None, level: int = 200, end: str = "#"
    ) -> Recording:
        return self._client._run(self._inner.record(path, limit=limit, silence=silence, level=level, end=end))

    @_as(aio.Call.set)
    def set(self, **variables: str | int | float | bool) -> None:
        self._client._run(self._inner.set(**variables))

    @_as(aio.Call.get)
    def get(self, name: str) -> str | None:
        return self._client._run(self._inner.get(name))

    @_as(aio.Call.send_digits)
    def send_digits(self, digits: str) -> None:
        self._client._run(self._inner.send_digits(digits))

    @_as(aio.Call.bridge)
    def bridge(
        self,
        to: str | Call,
        *,
        ring: float | None = None,
        caller_id: tuple[str, str] | str | None = None,
        variables: Mapping[str, str | int | float | bool] | None = None,
        wait: float = LONGEST,
    ) -> Call:
        target = to._inner if isinstance(to, Call) else to
        found = self._client._run(
            self._inner.bridge(target, ring=ring, caller_id=caller_id, variables=variables, wait=wait)
        )
        return Call(self._client, found)

    @_as(aio.Call.transfer)
    def transfer(self, extension: str, *, context: str = "default", dialplan: str = "XML") -> None:
        self._client._run(self._inner.transfer(extension, context=context, dialplan=dialplan))

    @_as(aio.Call.let_go)
    def let_go(self) -> None:
        self._inner.let_go()

    @_as(aio.Call.hangup)
    def hangup(self, cause: str = "NORMAL_CLEARING") -> None:
        self._client._run(self._inner.hangup(cause))

    @_as(aio.Call.ended)
    def ended(self, wait: float | None = None) -> End:
        return self._client._run(self._inner.ended(wait))

    @_as(aio.Call.wait_for)
    def wait_for(self, *names: str, wait: float | None = None) -> Event:
        return self._client._run(self._inner.wait_for(*names, wait=wait))

    @_as(aio.Call.events)
    def events(self) -> Iterator[EventLike]:
        async def begin() -> CallEvents:
            return self._inner.events()

        inner = self._client._run(begin())
        while (event := self._client._run(inner.next())) is not None:
            yield event


@_as(aio.connect)
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
    away: float = aio.AWAY,
    ping_interval: float = 5.0,
    handlers: int = HANDLERS,
) -> Client:
    inner = aio.connect(
        url, prefix=prefix, token=token, nkey_seed=nkey_seed, creds=creds, tls=tls,
        name=name or f"event-agent-client/sync pid={os.getpid()}", wait=wait, connect_wait=connect_wait,
        patience=patience, away=away, ping_interval=ping_interval,
    )  # fmt: skip
    return Client(inner, handlers)
