"""A FreeSWITCH event, as `event json` writes it, made into a subject and a payload.

The payload is cut around FreeSWITCH's own JSON instead of decoding and encoding it, which costs 3 µs an event
where the other way costs 80. What makes that safe: inside a JSON string a quote always has a backslash before
it, so `,"Unique-ID":"` can only be a key, whatever a caller put into his name. Anything that does not look
exactly like FreeSWITCH's JSON takes the slow way: decode, build, encode.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from event_agent.errors import AgentError
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import event_subject

_PLAIN = re.compile(rb"[A-Za-z0-9_.:/ -]{1,128}\Z")  # a value that stands for itself inside JSON quotes
MAX_STAMP = 19  # digits; more do not fit into 64 bits, and int() refuses thousands of them
MAX_SUBJECTS = 4096  # subclasses come from whoever may send events; don't keep any number of them
_STAMP = re.compile(rf"[0-9]{{1,{MAX_STAMP}}}\Z")


class Published(NamedTuple):
    """One event on its way out. `name` is what filters call it: a CUSTOM event's `a::b` subclass, or its name."""

    name: str
    subject: str
    payload: bytes


class BadEvent(AgentError):
    """FreeSWITCH sent an event that is not a JSON object with an Event-Name."""


def _key(name: bytes) -> tuple[bytes, bytes, bytes, int]:
    """What `_value` looks for: the key at the beginning, further on, with any value; and how long the first two are."""
    return b'{"' + name + b'":"', b',"' + name + b'":"', b'"' + name + b'":', len(name) + 5


_NAME, _TIME, _UNIQUE, _SUBCLASS = map(_key, (b"Event-Name", b"Event-Date-Timestamp", b"Unique-ID", b"Event-Subclass"))


def _value(data: bytes, key: tuple[bytes, bytes, bytes, int]) -> bytes | None:
    """The raw text of a top-level string, b"" where the key is absent, None where the slow way must tell."""
    first, further, bare, length = key
    at = 0
    if not data.startswith(first) and (at := data.find(further)) < 0:
        return None if bare in data else b""
    start = at + length
    raw = data[start : data.find(b'"', start)]
    return raw if _PLAIN.match(raw) else None


class EventEncoder:
    """Turns events into what is published. Keeps the subjects it has built; one thread at a time."""

    def __init__(self, prefix: str, node_id: str) -> None:
        self._prefix = prefix
        self._node = f',"node_id":{dump_json(node_id or "unknown")}'.encode()
        self._known: dict[tuple[bytes, bytes], tuple[str, str, bytes]] = {}

    def encode(self, data: bytes) -> Published:
        """The event in `data`, FreeSWITCH's JSON. Raises BadEvent."""
        name = _value(data, _NAME)
        stamp = _value(data, _TIME)
        unique = _value(data, _UNIQUE)
        subclass = _value(data, _SUBCLASS) if name == b"CUSTOM" else b""
        if not name or subclass is None or unique is None or not stamp or not stamp.isdigit():
            return self._slow(data)
        if len(stamp) > MAX_STAMP:
            return self._slow(data)
        if b'"_body":' in data or data[-1:] != b"}" or (not data.isascii() and not _is_utf8(data)):
            return self._slow(data)
        known = self._known.get((name, subclass)) or self._learn(name, subclass)
        uuid = b',"uuid":"' + unique + b'"' if unique else b""
        payload = b"".join((known[2], stamp.lstrip(b"0") or b"0", self._node, uuid, b',"headers":', data, b"}"))
        return Published(known[0], known[1], payload)

    def _learn(self, name: bytes, subclass: bytes) -> tuple[str, str, bytes]:
        text, sub = name.decode(), subclass.decode()
        known = (
            sub if "::" in sub else text,
            event_subject(self._prefix, text, sub),
            b'{"event_name":"' + name + b'","timestamp":',
        )
        if len(self._known) < MAX_SUBJECTS:
            self._known[name, subclass] = known
        return known

    def _slow(self, data: bytes) -> Published:
        try:
            headers = json.loads(data.decode(errors="replace"))
            name = headers["Event-Name"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise BadEvent(f"not a JSON event: {data[:80]!r}") from None
        if not isinstance(name, str):
            raise BadEvent(f"Event-Name is not a string: {data[:80]!r}")
        body = headers.pop("_body", None)
        stamp = headers.get("Event-Date-Timestamp")
        event: dict[str, object] = {
            "event_name": name,
            "timestamp": int(stamp) if isinstance(stamp, str) and _STAMP.match(stamp) else 0,
        }
        if unique := headers.get("Unique-ID"):
            event["uuid"] = unique
        event["headers"] = headers
        if body is not None:
            event["body"] = body
        subclass = headers.get("Event-Subclass", "") if name == "CUSTOM" else ""
        subclass = subclass if isinstance(subclass, str) else ""
        try:
            text = dump_json(event)
        except (ValueError, RecursionError):
            raise BadEvent(f"not JSON: {data[:80]!r}") from None
        # node_id stands third, as on the quick way
        first = text.index(',"uuid":') if "uuid" in event else text.index(',"headers":')
        return Published(
            subclass if "::" in subclass else name,
            event_subject(self._prefix, name, subclass),
            to_utf8(text[:first]) + self._node + to_utf8(text[first:]),
        )


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
