"""event_agent.client against a NATS connection made of Python: what it sends, whom it tells what."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import event_agent.client
import event_agent_client as ea
from event_agent.client.client import (
    AgentTimeout,
    Client,
    CommandFailed,
    NoAgent,
    NotAllowed,
)
from event_agent.client.replies import lane_of_one
from event_agent.config.table import Settings
from event_agent.errors import AgentError, ConfigError, LinkError
from event_agent_client import subjects
from tests.unit.client_parts import NOBODY, FakeNats, answers, bad, faked, is_connected, ok


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[FakeNats]]:
    faked(monkeypatch)
    yield FakeNats


# -- requests


def test_a_request_goes_to_exactly_one_agent() -> None:
    with Client() as client:
        reply = client.request("originate", None, fields={"timeout": 20}, endpoint="user/1000")
    assert reply["success"]
    (subject, request, _), = FakeNats.made[0].sent
    assert subject == "freeswitch.any"
    assert request == {"command": "originate", "endpoint": "user/1000", "timeout": 20}


def test_a_patience_that_may_be_meant_for_the_ringing_is_warned_of() -> None:
    with Client() as client:
        with pytest.warns(UserWarning, match="how long it may ring"):
            client.request("originate", timeout=20, endpoint="user/1000")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            client.request("originate", timeout=30, fields={"timeout": 20}, endpoint="user/1000")
            client.request("version", timeout=20)
    assert [request.get("timeout") for _, request, _ in FakeNats.made[0].sent] == [None, 20, None]


def test_where_no_agent_is_healthy_all_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda subject, _: [NOBODY] if subject == "freeswitch.any" else [bad("away"), bad("away too")])
    with Client() as client:
        assert client.call({"command": "status"})["message"] == "away"
        assert [subject for subject, _, _ in FakeNats.made[0].sent] == ["freeswitch.any", "freeswitch.api"]


def status(node: str, *reasons: str, **data: Any) -> dict[str, Any]:
    return ok(node, data={"readiness": {"ready": not reasons, "reasons": list(reasons)}, **data})


def nobody_on_any(monkeypatch: pytest.MonkeyPatch, *statuses: Any) -> None:
    """An agent's own subject is answered, and `all` with these to the question for agent.status."""
    def answer(subject: str, payload: dict[str, Any]) -> list[Any]:
        if subject == "freeswitch.any":
            return [NOBODY]
        return [*statuses] if payload["command"] == "agent.status" else [ok(subject.rpartition(".")[2])]

    answers(monkeypatch, answer)


@pytest.mark.parametrize("request_is_async", [False, True])
def test_a_command_that_acts_goes_to_one_node(monkeypatch: pytest.MonkeyPatch, request_is_async: bool) -> None:
    nobody_on_any(monkeypatch, status("FS-1", "paused"), status("FS-2"), status("FS-3", "drained"))
    with Client() as client:
        if request_is_async:
            client.send({"command": "originate", "async": True})
        else:
            assert client.request("originate", endpoint="user/1000")["node_id"] == "fs_2"
        sent = [(subject, payload["command"]) for subject, payload, _ in FakeNats.made[0].sent]
    assert sent == [
        ("freeswitch.any", "originate"), ("freeswitch.api", "agent.status"), ("freeswitch.node.fs_2", "originate")
    ]  # fmt: skip


