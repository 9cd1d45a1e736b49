"""The calls that there are now, of each node, for asyncio: a list of FreeSWITCH's, then events, and never drifting.

Events alone would drift: some are lost, and FreeSWITCH's list is up to a second behind them. So after each loss, and
now and then, the list is compared with what the events have told, and what differs is asked of FreeSWITCH one by one
(`uuid_exists`, which goes by the sessions themselves and not by the list).
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from event_agent_client.core import GATHER, Reply
from event_agent_client.errors import AgentError
from event_agent_client.events import AgentConnected, Event, Gap

if TYPE_CHECKING:
    from event_agent_client.aio import Client

log = logging.getLogger("event_agent_client")

EVERY = 30.0  # seconds between two comparisons
MOST_ENDED = 20_000  # ended channels that are remembered


@dataclass(frozen=True)
class LiveCall:
    """One channel."""

    uuid: str
    node: str
    direction: str = ""
    caller_number: str = ""
    destination: str = ""
    state: str = ""
    """FreeSWITCH's call state: RINGING, ACTIVE, HELD, …"""


class LiveState:
    """What is known, and no sockets: events and lists in, differences out."""

    def __init__(self) -> None:
        self.calls: dict[str, dict[str, LiveCall]] = {}
        self._ended: OrderedDict[str, None] = OrderedDict()  # a list that is behind must not bring them back

    def feed(self, event: Event) -> bool:
        """An event came; True if something has changed."""
        name, uuid = event.name, event.uuid
        if not uuid:
            return False
        if name in ("CHANNEL_DESTROY", "AGENT_CHANNEL_GONE"):
            return self.drop(event.node, uuid)
        if uuid in self._ended:  # events do not always come in order
            return False
        if name == "AGENT_CHANNEL_FOUND":
            return self.add(event.node, event)
        if not name.startswith("CHANNEL_"):
            return False
        ours = self.calls.setdefault(event.node, {})
        now = LiveCall(
            uuid, event.node, event.header("Call-Direction"), event.header("Caller-Caller-ID-Number"),
            event.header("Caller-Destination-Number"), event.header("Channel-Call-State"),
        )  # fmt: skip
        if name == "CHANNEL_CREATE" or uuid in ours:
            changed = ours.get(uuid) != now
            ours[uuid] = now
            return changed
        return False

    def add(self, node: str, row: Mapping[str, Any]) -> bool:
        """A row of FreeSWITCH's list."""
        uuid = str(row.get("uuid", ""))
        if not uuid or uuid in self._ended:
            return False
        names = ("direction", "cid_num", "dest", "callstate")
        found = LiveCall(uuid, node, *(str(row.get(each) or "") for each in names))
        ours = self.calls.setdefault(node, {})
        changed = ours.get(uuid) != found
        ours[uuid] = found if uuid not in ours else replace(ours[uuid], state=found.state or ours[uuid].state)
        return changed

    def drop(self, node: str, uuid: str) -> bool:
        """It has ended."""
        self._ended[uuid] = None
        while len(self._ended) > MOST_ENDED:
            self._ended.popitem(last=False)
        return self.calls.get(node, {}).pop(uuid, None) is not None

    def differs(self, node: str, rows: Iterable[Mapping[str, Any]]) -> tuple[list[str], list[Mapping[str, Any]]]:
        """The uuids that we have and the list has not, and the rows that it has and we have not."""
        there = {str(row.get("uuid", "")): row for row in rows}
        ours = self.calls.setdefault(node, {})
        return (
            [uuid for uuid in ours if uuid not in there],
            [row for uuid, row in there.items() if uuid and uuid not in ours and uuid not in self._ended],
        )


