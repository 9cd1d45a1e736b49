"""Counters, and how long commands took. Cheap enough to stay on: a finished command costs half a microsecond."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

COMMANDS = 256  # names counted apart; clients can make up any number of them
OTHER = "(other)"
BUCKETS = 272  # of a Latency
LAST_ERROR = 256  # characters


class Latency:
    """A histogram with eight buckets to each doubling: percentiles are right to some 6 percent, in fixed memory."""

    __slots__ = ("buckets", "count", "errors", "microseconds")

    def __init__(self) -> None:
        self.buckets = [0] * BUCKETS
        self.count = 0
        self.errors = 0
        self.microseconds = 0  # of all commands together

    def add(self, microseconds: int, ok: bool) -> None:
        """Count one command. Not thread-safe."""
        self.count += 1
        self.microseconds += microseconds
        if not ok:
            self.errors += 1
        bits = microseconds.bit_length()
        index = microseconds if bits < 4 else (bits - 4) * 8 + (microseconds >> (bits - 4))
        self.buckets[index if index < BUCKETS else BUCKETS - 1] += 1

    def percentile(self, share: float) -> float:
        """Milliseconds within which this share (0 to 1) of the commands was answered; 0 if there were none."""
        wanted = self.count * share
        seen = 0
        for index, number in enumerate(self.buckets):
            seen += number
            if number and seen >= wanted:
                if index < 16:
                    return index / 1000
                return ((8 + index % 8) << (index // 8 - 1)) * 1.0625 / 1000
        return 0.0


    def below(self, powers: Iterable[int]) -> list[int]:
        """How many commands took less than 2 ** power microseconds, for each power from 4 up, in rising order."""
        found, seen, done = [], 0, 0
        for power in powers:
            upto = (power - 2) * 8  # the first bucket of that power
            seen += sum(self.buckets[done:upto])
            done = upto
            found.append(seen)
        return found

    def copy(self) -> Latency:
        """As it is now, for a reader that takes its time."""
        other = Latency()
        other.buckets, other.count = self.buckets[:], self.count
        other.errors, other.microseconds = self.errors, self.microseconds
        return other


class Lane:
    """What came on one subject. Counted when it is answered."""

    __slots__ = ("requests", "errors", "seconds", "last_error")

    def __init__(self) -> None:
        self.requests = 0
        self.errors = 0
        self.seconds = 0.0  # from a request's arrival to its reply, all together
        self.last_error = ""

    def copy(self) -> Lane:
        """As it is now."""
        other = Lane()
        other.requests, other.errors = self.requests, self.errors
        other.seconds, other.last_error = self.seconds, self.last_error
        return other


class Stats:
    """What agent.status tells. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._commands: dict[str, Latency] = {}
        self.most_commands = COMMANDS
        self._lanes: dict[str, Lane] = {}
        self.started = time.monotonic()
        self.received = 0  # written by the loop's thread alone
        self.succeeded = 0
        self.failed = 0
        self.unreachable = 0  # questions for a FreeSWITCH that was not there
        self.events_published = 0  # written by the event thread alone
        self.events_dropped = 0
        self.events_lost: dict[str, int] = {}  # by reason, as far as they could be counted; bridge/losses.py has these
        self.gaps: dict[str, int] = {}  # announced, by reason
        self.gaps_waiting = 0
        self.channels_gone = 0  # that ended unseen; written by the loop's thread alone
        self.channels_found = 0  # that began unseen
        self.records_published = 0
        self.traces_invalid = 0  # written by the loop's thread alone

    def count_apart(self, subject: str) -> None:
        """What comes on this subject is counted apart, from now on."""
        with self._lock:
            self._lanes.setdefault(subject, Lane())

    def finished(self, command: str, seconds: float, ok: bool, subject: str = "", error: str = "") -> None:
        """A command was answered; `subject` is the lane it came on, `error` what was wrong with it."""
        with self._lock:
            lane = self._lanes.get(subject)
            if lane is not None:
                lane.requests += 1
                lane.seconds += seconds
            if ok:
                self.succeeded += 1
            else:
                self.failed += 1
                if lane is not None:
                    lane.errors += 1
                    lane.last_error = error[:LAST_ERROR]
            latency = self._commands.get(command)
            if latency is None:
                # A name nobody knows fails; only names that have worked get a row of their own.
                if not ok or len(self._commands) >= self.most_commands:
                    command = OTHER
                latency = self._commands.setdefault(command, Latency())
            latency.add(int(seconds * 1e6), ok)

    def unanswered(self, subject: str) -> None:
        """A question for a FreeSWITCH that was not there: nothing has failed that was to be done."""
        with self._lock:
            self.unreachable += 1
            if (lane := self._lanes.get(subject)) is not None:
                lane.requests += 1

    def commands(self) -> dict[str, dict[str, float]]:
        """{name: {count, errors, p50, p99}}, times in milliseconds."""
        with self._lock:
            return {
                name: {
                    "count": each.count,
                    "errors": each.errors,
                    "p50": round(each.percentile(0.5), 3),
                    "p99": round(each.percentile(0.99), 3),
                }
                for name, each in self._commands.items()
            }

    def lanes(self) -> dict[str, Lane]:
        """{subject: what came on it}, as it is now."""
        with self._lock:
            return {subject: lane.copy() for subject, lane in self._lanes.items()}

    def latencies(self) -> dict[str, Latency]:
        """{name: what its commands took}, as they are now."""
        with self._lock:
            return {name: each.copy() for name, each in self._commands.items()}

    @property
    def uptime(self) -> int:
        """Seconds since the start."""
        return int(time.monotonic() - self.started)
