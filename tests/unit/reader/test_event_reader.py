"""The thread that blocks on events: subscribing, nudging, asking whether the switch lives, coming back."""

from __future__ import annotations

import threading
import time

import pytest

from event_agent.freeswitch.bell import Bell
from event_agent.freeswitch.filters import EventFilter
from tests.support import free_port, until
from tests.switchsim.in_process import HELD, FakeConnection, FakeSwitch, event_frame, reply_frame
from tests.unit.reader.parts import (
    ALL,
    ASKED,
    CORE,
    HEAR_OURS,
    NOTHING,
    SOME,
    Reader,
    Readers,
    asked,
    chosen,
    lives,
    quiet,
)


def test_it_subscribes_and_hands_on_in_order(readers: Readers) -> None:
    reader = readers().start()
    assert reader.connection.sent[0] == "api global_getvar core_uuid"
    assert chosen(reader.connection) == asked(ALL)
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
    assert reader.connection.sent[before:] == asked(SOME)
    assert len(reader.switch.connections) == 1 and reader.ups == 1


def test_it_says_when_a_choice_is_in_force(readers: Readers) -> None:
    held: list[str] = []

    def answers(connection: FakeConnection, command: str) -> str | None:
        if held and command.startswith(held[0]):
            return HELD
        if command.startswith("filter delete "):
            return f"+OK filter deleted. [{command.split()[2]}][]"
        return lives(connection, command)

    reader = readers(FakeSwitch(answers)).start()
    said: list[bool] = []
    reader.reader.when_in_force(said.append)
    assert said == [True], "what it was linked with is in force"
    before = len(reader.connection.sent)
    held.append("event json ALL")
    reader.reader.subscribe(SOME)
    reader.reader.when_in_force(said.append)
    reader.reader.when_in_force(said.append)
    asked_for = reader.connection.sent[before:]
    assert asked_for[:-1] == asked(SOME) and asked_for[-1].startswith("filter delete event-agent-choice-")
    reader.heard(event_frame(Event_Name="A"))
    assert said == [True], "FreeSWITCH has not carried it out"
    held.clear()
    reader.switch.pump()
    until(lambda: said == [True] * 3, "both are answered")
    reader.reader.when_in_force(said.append)
    assert said == [True] * 4 and len(reader.connection.sent) == before + len(asked_for), "it is known now"


def test_a_choice_that_is_lost_with_its_link_is_not_in_force(readers: Readers) -> None:
    held: list[str] = []

    def answers(connection: FakeConnection, command: str) -> str | None:
        return HELD if held and "json ALL" in command else lives(connection, command)

    reader = readers(FakeSwitch(answers))
    said: list[bool] = []
    reader.reader.when_in_force(said.append)
    assert said == [False], "there is no link yet"
    reader.start()
    held.append("")
    reader.reader.subscribe(SOME)
    reader.reader.when_in_force(said.append)
    held.clear()
    reader.connection.cut()
    until(lambda: said == [False, False], "answered at the end of the link")
    until(lambda: reader.ups == 2, "back")
    reader.reader.when_in_force(said.append)
    assert said[2:] == [True], "the next link begins with it"


def test_it_comes_back_and_subscribes_again(readers: Readers) -> None:
    reader = readers().start()
    reader.connection.cut("it is gone")
    until(lambda: reader.ups == 2, "back")
    assert reader.downs == ["it is gone"] and reader.switch.connections[0].closed
    assert chosen(reader.connection) == asked(ALL)
    reader.switch.refusal = "not there"
    reader.connection.cut()
    until(lambda: len(reader.switch.fresh) > 5, "it keeps trying")
    assert not reader.reader.connected and reader.downs[1:] == ["FreeSWITCH closed the connection", "not there"]
    reader.reader.subscribe(SOME)  # chosen meanwhile
    reader.switch.refusal = ""
    until(lambda: reader.ups == 3, "back again")
    assert chosen(reader.connection) == asked(SOME)


