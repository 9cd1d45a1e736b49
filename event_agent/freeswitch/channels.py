"""Which channels there are, as far as consumers have heard: they saw the CHANNEL_CREATE and not the CHANNEL_DESTROY.

After a gap that list is wrong, and `bridge/unseen.py` finds out by how much. It outlives the process in FILE in the
state directory, a line for each change, written as it happens, so that it is right after a crash too:

    event-agent channels 1 <Core-UUID>
    +<uuid>
    -<uuid>
    =<headers of the last event that was seen, as JSON>      only after an orderly end

The package writes one with NOBODY for Core-UUID when it is upgraded from a version that keeps no such file: events may
have been missed since.

What is damaged is left out: at worst a channel is announced that need not have been. A file that grows is written anew.

A CHANNEL_DESTROY may come before its CHANNEL_CREATE: FreeSWITCH dispatches events from several threads.
CHANNEL_UUID renames a channel (switch_core_session.c, switch_core_session_set_uuid).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from event_agent.freeswitch import wire
from event_agent.freeswitch.gaps import Gaps
from event_agent.protocol.raw_event import Key, Names, RawEvent
from event_agent.runtime.health import Signs

log = logging.getLogger(__name__)

NAMES = frozenset(("CHANNEL_CREATE", "CHANNEL_DESTROY", "CHANNEL_UUID"))
LIVES = Names(*NAMES)
_BEGINS, _ENDS = Names("CHANNEL_CREATE"), Names("CHANNEL_DESTROY")
_OLD = Key("Old-Unique-ID")
FILE = "channels"
HEAD = "event-agent channels 1 "
NOBODY = "00000000-0000-0000-0000-000000000000"
MOST = 100_000  # channels
LONGEST_FILE = 64 * 1024 * 1024  # bytes that are read
SLACK = 20_000  # lines that the file may have beyond twice the channels
EARLY = 1024  # channels remembered whose end came before their beginning
EARLY_FOR = 10.0  # seconds


class Channels:
    """The channels that consumers have heard of. `linked` and `take` on the event thread, the rest on any."""

    name = "channels"

    def __init__(self, state_dir: str, gaps: Gaps) -> None:
        """`state_dir`: "" for none. `gaps` learns what the process before had seen."""
        self._path = Path(state_dir, FILE) if state_dir else None
        self._gaps = gaps
        self.most, self.slack = MOST, SLACK
        self._lock = threading.Lock()  # guards all that follows
        self._core = ""
        self._known: set[str] = set()
        self._dead: list[tuple[str, str]] = []  # Core-UUID and uuid of those that ended with their FreeSWITCH
        self._suspects: list[str] = []  # known before the last gap
        self._checking = False
        self._ended: set[str] = set()  # while it is checked
        self.early: dict[str, float] = {}  # uuid -> time.monotonic()
        self._orderly = True  # the process before came to an orderly end, or there was none
        self.file = -1
        self._lines = 0
        self._fault = False
        self._full = False
        self.epoch = 0  # of links; it rises with each

    # -- a part of the daemon

    def start(self) -> None:
        """Take up what the process before has left."""
        if self._path is None:
            return
        try:
            with self._path.open("rb") as file:
                data = file.read(LONGEST_FILE)
                touched = os.fstat(file.fileno()).st_mtime_ns // 1000
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("the list of channels can't be read: %s: %s", self._path, error.strerror)
            return
        head, _, rest = data.decode(errors="replace").partition("\n")
        core = head.removeprefix(HEAD)
        if core == head or not wire.is_uuid(core):
            log.warning("the list of channels can't be read: %s: not a list of channels", self._path)
            return
        self._core = core
        if core == NOBODY:
            self._core = core = ""
        lines = rest.split("\n")[:-1]  # the last one is empty, or torn
        for line in lines:
            uuid = line[1:]
            if line[:1] == "+" and wire.is_uuid(uuid) and len(self._known) < self.most:
                self._known.add(uuid)
            elif line[:1] == "-":
                self._known.discard(uuid)
        last = lines[-1] if lines else ""
        self._orderly = last[:1] == "="
        self._gaps.resume(core, last[1:].encode() if self._orderly else b"", touched)

    def stop(self, timeout: float) -> None:
        """After the last event: say that this was an orderly end."""
        with self._lock:
            if self.file >= 0:
                self._write(f"={self._gaps.trace()}\n")
                os.close(self.file)
                self.file = -1

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    # -- events

    def linked(self, core_uuid: str, seamless: bool) -> None:
        """Events come from this FreeSWITCH now; `seamless`: none was missed since the last link."""
        with self._lock:
            self.epoch += 1
            if core_uuid != self._core:
                self._dead += [(self._core, uuid) for uuid in sorted(self._known)]
                self._known.clear()
                self._core, seamless = core_uuid, False
            self._suspects = [] if seamless and self._orderly else list(self._known)
            self._checking = not seamless or not self._orderly
            self._orderly = True
            self._ended.clear()
            self.early.clear()
            self._anew()

    def take(self, events: Sequence[RawEvent]) -> None:
        """Channels that begin, end, are renamed; all are of LIVES."""
        text = ""
        with self._lock:
            for event in events:
                uuid = event.uuid
                if event.is_one_of(_BEGINS):
                    text += self._began(uuid)
                elif event.is_one_of(_ENDS):
                    text += self._end(uuid)
                elif (old := event.get(_OLD)) in self._known:
                    text += self._end(old) + self._began(uuid)
            if text:
                self._write(text)
                if self._lines > self.slack + 2 * len(self._known):
                    self._anew()

    def _began(self, uuid: str) -> str:
        if uuid in self.early and time.monotonic() - self.early.pop(uuid) < EARLY_FOR:
            return ""
        return self._add(uuid)

    def _add(self, uuid: str) -> str:
        if uuid in self._known or not wire.is_uuid(uuid):
            return ""
        if len(self._known) >= self.most:
            if not self._full:
                self._full = True
                log.warning(
                    "more than %d channels: the others are not tracked, so their end may go unreported", self.most
                )
            return ""
        self._known.add(uuid)
        return f"+{uuid}\n"

    def _end(self, uuid: str) -> str:
        if self._checking:
            self._ended.add(uuid)
        if uuid in self._known:
            self._known.discard(uuid)
            return f"-{uuid}\n"
        self.early[uuid] = time.monotonic()
        if len(self.early) > EARLY:
            del self.early[next(iter(self.early))]
        return ""

    # -- for the one that looks what was missed

    def dead(self) -> list[tuple[str, str]]:
        """Core-UUID and uuid of channels that ended with their FreeSWITCH; each is given once."""
        with self._lock:
            dead, self._dead = self._dead, []
        return dead

    def to_check(self) -> tuple[bool, list[str]]:
        """Whether channels may have begun or ended unseen, and which of them may have ended."""
        with self._lock:
            return self._checking, [uuid for uuid in self._suspects if uuid in self._known]

    def knows(self, uuid: str) -> bool:
        """Whether consumers have heard of it, of its end too."""
        return uuid in self._known or uuid in self._ended or uuid in self.early

    def gone(self, uuid: str) -> bool:
        """It is not there any more; True if that was not published."""
        with self._lock:
            if uuid not in self._known:
                return False
            self._write(self._end(uuid))
            return True

    def found(self, uuid: str) -> bool:
        """It is there; True if that was not published."""
        with self._lock:
            line = "" if self.knows(uuid) else self._add(uuid)
            if line:
                self._write(line)
            return bool(line)

    def checked(self, epoch: int) -> None:
        """What was missed before this link is known."""
        with self._lock:
            if epoch == self.epoch:
                self._checking = False
                self._suspects = []
                self._ended.clear()

    @property
    def count(self) -> int:
        """Channels that there are."""
        return len(self._known)

    # -- the file; lock held

    def _anew(self) -> None:
        """Write it with what is known now."""
        if self._path is None:
            return
        new = self._path.with_suffix(".new")
        lines = "".join(f"+{uuid}\n" for uuid in self._known)
        try:
            self._path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)
            if self.file >= 0:
                os.close(self.file)
            self.file = file
            self._lines = len(self._known)
            self._append(f"{HEAD}{self._core}\n{lines}")
            new.replace(self._path)
            self._fault = False
        except OSError as error:
            self._failed(error)

    def _write(self, text: str) -> None:
        if self.file < 0:
            return
        try:
            self._append(text)
            self._lines += text.count("\n")
        except OSError as error:
            self._failed(error)

    def _append(self, text: str) -> None:
        data = text.encode()
        while data:
            data = data[os.write(self.file, data) :]

    def _failed(self, error: OSError) -> None:
        """Nothing more is written until the next link; the next start takes it for the file of a killed process."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1
        if not self._fault:
            self._fault = True
            log.warning("the list of channels can't be kept over a restart: %s: %s", self._path, error.strerror)
