"""One connection of the command lane with what was sent on it, and the `bgapi` jobs whose end is awaited.

No threads and no locks of their own: the lane calls both with its lock held, but where it says otherwise.
"""

from __future__ import annotations

import json
from collections import deque

from event_agent.errors import LinkError
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.frames import Frame

WINDOW = 512  # commands sent ahead of their replies
WINDOW_BYTES = 131072  # of their text; more could fill the socket's buffer and block the sender


class Pipe:
    """A connection, and the commands on it that are not answered."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.inflight: deque[Command] = deque()
        self.backlog: deque[Command] = deque()  # of a retired one: what waits for the channels it is busy with
        self.bytes = 0
        self.head_since = 0.0  # time.monotonic() at which the command at the head became the head
        self.retired = False  # left to a slow command: nothing more is sent on it
        self.hears_jobs = False

    @property
    def full(self) -> bool:
        """True when nothing may be sent ahead."""
        return len(self.inflight) >= WINDOW or self.bytes >= WINDOW_BYTES

    def put(self, command: Command, now: float) -> None:
        """The command is about to be sent."""
        if not self.inflight:
            self.head_since = now
        self.inflight.append(command)
        self.bytes += len(command.text)

    def answered(self, now: float) -> tuple[Command, float]:
        """The command at the head, and the seconds it took. Raises LinkError where there is none."""
        if not self.inflight:
            raise LinkError("FreeSWITCH answered what it was not asked")
        command = self.inflight.popleft()
        self.bytes -= len(command.text)
        took, self.head_since = now - self.head_since, now
        return command, took

    def send(self, text: str) -> None:
        """Send; a link that is broken is reported to whoever reads from it."""
        try:
            self.connection.send(text)
        except LinkError:
            self.connection.abort()


class Jobs:
    """Commands that FreeSWITCH runs in the background: they end when an event says so."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}

    def __len__(self) -> int:
        return len(self._commands)

    def add(self, command: Command) -> None:
        """FreeSWITCH took it."""
        self._commands[command.job] = command

    def ended(self, frame: Frame) -> tuple[Command, str] | None:
        """The command whose end the event tells of, and its output; None for a job of somebody else."""
        try:
            event = json.loads(frame.body.decode(errors="replace"))
        except (ValueError, RecursionError):
            event = None
        if not isinstance(event, dict):
            raise LinkError("FreeSWITCH sent an event that is not JSON")
        command = self._commands.pop(str(event.get("Job-UUID")), None)
        return None if command is None else (command, str(event.get("_body", "")))

    def take_late(self, now: float) -> list[Command]:
        """Those whose time is over; they are no longer waited for."""
        late = [command for command in self._commands.values() if command.deadline <= now]
        for command in late:
            del self._commands[command.job]
        return late

    def take_all(self) -> list[Command]:
        """All of them; none is waited for any longer."""
        commands, self._commands = list(self._commands.values()), {}
        return commands
