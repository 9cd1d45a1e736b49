"""An event of FreeSWITCH's made into what is published: a subject and a payload.

The payload is cut around FreeSWITCH's own JSON instead of decoding and encoding it, which costs 3 µs an event
where the other way costs 80. Anything that does not look exactly like FreeSWITCH's JSON takes the slow way: decode,
build, encode.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from event_agent.errors import AgentError
from event_agent.protocol.raw_event import MAX_DIGITS, Key, RawEvent
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import event_subject

NAME, STAMP = Key("Event-Name"), Key("Event-Date-Timestamp")
_UNIQUE, _SUBCLASS = Key("Unique-ID"), Key("Event-Subclass")
CORE, SEQUENCE = Key("Core-UUID"), Key("Event-Sequence")
_DIGITS = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}\Z")
# What a reduced event is told by; these stay.
KEPT = frozenset((
    "Event-Name", "Event-Subclass", "Event-Date-Timestamp", "Event-Sequence", "Core-UUID", "Unique-ID", "Job-UUID",
    "Job-Command", "Application-UUID",
))  # fmt: skip
LEFT_OUT = 256  # parts at most
MAX_SUBJECTS = 4096  # subclasses come from whoever may send events; don't keep any number of them


class Published(NamedTuple):
    """One event on its way out. `name` is what filters call it: a CUSTOM event's `a::b` subclass, or its name."""

    name: str
    subject: bytes
    payload: bytes
    msg_id: bytes = b""


class BadEvent(AgentError):
    """FreeSWITCH sent an event that is not a JSON object with an Event-Name."""


class EventEncoder:
    """Turns events into what is published. Keeps the subjects it has built; one thread at a time."""

    def __init__(self, prefix: str, node_id: str, ids: bool = False) -> None:
        """`ids`: each event gets the name that tells it from all others: Core-UUID and Event-Sequence."""
        self._prefix = prefix
        self._ids = ids
        self._node = f',"node_id":{dump_json(node_id or "unknown")}'.encode()
        self._known: dict[tuple[bytes, bytes], tuple[str, bytes, bytes]] = {}

    def encode(self, event: RawEvent) -> Published:
        """What is published of the event. Raises BadEvent."""
        name = event.scan(NAME)
        stamp = event.scan(STAMP)
        unique = event.scan(_UNIQUE)
        subclass = event.scan(_SUBCLASS) if name == b"CUSTOM" else b""
        if not name or subclass is None or unique is None or not stamp or not stamp.isdigit():
            return self._slow(event)
        data = event.data
        if len(stamp) > MAX_DIGITS or b'"_body":' in data or data[-1:] != b"}":
            return self._slow(event)
        if not data.isascii() and not _is_utf8(data):
            return self._slow(event)
        known = self._known.get((name, subclass)) or self._learn(name, subclass)
        uuid = b',"uuid":"' + unique + b'"' if unique else b""
        payload = b"".join((known[2], stamp.lstrip(b"0") or b"0", self._node, uuid, b',"headers":', data, b"}"))
        return Published(known[0], known[1], payload, _identity(event) if self._ids else b"")

    def _learn(self, name: bytes, subclass: bytes) -> tuple[str, bytes, bytes]:
        text, sub = name.decode(), subclass.decode()
        known = (
            sub if "::" in sub else text,
            event_subject(self._prefix, text, sub).encode(),
            b'{"event_name":"' + name + b'","timestamp":',
        )
        if len(self._known) < MAX_SUBJECTS:
            self._known[name, subclass] = known
        return known

    def reduced(self, raw: RawEvent, most: int) -> Published:
        """The event without its largest parts, which `truncated` names: at most `most` bytes. Raises BadEvent."""
        sizes = {name: len(to_utf8(dump_json(value))) for name, value in raw.headers.items() if name not in KEPT}
        size = len(self._slow(raw).payload)
        left_out: list[str] = []
        for name in sorted(sizes, key=lambda each: sizes[each], reverse=True)[:LEFT_OUT]:
            left_out.append(name)
            size -= sizes[name]
            if size <= most and len((published := self._slow(raw, left_out)).payload) <= most:
                return published
        raise BadEvent(f"it is too large without its {len(left_out)} largest parts, too")

    def _slow(self, raw: RawEvent, left_out: Sequence[str] = ()) -> Published:
        headers = {name: value for name, value in raw.headers.items() if name not in left_out}
        name = headers.get(NAME.name)
        if not isinstance(name, str):
            raise BadEvent(f"it is no JSON object with an Event-Name: {raw.data[:80]!r}")
        body = headers.pop("_body", None)
        stamp = headers.get(STAMP.name)
        event: dict[str, object] = {
            "event_name": name,
            "timestamp": int(stamp) if isinstance(stamp, str) and _DIGITS.match(stamp) else 0,
        }
        if unique := headers.get(_UNIQUE.name):
            event["uuid"] = unique
        event["headers"] = headers
        if body is not None:
            event["body"] = body
        if left_out:
            event["truncated"] = ["body" if name == "_body" else name for name in left_out]
        subclass = headers.get(_SUBCLASS.name, "") if name == "CUSTOM" else ""
        subclass = subclass if isinstance(subclass, str) else ""
        try:
            text = dump_json(event)
        except (ValueError, RecursionError):
            raise BadEvent(f"it can't be written as JSON: {raw.data[:80]!r}") from None
        # node_id stands third, as on the quick way
        first = text.index(',"uuid":') if "uuid" in event else text.index(',"headers":')
        return Published(
            subclass if "::" in subclass else name,
            event_subject(self._prefix, name, subclass).encode(),
            to_utf8(text[:first]) + self._node + to_utf8(text[first:]),
            _identity(raw) if self._ids else b"",
        )


def _identity(event: RawEvent) -> bytes:
    """What tells an event of FreeSWITCH from all others, for ever; b"" if it lacks that."""
    core, sequence = event.scan(CORE), event.scan(SEQUENCE)
    if not core or not sequence or b" " in core or not sequence.isdigit():
        return b""
    return core + b"." + sequence


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
