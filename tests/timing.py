"""Timing a call in a test, whatever the rest of the test run has left behind."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def no_collector() -> Iterator[None]:
    """Without the garbage collector: in a whole run of pytest it has a large heap to look through."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def cpu_of(call: Callable[[], object]) -> float:
    """Seconds of CPU that this thread spends on a call."""
    with no_collector():
        started = time.thread_time()
        call()
        return time.thread_time() - started
