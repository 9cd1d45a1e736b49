"""call.watch, call.unwatch, and `events_to` of originate and execute_app: one call's events, on subjects of its own.

A watch is of one channel and has one place: each event of the channel that it asks for is also published below that
place, whatever the filters say. It ends with CHANNEL_DESTROY, with its time, or with call.unwatch. After a link it is
asked of each channel that is watched whether it is still there.

Copies are delivered at most once, also where events are delivered at least once: no stream need know their subjects.

Events that are filtered out come to the agent while somebody watches for them, and for a while after that; nothing is
watched before FreeSWITCH goes by that. Threads: `subjects` and `flush` on esl-events, the time limits on io, the rest
on any. The table of watches is replaced entry by entry, so that the event thread reads it without the lock.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

from event_agent.commands.registry import Invocation, Outcome
from event_agent.drivers.base import Message, Replies, Reply
from event_agent.errors import CommandError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.freeswitch.link import SwitchObserver
from event_agent.protocol.raw_event import Names, RawEvent
from event_agent.protocol.subjects import is_command_lane
from event_agent.protocol.validation import CHANNEL, Declaration, Field, number, string, strings, subject
from event_agent.runtime.health import Signs

log = logging.getLogger(__name__)

DESTROY = "CHANNEL_DESTROY"
MOST = 10_000  # watches at one time
MOST_OF_ONE = 8  # of one channel
LONGEST = 86400  # seconds, and what a watch has that names none
ROUND = 1.0  # seconds between two looks at the time limits
IDLE = 30.0  # seconds for which events go on coming that nobody watches for any more
LINGER = 5.0  # seconds that the last events of a call that failed may take

_ENDS = Names(DESTROY)
_NO_EVENTS = "FreeSWITCH sends no events now, so a call can't be watched"

UUID = string("uuid", 1, 63, form=CHANNEL, help="the channel")
EVENTS = strings(
    "events", 1, 127, 64, help="names of events, such as `CHANNEL_ANSWER`, `CUSTOM`, or `a::b` of a CUSTOM one"
).optional((), shown="all of the channel")
TO = subject("to", help="the subject below which they are published, as `<to>.channel.answer`").optional(
    "", shown="`<prefix>.calls.<uuid>`"
)
TTL = number("ttl", 1, LONGEST, help="seconds after which it ends, if the channel has not ended before").optional(
    LONGEST, shown="86,400"
)
WATCH = Declaration(
    "call.watch",
    "Has the events of one call published on subjects of its own, whatever the filters say, until the call ends.",
    (UUID, EVENTS, TO, TTL),
    ({"uuid": "8f0c9d2e-41a7-4c5e-9a55-2f6d1f0e7b10", "events": ["DTMF", "CHANNEL_HANGUP_COMPLETE"], "to": "ivr.7",
      "ttl": 600},),
)  # fmt: skip
OF = subject("to", help="only the watch that publishes there").optional("", shown="all of the channel")
UNWATCH = Declaration(
    "call.unwatch",
    "Ends what call.watch or `events_to` began.",
    (UUID, OF),
    ({"uuid": "8f0c9d2e-41a7-4c5e-9a55-2f6d1f0e7b10", "to": "ivr.7"},),
)


def events_to(help: str) -> Field[str]:
    """The field of other commands that begins a watch."""
    return subject("events_to", help=help).optional("")


class Watch(NamedTuple):
    """Where the events of a channel go, which ones (none named: all), and until when (time.monotonic()).

    `before`: the watch with the same place that this one has replaced. `coming`: the channel is only being called.
    `ask`: there was a new link meanwhile, so it is to be asked about once it is there.
    """

    to: bytes
    names: frozenset[str]
    until: float
    before: Watch | None = None
    coming: bool = False
    ask: bool = False


class Events(Protocol):
    """The link to FreeSWITCH."""

    @property
    def connected(self) -> bool: ...

    def want(self, who: str, names: frozenset[str]) -> None:
        """Have these events come, published or not."""
        ...

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        """Call `then` when FreeSWITCH goes by that; with False if there is no link."""
        ...


class Watches(SwitchObserver):
    """The calls that are watched, and where their events go. A part of the daemon without a thread."""

    name = "watched calls"

    def __init__(
        self,
        prefix: str,
        names: frozenset[str],
        events: Events,
        replies: Replies,
        send: Callable[[Sequence[Command]], None],
        after: Callable[[float, Callable[[], object]], Any],
    ) -> None:
        """`names`: of all events that a channel can have."""
        self.most, self.most_of_one = MOST, MOST_OF_ONE
        self._prefix = prefix
        self._names = names
        self._events = events
        self._replies = replies
        self._send = send
        self._after = after
        self._cut = len(f"{prefix}.events")
        self._not_there = (f"{prefix}.events.", f"{prefix}.cdr.", "$")
        self._asking = threading.Lock()  # which events are asked for: what was found last is asked for last
        self._lock = threading.Lock()  # guards what follows
        self.watches: dict[str, tuple[Watch, ...]] = {}  # by uuid
        self._count = 0
        self._timer = False
        self._wanted: frozenset[str] = frozenset()
        self._used = 0.0  # time.monotonic() at which there was a watch
        self._closed = False
        self._held: list[Reply] = []  # of the event thread alone

    # -- a part of the daemon

    def start(self) -> None:
        """Nothing to do."""

    def stop(self, timeout: float) -> None:
        """End all, for good."""
        self._closed = True
        self.end_all()

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    def __len__(self) -> int:
        return self._count

    # -- the path of events

    @property
    def active(self) -> bool:
        """Whether anything is watched."""
        return bool(self.watches)

    def subjects(self, event: RawEvent, name: str, own: bytes) -> list[bytes]:
        """The subjects on which this event is published in addition to `own`."""
        uuid = event.uuid
        watches = self.watches.get(uuid)
        if watches is None:
            return []
        tail = own[self._cut :]
        found = [
            each.to + tail
            for each in watches
            if not each.names or name in each.names or ("::" in name and "CUSTOM" in each.names)
        ]
        if event.is_one_of(_ENDS):
            self.end(uuid)
        return found

    def add(self, subjects: Sequence[bytes], payload: bytes) -> None:
        """Publish it on these, with the next `flush`."""
        for each in subjects:
            self._held.append((Message(b"", each, b""), payload, ""))

    def flush(self) -> None:
        """What was added leaves in one write."""
        if self._held:
            held, self._held = self._held, []
            self._replies.send(held)

    # -- watches begin and end

    def place(self, uuid: str, to: str, field: str = "to") -> str:
        """The subject below which the events go. Raises CommandError for one that they must not be published on."""
        place = to or f"{self._prefix}.calls.{uuid}"
        lane = any(is_command_lane(self._prefix, each) for each in (to, f"{to}."))
        if to and (lane or to == self._prefix or f"{to}.".startswith(self._not_there)):
            must = "must not be a command lane or a subject of events, nor begin with $"
            raise CommandError(f"{field} {must}", field=field)
        if not to and any(each in uuid for each in "*>") or "" in place.split("."):
            raise CommandError("uuid can't be part of a subject: to must say which one", field="to")
        return place

    def begin(
        self, uuid: str, place: str, then: Callable[[Failure | None], None], names: Sequence[str] = (),
        ttl: float = LONGEST, coming: bool = False,
    ) -> None:  # fmt: skip
        """Watch it; `then` is called when its events come, or with why they will not.

        `coming`: there is no such channel yet, until `arrived`.
        """
        wanted = frozenset(each if "::" in each else each.upper() for each in names)
        to, until = place.encode(), time.monotonic() + ttl
        with self._lock:
            before, others = self._at(uuid, to)
            new = before is None
            full = (new and self._count >= self.most) or len(others) >= self.most_of_one or self._closed
            if not full:
                coming = coming or (before is not None and before.coming)
                before = before and before._replace(before=None)
                self.watches[uuid] = (*others, Watch(to, wanted, until, before, coming))
                self._count += new
            timer, self._timer = self._timer, True
        if full:
            then(Failure(f"Too many watches ({self._count}, {len(others)} of this call)", Executed.NO))
            return
        if not timer:
            self._after(ROUND, self._look)
        self._ask(wanted or self._names)

        def in_force(there: bool) -> None:
            if there:
                then(None)
            elif self.take_back(uuid, place):
                then(Failure(_NO_EVENTS if self._events.connected else "FreeSWITCH is not connected", Executed.NO))

        self._events.when_in_force(in_force)

    def end(self, uuid: str, place: str = "") -> int:
        """End those of this channel, or the one with this place; returns how many there were."""
        with self._lock:
            watches = self.watches.get(uuid, ())
            left = tuple(each for each in watches if place and each.to != place.encode())
            return self._leave(uuid, left)

    def take_back(self, uuid: str, place: str) -> bool:
        """`begin` has failed: the watch that was there before goes on. False if there is none of this place now."""
        with self._lock:
            watch, others = self._at(uuid, place.encode())
            if watch is not None:
                self._leave(uuid, others if watch.before is None else (*others, watch.before))
            return watch is not None

    def _at(self, uuid: str, to: bytes) -> tuple[Watch | None, tuple[Watch, ...]]:
        """The watch of a channel with this place, and its others. Lock held."""
        watches = self.watches.get(uuid, ())
        found = next((each for each in watches if each.to == to), None)
        return found, tuple(each for each in watches if each is not found)

    def end_all(self) -> None:
        """End all there are."""
        with self._lock:
            self.watches.clear()
            self._count = 0

    def end_soon(self, uuid: str, place: str) -> None:
        """The call has failed, or ended; its last events may be on their way."""
        soon = time.monotonic() + LINGER
        with self._lock:
            if uuid in self.watches:
                self.watches[uuid] = tuple(
                    each._replace(until=min(each.until, soon)) if each.to == place.encode() else each
                    for each in self.watches[uuid]
                )

    def _leave(self, uuid: str, left: tuple[Watch, ...]) -> int:
        """Only these are left of a channel. Lock held."""
        gone = len(self.watches.get(uuid, ())) - len(left)
        if left:
            self.watches[uuid] = left
        else:
            self.watches.pop(uuid, None)
        self._count -= gone
        return gone

    def _look(self) -> None:
        """On the thread io: time passes."""
        now = time.monotonic()
        with self._lock:
            for uuid, watches in list(self.watches.items()):
                if any(each.until <= now for each in watches):
                    self._leave(uuid, tuple(each for each in watches if each.until > now))
            if self.watches:
                self._used = now
            idle = not self.watches and now - self._used >= IDLE
            self._timer = not idle and not self._closed
            again = self._timer
        if again:
            self._after(ROUND, self._look)
        elif idle:
            self._ask(None)

    def _ask(self, names: frozenset[str] | None) -> None:
        """Have these events come, too; None: those that somebody watches for, and no others."""
        with self._asking:
            if names is None:
                with self._lock:
                    each_one = [each.names or self._names for watches in self.watches.values() for each in watches]
                wanted = frozenset().union(*each_one)
            else:
                wanted = self._wanted | names | {DESTROY}
            if wanted != self._wanted:
                self._wanted = wanted
                self._events.want(self.name, wanted)

    # -- the link

    def linked(self) -> None:
        """Channels may have ended unseen."""
        commands = []
        with self._lock:
            for uuid, watches in self.watches.items():
                if any(each.coming for each in watches):
                    self.watches[uuid] = tuple(each._replace(ask=True) for each in watches)
                elif wire.is_uuid(uuid):
                    commands.append(self._question(uuid))
        if commands:
            self._send(commands)

    def arrived(self, uuid: str) -> None:
        """A channel that was being called is there."""
        with self._lock:
            watches = self.watches.get(uuid, ())
            if watches:
                self.watches[uuid] = tuple(each._replace(coming=False, ask=False) for each in watches)
        if any(each.ask for each in watches) and wire.is_uuid(uuid):
            self._send([self._question(uuid)])

    def _question(self, uuid: str) -> Command:
        def done(answer: str) -> None:
            if answer.strip() == "false":
                self.end(uuid)

        return Command(wire.api("uuid_exists", uuid), "uuid_exists", done, log.debug, (uuid,))


class CallWatch:
    """Begins a watch of a channel that there is."""

    def __init__(
        self,
        watches: Watches,
        send: Callable[[Sequence[Command]], None],
        names: frozenset[str],
        waited_for: Callable[[str], list[dict[str, str]]] = lambda uuid: [],
    ) -> None:
        """`names`: of all events that FreeSWITCH has. `waited_for`: of a channel, the applications."""
        self.watches = watches
        self._send = send
        self._names = names
        self._waited_for = waited_for

    def __call__(self, invocation: Invocation) -> None:
        """Raises CommandError."""
        payload = invocation.payload
        uuid, names, to, ttl = UUID(payload), EVENTS(payload), TO(payload), TTL(payload)
        unknown = [each for each in names if "::" not in each and each.upper() not in self._names]
        if unknown:
            raise CommandError(f"events must name events of FreeSWITCH: it has no {unknown[0]}", field="events")
        place = self.watches.place(uuid, to)

        def failed(why: Failure) -> None:
            self.watches.take_back(uuid, place)
            invocation.fail(why)

        def done(answer: str) -> None:
            if answer.strip() == "true":
                data: dict[str, Any] = {"uuid": uuid, "to": place}
                if applications := self._waited_for(uuid):  # the end of each comes as an event of this watch
                    data["applications"] = applications
                invocation.finish(Outcome("Call watched", data))
                return
            self.watches.take_back(uuid, place)
            self.watches.end_soon(uuid, place)
            invocation.finish(Outcome("-ERR No such channel!", ok=False))

        def begun(why: Failure | None) -> None:
            if why is not None:
                invocation.fail(why)
            else:  # asked behind that, so that the end of the channel is heard of
                self._send([Command(wire.api("uuid_exists", uuid), "uuid_exists", done, failed, (uuid,))])

        self.watches.begin(uuid, place, begun, names, ttl)


def unwatch(watches: Watches) -> Callable[[Invocation], Outcome]:
    """The handler of call.unwatch."""

    def handle(invocation: Invocation) -> Outcome:
        uuid, to = UUID(invocation.payload), OF(invocation.payload)
        if not watches.end(uuid, to):
            raise CommandError("Nobody watches this call")
        return Outcome("Call unwatched", {"uuid": uuid})

    return handle
