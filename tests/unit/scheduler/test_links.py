"""What the end of a connection does to what is under way on it."""

from __future__ import annotations

from event_agent.freeswitch.pipe import Pipe, PipeState
from event_agent.freeswitch.scheduler import LOST, NOT_CONNECTED
from tests.unit.scheduler.parts import Bench, state_of

# -- links


def test_nothing_is_taken_without_a_link() -> None:
    bench = Bench(up=False)
    bench.put("echo", "msleep 1")
    assert bench.results == {"echo": f"failed: {NOT_CONNECTED}", "msleep 1": f"failed: {NOT_CONNECTED}"}
    assert not bench.scheduler.pending


def test_a_lost_link_fails_what_was_on_it(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("new a", keys=("a",))
    bench.put("echo", "msleep a")
    bench.put("originate y", job="2")
    bench.end(bench.lane, "it broke")
    assert bench.results == {
        "new a": f"failed: {LOST}", "echo": f"failed: {NOT_CONNECTED}", "originate y": f"failed: {NOT_CONNECTED}",
    }  # fmt: skip
    assert [str(fault) for fault in bench.lost] == ["it broke"] and not bench.scheduler.up
    bench.worked("msleep a")
    assert bench.results["msleep a"] == "+OK", "workers have connections of their own"
    bench.link_up(jobs=False)
    bench.put("echo 2")
    assert bench.sent_on(bench.lane) == ["echo 2"]


def test_what_waits_for_a_channel_fails_with_the_link(bench: Bench) -> None:
    bench.put("uuid_slow a", "uuid_kill a")
    bench.wait(0.1)
    before = bench.move()
    bench.end(bench.lane)
    bench.end(before)
    assert bench.results == {"uuid_slow a": f"failed: {LOST}", "uuid_kill a": f"failed: {NOT_CONNECTED}"}


def test_an_answer_that_nobody_asked_for_ends_the_link(bench: Bench) -> None:
    bench.put("echo")
    bench.answer("y", "one too many", "and another")
    assert bench.results == {"echo": "y"}
    assert bench.closed == [bench.lane] and str(bench.lost[0]) == "FreeSWITCH answered what it was not asked"
    bench.answer("still", "more")
    bench.end(bench.lane)
    assert len(bench.lost) == 1


def test_a_pipe_that_comes_too_late_is_closed(bench: Bench) -> None:
    bench.put("slow")
    bench.wait(0.1)
    (late,) = bench.opening
    bench.end(bench.lane)
    bench.opened(late)
    assert bench.closed == [late] and not bench.scheduler.up
    bench.end(late)
    assert len(bench.lost) == 1


def test_a_pipe_that_ends_before_it_is_used(bench: Bench) -> None:
    bench.put("slow")
    bench.wait(0.1)
    (pipe,) = bench.opening
    bench.end(pipe)
    bench.opened(pipe)
    assert not bench.closed and state_of(pipe) is PipeState.GONE
    bench.wait(0.1)
    bench.move()
    assert bench.scheduler.up


def test_the_end_fails_all_that_is_under_way(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("slow")
    bench.wait(0.1)
    before = bench.move()
    bench.put("uuid_x a", "echo", "msleep 1", "msleep 2", "msleep 3")
    bench.did(bench.scheduler.stop(bench.now))
    assert set(bench.closed) == {bench.lane, before, bench.jobs}
    bench.put("late")
    for pipe in list(bench.closed):
        bench.end(pipe)
    for name in list(bench.at_work):
        bench.worked(name, why="the end")
    assert len(bench.results) == 8 and not bench.scheduler.pending
    assert all(result.startswith("failed: ") for result in bench.results.values())
    late = Pipe()
    bench.did(bench.scheduler.link_up(late, bench.now))
    assert bench.closed[-1] is late and not bench.scheduler.up
    bench.wait(10)
    assert not bench.opening
