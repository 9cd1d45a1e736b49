"""What was lost: gathered by its reason, announced at a bounded rate, and not lost itself."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from event_agent.bridge.losses import GAPS, GATHER, KILLED, REASONS, TICK, Announcer, Losses, place_of
from event_agent.drivers import base
from event_agent.drivers.base import BUFFER_FULL, SPOOL_DAMAGED, STOPPED, UNCONFIRMED, Event, Loss
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.gaps import DEPTH, UNDER_WAY
from event_agent.protocol.events import Published
from event_agent.runtime.loop import Loop
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeSink

IDENTITY = {"version": "1.10", "hostname": "fs1", "core_uuid": "now"}


SOME = 5_000_000  # microseconds since 1970


def published(stamp: int, sequence: int, core: str = "c1") -> Published:
    headers = {
        "Event-Name": "X", "Core-UUID": core, "Event-Date-Timestamp": str(stamp), "Event-Sequence": str(sequence),
    }  # fmt: skip
    value = {"event_name": "X", "timestamp": stamp, "node_id": "n", "headers": headers}
    return Published("X", b"s", json.dumps(value, separators=(",", ":")).encode())


class Sink(FakeSink):
    """One that numbers what it takes, as that of NATS does."""

    numbers = True

    def announce(self, event: Event) -> int:
        return (len(self.taken) if self.numbers else -1) if self.offer([event]) else 0


class Clock:
    """The loop's timers, called by hand."""

    def __init__(self) -> None:
        self.jobs: list[Callable[[], None]] = []

    def after(self, _: float, job: Callable[[], None]) -> Any:
        self.jobs.append(job)
        return self

    def cancel(self) -> None:
        self.jobs.clear()

    def tick(self) -> None:
        jobs, self.jobs = self.jobs, []
        for job in jobs:
            job()


class House:
    def __init__(self, folder: Path | str, nothing_in_memory: bool = False) -> None:
        self.losses, self.sink, self.clock = Losses(Stats()), Sink(), Clock()
        self.up = True
        self.count = 0
        self.chosen = EventFilter.of(True, (), ())
        self.announcer = Announcer(
            self.losses, self.sink, cast(Loop, self.clock), lambda: self.up, lambda: IDENTITY, "n1", "fs",
            lambda: self.chosen, lambda: self.count, str(folder), nothing_in_memory,
        )  # fmt: skip
        self.announcer.start()

    def pass_time(self) -> None:
        """So that all that is open is due."""
        for gap in self.losses.waiting():
            gap.grown -= TICK
        self.clock.tick()

    @property
    def announced(self) -> list[dict[str, Any]]:
        found = [json.loads(payload) for subject, payload in self.sink.taken if subject == "fs.events.agent.gap"]
        assert len(found) == len(self.sink.taken)
        return found


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_many_losses_of_one_reason_are_one_announcement(house: House) -> None:
    for number in range(100):
        first, last = published(SOME + number, 510 + number), published(SOME + 1 + number, 511 + number)
        house.losses.refused(BUFFER_FULL, [first, last])
    house.losses.add(Loss(UNCONFIRMED, None, published(SOME, 707).payload, published(SOME + 9, 709).payload))
    house.clock.tick()
    assert house.announced == [], "they may go on"
    house.pass_time()
    full, other = house.announced
    assert full["event_name"] == "AGENT_GAP" and full["node_id"] == "n1" and full["reason"] == "buffer full"
    assert (full["from"], full["to"]) == (SOME - UNDER_WAY, SOME + 100 + UNDER_WAY)
    assert (full["from_sequence"], full["to_sequence"]) == (510 - DEPTH, 610 + DEPTH)
    assert full["count"] == 200 and full["headers"]["Core-UUID"] == "c1"
    assert (other["count"], other["reason"]) == (None, "unconfirmed")
    assert (other["from"], other["to_sequence"]) == (SOME - UNDER_WAY, 709 + DEPTH)
    assert house.losses.events["buffer full"] == 200 and house.losses.gaps["buffer full"] == 1
    section = house.losses.section()
    assert section["announced"] == 2 and section["waiting"] == 0 and section["events"] == {"buffer full": 200}
    assert section["last"]["reason"] == "unconfirmed"


