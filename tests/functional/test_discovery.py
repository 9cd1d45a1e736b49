"""The node as NATS tools see it: the micro services protocol, asked by nats-py and read with its own classes."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from typing import Any

import pytest
from nats.errors import NoRespondersError
from nats.micro.service import ServiceInfo, ServicePing, ServiceStats

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.support import until

Start = Callable[..., Agent]


def ask(client: Client, subject: str) -> Any:
    return json.loads(client.raw(subject, b"").data)


def endpoints(client: Client, verb: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in ask(client, f"$SRV.{verb}.event-agent")["endpoints"]}


def test_it_is_found(agent: Agent, client: Client) -> None:
    ping = ServicePing.from_dict(ask(client, "$SRV.PING"))
    assert (ping.name, ping.type) == ("event-agent", "io.nats.micro.v1.ping_response")
    assert ping.metadata["node_id"] == "FS-Node-01"
    version = ping.metadata["freeswitch_version"]
    assert version and f"FreeSWITCH Version {version}" in client.request("version")["data"], "as FreeSWITCH says itself"
    for way in ("event-agent", f"event-agent.{ping.id}"):
        assert ask(client, f"$SRV.PING.{way}")["id"] == ping.id
        assert ask(client, f"$SRV.INFO.{way}")["type"] == "io.nats.micro.v1.info_response"
        assert ask(client, f"$SRV.STATS.{way}")["type"] == "io.nats.micro.v1.stats_response"
    for other in ("$SRV.PING.another", "$SRV.PING.event-agent.another", "$SRV.SCHEMA.event-agent"):
        with pytest.raises(NoRespondersError):
            client.raw(other, b"")


def test_requests_are_taken_at_its_endpoints(agent: Agent, client: Client) -> None:
    info = ServiceInfo.from_dict(ask(client, "$SRV.INFO.event-agent"))
    assert {each.name: each.queue_group for each in info.endpoints} == {
        "all": "", "node": "", "node_api": "", "any": "freeswitch.any",
        "all_verbs": "", "node_verbs": "", "any_verbs": "freeswitch.any",
    }  # fmt: skip
    for each in info.endpoints:
        assert client.request("version", subject=each.subject.replace(">", "version"))["success"], each


def test_each_request_is_counted_where_it_came(agent: Agent, client: Client) -> None:
    before = endpoints(client, "STATS")
    began = time.monotonic()
    for _ in range(20):
        client.request("version", subject="freeswitch.node.fs_node_01")
    client.request("nonsense_verb", subject="freeswitch.any")
    client.raw("freeswitch.any", b"not JSON")
    client.publish("freeswitch.node.fs_node_01", b'{"command":"version","node_id":"another"}')  # none of ours
    client.request("version", subject="freeswitch.node.fs_node_01")
    client.request("version", subject="freeswitch.all.version")
    client.request("version", subject="freeswitch.any.nonsense.verb")
    client.raw("freeswitch.any.version", b"")
    client.request("hangup", subject="freeswitch.node.fs_node_01.hangup")
    took = time.monotonic() - began
    after = endpoints(client, "STATS")
    grown = {
        name: (each["num_requests"] - before[name]["num_requests"], each["num_errors"] - before[name]["num_errors"])
        for name, each in after.items()
    }
    assert grown == {
        "all": (0, 0), "node": (21, 0), "node_api": (0, 0), "any": (2, 2),
        "all_verbs": (1, 0), "any_verbs": (2, 1), "node_verbs": (1, 1),
    }  # fmt: skip
    assert after["any"]["last_error"] == "Invalid JSON payload" and after["node"]["last_error"] == ""
    spent = after["node"]["processing_time"] - before["node"]["processing_time"]
    assert 0 < spent < took * 1e9
    for each in after.values():
        count = each["num_requests"]
        assert each["average_processing_time"] == (each["processing_time"] // count if count else 0)
        assert each["data"] == {"freeswitch_connected": True, "freeswitch_events": True, "not_ready": []}
    stats = ServiceStats.from_dict(ask(client, "$SRV.STATS.event-agent"))
    assert re.fullmatch(r"1\.\d+\.\d+", stats.version) and stats.started.year >= 2026


def test_every_node_answers_with_an_id_of_its_own(
    own_nats: NatsServer, switch: Switch, start_agent: Start
) -> None:
    for number in range(1, 4):
        start_agent(own_nats, switch, node_id=f"node-{number}")
    client = Client(own_nats.url)
    try:
        answers = client.gather("gathered")
        client.publish("$SRV.INFO.event-agent", b"", reply="gathered")
        until(lambda: len(answers) == 3, "three answers")
        found = [ServiceInfo.from_dict(json.loads(each.data)) for each in answers]
        assert {each.metadata["node_id"] for each in found} == {"node-1", "node-2", "node-3"}
        assert len({each.id for each in found}) == 3
        # What the queue groups say is true: all answer on the one, one answers on the other.
        for subject, count in (("freeswitch.api", 3), ("freeswitch.any", 1), ("freeswitch.all.version", 3),
                               ("freeswitch.any.version", 1)):
            replies = client.gather(f"gathered.{subject}")
            client.publish(subject, b'{"command":"version"}', reply=f"gathered.{subject}")
            until(lambda count=count, replies=replies: len(replies) == count, f"{count} replies on {subject}")  # type: ignore[misc]
        for each in found:
            assert ask(client, f"$SRV.PING.event-agent.{each.id}")["metadata"]["node_id"] == each.metadata["node_id"]
    finally:
        client.close()


def test_the_node_is_there_while_freeswitch_is_not(
    own_nats: NatsServer, switch: Switch, start_agent: Start
) -> None:
    agent = start_agent(own_nats, switch, esl_port="1", ready=False)
    agent.logged("NATS connected")
    client = Client(own_nats.url)
    try:
        ping = ask(client, "$SRV.PING.event-agent")
        assert "freeswitch_version" not in ping["metadata"]
        stats = endpoints(client, "STATS")
        assert set(stats) == {"all", "node", "node_api", "all_verbs", "node_verbs"}, "it does not listen on `any`"
        data = stats["all"]["data"]
        assert not data["freeswitch_connected"] and not data["freeswitch_events"]
        assert "not connected" in data["not_ready"]
    finally:
        client.close()


def test_it_is_the_same_service_after_a_break(
    own_nats: NatsServer, switch: Switch, start_agent: Start
) -> None:
    agent = start_agent(own_nats, switch, reconnect_wait="0.1")
    client = Client(own_nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.1)
    try:
        client.request("version")
        before = ask(client, "$SRV.STATS")
        own_nats.kill()
        agent.logged("NATS lost")
        own_nats.start()
        agent.logged("NATS connected", count=2)
        until(lambda: client.nc.is_connected, "the client is back")
        after = ask(client, "$SRV.STATS")
        assert (after["id"], after["started"]) == (before["id"], before["started"])
        assert after["endpoints"][0]["num_requests"] == before["endpoints"][0]["num_requests"] > 0
    finally:
        client.close()


def test_it_can_be_switched_off(own_nats: NatsServer, switch: Switch, start_agent: Start) -> None:
    start_agent(own_nats, switch, discovery="off")
    client = Client(own_nats.url)
    try:
        assert client.request("version")["success"]
        with pytest.raises(NoRespondersError):
            client.raw("$SRV.PING", b"")
    finally:
        client.close()
