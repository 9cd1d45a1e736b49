"""A node takes what any could do while it can do it: paused, shutting down, full, drained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nats.errors import NoRespondersError

from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import until
from tests.switchsim import SwitchSim

Sim = RealSwitch | SwitchSim


@pytest.fixture
def two(
    own_nats: NatsServer, own_switch: Sim, switch: Sim, start_agent: Callable[..., Agent]
) -> tuple[Agent, Agent]:
    """`one` has the switch of the test's own, `two` the shared one."""
    return start_agent(own_nats, own_switch, node_id="one", heartbeat="1"), start_agent(own_nats, switch, node_id="two")


@pytest.fixture
def fs(own_switch: Sim) -> Iterator[Callable[[str], object]]:
    """Commands at the first node's FreeSWITCH, past the agent."""
    with RawEvents(own_switch.port, own_switch.password) as raw:
        yield lambda text: raw.command(text if text.startswith("bgapi") else f"api {text}")


def status(client: Client, node: str) -> Any:
    return client.request("agent.status", subject=f"freeswitch.node.{node}")["data"]["readiness"]


def reasons(client: Client, node: str, wanted: list[str]) -> None:
    until(lambda: status(client, node)["reasons"] == wanted, f"{node}: {wanted}")


def taken_by(client: Client, number: int) -> set[str]:
    """Which nodes make calls that any may make; all are made."""
    nodes = set()
    for _ in range(number):
        reply = client.request(
            "originate", fields={"endpoint": "loopback/park/default", "destination": "&park"}, subject="freeswitch.any",
            _timeout=20,
        )  # fmt: skip
        assert reply["success"] is True, reply
        nodes.add(reply["node_id"])
        client.request("hangup", uuid=reply["data"]["uuid"], subject=f"freeswitch.node.{reply['node_id']}")
    return nodes


@pytest.mark.parametrize("pause", ["pause", "pause outbound"])
def test_a_paused_node_gets_no_calls(
    two: tuple[Agent, Agent], own_nats: NatsServer, connect: Callable[..., Client], fs: Callable[[str], object],
    pause: str,
) -> None:
    client = connect(own_nats.url)
    events = client.events("freeswitch.events.agent.readiness")
    fs(f"fsctl {pause}")
    reasons(client, "one", ["paused"])
    two[0].logged("not ready: paused; no requests are taken on freeswitch.any")  # a moment after that
    assert taken_by(client, 30) == {"two"}
    fs(f"fsctl {pause.replace('pause', 'resume')}")
    reasons(client, "one", [])
    until(lambda: taken_by(client, 5) == {"one", "two"}, "both take calls", 30)
    until(lambda: len(events.messages) == 2, "both changes are announced")
    said = [json.loads(message.data) for message in events.messages]
    assert [(each["node_id"], each["ready"], each["reasons"]) for each in said] == [
        ("one", False, ["paused"]), ("one", True, []),
    ]  # fmt: skip


def test_a_pause_through_the_agent_is_seen_at_once(
    two: tuple[Agent, Agent], own_nats: NatsServer, connect: Callable[..., Client]
) -> None:
    client = connect(own_nats.url)
    assert client.request("fsctl", "pause inbound", subject="freeswitch.node.one")["success"] is True
    assert client.request("fsctl", "pause_check inbound", subject="freeswitch.node.one")["data"] == "true"
    reasons(client, "one", [])
    until(lambda: client.request("version", subject="freeswitch.any")["node_id"] == "one", "it can make calls")
    assert client.request("fsctl", "pause", subject="freeswitch.node.one")["success"] is True
    reasons(client, "one", ["paused"])


def test_a_node_without_sessions_left_gets_no_calls(
    own_nats: NatsServer, own_switch: Sim, switch: Sim, start_agent: Callable[..., Agent],
    connect: Callable[..., Client], fs: Callable[[str], object],
) -> None:
    """Without a heartbeat FreeSWITCH is asked for its sessions every 20 s, but for these reasons."""
    one, _ = start_agent(own_nats, own_switch, node_id="one"), start_agent(own_nats, switch, node_id="two")
    client = connect(own_nats.url)
    reply = client.request("fsctl", "max_sessions 2", subject="freeswitch.node.one")
    assert reply["data"] == "+OK max sessions: 2\n"
    until(lambda: status(client, "one")["max_sessions"] == 2, "it was asked at once")
    fs("originate loopback/park/default &park")
    reasons(client, "one", ["no sessions left"])
    one.logged("not ready: no sessions left; no requests are taken on freeswitch.any")
    assert taken_by(client, 10) == {"two"}
    fs("hupall")
    reasons(client, "one", [])


def test_a_node_that_is_to_shut_down_when_it_is_empty_gets_no_calls(
    two: tuple[Agent, Agent], own_nats: NatsServer, connect: Callable[..., Client], own_switch: Sim,
    fs: Callable[[str], object],
) -> None:
    client = connect(own_nats.url)
    reply = client.request(
        "originate", fields={"endpoint": "loopback/park/default", "destination": "&park"},
        subject="freeswitch.node.one", _timeout=20,
    )  # fmt: skip
    assert reply["success"] is True
    fs("bgapi fsctl shutdown elegant")
    reasons(client, "one", ["shutting down"])
    two[0].logged("not ready: shutting down")
    assert taken_by(client, 10) == {"two"}
    fs("fsctl shutdown cancel")
    reasons(client, "one", [])


def test_a_drained_node_keeps_all_but_any(
    two: tuple[Agent, Agent], own_nats: NatsServer, connect: Callable[..., Client], start_agent: Callable[..., Agent],
    own_switch: Sim,
) -> None:
    client = connect(own_nats.url)
    beats = client.events("freeswitch.events.agent.heartbeat")
    reply = client.request("agent.drain", enabled=True, subject="freeswitch.node.one")
    assert reply["message"] == "Drained" and reply["data"] == {"drained": True, "persisted": True}
    assert taken_by(client, 10) == {"two"}
    assert client.request("version", subject="freeswitch.node.one")["success"] is True
    replies = client.gather("answers")
    client.publish("freeswitch.api", b'{"command":"version"}', reply="answers")
    until(lambda: {json.loads(each.data)["node_id"] for each in replies} == {"one", "two"}, "both answer all")
    until(lambda: [each for each in beats.named("AGENT_HEARTBEAT") if each["drained"]], "its heartbeat says so")
    beat = next(each for each in beats.named("AGENT_HEARTBEAT") if each["drained"])
    assert (beat["node_id"], beat["ready"], beat["reasons"]) == ("one", False, ["drained"])
    assert beat["max_sessions"] > 0 and 0 <= beat["idle_cpu"] <= 100 and beat["parked"] == 0

    two[0].stop()
    two[0].start(ready=False)
    for line in ("NATS connected", "FreeSWITCH connected", "FreeSWITCH events: subscribed"):
        two[0].logged(line, 2)
    assert status(client, "one")["drained"] is True and taken_by(client, 5) == {"two"}
    assert client.request("agent.drain", "false", subject="freeswitch.node.one")["message"] == "Not drained"
    reasons(client, "one", [])
    until(lambda: taken_by(client, 5) == {"one", "two"}, "both take calls", 30)


def test_when_no_node_is_ready_nobody_answers(
    two: tuple[Agent, Agent], own_nats: NatsServer, connect: Callable[..., Client]
) -> None:
    client = connect(own_nats.url)
    for node in ("one", "two"):
        assert client.request("agent.drain", enabled=True, subject=f"freeswitch.node.{node}")["success"] is True
    with pytest.raises(NoRespondersError):
        client.request("version", subject="freeswitch.any")
