"""What the client knows of agents and calls: values in, values and decisions out. No sockets, no threads, no asyncio.

    subjects        lanes, what people write for events
    replies         a message -> a Reply, or the error that it stands for
    Inbox           what waits for the reader of a stream

`state.py` has what a call's events tell of it.
"""

from __future__ import annotations

import difflib
import json
import random
import re
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from event_agent_client._wire import status_of
from event_agent_client.errors import (
    CallFailed,
    CommandFailed,
    Hangup,
    NoAgent,
    Refused,
    call_failed,
)
from event_agent_client.events import Event, Gap

WAIT: Final = 35.0  # seconds; the agents themselves give up on FreeSWITCH after 30
GATHER: Final = 5.0  # seconds
SETTLE: Final = 0.3  # seconds without a further reply after which nobody else is expected to answer
LONGEST: Final = 3600.0  # seconds that an application may be waited for
UNNAMED: Final = "unknown"  # the name of all nodes without one
AWAY = "not connected"

# -- subjects

_NOT_IN_ID = re.compile(r"[^a-z0-9]")
_TOKEN = re.compile(r"[^\s.*>\x00-\x1f\x7f]+\Z")


def slug(node: str) -> str:
    """A node's name as it stands in subjects: FS-Node-01 is fs_node_01."""
    return _NOT_IN_ID.sub("_", node.lower())


def is_token(text: str) -> bool:
    """Whether it can be one part of a subject."""
    return bool(_TOKEN.match(text)) and len(text) <= 255


def is_subject(text: str) -> bool:
    """Whether something can be sent there."""
    return len(text) <= 1024 and all(is_token(each) for each in text.split("."))


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


def event_pattern(text: str) -> str:
    """The part of a subject behind `<prefix>.events.` for what a person writes. Raises Refused.

    An event's name in FreeSWITCH's spelling (CHANNEL_ANSWER, sofia::register), all that begin so (CHANNEL_*), or a
    pattern of subjects (`channel.*`, `custom.sofia.>`).
    """
    if not isinstance(text, str):
        raise Refused(f"events are named one by one, as in events('CHANNEL_ANSWER', 'DTMF'): {text!r}", field="events")
    pattern = text.strip()
    if re.search(r"[\s,;|]", pattern):
        raise Refused(f"{text!r} are several events in one text: give each of its own", field="events")
    if "::" in pattern or pattern != pattern.lower() or "_" in pattern:
        custom = "::" in pattern
        name = pattern.upper()
        if not custom and "*" not in name and "." not in name and name not in NAMES:
            close = difflib.get_close_matches(name, NAMES, 1)
            raise Refused(f"there is no event {text}" + (f": {close[0]}?" if close else ""), field="events")
        pattern = re.sub(r"[^a-z0-9.*>]+", ".", pattern.lower())
        if pattern.endswith(".*"):
            pattern = pattern[:-1] + ">"
        if custom and not pattern.startswith("custom."):
            pattern = f"custom.{pattern}"
    tokens = pattern.split(".")
    if len(pattern) > 1024 or ">" in tokens[:-1] or not all(each in ("*", ">") or is_token(each) for each in tokens):
        raise Refused(f"{text!r} is neither an event's name nor a pattern such as channel.*", field="events")
    return pattern


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


# -- requests and replies

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


