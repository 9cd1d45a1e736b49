"""Records in files: appended in order, read in order, deleted once they are done with. Bounded and checksummed.

The folder holds segments, `<number of the first record, 16 hex digits>.spool`, and `done`, which says up to which
number records are done with. A segment is MAGIC and then records, each

    length of the body, u32 | CRC-32 of number and body, u32 | number, u64 | body

(little endian). The body is bytes that mean something to the caller alone. Numbers rise by one with each record that
is kept, over restarts too.

Rules:
- The bound is hard: `append` takes what fits and refuses the rest. What was taken is never given up for something
  newer.
- A segment is deleted when all its records are done with; nothing else deletes one, but `drop`.
- A tail that was cut off while it was written (a crash, a full disk) is cut off and counted. A record whose checksum
  is wrong is skipped and counted, as far as it can be told where the next one begins; the rest of its segment is
  counted otherwise. A file that is none of ours is left alone and named.
- A write that fails (no space, an I/O error) leaves the file as it was before it; the caller is told by SpoolError.
- Memory does not grow with what is on disk: a read takes as many bytes as it is asked for.

No lock and no thread: the caller has both. One process owns a folder, by flock(2) on `lock`.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import zlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from event_agent.errors import AgentError

MAGIC = b"event-agent spool 1\n"
HEAD = struct.Struct("<IIQ")
DONE = struct.Struct("<QI")  # number, CRC-32 of its eight bytes
MAX_BODY = 64 * 1024 * 1024  # bytes; a length beyond it is no length
SEGMENT_LEAST, SEGMENT_MOST = 65536, 16 * 1024 * 1024  # bytes; in between, a sixteenth of the bound
PROBE = "probe"  # a file that is written and deleted to see whether the disk takes anything
OURS = ("lock", "done", PROBE)
_NAME = re.compile(r"00[0-9a-f]{14}\.spool\Z")  # no folder ever gets to a number that begins otherwise


class SpoolError(AgentError):
    """The folder or the disk has failed. Its text says which file and why."""


@dataclass(slots=True)
class Recovered:
    """What `open` found."""

    records: int = 0  # that are not done with
    size: int = 0  # bytes of all segments
    torn: int = 0  # bytes cut off the end of the last segment
    damaged: int = 0  # records that are lost, as far as numbers tell
    foreign: tuple[str, ...] = ()  # names of files that are none of ours


@dataclass(slots=True)
class _Segment:
    path: Path
    first: int  # number of its first record
    size: int  # bytes, MAGIC included
    count: int  # records written to it, damaged ones included


class SegmentFiles:
    """One folder of records."""

    def __init__(self, folder: str, most: int) -> None:
        """`most`: bytes that all segments may take together."""
        self.folder = Path(folder)
        self._most = most
        self._segment_size = min(max(most // 16, SEGMENT_LEAST), SEGMENT_MOST)
        self._segments: deque[_Segment] = deque()
        self._lock = self._tail = self._reader = self._done_file = -1  # descriptors
        self._reading: _Segment | None = None
        self._offset = 0  # in the segment that is read
        self._unread = 0  # number of the record at _offset
        self.size = 0  # bytes of all segments
        self.last = 0  # number of the last record that was taken
        self.done = 0  # number up to which all are done with
        self.damaged = 0  # records lost to wrong checksums
        self.unsynced = False  # something was written since the last `sync`

    # -- life

    def open(self) -> Recovered:
        """Make the folder or take up what is in it. Raises SpoolError."""
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            self._lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise SpoolError(f"{self.folder} is in use by another process") from None
            self._done_file = os.open(self.folder / "done", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
            found = self._survey(os.pread(self._done_file, DONE.size, 0), repair=True)
            self.done_with(self.done)
            return found
        except OSError as error:
            self.close()
            raise SpoolError(f"{error.filename or self.folder}: {error.strerror or error}") from None
        except SpoolError:
            self.close()
            raise

    def close(self) -> None:
        """Close all files; what is on disk stays."""
        for descriptor in (self._tail, self._reader, self._done_file, self._lock):
            if descriptor >= 0:
                os.close(descriptor)
        self._tail = self._reader = self._done_file = self._lock = -1
        self._reading = None

    def _survey(self, saved: bytes, repair: bool) -> Recovered:
        """Take up what is there. `saved`: what `done` holds. `repair`: cut off torn tails."""
        found = Recovered()
        entries = list(os.scandir(self.folder))
        # What has the name of a segment and is no file, such as a pipe, is not opened: that might never end.
        files = sorted(each.name for each in entries if _NAME.match(each.name) and each.is_file(follow_symlinks=False))
        foreign = sorted(each.name for each in entries if each.name not in (*files, *OURS))
        if len(saved) == DONE.size and DONE.unpack(saved)[1] == zlib.crc32(saved[:8]):
            self.done = DONE.unpack(saved)[0]
        for name in files:
            path = self.folder / name
            with open(path, "rb") as file:
                magic = file.read(len(MAGIC))
            size = path.stat().st_size
            if magic == MAGIC:
                self._segments.append(_Segment(path, int(name[:16], 16), size, 0))
            elif size < len(MAGIC) and MAGIC.startswith(magic):  # it ended before it had a record
                found.torn += size
                if repair:
                    path.unlink()
            else:
                foreign.append(name)
        for segment, following in zip(self._segments, list(self._segments)[1:], strict=False):
            segment.count = max(0, following.first - segment.first)
        if self._segments:
            tail = self._segments[-1]
            tail.count, good = self._scan(tail)
            found.torn += tail.size - good
            if tail.size > good:
                if repair:
                    os.truncate(tail.path, good)
                tail.size = good
        self.size = sum(segment.size for segment in self._segments)
        self.last = max(self.done, *(each.first + each.count - 1 for each in self._segments), 0)
        if self._segments:  # `done` may be missing, or older than the files
            self.done = max(self.done, self._segments[0].first - 1)
        self._unread = self.done + 1
        found.records = self.waiting
        found.size, found.foreign = self.size, tuple(foreign)
        return found

    def _scan(self, segment: _Segment) -> tuple[int, int]:
        """Records of a segment, and the bytes up to the end of the last whole one."""
        count, good = 0, len(MAGIC)
        with open(segment.path, "rb") as file:
            file.seek(good)
            while len(head := file.read(HEAD.size)) == HEAD.size:
                length, checksum, number = HEAD.unpack(head)
                if length > MAX_BODY or number != segment.first + count:
                    break
                body = file.read(length)
                if len(body) < length or zlib.crc32(body, zlib.crc32(head[8:])) != checksum:
                    break
                count += 1
                good += HEAD.size + length
        return count, good

    # -- writing

    def append(self, bodies: Sequence[bytes]) -> int:
        """Write records at the end; returns how many of them were taken: the rest would pass the bound.

        Raises SpoolError when the disk refuses the first of them. Nothing is synced: see `sync`.
        """
        taken = 0
        while taken < len(bodies):
            if not self._segments or self._segments[-1].size >= self._segment_size or self._tail < 0:
                if self.size + len(MAGIC) + HEAD.size + len(bodies[taken]) > self._most:
                    break
                try:
                    self._new_segment()
                except SpoolError:
                    if taken:
                        break
                    raise
            segment = self._segments[-1]
            room = self._most - self.size
            parts: list[bytes] = []
            size = number = 0
            for body in bodies[taken:]:
                whole = HEAD.size + len(body)
                if size + whole > room or (parts and segment.size + size >= self._segment_size):
                    break
                number = self.last + len(parts) // 2 + 1
                packed = number.to_bytes(8, "little")
                parts += (HEAD.pack(len(body), zlib.crc32(body, zlib.crc32(packed)), number), body)
                size += whole
            if not parts:
                break
            try:
                self._write(segment, b"".join(parts))
            except SpoolError:
                if taken:
                    break
                raise
            count = len(parts) // 2
            segment.count += count
            self.last += count
            taken += count
        return taken

    def _new_segment(self) -> None:
        """The records that follow go to a file of their own."""
        if self._tail >= 0:
            os.close(self._tail)
            self._tail = -1
        if self._segments and not self._segments[-1].count:  # a file that never got a record
            with suppress(OSError):
                self._forget(self._segments.pop())
        path = self.folder / f"{self.last + 1:016x}.spool"
        try:
            self._tail = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise SpoolError(f"{path}: {error.strerror}") from None
        segment = _Segment(path, self.last + 1, 0, 0)
        try:
            self._write(segment, MAGIC)
        except SpoolError:
            if self._tail >= 0:
                os.close(self._tail)
                self._tail = -1
            with suppress(OSError):
                path.unlink(missing_ok=True)
            raise
        self._segments.append(segment)

    def _write(self, segment: _Segment, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(self._tail, view) :]
        except OSError as error:
            try:
                os.ftruncate(self._tail, segment.size)
            except OSError:  # half a record may stand there: nothing is to follow it
                os.close(self._tail)
                self._tail = -1
            raise SpoolError(f"{segment.path}: {error.strerror}") from None
        segment.size += len(data)
        self.size += len(data)
        self.unsynced = True

    def sync(self) -> None:
        """Have the disk confirm what was written. May take long. Raises SpoolError."""
        self.unsynced = False
        if self._tail >= 0:
            try:
                os.fdatasync(self._tail)
            except OSError as error:
                raise SpoolError(f"{self.folder}: {error.strerror}") from None

    def probe(self) -> None:
        """Whether the disk would take something, and gives what it has taken. Raises SpoolError."""
        path = self.folder / PROBE
        try:
            self.folder.mkdir(mode=0o750, parents=True, exist_ok=True)
            try:
                with open(path, "wb", buffering=0) as file:
                    file.write(bytes(4096))
                    os.fdatasync(file.fileno())
            finally:
                path.unlink(missing_ok=True)
            for segment in self._segments:
                if segment.first + segment.count > self._unread and segment.path.exists():
                    os.close(os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC))
                    break
        except OSError as error:
            raise SpoolError(f"{error.filename or self.folder}: {error.strerror or error}") from None

    # -- reading

    def read(self, most: int, extra: int = 0) -> list[tuple[int, bytes]]:
        """The next records as (number, body), `most` bytes of them or one; empty at the end. Each is read once.

        `extra`: bytes that each counts for besides its own. Raises SpoolError when the disk refuses.
        """
        records: list[tuple[int, bytes]] = []
        size = 0
        while size < most and self._unread <= self.last:
            segment = self._find()
            if segment is None:
                break
            record = self._read_one(segment)
            if record is not None:
                records.append(record)
                size += len(record[1]) + HEAD.size + extra
        return records

    def rewind(self, number: int) -> None:
        """Read from this number on; records that are done with are not read again."""
        self._unread = max(number, self.done + 1)
        self._leave()

    def _find(self) -> _Segment | None:
        """The segment in which the next record stands, opened at its place."""
        if self._reading is not None and self._unread < self._reading.first + self._reading.count:
            return self._reading
        self._leave()
        for segment in self._segments:
            if self._unread < segment.first + segment.count:
                break
        else:
            return None
        if self._unread < segment.first:  # numbers that no file has
            self.damaged += segment.first - self._unread
            self._unread = segment.first
        try:
            self._reader = os.open(segment.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # somebody has deleted it
            self._give_up(segment)
            return None
        except OSError as error:
            raise SpoolError(f"{segment.path}: {error.strerror}") from None
        self._reading, self._offset = segment, len(MAGIC)
        skip = self._unread - segment.first
        for _ in range(skip):
            try:
                head = os.pread(self._reader, HEAD.size, self._offset)
            except OSError:
                head = b""
            if len(head) < HEAD.size or HEAD.unpack(head)[0] > MAX_BODY:
                self._give_up(segment)
                return None
            self._offset += HEAD.size + HEAD.unpack(head)[0]
        return segment

    def _read_one(self, segment: _Segment) -> tuple[int, bytes] | None:
        try:
            head = os.pread(self._reader, HEAD.size, self._offset)
            length, checksum, number = HEAD.unpack(head) if len(head) == HEAD.size else (MAX_BODY + 1, 0, 0)
            body = os.pread(self._reader, length, self._offset + HEAD.size) if length <= MAX_BODY else b""
        except OSError:
            length, body = -1, b""  # a disk that has lost it: what is behind may still be there
        if len(body) != length:
            self._give_up(segment)
            return None
        self._offset += HEAD.size + length
        expected, self._unread = self._unread, self._unread + 1
        if number != expected or zlib.crc32(body, zlib.crc32(head[8:])) != checksum:
            self.damaged += 1
            return None
        return number, body

    def _give_up(self, segment: _Segment) -> None:
        """It is not known where the next record of this segment begins."""
        end = segment.first + segment.count
        self.damaged += end - self._unread
        self._unread = end
        self._leave()

    def _leave(self) -> None:
        if self._reader >= 0:
            os.close(self._reader)
        self._reader, self._reading = -1, None

    # -- what is through

    def done_with(self, number: int) -> None:
        """All records up to this number are done with: their files go. Raises SpoolError."""
        number = min(number, self.last)
        moved = number > self.done
        self.done = max(self.done, number)
        self._unread = max(self._unread, self.done + 1)
        try:
            while self._segments and self._segments[0].first + self._segments[0].count - 1 <= self.done:
                segment = self._segments[0]
                if len(self._segments) == 1 and self._tail >= 0:
                    if segment.size < self._segment_size:
                        break  # it will take more
                    os.close(self._tail)
                    self._tail = -1
                self._segments.popleft()
                self._forget(segment)
            if moved:
                packed = self.done.to_bytes(8, "little")
                os.pwrite(self._done_file, DONE.pack(self.done, zlib.crc32(packed)), 0)
        except OSError as error:
            raise SpoolError(f"{self.folder}: {error.strerror}") from None

    def clear(self) -> None:
        """Delete all records. Raises SpoolError."""
        self.done_with(self.last)
        if self._tail >= 0:
            os.close(self._tail)
            self._tail = -1
        self.done_with(self.last)

    def _forget(self, segment: _Segment) -> None:
        if self._reading is segment:
            self._leave()
        segment.path.unlink(missing_ok=True)
        self.size -= segment.size

    @property
    def waiting(self) -> int:
        """Records that are not done with."""
        return self.last - self.done

    @property
    def unread(self) -> int:
        """Records that `read` has not given yet."""
        return self.last + 1 - self._unread


def look(folder: str) -> Recovered:
    """What a folder holds, while its owner may be at work; changes nothing. Raises SpoolError."""
    files = SegmentFiles(folder, 0)
    try:
        done = files.folder / "done"
        return files._survey(done.read_bytes() if done.exists() else b"", repair=False)
    except OSError as error:
        raise SpoolError(f"{error.filename or folder}: {error.strerror or error}") from None


def drop(folder: str) -> tuple[int, int]:
    """Delete what a folder holds, while nobody uses it; returns records and bytes. Raises SpoolError."""
    files = SegmentFiles(folder, 0)
    found = files.open()
    try:
        files.clear()
    finally:
        files.close()
    return found.records, found.size
