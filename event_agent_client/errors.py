"""What can go wrong, as types. All of it is an AgentError; each says whether the command may have been carried out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class AgentError(Exception):
    """Whatever this package raises on purpose.

    `executed` is "no" if the command was not carried out and never will be, so it may be asked again; "unknown" if it
    may have been, be under way, or still come; "" if the question does not arise.
    """

    executed: str = ""


class ConfigError(AgentError):
    """A URL or credentials that can't be used."""


class LinkError(AgentError):
    """The NATS server can't be reached, refused us, or was lost. The client goes on trying."""

    def __init__(self, message: str, executed: str = "no") -> None:
        super().__init__(message)
        self.executed = executed


class NoAgent(AgentError):
    """No agent listens there, or none is ready: nothing was carried out (unless `executed` says "unknown")."""

    def __init__(self, message: str, executed: str = "no") -> None:
        super().__init__(message)
        self.executed = executed


class NotAllowed(NoAgent):
    """The NATS server does not let us send there, or listen there."""


class NoReply(AgentError):
    """No reply came in time, or it can't come any more. The command may have been carried out."""

    executed = "unknown"


class CommandFailed(AgentError):
    """The reply says `success: false`; `reply` is all of it."""

    def __init__(self, message: str, reply: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.reply: Mapping[str, Any] = reply or {}
        self.executed = str(self.reply.get("executed", ""))


class Refused(CommandFailed):
    """The request is wrong, or not allowed by the agent's lists; `field` is the one that is wrong, "" if it is none.

    Also for what can't be subscribed to.
    """

    def __init__(self, message: str, reply: Mapping[str, Any] | None = None, field: str = "") -> None:
        super().__init__(message, reply)
        self.field = field
        self.executed = "no"


class CallFailed(CommandFailed):
    """The call was not answered; `cause` is FreeSWITCH's word for why."""

    def __init__(self, cause: str, reply: Mapping[str, Any] | None = None) -> None:
        super().__init__(cause, reply)
        self.cause = cause


class Busy(CallFailed):
    """USER_BUSY."""


class NoAnswer(CallFailed):
    """It rang, or should have, and nobody answered in time."""


class NotRegistered(CallFailed):
    """No telephone is registered there now."""


class NoRoute(CallFailed):
    """There is no way to that number: no route, no gateway, not a number."""


class Hangup(AgentError):
    """The call has ended; `cause` is FreeSWITCH's word for why, "unknown" if its end was not seen."""

    def __init__(self, cause: str) -> None:
        super().__init__(f"the call has ended: {cause}")
        self.cause = cause
        self.executed = "unknown"


class NoInput(AgentError):
    """The caller has not dialled what was asked for, in all tries."""


_CAUSES: dict[str, type[CallFailed]] = {
    **dict.fromkeys(("USER_BUSY",), Busy),
    **dict.fromkeys(
        ("NO_ANSWER", "NO_USER_RESPONSE", "ALLOTTED_TIMEOUT", "PROGRESS_TIMEOUT", "MEDIA_TIMEOUT"), NoAnswer
    ),
    **dict.fromkeys(("USER_NOT_REGISTERED", "SUBSCRIBER_ABSENT"), NotRegistered),
    **dict.fromkeys(
        (
            "NO_ROUTE_DESTINATION", "NO_ROUTE_TRANSIT_NET", "UNALLOCATED_NUMBER", "INVALID_NUMBER_FORMAT",
            "INVALID_GATEWAY", "GATEWAY_DOWN", "INVALID_URL", "INVALID_PROFILE", "CHAN_NOT_IMPLEMENTED",
            "NETWORK_OUT_OF_ORDER", "DESTINATION_OUT_OF_ORDER",
        ),
        NoRoute,
    ),
}  # fmt: skip


def call_failed(cause: str, reply: Mapping[str, Any] | None = None) -> CallFailed:
    """The error for a call that was not answered."""
    return _CAUSES.get(cause, CallFailed)(cause, reply)
