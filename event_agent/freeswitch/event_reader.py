"""The thread that blocks on events: one connection, every event handed on in the order in which it came.

mod_event_socket looks at its event queue every 20 ms unless something arrives on the connection, so while calls or
commands are active a line break is sent each few milliseconds (the nudge, `event_wake_ms`). On a quiet connection a
harmless command is sent now and then: a switch that does not answer it is frozen.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch.command import as_frames
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.frames import Frame
from event_agent.runtime.backoff import Backoff

log = logging.getLogger(__name__)

QUIET = 5.0  # seconds of silence after which the switch is asked whether it lives
FROZEN = 5.0  # seconds it has to answer
ACTIVE = 2.0  # seconds after an event for which the connection counts as busy
LATE = 5.0  # seconds behind after which the operator is told
# Events of an idle switch, after which nothing else is to be expected.
HOUSEKEEPING = tuple(b'{"Event-Name":"%b"' % name for name in (b"RE_SCHEDULE", b"HEARTBEAT", b"MODULE_LOAD"))
SYNC = "event_agent::sync"  # the subclass of the event by which the switch's Event-Sequence is learned
PROBE = "filter delete event-agent-probe\n\n"  # answered at once, changes nothing, fires no event


class EventReader:
    """Owns the event connection. All callbacks run on its thread, `esl-events`."""

    def __init__(
        self,
        connect: Callable[[], Connection],
        on_event: Callable[[bytes], None],
        batch: Callable[[], AbstractContextManager[object]],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        wake: float,
    ) -> None:
        """`wake`: seconds between two nudges, 0 for none. `on_event` gets the JSON of each event."""
        self._connect = connect
        self._on_event = on_event
        self._batch = batch
        self._on_up = on_up
        self._on_down = on_down
        self.wake = wake
        self._filter = EventFilter(False, frozenset(), frozenset())
        self._subscribed: EventFilter | None = None
        self._connection: Connection | None = None
        self._sending = threading.Lock()  # one thread at a time
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="esl-events", daemon=True)
        self._core_uuid = ""
        self._sequence = 0  # Event-Sequence of the last event seen
        self._late = False
        self._unseen: int | None = 0  # see take_unseen
        self._mark = os.urandom(8).hex()  # by which our events are told from those of another agent on the same switch
        self.lag = 0.0  # seconds between FreeSWITCH's time of the last event and its arrival here
        self.calls = 0  # channels seen to begin and not to end
        self.active_until = 0.0  # time.monotonic(); commands move it on too
        self.beat = 0.0  # time.monotonic() at which the thread last came round

    def start(self) -> None:
        """Start connecting; never blocks."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread within `timeout` seconds."""
        self._stopping.set()
        self._abort()
        if self._thread.ident:
            self._thread.join(timeout)
            if self._thread.is_alive():
                log.warning("thread %s did not end in time", self._thread.name)

    def subscribe(self, wanted: EventFilter) -> None:
        """From any thread: events are chosen by this from now on, on the same connection."""
        self._filter = wanted
        connection = self._connection
        if connection is not None:
            self._ask_for(connection)

    @property
    def connected(self) -> bool:
        """True while events come."""
        return self._connection is not None

    def _abort(self) -> None:
        connection = self._connection
        if connection is not None:
            connection.abort()

    def _run(self) -> None:
        backoff = Backoff(0.2, 10.0)
        while not self._stopping.is_set():
            try:
                connection = self._connect()
            except LinkError as error:
                log.debug("events: %s", error)  # the lane tells the operator; it meets the same fault
                self._stopping.wait(backoff.next())
                continue
            reason = "stopping"
            started = time.monotonic()
            try:
                reply = connection.ask("api global_getvar core_uuid\n\n", FROZEN)
                if reply.text.startswith("-ERR"):
                    # mod_commands is loaded after mod_event_socket; a filter made of this would let nothing through
                    raise LinkError("FreeSWITCH is still starting")
                early = self._synchronise(connection, reply.text.strip())
                self._connection = connection
                self._ask_for(connection)  # where another filter was chosen meanwhile
                self._on_up()
                self._take(early, time.monotonic())
                self._read(connection)
            except (LinkError, BadCommand) as error:
                reason = str(error)
            self._connection = None
            self.calls = 0
            connection.close()
            if not self._stopping.is_set():
                self._on_down(reason)
                if time.monotonic() - started > 10.0:
                    backoff.reset()
                self._stopping.wait(backoff.next())

    def take_unseen(self) -> int | None:
        """Events, of whatever name, that the switch fired while this connection was down, since this was last asked.

        None: not known, because it is the first connection, or the switch was restarted.
        """
        with self._sending:
            unseen, self._unseen = self._unseen, 0
        return unseen

    def missed(self, count: int | None) -> None:
        """Further events that were not seen; also what `take_unseen` gave and could not be told."""
        with self._sending:
            self._unseen = None if count is None or self._unseen is None else self._unseen + count

    def _synchronise(self, connection: Connection, core_uuid: str) -> list[Frame]:
        """Subscribe, and find out how many events the switch has fired since the last one seen here.

        Events are numbered by Event-Sequence, all of them, wanted or not; the number now is learned by firing one.
        Returns what came meanwhile.
        """
        last = self._sequence if core_uuid == self._core_uuid else 0
        self._core_uuid = core_uuid
        connection.ask(f"event json CUSTOM {SYNC}\n\n", FROZEN)
        mark, _ = self._fire(connection)
        at = mark.find(b'"Core-UUID":"')
        if at >= 0:  # what events carry is what the filter must name
            self._core_uuid = mark[at + 13 : at + 49].decode(errors="replace").partition('"')[0]
        self._subscribed = wanted = self._filter
        commands = wanted.commands(self._core_uuid)
        for command in commands:
            connection.ask(f"{command}\n\n", FROZEN)  # one by one: who is told of it may rely on it
        self._sequence = _sequence(mark)
        if not last:
            self.missed(None)
            return []
        unseen = self._sequence - last - 1
        early: list[Frame] = []
        if commands != ["noevents"] and not wanted.exclude & {SYNC, "CUSTOM"}:
            # Between that and the subscription more may have been fired.
            if not wanted.everything:
                connection.ask(f"filter Event-Subclass {SYNC}\n\n", FROZEN)
            mark, early = self._fire(connection)
            heard = sum(b"text/event-json" in frame.head for frame in early)
            unseen += _sequence(mark) - self._sequence - 1 - heard
            self._sequence = _sequence(mark)
        self.missed(max(0, unseen))
        return early

    def _fire(self, connection: Connection) -> tuple[bytes, list[Frame]]:
        """Have the switch fire an event; returns it as it came back, and the other frames that came."""
        connection.ask(f"sendevent CUSTOM\nEvent-Subclass: {SYNC}\nMark: {self._mark}\n\n", FROZEN)
        deadline = time.monotonic() + FROZEN
        found, others = b"", []
        while not found and time.monotonic() < deadline:
            for frame in connection.receive(0.05):
                if b"text/event-json" in frame.head and self._mark.encode() in frame.body:
                    found = frame.body
                else:
                    others.append(frame)
            if not found:
                connection.send("\n\n")
        if not found:
            raise LinkError("FreeSWITCH does not send events")
        return found, others

    def _ask_for(self, connection: Connection) -> None:
        with self._sending:  # whoever comes last asks for what was chosen last
            wanted = self._filter
            if wanted != self._subscribed:
                self._subscribed = wanted
                try:
                    connection.send(as_frames(f"{command}\n\n" for command in wanted.commands(self._core_uuid)))
                except (LinkError, BadCommand):
                    connection.abort()  # its reader reports

    def _send(self, connection: Connection, text: str) -> None:
        with self._sending:
            connection.send(text)

    def _read(self, connection: Connection) -> None:
        heard = time.monotonic()
        asked = 0.0  # when the probe was sent, 0 while none is out
        while not self._stopping.is_set():
            self.beat = now = time.monotonic()
            busy = self.wake > 0 and (self.calls > 0 or now < self.active_until)
            frames = connection.receive(self.wake if busy else 1.0)
            if frames:
                heard, asked = time.monotonic(), 0.0
                self._take(frames, heard)
            elif busy:
                self._send(connection, "\n\n")
            if not frames:
                now = time.monotonic()
                if not asked and now - heard > QUIET:
                    asked = now
                    self._send(connection, PROBE)
                elif asked and now - asked > FROZEN:
                    raise LinkError(f"FreeSWITCH did not answer for {now - heard:.0f} s: frozen?")

    def _take(self, frames: list[Frame], now: float) -> None:
        last = b""
        with self._batch():
            for frame in frames:
                if b"text/event-json" in frame.head:
                    self._on_event(frame.body)
                    last = frame.body
                elif b"Reply-Text: -ERR" in frame.head:
                    log.warning("FreeSWITCH refused a subscription: %s", frame.text)
        if last:
            if not last.startswith(HOUSEKEEPING):
                self.active_until = max(self.active_until, now + ACTIVE)
            self._sequence = max(self._sequence, _sequence(last))
            self._measure_lag(last)

    def _measure_lag(self, data: bytes) -> None:
        """Say when events come late: FreeSWITCH throws out a connection that lets 100,000 of them pile up."""
        stamp = _number(data, b'"Event-Date-Timestamp":"')
        self.lag = max(0.0, time.time() - stamp / 1e6) if stamp else 0.0
        if self.lag > LATE and not self._late:
            self._late = True
            log.warning("events are %.0f s behind FreeSWITCH: fewer (include, exclude) or a faster machine", self.lag)
        elif self.lag < LATE / 2 and self._late:
            self._late = False
            log.info("events are up to date again")


def _sequence(data: bytes) -> int:
    return _number(data, b'"Event-Sequence":"')


def _number(data: bytes, key: bytes) -> int:
    """A number that stands in an event's JSON as a string; 0 where there is none."""
    at = data.find(key)
    digits = data[at + len(key) : data.find(b'"', at + len(key))] if at >= 0 else b""
    return int(digits) if digits.isdigit() and len(digits) < 20 else 0  # int() refuses thousands of them
