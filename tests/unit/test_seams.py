"""How far tests reach into the parts: what they touch or patch marks a seam that is missing. The counts only fall.

And how long their modules are.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent.parent
PRIVATES = 40  # 30 is the aim
PATCHED = 32  # 20 is the aim
LINES = 500  # of a module of tests


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    found: list[tuple[str, ast.AST]] = []
    for path in sorted(TESTS.rglob("*.py")):
        if path.relative_to(TESTS).parts[0] != "switchsim":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute | ast.Call):
                    found.append((f"{path.relative_to(TESTS)}:{node.lineno}", node))
    return found


def is_private(node: ast.AST) -> bool:
    """`other._name`, and not `self._name`."""
    return (
        isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    )


def is_patched_constant(node: ast.AST) -> bool:
    """`monkeypatch.setattr(module, "NAME", …)`."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr"):
        return False
    names = [each.value for each in node.args[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str)]
    return any(name.rpartition(".")[2].isupper() for name in names)


def test_privates_of_other_objects_are_touched_less_and_less() -> None:
    found = [where for where, node in nodes() if is_private(node)]
    assert len(found) <= PRIVATES, f"{len(found)} times, {PRIVATES} at most:\n" + "\n".join(found)


def test_constants_are_patched_less_and_less() -> None:
    found = [where for where, node in nodes() if is_patched_constant(node)]
    assert len(found) <= PATCHED, f"{len(found)} times, {PATCHED} at most:\n" + "\n".join(found)


def test_no_module_of_tests_is_long() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS.rglob("*.py")}
    assert {str(path.relative_to(TESTS)): count for path, count in lines.items() if count >= LINES} == {}
