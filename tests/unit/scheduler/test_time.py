"""Each command has its time, and a full queue says that there is no room."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from event_agent.errors import Frozen
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.scheduler import NOT_CONNECTED, Limits
from tests.unit.scheduler.parts import Bench, never

# -- time


def test_a_command_without_an_answer(bench: Bench) -> None:
    bench.put("never", "echo")
    bench.wait(0.1)
    before = bench.move()
    bench.answer("y")
    bench.wait(30)
    assert bench.results == {"echo": "y", "never": "failed: Command timed out after 30 seconds"}
    assert bench.closed == [before] and not bench.lost
    bench.answer("after all", pipe=before)
    assert len(bench.results) == 2


def test_what_was_sent_behind_a_command_without_an_answer_may_still_be_answered(bench: Bench) -> None:
    bench.know("uuid_kill")
    bench.put("uuid_kill a")
    bench.put("uuid_kill b", limit=100.0)
    bench.wait(0.06)
    before = bench.move()
    bench.wait(30)
    assert bench.results == {"uuid_kill a": "failed: Command timed out after 30 seconds"} and not bench.closed
    assert bench.executed == {"uuid_kill a": "unknown"}
    bench.answer("after all", "b", pipe=before)
    assert bench.results["uuid_kill b"] == "b" and bench.closed == [before]


def test_a_frozen_switch(bench: Bench) -> None:
    bench.know("echo")
    bench.put("echo 1")
    bench.wait(20)
    bench.put("echo 2")
    bench.wait(10.1)
    (fault,) = bench.lost
    assert isinstance(fault, Frozen) and str(fault) == "FreeSWITCH did not answer a command within 30 s: frozen?"
    assert bench.results == {
        "echo 1": "failed: Command timed out after 30 seconds", "echo 2": f"failed: {NOT_CONNECTED}",
    }  # fmt: skip
    assert bench.closed == [bench.lane]


def test_what_waits_for_its_channel_has_its_time(bench: Bench) -> None:
    bench.put("uuid_slow a", limit=60.0)
    bench.put("uuid_kill a", limit=1.0)
    bench.wait(0.1)
    before = bench.move()
    bench.put("uuid_kill2 a", limit=1.0)
    bench.put("uuid_last a", limit=50.0)
    bench.wait(1.0)
    busy = "failed: Command timed out after 1 seconds: its channel was busy"
    assert bench.results == {"uuid_kill a": busy, "uuid_kill2 a": busy}
    bench.answer("+OK", pipe=before)
    assert bench.sent_on(bench.lane) == ["uuid_last a"], "what has failed is not carried out"


def test_a_command_whose_turn_comes_late_gets_a_little_time(bench: Bench) -> None:
    bench.put("uuid_slow a", slow=True, limit=60.0)
    bench.put("uuid_kill a", limit=5.0)
    bench.now += 5.5
    bench.worked("uuid_slow a")
    assert bench.sent_on(bench.lane) == ["uuid_kill a"]
    bench.wait(0.9)
    bench.answer("+OK")
    assert bench.results["uuid_kill a"] == "+OK"


def test_what_waits_behind_a_command_without_answer_runs_at_last(bench: Bench) -> None:
    bench.put("uuid_never a", limit=1.0)
    bench.put("uuid_kill a")
    bench.wait(0.1)
    bench.move()
    bench.wait(1.0)
    assert bench.sent_on(bench.lane) == ["uuid_kill a"]
    assert bench.results == {"uuid_never a": "failed: Command timed out after 1 seconds"}


def test_what_waits_for_a_worker_has_its_time() -> None:
    bench = Bench(workers=2)
    bench.put("msleep 1", limit=60.0)
    bench.put("msleep b", keys=("b",), limit=1.0)
    bench.put("uuid_kill b")
    bench.wait(1.1)
    assert bench.results == {"msleep b": "failed: Command timed out after 1 seconds: no worker was free"}
    assert bench.sent_on(bench.lane) == ["uuid_kill b"]


def test_what_waits_to_be_sent_has_its_time(bench: Bench) -> None:
    bench.put("new", limit=60.0)
    bench.put("echo 1", limit=5.0)
    bench.put("echo 2", limit=1.0)
    bench.now += 1.1
    bench.wait(0)
    assert bench.results == {"echo 2": "failed: Command timed out after 1 seconds"}


def test_the_pace(bench: Bench) -> None:
    limits, scheduler = bench.limits, bench.scheduler
    bench.wait(2)
    assert scheduler.pace(bench.now) == limits.idle
    bench.put("new")
    assert scheduler.pace(bench.now) == limits.late and not scheduler.hurry
    bench.now += 0.03
    assert scheduler.pace(bench.now) == pytest.approx(limits.late - 0.03), "then the command is late"
    bench.put("echo")
    assert scheduler.pace(bench.now) == limits.hurry
    bench.answer("+OK")
    bench.answer("+OK")
    assert scheduler.pace(bench.now) == limits.late, "more may come soon"
    bench.now += limits.awake + 0.01
    assert scheduler.pace(bench.now) == limits.idle, "one command a second leaves it idle for most of that"
    bench.put("msleep 5")
    bench.now += 2
    assert scheduler.pace(bench.now) == limits.tick
    bench.worked("msleep 5")
    assert scheduler.pace(bench.now) == limits.idle


def test_what_nobody_waits_for_presses_nobody(bench: Bench) -> None:
    found = []
    for patient in (False, True, False):
        bench.put("echo", patient=patient)
        found.append((bench.scheduler.ahead, bench.scheduler.pressing))
        if len(found) == 1:
            bench.answer("+OK")
    assert found == [(1, True), (1, False), (2, True)], "the last one would wait for the other"


# -- room


def flood(bench: Bench, count: int, first: int = 0) -> None:
    for number in range(first, first + count):
        bench.did(bench.scheduler.submit(Command(f"api echo {number}\n\n", "echo", never, never), bench.now))


def test_room_ends_and_comes_back() -> None:
    bench = Bench(Limits(enough=4, queue=10, window=2))
    bench.know("echo")
    flood(bench, 3)
    assert bench.full() == (False, 0)
    flood(bench, 7, 3)
    assert bench.full() == (True, 0) and not bench.results, "one read may bring more than enough"
    bench.put()
    for _ in range(6):
        assert bench.full() == (True, 0)
        bench.answer("y")
    assert bench.full() == (False, 1)
    flood(bench, 20, 10)
    refused = [result for result in bench.results.values() if result.startswith("failed")]
    assert set(refused) == {"failed: Too many commands are waiting for FreeSWITCH (10)"} and len(refused) == 12


def test_a_switch_that_takes_nothing_does_not_stop_the_reading_for_long() -> None:
    bench = Bench(Limits(enough=4, queue=8))
    bench.put("new")
    flood(bench, 8)
    bench.wait(1.9)
    assert bench.full() == (True, 0)
    bench.wait(0.2)
    assert bench.full() == (False, 1), "what comes now is refused at once"
    flood(bench, 1, 8)
    assert bench.results["echo 8"] == "failed: Too many commands are waiting for FreeSWITCH (8)"


@pytest.mark.parametrize("end", [lambda bench: bench.end(bench.lane), lambda bench: bench.wait(31)])
def test_room_comes_back_when_the_link_is_lost(end: Callable[[Bench], None]) -> None:
    bench = Bench(Limits(enough=4, pause=100))
    bench.put("new")
    flood(bench, 5)
    end(bench)
    assert bench.rooms == 1 and bench.lost


def test_answers_that_come_too_late_are_no_frozen_switch(bench: Bench) -> None:
    """Ten commands of 4 s each: the time of the last three is over before their turn, and FreeSWITCH is well."""
    bench.know("echo")
    bench.put(*(f"echo {number}" for number in range(10)))
    for number in range(10):
        for _ in range(8):
            bench.wait(0.5)
        bench.answer(str(number))
    assert not bench.lost and not bench.closed
    ends = [bench.results[f"echo {number}"] for number in range(10)]
    assert ends[:7] == [str(number) for number in range(7)]
    assert set(ends[7:]) == {"failed: Command timed out after 30 seconds"}
    assert set(bench.executed.values()) == {"unknown"}
    bench.put("version")
    bench.answer("yes")
    assert bench.results["version"] == "yes"


def test_a_switch_that_falls_silent_behind_a_command_out_of_time_is_frozen(bench: Bench) -> None:
    bench.know("echo")
    bench.put("echo 1", "echo 2")
    bench.wait(29)
    bench.answer("1")
    bench.wait(1.5)
    assert bench.results == {"echo 1": "1", "echo 2": "failed: Command timed out after 30 seconds"} and not bench.lost
    bench.wait(3)
    assert not bench.lost
    bench.wait(1)
    assert isinstance(bench.lost[0], Frozen)
