"""call.watch, call.unwatch and events_to: the events of one call on subjects of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from event_agent.client.client import Client as OwnClient
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import until
from tests.switchsim import SwitchSim

PARK = "loopback/park/default"
LANE = "few.api"


@pytest.fixture
def few(nats: NatsServer, switch: Any, start_agent: Callable[..., Agent]) -> Agent:
    """An agent that publishes next to nothing."""
    return start_agent(nats, switch, subject_prefix="few", node_id="few", include="CHANNEL_ANSWER", exclude="DTMF")


def make(client: Client, lane: str = LANE, **fields: Any) -> str:
    reply = client.request("originate", None, lane, endpoint=PARK, destination="&park", _timeout=30, **fields)
    assert reply["success"] is True, reply
    return str(reply["data"]["uuid"])


@pytest.fixture
def call(few: Agent, client: Client) -> Iterator[str]:
    uuid = make(client)
    yield uuid
    client.request("uuid_kill", uuid, LANE)


def watched(client: Client, lane: str = LANE) -> int:
    return int(client.request("agent.status", None, lane, _timeout=20)["data"]["calls_watched"])


def test_the_events_of_one_call_whatever_the_filters_say(few: Agent, client: Client, call: str) -> None:
    own, published = client.events(f"few.calls.{call}.>"), client.events("few.events.channel.>")
    other = make(client)
    reply = client.request("call.watch", None, LANE, uuid=call)
    assert reply["message"] == "Call watched" and reply["data"] == {"uuid": call, "to": f"few.calls.{call}"}
    assert client.request("execute_app", "50", LANE, uuid=call, app="sleep", wait=30)["success"] is True
    for uuid in (other, call):
        client.request("hangup", None, LANE, uuid=uuid)
    own.wait("CHANNEL_DESTROY")
    names = [event["event_name"] for event in own.parsed()]
    assert {"CHANNEL_EXECUTE", "CHANNEL_EXECUTE_COMPLETE", "CHANNEL_HANGUP_COMPLETE"} <= set(names)
    assert {event["uuid"] for event in own.parsed()} == {call}
    assert f"few.calls.{call}.channel.hangup.complete" in {each.subject for each in own.messages}
    assert {event["event_name"] for event in published.parsed()} <= {"CHANNEL_ANSWER"}
    until(lambda: watched(client) == 0, "it ends with the call")
    assert client.request("call.unwatch", None, LANE, uuid=call)["message"] == "Nobody watches this call"


def test_some_events_to_some_place_until_somebody_ends_it(few: Agent, client: Client, call: str) -> None:
    place = f"ivr.{uuid4()}"
    own, other = client.events(f"{place}.>"), client.events(f"few.calls.{call}.>")
    fields = {"uuid": call, "events": ["channel_execute", "shop::order"], "to": place}
    assert client.request("call.watch", None, LANE, fields=fields)["data"]["to"] == place
    assert client.request("call.watch", None, LANE, fields=fields)["success"] is True, "it takes the place of the other"
    assert client.request("call.watch", None, LANE, uuid=call, events="CHANNEL_EXECUTE_COMPLETE")["success"] is True
    assert watched(client) == 2
    assert client.request("execute_app", "50", LANE, uuid=call, app="sleep", wait=30)["success"] is True
    own.wait("CHANNEL_EXECUTE", Application="sleep")
    other.wait("CHANNEL_EXECUTE_COMPLETE", Application="sleep")
    assert client.request("call.unwatch", None, LANE, uuid=call, to=place)["message"] == "Call unwatched"
    assert watched(client) == 1
    assert client.request("execute_app", "50", LANE, uuid=call, app="sleep", wait=30)["success"] is True
    other.wait("CHANNEL_EXECUTE_COMPLETE", 2, Application="sleep")
    assert {event["event_name"] for event in own.parsed()} == {"CHANNEL_EXECUTE"} and len(own.parsed()) == 1
    assert {event["event_name"] for event in other.parsed()} == {"CHANNEL_EXECUTE_COMPLETE"}


def test_a_new_call_from_its_first_event_on(few: Agent, client: Client) -> None:
    place = f"calls.{uuid4()}"
    own = client.events(f"{place}.>")
    uuid = make(client, events_to=place)
    own.wait("CHANNEL_CREATE", Unique_ID=uuid)
    own.wait("CHANNEL_ANSWER", Unique_ID=uuid)
    client.request("hangup", None, LANE, uuid=uuid, cause="USER_BUSY")
    (end,) = own.wait("CHANNEL_HANGUP_COMPLETE")
    assert end["headers"]["Hangup-Cause"] == "USER_BUSY" and {each["uuid"] for each in own.parsed()} == {uuid}
    until(lambda: watched(client) == 0, "it ends with the call")
    several = client.request(
        "originate", None, LANE, endpoint=f"{PARK},{PARK}", destination="&park", events_to=place, _timeout=20
    )
    assert several["message"] == "events_to must come with uuid: this endpoint may become several calls"
    failed = client.request(
        "originate", None, LANE, endpoint="user/nobody", destination="&park", uuid=str(uuid4()), events_to=place,
        _timeout=20,
    )  # fmt: skip
    assert failed["success"] is False
    until(lambda: watched(client) == 0, "a call that failed is watched no longer", 30)


def test_events_to_of_execute_app(few: Agent, client: Client, call: str) -> None:
    place = f"app.{uuid4()}"
    own = client.events(f"{place}.>")
    fields = {"uuid": call, "app": "sleep", "args": "50", "events_to": place}
    reply = client.request("execute_app", None, LANE, fields=fields)
    assert reply["message"] == "execute_app dispatched"
    own.wait("CHANNEL_EXECUTE_COMPLETE", Application_UUID=reply["app_uuid"])
    assert watched(client) == 1
    nobody = client.request("execute_app", None, LANE, fields={**fields, "uuid": "no-such-uuid"})
    assert "invalid session id" in nobody["message"] and watched(client) == 1


def test_dtmf_is_excluded_and_watched(few: Agent, client: Client, call: str, real: bool) -> None:
    """An excluded event comes to those who watch for it, and is published to nobody else."""
    own, published = client.events(f"few.calls.{call}.>"), client.events("few.events.dtmf")
    assert client.request("call.watch", None, LANE, uuid=call, events=["DTMF", "CHANNEL_HANGUP"])["success"] is True
    if real:  # the simulator's digits fire no event
        client.request("execute_app", "3000", LANE, uuid=call, app="sleep")
        client.request("uuid_recv_dtmf", f"{call} 5", LANE)
        own.wait("DTMF", DTMF_Digit="5")
    client.request("hangup", None, LANE, uuid=call)
    own.wait("CHANNEL_HANGUP")
    assert not published.messages


def test_its_time_is_over(few: Agent, client: Client, call: str) -> None:
    assert client.request("call.watch", None, LANE, uuid=call, ttl=1)["success"] is True
    until(lambda: watched(client) == 0, "over", 20)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"uuid": "no-such-uuid"}, "-ERR No such channel!"),
        ({}, "uuid must be between 1 and 63 characters"),
        ({"uuid": "a b"}, "uuid must not contain white space"),
        ({"uuid": "a*"}, "uuid can't be part of a subject: to must say which one"),
        ({"uuid": "ab", "events": "NO_SUCH"}, "events must name events of FreeSWITCH: it has no NO_SUCH"),
        ({"uuid": "ab", "events": "CHANNEL_*"}, "events must name events of FreeSWITCH: it has no CHANNEL_*"),
        ({"uuid": "ab", "events": {}}, "events must be 127 characters or fewer"),
        ({"uuid": "ab", "to": "a b"}, "to must be a plain subject"),
        ({"uuid": "ab", "to": "freeswitch.node"}, "to must not be a command lane"),
        ({"uuid": "ab", "to": "freeswitch.events.x"}, "to must not be a command lane"),
        ({"uuid": "ab", "to": "freeswitch.call"}, "to must not be a command lane"),
        ({"uuid": "ab", "to": "$JS.API.STREAM.DELETE"}, "to must not be a command lane"),
        ({"uuid": "ab", "ttl": 86401}, "ttl must be between 1 and 86400"),
        ({"uuid": "ab", "ttl": "5"}, "ttl must be between 1 and 86400"),
    ],
)
def test_what_is_refused_leaves_nothing(agent: Agent, client: Client, fields: dict[str, Any], message: str) -> None:
    reply = client.request("call.watch", fields=fields)
    assert reply["success"] is False and reply["message"].startswith(message), reply
    assert watched(client, "freeswitch.api") == 0


def test_a_channel_that_ended_while_the_link_was_away(
    nats: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Callable[..., Agent], client: Client
) -> None:
    agent = start_agent(nats, own_switch, subject_prefix="gap", node_id="gap")
    uuid = make(client, "gap.api")
    assert client.request("call.watch", None, "gap.api", uuid=uuid)["success"] is True
    own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
    agent.logged("FreeSWITCH is unreachable", 1, 60)
    refused = client.request("call.watch", None, "gap.api", uuid=uuid, to="x.y")
    assert refused["message"] == "FreeSWITCH is not connected"
    own_switch.start()
    until(lambda: watched(client, "gap.api") == 0, "it has ended unseen", 60)


def test_our_own_client_and_tool(nats: NatsServer, few: Agent, client: Client, call: str) -> None:
    tool = [sys.executable, "-m", "event_agent.ctl", "--url", nats.url, "--prefix", "few"]
    for argv, said in (
        (["watch", call, "DTMF", "--to", "tool.1", "--ttl", "60"], "few: Call watched\n"),
        (["unwatch", call], "few: Call unwatched\n"),
    ):
        done = subprocess.run([*tool, *argv], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, said, "")
    with OwnClient(nats.url, prefix="few") as own, own.watch(call, ["CHANNEL_HANGUP"], timeout=20) as stream:
        client.request("hangup", None, LANE, uuid=call)
        event = stream.next(20)
        assert event is not None and (event["event_name"], event["uuid"]) == ("CHANNEL_HANGUP", call)
