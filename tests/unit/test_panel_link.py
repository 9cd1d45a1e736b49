"""The panel's two threads on a client made of Python: when they ask whom, and what they tell the pages."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from event_agent.client.client import AgentTimeout, NoAgent
from event_agent.errors import LinkError
from tests.support import until

link = pytest.importorskip("examples.panel.link", reason="not a checkout")
world = pytest.importorskip("examples.panel.world", reason="not a checkout")


class FakeStream:
    """What `events` returns."""

    def __init__(self, next: Callable[[float], Any]) -> None:
        self.dropped = 0
        self.next = next

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to undo."""


class FakeClient:
    """In the client's place: `replies` to agent.status, `rows` of every node, events by `push`."""

    def __init__(self) -> None:
        self.servers = ("nats://user:secret@localhost:4222",)
        self.connected = False
        self.refuse = ""
        self.replies: list[Any] = []
        self.listing: Callable[[str], Any] = lambda node: {"data": '{"row_count":0}'}
        self.parked: list[str] | None = []
        self.registrations = '{"row_count":0}'
        self.asked: list[str | None] = []
        self.sent: list[Any] = []
        self.stream: Any = None
        self._changed = threading.Condition()
        self._events: list[Any] = []

    def connect(self) -> None:
        if self.refuse:
            raise LinkError(self.refuse)
        self.connected = True

    def events(self, pattern: str) -> Any:
        self.stream = FakeStream(self._next)
        return self.stream

    def _next(self, timeout: float) -> Any:
        with self._changed:
            self._changed.wait_for(lambda: self._events or not self.connected, 0.05)
            if not self.connected:
                raise LinkError("lost")
            return self._events.pop(0) if self._events else None

    def push(self, event: Any) -> None:
        with self._changed:
            self._events.append(event)
            self._changed.notify()

    def gather(self, command: str, **_: Any) -> list[Any]:
        if not self.replies:
            raise NoAgent("nobody")
        return self.replies

    def request(self, command: str, args: str, node: str | None, timeout: float) -> Any:
        if args != "channels as json":
            return {"data": self.registrations}
        self.asked.append(node)
        return self.listing(node or "")

    def call(self, request: Any, node: str | None, timeout: float) -> Any:
        if request == {"command": "dialplan.status", "calls": True}:
            return {"data": {"calls": self.parked} if self.parked is not None else {}}
        return {"success": True, "node": node}

    def send(self, request: Any, node: str | None) -> None:
        self.sent.append(request)

    def close(self) -> None:
        with self._changed:
            self.connected = False
            self._changed.notify()


def node(name: str) -> dict[str, Any]:
    return {"node_id": name, "data": {"freeswitch": {"connected": True}, "dialplan": {}}}


@pytest.fixture
def linked() -> Iterator[tuple[FakeClient, Any, Any]]:
    client, known = FakeClient(), world.World()
    found = link.Link(client, known, poll=0.02)
    client.replies = [node("fs-1")]
    found.start()
    yield client, known, found
    found.stop()
    assert not [each.name for each in threading.enumerate() if each.name.startswith("panel-")]


def test_channels_are_listed_when_they_may_have_changed(linked: tuple[FakeClient, Any, Any]) -> None:
    client, known, _ = linked
    until(lambda: client.asked == ["fs-1"], "a new node's are")
    client.replies = [node("fs-1"), node("unknown")]
    until(lambda: client.asked[1:] == [None], "of a node without a name, by no name")
    client.push({"event_name": "AGENT_CONNECTED", "node_id": "FS-1", "headers": {}})
    until(lambda: client.asked[2:] == ["fs-1"], "after an outage of FreeSWITCH")
    client.stream.dropped = 5
    until(lambda: len(client.asked) == 5, "after events were dropped: all")
    assert known.journal.recent()[-1]["text"] == "5 events came faster than the panel could read them"
    client.close()
    until(lambda: len(client.asked) == 7, "after an outage of NATS: all")
    assert "secret" not in repr(known.links())


