"""The disk of at-least-once delivery: opened, confirmed and looked at again. What goes where is the outbox's.

The lock of stream.py guards it where a method says so; the rest runs on the loop's thread, or before it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from event_agent.drivers.base import SPOOL_DAMAGED, Loss
from event_agent.drivers.nats.options import StreamOptions
from event_agent.drivers.outbox import FRONT, Outbox
from event_agent.drivers.segments import SegmentFiles, SpoolError

log = logging.getLogger(__name__)

LOOK = 5.0  # seconds between two looks at a disk that has failed
SYNC = 1.0  # seconds between two fdatasync with spool_sync interval


class Spool:
    """The files of an outbox, and what is wrong with them."""

    def __init__(self, options: StreamOptions, box: Outbox) -> None:
        self._options = options
        self._box = box
        self._files: list[SegmentFiles] = []
        self._missing = ""  # why there is none, although there should be
        self._failed = ""  # until its disk has taken everything for LOOK seconds
        self._failed_at = 0.0  # time.monotonic() at which that was last seen
        self._looked = 0.0  # time.monotonic() of the last look at the disk
        self._synced = 0.0  # time.monotonic() of the last fdatasync

    @property
    def fault(self) -> str:
        """What is wrong with it; empty if nothing is."""
        return self._missing or self._failed

    def open(self, adopt: Callable[[SegmentFiles, SegmentFiles], None]) -> None:
        """Take up what is on disk; `adopt` hands the files over, with the lock. Never raises: it is tried again."""
        options = self._options
        disk = SegmentFiles(options.spool, options.spool_most)
        front = SegmentFiles(f"{options.spool}/{FRONT}", max(options.spool_most, 2 * options.buffer))
        self._looked = time.monotonic()
        try:
            found, first = disk.open(), front.open()
            adopt(disk, front)
        except SpoolError as error:
            disk.close()
            front.close()
            if not self._missing:
                log.error("no spool: %s; events are lost when memory is full; retrying", error)
            self._missing = str(error)
            return
        if self._missing:
            log.info("spool: the disk takes events again")
            self._missing = ""
        if records := found.records + first.records:
            log.info("spool: %d events wait on disk", records)
        if torn := found.torn + first.torn:
            self._box.losses.append(Loss(SPOOL_DAMAGED, None))
            log.warning("spool: %d bytes of an incomplete record at its end were cut off", torn)
        if foreign := [name for name in found.foreign if name != FRONT]:
            log.warning("spool: %s holds files that are not ours: %s", options.spool, ", ".join(foreign)[:200])

    def adopted(self, disk: SegmentFiles, front: SegmentFiles) -> None:
        """Lock held: these are used from now on."""
        self._box.adopt(disk, self._options.spool_always, front)
        self._files = [disk, front]

    def close(self) -> None:
        """Lock held."""
        for files in self._files:
            files.close()

    def look_due(self, now: float) -> bool:
        """True if it is time to look at the disk again; a look begins."""
        if now - self._looked < LOOK or not self._options.spool:
            return False
        self._looked = now
        return True

    @property
    def is_open(self) -> bool:
        """Whether there are files."""
        return bool(self._files)

    def sync(self, now: float) -> None:
        """Have the disk confirm, as spool_sync wants it. Lock held."""
        how = self._options.spool_sync
        if not self._files or how == "off" or (how == "interval" and now - self._synced < SYNC):
            return
        disk = self._files[0]
        if disk.unsynced:
            self._synced = now
            try:
                disk.sync()
            except SpoolError as error:
                self._box.fault = str(error)

    def say(self) -> None:
        """One line when the disk fails, one when it works again. A full disk still takes a small event now and then."""
        now = time.monotonic()
        if fault := self._box.fault:
            if not self._failed:
                log.error("spool: %s; events are kept in memory until it is full", fault)
            self._failed, self._failed_at = fault, now
        elif self._failed and now - self._failed_at >= LOOK:
            self._failed = ""
            log.info("spool: the disk takes events again")
