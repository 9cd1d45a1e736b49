"""Streams of events for asyncio: what is lost on the way is an item among them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from event_agent_client import core
from event_agent_client._link import Subscription
from event_agent_client._wire import Message
from event_agent_client.core import GATHER, slug
from event_agent_client.errors import (
    NotAllowed,
    Refused,
)
from event_agent_client.events import EventLike, Gap, event_of, gap_of

if TYPE_CHECKING:
    from event_agent_client.aio import Client

log = logging.getLogger("event_agent_client")


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
        core.check_seconds(wait)
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
