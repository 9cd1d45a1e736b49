"""The thread that blocks on events: subscribing, nudging, asking whether the switch lives, coming back."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import pytest

from event_agent.freeswitch import event_reader as module
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.event_reader import EventReader
from event_agent.freeswitch.filters import EventFilter
from event_agent.runtime.backoff import Backoff
from tests.switchsim.in_process import HELD, FakeConnection, FakeSwitch, event_frame, reply_frame

CORE = "the-core-uuid"
ALL = EventFilter.of(True, (), ())
ASKED = module.PROBE.strip()
HEAR_OURS = f"filter Event-Subclass {module.SYNC}"
NOTHING = EventFilter.of(False, (), ())
SOME = EventFilter.of(False, ("HEARTBEAT",), ())


def until(condition: Callable[[], object], what: str, timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}"
        time.sleep(0.001)


def lives(connection: FakeConnection, command: str, core_uuid: str = CORE, sequence: int = 1000) -> str | None:
    if command.startswith("sendevent"):
        subclass, _, mark = command.partition("Event-Subclass: ")[2].partition("\nMark: ")
        headers = {"Event_Name": "CUSTOM", "Event_Subclass": subclass, "Event_Sequence": str(sequence), "Mark": mark}
        connection.push(event_frame(Event_Name="EARLY"), event_frame(**headers))
    return core_uuid if command == "api global_getvar core_uuid" else "+OK"


class Reader:
    """A reader on a fake switch, and what it said."""

    def __init__(self, switch: FakeSwitch, wake: float = 0.0) -> None:
        self.switch = switch
        self.events: list[str] = []
        self.batches: list[list[str]] = []
        self.ups = 0
        self.downs: list[str] = []
        self.reader = EventReader(self._connect, self._event, self._batch, self._up, self.downs.append, wake)

    def _connect(self) -> Connection:
        return self.switch.connect()

    def _event(self, data: bytes) -> None:
        name = json.loads(data)["Event-Name"]
        self.events.append(name)
        self.batches[-1].append(name)

    def _batch(self) -> AbstractContextManager[object]:
        self.batches.append([])
        return contextlib.nullcontext()

    def _up(self) -> None:
        assert self.reader.connected
        self.ups += 1

    def start(self) -> Reader:
        self.reader.start()
        until(lambda: self.ups, "subscribed")
        return self

    @property
    def connection(self) -> FakeConnection:
        return self.switch.connections[-1]


def chosen(connection: FakeConnection) -> list[str]:
    """The commands by which events are chosen, after those that find out where the switch stands."""
    others = ("api", "sendevent", "event json CUSTOM", HEAR_OURS, ASKED)
    return [each for each in connection.sent if not each.startswith(others)]


Readers = Callable[..., Reader]


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> Iterator[Readers]:
    """Makes readers, impatient ones; all are ended after the test, and leave nothing behind."""
    monkeypatch.setattr(module, "Backoff", lambda *_: Backoff(0.01, 0.02))
    made: list[Reader] = []

    def make(switch: FakeSwitch | None = None, wake: float = 0.0) -> Reader:
        made.append(Reader(switch or FakeSwitch(lives), wake))
        made[-1].reader.subscribe(ALL)
        return made[-1]

    yield make
    for each in made:
        each.reader.stop(5)
        assert not each.switch.open, "a connection is left open"
        assert not each.reader.connected
    assert not [each.name for each in threading.enumerate() if each.name.startswith("esl-events")]


def test_it_subscribes_and_hands_on_in_order(readers: Readers) -> None:
    reader = readers().start()
    assert reader.connection.sent[0] == "api global_getvar core_uuid"
    assert chosen(reader.connection) == ALL.commands(CORE)
    assert f"filter Core-UUID {CORE}" in reader.connection.sent
    frames = [event_frame(Event_Name=f"E{number}") for number in range(50)]
    reader.connection.push(*frames[:30])
    until(lambda: len(reader.events) == 30, "30 events")
    reader.connection.push(*frames[30:])
    until(lambda: len(reader.events) == 50, "50 events")
    assert reader.events == [f"E{number}" for number in range(50)], "and none that was not chosen"
    assert [f"E{number}" for number in range(30)] in reader.batches, "the events of one read leave together"


def test_what_is_no_event_is_left(readers: Readers, caplog: pytest.LogCaptureFixture) -> None:
    reader = readers().start()
    reader.connection.push(reply_frame("-ERR no keywords supplied"), event_frame(Event_Name="A"), reply_frame("+OK"))
    until(lambda: reader.events == ["A"], "the event")
    until(lambda: "FreeSWITCH refused a subscription: -ERR no keywords supplied" in caplog.text, "logged")


def test_another_choice_on_the_same_connection(readers: Readers) -> None:
    reader = readers().start()
    before = len(reader.connection.sent)
    reader.reader.subscribe(ALL)
    assert len(reader.connection.sent) == before, "nothing has changed"
    reader.reader.subscribe(SOME)
    assert reader.connection.sent[before:] == SOME.commands(CORE)
    assert len(reader.switch.connections) == 1 and reader.ups == 1


def test_it_comes_back_and_subscribes_again(readers: Readers) -> None:
    reader = readers().start()
    reader.reader.calls = 3
    reader.connection.cut("it is gone")
    until(lambda: reader.ups == 2, "back")
    assert reader.downs == ["it is gone"] and reader.switch.connections[0].closed
    assert chosen(reader.connection) == ALL.commands(CORE)
    assert reader.reader.calls == 0, "channels of a switch that was restarted are gone"
    reader.switch.refusal = "not there"
    reader.connection.cut()
    until(lambda: len(reader.switch.fresh) > 5, "it keeps trying")
    assert not reader.reader.connected and len(reader.downs) == 2
    reader.reader.subscribe(SOME)  # chosen meanwhile
    reader.switch.refusal = ""
    until(lambda: reader.ups == 3, "back again")
    assert chosen(reader.connection) == SOME.commands(CORE)


def test_what_was_missed_is_counted(readers: Readers) -> None:
    """Event-Sequence tells, as long as it is the same start of the switch; of all that was missed since last asked."""
    switch = FakeSwitch(lives)
    reader = readers(switch).start()
    assert reader.reader.take_unseen() is None, "nothing is known of the time before"
    reader.connection.push(event_frame(Event_Name="A", Event_Sequence="1005"))
    until(lambda: reader.events, "heard")

    def again(core_uuid: str, first: int, second: int) -> None:
        """Back, on a switch that numbers the first event fired for us so, and the second so."""
        ups, numbers = reader.ups, iter((first, second))

        def answers(connection: FakeConnection, command: str) -> str | None:
            return lives(connection, command, core_uuid, next(numbers) if command.startswith("sendevent") else 0)

        switch.answers = answers
        reader.connection.cut()
        until(lambda: reader.ups > ups, "back")

    # The one event of another kind that comes back with the second was heard.
    again(CORE, 1010, 1013)
    assert reader.reader.take_unseen() == 4 + 1
    until(lambda: reader.events[-1] == "EARLY", "and it was handed on")
    assert reader.reader.take_unseen() == 0, "told once"
    again(CORE, 1014, 1016)
    again(CORE, 1020, 1022)
    assert reader.reader.take_unseen() == 3, "nobody asked in between"
    reader.reader.missed(2)
    assert reader.reader.take_unseen() == 2, "what could not be told"
    again("restarted", 20, 0)
    assert reader.reader.take_unseen() is None
    again("restarted", 30, 32)
    assert reader.reader.take_unseen() == 9


def test_what_is_excluded_is_not_waited_for(readers: Readers) -> None:
    """A filter that stops our own event: what is fired until the subscription holds can't be counted."""
    reader = readers()
    reader.start()
    fired = {EventFilter.of(True, (), ("CUSTOM",)): 1, NOTHING: 1, ALL: 2, SOME: 2}
    for ups, (wanted, count) in enumerate(fired.items(), 2):
        reader.reader.subscribe(wanted)
        reader.connection.cut()
        until(lambda ups=ups: reader.ups == ups, "back")  # type: ignore[misc]
        assert len([each for each in reader.connection.sent if each.startswith("sendevent")]) == count, wanted
    assert HEAR_OURS in reader.connection.sent, "without it the other filters would stop it"


