"""Park mode in hostile company: nothing that somebody else chooses runs in FreeSWITCH, or counts as a parked call."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from urllib.parse import quote

import pytest

from tests.functional.park_parts import (
    House,
    enable,
    getvar,
    needs_freeswitch,
    needs_sipp,
    parked_leg,
    status,
)
from tests.functional.parts import Client, EventSocket, NatsServer
from tests.support import until

pytestmark = needs_freeswitch

VERBS = (
    "\n\napi global_setvar hostile=yes\n\n", "\r\n\r\napi global_setvar hostile=yes\r\n\r\n",
    " ${global_setvar(hostile=yes)}",
)  # fmt: skip


@pytest.fixture
def direct(house: House) -> Iterator[EventSocket]:
    """FreeSWITCH without the agent between."""
    found = EventSocket(house.switch.port)
    yield found
    found.close()


def post(house: House, uuid: str, **more: str) -> bytes:
    """Ask as mod_xml_curl does."""
    fields = {"section": "dialplan", "Hunt-Context": "default", "Unique-ID": uuid} | more
    client = http.client.HTTPConnection("127.0.0.1", house.port, timeout=5)
    client.request("POST", "/dialplan", "&".join(f"{name}={quote(value)}" for name, value in fields.items()))
    answer = client.getresponse().read()
    client.close()
    return answer


def in_step(client: Client, count: int = 50) -> None:
    """Each answer belongs to its question, and the mark of a verb that ran is not there."""
    for number in range(count):
        assert client.request("echo", f"number {number}")["data"] == f"number {number}"
    assert client.request("global_getvar", "hostile")["data"] == ""


@pytest.mark.parametrize("verb", VERBS)
def test_a_made_up_question(house: House, client: Client, direct: EventSocket, verb: str) -> None:
    house.agent()
    enable(client)
    for uuid in (f"x{verb}#", f"x {verb}", verb):
        assert b"not found" in post(house, uuid)
    # In 1.0.0 FreeSWITCH was asked about the call, by its uuid, when no CHANNEL_PARK came within a second.
    post(house, "someone", **{"Hunt-Destination-Number": "1"})
    until(lambda: client.request("agent.status")["data"]["dialplan"]["uuids_refused"] == 3, "they are counted")
    assert len(house.agents[-1].logged("its uuid is not valid")) == 1, "at a bounded rate"
    in_step(client, 400)
    direct.api("version")


@pytest.mark.parametrize(
    "uuid",
    [
        r"x\n\napi\sglobal_setvar\shostile=yes\n\n", r"x\r\n\r\napi\sglobal_setvar\shostile=yes\n\n",
        r"x\sy", "x'y", "x;y",
        "x|global_setvar", "x&y",
    ],
)  # fmt: skip
def test_a_uuid_that_breaks_a_command_in_two(house: House, client: Client, direct: EventSocket, uuid: str) -> None:
    house.agent()
    enable(client, number="^7", answer=True)
    made = f"{{origination_uuid={uuid},event_agent_parked=1}}loopback/park/default"
    assert not client.request("originate", endpoint=made, extension="&park()", timeout=5)["success"]
    assert direct.api(f"originate {made} &park()")  # as somebody else would
    client.request("originate", endpoint="loopback/7000/default", extension="&park()", timeout=5)
    until(lambda: status(client)["calls_parked"] == 1, "the other is parked")
    in_step(client)
    client.request("dialplan.audio", mode="silence")
    client.request("dialplan.audio", mode="ringback")
    house.agents[-1].kill()
    house.agent()
    until(lambda: status(client)["calls_parked"] == 1, "it is found again")
    in_step(client)
    direct.api("hupall")


@pytest.fixture(scope="module")
def callid_house(tmp_path_factory: pytest.TempPathFactory, nats: NatsServer) -> Iterator[House]:
    """Its FreeSWITCH takes the Call-ID of a SIP call for the uuid: any caller may choose it."""
    house = House(tmp_path_factory.mktemp("callid"), nats, {"inbound-use-callid-as-uuid": "true"})
    yield house
    house.switch.stop()


@needs_sipp
def test_a_uuid_that_a_caller_chose(callid_house: House, client: Client) -> None:
    house = callid_house
    house.agent()
    enable(client)
    try:
        for uuid in ("Call-7@10.0.0.1:5060", "_", "9" * 200, "a.b_c-d:e@f", "CASE-of-Letters", "a+b/c=~#*!?d"):
            leg, _, _ = parked_leg(client, "7000", lambda uuid=uuid: house.call("7000", "-cid_str", uuid))  # type: ignore[misc]
            assert leg == uuid
            client.request("uuid_setvar", f"{leg} seen yes")
            until(lambda leg=leg: getvar(client, leg, "seen") == "yes", "it is taken")  # type: ignore[misc]
            assert client.request("uuid_kill", leg)["success"]
            until(lambda: status(client)["calls_parked"] == 0, "it is gone")
        for at, uuid in enumerate(("x${global_setvar(hostile=yes)}", "x{y}", "x(y)", "a'b", "a`b", "<x>", "a$b"), 1):
            house.call("7000", "-cid_str", uuid)
            until(lambda at=at: client.request("agent.status")["data"]["dialplan"]["uuids_refused"] >= at, uuid)  # type: ignore[misc]
        assert status(client)["calls_parked"] == 0
        in_step(client)
    finally:
        house.tidy(client)


def test_a_mark_that_others_set_is_none(house: House, client: Client, direct: EventSocket) -> None:
    house.agent()
    enable(client, number="^7")
    first, _, _ = parked_leg(client, "7000", lambda: client.request("bgapi", "originate loopback/7000/default &park()"))
    seal = client.request("uuid_getvar", f"{first} event_agent_seal")["data"]
    assert len(seal) == 32
    for name in ("event_agent_parked", "event_agent_seal", "EVENT_AGENT_PARKED"):
        for call in ({"variables": {name: "1"}}, {"endpoint": f"{{{name}=1}}loopback/park/default"}):
            fields = {"endpoint": "loopback/park/default", "extension": "&park()", "timeout": 5} | call
            assert not client.request("originate", fields=fields)["success"]
    events = client.events("freeswitch.events.channel.park")
    for mark in ("event_agent_parked=1", f"event_agent_parked=1,event_agent_seal={seal}", f"event_agent_seal={seal}"):
        # Not in scope: what is parked here is parked by others.
        assert direct.api(f"originate {{{mark}}}loopback/park/default &park()").startswith("+OK")
    until(lambda: len(events.parsed()) == 6, "both legs of each are parked, by themselves")
    assert status(client) | {"calls_parked": 1, "calls_parked_total": 1} == status(client)


def test_what_a_variable_holds_is_not_run(house: House, client: Client, direct: EventSocket) -> None:
    """In 1.0.0 `eval` ran it when the agent looked for parked calls, and `playback` when hold_music had it."""
    house.agent()
    enable(client, "music")
    client.request("dialplan.audio", mode="music")
    leg, _, _ = parked_leg(client, "7000", lambda: client.request("bgapi", "originate loopback/7000/default &park()"))
    for name in ("event_agent_parked", "hold_music", "event_agent_seal"):
        direct.api(f"uuid_setvar {leg} {name} ${{global_setvar(hostile=yes)}}")
    client.request("dialplan.audio", mode="ringback")
    client.request("dialplan.audio", mode="music")
    house.agents[-1].kill()
    house.agent()
    until(lambda: client.request("agent.status")["data"]["dialplan"]["calls_parked"] == 0, "it bears no mark any more")
    in_step(client)


def test_640_connections_that_ask_nothing(house: House, client: Client) -> None:
    """And half a request in every tenth: calls are parked all the same, and /health answers."""
    house.agent()
    enable(client)
    idle: list[socket.socket] = []
    try:
        for at in range(640):
            idle.append(socket.create_connection(("127.0.0.1", house.port), 5))
            if at % 10 == 0:
                idle[-1].sendall(b"POST /dialplan HTTP/1.1\r\nContent-Length: 100\r\n\r\nsection=")
        for number in range(7000, 7005):
            parked_leg(client, str(number), lambda number=number: client.request(  # type: ignore[misc]
                "bgapi", f"originate loopback/{number}/default &park()"))  # fmt: skip
            page = http.client.HTTPConnection("127.0.0.1", house.port, timeout=1)
            page.request("GET", "/health")
            assert page.getresponse().status == 200
            page.close()
        until(lambda: status(client)["calls_parked"] == 5, "all are parked")
    finally:
        for each in idle:
            each.close()


def test_the_events_as_they_come(house: House, client: Client) -> None:
    """A caller's name may hold anything."""
    house.agent()
    enable(client, answer=True)
    for name in ("${global_setvar(hostile=yes)}", "a\\n\\nb", '"}, {"Unique-ID":"x y"', "{x}"):
        reply = client.request("originate", endpoint="loopback/7000/default", extension="&park()", timeout=5,
                               caller_id_name=name)  # fmt: skip
        assert reply["success"] or "${" in json.dumps(reply) or "can't hold" in reply["message"], reply
    until(lambda: status(client)["calls_parked"] >= 1, "those that were made are parked")
    in_step(client)
