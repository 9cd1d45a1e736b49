"""The thread that blocks on events: one connection, every event handed on in the order in which it came.

mod_event_socket looks at its event queue every 20 ms unless something arrives on the connection, so while calls or
commands are active a line break is sent each few milliseconds (the nudge, `event_wake_ms`), unless FreeSWITCH rings
(bell.py). On a quiet connection a harmless command is sent now and then: a FreeSWITCH that does not answer it is
frozen.

The connection to a frozen FreeSWITCH is kept: what that fires when it goes on comes on it, from the first event on,
where a new connection would begin later. It is left when FreeSWITCH answers on others, and still not on this one.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from event_agent.errors import BadCommand, Frozen, LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.accounts import BEGIN, END, Accounts
from event_agent.freeswitch.bell import Bell
from event_agent.freeswitch.channels import NAMES as CHANNEL_EVENTS
from event_agent.freeswitch.channels import Channels
from event_agent.freeswitch.choice import MARK, SYNC, Choice, hears_ours
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.frames import EVENT, Frame
from event_agent.freeswitch.gaps import Gaps
from event_agent.freeswitch.handover import Handover, Left
from event_agent.freeswitch.lag import Lag
from event_agent.protocol.raw_event import Key, RawEvent
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.health import Signs
from event_agent.runtime.link import Link, LinkState, keep_connected

log = logging.getLogger(__name__)

CORE = Key("Core-UUID")
HEADS = (b"Content-", b"Reply-Text: ")  # how the head of a frame begins
LOOK = 1.0  # seconds between two signs of life on a quiet connection


@dataclass(frozen=True)
class Timing:
    """In seconds."""

    quiet: float = 5.0  # of silence, after which FreeSWITCH is asked whether it lives
    frozen: float = 5.0  # that it has to answer, and to go on here once it answers elsewhere
    active: float = 2.0  # after an event, for which the connection counts as busy
    after_command: float = 0.5  # the same after a command
    measured: float = 5.0  # between two looks at how FreeSWITCH's clock differs
    first_wait: float = 0.2  # before the connection is tried again
    longest_wait: float = 10.0


class _Silence:
    """How long nothing has come on a connection, and what that means."""

    def __init__(self, timing: Timing) -> None:
        self._timing = timing
        self._heard = time.monotonic()
        self._asked = 0.0  # when the probe was sent, 0 while none is out
        self.frozen = 0.0  # since when FreeSWITCH counts as frozen, 0 while it does not

    def ends(self, now: float) -> bool:
        """Something came. True if FreeSWITCH counted as frozen."""
        was, self.frozen = self.frozen, 0.0
        self._heard, self._asked = now, 0.0
        return was > 0

    def asks(self, now: float) -> bool:
        """Whether FreeSWITCH is to be asked now if it lives; once in a silence."""
        if self._asked or now - self._heard <= self._timing.quiet:
            return False
        self._asked = now
        return True

    def judged(self, now: float) -> Frozen | None:
        """Nothing came. That it is frozen, when that becomes so."""
        if self.frozen or not self._asked or now - self._asked <= self._timing.frozen:
            return None
        self.frozen = now
        return Frozen(f"FreeSWITCH did not answer for {now - self._heard:.0f} s: frozen?")

    def left_out(self, answered: float, now: float) -> bool:
        """Whether FreeSWITCH goes on, but not here. `answered`: when it last took a connection, 0 if it never did."""
        return 0 < self.frozen < answered and now - answered > self._timing.frozen


class EventReader:
    """Owns the event connection. All callbacks run on its thread, `esl-events`."""

    name = "events"

    def __init__(
        self,
        connect: Callable[[], Connection],
        consume: Callable[[Sequence[RawEvent]], None],
        link: Link,
        wake: float,
        timing: Timing | None = None,
        handover: Handover | None = None,
        gaps: Gaps | None = None,
        channels: Channels | None = None,
        bell: Bell | None = None,
    ) -> None:
        """`wake`: seconds between two nudges, 0 for none. `consume` gets the events of each read.

        `handover`: by which the connection outlives the process, if there is a way. `channels`: gets to know which
        there are. `bell`: by which FreeSWITCH says that there are events.
        """
        self._connect = connect
        self._consume = consume
        self.link = link
        self._wake = wake
        self._timing = timing or Timing()
        self._handover = handover
        self._held = False  # the present connection outlives us
        self._halved = False  # it began within a frame, and the notes hold the first part of that
        self._choice = Choice(link)
        self._accounts = Accounts(self._timing.active, Lag(again=self._timing.measured), gaps, channels)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="esl-events", daemon=True)
        self._mark = os.urandom(8).hex().encode()  # tells our events from those of another agent on this FreeSWITCH
        self.bell = bell
        self._answered = 0.0  # time.monotonic() when FreeSWITCH last answered on a new connection of somebody else's

    def start(self) -> None:
        """Start connecting; never blocks."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread within `timeout` seconds."""
        self._stopping.set()
        connection = self._choice.connection
        if connection is not None:
            if self._held:
                connection.wake()
            else:
                connection.abort()
        if self._thread.ident:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("thread %s did not end in time", self._thread.name)
                return
        if self.bell is not None:
            self.bell.close()

    def signs(self) -> Signs:
        """By which its thread is known to be alive."""
        return self.link.signs(self._thread.name)

    def subscribe(self, wanted: EventFilter) -> None:
        """From any thread: events are chosen by this from now on, on the same connection."""
        accounts = self._accounts
        accounts.counted = wanted.wants(BEGIN) and wanted.wants(END)
        self._choice.choose(wanted if accounts.channels is None else wanted.widened(CHANNEL_EVENTS))

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        """Call `then` when FreeSWITCH goes by what was chosen last: at once if it does, or later on esl-events.

        From any thread. `then` gets False if there is no link, or if it is lost before.
        """
        self._choice.when_in_force(then)

    @property
    def chosen(self) -> EventFilter:
        """What was chosen last."""
        return self._choice.wanted

    def expect(self) -> None:
        """From any thread: commands were sent, so events will come soon."""
        until = time.monotonic() + self._timing.after_command
        accounts = self._accounts
        if until > accounts.active_until:
            accounts.active_until = until

    def answered(self) -> None:
        """From any thread: FreeSWITCH has just answered on a new connection, so it is not frozen."""
        self._answered = time.monotonic()

    @property
    def connected(self) -> bool:
        """True while events come."""
        return self.link.up

    @property
    def gaps(self) -> Gaps:
        """Events that were not seen."""
        return self._accounts.gaps

    @property
    def lag(self) -> Lag:
        """How late events come."""
        return self._accounts.lag

    # -- the link

    def _run(self) -> None:
        backoff = Backoff(self._timing.first_wait, self._timing.longest_wait)
        keep_connected(self._link_up, self._serve, backoff, self._stopping, self.link)

    def _link_up(self) -> tuple[Connection, list[Frame]]:
        """A connection on which events come, and what came already. Raises LinkError."""
        if self._handover is not None and (left := self._handover.take()) is not None:
            return self._go_on(left), []
        connection = self._connect()
        try:
            reply = connection.ask(wire.api("global_getvar", "core_uuid"), self._timing.frozen)
            core_uuid = reply.text.strip()
            if core_uuid.startswith("-ERR"):
                # mod_commands is loaded after mod_event_socket; a filter made of this would let nothing through
                raise LinkError("FreeSWITCH is still starting")
            if not wire.is_uuid(core_uuid):
                raise LinkError(f"FreeSWITCH says that its core_uuid is {core_uuid[:60]!r}")
            early = self._synchronise(connection, core_uuid)
            self._choice.linked(connection)
            if self._handover is not None and self._handover.hold(connection, self._choice.core_uuid):
                connection.hold()
                self._held = True
            self._accounts.linked(self._choice.core_uuid)
        except BadCommand as error:
            self._close(connection)
            raise LinkError(str(error)) from None
        except BaseException:
            self._close(connection)
            raise
        return connection, early

    def _go_on(self, left: Left) -> Connection:
        """Read on where the process before us has stopped."""
        self._accounts.go_on(left.core_uuid, left.calls, time.monotonic())
        self._choice.go_on(left.connection, left.core_uuid)
        self._halved = not left.connection.whole
        left.connection.hold()
        self._held = True
        self._accounts.linked(self._choice.core_uuid)
        log.info("FreeSWITCH events: taken over from the last process")
        return left.connection

    def _serve(self, linked: tuple[Connection, list[Frame]]) -> None:
        connection, early = linked
        try:
            self._take(early, time.monotonic())
            self._read(connection)
        finally:
            self._close(connection)

    def _close(self, connection: Connection) -> None:
        self._choice.closed()
        calls, self._accounts.calls = self._accounts.calls, 0
        held, self._held = self._held, False
        if self._handover is not None and held:
            if self._stopping.is_set():
                self._handover.note(self._choice.core_uuid, calls, connection.release())
                return
            self._handover.forget()
        connection.close()

    def _synchronise(self, connection: Connection, core_uuid: str) -> list[Frame]:
        """Subscribe, and find out how many events FreeSWITCH has fired since the last one seen here.

        Returns what came meanwhile.
        """
        limit = self._timing.frozen
        connection.ask(wire.line(f"event json CUSTOM {SYNC}"), limit)
        mark, _ = self._fire(connection)
        self.lag.linked(mark)
        found = mark.get(CORE)  # what events carry is what the filter must name
        wanted, commands = self._choice.begin(found if wire.is_uuid(found) else core_uuid)
        for command in commands:
            connection.ask(wire.line(command), limit)  # one by one: an observer of the link may rely on it
        early: list[Frame] = []
        if self.gaps.linked(self._choice.core_uuid, mark) and hears_ours(wanted):
            # Between that and the subscription more may have been fired.
            mark, early = self._fire(connection)
            self.gaps.between(mark, [RawEvent(frame.body) for frame in early if b"text/event-json" in frame.head])
        return early

    def _fire(self, connection: Connection) -> tuple[RawEvent, list[Frame]]:
        """Have FreeSWITCH fire an event; returns it as it came back, and the other frames that came."""
        limit = self._timing.frozen
        self.lag.fired()
        connection.ask(self._firing(), limit)
        deadline = time.monotonic() + limit
        found: RawEvent | None = None
        others: list[Frame] = []
        while found is None and time.monotonic() < deadline:
            for frame in connection.receive(0.05):
                if b"text/event-json" in frame.head and self._mark in frame.body:
                    found = RawEvent(frame.body)
                else:
                    others.append(frame)
            if found is None:
                connection.send(wire.NUDGE)
        if found is None:
            raise LinkError("FreeSWITCH does not send events")
        return found, others

    def _firing(self) -> str:
        return wire.sendevent("CUSTOM", {"Event-Subclass": SYNC, "Mark": self._mark.decode()})

    # -- events come

    def _read(self, connection: Connection) -> None:
        silence = _Silence(self._timing)
        bell, listening, accounts = self.bell, False, self._accounts
        if bell is not None:
            bell.linked()
        while not self._stopping.is_set():
            self.link.beat = now = time.monotonic()
            busy = self._wake > 0 and not silence.frozen and (accounts.calls > 0 or now < accounts.active_until)
            if bell is None:
                frames = connection.receive(self._wake if busy else LOOK)
            else:
                busy = busy and not bell.trusted(now)
                if bell.listens(now) != listening:
                    listening = not listening
                    connection.watch(bell.fileno, listening)
                frames = connection.receive(bell.wait(now, self._wake if busy else LOOK))
                if bell.step(time.monotonic(), bool(frames)):
                    self._choice.send(connection, wire.NUDGE)
                    busy = False
            if self._halved and connection.whole and self._handover is not None:
                self._halved = False
                self._handover.note(self._choice.core_uuid, 0, b"")
            now = time.monotonic()
            if frames:
                if silence.ends(now) and not self._stopping.is_set():
                    self.link.set(LinkState.UP)  # it was frozen, and has missed nothing
                self._take(frames, now)
                if accounts.lag.odd and hears_ours(self._choice.wanted):
                    accounts.lag.fired()
                    self._choice.send(connection, self._firing())
                continue
            if busy:
                self._choice.send(connection, wire.NUDGE)
            if silence.asks(now):
                self._choice.send(connection, wire.PROBE)
            elif fault := silence.judged(now):
                self.link.set(LinkState.DOWN, fault)
                self._choice.lost()
            elif silence.left_out(self._answered, now):
                raise LinkError("FreeSWITCH answers again, but not where events come")

    def _take(self, frames: list[Frame], now: float) -> None:
        events = [RawEvent(body) for head, body in frames if head is EVENT]
        if len(events) < len(frames):
            events = self._sorted(frames)
        if not events:
            return
        accounts = self._accounts
        if accounts.lag.awaited:
            events = accounts.without_ours(events, self._mark)
        wanted = self._choice.wanted
        self._consume(events)
        accounts.take(events, now, hears_ours(wanted))

    def _sorted(self, frames: list[Frame]) -> list[RawEvent]:
        """The events among these; what else there is, is dealt with. Raises LinkError."""
        events = []
        for frame in frames:
            if b"text/event-json" in frame.head:
                events.append(RawEvent(frame.body))
            elif self._choice.awaited and MARK.encode() in frame.head:
                self._choice.marked(frame)
            elif b"Reply-Text: -ERR" in frame.head:
                log.warning("FreeSWITCH refused a subscription: %s", frame.text)
            elif not frame.head.startswith(HEADS):
                raise LinkError("FreeSWITCH's stream of events is out of step")
        return events
