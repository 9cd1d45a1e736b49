"""Text made fit for `originate`: variable blocks and quoted arguments.

FreeSWITCH unescapes a block three times (switch_utils.c, cleanup_separated_string: once with the arguments of
originate, twice with the variables), so what one pass would eat is escaped three times over. Found by reading it, held
by tests/functional/test_calls.py. What can't be written in a way that comes through whole is refused, never changed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from event_agent.errors import CommandError

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z", re.ASCII)
_ESCAPES = str.maketrans({"\\": "\\" * 8, "'": "\\" * 7 + "'", " ": "\\" * 4 + "s", ",": "\\,"})
MAX_BLOCK = 32768  # characters of all variables of one call

Scalar = str | int | float | bool


def variable_block(variables: Mapping[str, Scalar]) -> str:
    """`{a=b,c=d}`, in which every value arrives on the channel as it stands here. Raises CommandError."""
    parts = [f"{_checked_name(name)}={_escaped(name, value)}" for name, value in variables.items()]
    block = "{" + ",".join(parts) + "}"
    if len(block) > MAX_BLOCK:
        raise CommandError(f"variables must be {MAX_BLOCK} characters or fewer together")
    return block


def as_text(value: Scalar) -> str:
    """A JSON scalar as FreeSWITCH would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise CommandError("variables must have names of letters, digits and _ . : - (at most 128)")
    return name


def _escaped(name: str, value: Scalar) -> str:
    text = as_text(value)
    if "${" in text or "$${" in text:
        raise _refusal(name, "${, which FreeSWITCH would expand")
    if text.startswith("ARRAY::"):
        raise _refusal(name, "ARRAY:: at its beginning, which FreeSWITCH would take apart")
    if not _balanced(text):
        raise _refusal(name, "unbalanced braces, which would end the block of variables")
    return text.translate(_ESCAPES)


def _refusal(name: str, what: str) -> CommandError:
    return CommandError(f"variables: {name} can't hold {what}")


def _balanced(text: str) -> bool:
    depth = 0
    for each in text:
        if each == "{":
            depth += 1
        elif each == "}":
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


def quoted(text: str) -> str:
    """One argument of `originate` that may hold blanks."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
