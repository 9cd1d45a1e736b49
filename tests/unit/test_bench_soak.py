"""The soak's own accounting: a witness that counts wrongly would prove nothing."""

from __future__ import annotations

import itertools
import json
import time
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import pytest

from bench.soak import load
from bench.soak.faults import FAULTS, LONG_LIFE, ROUND, turns
from bench.soak.picture import picture


def test_each_number_is_counted_as_often_as_it_came() -> None:
    seen = load.Seen()
    for number in (5, 6, 6, 3_000_000):
        seen.add(number)
    assert (seen.first, seen.last, seen.count, seen.twice) == (5, 3_000_000, 4, 1)
    assert (seen.bytes[4], seen.bytes[5], seen.bytes[6], seen.bytes[3_000_000]) == (0, 1, 2, 1)


def test_only_figures_that_can_not_be_below_zero_are_named() -> None:
    status = {"a": -1, "b": [{"c": -0.5}, 3], "freeswitch": {"clock_difference": -2.0, "calls": 0}, "d": True}
    assert list(load.negative(status)) == ["a is -1", "b[].c is -0.5"]


def test_a_pace_leaves_out_what_is_more_than_a_second_late(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("bench.soak.load.time", SimpleNamespace(monotonic=lambda: now[0]))
    pace = load.Pace(200)
    due = []
    for now[0] in (100.0, 100.015625, 100.5, 130.0, 130.125):
        due.append(pace.due())
    assert due == [0, 3, 97, 201, 25]


def reply(number: int, head: bytes = b"", **fields: Any) -> bytes:
    body = json.dumps({"success": True, "correlation_id": number, "data": f"soak {number}", **fields}).encode()
    if head:
        return b"HMSG soak.%d 1 %d %d\r\n%b\r\n" % (number, len(head), len(head), head)
    return b"MSG soak.%d 1 %d\r\n%b\r\n" % (number, len(body), body)


@pytest.fixture
def requests() -> load.Requests:
    """With ten of them under way."""
    found = load.Requests(0, 100, "n")
    for _ in range(10):
        found.request()  # as `step` does
    return found


def test_replies_are_told_apart(requests: load.Requests) -> None:
    refused = reply(4, success=False, executed="no", message="away", data=None)
    stream = b"".join([
        b"INFO {}\r\n", reply(1), reply(2, data="soak 3"), reply(4, b"NATS/1.0 503\r\n\r\n"),
        refused.replace(b"soak.4 ", b"soak.5 "), reply(1), b"PONG\r\n", reply(3, data="false"), reply(77),
    ])  # fmt: skip
    for at in range(len(stream)):  # however it is cut
        requests.read(stream[at : at + 1])
    kinds = [kind for _, kind, _ in requests.bad]
    assert kinds == ["wrong", "nobody", "failed", "twice"]
    assert requests.counts == {"sent": 10, "good": 2, "wrong": 1, "nobody": 1, "failed": 1, "twice": 1, "late": 1}
    assert requests.waiting == 5


def test_what_is_not_answered_in_time_is_silent(
    requests: load.Requests, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    later = time.time() + load.LIMIT + 1
    monkeypatch.setattr("bench.soak.load.time", SimpleNamespace(time=lambda: later))
    requests.report()
    said = json.loads(capsys.readouterr().out)
    assert said["counts"] == {"sent": 10, "silent": 10}
    assert requests.waiting == 0 and not requests.counts


def test_an_agent_lives_through_two_rounds_of_three() -> None:
    names = list(itertools.islice(turns(), 30))
    assert names[:10] == ROUND
    assert set(LONG_LIFE) & set(names[10:]) == set()
    assert {"agent frozen 15 s", "broker frozen 15 s"} < set(names[10:20])
    assert set(names) <= set(FAULTS)
    assert "event link cut" not in itertools.islice(turns(("event link cut",)), 30)


def test_the_picture_is_xml_and_has_each_fault() -> None:
    samples = [
        {"at": at * 5.0, "part": "agent", "pid": 7, "rss": 25.0, "descriptors": 20, "threads": 14, "cpu": at * 0.5}
        for at in range(24)
    ]
    minutes = [
        {"number": number, "fault": fault, "subscriptions": 30, "took": [1.0, 2000.0], "cpu": {"agent": 5.0}}
        for number, fault in enumerate(("broker <killed>", "none"), 1)
    ]
    found = picture({"samples": samples, "minutes": minutes})
    assert "broker &lt;killed&gt;" in found and ">none<" not in found
    assert len(ElementTree.fromstring(found).findall(".//{*}polyline")) == 9
    assert ElementTree.fromstring(picture({"samples": [], "minutes": []})) is not None
