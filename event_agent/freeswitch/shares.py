"""The slow commands that wait for a worker, and whose turn it is: no verb takes more than its share.

A verb may have half of what the others leave, of the workers and of the places in the queue: with 16 workers the first
verb gets 8 of them, a second one 4, then 2, 1 and 1. So a verb that hangs, or is asked for in thousands, leaves room
for the others, and so does a second one. Pure, and not thread-safe: it is part of the scheduler.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator

from event_agent.freeswitch.command import Command


def share(total: int, others: int) -> int:
    """How many of `total` one may have if the others have so many: half of the rest, rounded up."""
    return (total - others + 1) // 2


class Shares:
    """Commands by their verb, first come first served within each."""

    def __init__(self, workers: int, places: int) -> None:
        """`workers` and `places`: how many there are for all verbs; one alone has half of them."""
        self._workers = workers
        self._places = places
        self._waiting: dict[str, deque[Command]] = {}
        self._running: Counter[str] = Counter()
        self._since: dict[Command, float] = {}  # those that run, and since when
        self._count = 0
        self._crowded = False

    def __len__(self) -> int:
        """Those that wait."""
        return self._count

    def __iter__(self) -> Iterator[Command]:
        """Those that wait."""
        for queue in self._waiting.values():
            yield from queue

    def put(self, command: Command) -> bool:
        """It waits from now on; False if its verb has its share of places already."""
        queue = self._waiting.setdefault(command.verb, deque())
        if len(queue) >= share(self._places, self._count - len(queue)):
            if not queue:
                del self._waiting[command.verb]
            return False
        queue.append(command)
        self._count += 1
        return True

    def crowd(self) -> bool:
        """True when a quarter of the places is taken; once, until `thin_out` finds an eighth of them taken or fewer."""
        new = not self._crowded and self._count >= self._places // 4
        self._crowded = self._crowded or new
        return new

    def thin_out(self) -> None:
        """Fewer may wait now."""
        if self._count < self._places // 8:
            self._crowded = False

    def next(self, now: float) -> Command | None:
        """The next one to be run, from now on; None if no worker is free for any of them.

        The verb with the fewest goes first.
        """
        running = self._running.total()
        found, fewest = None, self._workers
        for verb in self._waiting:
            own = self._running[verb]
            if own < fewest and own < share(self._workers, running - own):
                found, fewest = verb, own
        if found is None:
            return None
        queue = self._waiting[found]
        command = queue.popleft()
        if not queue:
            del self._waiting[found]
        self._count -= 1
        self._running[found] += 1
        self._since[command] = now
        return command

    def ended(self, command: Command) -> float:
        """It does not run any more; returns since when it did."""
        self._running[command.verb] -= 1
        if not self._running[command.verb]:
            del self._running[command.verb]
        return self._since.pop(command)

    def take(self, until: float) -> list[Command]:
        """Those whose time is over at `until` do not wait any more."""
        taken = [command for command in self if command.deadline <= until]
        if taken:
            for verb, queue in list(self._waiting.items()):
                kept = deque(command for command in queue if command.deadline > until)
                if kept:
                    self._waiting[verb] = kept
                else:
                    del self._waiting[verb]
            self._count -= len(taken)
        return taken
