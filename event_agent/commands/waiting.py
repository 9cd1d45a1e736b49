"""Applications whose end somebody waits for: a table of them, and a heap of the times by which they have to end.

    asked    entered here, before anything is sent to FreeSWITCH
    ended    by the first of these, and then it is in none of the three tables any more:
             CHANNEL_EXECUTE_COMPLETE with its Application-UUID (switch_core_session.c, switch_core_session_exec)
             CHANNEL_HANGUP of its channel: an application that never completes ends with its channel
             its time is over, FreeSWITCH refuses it, the events stop coming, or the daemon ends

No thread waits. `event` runs on esl-events, the time limits on io, the rest on any thread.

Events come once somebody has waited for the first time (`want`), published or not, and nothing is sent before
FreeSWITCH goes by that (`when_in_force`). Only events that FreeSWITCH itself fires are looked at: `sendevent` puts a
client's headers before `Event-Name`.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, Protocol

from event_agent.commands.registry import Invocation, Outcome
from event_agent.freeswitch.command import Executed, Failure
from event_agent.freeswitch.link import SwitchObserver
from event_agent.protocol.raw_event import Key, Names, RawEvent
from event_agent.runtime.health import Signs

log = logging.getLogger(__name__)

COMPLETE, HANGUP = "CHANNEL_EXECUTE_COMPLETE", "CHANNEL_HANGUP"
EVENTS = frozenset((COMPLETE, HANGUP))
MOST = 10_000  # applications waited for at one time
MOST_BYTES = 8 * 1024 * 1024  # of the requests that wait
ROUND = 5.0  # seconds between two looks at the time limits, at most
SLACK = 64  # entries of the heap that may be left of applications that have ended

_FIRED = Names(COMPLETE, HANGUP)
_APP_UUID = Key("Application-UUID")
_CHANNEL = Key("Unique-ID")
_NO_EVENTS = "FreeSWITCH sends no events now, so the end of an application can't be waited for"


class Events(Protocol):
    """The link to FreeSWITCH."""

    @property
    def connected(self) -> bool:
        """Whether commands are taken."""
        ...

    def want(self, who: str, names: frozenset[str]) -> None:
        """Have these events come, published or not."""
        ...

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        """Call `then` when FreeSWITCH goes by that; with False if there is no link."""
        ...


class Waiter:
    """One application, and who waits for it."""

    __slots__ = ("invocation", "uuid", "app", "app_uuid", "names", "seconds", "deadline", "size")

    def __init__(
        self, invocation: Invocation, uuid: str, app: str, app_uuid: str, seconds: float, names: Sequence[str]
    ) -> None:
        """`names`: the channel's variables that the reply is to have."""
        self.invocation = invocation
        self.uuid = uuid
        self.app = app
        self.app_uuid = app_uuid
        self.names = names
        self.seconds = seconds
        self.deadline = time.monotonic() + seconds
        self.size = len(invocation.message.data)

    def completed(self, event: RawEvent) -> None:
        """It has ended, or the channel has and it with that."""
        headers = event.headers
        if headers.get("Answer-State") == "hangup":  # events do not always come in the order in which things happened
            self.hung_up(headers.get("Hangup-Cause"))
            return
        data = {
            "uuid": self.uuid,
            "app": self.app,
            "application_uuid": self.app_uuid,
            "response": headers.get("Application-Response", "_none_"),
            "variables": {name: headers.get(f"variable_{name}") for name in self.names},
        }
        self.invocation.finish(Outcome("execute_app completed", data, {"app_uuid": self.app_uuid}))

    def hung_up(self, cause: object) -> None:
        """The channel has ended."""
        cause = cause if isinstance(cause, str) and cause else "unknown"
        self.fail(f"Channel hung up: {cause}", cause=cause)

    def fail(self, why: str, executed: Executed = Executed.UNKNOWN, **extra: Any) -> None:
        """Its end can't be seen any more."""
        self.invocation.fail(Failure(why, executed), {"app_uuid": self.app_uuid, **extra})


