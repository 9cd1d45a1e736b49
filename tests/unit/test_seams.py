"""How far tests reach into the parts: what they touch or patch marks a seam that is missing. The counts only fall.

And how long their modules are, whether a wait for a fixed time says why, and how much a class of the program holds.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import event_agent

TESTS = Path(__file__).resolve().parent.parent
PRIVATES = 26
PATCHED = 6
LINES = 500  # of a module of tests


@cache
def nodes() -> list[tuple[str, ast.AST]]:
    found: list[tuple[str, ast.AST]] = []
    for path in sorted(TESTS.rglob("*.py")):
        if path.relative_to(TESTS).parts[0] != "switchsim":
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute | ast.Call | ast.alias):
                    found.append((f"{path.relative_to(TESTS)}:{node.lineno}", node))
    return found


def hidden(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def is_private(node: ast.AST) -> bool:
    """`other._name`, and not `self._name`; the same by `setattr`, `getattr` or an import."""
    if isinstance(node, ast.alias):
        return hidden(node.name)
    if isinstance(node, ast.Attribute):
        return hidden(node.attr) and not (isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"))
    return any(hidden(name.rpartition(".")[2]) for name in names_of(node))


def names_of(node: ast.AST) -> list[str]:
    """The names in `setattr(thing, "name", …)` and its like."""
    called = node.func if isinstance(node, ast.Call) else None
    name = called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""
    if not isinstance(node, ast.Call) or name not in ("setattr", "__setattr__", "getattr", "delattr"):
        return []
    return [each.value for each in node.args[:2] if isinstance(each, ast.Constant) and isinstance(each.value, str)]


def is_patched_constant(node: ast.AST) -> bool:
    """`monkeypatch.setattr(module, "NAME", …)`."""
    return any(name.rpartition(".")[2].isupper() for name in names_of(node))


def test_privates_of_other_objects_are_touched_less_and_less() -> None:
    found = [where for where, node in nodes() if is_private(node)]
    assert len(found) <= PRIVATES, f"{len(found)} times, {PRIVATES} at most:\n" + "\n".join(found)


def test_constants_are_patched_less_and_less() -> None:
    found = [where for where, node in nodes() if is_patched_constant(node)]
    assert len(found) <= PATCHED, f"{len(found)} times, {PATCHED} at most:\n" + "\n".join(found)


def test_no_module_of_tests_is_long() -> None:
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS.rglob("*.py")}
    assert {str(path.relative_to(TESTS)): count for path, count in lines.items() if count >= LINES} == {}


def is_fixed_wait(node: ast.AST) -> bool:
    """`time.sleep(…)`, `asyncio.sleep(…)`, `threading.Event().wait(…)`."""
    return isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "time.sleep", "asyncio.sleep", "threading.Event().wait",
    )  # fmt: skip


def test_a_wait_for_a_fixed_time_says_why() -> None:
    """It is the fault itself, the pace of a load, or the proof that nothing happens. One in a `while` is a look."""
    silent = []
    for folder in ("unit", "functional"):
        for path in sorted((TESTS / folder).rglob("*.py")):
            text = path.read_text(encoding="utf-8")
            lines, tree = text.splitlines(), ast.parse(text)
            looks = {id(each) for loop in ast.walk(tree) if isinstance(loop, ast.While) for each in ast.walk(loop)}
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and is_fixed_wait(node) and id(node) not in looks:
                    if "  # " not in lines[node.lineno - 1]:
                        silent.append(f"{path.relative_to(TESTS)}:{node.lineno}")
    assert silent == []


# Classes whose attributes are many for a reason, see HACKING.md, "Objects"; the counts only fall.
ATTRIBUTES = 18
MORE = {
    "table.Settings": 56, "scheduler.Limits": 24, "driver.NatsDriver": 22, "connection.NatsClient": 21,
    "readiness.Readiness": 21, "server.HttpServer": 21, "watch.Watches": 19, "lane.CommandLane": 19,
}  # fmt: skip


def attributes(node: ast.ClassDef) -> set[str]:
    """What its methods set on `self`; of a data class its fields."""
    found = set()
    data = any("dataclass" in ast.unparse(each) for each in node.decorator_list)
    for each in node.body:
        if data and isinstance(each, ast.AnnAssign):
            found.add(ast.unparse(each.target))
        elif isinstance(each, ast.FunctionDef) and each.args.args:
            own = each.args.args[0].arg
            found |= {
                inner.attr for inner in ast.walk(each)
                if isinstance(inner, ast.Attribute) and isinstance(inner.ctx, ast.Store)
                and isinstance(inner.value, ast.Name) and inner.value.id == own
            }  # fmt: skip
    return found


def test_classes_have_few_attributes() -> None:
    """A class with many holds several ideas: each can be an object of its own."""
    counts = {
        f"{path.stem}.{node.name}": len(attributes(node))
        for path in sorted(Path(event_agent.__file__).parent.rglob("*.py"))
        if "event_agent_client" not in path.parts  # an installed one has a copy of it
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }
    many = {name: count for name, count in counts.items() if count > ATTRIBUTES}
    assert many == MORE, "a new class has many, or one of these has others by now"
