"""sendevent: has FreeSWITCH fire an event.

Source: mod_event_socket.c, parse_command. An event of a name that FreeSWITCH does not have would be fired as CLONE, so
it is refused. Clients can't fire events that the agent itself relies on.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.errors import CommandError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.dialstring import as_text
from event_agent.protocol.validation import BODY, WORD, Declaration, mapping, string

EVENT = string("event", 1, 63, form=WORD, help="an event's name, such as `CUSTOM` or `NOTIFY`, in any case")
SUBCLASS = string(
    "subclass", 1, 255, help="the kind of a CUSTOM event, such as `shop::order`"
).optional("")
HEADERS = mapping(
    "headers", help="its headers; FreeSWITCH drops blanks before a value, and a header without one",
    names={"minLength": 1, "maxLength": 128, "not": {"pattern": "[^A-Za-z0-9_-]"}},
).optional(None)  # fmt: skip
TEXT = string("body", form=BODY, help="its body, byte for byte. NUL is refused").optional("")
FIELDS = Declaration(
    "sendevent",
    "Has FreeSWITCH fire an event.",
    (EVENT, SUBCLASS, HEADERS, TEXT),
    ({"event": "CUSTOM", "subclass": "shop::order", "headers": {"Order": 4711, "Paid": True}, "body": "two pizzas"},),
)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}\Z")
# FreeSWITCH sets these itself, or reads the event by them.
_SET = frozenset((
    "command", "content-length", "core-uuid", "event-name", "event-sequence", "event-subclass", "event-uuid",
))  # fmt: skip
_SET_BEGINNINGS = ("event-date-", "event-calling-", "freeswitch-")
# The agent goes by these: ends of originates, which applications there are, how late events come.
_OURS = frozenset(("BACKGROUND_JOB", "MODULE_LOAD", "MODULE_UNLOAD"))
_OUR_SUBCLASSES = "event_agent::"
_CHANNEL = "unique-id"


class Sendevent:
    """Sends the event to FreeSWITCH, which fires it."""

    def __init__(self, submit: Callable[[Command], None], guards: Guards, names: frozenset[str]) -> None:
        """`names`: of the events that FreeSWITCH has."""
        self._submit = submit
        self._guards = guards
        self._names = names

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError for what can't be fired."""
        payload = invocation.payload
        event, subclass, given, body = EVENT(payload).upper(), SUBCLASS(payload), HEADERS(payload) or {}, TEXT(payload)
        self._check_name(event, subclass)
        headers = {name: as_text(value) for name, value in given.items()}
        _check_headers(headers)
        if subclass:
            headers = {"Event-Subclass": subclass, **headers}
        self._guards.check_event("\n".join((event, *(f"{name}={value}" for name, value in headers.items()), body)))

        def done(answer: str) -> None:
            if answer.startswith("+OK"):
                invocation.finish(Outcome("Event fired", {"event_uuid": answer[3:].strip()}))
            else:
                invocation.finish(Outcome(answer.strip() or "-ERR no answer", answer, ok=False))

        keys = tuple(value for name, value in headers.items() if name.lower() == _CHANNEL and wire.is_uuid(value))
        text = wire.sendevent(event, headers, body)
        invocation.sent = command = Command(text, "sendevent", done, invocation.fail, keys)
        self._submit(command)

    def _check_name(self, event: str, subclass: str) -> None:
        if event not in self._names:
            from difflib import get_close_matches  # only a typing mistake needs it

            close = get_close_matches(event, sorted(self._names), 1)
            hint = f": {close[0]}?" if close else ""
            raise CommandError(f"event must be one that FreeSWITCH has{hint}", field="event")
        if event in _OURS or subclass.startswith(_OUR_SUBCLASSES):
            raise CommandError(f"event can't be {subclass or event}: the agent itself relies on it", field="event")
        if subclass and event != "CUSTOM":
            raise CommandError("subclass is for event CUSTOM only", field="subclass")


def _check_headers(headers: dict[str, str]) -> None:
    seen: set[str] = set()
    for name in headers:
        if not _NAME.match(name):
            raise CommandError("headers: a name must be 1 to 128 letters, digits, _ and -", field="headers")
        lower = name.lower()
        if lower in _SET or lower.startswith(_SET_BEGINNINGS):
            why = "subclass is for that" if lower == "event-subclass" else "FreeSWITCH sets it"
            raise CommandError(f"headers can't hold {name}: {why}", field="headers")
        if lower in seen:
            raise CommandError(f"headers can't hold {name} twice", field="headers")
        seen.add(lower)
