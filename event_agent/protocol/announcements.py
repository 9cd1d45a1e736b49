"""`<prefix>.events.agent.connected`, `.disconnected`, `.gap`: what a consumer needs to take up the thread again."""

from __future__ import annotations

import json
import time
from typing import Any

from event_agent.protocol.replies import dump_json, to_utf8


def announcement(name: str, node_id: str, switch: dict[str, Any], **fields: Any) -> bytes:
    """An event of our own, shaped like FreeSWITCH's: `name` is AGENT_CONNECTED, for one."""
    event = {
        "event_name": name,
        "timestamp": time.time_ns() // 1000,
        "node_id": node_id or "unknown",
        "headers": {
            "FreeSWITCH-Version": switch["version"],
            "FreeSWITCH-Hostname": switch["hostname"],
            "Core-UUID": switch["core_uuid"],
        },
        **fields,
    }
    return to_utf8(dump_json(event))


def gap_announcement(name: str, node_id: str, switch: dict[str, Any], core: str, what: dict[str, Any]) -> bytes:
    """An announcement of a loss; `core` is the FreeSWITCH whose events they were, "" if that is not known."""
    return announcement(name, node_id, {**switch, "core_uuid": core or switch["core_uuid"]}, **what)


def channels_of(answer: str) -> list[dict[str, str]] | None:
    """The channels in FreeSWITCH's answer to `show channels as json`; None if it gives none."""
    try:
        found = json.loads(answer)
        return [
            {key: row[key] for key in ("uuid", "direction", "state", "callstate", "cid_num", "dest") if key in row}
            for row in found.get("rows", [])
        ]
    except (ValueError, AttributeError, TypeError):
        return None
