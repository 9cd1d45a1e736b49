"""One node, whichever is ready, and all of them, for the client for asyncio."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from event_agent_client import core
from event_agent_client.core import WAIT, Reply

if TYPE_CHECKING:
    from event_agent_client.aio import Client


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
        core.check_text(line, "line")
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
        core.check_text(line, "line")
        verb, _, args = line.strip().partition(" ")
        return await self.request(verb, args.strip() or None, wait=wait, settle=settle, parts=True)
