"""Events into a JetStream stream, each acknowledged: what waits, what is under way, and what becomes of it.

States, and what leads from one to the next:

    DOWN       no link to the server; nothing is sent
    CHECKING   the server is asked which stream takes our subjects, and then how that one is made. `linked`, a time-out,
               a 503 and errors that say that the stream is not what it was lead here; the answers lead on. Without an
               answer within ASK seconds (asking may be forbidden) events are sent all the same
    NO_STREAM  none takes them as we need it; asked again every AGAIN seconds. Events wait
    READY      events are sent, at most `max_pending` under way
    DEAF       the server does not let us hear acknowledgements; the driver subscribes again now and then
    PAUSED     the server could not store one, for a reason that passes; after a growing wait all is sent again

Whatever is not acknowledged when READY is left is sent again, from the oldest, in order. The server removes what it has
stored already by its `Nats-Msg-Id`, as long as that falls within the stream's duplicate window.

Pure: no socket, no thread, no lock, and time is passed in. `take` gives what is to be written; the rest is the
driver's.
Sources: NATS docs, "JetStream API reference" and ADR-1; nats-server's errors.json for the codes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from event_agent import quick
from event_agent.drivers.base import STREAM_REFUSED
from event_agent.drivers.nats.acks import GARBAGE, NOBODY, Ack, is_plain_ack, read_ack
from event_agent.drivers.outbox import Outbox, Outgoing

ASK = 5.0  # seconds an answer of the JetStream API may take
AGAIN = 5.0  # seconds between two looks for a stream
NAMES, INFO = b"$JS.API.STREAM.NAMES", b"$JS.API.STREAM.INFO."
PAUSE_FIRST, PAUSE_MOST = 0.25, 5.0  # seconds
BATCH = 256 * 1024  # bytes given to the driver at one time

# The reasons for which the server may refuse to store a message and that pass by themselves: 10008 JetStream is
# temporarily unavailable, 10023 insufficient resources, 10077 store failed, 10122 …, 10167 too many requests.
PASSING = frozenset((10008, 10023, 10077, 10122, 10167))
TOO_LARGE = 10054  # message size exceeds the stream's maximum
STORE_FAILED = 10077  # also how a full stream with `discard: new` refuses


Question = tuple[bytes, bytes]  # subject and payload of a request


class StreamState(Enum):
    DOWN = "not connected"
    CHECKING = "checking"
    NO_STREAM = "no stream"
    READY = "ready"
    DEAF = "no acknowledgements"
    PAUSED = "paused"


@dataclass(slots=True)
class Status:
    """How it stands, and why."""

    state: StreamState = StreamState.DOWN
    reason: str = ""
    stream: str = ""  # the stream that takes our events, as far as known


@dataclass(slots=True)
class Counters:
    """For agent.status and /metrics."""

    duplicates: int = 0  # acknowledgements that said so
    garbage: int = 0  # acknowledgements that could not be read
    given_up: dict[str, int] = field(default_factory=dict)  # reason -> events


class JetStream:
    """What is sent, and when. The caller holds a lock around every call."""

    def __init__(
        self, box: Outbox, stream: str, subject: str, max_pending: int, ack_timeout: float, flight: int = 2097152,
        records: str = "",
    ) -> None:
        """`stream`: the one that must take them, empty for whichever does. `subject`: a pattern of all of them.

        `flight`: bytes that may be under way. `records`: a second pattern that the same stream must take, if not empty.
        """
        self._box = box
        self._wanted = stream
        self._subject = subject
        self._records = records
        self._max_pending = max_pending
        self._ack_timeout = ack_timeout
        self._flight = flight
        self._expect = f"Nats-Expected-Stream: {stream}\r\n".encode() if stream else b""
        self.status = Status()
        self.counters = Counters()
        self._due = 0.0  # time at which the present state is looked at again; 0: not by time
        self._pause = PAUSE_FIRST
        self._asked = b""  # the subject of the question that is open
        self._full_refuses = False  # the stream has limits, and `discard: new`
        self.window = 0.0  # seconds for which the stream knows what it has stored; 0 where that is unknown

    # -- the link

    def linked(self, now: float) -> Question:
        """There is a link; returns what the server is to be asked."""
        self._again()
        return self._check(now, "")

    def unlinked(self) -> None:
        """The link is lost."""
        self._again()
        self._enter(StreamState.DOWN, "", 0.0)

    def deaf(self, reason: str) -> None:
        """Acknowledgements do not reach us, for this reason."""
        self._again()
        self._asked = b""
        self._enter(StreamState.DEAF, reason, 0.0)

    def _again(self) -> None:
        self._box.send_again()

    def _check(self, now: float, reason: str) -> Question:
        self._enter(StreamState.CHECKING, reason, now + ASK)
        return self._ask_names()

    def _ask_names(self) -> Question:
        self._asked = NAMES
        return NAMES, json.dumps({"subject": self._subject}).encode()

    def _enter(self, state: StreamState, reason: str, due: float) -> None:
        self.status = Status(state, reason, self.status.stream)
        self._due = due

    # -- what comes in

    def answered(self, data: bytes, headers: bytes, now: float) -> Question | None:
        """The answer to a question; returns the next one."""
        asked, self._asked = self._asked, b""
        if not asked or self.status.state not in (StreamState.CHECKING, StreamState.NO_STREAM):
            return None  # it came too late
        value, fault = _answer(data, headers)
        if asked == NAMES and not fault:
            streams = [each for each in _list(value.get("streams")) if isinstance(each, str)]
            stream = self._wanted or (streams[0] if streams else "")
            if stream and stream in streams:
                self.status.stream = stream
                self._asked = INFO + stream.encode()
                return self._asked, b""
            fault = f"no stream {self._wanted} takes {self._subject}" if self._wanted else (
                f"no stream takes {self._subject}")  # fmt: skip
        elif not fault:
            fault = self._configured(value)
        if fault:
            self._enter(StreamState.NO_STREAM, fault, now + AGAIN)
        else:
            self._ready(self.status.stream)
        return None

    def _configured(self, value: dict[str, Any]) -> str:
        """What STREAM.INFO says; returns why the stream can't be used."""
        config = value.get("config")
        if not isinstance(config, dict):
            return ""
        if config.get("no_ack"):
            return f"stream {self.status.stream} does not acknowledge (no_ack)"
        subjects = [each for each in _list(config.get("subjects")) if isinstance(each, str)]
        for pattern in filter(None, (self._subject, self._records)):
            if subjects and not any(covers(each, pattern) for each in subjects):
                return f"stream {self.status.stream} does not take {pattern}"
        limits = (config.get(name) for name in ("max_msgs", "max_bytes"))
        self._full_refuses = config.get("discard") == "new" and any(isinstance(n, int) and n > 0 for n in limits)
        window = config.get("duplicate_window")
        self.window = window / 1e9 if isinstance(window, int) else 0.0
        return ""

    def _ready(self, stream: str) -> None:
        self._again()
        self._enter(StreamState.READY, "", 0.0)
        self.status.stream = stream

    def acks(self, acks: Sequence[tuple[int, bytes, bytes]], now: float) -> Question | None:
        """Acknowledgements: ticket, payload, headers. Returns a question for the server, or nothing."""
        stored: list[int] = []
        question: Question | None = None
        for ticket, data, headers in acks:
            if is_plain_ack(data):
                stored.append(ticket)
                continue
            ack = read_ack(data, headers)
            if not ack.code:
                self.counters.duplicates += ack.duplicate
                stored.append(ticket)
                continue
            question = self._refused(ticket, ack, now) or question
        if stored:
            self.stored(stored)
        return question

    def stored(self, tickets: Sequence[int]) -> None:
        """The server has stored these."""
        self._box.through(tickets)
        if self.status.state is StreamState.READY:
            self._pause = PAUSE_FIRST

    def _refused(self, ticket: int, ack: Ack, now: float) -> Question | None:
        """The server did not store a message, or said what can't be read."""
        event = self._box.flying(ticket)
        if event is None:
            return None  # it was sent on a link, or before a check, that is over
        if ack.code == GARBAGE:
            self.counters.garbage += 1  # what is not acknowledged in time is sent again
        elif ack.code == TOO_LARGE:
            self._give_up(ticket, "too large for the stream")
        elif ack.code == STORE_FAILED and self._full_refuses:
            self._give_up(ticket, "the stream is full (discard new)")
        elif ack.code in PASSING:
            if self.status.state is StreamState.READY:
                self._enter(StreamState.PAUSED, f"{ack.text} ({ack.code})", now + self._pause)
                self._pause = min(self._pause * 2, PAUSE_MOST)
        elif event.tries > 1 and ack.code != NOBODY:
            # The stream was looked at since its first try, and was what it should be: this one will never be stored.
            self._give_up(ticket, f"{ack.text} ({ack.code})")
        elif self.status.state is StreamState.READY:
            return self._check(now, f"{ack.text} ({ack.code})")
        return None

    def _give_up(self, ticket: int, reason: str) -> None:
        self._box.give_up(ticket, STREAM_REFUSED)
        self.counters.given_up[reason] = self.counters.given_up.get(reason, 0) + 1

    # -- time

    def tick(self, now: float) -> Question | None:
        """Called a few times a second. Returns a question for the server, or nothing."""
        state = self.status.state
        if state is StreamState.READY:
            oldest = self._box.oldest_sent
            if oldest and now - oldest > self._ack_timeout:
                return self._check(now, f"no acknowledgement within {self._ack_timeout:g} s")
        elif self._due and now >= self._due:
            if state is StreamState.PAUSED:
                self._ready(self.status.stream)
            elif state is StreamState.CHECKING:
                # It may be that we must not ask. What is sent tells, by its acknowledgement.
                self._ready(self._wanted)
            elif state is StreamState.NO_STREAM:
                self._due = now + AGAIN
                return self._ask_names()
        return None

    # -- what goes out

    def take(self, inbox: bytes, now: float) -> list[bytes]:
        """Messages to be written now, as HPUBs. `inbox`: what stands before the ticket in the reply subject.

        Call again until it gives none.
        """
        box = self._box
        if self.status.state is not StreamState.READY:
            return []
        messages: list[bytes] = []
        size = 0
        hpubs = _hpubs if quick.compiled is None else quick.compiled.hpubs
        room = self._max_pending - box.under_way
        while room > 0 and size < BATCH and box.flying_bytes < self._flight:
            taken = box.take(min(room, 32), now)
            if not taken:
                break
            room -= len(taken)
            messages += hpubs(taken, inbox, self._expect)
            size += sum(event.size for _, event in taken)
        return messages


