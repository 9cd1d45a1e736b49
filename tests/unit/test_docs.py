"""What the documents say, held against the code: links, layout, imports, threads, command lines, figures."""

from __future__ import annotations

import ast
import fnmatch
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from event_agent.app import Daemon
from event_agent.commands.guards import MAX_DEPTH, MAX_TEXT
from event_agent.config.load import load
from event_agent.config.table import MAX_URLS, PARAMS, Settings
from event_agent.ctl import program as ctl
from event_agent.dialplan.choices import CONTEXTS
from event_agent.dialplan.pattern import LONGEST, PATTERN
from event_agent.drivers.base import MAX_SUBSCRIPTIONS
from event_agent.freeswitch.dialstring import MAX_BLOCK
from event_agent.freeswitch.scheduler import Limits
from event_agent.freeswitch.slow_verbs import LISTED
from event_agent.protocol.requests import MAX_REQUEST
from event_agent.protocol.validation import MAX_SUBJECT_BYTES
from event_agent.runtime.log import AUDIT_LINES
from event_agent.runtime.stats import COMMANDS

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "event_agent"
NAMES = ("README.md", "HACKING.md", "CHANGELOG.md")
FOLDERS = (*sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("examples/*/README.md")))
DOCS = [path for path in (*(ROOT / name for name in NAMES), *FOLDERS) if path.exists()]

