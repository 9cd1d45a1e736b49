"""Requests and replies: bytes from the broker to a `Request`, an outcome to the bytes of a reply.

No sockets and no threads in here. Whatever a client may send comes out as a Request, as a CommandError whose
message the client is shown, or as None, which means the request is for another node.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass
from json.encoder import encode_basestring
from typing import Any, NoReturn

from event_agent.errors import CommandError
from event_agent.protocol.subjects import slug

MAX_REQUEST = 65536  # bytes of one request, checked before parsing
_ABSENT = object()


@dataclass(slots=True)
class Request:
    """One request, its common fields checked."""

    command: str
    payload: dict[str, Any]
    run_async: bool = False
    forward_to: str = ""
    correlation_id: str | int | float | None = None


class BadRequest(CommandError):
    """A request refused before its command is known; it may have said how the reply is to be marked."""

    def __init__(self, message: str, correlation_id: str | int | float | None = None) -> None:
        super().__init__(message)
        self.correlation_id = correlation_id


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


_decode = json.JSONDecoder(parse_constant=_no_constant).decode


def parse_request(data: bytes, our_slug: str) -> Request | None:
    """The request in `data`, or None when it names another node. Raises BadRequest."""
    if len(data) > MAX_REQUEST:
        raise BadRequest(f"Payload too large ({len(data)} bytes, at most {MAX_REQUEST})")
    if not data:
        raise BadRequest("Empty payload")
    try:
        payload = _decode(data.decode())
    except (ValueError, RecursionError):  # bad UTF-8, bad JSON, or brackets nested without end
        raise BadRequest("Invalid JSON payload") from None
    if not isinstance(payload, dict):
        raise BadRequest("Payload must be a JSON object")
    get = payload.get
    node_id = get("node_id", "")
    if node_id != "":  # an empty one names nobody, as a template with no value filled in
        if not isinstance(node_id, str):
            raise BadRequest("node_id must be a string")
        if slug(node_id) != our_slug:
            return None
    correlation_id = get("correlation_id")
    if correlation_id is not None and (
        not isinstance(correlation_id, (str, int, float))
        or isinstance(correlation_id, bool)
        or correlation_id in (math.inf, -math.inf)  # 1e400: JSON can spell what a reply could not
    ):
        raise BadRequest("correlation_id must be a string or a number")
    command = get("command")
    if not isinstance(command, str) or not command:
        raise BadRequest("Missing 'command' string", correlation_id)
    run_async = get("async", False)
    if not isinstance(run_async, bool):
        raise BadRequest("async must be true or false", correlation_id)
    forward_to = get("forward_to", "")
    if not isinstance(forward_to, str):
        raise BadRequest("forward_to must be a plain subject", correlation_id)
    return Request(command, payload, run_async, forward_to, correlation_id)


def dump_json(value: object) -> str:
    """Compact JSON. Raises ValueError for what JSON can't hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)


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

    def success(
        self,
        message: str,
        data: object = _ABSENT,
        extra: dict[str, Any] | None = None,
        correlation_id: str | int | float | None = None,
    ) -> bytes:
        """A success reply. `extra` keys stand at the top level, and inside `data` where that is an object."""
        return self._reply('{"success":true,"status":"success"', message, data, extra, correlation_id)

    def error(
        self, message: str, data: object = None, correlation_id: str | int | float | None = None
    ) -> bytes:
        """An error reply; `data` None leaves the key out."""
        return self._reply(
            '{"success":false,"status":"error"', message, _ABSENT if data is None else data, None, correlation_id
        )

    def _reply(
        self,
        head: str,
        message: str,
        data: object,
        extra: dict[str, Any] | None,
        correlation_id: str | int | float | None,
    ) -> bytes:
        # Put together by hand: a reply costs a third of what json.dumps of a dictionary does.
        text = f'{head},"message":{encode_basestring(message)},"timestamp":{time.time_ns() // 1000}{self._node}'
        if correlation_id is not None:
            text += f',"correlation_id":{dump_json(correlation_id)}'
        if data is not _ABSENT:
            if isinstance(data, str):
                text += f',"data":{encode_basestring(data)}'
            else:
                if extra and isinstance(data, dict):
                    data = {**data, **extra}
                text += f',"data":{dump_json(data)}'
        if extra:
            text += "," + dump_json(extra)[1:-1]
        return to_utf8(text + "}")
