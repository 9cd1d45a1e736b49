"""dialplan.*: park mode on and off, for which calls, what they hear; a program that decides; and how things stand."""

from __future__ import annotations

import math
from typing import Any

from event_agent.commands.registry import Handler, Invocation, Outcome
from event_agent.dialplan.choices import AUDIO, CONTEXTS, MUSIC_CLASS
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.numbers import EXCEPTION, EXCEPTIONS, SPELLING
from event_agent.dialplan.pattern import PATTERN, BadPattern
from event_agent.dialplan.routing import FALLBACKS, LONGEST, NAME, SHORTEST, TIMEOUT, VARIABLES, Route
from event_agent.errors import CommandError
from event_agent.protocol.subjects import is_command_lane
from event_agent.protocol.validation import (
    WORD,
    Declaration,
    boolean,
    enum,
    number,
    spelled,
    string,
    strings,
    subject,
)

CONTEXT = strings("context", 1, 127, CONTEXTS, help="only calls of these contexts").optional((), shown="all contexts")
NUMBER = string(
    "number", 1, PATTERN, help="a regular expression: only calls to numbers in which it is found"
).optional("", shown="all numbers")
EXCEPT = strings(
    "except", 1, EXCEPTION, EXCEPTIONS,
    help="never calls to these numbers; a `*` at the end stands for any rest",
    form=spelled(SPELLING, "hold numbers, such as 112 or 0900*",
                 {"pattern": "[0-9A-Za-z]", "not": {"pattern": "[^0-9A-Za-z+*#(). _-]"}},
                 "a digit or a letter in it; else `+ * # ( ) . _ -` and blanks"),
).optional((), shown="none")  # fmt: skip
MODE = enum("mode", *AUDIO, help="what parked callers hear")
CLASS = string(
    "music_class", high=63, help="a local_stream; its letters and digits may be of any script",
    form=spelled(MUSIC_CLASS, "hold letters, digits and . _ @ / - only",
                 {"not": {"pattern": "[\\u0000-,:-?\\[-^`{-\\u007f]"}}, "letters, digits, `. _ @ / -`"),
).optional("", shown="the channel's or the switch's `hold_music`")  # fmt: skip
ENABLED = boolean("enabled", help="whether calls are answered before they are parked")

ENABLE = Declaration(
    "dialplan.enable",
    "Park mode on, for these calls. Replaces contexts, number and exceptions of the one before.",
    (CONTEXT, NUMBER, EXCEPT),
    ({"context": ["public", "from-pbx"], "number": "^0", "except": ["112", "0900*"]},),
)
DISABLE = Declaration("dialplan.disable", "Park mode off.")
SOUND = Declaration(
    "dialplan.audio",
    "What parked callers hear.",
    (MODE, CLASS),
    ({"mode": "music", "music_class": "moh"}, {"args": "music moh"}),
    console=(MODE, CLASS),
)
AUTOANSWER = Declaration(
    "dialplan.autoanswer",
    "Whether calls are answered before they are parked.",
    (ENABLED,),
    ({"enabled": True}, {"args": "true"}),
    console=(ENABLED,),
)
CALLS = boolean("calls", help="true: `data.calls` lists the uuids of the calls parked now").optional(False)
STATUS = Declaration("dialplan.status", "What is chosen, and how many calls are parked.", (CALLS,), ({"calls": True},))
ROUTED = boolean("enabled", help="whether a program decides over calls").optional(True, shown="`true`")
SUBJECT = subject("subject", help="where it is asked").optional("", shown="`<prefix>.route`")
TIMEOUT_FIELD = number(
    "timeout", SHORTEST, int(LONGEST), help="seconds it has; FreeSWITCH's own, in xml_curl.conf.xml, must be longer"
).optional(TIMEOUT, shown=f"`{TIMEOUT}`")
TOLD = strings(
    "variables", 1, NAME, VARIABLES, form=WORD, help="names of channel variables that it gets"
).optional((), shown="none")
FALLBACK = enum(
    "fallback", *FALLBACKS, help="what becomes of a call that no program decides"
).optional(FALLBACKS[0])
ROUTE = Declaration(
    "dialplan.route",
    "Has a program decide over these calls. Replaces all that the one before has set.",
    (ROUTED, SUBJECT, TIMEOUT_FIELD, CONTEXT, NUMBER, EXCEPT, TOLD, FALLBACK),
    ({"context": "public", "except": ["112", "911"], "timeout": 0.5, "variables": ["sip_from_host"],
      "fallback": "park"}, {"enabled": False}),
)  # fmt: skip
NOT_KEPT = " until the agent is restarted: it could not be written to disk"
SHIPPED = 2  # seconds: the timeout that is recommended for the binding in xml_curl.conf.xml


