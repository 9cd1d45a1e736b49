"""Park mode on a real FreeSWITCH: calls by SIP (sipp) and by mod_loopback, and what their callers really hear."""

from __future__ import annotations

import json
import re
import signal
import struct
import subprocess
import threading
import time
import uuid
import wave
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from event_agent.dialplan.answers import NOT_FOUND
from tests.functional import real_switch
from tests.functional.park_parts import (
    SCENARIO,
    House,
    enable,
    getvar,
    level,
    needs_freeswitch,
    needs_sipp,
    parked_leg,
    status,
)
from tests.functional.parts import ROOT, Agent, Client, EventSocket, NatsServer
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.functional.sip_phone import Caller
from tests.support import free_port, until

pytestmark = needs_freeswitch


@needs_sipp
@pytest.mark.parametrize("answer", [False, True], ids=["early", "answered"])
@pytest.mark.parametrize("audio", ["silence", "ringback", "music"])
def test_what_a_sip_caller_hears(house: House, client: Client, audio: str, answer: bool) -> None:
    house.agent()
    enable(client, audio, answer)
    number = f"7{audio}"
    leg, caller, took = parked_leg(client, number, lambda: house.call(number))
    time.sleep(0.3)
    caller.drain()
    packets, loud = caller.hear(1.0)
    state = client.request("show", "channels as json")["data"]
    how = "answered" if answer else "early media"
    print(f"\n{audio}, {how}: {packets} packets/s, {loud:.1f} dB, CHANNEL_PARK after {took * 1000:.0f} ms")
    assert 40 <= packets <= 60
    assert loud == -100 if audio == "silence" else -40 < loud < -3
    assert ('"callstate":"ACTIVE"' in state) == answer and ('"callstate":"EARLY"' in state) != answer
    assert status(client)["calls_parked"] == 1
    client.request("uuid_kill", leg)
    until(lambda: status(client)["calls_parked"] == 0, "nobody is parked")


@pytest.mark.parametrize("answer", [False, True], ids=["early", "answered"])
@pytest.mark.parametrize("audio", ["silence", "ringback", "music"])
def test_what_a_loopback_caller_hears(house: House, client: Client, audio: str, answer: bool) -> None:
    house.agent()
    enable(client, audio, answer)
    record = house.folder / f"{audio}-{answer}.wav"
    caller = str(uuid.uuid4())
    text = f"{{origination_uuid={caller}}}loopback/7100/default &record({record})"
    leg, _, took = parked_leg(client, "7100", lambda: client.request("bgapi", f"originate {text}"))
    time.sleep(1.5)
    client.request("uuid_kill", caller)
    until(lambda: status(client)["calls_parked"] == 0, "nobody is parked")
    until(lambda: record.exists() and record.stat().st_size > 8000, "the recording is there")
    with wave.open(str(record)) as file:
        frames = file.readframes(file.getnframes())
    loud = level(struct.unpack(f"<{len(frames) // 2}h", frames))
    print(f"\nloopback, {audio}: {loud:.1f} dB, CHANNEL_PARK after {took * 1000:.0f} ms")
    assert loud < -70 if audio == "silence" else -40 < loud < -3


@needs_sipp
def test_another_audio_while_parked(house: House, client: Client) -> None:
    house.agent()
    enable(client, "silence", True)
    _, caller, _ = parked_leg(client, "7200", lambda: house.call("7200"))
    for audio in ("music", "ringback", "silence", "music"):
        client.request("dialplan.audio", mode=audio, music_class="moh")

        def heard(audio: str = audio) -> bool:
            caller.drain()
            packets, loud = caller.hear(0.6)
            return bool(packets > 20 and (loud == -100 if audio == "silence" else loud > -40))

        until(heard, audio)
    assert status(client)["calls_parked"] == 1


