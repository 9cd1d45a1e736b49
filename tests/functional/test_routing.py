"""A program decides over calls on a real FreeSWITCH: SIP callers, what really runs, and what goes wrong."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from tests.functional.park_parts import House, getvar, needs_freeswitch, needs_sipp, status
from tests.functional.parts import Client
from tests.functional.route_parts import Program
from tests.functional.sip_phone import Caller
from tests.support import until

pytestmark = needs_freeswitch

ODD = "a 'b' \"c\" \\ \\\\ \\n $5 $$ & <d> %5B é , ; ^^"  # no ${…}, and nothing else that would not arrive


def route(client: Client, **fields: Any) -> None:
    reply = client.request("dialplan.route", fields=fields)
    assert reply["success"], reply


def routing(client: Client) -> dict[str, Any]:
    return dict(status(client)["route"])


class Sip:
    """A caller by SIP, with a name of its own."""

    def __init__(self, house: House, number: str) -> None:
        self.name = f"c{uuid.uuid4().hex[:10]}"
        self.caller = Caller(house.sip, self.name, f"sip:{number}@127.0.0.1:{house.sip}")

    def __enter__(self) -> Sip:
        return self

    def __exit__(self, *_: object) -> None:
        self.caller.close()


def runs(house: House, client: Client, number: str, application: str) -> str:
    """Make a SIP call, wait until it runs that, and return its channel."""
    events = client.events("freeswitch.events.channel.execute")
    with Sip(house, number) as caller:
        found = until(
            lambda: events.named("CHANNEL_EXECUTE", Application=application, Caller_Caller_ID_Number=caller.name),
            f"{number} runs {application}", 20,
        )  # fmt: skip
        return str(found[0]["uuid"])


def test_each_action(house: House, client: Client) -> None:
    house.agent(include="CHANNEL_EXECUTE,CHANNEL_HANGUP_COMPLETE")
    answers: dict[str, Any] = {
        "7001": {"action": "transfer", "extension": "disk", "context": "default"},
        "7002": {"action": "hangup", "cause": "CALL_REJECTED"},
        "7003": {"action": "apps", "apps": [
            {"app": "set", "args": "kept=yes"}, {"app": "set", "args": f"odd={ODD}"}, {"app": "sleep", "args": "60000"},
        ]},
        "7004": {"action": "dialplan"},
        "7005": {"action": "park"},
        "7006": {"action": "apps", "expand": True, "apps": [
            {"app": "set", "args": "mine=${uuid}"}, {"app": "sleep", "args": "60000"},
        ]},
    }  # fmt: skip
    program = Program(client, lambda call: answers[call["destination"]])
    route(client, variables=["sip_from_host", "sip_to_user"])
    ended = client.events("freeswitch.events.channel.hangup.complete")

    leg = runs(house, client, "7001", "sleep")
    assert getvar(client, leg, "from_disk") == "true" and getvar(client, leg, "event_agent_routed") == "true"
    (call,) = program.calls
    assert call["uuid"] == leg and call["context"] == "public" and call["network_addr"] == "127.0.0.1"
    assert call["variables"] == {"sip_from_host": "127.0.0.1", "sip_to_user": "7001"}

    with Sip(house, "7002") as caller:
        end = until(lambda: ended.named("CHANNEL_HANGUP_COMPLETE", Caller_Caller_ID_Number=caller.name), "it ends", 20)
        assert end[0]["headers"]["Hangup-Cause"] == "CALL_REJECTED"

    leg = runs(house, client, "7003", "sleep")
    assert getvar(client, leg, "kept") == "yes" and getvar(client, leg, "from_disk") == "_undef_"
    # `set` expands once more by itself: \\ becomes \, and $$ becomes $.
    assert getvar(client, leg, "odd") == "a 'b' \"c\" \\ \\ \\n $5 $ & <d> %5B é , ; ^^"

    leg = runs(house, client, "7004", "sleep")
    assert getvar(client, leg, "from_disk") == "true" and getvar(client, leg, "event_agent_routed") == "_undef_"
    leg = runs(house, client, "7005", "park")
    until(lambda: status(client)["calls_parked"] == 1, "it is parked", 20)
    leg = runs(house, client, "7006", "sleep")
    assert getvar(client, leg, "mine") == leg
    assert routing(client)["decisions"] == {"transfer": 1, "hangup": 1, "apps": 2, "dialplan": 1, "park": 1}
    client.request("hupall")
    program.close()


def test_arguments_arrive_as_they_stand(house: House, client: Client) -> None:
    house.agent(include="CHANNEL_EXECUTE")
    program = Program(client, lambda _: {"action": "apps", "apps": [
        {"app": "log", "args": f"INFO {ODD}"}, {"app": "sleep", "args": "60000"},
    ]})  # fmt: skip
    route(client)
    events = client.events("freeswitch.events.channel.execute")
    leg = runs(house, client, "7101", "sleep")
    (logged,) = events.named("CHANNEL_EXECUTE", Application="log", Unique_ID=leg)
    assert logged["headers"]["Application-Data"] == f"INFO {ODD}"
    client.request("hupall")
    program.close()


def test_a_call_that_was_sent_on_is_not_asked_about_again(house: House, client: Client) -> None:
    house.agent(include="CHANNEL_EXECUTE")
    program = Program(client, lambda call: {"action": "transfer", "extension": "7000", "context": "public"})
    route(client)
    client.request("dialplan.enable")
    leg = runs(house, client, "7201", "sleep")
    assert len(program.calls) == 1 and getvar(client, leg, "from_disk") == "true"
    client.request("hupall")
    program.close()


@pytest.mark.parametrize("fallback", ["dialplan", "park"])
def test_no_program_and_one_that_hangs(house: House, client: Client, fallback: str) -> None:
    house.agent(include="CHANNEL_EXECUTE")
    application = "park" if fallback == "park" else "sleep"
    route(client, fallback=fallback, timeout=0.3)
    runs(house, client, "7301", application)
    assert routing(client)["fallbacks"]["no_responders"] == 1
    dead = Program(client, lambda _: None)
    runs(house, client, "7302", application)
    assert routing(client)["fallbacks"]["late"] == 1 and len(dead.calls) == 1
    client.request("hupall")
    dead.close()


def test_freeswitch_does_not_wait_as_long(house: House, client: Client) -> None:
    """The binding's timeout is 2 s here."""
    agent = house.agent(include="CHANNEL_EXECUTE")
    slow = Program(client, lambda _: {"action": "hangup"}, seconds=3.0)
    route(client, timeout=5, fallback="park")
    leg = runs(house, client, "7401", "sleep")
    assert getvar(client, leg, "from_disk") == "true"
    until(lambda: routing(client)["fallbacks"]["gave_up"] == 1, "it is counted", 20)
    agent.logged("FreeSWITCH gave up waiting before 5 s: raise the timeout in xml_curl.conf.xml")
    client.request("hupall")
    slow.close()


