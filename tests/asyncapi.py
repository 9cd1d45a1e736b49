"""docs/asyncapi.yaml and the schemas it names, ready to hold messages against.

Requests are held against the schemas as they stand: what a command does not know is ignored. Replies and events may
hold what the schemas name and nothing else, so a key that is new in the code and not in the schemas is found; readers
of the documents are told to expect further keys.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.console import in_use

DOCS = Path(__file__).resolve().parent.parent / "docs"
ANNOUNCED = {
    "AGENT_CONNECTED": "agentConnected", "AGENT_DISCONNECTED": "agentDisconnected", "AGENT_GAP": "agentGap",
    "AGENT_STOPPING": "agentStopping",
    "AGENT_READINESS": "agentReadiness", "AGENT_HEARTBEAT": "agentHeartbeat",
    "AGENT_CHANNEL_GONE": "agentChannelGone", "AGENT_CHANNEL_FOUND": "agentChannelFound",
    "CDR": "callRecord",
}  # fmt: skip


@cache
def document() -> Any:
    """docs/asyncapi.yaml."""
    return yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))


@cache
def schemas(name: str) -> Any:
    """docs/schemas/<name>.json."""
    return json.loads((DOCS / "schemas" / f"{name}.json").read_text(encoding="utf-8"))


@cache
def commands() -> dict[str, str]:
    """Command -> the definition of its request and its reply, for all but API verbs."""
    found = {}
    for name, definition in schemas("request")["definitions"].items():
        for part in definition.get("allOf", ()):
            if command := part.get("properties", {}).get("command", {}).get("const"):
                found[command] = name
    return found


def definition_of(request: Any) -> str:
    """Which definition a request is to fit."""
    command = request.get("command") if isinstance(request, dict) else None
    return commands().get(command, "apiVerb") if isinstance(command, str) else "apiVerb"


def closed(schema: Any) -> Any:
    """The schema with no room for keys it does not name."""
    if isinstance(schema, list):
        return [closed(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if found.get("type") == "object" and "properties" in found:
        found.setdefault("additionalProperties", False)
    return found


@cache
def _validator(file: str, definition: str) -> Any:
    document = schemas(file)
    if file != "request":
        document = closed(document)
    ref = {"$ref": f"#/definitions/{definition}"} if definition else {"oneOf": document["oneOf"]}
    return jsonschema.Draft7Validator({**ref, "definitions": document["definitions"]})


def _faults(file: str, definition: str, value: Any) -> Iterator[str]:
    for error in _validator(file, definition).iter_errors(value):
        yield f"{file}.json, {definition or 'any'}: {error.json_path}: {error.message[:300]}"


def request_faults(request: Any) -> list[str]:
    """What is wrong with a request."""
    return list(_faults("request", definition_of(request), request))


def taken_apart(request: Any) -> bool:
    """True for a request whose fields the agent makes of its `args`: what is in there a schema can't say."""
    if not isinstance(request, dict) or not isinstance(request.get("args"), str):
        return False
    command = next((each for each in COMMANDS if each.name == request.get("command")), None)
    return command is not None and bool(command.console) and in_use(command, request)


def reply_faults(reply: Any, request: Any = None) -> list[str]:
    """What is wrong with a reply; to `request`, where it is known."""
    if isinstance(reply, dict) and "parts" in reply:
        return list(_faults("reply", "part", reply))
    if isinstance(reply, dict) and reply.get("success") is not True:
        return list(_faults("reply", "error", reply))
    return list(_faults("reply", "" if request is None else definition_of(request), reply))


def event_faults(event: Any) -> list[str]:
    """What is wrong with an event."""
    name = event.get("event_name") if isinstance(event, dict) else None
    return list(_faults("event", ANNOUNCED.get(str(name), "freeswitch"), event))


def discovery_faults(reply: Any) -> list[str]:
    """What is wrong with an answer to $SRV.PING, .INFO or .STATS; nothing with another service's."""
    if isinstance(reply, dict) and reply.get("name") != "event-agent":
        return []
    kind = str(reply.get("type")) if isinstance(reply, dict) else ""
    return list(_faults("discovery", kind.rpartition(".")[2].removesuffix("_response") or "ping", reply))


# Refusals that a schema can't foresee: what counts bytes, braces or work, and what depends on the agent's settings.
BEYOND_SCHEMA = re.compile(
    "forward_to must not be a command lane"
    "|variables: .* can't hold (unbalanced braces|:_:)"
    "|(endpoint|extension|destination|context|dialplan|caller_id_name|caller_id_number) can't (hold|be) "
    "|(endpoint|variables): .* (is set by the agent only|must contain only letters, digits and _ . : @ -)"
    "|uuid is not the origination_uuid in |.*: FreeSWITCH would crash"
    "|variables must be 32768 characters or fewer together"
    "|(to|events_to|subject) must not be a command lane|uuid can't be part of a subject|events must name events of "
    "|events_to must come with uuid: "
    "|event (must be one that FreeSWITCH has|can't be )|subclass is for event CUSTOM only|headers can't hold "
    "|number must (be a regular expression|be a simpler regular expression|not repeat what may be empty)"
)
_CHECKS = (" must ", "Missing 'command' string")


def refused_by_a_check(reply: Any) -> bool:
    """True for an error reply of which the schemas should have told."""
    if not isinstance(reply, dict):
        return False
    message = str(reply.get("message"))
    if reply.get("success") is not False or "data" in reply or BEYOND_SCHEMA.match(message):
        return False
    # Lone surrogates, which JSON can spell and UTF-8 can't hold, are another thing in each language's patterns.
    return any(each in message for each in _CHECKS) and not message.endswith("must be valid Unicode text")
