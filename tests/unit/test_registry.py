"""The path of a request: checks in their order, each finished exactly once, replies of one read in one write."""

from __future__ import annotations

import gc
import io
import json
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import pytest

from event_agent.bridge.requests import Answers, Requests
from event_agent.commands.api import ApiCommand
from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome, Registry
from event_agent.drivers.base import Message, Reply
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.runtime.log import AuditLog
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeDriver


class House:
    """A registry and what it did."""

    def __init__(self, node_id: str = "FS-1") -> None:
        self.driver = FakeDriver()
        self.stats = Stats()
        self.stream = io.StringIO()
        self.audit = AuditLog(self.stream)
        self.guards = Guards()
        self.calls: list[Invocation] = []
        self.flushed = 0
        self.expected = 0
        self.fulls = [False]  # what the lane says of itself, one after the other; the last goes on
        self.registry = Registry("freeswitch", self.guards, fallback=self.fallback)
        self.answers = Answers(self.driver)
        self.requests = Requests(
            self.registry, self.driver, self.driver, self.answers, self, self, self.stats, self.audit, node_id
        )

    @property
    def full(self) -> bool:
        return self.fulls.pop(0) if len(self.fulls) > 1 else self.fulls[0]

    def flush(self) -> bool:
        self.flushed += 1
        return not self.full

    def expect(self) -> None:
        self.expected += 1

    def fallback(self, call: Invocation) -> Outcome | None:
        self.calls.append(call)
        return None

    def add(self, name: str, outcome: Outcome | Exception | None) -> None:
        def handle(call: Invocation) -> Outcome | None:
            self.calls.append(call)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        self.registry.add(name, handle)

    def raw(self, data: bytes, reply: str = "inbox") -> Any:
        """The reply to these bytes; None where there was none."""
        before = len(self.driver.replies)
        self.requests.take([Message(b"freeswitch.api", reply.encode(), data)])
        replies = self.driver.replies[before:]
        assert len(replies) <= 1
        return json.loads(replies[0][1]) if replies else None

    def request(self, reply: str = "inbox", *, in_background: bool = False, **fields: Any) -> Any:
        """`in_background` is the field `async`, whose name Python keeps for itself."""
        if in_background:
            fields["async"] = True
        return self.raw(json.dumps(fields).encode(), reply)

    @property
    def audited(self) -> list[str]:
        self.audit.write()
        return [line.partition("audit=")[2] for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def house() -> House:
    return House()


def test_a_command_that_has_ended_is_gone_at_once(house: House) -> None:
    """And not when the collector comes: until then each new command would take memory that no cache holds."""
    sent: list[Command] = []
    begun: list[weakref.ref[Invocation]] = []
    api = ApiCommand(sent.append, house.guards)

    def handle(call: Invocation) -> None:
        begun.append(weakref.ref(call))
        api(call)

    house.registry.add("version", handle)
    gc.disable()
    try:
        for well in (True, False):
            house.request(command="version")
            assert begun[-1]() is not None
            if well:
                sent.pop().done("1.10")
            else:
                sent.pop().failed(Failure("lost", Executed.NO))
            assert begun[-1]() is None
    finally:
        gc.enable()
    assert len(house.driver.replies) == 2


def test_a_reply_does_not_wait_until_its_command_is_counted(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    counted: list[tuple[int, list[str]]] = []
    plain = house.driver.send

    def send(replies: Sequence[Reply]) -> int:
        counted.append((house.stats.succeeded, house.audited))
        return plain(replies)

    monkeypatch.setattr(house.driver, "send", send)
    house.add("fine", Outcome("done"))
    assert house.request(command="fine")["success"]
    assert counted == [(0, [])] and house.stats.succeeded == 1 and len(house.audited) == 1


def test_checks_come_in_their_order(house: House) -> None:
    assert house.raw(b"x" * 70000)["message"].startswith("Payload too large")
    assert house.raw(b"")["message"] == "Empty payload"
    assert house.raw(b"{")["message"] == "Invalid JSON payload"
    assert house.raw(b"[]")["message"] == "Payload must be a JSON object"
    assert house.request(node_id="other") is None
    assert house.request(args="x")["message"] == "Missing 'command' string"
    assert house.request(command="x", forward_to="a b")["message"].startswith("forward_to must be a plain subject")
    house.guards.set(("built.in",), (), ())
    house.add("built.in", Outcome("ran"))
    assert house.request(command="built.in", forward_to=">")["message"].startswith("forward_to")
    assert house.request(command="built.in")["message"] == "API command 'built.in' is denied"
    assert not house.calls, "nothing ran"
    assert house.stats.received == house.stats.failed == 8, "another node's is not counted"
    assert len(house.audited) == 8


def test_a_handler_answers_at_once(house: House) -> None:
    house.add("status.of", Outcome("done", {"a": 1}, {"mode": "park"}))
    reply = house.request(command="status.of", correlation_id="id-1")
    assert reply["success"] is True and reply["message"] == "done" and reply["node_id"] == "FS-1"
    assert reply["data"] == {"a": 1, "mode": "park"} and reply["mode"] == "park"
    assert reply["correlation_id"] == "id-1"
    assert (house.stats.succeeded, house.stats.failed) == (1, 0)
    assert house.audited == ["command cmd=status.of subject=freeswitch.api result=ok async=no payload_bytes=50"]


def test_a_handler_answers_later_and_only_once(house: House) -> None:
    assert house.request(command="status") is None
    (call,) = house.calls
    assert house.stats.succeeded == 0 and not house.audited
    call.finish(Outcome("API command executed", "UP"))
    call.finish(Outcome("again"))
    call.fail("and again")
    assert [json.loads(payload)["data"] for _, payload, _ in house.driver.replies] == ["UP"]
    assert (house.stats.succeeded, house.stats.failed) == (1, 0) and len(house.audited) == 1


def test_a_handler_that_has_answered_may_fail_after(house: House) -> None:
    def handle(call: Invocation) -> None:
        call.finish(Outcome("answered"))
        raise ValueError("too late")

    house.registry.add("both", handle)
    assert house.request(command="both")["message"] == "answered"
    assert house.stats.succeeded == 1 and house.stats.failed == 0


@pytest.mark.parametrize(
    ("error", "message", "data"),
    [
        (CommandError("uuid must be …"), "uuid must be …", None),
        (CommandError("-ERR x", "-ERR x\n"), "-ERR x", "-ERR x\n"),
        (ValueError("secret details"), "Internal error", None),
        (RecursionError(), "Internal error", None),
    ],
)
def test_a_handler_that_raises(
    house: House, error: Exception, message: str, data: object, caplog: pytest.LogCaptureFixture
) -> None:
    house.add("bad\nname", error)
    reply = house.request(command="bad\nname", correlation_id=5)
    assert reply["success"] is False and reply["message"] == message and reply.get("data") == data
    assert reply["correlation_id"] == 5
    assert house.driver.replies[0][2] == message, "the driver is told that it is an error"
    assert ("unhandled exception" in caplog.text) == (message == "Internal error")
    assert "bad\nname" not in caplog.text
    assert house.audited == ["command cmd=bad?name subject=freeswitch.api result=err async=no payload_bytes=45"]


def test_async_has_no_reply(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.add("fine", Outcome("done"))
    house.add("wrong", Outcome("it\nfailed", ok=False))
    assert house.request(command="fine", in_background=True) is None and not caplog.text
    assert house.request(command="wrong", in_background=True) is None
    assert "wrong failed, and nobody waits for its reply: it failed" in caplog.text
    caplog.clear()
    assert house.request("", command="wrong") is None
    assert "nobody waits" in caplog.text
    assert (house.stats.succeeded, house.stats.failed) == (1, 2)
    assert [line.split("async=")[1][:3] for line in house.audited] == ["yes", "yes", "no "]


def test_the_very_bytes_are_forwarded(house: House) -> None:
    house.add("fine", Outcome("done", "x"))
    house.request(command="fine", forward_to="copies.here")
    assert house.driver.copies == [("copies.here", house.driver.replies[0][1])]
    house.request(command="fine", forward_to="copies.here", in_background=True)
    assert len(house.driver.copies) == 2 and len(house.driver.replies) == 1
    house.request("", command="fine", forward_to="copies.here")
    assert len(house.driver.copies) == 3


@pytest.mark.parametrize(
    "subject",
    ["", "a b", "a..b", ".a", "a.", "*", "a.>", "a\tb", "a\r\nPUB x 1", "\ud800", "x" * 2000, "freeswitch.api",
     "freeswitch.any", "freeswitch.node.x", "freeswitch.api.fs_1"],
)  # fmt: skip
def test_where_nothing_is_forwarded_to(house: House, subject: str) -> None:
    house.add("fine", Outcome("done"))
    reply = house.request(command="fine", forward_to=subject)
    assert reply["success"] is False and reply["message"].startswith("forward_to must ")
    assert not house.driver.copies and not house.calls, "a refused subject gets no copy of the refusal"


def test_a_full_buffer_is_logged_and_changes_nothing(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.add("fine", Outcome("done"))
    house.driver.takes = False
    assert house.request(command="fine", forward_to="copies")["success"] is True
    assert "2 replies were dropped" in caplog.text
    assert house.stats.succeeded == 1


def test_a_reply_that_is_too_large(house: House) -> None:
    house.driver.max_payload = 400
    house.add("large", Outcome("done", "x" * 1000))
    reply = house.request(command="large", correlation_id="id")
    assert reply["success"] is False and reply["correlation_id"] == "id"
    assert reply["message"].startswith("Reply too large (") and "the broker takes 400)" in reply["message"]
    assert house.driver.replies[0][2] == reply["message"], "the driver is told that it is an error"
    reply = house.request(command="large", correlation_id="c" * 300)
    assert reply["message"] == "Reply too large" and "correlation_id" not in reply


def test_a_long_answer_in_parts(house: House) -> None:
    house.driver.max_payload = 400
    house.add("long", Outcome("Done", "äb\\" * 300))
    house.add("object", Outcome("Done", {"a": "x" * 900}, {"mode": "m"}))
    house.add("wrong", Outcome("m" * 900, "x" * 900))
    house.requests.take([Message(b"freeswitch.api", b"inbox", b'{"command":"long","parts":true,"forward_to":"copy"}')])
    found = [json.loads(payload) for _, payload, _ in house.driver.replies]
    assert len(found) > 3 and "".join(each["data"] for each in found) == "äb\\" * 300
    assert [payload for _, payload, _ in house.driver.replies] == [payload for _, payload in house.driver.copies]
    assert house.driver.writes[-1] == 2 * len(found), "in one write"
    assert house.request(command="long")["message"].startswith("Reply too large"), "it was not asked for"
    assert house.request(command="wrong", parts=True)["message"].startswith("Reply too large")
    assert house.request(command="long", parts=1)["message"] == "parts must be true or false"
    assert house.request(command="nothing", parts="yes")["message"] == "parts must be true or false"
    before = len(house.driver.replies)
    house.requests.take([Message(b"freeswitch.api", b"inbox", b'{"command":"object","parts":true}')])
    found = [json.loads(payload) for _, payload, _ in house.driver.replies[before:]]
    assert json.loads("".join(each["data"] for each in found)) == {"a": "x" * 900, "mode": "m"}
    assert {each["mode"] for each in found} == {"m"}


def test_a_reply_that_can_not_be_made_ends_no_thread(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.add("odd", Outcome("done", float("nan")))
    assert house.request(command="odd") is None
    assert "could not be made" in caplog.text
    house.add("fine", Outcome("done"))
    assert house.request(command="fine")["success"] is True


def test_node_ids() -> None:
    house = House("")
    house.add("fine", Outcome("done"))
    assert house.request(command="fine")["node_id"] == "unknown"
    assert house.request(command="fine", node_id="x") is None
    assert house.request(command="fine", node_id="")["success"] is True
    ours = House("FS-Node.1")
    ours.add("fine", Outcome("done"))
    assert ours.request(command="fine", node_id="fs_node_1")["node_id"] == "FS-Node.1"


def test_what_is_no_built_in_is_an_api_verb(house: House) -> None:
    house.guards.set(("status",), (), ())
    assert house.request(command="status") is None
    assert house.calls[0].payload == {"command": "status"}, "the fallback looks at the lists itself"


def test_the_requests_of_a_read_are_sent_on_together_and_their_replies_leave_in_one_write(house: House) -> None:
    house.add("fine", Outcome("done"))
    requests = [{"command": "fine"}, {"command": ""}, {"command": "status"}, {"command": "x", "node_id": "other"}]
    house.requests.take([Message(b"l", b"r%d" % n, json.dumps(each).encode()) for n, each in enumerate(requests)])
    assert (house.flushed, house.expected, house.driver.writes) == (1, 1, [2])
    assert [message.reply for message, _, _ in house.driver.replies] == [b"r0", b"r1"]
    house.requests.take([Message(b"l", b"r", b'{"command":"x","node_id":"other"}')])
    assert house.flushed == 1 and house.stats.received == 3, "nothing of it was ours"


def test_what_is_answered_within_a_batch_leaves_in_one_write(house: House) -> None:
    for _ in range(3):
        house.request(command="later")
    house.driver.writes.clear()
    with house.answers:
        house.calls[0].finish(Outcome("one"))
        with house.answers:
            house.calls[1].finish(Outcome("two"))
        assert not house.driver.writes
    assert house.driver.writes == [2]
    house.calls[2].finish(Outcome("three"))
    assert house.driver.writes == [2, 1], "at once, outside of one"


def test_a_batch_holds_back_no_reply_of_another_thread(house: House) -> None:
    house.request(command="later")
    with house.answers:
        thread = threading.Thread(target=house.calls[0].finish, args=(Outcome("done"),))
        thread.start()
        thread.join(5)
        assert len(house.driver.replies) == 1


def test_a_batch_that_ends_with_an_exception_is_sent(house: House) -> None:
    house.request(command="later")
    with pytest.raises(ValueError), house.answers:
        house.calls[0].finish(Outcome("done"))
        raise ValueError
    assert len(house.driver.replies) == 1


def test_while_the_lane_has_no_room_nothing_is_read(house: House) -> None:
    house.request(command="status")
    assert not house.driver.paused
    house.fulls = [True]
    house.request(command="status")
    assert house.driver.paused


def test_room_that_comes_in_the_very_moment_is_not_overlooked(house: House) -> None:
    house.fulls = [True, False]
    house.request(command="status")
    assert not house.driver.paused
