"""One node, whichever is ready, and all of them, for threads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from event_agent_client import aio
from event_agent_client.core import WAIT, Reply
from event_agent_client.sync.thread import twin_of

if TYPE_CHECKING:
    from event_agent_client.sync.client import Client


class Node:
    """One node: `fs.node("fs-1")`; as `fs.any` whichever is ready."""

    def __init__(self, client: Client, inner: aio.Node) -> None:
        self._client = client
        self._inner = inner
        self.name = inner.name

    @twin_of(aio.Node.request)
    def request(
        self, command: str, args: str | None = None, *, wait: float | None = None,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> Reply:  # fmt: skip
        return self._client._run(self._inner.request(command, args, wait=wait, fields=fields, **more))

    @twin_of(aio.Node.api)
    def api(self, line: str, *, wait: float | None = None) -> str:
        return self._client._run(self._inner.api(line, wait=wait))

    @twin_of(aio.Node.status)
    def status(self, *, wait: float | None = None) -> Reply:
        return self._client._run(self._inner.status(wait=wait))

    @twin_of(aio.Node.drain)
    def drain(self, enabled: bool = True) -> None:
        self._client._run(self._inner.drain(enabled))


class All:
    """All nodes: `fs.all`."""

    def __init__(self, client: Client) -> None:
        self._client = client

    @twin_of(aio.All.request)
    def request(
        self, command: str, args: str | None = None, *, wait: float = WAIT, settle: float = 1.0,
        fields: Mapping[str, Any] | None = None, **more: Any,
    ) -> list[Reply]:  # fmt: skip
        inner = self._client._inner.all
        return self._client._run(inner.request(command, args, wait=wait, settle=settle, fields=fields, **more))

    @twin_of(aio.All.api)
    def api(self, line: str, *, wait: float = WAIT, settle: float = 1.0) -> list[Reply]:
        return self._client._run(self._client._inner.all.api(line, wait=wait, settle=settle))
