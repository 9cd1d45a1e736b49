"""/metrics and /health, read with the parser of Prometheus's own client library."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from event_agent import __version__
from event_agent.bridge.losses import Losses
from event_agent.config.table import Settings
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.router import Router
from event_agent.freeswitch.link import Switch
from event_agent.http.server import HttpRequest
from event_agent.observe import monitoring as module
from event_agent.observe.monitoring import FIGURES, FRESH, LABEL, LOOKED, POWERS, Monitoring, Readiness
from event_agent.protocol.subjects import endpoints_of
from event_agent.runtime import stats as counters
from event_agent.runtime.link import LinkState, LinkStatus
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeDriver
from tests.fakes.questions import anything

SETTINGS = Settings(node_id='FS "1"')
FIELDS = {"mode": "park", "calls_parked": 2, "calls_parked_total": 9, "calls_intercepted": 11, "calls_missed": 5}


class Broker(FakeDriver):
    """A driver that counts as the one of NATS does."""

    def stats(self) -> dict[str, Any]:
        return {
            "server": "nats-1", "messages_sent": 5, "messages_dropped": 1, "messages_unconfirmed": 2,
            "messages_refused": 4, "buffered_bytes": 77, "reconnects": 3,
        }  # fmt: skip


class House:
    """A monitoring with all it asks in its place, and well."""

    def __init__(self, driver: FakeDriver | None = None) -> None:
        self.driver = driver or Broker()
        self.stats = Stats()
        self.lane = SimpleNamespace(pending=4, connections=1)
        lag, up = SimpleNamespace(seconds=0.25, difference=-20.5), LinkStatus(LinkState.UP, "", 1_700_000_000.25)
        self.events = SimpleNamespace(connected=True, lag=lag, link=SimpleNamespace(status=up))
        self.identity = {"version": "FreeSWITCH Version 1.10.12", "core_uuid": "uuid-1", "hostname": 'h"1\n'}
        self.switch = SimpleNamespace(
            connected=True, status=up, lane=self.lane, events=self.events, identity=self.identity, losses=6
        )
        endpoints = endpoints_of(SETTINGS.subject_prefix, SETTINGS.node_id)
        self.known: dict[str, Any] = {"ready": True, "drained": False, **dict.fromkeys(FIGURES), "sessions": 4}
        self.readiness = SimpleNamespace(reasons=[], section=lambda: self.known)
        self.router = Router("", "", None, anything)
        self.park = SimpleNamespace(
            bound=True, questions_refused=3, fields=lambda: FIELDS, routing=True, router=self.router
        )
        self.twins = SimpleNamespace(found=[], fault="")
        self.monitoring = Monitoring(
            SETTINGS, self.driver, self.stats, cast(Switch, self.switch), cast(Readiness, self.readiness),
            cast(DialplanControl, self.park), endpoints, self.twins,
        )  # fmt: skip
        for each in endpoints:
            self.stats.count_apart(each.subject)
        self.monitoring.threads([])

    def page(self) -> str:
        answer = self.monitoring.routes["GET", "/metrics"](HttpRequest("GET", "/metrics"))
        assert answer.status == 200 and answer.content_type.startswith("text/plain; version=0.0.4")
        return answer.body.decode()

    def families(self) -> dict[str, Metric]:
        self.monitoring.page = b""
        return {family.name: family for family in text_string_to_metric_families(self.page())}

    def value(self, name: str, **labels: str) -> float:
        found = [
            sample.value
            for family in self.families().values()
            for sample in family.samples
            if sample.name == name and sample.labels.items() >= labels.items()
        ]
        assert len(found) == 1, f"{name}{labels}: {found}"
        return float(found[0])

    def health(self) -> tuple[int, Any]:
        answer = self.monitoring.routes["GET", "/health"](HttpRequest("GET", "/health"))
        assert answer.content_type == "application/json"
        return answer.status, json.loads(answer.body)


@pytest.fixture
def house() -> House:
    return House()


# -- /health


def test_all_is_well(house: House) -> None:
    status, body = house.health()
    assert status == 200
    assert body == {
        "status": "ok",
        "node_id": 'FS "1"',
        "version": __version__,
        "checks": {"nats": "ok", "subscriptions": "ok", "freeswitch": "ok", "events": "ok", "threads": "ok",
                   "node_id": "ok", "delivery": "ok"},  # fmt: skip
        "links": {
            "nats": {"state": "connected", "reason": "", "since": 0.0},
            "freeswitch": {"state": "connected", "reason": "", "since": 1700000000.25},
            "events": {"state": "connected", "reason": "", "since": 1700000000.25},
        },
        "ready": True,
        "not_ready": [],
    }
    assert house.value("event_agent_healthy") == 1


def test_each_part_says_what_is_wrong_with_it(house: House) -> None:
    stuck = "thread audit has ended; thread http has shown no sign of life for 61 s"
    for part, thing, attribute, bad, says in (
        ("nats", house.driver, "link", LinkStatus(LinkState.DOWN, "", 0.0), "not connected"),
        ("freeswitch", house.switch, "connected", False, "not connected"),
        ("events", house.events, "connected", False, "not subscribed"),
        ("threads", house.monitoring, "_fault", stuck, stuck),
        ("node_id", house.twins, "fault", "used by another agent, too: a on b", "used by another agent, too: a on b"),
    ):
        well = getattr(thing, attribute)
        setattr(thing, attribute, bad)
        status, body = house.health()
        assert status == 503 and body["status"] == "failing"
        assert body["checks"].pop(part) == says
        assert set(body["checks"].values()) == {"ok"}
        assert house.value("event_agent_healthy") == 0
        setattr(thing, attribute, well)
        assert house.health()[0] == 200


def test_all_that_is_wrong_with_threads_is_said(house: House) -> None:
    house.monitoring.threads(["thread audit has ended", "thread http has ended"])
    assert house.health()[1]["checks"]["threads"] == "thread audit has ended; thread http has ended"
    house.monitoring.threads([])
    assert house.health()[0] == 200


def test_why_freeswitch_is_away(house: House) -> None:
    why = "127.0.0.1:8021: Connection refused"
    house.switch.connected, house.switch.status = False, LinkStatus(LinkState.DOWN, why, 1_700_000_000.0)
    body = house.health()[1]
    assert body["checks"]["freeswitch"] == f"not connected: {why}"
    assert body["links"]["freeswitch"] == {"state": "disconnected", "reason": why, "since": 1700000000.0}


def test_nobody_looks_at_the_threads(house: House) -> None:
    house.monitoring.looked_at = time.monotonic() - LOOKED - 1
    status, body = house.health()
    assert status == 503 and "MainThread has not looked" in body["checks"]["threads"]
    fresh = House()
    fresh.monitoring.threads(["not looked at yet"])
    assert fresh.health() == (503, {**body, "checks": {**body["checks"], "threads": "not looked at yet"}})


def test_a_lane_that_nats_does_not_let_us_listen_on(house: House) -> None:
    refused = {"freeswitch.api.fs__1_": "x", "$SRV.PING": "x"}
    house.driver.refused = lambda: refused  # type: ignore[method-assign]
    assert house.health()[0] == 200, "the other spelling of a lane, and discovery, need not be there"
    refused["freeswitch.any"] = "x"
    status, body = house.health()
    assert (status, body["checks"]["subscriptions"]) == (503, "refused by the NATS server: freeswitch.any")
    assert house.value("event_agent_nats_subscriptions_refused") == 3


def test_whether_work_can_be_taken(house: House) -> None:
    def asked(path: str) -> tuple[int, Any]:
        answer = house.monitoring.routes["GET", path](HttpRequest("GET", path))
        return answer.status, json.loads(answer.body)

    assert asked("/ready") == (200, {"ready": True, "not_ready": []})
    assert asked("/live") == (200, {"live": True, "threads": "ok"})
    house.readiness.reasons = ["paused"]
    assert asked("/ready") == (503, {"ready": False, "not_ready": ["paused"]})
    assert house.health()[0] == 200 and house.health()[1]["not_ready"] == ["paused"], "a node that rests is well"
    house.readiness.reasons = []
    house.driver.link = LinkStatus(LinkState.DOWN, "", 0.0)
    assert asked("/ready") == (503, {"ready": False, "not_ready": ["NATS is not connected"]})
    house.monitoring.threads(["thread x has ended"])
    assert asked("/live") == (503, {"live": False, "threads": "thread x has ended"})


# -- /metrics


def test_what_is_shown(house: House) -> None:
    house.stats.received = 8
    house.stats.events_published, house.stats.events_dropped = 100, 3
    expected = {
        "event_agent_build_info": 1,
        "event_agent_node_info": 1,
        "event_agent_nats_connected": 1,
        "event_agent_nats_messages_sent_total": 5,
        "event_agent_nats_messages_dropped_total": 1,
        "event_agent_nats_messages_unconfirmed_total": 2,
        "event_agent_nats_messages_refused_total": 4,
        "event_agent_nats_reconnects_total": 3,
        "event_agent_nats_buffered_bytes": 77,
        "event_agent_nats_buffer_limit_bytes": SETTINGS.reconnect_buf_size,
        "event_agent_freeswitch_connected": 1,
        "event_agent_freeswitch_events_connected": 1,
        "event_agent_freeswitch_disconnects_total": 6,
        "event_agent_freeswitch_info": 1,
        "event_agent_ready": 1,
        "event_agent_drained": 0,
        "event_agent_freeswitch_sessions": 4,
        "event_agent_requests_received_total": 8,
        "event_agent_commands_pending": 4,
        "event_agent_command_connections": 1,
        "event_agent_events_published_total": 100,
        "event_agent_events_dropped_total": 3,
        "event_agent_events_lag_seconds": 0.25,
        "event_agent_freeswitch_clock_difference_seconds": -20.5,
        "event_agent_routing": 1,
        "event_agent_route_calls_total": 0,
        "event_agent_route_calls_waiting": 0,
        "event_agent_park_mode": 1,
        "event_agent_dialplan_bound": 1,
        "event_agent_parked_calls": 2,
        "event_agent_calls_parked_total": 9,
        "event_agent_calls_intercepted_total": 11,
        "event_agent_calls_missed_total": 5,
    }
    losses = Losses(house.stats)
    losses.between("buffer full", 12)
    losses.between("killed", None)
    for name, value in expected.items():
        assert house.value(name) == value, name
    assert house.value("event_agent_events_lost_total", reason="buffer full") == 12
    assert house.value("event_agent_gaps_total", reason="buffer full") == 0
    assert house.value("event_agent_gaps_waiting") == 2
    assert house.value("event_agent_build_info", version=__version__, driver="nats") == 1
    assert house.value("event_agent_node_info", node_id='FS "1"') == 1
    assert house.value("event_agent_freeswitch_info", core_uuid="uuid-1", hostname='h"1\n') == 1
    assert time.time() - 60 < house.value("process_start_time_seconds") <= time.time()
    assert house.value("process_resident_memory_bytes") > 1e6
    assert house.value("process_cpu_seconds_total") > 0 and house.value("process_open_fds") > 2


def test_every_name_follows_the_conventions(house: House) -> None:
    house.stats.finished("version", 0.001, True, "freeswitch.api")
    page = house.page()
    names = [line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")]
    assert len(names) == len(set(names)) > 25
    for name, family in house.families().items():
        assert name.startswith(("event_agent_", "process_", "freeswitch_"))
        assert family.documentation.endswith((".", "1"))
        assert family.type in ("gauge", "counter", "histogram")
        assert (f"# TYPE {name}_total counter" in page) == (family.type == "counter"), name


def test_commands_and_their_times(house: House) -> None:
    for seconds in (0.0001, 0.0002, 0.003, 70.0):
        house.stats.finished("version", seconds, seconds < 1, "freeswitch.api", "timed out")
    assert house.value("event_agent_commands_total", command="version", result="ok") == 3
    assert house.value("event_agent_commands_total", command="version", result="error") == 1
    assert house.value("event_agent_lane_requests_total", lane="all", result="ok") == 3
    assert house.value("event_agent_lane_requests_total", lane="all", result="error") == 1
    assert house.value("event_agent_lane_requests_total", lane="any", result="ok") == 0
    assert house.value("event_agent_command_seconds_count", command="version") == 4
    assert house.value("event_agent_command_seconds_sum", command="version") == pytest.approx(70.0033, abs=1e-5)
    buckets = [
        (sample.labels["le"], sample.value)
        for sample in house.families()["event_agent_command_seconds"].samples
        if sample.name.endswith("_bucket")
    ]
    assert len(buckets) == len(POWERS) + 1
    assert dict(buckets)["0.000128"] == 1 and dict(buckets)["0.000256"] == 2 and dict(buckets)["0.004096"] == 3
    assert dict(buckets)["67.108864"] == 3 and dict(buckets)["+Inf"] == 4
    assert [float(bound) for bound, _ in buckets] == sorted(float(bound) for bound, _ in buckets)


def test_clients_can_not_make_series_without_end(house: House) -> None:
    house.stats.most_commands = 5
    for number in range(100):
        house.stats.finished(f'x{number}"}} 1\nevil{{a="', 0.001, True, "freeswitch.api")
        house.stats.finished(f"wrong{number}", 0.001, False, "freeswitch.nowhere")
    found = house.families()
    assert len(found["event_agent_commands"].samples) == 10 and "evil" not in found
    assert {sample.labels["command"] for sample in found["event_agent_commands"].samples} == {
        counters.OTHER, *(f'x{number}"}} 1\nevil{{a="' for number in range(4)),
    }  # fmt: skip
    assert len(found["event_agent_lane_requests"].samples) == 14
    house.identity["hostname"] = "h" * 10_000
    (sample,) = house.families()["event_agent_freeswitch_info"].samples
    assert len(sample.labels["hostname"]) == LABEL


def test_a_scrape_is_made_once_a_second_at_most(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: clock.now))
    first = house.page()
    house.stats.received = 12345
    clock.now += FRESH * 0.9
    assert house.page() == first
    clock.now += FRESH * 0.2
    assert "event_agent_requests_received_total 12345\n" in house.page()


def test_while_nothing_is_known_and_for_a_driver_that_does_not_count() -> None:
    house = House(FakeDriver())
    house.identity["version"] = ""
    found = house.families()
    assert "event_agent_freeswitch_info" not in found and "event_agent_nats_buffered_bytes" not in found
    assert "event_agent_freeswitch_idle_cpu" not in found and found["event_agent_nats_connected"].samples[0].value == 1
