"""Events as they come: dictionaries as docs/API.md describes them, with names for what is asked for most.

The fifteen that matter have a type of their own, so that an editor and mypy know what is in them. `isinstance(event,
ChannelAnswer)` tells them apart as well as `event.name` does.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

__all__ = [
    "AgentConnected", "AgentStopping", "BackgroundJob", "Cdr", "ChannelAnswer", "ChannelBridge", "ChannelCreate",
    "ChannelDestroy", "ChannelExecuteComplete", "ChannelHangup", "ChannelHangupComplete", "ChannelPark",
    "ChannelProgress", "ChannelUnbridge", "Custom", "Dtmf", "Event", "Gap", "PlaybackStop", "RecordStop",
]  # fmt: skip


class Event(dict[str, Any]):
    """One event. What is not in it is "" or None, never a KeyError: FreeSWITCH leaves out what is empty."""

    @property
    def name(self) -> str:
        """`event_name`: CHANNEL_ANSWER."""
        return str(self.get("event_name", ""))

    @property
    def uuid(self) -> str:
        """The channel's, "" if the event is of none."""
        return str(self.get("uuid") or "")

    @property
    def node(self) -> str:
        """The node's name as it is configured."""
        return str(self.get("node_id") or "unknown")

    @property
    def timestamp(self) -> int:
        """Microseconds since 1970, by FreeSWITCH's clock."""
        value = self.get("timestamp")
        return value if isinstance(value, int) else 0

    @property
    def headers(self) -> dict[str, Any]:
        """All of FreeSWITCH's headers."""
        found = self.get("headers")
        return found if isinstance(found, dict) else {}

    @property
    def body(self) -> str:
        """"" if there is none."""
        return str(self.get("body") or "")

    def header(self, name: str) -> str:
        """One header, "" if it is not there; the first of a list."""
        value = self.headers.get(name, "")
        if isinstance(value, list):
            value = value[0] if value else ""
        return str(value)

    def variable(self, name: str) -> str:
        """A channel variable, "" if it is not set."""
        return self.header(f"variable_{name}")


class _Channel(Event):
    """What all events of channels have."""

    @property
    def direction(self) -> str:
        """inbound or outbound, as FreeSWITCH sees it."""
        return self.header("Call-Direction")

    @property
    def caller_number(self) -> str:
        return self.header("Caller-Caller-ID-Number")

    @property
    def caller_name(self) -> str:
        return self.header("Caller-Caller-ID-Name")

    @property
    def destination(self) -> str:
        return self.header("Caller-Destination-Number")

    @property
    def context(self) -> str:
        return self.header("Caller-Context")

    @property
    def channel_name(self) -> str:
        """`sofia/internal/1000@…`."""
        return self.header("Channel-Name")

    @property
    def other_uuid(self) -> str:
        """The other leg's, "" if there is none."""
        return self.header("Other-Leg-Unique-ID")


class ChannelCreate(_Channel):
    """A channel begins."""


class ChannelProgress(_Channel):
    """It rings."""


class ChannelAnswer(_Channel):
    """It was answered."""


class ChannelPark(_Channel):
    """It is parked."""


class ChannelBridge(_Channel):
    """It is connected to another one."""

    @property
    def other_uuid(self) -> str:
        ours = self.uuid
        for name in ("Other-Leg-Unique-ID", "Bridge-B-Unique-ID", "Bridge-A-Unique-ID"):
            if (found := self.header(name)) and found != ours:
                return found
        return ""


class ChannelUnbridge(ChannelBridge):
    """It is not any more."""


class ChannelHangup(_Channel):
    """It has hung up, or was; what is left of it comes with ChannelHangupComplete."""

    @property
    def cause(self) -> str:
        """NORMAL_CLEARING, USER_BUSY, …"""
        return self.header("Hangup-Cause")


class ChannelHangupComplete(ChannelHangup):
    """The same, with all variables of the channel."""

    @property
    def duration(self) -> float:
        """Seconds from its beginning to its end."""
        return _seconds(self.variable("mduration"))

    @property
    def billsec(self) -> float:
        """Seconds from its answer to its end."""
        return _seconds(self.variable("billmsec"))


class ChannelDestroy(_Channel):
    """The last event of a channel."""


class ChannelExecuteComplete(_Channel):
    """An application has ended on it."""

    @property
    def application(self) -> str:
        return self.header("Application")

    @property
    def data(self) -> str:
        """Its arguments; FreeSWITCH leaves the header out if there are none."""
        return self.header("Application-Data")

    @property
    def response(self) -> str:
        return self.header("Application-Response")

    @property
    def app_uuid(self) -> str:
        """`app_uuid` of the reply to execute_app."""
        return self.header("Application-UUID")


