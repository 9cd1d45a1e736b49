"""The client for Node.js has what the Python client has, or its README says what differs."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import event_agent_client as ea
from event_agent_client import aio, cdrs, errors, events

FOLDER = Path(__file__).resolve().parents[2] / "clients" / "node"
if not FOLDER.exists():  # the place in which the installed package is tested
    pytest.skip("not a checkout", allow_module_level=True)
SOURCES = "\n".join(path.read_text(encoding="utf-8") for path in sorted((FOLDER / "src").glob("*.ts")))
README = (FOLDER / "README.md").read_text(encoding="utf-8")
OTHERWISE = {  # what the README's table of differences is about
    "forever": "fs.forever()", "aclose": "aclose()", "connect": "",
}  # fmt: skip


def camel(name: str) -> str:
    return re.sub(r"_([a-z])", lambda found: found[1].upper(), name)


def members(name: str) -> str:
    """The body of a TypeScript class."""
    found = re.search(rf"^export class {name}\b.*?^}}$", SOURCES, re.MULTILINE | re.DOTALL)
    assert found is not None, f"there is no class {name}"
    return found[0]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (aio.Client, ("Client", "NodeClient")), (aio.Node, ("Node",)), (aio.All, ("All",)), (aio.Call, ("Call",)),
        (aio.Events, ("Events",)), (cdrs.Cdrs, ("Cdrs",)), (cdrs.Record, ("Cdr",)), (aio.Live, ("Live",)),
    ],
)  # fmt: skip
def test_each_method_is_there_or_its_difference_is_documented(theirs: type, ours: tuple[str, ...]) -> None:
    text = "\n".join(members(name) for name in ours)
    names = [name for name, value in vars(theirs).items() if not name.startswith("_") and inspect.isroutine(value)]
    assert names
    for name in names:
        if name in OTHERWISE:
            assert f"`{OTHERWISE[name]}`" in README or not OTHERWISE[name], f"{theirs.__name__}.{name}"
        else:
            found = re.search(rf"^  (async )?{camel(name)}[<(]", text, re.MULTILINE)
            assert found is not None, f"{theirs.__name__}.{name} is not in {ours}"


def test_each_error_is_there() -> None:
    for name, value in vars(errors).items():
        if inspect.isclass(value) and issubclass(value, ea.AgentError) and value is not ea.AgentError:
            base = value.__bases__[0].__name__
            if name == "ConfigError":
                assert "`ConfigError`" in README
            else:
                assert f"export class {name} extends {base} {{" in SOURCES, name


@pytest.mark.parametrize("name", sorted(set(events._TYPES)))
def test_each_typed_event_is_there_with_what_it_has(name: str) -> None:
    theirs = events._TYPES[name]
    body = members(theirs.__name__)
    assert re.search(rf"^  (.* )?{name}: {theirs.__name__}\b", SOURCES, re.MULTILINE)
    inherited = "\n".join(members(each) for each in ("ChannelEvent", "ChannelHangup", "ChannelExecute"))
    for each, value in vars(theirs).items():
        if isinstance(value, property):
            assert f"  get {camel(each)}()" in body + inherited, f"{theirs.__name__}.{each}"
