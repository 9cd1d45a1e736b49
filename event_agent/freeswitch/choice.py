"""Which events FreeSWITCH is asked for on the event connection, and which choice it goes by already.

Events are chosen from any thread; what was chosen last is asked for last. FreeSWITCH does not say when it goes by a
choice: mod_event_socket answers each command after it has carried it out, in order, so the answer to a command that
is sent behind the choice says so (mod_event_socket.c, listener_run).
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import as_frames
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.frames import Frame
from event_agent.runtime.link import Link

SYNC = "event_agent::sync"  # the subclass of the events that we fire ourselves
MARK = "event-agent-choice-"  # of a filter that is not there: the answer to deleting it names it


def hears_ours(wanted: EventFilter) -> bool:
    """Whether an event that we fire ourselves comes back."""
    return wanted.anything and "CUSTOM" not in wanted.exclude


class Choice:
    """What is wanted, and how far FreeSWITCH has followed."""

    def __init__(self, link: Link) -> None:
        """`link`: while it is down nothing is in force."""
        self._link = link
        self.wanted = EventFilter(False, frozenset(), frozenset())
        self.core_uuid = ""  # of this FreeSWITCH; it sends events to nobody else's filters
        self.connection: Connection | None = None
        self._subscribed: EventFilter | None = None
        self._sending = threading.Lock()  # one thread at a time; guards the three that follow
        self._number = 0  # how often FreeSWITCH was asked for others on a connection
        self._in_force = 0  # of these, the last by which it goes
        self.awaited: list[tuple[int, Callable[[bool], None]]] = []  # for which of these, and what is called then

    def choose(self, wanted: EventFilter) -> None:
        """From any thread: events are chosen by this from now on, on the same connection."""
        self.wanted = wanted
        connection = self.connection
        if connection is not None:
            self._ask_for(connection)

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        """See EventReader."""
        with self._sending:
            connection = self.connection if self._link.up else None
            waits = connection is not None and self._in_force != self._number
            if connection is not None and waits:
                asked = any(number == self._number for number, _ in self.awaited)
                self.awaited.append((self._number, then))
                if not asked:
                    self._ask_whether(connection, self._number)
        if not waits:
            then(connection is not None)

    def send(self, connection: Connection, text: str) -> None:
        """Send something else on the connection. Raises LinkError."""
        with self._sending:
            connection.send(text)

    # -- the link, on the event thread

    def begin(self, core_uuid: str) -> tuple[EventFilter, list[str]]:
        """A new connection: what is wanted, and the commands by which the caller asks for that."""
        self.core_uuid = core_uuid
        self._subscribed = wanted = self.wanted
        return wanted, self._commands(wanted)

    def linked(self, connection: Connection) -> None:
        """FreeSWITCH has answered these."""
        self._in_force = self._number
        self.connection = connection
        self._ask_for(connection)  # if another filter was chosen meanwhile

    def go_on(self, connection: Connection, core_uuid: str) -> None:
        """A connection on which FreeSWITCH was asked before, by another process."""
        self.core_uuid = core_uuid
        self.connection = connection
        self._subscribed = None
        self._ask_for(connection)  # the settings may be others now; asking for the same leaves no gap

    def closed(self) -> None:
        """The connection is over."""
        self.connection = None
        self.lost()

    def lost(self) -> None:
        """The link is down; its connection may go on, and what was chosen with it."""
        self._answer(self._number, False)

    def marked(self, frame: Frame) -> None:
        """FreeSWITCH goes by a choice: what was sent before the mark has been carried out."""
        number = frame.text.partition(MARK)[2].partition("]")[0]
        if number.isdigit():
            with self._sending:
                self._in_force = max(self._in_force, int(number))
            self._answer(int(number), True)

    # -- FreeSWITCH is asked

    def _commands(self, wanted: EventFilter) -> list[str]:
        """What FreeSWITCH is asked: our own events come too, or nothing does."""
        return (wanted.widened(frozenset((SYNC,))) if wanted.anything else wanted).commands(self.core_uuid)

    def _ask_for(self, connection: Connection) -> None:
        with self._sending:  # the last one asks for what was chosen last
            wanted = self.wanted
            if wanted != self._subscribed:
                self._subscribed = wanted
                self._number += 1
                try:
                    connection.send(as_frames(wire.line(command) for command in self._commands(wanted)))
                except (LinkError, BadCommand, wire.Unfit):
                    connection.abort()  # its reader reports

    @staticmethod
    def _ask_whether(connection: Connection, choice: int) -> None:
        """Have it say, when it has carried out what was sent before, that it goes by this choice."""
        try:
            connection.send(wire.line(f"filter delete {MARK}{choice}"))
        except LinkError:
            connection.abort()  # its reader reports

    def _answer(self, upto: int, there: bool) -> None:
        """Those that wait for a choice up to this one."""
        with self._sending:
            due = [then for number, then in self.awaited if number <= upto]
            self.awaited = [each for each in self.awaited if each[0] > upto]
        for then in due:
            then(there)
