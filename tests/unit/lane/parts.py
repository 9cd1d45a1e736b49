"""A lane with its threads, on a FreeSWITCH that is a fake."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

from event_agent.errors import LinkError
from event_agent.freeswitch.command import Command, Failure
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.lane import CommandLane
from event_agent.freeswitch.pool import WorkerPool
from event_agent.freeswitch.scheduler import Limits
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.link import Link, LinkState, LinkStatus
from event_agent.runtime.loop import Loop
from tests.support import until
from tests.switchsim.in_process import HELD, FakeConnection, FakeSwitch

SUBSCRIBE = "event json BACKGROUND_JOB"
IMPATIENT = Limits(timeout=5.0, tick=0.01, idle=0.01, late=0.03, hurry=0.002, again=0.01)
CALM = replace(IMPATIENT, late=5.0)
THREADS = ("io", "esl-lane", "esl-watch", "esl-worker")


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

    def _failed(self, failure: Failure) -> None:
        self.failure = failure
        self.tell(f"failed: {failure}")

    @property
    def result(self) -> str:
        assert self.ended.wait(5), f"never finished: {self.command.text!r}"
        assert len(self.told) == 1, self.told
        return self.told[0]


class Lane:
    """A lane on a fake switch, and what it said."""

    def __init__(self, switch: FakeSwitch, limits: Limits, workers: int) -> None:
        self.switch = switch
        self.rooms = 0
        self.ups: list[int] = []
        self.downs: list[str] = []
        self.faults: list[LinkError | None] = []
        self.batches = 0  # that were entered, but for those within others
        self.own = threading.local()
        self.pool = WorkerPool(switch.connect, workers)
        self.loop = Loop()
        self.loop.start()
        link = Link()
        link.observe(self._changed)
        self.lane = CommandLane(
            self.loop, self._connect, self.pool, self, link, limits, self._room, Backoff(0.01, 0.02)
        )

    def _changed(self, status: LinkStatus) -> None:
        if status.up:
            self.ups.append(1)
        elif status.state is LinkState.DOWN:
            self.downs.append(status.reason)
            self.faults.append(status.fault)

    def _room(self) -> None:
        self.rooms += 1

    def _connect(self, fresh: bool) -> Connection:
        return self.switch.connect(fresh)

    def __enter__(self) -> None:
        depth = getattr(self.own, "depth", 0)
        self.batches += not depth
        self.own.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self.own.depth -= 1

    def start(self) -> Lane:
        self.lane.start()
        until(lambda: self.lane.connected and self.ups, "connected")
        until(lambda: len(self.switch.open) == 2, "the pipe for jobs, too")
        until(lambda: not self.lane.scheduler._jobs.aside and self.jobs.sent, "it hears")
        return self

    @property
    def first(self) -> FakeConnection:
        """The connection that commands went to at first."""
        return self.switch.connections[0]

    @property
    def jobs(self) -> FakeConnection:
        """The connection on which the ends of jobs are heard."""
        return self.switch.connections[1]

    @property
    def commands(self) -> list[str]:
        """All that was sent but for what the lane sends of its own."""
        return [each for each in self.switch.sent if each != SUBSCRIBE]

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


def holds_back(_: FakeConnection, command: str) -> str | None:
    """Never answers to what is not the lane's own."""
    return "+OK" if command == SUBSCRIBE else HELD


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