@pytest.mark.parametrize("command", ["agent.status", "dialplan.status", "show", "Version"])
def test_a_question_may_go_to_all(monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    nobody_on_any(monkeypatch, status("a"))
    with Client() as client:
        client.request(command)
        assert [subject for subject, _, _ in FakeNats.made[0].sent] == ["freeswitch.any", "freeswitch.api"]


@pytest.mark.parametrize(("statuses", "wanted"), [
    ([status("one")], {"node.one"}),
    ([status("one"), status("two")], {"node.one", "node.two"}),
    ([status("one"), status("two", "not connected")], {"node.one"}),
    ([status("one", "not connected"), status("two", "not connected")], {"node.one", "node.two"}),
    ([status("unknown")], {"api"}),
    ([status("unknown", "not connected")], {"api"}),
    ([status("unknown"), status("two")], {"node.two"}),
    ([status("one"), status("fs-1"), status("FS_1")], {"node.one"}),
    ([status("one", twins=[]), status("two", twins=[{"node_id": "two"}])], {"node.one"}),
    ([ok("old", data={"freeswitch": {"connected": True}}), status("two", "paused")], {"node.old"}),
    ([ok("old", data={"freeswitch": {"connected": False}})], {"node.old"}),
])  # fmt: skip
def test_which_nodes_may_get_it(statuses: list[Any], wanted: set[str]) -> None:
    assert {lane_of_one("freeswitch", statuses) for _ in range(100)} == {f"freeswitch.{lane}" for lane in wanted}


@pytest.mark.parametrize(("statuses", "why"), [
    ([], "none has replied"),
    ([status("one", "paused")], r"one \(paused\)"),
    ([status("unknown", "drained")], r"unknown \(drained\)"),
    ([status("one", "paused", "drained"), status("two", "not connected")],
     r"one \(paused, drained\), two \(not connected\)"),
    ([status("unknown"), status("unknown")], r"unknown \(it has no node_id\), unknown \(it has no node_id\)"),
    ([status("fs-1"), status("fs_1")], r"fs-1 \(2 agents are called so\), fs_1 \(2 agents are called so\)"),
    ([bad("API command 'agent.status' is denied", "one")], r"one \(API command 'agent.status' is denied\)"),
])  # fmt: skip
def test_why_no_node_gets_it(statuses: list[Any], why: str) -> None:
    with pytest.raises(NoAgent, match=f"^no node can take it: {why}$"):
        lane_of_one("freeswitch", statuses)


def test_what_the_server_does_not_allow_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(subject: str, _: object) -> list[Any]:
        FakeNats.made[0].observer.complained(f'Permissions Violation for Publish to "{subject}"')
        return []

    answers(monkeypatch, refuse)
    with Client() as client:
        for call, where in (
            (lambda: client.request("originate", timeout=60), "api"),
            (lambda: client.request("version", timeout=60), "api"),
            (lambda: client.request("version", node="n1", timeout=60), "node.n1"),
            (lambda: client.gather("version", timeout=60), "api"),
        ):
            with pytest.raises(NotAllowed, match=f"does not allow us to publish on freeswitch.{where}$"):
                call()


@pytest.mark.parametrize(("node", "payload"), [("FS-Node.01", {}), (None, {"node_id": "FS-Node.01"})])
def test_a_node_has_a_lane_of_its_own(node: str | None, payload: dict[str, Any]) -> None:
    with Client(prefix="a.b") as client:
        client.call({"command": "status", **payload}, node)
        assert [subject for subject, _, _ in FakeNats.made[0].sent] == ["a.b.node.fs_node_01"]


def test_nobody_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda *_: [NOBODY])
    with Client() as client:
        for call in (
            lambda: client.request("status", timeout=60),
            lambda: client.request("status", node="n1", timeout=60),
            lambda: client.gather("status", timeout=60),
            lambda: client.send({"command": "status", "async": True}),
        ):
            with pytest.raises(NoAgent, match="no agent listens on freeswitch"):
                call()


def test_an_error_reply_is_raised_by_request_and_returned_by_call(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda *_: [bad("-ERR no such channel")])
    with Client() as client:
        assert client.call({"command": "x"})["message"] == "-ERR no such channel"
        with pytest.raises(CommandFailed, match="^-ERR no such channel$") as raised:
            client.request("x")
        assert raised.value.reply["node_id"] == "n1"


def test_silence_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda *_: [])
    with Client() as client:
        with pytest.raises(AgentTimeout, match=r"no reply within 0\.01 seconds"):
            client.request("status", timeout=0.01)
        assert client.gather("status", timeout=0.01) == []