def test_what_was_missed_is_counted(readers: Readers) -> None:
    """Event-Sequence tells, as long as it is the same start of the switch; of all that was missed since last asked."""
    switch = FakeSwitch(lives)
    reader = readers(switch).start()
    assert reader.reader.gaps.take() is None, "nothing is known of the time before"
    came = ("1001", "1002", "1005", "1004")
    reader.connection.push(*(event_frame(Event_Name="A", Event_Sequence=each) for each in came))
    until(lambda: len(reader.events) >= 4, "heard")

    def again(core_uuid: str, first: int, second: int, later: int = 0) -> None:
        """Back, on a switch that numbers the first event fired for us so, and the second so."""
        ups, numbers = reader.ups, iter((first, second))

        def answers(connection: FakeConnection, command: str) -> str | None:
            number = next(numbers) if command.startswith("sendevent") else 0
            return lives(connection, command, core_uuid, number, later)

        switch.answers = answers
        reader.connection.cut()
        until(lambda: reader.ups > ups, "back")

    # 1003 was under way; the one event of another kind that comes back with the second was heard.
    again(CORE, 1010, 1013)
    assert reader.reader.gaps.take() == 4 + 1 + 1
    until(lambda: reader.events[-1] == "EARLY", "and it was handed on")
    assert reader.reader.gaps.take() == 0, "told once"
    again(CORE, 1014, 1016)
    again(CORE, 1020, 1022)
    assert reader.reader.gaps.take() == 3, "nobody asked in between"
    reader.reader.gaps.missed(2)
    assert reader.reader.gaps.take() == 2, "what could not be told"
    again(CORE, 1030, 1040, 50)  # what comes behind the second makes up for nothing
    assert reader.reader.gaps.take() == 7 + 8
    until(lambda: reader.events[-1] == "LATER" and reader.events.count("LATER") == 50, "handed on")
    again(CORE, 1095, 1097)
    assert reader.reader.gaps.take() == 4, "behind the last of them"
    again("restarted", 20, 0)
    assert reader.reader.gaps.take() is None
    again("restarted", 30, 32)
    assert reader.reader.gaps.take() == 9


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


def test_a_switch_that_sends_no_events_is_left(readers: Readers) -> None:
    switch = FakeSwitch(lambda connection, command: "+OK")
    reader = readers(switch, frozen=0.05)
    reader.reader.start()
    until(lambda: len(switch.connections) > 2, "left, and tried again")
    assert reader.downs == ["FreeSWITCH does not send events"] and not reader.reader.connected and not reader.ups


def test_a_switch_that_is_still_starting_is_waited_for(readers: Readers) -> None:
    """Without its Core-UUID the filter would let nothing through."""
    switch = FakeSwitch(lambda connection, command: lives(connection, command, "-ERR global_getvar Command not found!"))
    reader = readers(switch)
    reader.reader.start()
    until(lambda: len(switch.connections) > 2, "tried again")
    assert reader.downs == ["FreeSWITCH is still starting"] and not reader.ups
    switch.answers = lives
    until(lambda: reader.ups, "subscribed")
    assert chosen(reader.connection) == asked(ALL)


def test_a_quiet_switch_is_asked_whether_it_lives(readers: Readers) -> None:
    reader = readers(wake=0.005, quiet=0.0, after_command=60).start()
    reader.reader.expect()
    until(lambda: reader.connection.sent.count(ASKED) > 3, "asked now and then")
    assert not reader.downs and len(reader.switch.connections) == 1


def calls(reader: Reader, *names: str) -> None:
    reader.heard(*(event_frame(Event_Name=name) for name in names))


def test_a_busy_connection_is_nudged(readers: Readers) -> None:
    reader = readers(wake=0.002, active=0.0, after_command=60).start()
    assert quiet(reader), "not while nothing goes on"
    calls(reader, "CHANNEL_CREATE", "CHANNEL_CREATE", "CHANNEL_DESTROY")
    until(lambda: reader.connection.nudges > 5, "a channel is up")
    calls(reader, "CHANNEL_DESTROY", "CHANNEL_DESTROY")
    assert quiet(reader), "none is up; one that was never seen to begin does not count"
    reader.reader.expect()
    calls(reader, "WAKE")  # it looks again
    until(lambda: not quiet(reader), "a command was sent")


class FakeBell(Bell):
    """One that nothing rings but the test."""

    def __init__(self, trust: bool) -> None:
        super().__init__(("239.255.0.7", free_port()), 0.002)
        self.trust = trust
        self.rung = 0

    def trusted(self, now: float) -> bool:
        return self.trust

    def step(self, now: float, events: bool) -> bool:
        due, self.rung = self.rung, 0
        return bool(due)

    def wait(self, now: float, longest: float) -> float:
        return 0.001


def test_a_bell_that_is_trusted_takes_the_place_of_the_clock(readers: Readers) -> None:
    bell = FakeBell(True)
    reader = readers(wake=0.002, bell=bell, active=60, after_command=60).start()
    reader.reader.expect()
    reader.heard(event_frame(Event_Name="CHANNEL_CREATE"))
    assert bell.fileno in reader.connection.watched and quiet(reader)
    bell.rung = 1
    until(lambda: reader.connection.nudges == 1, "one nudge for a ring")
    assert quiet(reader)
    bell.trust = False
    until(lambda: reader.connection.nudges > 5, "the clock is back")
    reader.reader.stop(5)
    assert bell.fileno == -1, "it has left the group"