@needs_sipp
@pytest.mark.parametrize("audio", ["silence", "ringback", "music"])
def test_what_can_be_done_with_a_parked_call(house: House, client: Client, audio: str) -> None:
    house.agent()
    enable(client, audio)
    events = client.events()
    took: dict[str, float] = {}

    def timed(what: str, act: Callable[[], Any], seen: Callable[[], Any]) -> None:
        started = time.monotonic()
        reply = act()
        assert reply["success"], reply
        until(seen, what)
        took[what] = (time.monotonic() - started) * 1000

    leg, first, _ = parked_leg(client, "7301", lambda: house.call("7301"))
    timed("execute_app", lambda: client.request("execute_app", uuid=leg, app="set", args="seen=yes indeed"),
          lambda: getvar(client, leg, "seen") == "yes indeed")  # fmt: skip
    assert status(client)["calls_parked"] == 1
    timed("transfer", lambda: client.request("uuid_transfer", f"{leg} disk XML default"),
          lambda: events.named("CHANNEL_ANSWER", Unique_ID=leg))  # fmt: skip
    assert getvar(client, leg, "from_disk") == "true"
    until(lambda: status(client)["calls_parked"] == 0, "it is no longer parked")
    client.request("hangup", uuid=leg)
    assert first.ended_well()

    one, caller, _ = parked_leg(client, "7302", lambda: house.call("7302"))
    two, other, _ = parked_leg(client, "7303", lambda: house.call("7303"))
    assert status(client)["calls_parked"] == 2
    for each in (one, two):  # uuid_bridge connects two legs as they are: who is to be answered has to be first
        timed("answer", lambda each=each: client.request("execute_app", uuid=each, app="answer"),  # type: ignore[misc]
              lambda each=each: events.named("CHANNEL_ANSWER", Unique_ID=each))  # type: ignore[misc]
    timed("bridge", lambda: client.request("uuid_bridge", f"{one} {two}"),
          lambda: events.named("CHANNEL_BRIDGE", Unique_ID=one))  # fmt: skip
    until(lambda: status(client)["calls_parked"] == 0, "they are no longer parked")
    client.request("hangup", uuid=one)
    assert caller.ended_well() and other.ended_well()

    leg, caller, _ = parked_leg(client, "7304", lambda: house.call("7304"))
    timed("hangup", lambda: client.request("uuid_kill", leg), lambda: events.named("CHANNEL_HANGUP", Unique_ID=leg))
    until(lambda: events.named("CHANNEL_DESTROY", Unique_ID=leg), "its end")
    assert status(client) | {"calls_parked_total": 4, "calls_intercepted": 4} == status(client)
    print(f"\n{audio}: " + ", ".join(f"{what} {ms:.0f} ms" for what, ms in took.items()))
    assert max(took.values()) < 2000  # each takes some 30 ms; a machine that is busy takes longer


@pytest.mark.parametrize("how", ["transfer", "bridge"])
def test_audio_that_is_late_does_not_follow_the_call(house: House, client: Client, how: str) -> None:
    house.agent()
    enable(client)
    events = client.events()
    leg, _, _ = parked_leg(client, "7350", lambda: client.request("bgapi", "originate loopback/7350/default &park()"))
    other, _, _ = parked_leg(client, "7351", lambda: client.request("bgapi", "originate loopback/7351/default &park()"))
    until(lambda: len(events.named("PLAYBACK_START")) == 2, "both hear something")
    where = f"{leg} disk XML default" if how == "transfer" else f"{leg} {other}"
    client.request(f"uuid_{how}", where)
    until(lambda: status(client)["calls_parked"] < 2, "it has left")
    time.sleep(0.1)
    stream = events.named("PLAYBACK_START")[0]["headers"]["Playback-File-Path"]
    client.request("execute_app", uuid=leg, app="playback", args=stream)  # as the agent's own would come
    until(lambda: len(events.named("PLAYBACK_START")) == 3, "it began")
    until(lambda: events.named("PLAYBACK_STOP", Unique_ID=leg, Playback_Status="break"), "it was broken off")
    assert client.request("uuid_exists", leg)["data"] == "true"


@needs_sipp
def test_scope(house: House, client: Client) -> None:
    house.agent()
    enable(client, context=["public"], number="^74")
    leg, _, _ = parked_leg(client, "7400", lambda: house.call("7400"))
    client.request("originate", endpoint="loopback/9400/default", extension="&park()", timeout=5)
    assert house.call("8400") and until(lambda: "8400" in client.request("show", "channels")["data"], "8400 is there")
    assert status(client)["calls_intercepted"] == 1
    client.request("dialplan.disable")
    house.call("7401")
    until(lambda: "7401" in client.request("show", "channels")["data"], "7401 is there")
    assert status(client) | {"calls_intercepted": 1, "calls_parked": 1} == status(client)
    client.request("dialplan.enable")
    client.request("uuid_setvar", f"{leg} event_agent_parked")  # it may be parked again
    client.request("uuid_transfer", f"{leg} 7402 XML public")
    until(lambda: status(client)["calls_intercepted"] == 2 and status(client)["calls_parked"] == 1, "again")
    client.request("uuid_transfer", f"{leg} disk XML default")
    until(lambda: status(client)["calls_parked"] == 0, "it is not")


