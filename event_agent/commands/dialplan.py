"""dialplan.*: park mode on and off, for which calls, what they hear, and how things stand."""

from __future__ import annotations

from typing import Any

from event_agent.commands.registry import Handler, Invocation, Outcome
from event_agent.dialplan.choices import AUDIO, CONTEXTS, MUSIC_CLASS
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.pattern import PATTERN, BadPattern
from event_agent.errors import CommandError
from event_agent.protocol.validation import boolean, enum, string

CONTEXT = string("context", high=127)
NUMBER = string("number", 1, PATTERN).optional("")
MODE = enum("mode", *AUDIO)
CLASS = string("music_class", high=63).optional("")
ENABLED = boolean("enabled")


def dialplan_commands(control: DialplanControl) -> dict[str, Handler]:
    """The handlers, by name. Each raises CommandError where dialplan control is not available."""

    def keep(invocation: Invocation, message: str, extra: dict[str, Any], **changes: Any) -> None:
        try:
            control.choose(lambda: invocation.finish(Outcome(message, extra=extra)), **changes)
        except BadPattern as error:
            raise CommandError(f"number {error}") from None

    def enable(invocation: Invocation) -> None:
        contexts, number = _contexts(invocation.payload), NUMBER(invocation.payload)
        control.check()
        keep(invocation, "Park mode enabled", {"mode": "park"}, enabled=True, contexts=contexts, number=number)

    def disable(invocation: Invocation) -> None:
        control.check()
        keep(invocation, "Park mode disabled", {"mode": "disabled"}, enabled=False)

    def audio(invocation: Invocation) -> None:
        mode, music_class = MODE(invocation.payload), CLASS(invocation.payload)
        if not MUSIC_CLASS.match(music_class):
            raise CommandError("music_class must hold letters, digits and . _ @ / - only")
        control.check()
        keep(invocation, "Audio mode updated", {"mode": mode}, audio=mode, music_class=music_class)

    def autoanswer(invocation: Invocation) -> None:
        enabled = ENABLED(invocation.payload)
        control.check()
        keep(invocation, "Auto-answer updated", {"enabled": enabled}, autoanswer=enabled)

    def status(invocation: Invocation) -> Outcome:
        control.check()
        fields = control.fields()
        answer = "enabled" if fields["auto_answer"] else "disabled"
        info = (
            f"Mode: {fields['mode']} | Audio: {fields['audio']} | Auto-answer: {answer} | "
            f"Calls parked: {fields['calls_parked']}"
        )
        return Outcome("Dialplan status retrieved", fields, {"info": info})

    return {
        "dialplan.enable": enable,
        "dialplan.disable": disable,
        "dialplan.audio": audio,
        "dialplan.autoanswer": autoanswer,
        "dialplan.status": status,
    }


def _contexts(payload: dict[str, Any]) -> tuple[str, ...]:
    """The contexts named, none for all."""
    value = payload.get("context")
    if not isinstance(value, list):
        if "context" not in payload:
            return ()
        value = [value]
    if not 1 <= len(value) <= CONTEXTS:
        raise CommandError(f"context must be a string or a list of 1 to {CONTEXTS} of them")
    contexts = tuple(CONTEXT({"context": each}) for each in value)
    if "" in contexts:
        raise CommandError("context must not be empty")
    return contexts