def test_a_channel_whose_end_is_not_heard_of_keeps_nobody_awake(readers: Readers) -> None:
    """Without CHANNEL_DESTROY every channel would count as up until the link breaks."""
    for chosen_names in (("CHANNEL_CREATE", "CHANNEL_HANGUP"), ("CHANNEL_DESTROY",)):
        reader = readers(wake=0.002, active=0.0)
        reader.reader.subscribe(EventFilter.of(False, chosen_names, ()))
        reader.start()
        calls(reader, "CHANNEL_CREATE", "CHANNEL_HANGUP")
        assert quiet(reader), chosen_names
    reader = readers(wake=0.002, active=0.0).start()
    calls(reader, "CHANNEL_CREATE")
    until(lambda: reader.connection.nudges > 3, "nudged")
    reader.reader.subscribe(EventFilter.of(True, (), ("CHANNEL_DESTROY",)))
    calls(reader, "HEARTBEAT")
    assert quiet(reader), "its end was excluded meanwhile"


def test_channels_of_a_switch_that_was_restarted_are_gone(readers: Readers) -> None:
    reader = readers(wake=0.002, active=0.0).start()
    calls(reader, "CHANNEL_CREATE", "CHANNEL_CREATE")
    until(lambda: reader.connection.nudges > 3, "nudged")
    reader.connection.cut("restarted")
    until(lambda: reader.ups == 2, "back")
    assert quiet(reader)


def test_an_event_keeps_the_connection_busy_for_a_while(readers: Readers) -> None:
    reader = readers(wake=0.002, active=1.0).start()
    reader.connection.push(event_frame(Event_Name="A"))
    until(lambda: reader.connection.nudges > 3, "nudged")
    until(lambda: quiet(reader), "it has calmed down")


def test_housekeeping_of_an_idle_switch_keeps_nobody_awake(readers: Readers) -> None:
    reader = readers(wake=0.002).start()
    for name in ("RE_SCHEDULE", "HEARTBEAT"):
        calls(reader, name)
    assert quiet(reader)


def test_without_nudges(readers: Readers) -> None:
    reader = readers(wake=0.0, after_command=60).start()
    reader.reader.expect()
    calls(reader, "CHANNEL_CREATE")
    assert quiet(reader)


def test_its_own_event_is_fired_if_times_do_not_fit_and_nobody_else_sees_it(readers: Readers) -> None:
    fired: list[str] = []

    def answers(connection: FakeConnection, command: str) -> str | None:
        if command.startswith("sendevent"):
            fired.append(command)
            mark = command.partition("Mark: ")[2]
            connection.push(event_frame(Event_Name="CUSTOM", Mark=mark, Event_Date_Timestamp=stamp(0.0)))
            return "+OK"
        return lives(connection, command)

    reader = readers(FakeSwitch(answers), measured=0.0).start()
    assert len(fired) == 1
    reader.heard(event_frame(Event_Name="A", Event_Date_Timestamp=stamp(60.0)))
    until(lambda: len(fired) == 2, "looked into")
    until(lambda: not reader.reader.lag.awaited, "it came")
    reader.heard(event_frame(Event_Name="B", Event_Date_Timestamp=stamp(0.0)))
    assert reader.events == ["A", "B"] and len(fired) == 2


def stamp(late: float) -> str:
    return str(int((time.time() - late) * 1e6))


def test_it_ends_whatever_it_waits_for(readers: Readers) -> None:
    quiet = readers().start()
    started = time.monotonic()
    quiet.reader.stop(60)
    assert time.monotonic() - started < 5 and not quiet.downs, "its end is no fault"
    away = readers(FakeSwitch(lives))
    away.switch.refusal = "not there"
    away.reader.start()
    until(lambda: away.switch.fresh, "it tries")
    away.reader.stop(5)
    never = readers()
    never.reader.stop(5)  # it was never started
    assert never.ups == 0


def test_choices_from_many_threads_end_with_the_last(readers: Readers) -> None:
    """FreeSWITCH is asked for what was chosen last, whichever thread was quicker; and no two send at one time."""
    reader = readers().start()
    sending: list[int] = []
    overlaps: list[int] = []
    plain = reader.connection.send

    def send(text: str) -> None:
        sending.append(1)
        overlaps.append(len(sending))
        time.sleep(0.001)  # so that two would overlap
        plain(text)
        sending.pop()

    reader.connection.send = send  # type: ignore[method-assign]
    choices = [EventFilter.of(False, (f"E{number}",), ()) for number in range(8)]
    threads = [threading.Thread(target=reader.reader.subscribe, args=(each,)) for each in choices]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
    last = [each for each in choices if reader.connection.sent[-len(asked(each)) :] == asked(each)]
    assert len(last) == 1 and reader.reader.chosen == last[0]
    assert max(overlaps) == 1
