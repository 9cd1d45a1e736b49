"""Events over real parts: subjects, payload, order, filters."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from event_agent.config.event_names import FREESWITCH
from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, Events, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.raw_events import RawEvents
from tests.support import until


def test_freeswitch_knows_each_name_that_is_taken_for_an_event(switch: Switch) -> None:
    with RawEvents(switch.port, switch.password) as raw:
        refused = [name for name in FREESWITCH if not raw.command(f"event json {name}").startswith(b"+OK")]
        assert not refused and raw.command("event json CHANNEL_ANSWERED").startswith(b"-ERR")


def test_a_call_makes_its_events(agent: Agent, client: Client) -> None:
    events = client.events()
    assert client.request("bgapi", "originate {x_mark=one}loopback/short/default &park")["success"] is True
    (created, *_) = events.wait("CHANNEL_CREATE", variable_x_mark="one")
    assert created["node_id"] == "FS-Node-01" and "body" not in created
    assert created["uuid"] == created["headers"]["Unique-ID"]
    assert created["timestamp"] == int(created["headers"]["Event-Date-Timestamp"])
    events.wait("CHANNEL_DESTROY", variable_x_mark="one")
    subjects = {json.loads(message.data)["event_name"]: message.subject for message in events.messages}
    assert subjects["CHANNEL_EXECUTE_COMPLETE"] == "freeswitch.events.channel.execute.complete"
    assert subjects["CHANNEL_HANGUP_COMPLETE"] == "freeswitch.events.channel.hangup.complete"
    for name, subject in subjects.items():
        assert subject == "freeswitch.events." + name.lower().replace("_", ".")
    (job, *_) = events.wait("BACKGROUND_JOB")
    assert job["body"].startswith(("+OK", "-ERR")) and "_body" not in job["headers"]


def test_custom_events_bodies_arrays_and_text(agent: Agent, client: Client, switch: Switch) -> None:
    events = client.events("freeswitch.events.custom.>")
    with RawEvents(switch.port, switch.password) as raw:
        raw.command(
            "sendevent CUSTOM\nEvent-Subclass: agent::Test-Sub_class\nX-Utf8: héllo 日本\n"
            'X-Quote: a "quoted" \\ back\nX-Array: ARRAY::one|:two\nX-Percent: 100% %41\n'
            'X-Evil: ","Unique-ID":"x","_body":"y"}\nContent-Length: 11\n\nline 1\nénd'
        )
    (event,) = events.wait("CUSTOM", Event_Subclass="agent::Test-Sub_class")
    assert events.messages[-1].subject == "freeswitch.events.custom.agent.test.sub.class"
    headers = event["headers"]
    assert headers["X-Utf8"] == "héllo 日本" and headers["X-Quote"] == 'a "quoted" \\ back'
    assert headers["X-Array"] == ["one", "two"] and headers["X-Percent"] == "100% %41"
    assert headers["X-Evil"] == '","Unique-ID":"x","_body":"y"}' and "uuid" not in event
    assert event["body"] == "line 1\nénd"


def members(data: bytes) -> list[tuple[str, Any]]:
    """The headers of a published event, as they stand there."""
    found: list[list[tuple[str, Any]]] = []
    json.loads(data, object_pairs_hook=found.append)
    return next(pairs for pairs in found if any(key == "Event-Name" for key, _ in pairs))


def test_each_key_stands_there_once(agent: Agent, client: Client, switch: Switch) -> None:
    """FreeSWITCH writes what was added twice twice; all events of all tests are looked at for that (wire.py)."""
    events = client.events()
    raw_commands = (
        "sendevent CUSTOM\nEvent-Subclass: agent::twice\nX-Twice: one\nX-Twice: two",
        "sendevent NAT\nEvent-Name: EVIL\nEvent-Sequence: 5\nEvent-Date-Timestamp: 7\nX-Once: x",
    )
    with RawEvents(switch.port, switch.password) as raw:
        for command in raw_commands:
            raw.command(command)
    for variables in ("", "{presence_data_cols=foo:foo,foo=1}"):
        assert client.request("bgapi", f"originate {variables}loopback/short/default &park")["success"] is True
    events.wait("CUSTOM", Event_Subclass="agent::twice")
    events.wait("NAT")
    events.wait("CHANNEL_HANGUP_COMPLETE", 2)
    seen: dict[str, list[tuple[str, Any]]] = {}
    for message in events.messages:
        headers = members(message.data)
        keys = [key for key, _ in headers]
        assert len(set(keys)) == len(keys), keys
        seen[str(dict(headers)["Event-Name"])] = headers
    assert dict(seen["CUSTOM"])["X-Twice"] == "two" and dict(seen["CHANNEL_HANGUP_COMPLETE"])["Hangup-Cause"]
    nat = json.loads(next(each.data for each in events.messages if each.subject.endswith("events.nat")))
    assert nat["event_name"] == "NAT" and nat["timestamp"] > 7 and not events.named("EVIL")


def test_bytes_that_are_not_utf8_come_as_valid_json(agent: Agent, client: Client, switch: Switch) -> None:
    events = client.events("freeswitch.events.custom.>")
    with RawEvents(switch.port, switch.password) as raw:
        raw.command(b"sendevent CUSTOM\nEvent-Subclass: agent::latin\nX-Name: M\xfcller\n")
    (event,) = events.wait("CUSTOM", Event_Subclass="agent::latin")
    assert event["headers"]["X-Name"] == "M\ufffdller"


def test_what_every_command_fires_is_left_out(agent: Agent, client: Client) -> None:
    events = client.events()
    for _ in range(20):
        client.request("version")
    client.request("bgapi", "echo done")
    events.wait("BACKGROUND_JOB")
    assert not events.named("API") and not events.named("HEARTBEAT")


def sequence(events: list[dict[str, Any]]) -> list[str]:
    return [event["headers"]["Event-Sequence"] for event in events]


def test_150_short_calls_lose_nothing_and_keep_the_switchs_order(
    agent: Agent, client: Client, switch: Switch
) -> None:
    """Against a second event socket, which gets the same order (FreeSWITCH sends all sockets the same)."""
    names = ("CHANNEL_CREATE", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY")
    with RawEvents(switch.port, switch.password, "event json " + " ".join(names)) as raw:
        events = client.events("freeswitch.events.channel.>")
        for _ in range(150):
            client.publish(
                "freeswitch.api", b'{"command":"bgapi","args":"originate loopback/short/default &park","async":true}'
            )
        for name in names:
            events.wait(name, 300, timeout=60)
            raw.wait(name, 300)
        ours = [event for event in events.parsed() if event["event_name"] in names]
        theirs = raw.events
        assert sequence(ours) == [event["Event-Sequence"] for event in theirs]
        assert len(set(sequence(ours))) == len(ours), "an event came twice"


@pytest.fixture
def filtered(
    nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent]
) -> Iterator[Callable[..., tuple[Agent, Events, Client]]]:
    clients: list[Client] = []

    def start(**settings: str) -> tuple[Agent, Events, Client]:
        agent = start_agent(nats, switch, subject_prefix="filtered", node_id="f", **settings)
        client = Client(nats.url)
        clients.append(client)
        return agent, client.events("filtered.events.>"), client

    yield start
    for client in clients:
        client.close()


def call(client: Client) -> None:
    reply = client.request("bgapi", "originate loopback/short/default &park", "filtered.api")
    assert reply["success"] is True


def custom(switch: Switch, subclass: str) -> None:
    with RawEvents(switch.port, switch.password) as raw:
        raw.command(f"sendevent CUSTOM\nEvent-Subclass: {subclass}\n")


def test_include_means_only_these(filtered: Callable[..., Any], switch: Switch) -> None:
    _, events, client = filtered(include="CHANNEL_DESTROY,agent::wanted,CHANNEL_ANSWER", exclude="CHANNEL_ANSWER")
    custom(switch, "agent::other")
    custom(switch, "agent::wanted")
    call(client)
    events.wait("CHANNEL_DESTROY", 2)
    names = {event["event_name"] for event in events.parsed()} - {"AGENT_CONNECTED"}
    assert names == {"CHANNEL_DESTROY", "CUSTOM"}
    assert [event["headers"]["Event-Subclass"] for event in events.named("CUSTOM")] == ["agent::wanted"]


def test_exclude_leaves_out_events_and_subclasses(filtered: Callable[..., Any], switch: Switch) -> None:
    _, events, client = filtered(exclude="CHANNEL_STATE,channel_callstate,agent::other")
    custom(switch, "agent::other")
    custom(switch, "agent::wanted")
    call(client)
    events.wait("CHANNEL_DESTROY", 2)
    events.wait("CUSTOM")
    names = {event["event_name"] for event in events.parsed()}
    assert "CHANNEL_STATE" not in names and "CHANNEL_CALLSTATE" not in names and "CHANNEL_CREATE" in names
    assert [event["headers"]["Event-Subclass"] for event in events.named("CUSTOM")] == ["agent::wanted"]


def test_freeswitch_is_asked_only_for_what_is_published(filtered: Callable[..., Any], switch: Switch) -> None:
    """Seen in how many bytes FreeSWITCH sends for calls of which nothing is published."""
    with Proxy(switch.port) as proxy:
        _, events, client = filtered(
            include="agent::wanted", exclude="AGENT_CHANNEL_GONE,AGENT_CHANNEL_FOUND", call_lanes="false",
            esl_port=str(proxy.port),
        )  # fmt: skip
        custom(switch, "agent::wanted")
        events.wait("CUSTOM")
        before = proxy.to_client
        for _ in range(5):
            call(client)
        custom(switch, "agent::wanted")
        events.wait("CUSTOM", 2)
        assert 0 < proxy.to_client - before < 8000, "five calls are some 200 events of 2.5 kB"


def test_sighup_changes_the_filter_without_losing_an_event(
    nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], tmp_path: Any, client: Client
) -> None:
    param = '<param name="include" value="{}"/>'
    text = f'<configuration name="event_agent.conf"><settings>{param}</settings></configuration>'
    config = tmp_path / "agent.xml"
    config.write_text(text.format("agent::a,agent::b"))
    agent = start_agent(nats, switch, subject_prefix="hup", node_id="h", ready=False)
    agent.kill()
    agent.config = config
    agent.start()
    events = client.events("hup.events.>")
    with RawEvents(switch.port, switch.password) as raw:
        for number in range(400):
            raw.command(f"sendevent CUSTOM\nEvent-Subclass: agent::a\nX-N: {number}\n")
            raw.command(f"sendevent CUSTOM\nEvent-Subclass: agent::b\nX-N: {number}\n")
            if number in (100, 200, 300):
                config.write_text(text.format("agent::a" if number != 200 else "agent::a,agent::b"))
                agent.signal(signal.SIGHUP)
                agent.logged("configuration read again", number // 100)
            if number == 200:
                until(lambda: raw.command("sendevent CUSTOM\nEvent-Subclass: agent::b\nX-N: -1\n")
                      and any(e["headers"]["X-N"] == "-1" for e in events.named("CUSTOM")), "both are wanted again")
    wanted = list(range(400))  # FreeSWITCH promises no order
    until(
        lambda: sorted(int(e["headers"]["X-N"]) for e in events.named("CUSTOM", Event_Subclass="agent::a")) == wanted,
        "every event of the subclass that was wanted all the time, once",
    )
    others = [int(e["headers"]["X-N"]) for e in events.named("CUSTOM", Event_Subclass="agent::b")]
    assert 0 in others and 399 not in others and 250 in others
    config.write_text("<broken")
    agent.signal(signal.SIGHUP)
    agent.logged("the old one stays in force")
    assert agent.stop() == 0


def test_a_job_whose_result_is_too_large_for_nats_is_heard_of(
    switch: Switch, start_agent: Callable[..., Agent]
) -> None:
    server = NatsServer(config="max_payload: 2400\n").start()
    try:
        start_agent(server, switch)
        client = Client(server.url)
        try:
            events = client.events("freeswitch.events.background.job")
            assert client.request("bgapi", f"echo {'x' * 2000}")["success"]
            (job,) = events.wait("BACKGROUND_JOB")
            assert "body" in job["truncated"] and "body" not in job and job["headers"]["Job-UUID"]
        finally:
            client.close()
    finally:
        server.stop()
