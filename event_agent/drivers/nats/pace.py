"""Whether we read as fast as a NATS server sends. No sockets, no threads.

A server closes the link of a slow consumer without a message, so that is recognised by its signs: the end of the link
comes at once after a long time in which nothing was read, or behind bytes that had piled up. A server that is restarted
while it is busy leaves some, too, but no more than the requests that were under way: a slow consumer has let the
buffers of both machines fill up (nearly 4 MB over loopback).
"""

from __future__ import annotations

import time
from collections.abc import Callable

from event_agent.drivers.nats.timing import DEFAULT

PILED_UP = 32768  # bytes of a read behind which there may be more
MUCH = 262144  # bytes that had piled up by the end, with the same meaning
SOON = 0.5  # seconds within which we hear of an end that was there already, on a machine that is busy


class Pace:
    """Gets each read from the thread that reads."""

    def __init__(self, slow: float = DEFAULT.slow, more: Callable[[], bool] = lambda: False) -> None:
        """`slow`: seconds in which nothing is read, that are long. `more`: whether bytes wait to be read."""
        self.busy = False  # something is being read, or was and is being dealt with; set by the thread that reads
        self._slow = slow
        self._more = more
        self._began = 0.0  # time.monotonic() of the last read
        self._ended = 0.0  # … at which it was dealt with
        self._rest = False  # it brought as much as it could, and more was there when that had been dealt with
        self._piled = 0  # bytes of the last reads that did, one after the other, and of the rest after them

    def read(self, size: int, began: float) -> None:
        """So many bytes were read at `began`, and have been dealt with now."""
        full = size >= PILED_UP
        self._piled = self._piled + size if full or self._rest else 0
        self._rest = full and self._more()
        self._began, self._ended = began, time.monotonic()

    def end(self, reason: str) -> str:
        """`reason`, why the link has ended, and what we had to do with it."""
        if time.monotonic() - self._ended > SOON:
            return reason  # all had been read
        took = self._ended - self._began
        if took > self._slow:
            return f"{reason} after {took:.1f} s in which we read nothing (too slow for it)"
        if self._piled >= MUCH:
            return f"{reason} when {self._piled >> 10} kB waited to be read by us (too slow for it)"
        return reason
