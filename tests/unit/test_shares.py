"""Workers and places are shared out: no verb takes what the others need."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from event_agent.freeswitch.command import Command
from event_agent.freeswitch.shares import Shares, share


def command(verb: str, deadline: float = 0.0) -> Command:
    command = Command("", verb, print, print)
    command.deadline = deadline
    return command


def running(shares: Shares) -> list[str]:
    """Those that may run now, by their verb."""
    found = []
    while (command := shares.next(0.0)) is not None:
        found.append(command.verb)
    return found


def test_a_verb_has_half_of_what_the_others_leave() -> None:
    assert [share(16, others) for others in (0, 8, 12, 14, 15, 16)] == [8, 4, 2, 1, 1, 0]
    shares = Shares(16, 100)
    for verb in "abcdef":
        for _ in range(9):
            assert shares.put(command(verb))
        assert running(shares) == [verb] * {"a": 8, "b": 4, "c": 2, "d": 1, "e": 1, "f": 0}[verb]
    assert len(shares) == 6 * 9 - 16


def test_the_verb_with_the_fewest_goes_first() -> None:
    shares = Shares(4, 100)
    commands = [command(verb) for verb in ("a", "a", "a", "b", "b")]
    for each in commands:
        shares.put(each)
    assert running(shares) == ["a", "b", "a"] and len(shares) == 2
    shares.ended(commands[3])
    assert running(shares) == ["b"]


def test_places_are_shared_too() -> None:
    shares = Shares(2, 8)
    assert [shares.put(command("a")) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [shares.put(command("b")) for _ in range(3)] == [True] * 2 + [False]
    assert [shares.put(command("c")) for _ in range(2)] == [True, False]
    assert [shares.put(command("d")) for _ in range(2)] == [True, False]
    assert not shares.put(command("e")) and len(shares) == 8


def test_those_whose_time_is_over_are_taken_out() -> None:
    shares = Shares(2, 100)
    late, other, last = command("a", 1.0), command("a", 3.0), command("b", 2.0)
    for each in (late, other, last):
        shares.put(each)
    assert shares.take(2.0) == [late, last] and list(shares) == [other] and len(shares) == 1
    assert shares.take(2.0) == [] and shares.next(0.0) is other


@given(st.lists(st.one_of(st.sampled_from("abcde"), st.none()), max_size=80))
def test_no_worker_rests_while_somebody_may_have_it(steps: list[str | None]) -> None:
    """A verb comes, or one that runs ends; at the end all have run, in order within their verb."""
    shares = Shares(6, 1000)
    at_work: list[Command] = []
    came: list[Command] = []
    begun: list[Command] = []

    def fill() -> None:
        while (found := shares.next(0.0)) is not None:
            at_work.append(found)
            begun.append(found)
        counted = Counter(each.verb for each in at_work)
        assert len(at_work) <= 6
        for verb in {each.verb for each in shares}:
            assert counted[verb] >= share(6, len(at_work) - counted[verb]), "it could have run"

    for verb in (*steps, *[None] * len(steps)):
        if verb is not None:
            came.append(command(verb))
            assert shares.put(came[-1])
        elif at_work:
            shares.ended(at_work.pop(0))
        fill()
    while at_work:
        shares.ended(at_work.pop(0))
        fill()
    for verb in "abcde":
        assert [each for each in begun if each.verb == verb] == [each for each in came if each.verb == verb]
