"""Code decides on types and states, never on the words of a message: to reword one must not break anything."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import event_agent

PACKAGE = Path(event_agent.__file__).parent
MESSAGES = {"reason", "error", "message", "fault", "why", "wrong", "exc", "exception"}
SEARCHES = {"startswith", "endswith", "find", "index", "count"}
UNWRAPPED = {"str", "repr"}


def name_of(node: ast.expr) -> str:
    """What a message would be called: `reason`, `self._reason`, `str(error)`, `error.message.lower()`."""
    while isinstance(node, ast.Call):
        if isinstance(node.func, ast.Attribute) and not node.args:
            node = node.func.value
        elif node.args and ast.unparse(node.func) in UNWRAPPED:
            node = node.args[0]
        else:
            return ""
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_")
    return node.id if isinstance(node, ast.Name) else ""


def is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value != ""


def decisions(tree: ast.AST) -> Iterator[str]:
    """Comparisons of a message with some words."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            sides = [node.left, *node.comparators]
            if any(map(is_text, sides)) and any(name_of(side) in MESSAGES for side in sides):
                yield ast.unparse(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SEARCHES:
            if name_of(node.func.value) in MESSAGES and any(map(is_text, node.args)):
                yield ast.unparse(node)


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_decides_on_words(path: Path) -> None:
    assert not list(decisions(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('if "frozen" in reason: pass', True), ('if "frozen" in str(error): pass', True),
        ('if self._reason == "lost": pass', True), ('if error.message.lower().startswith("no"): pass', True),
        ('if reason != "": pass', False), ('if reason == before.reason: pass', False),
        ('if "uuid" in headers: pass', False), ('if answer.startswith("-ERR"): pass', False),
    ],
)  # fmt: skip
def test_what_would_be_found(text: str, found: bool) -> None:
    assert bool(list(decisions(ast.parse(text)))) == found
