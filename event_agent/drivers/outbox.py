"""What is to be delivered and not yet acknowledged: in memory first, then on disk, always in order.

    offer -> waiting -> take -> flying -> acknowledged
             |   ^                  |
             v   | (from disk)      +-> again (a lost link, a time-out): back to the head of waiting
            disk -> tail

- `waiting` holds what is sent next. While it has room and nothing stands on disk before it, events go there.
- Beyond that they go to disk, and are read back in order when there is room. Nothing passes what is on disk.
- When the disk takes no more (its bound, no space, an I/O error), events go to `tail`, in memory, and follow when the
  disk has been read. What finds no room there either is refused: counted under the reason, newest first, so that a
  loss is one gap and not many.
- With `always`, an event goes to disk before it is to be had from `take`.
- All memory together has one bound, in bytes.
- At the end of the process `put_away` writes what is in memory to disk: what comes before the disk's records to a
  folder of its own, the front, which `Outbox` reads first at the next start.

No thread and no lock: the caller has the lock. Time is passed in.
"""

from __future__ import annotations

import os
import pwd
import struct
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from event_agent.drivers.base import BUFFER_FULL, SPOOL_DAMAGED, SPOOL_FAULT, SPOOL_FULL, STOPPED, Loss
from event_agent.drivers.segments import Recovered, SegmentFiles, SpoolError, drop, look

_HEAD = struct.Struct("<HB")  # bytes of the subject, of the id
OVERHEAD = 200  # bytes that an event takes in memory beside its payload, about
FRONT = "front"  # the folder in the spool's for what comes before the rest
READ = 1024 * 1024  # bytes read from disk at one time, at most


@dataclass(slots=True, eq=False)
class Outgoing:
    """One event on its way."""

    subject: bytes
    msg_id: bytes
    parts: tuple[bytes, ...]  # the payload
    disk: int = 0  # its number on disk, 0 for one that is in memory only
    covers: int = 0  # number on disk up to which those behind it are through, 0 if none are
    born: float = 0.0  # time.monotonic() of its offer; 0 for one from before the start
    sent: float = 0.0  # time.monotonic() at which it was taken
    tries: int = 0  # how often it was taken
    through: bool = False  # acknowledged, or given up
    news: bool = False  # it says what was lost, and is no event of FreeSWITCH
    front: bool = False  # it stands in the front as well
    size: int = 0  # bytes in memory, about; known once it is in an outbox

    @property
    def payload(self) -> bytes:
        """The parts put together, each time it is asked for."""
        return b"".join(self.parts)


def look_at(folder: str) -> Recovered:
    """What a spool holds, its front too, while its owner may be at work; changes nothing. Raises SpoolError."""
    found = look(folder)
    if FRONT in found.foreign:
        first = look(f"{folder}/{FRONT}")
        found.records += first.records
        found.size += first.size
        found.torn += first.torn
        found.foreign = tuple(name for name in found.foreign if name != FRONT)
    return found


def faults(folder: str) -> list[str]:
    """What stands in the way of a spool there, one line each; changes nothing."""
    place = Path(folder)
    while not place.exists() and place != place.parent:
        place = place.parent
    if not place.is_dir():
        return [f"no spool: {place} is no folder"]
    if not os.access(place, os.W_OK | os.X_OK):
        return [f"no spool: {place} can't be written to by {pwd.getpwuid(os.geteuid()).pw_name}"]
    if str(place) != str(Path(folder)):
        return []  # it will be made
    try:
        found = look_at(folder)
    except SpoolError as error:
        return [f"no spool: {error}"]
    said = [f"spool: {found.torn} bytes at the end are no whole record"] if found.torn else []
    if found.foreign:
        said.append(f"spool: {folder} holds files that are not ours: {', '.join(found.foreign)[:200]}")
    return said


def drop_all(folder: str) -> tuple[int, int]:
    """Delete what a spool holds, while nobody uses it; returns events and bytes. Raises SpoolError."""
    records, size = drop(folder)
    if Path(folder, FRONT).is_dir():
        front = drop(f"{folder}/{FRONT}")
        records, size = records + front[0], size + front[1]
    return records, size


