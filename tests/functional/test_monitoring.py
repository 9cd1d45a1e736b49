"""/metrics and /health of a running agent, in good times and in bad; the examples for Prometheus and Grafana."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from event_agent.observe.figures import FIGURES
from event_agent.observe.gateways import GATEWAY
from tests.functional.conftest import Switch
from tests.functional.park_parts import needs_freeswitch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.sip_phone import register
from tests.support import free_port, until
from tests.switchsim import SwitchSim

ROOT = Path(__file__).resolve().parent.parent.parent
Start = Callable[..., Agent]


class Listener:
    """The agent's HTTP listener, as curl sees it."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str, method: str = "GET") -> tuple[int, str, bytes]:
        """(status, content type, body)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.getheader("Content-Type", ""), answer.read()
        finally:
            connection.close()

    def health(self) -> tuple[int, Any]:
        status, kind, body = self.get("/health")
        assert kind == "application/json"
        return status, json.loads(body)

    def failing(self) -> set[str]:
        """The parts that are not well."""
        status, body = self.health()
        found = {name for name, text in body["checks"].items() if text != "ok"}
        assert (status, body["status"]) == ((503, "failing") if found else (200, "ok"))
        return found

    def samples(self) -> dict[str, float]:
        """{name{labels}: value}"""
        status, kind, body = self.get("/metrics")
        assert status == 200 and kind == "text/plain; version=0.0.4; charset=utf-8"
        return {
            sample.name + "".join(f"[{key}={value}]" for key, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(body.decode())
            for sample in family.samples
        }


@pytest.fixture
def listener() -> Listener:
    return Listener(free_port())


def start(start_agent: Start, nats: NatsServer, switch: Switch, listener: Listener, **settings: Any) -> Agent:
    return start_agent(nats, switch, http_listen=f"127.0.0.1:{listener.port}", **settings)


def test_both_are_there_with_park_mode_off(
    nats: NatsServer, client: Client, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    start(start_agent, nats, switch, listener)
    until(lambda: listener.failing() == set(), "all is well")
    assert listener.health()[1]["node_id"] == "FS-Node-01"
    assert client.request("dialplan.status")["data"]["mode"] == "disabled"
    found = listener.samples()
    assert found["event_agent_park_mode"] == 0 and found["event_agent_healthy"] == 1
    for path in ("/", "/metrics/", "/health/x"):
        assert listener.get(path)[0] in (404, 405)
    assert listener.get("/metrics", "POST")[0] == 405


def test_metrics_tell_what_was_done(
    nats: NatsServer, client: Client, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    start(start_agent, nats, switch, listener)
    events = client.events()
    for _ in range(10):
        client.request("version")
    client.request("nonsense_verb", subject="freeswitch.any")
    client.request('no"nsense\\')
    client.request("dialplan.enable")
    reply = client.request("originate", endpoint="loopback/9196/default", destination="&park()")
    assert reply["success"], reply
    client.request("hangup", uuid=reply["data"]["uuid"])
    events.wait("CHANNEL_DESTROY", 2)
    status = client.request("agent.status")["data"]

    def told() -> dict[str, float] | None:
        found = listener.samples()
        waiting = found["event_agent_commands_pending"]  # the agent's own questions are among them
        return found if found["event_agent_requests_received_total"] >= 16 and not waiting else None

    found = until(told, "the requests are in it, and none is left") or {}
    assert found["event_agent_commands_total[command=version][result=ok]"] == 10
    assert found["event_agent_commands_total[command=version][result=error]"] == 0
    assert found["event_agent_commands_total[command=(other)][result=error]"] == 2
    assert found["event_agent_commands_total[command=originate][result=ok]"] == 1
    assert found["event_agent_command_seconds_count[command=version]"] == 10
    assert found["event_agent_command_seconds_bucket[command=version][le=+Inf]"] == 10
    assert 0 < found["event_agent_command_seconds_sum[command=version]"] < 10
    assert found["event_agent_lane_requests_total[lane=any][result=error]"] == 1
    assert found["event_agent_lane_requests_total[lane=all][result=ok]"] >= 13
    assert found["event_agent_park_mode"] == 1
    assert found["event_agent_events_published_total"] >= status["events_published"] > 10
    assert found["event_agent_events_dropped_total"] == found["event_agent_nats_messages_dropped_total"] == 0
    assert found["event_agent_nats_messages_sent_total"] > 20
    assert 0 < found["event_agent_events_lag_seconds"] < 5
    assert found["event_agent_nats_connected"] == found["event_agent_freeswitch_connected"] == 1
    assert found["event_agent_freeswitch_events_connected"] == 1
    (info,) = (name for name in found if name.startswith("event_agent_freeswitch_info"))
    assert status["freeswitch"]["core_uuid"] in info and status["freeswitch"]["hostname"] in info


def test_health_while_freeswitch_is_not_there(
    nats: NatsServer, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    agent = start(start_agent, nats, switch, listener, esl_port="1", ready=False)
    agent.logged("NATS connected")
    agent.logged("FreeSWITCH is unreachable")
    agent.logged("may ask for its dialplan at")  # the listener is opened after both links have begun
    until(lambda: listener.failing() == {"freeswitch", "events"}, "it says that FreeSWITCH is not there")
    assert "not connected: " in listener.health()[1]["checks"]["freeswitch"]
    found = listener.samples()
    assert found["event_agent_healthy"] == found["event_agent_freeswitch_connected"] == 0
    assert not any(name.startswith("event_agent_freeswitch_info") for name in found)


def test_health_when_freeswitch_is_lost(
    nats: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Start, listener: Listener
) -> None:
    agent = start(start_agent, nats, own_switch, listener)
    until(lambda: listener.failing() == set(), "all is well")
    own_switch.freeze()
    try:
        agent.logged("FreeSWITCH is unreachable", timeout=30)
        until(lambda: listener.failing() == {"freeswitch", "events"}, "it says that FreeSWITCH is gone")
    finally:
        own_switch.thaw()
    until(lambda: listener.failing() == set(), "all is well again", 30)
    assert until(lambda: listener.samples()["event_agent_freeswitch_disconnects_total"], "it is counted") == 1


def test_health_when_the_broker_is_lost(
    own_nats: NatsServer, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    agent = start(start_agent, own_nats, switch, listener, reconnect_wait="0.1")
    until(lambda: listener.failing() == set(), "all is well")
    own_nats.kill()
    agent.logged("NATS lost")
    assert listener.failing() == {"nats"}
    own_nats.start()
    agent.logged("NATS connected", count=2)
    until(lambda: listener.failing() == set(), "all is well again")
    assert until(lambda: listener.samples()["event_agent_nats_reconnects_total"], "it is counted") == 1


def test_a_taken_port_is_tried_again_and_holds_nothing_up(
    nats: NatsServer, client: Client, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", listener.port))
        other.listen()
        agent = start(start_agent, nats, switch, listener)
        agent.logged(
            f"no park mode, /health or /metrics: another program listens on 127.0.0.1:{listener.port} "
            r"\(http_listen\); trying every 10 s$"
        )
        assert client.request("version")["success"] and not client.request("dialplan.enable")["success"]

    def there() -> bool:
        with contextlib.suppress(OSError):
            return listener.get("/health")[0] in (200, 503)
        return False

    until(there, "it has the port", 15)
    assert client.request("dialplan.status")["success"] and len(agent.logged("another program listens on")) == 1


def test_calls_and_registrations_are_there_from_the_second_scrape_on(
    nats: NatsServer, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    start(start_agent, nats, switch, listener)
    until(lambda: listener.failing() == set(), "all is well")

    def told() -> dict[str, float] | None:
        found = listener.samples()
        return found if {"freeswitch_current_calls", "freeswitch_registrations"} <= found.keys() else None

    found = until(told, "FreeSWITCH has answered", 20) or {}
    assert found["freeswitch_current_calls"] >= 0 and found["freeswitch_registrations"] == 0
    assert not any("=sofia]" in name or "=show]" in name for name in found), "these are no commands of a client"


@needs_freeswitch
def test_a_gateway_that_is_down_and_a_user_who_is_registered(
    nats: NatsServer, start_agent: Start, listener: Listener
) -> None:
    dead, sip = free_port(), free_port()
    who = {"username": "u", "password": "p", "retry-seconds": "5", "proxy": f"127.0.0.1:{dead}"}
    gateways = {"down": who | {"register": "true"}, "trunk": who | {"register": "false"}}
    with RealSwitch(sip_port=sip, sofia={"accept-blind-reg": "true"}, gateways=gateways) as own:
        start(start_agent, nats, own, listener)
        assert register(sip, "1000") == register(sip, "1001") == 200
        labels = f"[profile=test][proxy=sip:127.0.0.1:{dead}]"
        down, trunk = (f"freeswitch_sofia_gateway_status[context=public][name={name}]{labels}[scheme=Digest]"
                       for name in ("down", "trunk"))  # fmt: skip

        def told() -> dict[str, float] | None:
            found = listener.samples()
            return found if found.get("freeswitch_registrations") == 2 and found.get(down) == 0 else None

        # The gateway is UP until its first REGISTER has failed, and FreeSWITCH is asked every 10 seconds.
        found = until(told, "both are registered and the gateway is down", 60) or {}
        assert found[trunk] == 1 and found[f"freeswitch_sofia_gateway_state[name=trunk]{labels}[state=NOREG]"] == 1
        assert found["freeswitch_sofia_gateways"] == 2 and found["freeswitch_current_calls"] == 0
        assert found[f"freeswitch_sofia_gateway_call_out[name=trunk]{labels}"] == 0
        text = (ROOT / "docs/MONITORING.md").read_text(encoding="utf-8")
        own_names = {name.partition("[")[0] for name in found if name.startswith("freeswitch_")}
        assert own_names <= set(re.findall(r"`(freeswitch_\w+)`", text)) and len(own_names) >= 16


def test_without_a_listener_there_is_neither(
    nats: NatsServer, client: Client, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    start_agent(nats, switch, http_listen="off")
    assert client.request("version")["success"]
    with pytest.raises(ConnectionRefusedError):
        listener.get("/health")


# -- the examples


def names_of(expression: str) -> set[str]:
    """The metrics that an expression of PromQL names."""
    bare = re.sub(r'"(?:\\.|[^"\\])*"', "", expression)  # no label values
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", bare)
    return set(re.findall(r"\b(?:event_agent|freeswitch|process)_\w+", bare)) | (set(re.findall(r"\bup\b", bare)))


def expressions() -> Iterator[tuple[str, str]]:
    """(file, expression) of all that the examples ask of Prometheus."""
    dashboard = json.loads((ROOT / "examples/grafana/dashboard.json").read_text(encoding="utf-8"))

    def walk(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            for key, value in part.items():
                if isinstance(value, str) and (key == "expr" or value.startswith("label_values(")):
                    yield value
                else:
                    yield from walk(value)
        elif isinstance(part, list):
            for value in part:
                yield from walk(value)

    yield from (("dashboard.json", each) for each in walk(dashboard))
    rules = (ROOT / "examples/prometheus/alerts.yml").read_text(encoding="utf-8")
    for match in re.finditer(r"^ +expr: (?:>-?\n((?: {10,}.*\n)+)|(.+)\n)", rules, re.MULTILINE):
        yield "alerts.yml", match[1] or match[2]


def test_the_examples_name_only_what_there_is(
    nats: NatsServer, client: Client, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    start(start_agent, nats, switch, listener)
    client.request("version")

    def told() -> set[str]:
        found = {name.partition("[")[0] for name in listener.samples()}
        return found if "event_agent_command_seconds_bucket" in found else set()

    there = until(told, "a command is in it")
    # Those of a HEARTBEAT come some time in 20 seconds; those of gateways not from a FreeSWITCH that has none.
    there |= {name for _, name, *_ in FIGURES} | {f"freeswitch_sofia_gateway_{name}" for name in ("status", *GATEWAY)}
    there.add("freeswitch_registrations")
    asked = [(file, each) for file, each in expressions()]
    assert {file for file, _ in asked} == {"dashboard.json", "alerts.yml"} and len(asked) > 25
    used = set()
    for file, expression in asked:
        names = names_of(expression)
        assert names, f"{file}: {expression} names no metric"
        assert names <= there | {"up"}, f"{file}: {expression} names {names - there}"
        used |= names
    told_of = set(re.findall(r"\bEventAgent\w+", (ROOT / "docs/MONITORING.md").read_text(encoding="utf-8")))
    rules = (ROOT / "examples/prometheus/alerts.yml").read_text(encoding="utf-8")
    assert told_of == set(re.findall(r"- alert: (\w+)", rules)), "the document tells of all alerts"
    assert {"event_agent_healthy", "event_agent_nats_buffered_bytes", "event_agent_events_dropped_total"} <= used


def test_the_document_names_all_that_there_is(
    nats: NatsServer, client: Client, switch: Switch, start_agent: Start, listener: Listener
) -> None:
    start(start_agent, nats, switch, listener)
    client.request("version")
    text = (ROOT / "docs/MONITORING.md").read_text(encoding="utf-8")
    described = set(re.findall(r"^\| `((?:event_agent|process)_\w+)", text, re.MULTILINE))

    def told() -> set[str]:
        body = listener.get("/metrics")[2].decode()
        found = {line.split()[2] for line in body.splitlines() if line.startswith("# TYPE")}
        # Those of a HEARTBEAT come some time in 20 seconds.
        own = {name for name in found if name.startswith("freeswitch_")}
        assert "freeswitch_up" in own and own <= set(re.findall(r"`(freeswitch_\w+)`", text))
        found -= own
        # What FreeSWITCH says of its load comes when it has answered.
        return found if "event_agent_commands_total{" in body and "event_agent_freeswitch_idle_cpu " in body else set()

    assert until(told, "a command and FreeSWITCH's figures are in it") == described
