"""Reads side by side (`lanes_read`) against a model of the order that clients may rely on, in thousands of worlds.

The worlds of test_scheduler_random.py, with hangs, faults and lost links, and orderly ones in which nothing is slow. In
these FreeSWITCH has a state that each acting command sets and every read tells: whichever verbs they are, a read must
tell of the last acting command that came before it. It also has a count that grows by itself, and of one thing a later
read must never tell a smaller one.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from event_agent.freeswitch.command import Command
from event_agent.freeswitch.pipe import Pipe, PipeState
from event_agent.freeswitch.scheduler import LOST, NOT_CONNECTED, Limits, Scheduler
from event_agent.freeswitch.side_by_side import SideBySide, things_of
from event_agent.freeswitch.slow_verbs import LISTED
from event_agent.protocol.questions import BESIDE, OF_ONE, READING, TIMELESS
from tests.unit.scheduler.parts import Bench, name_of, state_of
from tests.unit.test_scheduler_random import Sent, Wire, World, nobody

SEEDS = {"Beside": 500, "Orderly": 1500}
VERBS = (
    ("version", ""), ("echo", ""), ("status", ""), ("show", ""), ("global_getvar", " x"), ("global_getvar", " y"),
    ("uuid_getvar", " a"), ("uuid_getvar", " b"), ("uuid_dump", " a"), ("uuid_exists", " c"),
    ("uuid_setvar", " a"), ("uuid_kill", " b"), ("global_setvar", " x"), ("eval", " x"),
)  # fmt: skip


def reads(sent: Sent) -> bool:
    return sent.command.verb in BESIDE


class Beside(World):
    """A world in which reads may run side by side."""

    verbs = (*("echo", "version", "uuid_getvar", "uuid_dump", "show") * 3, "uuid_setvar", "uuid_x", "msleep")
    beside = 0  # that were sent on a side

    def scheduler_of(self, limits: Limits) -> Scheduler:
        rng = self.random
        self.limits = replace(
            limits, reads=rng.choice((2, 3, 5)), calm=rng.choice((0.0, 0.0, 0.02)), few=rng.choice((0, 0, 2))
        )
        return SideBySide(self.limits, workers=4)

    def begins(self, sent: Sent, where: object) -> None:
        super().begins(sent, where)
        if not isinstance(where, Pipe):
            return  # a worker's: it passes others
        if where is not self.scheduler.active:
            assert reads(sent), "what acts is on a side"
            self.beside += 1
        for pipe, wire in self.wires.items():
            if pipe is where or pipe.state is not PipeState.ACTIVE:
                continue
            for earlier in wire.sent:
                if earlier.where is pipe and earlier.number < sent.number:
                    assert reads(earlier), "it passes what acts"
                    assert reads(sent), "it passes a read"
                    shared = set(things_of(earlier.command)) & set(things_of(sent.command))
                    assert not shared, "it passes a read of the same thing"


class Orderly(Beside):
    """One in which nothing is slow or lost."""

    def __init__(self, seed: int) -> None:
        super().__init__(2 * seed)
        self.state = -1
        self.count = 0
        self.seen: dict[str, int] = {}

    def submit(self) -> None:
        rng = self.random
        if rng.random() < 0.5:
            verb, args = rng.choice(VERBS[:10])
        else:
            verb, args = rng.choice(VERBS)
        keys = (args.strip(),) if verb.startswith("uuid_") else ()
        command = Command(f"api {verb}{args} {len(self.sent)}\n\n", verb, nobody, nobody, keys)
        sent = Sent(len(self.sent), command, rng.choice((0.0, 0.0001, 0.004)), self.now)
        self.sent.append(sent)
        self.by_command[command] = sent
        self.carry_out(self.scheduler.submit(command, self.now))

    def answers(self, pipe: Pipe, wire: Wire) -> None:
        texts: list[str] = []
        while wire.sent and wire.free_at <= self.now and (not texts or self.random.random() < 0.8):
            sent = wire.sent.popleft()
            self.executed(sent)
            texts.append(str(sent.number))
            if wire.sent:
                wire.free_at = self.now + wire.sent[0].takes
        if texts:
            self.carry_out(self.scheduler.answered(pipe, texts, self.now))

    def executed(self, sent: Sent) -> None:
        """FreeSWITCH carries it out now."""
        if not reads(sent):
            self.state = sent.number
            return
        before = [each.number for each in self.sent[: sent.number] if not reads(each)]
        assert self.state == max(before, default=-1), f"{sent.command.text!r} sees {self.state}"
        for thing in things_of(sent.command):
            assert self.seen.get(thing, -1) < sent.number, f"of {thing!r} the older answer comes later"
            self.seen[thing] = sent.number


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("world", [Beside, Orderly])
def test_no_client_can_tell(world: type[Beside], part: int) -> None:
    beside = 0
    seeds = SEEDS[world.__name__]
    for seed in range(part * seeds // 4, (part + 1) * seeds // 4):
        made = world(seed)
        try:
            made.run()
            made.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        beside += made.beside
    assert beside > seeds // 2, "nothing ran side by side: the test shows nothing"


# -- one rule at a time


class Wide(Bench):
    """Three pipes, the active one first."""

    def __init__(self, **limits: float) -> None:
        super().__init__(replace(Limits(reads=3, few=2), **limits))  # type: ignore[arg-type]

    def scheduler_of(self, workers: int) -> Scheduler:
        return SideBySide(self.limits, workers)

    def link_up(self, jobs: bool = True) -> Pipe:
        pipe = super().link_up(jobs)
        self.sides = list(self.opening)
        for side in self.sides:
            self.opened(side)
        return pipe

    @property
    def pipes(self) -> list[Pipe]:
        return [self.lane, *self.sides]

    def counts(self) -> list[int]:
        return [len(self.sent_on(pipe)) for pipe in self.pipes]


def names(verb: str, count: int) -> list[str]:
    return [f"{verb} {number}" for number in range(count)]


@pytest.fixture
def wide() -> Wide:
    bench = Wide()
    bench.know("echo", "uuid_dump", "uuid_setvar", "status", "show", "user_exists")
    bench.wait(1.0)
    return bench


def many(bench: Wide, *texts: str) -> None:
    """All in one flush."""
    for text in texts:
        words = text.split()
        keys = tuple(words[1:2]) if words[0].startswith("uuid_") else ()
        bench.did(bench.scheduler.submit(Command(f"api {text}\n\n", words[0], nobody, nobody, keys), bench.now))
    bench.did(bench.scheduler.flush(bench.now))


def test_reads_spread_evenly_when_they_are_many(wide: Wide) -> None:
    many(wide, *names("echo", 2))
    assert wide.counts() == [2, 0, 0], "few stay together"
    many(wide, *names("echo", 9)[2:])
    assert wide.counts() == [3, 3, 3] and wide.scheduler.ahead == 9


def test_what_acts_waits_for_the_reads_and_reads_behind_it_stay_with_it(wide: Wide) -> None:
    many(wide, *names("echo", 9), "uuid_setvar a", "echo after")
    assert sum(wide.counts()) == 9 and all(wide.counts())
    for side in wide.sides:
        assert "uuid_setvar a" not in wide.sent_on(wide.lane)
        wide.answer(*wide.sent_on(side), pipe=side)
    assert wide.sent_on(wide.lane)[-2:] == ["uuid_setvar a", "echo after"], "not for those on its own pipe"
    before = wide.counts()
    many(wide, *names("uuid_dump", 9))
    assert wide.counts() == [before[0] + 9, *before[1:]], "all behind it"
    wide.answer(*wide.sent_on(wide.lane))
    before = wide.counts()
    many(wide, *names("show", 1), *(f"echo more {number}" for number in range(8)))
    assert wide.counts() == [before[0] + 9, *before[1:]], "and so it stays for a moment"
    wide.answer(*wide.sent_on(wide.lane)[-9:])
    wide.wait(wide.limits.calm * 1.1)
    many(wide, *(f"echo again {number}" for number in range(9)))
    assert [now - then for now, then in zip(wide.counts(), before, strict=True)] == [9 + 3, 3, 3]


def test_reads_of_one_thing_go_to_one_pipe_while_it_is_read(wide: Wide) -> None:
    many(wide, *names("uuid_dump", 12), *names("uuid_dump", 12))
    on = [{pipe for pipe in wide.pipes if name in wide.sent_on(pipe)} for name in names("uuid_dump", 12)]
    assert all(len(pipes) == 1 for pipes in on) and len(set.union(*on)) > 1
    wide = Wide()
    wide.know("status", "show", "user_exists")
    wide.wait(1.0)
    many(wide, *(("status", "show channels", *(f"user_exists id {number} a" for number in range(12))) * 2))
    of_switch = [pipe for pipe in wide.pipes if {"status", "show channels"} & set(wide.sent_on(pipe))]
    assert len(of_switch) == 1, "the switch as a whole"
    assert len({pipe for pipe in wide.pipes if any("user_exists" in each for each in wide.sent_on(pipe))}) > 1


def test_a_verb_not_seen_to_be_quick_runs_on_the_active_pipe_with_nothing_behind_it(wide: Wide) -> None:
    many(wide, *names("md5", 9))
    assert wide.sent_on(wide.lane) == ["md5 0"] and wide.counts() == [1, 0, 0]
    wide.answer("x")
    assert sum(wide.counts()) == 9 and all(wide.counts())


def test_a_side_that_breaks_fails_what_was_on_it_and_is_opened_again(wide: Wide) -> None:
    many(wide, *names("echo", 9), "uuid_setvar a")
    lost = wide.sent_on(wide.sides[0])
    wide.end(wide.sides[0])
    assert {name: wide.results[name] for name in lost} == dict.fromkeys(lost, f"failed: {LOST}") and not wide.lost
    assert {wide.executed[name] for name in lost} == {"unknown"} and len(wide.scheduler.pipes()) == 2
    wide.answer(*wide.sent_on(wide.sides[1]), pipe=wide.sides[1])
    assert wide.sent_on(wide.lane)[-1] == "uuid_setvar a", "nothing is read there any more"
    wide.wait(wide.limits.again / 2)
    assert not wide.opening
    wide.answer(*wide.sent_on(wide.lane))
    wide.wait(wide.limits.again)
    again = wide.opening.pop()
    wide.end(again, "refused")
    wide.wait(wide.limits.again)
    (again,) = wide.opening
    wide.opened(again)
    assert len(wide.scheduler.pipes()) == 3 and not wide.scheduler.pending


def open_on(bench: Wide) -> list[str]:
    """What was sent on the active pipe and is not answered."""
    return [each for each in bench.sent_on(bench.lane) if each not in bench.results]


def test_a_side_whose_head_is_late_is_left_and_the_rest_asked_elsewhere(wide: Wide) -> None:
    many(wide, *names("uuid_dump", 9), "uuid_setvar 0", "uuid_setvar z")
    side = wide.sides[0]
    first, *others = wide.sent_on(side)
    for pipe in (wide.lane, wide.sides[1]):
        wide.answer(*wide.sent_on(pipe), pipe=pipe)
    assert "uuid_setvar z" not in wide.sent_on(wide.lane)
    wide.wait(wide.limits.late * 1.1)
    (further,) = wide.opening
    wide.opened(further)
    assert state_of(side) is PipeState.LEFT and len(wide.scheduler.pipes()) == 3
    assert open_on(wide) == others[:1], "as the verb is new again"
    wide.answer(*others[:1])
    assert open_on(wide)[: len(others) - 1] == others[1:]
    wide.answer(*others[1:])
    assert "uuid_setvar z" in wide.sent_on(wide.lane), "it does not wait for what hangs"
    many(wide, f"uuid_setvar {first.split()[1]}")
    key = f"uuid_setvar {first.split()[1]}"
    assert key not in wide.sent_on(wide.lane) and key not in wide.results, "but for its own channel"
    wide.answer(first, *others, pipe=side)
    wide.answer(*(name for name in wide.sent_on(wide.lane) if name not in wide.results))
    assert wide.results[first] == first and wide.closed == [side]
    assert key in wide.sent_on(wide.lane)


def test_a_side_that_is_never_answered_and_not_replaced_ends_the_link(wide: Wide) -> None:
    many(wide, *names("echo", 9))
    wide.answer(*wide.sent_on(wide.lane))
    on_sides = [name for side in wide.sides for name in wide.sent_on(side)]
    wide.wait(wide.limits.timeout + 1)
    assert [type(fault).__name__ for fault in wide.lost] == ["Frozen"] and set(wide.closed) == set(wide.pipes)
    assert all(wide.results[name].startswith("failed: ") for name in on_sides) and not wide.scheduler.pipes()


def test_the_sides_end_with_the_link_and_come_with_the_next(wide: Wide) -> None:
    many(wide, *names("echo", 9), "uuid_setvar a")
    before = wide.sides
    wide.end(wide.lane)
    assert set(before) <= set(wide.closed) and wide.results["uuid_setvar a"] == f"failed: {NOT_CONNECTED}"
    assert [wide.results[f"echo {number}"] for number in range(9)] == [f"failed: {LOST}"] * 9
    for side in before:
        wide.end(side, "closed")
    wide.link_up(jobs=False)
    assert len(wide.scheduler.pipes()) >= 1


def test_a_side_that_is_there_when_the_link_is_gone_is_closed() -> None:
    bench = Bench()
    bench.limits = Limits(reads=2)
    bench.scheduler = SideBySide(bench.limits, 4)
    lane = Pipe()
    bench.did(bench.scheduler.link_up(lane, bench.now))
    (side,) = [pipe for pipe in bench.opening if not pipe.for_jobs]
    bench.end(lane)
    bench.opened(side)
    assert side in bench.closed and not bench.scheduler.pipes()


def test_the_table_of_reading_verbs() -> None:
    assert not BESIDE & LISTED and BESIDE < READING.keys() and "eval" not in BESIDE
    assert TIMELESS <= BESIDE and OF_ONE <= BESIDE and not TIMELESS & OF_ONE
    order = Path("docs/API.md").read_text().partition("\n## Order\n")[2].partition("\n## ")[0]
    listed = order.partition("These verbs are:")[2].partition(". Reads of different")[0]
    assert set(re.findall(r"`([^`]+)`", listed)) == BESIDE


def test_sides_that_answer_too_late_do_not_end_the_link(wide: Wide) -> None:
    many(wide, *names("echo", 30))
    while any(pipe.inflight for pipe in wide.pipes):
        for pipe in wide.pipes:
            if pipe.inflight:
                wide.answer(name_of(pipe.inflight[0]), pipe=pipe)
        for _ in range(8):
            wide.wait(0.5)
    assert not wide.lost and not wide.closed
    late = [name for name, result in wide.results.items() if result == "failed: Command timed out after 30 seconds"]
    assert len(wide.results) == 30 and 3 <= len(late) < 30, "those whose turn came too late"
