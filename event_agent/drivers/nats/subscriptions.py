"""What is subscribed to, whatever the link: kept from one link to the next, and tried again if the server refuses it.

Threads: `add` and `remove` on any; what a server says comes on the loop's; all else on nats-link. The lock also guards
which connection carries the subscriptions, and is never held while something is sent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Deliver
from event_agent.drivers.nats.bothlinks import BothLinks
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.timing import Timing
from event_agent.drivers.nats.wire import CONTROL_LINE
from event_agent.errors import AgentError, LinkError

log = logging.getLogger(__name__)

SID = 24  # bytes at most of what else is on the line of a subscription
RARELY = 12  # rounds after which the server is asked once more for what is optional


@dataclass(slots=True)
class Subscription:
    """One of them."""

    subject: str
    queue: str
    deliver: Deliver
    wire: Any = None  # pynats2's own, on the present connection
    optional: bool = False  # its refusal is no fault
    refused: str = ""  # what the server said of it; empty while it holds
    again: bool = False  # it has said so since it was tried last
    sure: bool = False  # it is known to have it: a PONG came behind it, and no refusal that names none


class Subscriptions:
    """The subscriptions that are wanted, and those that the present link has."""

    def __init__(self, timing: Timing) -> None:
        self._settle = timing.settle
        self.lock = threading.Lock()
        self.client: NatsClient | None = None  # the connection that carries them; None without a link
        self._held: dict[int, Subscription] = {}
        self._next = 1
        self._rounds = 0
        self._too_many = ""  # what the server said of subscriptions, of which it did not name one
        self._tried: Subscription | None = None  # the one that is tried again just now

    def add(self, sub: Subscription) -> int:
        """Subscribe; the number by which it is removed. Raises AgentError if it can't be."""
        subject, queue = sub.subject, sub.queue
        if len(subject.encode()) + len(queue.encode()) + SID > CONTROL_LINE:
            raise AgentError(f"a subject of {len(subject)} characters can't be subscribed to")
        with self.lock:
            if len(self._held) >= MAX_SUBSCRIPTIONS:
                raise AgentError(f"more than {MAX_SUBSCRIPTIONS} subscriptions: {subject}")
            number = self._next
            self._next += 1
            self._held[number] = sub
            client = self.client
        if client is not None:
            subscribe_on(client, sub)
        return number

    def remove(self, number: int) -> None:
        """Unsubscribe; what was on its way is handed on."""
        with self.lock:
            sub = self._held.pop(number, None)
            client = self.client
        if sub is not None and client is not None:
            self._leave(client, sub)

    def get(self, number: int) -> Subscription:
        """One of them. Raises KeyError."""
        with self.lock:
            return self._held[number]

    def refused(self, needed: bool = False) -> dict[str, str]:
        """Subjects that the server has refused, and what it said; `needed`: without those that are optional."""
        with self.lock:
            return {
                sub.subject: sub.refused
                for sub in self._held.values()
                if sub.refused and not (needed and sub.optional)
            }

    # -- from one link to the next

    def take_over(self, client: NatsClient, then: Callable[[], None]) -> list[Subscription]:
        """Subscribe to all on a new connection, which carries them from now on; those removed meanwhile.

        `then` is called at that moment, with the lock held. The caller leaves what was removed (`leave`).
        """
        with self.lock:
            for sub in self._held.values():
                sub.refused = ""  # by another server
        known: dict[int, Subscription] = {}
        while True:
            with self.lock:
                new = {number: sub for number, sub in self._held.items() if number not in known}
                if not new:  # from here on `add` sees the client
                    gone = [sub for number, sub in known.items() if number not in self._held]
                    self.client = client
                    then()
                    return gone
            for sub in new.values():
                subscribe_on(client, sub)
            known |= new

    def held(self) -> dict[int, Subscription]:
        """Those that are wanted now, by their numbers."""
        with self.lock:
            return dict(self._held)

    def remember(self, held: dict[int, Subscription], both: BothLinks) -> None:
        """What comes by the old link from now on is not handed on again when it comes by the new one."""
        for sub in held.values():
            if not sub.queue and sub.wire is not None:
                sub.wire.callback = both.of(0, sub.deliver)

    def hold_both(self, new: NatsClient, held: dict[int, Subscription], both: BothLinks) -> None:
        """Subscribe on the new link too. What has no queue group comes by both of them from now on."""
        for sub in held.values():
            sub.refused = ""  # by another server
            subscribe_on(new, sub, deliver=sub.deliver if sub.queue else both.of(1, sub.deliver))
        new.flush(self._settle)

    def move(
        self, client: NatsClient, held: dict[int, Subscription], then: Callable[[], None]
    ) -> tuple[list[Subscription], dict[int, Subscription]]:
        """The new link carries them alone; those of `held` that were removed meanwhile, and those that were added.

        `then` is called at that moment, with the lock held.
        """
        with self.lock:
            then()
            self.client = client
            gone = [sub for number, sub in held.items() if number not in self._held]
            missing = {number: sub for number, sub in self._held.items() if number not in held}
        return gone, missing

    def leave(self, client: NatsClient, gone: list[Subscription]) -> None:
        """These were removed while links changed."""
        for sub in gone:
            self._leave(client, sub)

    def unlinked(self) -> None:
        """No connection carries them."""
        with self.lock:
            self.client = None

    # -- what the server refuses

    def confirm(self, client: NatsClient) -> None:
        """Wait until the server has had all of them; those that it did not refuse are known to hold."""
        asked = self._doubtful()
        if not client.flush(self._settle):
            return
        with self.lock:
            for sub, wire in asked:
                sub.sure = not self._too_many and not sub.refused and sub.wire is wire

    def _doubtful(self) -> list[tuple[Subscription, Any]]:
        with self.lock:
            return [(sub, sub.wire) for sub in self._held.values() if not (sub.sure or sub.refused or sub.wire is None)]

    @property
    def urgent(self) -> bool:
        """The server has refused one, and did not say which."""
        return bool(self._too_many)

    def try_refused(self, client: NatsClient) -> None:
        """Subscribe once more to what the server has refused or taken away: permissions change."""
        self._rounds += 1
        rarely = self._rounds % RARELY == 0
        # The server says so for each; those that are tried now are others.
        if self._too_many and not client.flush(self._settle):
            return
        with self.lock:
            every, self._too_many = bool(self._too_many), ""  # for which of them there was no room, it does not say
            refused = [
                sub
                for sub in self._held.values()
                if (every and not sub.sure) or (sub.refused and (rarely or not sub.optional))
            ]
        for sub in refused:
            sub.again, self._tried, before = False, sub, sub.wire
            subscribe_on(client, sub, before)
            if not client.flush(self._settle):
                break
            client.forget(before)
            if sub.refused and not sub.again:
                sub.refused = ""
                log.info("NATS server accepts the subscription to %s", sub.subject)
        self._tried = None
        if self._doubtful():
            self.confirm(client)

    def complained(self, text: str) -> bool:
        """The server refuses one, and names it. True if it was optional: that is no fault.

        It says so at once, or when permissions are changed (nats-server, client.go: processSub,
        removeUnauthorizedSubs); the link goes on.
        """
        subject = text.partition('"')[2].partition('"')[0]
        optional = False
        with self.lock:
            for sub in self._held.values():
                if sub.subject == subject:
                    sub.refused, sub.again, sub.sure = text, True, False
                    optional = sub.optional
        return optional

    def no_room(self, text: str) -> None:
        """The server takes no further subscription."""
        if (tried := self._tried) is not None:
            tried.refused, tried.again = text, True
        else:
            self._too_many = text

    def _leave(self, client: NatsClient, sub: Subscription) -> None:
        if sub.wire is not None:
            try:
                client.leave(sub.wire, self._settle)
            except LinkError as error:
                log.debug("unsubscribe: %s", error)  # the link is gone, and with it the subscription


def subscribe_on(client: NatsClient, sub: Subscription, instead: Any = None, deliver: Deliver | None = None) -> None:
    """On this connection. A link that has just been lost is no fault: it is done again on the next.

    `deliver`: what gets the messages in the place of its own.
    """
    sub.sure = False
    callback = deliver or sub.deliver
    try:
        sub.wire = client.subscribe(sub.subject, callback=callback, queue=sub.queue, instead=instead)
    except LinkError as error:
        log.debug("subscribe: %s", error)
