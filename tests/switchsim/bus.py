"""The switch's event system: numbers events, stamps them, hands them to the connections.

Owns Event-Sequence and the list of subscriptions. Called from any thread. Every event takes its number when it is
made, heard or not, and reaches all subscriptions in the order in which events are fired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple

from .events import Event, Headers, Value
from .subscription import Subscription


class Source(NamedTuple):
    """Where in FreeSWITCH's code an event of this kind is fired; every event says so."""

    file: str
    function: str
    line: int


@dataclass(frozen=True)
class Identity:
    """How the switch names itself in every event."""

    core_uuid: str
    hostname: str = "switchsim"
    ipv4: str = "192.0.2.2"
    ipv6: str = "fd00::2"


def microseconds() -> int:
    return time.time_ns() // 1000


class Stamp(NamedTuple):
    """Number and time an event gets when it is made, which may be long before it is fired."""

    sequence: int
    at: int


class EventBus:
    """Fires events at all subscriptions."""

    def __init__(self, identity: Identity) -> None:
        self.identity = identity
        self._lock = Lock()
        self._sequence = 0
        self._subscriptions: list[Subscription] = []
        self._dates: tuple[int, str, str] = (0, "", "")

    @property
    def sequence(self) -> int:
        """Events made so far."""
        return self._sequence

    def attach(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions = [*self._subscriptions, subscription]

    def detach(self, subscription: Subscription) -> None:
        with self._lock:
            self._subscriptions = [other for other in self._subscriptions if other is not subscription]

    def stamp(self) -> Stamp:
        with self._lock:
            self._sequence += 1
            return Stamp(self._sequence, microseconds())

    def wanted(self, name: str) -> bool:
        return any(subscription.wants(name) for subscription in self._subscriptions)

    def fire(
        self,
        name: str,
        source: Source,
        headers: Callable[[], Iterable[tuple[str, Value]]] = tuple,
        body: str | None = None,
        stamp: Stamp | None = None,
    ) -> None:
        """Fires an event. `headers` is only called when somebody listens: an unheard event costs next to nothing."""
        made = stamp or self.stamp()
        if self.wanted(name):
            self.deliver(Event(name, [*self.base_headers(name, source, made), *headers()], body))

    def deliver(self, event: Event) -> None:
        with self._lock:
            subscriptions = self._subscriptions
            for subscription in subscriptions:
                subscription.offer(event)

    def base_headers(self, name: str, source: Source, stamp: Stamp) -> Headers:
        """The headers every event opens with."""
        second = stamp.at // 1_000_000
        cached = self._dates
        if cached[0] != second:
            local = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            gmt = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
            self._dates = cached = (second, local, gmt)
        who = self.identity
        return [
            ("Event-Name", name),
            ("Core-UUID", who.core_uuid),
            ("FreeSWITCH-Hostname", who.hostname),
            ("FreeSWITCH-Switchname", who.hostname),
            ("FreeSWITCH-IPv4", who.ipv4),
            ("FreeSWITCH-IPv6", who.ipv6),
            ("Event-Date-Local", cached[1]),
            ("Event-Date-GMT", cached[2]),
            ("Event-Date-Timestamp", str(stamp.at)),
            ("Event-Calling-File", source.file),
            ("Event-Calling-Function", source.function),
            ("Event-Calling-Line-Number", str(source.line)),
            ("Event-Sequence", str(stamp.sequence)),
        ]