def _size(event: Outgoing) -> int:
    return sum(map(len, event.parts)) + len(event.subject) + len(event.msg_id) + OVERHEAD


def packed(event: Outgoing) -> bytes:
    """An event as it stands on disk."""
    return b"".join(
        (_HEAD.pack(len(event.subject), len(event.msg_id)), event.subject, event.msg_id, *event.parts)
    )


def unpacked(number: int, body: bytes) -> Outgoing | None:
    """The event of a record; None if the record holds no event."""
    if len(body) < _HEAD.size:
        return None
    subject, msg_id = _HEAD.unpack_from(body)
    start = _HEAD.size
    if len(body) < start + subject + msg_id:
        return None
    return Outgoing(
        body[start : start + subject],
        body[start + subject : start + subject + msg_id],
        (body[start + subject + msg_id :],),
        disk=number,
    )


class Outbox:
    """The events that are not acknowledged: in flight, in memory and on disk, in their order."""

    def __init__(
        self, memory: int, disk: SegmentFiles | None = None, always: bool = False, front: SegmentFiles | None = None
    ) -> None:
        """`memory`: bytes that may wait in memory. `disk` and `front` are open. Raises SpoolError."""
        self._most = memory
        self._disk: SegmentFiles | None = None
        self._always = False
        self._waiting: deque[Outgoing] = deque()
        self._flying: deque[Outgoing] = deque()
        self._base = 0  # the ticket of _flying[0]; none is used twice, so an answer on an earlier link means no other
        self._tail: deque[Outgoing] = deque()
        self._memory = 0  # bytes of all in memory
        self.lost: Counter[str] = Counter()  # reason -> events
        self.refused = BUFFER_FULL  # why `offer` did not take all, the last time that it did not
        self.losses: list[Loss] = []  # of events that had been taken; the part that reports them takes them out
        self.acknowledged = 0  # events
        self.again = 0  # events that were taken once more
        self.flying_bytes = 0  # of those that are under way
        self.fault = ""  # why the disk took nothing the last time; empty while it does
        self._front: SegmentFiles | None = None
        self._known_damage: dict[Path, int] = {}  # folder -> records that are counted already
        self._from_front = 0  # events of the front that are not through
        if disk is not None:
            self.adopt(disk, always, front)

    def adopt(self, disk: SegmentFiles, always: bool = False, front: SegmentFiles | None = None) -> None:
        """From now on there is a disk, with what is on it. Both are open. Raises SpoolError.

        What is in memory already stays before what is on disk, and behind what is in the front.
        """
        records = front.read(front.size + 1) if front is not None else []
        self._disk, self._always, self._front = disk, always, front
        if front is not None:
            self._damaged(front, records)
        found: deque[Outgoing] = deque()
        for number, body in records:
            event = unpacked(number, body)
            if event is not None:
                event.disk, event.front = 0, True
                self._keep(found, event)
                self._from_front += 1
        self._waiting.extendleft(reversed(found))

    # -- in

    def offer(self, events: Sequence[Outgoing]) -> int:
        """Take events, in order; returns how many. The rest is lost, and counted."""
        disk = self._disk
        if not self._tail and not self._always and (disk is None or not disk.unread):
            taken = 0
            memory, most, keep = self._memory, self._most, self._waiting.append
            for event in events:
                event.size = size = _size(event)
                if memory + size > most:
                    break
                memory += size
                keep(event)
                taken += 1
            self._memory = memory
            if taken == len(events):
                return taken
            return taken + (self._to_disk(events[taken:]) if disk is not None else self._refuse(events[taken:]))
        return self._to_disk(events) if disk is not None and not self._tail else self._to_tail(events, SPOOL_FULL)

    def _to_disk(self, events: Sequence[Outgoing]) -> int:
        """Events that go to disk, and with `always` to memory as well, as far as that is next in order."""
        disk = self._disk
        assert disk is not None
        behind = disk.unread > 0
        first = disk.last + 1
        try:
            taken = disk.append([packed(event) for event in events])
            self.fault = ""
            reason = SPOOL_FULL
        except SpoolError as error:
            taken, self.fault, reason = 0, str(error), SPOOL_FAULT
        if self._always and not behind:
            kept = 0
            for event in events[:taken]:
                if self._memory + _size(event) > self._most:
                    break
                event.disk = first + kept
                self._keep(self._waiting, event)
                kept += 1
            disk.rewind(first + kept)
        if taken < len(events):
            return taken + self._to_tail(events[taken:], reason)
        return taken

    def _to_tail(self, events: Sequence[Outgoing], reason: str) -> int:
        taken = 0
        # Where nothing is on disk before it, what the disk does not take is simply next.
        place = self._tail if self._tail or (self._disk is not None and self._disk.unread) else self._waiting
        for event in events:
            if self._memory + _size(event) > self._most:
                self.lost[reason] += len(events) - taken
                self.refused = reason
                break
            self._keep(place, event)
            taken += 1
        return taken

    def _refuse(self, events: Sequence[Outgoing]) -> int:
        self.lost[BUFFER_FULL] += len(events)
        self.refused = BUFFER_FULL
        return 0

    def _keep(self, place: deque[Outgoing], event: Outgoing) -> None:
        place.append(event)
        event.size = _size(event)
        self._memory += event.size

    def announce(self, event: Outgoing) -> bool:
        """Take an event that says what was lost; False, and nothing is counted, if there is no room."""
        before, refused = self.lost.copy(), self.refused
        if self.offer([event]):
            return True
        self.lost, self.refused = before, refused
        return False

    # -- out

    def take(self, count: int, now: float) -> list[tuple[int, Outgoing]]:
        """At most `count` events that are to be sent now, each with its ticket, in order."""
        out: list[tuple[int, Outgoing]] = []
        waiting, flying = self._waiting, self._flying
        while len(out) < count:
            if not waiting and not self._refill():
                break
            event = waiting.popleft()
            if event.tries:
                self.again += 1
            event.tries += 1
            event.sent = now
            self.flying_bytes += event.size
            out.append((self._base + len(flying), event))
            flying.append(event)
        return out

    def _refill(self) -> bool:
        """Get what is next from disk, then from the tail; False if there is nothing."""
        disk, waiting = self._disk, self._waiting
        if self._flying and self._memory >= self._most:
            return False  # acknowledgements will make room
        while disk is not None and disk.unread and not waiting:
            room = max(1, min(READ, self._most // 2, self._most - self._memory))
            try:
                records = disk.read(room, OVERHEAD)
            except SpoolError as error:
                self.fault = str(error)
                return False
            self._damaged(disk, records)
            for number, body in records:
                event = unpacked(number, body)
                if event is not None:
                    self._keep(waiting, event)
        if not waiting and self._tail:
            waiting.extend(self._tail)
            self._tail.clear()
        return bool(waiting)

    def _damaged(self, files: SegmentFiles, records: Sequence[tuple[int, bytes]]) -> None:
        """What of these files could not be read counts as lost."""
        bad = sum(unpacked(number, body) is None for number, body in records)
        count = files.damaged - self._known_damage.get(files.folder, 0) + bad
        if count:
            self._known_damage[files.folder] = files.damaged
            self.lost[SPOOL_DAMAGED] += count
            near = [body for _, body in records]
            self.losses.append(Loss(SPOOL_DAMAGED, count, near[0] if near else b"", near[-1] if near else b""))

    # -- what becomes of it

    def through(self, tickets: Sequence[int], acknowledged: bool = True) -> int:
        """These are acknowledged (or given up); returns how many were under way: others were twice or late."""
        flying = self._flying
        count = 0
        for ticket in tickets:
            at = ticket - self._base
            if 0 <= at < len(flying):
                event = flying[at]
                if not event.through:
                    event.through = True
                    self.flying_bytes -= event.size
                    count += 1
        if acknowledged:
            self.acknowledged += count
        last = 0
        while flying and flying[0].through:
            event = flying.popleft()
            if event.front:
                self._front_through()
            self._base += 1
            self._memory -= event.size
            last = event.covers or event.disk or last
        if last and self._disk is not None:
            try:
                self._disk.done_with(last)
            except SpoolError as error:
                self.fault = str(error)
        return count

    def give_up(self, ticket: int, reason: str) -> None:
        """One that is under way will never be acknowledged."""
        event = self.flying(ticket)
        if event is not None and self.through([ticket], acknowledged=False):
            self.lost[reason] += not event.news
            self.losses.append(Loss(reason, 1, event.payload, event.payload))

    def _front_through(self) -> None:
        self._from_front -= 1
        if not self._from_front and self._front is not None:
            try:
                self._front.clear()
            except SpoolError as error:
                self.fault = str(error)

    def put_away(self) -> int:
        """Write to disk what is in memory only; nothing may be taken afterwards. Returns how many are lost."""
        self.send_again()
        gone: list[bytes] = []
        for files, place in ((self._front, self._waiting), (self._disk, self._tail)):
            bodies = [packed(event) for event in place if not event.disk]
            if not bodies:
                continue
            taken = 0
            try:
                if files is not None:
                    if files is self._front:
                        files.clear()
                    taken = files.append(bodies)
                    files.sync()
            except SpoolError as error:
                self.fault = str(error)
            gone += bodies[taken:]
        if gone:
            self.lost[STOPPED] += len(gone)
            self.losses.append(Loss(STOPPED, len(gone), gone[0], gone[-1]))
        return len(gone)

    def probe(self) -> None:
        """If the disk failed the last time, see whether it still does."""
        if self.fault and self._disk is not None:
            try:
                self._disk.probe()
                self.fault = ""
            except SpoolError as error:
                self.fault = str(error)

    def flying(self, ticket: int) -> Outgoing | None:
        """The event that has this ticket, while it is under way."""
        at = ticket - self._base
        return self._flying[at] if 0 <= at < len(self._flying) and not self._flying[at].through else None

    def send_again(self) -> int:
        """Nothing that is under way counts as sent: it is taken again, from the oldest. Returns how many."""
        events: list[Outgoing] = []
        for event in self._flying:
            if not event.through:
                events.append(event)
                continue
            self._memory -= event.size
            if event.disk:  # the first of all is not through, so there is one before it
                events[-1].covers = event.disk
        self._base += len(self._flying)
        self._flying.clear()
        self.flying_bytes = 0
        self._waiting.extendleft(reversed(events))
        return len(events)

    # -- how it stands

    @property
    def under_way(self) -> int:
        """Events that were taken and are not through."""
        return len(self._flying)

    @property
    def pending(self) -> int:
        """Events that are not through, wherever they are."""
        unread = self._disk.unread if self._disk is not None else 0
        return len(self._flying) + len(self._waiting) + unread + len(self._tail)

    @property
    def safe(self) -> bool:
        """All that it holds is on disk: if the process is killed, nothing is lost."""
        return all(each.disk for place in (self._waiting, self._flying, self._tail) for each in place)

    @property
    def memory(self) -> int:
        """Bytes in memory, about."""
        return self._memory

    @property
    def on_disk(self) -> int:
        """Bytes on disk."""
        return self._disk.size if self._disk is not None else 0

    @property
    def oldest_sent(self) -> float:
        """time.monotonic() at which the oldest that is under way was sent; 0 while nothing is."""
        return self._flying[0].sent if self._flying else 0.0

    def oldest_age(self, now: float) -> float:
        """Seconds since the oldest that is not through was offered; 0 if there is none, or if that is unknown."""
        oldest = self._flying[0] if self._flying else self._waiting[0] if self._waiting else None
        return max(0.0, now - oldest.born) if oldest is not None and oldest.born else 0.0
