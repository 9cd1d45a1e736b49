"""Number patterns that can't take long: Python's own regular expressions, refused if backtracking could explode.

Backtracking tries at most as many ways through a pattern as its choices multiply to: a repeat may stop after any
number of rounds, a branch has its alternatives, a search may begin anywhere. That product is counted on the parsed
pattern, for a subject of at most LONGEST characters, and bounded. A round of a repeat must consume something, so one
way takes no more steps than subject and pattern have characters. What is left takes milliseconds at the very worst.
The count is too careful with some harmless patterns (`(12|34)*`); those have to be written another way.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from typing import Any

LONGEST = 64  # characters of a number that a pattern is tried on; a longer one matches nothing
PATTERN = 255  # characters of a pattern
WAYS = 100_000  # ways through a pattern

# Private, and the only parser of exactly the language that `re` runs. An operation not known here is refused.
_parse: Callable[[str], Any] = importlib.import_module("re._parser").parse


class BadPattern(ValueError):
    """Not a regular expression, or one that could take too long. Its text ends a sentence that begins with "number"."""


def compile_number(text: str) -> Callable[[str], bool]:
    """A function that tells whether `text` is found in a number, as FreeSWITCH's dialplan would. Raises BadPattern."""
    if not 1 <= len(text) <= PATTERN:
        raise BadPattern(f"must be between 1 and {PATTERN} characters")
    try:
        parsed = _parse(text)
        ways = _sequence(parsed) * (1 if _anchored(parsed) else LONGEST + 1)
        if ways > WAYS:
            raise BadPattern(
                "must be a simpler regular expression: this one could take long (begin it with ^, "
                "leave out repeats inside repeats and all but two or three of * and +)"
            )
        search = re.compile(text).search
    except (re.error, OverflowError, RecursionError) as error:
        raise BadPattern(f"must be a regular expression ({str(error)[:100]})") from None
    return lambda number: len(number) <= LONGEST and search(number) is not None


def _anchored(parsed: Any) -> bool:
    return bool(parsed) and str(parsed[0][0]) == "AT" and str(parsed[0][1]) in ("AT_BEGINNING", "AT_BEGINNING_STRING")


def _sequence(parsed: Iterable[tuple[Any, Any]]) -> int:
    """The ways through a part of a pattern; beyond WAYS any number that is more."""
    ways = 1
    for operation, value in parsed:
        ways = min(ways * _one(str(operation), value), WAYS + 1)
    return ways


def _one(operation: str, value: Any) -> int:
    if operation in ("LITERAL", "NOT_LITERAL", "ANY", "IN", "AT", "RANGE", "CATEGORY", "GROUPREF"):
        return 1
    if operation == "SUBPATTERN":
        return _sequence(value[3])
    if operation == "BRANCH":
        return sum(map(_sequence, value[1]))
    if operation in ("ASSERT", "ASSERT_NOT"):
        return _sequence(value[1])
    if operation == "ATOMIC_GROUP":
        return _sequence(value)
    if operation == "GROUPREF_EXISTS":
        return _sequence(value[1]) + (_sequence(value[2]) if value[2] else 1)
    if operation in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        return _repeat(int(value[0]), int(value[1]), value[2])
    raise BadPattern(f"must be a regular expression without {operation.lower()}")


def _repeat(low: int, high: int, body: Any) -> int:
    if high > 1 and body.getwidth()[0] < 1:
        raise BadPattern("must not repeat what may be empty")
    low, high = min(low, LONGEST), min(high, LONGEST)
    inner = _sequence(body)
    ways, rounds = 0, inner**low
    for _ in range(low, high + 1):
        ways += rounds
        rounds *= inner
        if ways > WAYS:
            break
    return ways
