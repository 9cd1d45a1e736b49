"""Requests of our own to others, over the link that requests of others come by: see Questions in drivers/base.py.

Answers come on one subscription, `_INBOX.<name>.<of this process>.*`. The last token is made at random for each
question, so only the receiver of a question can answer it, and that one alone. The first answer counts. What comes
after it, or too late, or was never asked for is dropped, counted, and said now and then.

A question means something on the link that it was written to: it is not kept for the next one, and all that wait for an
answer have none when the link is lost. A JetStream stream that stores questions acknowledges them: that is no answer.

Threads: answers and time limits come on the loop's, `ask` on any. The lock is not held while somebody is called.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from event_agent.drivers.base import MAX_QUESTIONS, Answer, Deliver, Message, Questions, Unanswered
from event_agent.drivers.nats.acks import GARBAGE, read_ack
from event_agent.drivers.nats.connection import NatsClient
from event_agent.errors import AgentError, LinkError
from event_agent.runtime.log import Seldom
from event_agent.runtime.loop import Job, Timer

log = logging.getLogger(__name__)

TOKEN = 12  # bytes of a token, written as hexadecimal digits
PAST = 4096  # questions remembered that have ended
ACK = 4096  # bytes that an acknowledgement may have
SAID = {
    "late": "they came too late",
    "second": "there was one before; programs that share the work need a queue group",
    "unknown": "nobody had asked",
}


class Subscribe(Protocol):
    """How answers are subscribed to."""

    def __call__(self, subject: str, deliver: Deliver) -> int: ...


@dataclass(eq=False, slots=True)
class _Question:
    subject: str
    then: Callable[[Answer], None]
    timer: Timer | None = None


class NatsQuestions(Questions):
    """Sends questions, and gives each answer, or its absence, to the one that asked."""

    def __init__(
        self,
        name: str,
        subscribe: Subscribe,
        after: Callable[[float, Job], Timer],
        client: Callable[[], NatsClient | None],
        refused: Callable[[], Mapping[str, str]],
    ) -> None:
        """`after`: has something called later, on the loop's thread. `client`: the present link's. `refused`: see
        Driver."""
        self._inbox = f"_INBOX.{name or 'unknown'}.{os.urandom(TOKEN).hex()}."
        self._subscribe, self._after, self._client, self._refusals = subscribe, after, client, refused
        self._lock = threading.Lock()  # guards what follows
        self._begun = False
        self._waiting: dict[bytes, _Question] = {}  # by token
        self._past: dict[bytes, bool] = {}  # token of what has ended: True if it was answered
        self._ignored = dict.fromkeys(SAID, 0)
        self._seldom = {reason: Seldom() for reason in SAID}

    def begin(self) -> None:
        """See Questions."""
        with self._lock:
            begun, self._begun = self._begun, True
        if not begun:
            self._subscribe(f"{self._inbox}*", self._arrived)

    def ask(self, subject: str, data: bytes, timeout: float, then: Callable[[Answer], None]) -> None:
        """See Questions."""
        client = self._client()
        token = os.urandom(TOKEN).hex().encode()
        question = _Question(subject, then)
        if client is None:
            return then(Unanswered.DOWN)
        if len(data) > client.info.get("max_payload", len(data)):
            return then(Unanswered.TOO_LARGE)
        if f"{self._inbox}*" in self._refusals():
            return then(Unanswered.REFUSED)
        with self._lock:
            busy = len(self._waiting) >= MAX_QUESTIONS
            if not busy:
                self._waiting[token] = question
        if busy:
            return then(Unanswered.BUSY)
        question.timer = self._after(timeout, partial(self._end, token, Unanswered.LATE))
        inbox = self._inbox.encode() + token
        try:
            client.send_lines(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), inbox, len(data), data))
        except (LinkError, AgentError) as error:
            log.debug("ask: %s", error)
            self._end(token, Unanswered.DOWN)
        return None

    def ignored(self) -> Mapping[str, int]:
        """See Questions."""
        return dict(self._ignored)

    # -- for the driver

    def unlinked(self) -> None:
        """The connection is lost."""
        for token in list(self._waiting):
            self._end(token, Unanswered.DOWN)

    def refused(self, text: str) -> None:
        """The server said this of a subject that we must not publish to."""
        subject = text.partition('"')[2].partition('"')[0]
        with self._lock:
            tokens = [token for token, question in self._waiting.items() if question.subject == subject]
        for token in tokens:
            self._end(token, Unanswered.REFUSED)

    # -- on the loop's thread

    def _arrived(self, messages: list[Message]) -> None:
        for message in messages:
            answer: Answer = message.data
            if not message.data and message.headers.startswith(b"NATS/1.0 503"):
                answer = Unanswered.NOBODY
            elif _is_ack(message.data):
                continue
            token = message.subject[len(self._inbox) :]
            if not self._end(token, answer):
                self._ignore(token)

    def _end(self, token: bytes, answer: Answer) -> bool:
        """A question has its answer, or has none; False if there is no such question any more."""
        with self._lock:
            question = self._waiting.pop(token, None)
            if question is not None:
                if len(self._past) >= PAST:
                    del self._past[next(iter(self._past))]
                self._past[token] = answer is not Unanswered.LATE
        if question is None:
            return False
        if question.timer is not None:
            question.timer.cancel()
        try:
            question.then(answer)
        except Exception:
            log.exception("unhandled exception with the answer to a question")
        return True

    def _ignore(self, token: bytes) -> None:
        with self._lock:
            answered = self._past.get(token)
            reason = "unknown" if answered is None else "second" if answered else "late"
            self._ignored[reason] += 1
        if self._seldom[reason].due():
            log.warning("%d answers to requests of ours were ignored: %s", self._ignored[reason], SAID[reason])


def _is_ack(data: bytes) -> bool:
    """True for what a JetStream stream says of a message that it has stored, or could not store."""
    return b'"stream"' in data and len(data) < ACK and read_ack(data, b"").code != GARBAGE