class Dtmf(_Channel):
    """A digit was dialled. The shipped configuration excludes these events; `Call.events` has them all the same."""

    @property
    def digit(self) -> str:
        return self.header("DTMF-Digit")


class PlaybackStop(_Channel):
    """A file was played, or playing it was ended."""

    @property
    def path(self) -> str:
        return self.header("Playback-File-Path")

    @property
    def completed(self) -> bool:
        return self.header("Playback-Status") == "done"


class RecordStop(_Channel):
    """A recording has ended."""

    @property
    def path(self) -> str:
        """On the node's disk."""
        return self.header("Record-File-Path")


class BackgroundJob(Event):
    """The end of a bgapi; its output is in `body`."""

    @property
    def job(self) -> str:
        return self.header("Job-UUID")


class Custom(Event):
    """An event of a module."""

    @property
    def subclass(self) -> str:
        """`sofia::register`."""
        return self.header("Event-Subclass")


class AgentConnected(Event):
    """An agent has its connections to FreeSWITCH, for the first time or again."""

    @property
    def channels(self) -> list[dict[str, str]] | None:
        """Those that there are now, None if that is not known."""
        found = self.get("channels")
        return found if isinstance(found, list) else None


class AgentStopping(Event):
    """An agent ends, and says so."""


_TYPES: dict[str, type[Event]] = {
    "CHANNEL_CREATE": ChannelCreate, "CHANNEL_PROGRESS": ChannelProgress, "CHANNEL_PROGRESS_MEDIA": ChannelProgress,
    "CHANNEL_ANSWER": ChannelAnswer, "CHANNEL_PARK": ChannelPark, "CHANNEL_BRIDGE": ChannelBridge,
    "CHANNEL_UNBRIDGE": ChannelUnbridge, "CHANNEL_HANGUP": ChannelHangup,
    "CHANNEL_HANGUP_COMPLETE": ChannelHangupComplete, "CHANNEL_DESTROY": ChannelDestroy,
    "CHANNEL_EXECUTE_COMPLETE": ChannelExecuteComplete, "DTMF": Dtmf, "PLAYBACK_STOP": PlaybackStop,
    "RECORD_STOP": RecordStop, "BACKGROUND_JOB": BackgroundJob, "CUSTOM": Custom, "AGENT_CONNECTED": AgentConnected,
    "AGENT_STOPPING": AgentStopping,
}  # fmt: skip


def event_of(data: bytes) -> Event | None:
    """The event in a message; None if it is none."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict) or not isinstance(name := found.get("event_name"), str):
        return None
    return _TYPES.get(name, Event)(found)


@dataclass(frozen=True)
class Gap:
    """Something is missing here: events were lost, or may have been. An item of event streams beside events."""

    reason: str
    """Why: that of `agent.gap`, or "link lost" and "too slow" for losses on this client's own way."""
    node: str = ""
    """Whose events; "" if it may be those of all nodes."""
    count: int | None = None
    """How many; None if that can't be known."""
    since: int | None = None
    """Microseconds since 1970; None if not known."""
    until: int | None = None


EventLike = Event | Gap
"""What streams of events are made of."""


def gap_of(event: Event) -> Gap:
    """What an AGENT_GAP says."""
    number = {key: value if isinstance(value := event.get(key), int) else None for key in ("count", "from", "to")}
    return Gap(str(event.get("reason", "")), event.node, number["count"], number["from"], number["to"])


def _seconds(milliseconds: str) -> float:
    return int(milliseconds) / 1000 if milliseconds.isdigit() else 0.0


class Cdr(Event):
    """A call record, see "Call records" in docs/API.md. Iterating `Client.cdrs` gives ones that can be acknowledged."""

    @property
    def cause(self) -> str:
        return str(self.get("cause") or "")

    @property
    def duration(self) -> float:
        return float(self.get("duration") or 0.0)

    @property
    def billsec(self) -> float:
        return float(self.get("billsec") or 0.0)

    @property
    def caller_number(self) -> str:
        return str(self.get("caller_id_number") or "")

    @property
    def destination(self) -> str:
        return str(self.get("destination") or "")

    @property
    def variables(self) -> dict[str, Any]:
        found = self.get("variables")
        return found if isinstance(found, dict) else {}