def test_numbers_of_any_length_are_no_fault(readers: Readers) -> None:
    """int() refuses thousands of digits; an event with these must not end the thread."""
    reader = readers().start()
    digits = "9" * 5000
    reader.connection.push(event_frame(Event_Name="A", Event_Sequence=digits, Event_Date_Timestamp=digits))
    reader.connection.push(event_frame(Event_Name="B"))
    until(lambda: reader.events == ["A", "B"], "both")
    assert not reader.downs and reader.reader.connected


def test_a_switch_that_sends_no_events_is_left(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FROZEN", 0.05)
    switch = FakeSwitch(lambda connection, command: "+OK")
    reader = readers(switch)
    reader.reader.start()
    until(lambda: len(reader.downs) > 1, "left, and tried again")
    assert set(reader.downs) == {"FreeSWITCH does not send events"} and not reader.reader.connected and not reader.ups


def test_a_switch_that_is_still_starting_is_waited_for(readers: Readers) -> None:
    """Without its Core-UUID the filter would let nothing through."""
    switch = FakeSwitch(lambda connection, command: lives(connection, command, "-ERR global_getvar Command not found!"))
    reader = readers(switch)
    reader.reader.start()
    until(lambda: len(reader.downs) > 1, "tried again")
    assert set(reader.downs) == {"FreeSWITCH is still starting"} and not reader.ups
    switch.answers = lives
    until(lambda: reader.ups, "subscribed")
    assert chosen(reader.connection) == ALL.commands(CORE)


def test_late_events_are_told_of_once(readers: Readers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    reader = readers().start()

    def came(late: float) -> None:
        count = len(reader.events)
        stamp = str(int((time.time() - late) * 1e6))
        reader.connection.push(event_frame(Event_Name="A", Event_Date_Timestamp=stamp))
        until(lambda: len(reader.events) > count and abs(reader.reader.lag - late) < 1, "heard")

    for late in (0.0, 60.0, 50.0):
        came(late)
    assert caplog.text.count("s behind FreeSWITCH") == 1
    came(0.0)
    until(lambda: "up to date again" in caplog.text, "told")


def test_a_quiet_switch_is_asked_whether_it_lives(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 0.0)
    switch = FakeSwitch(lives)
    reader = readers(switch).start()
    reader.reader.wake, reader.reader.active_until = 0.005, time.monotonic() + 60
    until(lambda: reader.connection.sent.count(ASKED) > 3, "asked now and then")
    assert not reader.downs and len(switch.connections) == 1


def test_a_frozen_switch_is_noticed(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET", 0.02)
    monkeypatch.setattr(module, "FROZEN", 0.05)
    switch = FakeSwitch(lives)
    reader = readers(switch)
    reader.reader.wake = 0.005
    reader.start()
    reader.reader.active_until = time.monotonic() + 60
    switch.answers = lambda *_: HELD
    until(lambda: reader.downs, "noticed")
    assert "frozen" in reader.downs[0] and "did not answer" in reader.downs[0]
    assert switch.connections[0].sent.count(ASKED) == 1, "asked once, not again and again"
    until(lambda: len(switch.connections) > 2, "tried again, though nobody answers")
    assert reader.ups == 1
    switch.answers = lives
    switch.pump()
    until(lambda: reader.ups > 1, "back")


def test_a_busy_connection_is_nudged(readers: Readers) -> None:
    reader = readers(wake=0.002).start()
    assert not threading.Event().wait(0.03) and reader.connection.nudges == 0, "not while nothing goes on"
    for active in ("calls", "active_until"):
        before = reader.connection.nudges
        setattr(reader.reader, active, 1 if active == "calls" else time.monotonic() + 60)
        reader.connection.push(event_frame(Event_Name="WAKE"))  # it looks again
        until(lambda before=before: reader.connection.nudges > before + 5, "nudged")  # type: ignore[misc]
        reader.reader.calls, reader.reader.active_until = 0, 0.0


def test_an_event_keeps_the_connection_busy_for_a_while(readers: Readers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ACTIVE", 0.05)
    reader = readers(wake=0.002).start()
    reader.connection.push(event_frame(Event_Name="A"))
    until(lambda: reader.connection.nudges > 3, "nudged")
    until(lambda: time.monotonic() > reader.reader.active_until + 0.02, "it has calmed down")
    before = reader.connection.nudges
    assert not threading.Event().wait(0.03) and reader.connection.nudges <= before + 1


def test_housekeeping_of_an_idle_switch_keeps_nobody_awake(readers: Readers) -> None:
    reader = readers(wake=0.002).start()
    for name in ("RE_SCHEDULE", "HEARTBEAT"):
        reader.connection.push(event_frame(Event_Name=name))
        until(lambda name=name: reader.events[-1:] == [name], "heard")  # type: ignore[misc]
    assert not threading.Event().wait(0.03) and reader.connection.nudges == 0


def test_without_nudges(readers: Readers) -> None:
    reader = readers(wake=0.0).start()
    reader.reader.calls, reader.reader.active_until = 5, time.monotonic() + 60
    reader.connection.push(event_frame(Event_Name="A"))
    until(lambda: reader.events, "heard")
    assert not threading.Event().wait(0.03) and reader.connection.nudges == 0


def test_it_ends_whatever_it_waits_for(readers: Readers) -> None:
    quiet = readers().start()
    started = time.monotonic()
    quiet.reader.stop(5)
    assert time.monotonic() - started < 0.9 and not quiet.downs, "its end is no fault"
    away = readers(FakeSwitch(lives))
    away.switch.refusal = "not there"
    away.reader.start()
    until(lambda: away.switch.fresh, "it tries")
    away.reader.stop(5)
    never = readers()
    never.reader.stop(5)  # it was never started
    assert never.ups == 0


def test_choices_from_many_threads_end_with_the_last(readers: Readers) -> None:
    """FreeSWITCH is asked for what was chosen last, whoever was quicker; and no two send at one time."""
    reader = readers().start()
    sending: list[int] = []
    overlaps: list[int] = []
    plain = reader.connection.send

    def send(text: str) -> None:
        sending.append(1)
        overlaps.append(len(sending))
        time.sleep(0.001)
        plain(text)
        sending.pop()

    reader.connection.send = send  # type: ignore[method-assign]
    choices = [EventFilter.of(False, (f"E{number}",), ()) for number in range(8)]
    threads = [threading.Thread(target=reader.reader.subscribe, args=(each,)) for each in choices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    wanted = reader.reader._filter.commands(CORE)
    assert reader.connection.sent[-len(wanted) :] == wanted
    assert max(overlaps) == 1