def where_it_goes(house: House, client: Client, uri: str, to: str = "") -> str:
    """The application that FreeSWITCH runs for an INVITE: `park`, or `sleep` of the dialplan on disk."""
    name = f"c{uuid.uuid4().hex}"
    events = client.events("freeswitch.events.channel.execute")
    caller = Caller(house.sip, name, uri.replace("HOST", f"127.0.0.1:{house.sip}"), to)

    def found() -> list[str]:
        return [
            str(event["headers"]["Application"])
            for event in events.named("CHANNEL_EXECUTE", Caller_Caller_ID_Number=name)
            if event["headers"].get("Application") in ("park", "sleep")
        ]

    try:
        until(found, f"{uri} runs", 20)
        client.request("hupall")
        return found()[0]
    finally:
        caller.close()


EMERGENCIES = (
    "sip:112@HOST", "sip:112;phone-context=+49@HOST", "sip:112#@HOST", "sip:112%23@HOST", "sip:+112@HOST",
    "sip:1-1-2@HOST", "sip:112%3Bphone-context=+49@HOST", "tel:112;phone-context=+49", "sip:112@HOST;user=phone",
    "sip:1%201%202@HOST", "sips:112@HOST",
)  # fmt: skip
SERVICES = (
    ("urn:service:sos", ""), ("urn:service:sos.fire", ""), ("URN:SERVICE:SOS.Police", ""), ("urn:service:test.sos", ""),
    ("urn:service:sos", "sip:5551234@127.0.0.1"), ("sip:5551234@HOST", "urn:service:sos"),
)  # fmt: skip


@pytest.mark.parametrize("scope", [{"except": ["112", "0900*"]}, {"number": r"^(?!112$|911$)"}], ids=["except", "old"])
def test_emergency_calls_are_never_parked(house: House, client: Client, scope: dict[str, Any]) -> None:
    house.agent(include="CHANNEL_EXECUTE")
    enable(client, "silence", context="public", **scope)
    assert {uri: where_it_goes(house, client, uri) for uri in EMERGENCIES} == dict.fromkeys(EMERGENCIES, "sleep")
    assert {each: where_it_goes(house, client, *each) for each in SERVICES} == dict.fromkeys(SERVICES, "sleep")
    assert where_it_goes(house, client, "sip:5551234;phone-context=+49@HOST") == "park"
    assert status(client)["calls_intercepted"] == 1
    assert [status(client)[name] for name in scope] == list(scope.values())


def test_an_emergency_service_is_not_parked_by_a_pattern_that_asks_for_it(house: House, client: Client) -> None:
    house.agent(include="CHANNEL_EXECUTE")
    enable(client, "silence", number="^c[0-9a-f]+$")  # the caller's own number, which FreeSWITCH then routes by
    assert where_it_goes(house, client, "urn:service:sos") == "sleep"
    assert where_it_goes(house, client, "urn:service:counseling") == "park"


