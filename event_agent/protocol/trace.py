"""What a request's headers say of where it belongs: W3C Trace Context, and who sent it. No sockets, no threads.

Sources: https://www.w3.org/TR/trace-context/ (2.2.3 versions, 3.2 traceparent, 3.3 tracestate); nats-server's
ClientInfo, which it puts into `Nats-Request-Info` where a service import has `share`.
What is not valid is ignored: a trace is no reason to refuse a command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

PARENT, STATE, WHO = "traceparent", "tracestate", b"Nats-Request-Info:"
MEMBERS, STATE_SIZE = 32, 512  # of a tracestate: entries, and the characters that have to be handed on
BLOCK = 16384  # bytes of headers that are looked into

_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_*/-]{0,255}(?:@[a-z0-9][a-z0-9_*/-]{0,255})?=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}"
    r"[\x21-\x2b\x2d-\x3c\x3e-\x7e]",
    re.ASCII,
)
# What FreeSWITCH takes as it stands in a variable, whatever reads it there: no `$`, no quotes, no braces.
_PLAIN = re.compile(r"(?!.*:_:)[\w*/@=,.:;+~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Trace:
    """A valid traceparent, and its tracestate, which may be empty."""

    parent: str
    state: str

    @property
    def headers(self) -> dict[str, str]:
        """As they go into what is published."""
        return {PARENT: self.parent, STATE: self.state} if self.state else {PARENT: self.parent}

    @property
    def variables(self) -> dict[str, str]:
        """As they go onto a channel. A tracestate in which FreeSWITCH could read something else is left out."""
        return {name: value for name, value in self.headers.items() if _PLAIN.fullmatch(value)}


def has_trace(block: bytes) -> bool:
    """Whether it is worth to look closer."""
    return b"raceparent" in block or b"RACEPARENT" in block


def trace_of(block: bytes) -> Trace | None:
    """The trace that a block of NATS headers names; None if it has no valid one."""
    if len(block) > BLOCK:
        return None
    parents, states = [], []
    for line in block.decode("latin-1").split("\r\n")[1:]:
        name, _, value = line.partition(":")
        if name.lower() == PARENT:
            parents.append(value.strip(" \t"))
        elif name.lower() == STATE:
            states.append(value)
    if len(parents) != 1 or (found := _PARENT.fullmatch(parents[0])) is None:
        return None
    version, trace, span, flags, rest = found.groups()
    if version == "ff" or (version == "00" and rest) or not trace.strip("0") or not span.strip("0"):
        return None
    if version != "00":  # of a later version we know what this one has
        flags = f"{int(flags, 16) & 1:02x}"
    return Trace(f"00-{trace}-{span}-{flags}", _state(",".join(states)))


def _state(text: str) -> str:
    """The list's members, as many as have room; empty if one is not valid."""
    members = [member for each in text.split(",") if (member := each.strip(" \t"))]
    if len(members) > MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    if len({member.partition("=")[0] for member in members}) < len(members):
        return ""
    while len(state := ",".join(members)) > STATE_SIZE:
        members.pop()
    return state


def sender(block: bytes) -> dict[str, str]:
    """Who sent the request, as the NATS server says: account, user, host, client. Empty if it does not.

    A client that may publish to us directly may write such a header; only a service import replaces it.
    """
    start = block.find(WHO)
    if start < 0 or len(block) > BLOCK:
        return {}
    text = block[start + len(WHO) : block.find(b"\r\n", start)]
    try:
        info = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(info, Mapping):
        return {}
    names = {"account": "acc", "user": "user", "host": "host", "client": "name"}
    return {name: value for name, key in names.items() if isinstance(value := info.get(key), str) and value}
