"""Replies: an outcome to the bytes of a reply. No sockets and no threads in here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring
from typing import Any

MOST_PARTS = 1000  # of one answer
LEAST = 64  # bytes of data in a part; where there is no room for them it is not worth the while
MARKS = b',"part":1000,"parts":1000,"json":true,"data":""}'  # what a part has beside the envelope, at most
ABSENT = object()  # no data at all; None is JSON's null
_HEADS = {True: '{"success":true,"status":"success"', False: '{"success":false,"status":"error"'}


# Made once: json.dumps makes one each time, which costs as much again as a small reply.
_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def dump_json(value: object) -> str:
    """Compact JSON. Raises ValueError for what JSON can't hold."""
    return _encode(value)


def to_utf8(text: str) -> bytes:
    """UTF-8 of `text`; a lone surrogate, which UTF-8 can't hold, becomes a question mark."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace")


class Envelope:
    """Builds replies of one node. Methods may be called from any thread."""

    def __init__(self, node_id: str) -> None:
        self._node = f',"node_id":{encode_basestring(node_id or "unknown")}'

    def reply(
        self,
        ok: bool,
        message: str,
        data: object = ABSENT,
        extra: dict[str, Any] | None = None,
        correlation_id: str | int | float | None = None,
        warnings: Sequence[str] = (),
    ) -> bytes:
        """A reply, a success or an error. `extra` keys stand at the top level, and inside `data` if that is an object.

        An error has no `data` of None. Raises ValueError for data that JSON can't hold.
        """
        # Put together by hand: a reply costs a third of what json.dumps of a dictionary does.
        text = f'{_HEADS[ok]},"message":{encode_basestring(message)},"timestamp":{time.time_ns() // 1000}{self._node}'
        if type(correlation_id) is str:
            text += f',"correlation_id":{encode_basestring(correlation_id)}'
        elif correlation_id is not None:
            text += f',"correlation_id":{dump_json(correlation_id)}'
        if data is not ABSENT and (ok or data is not None):
            if isinstance(data, str):
                text += f',"data":{encode_basestring(data)}'
            else:
                if extra and isinstance(data, dict):
                    data = {**data, **extra}
                text += f',"data":{dump_json(data)}'
        if extra:
            text += "," + dump_json(extra)[1:-1]
        if warnings:
            text += f',"warnings":{dump_json(warnings)}'
        text += "}"
        return text.encode() if text.isascii() else to_utf8(text)

    def parts(
        self,
        most: int,
        ok: bool,
        message: str,
        data: object,
        extra: dict[str, Any] | None = None,
        correlation_id: str | int | float | None = None,
        warnings: Sequence[str] = (),
    ) -> list[bytes]:
        """A reply as several, none of which has more than `most` bytes; each is a reply with a piece of `data`.

        The pieces are put together in the order of `part`. They are those of a string, or of JSON text: then each has
        `json`. Empty if that can't be done: the rest is too long by itself, or there would be more than MOST_PARTS.
        """
        if data is ABSENT or data is None:
            return []
        as_json = not isinstance(data, str)
        if isinstance(data, dict) and extra:
            data = {**data, **extra}
        text = to_utf8(encode_basestring(data if isinstance(data, str) else dump_json(data)))[1:-1]
        head = self.reply(ok, message, ABSENT, extra, correlation_id, warnings)[:-1]
        room = most - len(head) - len(MARKS)
        if room < LEAST or len(text) > MOST_PARTS * (room - LONGEST_ESCAPE):
            return []
        pieces = list(_pieces(text, room))
        mark = b',"json":true' if as_json else b""
        return [
            b'%b,"part":%d,"parts":%d%b,"data":"%b"}' % (head, number, len(pieces), mark, piece)
            for number, piece in enumerate(pieces, 1)
        ]


LONGEST_ESCAPE = 6  # bytes, \\u0000; no character has more in UTF-8


def _pieces(text: bytes, size: int) -> Iterator[bytes]:
    """`text`, of a JSON string, cut where neither a character nor an escape is cut."""
    pos = 0
    while pos < len(text):
        end = min(pos + size, len(text))
        if end < len(text):
            while text[end] & 0xC0 == 0x80:  # within a character
                end -= 1
            end = _before_escape(text, pos, end)
        yield text[pos:end]
        pos = end


def _before_escape(text: bytes, pos: int, end: int) -> int:
    """`end`, or where the escape begins in which it lies; an escape does not begin before `pos`."""
    slash = text.rfind(b"\\", max(pos, end - LONGEST_ESCAPE + 1), end)
    if slash < 0:
        return end
    first = slash
    while first > pos and text[first - 1] == 0x5C:
        first -= 1
    if (slash - first) % 2:  # the second of a pair
        return end
    length = 6 if text[slash + 1] == 0x75 else 2
    return slash if slash + length > end else end