def test_an_answered_call_that_goes_on_is_left_alone(house: House, client: Client) -> None:
    house.agent()
    enable(client, "silence")
    client.request("dialplan.disable")
    events = client.events()
    caller = Caller(house.sip, "answered", f"sip:6100@127.0.0.1:{house.sip}")
    answered = until(lambda: events.named("CHANNEL_ANSWER", Caller_Destination_Number="6100"), "it is answered", 20)
    leg = answered[0]["uuid"]
    client.request("dialplan.enable")

    def runs(number: str, application: str) -> None:
        until(lambda: [
            event for event in events.named("CHANNEL_EXECUTE", Unique_ID=leg, Application=application)
            if event["headers"]["Caller-Destination-Number"] == number
        ], f"{application} for {number}", 20)  # fmt: skip

    client.request("uuid_transfer", f"{leg} 6200 XML public")
    runs("6200", "sleep")
    client.request("execute_app", uuid=leg, app="execute_extension", args="6300 XML public")
    until(lambda: len(events.named("CHANNEL_EXECUTE", Unique_ID=leg, Application="sleep")) == 3, "it runs inside", 20)
    client.request("uuid_transfer", f"{leg} 6400 XML public")
    runs("6400", "sleep")
    assert status(client)["calls_intercepted"] == 0
    client.request("hupall")
    until(lambda: events.named("CHANNEL_DESTROY", Unique_ID=leg), "it has ended", 20)
    caller.close()

    # Parked, answered and sent on, it is left alone too; with the mark taken off it is parked again.
    client.request("dialplan.autoanswer", enabled=True)
    caller = Caller(house.sip, "again", f"sip:6500@127.0.0.1:{house.sip}")
    leg = until(lambda: events.named("CHANNEL_PARK", Caller_Destination_Number="6500"), "it is parked", 20)[0]["uuid"]
    client.request("uuid_transfer", f"{leg} 6600 XML public")
    runs("6600", "sleep")
    client.request("uuid_setvar", f"{leg} event_agent_parked")
    client.request("uuid_transfer", f"{leg} 6700 XML public")
    runs("6700", "park")
    until(lambda: status(client)["calls_parked"] == 1 and status(client)["calls_intercepted"] == 2, "parked again", 20)
    client.request("hupall")
    caller.close()


@needs_sipp
def test_the_agent_is_killed_while_calls_are_parked(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client, "music", True)
    leg, caller, _ = parked_leg(client, "7500", lambda: house.call("7500"))
    until(lambda: caller.hear(0.3)[1], "the music plays", holds=lambda loud: loud > -40)
    agent.kill()
    caller.drain()
    packets, loud = caller.hear(1.0)
    assert packets > 25 and loud > -40  # 50 come in a second: the caller notices nothing
    late = house.call("7501")
    second = house.agent()
    until(lambda: status(client)["calls_parked"] == 1, "it is found")
    fields = status(client)
    assert fields | {"mode": "park", "audio": "music", "auto_answer": True, "calls_parked_total": 1} == fields
    until(lambda: "7501" in client.request("show", "channels")["data"], "7501 came while nobody was there")
    caller.drain()
    until(lambda: caller.hear(0.5)[1], "the music still plays", holds=lambda loud: loud > -40)
    client.request("uuid_transfer", f"{leg} disk XML default")
    until(lambda: status(client)["calls_parked"] == 0, "it is no longer parked")
    client.request("hupall")
    assert caller.ended_well() and late.ended_well()
    assert second.stop() == 0


@needs_sipp
def test_a_call_parked_in_silence_by_a_dead_agent_gets_its_audio_from_the_next(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client, "silence", True)
    _, caller, _ = parked_leg(client, "7600", lambda: house.call("7600"))
    client.request("dialplan.disable")
    agent.kill()
    state = house.folder / "dialplan.json"
    state.write_text(state.read_text().replace('"silence"', '"ringback"'))
    house.agent()
    until(lambda: status(client)["calls_parked"] == 1, "it is found, with park mode off too")
    time.sleep(0.3)
    caller.drain()
    assert caller.hear(0.5)[1] > -40


def test_events_that_are_not_published_are_followed(house: House, client: Client) -> None:
    house.agent(exclude="CHANNEL_PARK,CHANNEL_UNPARK,API")
    events = client.events()
    enable(client)
    client.request("bgapi", "originate loopback/7700/default &park()")
    until(lambda: status(client)["calls_parked"] == 1, "it is parked")
    until(lambda: events.named("PLAYBACK_START"), "it is heard")
    client.request("hupall")
    until(lambda: status(client)["calls_parked"] == 0, "it has gone")
    assert not events.named("CHANNEL_PARK") and not events.named("CHANNEL_UNPARK")


def test_freeswitch_is_restarted(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client)
    for number in range(3):
        client.request("bgapi", f"originate loopback/78{number}/default &park()")
    until(lambda: status(client)["calls_parked"] == 3, "three are parked")
    house.switch.kill()
    agent.logged("FreeSWITCH is unreachable")
    house.switch.start()
    agent.logged("FreeSWITCH events: subscribed", 2)
    until(lambda: status(client)["calls_parked"] == 0, "nobody is parked")
    until(lambda: client.request("agent.status")["data"]["dialplan"]["binding"] == "ok", "it is bound again")
    client.request("bgapi", "originate loopback/7809/default &park()")
    until(lambda: status(client)["calls_parked"] == 1, "park mode goes on")


