"""The log lines in docs/INSTALL.md, held against the code: each is one that can come, none that can come is missing.

In a line of the tables … stands for what differs, NAME for a setting, FILE and LINE for a place. Both sides are
patterns, so a line is compared with the code's templates piece by piece: what a template leaves open must itself be …
or a text of ours.
"""

from __future__ import annotations

import ast
import logging
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from event_agent.config.table import PARAMS

ROOT = Path(__file__).resolve().parent.parent.parent
PACKAGE = ROOT / "event_agent"
FILES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.relative_to(PACKAGE).parts[0] not in ("ctl", "client")]
HOLE = "\0"  # where a template leaves something open
LEVELS = {"warning", "error", "critical", "exception"}
FOREIGN = (  # of the system, of TLS, of a NATS server
    "Connection refused", "Permission denied", "Address already in use", "certificate verify failed",
    "Authorization Violation", "User Authentication Expired", "Permissions Violation for Subscription to",
)  # fmt: skip
SYSTEMD = "event-agent.service: "
RAISED = ("LinkError", "Refused", "Frozen")
# Of the event connection, and said at debug: the lane, which meets the same fault, says it aloud.
UNSAID = {"FreeSWITCH does not send events"}

# Run from the place in which the installed package is tested, there is no code to read.
if not PACKAGE.exists():
    pytest.skip("not a checkout", allow_module_level=True)


def template(node: ast.expr) -> str | None:
    """A string or f-string with HOLEs; None where it is neither."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.sub(r"%[-.\d]*[sdrfgx]", HOLE, node.value)
    if isinstance(node, ast.JoinedStr):
        parts = [str(each.value) if isinstance(each, ast.Constant) else HOLE for each in node.values]
        return "".join(parts)
    return None


def nodes() -> Iterator[ast.AST]:
    for path in FILES:
        yield from ast.walk(ast.parse(path.read_text(encoding="utf-8")))


def logged() -> set[str]:
    """The templates of all that the daemon logs at warning or above."""
    found = set()
    for node in nodes():
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        if ast.unparse(node.func.value) in ("log", "logger") and node.func.attr in (*LEVELS, "log"):
            text = template(node.args[1 if node.func.attr == "log" else 0])
            assert text is not None, ast.unparse(node)
            if re.search("[a-z]", text):  # "%s" alone hands on a text of ours
                found.add(text)
    return found


def reasons() -> set[str]:
    """Why FreeSWITCH can be away."""
    found = set()
    for path in PACKAGE.glob("freeswitch/*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in RAISED and node.args:
                found.add(template(node.args[0]) or HOLE)
    return {each for each in found if re.search("[a-z]", each)} - UNSAID


def texts() -> set[str]:
    """All strings in the code from which a line could be made."""
    found = {template(node) for node in nodes() if isinstance(node, ast.expr)}
    return {each for each in found if each and "\n" not in each and len(re.findall(r"[A-Za-z]", each)) >= 8}


def lines() -> list[str]:
    """The lines that the tables name."""
    text = (ROOT / "docs/INSTALL.md").read_text(encoding="utf-8").partition("\n## When it does not work\n")[2]
    found: list[str] = []
    for table in re.findall(r"^\| line \|.*\n\|---.*\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            cell = re.split(r" \| ", row.strip("| "))[0]
            assert re.fullmatch(r"`[^`]+`", cell), f"a line a row: {row}"
            found.append(cell.strip("`"))
    return found


def pattern(text: str) -> re.Pattern[str]:
    return re.compile("(.+)".join(re.escape(part) for part in text.split(HOLE)), re.DOTALL)


ALL = texts()
TEXTS = [pattern(each) for each in ALL]


def known(part: str) -> bool:
    """What a line has where a template leaves it open: …, a setting, or a text that somebody says."""
    words = re.sub(r"\b(NAME|FILE|LINE)\b", "", part).replace("…", "").strip(" '\":;,.()0123456789")
    if not words or words.lower() in PARAMS:
        return True
    if any(words.startswith(each) for each in FOREIGN):
        return True
    if any(all(map(known, found.groups())) for each in TEXTS if (found := each.fullmatch(part))):
        return True
    if "…" in part and any(pattern(part.replace("…", HOLE)).fullmatch(each) for each in ALL):
        return True
    return part.startswith("…: ") and known(part.removeprefix("…: "))


@pytest.mark.parametrize("line", lines())
def test_the_line_can_come(line: str) -> None:
    assert line.startswith(SYSTEMD) or known(line), f"nothing in the code says: {line}"


def told(text: str, prefix: str = "", suffix: str = "") -> bool:
    """Whether the tables have a line for this template."""
    ours, whole = pattern(prefix + text + suffix), (prefix + text + suffix).replace(HOLE, "…")
    return any(
        ours.fullmatch(line) or pattern(line.replace("…", HOLE)).fullmatch(whole)
        for line in lines()
        if re.search("[a-z]{3}", line.replace("; retrying", ""))
    )


@pytest.mark.parametrize("text", sorted(logged()))
def test_every_warning_is_documented(text: str) -> None:
    assert told(text), f"docs/INSTALL.md has no line for: {text.replace(HOLE, '…')}"


@pytest.mark.parametrize("text", sorted(reasons()))
def test_every_reason_why_freeswitch_is_unreachable_is_documented(text: str) -> None:
    found = told(text, "FreeSWITCH is unreachable: ", "; retrying")
    assert found, f"docs/INSTALL.md: no line for {text.replace(HOLE, '…')}"


def test_the_levels_are_those_of_logging() -> None:
    assert all(callable(getattr(logging, level)) for level in LEVELS)
    assert len(logged()) > 30 and len(reasons()) > 12 and len(lines()) > 60