class Live:
    """The calls that there are: `live = await fs.live()`, `live.calls["fs-1"]`, `live.on_change(draw)`."""

    def __init__(self, client: Client, every: float = EVERY) -> None:
        self._client = client
        self._every = every
        self._state = LiveState()
        self._listeners: list[Callable[[Live], object]] = []
        self._wake = asyncio.Event()
        self._tasks: list[asyncio.Task[Any]] = []
        self._again = False
        self.unreachable: set[str] = set()
        """Nodes that did not answer when they were last asked: what is known of their calls may be old."""
        self.compared = 0
        """How often the list was compared."""
        self.mended = 0
        """How many calls differed then, and were put right."""

    @property
    def calls(self) -> Mapping[str, Mapping[str, LiveCall]]:
        """Of each node the calls by their uuids. Of a node that has none it may be empty or missing."""
        return self._state.calls

    def count(self, node: str | None = None) -> int:
        """How many there are, on one node or on all."""
        return sum(len(calls) for name, calls in self._state.calls.items() if node is None or name == node)

    def on_change(self, listener: Callable[[Live], object]) -> None:
        """Have it called after each change, on the client's own thread: it must not wait."""
        self._listeners.append(listener)

    async def begin(self) -> Live:
        """Listen and take the first list. Raises LinkError, Refused."""
        stream = self._client.events("CHANNEL_*", "AGENT_*", size=100_000, check=False)
        await stream.begin()
        await self._compare()
        self._tasks = [
            self._client._spawn(self._read(stream), "live events"),
            self._client._spawn(self._keep(), "live lists"),
        ]
        self._again = True  # of a call that has just begun neither an event nor the list has told
        self._wake.set()
        return self

    async def aclose(self) -> None:
        """Follow them no longer."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _read(self, stream: Any) -> None:
        async for item in stream:
            if isinstance(item, Gap) or isinstance(item, AgentConnected) or item.name == "AGENT_GAP":
                self._again = True
                self._wake.set()
            elif self._state.feed(item):
                self._changed()

    async def _keep(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._compare()
                if self._again:  # the list is up to a second behind
                    self._again = False
                    await asyncio.sleep(1.5)
                    await self._compare()
            except AgentError as error:
                log.info("the list of calls is compared later: %s", error)
                await asyncio.sleep(1.0)
                self._wake.set()

    async def _compare(self) -> None:
        replies = await self._client.gather("show", "channels as json", wait=GATHER, settle=1.0, parts=True)
        seen = set()
        changed = False
        for reply in replies:
            rows = _rows(reply)
            if rows is None:
                continue
            seen.add(reply.node)
            surplus, missing = self._state.differs(reply.node, rows)
            for uuid in surplus:
                if await self._exists(reply.node, uuid) is False:
                    changed |= self._state.drop(reply.node, uuid)
                    self.mended += 1
            for row in missing:
                if await self._exists(reply.node, str(row.get("uuid"))) is True and self._state.add(reply.node, row):
                    changed = True
                    self.mended += bool(self.compared)
        self.unreachable = set(self._state.calls) - seen
        self.compared += 1
        if changed:
            self._changed()

    async def _exists(self, node: str, uuid: str) -> bool | None:
        with suppress(AgentError):
            name = None if node == "unknown" else node
            answer = str((await self._client.request("uuid_exists", uuid, node=name, wait=GATHER)).data).strip()
            return {"true": True, "false": False}.get(answer)
        return None

    def _changed(self) -> None:
        for each in self._listeners:
            try:
                each(self)
            except Exception:
                log.exception("a listener of live calls failed")


def _rows(reply: Reply) -> list[dict[str, Any]] | None:
    """The rows of `show channels as json`; None if FreeSWITCH would not say."""
    with suppress(ValueError, TypeError, AttributeError):
        found = json.loads(reply.data)
        if reply.ok and isinstance(found.get("row_count"), int):
            rows = found.get("rows") or []
            if len(rows) == found["row_count"]:
                return [row for row in rows if isinstance(row, dict)]
    return None


__all__ = ["Live", "LiveCall", "LiveState"]
