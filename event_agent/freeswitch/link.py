"""FreeSWITCH as the daemon sees it: the connections to it, who is there, and what consumers are told of that.

Owns the worker pool, the command lane and the event reader. `on_up` and `on_down` are called on the lane's thread,
`on_linked` on the thread of whichever of the two completes the link.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

from event_agent.config.table import Settings
from event_agent.drivers.base import Driver
from event_agent.errors import Frozen, LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.event_reader import PROBE, EventReader
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.handover import Handover
from event_agent.freeswitch.lane import CommandLane
from event_agent.freeswitch.pool import WorkerPool
from event_agent.freeswitch.scheduler import Limits
from event_agent.protocol.announcements import announcement, channels_of
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.link import Link, LinkState, LinkStatus
from event_agent.runtime.loop import Loop
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

CONNECT_LIMIT = 5.0  # seconds for each step of connecting to FreeSWITCH
_IDENTITY = (("version", "version"), ("core_uuid", "global_getvar core_uuid"), ("hostname", "hostname"))


class Switch:
    """The link to FreeSWITCH: up when commands are taken, complete when events come as well."""

    def __init__(
        self,
        settings: Settings,
        loop: Loop,
        driver: Driver,
        stats: Stats,
        consume: Callable[[Sequence[RawEvent]], None],
        greeting: str,
        handover: Handover | None = None,
    ) -> None:
        """`consume` gets the events of each read; `greeting` is what FreeSWITCH is asked at each new link."""
        self._settings = settings
        self._driver = driver
        self._stats = stats
        self._greeting = greeting
        self.on_greeted: Callable[[str], None] = lambda _: None  # its answer; before `on_up`
        self.on_up: Callable[[], None] = lambda: None  # commands are taken
        self.on_linked: Callable[[], None] = lambda: None  # and events come
        self.on_down: Callable[[], None] = lambda: None  # no commands are taken any more
        self.identity: dict[str, Any] = {name: "" for name, _ in _IDENTITY}
        self.pool = WorkerPool(lambda: self._connect(False), settings.workers)
        link = Link()
        link.observe(self._lane_changed)
        limits = Limits(timeout=settings.command_timeout)
        self.lane = CommandLane(loop, self._connect, self.pool, driver.batch, link, limits)
        loop.gather = self.lane.pause
        self.lane.wake_jobs = settings.event_wake_ms > 0
        link = Link()
        link.observe(self._events_changed)
        self.events = EventReader(
            lambda: self._connect(False), consume, link, settings.event_wake_ms / 1000, handover=handover
        )
        self._filter = EventFilter(False, frozenset(), frozenset())
        self._subscribing = threading.Lock()
        self._watched: frozenset[str] = frozenset()  # events that are needed here, published or not
        self._needed: frozenset[str] = frozenset()
        self._announced = False
        self._dropped_then = 0  # events dropped before the last announcement
        self.reason = ""  # why FreeSWITCH is away; empty while it is not
        self.losses = 0  # how often a link that was complete broke
        self._frozen = ""  # why we broke off the lane ourselves

    def start(self) -> None:
        """Start connecting; never blocks."""
        self.lane.start()
        self.events.start()

    # -- which events

    def publish(self, wanted: EventFilter, needed: frozenset[str]) -> None:
        """What is published, and the events that are needed here all the same. From any thread."""
        with self._subscribing:
            self._filter, self._needed = wanted, needed
            self._ask_for_events()

    def watch(self, names: frozenset[str]) -> None:
        """Events that are needed for the time being, published or not. From any thread."""
        with self._subscribing:
            self._watched = names
            self._ask_for_events()

    def _ask_for_events(self) -> None:
        """Lock held."""
        self.events.subscribe(self._filter.widened(self._watched | self._needed))

    # -- commands of our own

    def send(self, commands: Sequence[Command]) -> None:
        """In this order. From any thread."""
        for command in commands:
            self.lane.submit(command)
        self.lane.flush()

    def ask_lane(self, answered: Callable[[], None]) -> None:
        """Have the lane's thread call back, by way of FreeSWITCH where that is connected."""
        self.send([Command(PROBE, "filter", lambda _: answered(), lambda _: answered())])

    # -- the link

    @property
    def state(self) -> str:
        """How the link stands, in a few words."""
        if not self.lane.connected:
            return "not connected"
        without = "" if self.events.connected else ", without events"
        return f"connected ({self.version}){without}"

    @property
    def version(self) -> str:
        """FreeSWITCH's version number, such as 1.10.12-release; empty until it was there."""
        return str(self.identity["version"]).removeprefix("FreeSWITCH Version ").partition(" ")[0].partition("~")[0]

    def section(self) -> dict[str, Any]:
        """agent.status's part."""
        return {
            "connected": self.lane.connected,
            "events": self.events.connected,
            "events_lag": round(self.events.lag.seconds, 3),
            **self.identity,
        }

    def _connect(self, fresh: bool) -> Connection:
        """A connection; for a new link it also asks who is there. Raises LinkError."""
        settings = self._settings
        connection = Connection(settings.esl_host, settings.esl_port, settings.esl_password, CONNECT_LIMIT)
        if fresh:
            try:
                for name, verb in _IDENTITY:
                    answer = connection.ask(wire.api(verb), CONNECT_LIMIT).text.strip()
                    if answer.startswith("-ERR"):  # mod_commands is loaded after mod_event_socket
                        raise LinkError("FreeSWITCH is still starting")
                    self.identity[name] = answer
                self.on_greeted(connection.ask(wire.api(self._greeting), CONNECT_LIMIT).text)
            except BaseException:
                connection.close()
                raise
        return connection

    def _lane_changed(self, status: LinkStatus) -> None:
        """On the thread esl-lane."""
        if status.up:
            self._up()
        elif status.state is LinkState.DOWN:
            self._down(status.reason)

    def _up(self) -> None:
        self.reason = self._frozen = ""
        self.on_up()
        log.info("FreeSWITCH connected: %s", self.identity["version"].partition("~")[0])
        self._links_up()

    def _down(self, reason: str) -> None:
        reason, self._frozen = self._frozen or reason, ""
        self.on_down()  # first of all: until then this node may be given work that another could do
        if reason != self.reason:
            self.reason = reason
            log.warning("FreeSWITCH is away: %s; trying on", reason)
        self._links_down(reason)

    def _events_changed(self, status: LinkStatus) -> None:
        """On the event thread."""
        if status.up:
            log.info("FreeSWITCH events: subscribed")
            self._links_up()
        if status.state is not LinkState.DOWN:
            return
        self._links_down(status.reason)
        log.debug("events: %s", status.reason)
        if isinstance(status.fault, Frozen):
            if self.lane.connected:  # the lane will find its connection closed, and not know why
                self._frozen = status.reason
            self.lane.abort()
            self.pool.abort()

    # -- what consumers are told

    def _links_up(self) -> None:
        """Both connections are up: say so to consumers, with what is in progress."""
        with self._subscribing:  # each of the two threads may be the one that completes the link
            up = self.lane.connected and self.events.connected and not self._announced
            self._announced = self._announced or up
        if up:
            self.on_linked()
            dropped, self._dropped_then = self._stats.events_dropped - self._dropped_then, self._stats.events_dropped
            unseen = self.events.gaps.take()

            def told(answer: str) -> None:
                self._announce("connected", channels=channels_of(answer), events_dropped=dropped, events_unseen=unseen)

            def untold(_: str) -> None:
                self._dropped_then -= dropped  # the link is lost again: the next announcement tells of this too
                self.events.gaps.missed(unseen)

            self.send([Command(wire.api("show", "channels as json"), "show", told, untold, slow=True)])

    def _links_down(self, reason: str) -> None:
        with self._subscribing:  # both threads may notice
            announced, self._announced = self._announced, False
        if announced:
            self.losses += 1
            self._announce("disconnected", reason=reason)

    def _announce(self, what: str, **fields: Any) -> None:
        settings = self._settings
        name = f"AGENT_{what.upper()}"
        if name in self._filter.exclude:
            return
        payload = announcement(name, settings.node_id, self.identity, **fields)
        if len(payload) > self._driver.max_payload:
            payload = announcement(name, settings.node_id, self.identity, **{**fields, "channels": None})
        self._driver.publish(f"{settings.subject_prefix}.events.agent.{what}", payload)
