"""How the process keeps its memory small over weeks."""

from __future__ import annotations

import gc
import mmap
import os
import time
from collections.abc import Callable
from contextlib import suppress
from ctypes import CDLL
from pathlib import Path

from event_agent import quick

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
APART = 1 << 20  # bytes
KEPT = 2 << 20  # bytes; what one read of events takes until they are written is some 1.5 MB
ARENAS = 2  # more than at the start; at rest there is nearly 1 MB of room in those, and 200 commands under way fit
# Seconds between two looks of Spare. While 1,000 events a second pass, what was given back is resident again after 10.
LOOK, LONGEST = 1.0, 80.0
WORTH = 1 << 18  # bytes
_PAGE = os.sysconf("SC_PAGE_SIZE")


def read_buffer(size: int) -> mmap.mmap:
    """A buffer to read into, of which only what was ever read into is resident: a bytearray is written to when made."""
    return mmap.mmap(-1, size)


def settle() -> None:
    """Objects made at start-up stay, so the collector need not look at them; memory that is freed is used again.

    Called once, when all parts are made and before there are other threads.
    """
    gc.collect()
    gc.freeze()
    # Python takes its small objects from arenas of 1 MB and gives one back when nothing in it is in use: where
    # thousands of requests have waited for a server a few objects stay, and with them each arena. So it gets few more;
    # what it needs beyond that it takes from glibc, which gives back by the page (compiled/memory.c).
    if quick.compiled is not None:
        quick.compiled.limit_arenas(ARENAS)
    # The ESL binding has a buffer of 6.5 MB for each connection and touches next to nothing of it. By default glibc
    # takes the first such block that is freed as a reason to put later ones on the heap, where they are cleared, that
    # is, resident: 6.5 MB more for each connection made after the first loss. With a threshold of our own it does not.
    # With a threshold of our own it also gives back whatever is above 128 kB, and takes it again for the next read of
    # events: a page fault an event, and a fifth of its CPU. So it keeps as much as a read takes.
    # By default each thread allocates from an arena of its own, up to eight for each core, and what one has freed the
    # others can't use. Hardly any two of our threads allocate at one time: they need the interpreter to do so.
    with suppress(OSError, AttributeError):  # another C library
        libc = CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, APART)
        libc.mallopt(M_TRIM_THRESHOLD, KEPT)
        libc.mallopt(M_ARENA_MAX, 1)
        # Reading modules leaves holes in the heap, 0.7 MB together: they are given back, once.
        libc.malloc_trim(0)


def resident() -> int:
    """Bytes of this process that are in memory; 0 where the kernel does not say so."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError, ValueError):
        return 0


def trim() -> None:
    """Give back what is free, wherever it lies. That takes some milliseconds, in which nothing else runs."""
    gc.collect()
    with suppress(OSError, AttributeError):  # another C library
        CDLL(None).malloc_trim(0)


class Spare:
    """Gives back what a flood or an outage has taken and what is free again. One thread at a time.

    glibc gives back by itself what is free at the end of its heap only, and what was allocated last often stays. Python
    keeps up to 2,000 tuples of each length for later ones. After a flood they lie all over its arenas of 1 MB, and none
    of these can be given back; a full collection lets go of them (gcmodule.c, clear_freelists).
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, resident: Callable[[], int] = resident,
        trim: Callable[[], object] = trim,
    ) -> None:  # fmt: skip
        self._clock, self._resident, self._trim = clock, resident, trim
        self._wait = LOOK
        self._due = clock()  # at once: a flood may come before the next look
        self._least = 0  # resident bytes, the fewest that were seen

    def look(self) -> None:
        """To be called now and then. Where there are KEPT bytes more than at the least, the free ones are given back.

        While that brings nothing, as what was taken is still in use, it is tried less and less often.
        """
        now = self._clock()
        if now < self._due:
            return
        size = self._resident()
        self._least = min(size, self._least or size)
        brought = True
        if size > self._least + KEPT:
            self._trim()
            brought = size - self._resident() > WORTH
        self._wait = LOOK if brought else min(2 * self._wait, LONGEST)
        self._due = now + self._wait
