"""Requests: bytes from the broker to a `Request`. The fields that all commands have in common are declared here.

No sockets and no threads in here. Whatever a client may send becomes a Request, a CommandError whose message the client
is shown, or False, which means the request is for another node.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NoReturn

from event_agent.errors import CommandError
from event_agent.protocol.subjects import slug
from event_agent.protocol.validation import ANY, Field, boolean, scalar, strict_subject, string, subject

MAX_NODE_ID = 255  # characters; a node's own is no longer, and the slug of 50,000 costs 3 ms
MAX_REQUEST = 65536  # bytes of one request, checked before parsing
MAX_VERB = 255  # characters of a command in a subject

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
PARTS = boolean(
    "parts",
    help="if true, an answer that is over the NATS server's max_payload comes in [several replies](#long-answers)",
).optional(False)
CORRELATION_ID = scalar("correlation_id", help="stands in the reply with the same value. null is as if absent")
COMMON: tuple[Field[Any], ...] = (COMMAND, ARGS, NODE_ID, ASYNC, FORWARD_TO, PARTS, CORRELATION_ID.optional(None))


class Request:
    """The fields that all requests have in common, checked; `payload` has all of them as they came.

    What stands here is what is known of a request that was not read, or is refused.
    """

    command: str = ""
    verb: bytes = b""  # what stands in the subject behind the lane
    payload: Mapping[str, Any] = MappingProxyType({})
    run_async: bool = False
    parts: bool = False
    forward_to: str = ""
    correlation_id: str | int | float | None = None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


WHITE = " \t\r\n"  # what may stand around JSON
_decode = json.JSONDecoder(parse_constant=_no_constant).raw_decode


def read_request(request: Request, data: bytes, our_slug: str) -> bool:
    """Fill in what `data` says; False if it names another node. Raises CommandError.

    Then at most `correlation_id` is filled in, by which the refusal is marked.
    """
    if len(data) > MAX_REQUEST:
        raise CommandError(f"Payload too large ({len(data)} bytes, at most {MAX_REQUEST})")
    if not data:
        if not request.verb:
            raise CommandError("Empty payload")
        data = b"{}"
    try:
        text = data.decode().strip(WHITE)
        payload, end = _decode(text)  # half of what `decode` costs, which looks for the white space by itself
    except (ValueError, RecursionError):  # bad UTF-8, bad JSON, or brackets nested without end
        raise CommandError("Invalid JSON payload") from None
    if end != len(text):
        raise CommandError("Invalid JSON payload")
    if not isinstance(payload, dict):
        raise CommandError("Payload must be a JSON object")
    # What is plainly right is not asked of the field, and what is absent is not asked for: that costs more.
    if "node_id" in payload:
        node_id = payload["node_id"]
        if type(node_id) is not str:
            NODE_ID(payload)
        # An empty one names nobody, as a template with no value filled in.
        if node_id and (len(node_id) > MAX_NODE_ID or slug(node_id) != our_slug):
            return False
    if "correlation_id" in payload:
        given = payload["correlation_id"]
        if given is not None and type(given) is not str and type(given) is not int:
            CORRELATION_ID(payload)
        request.correlation_id = given
    if request.verb:
        payload["command"] = _command_of(request.verb, payload)
    command = payload.get("command")
    if type(command) is not str or not command:
        raise CommandError("Missing 'command' string", field="command")
    run_async, forward_to = False, ""
    if "async" in payload:
        run_async = payload["async"]
        if run_async is not False and run_async is not True:
            ASYNC(payload)
    if "forward_to" in payload:
        forward_to = payload["forward_to"]
        if not isinstance(forward_to, str):  # what it says is checked when the command is known
            raise CommandError("forward_to must be a plain subject", field="forward_to")
    if "parts" in payload:
        parts = payload["parts"]
        if parts is not False and parts is not True:
            PARTS(payload)
        request.parts = parts
    request.command, request.payload = command, payload
    request.run_async, request.forward_to = run_async, forward_to
    return True


def _command_of(verb: bytes, payload: Mapping[str, Any]) -> str:
    """The command that stands in a subject. Raises CommandError if it is none, or not that of the payload."""
    try:
        name = verb.decode()
    except UnicodeDecodeError:
        raise CommandError("The command in the subject is not UTF-8") from None
    if len(name) > MAX_VERB:
        raise CommandError(f"The command in the subject must have at most {MAX_VERB} characters")
    if not strict_subject(name):
        raise CommandError("The command in the subject must have no empty part, wildcard, or control character")
    if payload.get("command", name) != name:
        raise CommandError(f"command must be absent, or '{name}' as in the subject", field="command")
    return name
