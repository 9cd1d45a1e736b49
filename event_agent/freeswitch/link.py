"""The link to FreeSWITCH as a whole: up when commands are taken, complete when events come as well.

Its parts, the command lane with its pool and the event reader, each keep a link of their own (runtime/link.py). Here
the two become one: which events are asked for, what observers hear, and that a FreeSWITCH that is frozen for one of
them is frozen for all.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from event_agent.errors import Frozen
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.dialer import Dialer
from event_agent.freeswitch.event_reader import EventReader
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.lane import CommandLane
from event_agent.freeswitch.pool import WorkerPool
from event_agent.runtime.health import STUCK, Signs, Unread, Watched
from event_agent.runtime.link import LinkState, LinkStatus

log = logging.getLogger(__name__)

FINISH = 0.3  # share of the time for the end that is left to the threads and connections; the rest is for commands


class SwitchObserver:
    """What is said of the link; an observer overrides what it needs. Nothing here may wait."""

    def up(self) -> None:
        """Commands are taken. On the thread esl-lane."""

    def linked(self) -> None:
        """And events come. On the thread of whichever of the two completes the link."""

    def unlinked(self, reason: str) -> None:
        """A link that was complete is not any more. On the thread of whichever of the two notices."""

    def down(self, reason: str) -> None:
        """No commands are taken; also if only the reason has changed. On the thread esl-lane."""


class Switch:
    """FreeSWITCH, to the rest of the program."""

    name = "freeswitch"

    def __init__(self, dialer: Dialer, pool: WorkerPool, lane: CommandLane, events: EventReader) -> None:
        self._dialer = dialer
        self.pool = pool
        self.lane = lane
        self.events = events
        lane.link.observe(self._commands_changed)
        events.link.observe(self._events_changed)
        self._observers: list[SwitchObserver] = []
        self._lock = threading.Lock()  # guards what is asked for, and whether the link is complete
        self._filter = EventFilter(False, frozenset(), frozenset())
        self._wanted: dict[str, frozenset[str]] = {}
        self._complete = False
        self.losses = 0  # how often a link that was complete broke

    def observe(self, observer: SwitchObserver) -> None:
        """Tell it of the link, after those that came before it. Before the start."""
        self._observers.append(observer)

    # -- a part of the daemon

    def start(self) -> None:
        """Start connecting; never blocks."""
        self.lane.start()
        self.events.start()

    def stop(self, timeout: float) -> None:
        """Let commands finish, then end all threads and connections, within `timeout` seconds."""
        deadline = time.monotonic() + timeout
        self._finish(timeout * (1 - FINISH))
        for part in (self.pool, self.lane, self.events):
            part.stop(max(0.05, deadline - time.monotonic()))

    def _finish(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while (pending := self.lane.pending) and time.monotonic() < deadline:
            time.sleep(0.01)
        if pending:
            log.warning("%d commands were still running at the end", pending)

    def signs(self) -> Signs:
        """By which its threads are known to be alive."""
        unread = Signs(watched=(Watched("a thread that reads from a connection", STUCK, Unread()),))
        return self.pool.signs() + self.lane.signs() + self.events.signs() + unread

    # -- which events

    def publish(self, wanted: EventFilter) -> None:
        """What is published. From any thread."""
        with self._lock:
            self._filter = wanted
            self._ask_for_events()

    def want(self, who: str, names: frozenset[str]) -> None:
        """Events that a part of ours needs, published or not. From any thread."""
        with self._lock:
            self._wanted[who] = names
            self._ask_for_events()

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        """Call `then` when FreeSWITCH goes by what was wanted last; see EventReader. From any thread."""
        self.events.when_in_force(then)

    def _ask_for_events(self) -> None:
        """Lock held."""
        self.events.subscribe(self._filter.widened(frozenset().union(*self._wanted.values())))

    # -- commands of our own

    def send(self, commands: Sequence[Command]) -> None:
        """In this order. From any thread."""
        for command in commands:
            self.lane.submit(command)
        self.lane.flush()

    # -- how it stands

    @property
    def connected(self) -> bool:
        """Whether commands are taken."""
        return self.lane.connected

    @property
    def complete(self) -> bool:
        """Whether events come as well."""
        return self._complete

    @property
    def status(self) -> LinkStatus:
        """How the link for commands stands, why, and since when."""
        return self.lane.link.status

    @property
    def identity(self) -> dict[str, str]:
        """Which FreeSWITCH it is, or was."""
        return self._dialer.identity

    @property
    def version(self) -> str:
        """FreeSWITCH's version number, such as 1.10.12-release; empty until it was there."""
        return self._dialer.version

    @property
    def state(self) -> str:
        """How the link stands, in a few words."""
        if not self.connected:
            return "not connected"
        without = "" if self.events.connected else ", without events"
        return f"connected ({self.version}){without}"

    def section(self) -> dict[str, Any]:
        """agent.status's part."""
        return {
            "connected": self.connected,
            **self.status.fields(),
            "events": self.events.connected,
            **{f"events_{key}": value for key, value in self.events.link.status.fields().items()},
            "events_lag": round(self.events.lag.seconds, 3),
            "clock_difference": round(self.events.lag.difference, 3),
            **({"bell": self.events.bell.section()} if self.events.bell is not None else {}),
            **self.identity,
        }

    # -- the two links become one

    def _commands_changed(self, status: LinkStatus) -> None:
        """On the thread esl-lane."""
        if status.up:
            self.events.answered()
            log.info("FreeSWITCH connected: %s", self.identity["version"].partition("~")[0])
            self._tell(lambda each: each.up())
            self._maybe_complete()
        elif status.state is LinkState.DOWN:
            # First of all: until then this node may be given work that another could do.
            self._tell(lambda each: each.down(status.reason))
            log.warning("FreeSWITCH is unreachable: %s; retrying", status.reason)
            self._incomplete(status.reason)

    def _events_changed(self, status: LinkStatus) -> None:
        """On the event thread."""
        if status.up:
            log.info("FreeSWITCH events: subscribed")
            self._maybe_complete()
        elif status.state is LinkState.DOWN:
            log.debug("events: %s", status.reason)
            self._incomplete(status.reason)
            if isinstance(status.fault, Frozen):
                self.lane.abort(status.fault)
                self.pool.abort()

    def _maybe_complete(self) -> None:
        with self._lock:  # each of the two threads may be the one that completes the link
            complete = self.lane.connected and self.events.connected and not self._complete
            self._complete = self._complete or complete
        if complete:
            self._tell(lambda each: each.linked())

    def _incomplete(self, reason: str) -> None:
        with self._lock:  # both threads may notice
            was, self._complete = self._complete, False
        if was:
            self.losses += 1
            self._tell(lambda each: each.unlinked(reason))

    def _tell(self, what: Callable[[SwitchObserver], None]) -> None:
        for each in self._observers:
            what(each)
