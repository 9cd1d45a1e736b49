"""The path of a request, from top to bottom: a list of messages -> registry -> flush; and that of its reply back.

    Requests.take      the messages of one read, on the loop's thread
      Invocation       one request: read, and on its way
      Registry.run     checks, and the command's handler: an Outcome, or one later
      lane.flush       what the handlers have submitted leaves for FreeSWITCH in one write
    Invocation.finish  on the thread that has the answer
      Requests._finish   the reply's bytes
      Answers          the replies of one read leave in one write; then
      Requests._account  counters, audit line

Whatever happens, a request is finished once: replied to, forwarded, counted, audited.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol

from event_agent.bridge.twins import HELLO
from event_agent.commands.registry import Invocation, Outcome, Registry
from event_agent.drivers.base import Message, Replies, Reply, RequestSource
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Executed
from event_agent.protocol.questions import ASKING, only_asks
from event_agent.protocol.replies import ABSENT, Envelope
from event_agent.protocol.requests import read_request
from event_agent.protocol.subjects import BELOW, slug, verb_in
from event_agent.protocol.trace import has_trace, sender, trace_of
from event_agent.runtime.log import AuditLog, Budget, Seldom, clean
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

SLOW_LINES = 20  # a second at most
QUEUE = "waiting for its turn"
SHOWN = 200  # characters of an error in a log line
UNKNOWN = {"executed": Executed.UNKNOWN.value}  # of an error that comes in the place of an answer


class Lane(Protocol):
    """Where commands go to FreeSWITCH."""

    @property
    def full(self) -> bool:
        """True while no more commands should come."""
        ...

    def flush(self) -> bool:
        """Send what was submitted; False if it is full."""
        ...


class Events(Protocol):
    """Where events come from."""

    def expect(self) -> None:
        """Some may follow soon."""
        ...


class _Held:
    """Those of one thread."""

    __slots__ = ("depth", "replies", "later")

    def __init__(self) -> None:
        self.depth = 0  # of `with`
        self.replies: list[Reply] = []
        self.later: list[tuple[Callable[..., None], tuple[Any, ...]]] = []


class _Own(threading.local):
    def __init__(self) -> None:
        """Runs once for each thread."""
        self.held = _Held()


class Answers:
    """Replies on their way out. Those that a thread makes within one `with` leave in one write, its others at once.

    Each thread has its own, so nothing that another one does holds a reply back. It may be entered again within.
    """

    def __init__(self, replies: Replies) -> None:
        self._replies = replies
        self._dropped = Seldom()
        self._own = _Own()

    def __enter__(self) -> None:
        self._own.held.depth += 1

    def __exit__(self, *_: object) -> None:
        held = self._own.held
        held.depth -= 1
        if not held.depth:
            if held.replies:
                self._send(held)
            if held.later:
                later, held.later = held.later, []
                for job, facts in later:
                    job(*facts)

    def add(self, message: Message, payload: bytes, error: str) -> None:
        """Send one, at once or at the end of the `with`."""
        held = self._own.held
        held.replies.append((message, payload, error))
        if not held.depth:
            self._send(held)

    def then(self, job: Callable[..., None], *facts: Any) -> None:
        """Have it called when those that were added before are on their way: nobody has to wait for it."""
        held = self._own.held
        if held.depth:
            held.later.append((job, facts))
        else:
            job(*facts)

    def _send(self, held: _Held) -> None:
        replies, held.replies = held.replies, []
        dropped = len(replies) - self._replies.send(replies)
        if dropped and self._dropped.due():
            log.warning("%d replies were dropped", dropped)


def _origin(invocation: Invocation) -> dict[str, str]:
    """Who sent it, and of which trace it is."""
    found = sender(invocation.message.headers)
    return found if invocation.trace is None else {**found, **invocation.trace.headers}


class Requests:
    """Takes requests from the broker and makes sure that each is answered.

    Where FreeSWITCH does not keep up, no more of them are read: the source is paused until the lane has room again.
    """

    def __init__(
        self,
        registry: Registry,
        source: RequestSource,
        replies: Replies,
        answers: Answers,
        lane: Lane,
        events: Events,
        stats: Stats,
        audit: AuditLog,
        node_id: str,
        hello: Callable[[Message], None] = lambda message: None,
        prefix: str = "",
    ) -> None:
        """`hello` hears what other agents of our name say, see twins.py."""
        self._hello = hello
        self._prefix_size = len(prefix) + 1
        self._run = registry.run
        self._warnings = registry.known.warnings
        self._source = source
        self._replies = replies
        self._answers = answers
        self._lane = lane
        self._events = events
        self._stats = stats
        self._audit = audit
        self._slug = slug(node_id) if node_id else ""
        self._envelope = Envelope(node_id)
        self._node = node_id or "unknown"
        self.audited = "all"  # or changes, errors, off; any thread may set it, and the next
        self.slow = 0.0  # seconds from which on a command is said to be slow; 0 is never
        self._slowly = Budget(SLOW_LINES)

    # -- in

    def take_verbs(self, messages: list[Message]) -> None:
        """As `take`, of lanes that may have the command in the subject."""
        self.take(messages, self._prefix_size)

    def take(self, messages: list[Message], verbs: int = 0) -> None:
        """The requests of one read. Never raises: one bad request must not end the loop's watch.

        `verbs`: bytes of a subject before its lane; 0 if no command stands there.
        """
        ours, room = 0, True
        run, finish = self._run, self._finish
        with self._answers:
            for message in messages:
                invocation = Invocation(message, finish)
                if message.headers and has_trace(message.headers):
                    self._trace(invocation)
                if verbs:
                    invocation.verb = verb_in(verbs, message.subject)
                try:
                    if not read_request(invocation, message.data, self._slug):
                        if message.data.startswith(HELLO):
                            self._hello(message)
                        continue  # another node's
                    outcome = run(invocation)
                except CommandError as error:
                    which = {"field": error.field} if error.field else None
                    outcome = Outcome(error.message, ABSENT if error.data is None else error.data, which, ok=False)
                except Exception:
                    log.exception("unhandled exception in command %s", clean(invocation.command))
                    outcome = Outcome("Internal error", extra=UNKNOWN, ok=False)
                ours += 1
                if outcome is not None:
                    invocation.finish(outcome)
            if ours:
                room = self._lane.flush()  # first of all, FreeSWITCH has work
                self._stats.received += ours
                self._events.expect()
        if not room:
            self._pause()

    def _trace(self, invocation: Invocation) -> None:
        """The answer gets the trace headers of the request, and so does whatever else comes of it."""
        invocation.trace = trace = trace_of(invocation.message.headers)
        if trace is None:
            self._stats.traces_invalid += 1
        else:
            invocation.message.carried = trace.headers

    def _pause(self) -> None:
        self._source.pause()
        if not self._lane.full:  # room came before the pause, and is not said again
            self._source.resume()

    # -- out

    def _finish(self, invocation: Invocation, outcome: Outcome) -> None:
        """Reply, forward, count, audit. From any thread; never raises: it would end the thread that answers others."""
        try:
            waits = bool(invocation.message.reply) and not invocation.run_async
            error = "" if outcome.ok else outcome.message
            if waits or invocation.forward_to:
                self._answer(invocation, outcome, error, waits)
        except Exception:
            log.exception("the reply to %s could not be made", clean(invocation.command))
        self._answers.then(self._account, invocation, outcome, time.monotonic() - invocation.started)

    def _account(self, invocation: Invocation, outcome: Outcome, seconds: float) -> None:
        """Count, audit, say what is to be said. Never raises."""
        message, command = invocation.message, invocation.command
        try:
            error = "" if outcome.ok else outcome.message
            if error and (not message.reply or invocation.run_async):
                log.warning(
                    "%s failed, and nobody waits for its reply: %s", clean(command), " ".join(error.split())[:SHOWN]
                )
            raw = message.subject
            subject = lane = raw.decode() if raw.isascii() else raw.decode(errors="replace")  # half of the time
            if invocation.verb:
                lane = message.subject[: -len(invocation.verb) - 1].decode(errors="replace") + BELOW
            asks = command in ASKING or only_asks(command, invocation.payload.get("args"))
            if asks and outcome.unreachable:
                self._stats.unanswered(lane)
            else:
                self._stats.finished(command, seconds, outcome.ok, lane, error)
            audited = self.audited
            if (
                audited == "all"
                or (audited == "changes" and not asks)
                or (audited == "errors" and not outcome.ok and not (asks and outcome.unreachable))
            ):
                more = _origin(invocation) if message.headers else None
                self._audit.command(command, subject, outcome.ok, invocation.run_async, len(message.data), more)
            if self.slow and seconds >= self.slow:
                self._say_slow(invocation, outcome, subject, seconds)
        except Exception:
            log.exception("command %s could not be counted", clean(command))
        # The two hold each other: the collector would have to find them, and until then new ones take cold memory.
        invocation.sent = None

    def _say_slow(self, invocation: Invocation, outcome: Outcome, subject: str, seconds: float) -> None:
        """What a command took, and where."""
        if not self._slowly.due():
            return
        sent = invocation.sent
        if sent is None:
            where = "in the agent"
        elif not sent.sent_at:
            where = f"all of it {QUEUE}"
        else:
            here = max(0.0, sent.sent_at - invocation.started)
            where = f"{here:.3f} s {QUEUE}, {max(0.0, seconds - here):.3f} s in FreeSWITCH"
        fields = {"cmd": clean(invocation.command), "node": self._node, "seconds": round(seconds, 3),
                  "subject": clean(subject, 256), "result": "ok" if outcome.ok else "err"}  # fmt: skip
        log.warning(
            "slow command: %s on node %s took %.3f s (%s); subject=%s result=%s%s", fields["cmd"], self._node, seconds,
            where, fields["subject"], fields["result"], self._slowly.dropped(), extra={"fields": fields},
        )  # fmt: skip

    def _answer(self, invocation: Invocation, outcome: Outcome, error: str, waits: bool) -> None:
        given = invocation.payload if invocation.given is None else invocation.given
        warnings = self._warnings(invocation.command, given)
        if outcome.warnings:
            warnings = [*warnings, *outcome.warnings]
        payload = self._envelope.reply(
            outcome.ok, outcome.message, outcome.data, outcome.extra, invocation.correlation_id, warnings
        )
        most = self._replies.max_payload
        if len(payload) <= most and not invocation.forward_to:
            self._answers.add(invocation.message, payload, error)
            return
        payloads = [payload]
        if len(payload) > most:  # it would cut the link
            payloads = [] if not invocation.parts else self._envelope.parts(
                most, outcome.ok, outcome.message, outcome.data, outcome.extra, invocation.correlation_id, warnings
            )  # fmt: skip
            if not payloads:
                error = f"Reply too large ({len(payload)} bytes, the broker takes {most})"
                payloads = [self._too_large(invocation, error, most)]
        with self._answers:
            for each in payloads:
                if waits:
                    self._answers.add(invocation.message, each, error)
                if invocation.forward_to:
                    copy = Message(b"", invocation.forward_to.encode(), b"", carried=invocation.message.carried)
                    self._answers.add(copy, each, "")

    def _too_large(self, invocation: Invocation, error: str, most: int) -> bytes:
        payload = self._envelope.reply(False, error, extra=UNKNOWN, correlation_id=invocation.correlation_id)
        return payload if len(payload) <= most else self._envelope.reply(False, "Reply too large", extra=UNKNOWN)
