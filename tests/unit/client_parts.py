"""A NATS connection made of Python, for event_agent.client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from event_agent.client import client as module
from event_agent.client.client import (
    Client,
)
from event_agent.drivers.base import Deliver, Message
from event_agent.drivers.nats.connection import Observer
from event_agent.errors import LinkError

NOBODY = b"NATS/1.0 503\r\n\r\n"
Answer = Callable[[str, dict[str, Any]], list[Any]]


class FakeNats:
    """Hands what is published to `answer`, and its answers to the subscriber of the inbox, on another thread."""

    made: list[FakeNats] = []
    refuse: dict[str, str] = {}
    answer: Answer = staticmethod(lambda subject, payload: [])

    def __init__(self, url: str, **options: Any) -> None:
        self.url = url
        self.options = options
        self.info: dict[str, Any] = {"max_payload": 1000}
        self.reason = ""
        self.closed = False
        self.subs: dict[str, Deliver] = {}
        self.sent: list[tuple[str, dict[str, Any], str]] = []
        self.observer: Observer = options["observer"]
        self._nuid = SimpleNamespace(next_=lambda: bytearray(f"nuid{len(self.made)}".encode()))
        self.made.append(self)

    def connect(self) -> None:
        if self.url in self.refuse:
            raise LinkError(self.refuse[self.url])

    def subscribe(self, subject: str, *, callback: Deliver) -> str:
        self.subs[subject] = callback
        return subject

    def unsubscribe(self, sub: str) -> None:
        del self.subs[sub]

    def flush(self, timeout: float) -> bool:
        return True

    def publish(self, subject: str, *, payload: bytes, reply: str) -> None:
        request = json.loads(payload)
        self.sent.append((subject, request, reply))
        answers = type(self).answer(subject, request)
        thread = threading.Thread(target=self.deliver, args=(reply, answers))
        thread.start()
        thread.join()

    def deliver(self, reply: str, answers: list[Any]) -> None:
        inbox = self.subs[reply.rpartition(".")[0] + ".*"]
        for answer in answers:
            if answer is NOBODY:
                inbox([Message(reply.encode(), b"", b"", NOBODY)])
            else:
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                inbox([Message(reply.encode(), b"", data)])

    def close(self) -> None:
        self.closed = True


def ok(node: str = "n1", **more: Any) -> dict[str, Any]:
    return {"success": True, "status": "success", "message": "done", "node_id": node, **more}


def bad(message: str = "no", node: str = "n1") -> dict[str, Any]:
    return {"success": False, "status": "error", "message": message, "node_id": node}


def is_connected(client: Client) -> bool:
    """The property, read anew: mypy takes it to stay what it was."""
    return client.connected


def answers(monkeypatch: pytest.MonkeyPatch, answer: Answer) -> None:
    monkeypatch.setattr(FakeNats, "answer", staticmethod(answer))


def faked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client makes such connections."""
    monkeypatch.setattr(module, "NatsClient", FakeNats)
    monkeypatch.setattr(FakeNats, "made", [])
    monkeypatch.setattr(FakeNats, "refuse", {})
    monkeypatch.setattr(FakeNats, "answer", staticmethod(lambda subject, payload: [ok()]))
