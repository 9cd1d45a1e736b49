"""Any FreeSWITCH API verb: `api <verb> <args>` on the ordered lane."""

from __future__ import annotations

import re
from collections.abc import Callable

from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Command
from event_agent.protocol.validation import string

ARGS = string("args").optional("")
VERB = string("command", 1, 255)
_WHITE = re.compile(r"\s")
EXECUTED = "API command executed"


class ApiCommand:
    """The handler of everything that is no built-in."""

    def __init__(self, submit: Callable[[Command], None], guards: Guards) -> None:
        self._submit = submit
        self._guards = guards

    def __call__(self, invocation: Invocation) -> None:
        """Send it; the reply comes with FreeSWITCH's answer. Raises CommandError."""
        verb = VERB(invocation.payload)
        if _WHITE.search(verb):
            raise CommandError("command must not contain white space; arguments go into args")
        args = ARGS(invocation.payload)
        self._guards.check_api(verb, args)
        text = f"api {verb} {args}\n\n" if args else f"api {verb}\n\n"

        def done(answer: str) -> None:
            invocation.finish(api_outcome(answer))

        self._submit(Command(text, verb, done, invocation.fail, keys_of(verb, args)))


def keys_of(verb: str, args: str) -> tuple[str, ...]:
    """The channels an API verb is about: commands for one channel keep their order."""
    if not verb.startswith("uuid_"):
        return ()
    words = args.split(None, 2)
    if verb == "uuid_bridge":
        return tuple(dict.fromkeys(words[:2]))
    return tuple(words[:1])


def api_outcome(answer: str) -> Outcome:
    """FreeSWITCH's answer as an outcome. Source: recorded conversations (tests/fixtures/event-socket/api.txt)."""
    if answer.startswith(("-ERR", "-USAGE")):
        if answer.startswith("-ERR no reply"):  # mod_event_socket's words for empty output
            return Outcome(EXECUTED, "")
        return Outcome(answer.strip(), answer, ok=False)
    return Outcome(EXECUTED, answer)
