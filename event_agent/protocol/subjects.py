"""The grammar of subjects: lanes a node listens on, and where an event goes."""

from __future__ import annotations

import re
from dataclasses import dataclass

LANES = {  # name of an endpoint: what it is for
    "all": "requests that every node takes, unless they name one",
    "node": "requests for this node",
    "node_api": "requests for this node, another spelling",
    "any": "requests that one node takes, of those whose FreeSWITCH is connected",
}
_NOT_SLUG = re.compile(r"[^a-z0-9]")
_NOT_TOKEN = re.compile(r"[^a-z0-9]+")


def slug(node_id: str) -> str:
    """A node id as it stands in a subject: `FS-Node-01` -> `fs_node_01`."""
    return _NOT_SLUG.sub("_", node_id.lower())


def lanes(prefix: str, node_id: str) -> list[tuple[str, str]]:
    """(subject, queue group) of each command lane of a node; no node lane where there is no node id."""
    found = [(f"{prefix}.api", "")]
    if node_id:
        name = slug(node_id)
        found += [(f"{prefix}.node.{name}", ""), (f"{prefix}.api.{name}", "")]
    return found


def any_lane(prefix: str) -> tuple[str, str]:
    """(subject, queue group) of the lane on which exactly one healthy node takes each request."""
    return f"{prefix}.any", f"{prefix}.any"


def call_lane(prefix: str, uuid: str) -> str:
    """The lane of one channel, which the node that has it listens on."""
    return f"{prefix}.call.{uuid}"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A command lane: its name here, and where it listens."""

    name: str
    subject: str
    queue: str


def endpoints_of(prefix: str, node_id: str) -> list[Endpoint]:
    """The command lanes of a node; `any` is the last."""
    named = [*zip(LANES, lanes(prefix, node_id), strict=False)]  # no node_id, no node's own
    named.append(("any", any_lane(prefix)))
    return [Endpoint(name, subject, queue) for name, (subject, queue) in named]


def is_command_lane(prefix: str, subject: str) -> bool:
    """True for a subject on which some node of this prefix takes commands; a forwarded reply must not go there."""
    lanes_of_many = (f"{prefix}.api.", f"{prefix}.node.", f"{prefix}.call.")
    return subject in (f"{prefix}.api", f"{prefix}.any") or subject.startswith(lanes_of_many)


def event_subject(prefix: str, name: str, subclass: str = "") -> str:
    """Subject of an event: CHANNEL_EXECUTE_COMPLETE -> `<prefix>.events.channel.execute.complete`.

    A CUSTOM event adds its subclass: `sofia::register` -> `<prefix>.events.custom.sofia.register`.
    """
    tokens = [_NOT_TOKEN.sub(".", part.lower()).strip(".") for part in (name, subclass)]
    return ".".join([f"{prefix}.events", *filter(None, tokens)])
