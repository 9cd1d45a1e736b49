"""What a broker driver is to the rest of the program: one small interface, and the message it hands on.

See docs/DRIVERS.md for how to write one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from event_agent.runtime.health import Signs
from event_agent.runtime.loop import Loop

MAX_SUBSCRIPTIONS = 32


@dataclass(slots=True)
class Message:
    """A request as it came from the broker."""

    subject: str  # as text, to be counted and shown
    reply: bytes  # where the answer goes, as it came; b"" when none is wanted
    data: bytes
    headers: bytes = b""  # the raw header block, where the broker knows headers


class Driver(ABC):
    """A link to a broker. The driver owns its threads, reconnects by itself and keeps subscriptions over that.

    `publish` and `reply` may be called from any thread and never block on the network: what can't be sent now waits,
    in order, in a bounded buffer; what does not fit there is dropped and counted.
    """

    def __init__(self) -> None:
        self.loop: Loop | None = None  # on whose thread it may read, in place of one of its own
        self.on_up: Callable[[], None] = _nothing  # the link is up; on the driver's thread
        self.on_down: Callable[[str], None] = _nothing_said  # it is lost, and why; on the driver's thread
        self.on_gave_up: Callable[[str], None] = _nothing_said  # it will not be tried again
        self.on_batch_end: Callable[[], None] = _nothing  # all messages of one read were handed on

    name = "driver"

    def start(self) -> None:
        """As a part of the daemon: begin connecting."""
        self.connect()

    def stop(self, timeout: float) -> None:
        """As a part of the daemon: end within `timeout` seconds."""
        self.close(timeout)

    def signs(self) -> Signs:
        """By which its threads are known to be alive; none if it has no threads, or does not know."""
        return Signs()

    @abstractmethod
    def connect(self) -> None:
        """Begin connecting, and go on trying; returns at once."""

    @abstractmethod
    def close(self, timeout: float) -> None:
        """Send what waits, close the link and end the threads, within `timeout` seconds."""

    @abstractmethod
    def subscribe(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> int:
        """Messages of `subject` go to `callback` on the driver's reader thread, now and after each reconnect.

        Returns a number for `unsubscribe`. Raises AgentError beyond MAX_SUBSCRIPTIONS.
        """

    @abstractmethod
    def unsubscribe(self, number: int) -> None:
        """End a subscription; messages that were on their way are handed on before this returns."""

    @abstractmethod
    def publish(self, subject: str, payload: bytes) -> bool:
        """Send, or keep for later. False when it was dropped (counted in `stats`)."""

    @abstractmethod
    def reply(self, message: Message, payload: bytes, error: str = "") -> bool:
        """Answer a message; `error` is the text of an error, for brokers that mark these."""

    @abstractmethod
    def batch(self) -> AbstractContextManager[object]:
        """While it is entered, what any thread publishes is gathered and then sent in one write."""

    @property
    @abstractmethod
    def is_connected(self) -> bool:
        """True while the link is up."""

    @property
    @abstractmethod
    def max_payload(self) -> int:
        """Bytes the broker takes in one message; a longer one must not be published."""

    @abstractmethod
    def stats(self) -> dict[str, Any]:
        """Counters and state, for agent.status; JSON values only."""


def _nothing() -> None:
    pass


def _nothing_said(_: str) -> None:
    pass
