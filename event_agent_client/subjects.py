"""What subjects there are, and what may be subscribed to: values in, values out.

event_agent.client, the first edition's client, uses this and `replies` too: they import nothing that is slow to load.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from event_agent_client.errors import Refused

_NOT_IN_ID = re.compile(r"[^a-z0-9]")
_TOKEN = re.compile("[^\\s.*>\0-\x20\x7f-\x9f\ud800-\udfff]+\\Z")
_BREAKS = re.compile("[\\s\0-\x20\x7f-\x9f\ud800-\udfff]")
_NOT_IN_PATTERN = re.compile(r"[^a-z0-9.*>]+")
LONGEST: Final = 1024  # bytes of a subject
UNNAMED: Final = "unknown"  # the name of all nodes without one


def slug(node: str) -> str:
    """A node's name as it stands in subjects: FS-Node-01 is fs_node_01."""
    return _NOT_IN_ID.sub("_", node.lower())


def is_token(text: str) -> bool:
    """Whether it can be one part of a subject."""
    return bool(_TOKEN.match(text)) and len(text) <= 255


def is_subject(text: str) -> bool:
    """Whether something can be sent there: no wildcards, no white space, no empty token, of a sane length."""
    return len(text.encode(errors="replace")) <= LONGEST and all(map(_TOKEN.match, text.split(".")))


def node_lane(prefix: str, node: str) -> str:
    """Where one node takes requests."""
    return f"{prefix}.node.{slug(node)}"


def any_lane(prefix: str) -> str:
    """Where one node that is ready takes each request."""
    return f"{prefix}.any"


def all_lane(prefix: str) -> str:
    """Where each node takes each request."""
    return f"{prefix}.api"


def lane_of(prefix: str, node: str) -> str:
    """The lane of a node; that of all for one without a name."""
    return node_lane(prefix, node) if node not in ("", UNNAMED) else all_lane(prefix)


def lane_for(prefix: str, payload: Mapping[str, Any], node: str | None = None) -> str:
    """Where a request goes: to `node`, else to the `node_id` in it, else to one that is ready."""
    node = node or payload.get("node_id")
    return node_lane(prefix, node) if isinstance(node, str) and node else any_lane(prefix)


# Names that FreeSWITCH has (switch_event.c, EVENT_NAMES), and those of the agents, to find slips.
NAMES: Final = frozenset(
    """CUSTOM CLONE CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_STATE CHANNEL_CALLSTATE CHANNEL_ANSWER CHANNEL_HANGUP
    CHANNEL_HANGUP_COMPLETE CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_BRIDGE
    CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_OUTGOING CHANNEL_PARK CHANNEL_UNPARK
    CHANNEL_APPLICATION CHANNEL_ORIGINATE CHANNEL_UUID API LOG INBOUND_CHAN OUTBOUND_CHAN STARTUP SHUTDOWN PUBLISH
    UNPUBLISH TALK NOTALK SESSION_CRASH MODULE_LOAD MODULE_UNLOAD DTMF MESSAGE PRESENCE_IN NOTIFY_IN PRESENCE_OUT
    PRESENCE_PROBE MESSAGE_WAITING MESSAGE_QUERY ROSTER CODEC BACKGROUND_JOB DETECTED_SPEECH DETECTED_TONE
    PRIVATE_COMMAND HEARTBEAT TRAP ADD_SCHEDULE DEL_SCHEDULE EXE_SCHEDULE RE_SCHEDULE RELOADXML NOTIFY PHONE_FEATURE
    PHONE_FEATURE_SUBSCRIBE SEND_MESSAGE RECV_MESSAGE REQUEST_PARAMS CHANNEL_DATA GENERAL COMMAND SESSION_HEARTBEAT
    CLIENT_DISCONNECTED SERVER_DISCONNECTED SEND_INFO RECV_INFO RECV_RTCP_MESSAGE SEND_RTCP_MESSAGE CALL_SECURE NAT
    RECORD_START RECORD_STOP PLAYBACK_START PLAYBACK_STOP CALL_UPDATE FAILURE SOCKET_DATA MEDIA_BUG_START MEDIA_BUG_STOP
    CONFERENCE_DATA_QUERY CONFERENCE_DATA CALL_SETUP_REQ CALL_SETUP_RESULT CALL_DETAIL DEVICE_STATE TEXT
    SHUTDOWN_REQUESTED AGENT_CONNECTED AGENT_DISCONNECTED AGENT_GAP AGENT_READINESS AGENT_HEARTBEAT AGENT_STOPPING
    AGENT_CHANNEL_GONE AGENT_CHANNEL_FOUND""".split()
)


