"""The commands of a node by name: which handler takes a request, and the checks that all have in common.

A handler gets an `Invocation`. It answers at once by returning an `Outcome`, or later through `Invocation.finish`
(from a lane's or worker's thread) when it has returned None. A CommandError it raises becomes an error reply.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from event_agent.commands import console
from event_agent.commands.guards import Guards
from event_agent.commands.unknown import KnownFields
from event_agent.drivers.base import Message
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Command, Failure
from event_agent.protocol.replies import ABSENT
from event_agent.protocol.requests import FORWARD_TO, Request
from event_agent.protocol.subjects import call_lane, is_command_lane
from event_agent.protocol.trace import Trace
from event_agent.protocol.validation import Declaration


@dataclass(slots=True)
class Outcome:
    """How a command ended. `extra` keys stand at the reply's top level, and inside `data` if it is an object."""

    message: str
    data: object = ABSENT
    extra: dict[str, Any] | None = None
    ok: bool = True
    unreachable: bool = False  # FreeSWITCH was
    warnings: tuple[str, ...] = ()  # beside those of fields that are not known


Handler = Callable[["Invocation"], Outcome | None]


class Invocation(Request):
    """One command under way: what was asked, and how to answer."""

    trace: Trace | None = None
    sent: Command | None = None  # what it is carried out by, for who asks where it waited
    given: Mapping[str, Any] | None = None  # its fields as they came, if `args` have become others

    def __init__(self, message: Message, finish: Callable[[Invocation, Outcome], None]) -> None:
        """Of a message that was not read yet. `finish` is called once."""
        self.message = message
        self.started = time.monotonic()
        self._finish: Callable[[Invocation, Outcome], None] | None = finish

    def finish(self, outcome: Outcome) -> None:
        """Answer it. From any thread; only the first time counts."""
        finish, self._finish = self._finish, None
        if finish is not None:
            finish(self, outcome)

    def fail(self, why: Failure | str, extra: dict[str, Any] | None = None) -> None:
        """Answer it with an error without data. A `Failure` says whether it was carried out."""
        unreachable = False
        if isinstance(why, Failure):
            extra = {**(extra or {}), "executed": why.executed.value}
            unreachable = why.unreachable
        self.finish(Outcome(str(why), extra=extra, ok=False, unreachable=unreachable))


class Registry:
    """Knows the commands of this node and runs them."""

    def __init__(
        self, prefix: str, guards: Guards, fallback: Handler, declared: Iterable[Declaration] = ()
    ) -> None:
        """`fallback` takes every command that has no handler of its own: it is an API verb.

        `declared`: the commands, for warnings of fields that they do not know, and for `args` in the place of fields.
        """
        self._prefix = prefix
        self._guards = guards
        self._fallback = fallback
        self.handlers: dict[str, Handler] = {}
        declared = tuple(declared)
        self.known = KnownFields(declared)
        self._consoles = self.known.consoles
        self._of_channels = frozenset(
            each.name for each in declared if any(one.name == "uuid" and one.required for one in each.fields)
        )
        self._calls = call_lane(prefix, "").encode()

    def add(self, name: str, handler: Handler) -> None:
        """A built-in command."""
        self.handlers[name] = handler

    def run(self, invocation: Invocation) -> Outcome | None:
        """Carry it out, or begin to. Raises CommandError."""
        if "forward_to" in invocation.payload:
            self._check_forward(invocation)
        handler = self.handlers.get(invocation.command)
        if handler is None:
            return self._fallback(invocation)
        self._guards.check_builtin(invocation.command)
        if "args" in invocation.payload and (declaration := self._consoles.get(invocation.command)):
            invocation.given = invocation.payload
            invocation.payload = console.filled(declaration, invocation.payload)
        if ("uuid" not in invocation.payload or invocation.verb) and invocation.message.subject.startswith(self._calls):
            self._address(invocation)
        return handler(invocation)

    def _address(self, invocation: Invocation) -> None:
        """A request on the lane of a channel need not name the channel once more.

        With the command in the subject it must be this one: permissions may depend on it. Raises CommandError.
        """
        if invocation.command in self._of_channels:
            uuid = invocation.message.subject[len(self._calls) :].partition(b".")[0].decode(errors="replace")
            if invocation.payload.get("uuid", uuid) != uuid:
                raise CommandError(f"uuid must be absent, or '{uuid}' as in the subject", field="uuid")
            invocation.payload = {**invocation.payload, "uuid": uuid}

    def _check_forward(self, invocation: Invocation) -> None:
        invocation.forward_to = ""  # a refused subject gets no copy of the refusal
        subject = FORWARD_TO(invocation.payload)
        if is_command_lane(self._prefix, subject):
            raise CommandError("forward_to must not be a command lane", field="forward_to")
        invocation.forward_to = subject

