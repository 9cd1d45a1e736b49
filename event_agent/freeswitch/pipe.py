"""A connection that takes commands ahead of their answers, as the scheduler sees it: no socket, no rules of its own."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from enum import Enum

from event_agent.freeswitch.command import Command
from event_agent.freeswitch.ordering import linked
from event_agent.protocol.questions import READING


class PipeState(Enum):
    """See the table in scheduler.py."""

    OPENING = "opening"
    ACTIVE = "active"
    LEFT = "left"
    CLOSING = "closing"
    GONE = "gone"


def _asks(command: Command) -> bool:
    return command.verb in READING and not command.ended


def _nobody(_: object) -> None:
    """The scheduler's own commands are nobody's."""


ASKED_ELSEWHERE = Command("", "", _nobody, _nobody)  # in its place: its answer is not listened to
ASKED_ELSEWHERE.ended = True


class Pipe:
    """A connection, and the commands on it that are not answered. The lane has its socket."""

    __slots__ = ("state", "for_jobs", "inflight", "backlog", "size", "head_since", "barrier", "doubtful")

    def __init__(self, for_jobs: bool = False) -> None:
        self.state = PipeState.OPENING
        self.for_jobs = for_jobs  # it carries no commands, and hears of the end of each job
        self.inflight: deque[Command] = deque()
        self.backlog: deque[Command] = deque()  # of one that was left: what waits for the channels it is busy with
        self.size = 0  # characters of what is in flight
        self.head_since = 0.0  # when the command at the head became the head
        self.barrier: Command | None = None  # in flight, its verb not known to be quick: nothing goes behind it
        self.doubtful: Command | None = None  # the last in flight that may hang: nothing that acts goes behind it

    def silent(self, now: float) -> float:
        """Seconds for which the command at the head has not been answered; 0 while there is none."""
        return now - self.head_since if self.inflight else 0.0

    def take_questions(self, queue: Collection[Command]) -> tuple[list[Command], set[str]]:
        """What may be asked again elsewhere: it only asks, and has no channel that this pipe stays busy with.

        With it those channels: of what stays here, and all that commands here or in the queue link with them.
        """
        stay = {key for place, each in enumerate(self.inflight) if not place or not _asks(each) for key in each.keys}
        stay = linked(stay, (*self.inflight, *queue))
        taken: list[Command] = []
        for place, each in enumerate(self.inflight):
            if place and _asks(each) and stay.isdisjoint(each.keys):
                taken.append(each)
                self.size -= len(each.text)
                self.inflight[place] = ASKED_ELSEWHERE
        return taken, stay

    def take(self) -> list[Command]:
        """Nothing on it is waited for any longer."""
        taken = [command for command in self.inflight if command is not ASKED_ELSEWHERE]
        self.inflight.clear()
        self.size = 0
        return taken