# As measured on a FreeSWITCH with too little processor time: 0.02 s and 23 numbers at most.
STRAYED, OVERTAKEN = 20_000, 23


@pytest.mark.parametrize("count", [2, 30, None])
@pytest.mark.parametrize("by", ["driver", "no room"])
def test_one_that_came_out_of_its_order_is_within_what_is_announced(house: House, by: str, count: int | None) -> None:
    """A run is known by the first and the last of it that came, and one between may be older or newer than both."""
    first, last = published(5_000_000, 500), published(6_000_000, 600)
    if by == "driver":
        house.losses.add(Loss(UNCONFIRMED, count, first.payload, last.payload))
    else:
        house.losses.refused(BUFFER_FULL, [first, *[published(5_500_000, 550)] * ((count or 3) - 2), last])
    house.pass_time()
    (gap,) = house.announced
    assert gap["from"] <= 5_000_000 - STRAYED and gap["to"] >= 6_000_000 + STRAYED
    assert gap["from_sequence"] <= 500 - OVERTAKEN and gap["to_sequence"] >= 600 + OVERTAKEN


@pytest.mark.parametrize("known", ["first", "last"])
def test_a_run_of_which_one_end_is_known_is_around_that(house: House, known: str) -> None:
    house.losses.add(Loss(UNCONFIRMED, 3, **{known: published(5_000_000, 500).payload}))
    house.pass_time()
    (gap,) = house.announced
    assert gap["from"] < 5_000_000 < gap["to"] and gap["from_sequence"] < 500 < gap["to_sequence"]


def test_of_one_event_is_announced_when_it_was(house: House) -> None:
    house.losses.refused(BUFFER_FULL, [published(5_000_000, 500)])
    house.pass_time()
    (gap,) = house.announced
    assert (gap["from"], gap["to"], gap["from_sequence"], gap["to_sequence"]) == (5_000_000, 5_000_000, 500, 500)


def test_one_that_could_not_be_read_lies_around_what_stood_beside_it(house: House) -> None:
    beside = published(SOME, 500).payload
    house.losses.add(Loss(SPOOL_DAMAGED, 1, beside, beside))
    house.losses.add(Loss(UNCONFIRMED, 1, beside, published(SOME + 9, 503).payload))  # the first one has arrived
    house.pass_time()
    for gap, last in zip(house.announced, (0, 3), strict=True):
        assert gap["count"] == 1 and (gap["from_sequence"], gap["to_sequence"]) == (500 - DEPTH, 500 + last + DEPTH)


@pytest.mark.parametrize("reason", [SPOOL_DAMAGED, UNCONFIRMED])
def test_a_loss_next_to_an_announcement_is_not_the_loss_of_that(house: House, reason: str) -> None:
    house.losses.refused(BUFFER_FULL, [published(SOME, 900)])
    house.pass_time()
    ((_, announcement),) = house.sink.taken
    house.losses.add(Loss(reason, 1, announcement, published(SOME + 9, 950).payload))
    house.pass_time()
    assert [(each["reason"], each["count"]) for each in house.announced] == [("buffer full", 1), (reason, 1)]


def test_a_run_at_the_start_of_a_switch_has_numbers_from_the_first_on(house: House) -> None:
    house.losses.refused(BUFFER_FULL, [published(10, 2), published(20, 3)])
    house.pass_time()
    (gap,) = house.announced
    assert gap["from"] == gap["from_sequence"] == 1, "0 is not known"


def test_losses_that_do_not_end_are_announced_every_few_seconds(house: House) -> None:
    house.losses.refused(BUFFER_FULL, [published(1, 1)])
    house.losses.waiting()[0].opened -= GATHER
    house.clock.tick()
    assert [each["count"] for each in house.announced] == [1]


