"""Calls in the simulator: originate, dialplan, bridge, variables."""

from __future__ import annotations

import json
import time

import pytest

from tests.switchsim import SwitchSim
from tests.switchsim.text import separate, variable_block
from tests.unit.switchsim.parts import Client, parked, wait_until

# --- calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["\\", ",", "'", "a b", "[x]", "{x}", '"', "|", "grün", "a\\b,c'd e"])
def test_escaping_that_comes_through_originate(client: Client, value: str) -> None:
    escaped = value.replace("\\", "\\" * 4).replace("'", "\\\\\\'").replace(",", "\\,").replace(" ", "\\s")
    reply = client.api(f"originate {{one={escaped}}}sim/x &park()")
    assert client.api(f"uuid_getvar {reply[4:].strip()} one") == value
    reply = client.api(f"originate {{one={escaped},two={escaped},three=3}}sim/x &park()")
    uuid = reply[4:].strip()
    assert [client.api(f"uuid_getvar {uuid} {name}") for name in ("one", "two", "three")] == [value, value, "3"]


@pytest.mark.parametrize(
    ("block", "value"),
    [("{a='x,y'}", "x"), ("{a=1}{a=2}", "2"), ("{a=${hostname}}", "switchsim"), ("{a=\\s\\sx\\s}", "x")],
)
def test_what_originate_makes_of_variables(client: Client, block: str, value: str) -> None:
    reply = client.api(f"originate {block}sim/x &park()")
    assert client.api(f"uuid_getvar {reply[4:].strip()} a") == value


def test_splitting() -> None:
    assert separate("a 'b c'  d\\ e") == ["a", "b c", "d\\ e"]
    assert separate("a,'b,c',d\\,e", ",") == ["a", "b,c", "d,e"]
    assert separate("^^:a:b c") == ["a", "b c"]
    assert separate("a=b=c", "=", limit=2) == ["a", "b=c"]  # the last holds the rest
    assert separate("u name  one two ", limit=3) == ["u", "name", "one two"]
    assert variable_block("{a=1,b={x}}rest") == ({"a": "1", "b": "{x}"}, "rest")
    assert variable_block("{a=1") is None


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("user/none &park", "SUBSCRIBER_ABSENT"),
        ("error/CALL_REJECTED &park", "CALL_REJECTED"),
        ("loopback/nowhere/default &park", "NO_ROUTE_DESTINATION"),
        ("loopback/busy/default &park", "USER_BUSY"),
        ("nonsense/x &park", "CHAN_NOT_IMPLEMENTED"),
        ("sofia/gateway/none/1 &park", "INVALID_GATEWAY"),
        ("sim/slow-60000 &park XML default a 1 0", "NO_ANSWER"),
    ],
)
def test_originate_that_fails(sim: SwitchSim, client: Client, arguments: str, cause: str) -> None:
    assert client.api(f"originate {arguments}") == f"-ERR {cause}\n"
    wait_until(lambda: not sim.channels, "the end of all legs")


def test_originate_waits_for_the_answer(sim: SwitchSim, client: Client) -> None:
    start = time.perf_counter()
    assert client.api("originate sim/slow-80 &park()").startswith("+OK ")
    assert time.perf_counter() - start >= 0.08


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("{originate_timeout=1}loopback/ring &park", "NO_ANSWER"),
        ("{originate_timeout=1}loopback/ring|sim/x &park", "NO_ANSWER"),  # it limits all of them together
        ("[leg_timeout=1]loopback/ring &park", "ALLOTTED_TIMEOUT"),
        ("loopback/ring &park XML default x y 1", "NO_ANSWER"),
    ],
)
def test_originate_gives_up_in_time(client: Client, arguments: str, cause: str) -> None:
    start = time.monotonic()
    assert client.api(f"originate {arguments}") == f"-ERR {cause}\n"
    assert 0.9 < time.monotonic() - start < 20


def test_a_call_is_killed_while_it_rings(sim: SwitchSim, client: Client) -> None:
    with Client(sim) as other:
        other.send("api originate {origination_uuid=ring-1}sim/slow-60000 &park()\n\n")
        wait_until(lambda: sim.channels)
        assert client.api("uuid_exists ring-1") == "true"
        assert client.api("uuid_kill ring-1 CALL_REJECTED") == "+OK\n"
        assert client.api("uuid_kill ring-1") == "-ERR No such channel!\n"
        assert other.read().body == b"-ERR CALL_REJECTED\n"


def test_early_media_is_enough_unless_it_is_ignored(client: Client) -> None:
    assert client.api("originate loopback/early/default &park").startswith("+OK ")
    ignoring = "{ignore_early_media=true}loopback/early/default &park XML default a 1 0"
    assert client.api(f"originate {ignoring}") == "-ERR NO_ANSWER\n"


def test_second_endpoint_is_tried(client: Client) -> None:
    assert client.api("originate error/USER_BUSY|sim/x &park").startswith("+OK ")


