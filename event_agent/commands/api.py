"""Any FreeSWITCH API verb: `api <verb> <args>` on the ordered lane."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from event_agent.commands.failures import NO_REPLY, failure
from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.dialstring import check_console
from event_agent.freeswitch.slow_verbs import filed_under
from event_agent.protocol.requests import ARGS
from event_agent.protocol.validation import Declaration, string, word

EXECUTED = "API command executed"
MAX_VERB = 255  # characters
VERB = string(
    "command", 1, MAX_VERB, form=word("; arguments go into args"), help="case does not matter to FreeSWITCH"
)
FIELDS = Declaration(
    "",
    "`api <command> <args>`. Every command that is not one of the others.",
    (VERB, ARGS),
    ({"command": "show", "args": "channels count", "correlation_id": "job-17"},
     {"command": "uuid_transfer", "args": "8f0c9d2e-41a7-4c5e-9a55-2f6d1f0e7b10 1001 XML default",
      "forward_to": "audit.replies"}),
)  # fmt: skip


class ApiCommand:
    """The handler of everything that is no built-in."""

    def __init__(
        self, submit: Callable[[Command], None], guards: Guards, after: Mapping[str, Callable[[], None]] | None = None
    ) -> None:
        """`after`: for the name of a verb, what is called when FreeSWITCH has answered it; it may be filled later."""
        self._submit = submit
        self._guards = guards
        self._after = {} if after is None else after

    def __call__(self, invocation: Invocation) -> None:
        """Send it; the reply comes with FreeSWITCH's answer. Raises CommandError."""
        payload = invocation.payload
        verb, args = invocation.command, payload.get("args", "")
        # What is plainly right is not asked of the field: that costs more.
        if not verb.isidentifier() or len(verb) > MAX_VERB:
            VERB(payload)
        if type(args) is not str or not args.isprintable():
            args = ARGS(payload)
        self._guards.check_api(verb, args)
        keys: tuple[str, ...] = ()
        if args:
            check_console(verb, args)
            keys = keys_of(verb, args)
        name = filed_under(verb, args)

        def done(answer: str) -> None:
            if name in self._after:
                self._after[name]()
            invocation.finish(api_outcome(answer, verb, args))

        invocation.sent = command = Command(wire.api(verb, args), name, done, invocation.fail, keys)
        self._submit(command)


def keys_of(verb: str, args: str) -> tuple[str, ...]:
    """The channels an API verb is about: commands for one channel keep their order.

    FreeSWITCH finds verbs in any case, and splits at another character than a blank that `^^` names, and around quotes
    (switch_utils.c, switch_separate_string).
    """
    if verb[:5] != "uuid_" and verb[:5].lower() != "uuid_":
        return ()
    if "^^" in args and (own := args.strip(" "))[:2] == "^^" and len(own) > 3:
        words = own[3:].split(own[2], 2)
    else:
        words = args.split(None, 2)
    if "'" in args:
        words = [word.strip("'") for word in words]
    if verb.lower() == "uuid_bridge":
        return tuple(dict.fromkeys(words[:2]))
    return tuple(words[:1])


def api_outcome(answer: str, verb: str = "", args: str = "") -> Outcome:
    """FreeSWITCH's answer to a verb as an outcome; failures.py has the verbs that fail in other words.

    Source: recorded conversations (tests/fixtures/event-socket/api.txt).
    """
    data = answer
    if answer.startswith(("-ERR", "-USAGE")):
        if not answer.startswith(NO_REPLY):
            return Outcome(answer.strip(), answer, ok=False)
        data = ""
    if verb and (said := failure(verb, args, answer)):
        return Outcome(said, answer, ok=False)
    return Outcome(EXECUTED, data)
