"""A driver without a broker: keeps what is sent, hands on what a test brings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from event_agent.drivers.base import Deliver, Driver, Event, EventSink, Message, Reply
from event_agent.runtime.health import Signs
from event_agent.runtime.link import LinkState, LinkStatus


class FakeSink(EventSink):
    """Takes events while it has room."""

    def __init__(self) -> None:
        self.max_payload = 100_000
        self.room = 1 << 30
        self.taken: list[tuple[str, bytes]] = []  # subject, payload
        self.ids: list[bytes] = []  # of what was taken
        self.writes: list[int] = []  # events of each offer

    def offer(self, events: Sequence[Event]) -> int:
        for event in events:
            assert len(event.payload) <= self.max_payload, "it would cut the link"
        taken = list(events)[: self.room]
        self.room -= len(taken)
        self.taken += [(event.subject.decode(), event.payload) for event in taken]
        self.ids += [event.msg_id for event in taken]
        self.writes.append(len(events))
        return len(taken)

    @property
    def pending(self) -> int:
        return 0

    def flush(self, timeout: float) -> bool:
        return True


class FakeDriver(Driver):
    """Connected, unless `link` says something else."""

    name = "nats"
    wildcards = True

    def __init__(self) -> None:
        self.events: FakeSink = FakeSink()
        self.replies: list[Reply] = []
        self.copies: list[tuple[str, bytes]] = []  # subject, payload: what was forwarded
        self.writes: list[int] = []  # replies and copies of each `send`
        self.takes = True
        self.max_payload = 100_000
        self.link = LinkStatus(LinkState.UP, "", 0.0)
        self.subscribed: dict[int, tuple[str, Deliver, str]] = {}
        self.paused = False

    def start(self) -> None: ...

    def stop(self, timeout: float) -> None: ...

    def signs(self) -> Signs:
        return Signs()

    @property
    def status(self) -> LinkStatus:
        return self.link

    def stats(self) -> dict[str, Any]:
        return {}

    def subscribe(self, subject: str, deliver: Deliver, queue: str = "") -> int:
        number = len(self.subscribed) + 1
        self.subscribed[number] = (subject, deliver, queue)
        return number

    def subscribe_below(self, subject: str, deliver: Deliver, queue: str = "", optional: bool = False) -> int:
        return self.subscribe(f"{subject}.>", deliver, queue)

    def unsubscribe(self, number: int) -> None:
        del self.subscribed[number]

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    def send(self, replies: Sequence[Reply]) -> int:
        for message, payload, error in replies:
            assert len(payload) <= self.max_payload, "it would cut the link"
            assert message.reply, "nobody waits for it"
            if message.subject:
                self.replies.append((message, payload, error))
            else:
                self.copies.append((message.reply.decode(), payload))
        self.writes.append(len(replies))
        return len(replies) if self.takes else 0

    def deliver(self, subject: str, *messages: Message) -> None:
        """These come in one read."""
        for own, deliver, _ in list(self.subscribed.values()):
            if own == subject:
                deliver(list(messages))
