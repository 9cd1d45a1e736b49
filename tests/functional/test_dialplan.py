"""Park mode on a real FreeSWITCH: calls by SIP (sipp) and by mod_loopback, and what their callers really hear."""

from __future__ import annotations

import struct
import time
import uuid
import wave
from collections.abc import Callable
from typing import Any

import pytest

from tests.functional.park_parts import (
    House,
    enable,
    getvar,
    level,
    needs_freeswitch,
    needs_sipp,
    parked_leg,
    status,
)
from tests.functional.parts import Client
from tests.functional.sip_phone import Caller
from tests.support import until

pytestmark = needs_freeswitch


@needs_sipp
@pytest.mark.parametrize("answer", [False, True], ids=["early", "answered"])
@pytest.mark.parametrize("audio", ["silence", "ringback", "music"])
def test_what_a_sip_caller_hears(house: House, client: Client, audio: str, answer: bool) -> None:
    house.agent()
    enable(client, audio, answer)
    number = f"7{audio}"
    leg, caller, took = parked_leg(client, number, lambda: house.call(number))
    time.sleep(0.3)  # the first packets may be silent
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
    time.sleep(1.5)  # how long it records
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


@pytest.mark.parametrize("app", ["bridge", "conference"])
def test_a_parked_call_that_is_made_to_talk_by_an_application_waits_again_afterwards(
    house: House, client: Client, app: str
) -> None:
    """FreeSWITCH fires neither CHANNEL_UNPARK nor CHANNEL_PARK for an application that runs inside `park`."""
    agent = house.agent()
    enable(client, number="^73")

    def call(number: str) -> str:
        args = f"originate loopback/{number}/default &park()"
        return parked_leg(client, number, lambda: client.request("bgapi", args))[0]

    leg, waiting = call("7320"), call("7321")

    def parked() -> list[str]:
        data = client.request("dialplan.status", fields={"calls": True})["data"]
        assert data["calls_parked"] == len(data["calls"])
        return sorted(data["calls"])

    until(lambda: parked() == sorted([leg, waiting]), "both wait")
    args = "{origination_uuid=agent-leg}loopback/park/default" if app == "bridge" else "waiting-room@default"
    reply = client.request("execute_app", uuid=leg, app=app, args=args)
    assert reply["success"], reply
    until(lambda: parked() == [waiting], "one talks")
    agent.stop()
    house.agent()
    until(lambda: parked() == [waiting], "it is known to talk after a restart")
    if app == "bridge":
        client.request("hangup", uuid="agent-leg")
    else:
        client.request("conference", "waiting-room kick all")
    until(lambda: parked() == sorted([leg, waiting]), "it waits again")
    client.request("hangup", uuid=leg)
    until(lambda: parked() == [waiting], "it has ended")
    assert status(client)["calls_parked"] == 1


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
    time.sleep(0.1)  # the audio comes late
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