@needs_sipp
def test_the_agent_is_frozen(house: House, client: Client) -> None:
    agent = house.agent()
    enable(client)
    agent.signal(signal.SIGSTOP)
    events = EventSocket(house.switch.port)
    started = time.monotonic()
    house.call("8600")
    until(lambda: events.api("show channels"), "from disk", 30,
          holds=lambda found: "8600" in found and "sleep" in found)  # fmt: skip
    took = time.monotonic() - started
    print(f"\na frozen agent holds a call for {took:.1f} s, with a timeout of 2 s")
    assert 1.9 < took < 20
    agent.signal(signal.SIGCONT)
    until(lambda: status(client)["calls_missed"] == 1, "it is counted")
    assert status(client)["calls_intercepted"] == 0
    assert len(agent.logged("1 calls went past park mode")) == 1
    parked_leg(client, "8601", lambda: house.call("8601"))
    assert status(client) | {"calls_intercepted": 1, "calls_missed": 1} == status(client)
    events.close()


@needs_sipp
def test_the_broker_is_away(house: House, own_nats: NatsServer) -> None:
    agent = Agent(url=own_nats.url, esl_port=str(house.switch.port), http_listen=f"127.0.0.1:{house.port}")
    house.agents.append(agent)
    agent.start()
    client = Client(own_nats.url)
    enable(client, "ringback", True)
    client.close()
    own_nats.kill()
    agent.logged("NATS lost")
    caller = house.call("8700")
    until(lambda: caller.hear(0.3)[1] > -40, "it is parked, and hears it")
    own_nats.start()
    agent.logged("NATS connected", 2)
    client = Client(own_nats.url)
    assert status(client)["calls_parked"] == 1
    client.close()


