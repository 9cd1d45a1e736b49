"""The threads for slow commands: no more than said, each command finished once, no thread left."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from event_agent.errors import LinkError
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.pool import WorkerPool
from tests.support import until
from tests.switchsim.in_process import HELD, FakeConnection, FakeSwitch

Pools = Callable[..., WorkerPool]


class Outcome:
    """A command and all that became of it."""

    def __init__(self, text: str, limit: float = 5.0) -> None:
        self.told: list[str] = []
        self.ended = threading.Event()
        self.command = Command(f"api {text}\n\n", text.split()[0], print, print, limit=limit)
        self.command.deadline = time.monotonic() + limit

    def finished(self, command: Command, answer: str, why: str) -> None:
        assert command is self.command
        self.told.append(f"failed: {why}" if why else answer)
        self.ended.set()

    @property
    def result(self) -> str:
        assert self.ended.wait(5), "never finished"
        assert len(self.told) == 1
        return self.told[0]


@pytest.fixture
def pools() -> Iterator[Pools]:
    """Makes pools; all are ended after the test."""
    made: list[WorkerPool] = []

    def make(connect: Callable[[], Connection], workers: int = 3, idle: float = 30.0) -> WorkerPool:
        made.append(WorkerPool(connect, workers, idle, connecting=0.3))
        return made[-1]

    yield make
    for pool in made:
        pool.stop(5)
    assert not [each.name for each in threading.enumerate() if each.name.startswith("esl-worker")]


def submit(pool: WorkerPool, *outcomes: Outcome) -> None:
    for each in outcomes:
        assert pool.run(each.command, each.finished)


def test_commands_are_answered_and_connections_kept(pools: Pools) -> None:
    switch = FakeSwitch()
    pool = pools(switch.connect)
    for number in range(5):
        one = Outcome(f"msleep {number}")
        submit(pool, one)
        assert one.result == f"msleep {number}"
        until(lambda: pool.idle == 1, "the worker rests")
    assert len(switch.connections) == 1 and len(pool.threads) == 1, "no more threads than are needed"


def test_a_worker_that_does_not_come_round_is_overdue(pools: Pools) -> None:
    switch, let_connect, answering = FakeSwitch(lambda *_: HELD), threading.Event(), threading.Event()

    def connect() -> Connection:
        let_connect.wait(5)
        return switch.connect()

    pool = pools(connect, 2, idle=0.05)
    assert pool.overdue() == 0, "there is no worker yet"
    one = Outcome("x", limit=1.0)
    submit(pool, one)
    until(pool.overdue, "it connects for too long")
    let_connect.set()
    until(lambda: switch.sent, "the command is sent")
    assert pool.overdue() == 0, "it has its time"
    assert one.result == "failed: Command timed out after 1 seconds"
    until(lambda: pool.idle == 1, "the worker rests")
    for _ in range(20):  # four rounds
        answering.wait(0.01)
        assert pool.overdue() < 0.04
    two = Outcome("y", limit=0.2)
    hang = threading.Event()

    def finished(command: Command, answer: str, why: str) -> None:
        hang.wait(5)

    assert pool.run(two.command, finished)
    until(lambda: pool.overdue() > 0.1, "it hangs behind its command")
    hang.set()
    until(lambda: pool.overdue() == 0, "it goes on")


def test_there_are_no_more_workers_than_said(pools: Pools) -> None:
    open_ = threading.Event()
    switch = FakeSwitch(lambda _, command: command if open_.is_set() else HELD)
    pool = pools(switch.connect, 3)
    outcomes = [Outcome(f"x {number}") for number in range(10)]
    submit(pool, *outcomes)
    until(lambda: len(switch.sent) == 3, "three run")
    assert len(pool.threads) == 3
    open_.set()
    switch.pump()
    assert [each.result for each in outcomes] == [f"api x {number}" for number in range(10)]
    until(lambda: pool.idle == 3, "all rest")


def test_nothing_is_taken_after_the_end(pools: Pools) -> None:
    switch = FakeSwitch(lambda *_: HELD)
    pool = pools(switch.connect, 1)
    running, waiting, late = Outcome("x 1"), Outcome("x 2"), Outcome("late")
    submit(pool, running, waiting)
    until(lambda: switch.sent, "one runs")
    pool.stop(5)
    assert running.result.startswith("failed: ") and waiting.result == "failed: event-agent is stopping"
    assert pool.run(late.command, late.finished) is False and not late.told


def test_time_limits(pools: Pools) -> None:
    switch = FakeSwitch(lambda *_: HELD)
    pool = pools(switch.connect, 1)
    first = Outcome("x", 0.08)
    submit(pool, first)
    assert first.result == "failed: Command timed out after 0.08 seconds"
    assert switch.connections[0].closed, "an answer that comes late must not be taken for the next one's"
    switch.answers = lambda _, command: command
    third = Outcome("z")
    submit(pool, third)
    assert third.result == "api z" and len(switch.connections) == 2


def test_a_connection_that_ended_meanwhile_is_replaced(pools: Pools) -> None:
    switch = FakeSwitch()
    pool = pools(switch.connect, 1)
    one, two = Outcome("one"), Outcome("two")
    submit(pool, one)
    assert one.result == "one"
    switch.connections[0].cut()
    submit(pool, two)
    assert two.result == "two" and switch.connections[0].closed


def test_a_connection_that_breaks_fails_its_command(pools: Pools) -> None:
    switch = FakeSwitch(lambda *_: HELD)
    pool = pools(switch.connect, 1)
    one = Outcome("one")
    submit(pool, one)
    until(lambda: switch.sent, "it runs")
    switch.connections[0].cut("it is gone")
    assert one.result == "failed: it is gone"
    two = Outcome("two")
    submit(pool, two)
    until(lambda: len(switch.sent) == 2, "it runs")
    pool.abort()
    assert two.result.startswith("failed: ")
    switch.refusal = "nobody there"
    three = Outcome("three")
    submit(pool, three)
    assert three.result == "failed: nobody there"


def test_idle_connections_are_closed(pools: Pools) -> None:
    switch = FakeSwitch()
    pool = pools(switch.connect, 1, idle=0.02)
    one = Outcome("one")
    submit(pool, one)
    assert one.result == "one"
    until(lambda: not switch.open, "closed")
    two = Outcome("two")
    submit(pool, two)
    assert two.result == "two"


def test_the_end_is_not_held_up_by_a_stuck_command(pools: Pools) -> None:
    switch = FakeSwitch(lambda *_: HELD)
    pool = pools(switch.connect, 2)
    outcomes = [Outcome(f"x {number}", 600) for number in range(6)]
    submit(pool, *outcomes)
    until(lambda: len(switch.sent) == 2, "two run")
    started = time.monotonic()
    pool.stop(60)
    assert time.monotonic() - started < 20
    assert all(each.result.startswith("failed: ") for each in outcomes)
    assert not [thread for thread in pool.threads if thread.is_alive()] and not switch.open


def test_every_command_is_finished_once_whatever_happens(pools: Pools) -> None:
    rng = random.Random(7)

    def answers(connection: FakeConnection, command: str) -> str | None:
        match rng.randrange(8):
            case 0:
                connection.cut()
                return HELD
            case 1:
                return HELD  # never answered
        return command

    switch = FakeSwitch(answers)

    def connect() -> Connection:
        if rng.randrange(4) == 0:
            raise LinkError("refused")
        return switch.connect()

    pool = pools(connect, 4)
    outcomes = [Outcome(f"x {number}", rng.choice((0.02, 0.05, 5.0 if number % 2 else 0.03))) for number in range(200)]
    ended = threading.Event()

    def faults() -> None:
        while not ended.wait(0.005):
            pool.abort()

    thread = threading.Thread(target=faults)
    thread.start()
    try:
        submit(pool, *outcomes)
        for each in outcomes:
            assert each.result == each.command.text.strip() or each.result.startswith("failed: ")
    finally:
        ended.set()
        thread.join()
    pool.stop(5)
    assert not switch.open
