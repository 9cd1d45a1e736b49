"""The exception tree: who is told of a fault, and how.

ConfigError   ends the start, one line a fault, exit code 2.
LinkError     is retried by the thread that owns the link.
CommandError  becomes an error reply to the client.
BadCommand    is a fault of ours: a text that is not one command to FreeSWITCH. It is never sent.
"""

from __future__ import annotations

from collections.abc import Sequence


class AgentError(Exception):
    """Whatever this program raises on purpose."""


class ConfigError(AgentError):
    """The configuration can't be used. `faults` holds one line for each thing wrong with it.

    `log_format` is how they are to be written: what the configuration says of that, as far as it could be read.
    """

    def __init__(self, faults: Sequence[str], log_format: str = "text") -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)
        self.log_format = log_format


class LinkError(AgentError):
    """A peer can't be reached, refused us or broke off; trying again later may help."""


class Frozen(LinkError):
    """The peer holds the connection and does not answer: other connections to it are stuck as well."""


class NotAuthorized(LinkError):
    """The peer is there and does not let us in. `why` says what of ours it does not take."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the server refused us: {why}")
        self.why = why


class GaveUp(LinkError):
    """The peer was tried as often as the settings allow; it is not tried again."""


class BadCommand(AgentError):
    """A text that would not be exactly one command to FreeSWITCH."""

    def __init__(self, fault: str) -> None:
        super().__init__(f"This would not be exactly one command to FreeSWITCH: it has {fault}")


class CommandError(AgentError):
    """A command was refused or failed. `message` goes to the caller, `data` too if there is some.

    `field` is the one of the request that is refused, "" if it is none.
    """

    def __init__(self, message: str, data: object = None, *, field: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.data = data
        self.field = field
