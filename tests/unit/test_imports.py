"""Imports point one way: __main__, app, observe, commands, dialplan, freeswitch, drivers, protocol, leaves."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import event_agent
import event_agent_client

PACKAGE = Path(event_agent.__file__).parent
OTHER_PACKAGE = Path(event_agent_client.__file__).parent
RANKS = {
    "__main__": 9,
    "app": 8,
    "observe": 7, "bridge": 7,
    "commands": 6,
    "dialplan": 5,
    "freeswitch": 4,
    "drivers": 3,
    "protocol": 2, "http": 2, "config": 2,
    "runtime": 1,
    "errors": 0, "quick": 0, "_quick": -1,
    # The other program: it talks to the daemon by way of NATS only.
    "ctl": 8, "client": 7,
    # Used by both: it tries the links as the daemon does.
    "probe": 5,
}  # fmt: skip
OTHER_PROGRAM = ("ctl", "client")
DAEMONS_OWN = ("__main__", "app", "bridge", "observe", "commands", "dialplan", "freeswitch", "http")
FILES = sorted(path for path in PACKAGE.rglob("*.py") if path.relative_to(PACKAGE).parts[:2] != ("client", "lib"))


def group(module: str) -> str:
    """`event_agent.freeswitch.connection` is in `freeswitch`."""
    return module.split(".")[1]


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of all modules that are imported, wherever in the file, for type checking too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            assert node.module
            if node.module in ("event_agent", "event_agent_client"):
                yield from (f"{node.module}.{alias.name}" for alias in node.names if not alias.name.startswith("__"))
            else:
                yield node.module
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module", "__import__",
        ):  # fmt: skip
            name = node.args[0] if node.args else None
            assert isinstance(name, ast.Constant), f"line {node.lineno}: an import that can't be read"
            yield str(name.value)


def imported(path: Path) -> set[str]:
    return set(imports(ast.parse(path.read_text(), str(path))))


def test_there_is_something_to_read() -> None:
    assert {"app.py", "connection.py", "outbuffer.py", "frames.py"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    module = name_of(path)
    ours = {each for each in imported(path) if each.startswith("event_agent.")}
    if module == "event_agent":
        assert not ours
        return
    own = group(module)
    assert own in RANKS, f"{module}: give it its place in RANKS"
    for each in ours:
        other = group(each)
        assert other in RANKS, f"{each}: give it its place in RANKS"
        if other == own:
            continue
        assert RANKS[other] < RANKS[own], f"{module} must not import {each}"
        assert not (own in OTHER_PROGRAM and other in DAEMONS_OWN), f"{module} must not import {each}"
        assert not (own in DAEMONS_OWN and other in OTHER_PROGRAM), f"{module} must not import {each}"


def test_nothing_imports_in_a_circle() -> None:
    graph = {name_of(path): {each for each in imported(path) if each.startswith("event_agent.")} for path in FILES}
    done: set[str] = set()

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert module not in way, " -> ".join((*way, module))
        if module not in done:
            for each in graph.get(module, ()):
                visit(each, (*way, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    ("what", "where"),
    [
        ("ESL", {"freeswitch/connection.py"}),
        ("pynats2", {"drivers/nats/connection.py"}),
        ("nacl", {"drivers/nats/auth.py"}),
    ],
)
def test_foreign_code_has_one_door(what: str, where: set[str]) -> None:
    found = {
        str(path.relative_to(PACKAGE)) for path in FILES if any(each.split(".")[0] == what for each in imported(path))
    }
    assert found == where


def test_protocol_knows_no_sockets_and_no_threads() -> None:
    refused = {"socket", "threading", "select", "selectors", "ssl", "asyncio", "queue", "_thread"}
    for path in (PACKAGE / "protocol").glob("*.py"):
        names = {each.split(".")[0] for each in imported(path)}
        assert names.isdisjoint(refused), path


def test_only_the_stdlib_and_the_two_bindings() -> None:
    known = {*sys.stdlib_module_names, "event_agent", "ESL", "pynats2", "nacl"}
    for path in FILES:
        ours = {"event_agent_client"} if path.parent.name == "client" else set()
        assert {each.split(".")[0] for each in imported(path)} <= known | ours, path


def test_event_agent_client_needs_nothing_of_event_agent() -> None:
    for path in set(OTHER_PACKAGE.glob("*.py")) - {OTHER_PACKAGE / "__init__.py"}:  # that one imports by name
        known = {*sys.stdlib_module_names, "event_agent_client", "nacl", "pytest"}
        assert {each.split(".")[0] for each in imported(path)} <= known, path


def test_what_both_clients_stand_on_is_pure() -> None:
    """event_agent.client takes only that of the other package, so event-agentctl loads no asyncio."""
    shared = {each for path in FILES for each in imported(path) if each.startswith("event_agent_client")}
    assert shared >= {"event_agent_client.replies", "event_agent_client.subjects"}
    waiting = set(shared)
    seen: set[str] = set()
    refused = {"socket", "threading", "select", "selectors", "ssl", "asyncio", "queue", "concurrent", "subprocess"}
    while waiting:
        module = waiting.pop()
        seen.add(module)
        names = imported(OTHER_PACKAGE / f"{module.partition('.')[2]}.py")
        assert {each.split(".")[0] for each in names}.isdisjoint(refused), module
        waiting |= {each for each in names if each.startswith("event_agent_client.")} - seen
