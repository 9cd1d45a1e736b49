"""An event of FreeSWITCH's made into what is published: a subject and a payload.

The payload is cut around FreeSWITCH's own JSON instead of decoding and encoding it, which costs 3 µs an event
where the other way costs 80. Anything that does not look exactly like FreeSWITCH's JSON takes the slow way: decode,
build, encode.

A published event has each key once (doubles.py). Looking for that in each event would cost more than all else, so it is
learned. Which keys an event has that FreeSWITCH itself fires depends on the place in its code that fires it, which the
event names (Event-Calling-File, -Function, -Line-Number): of each such *kind* the first events are looked at, and then
one of many. What is fired for others, by `sendevent`, a script, a chat message, has any keys, and each is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from event_agent import quick
from event_agent.errors import AgentError
from event_agent.protocol.carried import KEPT, Carried
from event_agent.protocol.doubles import cut, doubled, needle
from event_agent.protocol.raw_event import MAX_DIGITS, Key, RawEvent
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import event_subject

NAME, STAMP, UNIQUE, SUBCLASS = map(Key, ("Event-Name", "Event-Date-Timestamp", "Unique-ID", "Event-Subclass"))
CORE, SEQUENCE = Key("Core-UUID"), Key("Event-Sequence")
# Written out, with their lengths below, for the path that every event takes.
_NAME_FIRST, _STAMP = b'{"Event-Name":"', b',"Event-Date-Timestamp":"'  # 15 and 25 bytes
_SEQUENCE, _UNIQUE = b',"Event-Sequence":"', b',"Unique-ID":"'  # 19 and 14 bytes
_CORE_SECOND = b'","Core-UUID":"'  # 15 bytes
_LAST = b'Event-Sequence":"'
_DIGITS = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}\Z")
_PLAIN = re.compile(rb"[A-Za-z0-9_.:/ -]{1,128}\Z")
_PLACE = re.compile(
    rb'","Event-Calling-File":"([\w.-]{1,64})","Event-Calling-Function":"[\w~:]{1,128}","Event-Calling-Line-Number":"\d+"'
)
LEFT_OUT = 256  # parts at most
MAX_KINDS = 4096  # subclasses come from anybody who may send events; don't keep any number of them
MAX_DOUBLES = 16  # keys of a kind that are looked for in each event
LEARNED = 16  # events of a kind that are looked at first
SAMPLE = 64  # then one of so many
# Names under which the keys depend on the place alone. Others are fired for somebody who chooses the keys.
PLACED = (
    b"CHANNEL_", b"CALL_UPDATE", b"CODEC", b"PRESENCE_", b"API", b"CUSTOM", b"DTMF", b"PLAYBACK_", b"RECORD_",
    b"MEDIA_BUG_", b"RE_SCHEDULE", b"HEARTBEAT", b"BACKGROUND_JOB", b"MODULE_", b"SESSION_HEARTBEAT",
)  # fmt: skip
# Files that fire events for others: scripts, the application `event`, other event sockets, signalling.
FREE = re.compile(rb"switch_cpp|switch_event|mod_dptools|mod_event|mod_sms|handle_msg|kazoo|mod_amqp|fsevent|mod_verto|"
                  rb"mod_rayo|mod_smpp|rtmp|sofia\.c|sofia_presence")
# Set by a channel variable: each variable that it names becomes a header, a variable that it names twice two of them.
_COLUMNS = b'"Presence-Data-Cols":"'
_PLACE_WITHIN = 512  # bytes; it has some 140
_COLUMNS_WITHIN = 512  # bytes behind Unique-ID; what is between them is some 150
_NOT_THEIRS = frozenset((
    b"_body", b"Event-Name", b"Core-UUID", b"FreeSWITCH-Hostname", b"FreeSWITCH-Switchname", b"FreeSWITCH-IPv4",
    b"FreeSWITCH-IPv6", b"Event-Date-Local", b"Event-Date-GMT", b"Event-Date-Timestamp", b"Event-Calling-File",
    b"Event-Calling-Function", b"Event-Calling-Line-Number", b"Event-Sequence",
))  # fmt: skip


class Published(NamedTuple):
    """One event on its way out. `name` is what filters call it: a CUSTOM event's `a::b` subclass, or its name."""

    name: str
    subject: bytes
    payload: bytes
    msg_id: bytes = b""

    @property
    def parts(self) -> tuple[bytes, ...]:
        """The payload, whole."""
        return (self.payload,)

    @property
    def size(self) -> int:
        """Bytes of the payload."""
        return len(self.payload)

    @property
    def source(self) -> bytes:
        """The payload."""
        return self.payload


