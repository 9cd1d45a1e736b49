"""What was found, one line each."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

OK, NOTE, WARNING, FAULT = "ok", "note", "warn", "FAIL"


@dataclass(frozen=True)
class Finding:
    """How it stands with one thing; `todo` says what to do if it is not well."""

    level: str
    about: str
    text: str
    todo: str = ""


def page(findings: Iterable[Finding], columns: int = 0) -> str:
    """The findings as a person reads them, their text at most `columns` wide if that is not 0.

    What to do is not broken into lines: it is there to be copied.
    """
    lines = []
    for each in findings:
        head, text = f"{each.level:5} {each.about:11} ", [each.text]
        if columns > 2 * len(head):
            text = textwrap.wrap(each.text, columns - len(head), break_long_words=False, break_on_hyphens=False)
        lines.append(head + f"\n{'':{len(head)}}".join(text))
        lines += [f"{'':17} -> {line}" for line in each.todo.splitlines()]
    return "\n".join(lines) + "\n" if lines else ""


def worst(findings: Sequence[Finding]) -> str:
    """The worst of the levels."""
    levels = {each.level for each in findings}
    return next((level for level in (FAULT, WARNING, NOTE) if level in levels), OK)
