"""The bindings of FreeSWITCH on the simulator."""

from __future__ import annotations

from typing import Any

import ESL
import pytest

from tests.switchsim import SwitchSim
from tests.unit.switchsim.parts import parked, wait_until

# --- FreeSWITCH's own bindings -------------------------------------------------------------------------------------


def test_bindings_api(esl: Any) -> None:
    assert esl.api("echo", "h\u00e9llo").getBody() == "h\u00e9llo"
    assert esl.api("nonexistent_verb").getBody() == "-ERR nonexistent_verb Command not found!\n"
    assert esl.sendRecv("api version").getBody().startswith("FreeSWITCH Version ")
    assert esl.sendRecv("noop").getHeader("Reply-Text") == "-ERR command not found"


def test_bindings_wrong_password(sim: SwitchSim) -> None:
    assert not ESL.ESLconnection(sim.host, str(sim.port), "wrong").connected()


@pytest.mark.parametrize("form", ["plain", "json", "xml"])
def test_bindings_events(sim: SwitchSim, esl: Any, form: str) -> None:
    assert esl.events(form, "CUSTOM my::own") == 0
    sim.fire("CUSTOM", {"Event-Subclass": "my::own", "Text": "a b\u00fc%: \\"}, "the body")
    event = esl.recvEventTimed(2000)
    if form != "xml":  # the binding leaves XML to the reader
        assert event.getType() == "CUSTOM"
        assert event.getHeader("Text") == "a b\u00fc%: \\"
    assert "the body" in event.getBody()


def test_bindings_filter(sim: SwitchSim, esl: Any) -> None:
    esl.events("plain", "HEARTBEAT")
    assert esl.filter("Colour", "red").getHeader("Reply-Text") == "+OK filter added. [Colour]=[red]"
    sim.fire("HEARTBEAT", {"Colour": "green"})
    sim.fire("HEARTBEAT", {"Colour": "red"})
    assert esl.recvEventTimed(2000).getHeader("Colour") == "red"


def test_bindings_bgapi(esl: Any) -> None:
    esl.events("plain", "BACKGROUND_JOB")
    reply = esl.bgapi("echo", "hello", "my-job")
    assert reply.getHeader("Job-UUID") == "my-job"
    event = esl.recvEventTimed(2000)
    assert (event.getHeader("Job-UUID"), event.getHeader("Job-Command"), event.getBody()) == (
        "my-job",
        "echo",
        "hello",
    )


def test_bindings_call(sim: SwitchSim, esl: Any) -> None:
    esl.events("json", "CHANNEL_CREATE CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP CHANNEL_DESTROY")
    uuid = esl.api("originate", "loopback/park/default &park()").getBody()[4:].strip()
    parked(sim, uuid)
    assert esl.execute("set", "colour=blue", uuid).getHeader("Reply-Text") == "+OK"
    wait_until(lambda: sim.channels[uuid].get("colour") == "blue")
    assert esl.execute("no_such_application", "", uuid).getHeader("Reply-Text") == "+OK"
    seen: list[str] = []
    while seen.count("CHANNEL_DESTROY") < 2:
        event = esl.recvEventTimed(2000)
        assert event is not None
        seen.append(event.getHeader("Event-Name"))
    assert seen[:2] == ["CHANNEL_CREATE", "CHANNEL_CREATE"]
    assert seen.count("CHANNEL_HANGUP") == 2
    assert sim.channels == {}


def test_bindings_send_and_receive_events(esl: Any) -> None:
    esl.events("plain", "CUSTOM my::own")
    event = ESL.ESLevent("CUSTOM", "my::own")
    event.addHeader("Colour", "blue")
    event.addBody("some text")
    assert esl.sendEvent(event).getHeader("Reply-Text").startswith("+OK ")
    received = esl.recvEventTimed(2000)
    assert (received.getHeader("Colour"), received.getBody()) == ("blue", "some text")


def test_bindings_notice_the_end(sim: SwitchSim, esl: Any) -> None:
    sim.kill_connections()
    assert esl.recvEvent().getHeader("Event-Name") == "SERVER_DISCONNECTED"
    assert not esl.connected()
