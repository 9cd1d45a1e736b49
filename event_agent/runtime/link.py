"""A link to a peer that is kept up: connect, serve, and connect again after a growing wait.

States and what leads from one to the next:

    STARTING --connect worked--> UP --serve ended--> DOWN --connect worked--> UP
    UP --the peer is silent--> DOWN --it is heard again--> UP  (set by a serve that goes on meanwhile)
    STARTING --connect failed--> DOWN
    DOWN --connect raised GaveUp--> GAVE_UP (the thread ends)
    any --stop--> STOPPED

One thread owns a link: it runs `keep_connected`, writes the status, and calls the observers. Any thread may read the
status. Observers hear of each change of state or reason once; a peer that refuses for hours is one change.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeVar

from event_agent.errors import GaveUp, LinkError
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.health import CONNECTING, STUCK, Beat, Signs, Watched, only_if

T = TypeVar("T")

STEADY = 10.0  # seconds that a link must hold for the waits to begin anew; a peer may take us only to drop us
AT_ONCE = 0.1  # seconds: a link that held is tried again within this; the jitter spreads a fleet of agents
ROUND = 5.0  # seconds at most between two signs of life of a thread that waits


class LinkState(Enum):
    """How a link stands; the values are what operators read."""

    STARTING = "connecting"  # no try has ended yet
    UP = "connected"
    DOWN = "disconnected"  # it is tried again
    GAVE_UP = "gave up"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """The state of a link, why it is not up, and since when (time.time()) it has been in this state."""

    state: LinkState
    reason: str
    since: float
    fault: LinkError | None = None  # what `reason` is the text of; code decides on its type

    @property
    def up(self) -> bool:
        """True while the link can be used."""
        return self.state is LinkState.UP

    def fields(self) -> dict[str, str | float]:
        """As JSON values; the time in seconds since 1970."""
        return {"state": self.state.value, "reason": self.reason, "since": round(self.since, 3)}


class Stop(Protocol):
    """What ends a link: a threading.Event."""

    def is_set(self) -> bool: ...

    def wait(self, timeout: float) -> bool: ...


class Link:
    """The status of one link. Written by the thread that keeps it."""

    def __init__(self, now: Callable[[], float] = time.time, clock: Callable[[], float] = time.monotonic) -> None:
        self._observers: list[Callable[[LinkStatus], None]] = []
        self._now = now
        self.clock = clock
        self.status = LinkStatus(LinkState.STARTING, "", now())
        self.beat = 0.0  # the clock when the thread last looked; what serves for long sets it every ROUND

    def observe(self, changed: Callable[[LinkStatus], None]) -> None:
        """Have this called on the thread that keeps the link, once for each change of state or reason."""
        self._observers.append(changed)

    @property
    def up(self) -> bool:
        """True while the link can be used."""
        return self.status.state is LinkState.UP

    def set(self, state: LinkState, fault: LinkError | None = None) -> None:
        """Take over a state; observers are called if something has changed, in the order in which they came."""
        before = self.status
        reason = "" if fault is None else str(fault)
        if (before.state, before.reason) == (state, reason):
            return
        # Another reason for the same state is news, but it does not make the outage younger.
        since = before.since if before.state is state else self._now()
        self.status = LinkStatus(state, reason, since, fault)
        for changed in self._observers:
            changed(self.status)

    def signs(self, thread: str) -> Signs:
        """The signs of life of the thread of this name, which keeps this link."""
        beat = Beat(lambda: self.beat)
        return Signs(
            (thread,),
            (
                Watched(f"thread {thread}", STUCK, only_if(lambda: self.up, beat)),
                Watched(f"thread {thread}", CONNECTING, beat),
            ),
        )


def keep_connected(
    connect: Callable[[], T],
    serve: Callable[[T], None],
    backoff: Backoff,
    stopping: threading.Event | Stop,
    link: Link,
) -> None:
    """Keep a link up until `stopping` is set; runs on the thread that owns the link.

    `connect` makes a link that is ready to be used, or raises LinkError; GaveUp ends this. `serve` is called once the
    observer knows that the link is up. It raises LinkError when the link has ended, returns when `stopping` is set,
    and closes what it was given in either case.
    """
    while not stopping.is_set():
        link.beat = link.clock()
        try:
            connection = connect()
        except GaveUp as fault:
            link.set(LinkState.GAVE_UP, fault)
            return
        except LinkError as fault:
            if not stopping.is_set():
                link.set(LinkState.DOWN, fault)
                _pause(backoff.next(), stopping, link)
            continue
        if not stopping.is_set():
            link.set(LinkState.UP)
        link.beat = began = link.clock()
        ended = None
        try:
            serve(connection)
        except LinkError as fault:
            ended = fault
        if stopping.is_set():
            break
        link.set(LinkState.DOWN, ended)
        if link.clock() - began >= STEADY:
            backoff.reset()
            _pause(random.uniform(0, AT_ONCE), stopping, link)
        else:
            _pause(backoff.next(), stopping, link)
    link.set(LinkState.STOPPED)


def _pause(seconds: float, stopping: threading.Event | Stop, link: Link) -> None:
    """Wait, unless the end comes. In parts: a thread that is not heard of for long counts as stuck."""
    until = link.clock() + seconds
    while (left := until - link.clock()) > 0 and not stopping.wait(min(left, ROUND)):
        link.beat = link.clock()
