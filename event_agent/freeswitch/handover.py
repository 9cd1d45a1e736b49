"""The event connection outlives the process: it is left to the service manager, and taken up by the next process.

FreeSWITCH goes on writing to a socket that nobody reads for up to 600 s and queues 100,000 events behind it, so what it
fires while the agent is restarted is there when the next process reads on. What the next one has to know stands in a
memory file that is left as well, as JSON:

    version   of this format
    where     host:port of FreeSWITCH
    core_uuid of FreeSWITCH
    calls     channels up, as far as known
    rest      what had been read of a frame that was not complete, in base64

One process reads at a time: the reader holds a lock (fcntl) on the memory file.
Source: systemd's sd_notify(3), FDSTORE=1; that FreeSWITCH plays along was measured (docs/DELIVERY.md).
"""

from __future__ import annotations

import base64
import fcntl
import json
import logging
import os
import select
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from event_agent.freeswitch import wire
from event_agent.freeswitch.connection import Connection

log = logging.getLogger(__name__)

SOCKET, NOTES = "freeswitch-events", "freeswitch-events-notes"  # names in the store
VERSION = 1
MOST = 80 * 1024 * 1024  # bytes of notes; a frame that is not complete has up to 64 MB, and base64 adds a third


class Keeper(Protocol):
    """Keeps descriptors for the next process."""

    def store(self, name: str, descriptor: int) -> bool: ...

    def drop(self, name: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Left:
    """What the process before has left."""

    connection: Connection
    core_uuid: str
    calls: int


class Handover:
    """One event connection and the notes to it. `take` first, once; all on the event thread."""

    def __init__(self, keeper: Keeper, inherited: Mapping[str, Sequence[int]], where: str) -> None:
        """`inherited`: descriptors by name. `where`: host:port of the FreeSWITCH that is wanted."""
        self._keeper = keeper
        self._where = where
        self._sockets = list(inherited.get(SOCKET, ()))
        self._found = list(inherited.get(NOTES, ()))
        self._notes = -1
        self._stored = False

    def take(self) -> Left | None:
        """The connection that was left, if it is good; else one line, and it is closed. Only the first time."""
        sockets, self._sockets = self._sockets, []
        found, self._found = self._found, []
        if not sockets and not found:
            return None
        try:
            fault, notes = self._judge(sockets, found)
            if not fault:
                rest = base64.b64decode(notes["rest"], validate=True)
                left = Left(Connection.adopted(sockets[0], rest), notes["core_uuid"], notes["calls"])
                self._notes, found = found[0], found[1:]
                if not rest:
                    self.note(left.core_uuid, 0, b"")  # a killed process leaves no part of a frame
                sockets = sockets[1:]
                self._stored = True
                return left
        except (OSError, ValueError) as error:
            fault = str(error)
        finally:
            for descriptor in (*sockets, *found):
                os.close(descriptor)
        log.warning("the event connection of the last process can't be used: %s; connecting anew", fault)
        self.forget()
        return None

    def _judge(self, sockets: Sequence[int], found: Sequence[int]) -> tuple[str, dict[str, Any]]:
        """Why what was left can't be used, and the notes. Raises OSError, ValueError."""
        if not found:
            return "its notes are missing", {}
        if not sockets:
            return "FreeSWITCH has closed it", {}
        if len(sockets) > 1 or len(found) > 1:
            return f"{len(sockets)} were kept, with {len(found)} notes", {}
        if not stat.S_ISSOCK(os.fstat(sockets[0]).st_mode):
            return "it is no socket", {}
        try:
            fcntl.lockf(found[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return "another process reads it", {}
        data = os.pread(found[0], MOST, 0)
        notes = json.loads(data)
        if not isinstance(notes, dict) or notes.get("version") != VERSION:
            return "its notes are of another version", {}
        core_uuid = notes.get("core_uuid")
        if not (
            isinstance(core_uuid, str)
            and wire.is_uuid(core_uuid)
            and isinstance(notes.get("rest"), str)
            and isinstance(notes.get("calls"), int)
        ):
            return "its notes are damaged", {}
        if notes.get("where") != self._where:
            return f"it is to {str(notes.get('where'))[:100]}, not to {self._where}", {}
        poll = select.poll()
        poll.register(sockets[0], select.POLLRDHUP)
        if any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0)):
            return "FreeSWITCH has closed it", {}
        return "", notes

    def hold(self, connection: Connection, core_uuid: str) -> bool:
        """Leave a connection, so that it outlives this process; False if nobody keeps it."""
        if self._notes < 0:
            self._notes = os.memfd_create(NOTES, os.MFD_CLOEXEC)
            fcntl.lockf(self._notes, fcntl.LOCK_EX)
        self.note(core_uuid, 0, b"")
        self._stored = self._keeper.store(NOTES, self._notes) and self._keeper.store(SOCKET, connection.fileno)
        return self._stored

    def note(self, core_uuid: str, calls: int, rest: bytes) -> None:
        """Write the notes."""
        text = json.dumps({
            "version": VERSION, "where": self._where, "core_uuid": core_uuid, "calls": calls,
            "rest": base64.b64encode(rest).decode(),
        })  # fmt: skip
        os.ftruncate(self._notes, 0)
        os.pwrite(self._notes, text.encode(), 0)

    def forget(self) -> None:
        """The connection is over."""
        if self._stored or self._notes < 0:
            self._keeper.drop(SOCKET)
            self._keeper.drop(NOTES)
        self._stored = False
        if self._notes >= 0:
            os.close(self._notes)
            self._notes = -1
