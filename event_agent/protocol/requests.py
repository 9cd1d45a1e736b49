"""Requests: bytes from the broker to a `Request`.

No sockets and no threads in here. Whatever a client may send comes out as a Request, as a CommandError whose
message the client is shown, or as None, which means the request is for another node.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, NoReturn

from event_agent.errors import CommandError
from event_agent.protocol.subjects import slug

MAX_REQUEST = 65536  # bytes of one request, checked before parsing


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
