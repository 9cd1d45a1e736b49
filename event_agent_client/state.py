"""A call as its events tell it: up, answered, ended; who waits for what. Pure: no sockets, no threads, no asyncio."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from event_agent_client._wire import Message
from event_agent_client.core import Reply
from event_agent_client.errors import AgentError, Hangup
from event_agent_client.events import ChannelAnswer, ChannelBridge, Event

UNSEEN: Final = "unknown"  # the cause of an end that nobody saw
EXCHANGING: Final = "CS_EXCHANGE_MEDIA"
NONE: Final = "_none_"  # the response of an application that gives none

Wanted = Callable[[Event], bool]
Answer = Callable[["Message | Reply | Event | AgentError"], None]


class Running:
    """An application whose end is waited for.

    Its reply says how it has ended. If a lost link may have taken that along (`lost`), the agent says whether it still
    runs, and FreeSWITCH what has come of it.
    """

    __slots__ = ("app", "names", "app_uuid", "lost", "end", "number")

    def __init__(self, app: str, names: Sequence[str]) -> None:
        self.app = app
        self.names = names
        self.app_uuid = ""  # that of its events, "" while it is not known that it has begun
        self.lost = False
        self.end: Answer = lambda what: None
        self.number = 0  # of the wait for its reply

    def still_runs(self, there: Iterable[Mapping[str, Any]]) -> bool:
        """Whether it is among these, which the agent waits for."""
        for each in there:
            app_uuid = str(each.get("app_uuid", ""))
            if app_uuid == self.app_uuid or (not self.app_uuid and _same(str(each.get("app", "")), self.app)):
                self.app_uuid = app_uuid
                return True
        return False

    def reply_by(self, node: str, uuid: str, headers: Mapping[str, Any]) -> Reply:
        """Its reply, by what FreeSWITCH says of its channel (uuid_dump) now that it is over."""
        last = str(headers.get("variable_current_application", ""))
        response = headers.get("variable_current_application_response") if _same(last, self.app) else None
        data = {
            "uuid": uuid, "app": self.app, "application_uuid": self.app_uuid, "response": response or NONE,
            "variables": {name: headers.get(f"variable_{name}") for name in self.names},
        }  # fmt: skip
        return Reply(
            success=True, status="success", message="execute_app completed", node_id=node, data=data,
            app_uuid=self.app_uuid,
        )  # fmt: skip


def _same(one: str, other: str) -> bool:
    return one.lower() == other.lower()


class CallState:
    """A call as its events tell it.

        up ----- CHANNEL_HANGUP, CHANNEL_HANGUP_COMPLETE, CHANNEL_DESTROY, `gone` -----> ended

    A wait is answered once: by the first event that it wants, by Hangup when the call ends, or by `fail`. Events do
    not always come in the order in which things happened, so the first of the three that comes ends it, and each adds
    what it knows.
    """

    def __init__(self, uuid: str, node: str = "", event: Event | None = None) -> None:
        self.uuid = uuid
        self.node = node
        self.answered = False
        self.cause = ""  # "" while it is up
        self.complete: Event | None = None  # CHANNEL_HANGUP_COMPLETE
        self.over = False  # nothing more comes
        self.last: Event = event or Event(event_name="", uuid=uuid, node_id=node)
        self.bridged = ""  # the other leg's uuid
        self.joins = 0  # how often an event has said to whom it is connected, or to nobody
        self.called = False  # it is in the state of a leg that is connected, and was called
        self._moved_at = -1  # Event-Sequence of the last CHANNEL_STATE
        self.running: list[Running] = []
        self.known: set[str] = set()  # applications whose replies have come: their events may come later
        self._waits: dict[int, tuple[Wanted | None, Answer, bool]] = {}
        self._number = 0
        if event is not None:
            self.answered = event.header("Answer-State") == "answered"

    @property
    def up(self) -> bool:
        return not self.cause

    @property
    def told(self) -> bool:
        """Whether all is known of its end that there will be."""
        return self.complete is not None or self.over

    def wait(self, wanted: Wanted | None, answer: Answer, command: bool = False) -> int:
        """Have `answer` called with the first event that is wanted, or with the error; None wants no event.

        `command`: it is the agent that answers, not what happens to the call.
        """
        self._number += 1
        self._waits[self._number] = (wanted, answer, command)
        if self.cause:
            self._answer(self._number, Hangup(self.cause))
        return self._number

    def leave(self, number: int) -> None:
        """It is not waited for any more."""
        self._waits.pop(number, None)

    @property
    def waits(self) -> int:
        """How many there are."""
        return len(self._waits)

    def feed(self, event: Event) -> None:
        """An event of this call came."""
        name = event.name
        if event.uuid and event.uuid != self.uuid:
            return
        if "headers" in event:
            self.last = event
        self.node = self.node or event.node
        if event.header("Answer-State") == "answered":
            self.answered = True
        if name in ("CHANNEL_BRIDGE", "CHANNEL_UNBRIDGE"):
            self.joins += 1
        if name == "CHANNEL_BRIDGE":
            self.bridged = getattr(event, "other_uuid", "")
        elif name == "CHANNEL_UNBRIDGE":
            self.bridged = ""
        elif name == "CHANNEL_STATE":
            self._moved(event.header("Channel-State"), event.header("Event-Sequence"))
        elif name == "CHANNEL_EXECUTE":
            self._begun(event.header("Application"), event.header("Application-UUID"))
        for number, (wanted, _, _) in list(self._waits.items()):
            if wanted is not None and wanted(event):
                self._answer(number, event)
        if name == "CHANNEL_HANGUP_COMPLETE":
            self.complete = event
        if name in ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE"):
            self.end(event.header("Hangup-Cause") or UNSEEN)
        elif name == "CHANNEL_DESTROY":
            self.over = True
            self.end(event.header("Hangup-Cause") or UNSEEN)
        elif name == "AGENT_CHANNEL_GONE":
            self.gone()

    def _moved(self, to: str, sequence: str) -> None:
        """FreeSWITCH fires CHANNEL_BRIDGE and CHANNEL_UNBRIDGE for the calling leg only (switch_ivr_bridge.c,
        switch_ivr_multi_threaded_bridge). The state of the called one is CS_EXCHANGE_MEDIA in between.
        """
        number = int(sequence) if sequence.isdecimal() else self._moved_at
        if number < self._moved_at:  # it has been overtaken
            return
        self._moved_at = number
        if self.called and to != EXCHANGING:
            self.bridged = ""
            self.joins += 1
        self.called = to == EXCHANGING

    def _begun(self, app: str, app_uuid: str) -> None:
        if app_uuid in self.known or any(each.app_uuid == app_uuid for each in self.running):
            return
        for each in self.running:
            if not each.app_uuid and _same(each.app, app):
                each.app_uuid = app_uuid
                return

    def found(self, headers: Mapping[str, Any]) -> None:
        """What FreeSWITCH says of the channel (uuid_dump) after events of it may have been missed.

        An answer, and a connection to another call that somebody waits for, count as if their events had come now.
        """
        about = {"uuid": self.uuid, "node_id": self.node, "headers": dict(headers)}
        if headers.get("Answer-State") == "answered" and not self.answered:
            self.feed(ChannelAnswer(event_name="CHANNEL_ANSWER", **about))
        other = headers.get("variable_bridge_uuid")
        if isinstance(other, str) and other:  # it stays set when the connection is over
            about["headers"] = {**headers, "Other-Leg-Unique-ID": other}
            event = ChannelBridge(event_name="CHANNEL_BRIDGE", **about)
            if any(wanted is not None and wanted(event) for wanted, _, _ in self._waits.values()):
                self.feed(event)

    def gone(self) -> None:
        """It has ended unseen."""
        self.over = True
        self.end(UNSEEN)

    def end(self, cause: str) -> None:
        """It has ended. What is known of it first counts, but a cause wins over none."""
        if not self.cause or (self.cause == UNSEEN and cause != UNSEEN):
            self.cause = cause
        for number in list(self._waits):
            self._answer(number, Hangup(self.cause))

    def fail(self, error: AgentError) -> None:
        """What is waited for can't be heard of any more; the call goes on, as far as anybody knows."""
        self.fail_some(list(self._waits), error)

    def commands(self) -> list[int]:
        """The waits for an answer of the agent."""
        return [number for number, (_, _, command) in self._waits.items() if command]

    def fail_some(self, numbers: Iterable[int], error: AgentError) -> None:
        """The same, of those waits only."""
        for number in numbers:
            if number in self._waits:
                self._answer(number, error)

    def _answer(self, number: int, what: Event | AgentError) -> None:
        _, answer, _ = self._waits.pop(number)
        answer(what)


def headers_of(reply: Reply) -> dict[str, Any] | None:
    """What uuid_dump (json) says; None if it is something else."""
    try:
        found = json.loads(str(reply.data))
    except (ValueError, RecursionError):
        return None
    return found if reply.ok and isinstance(found, dict) else None
