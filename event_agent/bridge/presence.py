"""What others learn of the link to FreeSWITCH: announcements, and the subjects on which this node takes requests.

A node listens on its own subjects from the start to the end. On the one that all share it does while it is ready, see
readiness.py.

An announcement says what a consumer has missed: events that were fired and not seen, events that were dropped. What an
announcement could not say, because the link was lost again before it was made, the next one says.

The two alternate: the loss of a link that was never announced is not announced either, and a list of channels that
comes when its link is lost announces nothing. They are made on different threads, so a lock keeps them in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from event_agent.bridge.announcements import Announcements
from event_agent.bridge.losses import OTHER_SWITCH, UNSEEN, Losses, around
from event_agent.drivers.base import Deliver, EventSink, RequestSource
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.link import Switch, SwitchObserver
from event_agent.protocol.announcements import channels_of
from event_agent.protocol.events import Published
from event_agent.protocol.subjects import BELOW, Endpoint
from event_agent.runtime.health import Signs
from event_agent.runtime.stats import Stats

LISTED = 10.0  # seconds FreeSWITCH has to list its channels; without them the link is announced all the same
CONNECTED, DISCONNECTED, STOPPING = "AGENT_CONNECTED", "AGENT_DISCONNECTED", "AGENT_STOPPING"


class Subjects:
    """The subjects on which this node takes requests. Any thread may join and leave."""

    def __init__(
        self, source: RequestSource, endpoints: list[Endpoint], deliver: Deliver, deliver_verbs: Deliver | None = None
    ) -> None:
        """`deliver_verbs` gets what has the command in the subject."""
        self._source = source
        self._deliver = deliver
        self._deliver_verbs = deliver_verbs or deliver
        self._endpoints = endpoints
        self._lock = threading.Lock()
        self._joined: dict[str, list[int]] = {}
        self._closed = False

    @property
    def names(self) -> list[str]:
        """The lanes that there are, listened on or not."""
        return list(dict.fromkeys(each.lane for each in self._endpoints))

    def holds(self, name: str) -> bool:
        """Whether the node listens on this lane now."""
        return name in self._joined

    def join(self, name: str) -> None:
        """Listen there, unless the end has begun."""
        with self._lock:
            if name not in self._joined and not self._closed:
                self._joined[name] = [self._subscribe(each) for each in self._endpoints if each.lane == name]

    def _subscribe(self, each: Endpoint) -> int:
        deliver = self._deliver_verbs if each.verbs else self._deliver
        if each.verbs:
            return self._source.subscribe_below(each.subject.removesuffix(BELOW), deliver, each.queue, each.optional)
        return self._source.subscribe(each.subject, deliver, each.queue)

    def leave(self, name: str) -> None:
        """Listen there no longer. What was on its way has been handed on when this returns."""
        with self._lock:
            numbers = self._joined.pop(name, [])
        for number in numbers:
            self._source.unsubscribe(number)

    def close(self) -> None:
        """Leave all of them for good."""
        with self._lock:
            self._closed = True
        for name in reversed(self.names):
            self.leave(name)


class Presence(SwitchObserver):
    """Announces the link and holds the subjects."""

    name = "presence"

    def __init__(
        self,
        switch: Switch,
        sink: EventSink,
        subjects: Subjects,
        stats: Stats,
        losses: Losses,
        node_id: str,
        prefix: str,
        chosen: Callable[[], EventFilter],
        broker_up: Callable[[], bool],
    ) -> None:
        """`chosen`: what is published; announcements are events too and can be excluded. `broker_up`: whether anybody
        would hear now that we stop.
        """
        self._broker_up = broker_up
        self._switch = switch
        self._sink = sink
        self._subjects = subjects
        self._stats = stats
        self._losses = losses
        self._announcements = Announcements(node_id, prefix, lambda: switch.identity, chosen)
        self._dropped_then = 0  # events dropped before the last announcement
        self._lock = threading.Lock()  # guards the three that follow, and the order of announcements
        self._links = 0  # how many there were
        self._announced = False  # CONNECTED was the last one
        self._said_that_we_stop = False
        switch.observe(self)

    # -- a part of the daemon

    def listen(self) -> None:
        """Take requests on the node's own subjects, from the first moment of the link to the broker on."""
        for name in self._subjects.names:
            if name != "any":
                self._subjects.join(name)

    def start(self) -> None:
        """Nothing: `listen` comes before the links."""

    def stop(self, timeout: float) -> None:
        """Say that this agent ends, and take no more requests. What is under way goes on."""
        events = self._announcement(STOPPING) if self._broker_up() else []
        with self._lock:
            said, self._said_that_we_stop = self._said_that_we_stop, True
            if events and not said:
                self._sink.offer(events)
        self._subjects.close()

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    # -- the link

    def linked(self) -> None:
        """Say so to consumers, with what is in progress and what they missed."""
        dropped, self._dropped_then = self._stats.events_dropped - self._dropped_then, self._stats.events_dropped
        gaps = self._switch.events.gaps
        unseen = gaps.take()
        for hole in gaps.holes():
            reason = OTHER_SWITCH if hole.other else UNSEEN
            # The numbers are exact; an event between them may have an earlier or a later time than both.
            self._losses.between(reason, hole.count, *around(hole.before, hole.after, 0))
        with self._lock:
            self._links += 1
            this = self._links

        def listed(answer: str) -> None:
            channels = channels_of(answer)
            events = self._announcement(CONNECTED, channels=channels, events_dropped=dropped, events_unseen=unseen)
            with self._lock:
                there = self._switch.connected and self._switch.complete
                if made := there and this == self._links and not self._announced:
                    self._announced = True
                    self._losses.offer(self._sink, events)
            if not made:
                self._dropped_then -= dropped
                gaps.missed(unseen)

        def failed(_: object) -> None:
            listed("")  # if the link is there, FreeSWITCH can't list them: its database is locked

        question = wire.api("show", "channels as json")
        self._switch.send([Command(question, "show", listed, failed, slow=True, limit=LISTED)])

    def unlinked(self, reason: str) -> None:
        """Say so to consumers."""
        events = self._announcement(DISCONNECTED, reason=reason)
        with self._lock:
            if self._announced:
                self._announced = False
                self._losses.offer(self._sink, events)

    def _announcement(self, name: str, **fields: Any) -> list[Published]:
        """Nothing, if it is excluded."""
        events = self._announcements.of(name, **fields)
        if any(len(each.payload) > self._sink.max_payload for each in events):
            events = self._announcements.of(name, **{**fields, "channels": None})
        return events
