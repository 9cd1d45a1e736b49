"""Where a command enters: guards in order, then its handler; and where its reply leaves.

`handle` runs on the driver's reader thread, once a request. A handler answers at once by returning an `Outcome`, or
later through `Invocation.finish` (from a lane's or worker's thread) when it has returned None. A CommandError it raises
becomes an error reply. Whatever happens, a call is finished exactly once: replied to, forwarded, counted, audited.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from event_agent.commands import console
from event_agent.commands.guards import Guards
from event_agent.commands.unknown import KnownFields
from event_agent.drivers.base import Driver, Message
from event_agent.errors import CommandError
from event_agent.protocol.replies import Envelope
from event_agent.protocol.requests import FORWARD_TO, BadRequest, Request, parse_request
from event_agent.protocol.subjects import is_command_lane, slug
from event_agent.protocol.validation import Declaration
from event_agent.runtime.log import AuditLog, Seldom, clean
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

_NO_DATA = object()


@dataclass(slots=True)
class Outcome:
    """How a command ended. `extra` keys stand at the reply's top level, and inside `data` where it is an object."""

    message: str
    data: object = _NO_DATA
    extra: dict[str, Any] | None = None
    ok: bool = True


Handler = Callable[["Invocation"], Outcome | None]


class Invocation:
    """One command under way."""

    __slots__ = ("request", "payload", "_message", "_registry", "_started", "_finished")

    def __init__(self, registry: Registry, message: Message, request: Request, started: float) -> None:
        self.request = request
        self.payload = request.payload  # its fields; those that `args` hold, too
        self._registry = registry
        self._message = message
        self._started = started
        self._finished = False

    def finish(self, outcome: Outcome) -> None:
        """Answer it. From any thread; only the first time counts."""
        if not self._finished:
            self._finished = True
            self._registry.finished(self._message, self.request, outcome, self._started)

    def fail(self, message: str) -> None:
        """Answer it with an error without data."""
        self.finish(Outcome(message, ok=False))


class Registry:
    """Knows the commands of this node and runs them."""

    def __init__(
        self,
        driver: Driver,
        node_id: str,
        prefix: str,
        stats: Stats,
        audit: AuditLog,
        guards: Guards,
        fallback: Handler,
        declared: Iterable[Declaration] = (),
    ) -> None:
        """`fallback` takes every command that has no handler of its own: it is an API verb.

        `declared`: the commands, for warnings of fields that they do not know, and for `args` in the place of fields.
        """
        self._driver = driver
        self._slug = slug(node_id) if node_id else ""
        self._prefix = prefix
        self._envelope = Envelope(node_id)
        self._stats = stats
        self._audit = audit
        self._fallback = fallback
        self._handlers: dict[str, Handler] = {}
        self._guards = guards
        declared = tuple(declared)
        self._known = KnownFields(declared)
        self._consoles = {each.name: each for each in declared if each.console}
        self._reply_dropped, self._copy_dropped = Seldom(), Seldom()

    def add(self, name: str, handler: Handler) -> None:
        """A built-in command."""
        self._handlers[name] = handler

    def handle(self, message: Message) -> None:
        """A request came. Never raises: one bad request must not end the reader thread."""
        started = time.monotonic()
        try:
            request = parse_request(message.data, self._slug)
        except BadRequest as error:
            self._stats.request()
            refused = Request("", {}, correlation_id=error.correlation_id)
            self.finished(message, refused, Outcome(error.message, ok=False), started)
            return
        if request is None:
            return  # another node's
        self._stats.request()
        invocation = Invocation(self, message, request, started)
        try:
            outcome = self._run(invocation)
        except CommandError as error:
            data = _NO_DATA if error.data is None else error.data
            outcome = Outcome(error.message, data, ok=False)
        except Exception:
            log.exception("command %s failed in a way it should not", clean(request.command))
            outcome = Outcome("Internal error", ok=False)
        if outcome is not None:
            invocation.finish(outcome)

    def _run(self, invocation: Invocation) -> Outcome | None:
        request = invocation.request
        if "forward_to" in request.payload:
            self._check_forward(request)
        handler = self._handlers.get(request.command)
        if handler is None:
            return self._fallback(invocation)
        self._guards.check_builtin(request.command)
        if "args" in request.payload and (declaration := self._consoles.get(request.command)):
            invocation.payload = console.filled(declaration, request.payload)
        return handler(invocation)

    def _check_forward(self, request: Request) -> None:
        request.forward_to = ""  # a refused subject gets no copy of the refusal
        subject = FORWARD_TO(request.payload)
        if is_command_lane(self._prefix, subject):
            raise CommandError("forward_to must not be a command lane")
        request.forward_to = subject

    def finished(self, message: Message, request: Request, outcome: Outcome, started: float) -> None:
        """Reply, forward, count, audit. From any thread; never raises: it would end the thread that answers others."""
        try:
            self._finish(message, request, outcome, started)
        except Exception:
            log.exception("the reply to %s could not be made", clean(request.command))

    def _finish(self, message: Message, request: Request, outcome: Outcome, started: float) -> None:
        if message.reply and not request.run_async or request.forward_to:
            payload, error = self._reply(outcome, request)
            if message.reply and not request.run_async and not self._driver.reply(message, payload, error):
                if self._reply_dropped.due():
                    log.warning("the reply to %s was dropped", clean(request.command))
            if request.forward_to and not self._driver.publish(request.forward_to, payload):
                if self._copy_dropped.due():
                    log.warning("forward_to %s: dropped", clean(request.forward_to, 256))
        if not outcome.ok and (request.run_async or not message.reply):
            log.warning("%s failed, and nobody waits for its reply: %s", clean(request.command), clean_text(outcome))
        error = "" if outcome.ok else outcome.message
        self._stats.finished(request.command, time.monotonic() - started, outcome.ok, message.subject, error)
        self._audit.command(request.command, message.subject, outcome.ok, request.run_async, len(message.data))

    def _reply(self, outcome: Outcome, request: Request) -> tuple[bytes, str]:
        """The reply, and the text of its error."""
        build, correlation_id = self._envelope, request.correlation_id
        warnings = self._known.warnings(request.command, request.payload)
        error = "" if outcome.ok else outcome.message
        if outcome.ok:
            if outcome.data is _NO_DATA:
                payload = build.success(
                    outcome.message, extra=outcome.extra, correlation_id=correlation_id, warnings=warnings
                )
            else:
                payload = build.success(outcome.message, outcome.data, outcome.extra, correlation_id, warnings)
        else:
            data = None if outcome.data is _NO_DATA else outcome.data
            payload = build.error(outcome.message, data, outcome.extra, correlation_id, warnings)
        most = self._driver.max_payload
        if len(payload) > most:  # it would cut the link
            error = f"Reply too large ({len(payload)} bytes, the broker takes {most})"
            payload = build.error(error, correlation_id=correlation_id)
            if len(payload) > most:
                payload = build.error("Reply too large")
        return payload, error


def clean_text(outcome: Outcome) -> str:
    """An outcome's message for a log line: on one line, and not longer than one."""
    return " ".join(outcome.message.split())[:200]
