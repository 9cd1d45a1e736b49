"""dialplan.*: park mode on and off, for which calls, what they hear, and how things stand."""

from __future__ import annotations

from typing import Any

from event_agent.commands.registry import Call, Handler, Outcome
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

    def keep(call: Call, message: str, extra: dict[str, Any], **changes: Any) -> None:
        try:
            control.choose(lambda: call.finish(Outcome(message, extra=extra)), **changes)
        except BadPattern as error:
            raise CommandError(f"number {error}") from None

    def enable(call: Call) -> None:
        contexts, number = _contexts(call.payload), NUMBER(call.payload)
        control.check()
        keep(call, "Park mode enabled", {"mode": "park"}, enabled=True, contexts=contexts, number=number)

    def disable(call: Call) -> None:
        control.check()
        keep(call, "Park mode disabled", {"mode": "disabled"}, enabled=False)

    def audio(call: Call) -> None:
        mode, music_class = MODE(call.payload), CLASS(call.payload)
        if not MUSIC_CLASS.match(music_class):
            raise CommandError("music_class must hold letters, digits and . _ @ / - only")
        control.check()
        keep(call, "Audio mode updated", {"mode": mode}, audio=mode, music_class=music_class)

    def autoanswer(call: Call) -> None:
        enabled = ENABLED(call.payload)
        control.check()
        keep(call, "Auto-answer updated", {"enabled": enabled}, autoanswer=enabled)

    def status(call: Call) -> Outcome:
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
