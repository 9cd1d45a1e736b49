"""Field rules for requests: a field's name and what it must be, in; its typed value, or CommandError, out.

    ENDPOINT = string("endpoint", 1, 255)
    CONTEXT = string("context", high=127).optional("default")

    endpoint, context = ENDPOINT(payload), CONTEXT(payload)

Called in order, the first that fails ends the command. Its message names field and rule and never holds the value;
an absent value and one of the wrong type get the same message as a wrong one. Only an absent field takes an optional
rule's default: null is a wrong value. Pure functions, made once at import; any thread may call them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Generic, TypeGuard, TypeVar

from event_agent.errors import CommandError

T = TypeVar("T")
D = TypeVar("D")
Payload = Mapping[str, object]
Scalar = str | int | float | bool

# The broker cuts the link over a protocol line of more than 4096 bytes, so a subject has to stay well below that.
MAX_SUBJECT_BYTES = 1024

_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_BREAK = re.compile("[\r\n\0]")
_NUL = re.compile("\0")
_WHITE = re.compile(r"\s")
_NOT_IN_SUBJECT = re.compile("[*>\\s\0-\x20\x7f-\x9f\ud800-\udfff]")


class Rule(Generic[T]):
    """`read` makes the typed value of a raw one, or gives None where it will not do (no rule's value is None)."""

    __slots__ = ("field", "message", "_read")

    def __init__(self, field: str, must: str, read: Callable[[object], T | None]) -> None:
        self.field = field
        self.message = f"{field} must {must}"
        self._read = read

    def __call__(self, payload: Payload) -> T:
        """The field's value in `payload`; CommandError where it breaks the rule or is absent."""
        value = self._read(payload.get(self.field))
        if value is None:
            raise CommandError(self.message)
        return value

    def optional(self, default: D) -> Callable[[Payload], T | D]:
        """The same rule for a field that may be absent: then the value is `default`."""
        return lambda payload: self(payload) if self.field in payload else default


def string(field: str, low: int = 0, high: int | None = None, *, line_breaks: bool = False) -> Rule[str]:
    """Text of `low` to `high` characters. NUL is refused always, CR and LF unless `line_breaks`."""
    if high is None:
        must = f"be a string of {low} characters or more" if low else "be a string"
    else:
        must = f"be between {low} and {high} characters" if low else f"be {high} characters or fewer"

    def read(value: object) -> str | None:
        if not isinstance(value, str) or len(value) < low or (high is not None and len(value) > high):
            return None
        _check_text(field, value, line_breaks)
        return value

    return Rule(field, must, read)


def number(field: str, low: float | None = None, high: float | None = None) -> Rule[int | float]:
    """A finite JSON number from `low` to `high`, both allowed. True and false are no numbers."""
    if low is not None and high is not None:
        must = f"be between {low} and {high}"
    elif low is not None:
        must = f"be {low} or more"
    else:
        must = "be a number" if high is None else f"be {high} or less"

    def read(value: object) -> int | float | None:
        if not _is_number(value) or (low is not None and value < low) or (high is not None and value > high):
            return None
        return value

    return Rule(field, must, read)


def boolean(field: str) -> Rule[bool]:
    return Rule(field, "be true or false", lambda value: value if isinstance(value, bool) else None)


def enum(field: str, *choices: str) -> Rule[str]:
    """One of `choices`, in just this case."""
    listed = " or ".join(choices) if len(choices) < 3 else f"{', '.join(choices[:-1])}, or {choices[-1]}"
    return Rule(field, f"be {listed}", lambda value: value if isinstance(value, str) and value in choices else None)


def subject(field: str) -> Rule[str]:
    """A subject that can be published to."""
    return Rule(
        field,
        "be a plain subject, without wildcards, spaces, control characters, or empty tokens",
        lambda value: value if isinstance(value, str) and strict_subject(value) else None,
    )


def mapping(field: str) -> Rule[dict[str, Scalar]]:
    """An object whose values are strings, numbers or booleans; no name is empty."""

    def read(value: object) -> dict[str, Scalar] | None:
        if not isinstance(value, dict):
            return None
        result: dict[str, Scalar] = {}
        for name, item in value.items():
            if not isinstance(name, str) or not name:
                return None
            _check_text(field, name)
            if isinstance(item, str):
                _check_text(field, item)
            elif not isinstance(item, bool) and not _is_number(item):
                return None
            result[name] = item
        return result

    return Rule(field, "be an object of strings, numbers, and booleans", read)


def one_word(field: str, text: str) -> str:
    """`text`, which must be one argument of an API verb. Raises CommandError."""
    if _WHITE.search(text):
        raise CommandError(f"{field} must not contain white space")
    return text


def strict_subject(text: str) -> bool:
    """True for a subject without wildcards, white space, control characters or empty tokens, of a sane length.

    Source: NATS' subject-based messaging page. `*` and `>` are refused anywhere, also inside a token, where the
    broker would take them as they stand: who writes them means a wildcard.
    """
    return "" not in text.split(".") and not _NOT_IN_SUBJECT.search(text) and len(text.encode()) <= MAX_SUBJECT_BYTES


def _is_number(value: object) -> TypeGuard[int | float]:
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def _check_text(field: str, text: str, line_breaks: bool = False) -> None:
    """CommandError where `text` can't travel: a line break in an ESL command is a second command."""
    if (_NUL if line_breaks else _LINE_BREAK).search(text):
        raise CommandError(f"{field} must not contain {'NUL' if line_breaks else 'line breaks or NUL'}")
    if _SURROGATE.search(text):  # JSON can spell a lone one as \ud800, UTF-8 can't hold it
        raise CommandError(f"{field} must be valid Unicode text")
