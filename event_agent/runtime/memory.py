"""How the process keeps its memory small over weeks."""

from __future__ import annotations

import gc
import mmap
from contextlib import suppress
from ctypes import CDLL

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h
APART = 1 << 20  # bytes
KEPT = 2 << 20  # bytes; what one read of events takes until they are written is some 1.5 MB


def read_buffer(size: int) -> mmap.mmap:
    """A buffer to read into, of which only what was ever read into is resident: a bytearray is written to when made."""
    return mmap.mmap(-1, size)


def settle() -> None:
    """Objects made at start-up stay, so the collector need not look at them; memory that is freed is used again.

    Called once, when all parts are made and before there are other threads.
    """
    gc.collect()
    gc.freeze()
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
