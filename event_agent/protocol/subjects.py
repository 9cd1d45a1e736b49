"""The grammar of subjects: lanes a node listens on, and where an event goes."""

from __future__ import annotations

import re
from dataclasses import dataclass

LANES = {  # name of an endpoint: what it is for
    "all": "requests that every node takes, unless they name one",
    "node": "requests for this node",
    "node_api": "requests for this node, another spelling",
    "any": "requests that one node takes, of those whose FreeSWITCH is connected",
    "all_verbs": "the same as all, with the command in the subject",
    "node_verbs": "the same as node, with the command in the subject",
    "any_verbs": "the same as any, with the command in the subject",
}
VERBS = "verbs"  # of the setting `lanes`: only what has the command in the subject
BELOW = ".>"  # what comes below a subject, of one token or more
_NOT_SLUG = re.compile(r"[^a-z0-9]")
_NOT_TOKEN = re.compile(r"[^a-z0-9]+")


def slug(node_id: str) -> str:
    """A node id as it stands in a subject: `FS-Node-01` -> `fs_node_01`."""
    return _NOT_SLUG.sub("_", node_id.lower())


def lanes(prefix: str, node_id: str) -> list[tuple[str, str]]:
    """(subject, queue group) of each command lane of a node; no node lane if there is no node id."""
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


def verb_lanes(prefix: str, node_id: str) -> list[tuple[str, str, str]]:
    """(name, subject, queue group) of the lanes that have the command in the subject: `<prefix>.all.<command>`."""
    found = [("all_verbs", f"{prefix}.all{BELOW}", "")]
    if node_id:
        found.append(("node_verbs", f"{prefix}.node.{slug(node_id)}{BELOW}", ""))
    subject, queue = any_lane(prefix)
    return [*found, ("any_verbs", f"{subject}{BELOW}", queue)]


def with_verb(prefix: str, lane: str, command: str) -> str:
    """The subject of a command, of the lane that would be used without it there."""
    return f"{prefix}.all.{command}" if lane == f"{prefix}.api" else f"{lane}.{command}"


def verb_in(prefix_size: int, subject: bytes) -> bytes:
    """What a subject has behind its lane; b"" if it is a lane itself. `prefix_size`: bytes of prefix and dot."""
    lane, _, rest = subject[prefix_size:].partition(b".")
    return rest.partition(b".")[2] if lane in (b"node", b"call") else rest


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A command lane: its name here, and where it listens."""

    name: str
    subject: str
    queue: str
    lane: str  # those of one lane are listened on together: all, node, any
    verbs: bool = False  # the command is in the subject
    optional: bool = False  # nobody has asked for it by a setting


def endpoints_of(prefix: str, node_id: str, chosen: str = "all", wildcards: bool = True) -> list[Endpoint]:
    """The command lanes of a node; those of `any` are the last. `chosen` is the setting `lanes`.

    `wildcards`: whether the broker knows them; without, there are none that have the command in the subject.
    """
    plain = [*zip(LANES, lanes(prefix, node_id), strict=False)]  # no node_id, no node's own
    plain.append(("any", any_lane(prefix)))
    found = [Endpoint(name, *where, name.partition("_")[0]) for name, where in plain if chosen != VERBS]
    if wildcards:
        for name, subject, queue in verb_lanes(prefix, node_id):
            found.append(Endpoint(name, subject, queue, name.partition("_")[0], True, chosen != VERBS))
    return sorted(found, key=lambda each: each.lane == "any")


def is_command_lane(prefix: str, subject: str) -> bool:
    """True for a subject on which some node of this prefix takes commands; a forwarded reply must not go there."""
    lanes_of_many = tuple(f"{prefix}.{name}." for name in ("api", "node", "call", "all", "any"))
    return subject in (f"{prefix}.api", f"{prefix}.any") or subject.startswith(lanes_of_many)


def event_subject(prefix: str, name: str, subclass: str = "") -> str:
    """Subject of an event: CHANNEL_EXECUTE_COMPLETE -> `<prefix>.events.channel.execute.complete`.

    A CUSTOM event adds its subclass: `sofia::register` -> `<prefix>.events.custom.sofia.register`.
    """
    tokens = [_NOT_TOKEN.sub(".", part.lower()).strip(".") for part in (name, subclass)]
    return ".".join([f"{prefix}.events", *filter(None, tokens)])
