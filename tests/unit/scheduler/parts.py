"""A scheduler on a bench: what it wants done is carried out here, by hand, without a thread."""

from __future__ import annotations

from event_agent.errors import LinkError
from event_agent.freeswitch.command import Command, Executed
from event_agent.freeswitch.effects import (
    ClosePipe,
    Crowded,
    Done,
    Effect,
    Effects,
    Failed,
    LinkLost,
    OpenPipe,
    Room,
    Run,
    Send,
)
from event_agent.freeswitch.pipe import Pipe, PipeState
from event_agent.freeswitch.scheduler import Limits, Scheduler
from event_agent.freeswitch.wire import NUDGE

TOO_MANY_SLOW = "Too many slow commands are waiting for FreeSWITCH"


def never(_: object) -> None:
    raise AssertionError("the scheduler calls nobody")


class Bench:
    """A scheduler, what it has asked for, and what became of each command."""

    def __init__(self, limits: Limits | None = None, workers: int = 4, up: bool = True) -> None:
        self.limits = limits or Limits()
        self.scheduler = self.scheduler_of(workers)
        self.now = 100.0
        self.sent: dict[Pipe, list[str]] = {}
        self.running: list[Command] = []
        self.opening: list[Pipe] = []
        self.closed: list[Pipe] = []
        self.results: dict[str, str] = {}
        self.executed: dict[str, str] = {}  # of those that failed
        self.ran: set[str] = set()  # by workers
        self.lost: list[LinkError] = []
        self.crowded: list[int] = []
        self.rooms = 0
        self.nudges = 0
        if up:
            self.link_up()

    def scheduler_of(self, workers: int) -> Scheduler:
        return Scheduler(self.limits, workers)

    def link_up(self, jobs: bool = True) -> Pipe:
        """A link; returns its pipe."""
        pipe = Pipe()
        self.did(self.scheduler.link_up(pipe, self.now))
        if jobs:
            (self.jobs,) = [each for each in self.opening if each.for_jobs]
            self.opened(self.jobs)
        self.lane = pipe
        return pipe

    def did(self, effects: Effects) -> list[Effect]:
        for effect in effects:
            if isinstance(effect, Send):
                assert effect.pipe.state is PipeState.ACTIVE and effect.text
                if effect.text == NUDGE:
                    assert effect.pipe.for_jobs
                    self.nudges += 1
                else:
                    assert not effect.pipe.for_jobs
                    texts = effect.text.split("\n\n")[:-1]
                    found = [each.removeprefix("api ").removeprefix("bgapi ") for each in texts]
                    assert not self.executed.keys() & set(found), "its client was told that it has failed"
                    self.sent.setdefault(effect.pipe, []).extend(found)
            elif isinstance(effect, Run):
                self.running.append(effect.command)
            elif isinstance(effect, (Done, Failed)):
                name = name_of(effect.command)
                assert name not in self.results, f"{name} ended twice"
                if isinstance(effect, Done):
                    self.results[name] = effect.text
                else:
                    self.results[name] = f"failed: {effect.failure}"
                    self.executed[name] = effect.failure.executed.value
                    sent = name in self.ran or any(name in each for each in self.sent.values())
                    assert (effect.failure.executed is Executed.UNKNOWN) == sent, name
            elif isinstance(effect, OpenPipe):
                self.opening.append(effect.pipe)
            elif isinstance(effect, ClosePipe):
                assert effect.pipe not in self.closed, "closed twice"
                self.closed.append(effect.pipe)
            elif isinstance(effect, LinkLost):
                self.lost.append(effect.fault)
            elif isinstance(effect, Crowded):
                self.crowded.append(effect.waiting)
            else:
                assert isinstance(effect, Room)
                self.rooms += 1
        return list(effects)

    def put(
        self, *texts: str, keys: tuple[str, ...] = (), job: str = "", slow: bool = False, limit: float = 0.0,
        patient: bool = False,
    ) -> None:  # fmt: skip
        """Submit commands, named by their text, and flush. `uuid_x a` is a command for channel a."""
        for text in texts:
            words = text.split()
            own = keys or (tuple(words[1:]) if words[0].startswith("uuid_") else ())
            verb = "bgapi" if job else words[0]
            text = f"bgapi {text}\n\n" if job else f"api {text}\n\n"
            self.did(self.scheduler.submit(Command(text, verb, never, never, own, job, slow, limit, patient), self.now))
        self.did(self.scheduler.flush(self.now))

    def know(self, *verbs: str) -> None:
        """Have these verbs prove to be quick."""
        for verb in verbs:
            self.put(verb)
            self.answer(verb)
            del self.results[verb]
        self.sent[self.lane].clear()

    def answer(self, *texts: str, pipe: Pipe | None = None) -> None:
        self.did(self.scheduler.answered(pipe or self.lane, texts, self.now))

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.did(self.scheduler.tick(self.now))

    def full(self) -> tuple[bool, int]:
        """Whether it is, and how often it was said that there is room again."""
        return self.scheduler.flow.full, self.rooms

    def opened(self, pipe: Pipe) -> None:
        self.opening.remove(pipe)
        self.did(self.scheduler.pipe_up(pipe, self.now))

    def move(self) -> Pipe:
        """The lane moves on to another pipe; returns the old one."""
        (pipe,) = self.opening
        self.opened(pipe)
        before, self.lane = self.lane, pipe
        return before

    def end(self, pipe: Pipe, why: str = "broke") -> None:
        self.did(self.scheduler.pipe_lost(pipe, LinkError(why), self.now))

    def worked(self, text: str, answer: str = "+OK", why: str = "", sent: bool = True) -> None:
        (command,) = [each for each in self.running if name_of(each) == text]
        self.running.remove(command)
        if sent:
            command.sent = True
            self.ran.add(text)
        self.did(self.scheduler.worked(command, answer, why, self.now))

    def sent_on(self, pipe: Pipe) -> list[str]:
        return self.sent.get(pipe, [])

    @property
    def at_work(self) -> list[str]:
        return [name_of(each) for each in self.running]


def state_of(pipe: Pipe) -> PipeState:
    return pipe.state


def name_of(command: Command) -> str:
    return command.text.removesuffix("\n\n").removeprefix("api ").removeprefix("bgapi ")
