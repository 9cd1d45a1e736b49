"""What the scheduler wants done, in the order in which it returns it."""

from __future__ import annotations

from dataclasses import dataclass

from event_agent.errors import LinkError
from event_agent.freeswitch.command import Command, Failure
from event_agent.freeswitch.pipe import Pipe


@dataclass(slots=True)
class Send:
    """Send this on a pipe. For one pipe the order of these is the order in which they were returned."""

    pipe: Pipe
    text: str


@dataclass(slots=True)
class Run:
    """Have a worker run it, and call `worked`. There are never more of them at a time than workers."""

    command: Command


@dataclass(slots=True)
class Done:
    """FreeSWITCH has answered it."""

    command: Command
    text: str


@dataclass(slots=True)
class Failed:
    """It has no answer."""

    command: Command
    failure: Failure


@dataclass(slots=True)
class OpenPipe:
    """Open a connection, and call `pipe_up` or `pipe_lost`."""

    pipe: Pipe


@dataclass(slots=True)
class ClosePipe:
    """End the connection, and call `pipe_lost`."""

    pipe: Pipe


@dataclass(slots=True)
class LinkLost:
    """The pipe that took commands is gone: connect anew, and call `link_up`."""

    fault: LinkError


@dataclass(slots=True)
class Room:
    """A caller that paused because there was no room may go on."""


@dataclass(slots=True)
class Crowded:
    """So many slow commands wait for a worker: somebody should hear of it. Once, until it is half as many."""

    waiting: int


Effect = Send | Run | Done | Failed | OpenPipe | ClosePipe | LinkLost | Room | Crowded
Effects = list[Effect]
