"""Where a driver asks others, without one: keeps what is asked, and answers as a test says."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from event_agent.drivers.base import Answer, Questions
from event_agent.errors import CommandError

Then = Callable[[Answer], None]


class FakeQuestions(Questions):
    """`answer` answers what waits, the oldest first."""

    def __init__(self) -> None:
        self.begun = 0
        self.asked: list[tuple[str, bytes, float]] = []  # subject, payload, seconds
        self.waiting: list[Then] = []
        self.dropped: dict[str, int] = {}

    def begin(self) -> None:
        self.begun += 1

    def ask(self, subject: str, data: bytes, timeout: float, then: Then) -> None:
        self.waiting.append(then)
        self.asked.append((subject, data, timeout))

    def answer(self, answer: Answer) -> None:
        self.waiting.pop(0)(answer)

    def ignored(self) -> Mapping[str, int]:
        return self.dropped


def anything(app: str, args: str) -> None:
    """Whatever a program wants may be run, but `system`."""
    if app == "system":
        raise CommandError("Application 'system' is denied")
