"""The link to NATS: away, frozen, cut, refused, garbled; and the end of the agent."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from tests.functional.conftest import Switch
from tests.functional.link_parts import Start, check_numbered, fire, got, numbered, status
from tests.functional.parts import SCALE, Agent, Client, NatsServer
from tests.functional.proxy import Proxy, flip_bytes
from tests.functional.raw_events import RawEvents
from tests.support import free_port, until


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
    server = NatsServer(config="max_payload: 4000\n").start()
    try:
        agent = start_agent(server, switch, include="agent::n")
        client = connect(server.url)
        reply = client.request("echo", "x" * 3900)
        assert reply["success"] is False and reply["message"].startswith("Reply too large")
        events = client.events("freeswitch.events.custom.>")
        with RawEvents(switch.port, switch.password) as raw:
            raw.command(f"sendevent CUSTOM\nEvent-Subclass: agent::n\nX-N: 1\nX-Long: {'x' * 4000}\n")
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
        agent.logged("NATS at .* refused us: it does not take token .Authorization Violation.; retrying")
        time.sleep(1)  # it has tried again meanwhile
        assert len(agent.logged("Authorization Violation")) == 1 and "wrong-secret" not in agent.log
        assert agent.stop() == 0
        start_agent(server, switch, ready=False).logged(
            rf"NATS at {server.url} refused us: no credentials are set \(token, nkey_seed, creds\); retrying$"
        )
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
