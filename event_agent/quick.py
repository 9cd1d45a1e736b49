"""What each event passes, in C (`compiled/`), as far as this installation has it; and what keeps the memory small.

Each function for events has a twin in Python beside its caller, which does the same and more: it takes what the
compiled one leaves. So all works without, and an event costs about half as much again. tests/unit/test_quick.py holds
the two against each other, with recorded, random and hostile input.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, Protocol, cast

PLAIN = "EVENT_AGENT_PLAIN"  # in the environment, not empty: Python alone, to measure or to search for a fault
REMEDY = f"unset {PLAIN}" if os.environ.get(PLAIN) else "install event-agent where there is a C compiler"


class Compiled(Protocol):
    """The module. Raises nothing but MemoryError if it is called as it says here. Any thread; it holds the GIL."""

    def frames(self, data: bytes, pos: int, found: list[Any], frame: type, head: bytes, /) -> int:
        """Cut the usual events and answers that stand from `pos` on: `found` gets `frame((head, body))` of each.

        The head of an event is `head`. Returns where it has ended: at something else, or at a frame that is not there
        as a whole.
        """
        ...

    def cuts(
        self, events: Sequence[Any], at: int, found: list[Any], kinds: Mapping[bytes, Any], to_stamp: int, node: bytes,
        ids: bool, cut: type, rules: tuple[tuple[bytes, ...], ...] | None, /,
    ) -> int:  # fmt: skip
        """What is published of events[at:], up to the first that has not the usual shape; returns its place.

        `found` gets `cut(...)` of each, the events get their `unique`, the kinds count. See EventEncoder, and for
        `rules` Carried.rules; None: all headers.
        """
        ...

    def pubs(self, events: Sequence[Any], most: int, /) -> bytes | None:
        """The PUB of each, one behind the other; None if a subject is longer than `most` bytes."""
        ...

    def hpubs(self, taken: Sequence[tuple[int, Any]], inbox: bytes, expect: bytes, /) -> list[bytes]:
        """The HPUB of each (ticket, event): with its id and, behind that, `expect`; answered to `inbox` + ticket."""
        ...

    def limit_arenas(self, more: int, /) -> None:
        """Python's own allocator gets so many arenas more than it has; the C library's serves what does not fit."""
        ...

    def messages(self, data: bytes, pos: int, found: list[Any], message: type, inbox: bytes, /) -> int:
        """Cut the MSGs that stand from `pos` on: `found` gets `message(...)` of each.

        Of those to `inbox` and a number that say that a stream has stored something, it gets lists of the numbers.
        Returns where it has ended: at something else, or at a message that is not there as a whole.
        """
        ...


compiled: Compiled | None
try:
    compiled = None if os.environ.get(PLAIN) else cast(Compiled, import_module("event_agent._quick"))
except ImportError:
    compiled = None
