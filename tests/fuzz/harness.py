"""What the fuzzers share: inputs from a seed, limits for each, and a report that can be repeated.

A fuzzer is a `Target`: it makes inputs, feeds each to what it tests, and raises AssertionError if a property does not
hold. `fuzz` runs it for EVENT_AGENT_FUZZ_SECONDS (1 by default; `make fuzz` takes 300): seven tenths of the time with
a look at the CPU that each input takes, the rest with a look at memory. Of each input it demands:

- no exception leaves the target, no thread ends with one, none is logged;
- at most `Target.limit` seconds of CPU, of this thread (if `Target.here`) and of `Target.threads`. The garbage
  collector is off meanwhile, and an input that took longer is fed again, so that a busy machine is not blamed;
- at most `Target.spike` bytes of memory at one time, and over all inputs at most `Target.room` bytes kept;
- no line break and no control character in a log line.

An input is made of the seed and its number alone. The seed is 1, or chosen at random if the seconds are given;
EVENT_AGENT_FUZZ_SEED repeats a run. A failure names seed and number, and shows the shortest input that fails by itself.
"""

from __future__ import annotations

import gc
import io
import logging
import os
import random
import re
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from event_agent.runtime.log import setup
from tests.timing import no_collector

SECONDS = float(os.environ.get("EVENT_AGENT_FUZZ_SECONDS", "1"))
# The ordinary run tries the same each time, so that it does not fail for what a change has nothing to do with.
SEED = os.environ.get("EVENT_AGENT_FUZZ_SEED", "" if "EVENT_AGENT_FUZZ_SECONDS" in os.environ else "1")
TIMED = 0.7  # of the seconds; the rest is for memory
AGAIN = 3  # further tries of an input that took longer than all others; the quickest counts
BUSY = 15  # the same for one that took too long, with growing pauses: a busy machine makes every switch cost more
ENOUGH = 0.5  # seconds that are no busy machine's
COLLECT = 2000  # inputs between two runs of the garbage collector
SHRINK = 5.0  # seconds for finding a shorter input that fails
SETTLE = 500  # inputs between two calls of Target.settle
_UNFIT = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class Target:
    """What is fuzzed. Built anew for each run, and for each try to shorten an input."""

    limit = 0.010  # seconds of CPU for an input
    here = True  # this thread's CPU counts: it runs what is tested
    room = 1_000_000  # bytes that may be kept over all inputs
    spike = 4_000_000  # bytes more in use at one time while an input is fed

    def make(self, rng: random.Random) -> bytes:
        """The next input."""
        raise NotImplementedError

    def feed(self, rng: random.Random, data: bytes) -> None:
        """Give it to what is tested and look at what came of it. AssertionError for a fault."""
        raise NotImplementedError

    def settle(self) -> None:
        """Look at what can only be seen now and then. Called every SETTLE inputs and at the end."""

    def threads(self) -> Sequence[threading.Thread]:
        """Threads of what is tested: their CPU counts, and they must not end."""
        return ()

    def close(self) -> None:
        """End it."""


@dataclass
class Report:
    """How a run went."""

    seed: int
    count: int = 0
    measured: int = 0  # inputs whose memory was looked at
    kept: int = 0  # bytes kept over these
    slowest: float = 0.001  # seconds of CPU
    slow_input: bytes = b""
    slow_number: int = 0

    def __str__(self) -> str:
        slowest = f"number {self.slow_number}, {shown(self.slow_input, 120)}" if self.slow_input else "or less"
        return (
            f"{self.count} inputs, seed {self.seed}; {self.kept} bytes kept over {self.measured} of them; "
            f"the slowest {self.slowest * 1000:.2f} ms of CPU: {slowest}"
        )


class TooSlow(AssertionError):
    """An input took more CPU than its target allows."""


def shown(data: bytes, most: int = 600) -> str:
    """An input as it stands in a report."""
    return repr(data) if len(data) <= most else f"{data[:most]!r}… ({len(data)} bytes)"


