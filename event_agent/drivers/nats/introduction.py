"""CONNECT: what we say of ourselves to a NATS server, and what it means when it refuses that."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

from event_agent import __version__
from event_agent.drivers.nats.auth import Credentials
from event_agent.drivers.nats.wire import CONTROL_LINE, TOO_LONG
from event_agent.errors import LinkError, NotAuthorized

# What a server says to a client that it does not know. Source: nats-server, errors.go.
NOT_LET_IN = frozenset(
    (
        "authorization violation", "user authentication expired", "user authentication revoked",
        "account authentication expired", "authentication expired", "authentication timeout",
    )
)  # fmt: skip


class Introduction:
    """Name and credentials of one client; those of the settings win over those of the URL."""

    def __init__(self, name: str, user: str | None, password: str | None, credentials: Credentials) -> None:
        """`user` and `password` as they stand in the URL; a user alone is a token."""
        self._name = name
        self._user, self._password = user, password
        self._credentials = credentials
        self._size = 0  # bytes of CONNECT
        self._shown = ""  # by what we say who we are, in the words of the settings

    def text(self, info: dict[str, Any]) -> str:
        """CONNECT's JSON, for a server that sent this INFO. Raises LinkError."""
        options: dict[str, Any] = {
            "name": self._name,
            "lang": "python-event-agent",
            "version": __version__,
            "protocol": 1,
            "headers": bool(info.get("headers")),
            "no_responders": bool(info.get("headers")),
            "verbose": False,
            "pedantic": False,
        }
        self._shown = ""
        if self._user and self._password is not None:
            self._shown = "the user and password in url"
            options |= {"user": unquote(self._user), "pass": unquote(self._password)}
        elif self._user:
            self._shown = "the token in url"
            options["auth_token"] = unquote(self._user)
        options |= self._credentials.connect_fields(info)
        self._shown = self._credentials.setting or self._shown
        text = json.dumps(options)
        self._size = len(text)
        return text

    def explained(self, words: str) -> LinkError:
        """What a server says, with the reason if that is our CONNECT."""
        said = words.casefold()
        if said == TOO_LONG and self._size > CONTROL_LINE:
            return LinkError(f"{words}: CONNECT has {self._size} bytes (token or JWT); raise max_control_line there")
        if said not in NOT_LET_IN:
            return LinkError(words)
        if not self._shown:
            return NotAuthorized("no credentials are set (token, nkey_seed, creds)")
        return NotAuthorized(f"it does not take {self._shown} ({words})")
