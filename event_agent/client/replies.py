"""A request's payload and its reply, as a client has them; and what the reply stands for where it is none."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from event_agent.drivers.base import Message
from event_agent.errors import AgentError

Reply = dict[str, Any]


class NoAgent(AgentError):
    """Nobody listens where the request went: no agent runs there, or it goes by another name or prefix."""


class NotAllowed(NoAgent):
    """The NATS server does not let us send there; whether anybody listens is not known."""


class NoneReady(NoAgent):
    """There are agents, and none of them should get it."""


class AgentTimeout(AgentError):
    """No reply came in time. The command may have been executed all the same."""


class CommandFailed(AgentError):
    """The reply says `success: false`. `reply` is all of it."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.get("message", "the command failed")))
        self.reply = reply


def payload_of(
    command: str, args: str | None, fields: Mapping[str, Any] | None, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a request."""
    payload: dict[str, Any] = {"command": command}
    if args is not None:
        payload["args"] = args
    return payload | dict(fields or {}) | dict(more)


def acknowledging(message: Message | AgentError) -> str:
    """The name of the JetStream stream that says by this message that it has stored the request; "" for any other.

    A stream whose subjects include command lanes answers what comes there, beside all others. Source: nats-server,
    JSPubAckResponse: `stream` and `seq`, or `stream` and `error`; a reply of ours has `success`.
    """
    if isinstance(message, AgentError) or b'"stream"' not in message.data or b'"success"' in message.data:
        return ""
    try:
        found = json.loads(message.data)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict) or not isinstance(stream := found.get("stream"), str):
        return ""
    return stream if isinstance(found.get("seq"), int) or isinstance(found.get("error"), dict) else ""


def decoded(message: Message | AgentError, lane: str) -> Reply:
    """The reply in a message. Raises what it stands for."""
    if isinstance(message, AgentError):
        raise message
    if not message.data and message.headers.startswith(b"NATS/1.0 503"):
        raise NoAgent(f"no agent listens on {lane}")
    try:
        reply = json.loads(message.data)
    except (ValueError, RecursionError):
        reply = None
    if not isinstance(reply, dict):
        raise CommandFailed({"success": False, "status": "error", "message": "the reply is no JSON object"})
    return reply
