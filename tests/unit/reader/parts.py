"""A reader of events on a fake switch."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence

from event_agent.errors import LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.bell import Bell
from event_agent.freeswitch.choice import SYNC
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.event_reader import EventReader, Timing
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.frames import Frame
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.link import Link, LinkState, LinkStatus
from tests.support import until
from tests.switchsim.in_process import FakeConnection, FakeSwitch, event_frame

CORE = "the-core-uuid"
ALL = EventFilter.of(True, (), ())
ASKED = wire.PROBE.strip()
HEAR_OURS = f"filter Event-Subclass {SYNC}"
NOTHING = EventFilter.of(False, (), ())
SOME = EventFilter.of(False, ("HEARTBEAT",), ())


def lives(
    connection: FakeConnection, command: str, core_uuid: str = CORE, sequence: int = 1000, later: int = 0
) -> str | None:
    """An event comes before the one that we have fired, and so many `later` behind it, in the same read."""
    if command.startswith("sendevent"):
        subclass, _, mark = command.partition("Event-Subclass: ")[2].partition("\nMark: ")
        headers = {"Event_Name": "CUSTOM", "Event_Subclass": subclass, "Event_Sequence": str(sequence), "Mark": mark}
        behind = [event_frame(Event_Name="LATER", Event_Sequence=str(sequence + 1 + each)) for each in range(later)]
        early = event_frame(Event_Name="EARLY", Event_Sequence=str(max(0, sequence - 1)))
        connection.push(early, event_frame(**headers), *behind)
    return core_uuid if command == "api global_getvar core_uuid" else "+OK"


class Reader:
    """A reader on a fake switch, and what it said."""

    def __init__(self, switch: FakeSwitch, wake: float, timing: Timing, bell: Bell | None = None) -> None:
        self.switch = switch
        self.events: list[str] = []
        self.batches: list[list[str]] = []
        self.ups = 0
        self.downs: list[str] = []
        self.faults: list[LinkError | None] = []
        link = Link()
        link.observe(self._changed)
        self.reader = EventReader(self._connect, self._consume, link, wake, timing, bell=bell)

    def _connect(self) -> Connection:
        return self.switch.connect()

    def _consume(self, events: Sequence[RawEvent]) -> None:
        self.batches.append([json.loads(each.data)["Event-Name"] for each in events])
        self.events += self.batches[-1]

    def _changed(self, status: LinkStatus) -> None:
        if status.up:
            assert self.reader.connected
            self.ups += 1
        elif status.state is LinkState.DOWN:
            self.downs.append(status.reason)
            self.faults.append(status.fault)

    def start(self) -> Reader:
        self.reader.start()
        until(lambda: self.ups, "subscribed")
        return self

    def heard(self, *frames: Frame) -> None:
        """Events come, and are handed on."""
        count = len(self.events) + len(frames)
        self.connection.push(*frames)
        until(lambda: len(self.events) >= count, "heard")

    @property
    def connection(self) -> FakeConnection:
        return self.switch.connections[-1]


def chosen(connection: FakeConnection) -> list[str]:
    """The commands by which events are chosen, after those that find out where the switch stands."""
    others = ("api", "sendevent", "event json CUSTOM", ASKED)
    return [each for each in connection.sent if not each.startswith(others)]


def asked(wanted: EventFilter) -> list[str]:
    """What FreeSWITCH is asked for this choice: our own events come as well."""
    return wanted.widened(frozenset((SYNC,))).commands(CORE)


Readers = Callable[..., Reader]


IMPATIENT = Timing(first_wait=0.01, longest_wait=0.02)


def quiet(reader: Reader) -> bool:
    """Whether no nudges are sent: proved by waiting for the time of fifteen."""
    before = reader.connection.nudges
    return not threading.Event().wait(0.03) and reader.connection.nudges == before  # nothing comes
