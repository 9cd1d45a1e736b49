"""The jobs of bgapi, as the scheduler keeps them: those under way, and those that can't be sent yet. No rules."""

from __future__ import annotations

from collections import deque

from event_agent.freeswitch.command import Command
from event_agent.freeswitch.pipe import Pipe, PipeState


class Jobs:
    """Commands whose end an event tells, and the pipe on which that comes."""

    __slots__ = ("pipe", "open_at", "under_way", "aside")

    def __init__(self) -> None:
        self.pipe: Pipe | None = None
        self.open_at = 0.0  # before that the pipe is not opened again
        self.under_way: dict[str, Command] = {}  # by their Job-UUID, from when they are sent
        self.aside: deque[Command] = deque()  # there is no pipe yet on which their end would be heard

    def __len__(self) -> int:
        """All of them but those in the scheduler's queue."""
        return len(self.under_way) + len(self.aside)

    @property
    def heard(self) -> bool:
        """Whether the end of a job would be heard."""
        return self.pipe is not None and self.pipe.state is PipeState.ACTIVE