@needs_sipp
def test_the_agent_is_restarted_while_programs_decide(house: House, client: Client) -> None:
    agent = house.agent()
    program = Program(client, lambda _: {"action": "apps", "apps": [{"app": "answer"}, {"app": "sleep", "args": "2"}]})
    route(client, timeout=1)
    first = house.call("7501")
    until(lambda: len(program.calls) == 1, "it is asked about", 20)
    agent.kill()
    house.agent()
    assert routing(client)["enabled"] is True
    second = house.call("7502")
    until(lambda: len(program.calls) == 2, "so is the next one", 20)
    assert first.ended_well() and second.ended_well()
    program.close()


@needs_sipp
def test_many_callers_at_one_time(house: House, client: Client) -> None:
    house.agent()
    programs = [
        Program(client, lambda _: {"action": "apps", "apps": [{"app": "answer"}, {"app": "sleep", "args": "100"}]})
        for _ in range(2)
    ]
    route(client, timeout=1)
    callers = [house.call(str(7600 + each)) for each in range(30)]
    assert all(caller.ended_well() for caller in callers)
    asked = [len(each.calls) for each in programs]
    assert sum(asked) == 30 and min(asked) > 0
    assert routing(client)["decisions"]["apps"] == 30 and not any(routing(client)["fallbacks"].values())
    for each in programs:
        each.close()
