"""Warnings of fields that a command does not know."""

from __future__ import annotations

from typing import Any

import pytest

from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.unknown import MOST, KnownFields

KNOWN = KnownFields(COMMANDS)


def test_every_field_is_known() -> None:
    for command in COMMANDS:
        payload: dict[str, Any] = dict.fromkeys(command.names, 1)
        common = {"command": "x", "node_id": "", "async": True, "forward_to": "a", "correlation_id": 1}
        assert KNOWN.warnings(command.name, payload | common) == []
    assert KNOWN.warnings("uuid_kill", {"command": "uuid_kill", "args": "x"}) == []


@pytest.mark.parametrize(
    ("command", "field", "closest"),
    [
        ("originate", "varibles", "variables"), ("originate", "calleridname", "caller_id_name"),
        ("originate", "Endpoint", "endpoint"), ("originate", "desination", "destination"),
        ("hangup", "uid", "uuid"), ("hangup", "correlationId", "correlation_id"), ("dialplan.audio", "mod", "mode"),
        ("status", "arg", "args"), ("execute_app", "application", ""), ("agent.status", "xyz", ""), ("status", "", ""),
    ],
)  # fmt: skip
def test_the_closest_is_named(command: str, field: str, closest: str) -> None:
    suggestion = f": did you mean '{closest}'?" if closest else ""
    assert KNOWN.warnings(command, {"command": command, field: 1}) == [f"unknown field '{field}'{suggestion}"]


def test_many_and_long_names_cost_little() -> None:
    payload = {f"{'x' * 30000}{number}": 1 for number in range(20)}
    found = KNOWN.warnings("status", payload)
    assert len(found) == MOST + 1 and found[-1] == "12 more unknown fields" and all(len(each) < 100 for each in found)


def test_empty_arguments_are_no_field() -> None:
    for value in ("", None):
        assert KNOWN.warnings("agent.status", {"command": "agent.status", "args": value}) == []
    assert KNOWN.warnings("agent.status", {"command": "agent.status", "args": "x"}) == ["unknown field 'args'"]


def test_without_declarations_there_are_no_warnings() -> None:
    assert KnownFields(()).warnings("status", {"x": 1}) == []
