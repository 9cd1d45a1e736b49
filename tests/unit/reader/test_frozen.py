"""A FreeSWITCH that is frozen: its connection is kept, and gone on with; or left, if FreeSWITCH goes on elsewhere."""

from __future__ import annotations

import threading

from event_agent.errors import Frozen
from tests.support import until
from tests.switchsim.in_process import HELD, FakeConnection, FakeSwitch, event_frame
from tests.unit.reader.parts import ALL, ASKED, SOME, Reader, Readers, asked, chosen, lives, quiet


def frozen(readers: Readers) -> Reader:
    """A reader whose FreeSWITCH has answered nothing for too long."""
    reader = readers(wake=0.005, quiet=0.02, frozen=0.05, after_command=60).start()
    reader.reader.expect()
    reader.switch.answers = lambda *_: HELD
    until(lambda: reader.downs, "noticed")
    assert isinstance(reader.faults[0], Frozen) and "did not answer" in reader.downs[0]
    return reader


def test_a_frozen_switch_is_noticed_and_gone_on_with_where_it_stopped(readers: Readers) -> None:
    reader = frozen(readers)
    assert not reader.reader.connected and quiet(reader), "it is not nudged either"
    reader.heard(event_frame(Event_Name="FIRST"), event_frame(Event_Name="SECOND"))
    assert reader.ups == 2 and len(reader.downs) == 1 and len(reader.switch.connections) == 1
    assert reader.connection.sent.count(ASKED) == 1, "asked once, not again and again"
    reader.switch.answers = lives
    reader.switch.pump()
    until(lambda: reader.connection.sent.count(ASKED) > 2, "it is asked as before")
    assert reader.ups == 2, "whose answers count"


def test_a_frozen_switch_that_answers_elsewhere_only_is_connected_to_anew(readers: Readers) -> None:
    switch = FakeSwitch(lives)
    reader = readers(switch, wake=0.005, quiet=0.02, frozen=0.05, after_command=60)
    reader.reader.answered()
    reader.start().reader.expect()
    switch.answers = lambda *_: HELD
    until(lambda: reader.downs, "noticed")
    switch.answers = lives
    assert not threading.Event().wait(1.5)  # nothing comes of it: that was before it froze
    assert len(switch.connections) == 1
    reader.reader.answered()
    until(lambda: reader.ups > 1, "connected anew")
    assert len(switch.connections) == 2 and switch.connections[0].closed
    assert not isinstance(reader.faults[1], Frozen), "so that nothing else is broken off"
    assert "not where events come" in reader.downs[1]


def test_a_frozen_switch_that_ends_is_connected_to_anew(readers: Readers) -> None:
    reader = frozen(readers)
    reader.switch.answers = lives
    reader.connection.cut("it is gone")
    until(lambda: reader.ups > 1, "back")
    assert reader.downs[1:] == ["it is gone"] and len(reader.switch.connections) == 2


def test_what_is_chosen_while_the_switch_is_frozen(readers: Readers) -> None:
    held: list[str] = []

    def answers(connection: FakeConnection, command: str) -> str | None:
        if command.startswith("filter delete event-agent-choice-") and not held:
            return f"+OK filter deleted. [{command.split()[-1]}]=[]"
        return HELD if held else lives(connection, command)

    reader = readers(FakeSwitch(answers), wake=0.005, quiet=0.02, frozen=0.05, after_command=60).start()
    reader.reader.expect()
    said: list[bool] = []
    held.append("")
    reader.reader.subscribe(SOME)
    reader.reader.when_in_force(said.append)
    until(lambda: said == [False], "answered as it freezes")
    reader.reader.subscribe(ALL)
    reader.reader.when_in_force(said.append)
    assert said == [False, False] and not reader.reader.connected
    held.clear()
    reader.switch.pump()
    until(lambda: reader.ups == 2, "it goes on")
    assert chosen(reader.connection)[-len(asked(ALL)) :] == asked(ALL)
    reader.reader.when_in_force(said.append)
    until(lambda: said[2:] == [True], "and by what was chosen meanwhile")