def test_nothing_is_announced_before_the_broker_is_there_and_has_room(house: House) -> None:
    house.up = False
    house.losses.refused(BUFFER_FULL, [published(1000, 1)])
    house.pass_time()
    house.up, house.sink.room = True, 0
    house.pass_time()
    assert house.announced == [] and house.losses.section()["announced"] == 0
    house.losses.refused(BUFFER_FULL, [published(2000, 2)])
    house.sink.room = 10
    house.pass_time()
    (event,) = house.announced
    assert (event["count"], event["from"], event["to"]) == (2, 1000, 2000) and house.losses.events["buffer full"] == 2


def test_an_announcement_that_may_not_have_arrived_is_sent_again_as_it_was(house: House) -> None:
    house.losses.refused(BUFFER_FULL, [published(1000, 1)])
    house.pass_time()
    house.losses.through(1, 1)  # it was written, and the link broke before it was confirmed
    house.up = False
    house.clock.tick()
    house.up = True
    house.clock.tick()
    first, second = house.sink.taken
    assert first == second and house.losses.section()["announced"] == 1
    house.losses.through(2, 1)
    house.clock.tick()
    house.clock.tick()
    assert len(house.sink.taken) == 2, "now it has arrived"


def test_what_could_not_leave_leaves_after_the_next_start(house: House, tmp_path: Path) -> None:
    house.losses.refused(BUFFER_FULL, [published(1000, 1)])
    house.pass_time()  # announced, and never confirmed
    house.losses.refused(STOPPED, [published(SOME, 502), published(SOME + 9, 503)])
    house.announcer.stop(1.0)
    house.announcer.stop(1.0)
    again = House(tmp_path)
    again.pass_time()
    told = {each["reason"]: each for each in again.announced}
    assert told["buffer full"] == house.announced[0]
    stopped = told["stopped"]
    assert (stopped["count"], stopped["from"], stopped["to_sequence"]) == (2, SOME - UNDER_WAY, 503 + DEPTH)
    assert set(told) == {"buffer full", "stopped"}, "it came to an orderly end"
    again.losses.through(2, 0)
    again.clock.tick()
    again.announcer.stop(1.0)
    third = House(tmp_path)
    third.pass_time()
    assert third.announced == []


def test_a_process_that_was_killed_has_lost_what_it_had_in_memory(house: House, tmp_path: Path) -> None:
    os.utime(tmp_path / GAPS, (1000.5, 1000.5))
    again = House(tmp_path)
    again.pass_time()
    (event,) = again.announced
    assert (event["reason"], event["count"], event["from"]) == (KILLED, None, 1000500000)
    assert event["to"] > event["from"] and event["from_sequence"] is None


def test_a_process_with_all_on_disk_loses_nothing_when_it_is_killed(tmp_path: Path) -> None:
    House(tmp_path)
    again = House(tmp_path, nothing_in_memory=True)
    again.pass_time()
    assert again.announced == []


def test_the_file_tells_when_the_last_events_were_published(house: House, tmp_path: Path) -> None:
    os.utime(tmp_path / GAPS, (1000.0, 1000.0))
    house.announcer.signed = (-100.0, 0)
    house.clock.tick()
    assert (tmp_path / GAPS).stat().st_mtime == 1000.0, "there were none"
    house.count = 1
    house.clock.tick()
    assert (tmp_path / GAPS).stat().st_mtime > 1000.0


def test_losses_wait_on_disk_while_the_broker_is_away(house: House, tmp_path: Path) -> None:
    house.up = False
    house.losses.refused(BUFFER_FULL, [published(1000, 1)])
    house.announcer.signed = (-100.0, 0)
    house.clock.tick()
    again = House(tmp_path)  # it was killed
    again.pass_time()
    assert {each["reason"] for each in again.announced} == {BUFFER_FULL, KILLED}


