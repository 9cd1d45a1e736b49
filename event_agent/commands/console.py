"""A command's `args` instead of its fields, as one types them at FreeSWITCH's console: `<uuid> [cause]`.

They are cut as FreeSWITCH cuts the arguments of its own verbs, with `'…'` around blanks, and become fields, so all
limits and lists are those of the fields. `undef` leaves an optional one out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from event_agent.errors import CommandError
from event_agent.freeswitch.dialreader import Misread, arguments
from event_agent.protocol.requests import ARGS
from event_agent.protocol.validation import Declaration, Field

MOST = 8192  # characters: cutting them takes half a microsecond each


def usage(declaration: Declaration) -> str:
    """How `args` are written: `<uuid> [cause]`."""
    return " ".join(f"<{_shown(each)}>" if each.required else f"[{_shown(each)}]" for each in declaration.console)


def in_use(declaration: Declaration, payload: Mapping[str, Any]) -> bool:
    """Whether `args` are taken: there are some, and no field that they must hold is given."""
    return bool(payload.get(ARGS.name)) and not any(_given(each, payload) for each in declaration.console)


def filled(declaration: Declaration, payload: Mapping[str, Any]) -> Mapping[str, Any]:
    """The request with fields made of its `args`, if these are taken; one that is given wins. Raises CommandError."""
    if not in_use(declaration, payload):
        return payload
    console = declaration.console
    text = ARGS(payload)
    if len(text) > MOST:
        raise CommandError(f"args must be {MOST} characters or fewer", field="args")
    try:
        words = arguments(text, len(console) + 1)
    except Misread as fault:
        raise CommandError(f"args can't hold {fault}", field="args") from None
    if len(words) > len(console):
        raise CommandError(f"args must be {usage(declaration)}", field="args")
    found = {
        each.name: each.typed(word)
        for each, word in zip(console, words, strict=False)
        if each.required or word.lower() != "undef"
    }
    return {**found, **payload}


def _shown(field: Field[Any]) -> str:
    return "true|false" if field.kind == "boolean" else "|".join(field.limits.get("choices", (field.name,)))


def _given(field: Field[Any], payload: Mapping[str, Any]) -> bool:
    return field.required and (field.name in payload or any(name in payload for name in field.aliases))