def test_the_files_to_copy(tmp_path: Path, nats: NatsServer, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """etc/freeswitch as it stands, but for its ports, in a real FreeSWITCH."""
    listen = free_port()
    files = []
    for name in ("event_socket", "xml_curl"):
        text = (ROOT / "etc" / "freeswitch" / f"{name}.conf.xml").read_text().replace(":8092/", f":{listen}/")
        (tmp_path / f"{name}.xml").write_text(text.replace('"8021"', '"{port}"'))
        files.append(f'<X-PRE-PROCESS cmd="include" data="{tmp_path}/{name}.xml"/>')
    text = real_switch.CONFIGURATION
    for name in ("event_socket", "xml_curl"):
        text = re.sub(rf'<configuration name="{name}.conf">.*?</configuration>', "", text, flags=re.DOTALL)
    before = '<configuration name="acl.conf">'
    text = text.replace(before, "\n".join(("", *files, before)))
    monkeypatch.setattr(real_switch, "CONFIGURATION", text)
    switch = RealSwitch()
    path = tmp_path / "event_socket.xml"
    path.write_text(path.read_text().replace("{port}", str(switch.port)))
    # The files have KEY where the key goes.
    agent = Agent(url=nats.url, esl_port=str(switch.port), http_listen=f"127.0.0.1:{listen}", dialplan_key="KEY")
    with switch:
        try:
            agent.start()
            enable(client)
            agent.logged("mod_xml_curl asks here")
            client.request("bgapi", "originate loopback/7000/default &park()")
            until(lambda: status(client)["calls_parked"] == 1, "it is parked")
        finally:
            agent.remove()


def test_only_questions_that_bear_the_key_are_answered(nats: NatsServer, client: Client, tmp_path: Path) -> None:
    listen = free_port()
    settings = {"http_listen": f"127.0.0.1:{listen}", "dialplan_key": "auto", "state_dir": str(tmp_path)}
    url = f"http://127.0.0.1:{listen}/dialplan"
    with RealSwitch(dialplan_url=url) as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            agent.start()
            enable(client)
            agent.logged("no mod_xml_curl binding that asks here")
            agent.logged("questions without the right key were refused")
            found = client.request("agent.status")["data"]["dialplan"]
            key = (tmp_path / "dialplan.key").read_text().strip()
            assert f'value="{url}?key={key}"' in found["add"] and found["questions_refused"] >= 1
            assert (tmp_path / "dialplan.key").stat().st_mode & 0o777 == 0o600
            assert not client.request("originate", endpoint="loopback/7000/default", destination="&park")["success"]
            assert status(client)["calls_parked_total"] == 0
            assert key not in agent.log
        finally:
            agent.remove()
    with RealSwitch(dialplan_url=f"{url}?key={key}") as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            agent.start()
            agent.logged("mod_xml_curl asks here")
            client.request("bgapi", "originate loopback/7000/default &park()")
            until(lambda: status(client)["calls_parked"] == 1, "it is parked")
        finally:
            agent.remove()


def test_a_binding_of_the_time_before_keys_goes_on_working_until_it_has_the_key(
    nats: NatsServer, client: Client, tmp_path: Path
) -> None:
    """As after an upgrade from 1.0.0 with its configuration file untouched."""
    listen = free_port()
    (tmp_path / "dialplan.json").write_text(json.dumps({  # as 1.0.0 wrote it
        "version": 1, "enabled": True, "contexts": [], "number": "", "audio": "ringback", "music_class": "",
        "autoanswer": False,
    }))  # fmt: skip
    settings = {"http_listen": f"127.0.0.1:{listen}", "dialplan_key": "auto", "state_dir": str(tmp_path)}
    url = f"http://127.0.0.1:{listen}/dialplan"
    with RealSwitch(dialplan_url=url) as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            agent.start()
            agent.logged("mod_xml_curl asks here")
            agent.logged("park mode was in use before there was a dialplan_key")
            client.request("bgapi", "originate loopback/7000/default &park()")
            until(lambda: status(client)["calls_parked"] == 1, "it is parked")
            assert status(client)["key"] == "optional"
            key = (tmp_path / "dialplan.key").read_text().strip()
            assert f'value="{url}?key={key}"' in client.request("agent.status")["data"]["dialplan"]["add"]
            assert key not in agent.log
        finally:
            agent.remove()
    for address, taken in ((f"{url}?key={key}", True), (url, False)):
        with RealSwitch(dialplan_url=address) as switch:
            agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
            try:
                agent.start()
                agent.logged("mod_xml_curl asks here" if taken else "questions without the right key were refused")
                until(lambda: status(client)["key"] == "required", "it has asked with the key")
                if taken:
                    client.request("bgapi", "originate loopback/7000/default &park()")
                    until(lambda: status(client)["calls_parked"] == 1, "it is parked")
            finally:
                agent.remove()


def test_a_switch_without_a_binding_is_named(nats: NatsServer, client: Client, tmp_path: Path) -> None:
    with RealSwitch() as switch:  # without bindings the module does not load at all
        agent = Agent(url=nats.url, esl_port=str(switch.port), http_listen=f"127.0.0.1:{free_port()}")
        try:
            agent.start()
            enable(client)
            agent.logged("no module mod_xml_curl")
            assert "load mod_xml_curl" in client.request("agent.status")["data"]["dialplan"]["add"]
        finally:
            agent.remove()
    with RealSwitch(dialplan_url="http://127.0.0.1:9/elsewhere") as switch:
        agent = Agent(url=nats.url, esl_port=str(switch.port), http_listen=f"127.0.0.1:{free_port()}")
        try:
            agent.start()
            enable(client)
            agent.logged("no mod_xml_curl binding that asks here")
            assert 'bindings="dialplan"' in client.request("agent.status")["data"]["dialplan"]["add"]
        finally:
            agent.remove()


class Strangers(ThreadingHTTPServer):
    """Somebody else's server for mod_xml_curl; it keeps what it is asked."""

    def __init__(self) -> None:
        asked = self.asked = list[dict[str, str]]()

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:  # noqa: N802
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                asked.append(dict(parse_qsl(body, keep_blank_values=True)))
                self.send_response(200)
                self.send_header("Content-Length", str(len(NOT_FOUND)))
                self.end_headers()
                self.wfile.write(NOT_FOUND)

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self.serve_forever, name="strangers", daemon=True)
        self._thread.start()

    def server_close(self) -> None:
        self.shutdown()
        self._thread.join(10)
        super().server_close()


