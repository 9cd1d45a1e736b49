"""Writes what docs/CLIENT.md has of the client's docstrings: its reference, and the table of its errors.

    .venv/bin/python tools/client_doc.py            writes docs/CLIENT.md; a test fails until that is done
"""

from __future__ import annotations

import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import event_agent_client as ea  # noqa: E402
from event_agent_client import aio, calls, errors, events  # noqa: E402

PAGE = ROOT / "docs" / "CLIENT.md"
KINDS: tuple[tuple[str, type, str], ...] = (
    ("Client", ea.Client, "fs"),
    ("Node", ea.Node, "fs.node(…)"),
    ("All", aio.All, "fs.all"),
    ("Call", ea.Call, "call"),
    ("End", ea.End, "end"),
    ("Recording", ea.Recording, "recording"),
    ("Events", ea.Events, "events"),
    ("Record", ea.Record, "cdr"),
    ("Cdrs", ea.Cdrs, "cdrs"),
    ("Live", ea.Live, "live"),
    ("LiveCall", ea.LiveCall, "live_call"),
    ("RouteRequest", ea.RouteRequest, "call"),
    ("Reply", ea.Reply, "reply"),
)
LONGEST = 118


def text_of(thing: Any) -> str:
    """A docstring as a paragraph or several, its lines joined and wrapped anew."""
    paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
    return "\n\n".join("\n".join(wrapped(" ".join(each.split()))) for each in paragraphs)


def wrapped(text: str) -> Iterator[str]:
    """Lines of at most LONGEST characters; code in backticks is not broken."""
    words = re.findall(r"(?:`[^`]*`|\S)+", text)
    line = ""
    for word in words:
        if line and len(line) + 1 + len(word) > LONGEST:
            yield line
            line = ""
        line = f"{line} {word}" if line else word
    yield line


def signature(function: Any) -> str:
    """As it is called: no `self`, no types."""
    found = []
    star = False
    for each in list(inspect.signature(function).parameters.values()):
        if each.name == "self":
            continue
        if each.kind is each.VAR_POSITIONAL:
            found.append(f"*{each.name}")
            star = True
            continue
        if each.kind is each.VAR_KEYWORD:
            found.append(f"**{each.name}")
            continue
        if each.kind is each.KEYWORD_ONLY and not star:
            found.append("*")
            star = True
        found.append(each.name if each.default is each.empty else f"{each.name}={each.default!r}")
    return ", ".join(found)


def attributes(kind: type) -> dict[str, str]:
    """Attributes with a string below them, in the class or its __init__, or those of the classes that it is made of."""
    ours = [each for each in reversed(kind.__mro__) if each.__module__.startswith("event_agent_client")]
    source = "\n".join(map(inspect.getsource, ours))
    pattern = re.compile(r'^ +(?:self\.)?([a-z]\w*)(?:: [^=\n]+)?(?: = .*)?\n +"""(.+?)"""$', re.MULTILINE)
    return {name: text for name, text in pattern.findall(source) if not name.startswith("_")}


def heading(name: str, arguments: str) -> Iterator[str]:
    """The call as a heading; long ones with their arguments below it."""
    if len(name) + len(arguments) < 100:
        yield f"#### `{name}({arguments})`\n"
        return
    yield f"#### `{name}(…)`\n"
    lines = textwrap.wrap(f"{name}({arguments})", 110, subsequent_indent="    ", break_long_words=False)
    yield "```text\n" + "\n".join(lines) + "\n```\n"


def section(title: str, kind: type, called: str) -> Iterator[str]:
    yield f"### {title}\n"
    yield text_of(kind) + "\n"
    rows = {name: text for name, text in attributes(kind).items() if name not in vars(kind) or name in ("key",)}
    for name, each in vars(kind).items():
        if isinstance(each, property) and not name.startswith("_"):
            rows[name] = " ".join((inspect.getdoc(each) or "").split())
    if rows:
        yield "| attribute | |\n|---|---|"
        for name, text in rows.items():
            yield f"| `{called}.{name}` | {text.replace('|', chr(92) + '|')} |"
        yield ""
    for name, each in vars(kind).items():
        if not inspect.isfunction(each) or name.startswith("_"):
            continue
        wait = "await " if inspect.iscoroutinefunction(each) else ""
        yield from heading(f"{wait}{called}.{name}", signature(each))
        yield text_of(each) + "\n"


def reference() -> str:
    parts = ["### connect\n", *heading("ea.connect", signature(ea.connect)), text_of(ea.connect) + "\n"]
    for title, kind, called in KINDS:
        parts += section(title, kind, called)
    parts.append("### Events with a type\n")
    parts.append(text_of(events) + "\n")
    parts.append("| type | event | attributes beside those of all events |\n|---|---|---|")
    for name, kind in events._TYPES.items():
        own = [each for base in kind.__mro__ if base is not events.Event and issubclass(base, events.Event)
               for each, value in vars(base).items() if isinstance(value, property)]  # fmt: skip
        parts.append(f"| `ea.{kind.__name__}` | `{name}` | {', '.join(f'`{each}`' for each in sorted(set(own)))} |")
    return "\n".join(parts).rstrip("\n")


def error_table() -> str:
    """The tree of errors."""
    lines = ["| type | |", "|---|---|"]

    def add(kind: type, depth: int) -> None:
        first = " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())
        lines.append(f"| {'&emsp;' * depth}`{kind.__name__}` | {first} |")
        for each in vars(errors).values():
            if inspect.isclass(each) and kind in each.__bases__:
                add(each, depth + 1)

    add(errors.AgentError, 0)
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with both parts as they are now."""
    for name, part in (("errors", error_table()), ("reference", reference())):
        before, begin, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        text = f"{before}{begin}\n{part}\n\n{end}{after}"
    return text


def main() -> int:
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


__all__ = ["calls", "main", "page"]

if __name__ == "__main__":
    sys.exit(main())
