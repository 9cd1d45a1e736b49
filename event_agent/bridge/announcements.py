"""Announcements on their way to the sink: made in one place, unless the filters exclude them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from event_agent.freeswitch.filters import EventFilter
from event_agent.protocol.announcements import announcement
from event_agent.protocol.events import Published


class Announcements:
    """Those of one node. Any thread may call it."""

    def __init__(
        self, node_id: str, prefix: str, identity: Callable[[], Mapping[str, Any]], chosen: Callable[[], EventFilter]
    ) -> None:
        """`identity`: which FreeSWITCH it is. `chosen`: what is published."""
        self._node_id, self._prefix = node_id, prefix
        self._identity, self._chosen = identity, chosen

    def of(self, name: str, core_uuid: str | None = None, **fields: Any) -> list[Published]:
        """AGENT_… with these fields, of another start of FreeSWITCH if `core_uuid` says so; nothing if excluded."""
        if name in self._chosen().exclude:
            return []
        identity = dict(self._identity())
        if core_uuid is not None:
            identity["core_uuid"] = core_uuid
        what = name.removeprefix("AGENT_").lower().replace("_", ".")
        subject = f"{self._prefix}.events.agent.{what}"
        return [Published(name, subject.encode(), announcement(name, self._node_id, identity, **fields))]
