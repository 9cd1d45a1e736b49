"""Requests: bytes from the broker to a `Request`. The fields that all commands have in common are declared here.

No sockets and no threads in here. Whatever a client may send comes out as a Request, as a CommandError whose
message the client is shown, or as None, which means the request is for another node.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, NoReturn

from event_agent.errors import CommandError
from event_agent.protocol.subjects import slug
from event_agent.protocol.validation import ANY, Field, boolean, scalar, string, subject

MAX_NODE_ID = 255  # characters; a node's own is no longer, and the slug of 50,000 costs 3 ms
MAX_REQUEST = 65536  # bytes of one request, checked before parsing

COMMAND = string("command", 1, form=ANY, help="a command of this page, or any FreeSWITCH API verb")
ARGS = string(
    "args", help="the arguments of an API verb, passed as they are. FreeSWITCH itself drops blanks at both ends"
).optional("")
NODE_ID = string(
    "node_id", form=ANY,
    help="only this node takes the request. Compared as in subjects: `FS-Node-01` and `fs_node_01` are the same. "
    "Empty: as if absent",
).optional("")  # fmt: skip
ASYNC = boolean(
    "async", help="if true, the command is executed and no reply is sent. Errors are in the agent's log"
).optional(False)
FORWARD_TO = subject(
    "forward_to",
    help="the reply's very bytes are also published on this subject, with or without `async`. Not a command lane",
).optional("")
CORRELATION_ID = scalar("correlation_id", help="stands in the reply with the same value. null is as if absent")
COMMON: tuple[Field[Any], ...] = (COMMAND, ARGS, NODE_ID, ASYNC, FORWARD_TO, CORRELATION_ID.optional(None))


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
    correlation_id = None
    try:
        # What is plainly right is not asked of the field: that costs more.
        node_id = get("node_id", "")
        if type(node_id) is not str:
            NODE_ID(payload)
        # An empty one names nobody, as a template with no value filled in.
        if node_id and (len(node_id) > MAX_NODE_ID or slug(node_id) != our_slug):
            return None
        given = get("correlation_id")
        if given is not None and type(given) is not str and type(given) is not int:
            CORRELATION_ID(payload)
        correlation_id = given
        command = get("command")
        if type(command) is not str or not command:
            raise CommandError("Missing 'command' string")
        run_async = get("async", False)
        if run_async is not False and run_async is not True:
            ASYNC(payload)
    except CommandError as error:
        raise BadRequest(error.message, correlation_id) from None
    forward_to = get("forward_to", "")
    if not isinstance(forward_to, str):  # what it says is checked when the command is known, which the audit log names
        raise BadRequest("forward_to must be a plain subject", correlation_id)
    return Request(command, payload, run_async, forward_to, correlation_id)
