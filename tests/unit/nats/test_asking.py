"""Requests of our own: to whom an answer belongs, and what becomes of those that have none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from event_agent.drivers.base import MAX_QUESTIONS, Answer, Deliver, Message, Unanswered
from event_agent.drivers.nats.asking import NatsQuestions
from event_agent.drivers.nats.connection import NatsClient
from event_agent.errors import LinkError
from event_agent.runtime.loop import Job, Timer


class Link:
    """A link that is up, and a clock that stands still."""

    def __init__(self) -> None:
        self.info: dict[str, Any] = {"max_payload": 1000}
        self.lines: list[bytes] = []
        self.lost = False
        self.timers: list[tuple[float, Timer]] = []
        self.refused: dict[str, str] = {}
        self.subscribed: list[tuple[str, Deliver]] = []
        self.questions = NatsQuestions("fs_1", self.subscribe, self.after, self.client, lambda: self.refused)
        self.questions.begin()
        self.questions.begin()
        self.answers: list[Answer] = []

    def subscribe(self, subject: str, deliver: Deliver) -> int:
        self.subscribed.append((subject, deliver))
        return 1

    def after(self, seconds: float, job: Job) -> Timer:
        self.timers.append((seconds, Timer(0.0, job)))
        return self.timers[-1][1]

    def client(self) -> NatsClient | None:
        return None if self.lost else self  # type: ignore[return-value]

    def send_lines(self, data: bytes) -> None:
        if b"broken" in data:
            raise LinkError("the link is gone")
        self.lines.append(data)

    def ask(self, data: bytes = b"x", subject: str = "a.route", then: Callable[[Answer], None] | None = None) -> bytes:
        """The inbox of the question; empty if it was not sent."""
        before = len(self.lines)
        self.questions.ask(subject, data, 0.5, then or self.answers.append)
        return self.lines[-1].split()[2] if len(self.lines) > before else b""

    def come(self, subject: bytes, data: bytes = b"yes", headers: bytes = b"") -> None:
        ((_, deliver),) = self.subscribed
        deliver([Message(subject, b"", data, headers)])

    def late(self) -> None:
        """All timers are due."""
        for _, timer in self.timers:
            if (job := timer.take()) is not None:
                job()


@pytest.fixture
def link() -> Link:
    return Link()


def test_an_answer_belongs_to_its_question(link: Link) -> None:
    ((subject, _),) = link.subscribed
    assert re.fullmatch(r"_INBOX\.fs_1\.[0-9a-f]{24}\.\*", subject)
    first, second = link.ask(b"one"), link.ask(b"two")
    assert link.lines[0] == b"PUB a.route %b 3\r\none\r\n" % first
    token = rb"_INBOX\.fs_1\.[0-9a-f]{24}\.[0-9a-f]{24}"
    assert re.fullmatch(token, first) and re.fullmatch(token, second) and first[:-24] == second[:-24] != first
    link.come(second, b"2")
    link.come(first, b"1")
    link.come(first, b"again")
    link.come(first[:-1] + b"x", b"made up")
    link.come(first[:-24], b"made up")
    assert link.answers == [b"2", b"1"]
    link.late()
    assert link.answers == [b"2", b"1"] and link.questions.ignored() == {"late": 0, "second": 1, "unknown": 2}


def test_time_is_over(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    inbox = link.ask()
    assert link.timers[0][0] == 0.5
    link.late()
    link.come(inbox)
    assert link.answers == [Unanswered.LATE] and link.questions.ignored()["late"] == 1
    link.come(inbox)
    assert caplog.text.count("answers to requests of ours were ignored: they came too late") == 1


def test_nobody_listens(link: Link) -> None:
    link.come(link.ask(), b"", b"NATS/1.0 503\r\n\r\n")
    assert link.answers == [Unanswered.NOBODY]
    link.come(link.ask(), b"", b"NATS/1.0 503 No Responders\r\n\r\n")
    link.come(link.ask(), b"no status", b"NATS/1.0 503\r\n\r\n")
    assert link.answers == [Unanswered.NOBODY, Unanswered.NOBODY, b"no status"]


@pytest.mark.parametrize(
    "ack",
    [b'{"stream":"all", "seq":7}', b'{"stream":"all","seq":7,"duplicate":true}', b'{"stream": "a b", "seq": 1, "x": 2}',
     b'{"error":{"code":503,"err_code":10077,"description":"full"},"stream":"all","seq":0}'],
)  # fmt: skip
def test_what_a_stream_says_is_no_answer(link: Link, ack: bytes) -> None:
    inbox = link.ask()
    link.come(inbox, ack)
    assert link.answers == []
    link.come(inbox, b'{"action":"park","stream":"x"}')
    assert link.answers == [b'{"action":"park","stream":"x"}'] and not any(link.questions.ignored().values())


def test_no_more_than_so_many_wait(link: Link) -> None:
    inboxes = [link.ask() for _ in range(MAX_QUESTIONS)]
    assert link.ask() == b"" and link.answers == [Unanswered.BUSY]
    link.come(inboxes[0])
    assert link.ask() != b"" and link.answers == [Unanswered.BUSY, b"yes"]
    link.late()
    assert len(link.answers) == 2 + MAX_QUESTIONS and set(link.answers[2:]) == {Unanswered.LATE}
    assert all(link.ask() for _ in range(MAX_QUESTIONS))


def test_without_a_link(link: Link) -> None:
    inbox = link.ask()
    link.questions.unlinked()
    assert link.answers == [Unanswered.DOWN]
    link.come(inbox)
    link.late()
    assert link.answers == [Unanswered.DOWN]
    assert link.ask(subject="broken") == b"" and link.answers == [Unanswered.DOWN] * 2
    link.lost = True
    assert link.ask() == b"" and link.answers == [Unanswered.DOWN] * 3


def test_what_the_server_refuses(link: Link) -> None:
    link.ask(subject="a.route")
    link.ask(subject="b.route", then=lambda _: None)
    link.questions.refused('Permissions Violation for Publish to "a.route"')
    assert link.answers == [Unanswered.REFUSED]
    link.refused = {link.subscribed[0][0]: "Permissions Violation for Subscription"}
    assert link.ask() == b"" and link.answers == [Unanswered.REFUSED] * 2
    assert link.ask(b"x" * 1001) == b"" and link.answers[-1] is Unanswered.TOO_LARGE


def test_what_is_called_fails(link: Link, caplog: pytest.LogCaptureFixture) -> None:
    def then(_: Answer) -> None:
        raise RuntimeError("a fault of its owner")

    link.come(link.ask(then=then))
    assert "unhandled exception with the answer to a question" in caplog.text
    link.come(link.ask())
    assert link.answers == [b"yes"]