DAMAGE: dict[str, bytes] = {
    "empty": b"", "half": b'{"version":1,"gaps":[{"re', "binary": bytes(range(256)), "list": b"[]",
    "version": b'{"version":2,"running":false,"gaps":[],"sent":[]}',
    "reason": b'{"version":1,"running":false,"sent":[],"gaps":[{"reason":"x","count":1,"begin":1,"end":1,"core":"",'
              b'"first":0,"last":0}]}',
    "number": b'{"version":1,"running":false,"sent":[],"gaps":[{"reason":"stopped","count":"1","begin":1,"end":1,'
              b'"core":"","first":0,"last":0}]}',
    "deep": b"[" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_one_line_and_no_failed_start(
    kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / GAPS).write_bytes(DAMAGE[kind])
    house = House(tmp_path)
    assert [record.getMessage() for record in caplog.records if "can't be read" in record.getMessage()]
    house.losses.refused(BUFFER_FULL, [published(1, 1)])
    house.pass_time()
    assert len(house.announced) == 1


def test_without_a_folder_and_with_one_that_can_not_be_written(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for folder in ("", tmp_path / "file" / "below"):
        (tmp_path / "file").touch()
        house = House(folder)
        house.losses.refused(BUFFER_FULL, [published(1, 1)])
        house.pass_time()
        house.announcer.stop(1.0)
        assert len(house.announced) == 1
    assert len([record for record in caplog.records if "can't be kept" in record.getMessage()]) == 1


def test_an_announcement_can_be_excluded_and_the_loss_still_counts(house: House) -> None:
    house.chosen = EventFilter.of(True, (), ("AGENT_GAP",))
    house.losses.refused(BUFFER_FULL, [published(1, 1)])
    house.pass_time()
    assert house.announced == [] and house.losses.gaps["buffer full"] == 1


def test_an_announcement_that_is_lost_itself_is_made_again(house: House) -> None:
    house.losses.refused(BUFFER_FULL, [published(1000, 900), published(2000, 950)])
    house.pass_time()
    ((_, payload),) = house.sink.taken
    house.losses.add(Loss("refused by the stream", 1, payload, payload))
    house.pass_time()
    first, second = house.announced
    assert {**first, "timestamp": 0} == {**second, "timestamp": 0}
    assert house.losses.events["refused by the stream"] == 0 and house.losses.events["buffer full"] == 2


def test_numbers_of_two_freeswitches_are_not_mixed(house: House) -> None:
    house.losses.refused(BUFFER_FULL, [published(1000, 900)])
    house.losses.refused(BUFFER_FULL, [published(2000, 5, "c2")])
    house.pass_time()
    (event,) = house.announced
    assert (event["count"], event["from"], event["to"], event["from_sequence"]) == (2, 1000, 2000, None)


def test_the_place_of_an_event_is_found_in_what_is_written_for_it() -> None:
    event = published(17, 4)
    for text in (event.payload, b"PUB a.b 100\r\n" + event.payload + b"\r\n"):
        assert place_of(text) == (17, "c1", 4)
    assert place_of(b'{"event_name":"X","timestamp":17,"node_id":"n"}') == (17, "", 0)
    for other in (b"", b"\xff\xfe", b'{"timestamp":"a"}', b'{"timestamp":' + b"9" * 50):
        assert place_of(other) is None


def test_every_reason_that_a_driver_gives_is_one(house: House) -> None:
    given: Sequence[str] = [
        base.BUFFER_FULL, base.SPOOL_FULL, base.SPOOL_FAULT, base.SPOOL_DAMAGED, base.UNCONFIRMED, base.TOO_LARGE,
        base.SERVER_REFUSED, base.STREAM_REFUSED, base.STOPPED,
    ]  # fmt: skip
    assert set(given) <= set(REASONS) and len(set(REASONS)) == len(REASONS)
    for reason in REASONS:
        house.losses.between(reason, 1)
    assert sum(house.losses.events.values()) == len(REASONS)
