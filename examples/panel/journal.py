"""The events of late: short forms for the page's list, whole ones for who wants to see one.

Knows no sockets and no threads; world.py calls it under its lock. An event is about 2.5 kB, a busy switch sends
hundreds a second, and a page that shows a list needs a tenth of that.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from .calls import cut

EVENTS = 2000  # kept
BYTES = 8_000_000  # of whole events kept, whichever is reached first
SHOWN = 300  # sent to a page that comes new

Short = dict[str, Any]


class Journal:
    """See the module's text."""

    def __init__(self, events: int = EVENTS, most: int = BYTES, first: int | None = None) -> None:
        self._kept: deque[tuple[int, bytes, Short]] = deque()
        self._events = events
        self._most = most
        self._bytes = 0
        # Pages outlive their server, and must not take a later event for one they know. Fewer than a thousand events
        # come in a second, in the long run.
        self._number = int(time.time() * 1000) if first is None else first - 1

    def add(self, event: Mapping[str, Any]) -> Short:
        """Keep an event; its short form."""
        self._number += 1
        short = shortened(event) | {"id": self._number}
        whole = json.dumps(event, ensure_ascii=True, separators=(",", ":")).encode()
        self._kept.append((self._number, whole, short))
        self._bytes += len(whole)
        while self._kept and (len(self._kept) > self._events or self._bytes > self._most):
            self._bytes -= len(self._kept.popleft()[1])
        return short

    def whole(self, number: int) -> bytes | None:
        """An event as JSON; None where it is not kept any more."""
        if not self._kept or not 0 <= number - self._kept[0][0] < len(self._kept):
            return None
        return self._kept[number - self._kept[0][0]][1]

    def recent(self, most: int = SHOWN) -> list[Short]:
        """The last ones, oldest first."""
        return [short for _, _, short in list(self._kept)[-most:]]


def shortened(event: Mapping[str, Any]) -> Short:
    """What one line of a list shows of an event."""
    headers = event.get("headers")
    if not isinstance(headers, dict):
        headers = {}
    when = event.get("timestamp")
    return {
        "event": cut(event.get("event_name"), 64),
        "node": cut(event.get("node_id"), 128),
        "time": when if isinstance(when, int) else 0,
        "uuid": cut(event.get("uuid"), 64),
        "from": cut(headers.get("Caller-Caller-ID-Number") or headers.get("Caller-Caller-ID-Name"), 64),
        "to": cut(headers.get("Caller-Destination-Number"), 64),
        "text": cut(_detail(event, headers), 160),
    }


def _detail(event: Mapping[str, Any], headers: Mapping[str, Any]) -> str:
    name = str(event.get("event_name"))
    if name == "AGENT_DISCONNECTED":
        return cut(event.get("reason"))
    if name == "AGENT_CONNECTED":
        return cut(headers.get("FreeSWITCH-Version"))
    if name == "CUSTOM":
        return cut(headers.get("Event-Subclass"))
    if "HANGUP" in name or name == "CHANNEL_DESTROY":
        return cut(headers.get("Hangup-Cause"))
    if "EXECUTE" in name:
        words = (headers.get("Application"), headers.get("Application-Data"))
        return " ".join(cut(word) for word in words if word)
    if name in ("CHANNEL_STATE", "CHANNEL_CALLSTATE"):
        return cut(headers.get("Channel-State" if name == "CHANNEL_STATE" else "Channel-Call-State"))
    for header in ("API-Command", "Job-Command", "Playback-File-Path", "DTMF-Digit", "Module-Name", "Event-Info"):
        if header in headers:
            return cut(headers[header])
    return ""
