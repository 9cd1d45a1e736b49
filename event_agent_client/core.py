"""What the client knows of agents and calls: values in, values and decisions out. No sockets, no threads, no asyncio.

    subjects.py     lanes, what people write for events
    replies.py      a message -> a Reply, or the error that it stands for
    Payload         a request
    Inbox           what waits for the reader of a stream

`state.py` has what a call's events tell of it. The names of subjects.py and replies.py are found here as well.
"""

from __future__ import annotations

import json
import math
import re
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from event_agent_client.errors import Refused
from event_agent_client.events import Event, Gap
from event_agent_client.replies import (
    ASKING,
    Reply,
    acknowledging,
    cause_of,
    failure_of,
    is_question,
    lane_of_one,
    reply_of,
)
from event_agent_client.subjects import (
    UNNAMED,
    all_lane,
    any_lane,
    event_pattern,
    is_subject,
    is_token,
    kept_back,
    lane_for,
    lane_of,
    node_lane,
    pattern_takes,
    slug,
)

__all__ = [
    "ASKING", "GATHER", "LONGEST", "SETTLE", "UNNAMED", "WAIT", "Inbox", "Payload", "Reply", "acknowledging",
    "all_lane", "any_lane", "cause_of", "check_patience", "check_seconds", "check_text",
    "event_pattern", "failure_of", "is_question", "is_subject",
    "is_token", "kept_back", "lane_for", "lane_of", "lane_of_one", "matches", "node_lane", "pattern_takes",
    "payload_of", "quoted", "reply_of", "slug", "time_for", "union_of_scopes",
]  # fmt: skip

WAIT: Final = 35.0  # seconds; the agents themselves give up on FreeSWITCH after 30
GATHER: Final = 5.0  # seconds
SETTLE: Final = 0.3  # seconds without a further reply after which nobody else is expected to answer
LONGEST: Final = 3600.0  # seconds that an application may be waited for

# -- requests


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


def check_seconds(value: float | None, name: str = "wait") -> None:
    """Raises TypeError for what is no time. One timer at "not a number" keeps an event loop from firing all others."""
    if value is not None and (not isinstance(value, (int, float)) or math.isnan(value)):
        raise TypeError(f"{name} must be a number of seconds, not {value!r:.100}")


def check_text(value: str, name: str) -> None:
    """Raises TypeError for what is no text."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a string, not {value!r:.100}")


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


def said_nothing(text: str, kind: str, language: str) -> str:
    """Why `say` has played nothing: FreeSWITCH tells none of the reasons apart."""
    return (
        f"nothing was said: the node has no say module, language or sound files for {language!r}, "
        f"or {text!r} is no {kind}; see FreeSWITCH's log"
    )


def quoted(text: str) -> str:
    """One word of an application's arguments, whatever is in it (switch_separate_string: '…', with \\ before ')."""
    if text and not re.search(r"[\s'\\]", text):
        return text
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
