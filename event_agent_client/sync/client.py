"""The client for threads, on the one for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from event_agent_client import aio
from event_agent_client.core import GATHER, SETTLE, Reply
from event_agent_client.incoming import RouteRequest
from event_agent_client.live import EVERY
from event_agent_client.sync.calls import Call
from event_agent_client.sync.nodes import All, Node
from event_agent_client.sync.streams import Cdrs, Events, Live
from event_agent_client.sync.thread import ClientThread, twin_of

T = TypeVar("T")
Handler = Callable[[Call], object]
Router = Callable[[RouteRequest], Mapping[str, Any]]


class Client:
    """A client of all agents on a NATS server or cluster. Made by `connect`; `with` closes it in the end."""

    def __init__(self, inner: aio.Client, handlers: int) -> None:
        self._inner = inner
        self._thread = ClientThread(handlers)
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

    @twin_of(aio.Client.close)
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

    @twin_of(aio.Client.forever)
    def forever(self) -> None:
        self._run(self._inner.forever())

    @twin_of(aio.Client.request)
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

    @twin_of(aio.Client.call)
    def call(self, payload: Mapping[str, Any], *, node: str | None = None, wait: float | None = None) -> Reply:
        return self._run(self._inner.call(payload, node=node, wait=wait))

    @twin_of(aio.Client.send)
    def send(
        self, command: str, args: str | None = None, *, node: str | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> None:  # fmt: skip
        self._run(self._inner.send(command, args, node=node, fields=fields, **more))

    @twin_of(aio.Client.gather)
    def gather(
        self, command: str, args: str | None = None, *, wait: float = GATHER, settle: float = SETTLE,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> list[Reply]:  # fmt: skip
        return self._run(self._inner.gather(command, args, wait=wait, settle=settle, fields=fields, **more))

    @twin_of(aio.Client.node)
    def node(self, name: str) -> Node:
        return Node(self, self._inner.node(name))

    @twin_of(aio.Client.api)
    def api(self, line: str, *, wait: float | None = None) -> str:
        return self._run(self._inner.api(line, wait=wait))

    @twin_of(aio.Client.nodes)
    def nodes(self, *, wait: float = GATHER) -> list[Reply]:
        return self._run(self._inner.nodes(wait=wait))

    @twin_of(aio.Client.events)
    def events(self, *names: str, node: str | None = None, size: int = 10_000, check: bool = True) -> Events:
        return Events(self, self._inner.events(*names, node=node, size=size, check=check))

    @twin_of(aio.Client.dial)
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

    @twin_of(aio.Client.take)
    def take(self, uuid: str, node: str = "") -> Call:
        return Call(self, self._run(self._inner.take(uuid, node)))

    @twin_of(aio.Client.incoming)
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

    @twin_of(aio.Client.route)
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

    @twin_of(aio.Client.cdrs)
    def cdrs(self, durable: str, *, stream: str = "", batch: int = 100, ack_wait: float = 30.0) -> Cdrs:
        return Cdrs(self, self._inner.cdrs(durable, stream=stream, batch=batch, ack_wait=ack_wait))

    @twin_of(aio.Client.live)
    def live(self, *, every: float = EVERY) -> Live:
        return Live(self, self._run(self._inner.live(every=every)))
