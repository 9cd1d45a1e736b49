"""While there are two links, messages come by both of them: each is handed on once.

Only for subscriptions without a queue group: of those with one, the server gives a message to one link alone. All on
the thread that reads; no lock.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from functools import partial

from event_agent.drivers.base import Deliver, Message

AGE = 1.0  # seconds after which the same text is another message
MOST = 20_000  # messages of a link that have not come by the other one and are remembered


class BothLinks:
    """Of two links: 0 is the old one, 1 the new one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: tuple[dict[int, deque[float]], dict[int, deque[float]]] = ({}, {})

    def of(self, link: int, deliver: Deliver) -> Deliver:
        """What takes the messages of that link in the place of `deliver`."""
        return partial(self._take, self._seen[link], self._seen[1 - link], deliver)

    def _take(
        self, ours: dict[int, deque[float]], theirs: dict[int, deque[float]], deliver: Deliver, messages: list[Message]
    ) -> None:
        now = self._clock()
        fresh = []
        for message in messages:
            key = hash((message.subject, message.reply, message.data, message.headers))
            if _other_of(theirs, key, now):
                continue
            fresh.append(message)
            if key in ours:
                ours[key].append(now)
                continue
            if len(ours) >= MOST:
                del ours[next(iter(ours))]
            ours[key] = deque((now,))
        if fresh:
            deliver(fresh)


def _other_of(seen: dict[int, deque[float]], key: int, now: float) -> bool:
    """Whether such a message is among those that were seen; then it is taken out."""
    times = seen.get(key)
    if times is None:
        return False
    while times and now - times[0] > AGE:
        times.popleft()
    found = bool(times)
    if found:
        times.popleft()
    if not times:
        del seen[key]
    return found