def test_originate_into_the_dialplan(sim: SwitchSim, client: Client) -> None:
    client.command("event json CHANNEL_EXECUTE CHANNEL_HANGUP")
    uuid = client.api("originate sim/x 9196 XML default")[4:].strip()
    assert [client.event()["Application"] for _ in range(2)] == ["answer", "echo"]
    assert client.api(f"uuid_transfer {uuid} park") == "+OK\n"
    assert [client.event()["Application"] for _ in range(2)] == ["answer", "park"]
    assert parked(sim, uuid).get("destination_number") == "park"
    assert client.api(f"uuid_transfer {uuid} nowhere XML none") == "+OK\n"
    assert client.event("CHANNEL_HANGUP")["Hangup-Cause"] == "NO_ROUTE_DESTINATION"


def test_dialplan_hook_decides(sim: SwitchSim, client: Client) -> None:
    def hook(request: dict[str, str]) -> list[tuple[str, str]] | None:
        number = request["Caller-Destination-Number"]
        return {"mine": [("set", "who=${destination_number}"), ("park", "")], "none": []}.get(number)

    sim.set_dialplan_hook(hook)
    assert client.api("originate loopback/none/default &park") == "-ERR NO_ROUTE_DESTINATION\n"
    assert client.api("originate loopback/park/default &park").startswith("+OK ")
    uuid = client.api("originate sim/x mine")[4:].strip()
    assert parked(sim, uuid).get("who") == "mine"


def test_playback_ends_and_broadcast_goes_on_top_of_park(sim: SwitchSim, client: Client) -> None:
    client.command("event json PLAYBACK_START PLAYBACK_STOP CHANNEL_UNPARK CHANNEL_HANGUP")
    for path in ("silence_stream://20", "tone_stream://%(10,10,440)", "tone_stream://L=2;%(5,5,440);loops=2"):
        uuid = sim.call("sim/x", f"&playback({path})")
        assert [client.event()["Event-Name"] for _ in range(3)] == ["PLAYBACK_START", "PLAYBACK_STOP", "CHANNEL_HANGUP"]
    uuid = sim.call("sim/x")
    channel = parked(sim, uuid)
    assert client.api(f"uuid_broadcast {uuid} tone_stream://%(1000,1000,440);loops=-1 aleg") == "+OK Message sent\n"
    assert client.event()["Playback-File-Type"] == "tone_stream"
    assert [running.application for running in channel.stack] == ["park", "playback"]
    client.api(f"uuid_kill {uuid}")
    assert [client.event()["Event-Name"] for _ in range(3)] == ["CHANNEL_HANGUP", "PLAYBACK_STOP", "CHANNEL_UNPARK"]


def test_bridge(sim: SwitchSim, client: Client) -> None:
    one, two = sim.call("sim/a"), sim.call("sim/b")
    parked(sim, one), parked(sim, two)
    client.command("event json CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_DESTROY")
    assert client.api(f"uuid_bridge {one} {two}") == f"+OK {two}\n"
    event = client.event()
    assert (event["Bridge-A-Unique-ID"], event["Bridge-B-Unique-ID"]) == (one, two)
    client.api(f"uuid_kill {two}")
    assert [client.event()["Event-Name"] for _ in range(3)] == ["CHANNEL_UNBRIDGE", *["CHANNEL_DESTROY"] * 2]
    assert sim.channels == {}


def test_variables_and_dump(sim: SwitchSim, client: Client) -> None:
    uuid = sim.call("sim/x")
    parked(sim, uuid)
    assert client.api(f"uuid_setvar {uuid} colour light\\sblue") == "+OK\n"
    assert client.api(f"uuid_getvar {uuid} colour") == "light blue"
    assert client.api(f"uuid_setvar {uuid} list ARRAY::a|:b") == "+OK\n"
    assert client.api(f"uuid_getvar {uuid} list[1]") == "b"
    assert json.loads(client.api(f"uuid_dump {uuid} json"))["variable_list"] == ["a", "b"]
    assert f"Unique-ID: {uuid}\n" in client.api(f"uuid_dump {uuid}")
    assert client.api(f"eval uuid:{uuid} ${{colour}}") == "light blue"
    assert client.api(f"uuid_setvar {uuid} colour") == "+OK\n"
    assert client.api(f"uuid_getvar {uuid} colour") == "_undef_"


def test_sendmsg_hangup_and_a_body(sim: SwitchSim, client: Client) -> None:
    uuid = sim.call("sim/x")
    channel = parked(sim, uuid)
    body = "text=one\n\ntwo"
    client.send(
        f"sendmsg {uuid}\ncall-command: execute\nexecute-app-name: set\ncontent-type: text/plain\n"
        f"content-length: {len(body)}\n\n{body}"
    )
    assert client.read().get("Reply-Text") == "+OK"
    wait_until(lambda: channel.get("text") == "one\n\ntwo")
    client.command("event json CHANNEL_HANGUP")
    assert client.command(f"sendmsg {uuid}\ncall-command: hangup\nhangup-cause: USER_BUSY") == "+OK"
    assert client.event()["Hangup-Cause"] == "USER_BUSY"
