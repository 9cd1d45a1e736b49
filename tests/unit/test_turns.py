"""Whether a client asks in turns, and until when to stay awake for it."""

from __future__ import annotations

import pytest

from event_agent.freeswitch.turns import ROW, Turns

SOON, SHORT, LONG = 0.0005, 0.0001, 0.01


class World:
    def __init__(self, soon: float = SOON) -> None:
        self.turns = Turns(soon)
        self.at = 100.0

    def change(self, many: int, after: float) -> float:
        """For how long to stay awake from now on."""
        self.at += after
        return max(0.0, self.turns.now(many, self.at) - self.at)

    def turn(self, pause: float = SHORT, answer: float = SHORT) -> tuple[bool, bool]:
        """A command after a pause, and its answer: whether one stays awake for each."""
        return self.change(1, pause) > 0, self.change(0, answer) > 0


def test_nobody_stays_awake_before_some_have_come_in_turns() -> None:
    world = World()
    found = [world.turn() for _ in range(ROW + 2)]
    # The first is nobody's next, and has no answer before it.
    assert found == [(False, False)] * ROW + [(True, True)] * 2
    assert world.change(1, SHORT) == pytest.approx(SOON), "no longer than that"


def engaged() -> World:
    world = World()
    while world.turn() != (True, True):
        pass
    for _ in range(ROW):
        world.turn()
    return world


def test_one_late_command_changes_nothing_and_two_do() -> None:
    world = engaged()
    assert world.turn(pause=LONG) == (True, True)
    assert world.turn() == (True, True)
    world = engaged()
    world.turn(pause=LONG)
    assert world.turn(pause=LONG) == (False, False)
    assert [world.turn() for _ in range(ROW)][-1] == (True, True)


def test_nobody_stays_awake_for_what_freeswitch_takes_long_for() -> None:
    world = engaged()
    assert world.turn(answer=LONG) == (True, False)
    assert world.turn(answer=LONG) == (False, False)


def test_several_at_a_time_are_no_turns() -> None:
    world = engaged()
    world.change(1, SHORT)
    assert world.change(2, SHORT) == 0
    assert world.change(1, SHORT) == 0
    assert world.change(0, SHORT) == 0
    assert world.turn() == (False, False)


def test_all_at_once_are_no_turns() -> None:
    world = engaged()
    assert world.change(7, SHORT) == world.change(0, SHORT) == 0


@pytest.mark.parametrize("pause", [SOON * 1.01, 0.002, 1.0])
def test_who_takes_time_between_two_is_not_waited_for(pause: float) -> None:
    world = World()
    assert {world.turn(pause) for _ in range(50)} == {(False, False)}


def test_never() -> None:
    world = World(0.0)
    assert {world.turn() for _ in range(50)} == {(False, False)}