class Cut(NamedTuple):
    """The same, of an event whose payload was not put together yet: few need it so."""

    name: str
    subject: bytes
    parts: tuple[bytes, ...]
    size: int
    msg_id: bytes
    source: bytes

    @property
    def payload(self) -> bytes:
        """The parts put together, each time it is asked for."""
        return b"".join(self.parts)


_made = tuple.__new__  # of Cut: calling that costs three times as much


class BadEvent(AgentError):
    """FreeSWITCH sent an event that is not a JSON object with an Event-Name."""


class _Kind:
    """Events of one name, fired at one place."""

    __slots__ = ("name", "subject", "head", "size", "doubles", "unseen", "learned", "sample")

    def __init__(self, name: str, subject: bytes, head: bytes, size: int, sample: int) -> None:
        """`size`: bytes of a payload without its Unique-ID and FreeSWITCH's JSON."""
        self.name = name
        self.subject = subject
        self.head = head
        self.size = size
        self.doubles: tuple[bytes, ...] = ()  # needles
        self.unseen = 0  # events that pass before the next one is looked at
        self.learned = 0
        self.sample = sample


class EventEncoder:
    """Turns events into what is published. Keeps what it has learned of kinds; one thread at a time."""

    def __init__(self, prefix: str, node_id: str, ids: bool = False, most_kinds: int = MAX_KINDS) -> None:
        """`ids`: each event gets the name that tells it from all others: Core-UUID and Event-Sequence."""
        self._prefix = prefix
        self._node_id = node_id
        self._ids = ids
        self._most_kinds = most_kinds
        self._node = f',"node_id":{dump_json(node_id or "unknown")}'.encode()
        self._node_uuid = self._node + b',"uuid":"'
        self.kinds: dict[bytes, _Kind] = {}
        self._quick: dict[bytes, _Kind] = {}  # the same by what `encode` looks at first, but for CUSTOM events
        self._to_stamp = 0  # from the end of an event's name to the name of its time
        self._whole: EventEncoder | None = None
        self.carried: Carried | None = None  # what events carry, None: all. Replaced from any thread

    @property
    def whole(self) -> EventEncoder:
        """The one whose events carry all that they have."""
        if self.carried is None:
            return self
        if self._whole is None:
            self._whole = EventEncoder(self._prefix, self._node_id, self._ids)
        return self._whole

    def encode_all(self, events: Sequence[RawEvent]) -> list[Published | Cut | BadEvent]:
        """What is published of each, or why it can't be."""
        found: list[Published | Cut | BadEvent] = []
        compiled = quick.compiled
        while (at := len(found)) < len(events):
            if compiled is not None:
                carried = self.carried
                at = compiled.cuts(
                    events, at, found, self._quick, self._to_stamp, self._node_uuid, self._ids, Cut,
                    None if carried is None else carried.rules,
                )  # fmt: skip
                if at == len(events):
                    break
            try:
                found.append(self.encode(events[at]))
            except BadEvent as error:
                found.append(error.with_traceback(None))  # which holds this frame, and so all of `found`
        return found

    def encode(self, event: RawEvent) -> Published | Cut:
        """What is published of the event. Raises BadEvent."""
        data = event.data
        find = data.find
        # What stands between an event's name and its time is as long in all events of a FreeSWITCH, and the key has
        # all that is taken for granted here: how it begins, the name of the time, where it was fired.
        quote = find(b'"', 15)
        at = quote + self._to_stamp
        end = at + 41
        sequence = find(_SEQUENCE, end)
        kind = None
        if 0 < sequence - end < _PLACE_WITHIN:
            kind = self._quick.get(data[:quote] + data[at : at + 25] + data[end:sequence])
        if kind is None:
            if not data.startswith(_NAME_FIRST):
                return self._foreign(event)
            found = self._placed(event)
            if found is None:
                return self._other(event)
            kind, at, end, sequence = found
        stamp = data[at + 25 : end]
        at = find(_UNIQUE, sequence)
        unique = data[at + 14 : find(b'"', at + 14)] if at >= 0 else b""
        if b"\\" in unique or (at < 0 and UNIQUE.bare in data):
            return self._other(event)
        event.unique = unique
        kind.unseen -= 1
        columns = find(_COLUMNS, at, at + _COLUMNS_WITHIN) >= 0
        if kind.unseen < 0 or columns or kind.doubles:
            mended = self._mended(kind, data, columns)
            if mended is None:
                return self.slow(event)
            data = mended
        # The body stands last, and no comma between quotes can stand in a string.
        last = data.rfind(b'","') + 3
        if data.startswith(b'_body"', last):
            return self.slow(event)
        if stamp < b"1" or not unique or self.carried is not None or not data.isascii():
            return self._joined(kind, stamp, unique, data, event) or self.slow(event)
        if data[-1] != 125 or not stamp.isdigit():
            return self.slow(event)
        # `_joined` for what nearly every event is, written out: a time of 16 digits, with no zero before it.
        msg_id = b""
        if self._ids:
            core = data[quote + 15 : find(b'"', quote + 15)] if data.startswith(_CORE_SECOND, quote) else b""
            number = data[sequence + 19 : find(b'"', sequence + 19)]
            plain = number.isdigit() and core.replace(b"-", b"").isalnum()
            msg_id = core + b"." + number if plain else _identity(event)
        parts = kind.head, stamp, self._node_uuid, unique, b'","headers":', data, b"}"
        return _made(Cut, (kind.name, kind.subject, parts, kind.size + len(unique) + len(data), msg_id, data))

    def _placed(self, event: RawEvent) -> tuple[_Kind, int, int, int] | None:
        """The kind of an event by its name and place, where its time's name begins, its time ends, its number stands.

        None if it has not the usual shape.
        """
        data = event.data
        quote, at = data.find(b'"', 15), data.find(_STAMP)
        end = data.find(b'"', at + 25)
        sequence = data.find(_SEQUENCE, end)
        if at < 0 or end != at + 41:  # since 2001 a time has 16 digits
            return None
        name, place = data[15:quote], data[end:sequence]
        kind = self.kinds.get(name + place) or self._kind_of(event, name, place)
        if kind is None:
            return None
        if name != b"CUSTOM":
            self._to_stamp = at - quote
            if len(self._quick) < self._most_kinds:
                self._quick[data[:quote] + _STAMP + place] = kind
        return kind, at, end, sequence

    def _kind_of(self, event: RawEvent, name: bytes, place: bytes) -> _Kind | None:
        """The kind of what is not to be found by name and place alone: a CUSTOM event, or what was not seen before."""
        if name != b"CUSTOM":
            return self._learn(name, place, b"")
        subclass = event.scan(SUBCLASS)
        if subclass is None:
            return None
        return self.kinds.get(name + place + b" " + subclass) or self._learn(name, place, subclass)

    def _joined(self, kind: _Kind, stamp: bytes, unique: bytes, data: bytes, event: RawEvent) -> Published | None:
        """The envelope around FreeSWITCH's JSON; None if that has to be decoded."""
        if data[-1:] != b"}":
            return None
        if (carried := self.carried) is not None:
            data = carried.cut(data)
        if not (data.isascii() or _is_utf8(data)):
            return None
        if not stamp.isdigit() or len(stamp) > MAX_DIGITS:
            return None
        uuid = b',"uuid":"' + unique + b'"' if unique else b""
        payload = b"".join((kind.head, stamp.lstrip(b"0") or b"0", self._node, uuid, b',"headers":', data, b"}"))
        return Published(kind.name, kind.subject, payload, _identity(event) if self._ids else b"")

    def _foreign(self, event: RawEvent) -> Published:
        """What `sendevent` fires: the client's headers, then FreeSWITCH's own, from Event-Name to Event-Sequence."""
        data = event.data
        begin = data.rfind(NAME.further)
        if b"\\" in data or not data.startswith(_LAST, data.rfind(b'","') + 3) or begin < 0:
            return self._other(event)
        parts = data[:begin].split(b'"')
        keys = parts[1::4]
        if parts[2::4].count(b":") != len(keys) or len(set(keys)) != len(keys) or not _NOT_THEIRS.isdisjoint(keys):
            return self._other(event)
        name = data[begin + 15 : data.find(b'"', begin + 15)]
        at = data.find(_STAMP, begin) + 25
        stamp = data[at : data.find(b'"', at)]
        subclass = _value(b"Event-Subclass", keys, parts) if name == b"CUSTOM" else b""
        kind = self.kinds.get(name + b" " + subclass) or self._learn(name, b"", subclass)
        if kind is None:
            return self.slow(event)
        return self._joined(kind, stamp, _value(b"Unique-ID", keys, parts), data, event) or self.slow(event)

    def _other(self, event: RawEvent) -> Published:
        """What has a shape of its own: each key is looked at."""
        data = event.data
        name, stamp, unique = event.scan(NAME), event.scan(STAMP), event.scan(UNIQUE)
        subclass = event.scan(SUBCLASS) if name == b"CUSTOM" else b""
        if not name or subclass is None or unique is None or not stamp or b'"_body":' in data or doubled(data):
            return self.slow(event)
        kind = self.kinds.get(name + b" " + subclass) or self._learn(name, b"", subclass)
        return (kind and self._joined(kind, stamp, unique, data, event)) or self.slow(event)

    def _learn(self, name: bytes, place: bytes, subclass: bytes) -> _Kind | None:
        """A kind that was not seen before; None if the event has to be decoded."""
        match = _PLACE.fullmatch(place)
        if not _PLAIN.match(name) or not _PLAIN.match(subclass or b"-") or (place and match is None):
            return None
        free = match is None or FREE.match(match[1]) or not name.startswith(PLACED)
        text, sub = name.decode(), subclass.decode()
        head = b'{"event_name":"' + name + b'","timestamp":'
        kind = _Kind(
            sub if "::" in sub else text,
            event_subject(self._prefix, text, sub).encode(),
            head,
            len(head) + 16 + len(self._node_uuid) + len(b'","headers":}'),
            1 if free else SAMPLE,
        )
        if len(self.kinds) < self._most_kinds:
            self.kinds[name + place + b" " + subclass if not place or name == b"CUSTOM" else name + place] = kind
        return kind

    @staticmethod
    def _mended(kind: _Kind, data: bytes, look: bool) -> bytes | None:
        """`data` with each key once, as far as is known; None if only decoding can do that."""
        for each in kind.doubles:
            shorter = cut(data, each)
            if shorter is None:
                return None
            data = shorter
        if kind.unseen < 0:
            kind.learned += 1
            kind.unseen = 0 if kind.learned < LEARNED else kind.sample - 1
        elif not look:
            return data
        repeated = doubled(data)
        for key in repeated:
            shorter = cut(data, needle(key))
            if shorter is None:
                return None
            data = shorter
            if kind.sample > 1 and not key.startswith(b"PD-") and len(kind.doubles) < MAX_DOUBLES:
                kind.doubles += (needle(key),)
        if (repeated and doubled(data)) or b'"_body":' in data:
            return None
        return data

    def reduced(self, raw: RawEvent, most: int) -> Published:
        """The event without its largest parts, which `truncated` names: at most `most` bytes. Raises BadEvent."""
        carried = self.carried
        sizes = {
            name: len(to_utf8(dump_json(value)))
            for name, value in raw.headers.items()
            if name not in KEPT and (carried is None or carried.wants(name))
        }
        size = len(self.slow(raw).payload)
        left_out: list[str] = []
        for name in sorted(sizes, key=lambda each: sizes[each], reverse=True)[:LEFT_OUT]:
            left_out.append(name)
            size -= sizes[name]
            if size <= most and len((published := self.slow(raw, left_out)).payload) <= most:
                return published
        raise BadEvent(f"it is too large without its {len(left_out)} largest parts, too")

    def slow(self, raw: RawEvent, left_out: Sequence[str] = ()) -> Published:
        carried = self.carried
        headers = {
            name: value
            for name, value in raw.headers.items()
            if name not in left_out and (carried is None or carried.wants(name))
        }
        name = headers.get(NAME.name)
        if not isinstance(name, str):
            raise BadEvent(f"it is no JSON object with an Event-Name: {raw.data[:80]!r}")
        body = headers.pop("_body", None)
        stamp = headers.get(STAMP.name)
        event: dict[str, object] = {
            "event_name": name,
            "timestamp": int(stamp) if isinstance(stamp, str) and _DIGITS.match(stamp) else 0,
        }
        if unique := headers.get(UNIQUE.name):
            event["uuid"] = unique
        event["headers"] = headers
        if body is not None:
            event["body"] = body
        if left_out:
            event["truncated"] = ["body" if name == "_body" else name for name in left_out]
        subclass = headers.get(SUBCLASS.name, "") if name == "CUSTOM" else ""
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
            self._identity_of(headers) if self._ids else b"",
        )

    @staticmethod
    def _identity_of(headers: Mapping[str, object]) -> bytes:
        """As `_identity`, of what was decoded: a client may have given the same headers before FreeSWITCH did."""
        core, sequence = str(headers.get(CORE.name, "")).encode(), str(headers.get(SEQUENCE.name, "")).encode()
        return core + b"." + sequence if _PLAIN.match(core) and b" " not in core and sequence.isdigit() else b""


def _identity(event: RawEvent) -> bytes:
    """What tells an event of FreeSWITCH from all others, of all times; b"" if it lacks that."""
    core, sequence = event.scan(CORE), event.scan(SEQUENCE)
    if not core or not sequence or b" " in core or not sequence.isdigit():
        return b""
    return core + b"." + sequence


def _value(key: bytes, keys: list[bytes], parts: list[bytes]) -> bytes:
    """The value of a key, if it is there; `parts` is JSON split at its quotes."""
    return parts[4 * keys.index(key) + 3] if key in keys else b""


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
