"""The scheduler against a simple model of FreeSWITCH: random commands, hangs and faults, on a clock of its own.

Of each run it is checked that every command ends exactly once, that what acts is not sent twice, that nothing is sent
after it has failed, that a failure says whether it may be carried out, that commands of one channel are carried out in
the order in which they came, and that a slow one holds nobody up.
"""

from __future__ import annotations

import itertools
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from event_agent.errors import LinkError
from event_agent.freeswitch.command import Command, Executed
from event_agent.freeswitch.effects import ClosePipe, Done, Effects, Failed, LinkLost, OpenPipe, Run, Send
from event_agent.freeswitch.pipe import Pipe, PipeState
from event_agent.freeswitch.scheduler import Limits, Scheduler
from event_agent.freeswitch.slow_verbs import STEADY
from event_agent.freeswitch.wire import NUDGE
from event_agent.protocol.questions import READING

SEEDS = 1500
STEPS = 120
QUICK = ("echo", "show", "uuid_kill", "uuid_setvar", "uuid_getvar", "uuid_x")
UNHEARD = 1e9


def nobody(_: object) -> None:
    raise AssertionError("the scheduler calls nobody")


@dataclass(eq=False)
class Sent:
    """A command as the model knows it."""

    number: int
    command: Command
    takes: float  # seconds FreeSWITCH takes for it
    came: float
    where: object = None  # the pipe, or itself where a worker has it
    place: int = -1  # on that pipe
    behind: float = 0.0  # seconds that what was sent before it there still takes
    result: str = ""
    ended: float = UNHEARD


@dataclass
class Wire:
    """A pipe of the model's FreeSWITCH: it carries out what was sent, one after the other."""

    sent: deque[Sent] = field(default_factory=deque)
    count: int = 0
    free_at: float = 0.0  # when the command at the head ends
    lost: bool = False


