"""docs/DELIVERY.md: each promise names tests that hold it, and these exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
TEXT = (ROOT / "docs/DELIVERY.md").read_text(encoding="utf-8")


def promises() -> dict[str, str]:
    """Number of each, and its text."""
    section = TEXT.partition("\n## What is promised\n")[2].partition("\n## ")[0]
    items = re.split(r"^(\d+)\. ", section, flags=re.MULTILINE)
    return dict(zip(items[1::2], items[2::2], strict=True))


def functions() -> set[str]:
    """Names of all functions in tests/."""
    found: set[str] = set()
    for path in (ROOT / "tests").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found |= {each.name for each in tree.body if isinstance(each, ast.FunctionDef)}
    return found


def test_there_are_promises() -> None:
    assert list(promises()) == [str(number) for number in range(1, len(promises()) + 1)] and len(promises()) >= 7


@pytest.mark.parametrize("number", promises())
def test_each_promise_names_the_tests_that_hold_it(number: str) -> None:
    named = promises()[number].partition("Tests:")[2]
    assert re.findall(r"`(test_\w+)`", named), f"promise {number} names none"


def test_each_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`((?:test_|no_event_)\w+)`", TEXT))
    assert named - functions() == set() and len(named) > 20
