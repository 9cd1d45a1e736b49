"""One command on its way to FreeSWITCH, and the last guard before it: a command is exactly one frame.

A blank line ends a frame, so a line break that came in with somebody's data would be a second command, and every later
answer would go to the wrong client. What makes a text checks what goes into it; this is for what slipped through.
Source: mod_event_socket.c, read_packet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum

from event_agent.errors import BadCommand

MAX_HEAD = 1024 * 1024  # bytes; FreeSWITCH ends a block of headers at 10 MB, wherever that is
_NAME = re.compile(r"[A-Za-z0-9_-]+\Z")
_LENGTH = re.compile(r"[0-9]{1,9}\Z")
_ONLY = {"api": frozenset[str](), "bgapi": frozenset(("job-uuid",))}  # the headers that these have; others have any


class Executed(Enum):
    """Whether FreeSWITCH has carried out a command that has no answer; the values are what clients read."""

    NO = "no"  # nor will it
    UNKNOWN = "unknown"  # it may have, be at it, or do it later


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a command has no answer, for its sender."""

    why: str
    executed: Executed
    unreachable: bool = False  # there was no link to FreeSWITCH

    def __str__(self) -> str:
        return self.why


@dataclass(eq=False)
class Command:
    """One command on its way to FreeSWITCH; exactly one of `done` and `failed` is called, once, on any thread.

    Without slots, what the scheduler sets later is the class's until then, and costs nothing when one is made.
    """

    text: str  # the ESL command with its closing blank line
    verb: str  # what it is filed under when it turns out slow
    done: Callable[[str], None]  # given FreeSWITCH's answer
    failed: Callable[[Failure], None]  # told why there is no answer
    keys: tuple[str, ...] = ()
    job: str = ""  # the Job-UUID of a bgapi whose end is to be waited for
    slow: bool = False  # known to be slow by its maker
    limit: float = 0.0  # seconds it may take; 0 is the lane's own limit
    patient: bool = False  # nobody waits for its answer: it need not be noticed at once that it is late
    deadline: float = field(default=0.0, init=False)  # time.monotonic() by which it must be answered
    sent: bool = field(default=False, init=False)  # FreeSWITCH may have got it
    sent_at: float = field(default=0.0, init=False)  # time.monotonic() of that
    ended: bool = field(default=False, init=False)
    things: tuple[str, ...] = field(default=(), init=False)  # of a read: see side_by_side.py


def timed_out(command: Command) -> str:
    """The error of a command whose time is over."""
    return f"Command timed out after {command.limit:g} seconds"


def fault_of(text: str) -> str:
    """Why this is not exactly one frame, without any of its text; empty when it is one."""
    end = len(text) - 2
    # What nearly every command is: one line and the blank line behind it. This costs 0.2 µs.
    if 0 < end < MAX_HEAD and text.find("\n") == end and text[-1] == "\n" and text.isascii():
        return "" if "\r" not in text and "\0" not in text else "a carriage return or NUL"
    return _fault_of(text)


def _fault_of(text: str) -> str:
    """The same for every other shape: several headers, a body, UTF-8."""
    head, blank, body = text.partition("\n\n")
    if "\0" in text or "\r" in head:
        return "a carriage return or NUL"
    if not blank or not head or head[0] == "\n":
        return "no blank line at its end, or nothing before it"
    try:
        size = len(head.encode()), len(body.encode())
    except UnicodeEncodeError:
        return "a character that UTF-8 does not have"
    if size[0] >= MAX_HEAD:
        return f"{size[0]} bytes before its blank line"
    first, *lines = head.split("\n")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not _NAME.match(name):
            return "a line that is not a header"
        if name.lower() in headers:
            return "a header twice"
        headers[name.lower()] = value.strip(" ")
    allowed = _ONLY.get(first.partition(" ")[0])
    if allowed is not None and not headers.keys() <= allowed:
        return "a line break in its first line"
    declared = headers.get("content-length")
    if declared is None:
        return "text behind its blank line" if body else ""
    if not _LENGTH.match(declared):
        return "a content-length that is no number"
    if int(declared) != size[1]:
        return f"a body of {size[1]} bytes where its content-length says {int(declared)}"
    return ""


def as_frames(texts: Iterable[str]) -> str:
    """Several commands as one text to send. Raises BadCommand when one of them is not exactly one frame."""
    checked = list(texts)
    for text in checked:
        if fault := fault_of(text):
            raise BadCommand(fault)
    return "".join(checked)
