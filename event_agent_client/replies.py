"""A message -> a Reply, or the error that it stands for; and whom a request is for when nobody listens on `any`."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from event_agent_client._wire import status_of
from event_agent_client.errors import CallFailed, CommandFailed, Hangup, NoAgent, Refused, call_failed
from event_agent_client.subjects import UNNAMED, all_lane, node_lane, slug

AWAY = "not connected"

# Commands that change nothing, so that several nodes may be given the same.
ASKING = frozenset(
    """acl create_uuid domain_exists echo global_getvar hostname is_lan_addr list_users md5 module_exists regex show
    status strepoch strftime strftime_tz switchname uptime url_decode url_encode user_data user_exists uuid_dump
    uuid_exists uuid_getvar version agent.status dialplan.status""".split()
)


def is_question(command: object) -> bool:
    """Whether a request with this command only asks, whatever its arguments are."""
    return isinstance(command, str) and command.lower() in ASKING


class Reply(dict[str, Any]):
    """A reply as it came, with names for what all have."""

    @property
    def ok(self) -> bool:
        return self.get("success") is True

    @property
    def message(self) -> str:
        return str(self.get("message", ""))

    @property
    def node(self) -> str:
        return str(self.get("node_id") or UNNAMED)

    @property
    def data(self) -> Any:
        return self.get("data")

    @property
    def warnings(self) -> list[str]:
        """What in the request was not used."""
        found = self.get("warnings")
        return list(map(str, found)) if isinstance(found, list) else []

    def check(self) -> Reply:
        """Itself. Raises what it stands for if it is an error."""
        if not self.ok:
            raise failure_of(self)
        return self


def failure_of(reply: Mapping[str, Any]) -> CommandFailed | Hangup:
    """The error that a reply stands for. It goes by the reply's fields, never by the words of its message."""
    cause = reply.get("cause")
    if isinstance(cause, str):  # of an application whose channel has ended
        return Hangup(cause)
    message = str(reply.get("message", "the command failed"))
    if "data" in reply or "executed" in reply:
        return CommandFailed(message, reply)
    field = reply.get("field")
    return Refused(message, reply, field if isinstance(field, str) else "")


def cause_of(error: CommandFailed) -> CallFailed | None:
    """The error of an originate that FreeSWITCH answered with a cause; None if it failed in another way."""
    data = error.reply.get("data")
    if isinstance(data, str) and (found := re.match(r"-ERR ([A-Z0-9_]+)\s*\Z", data)):
        return call_failed(found[1], error.reply)
    return None


def acknowledging(data: bytes) -> str:
    """The JetStream stream that says by this message that it has stored the request; "" for any other message.

    A stream whose subjects include command lanes answers what comes there, beside all others.
    """
    if b'"stream"' not in data or b'"success"' in data:
        return ""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(found, dict) or not isinstance(stream := found.get("stream"), str):
        return ""
    return stream if isinstance(found.get("seq"), int) or isinstance(found.get("error"), dict) else ""


def reply_of(headers: bytes, data: bytes, subject: str) -> Reply:
    """The reply in a message. Raises NoAgent, or CommandFailed for what is none."""
    if not data and headers and status_of(headers) == 503:
        raise NoAgent(f"no agent listens on {subject}")
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise CommandFailed("the reply is no JSON object", {"success": False, "executed": "unknown"})
    return Reply(found)


def lane_of_one(prefix: str, statuses: Sequence[Mapping[str, Any]]) -> str:
    """The subject of one ready node, of those whose agent.status these are. Raises NoAgent: why there is none.

    For when nobody listens on `any`: no node is ready, or NATS permissions keep agents or the client from it. If
    FreeSWITCH is unreachable on all of them it is that of any node: the command's reply says so.
    """
    replies = [Reply(each) for each in statuses]
    names = Counter(slug(reply.node) for reply in replies)
    lanes: dict[str, list[str]] = {}  # why a node is not ready, "" if it is: the lanes of such nodes
    faults = []
    for reply in replies:
        why, lane = _why_not(reply), ""
        if len(replies) == 1 and reply.node == UNNAMED:
            lane = all_lane(prefix)  # it has no subject of its own, and this one leads to nobody else
        elif reply.node == UNNAMED:
            why = "it has no node_id"
        elif names[slug(reply.node)] > 1:
            why = f"{names[slug(reply.node)]} agents are called so"
        else:
            lane = node_lane(prefix, reply.node)
        if lane:
            lanes.setdefault(why, []).append(lane)
        if why:
            faults.append(f"{reply.node} ({why})")
    if ready := lanes.get(""):
        return random.choice(ready)
    if (away := lanes.get(AWAY)) and len(away) == len(replies):
        return random.choice(away)
    raise NoAgent(f"no node can take it: {', '.join(faults) or 'none has replied'}")


def _why_not(reply: Reply) -> str:
    """Why a node should not get calls; "" if it should."""
    data = reply.data if isinstance(reply.data, dict) else {}
    if data.get("twins"):
        return "another agent is called so"
    readiness, switch = data.get("readiness"), data.get("freeswitch")
    if isinstance(readiness, dict) and isinstance(reasons := readiness.get("reasons"), list):
        return ", ".join(map(str, reasons))
    if not reply.ok:
        return reply.message or "no status"
    return "" if isinstance(switch, dict) and switch.get("connected") else AWAY  # an agent of 1.0
