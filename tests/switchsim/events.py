"""Events and how they look on the wire: plain, JSON, XML.

Owns the value `Event` and its serialisation; no threads, no sockets. An event is never changed after it was fired,
so each form is made once, however many connections receive it.

Text is `str` in which bytes that are not UTF-8 stand as lone surrogates; what came in goes out again byte for byte.
Source of the forms: FreeSWITCH's switch_event.c and the recorded conversations in tests/fixtures/event-socket.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Final

Value = str | list[str]
Headers = list[tuple[str, Value]]

FORMATS: Final = ("plain", "json", "xml")


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def to_text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


_UNSAFE: Final = re.compile(rb"""%(?![0-9A-F]{2})|[\x00-\x20\x7f-\xff#&+:;<=>?@\[\\\]^`{|}"]""")
_HEX: Final = [b"%%%02X" % code for code in range(256)]


def url_encode(text: str) -> bytes:
    """As FreeSWITCH does it: what looks encoded already (`%41`) stays, commas and slashes stay, blanks are %20."""
    return _UNSAFE.sub(lambda match: _HEX[match.group()[0]], to_bytes(text))


def flat(value: Value) -> str:
    """A header as one text; several values are FreeSWITCH's array form."""
    if isinstance(value, str):
        return value
    return value[0] if len(value) == 1 else "ARRAY::" + "|:".join(value)


def header_value(text: str) -> Value:
    """The value a header text stands for: `ARRAY::a|:b` is a list."""
    return text[len("ARRAY::") :].split("|:") if text.startswith("ARRAY::") else text


def _json_text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _json_value(value: Value) -> str:
    if isinstance(value, str):
        return _json_text(value)
    return "[" + ",".join(map(_json_text, value)) + "]"


_XML_TEXT: Final = {ord("&"): "&amp;", ord("<"): "&lt;", ord(">"): "&gt;", ord("\r"): "&#xD;"}


class Event:
    """One event: its name, its headers in order (a name may stand twice), its body if it has one."""

    __slots__ = ("_framed", "_index", "body", "headers", "name", "subclass")

    def __init__(self, name: str, headers: Iterable[tuple[str, Value]], body: str | None = None) -> None:
        self.name = name
        self.headers: Headers = [(key, value) for key, value in headers if value]  # an empty header does not exist
        self.body = body
        self._index: dict[str, Value] | None = None
        self._framed: dict[str, bytes] = {}
        self.subclass = (self.get("Event-Subclass") or None) if name == "CUSTOM" else None

    def get(self, name: str) -> str | None:
        """The first header of that name, whatever its case."""
        if self._index is None:
            index: dict[str, Value] = {}
            for key, value in self.headers:
                index.setdefault(key.lower(), value)
            self._index = index
        found = self._index.get(name.lower())
        return None if found is None else flat(found)

    def plain(self, *, encode: bool = True) -> bytes:
        def shown(value: Value) -> bytes:
            return url_encode(flat(value)) if encode else b"[" + to_bytes(flat(value)) + b"]"

        head = b"".join(b"%s: %s\n" % (to_bytes(name), shown(value)) for name, value in self.headers)
        if not self.body:
            return head + b"\n"
        body = to_bytes(self.body)
        return b"%sContent-Length: %d\n\n%s" % (head, len(body), body)

    def json(self) -> bytes:
        members = [f"{_json_text(name)}:{_json_value(value)}" for name, value in self.headers]
        if self.body is not None:
            members.append(f'"Content-Length":"{len(to_bytes(self.body))}"')
            members.append(f'"_body":{_json_text(self.body)}')
        return to_bytes("{" + ",".join(members) + "}")

    def xml(self) -> bytes:
        lines = [b"<event>", b"  <headers>"]
        for name, value in self.headers:
            tag = to_bytes(name)
            for one in [value] if isinstance(value, str) else value:
                lines.append(b"    <%s>%s</%s>" % (tag, url_encode(one), tag))
        lines.append(b"  </headers>")
        if self.body:
            lines.append(b"  <Content-Length>%d</Content-Length>" % len(to_bytes(self.body)))
            lines.append(b"  <body>%s</body>" % to_bytes(self.body.translate(_XML_TEXT)))
        lines.append(b"</event>\n")
        return b"\n".join(lines)

    def framed(self, form: str) -> bytes:
        """The event as a message of the event socket, in one of FORMATS."""
        if form not in self._framed:
            text = self.json() if form == "json" else self.xml() if form == "xml" else self.plain()
            self._framed[form] = b"Content-Length: %d\nContent-Type: text/event-%s\n\n%s" % (
                len(text),
                form.encode(),
                text,
            )
        return self._framed[form]
