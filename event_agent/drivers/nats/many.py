"""Subscriptions by the thousand: one for each of many subjects that come and go, all handed to one callee.

Each costs a line when it begins and one when it ends, nothing is waited for, and a new link gets all of them in one
write. A subject that has ended is still handed on: what was on its way when we unsubscribed is answered.

The server may refuse them: our account may not subscribe there. That is one line in the log, and no further subject of
that kind, with a wildcard or without, is asked for on that link.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable

from event_agent.drivers.base import Deliver, ManySubjects
from event_agent.drivers.nats.connection import MANY, NatsClient
from event_agent.drivers.nats.wire import CONTROL_LINE
from event_agent.errors import AgentError, LinkError

log = logging.getLogger(__name__)

SID = 24  # bytes at most of what else is on the line of a subscription
VIOLATION = "Permissions Violation for Subscription to "


class NatsMany(ManySubjects):
    """See the module's text. Any thread may call it."""

    def __init__(self, deliver: Deliver) -> None:
        self.deliver = deliver
        self._lock = threading.Lock()  # guards what follows, and the order of lines. Under it the sender's is taken
        self._numbers: dict[str, int] = {}
        self._next = MANY
        self._client: NatsClient | None = None
        self._held = {False: 0, True: 0}  # subjects, and those with a wildcard
        self._refused: set[bool] = set()  # on this link: of the same two kinds, those that the server refuses

    def join(self, *subjects: str) -> None:
        """See ManySubjects."""
        for subject in subjects:
            if len(subject.encode()) + SID > CONTROL_LINE:
                raise AgentError(f"a subject of {len(subject)} characters can't be subscribed to")
        with self._lock:
            new = [subject for subject in subjects if subject not in self._numbers]
            for subject in new:
                self._numbers[subject] = self._next
                self._next += 1
                self._held[_wild(subject)] += 1
            self._write(new)

    def leave(self, subjects: Iterable[str]) -> None:
        """See ManySubjects."""
        lines = ""
        with self._lock:
            for subject in subjects:
                if number := self._numbers.pop(subject, 0):
                    self._held[_wild(subject)] -= 1
                    lines += f"UNSUB {number}\r\n"
            self._send(lines)

    def __len__(self) -> int:
        return sum(count for wild, count in self._held.items() if wild not in self._refused)

    # -- for the driver

    def linked(self, client: NatsClient) -> None:
        """Ask for all of them on this connection, and for those that begin from now on."""
        client.many = self.deliver
        with self._lock:
            self._client = client
            self._refused.clear()
            self._write(self._numbers)

    def unlinked(self) -> None:
        """The connection is lost."""
        with self._lock:
            self._client = None

    def complained(self, text: str) -> bool:
        """The server said this in an -ERR; True if it is about one of these, and need not be logged."""
        if not text.startswith(VIOLATION):
            return False
        subject = text.removeprefix(VIOLATION).partition('"')[2].partition('"')[0]
        wild = _wild(subject)
        with self._lock:
            if subject not in self._numbers and wild not in self._refused:
                return False
            first = wild not in self._refused
            self._refused.add(wild)
            level = logging.WARNING
            if wild and self._held[False]:  # there are others, which matter more
                level = logging.DEBUG if False in self._refused else logging.INFO
        if first:
            log.log(level, "NATS refuses the lanes of calls: %s; allow it, or set call_lanes to false", text)
        return True

    def _write(self, subjects: Iterable[str]) -> None:
        """Lock held."""
        self._send("".join(
            f"SUB {subject} {self._numbers[subject]}\r\n" for subject in subjects if _wild(subject) not in self._refused
        ))  # fmt: skip

    def _send(self, lines: str) -> None:
        """Lock held."""
        if lines and self._client is not None:
            try:
                self._client.send_lines(lines.encode())
            except LinkError as error:
                log.debug("subscribe: %s", error)  # done again at the next connect


def _wild(subject: str) -> bool:
    return subject.endswith(".>")
