"""What mod_xml_curl asks, as a mapping, and what it is answered, as XML.

Source: mod_xml_curl.c (xml_url_fetch) and switch_xml.c (switch_xml_locate) of FreeSWITCH 1.10: a POST of URL-encoded
pairs; an answer is a whole document, `not found` in a section named `result`.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Collection

from event_agent.dialplan.choices import MARK, SEAL, Extension
from event_agent.dialplan.numbers import URIS
from event_agent.dialplan.routing import NEEDED, ROUTED

PROBE = "event-agent"  # tag_name of a request that this program has caused itself
PAIRS = 10_000  # pairs looked at in one request
VALUE = 1024  # bytes of a value that are decoded; a name or number of that length is none
VARIABLE = 4096  # bytes, as posted, of a variable that somebody wants; a longer one counts as not set
_ESCAPE = re.compile(b"%([0-9A-Fa-f]{2})")

# A request holds a hundred pairs and more; only these are decoded.
_WANTED = {
    name.encode(): name
    for name in (
        "section", "tag_name", "key_value", "Hunt-Context", "Hunt-Destination-Number", "Caller-Context",
        "Caller-Destination-Number", "Caller-Profile-Index", "Call-Direction", "Unique-ID", f"variable_{MARK}",
        f"variable_{SEAL}", f"variable_{ROUTED}", "Answer-State",
        "variable_send_silence_when_idle", *URIS, *NEEDED,
    )
}  # fmt: skip


def read_params(data: bytes, variables: Collection[bytes] = ()) -> dict[str, str]:
    """The pairs that matter of an URL-encoded request. The first of a name counts: FreeSWITCH's own come first.

    `variables`: further names that matter.
    """
    params: dict[str, str] = {}
    for pair in data.split(b"&", PAIRS):
        key, _, value = pair.partition(b"=")
        name = _WANTED.get(key)
        if name is not None and name not in params:
            params[name] = _decoded(value[:VALUE])
        elif key in variables and len(value) <= VARIABLE:
            params.setdefault(key.decode(errors="replace"), _decoded(value))
    return params


def _decoded(value: bytes) -> str:
    """A value of an URL-encoded pair. urllib's own takes 1 µs for each per cent sign, in threes with digits or not."""
    return _ESCAPE.sub(_byte, value.replace(b"+", b" ")).decode(errors="replace")


def _byte(found: re.Match[bytes]) -> bytes:
    return bytes((int(found[1], 16),))


def write_extension(extension: Extension) -> bytes:
    """The document that makes FreeSWITCH run an extension's actions."""
    root, section = _document("dialplan")
    context = ET.SubElement(section, "context", name=extension.context)
    wanted = ET.SubElement(context, "extension", name="event-agent")
    condition = ET.SubElement(wanted, "condition")
    for application, data in extension.actions:
        ET.SubElement(condition, "action", {"application": application, **({"data": data} if data else {})})
    return _bytes(root)


def write_probe(nonce: str) -> bytes:
    """The answer to our own question, so that FreeSWITCH need not search its dialplan for it."""
    root, section = _document("dialplan")
    ET.SubElement(section, PROBE, probe=nonce)
    return _bytes(root)


def _document(section: str) -> tuple[ET.Element, ET.Element]:
    root = ET.Element("document", type="freeswitch/xml")
    return root, ET.SubElement(root, "section", name=section)


def _bytes(root: ET.Element) -> bytes:
    data: bytes = ET.tostring(root, "utf-8", xml_declaration=True)
    return data


def _not_found() -> bytes:
    root, section = _document("result")
    ET.SubElement(section, "result", status="not found")
    return _bytes(root)


NOT_FOUND = _not_found()
