"""A client that is a fake, and the replies it gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

from event_agent.client.client import CommandFailed, Reply


def ok(data: Any = None, node: str = "n1", **more: Any) -> Reply:
    found: Reply = {"success": True, "status": "success", "message": "done", "node_id": node, **more}
    return found if data is None else found | {"data": data}


def bad(message: str, node: str = "n1") -> Reply:
    return {"success": False, "status": "error", "message": message, "node_id": node}


def node_status(node: str = "n1", up: bool = True, **more: Any) -> Reply:
    data = {
        "version": "1.0.0", "uptime": 61, "commands_received": 1234, "events_published": 5, "events_dropped": 0,
        "commands_pending": 0, "stats": {"requests_failed": 0},
        "freeswitch": {"connected": up, "events": up, "version": "FreeSWITCH Version 1.10.12-release+git~2 (git x)"},
    }  # fmt: skip
    return ok(data | more, node)


class FakeClient:
    """Answers as `replies` says, by command; remembers what it was asked."""

    def __init__(self, replies: Mapping[str, Any] | None = None, fault: Exception | None = None) -> None:
        self.replies = {"agent.status": [node_status()], **(replies or {})}
        self.fault = fault
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.timeouts: list[float] = []
        self.streams: set[str] = set()

    def _answer(self, how: str, payload: Mapping[str, Any], timeout: float) -> list[Reply]:
        self.asked.append((how, dict(payload)))
        self.timeouts.append(timeout)
        found = self.replies.get(payload["command"], [])
        if isinstance(found, Exception):
            raise found
        return [json.loads(json.dumps(each)) for each in found]

    def call(self, payload: Mapping[str, Any], node: str | None = None, timeout: float = 35) -> Reply:
        return self._answer(node or "any", payload, timeout)[0]

    def request(
        self, command: str, args: str | None = None, node: str | None = None, timeout: float = 35,
        fields: Mapping[str, Any] | None = None,
    ) -> Reply:  # fmt: skip
        payload = {"command": command, **({} if args is None else {"args": args}), **(fields or {})}
        reply = self.call(payload, node, timeout)
        if not reply["success"]:
            raise CommandFailed(reply)
        return reply

    def gather(
        self, command: str, args: str | None = None, timeout: float = 5, fields: Mapping[str, Any] | None = None, *,
        node: str | None = None, settle: float | None = None, expect: int | None = None,
        until: Callable[[Reply], bool] | None = None,
    ) -> list[Reply]:  # fmt: skip
        payload = {"command": command, **({} if args is None else {"args": args}), **(fields or {})}
        found = []
        for reply in self._answer(node or "all", payload, timeout):
            found.append(reply)
            if until is not None and until(reply):
                break
        return found

    def send(self, payload: Mapping[str, Any], node: str | None = None) -> None:
        self.asked.append(("send", dict(payload)))

    def __enter__(self) -> FakeClient:
        if self.fault is not None:
            raise self.fault
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass


Run = Callable[..., tuple[int, str, str]]