class Payload(dict[str, Any]):
    """A request."""

    @property
    def data(self) -> bytes:
        """Its bytes. Raises Refused for what JSON can't hold."""
        try:
            return json.dumps(self, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
        except (ValueError, TypeError) as fault:
            raise Refused(f"a request can't hold that: {fault}") from None


def payload_of(command: str, args: str | None, fields: Mapping[str, Any] | None, more: Mapping[str, Any]) -> Payload:
    """The fields of a request. What is None is left out of `more`.

    `timeout` is nothing that may stand beside a command's name: it would be the ringing time to one reader and the
    client's patience to the next.
    """
    if "timeout" in more:
        raise TypeError(
            "timeout could be two things: wait=… is how long the client waits; how long it rings is ring=… of dial, or "
            'fields={"timeout": …} of originate'
        )
    payload = Payload(command=command)
    if args is not None:
        payload["args"] = args
    payload.update(fields or {})
    payload.update({name: value for name, value in more.items() if value is not None})
    return payload


def check_patience(payload: Mapping[str, Any], wait: float | None) -> None:
    """Raises TypeError for a `wait` that could be two things."""
    if wait is not None and payload.get("command") == "execute_app" and "wait" not in payload:
        raise TypeError(
            'wait could be two things here: fields={"wait": …} is how long the application may take (as Call.execute '
            "has it); wait=… beside it is how long the client waits"
        )


def time_for(payload: Mapping[str, Any], usual: float) -> float:
    """Seconds within which its reply should be there."""
    wait = payload.get("wait")
    if isinstance(wait, (int, float)) and not isinstance(wait, bool):
        return max(usual, wait + 5.0)
    if payload.get("command") == "originate":
        ring = payload.get("timeout")
        ring = float(ring) if isinstance(ring, (int, float)) else 60.0
        return max(usual, ring * (str(payload.get("endpoint", "")).count("|") + 1) + 15.0)
    return usual


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


def lane_of_one(prefix: str, statuses: Sequence[Reply]) -> str:
    """The subject of one ready node, of those whose agent.status these are. Raises NoAgent: why there is none.

    For when nobody listens on `any`: no node is ready, or NATS permissions keep agents or the client from it. If
    FreeSWITCH is unreachable on all of them it is that of any node: the command's reply says so.
    """
    names = Counter(slug(reply.node) for reply in statuses)
    lanes: dict[str, list[str]] = {}  # why a node is not ready, "" if it is: the lanes of such nodes
    faults = []
    for reply in statuses:
        why, lane = _why_not(reply), ""
        if len(statuses) == 1 and reply.node == UNNAMED:
            lane = f"{prefix}.api"  # it has no subject of its own, and this one leads to nobody else
        elif reply.node == UNNAMED:
            why = "it has no node_id"
        elif names[slug(reply.node)] > 1:
            why = f"{names[slug(reply.node)]} agents are called so"
        else:
            lane = f"{prefix}.node.{slug(reply.node)}"
        if lane:
            lanes.setdefault(why, []).append(lane)
        if why:
            faults.append(f"{reply.node} ({why})")
    if ready := lanes.get(""):
        return random.choice(ready)
    if (away := lanes.get(AWAY)) and len(away) == len(statuses):
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


# -- streams of events


class Inbox:
    """What waits for the reader of a stream: bounded; what finds no room becomes one Gap, in its place."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._items: deque[Any] = deque()
        self._missed = 0
        self._missed_at: tuple[int, int] = (0, 0)

    def __len__(self) -> int:
        return len(self._items) + (1 if self._missed else 0)

    def put(self, item: Any, at: int) -> None:
        """`at`: microseconds since 1970, of the item."""
        if len(self._items) >= self._most or (self._missed and len(self._items) > self._most // 2):
            self._missed_at = (self._missed_at[0] if self._missed else at, at)
            self._missed += 1
            return
        self._told()
        self._items.append(item)

    def _told(self) -> None:
        if self._missed:
            since, until = self._missed_at
            self._items.append(Gap("too slow", "", self._missed, since or None, until or None))
            self._missed = 0

    def take(self) -> Any:
        """The next item. Only if there is one."""
        if not self._items:
            self._told()
        return self._items.popleft()


def matches(context: Sequence[str], number: str, event: Event) -> bool:
    """Whether a parked call is one of those that were asked for: contexts (none: all), an expression (""; all)."""
    if context and event.header("Caller-Context").lower() not in [each.lower() for each in context]:
        return False
    return not number or re.search(number, event.header("Caller-Destination-Number").partition(";")[0]) is not None


def union_of_scopes(scopes: Iterable[tuple[Sequence[str], str]]) -> dict[str, Any]:
    """One scope of park mode that takes what any of these takes."""
    contexts: list[str] = []
    numbers: list[str] = []
    every_context = every_number = False
    for context, number in scopes:
        every_context |= not context
        every_number |= not number
        contexts += [each for each in context if each not in contexts]
        if number and number not in numbers:
            numbers.append(number)
    scope: dict[str, Any] = {}
    if contexts and not every_context:
        scope["context"] = contexts
    if numbers and not every_number:
        scope["number"] = numbers[0] if len(numbers) == 1 else "|".join(f"(?:{each})" for each in numbers)
    return scope


def quoted(text: str) -> str:
    """One word of an application's arguments, whatever is in it (switch_separate_string: '…', with \\ before ')."""
    if text and not re.search(r"[\s'\\]", text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
