"""Park mode from NATS to the call and back, with the simulator in FreeSWITCH's place; needs nothing but nats-server."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.parts import Agent, Client, NatsServer
from tests.support import free_port, until
from tests.switchsim import SwitchSim, XmlCurl


@pytest.fixture
def curl() -> XmlCurl:
    return XmlCurl(free_port())


@pytest.fixture
def sim(curl: XmlCurl) -> Iterator[SwitchSim]:
    with SwitchSim(dialplan_hook=curl) as found:
        yield found


Start = Callable[..., Agent]


def listening(start_agent: Start, nats: NatsServer, sim: SwitchSim, curl: XmlCurl, **settings: str) -> Agent:
    return start_agent(nats, sim, http_listen=f"127.0.0.1:{curl.port}", **settings)


def status(client: Client) -> dict[str, Any]:
    found: dict[str, Any] = client.request("dialplan.status")["data"]
    return found


def call(client: Client, number: str) -> None:
    reply = client.request("bgapi", f"originate loopback/{number}/default &park()")
    assert reply["success"], reply


def test_the_documented_commands(nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim,
                                 curl: XmlCurl) -> None:  # fmt: skip
    listening(start_agent, nats, sim, curl)
    for command, fields, message, key, value in (
        ("dialplan.enable", {}, "Park mode enabled", "mode", "park"),
        ("dialplan.audio", {"mode": "ringback"}, "Audio mode updated", "mode", "ringback"),
        ("dialplan.autoanswer", {"enabled": True}, "Auto-answer updated", "enabled", True),
        ("dialplan.disable", {}, "Park mode disabled", "mode", "disabled"),
    ):
        reply = client.request(command, **fields)
        assert reply["success"] and reply["message"] == message and reply[key] == value
    reply = client.request("dialplan.status")
    assert reply["info"] == "Mode: disabled | Audio: ringback | Auto-answer: enabled | Calls parked: 0"
    assert reply["data"]["info"] == reply["info"] and reply["data"]["auto_answer"] is True
    section = client.request("agent.status")["data"]["dialplan"]
    assert section["available"] and section["mode"] == "disabled"


def test_a_call_is_parked_heard_and_sent_on(nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim,
                                            curl: XmlCurl) -> None:  # fmt: skip
    listening(start_agent, nats, sim, curl)
    events = client.events()
    client.request("dialplan.enable", context="default", number="^70")
    call(client, "7000")
    leg = until(
        lambda: [e for e in events.named("CHANNEL_PARK") if e["headers"].get("variable_event_agent_parked") == "1"],
        "it is parked",
    )
    uuid = leg[0]["uuid"]
    until(lambda: events.named("PLAYBACK_START", Unique_ID=uuid), "it is heard")
    fields = status(client)
    assert fields | {"calls_parked": 1, "calls_parked_total": 1, "calls_intercepted": 1} == fields
    call(client, "7100")
    until(lambda: client.request("show", "channels count")["data"].strip().startswith("4 total"), "both are there")
    assert status(client)["calls_intercepted"] == 1
    client.request("uuid_transfer", f"{uuid} 5551234 XML default")
    until(lambda: events.named("CHANNEL_EXECUTE", Unique_ID=uuid, Application="echo"), "it reached the other extension")
    until(lambda: status(client)["calls_parked"] == 0, "it is no longer parked")


def test_park_mode_goes_on_after_an_upgrade_until_the_binding_has_the_key(
    nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim, curl: XmlCurl, tmp_path: Path
) -> None:
    """A binding without a key, as for 1.0.0, and the shipped file's `auto`."""
    before = listening(start_agent, nats, sim, curl, state_dir=str(tmp_path))
    client.request("dialplan.enable")
    assert before.stop() == 0
    settings = {"state_dir": str(tmp_path), "dialplan_key": "auto"}

    agent = listening(start_agent, nats, sim, curl, **settings)
    (line,) = agent.logged("park mode was in use before there was a dialplan_key")
    key = (tmp_path / "dialplan.key").read_text().strip()
    call(client, "7000")
    until(lambda: status(client)["calls_intercepted"] == 1, "parked without the key")
    assert status(client)["key"] == "optional"
    add = client.request("agent.status")["data"]["dialplan"]["add"]
    assert f"http://127.0.0.1:{curl.port}/dialplan?key={key}" in add
    assert add.replace(key, "…") in line and key not in agent.log

    curl.path = f"/dialplan?key={key}"
    call(client, "7000")
    until(lambda: status(client)["calls_intercepted"] == 2, "parked with the key")
    assert status(client)["key"] == "required"
    curl.path = "/dialplan"
    call(client, "5551234")
    until(lambda: client.request("agent.status")["data"]["dialplan"]["questions_refused"] == 1, "refused")
    agent.logged("those without it are refused")
    assert agent.stop() == 0

    again = listening(start_agent, nats, sim, curl, **settings)
    call(client, "5551234")
    until(lambda: client.request("agent.status")["data"]["dialplan"]["questions_refused"] == 1, "refused")
    assert status(client)["key"] == "required" and status(client)["calls_intercepted"] == 0
    assert "was in use before" not in again.log


