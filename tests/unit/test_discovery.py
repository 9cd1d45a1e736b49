"""The answers to the micro services protocol, read with nats-py's own classes and held against ADR-32."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from nats.micro.service import NAME_REGEX, SEMVER_REGEX, ServiceInfo, ServicePing, ServiceStats

from event_agent.app import Daemon
from event_agent.config.table import Settings
from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Message
from event_agent.freeswitch.link import Switch
from event_agent.observe.discovery import Discovery, rfc3339
from event_agent.protocol.subjects import endpoints_of
from event_agent.runtime.stats import LAST_ERROR, Stats
from tests.fakes.driver import FakeDriver
from tests.fakes.nats import FakeNats
from tests.support import until


class Broker(FakeDriver):
    """Asks as a client would."""

    def ask(self, subject: str) -> Any:
        before = len(self.replies)
        self.deliver(subject, Message(subject.encode(), b"inbox", b""))
        (reply,) = self.replies[before:]
        assert not reply[2]
        return json.loads(reply[1])


class House:
    """A discovery with everything it asks in its place."""

    def __init__(self, settings: Settings) -> None:
        self.broker = Broker()
        self.stats = Stats()
        self.switch = SimpleNamespace(version="1.10.12", connected=True, events=SimpleNamespace(connected=True))
        self.any = True
        self.refused: dict[str, str] = {}
        self.discovery = Discovery(
            settings, self.broker, self.broker, self.stats, cast(Switch, self.switch),
            endpoints_of(settings.subject_prefix, settings.node_id), lambda: self.any, lambda: ["paused"],
            lambda: self.refused,
        )  # fmt: skip
        self.discovery.start()

    def ask(self, verb: str) -> Any:
        return self.broker.ask(f"$SRV.{verb}.event-agent.{self.discovery.id}")


SETTINGS = Settings(node_id="FS-Node-01")


@pytest.fixture
def house() -> House:
    return House(SETTINGS)


def test_asked_of_all_by_name_and_by_id(house: House) -> None:
    subjects = {subject for subject, _, _ in house.broker.subscribed.values()}
    assert not any(queue for _, _, queue in house.broker.subscribed.values()), "each service answers"
    for verb in ("PING", "INFO", "STATS"):
        ours = {each for each in subjects if each.startswith(f"$SRV.{verb}")}
        assert ours == {f"$SRV.{verb}{rest}" for rest in ("", ".event-agent", f".event-agent.{house.discovery.id}")}
        assert len({json.dumps(house.broker.ask(each)) for each in ours}) == 1
    assert len(subjects) + 7 <= MAX_SUBSCRIPTIONS // 2, "with the command lanes, and room for more"


def test_ping(house: House) -> None:
    answer = house.ask("PING")
    assert answer == {
        "type": "io.nats.micro.v1.ping_response",
        "name": "event-agent",
        "id": house.discovery.id,
        "version": answer["version"],
        "metadata": answer["metadata"],
    }
    assert NAME_REGEX.match(answer["name"]) and SEMVER_REGEX.match(answer["version"])
    assert re.fullmatch(r"[0-9a-f]{22}", answer["id"]), "a token of a subject"
    metadata = answer["metadata"]
    assert (metadata["node_id"], metadata["subject_prefix"]) == ("FS-Node-01", "freeswitch")
    assert metadata["freeswitch_version"] == "1.10.12" and metadata["hostname"]
    assert all(isinstance(each, str) for each in metadata.values())
    assert ServicePing.from_dict(answer).to_dict() == answer


def test_an_id_for_each_process_and_the_same_for_its_life(house: House) -> None:
    assert house.ask("PING")["id"] == house.ask("PING")["id"] != House(SETTINGS).discovery.id


def test_info(house: House) -> None:
    answer = house.ask("INFO")
    assert answer["type"] == "io.nats.micro.v1.info_response" and answer["description"]
    assert [(each["name"], each["subject"], each["queue_group"]) for each in answer["endpoints"]] == [
        ("all", "freeswitch.api", ""),
        ("node", "freeswitch.node.fs_node_01", ""),
        ("node_api", "freeswitch.api.fs_node_01", ""),
        ("all_verbs", "freeswitch.all.>", ""),
        ("node_verbs", "freeswitch.node.fs_node_01.>", ""),
        ("any", "freeswitch.any", "freeswitch.any"),
        ("any_verbs", "freeswitch.any.>", "freeswitch.any"),
    ]
    assert ServiceInfo.from_dict(answer).to_dict() == answer


def test_the_endpoints_are_those_it_listens_on(house: House) -> None:
    house.any = False
    for verb in ("INFO", "STATS"):
        assert [each["name"] for each in house.ask(verb)["endpoints"]] == [
            "all", "node", "node_api", "all_verbs", "node_verbs",
        ]  # fmt: skip
    nameless = House(replace(SETTINGS, node_id=""))
    assert [each["name"] for each in nameless.ask("INFO")["endpoints"]] == ["all", "all_verbs", "any", "any_verbs"]
    assert nameless.ask("PING")["metadata"]["node_id"] == "unknown"


def test_stats_are_those_of_the_commands(house: House) -> None:
    stats = house.stats
    stats.finished("version", 0.001, True, "freeswitch.api")
    stats.finished("nonsense", 0.002, False, "freeswitch.api", "-ERR nonsense Command not found!")
    stats.finished("version", 0.004, False, "freeswitch.any", "x" * 10_000)
    answer = house.ask("STATS")
    assert answer["type"] == "io.nats.micro.v1.stats_response"
    found = {each["name"]: each for each in answer["endpoints"]}
    assert found["all"] == {
        "name": "all",
        "subject": "freeswitch.api",
        "queue_group": "",
        "num_requests": 2,
        "num_errors": 1,
        "last_error": "-ERR nonsense Command not found!",
        "processing_time": pytest.approx(3_000_000, abs=1),
        "average_processing_time": pytest.approx(1_500_000, abs=1),
        "data": {"freeswitch_connected": True, "freeswitch_events": True, "not_ready": ["paused"]},
    }
    assert found["any"]["num_requests"] == found["any"]["num_errors"] == 1
    assert len(found["any"]["last_error"]) == LAST_ERROR
    assert found["node"]["num_requests"] == found["node"]["average_processing_time"] == 0
    assert found["node"]["last_error"] == ""
    assert all(type(found["all"][each]) is int for each in ("processing_time", "average_processing_time"))
    assert ServiceStats.from_dict(answer).to_dict() == answer


def test_while_freeswitch_is_away(house: House) -> None:
    house.switch.version, house.switch.connected = "", False
    assert "freeswitch_version" not in house.ask("PING")["metadata"]
    assert house.ask("STATS")["endpoints"][0]["data"]["freeswitch_connected"] is False


def test_nothing_ends_the_reader_thread(house: House, caplog: pytest.LogCaptureFixture) -> None:
    ping = Message(b"$SRV.PING", b"", b"")
    house.broker.deliver("$SRV.PING", ping)
    assert not house.broker.replies, "nobody wants an answer"
    house.switch.version = 5  # what can't be
    house.broker.deliver("$SRV.PING", Message(b"$SRV.PING", b"inbox", b"\xff" * 100_000))
    assert "could not be answered" in caplog.text


def test_times_are_as_the_protocol_has_them() -> None:
    assert rfc3339(0.0) == "1970-01-01T00:00:00.000Z"
    assert rfc3339(1795630145.8629966) == "2026-11-25T18:09:05.862Z"


def test_a_lane_that_nats_has_refused_is_not_listed(house: House) -> None:
    house.refused = {"freeswitch.api": "no", "freeswitch.any.>": "no"}
    for verb in ("INFO", "STATS"):
        assert [each["name"] for each in house.ask(verb)["endpoints"]] == [
            "node", "node_api", "all_verbs", "node_verbs", "any",
        ]  # fmt: skip


def test_the_questions_of_one_read_are_answered_in_one_write(house: House) -> None:
    asked = [Message(b"$SRV.PING", reply, b"") for reply in (b"a", b"", b"\xff")]
    house.broker.deliver("$SRV.PING", *asked)
    assert [message.reply for message, _, _ in house.broker.replies] == [b"a", b"\xff"]
    assert house.broker.writes == [2]


def test_a_daemon_can_be_asked_as_soon_as_it_has_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long its other parts take to start."""
    server = FakeNats()
    daemon = Daemon(Settings(url=(server.url,), esl_port=1, state_dir=str(tmp_path), http_listen=None))
    held: list[bytes] = []

    def started() -> None:
        link = server.accept()
        until(lambda: daemon.driver.status.up, "up")
        held.extend(line.split()[1] for line in link.subscriptions)

    monkeypatch.setattr(daemon.switch, "start", started)
    try:
        daemon.start()
        assert {b"$SRV.PING", b"$SRV.INFO.event-agent", b"freeswitch.api"} <= set(held)
    finally:
        daemon.stop()
        server.close()