def pattern_of(text: str) -> str:
    """The part of a subject behind `<prefix>.events.` for what a person writes. Raises ValueError for what is none.

    Patterns of subjects are taken as they stand (`channel.*`, `custom.sofia.>`); an event's name in FreeSWITCH's
    spelling becomes its subject: CHANNEL_ANSWER, CHANNEL_* (all that begin so), sofia::register.
    """
    pattern = text.strip()
    if len(pattern) > LONGEST:
        raise ValueError(f"a pattern of {len(pattern)} characters: at most {LONGEST} are allowed")
    if _is_name(pattern) and not _BREAKS.search(pattern):
        custom = "::" in pattern
        pattern = _NOT_IN_PATTERN.sub(".", pattern.lower()).strip(".")  # as an agent makes subjects of names
        if pattern.endswith(".*"):
            pattern = pattern[:-1] + ">"
        if custom and not pattern.startswith("custom."):
            pattern = f"custom.{pattern}"
    tokens = pattern.split(".")
    if ">" in tokens[:-1] or not all(each in ("*", ">") or _TOKEN.match(each) for each in tokens):
        raise ValueError(f"{text!r} is neither an event's name nor a pattern of subjects such as channel.*")
    return pattern


def _is_name(text: str) -> bool:
    """Whether it is an event's name as FreeSWITCH writes it, and no subject."""
    return "::" in text or "_" in text or text != text.lower()


def event_pattern(text: str) -> str:
    """The same, but names of events that FreeSWITCH does not have are refused as well. Raises Refused."""
    if not isinstance(text, str):
        raise Refused(f"events are named one by one, as in events('CHANNEL_ANSWER', 'DTMF'): {text!r}", field="events")
    name = text.strip().upper()
    if re.search(r"[\s,;|]", name):
        raise Refused(f"{text!r} are several events in one text: give each of its own", field="events")
    if _is_name(text.strip()) and "::" not in name and "*" not in name and "." not in name and name not in NAMES:
        raise Refused(f"there is no event {text}{_closest(name)}", field="events")
    try:
        return pattern_of(text)
    except ValueError as fault:
        raise Refused(str(fault), field="events") from None


def _closest(name: str) -> str:
    import difflib  # a millisecond, and only for a slip

    close = difflib.get_close_matches(name, NAMES, 1)
    return f": {close[0]}?" if close else ""


def pattern_takes(pattern: str, subject: str) -> bool:
    """Whether a pattern of subjects takes this subject."""
    ours, theirs = pattern.split("."), subject.split(".")
    for at, token in enumerate(ours):
        if token == ">":
            return len(theirs) > at
        if at >= len(theirs) or token not in ("*", theirs[at]):
            return False
    return len(ours) == len(theirs)


def kept_back(text: str, filters: Mapping[str, Any]) -> str:
    """Why a node does not publish an event of this name, by its filters (`data.events` in agent.status); "" if it may.

    Only for a name: a pattern may always get something.
    """
    wanted = text.strip()
    custom = "::" in wanted
    if not custom and (wanted != wanted.upper() or "*" in wanted or "." in wanted):
        return ""
    names = {wanted, "CUSTOM"} if custom else {wanted}
    include, exclude = (list(map(str, filters.get(key) or ())) for key in ("include", "exclude"))
    for name in exclude:
        if (name if "::" in name else name.upper()) in names | {"ALL"}:
            return f"exclude has {name}"
    if wanted.startswith("AGENT_"):
        return ""
    if include:
        known = {name if "::" in name else name.upper() for name in include}
        if "ALL" in known or names & known or (wanted == "CUSTOM" and any("::" in name for name in known)):
            return ""
        return "include does not have it"
    return "" if filters.get("publish_all_events", True) else "publish_all_events is false"
