"""While there are two links, messages come by both of them: each is handed on once.

    the old link remembers what it brings
    the new link subscribes; what the other one has brought is left out
    sure: from here on whatever comes by one of them comes by the other, however late
    certain: of what the old link brought before that, the new one has brought all that it ever will
    the old link ends

Only for subscriptions without a queue group: of those with one, the server gives a message to one link alone. Messages
are counted on the thread that reads, `sure` and `certain` are called on another.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from event_agent.drivers.base import Deliver, Message

MOST = 50_000  # messages of a link that have not come by the other one and are remembered, about 5 MB

Seen = dict[int, int]  # by their hashes, how many of the same text came by one link and not by the other


class BothLinks:
    """Of two links: 0 is the old one, 1 the new one."""

    def __init__(self) -> None:
        self._seen: list[Seen] = [{}, {}]
        self._early: Seen = {}  # by the old one, when the new one may not have been subscribed yet

    def of(self, link: int, deliver: Deliver) -> Deliver:
        """What takes the messages of that link in the place of `deliver`."""
        return partial(self._take, link, deliver)

    def sure(self) -> None:
        """The new server has our subscriptions, and the cluster knows."""
        self._early, self._seen[0] = self._seen[0], {}

    def certain(self) -> None:
        """All that was on its way to the new server then has come."""
        self._early = {}

    def _take(self, link: int, deliver: Deliver, messages: list[Message]) -> None:
        ours, theirs = self._seen[link], self._seen[1 - link]
        early = self._early if link else {}
        fresh = []
        for message in messages:
            key = hash((message.subject, message.reply, message.data, message.headers))
            if not _found(key, (theirs, early)):
                fresh.append(message)
                _add(key, ours)
        if fresh:
            deliver(fresh)


def _add(key: int, seen: Seen) -> None:
    if key not in seen and len(seen) >= MOST:
        del seen[next(iter(seen))]
    seen[key] = seen.get(key, 0) + 1


def _found(key: int, among: Iterable[Seen]) -> bool:
    """Whether there is one; it is taken out."""
    for seen in among:
        if count := seen.get(key, 0):
            if count > 1:
                seen[key] = count - 1
            else:
                del seen[key]
            return True
    return False
