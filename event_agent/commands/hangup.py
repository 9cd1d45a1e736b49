"""hangup: ends a channel."""

from __future__ import annotations

from collections.abc import Callable

from event_agent.commands.api import api_outcome
from event_agent.commands.registry import Invocation, Outcome
from event_agent.freeswitch.command import Command
from event_agent.protocol.validation import one_word, string

UUID = string("uuid", 2, 63)
CAUSE = string("cause", high=63).optional("")


class Hangup:
    """Ends a channel with uuid_kill."""

    def __init__(self, submit: Callable[[Command], None]) -> None:
        self._submit = submit

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError for what can't be sent."""
        uuid = one_word("uuid", UUID(invocation.payload))
        cause = one_word("cause", CAUSE(invocation.payload)) or "NORMAL_CLEARING"

        def done(answer: str) -> None:
            outcome = api_outcome(answer)
            invocation.finish(Outcome("Channel hangup successful", uuid) if outcome.ok else outcome)

        self._submit(Command(f"api uuid_kill {uuid} {cause}\n\n", "uuid_kill", done, invocation.fail, (uuid,)))
