"""While there are two links, messages come by both of them: each is handed on once.

Only for subscriptions without a queue group: of those with one, the server gives a message to one link alone. All on
the thread that reads; no lock.
"""

from __future__ import annotations

import time
from collections import deque
from functools import partial

from event_agent.drivers.base import Deliver, Message

AGE = 1.0  # seconds after which the same text is another message
MOST = 20_000  # messages of a link that are remembered


class BothLinks:
    """Of two links: 0 is the old one, 1 the new one."""

    def __init__(self) -> None:
        self._seen: tuple[dict[int, deque[float]], dict[int, deque[float]]] = ({}, {})

    def of(self, link: int, deliver: Deliver) -> Deliver:
        """What takes the messages of that link in the place of `deliver`."""
        return partial(self._take, self._seen[link], self._seen[1 - link], deliver)

    @staticmethod
    def _take(
        ours: dict[int, deque[float]], theirs: dict[int, deque[float]], deliver: Deliver, messages: list[Message]
    ) -> None:
        now = time.monotonic()
        fresh = []
        for message in messages:
            key = hash((message.subject, message.reply, message.data, message.headers))
            times = theirs.get(key)
            while times and now - times[0] > AGE:
                times.popleft()
            if times:
                times.popleft()
                continue
            fresh.append(message)
            if len(ours) >= MOST:
                ours.clear()
            ours.setdefault(key, deque()).append(now)
        if fresh:
            deliver(fresh)
