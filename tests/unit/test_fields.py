"""One declaration of each command's fields: what is made of it for people and tools is up to date."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.hangup import CAUSE, UUID
from event_agent.protocol.validation import Declaration, number, spelled, string

ROOT = Path(__file__).resolve().parent.parent.parent

# Run from the place in which the installed package is tested, there is nothing to compare.
checkout = pytest.mark.skipif(not (ROOT / "tools").exists(), reason="not a checkout")


def writer() -> Any:
    """tools/fields.py."""
    spec = importlib.util.spec_from_file_location("write_fields", ROOT / "tools" / "fields.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written() -> Callable[[tuple[Declaration, ...]], dict[str, str]]:
    """What it would write for these commands, by the name of the file."""
    write = writer().written
    return lambda commands: {path.name: text for path, text in write(commands).items()}


@checkout
def test_nothing_has_drifted() -> None:
    """`.venv/bin/python tools/fields.py` mends it."""
    for path, text in writer().written().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run tools/fields.py"


PLAIN = spelled(re.compile(""), "be plain", {"not": "plain"}, "plain")
HANGUP = next(each for each in COMMANDS if each.name == "hangup")
CHANGES: list[tuple[str, Declaration, str, str]] = [
    ("a limit", replace(HANGUP, fields=(UUID, string("cause", high=7))), '"maxLength": 7', "| at most 7 |"),
    ("a name", replace(HANGUP, fields=(UUID, string("why"))), '"why": {', "| `why` |"),
    ("a default", replace(HANGUP, fields=(UUID, CAUSE.optional("BUSY"))), '"default": "BUSY"', "| `BUSY` |"),
    ("a form", replace(HANGUP, fields=(UUID, string("cause", high=63, form=PLAIN))), '"not": "plain"', "63; plain |"),
    ("a help", replace(HANGUP, fields=(UUID, string("cause", help="why it ends"))), "Why it ends.", "| why it ends |"),
    ("a type", replace(HANGUP, fields=(UUID, number("cause", 1, 9))), '"maximum": 9', "| number, required | 1-9 |"),
    ("required", replace(HANGUP, fields=(UUID, string("cause"))), '["uuid", "cause"]', "`cause` | string, required |"),
    ("an alias", replace(HANGUP, fields=(UUID, string("cause").alias("why"))), '{"required": ["why"]}', "| `why` |"),
    ("what it does", replace(HANGUP, does="Ends it all."), "Ends it all.", ""),
    ("an example", replace(HANGUP, examples=({"uuid": "abc"},)), '"uuid": "abc"', ""),
]


@checkout
@pytest.mark.parametrize(("what", "changed", "schema", "row"), CHANGES, ids=[each[0] for each in CHANGES])
def test_what_is_declared_otherwise_is_written_otherwise(
    written: Any, what: str, changed: Declaration, schema: str, row: str
) -> None:
    before, after = written(COMMANDS), written(tuple(changed if each is HANGUP else each for each in COMMANDS))
    assert schema in after["request.json"] and schema not in before["request.json"]
    json.loads(after["request.json"])
    table = re.compile("<!-- fields: hangup -->.*?<!-- end -->", re.DOTALL)
    old, new = (table.search(each["API.md"]) for each in (before, after))
    assert old is not None and new is not None
    assert row in new[0] and row not in old[0] if row else new[0] == old[0]


@checkout
def test_a_new_command_is_in_all_three_or_has_no_marker_for_its_table(written: Any) -> None:
    new = Declaration("ring.back", "Rings back.")
    after = written((*COMMANDS, new))
    assert "ringBackReply: {" in after["asyncapi.yaml"] and "ringBack" in after["request.json"]
    with pytest.raises(KeyError, match="ring.back"):
        written((*COMMANDS, replace(new, fields=(UUID,))))


def test_every_field_says_what_it_is_for() -> None:
    for command in COMMANDS:
        names = [name for each in command.fields for name in (each.name, *each.aliases)]
        assert len(names) == len(set(names)), command.name
        for field in command.fields:
            assert field.help and not field.help.endswith("."), f"{command.name} {field.name}"