@pytest.mark.parametrize("reply", [b"", b"no", b"[]", b"\xff", b"[" * 100000])
def test_a_reply_that_is_none_is_a_failure(monkeypatch: pytest.MonkeyPatch, reply: bytes) -> None:
    answers(monkeypatch, lambda *_: [reply])
    with Client() as client, pytest.raises(CommandFailed, match="no JSON object"):
        client.request("status")


def test_a_late_reply_is_for_nobody() -> None:
    with Client() as client:
        client.request("status")
        nats = FakeNats.made[0]
        nats.deliver(nats.sent[0][2], [ok("late")])
        assert client.request("status")["node_id"] == "n1"


def test_one_subscription_serves_all_requests() -> None:
    with Client() as client:
        for _ in range(3):
            client.request("status")
        assert list(FakeNats.made[0].subs) == ["_INBOX.nuid1.*"]
        assert len({reply for _, _, reply in FakeNats.made[0].sent}) == 3
        assert client._waiting == {}


def test_a_request_the_server_would_cut_the_link_for_is_not_sent() -> None:
    with Client() as client:
        with pytest.raises(ValueError, match="the NATS server takes 1000"):
            client.request("status", "x" * 1000)
        assert FakeNats.made[0].sent == []


def test_send_expects_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda *_: [])
    with Client() as client:
        client.send({"command": "reloadxml", "async": True})
        assert FakeNats.made[0].sent[0][:2] == ("freeswitch.any", {"command": "reloadxml", "async": True})


# -- a JetStream stream that takes requests


ACKS = [
    {"stream": "ALL", "seq": 7},
    {"stream": "ALL", "seq": 7, "domain": "hub", "duplicate": True},
    {"error": {"code": 503, "err_code": 10077, "description": "maximum messages exceeded"}, "stream": "ALL", "seq": 0},
    b'{"stream":"ALL",  "seq":7}',
]


@pytest.mark.parametrize("ack", ACKS)
def test_a_stream_that_has_stored_a_request_has_not_replied_to_it(monkeypatch: pytest.MonkeyPatch, ack: Any) -> None:
    answers(monkeypatch, lambda *_: [ack, ok("n1"), ack, ok("n2"), ack])
    with Client() as client:
        assert client.request("originate")["node_id"] == "n1"
        assert [each["node_id"] for each in client.gather("x", timeout=60, expect=2)] == ["n1", "n2"]
        assert client.streams == {"ALL"}
        answers(monkeypatch, lambda *_: [ack])
        client.send({"command": "x", "async": True})
        with pytest.raises(AgentTimeout, match="the JetStream stream ALL takes what is sent to freeswitch.any"):
            client.request("originate", timeout=0.01)
        assert client.gather("x", timeout=0.01) == []


@pytest.mark.parametrize("more", [{"stream": "ALL", "seq": 7}, {"data": {"stream": "ALL", "seq": 7}}])
def test_a_reply_that_speaks_of_a_stream_is_a_reply(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    answers(monkeypatch, lambda *_: [ok("n1", **more)])
    with Client() as client:
        assert client.request("x")["node_id"] == "n1"
        assert client.streams == set()


def test_what_is_no_acknowledgement_either_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda subject, _: [[{"stream": "ALL", "seq": 7}]] if subject == "freeswitch.any" else [])
    with Client() as client, pytest.raises(CommandFailed, match="no JSON object"):
        client.request("x")


def test_gather_hears_all_that_go_by_one_name() -> None:
    with Client() as client:
        client.gather("x", timeout=0.05, node="FS-1")
        assert [subject for subject, _, _ in FakeNats.made[0].sent] == ["freeswitch.node.fs_1"]


# -- gather


def test_gather_hears_every_node_once_even_those_of_one_name(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda *_: [ok("b"), bad("no", "a"), ok("unknown"), ok("unknown")])
    with Client() as client:
        replies = client.gather("agent.status", timeout=0.05)
        assert [reply["node_id"] for reply in replies] == ["b", "a", "unknown", "unknown"]
        assert FakeNats.made[0].sent[0][:2] == ("freeswitch.api", {"command": "agent.status"})