class Waiting(SwitchObserver):
    """The table of applications that are waited for. A part of the daemon without a thread."""

    name = "waiting applications"

    def __init__(self, events: Events, after: Callable[[float, Callable[[], object]], Any]) -> None:
        """`after`: have something called on the thread io, so many seconds later; what it returns can be cancelled."""
        self._events = events
        self._after = after
        self.most, self.most_bytes = MOST, MOST_BYTES
        self._lock = threading.Lock()  # guards what follows
        self._waiters: dict[str, Waiter] = {}  # by Application-UUID
        self._channels: dict[str, set[str]] = {}  # Application-UUIDs by channel
        self._heap: list[tuple[float, str]] = []  # deadline, Application-UUID
        self._bytes = 0
        self._timer: Any = None
        self._timer_at = 0.0  # time.monotonic(); 0 while there is none
        self._wanted = False
        self._closed = False

    # -- a part of the daemon

    def start(self) -> None:
        """Nothing to do."""

    def stop(self, timeout: float) -> None:
        """Answer all: the daemon ends."""
        with self._lock:
            self._closed = True
        self._end_all("event-agent is stopping; the application goes on")

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    def __len__(self) -> int:
        """How many are waited for."""
        return len(self._waiters)

    def tables(self) -> tuple[int, int, int]:
        """Entries by application, by channel and by time; a leak would show here."""
        return len(self._waiters), len(self._channels), len(self._heap)

    # -- in

    def enter(self, waiter: Waiter, send: Callable[[], None]) -> None:
        """Wait for it; `send`, which has FreeSWITCH begin it, is called as soon as its end would be heard of."""
        with self._lock:
            full = len(self._waiters) >= self.most or self._bytes + waiter.size > self.most_bytes or self._closed
            if not full:
                self._waiters[waiter.app_uuid] = waiter
                self._channels.setdefault(waiter.uuid, set()).add(waiter.app_uuid)
                heappush(self._heap, (waiter.deadline, waiter.app_uuid))
                self._bytes += waiter.size
        if full:
            waiter.fail(f"Too many applications are waited for ({len(self._waiters)})", Executed.NO)
            return
        waiter.invocation.payload = dict.fromkeys(waiter.invocation.payload)  # its names are all that is needed yet
        self._look_by(waiter.deadline)
        if not self._wanted:
            self._events.want(self.name, EVENTS)
            self._wanted = True

        def in_force(there: bool) -> None:
            if there or not self._events.connected:  # the second is said by the one that would send it
                send()
            elif self.leave(waiter.app_uuid) is not None:
                waiter.fail(_NO_EVENTS, Executed.NO)

        self._events.when_in_force(in_force)

    def leave(self, app_uuid: str) -> Waiter | None:
        """It is not waited for any more; None if it was not."""
        with self._lock:
            return self._left(app_uuid)

    def _left(self, app_uuid: str) -> Waiter | None:
        """Lock held."""
        waiter = self._waiters.pop(app_uuid, None)
        if waiter is None:
            return None
        self._bytes -= waiter.size
        same = self._channels[waiter.uuid]
        same.discard(app_uuid)
        if not same:
            del self._channels[waiter.uuid]
        if len(self._heap) > 2 * len(self._waiters) + SLACK:
            self._heap = [(each.deadline, each.app_uuid) for each in self._waiters.values()]
            heapify(self._heap)
        return waiter

    def of(self, uuid: str) -> list[dict[str, str]]:
        """The applications of a channel that are waited for now."""
        with self._lock:
            found = [self._waiters[each] for each in self._channels.get(uuid, ())]
        return [{"app": each.app, "app_uuid": each.app_uuid} for each in found]

    # -- what happens

    def event(self, name: str, event: RawEvent) -> None:
        """One of EVENTS came."""
        if not self._waiters or not event.is_one_of(_FIRED):
            return
        if name == COMPLETE:
            waiter = self.leave(event.get(_APP_UUID))
            if waiter is not None:
                waiter.completed(event)
            return
        uuid = event.get(_CHANNEL)
        if uuid not in self._channels:
            return
        with self._lock:
            gone = [self._left(each) for each in list(self._channels.get(uuid, ()))]
        cause = event.headers.get("Hangup-Cause")
        for each in gone:
            if each is not None:
                each.hung_up(cause)

    def unlinked(self, reason: str) -> None:
        """Its end may be among events that were lost."""
        self._end_all("the link to FreeSWITCH is lost, and with it the end of the application")

    def _end_all(self, why: str) -> None:
        with self._lock:
            waiters = list(self._waiters.values())
            for each in waiters:
                self._left(each.app_uuid)
        for each in waiters:
            each.fail(why)

    # -- time

    def _look_by(self, deadline: float) -> None:
        """Have somebody look at the time limits then."""
        now = time.monotonic()
        at = min(deadline, now + ROUND)  # so that a timer that was put off is soon forgotten
        with self._lock:
            if self._closed or (self._timer_at and self._timer_at <= at):
                return
            earlier, self._timer_at = self._timer, at
        if earlier is not None:
            earlier.cancel()
        self._timer = self._after(max(0.0, at - now), self._look)

    def _look(self) -> None:
        """On the thread io."""
        late: list[Waiter] = []
        now = time.monotonic()
        with self._lock:
            self._timer_at = 0.0
            while self._heap and self._heap[0][0] <= now:
                waiter = self._left(heappop(self._heap)[1])
                if waiter is not None:
                    late.append(waiter)
            following = self._heap[0][0] if self._waiters and self._heap else 0.0
        for each in late:
            each.fail(f"{each.app} has not ended within {each.seconds:g} seconds; it goes on")
        if following:
            self._look_by(following)