def _hpubs(taken: Sequence[tuple[int, Outgoing]], inbox: bytes, expect: bytes) -> list[bytes]:
    """The HPUB of each, whose answer goes to `inbox` with its ticket."""
    messages = []
    fixed = len(expect) + len(b"NATS/1.0\r\nNats-Msg-Id: \r\n\r\n")
    for ticket, event in taken:
        payload, msg_id = event.payload, event.msg_id
        length = fixed + len(msg_id)
        messages.append(
            b"HPUB %b %b%d %d %d\r\nNATS/1.0\r\nNats-Msg-Id: %b\r\n%b\r\n%b\r\n"
            % (event.subject, inbox, ticket, length, length + len(payload), msg_id, expect, payload)
        )
    return messages


def covers(pattern: str, other: str) -> bool:
    """Whether whatever matches `other` matches `pattern`, too; both may have wildcards (NATS docs, "Subjects")."""
    mine, theirs = pattern.split("."), other.split(".")
    for at, token in enumerate(mine):
        if token == ">":
            return len(theirs) > at
        if at >= len(theirs) or theirs[at] == ">" or (token != "*" and token != theirs[at]):
            return False
    return len(mine) == len(theirs)


def _answer(data: bytes, headers: bytes) -> tuple[dict[str, Any], str]:
    """An answer of the JetStream API, and what is wrong with it."""
    if headers.startswith(b"NATS/1.0 503"):
        return {}, "the server has no JetStream"
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        return {}, "JetStream gave an answer that can't be read"
    error = value.get("error")
    if isinstance(error, dict):
        return {}, f"JetStream: {str(error.get('description', ''))[:200]} ({error.get('err_code', 0)})"
    return value, ""


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
