"""The lane: order, sending ahead, barrier, rotation, jobs, time limits; each command finished exactly once."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from event_agent.errors import LinkError
from event_agent.freeswitch import lane as module
from event_agent.freeswitch import lane_queue, pipe, slow_verbs
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.frames import Frame
from event_agent.freeswitch.lane import LOST, CommandLane
from event_agent.freeswitch.lane_queue import NOT_CONNECTED
from event_agent.freeswitch.pool import WorkerPool
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.loop import Loop
from tests.switchsim.in_process import HELD, FakeConnection, FakeSwitch, api_frame, event_frame

THREADS = ("io", "esl-lane", "esl-watch", "esl-worker")


def until(condition: Callable[[], object], what: str, timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.001)


class Sent:
    """A command and all that became of it."""

    def __init__(self, text: str, *keys: str, job: str = "", limit: float = 0.0, slow: bool = False) -> None:
        self.told: list[str] = []
        self.ended = threading.Event()
        text = text if text.startswith(("bgapi", "sendmsg")) else f"api {text}"
        verb = text.split()[1] if text.startswith("api ") else text.split()[0]
        self.command = Command(f"{text}\n\n", verb, self.tell, self._failed, keys, job, slow, limit)
        self.then: Callable[[], None] = lambda: None

    def tell(self, text: str) -> None:
        self.told.append(text)
        self.then()
        self.ended.set()

    def _failed(self, message: str) -> None:
        self.tell(f"failed: {message}")

    @property
    def result(self) -> str:
        assert self.ended.wait(5), f"never finished: {self.command.text!r}"
        assert len(self.told) == 1, self.told
        return self.told[0]


class Lane:
    """A lane on a fake switch, and what it said."""

    def __init__(self, switch: FakeSwitch, timeout: float, workers: int = 3) -> None:
        self.switch = switch
        self.ups: list[int] = []
        self.downs: list[str] = []
        self.batches = 0
        self.pool = WorkerPool(switch.connect, workers)
        self.loop = Loop()
        self.loop.start()
        self.lane = CommandLane(
            self.loop, self._connect, self.pool, self._batch, lambda: self.ups.append(1), self.downs.append, timeout
        )

    def _connect(self, fresh: bool) -> Connection:
        return self.switch.connect(fresh)

    def _batch(self) -> AbstractContextManager[object]:
        self.batches += 1
        return contextlib.nullcontext()

    def start(self) -> Lane:
        self.lane.start()
        until(lambda: self.lane.connected and self.ups, "connected")
        return self

    def send(self, *sent: Sent) -> None:
        for each in sent:
            self.lane.submit(each.command)
        self.lane.flush()

    def run(self, *texts: str) -> list[str]:
        sent = [Sent(text) for text in texts]
        self.send(*sent)
        return [each.result for each in sent]

    def stop(self) -> None:
        self.pool.stop(5)
        self.lane.stop(5)
        self.loop.stop(5)


Lanes = Callable[..., Lane]


@pytest.fixture
def lanes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Lanes]:
    """Starts lanes, impatient ones; all are ended after the test, and leave nothing behind."""
    monkeypatch.setattr(module, "TICK", 0.01)
    monkeypatch.setattr(module, "IDLE", 0.01)
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 0.02)
    monkeypatch.setattr(lane_queue, "LATE", 0.04)
    monkeypatch.setattr(module, "Backoff", lambda *_: Backoff(0.01, 0.02))
    made: list[Lane] = []

    def make(switch: FakeSwitch, timeout: float = 5.0, workers: int = 3, start: bool = True) -> Lane:
        made.append(Lane(switch, timeout, workers))
        return made[-1].start() if start else made[-1]

    yield make
    for each in made:
        each.stop()
        assert not each.switch.open, "a connection is left open"
        assert each.lane.pending == 0
    assert not [each.name for each in threading.enumerate() if each.name.startswith(THREADS)]


class Gate:
    """Holds back the answers to some verbs until they are let go."""

    def __init__(self, *held: str) -> None:
        self.held = set(held)
        self.switch = FakeSwitch(self._answer)

    def _answer(self, connection: FakeConnection, command: str) -> str | None:
        words = command.split()
        return HELD if words[min(1, len(words) - 1)] in self.held else " ".join(words[1:])

    def let_go(self, *verbs: str) -> None:
        self.held -= set(verbs)
        self.switch.pump()


# -- order, and sending ahead


def test_answers_find_their_commands(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 5.0)
    monkeypatch.setattr(lane_queue, "LATE", 5.0)
    lane = lanes(FakeSwitch())
    assert lane.run(*(f"echo {number}" for number in range(300))) == [f"echo {number}" for number in range(300)]
    assert lane.switch.sent == [f"api echo {number}" for number in range(300)]
    assert len(lane.switch.connections) == 1 and lane.switch.fresh == [True]


def test_commands_of_a_known_verb_are_sent_ahead_in_one_write(lanes: Lanes) -> None:
    gate = Gate()
    lane = lanes(gate.switch)
    lane.run("echo x")
    gate.held.add("echo")
    (connection,) = gate.switch.connections
    before = connection.sends
    sent = [Sent(f"echo {number}") for number in range(20)]
    for each in sent:
        lane.lane.submit(each.command)
    assert connection.sends == before, "nothing goes out before the flush"
    lane.lane.flush()
    assert connection.sends == before + 1 and len(connection.sent) == 21
    assert lane.lane.pending == 20
    batches = lane.batches
    with connection._changed:  # all answers in one read
        gate.let_go("echo")
    assert [each.result for each in sent] == [f"echo {number}" for number in range(20)]
    assert lane.batches == batches + 1, "the answers of one read leave together"


def test_no_more_is_sent_ahead_than_the_window(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_queue, "LATE", 5.0)
    monkeypatch.setattr(pipe, "WINDOW", 4)
    monkeypatch.setattr(pipe, "WINDOW_BYTES", 100)
    gate = Gate()
    lane = lanes(gate.switch)
    lane.run("echo x")
    gate.held.add("echo")
    (connection,) = gate.switch.connections
    many = [Sent(f"echo {number}") for number in range(10)]
    lane.send(*many)
    assert len(connection.sent) == 1 + 4
    gate.let_go("echo")
    assert [each.result for each in many] == [f"echo {number}" for number in range(10)]
    gate.held.add("echo")
    large = [Sent(f"echo {'x' * 60}") for _ in range(4)]
    lane.send(*large)
    assert len(connection.sent) == 1 + 10 + 2, "bytes count too"
    gate.let_go("echo")
    assert all(each.result for each in large)


def test_nothing_goes_behind_an_unproven_verb(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 5.0)
    gate = Gate("strange")
    lane = lanes(gate.switch)
    lane.run("echo x")
    strange, echo, again = Sent("strange"), Sent("echo 1"), Sent("strange 2")
    lane.send(strange, echo, again)
    assert gate.switch.sent[1:] == ["api strange"]
    gate.let_go("strange")
    assert [strange.result, echo.result, again.result] == ["strange", "echo 1", "strange 2"]


def test_a_callback_may_submit(lanes: Lanes) -> None:
    lane = lanes(FakeSwitch())
    first, second = Sent("echo 1"), Sent("echo 2")
    first.then = lambda: lane.send(second)
    lane.send(first)
    assert second.result == "echo 2"
    lane.stop()
    third, fourth = Sent("echo 3"), Sent("echo 4")
    third.then = lambda: lane.send(fourth)
    lane.send(third)
    assert fourth.result == f"failed: {NOT_CONNECTED}"


# -- late commands


def test_a_late_command_keeps_its_connection_and_the_others_get_another(lanes: Lanes) -> None:
    gate = Gate("slow")
    lane = lanes(gate.switch)
    lane.run("echo x")
    slow, echo = Sent("slow"), Sent("echo behind")
    lane.send(slow, echo)
    assert echo.result == "echo behind", "it does not wait for the slow one"
    assert not slow.told and len(gate.switch.open) == 2
    assert gate.switch.fresh == [True, False] and len(lane.ups) == 1 and not lane.downs, "it is no new link"
    gate.let_go("slow")
    assert slow.result == "slow"
    until(lambda: len(gate.switch.open) == 1, "the old connection is closed once it has answered")
    assert lane.run("echo after") == ["echo after"]


def test_what_is_sent_behind_a_stalled_command_is_answered_where_it_was_sent(lanes: Lanes) -> None:
    gate = Gate()
    lane = lanes(gate.switch)
    lane.run("known", "echo x")
    gate.held.add("known")
    sent = [Sent("known"), Sent("echo 1")]
    lane.send(*sent)
    until(lambda: len(gate.switch.open) == 2, "rotated")
    assert lane.run("echo 2") == ["echo 2"] and not sent[1].told
    gate.let_go("known")
    assert [each.result for each in sent] == ["known", "echo 1"]
    assert gate.switch.sent.count("api echo 1") == 1, "nothing is executed twice"


def test_a_verb_that_was_slow_goes_to_the_pool(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slow_verbs, "QUICK", 0.01)
    monkeypatch.setattr(slow_verbs, "SLOW", 0.01)
    gate = Gate("slow")
    lane = lanes(gate.switch)
    first = Sent("slow 1")
    lane.send(first)
    until(lambda: len(gate.switch.connections) == 2, "rotated")
    gate.let_go("slow")
    assert first.result == "slow 1"
    gate.held.add("slow")
    second = Sent("slow 2")
    lane.send(second)
    until(lambda: "api slow 2" in gate.switch.sent, "sent")
    lane_connection = gate.switch.connections[1]
    assert "api slow 2" not in lane_connection.sent
    assert lane.run("echo x") == ["echo x"]
    gate.let_go("slow")
    assert second.result == "slow 2"


def test_listed_verbs_never_touch_the_lane(lanes: Lanes) -> None:
    gate = Gate("msleep")
    lane = lanes(gate.switch, workers=2)
    sleepers = [Sent(f"msleep {number}") for number in range(5)] + [Sent("whatever", slow=True)]
    lane.send(*sleepers)
    assert lane.run("echo x") == ["echo x"]
    assert lane.lane.pending == 6
    assert gate.switch.connections[0].sent == ["api echo x"]
    gate.let_go("msleep")
    assert [each.result for each in sleepers][-1] == "whatever"


def test_a_limit_to_the_connections_left_behind(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RETIRED", 3)
    gate = Gate("s0", "s1", "s2", "s3", "s4")
    lane = lanes(gate.switch)
    sent = [Sent(f"s{number}") for number in range(5)]
    lane.send(*sent)
    until(lambda: len(gate.switch.sent) == 3, "three are on their way")
    quiet = threading.Event()
    assert not quiet.wait(0.1) and len(gate.switch.open) == 3
    gate.let_go("s0")
    until(lambda: len(gate.switch.sent) == 4, "one is answered, another may go")
    gate.let_go("s1", "s2", "s3", "s4")
    assert [each.result for each in sent] == [f"s{number}" for number in range(5)]


def test_the_other_connection_can_not_be_had(lanes: Lanes) -> None:
    gate = Gate("slow")
    lane = lanes(gate.switch)
    gate.switch.refusal = "no more connections"
    slow, echo = Sent("slow"), Sent("echo x")
    lane.send(slow, echo)
    until(lambda: len(gate.switch.fresh) > 3, "it is tried again")
    assert lane.lane.connected and not lane.downs
    gate.switch.refusal = ""
    assert echo.result == "echo x"
    gate.let_go("slow")
    assert slow.result == "slow"


# -- commands for one channel


def test_a_channel_keeps_its_order_when_the_lane_moves_on(lanes: Lanes) -> None:
    """What waits to be sent behind a slow command for the same channel must not overtake it on the new connection."""
    gate = Gate("uuid_slow")
    lane = lanes(gate.switch)
    lane.run("uuid_kill x", "echo x")
    slow, kill = Sent("uuid_slow a", "a"), Sent("uuid_kill a", "a")
    other, late = Sent("echo x"), Sent("uuid_kill b", "b")
    lane.send(slow, kill, other, late)
    assert other.result == "echo x" and late.result == "uuid_kill b"
    after = Sent("uuid_kill a", "a")
    lane.send(after)
    assert lane.run("echo y") == ["echo y"]
    assert not kill.told and not after.told and not slow.told
    assert "api uuid_kill a" not in gate.switch.sent
    gate.let_go("uuid_slow")
    assert [each.result for each in (slow, kill, after)] == ["uuid_slow a", "uuid_kill a", "uuid_kill a"]


def test_a_channel_keeps_its_order_around_the_pool(lanes: Lanes) -> None:
    gate = Gate("slow", "uuid_one")
    lane = lanes(gate.switch)
    first = Sent("uuid_one a", "a")
    second = Sent("slow a", "a", slow=True)
    third, other = Sent("uuid_two a", "a"), Sent("uuid_two b", "b")
    lane.send(first, second, third, other)
    assert other.result == "uuid_two b"
    assert [each for each in gate.switch.sent if "a" in each.split()] == ["api uuid_one a"]
    gate.let_go("uuid_one")
    assert first.result == "uuid_one a"
    until(lambda: "api slow a" in gate.switch.sent, "now the slow one")
    assert "api uuid_two a" not in gate.switch.sent
    gate.let_go("slow")
    assert second.result == "slow a" and third.result == "uuid_two a"


def test_a_command_for_two_channels_overtakes_neither(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_queue, "LATE", 5.0)
    gate = Gate()
    lane = lanes(gate.switch)
    lane.run("uuid_known x")
    gate.held |= {"slow", "uuid_known"}
    for_c, for_a = Sent("slow c", "c", slow=True), Sent("uuid_known a", "a")
    both = Sent("bridge a c", "a", "c", slow=True)
    lane.send(for_c, for_a, both)
    until(lambda: len(gate.switch.sent) == 3, "two run")
    gate.let_go("slow")
    assert for_c.result == "slow c"
    assert not threading.Event().wait(0.05) and "api bridge a c" not in gate.switch.sent
    gate.let_go("uuid_known")
    assert for_a.result == "uuid_known a" and both.result == "bridge a c"


@pytest.mark.parametrize("fate", ["answered", "lost", "no pool"])
def test_thousands_may_wait_for_one_channel(lanes: Lanes, monkeypatch: pytest.MonkeyPatch, fate: str) -> None:
    gate = Gate("slow")
    lane = lanes(gate.switch)
    slow = Sent("slow a", "a", slow=True)
    lane.send(slow)
    if fate == "no pool":
        lane.pool.stop(5)
        assert slow.result.startswith("failed: ")
        slow = Sent("uuid_slow a", "a")
        gate.held.add("uuid_slow")
        echo = Sent("echo x")
        lane.send(slow, echo)
        assert echo.result == "echo x" and len(gate.switch.open) == 2, "moved on"
    waiting = [Sent(f"echo {number}", "a", slow=fate == "no pool") for number in range(3000)]
    lane.send(*waiting)
    assert lane.lane.pending == 3001
    if fate == "lost":
        gate.switch.refusal = "gone"
        gate.switch.connections[0].cut()
        until(lambda: lane.downs, "noticed")
        lane.pool.abort()
        assert {each.result for each in waiting} == {f"failed: {NOT_CONNECTED}"}
    elif fate == "answered":
        gate.let_go("slow")
        assert [each.result for each in waiting] == [f"echo {number}" for number in range(3000)]
    else:
        gate.let_go("uuid_slow")
        assert {each.result for each in waiting} == {"failed: Too many slow commands are waiting for FreeSWITCH"}


# -- jobs


def test_a_job_is_done_when_its_event_comes(lanes: Lanes) -> None:
    gate = Gate()
    lane = lanes(gate.switch)
    job = Sent("bgapi originate x", job="job-1")
    lane.send(job)
    (connection,) = gate.switch.connections
    gate.switch.answers = lambda _, command: "+OK Job-UUID: job-1"
    until(lambda: "bgapi originate x" in connection.sent, "sent")
    assert connection.sent == ["event json BACKGROUND_JOB", "bgapi originate x"], "subscribed before it can end"
    until(lambda: connection.nudges, "an idle connection is nudged for its events")
    assert not job.told and lane.lane.pending == 1
    connection.push(event_frame(Event_Name="BACKGROUND_JOB", Job_UUID="somebody-elses", _body="+OK no"))
    connection.push(event_frame(Event_Name="BACKGROUND_JOB", Job_UUID="job-1", _body="+OK the-uuid\n"))
    assert job.result == "+OK the-uuid\n"
    connection.push(event_frame(Event_Name="BACKGROUND_JOB", Job_UUID="job-1", _body="+OK again"))
    assert lane.run("echo x") and len(job.told) == 1
    second = Sent("bgapi y", job="job-2")
    lane.send(second)
    until(lambda: "bgapi y" in connection.sent, "sent")
    assert connection.sent.count("event json BACKGROUND_JOB") == 1


@pytest.fixture
def jobs() -> FakeSwitch:
    """A switch that takes jobs, and ends none."""
    return FakeSwitch(lambda _, command: "+OK" if command.startswith("bgapi") else command)


def test_a_job_is_no_job_for_the_pool(lanes: Lanes, jobs: FakeSwitch) -> None:
    """Even when the switch was once slow to take one: a worker would take the first answer for the last."""
    lane = lanes(jobs)
    lane.lane._queue._verbs.took("bgapi", 1.0)
    job = Sent("bgapi x", job="j")
    lane.send(job)
    until(lambda: lane.lane._jobs, "under way")
    jobs.connections[0].push(event_frame(Job_UUID="j", _body="+OK done"))
    assert job.result == "+OK done" and len(jobs.connections) == 1


def test_a_job_that_is_refused_is_done_at_once(lanes: Lanes) -> None:
    lane = lanes(FakeSwitch(lambda _, command: "-ERR no" if command.startswith("bgapi") else "+OK"))
    job = Sent("bgapi x", job="j")
    lane.send(job)
    assert job.result == "-ERR no"


def test_a_job_without_an_end_times_out(lanes: Lanes, jobs: FakeSwitch) -> None:
    lane = lanes(jobs)
    job = Sent("bgapi x", job="j", limit=0.1)
    lane.send(job)
    assert job.result == "failed: Command timed out after 0.1 seconds"
    assert len(jobs.open) == 1 and not lane.downs, "the connection is not to blame"


def test_a_job_outlives_the_lanes_move(lanes: Lanes, jobs: FakeSwitch) -> None:
    lane = lanes(jobs)
    job = Sent("bgapi x", job="j")
    lane.send(job)
    until(lambda: lane.lane._jobs, "under way")
    jobs.answers = lambda _, command: HELD if command == "api slow" else command
    slow = Sent("slow")
    lane.send(slow)
    until(lambda: len(jobs.connections) == 2 and jobs.connections[1].sent, "moved on")
    assert jobs.connections[1].sent[0] == "event json BACKGROUND_JOB"
    for connection in jobs.connections:  # both hear of it
        connection.push(event_frame(Job_UUID="j", _body="+OK"))
    assert job.result == "+OK"
    jobs.answers = lambda _, command: command
    jobs.pump()
    assert slow.result == "api slow"


def test_a_job_that_was_sent_behind_a_stalled_command_outlives_the_move(lanes: Lanes, jobs: FakeSwitch) -> None:
    """When the lane moves on FreeSWITCH has not even begun with it; its end must be heard on the new connection."""
    lane = lanes(jobs)
    first = Sent("bgapi x", job="first")
    lane.send(first)
    until(lambda: lane.lane._jobs, "bgapi has proved to be quick")
    jobs.connections[0].push(event_frame(Job_UUID="first", _body="+OK"))
    assert first.result == "+OK" and lane.run("known") == ["api known"]
    jobs.answers = lambda _, command: HELD if command == "api known" else "+OK"
    stalled, job = Sent("known"), Sent("bgapi y", job="j")
    lane.send(stalled, job)
    until(lambda: len(jobs.connections) == 2, "moved on")
    jobs.answers = lambda _, command: "+OK"
    jobs.pump()
    assert stalled.result == "+OK"
    until(lambda: len(jobs.open) == 1, "the old connection is gone")
    assert not job.told and "event json BACKGROUND_JOB" in jobs.connections[1].sent
    jobs.connections[1].push(event_frame(Job_UUID="j", _body="+OK done"))
    assert job.result == "+OK done"


# -- faults


def test_nothing_is_taken_without_a_connection(lanes: Lanes) -> None:
    switch = FakeSwitch()
    switch.refusal = "FreeSWITCH can't be reached"
    lane = lanes(switch, start=False)
    early = Sent("echo x")
    lane.send(early)
    assert early.told == [f"failed: {NOT_CONNECTED}"], "at once"
    lane.lane.start()
    until(lambda: len(switch.fresh) > 3, "it keeps trying")
    assert set(lane.downs) == {"FreeSWITCH can't be reached"} and all(switch.fresh)
    still = Sent("echo x")
    lane.send(still)
    assert still.told == [f"failed: {NOT_CONNECTED}"]
    switch.refusal = ""
    until(lambda: lane.ups, "connected")
    assert lane.run("echo x") == ["echo x"]


def test_a_lost_connection_fails_everything_once(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 5.0)
    monkeypatch.setattr(lane_queue, "LATE", 5.0)
    gate = Gate()
    lane = lanes(gate.switch)
    gate.switch.answers = lambda _, command: "+OK" if command.startswith(("bgapi", "event")) else HELD
    job = Sent("bgapi x", job="j")
    lane.send(job)
    until(lambda: lane.lane._jobs, "under way")
    inflight, queued, pooled = Sent("new a", "a"), Sent("echo x"), Sent("msleep a", "b")
    waiting = Sent("echo b", "b")
    lane.send(inflight, queued, pooled, waiting)
    until(lambda: "api msleep a" in gate.switch.sent, "all are where they belong")
    gate.switch.connections[0].cut()
    assert inflight.result == job.result == f"failed: {LOST}"
    assert queued.result == f"failed: {NOT_CONNECTED}"
    until(lambda: len(lane.ups) == 2, "connected again")
    assert len(lane.downs) == 1 and gate.switch.fresh.count(True) == 2
    assert not pooled.told and not waiting.told, "the pool has connections of its own"
    gate.switch.answers = lambda _, command: command
    gate.switch.pump()
    assert pooled.result == "api msleep a" and waiting.result == "api echo b"


def test_a_command_that_is_not_answered_in_time(lanes: Lanes) -> None:
    gate = Gate("never")
    lane = lanes(gate.switch, timeout=0.15)
    never, behind = Sent("never"), Sent("echo x")
    lane.send(never, behind)
    assert behind.result == "echo x"
    assert never.result == "failed: Command timed out after 0.15 seconds"
    until(lambda: len(gate.switch.open) == 1, "its connection is never used again")
    assert lane.run("echo y") == ["echo y"] and not lane.downs


def test_what_waits_behind_a_command_without_answer_runs_at_last(lanes: Lanes) -> None:
    gate = Gate("uuid_never")
    lane = lanes(gate.switch)
    never, kill = Sent("uuid_never a", "a", limit=0.1), Sent("uuid_kill a", "a")
    lane.send(never, kill)
    until(lambda: len(gate.switch.open) == len(lane.lane._pipes) == 2, "moved on")
    late = Sent("uuid_kill a", "a")
    lane.send(late)
    assert never.result == "failed: Command timed out after 0.1 seconds"
    assert kill.result == late.result == "uuid_kill a"


def test_what_waits_for_its_channel_is_told_when_its_time_is_over(lanes: Lanes) -> None:
    gate = Gate("uuid_slow")
    lane = lanes(gate.switch)
    slow, kill = Sent("uuid_slow a", "a", limit=60.0), Sent("uuid_kill a", "a", limit=0.1)
    lane.send(slow, kill)
    assert kill.result == "failed: Command timed out after 0.1 seconds: its channel was busy"
    last = Sent("uuid_last a", "a")
    lane.send(last)
    gate.let_go("uuid_slow")
    assert slow.result == "uuid_slow a" and last.result == "uuid_last a"
    assert "api uuid_kill a" not in gate.switch.sent, "who was told that it failed must not have it carried out"


def test_what_waits_for_a_worker_is_told_when_its_time_is_over(lanes: Lanes) -> None:
    gate = Gate("msleep")
    lane = lanes(gate.switch, workers=1)
    first, second = Sent("msleep 1", limit=60.0), Sent("msleep 2", "b", limit=0.1)
    lane.send(first, second)
    assert second.result == "failed: Command timed out after 0.1 seconds: no worker was free"
    assert lane.run("echo x") == ["echo x"]
    behind = Sent("uuid_kill b", "b")
    lane.send(behind)
    assert behind.result == "uuid_kill b", "the channel is free again"
    gate.let_go("msleep")
    assert first.result == "msleep 1" and gate.switch.sent.count("api msleep 2") == 0


def test_what_waits_behind_a_command_fails_with_the_link(lanes: Lanes) -> None:
    gate = Gate("uuid_never")
    lane = lanes(gate.switch)
    never, kill = Sent("uuid_never a", "a"), Sent("uuid_kill a", "a")
    lane.send(never, kill)
    until(lambda: len(gate.switch.open) == len(lane.lane._pipes) == 2, "moved on")
    gate.switch.refusal = "gone"
    lane.lane.abort()
    assert never.result == f"failed: {LOST}"
    assert kill.result in (f"failed: {LOST}", f"failed: {NOT_CONNECTED}")  # whichever connection broke first


@pytest.mark.parametrize(
    "frames",
    [
        [api_frame("one too many")],
        [Frame(b"Content-Type: text/event-json\nContent-Length: 1", b"{")],
        [Frame(b"Content-Type: text/event-json\nContent-Length: 2", b"[]")],
        [Frame(b"Content-Type: text/event-json", b"[" * 100000)],
    ],
    ids=["unasked", "no JSON", "no object", "deep"],
)
def test_a_switch_that_talks_nonsense_is_left(lanes: Lanes, frames: list[Frame]) -> None:
    lane = lanes(FakeSwitch(lambda *_: HELD))
    asked = Sent("echo x")
    lane.send(asked)
    lane.switch.connections[0].push(api_frame("the answer"), *frames)
    assert asked.result == "the answer", "what came before is an answer all the same"
    until(lambda: len(lane.ups) == 2, "connected anew")
    assert len(lane.downs) == 1 and lane.switch.connections[0].closed


def test_other_frames_are_no_answers(lanes: Lanes) -> None:
    lane = lanes(FakeSwitch(lambda *_: HELD))
    asked = Sent("echo x")
    lane.send(asked)
    notice = Frame(b"Content-Type: text/disconnect-notice\nContent-Length: 4", b"bye\n")
    lane.switch.connections[0].push(notice, Frame(b"Content-Type: command/reply\nReply-Text: +OK x", b""))
    assert asked.result == "+OK x"


def test_what_is_not_one_frame_is_never_sent(lanes: Lanes, caplog: pytest.LogCaptureFixture) -> None:
    lane = lanes(FakeSwitch())
    texts = ("echo x\n\napi system date", "uuid_kill x\rapi", "msleep 1\n\napi system date", "bgapi x\n\napi y")
    smuggled = [Sent(text) for text in texts]
    sent = [Sent("echo 1"), *smuggled, Sent("sendmsg u\ncontent-length: 1\n\nab"), Sent("echo 2")]
    lane.send(*sent)
    assert [sent[0].result, sent[-1].result] == ["echo 1", "echo 2"]
    for each in sent[1:-1]:
        assert each.result.startswith("failed: This would not be exactly one command to FreeSWITCH: it has ")
    assert lane.switch.sent == ["api echo 1", "api echo 2"]
    lines = [each.getMessage() for each in caplog.records if each.levelname == "ERROR"]
    assert len(lines) == 1 and lines[0].startswith("1 commands were not sent (echo): This would not be"), lines


def test_a_full_queue_refuses_and_recovers(lanes: Lanes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUEUE", 5)
    monkeypatch.setattr(module, "QUEUE_WAIT", 0.05)
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 5.0)
    gate = Gate("new")
    lane = lanes(gate.switch)
    taken = [Sent("new"), *(Sent(f"echo {number}") for number in range(5))]
    lane.send(*taken)
    refused = Sent("echo late")
    started = time.monotonic()
    lane.send(refused)
    assert refused.told == ["failed: Too many commands are waiting for FreeSWITCH (5)"]
    assert 0.04 < time.monotonic() - started < 2, "it is held up, so that whoever sends is slowed down"
    started = time.monotonic()
    more = [Sent("echo late") for _ in range(20)]
    lane.send(*more)
    assert all(each.told for each in more) and time.monotonic() - started < 0.5, "the next ones are refused at once"
    gate.let_go("new")
    assert [each.result for each in taken][1:] == [f"echo {number}" for number in range(5)]
    assert lane.run("echo again") == ["echo again"]


def test_a_queue_that_was_full_when_the_link_broke_takes_again(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 2)
    monkeypatch.setattr(module, "QUEUE_WAIT", 0.01)
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 5.0)
    gate = Gate("new")
    lane = lanes(gate.switch)
    sent = [Sent("new"), *(Sent("echo x") for _ in range(5))]
    lane.send(*sent)
    assert sent[-1].result.startswith("failed: Too many")
    gate.switch.connections[0].cut()
    assert all(each.result.startswith("failed: ") for each in sent)
    until(lambda: len(lane.ups) == 2, "connected again")
    assert lane.run("echo y") == ["echo y"]


def test_whoever_waits_for_room_is_woken_by_the_end_of_the_link(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "QUEUE", 1)
    monkeypatch.setattr(module, "QUEUE_WAIT", 60.0)
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 60.0)
    gate = Gate("new")
    lane = lanes(gate.switch)
    lane.send(Sent("new"), Sent("echo 1"))
    late = Sent("echo 2")
    thread = threading.Thread(target=lane.send, args=(late,))
    thread.start()
    until(lambda: lane.lane._changed._waiters, "it waits")  # type: ignore[attr-defined]
    gate.switch.refusal = "gone"
    gate.switch.connections[0].cut()
    assert late.result == f"failed: {NOT_CONNECTED}"
    thread.join(5)


def test_abort_breaks_everything(lanes: Lanes) -> None:
    gate = Gate("slow", "slower")
    lane = lanes(gate.switch)
    sent = [Sent("slow"), Sent("slower")]
    lane.send(*sent)
    until(lambda: len(gate.switch.open) == len(lane.lane._pipes) == 3, "each has its connection")
    lane.lane.abort()
    assert [each.result for each in sent] == [f"failed: {LOST}"] * 2
    until(lambda: len(lane.ups) == 2, "connected again")
    assert lane.run("echo x") == ["echo x"]


def test_the_end_fails_what_is_under_way(lanes: Lanes) -> None:
    gate = Gate("slow", "slower", "msleep")
    lane = lanes(gate.switch)
    sent = [Sent("slow a", "a"), Sent("slower"), Sent("echo a", "a"), Sent("msleep"), Sent("bgapi x", job="j")]
    lane.send(*sent)
    until(lambda: len(gate.switch.open) >= 3, "under way")
    started = time.monotonic()
    lane.stop()
    assert time.monotonic() - started < 3
    assert all(each.result.startswith("failed: ") for each in sent)
    assert not lane.lane.connected


# -- all at once


@pytest.mark.parametrize("seed", range(6))
def test_every_command_is_finished_once_and_channels_keep_their_order(
    lanes: Lanes, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Random commands on a switch that stalls, breaks and refuses: with seed 0 and 1 it only stalls."""
    monkeypatch.setattr(lane_queue, "LATE", 0.01)
    monkeypatch.setattr(lane_queue, "NEW_VERB_LATE", 0.005)
    monkeypatch.setattr(slow_verbs, "SLOW", 0.015)
    rng = random.Random(seed)
    calm = seed < 2
    lock = threading.Lock()
    due: dict[tuple[int, int], float] = {}
    begun: list[str] = []
    ended: list[str] = []
    dead: set[str] = set()

    def answers(connection: FakeConnection, command: str) -> str | None:
        """Called when it is at the head, again and again until it gives an answer."""
        with lock:
            place = (id(connection), id(command))
            now = time.monotonic()
            if place not in due:
                if connection.broken:
                    return HELD
                begun.append(command)
                fate = rng.random()
                due[place] = now + (rng.choice((0.03, 0.1)) if fate < 0.06 else 0.0)
                if fate > 0.99 and not calm:
                    dead.add(command)
                    connection.cut()
                    return HELD
                if fate > 0.985 and not calm:
                    due[place] = now + 600
            if now < due[place]:
                return HELD
            ended.append(command)
            return "+OK" if command.startswith("bgapi") else command

    switch = FakeSwitch(answers)
    plain = switch.connect

    def connect(fresh: bool = False) -> Connection:
        if not calm and rng.random() < 0.2:
            raise LinkError("refused")
        return plain(fresh)

    switch.connect = connect  # type: ignore[method-assign]
    lane = lanes(switch, timeout=0.4 if not calm else 30.0)
    over = threading.Event()

    def pump() -> None:
        while not over.wait(0.002):
            switch.pump()
            if not calm and rng.random() < 0.003:
                lane.lane.abort()
            for job in list(lane.lane._jobs._commands):
                for connection in switch.open:
                    connection.push(event_frame(Job_UUID=job, _body="+OK done"))

    thread = threading.Thread(target=pump)
    thread.start()
    sent: list[Sent] = []
    try:
        for number in range(400):
            keys = rng.sample("abcdef", rng.choice((0, 0, 1, 1, 2)))
            verb = rng.choice(("echo", "status", "uuid_x", "uuid_y", "uuid_z", "msleep"))
            if rng.random() < 0.1:
                each = Sent(f"bgapi {number}", job=f"job-{number}")
            else:
                each = Sent(f"{verb} {number}", *keys)
            sent.append(each)
            lane.lane.submit(each.command)
            if rng.random() < 0.3:
                lane.lane.flush()
            if rng.random() < 0.1:
                time.sleep(0.002)
        lane.lane.flush()
        results = [each.result for each in sent]
    finally:
        over.set()
        thread.join(5)
    for each, result in zip(sent, results, strict=True):
        text = each.command.text.strip()
        assert result in (text, "+OK done") or result.startswith("failed: "), result
        assert begun.count(text) <= 1, "executed twice"
    if not calm:
        return
    assert not [result for result in results if result.startswith("failed: ")]
    for key in "abcdef":
        of_key = [each.command.text.strip() for each in sent if key in each.command.keys]
        assert [text for text in begun if text in of_key] == of_key, key
        assert [text for text in ended if text in of_key] == of_key, key