def test_the_state_and_the_parked_calls_outlast_the_agent(
    nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim, curl: XmlCurl, tmp_path: Path
) -> None:
    agent = listening(start_agent, nats, sim, curl, state_dir=str(tmp_path))
    client.request("dialplan.audio", mode="music", music_class="jazz")
    client.request("dialplan.enable")
    for number in range(3):
        call(client, f"700{number}")
    until(lambda: status(client)["calls_parked"] == 3, "three are parked")
    agent.kill()
    listening(start_agent, nats, sim, curl, state_dir=str(tmp_path))
    until(lambda: status(client)["calls_parked"] == 3, "they are found again")
    fields = status(client)
    assert fields | {"mode": "park", "audio": "music", "music_class": "jazz"} == fields
    sim.stop()
    sim.start()
    until(lambda: client.request("status").get("success"), "FreeSWITCH is back", 20)
    until(lambda: status(client)["calls_parked"] == 0, "nobody is parked in a new FreeSWITCH")


def test_nothing_is_asked_until_park_mode_is_used(
    nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim, curl: XmlCurl, tmp_path: Path
) -> None:
    for _ in range(50):
        sim.call()
    agent = listening(start_agent, nats, sim, curl, state_dir=str(tmp_path))
    for _ in range(12):
        assert client.request("agent.status")["data"]["dialplan"]["binding"] == "unknown"
        time.sleep(0.2)  # nothing is to come: some of the looks for parked calls were made by a clock
    asked = {"uuid_dump", "module_exists", "xml_locate"}
    assert not asked & set(sim.api_calls)
    client.request("dialplan.enable")
    until(lambda: "module_exists" in sim.api_calls, "the binding is looked for")
    client.request("dialplan.disable")
    agent.kill()
    sim.api_calls.clear()
    listening(start_agent, nats, sim, curl, state_dir=str(tmp_path))
    until(lambda: "uuid_dump" in sim.api_calls, "calls may be parked still")
    assert "module_exists" not in sim.api_calls and client.request("agent.status")["success"]


def test_a_call_that_was_answered_too_late_is_missed(
    nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim, curl: XmlCurl
) -> None:
    agent = listening(start_agent, nats, sim, curl)
    client.request("dialplan.enable")
    agent.signal(signal.SIGSTOP)
    curl.timeout = 1
    assert curl({"section": "dialplan", "Hunt-Context": "default", "Unique-ID": "late"}) is None
    curl.timeout = 20
    agent.signal(signal.SIGCONT)
    until(lambda: status(client)["calls_missed"] == 1, "it is counted")
    assert status(client)["calls_intercepted"] == 0
    agent.logged("calls go past park mode, 1 so far")
    assert client.request("agent.status")["data"]["dialplan"]["calls_missed"] == 1
    call(client, "7000")
    until(lambda: status(client)["calls_parked"] == 1, "the next one is parked")
    assert status(client) | {"calls_intercepted": 1, "calls_missed": 1} == status(client)


def test_excepted_numbers_are_not_parked(
    nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim, curl: XmlCurl, tmp_path: Path
) -> None:
    agent = listening(start_agent, nats, sim, curl, state_dir=str(tmp_path))
    scope: dict[str, Any] = {"except": ["112", "0900*"]}
    assert client.request("dialplan.enable", **scope)["success"]
    agent.kill()
    listening(start_agent, nats, sim, curl, state_dir=str(tmp_path))
    until(lambda: status(client)["except"] == ["112", "0900*"], "the list has outlasted the agent")
    events = client.events()
    for number in ("112", "112;phone-context=+49", "112#", "0900123"):
        client.request("originate", endpoint=f"loopback/{number}/default", extension="&park()", timeout=10)
    call(client, "7000")
    until(lambda: events.named("CHANNEL_PARK", variable_event_agent_parked="1"), "the other one is parked")
    assert status(client)["calls_intercepted"] == 1
    assert client.request("agent.status")["data"]["dialplan"]["except"] == ["112", "0900*"]
    assert client.request("dialplan.enable")["success"] and status(client)["except"] == []


def test_a_state_that_can_not_be_written_is_said_in_the_reply(
    nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim, curl: XmlCurl
) -> None:
    agent = listening(start_agent, nats, sim, curl, state_dir="/dev/full/state")
    ends = "until the agent is restarted: it could not be written to disk"
    for command, fields, message in (
        ("dialplan.enable", {}, "Park mode enabled"), ("dialplan.audio", {"mode": "silence"}, "Audio mode updated"),
        ("dialplan.autoanswer", {"enabled": True}, "Auto-answer updated"),
        ("dialplan.disable", {}, "Park mode disabled"),
    ):  # fmt: skip
        reply = client.request(command, fields=fields)
        assert (reply["success"], reply["persisted"], reply["message"]) == (True, False, f"{message} {ends}")
    assert len(agent.logged("can't be written: Not a directory; it will not outlast a restart")) == 1


def test_without_the_listener_all_else_runs(nats: NatsServer, client: Client, start_agent: Start, sim: SwitchSim,
                                            curl: XmlCurl) -> None:  # fmt: skip
    first = listening(start_agent, nats, sim, curl, node_id="first")
    second = listening(start_agent, nats, sim, curl, node_id="second")
    assert len(second.logged("no park mode, /health or /metrics: another program listens on")) == 1
    reply = client.request("dialplan.enable", subject="freeswitch.node.second")
    assert not reply["success"] and "not available" in reply["message"] and "in use" in reply["message"]
    assert client.request("status", subject="freeswitch.node.second")["success"]
    assert client.request("dialplan.enable", subject="freeswitch.node.first")["success"]
    assert first.stop() == 0
    until(lambda: client.request("dialplan.status", subject="freeswitch.node.second")["success"], "it has the port", 15)
