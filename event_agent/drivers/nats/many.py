"""Subscriptions by the thousand: one for each of many subjects that come and go, all handed to one callee.

Each costs a line when it begins and one when it ends, nothing is waited for, and a new link gets all of them in one
write. A subject that has ended is still handed on: what was on its way when we unsubscribed is answered.

There are two kinds of them, those with a wildcard and those without. The server may refuse a kind: our account may not
subscribe there. That is one line in the log, and no further subject of that kind is asked for but one of them now and
then, after growing waits, as each is a line in the server's log: when the server takes that, all are asked for again.

It may also take no more of them, whatever they are. Then they all make room for the few subscriptions of the node, and
are asked for again when only half as many are left.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from event_agent.drivers.base import Deliver, ManySubjects
from event_agent.drivers.nats.connection import MANY, NatsClient
from event_agent.drivers.nats.timing import Timing
from event_agent.drivers.nats.wire import CONTROL_LINE
from event_agent.errors import AgentError, LinkError

log = logging.getLogger(__name__)

SID = 24  # bytes at most of what else is on the line of a subscription
SURELY = (CONTROL_LINE - SID) // 4  # characters of a subject that fits, whatever they are: UTF-8 has 4 bytes at most
VIOLATION = "Permissions Violation for Subscription to "
TOO_MANY = "maximum subscriptions exceeded"  # nats-server: ErrTooManySubs; it names no subject


@dataclass(slots=True)
class _Kind:
    """Those with a wildcard, or those without."""

    timing: Timing
    held: int = 0
    refused: str = ""  # what the server said of them on this link
    again: bool = False  # it has said so since one of them was tried last
    wait: float = 0.0
    due: float = 0.0  # time.monotonic() at which one is tried again
    most: int = 0  # how many there may be for it to be tried again; 0: any number

    def refuse(self, text: str) -> bool:
        """The server said this of them. True if that is new."""
        first, self.refused, self.again = not self.refused, text, True
        if first:
            self.wait = self.timing.again_first
            self.due = time.monotonic() + self.wait
        return first

    def due_now(self) -> bool:
        """Whether one is to be tried again now; if so the next wait begins."""
        now = time.monotonic()
        if not self.refused or not self.held or now < self.due or 0 < self.most < self.held:
            return False
        self.wait = min(2 * self.wait, self.timing.again_most)
        self.due, self.again = now + self.wait, False
        return True


class NatsMany(ManySubjects):
    """Holds subjects by the thousand on the link of the driver. Any thread may call it."""

    def __init__(self, deliver: Deliver, timing: Timing) -> None:
        self.deliver = deliver
        self._settle = timing.settle
        self._lock = threading.Lock()  # guards what follows, and the order of lines. Under it the sender's is taken
        self._numbers: dict[str, int] = {}
        self._next = MANY
        self._client: NatsClient | None = None
        self._kinds = {False: _Kind(timing), True: _Kind(timing)}  # by whether they have a wildcard
        self._parent = ""  # what stands before a channel's part of a subject

    def join(self, *subjects: str, later: bool = False) -> None:
        """See ManySubjects."""
        for subject in subjects:
            if len(subject) > SURELY and len(subject.encode()) + SID > CONTROL_LINE:
                raise AgentError(f"a subject of {len(subject)} characters can't be subscribed to")
        lines = ""
        with self._lock:
            numbers = self._numbers
            for subject in subjects:
                if subject in numbers:
                    continue
                number = numbers[subject] = self._next
                self._next = number + 1
                self._parent = _parent(subject)
                kind = self._kinds[_wild(subject)]
                kind.held += 1
                if not kind.refused:
                    lines += f"SUB {subject} {number}\r\n"
            self._send(lines, later)

    def leave(self, subjects: Iterable[str], later: bool = False) -> None:
        """See ManySubjects."""
        lines = ""
        with self._lock:
            for subject in subjects:
                if number := self._numbers.pop(subject, 0):
                    self._kinds[_wild(subject)].held -= 1
                    lines += f"UNSUB {number}\r\n"
            self._send(lines, later)

    def tell(self) -> None:
        """See ManySubjects."""
        if (client := self._client) is not None:
            with suppress(LinkError):
                client.send_lines(b"")

    def __len__(self) -> int:
        return sum(kind.held for kind in self._kinds.values() if not kind.refused)

    # -- for the driver

    def linked(self, client: NatsClient, deliver: Deliver | None = None) -> None:
        """Ask for all of them on this connection, and for those that begin from now on.

        `deliver`: what gets the messages in the place of the callee.
        """
        client.many = deliver or self.deliver
        with self._lock:
            self._client = client
            for kind in self._kinds.values():
                kind.refused = ""
            self._write(self._numbers)

    def unlinked(self) -> None:
        """The connection is lost."""
        with self._lock:
            self._client = None

    def try_again(self) -> None:
        """If a kind is refused, see whether the server takes one of it now. By the driver; it waits for the server."""
        for wild, kind in self._kinds.items():
            with self._lock:
                client = self._client
                if client is None or not kind.due_now():
                    continue
                subject = next(each for each in self._numbers if _wild(each) is wild)
                self._send(f"SUB {subject} {self._numbers[subject]}\r\n")
            if not client.flush(self._settle):
                return
            with self._lock:
                if kind.again or client is not self._client:
                    continue
                kind.refused = ""
                self._write([each for each in self._numbers if _wild(each) is wild])
            log.info("NATS server accepts the lanes of calls: %s", self._shown(wild))

    def refused(self, needed: bool = False) -> dict[str, str]:
        """What the server refuses, with its words. `needed`: but those with a wildcard, without which all works."""
        with self._lock:
            kinds = {wild: kind.refused for wild, kind in self._kinds.items() if not (needed and wild)}
        return {self._shown(wild): text for wild, text in kinds.items() if text}

    def complained(self, text: str) -> bool:
        """The server said this in an -ERR; True if it is about one of these, and need not be logged."""
        if text.casefold() == TOO_MANY:
            return self._no_room(text)
        if not text.startswith(VIOLATION):
            return False
        subject = text.removeprefix(VIOLATION).partition('"')[2].partition('"')[0]
        wild = _wild(subject)
        with self._lock:
            # The channel of a subject may have ended meanwhile.
            if not subject or _parent(subject) != self._parent:
                return False
            kind, plain = self._kinds[wild], self._kinds[False]
            first, kind.most = kind.refuse(text), 0
            level = logging.WARNING
            if wild and plain.held:  # there are others, which matter more
                level = logging.DEBUG if plain.refused else logging.INFO
        if first:
            log.log(level, "NATS refuses the lanes of calls: %s; allow it, or set call_lanes to false", text)
        return True

    def _no_room(self, text: str) -> bool:
        with self._lock:
            if not self._numbers:
                return False
            first = False
            for kind in filter(lambda each: each.held, self._kinds.values()):
                first = kind.refuse(text) or first
                kind.most = max(1, kind.held // 2)
            self._send("".join(f"UNSUB {number}\r\n" for number in self._numbers.values()))
        if first:
            log.warning("NATS refuses the lanes of calls: %s; allow it, or set call_lanes to false", text)
        return True

    def _shown(self, wild: bool) -> str:
        return f"{self._parent}.*{'.>' if wild else ''}"

    def _write(self, subjects: Iterable[str]) -> None:
        """Lock held."""
        kinds = self._kinds
        self._send("".join(
            f"SUB {subject} {self._numbers[subject]}\r\n" for subject in subjects if not kinds[_wild(subject)].refused
        ))  # fmt: skip

    def _send(self, lines: str, later: bool = False) -> None:
        """Lock held."""
        if lines and self._client is not None:
            try:
                self._client.send_lines(lines.encode(), later)
            except LinkError as error:
                log.debug("subscribe: %s", error)  # done again at the next connect


def _wild(subject: str) -> bool:
    return subject.endswith(".>")


def _parent(subject: str) -> str:
    return subject.removesuffix(".>").rpartition(".")[0]