def fuzz(build: Callable[[], Target], least: int = 100, seconds: float | None = None) -> Report:
    """Run a target; AssertionError for the first fault, or where fewer than `least` inputs were tried."""
    seconds = SECONDS if seconds is None else seconds
    report = Report(int(SEED) if SEED else random.randrange(1 << 32))
    with watched() as faults:
        target = build()
        try:
            _timed(target, report, faults, build, time.monotonic() + seconds * TIMED, least)
            _measured(target, report, faults, build, time.monotonic() + seconds * (1 - TIMED), least // 4)
        finally:
            target.close()
        _no_faults(faults)
    print(f"\n{report}")
    return report


def _timed(
    target: Target, report: Report, faults: list[str], build: Callable[[], Target], ends: float, least: int
) -> None:
    while time.monotonic() < ends or report.count < least:
        rng = _rng(report)
        data = target.make(rng)
        state = rng.getstate()
        try:
            took = _feed(target, rng, data, faults)
            for again in range(AGAIN + BUSY):
                if took <= report.slowest or took > ENOUGH or (again >= AGAIN and took <= target.limit):
                    break
                if again >= AGAIN:
                    time.sleep(0.02 * (again - AGAIN))
                rng.setstate(state)
                took = min(took, _feed(target, rng, data, faults))
            if took > target.limit:
                raise TooSlow(f"{took * 1000:.1f} ms of CPU, {target.limit * 1000:g} are allowed")
        except Exception as error:
            raise _failure(report, data, state, build, error) from error
        if took > report.slowest:
            report.slowest, report.slow_input, report.slow_number = took, data, report.count
        _now_and_then(target, report, faults)
        report.count += 1
    target.settle()


def _measured(
    target: Target, report: Report, faults: list[str], build: Callable[[], Target], ends: float, least: int
) -> None:
    gc.collect()
    tracemalloc.start(1)
    try:
        began, _ = tracemalloc.get_traced_memory()
        while time.monotonic() < ends or report.measured < least:
            rng = _rng(report)
            data = target.make(rng)
            state = rng.getstate()
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            try:
                _feed(target, rng, data, faults)
                spike = tracemalloc.get_traced_memory()[1] - before
                assert spike <= target.spike, f"{spike} bytes in use at one time, {target.spike} are allowed"
            except Exception as error:
                raise _failure(report, data, state, build, error) from error
            _now_and_then(target, report, faults)
            report.count += 1
            report.measured += 1
        target.settle()
        del data
        gc.collect()
        report.kept = tracemalloc.get_traced_memory()[0] - began
    finally:
        tracemalloc.stop()
    assert report.kept <= target.room, f"{report}: {target.room} are allowed"


def _rng(report: Report) -> random.Random:
    return random.Random((report.seed << 32) + report.count)


def _feed(target: Target, rng: random.Random, data: bytes, faults: list[str]) -> float:
    """Feed it; the CPU that took, in seconds."""
    threads = target.threads()
    clocks = [time.pthread_getcpuclockid(each.ident) for each in threads if each.ident is not None]
    with no_collector():
        others = sum(map(time.clock_gettime, clocks))
        started = time.thread_time()
        target.feed(rng, data)
        took = time.thread_time() - started if target.here else 0.0
        for each in threads:
            assert each.is_alive(), f"thread {each.name} has ended"
        took += sum(map(time.clock_gettime, clocks)) - others
    _no_faults(faults)
    return took


def _now_and_then(target: Target, report: Report, faults: list[str]) -> None:
    if report.count % COLLECT == COLLECT - 1:
        gc.collect()
    if report.count % SETTLE == SETTLE - 1:
        target.settle()
        _no_faults(faults)


def _no_faults(faults: list[str]) -> None:
    if faults:
        found, faults[:] = list(faults), []
        raise AssertionError(found[0])


# -- a report that says what to look at


def _failure(
    report: Report, data: bytes, state: tuple[Any, ...], build: Callable[[], Target], error: Exception
) -> AssertionError:
    """What is raised in place of an input's own error."""
    shorter = None if isinstance(error, TooSlow) else shortened(build, state, data, type(error))
    alone = "fails only after others" if shorter is None else f"fails alone, also as {shown(shorter)}"
    if isinstance(error, TooSlow):
        alone = "took too long each time"
    return AssertionError(
        f"{type(error).__name__}: {error}\nEVENT_AGENT_FUZZ_SEED={report.seed}, input {report.count}, {alone}:\n"
        f"{shown(data, 1500)}"
    )


def shortened(
    build: Callable[[], Target], state: tuple[Any, ...], data: bytes, kind: type[Exception]
) -> bytes | None:
    """The shortest input found that fails in the same way by itself; None where not even `data` does."""

    def fails(candidate: bytes) -> bool:
        rng = random.Random()
        rng.setstate(state)
        with watched() as faults:
            target = build()
            try:
                target.feed(rng, candidate)
                target.settle()
                _no_faults(faults)
            except kind:
                return True
            except Exception:
                return False
            finally:
                target.close()
        return False

    if not fails(data):
        return None
    ends = time.monotonic() + SHRINK
    size = len(data) // 2
    while size and time.monotonic() < ends:
        at = 0
        while at < len(data) and time.monotonic() < ends:
            candidate = data[:at] + data[at + size :]
            if fails(candidate):
                data = candidate
            else:
                at += size
        size //= 2
    return data


# -- what is seen beside the target's own answers


class _Lines(io.TextIOBase):
    """Where the log goes: a write is a record. Looked at and not kept: in minutes they would fill a gigabyte."""

    def __init__(self, faults: list[str]) -> None:
        self._faults = faults

    def write(self, text: str) -> int:
        line = text.removesuffix("\n")
        if "\n" in line and "Traceback (most recent call last)" in line:
            self._faults.append(f"an exception was logged: {line}")
        elif (found := _UNFIT.search(line)) is not None:
            self._faults.append(f"{found[0]!r} in a log line: {line!r}")
        return len(text)


@contextmanager
def watched() -> Iterator[list[str]]:
    """Gathers unhandled and logged exceptions, and log lines that could be taken for something else."""
    faults: list[str] = []

    def ended(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "?"
        faults.append(f"thread {name} ended with {args.exc_type.__name__}: {args.exc_value}")

    ours = logging.getLogger("event_agent")
    handlers, level, propagate = ours.handlers, ours.level, ours.propagate
    hook, threading.excepthook = threading.excepthook, ended
    ours.handlers = []
    setup("debug", _Lines(faults))  # type: ignore[arg-type]
    try:
        yield faults
    finally:
        threading.excepthook = hook
        ours.handlers, ours.propagate = handlers, propagate
        ours.setLevel(level)
