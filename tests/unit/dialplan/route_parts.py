"""What mod_xml_curl posts about a call, and the schemas of what a program is asked and answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, urlencode

import jsonschema

from tests.asyncapi import schemas
from tests.unit.dialplan.parts import UUID


def posted(*pairs: tuple[str, str]) -> bytes:
    """A POST's body; `pairs` besides, which FreeSWITCH writes behind its own."""
    own = [
        ("section", "dialplan"), ("Unique-ID", UUID), ("Call-Direction", "inbound"), ("Hunt-Context", "public"),
        ("Hunt-Destination-Number", "7000"), ("Answer-State", "ringing"),
    ]  # fmt: skip
    return urlencode([*own, *pairs], quote_via=quote).encode()


def validator(definition: str) -> Any:
    """For `call` or `decision`."""
    document = schemas("route")
    return jsonschema.Draft7Validator({
        "$ref": f"#/definitions/{definition}", "definitions": document["definitions"],
    })  # fmt: skip
