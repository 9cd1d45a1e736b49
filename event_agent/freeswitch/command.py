"""One command on its way to FreeSWITCH."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True, eq=False)
class Command:
    """One command on its way to FreeSWITCH; exactly one of `done` and `failed` is called, once, on any thread."""

    text: str  # the ESL command with its closing blank line
    verb: str  # what it is filed under when it turns out slow
    done: Callable[[str], None]  # given FreeSWITCH's answer
    failed: Callable[[str], None]  # given a message for the caller
    keys: tuple[str, ...] = ()
    job: str = ""  # the Job-UUID of a bgapi whose end is to be waited for
    slow: bool = False  # known to be slow by whoever made it
    limit: float = 0.0  # seconds it may take; 0 is the lane's own limit
    deadline: float = 0.0  # time.monotonic() by which it must be answered
    sent: float = 0.0  # time.monotonic() at which it was sent
    held: bool = False  # its keys are held
    waits: int = 0  # keys it still waits for
    dead: bool = False  # it has failed while it waited: when its turn comes, it only makes way for the next


def timed_out(command: Command) -> str:
    """What a command is told whose time is over."""
    return f"Command timed out after {command.limit:g} seconds"
