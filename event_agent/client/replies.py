"""Errors of the first edition's client, and a request's payload.

What a reply stands for is known in event_agent_client, once for both clients. Here it becomes an error of
`event_agent.errors`, as programs catch it since 1.0, which is one of event_agent_client as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from event_agent.drivers.base import Message
from event_agent.errors import AgentError
from event_agent_client import errors, replies
from event_agent_client.parts import Parts

Reply = dict[str, Any]


class NoAgent(AgentError, errors.NoAgent):
    """Nobody listens where the request went: no agent runs there, or it goes by another name or prefix."""


class NotAllowed(NoAgent, errors.NotAllowed):
    """The NATS server does not let us send there; whether anybody listens is not known."""


class NoneReady(NoAgent):
    """There are agents, and none of them should get it."""


class AgentTimeout(AgentError, errors.NoReply):
    """No reply came in time. The command may have been executed all the same."""


class CommandFailed(AgentError, errors.CommandFailed):
    """The reply says `success: false`. `reply` is all of it."""

    reply: Reply

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply.get("message", "the command failed")), reply)


def payload_of(
    command: str, args: str | None, fields: Mapping[str, Any] | None, more: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields of a request."""
    payload: dict[str, Any] = {"command": command}
    if args is not None:
        payload["args"] = args
    return payload | dict(fields or {}) | dict(more)


def acknowledging(message: Message | AgentError) -> str:
    """The name of the JetStream stream that says by this message that it has stored the request; "" for any other."""
    return "" if isinstance(message, AgentError) else replies.acknowledging(message.data)


def decoded(message: Message | AgentError, lane: str, parts: Parts) -> Reply | None:
    """The reply in a message, None if it is a part of one that is not whole yet. Raises what it stands for."""
    if isinstance(message, AgentError):
        raise message
    try:
        return parts.add(replies.reply_of(message.headers, message.data, lane))
    except errors.NoAgent as error:
        raise NoAgent(str(error)) from None
    except errors.CommandFailed as error:
        raise CommandFailed({**error.reply, "success": False, "status": "error", "message": str(error)}) from None


def lane_of_one(prefix: str, statuses: Sequence[Reply]) -> str:
    """The subject of one ready node, of those whose agent.status these are. Raises NoneReady: why there is none."""
    try:
        return replies.lane_of_one(prefix, statuses)
    except errors.NoAgent as error:
        raise NoneReady(str(error)) from None
