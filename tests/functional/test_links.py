"""Faults of the two links, injected into real parts: what is asked is answered once, what happens is told once."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import SCALE, Agent, Client, Events, NatsServer
from tests.functional.proxy import Proxy, flip_bytes
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim

Start = Callable[..., Agent]
AnySwitch = RealSwitch | SwitchSim


def kill(switch: AnySwitch) -> None:
    switch.kill() if isinstance(switch, RealSwitch) else switch.stop()


def status(client: Client, subject: str = "freeswitch.api") -> dict[str, Any]:
    return dict(client.request("agent.status", subject=subject)["data"])


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
        assert client.request("version", None, "early.any", _timeout=10)["success"] is True
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


def numbered(client: Client, prefix: str, count: int, window: int = 50) -> dict[int, list[dict[str, Any]]]:
    """Send numbered echoes, a few in flight, and gather what comes back for each."""
    answers = client.gather(f"{prefix}.numbered")
    sent = 0

    def room() -> bool:
        return sent - len(answers) < window

    for number in range(count):
        until(room, "room for one more", 60)
        sent += 1
        payload = json.dumps({"command": "echo", "args": f"n{number}", "correlation_id": number}).encode()
        client.publish(f"{prefix}.api", payload, reply=f"{prefix}.numbered")
    until(lambda: len(answers) >= count, f"{count} replies, {len(answers)} came", 60)
    found: dict[int, list[dict[str, Any]]] = {}
    for message in list(answers):
        reply = json.loads(message.data)
        found.setdefault(reply["correlation_id"], []).append(reply)
    return found


def check_numbered(found: dict[int, list[dict[str, Any]]], count: int) -> int:
    """Each answered once, and right where it succeeded; returns how many did."""
    assert sorted(found) == list(range(count)) and all(len(replies) == 1 for replies in found.values())
    good = [number for number, (reply,) in found.items() if reply["success"]]
    assert all(found[number][0]["data"] == f"n{number}" for number in good)
    return len(good)


def test_a_connection_that_is_cut_again_and_again_answers_everything_once(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    with Proxy(switch.port) as proxy:
        agent = start_agent(nats, proxy, subject_prefix="cut")
        stop, count = threading.Event(), 3000 * SCALE

        def saw() -> None:
            while not stop.wait(random.uniform(0.1, 0.6)):
                proxy.cut()

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


# -- the broker


def fire(raw: RawEvents, number: int) -> None:
    raw.command(f"sendevent CUSTOM\nEvent-Subclass: agent::n\nX-N: {number}\n")


def got(events: Events) -> list[int]:
    return [int(event["headers"]["X-N"]) for event in events.named("CUSTOM", Event_Subclass="agent::n")]


def test_events_wait_for_the_broker_in_order(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    agent = start_agent(own_nats, switch, reconnect_wait="2")  # the client is back before it
    client = connect(own_nats.url)
    events = client.events("freeswitch.events.custom.>")
    with RawEvents(switch.port, switch.password) as raw:
        for number in range(20):
            fire(raw, number)
        until(lambda: got(events) == list(range(20)), "the first twenty")
        own_nats.kill()
        agent.logged("NATS lost")
        for number in range(20, 220):
            fire(raw, number)
        own_nats.start()
        until(lambda: client.nc.is_connected, "the client is back", 20)
        again = connect(own_nats.url)
        agent.logged("NATS connected", 2)
        until(lambda: got(events)[-1:] == [219], "the last of those that waited", 20)
        for number in range(220, 240):
            fire(raw, number)
        until(lambda: got(events)[-1:] == [239], "those after", 20)
    numbers = got(events)
    assert len(set(numbers)) == len(numbers) and numbers == sorted(numbers), "in order, none twice"
    driver = status(again)["nats"]
    assert driver["messages_dropped"] == 0 and driver["reconnects"] == 1
    # The client, too, was away: what the server sent before it was back is not the agent's loss.
    assert len(numbers) + driver["messages_unconfirmed"] >= 40


def test_what_does_not_fit_the_buffer_is_counted_and_said_once(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    agent = start_agent(own_nats, switch, reconnect_wait="0.2", reconnect_buf_size="20000", include="agent::n")
    own_nats.kill()
    agent.logged("NATS lost")
    with RawEvents(switch.port, switch.password) as raw:
        for number in range(200):
            fire(raw, number)
        agent.logged("buffer for NATS is full")
        own_nats.start()
        agent.logged("NATS connected", 2)
        client = connect(own_nats.url)
        data = status(client)
        assert 100 < data["events_dropped"] < 200 and data["events_dropped"] == data["nats"]["messages_dropped"]
        assert data["events_published"] + data["events_dropped"] >= 200
    assert len(agent.logged("buffer for NATS is full")) == 1


def test_a_frozen_broker_is_found_by_ping(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    agent = start_agent(own_nats, switch, ping_interval="0.5", reconnect_wait="0.2")
    own_nats.signal(signal.SIGSTOP)
    agent.logged("NATS lost: the server did not answer a PING within")
    own_nats.signal(signal.SIGCONT)
    agent.logged("NATS connected", 2)
    assert connect(own_nats.url).request("version")["success"] is True


def test_a_broker_through_a_bad_line(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    """Trickled, delayed, then cut in mid-message again and again."""
    with Proxy(nats.port) as proxy:
        agent = start_agent(nats, switch, subject_prefix="line", url=proxy.url, reconnect_wait="0.05")
        client = connect(nats.url)
        proxy.trickle = True
        assert check_numbered(numbered(client, "line", 200), 200) == 200
        proxy.trickle = False
        events = client.events("line.events.custom.>")
        with RawEvents(switch.port, switch.password) as raw:
            for number in range(300 * SCALE):
                fire(raw, number)
                if number % 60 == 59:
                    agent.logged("NATS connected", 1 + number // 60, timeout=30)  # not cut while it connects
                    proxy.cut()
            agent.logged("NATS connected", 1 + 5 * SCALE, timeout=30)
            fire(raw, 300 * SCALE)
            until(lambda: got(events)[-1:] == [300 * SCALE], "the last event")
        numbers = got(events)
        assert numbers == sorted(set(numbers)), "in order, none twice"
        missing = 300 * SCALE + 1 - len(numbers)
        driver = client.request("agent.status", None, "line.api")["data"]["nats"]
        assert missing <= driver["messages_dropped"] + driver["messages_unconfirmed"], "lost without being counted"


def test_the_brokers_garbage_never_ends_the_agent(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    with Proxy(nats.port) as proxy:
        agent = start_agent(nats, switch, subject_prefix="noise", url=proxy.url, reconnect_wait="0.05")
        client = connect(nats.url)
        proxy.garble = flip_bytes(random.Random(3), 0.01)
        for _ in range(300):
            client.publish("noise.api", b'{"command":"version"}', reply="noise.answer")
        agent.logged("NATS lost", 1, timeout=20)
        proxy.garble = None
        proxy.cut()
        until(lambda: _answers(client, "noise.api"), "answers again", 30)


def _answers(client: Client, subject: str) -> bool:
    try:
        return bool(client.request("version", None, subject, _timeout=1)["success"])
    except Exception:
        return False


def test_a_cluster_that_loses_two_of_three(
    switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    ports, routes = [free_port() for _ in range(3)], [free_port() for _ in range(3)]
    urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    servers = [
        NatsServer(
            "--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{route}", "--routes", urls, port=port
        ).start()
        for port, route in zip(ports, routes, strict=True)
    ]
    try:
        agent = start_agent(servers[0], switch, url=" , ".join(server.url for server in servers), reconnect_wait="0.2")
        agent.logged(r"NATS configured with 3 servers \(cluster failover\)")
        client = connect(servers[2].url)
        until(lambda: _answers(client, "freeswitch.api"), "a request through the cluster", 20)
        for survivor, server in enumerate(servers[:2], 2):
            server.kill()
            agent.logged("NATS connected", survivor, timeout=20)
            until(lambda: _answers(client, "freeswitch.any"), "an answer from the survivor", 20)
        assert check_numbered(numbered(client, "freeswitch", 500), 500) == 500
        assert agent.stop() == 0
    finally:
        for server in servers:
            server.stop()


def test_lame_duck_moves_on_without_a_lost_request_or_event(
    switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    routes = [free_port(), free_port()]
    urls = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    config = "lame_duck_duration: 30s\nlame_duck_grace_period: 1s\n"
    servers = [
        NatsServer(
            "--cluster_name", "c", "--cluster", f"nats://127.0.0.1:{route}", "--routes", urls, config=config
        ).start()
        for route in routes
    ]
    try:
        # It knows one; the cluster tells it of the other.
        agent = start_agent(servers[0], switch, include="agent::n", subject_prefix="duck")
        client = connect(servers[1].url)
        until(lambda: _answers(client, "duck.api"), "a request through the cluster", 20)
        events = client.events("duck.events.custom.>")
        found: dict[int, list[dict[str, Any]]] = {}
        asker = threading.Thread(target=lambda: found.update(numbered(client, "duck", 4000, 5)), name="asker")
        with RawEvents(switch.port, switch.password) as raw:
            asker.start()
            for number in range(400):
                fire(raw, number)
                if number == 50:
                    servers[0].signal(signal.SIGUSR2)
            agent.logged("lame duck")
            agent.logged("NATS connected", 2)
            for number in range(400, 800):
                fire(raw, number)
        asker.join(60)
        until(lambda: len(got(events)) >= 800, "all events", 20)
        assert got(events) == list(range(800))
        assert check_numbered(found, 4000) == 4000
        assert "NATS lost" not in agent.log and status(client, "duck.api")["nats"]["messages_unconfirmed"] == 0
        servers[0].kill()
        until(lambda: _answers(client, "duck.api"), "an answer by the other alone", 20)
        assert check_numbered(numbered(client, "duck", 100), 100) == 100
    finally:
        for server in servers:
            server.stop()


def test_max_payload_is_never_exceeded(switch: Switch, start_agent: Start, connect: Callable[..., Client]) -> None:
    server = NatsServer(config="max_payload: 2000\n").start()
    try:
        agent = start_agent(server, switch, include="agent::n")
        client = connect(server.url)
        reply = client.request("echo", "x" * 1900)
        assert reply["success"] is False and reply["message"].startswith("Reply too large")
        events = client.events("freeswitch.events.custom.>")
        with RawEvents(switch.port, switch.password) as raw:
            raw.command(f"sendevent CUSTOM\nEvent-Subclass: agent::n\nX-N: 1\nX-Long: {'x' * 2000}\n")
            fire(raw, 2)
        until(lambda: got(events) == [1, 2], "both events, the first without its longest header")
        assert status(client)["events_dropped"] == 0
        agent.logged("event agent::n is published without its largest parts")
        assert len(agent.logged("NATS connected")) == 1, "the link was cut"
    finally:
        server.stop()


def test_a_refused_subscription_is_said_with_its_subject_and_the_rest_goes_on(
    switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    config = """authorization { users = [
        {user: agent, password: "p%@:/ss", permissions: {subscribe: {deny: "freeswitch.any"}, publish: ">"}},
        {user: all, password: all} ] }\n"""
    server = NatsServer(config=config).start()
    try:
        agent = start_agent(server, switch, url=f"nats://agent:p%25%40%3A%2Fss@127.0.0.1:{server.port}")
        agent.logged('Permissions Violation for Subscription to "freeswitch.any"')
        client = connect(server.url, user="all", password="all")
        assert client.request("version")["success"] is True
        assert len(agent.logged("NATS connected")) == 1 and "p%25" not in agent.log and "p%@" not in agent.log
    finally:
        server.stop()


def test_a_refused_login_is_one_clear_line(switch: Switch, start_agent: Start) -> None:
    server = NatsServer("--auth", "right").start()
    try:
        agent = start_agent(server, switch, ready=False, token="wrong-secret", reconnect_wait="0.1")
        agent.logged("NATS at .*Authorization Violation")
        time.sleep(1)  # it has tried again meanwhile
        assert len(agent.logged("Authorization Violation")) == 1 and "wrong-secret" not in agent.log
        assert agent.stop() == 0
    finally:
        server.stop()


def test_max_reconnect_ends_the_agent(switch: Switch, start_agent: Start) -> None:
    agent = start_agent(NatsServer(), switch, ready=False, max_reconnect="2", reconnect_wait="0.05")
    agent.logged("max_reconnect")
    until(lambda: agent.process is not None and agent.process.poll() is not None, "the agent ends")
    assert agent.process is not None and agent.process.returncode == 1


def test_errors_are_marked_for_requests_with_headers(agent: Agent, client: Client) -> None:
    good = client.raw("freeswitch.api", b'{"command":"version"}', headers={"X-Trace": "1"})
    assert not good.headers and json.loads(good.data)["success"] is True
    bad = client.raw("freeswitch.api", b'{"command":"no_such_verb"}', headers={"X-Trace": "1"})
    assert bad.headers is not None and bad.headers["Nats-Service-Error-Code"] == "500"
    assert bad.headers["Nats-Service-Error"] == "-ERR no_such_verb Command not found!"
    assert json.loads(bad.data)["success"] is False
    assert not client.raw("freeswitch.api", b'{"command":"no_such_verb"}').headers


def test_a_drain_loses_no_request(nats: NatsServer, switch: Switch, start_agent: Start, client: Client) -> None:
    """Requests that come while it ends are answered, or refused by the server as nobody's."""
    agent = start_agent(nats, switch, subject_prefix="ending")
    answers = client.gather("ending.answer.*")
    for number in range(3000):
        client.publish("ending.api", b'{"command":"uptime"}', reply=f"ending.answer.{number}")
        if number == 500:
            agent.signal(signal.SIGTERM)
    until(lambda: len(answers) >= 3000, "3,000 answers", 20)
    assert agent.stop() == 0
    served = [message for message in answers if message.data]
    assert 500 <= len(served) <= 3000 and len({message.subject for message in answers}) == 3000 == len(answers)


def test_a_drain_answers_what_runs(nats: NatsServer, switch: Switch, start_agent: Start, client: Client) -> None:
    agent = start_agent(nats, switch, subject_prefix="drain")
    answers = client.gather("drain.answer")
    client.publish("drain.api", b'{"command":"msleep","args":"1500"}', reply="drain.answer")
    until(lambda: client.request("agent.status", None, "drain.api")["data"]["commands_pending"] == 1, "it runs")
    assert agent.stop() == 0
    until(lambda: answers, "its answer")
    assert json.loads(answers[0].data)["success"] is True
