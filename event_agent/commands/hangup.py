"""hangup: ends a channel."""

from __future__ import annotations

from collections.abc import Callable

from event_agent.commands.api import api_outcome
from event_agent.commands.registry import Invocation, Outcome
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.protocol.validation import CHANNEL, WORD, Declaration, string

UUID = string("uuid", 2, 63, form=CHANNEL, help="the channel")
CAUSE = string("cause", high=63, form=WORD, help="why, in FreeSWITCH's words. Empty: as if absent").optional(
    "NORMAL_CLEARING", empty=True
)
FIELDS = Declaration(
    "hangup",
    "Ends a channel (`uuid_kill`).",
    (UUID, CAUSE),
    (
        {"uuid": "8f0c9d2e-41a7-4c5e-9a55-2f6d1f0e7b10", "cause": "USER_BUSY"},
        {"args": "8f0c9d2e-41a7-4c5e-9a55-2f6d1f0e7b10 USER_BUSY"},
    ),
    console=(UUID, CAUSE),
)


class Hangup:
    """Ends a channel with uuid_kill."""

    def __init__(self, submit: Callable[[Command], None]) -> None:
        self._submit = submit

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError for what can't be sent."""
        uuid, cause = UUID(invocation.payload), CAUSE(invocation.payload)

        def done(answer: str) -> None:
            outcome = api_outcome(answer)
            invocation.finish(Outcome("Channel hangup successful", uuid) if outcome.ok else outcome)

        kill = wire.api("uuid_kill", f"{uuid} {cause}")
        invocation.sent = command = Command(kill, "uuid_kill", done, invocation.fail, (uuid,))
        self._submit(command)