class World:
    """FreeSWITCH, the clients and the lane, all in one thread."""

    verbs: tuple[str, ...] = (*QUICK, *QUICK, "msleep")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.calm = seed % 2 == 0
        self.limits = Limits(timeout=1000.0 if self.calm else 3.0, window=self.random.choice((2, 8, 512)), pipes=200)
        self.scheduler = self.scheduler_of(self.limits)
        self.now = 100.0
        self.wires: dict[Pipe, Wire] = {}
        self.numbers = itertools.count()
        self.events: list[tuple[float, int, object, str]] = []  # what will happen: when, a number, to what, and how
        self.by_command: dict[Command, Sent] = {}
        self.sent: list[Sent] = []
        self.relink_at = self.now
        self.tick_at = self.now

    def scheduler_of(self, limits: Limits) -> Scheduler:
        return Scheduler(limits, workers=4)

    # -- clients

    def submit(self) -> None:
        rng = self.random
        keys = tuple(rng.sample("abcd", rng.choice((0, 0, 1, 1, 2))))
        job = f"job-{len(self.sent)}" if rng.random() < 0.1 else ""
        verb = "bgapi" if job else rng.choice(self.verbs)
        takes = 0.0 if rng.random() < 0.9 and verb != "msleep" else rng.choice((0.01, 0.1, 0.4, 2.0, 8.0))
        if not self.calm and rng.random() < 0.02:
            takes = UNHEARD
        text = f"{'bgapi' if job else f'api {verb}'} {len(self.sent)}\n\n"
        limit = 0.0 if rng.random() < 0.8 or self.calm else rng.choice((0.2, 1.0, 20.0))
        command = Command(text, verb, nobody, nobody, () if job else keys, job, limit=limit)
        sent = Sent(len(self.sent), command, 0.0 if job else takes, self.now)
        self.sent.append(sent)
        self.by_command[command] = sent
        self.carry_out(self.scheduler.submit(command, self.now))

    # -- the lane

    def carry_out(self, effects: Effects) -> None:
        for effect in effects:
            if isinstance(effect, Send):
                if effect.text != NUDGE:
                    self.receive(effect.pipe, effect.text)
            elif isinstance(effect, Run):
                sent = self.by_command[effect.command]
                self.begins(sent, sent)
                effect.command.sent = True
                self.later(min(sent.takes, max(0.0, effect.command.deadline - self.now)), sent, "worked")
            elif isinstance(effect, (Done, Failed)):
                self.ends(effect)
            elif isinstance(effect, OpenPipe):
                refused = not self.calm and self.random.random() < 0.2
                self.later(self.random.choice((0.001, 0.02)), effect.pipe, "refused" if refused else "opened")
            elif isinstance(effect, ClosePipe):
                if effect.pipe in self.wires:
                    self.later(0.0, effect.pipe, "lost")
            elif isinstance(effect, LinkLost):
                self.relink_at = self.now + self.random.choice((0.01, 0.5))
        if self.scheduler.hurry or self.scheduler.ahead:
            self.tick_at = min(self.tick_at, self.now + self.scheduler.pace(self.now))

    def ends(self, effect: Done | Failed) -> None:
        sent = self.by_command[effect.command]
        assert not sent.result, "it ended twice"
        sent.result = effect.text if isinstance(effect, Done) else f"failed: {effect.failure}"
        sent.ended = self.now
        if isinstance(effect, Done):
            assert sent.where is not None, "answered, and never sent"
        else:
            unknown = effect.failure.executed is Executed.UNKNOWN
            assert unknown == (sent.where is not None), "its client is told the wrong thing"

    def later(self, seconds: float, what: object, how: str) -> None:
        self.events.append((self.now + seconds, next(self.numbers), what, how))

    # -- FreeSWITCH

    def begins(self, sent: Sent, where: object) -> None:
        """It was sent, or given to a worker: check that it may."""
        again = isinstance(sent.where, Pipe) and sent.where.state is not PipeState.ACTIVE
        assert sent.where is None or again and sent.command.verb in READING, "sent twice"
        assert not sent.result, "its client was told that it has failed"
        sent.where = where
        sent.place = self.wires[where].count if isinstance(where, Pipe) else 0
        for earlier in self.sent[: sent.number]:
            if not set(earlier.command.keys).isdisjoint(sent.command.keys) and not earlier.result:
                assert earlier.where is where and earlier.place < sent.place, "it overtakes one of its channel"

    def receive(self, pipe: Pipe, text: str) -> None:
        wire = self.wires[pipe]
        for each in text.split("\n\n")[:-1]:
            sent = self.sent[int(each.split()[-1])]
            self.begins(sent, pipe)
            sent.behind = sum(each.takes for each in wire.sent)
            wire.count += 1
            if not wire.sent:
                wire.free_at = self.now + sent.takes
            wire.sent.append(sent)

    def answers(self, pipe: Pipe, wire: Wire) -> None:
        """Answer what has ended on a pipe, in one read or in several."""
        texts: list[str] = []
        while wire.sent and wire.free_at <= self.now and (not texts or self.random.random() < 0.8):
            sent = wire.sent.popleft()
            if sent.command.job:
                texts.append("+OK" if self.random.random() < 0.9 else "-ERR no")
                if texts[-1] == "+OK":
                    self.later(self.random.choice((0.0, 0.1, 2.0)), sent.command.job, "job")
            else:
                texts.append(str(sent.number))
            if wire.sent:
                wire.free_at = self.now + wire.sent[0].takes
        if texts:
            self.carry_out(self.scheduler.answered(pipe, texts, self.now))

    # -- time

    def happens(self, what: object, how: str) -> None:
        scheduler = self.scheduler
        if isinstance(what, Sent):
            late = what.takes > 0 and self.now >= what.command.deadline
            self.carry_out(
                scheduler.worked(what.command, "" if late else str(what.number), "late" if late else "", self.now)
            )
        elif isinstance(what, str):
            self.carry_out(scheduler.job_ended(what, "ended", self.now))
        elif isinstance(what, Pipe):
            if how == "opened":
                self.wires[what] = Wire()
                self.carry_out(scheduler.pipe_up(what, self.now))
            elif how == "refused" or what in self.wires:
                self.wires.pop(what, None)
                self.carry_out(scheduler.pipe_lost(what, LinkError("it broke"), self.now))

    def move_on(self, seconds: float) -> None:
        """Let time pass, from one thing that happens to the next."""
        until = self.now + seconds
        while self.now < until:
            ends = [wire.free_at for wire in self.wires.values() if wire.sent]
            relink = [] if self.scheduler.up else [self.relink_at]
            following = min([until, self.tick_at, *relink, *ends, *(when for when, *_ in self.events)])
            self.now = min(until, max(following, self.now) + self.random.choice((0.0001, 0.005)))
            due = sorted(each for each in self.events if each[0] <= self.now)
            self.events = [each for each in self.events if each[0] > self.now]
            for _, _, what, how in due:
                self.happens(what, how)
            for pipe, wire in list(self.wires.items()):
                if pipe in self.wires:
                    self.answers(pipe, wire)
            if not self.scheduler.up and self.now >= self.relink_at:
                pipe = Pipe()
                self.wires[pipe] = Wire()
                self.carry_out(self.scheduler.link_up(pipe, self.now))
            if self.now >= self.tick_at:
                self.carry_out(self.scheduler.tick(self.now))
                self.tick_at = self.now + self.scheduler.pace(self.now)

    def run(self) -> None:
        rng = self.random
        self.move_on(0.1)
        for _ in range(STEPS):
            fate = rng.random()
            if fate < 0.7:
                self.submit()
            elif fate < 0.9 or self.calm:
                self.carry_out(self.scheduler.flush(self.now))
                self.move_on(rng.choice((0.0, 0.001, 0.03)))
            elif fate < 0.97:
                self.move_on(rng.choice((0.1, 0.5)))
            elif self.wires:
                self.later(0.0, rng.choice(list(self.wires)), "lost")
        self.carry_out(self.scheduler.flush(self.now))
        rounds = 0
        while self.scheduler.pending:
            self.move_on(0.2)
            rounds += 1
            assert rounds < 500, [each for each in self.sent if not each.result]

    def check(self) -> None:
        assert all(each.result for each in self.sent), "one never ended"
        for each in self.sent:
            assert each.result in (str(each.number), "ended", "-ERR no") or each.result.startswith("failed: ")
        if not self.calm:
            return
        assert not [each.result for each in self.sent if each.result.startswith("failed: ")]
        for each in self.sent:
            in_pool = each.where is each  # its verb is slow, or has turned out to be
            if not each.command.keys and not each.takes and not each.command.job and not in_pool:
                self.check_not_held_up(each)

    def check_not_held_up(self, sent: Sent) -> None:
        """A quick command without a channel waits for nobody, but for what it was sent behind."""
        before = [each for each in self.sent if each.number < sent.number and each.ended > sent.came]
        hanging = [each for each in before if each.takes and each.where is not each]
        # Of those that hang on the lane one after the other reaches the head, is noticed, and the lane moves on.
        limits = self.limits
        most = 0.1 + sent.behind + sum(
            (limits.stalled if each.command.verb in STEADY and not each.command.keys else limits.late) + 0.05
            for each in hanging
        )
        assert sent.ended - sent.came <= most, f"{sent.command.text!r} waited {sent.ended - sent.came:.2f} s"


@pytest.mark.parametrize("part", range(4))
def test_the_rules_hold_whatever_happens(part: int) -> None:
    for seed in range(part * SEEDS // 4, (part + 1) * SEEDS // 4):
        world = World(seed)
        try:
            world.run()
            world.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