def test_nothing_is_asked_until_park_mode_is_used(nats: NatsServer, client: Client, tmp_path: Path) -> None:
    settings = {"http_listen": f"127.0.0.1:{free_port()}", "state_dir": str(tmp_path)}
    with Strangers() as server, RealSwitch(dialplan_url=f"http://127.0.0.1:{server.server_port}/") as switch:
        calls = EventSocket(switch.port)
        for number in range(20):
            calls.api(f"bgapi originate loopback/9{number}/default &park()")
        until(lambda: calls.api("show channels count").strip().startswith("40 total"), "the calls are there", 20)
        calls.close()
        before = len(server.asked)
        agent = Agent(url=nats.url, esl_port=str(switch.port), **settings)
        try:
            with RawEvents(switch.port, switch.password, "event json API") as witness:
                agent.start()
                for _ in range(5):
                    part = client.request("agent.status")["data"]["dialplan"]
                    assert part["binding"] == "unknown" and 'bindings="dialplan"' in part["add"]
                    time.sleep(1)  # nothing is to come: some of the looks for parked calls were made by a clock
                client.request("echo", "last")
                until(lambda: [each for each in witness.events if each["API-Command"] == "echo"], "all is here")
                verbs = {str(event["API-Command"]) for event in witness.events}
                assert not verbs & {"uuid_dump", "module_exists", "xml_locate"} and len(server.asked) == before
            enable(client)
            agent.logged("no mod_xml_curl binding that asks here")
            until(lambda: [each for each in server.asked[before:] if each["tag_name"] == "event-agent"], "it was asked")
        finally:
            agent.remove()


def originate_many(client: Client, number: str, count: int, rate: float) -> float:
    """Calls at a steady rate; seconds until all of them run an application, from the last one on."""
    events = client.events("freeswitch.events.channel.execute")
    started = time.monotonic()
    for at in range(count):
        time.sleep(max(0.0, started + at / rate - time.monotonic()))
        client.publish("freeswitch.api", json.dumps(
            {"command": "bgapi", "args": f"originate loopback/{number}/default &park()", "async": True}
        ).encode())  # fmt: skip
    last = time.monotonic()

    def running() -> int:
        return len({e["uuid"] for e in events.parsed() if e["headers"].get("Call-Direction") == "inbound"})

    until(lambda: running() >= count, f"{count} calls run", 30)
    return time.monotonic() - last


def test_a_hundred_calls_a_second(house: House, client: Client) -> None:
    house.agent(exclude="API,BACKGROUND_JOB")
    off = originate_many(client, "9001", 200, 100)
    client.request("hupall")
    until(lambda: client.request("show", "channels count")["data"].strip().startswith("0 total"), "all ended")
    enable(client, "silence", number="^9")
    parked = originate_many(client, "9002", 200, 100)
    until(lambda: status(client)["calls_parked"] == 200, "all are parked")
    assert status(client)["calls_intercepted"] == 200
    client.request("hupall")
    until(lambda: status(client)["calls_parked"] == 0, "none is parked")
    print(f"\nthe last of 200 calls runs after {off * 1000:.0f} ms with park mode off, {parked * 1000:.0f} ms on")
    assert parked < 2


@needs_sipp
def test_no_call_fails_while_the_agent_is_killed_and_started(house: House, client: Client) -> None:
    agent = house.agent(exclude="API,BACKGROUND_JOB")
    enable(client, "silence", True)
    stop = threading.Event()

    def turn() -> None:
        nonlocal agent
        while not stop.is_set():
            agent.kill()
            agent = house.agent(exclude="API,BACKGROUND_JOB")
            stop.wait(0.3)

    # Answered and hung up by FreeSWITCH after a while, parked or not.
    killer = threading.Thread(target=turn, name="test-killer", daemon=True)
    killer.start()
    scenario = house.folder / "many.xml"
    scenario.write_text(SCENARIO.replace("MEDIA", "6000"))
    calls = subprocess.Popen(
        ["sipp", f"127.0.0.1:{house.sip}", "-sf", str(scenario), "-s", "7900", "-i", "127.0.0.1", "-p",
         str(free_port()), "-m", "45", "-l", "45", "-r", "9", "-nostdin", "-recv_timeout", "60000", "-trace_stat",
         "-stf", str(house.folder / "many.csv")],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=house.folder,
    )  # fmt: skip
    time.sleep(6)
    stop.set()
    killer.join(30)
    until(lambda: status(client)["mode"] == "park", "the last agent is there")
    found = client.request("show", "channels count")["data"]
    assert re.search(r"\b45 total", found), found  # its RTP ports are enough for 50
    parked = status(client)["calls_parked"]
    client.request("hupall")
    assert calls.wait(20) == 0  # sipp: every call was answered, and ended as it should
    print(f"\n45 calls, {parked} parked, {45 - parked} by FreeSWITCH's own dialplan, none failed")
