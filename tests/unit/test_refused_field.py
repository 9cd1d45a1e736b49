"""An error reply to a request that is refused names the field that is wrong, in a field of its own."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_agent.commands.catalogue import COMMANDS
from event_agent.errors import CommandError
from event_agent.freeswitch import dialstring
from event_agent.protocol.validation import Field
from event_agent_client.core import failure_of
from event_agent_client.errors import Refused
from tests.unit.test_registry import House

FIELDS = [(command.name, each) for command in COMMANDS for each in command.fields]


@pytest.mark.parametrize(("command", "field"), FIELDS, ids=lambda part: getattr(part, "name", part))
def test_a_field_that_is_wrong(command: str, field: Field[Any]) -> None:
    wrong: dict[str, object] = {name: {"": []} for name in (field.name, *field.aliases)}
    for name in wrong:
        with pytest.raises(CommandError) as refused:
            field({name: wrong[name]})
        assert refused.value.field == name
    if field.required:
        with pytest.raises(CommandError) as refused:
            field({})
        assert refused.value.field == field.name


@pytest.mark.parametrize(
    ("work", "field"),
    [
        (lambda: dialstring.read_endpoint("user/1:_:user/2"), "endpoint"),
        (lambda: dialstring.read_endpoint("{origination_uuid=a b}user/1"), "endpoint"),
        (lambda: dialstring.variable_block({"a b": "c"}), "variables"),
        (lambda: dialstring.variable_block({"a": "${b}"}), "variables"),
        (lambda: dialstring.plain_uuid("uuid", "a b"), "uuid"),
        (lambda: dialstring.check_extension("extension", "undef"), "extension"),
        (lambda: dialstring.destination_text("destination", "&a(b)c"), "destination"),
    ],
)
def test_what_freeswitch_would_misread(work: Any, field: str) -> None:
    with pytest.raises(CommandError) as refused:
        work()
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("request_fields", "field"),
    [
        ({"args": "x"}, "command"),
        ({"command": "x", "forward_to": "a b"}, "forward_to"),
        ({"command": "x", "forward_to": 5}, "forward_to"),
        ({"command": "x", "forward_to": "freeswitch.api"}, "forward_to"),
        ({"command": "x", "async": "yes"}, "async"),
        ({"command": "x", "node_id": 5}, "node_id"),
        ({"command": "x", "correlation_id": []}, "correlation_id"),
        ({"command": "mine"}, "uuid"),
        ({"command": "other"}, ""),
    ],
)
def test_the_reply_has_it(request_fields: dict[str, object], field: str) -> None:
    house = House()
    house.add("mine", CommandError("uuid must be …", field="uuid"))
    house.add("other", CommandError("it can't be done"))
    reply = house.raw(json.dumps(request_fields).encode())
    assert reply["success"] is False and reply.get("field", "") == field
    error = failure_of(reply)
    assert isinstance(error, Refused) and error.field == field