# Run from the place in which the installed package is tested, there is nothing to compare.
pytestmark = pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="not a checkout")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    """What stands under a heading, up to the next of the same rank."""
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def outside_fences(text: str) -> str:
    return re.sub(r"^ *```.*?^ *```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors that GitHub makes of headings."""
    heads = re.findall(r"^#+ (.+)$", outside_fences(text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", outside_fences(path.read_text(encoding="utf-8"))):
        if re.match(r"https?://", target):
            continue
        name, _, anchor = target.partition("#")
        file = (path.parent / name).resolve() if name else path
        assert file.exists(), f"{path.name}: {target}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{path.name}: {target}"


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_lines_are_not_too_long(path: Path) -> None:
    text = re.sub(r"\(https?://\S+?\)", "()", outside_fences(path.read_text(encoding="utf-8")))  # no way to break these
    assert not [line for line in text.splitlines() if len(line) > 120 and not line.startswith("|")]


def test_the_readme_is_short() -> None:
    assert len(read("README.md").splitlines()) <= 110  # two screens


@pytest.mark.parametrize("path", DOCS, ids=lambda path: path.name)
def test_blocks_are_closed_and_python_is_python(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    fences = re.findall(r"^ *```.*$", text, re.MULTILINE)
    assert text.count("```") == len(fences) and len(fences) % 2 == 0, f"{path}: a fence stands within a line"
    for block in re.findall(r"^ *```python\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL):
        ast.parse(dedent(block), str(path))


def command_lines() -> Iterator[tuple[str, str]]:
    for path in DOCS:
        for block in re.findall(r"^```sh\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            for line in block.splitlines():
                if "event-agentctl" in line.partition("#")[0]:
                    yield path.name, line


@pytest.mark.parametrize(("name", "line"), list(command_lines()))
def test_command_lines_are_understood(name: str, line: str) -> None:
    words = shlex.split(line, comments=True)
    at = next(index for index, word in enumerate(words) if word.endswith("event-agentctl"))
    arguments = words[at + 1 :]
    if "|" in arguments:
        arguments = arguments[: arguments.index("|")]
    ctl.parser().parse(arguments)


def test_variables_named_in_the_docs_exist() -> None:
    for path in DOCS:
        for name in re.findall(r"MOD_EVENT_AGENT_([A-Z_]+)", path.read_text(encoding="utf-8")):
            known = name == "_FILE" or name.lower().removesuffix("_file") in PARAMS
            assert known, f"{path.name}: {name}"


def configurations() -> Iterator[tuple[str, str]]:
    for path in DOCS:
        for block in re.findall(r"^```xml\n(.*?)^```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
            if block.startswith('<configuration name="event_agent.conf">'):
                yield path.name, block


@pytest.mark.parametrize(("name", "text"), list(configurations()))
def test_configurations_are_valid(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / "agent.xml").write_text(text, encoding="utf-8")
    assert not load(str(tmp_path / "agent.xml"), {}).warnings


# -- HACKING.md


def modules() -> list[str]:
    return sorted(
        str(path.relative_to(PACKAGE))
        for path in PACKAGE.rglob("*.py")
        if path.name not in ("__init__.py", "__main__.py") or path.parent.name == "drivers"
    )


def layout() -> list[str]:
    """The paths and patterns that the layout names."""
    block = section(read("HACKING.md"), "The layout").partition("```\n")[2].partition("\n```")[0]
    named, folders = [], {0: ""}  # folders by the indentation of what they hold
    for line in block.splitlines():
        indent = len(line) - len(line.lstrip())
        for word in line.split():
            if not re.fullmatch(r"[\w*]+(/|\.\w+)|Makefile", word):
                break
            named.append(folders[indent] + word)
            if word.endswith("/"):
                folders[indent + 2] = folders[indent] + word
    return named


def test_the_layout_is_that_of_the_code() -> None:
    named = layout()
    for module in modules():
        assert any(fnmatch.fnmatch(f"event_agent/{module}", name) for name in named), f"{module} is not in HACKING.md"
    for name in named:
        assert list(ROOT.glob(name)), f"HACKING.md names {name}"


def room(module: str) -> str:
    return module.split(".")[1] if "." in module else module


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


def test_imports_point_one_way() -> None:
    rows = re.findall(r"^\| `?(\w+)`? \| (.+) \|$", section(read("HACKING.md"), "Imports"), re.MULTILINE)
    allowed = {name: set(others.split(", ")) for name, others in rows if name != "room"}
    for path in PACKAGE.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        ours = {room(name) for name in imports(path) if name.split(".")[0] == "event_agent"} - {"event_agent"}
        assert ours <= allowed.get(room(module), set()) | {room(module)}, module
        for name, place in (("ESL", "freeswitch.connection"), ("pynats2", "drivers.nats.connection")):
            assert name not in imports(path) or module == f"event_agent.{place}", f"{module} imports {name}"


def thread_names() -> set[str]:
    found = {"MainThread"}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if "threading" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("threading.Thread", "._spawn")):
                found |= {ast.unparse(word.value).strip("'") for word in node.keywords if word.arg == "name"} - {"name"}
        found |= set(re.findall(r'watchdog\.name = "([\w-]+)"', text))
        found |= {f"{name}N" for name in re.findall(r'\bname = f"([a-z-]+)\{', text)}
    return found


def test_all_threads_are_listed() -> None:
    rows = re.findall(r"^\| ([\w-]+) \|", section(read("HACKING.md"), "Threads"), re.MULTILINE)
    assert set(rows) - {"name"} == thread_names()


def test_every_thread_is_watched_or_said_not_to_be(tmp_path: Path) -> None:
    table = section(read("HACKING.md"), "Threads").partition("\n### Which stuck threads are seen\n")[2]
    rows = dict(re.findall(r"^\| ([\w-]+) \| (.+?) \|", table, re.MULTILINE))
    del rows["name"]
    assert set(rows) == thread_names()
    health = Daemon(Settings(state_dir=str(tmp_path))).health
    watched = {what.removeprefix("thread ") for what in health.watched if what.startswith("thread ")}
    assert watched == {name for name, sign in rows.items() if not sign.startswith("none")}


LOCKS = ("threading.Lock", "threading.RLock", "threading.Condition")


def classes() -> Iterator[ast.ClassDef]:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                yield node


def locks(node: ast.ClassDef) -> set[str]:
    """The attributes of a class that are locks; one that is made around another is that other."""
    return {
        target.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Assign) and isinstance(each.value, ast.Call)
        and ast.unparse(each.value.func) in LOCKS
        for target in each.targets
        if isinstance(target, ast.Attribute)
    }  # fmt: skip


def test_all_locks_are_listed() -> None:
    named = set(re.findall(r"`(\w+\.\w+)`", "\n".join(
        line.split("|")[1] for line in section(read("HACKING.md"), "Locks").splitlines() if line.startswith("| `")
    )))  # fmt: skip
    found = {f"{node.name}.{lock}" for node in classes() for lock in locks(node)}
    # Of these the one is the other; and pynats2's client brings a lock of its own.
    assert named == (found - {"CommandLane._changed"}) | {"NatsClient._send_lock"}


def given(node: ast.ClassDef) -> set[str]:
    """The attributes of a class that hold a callback it was given."""
    for init in node.body:
        if isinstance(init, ast.FunctionDef) and init.name == "__init__":
            kinds = {each.arg: ast.unparse(each.annotation) for each in init.args.args if each.annotation}
            callbacks = {name for name, kind in kinds.items() if kind.startswith("Callable") or kind in CALLBACKS}
            return {
                target.attr
                for each in ast.walk(init)
                if isinstance(each, ast.Assign) and isinstance(each.value, ast.Name) and each.value.id in callbacks
                for target in each.targets
                if isinstance(target, ast.Attribute)
            }
    return set()


CALLBACKS = ("Send", "Deliver", "Tap", "Finished")


def test_no_callback_is_called_with_a_lock_held() -> None:
    held, read_ones = [], 0
    for node in classes():
        ours, callbacks = locks(node), given(node)
        for block in ast.walk(node):
            if not isinstance(block, ast.With):
                continue
            if not any(ast.unparse(item.context_expr).removeprefix("self.") in ours for item in block.items):
                continue
            read_ones += 1
            for call in ast.walk(block):
                if isinstance(call, ast.Call) and ast.unparse(call.func).removeprefix("self.") in callbacks:
                    held.append(f"{node.name}, line {call.lineno}: {ast.unparse(call)}")
    assert not held and read_ones > 40


# -- figures that docs/API.md gives


FIGURES = {
    "request": f"{MAX_REQUEST:,} bytes",
    "lane": f"{Limits().queue:,} commands",
    "workers": f"{Limits().slow_queue // 2:,} slow commands of one verb, {Limits().slow_queue:,} of all",
    "subject": f"{MAX_SUBJECT_BYTES:,} bytes",
    "variables": f"{MAX_BLOCK:,} characters",
    "lists": f"{MAX_TEXT:,} characters",
    "contexts": f"{CONTEXTS} contexts",
    "pattern": f"{PATTERN} characters",
    "number": f"{LONGEST} characters",
    "statistics": f"{COMMANDS} names",
    "servers": f"{MAX_URLS} URLs",
}


@pytest.mark.parametrize("what", FIGURES)
def test_figures_are_those_of_the_code(what: str) -> None:
    assert FIGURES[what] in " ".join(read("docs/API.md").split())


def test_figures_of_security() -> None:
    text = " ".join(read("docs/SECURITY.md").split())
    assert f"{MAX_REQUEST:,} bytes" in text and f"{MAX_SUBSCRIPTIONS} subscriptions" in text
    assert f"{AUDIT_LINES:,} lines" in text and f"{MAX_DEPTH} deep" in text and f"{MAX_TEXT:,} characters" in text


def test_the_slow_verbs_are_all_named() -> None:
    (text,) = re.findall(r"<!-- slow verbs -->\n(.*?)\n\n", read("docs/API.md"), re.DOTALL)
    assert set(re.findall(r"`(\w+)`", text)) == LISTED
