"""Channels that ended or began unseen: after a gap in FreeSWITCH's events consumers get one event for each.

    AGENT_CHANNEL_GONE     one that was there and is not any more: no CHANNEL_DESTROY will come
    AGENT_CHANNEL_FOUND    one that is there, and of which no CHANNEL_CREATE came

`freeswitch/channels.py` knows what consumers believe; what is true FreeSWITCH is asked. Another Core-UUID is another
FreeSWITCH: the channels of the one before are gone. Else it is asked of each with `uuid_exists`, which is exact; its
list of channels (`show channels`), which is needed for what is new, is behind by up to a second, so it is read twice.
An event that is still on its way is waited for, so that nobody hears of a channel's end twice.

All but `linked` and `unlinked` runs on the loop's thread, a slice at a time.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from event_agent.bridge.announcements import Announcements
from event_agent.bridge.losses import Losses
from event_agent.drivers.base import EventSink
from event_agent.freeswitch import wire
from event_agent.freeswitch.channels import Channels
from event_agent.freeswitch.command import Command, Failure
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.link import Switch, SwitchObserver
from event_agent.protocol.announcements import channels_of
from event_agent.protocol.events import Published
from event_agent.runtime.loop import Loop
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

GONE, FOUND = "AGENT_CHANNEL_GONE", "AGENT_CHANNEL_FOUND"
LISTED = (1.0, 3.0)  # seconds after which FreeSWITCH's list is read
GRACE = 1.0  # seconds in which an event comes that was fired before FreeSWITCH answered
LIMIT = 10.0  # seconds FreeSWITCH has for its list
AGAIN = 30.0  # seconds after which it is tried again
ASKING = 64  # questions at one time
SLICE = 200  # events that are published at one time
BREATH = 0.02  # seconds in between

Row = dict[str, str]


class UnseenChannels(SwitchObserver):
    """Compares the channels that were told of with those that FreeSWITCH has, after a gap."""

    def __init__(
        self,
        switch: Switch,
        channels: Channels,
        sink: EventSink,
        losses: Losses,
        stats: Stats,
        loop: Loop,
        node_id: str,
        prefix: str,
        chosen: Callable[[], EventFilter],
    ) -> None:
        self._switch = switch
        self._channels = channels
        self._sink = sink
        self._losses = losses
        self._stats = stats
        self._loop = loop
        self._announcements = Announcements(node_id, prefix, lambda: switch.identity, chosen)
        self._waiting: list[Published] = []  # what is to be published
        self._round = 0
        switch.observe(self)

    def linked(self) -> None:
        """Look what was missed."""
        self._loop.call(self._begin)

    def _begin(self) -> None:
        self._round += 1
        dead = self._channels.dead()
        for core, uuid in dead:
            self._say(GONE, core, uuid)
        self._stats.channels_gone += len(dead)
        checking, suspects = self._channels.to_check()
        if dead or checking:
            log.info("channels: %d ended with their FreeSWITCH, %d may have ended unseen", len(dead), len(suspects))
        if checking:
            self._later(LISTED[0], lambda: self._list(LISTED[1:]))

    def _later(self, seconds: float, job: Callable[[], None]) -> None:
        """Unless there is another link by then."""
        this, epoch = self._round, self._channels.epoch

        def go() -> None:
            if this == self._round and epoch == self._channels.epoch and self._switch.complete:
                job()

        self._loop.after(seconds, go)

    def _list(self, following: Sequence[float]) -> None:
        """Ask for FreeSWITCH's list; `following`: seconds after which it is read again."""

        def listed(answer: str) -> None:
            rows = channels_of(answer)
            if rows is None:
                failed(None)
            else:
                self._later(0.0, lambda: self._ask(rows, following))

        def failed(_: Failure | None) -> None:
            self._later(AGAIN, lambda: self._list(following or LISTED[1:]))

        question = wire.api("show", "channels as json")
        self._switch.send([Command(question, "show", listed, failed, slow=True, limit=LIMIT)])

    def _ask(self, rows: list[Row], following: Sequence[float]) -> None:
        """Which of those known are there, and which of those listed, FreeSWITCH knows best."""
        _, suspects = self._channels.to_check()
        listed = {row["uuid"]: row for row in rows if wire.is_uuid(row.get("uuid"))}
        new = {uuid: row for uuid, row in listed.items() if not self._channels.knows(uuid)}
        exists: dict[str, bool] = {}
        uuids = [*suspects, *new]

        def step(at: int) -> None:
            """Ask of the next ones."""
            batch = uuids[at : at + ASKING]
            if not batch:
                self._later(GRACE, lambda: self._decide(suspects, new, exists, following))
                return
            left = len(batch)

            def answered(uuid: str, answer: str | None) -> None:
                nonlocal left
                if answer is not None:
                    exists[uuid] = answer.strip() == "true"
                left -= 1
                if not left:
                    self._later(0.0, lambda: step(at + len(batch)))

            self._switch.send([self._question(uuid, answered) for uuid in batch])

        step(0)

    @staticmethod
    def _question(uuid: str, answered: Callable[[str, str | None], None]) -> Command:
        return Command(
            wire.api("uuid_exists", uuid), "uuid_exists",
            lambda answer: answered(uuid, answer), lambda _: answered(uuid, None),
        )  # fmt: skip

    def _decide(
        self, suspects: list[str], new: dict[str, Row], exists: dict[str, bool], following: Sequence[float]
    ) -> None:
        core = self._switch.identity["core_uuid"]
        gone = [uuid for uuid in suspects if exists.get(uuid) is False and self._channels.gone(uuid)]
        found = [uuid for uuid in new if exists.get(uuid) and self._channels.found(uuid)]
        for uuid in gone:
            self._say(GONE, core, uuid)
        for uuid in found:
            self._say(FOUND, core, uuid, new[uuid])
        self._stats.channels_gone += len(gone)
        self._stats.channels_found += len(found)
        if gone or found:
            log.info("channels: %d ended unseen, %d are new", len(gone), len(found))
        if len(exists) < len(suspects) + len(new):  # FreeSWITCH did not say of all
            self._later(AGAIN, lambda: self._list(following or LISTED[1:]))
        elif following:
            self._later(following[0], lambda: self._list(following[1:]))
        else:
            self._channels.checked(self._channels.epoch)

    # -- publishing

    def _say(self, name: str, core: str, uuid: str, row: Row | None = None) -> None:
        events = self._announcements.of(name, core, **{"uuid": uuid, **(row or {})})
        if events and not self._waiting:
            self._loop.call(self._publish)
        self._waiting += events

    def _publish(self) -> None:
        """A slice of what waits."""
        events = self._waiting[:SLICE]
        self._losses.offer(self._sink, events)
        del self._waiting[: len(events)]
        if self._waiting:
            self._loop.after(BREATH, self._publish)