def dialplan_commands(control: DialplanControl, prefix: str) -> dict[str, Handler]:
    """The handlers, by name. Each raises CommandError if dialplan control is not available."""

    def keep(
        invocation: Invocation, message: str, extra: dict[str, Any], warnings: tuple[str, ...] = (), **changes: Any
    ) -> None:
        def reply(kept: bool) -> None:
            if kept:
                outcome = Outcome(message, extra=extra, warnings=warnings)
            else:
                outcome = Outcome(message + NOT_KEPT, extra={**extra, "persisted": False}, warnings=warnings)
            invocation.finish(outcome)

        try:
            control.choose(reply, **changes)
        except BadPattern as error:
            raise CommandError(f"number {error}", field="number") from None

    def enable(invocation: Invocation) -> None:
        payload = invocation.payload
        contexts, pattern, excepted = CONTEXT(payload), NUMBER(payload), EXCEPT(payload)
        control.check()
        keep(
            invocation, "Park mode enabled", {"mode": "park"}, enabled=True, contexts=contexts, number=pattern,
            excepted=excepted,
        )  # fmt: skip

    def disable(invocation: Invocation) -> None:
        control.check()
        keep(invocation, "Park mode disabled", {"mode": "disabled"}, enabled=False)

    def audio(invocation: Invocation) -> None:
        mode, music_class = MODE(invocation.payload), CLASS(invocation.payload)
        control.check()
        keep(invocation, "Audio mode updated", {"mode": mode}, audio=mode, music_class=music_class)

    def autoanswer(invocation: Invocation) -> None:
        enabled = ENABLED(invocation.payload)
        control.check()
        keep(invocation, "Auto-answer updated", {"enabled": enabled}, autoanswer=enabled)

    def route(invocation: Invocation) -> None:
        payload = invocation.payload
        enabled, place, timeout = ROUTED(payload), SUBJECT(payload), TIMEOUT_FIELD(payload)
        contexts, pattern, excepted = CONTEXT(payload), NUMBER(payload), EXCEPT(payload)
        told, fallback = TOLD(payload), FALLBACK(payload)
        if is_command_lane(prefix, place) or place.startswith((f"{prefix}.events.", "$")):
            must = "must not be a command lane, a subject of events or one that begins with $"
            raise CommandError(f"subject {must}", field="subject")
        control.check()
        chosen = Route(enabled, place, float(timeout), contexts, pattern, excepted, told, fallback)
        message = "Routing enabled" if enabled else "Routing disabled"
        extra: dict[str, Any] = {"route": "enabled" if enabled else "disabled"}
        if enabled:
            extra["subject"] = control.router.subject(chosen)
        keep(invocation, message, extra, _patience(chosen), route=chosen)

    def status(invocation: Invocation) -> Outcome:
        listed = CALLS(invocation.payload)
        control.check()
        fields = control.fields()
        if listed:
            fields["calls"] = control.parked.calls()
        answer = "enabled" if fields["auto_answer"] else "disabled"
        info = (
            f"Mode: {fields['mode']} | Audio: {fields['audio']} | Auto-answer: {answer} | "
            f"Calls parked: {fields['calls_parked']}"
        )
        return Outcome("Dialplan status retrieved", fields, {"info": info})

    return {
        ENABLE.name: enable,
        DISABLE.name: disable,
        SOUND.name: audio,
        AUTOANSWER.name: autoanswer,
        STATUS.name: status,
        ROUTE.name: route,
    }


def _patience(route: Route) -> tuple[str, ...]:
    """What is to be said of the time that FreeSWITCH waits."""
    needed = math.ceil(route.timeout) + 1
    if not route.enabled or needed <= SHIPPED:
        return ()
    return (
        f"timeout: FreeSWITCH must wait longer than {route.timeout:g} s: in xml_curl.conf.xml the binding's timeout "
        f"must be {needed} or more, then reload mod_xml_curl",
    )

