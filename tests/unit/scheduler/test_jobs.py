"""Background jobs end with their event, on whichever connection it comes."""

from __future__ import annotations

from event_agent.freeswitch.scheduler import LOST, Limits
from tests.unit.scheduler.parts import Bench

# -- jobs


def test_a_job_ends_when_its_event_comes(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK Job-UUID: 1")
    assert not bench.results and bench.scheduler.pending == 1
    bench.wait(0.01)
    bench.wait(0.01)
    assert bench.nudges == 2, "so that its end is heard at once"
    bench.did(bench.scheduler.job_ended("somebody-elses", "+OK", bench.now))
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    bench.did(bench.scheduler.job_ended("1", "+OK again", bench.now))
    assert bench.results == {"originate x": "+OK uuid"}
    bench.wait(0.01)
    assert bench.nudges == 2 and not bench.scheduler.hurry


def test_without_nudges() -> None:
    bench = Bench(Limits(nudge=False))
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.wait(0.01)
    assert not bench.nudges and not bench.scheduler.hurry


def test_the_end_of_a_job_may_be_heard_before_its_answer(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    bench.answer("+OK Job-UUID: 1")
    bench.put("echo")
    bench.answer("y")
    assert bench.results == {"originate x": "+OK uuid", "echo": "y"}


def test_the_end_of_a_job_is_heard_while_a_command_hangs(bench: Bench) -> None:
    """On the lane's own pipe FreeSWITCH would hold back the event until the command has ended."""
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("hangs")
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    assert bench.results == {"originate x": "+OK uuid"}


def test_a_job_that_is_refused_ends_at_once(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("-ERR no")
    assert bench.results == {"originate x": "-ERR no"} and not bench.scheduler.hurry


def test_a_job_without_an_end_fails(bench: Bench) -> None:
    bench.put("originate x", job="1", limit=2.0)
    bench.answer("+OK")
    bench.wait(2.1)
    assert bench.results == {"originate x": "failed: Command timed out after 2 seconds"}
    assert bench.scheduler.up and not bench.closed


def test_a_job_is_no_job_for_a_worker(bench: Bench) -> None:
    """Even if FreeSWITCH was once slow to take one: a worker would take the first answer for the last."""
    bench.put("originate x", job="1")
    bench.wait(0.3)
    bench.answer("+OK")
    bench.put("originate y", job="2")
    assert not bench.running and bench.sent_on(bench.lane)[-1:] == ["originate y"]


def test_jobs_wait_until_their_ends_can_be_heard() -> None:
    bench = Bench(up=False)
    bench.link_up(jobs=False)
    bench.put("originate x", job="1")
    bench.put("echo")
    assert bench.sent_on(bench.lane) == ["echo"]
    bench.answer("+OK")
    bench.end(bench.opening.pop(), "no more connections")
    bench.wait(0.1)
    assert not bench.opening, "not at once"
    bench.wait(1.0)
    (pipe,) = bench.opening
    bench.opened(pipe)
    assert bench.sent_on(bench.lane) == ["echo", "originate x"]


def test_jobs_fail_with_the_pipe_that_hears_of_them(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.put("echo")
    bench.end(bench.jobs)
    assert bench.results == {"originate x": f"failed: {LOST}"} and bench.scheduler.up
    assert bench.executed == {"originate x": "unknown"}
    bench.answer("y")
    bench.put("originate y", job="2")
    bench.wait(1.1)
    bench.opened(bench.opening[0])
    bench.answer("+OK")
    bench.did(bench.scheduler.job_ended("2", "+OK uuid", bench.now))
    assert bench.results["originate y"] == "+OK uuid"


def test_jobs_outlive_the_pipe_on_which_they_were_sent(bench: Bench) -> None:
    bench.put("originate x", job="1")
    bench.answer("+OK")
    bench.end(bench.lane)
    assert not bench.results
    bench.did(bench.scheduler.job_ended("1", "+OK uuid", bench.now))
    assert bench.results == {"originate x": "+OK uuid"}


def test_a_job_that_no_pipe_hears_of_times_out() -> None:
    bench = Bench(up=False)
    bench.link_up(jobs=False)
    bench.put("originate x", job="1", limit=2.0)
    bench.wait(2.1)
    why = "Command timed out after 2 seconds: there is no connection on which its end would be heard"
    assert bench.results == {"originate x": f"failed: {why}"}
    bench.opened(bench.opening[0])
    assert not bench.sent_on(bench.lane)
