"""How the process keeps its memory small over weeks. Called once, when all parts are made."""

from __future__ import annotations

import gc
from contextlib import suppress
from ctypes import CDLL

M_MMAP_THRESHOLD = -3  # malloc.h
APART = 1 << 20  # bytes


def settle() -> None:
    """Objects made at start-up live for ever, so the collector need not look at them; large blocks are given back."""
    gc.collect()
    gc.freeze()
    # The ESL binding has a buffer of 6.5 MB for each connection and touches next to nothing of it. By default glibc
    # takes the first such block that is freed as a reason to put later ones on the heap, where they are cleared, that
    # is, resident: 6.5 MB more for each connection made after the first loss. With a threshold of our own it does not.
    with suppress(OSError, AttributeError):  # another C library
        CDLL(None).mallopt(M_MMAP_THRESHOLD, APART)