def test_gather_ends_early_when_it_has_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, lambda *_: [bad("no", "a"), ok("b"), ok("c")])
    with Client() as client:
        assert len(client.gather("x", timeout=60, expect=3)) == 3
        assert [r["node_id"] for r in client.gather("x", timeout=60, until=lambda r: bool(r["success"]))] == ["a", "b"]
        assert len(client.gather("x", timeout=60, settle=0.01)) == 3


# -- the link


def test_the_loss_of_the_link_reaches_all_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    client.connect()
    stream = client.events()

    def lose(*_: object) -> list[Any]:
        FakeNats.made[0].observer.closed("kicked")
        return []

    answers(monkeypatch, lose)
    with pytest.raises(LinkError, match="the link to NATS is lost: kicked"):
        client.request("status", timeout=60)
    with pytest.raises(LinkError, match="kicked"):
        stream.next(60)
    assert not is_connected(client)
    calls: list[Callable[[], object]] = [lambda: client.request("x"), lambda: client.gather("x"), client.events]
    for call in calls:
        with pytest.raises(LinkError, match="kicked"):
            call()
    answers(monkeypatch, lambda *_: [ok()])
    client.connect()
    assert is_connected(client) and FakeNats.made[0].closed
    assert client.request("status")["success"]
    FakeNats.made[0].observer.closed("the old one")
    assert is_connected(client)
    client.close()
    client.close()
    with pytest.raises(LinkError, match="not connected"):
        client.request("status")


def test_the_next_server_is_tried(fake: type[FakeNats]) -> None:
    fake.refuse.update({"nats://a:4222": "refused", "nats://b:4222": "gone"})
    with Client("nats://a, nats://b,c:1") as client:
        assert client.connected and fake.made[-1].url == "nats://c:1"
    fake.refuse["nats://user:secret@d:4222"] = "denied"
    with pytest.raises(LinkError) as raised:
        Client(["a:4222", "nats://user:secret@d"]).connect()
    assert "nats://a:4222: refused" in str(raised.value) and "denied" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_cannot_be_used_is_a_config_error() -> None:
    wrong: list[dict[str, Any]] = [{"url": "http://x"}, {"url": []}, {"prefix": "a b"}, {"nkey_seed": "SUX"}]
    for options in wrong:
        with pytest.raises(ConfigError):
            Client(**options)
    assert issubclass(ConfigError, AgentError) and issubclass(NoAgent, AgentError)


def test_a_client_of_settings() -> None:
    with Client.of(Settings(url=("nats://h:1",), subject_prefix="pbx", token="t", tls_ca="/ca")) as client:
        assert client.prefix == "pbx"
        nats = FakeNats.made[0]
        assert nats.url == "nats://h:1" and nats.options["credentials"].token == "t" and nats.options["tls"].ca == "/ca"


# -- what both clients know


def test_both_clients_know_subjects_replies_and_errors_from_one_place() -> None:
    assert event_agent.client.event_pattern is subjects.pattern_of
    for ours, theirs in (
        (NoAgent, ea.NoAgent), (NotAllowed, ea.NotAllowed), (AgentTimeout, ea.NoReply),
        (CommandFailed, ea.CommandFailed),
    ):  # fmt: skip
        assert issubclass(ours, theirs) and issubclass(ours, AgentError)


def test_an_error_says_whether_the_command_was_carried_out(monkeypatch: pytest.MonkeyPatch) -> None:
    failed = bad("FreeSWITCH is not connected") | {"executed": "no"}
    for answer, kind, executed in (
        ([NOBODY], NoAgent, "no"), ([], AgentTimeout, "unknown"), ([failed], CommandFailed, "no"),
        ([bad("-ERR")], CommandFailed, ""), (["nonsense"], CommandFailed, "unknown"),
    ):  # fmt: skip
        answers(monkeypatch, lambda *_, answer=answer: answer)
        with Client() as client, pytest.raises(kind) as caught:
            client.request("version", node="n", timeout=0.01)
        assert getattr(caught.value, "executed", None) == executed, answer
        assert isinstance(caught.value, AgentError) and isinstance(caught.value, ea.AgentError)
