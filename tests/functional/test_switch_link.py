"""The link to FreeSWITCH: away, frozen, cut, refused, garbled."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from nats.errors import NoRespondersError

from tests.functional.conftest import Switch
from tests.functional.link_parts import AnySwitch, Start, check_numbered, kill, numbered
from tests.functional.parts import SCALE, Client, NatsServer
from tests.functional.proxy import Proxy, flip_bytes
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim


def takes_any(client: Client, prefix: str) -> None:
    """Waits for it: the log says that FreeSWITCH is connected, and then the node joins `any`."""

    def answered() -> bool:
        with suppress(NoRespondersError):
            return client.request("version", None, f"{prefix}.any", _timeout=10)["success"] is True
        return False

    until(answered, f"{prefix}.any has a taker")


# -- away at the start


def test_the_agent_starts_before_its_broker(switch: Switch, start_agent: Start, connect: Callable[..., Client]) -> None:
    server = NatsServer()
    agent = start_agent(server, switch, ready=False, reconnect_wait="0.2")
    agent.logged("NATS at nats://127.0.0.1:.* retrying")
    agent.logged("FreeSWITCH connected")
    server.start()
    try:
        agent.logged("NATS connected")
        assert connect(server.url).request("version")["success"] is True
        assert len(agent.logged("retrying")) == 1
    finally:
        server.stop()


def test_the_agent_starts_before_its_switch(
    nats: NatsServer, real: bool, start_agent: Start, connect: Callable[..., Client]
) -> None:
    port = free_port()
    switch = RealSwitch(port=port) if real else SwitchSim(port)
    agent = start_agent(nats, switch, ready=False, subject_prefix="early")
    agent.logged("FreeSWITCH is unreachable: .* can't be reached: Connection refused")
    agent.logged("NATS connected")
    client = connect(nats.url)
    reply = client.request("version", None, "early.api")
    assert reply["success"] is False and reply["message"] == "FreeSWITCH is not connected"
    with pytest.raises(Exception, match="no responders"):
        client.request("version", None, "early.any")
    events = client.events("early.events.agent.>")
    switch.start()
    try:
        agent.logged("FreeSWITCH connected", timeout=30)
        takes_any(client, "early")
        (event,) = events.wait("AGENT_CONNECTED")
        assert event["headers"]["FreeSWITCH-Version"].startswith("FreeSWITCH Version") and event["channels"] == []
        assert len([line for line in agent.log.splitlines() if "FreeSWITCH is unreachable" in line]) <= 2
    finally:
        switch.stop()


# -- the switch


def test_a_killed_switch_fails_what_is_under_way_and_comes_back(
    nats: NatsServer, own_switch: AnySwitch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    agent = start_agent(nats, own_switch, subject_prefix="killed")
    client = connect(nats.url)
    answers, events = client.gather("killed.answers.>"), client.events("killed.events.>")
    for number in range(4):
        client.publish("killed.api", b'{"command":"msleep","args":"20000"}', reply=f"killed.answers.{number}")
    until(lambda: client.request("agent.status", None, "killed.api")["data"]["commands_pending"] == 4, "4 under way")
    kill(own_switch)
    until(lambda: len(answers) == 4, "each gets its error at once", 5)
    assert all(json.loads(message.data)["success"] is False for message in answers)
    agent.logged("FreeSWITCH is unreachable")
    assert client.request("version", None, "killed.api")["message"] == "FreeSWITCH is not connected"
    with pytest.raises(Exception, match="no responders"):
        client.request("version", None, "killed.any")
    events.wait("AGENT_DISCONNECTED")
    own_switch.start()
    agent.logged("FreeSWITCH connected", 2, timeout=30)
    agent.logged("FreeSWITCH events: subscribed", 2, timeout=30)
    takes_any(client, "killed")
    assert client.request("bgapi", "originate loopback/short/default &park", "killed.any")["success"] is True
    events.wait("CHANNEL_DESTROY", 2)

    def announced() -> list[Any]:
        """What was announced since the loss."""
        found = [event for event in events.parsed() if event["event_name"].startswith("AGENT_")]
        return found[[event["event_name"] for event in found].index("AGENT_DISCONNECTED") + 1 :]

    (back,) = until(announced, "the announcement")
    assert back["event_name"] == "AGENT_CONNECTED" and back["events_unseen"] is None, "another switch counts anew"


def test_a_frozen_switch_is_noticed_and_its_commands_time_out(
    nats: NatsServer, own_switch: AnySwitch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    agent = start_agent(nats, own_switch, subject_prefix="frozen", command_timeout="2")
    client = connect(nats.url)
    client.request("version", None, "frozen.api")
    own_switch.freeze()
    try:
        started = time.monotonic()
        reply = client.request("version", None, "frozen.api", _timeout=10)
        assert reply["message"] == "Command timed out after 2 seconds" and 1.9 < time.monotonic() - started < 8
        agent.logged(r"FreeSWITCH is unreachable: FreeSWITCH did not answer a command within 2 s: frozen\?", timeout=25)
        cpu = agent.cpu()
        assert client.request("version", None, "frozen.api")["message"] == "FreeSWITCH is not connected"
    finally:
        own_switch.thaw()
    agent.logged("FreeSWITCH connected", 2, timeout=30)
    assert client.request("version", None, "frozen.api")["success"] is True
    assert agent.cpu() - cpu < 1


def test_an_idle_frozen_switch_is_noticed(
    nats: NatsServer, own_switch: AnySwitch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    agent = start_agent(nats, own_switch, subject_prefix="idle")
    own_switch.freeze()
    try:
        # Which of its two connections is it that notices first?
        agent.logged(r"FreeSWITCH is unreachable: FreeSWITCH did not answer (for|a command within) \d+ s: frozen\?",
                     timeout=40)
    finally:
        own_switch.thaw()
    agent.logged("FreeSWITCH connected", 2, timeout=30)


def test_a_wrong_password_is_one_clear_line(nats: NatsServer, switch: Switch, start_agent: Start) -> None:
    agent = start_agent(nats, switch, ready=False, subject_prefix="wrong", esl_password="not-this-one")
    (line,) = agent.logged("refuses the password")
    assert "not-this-one" not in agent.log and "-ERR invalid" in line
    time.sleep(1.5)  # it has tried again meanwhile
    assert len(agent.logged("refuses the password")) == 1
    assert agent.stop() == 0


def test_an_acl_refusal_is_one_clear_line(nats: NatsServer, real: bool, start_agent: Start) -> None:
    with RealSwitch(deny=True) if real else SwitchSim(reject_acl=True) as switch:
        agent = start_agent(nats, switch, ready=False, subject_prefix="acl")
        agent.logged("access list")


def test_a_name_that_does_not_resolve(nats: NatsServer, switch: Switch, start_agent: Start) -> None:
    agent = start_agent(nats, switch, ready=False, subject_prefix="name", esl_host="no-such-host.invalid")
    agent.logged("FreeSWITCH at no-such-host.invalid:.* can't be reached")
    assert agent.stop() == 0


def test_a_peer_that_never_greets(nats: NatsServer, start_agent: Start) -> None:
    with SwitchSim(never_greet=True) as switch:
        agent = start_agent(nats, switch, ready=False, subject_prefix="mute")
        agent.logged("does not answer: no greeting", timeout=20)
        assert agent.stop() == 0


def test_what_is_not_an_event_socket(nats: NatsServer, start_agent: Start) -> None:
    class Fake:
        port, password = nats.port, "ClueCon"

    agent = start_agent(nats, Fake(), ready=False, subject_prefix="other")
    agent.logged("FreeSWITCH is unreachable", timeout=20)
    assert agent.stop() == 0


def test_a_connection_that_is_cut_again_and_again_answers_everything_once(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    with Proxy(switch.port) as proxy:
        agent = start_agent(nats, proxy, subject_prefix="cut")
        stop, count = threading.Event(), 3000 * SCALE

        def saw() -> None:
            """In the midst of answers: there are many more bytes of them than pass until the next cut."""
            cut_at = proxy.to_client + 10_000
            while not stop.wait(0.001):
                if proxy.to_client >= cut_at:
                    proxy.cut()
                    cut_at = proxy.to_client + random.randrange(10_000, 60_000)

        cutter = threading.Thread(target=saw, name="cutter")
        cutter.start()
        try:
            found = numbered(connect(nats.url), "cut", count)
        finally:
            stop.set()
            cutter.join()
        good = check_numbered(found, count)
        assert 0 < good < count, f"{good} of {count} went through: nothing was cut, or all"
        agent.logged("FreeSWITCH connected", 2)


def test_a_slow_and_trickling_switch(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    with Proxy(switch.port) as proxy:
        start_agent(nats, proxy, subject_prefix="trickle")
        proxy.trickle = True
        assert check_numbered(numbered(connect(nats.url), "trickle", 200), 200) == 200
        proxy.trickle, proxy.delay = False, 0.02
        assert check_numbered(numbered(connect(nats.url), "trickle", 100), 100) == 100


def test_garbage_from_the_switch_never_gets_out_of_step(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    """Damaged bytes may damage an answer, but the next link is clean and everything is answered once."""
    with Proxy(switch.port) as proxy:
        agent = start_agent(nats, proxy, subject_prefix="garbled", command_timeout="2")
        client = connect(nats.url)
        proxy.garble = flip_bytes(random.Random(7), 0.002)
        found = numbered(client, "garbled", 500, window=10)
        assert sorted(found) == list(range(500)) and all(len(replies) == 1 for replies in found.values())
        proxy.garble = None
        proxy.cut()
        until(lambda: client.request("echo", "clean", "garbled.api").get("data") == "clean", "a clean link again", 30)
        assert check_numbered(numbered(client, "garbled", 200), 200) == 200
        assert agent.process is not None and agent.process.poll() is None
