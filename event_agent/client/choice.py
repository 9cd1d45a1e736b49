"""One node for a command that acts, when nobody listens on `any`: a command that acts goes to one node and no more.

Nobody does when no node is ready, and when NATS permissions keep the agents or the client from that subject. All nodes
are asked for agent.status, and the command goes to the own subject of one of them.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from event_agent.client.replies import NoneReady, Reply
from event_agent.protocol.subjects import slug

UNNAMED = "unknown"  # the name of all nodes without one
AWAY = "not connected"


def lane_of_one(prefix: str, statuses: Sequence[Reply]) -> str:
    """The subject of one ready node, of those whose statuses these are. Raises NoneReady, which says why there is none.

    If FreeSWITCH is unreachable on all of them it is that of any node: the command's reply says so.
    """
    names = Counter(slug(_name(reply)) for reply in statuses)
    lanes: dict[str, list[str]] = {}  # why a node is not ready, "" if it is: the lanes of such nodes
    faults = []
    for reply in statuses:
        why = _why_not(reply)
        name = _name(reply)
        if len(statuses) == 1 and name == UNNAMED:
            lane = f"{prefix}.api"  # it has no subject of its own, and this one leads to nobody else
        elif name == UNNAMED:
            why, lane = "it has no node_id", ""
        elif names[slug(name)] > 1:
            why, lane = f"{names[slug(name)]} agents are called so", ""
        else:
            lane = f"{prefix}.node.{slug(name)}"
        if lane:
            lanes.setdefault(why, []).append(lane)
        if why:
            faults.append(f"{name} ({why})")
    if ready := lanes.get(""):
        return random.choice(ready)
    if away := lanes.get(AWAY):
        if len(away) == len(statuses):
            return random.choice(away)
    raise NoneReady(f"no node can take it: {', '.join(faults) or 'none has replied'}")


def _name(reply: Reply) -> str:
    return str(reply.get("node_id", UNNAMED))


def _why_not(reply: Reply) -> str:
    """Why a node should not get calls; "" if it should."""
    data = _part(reply, "data")
    if data.get("twins"):
        return "another agent is called so"
    reasons = _part(data, "readiness").get("reasons")
    if isinstance(reasons, list):
        return ", ".join(map(str, reasons))
    if not reply.get("success"):
        return str(reply.get("message", "no status"))
    return "" if _part(data, "freeswitch").get("connected") else AWAY  # an agent of 1.0


def _part(of: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = of.get(name)
    return part if isinstance(part, dict) else {}