def test_channels_that_cannot_be_listed(linked: tuple[FakeClient, Any, Any]) -> None:
    client, known, _ = linked
    until(lambda: client.asked, "they are asked for")

    def fail(_: str) -> Any:
        raise AgentTimeout("no reply within 10 seconds")

    client.listing = fail
    client.push({"event_name": "AGENT_CONNECTED", "node_id": "fs-1", "headers": {}})
    until(lambda: known.links()["nodes"][0]["list_fault"], "the page is told")
    until(lambda: len(client.asked) > 3, "they are asked for again and again")
    client.listing = lambda _: {"data": '{"row_count":0}'}
    until(lambda: not known.links()["nodes"][0]["list_fault"], "the page is told that they came")
    client.listing = lambda _: {"data": "-ERR"}
    client.push({"event_name": "AGENT_CONNECTED", "node_id": "fs-1", "headers": {}})
    until(lambda: known.links()["nodes"][0]["list_fault"].endswith("than a table"), "what came is no list")


def test_the_agent_is_asked_which_calls_are_parked(linked: tuple[FakeClient, Any, Any]) -> None:
    client, known, _ = linked
    until(lambda: client.asked, "the first list, of no channels")
    usual = {"direction": "inbound", "callstate": "EARLY", "state": "CS_EXECUTE", "application": "playback"}
    rows = [usual | {"uuid": uuid} for uuid in ("parked", "transferred", "ivr", "ended")]

    def parked() -> list[str]:
        return [leg["uuid"] for leg in known.calls.all() if leg["parked"]]

    client.parked = ["parked", "elsewhere"]
    client.listing = lambda _: {"data": json.dumps({"row_count": 4, "rows": rows})}
    client.push({"event_name": "AGENT_CONNECTED", "node_id": "fs-1", "headers": {}})
    until(lambda: parked() == ["parked"], "with the list")
    client.parked = ["ivr"]
    status = node("fs-1")
    status["data"]["dialplan"] = {"calls_parked": 2}
    client.replies = [status]
    until(lambda: parked() == ["ivr"], "it counts other calls than we do")
    client.parked = None  # an agent of 1.0
    client.push({"event_name": "AGENT_CONNECTED", "node_id": "fs-1", "headers": {}})
    until(lambda: len(client.asked) == 3, "listed again")
    assert parked() == ["ivr"]


def test_the_link_is_tried_again(linked: tuple[FakeClient, Any, Any]) -> None:
    client, known, _ = linked
    until(lambda: known.links()["nats"]["connected"], "it is there")
    client.refuse = "refused"
    client.close()
    until(lambda: known.links()["nats"]["reason"] == "refused", "it is not")
    client.refuse = ""
    until(lambda: known.links()["nats"]["connected"], "it is there again")


def test_commands_reach_their_node(linked: tuple[FakeClient, Any, Any]) -> None:
    client, _, found = linked
    assert found.command({"command": "status"}, "fs-1", 1.0) == {"success": True, "node": "fs-1"}
    assert found.command({"command": "status"}, "unknown", 1.0)["node"] is None
    assert found.command({"command": "status"}, None, 1.0)["node"] is None
    assert found.command({"command": "status", "async": True}, None, 1.0) is None and len(client.sent) == 1


def test_a_switch_that_does_not_answer_while_its_agent_does() -> None:
    found = world.World()
    found.answered([node("one"), node("two")])
    assert found.listening() == 2

    def stalled() -> list[str]:
        return [each["id"] for each in found.links()["nodes"] if each["stalled"]]

    found.felt(["one", "two"], {"two"})
    assert not stalled(), "one question may be late"
    found.felt(["one", "two"], {"one", "two"})
    for _ in range(2):
        found.felt(["one", "two", "gone"], {"two"})
    assert stalled() == ["one"]
    found.answered([node("one"), node("two")])
    assert stalled() == ["one"], "the agent does not know yet"
    found.felt(["one", "two"], {"one", "two"})
    assert not stalled()
    # An agent that is silent itself is away for another reason.
    found.answered([node("one")])
    for _ in range(3):
        found.felt(["one", "two"], {"one"})
    assert not stalled()
