"""Events, call records and the calls that there are, for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from event_agent_client import aio
from event_agent_client.events import Cdr, EventLike
from event_agent_client.live import LiveCall
from event_agent_client.sync.thread import twin_of

if TYPE_CHECKING:
    from event_agent_client.sync.client import Client


class Events:
    """A stream of events: `for`, or `with` for one that begins before its first event is asked for."""

    def __init__(self, client: Client, inner: aio.Events) -> None:
        self._client = client
        self._inner = inner

    @twin_of(aio.Events.begin)
    def begin(self) -> Events:
        self._client._run(self._inner.begin())
        return self

    @twin_of(aio.Events.next)
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

    @twin_of(aio.Record.ack)
    def ack(self) -> None:
        self._client._run(self._inner.ack())

    @twin_of(aio.Record.nak)
    def nak(self, delay: float = 0.0) -> None:
        self._client._run(self._inner.nak(delay))

    @twin_of(aio.Record.term)
    def term(self) -> None:
        self._client._run(self._inner.term())


class Cdrs:
    """Call records: `for cdr in fs.cdrs(durable="billing")`."""

    def __init__(self, client: Client, inner: aio.Cdrs) -> None:
        self._client = client
        self._inner = inner

    @twin_of(aio.Cdrs.begin)
    def begin(self) -> Cdrs:
        self._client._run(self._inner.begin())
        return self

    @twin_of(aio.Cdrs.next)
    def next(self, wait: float | None = None) -> Record | None:
        found = self._client._run(self._inner.next(wait))
        if found is None:
            return None
        record = Record(found)
        record._client, record._inner = self._client, found
        record.key, record.deliveries, record.pending = found.key, found.deliveries, found.pending
        return record

    @twin_of(aio.Cdrs.aclose)
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

    @twin_of(aio.Live.count)
    def count(self, node: str | None = None) -> int:
        async def count() -> int:
            return self._inner.count(node)

        return self._client._run(count())

    @twin_of(aio.Live.on_change)
    def on_change(self, listener: Callable[[Live], object]) -> None:
        self._inner.on_change(lambda _: self._client._thread.pool.submit(listener, self))

    @twin_of(aio.Live.aclose)
    def close(self) -> None:
        if not self._client._thread.loop.is_closed():
            self._client._run(self._inner.aclose())
