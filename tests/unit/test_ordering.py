"""Commands for one channel keep their order, wherever they run."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from event_agent.freeswitch.command import Command
from event_agent.freeswitch.ordering import KeyOrder, linked


def command(*keys: str) -> Command:
    return Command("", "verb", lambda _: None, lambda _: None, keys)


def test_free_keys_are_nobodys_business() -> None:
    order = KeyOrder()
    assert not order.must_wait(command("a")) and not order.must_wait(command())
    assert order.release(command("a")) == [] and order.waiting == 0


def test_a_held_key_is_waited_for() -> None:
    order = KeyOrder()
    holder, second, third, other = command("a"), command("a"), command("a"), command("b")
    order.hold(holder)
    assert order.must_wait(second) and order.must_wait(third) and not order.must_wait(other)
    assert order.waiting == 2
    assert order.release(holder) == [second]
    assert order.release(holder) == []  # only once
    assert order.release(second) == [third] and order.release(third) == []
    assert order.waiting == 0 and not order.held


def test_those_that_have_waited_for_all_of_their_time_keep_their_place() -> None:
    order = KeyOrder()
    holder, second, third = command("a"), command("a"), command("a")
    order.hold(holder)
    second.deadline, third.deadline = 1.0, 3.0
    assert order.must_wait(second) and order.must_wait(third)
    assert order.waiting_past(2.0) == [second]
    second.ended = True
    assert order.waiting_past(2.0) == [] and order.waiting_past(3.0) == [third]
    assert order.release(holder) == [second] and order.release(second) == [third]


def test_one_of_two_keys_is_enough_to_wait() -> None:
    order = KeyOrder()
    holder, both, later = command("a"), command("a", "b"), command("b")
    order.hold(holder)
    assert order.must_wait(both)
    assert order.must_wait(later), "it must not pass the one that waits for a and holds b"
    assert order.release(holder) == [both] and order.release(both) == [later]


def test_several_may_hold_one_key() -> None:
    """Commands sent ahead on one connection are in order there."""
    order = KeyOrder()
    first, second, waiting = command("a"), command("a"), command("a")
    order.hold(first)
    order.hold(second)
    order.hold(second)
    assert order.must_wait(waiting)
    assert order.release(first) == [] and order.release(second) == [waiting]


def test_who_runs_on_the_lane_holds_its_keys_once_somebody_waits_for_them() -> None:
    order = KeyOrder()
    away, on_lane, both = command("c"), command("a"), command("a", "c")
    order.hold(away)
    assert order.blocked(both) and not order.blocked(on_lane)
    order.hold_all(both, [on_lane])
    assert order.must_wait(both)
    assert order.release(away) == [], "it would overtake the one on the lane"
    assert order.release(on_lane) == [both]


def test_links_reach_as_far_as_they_reach() -> None:
    commands = [command("a", "b"), command("x"), command("c", "d"), command("b", "c")]
    assert linked({"d"}, commands) == set("abcd")
    assert linked(set(), commands) == set() and linked({"y"}, commands) == {"y"}


class Model(RuleBasedStateMachine):
    """Commands arrive, some run elsewhere; for each key they run one after the other, in order of arrival."""

    def __init__(self) -> None:
        super().__init__()
        self.order = KeyOrder()
        self.lane: list[Command] = []  # sent, or waiting to be sent, on the one connection; it keeps order by itself
        self.retired: list[list[Command]] = []  # connections that were left to what was sent on them
        self.away: list[Command] = []  # running elsewhere, holding their keys
        self.waiting: list[Command] = []
        self.numbers: dict[int, int] = {}
        self.ended: list[Command] = []

    def _number(self, each: Command) -> int:
        return self.numbers[id(each)]

    def _run(self, each: Command, slow: bool) -> None:
        """As the lane does it."""
        for running in (*self.away, *(one for pipe in self.retired for one in pipe)):
            assert set(running.keys).isdisjoint(each.keys), "overlaps with one that runs elsewhere"
        if slow:
            if not self.order.holds(each):
                self.order.hold_all(each, self.lane)
                if self.order.must_wait(each):
                    self.waiting.append(each)
                    return
                self.order.hold(each)
            self.away.append(each)
        else:
            self.lane.append(each)

    @rule(keys=st.lists(st.sampled_from("abc"), unique=True, max_size=2), slow=st.booleans())
    def arrives(self, keys: list[str], slow: bool) -> None:
        each = command(*keys)
        each.slow = slow
        self.numbers[id(each)] = len(self.numbers)
        self.ended.append(each)  # keeps it alive: its id is its name
        if self.order.blocked(each):
            self.order.hold_all(each, self.lane)
            assert self.order.must_wait(each)
            self.waiting.append(each)
        else:
            self._run(each, slow)

    @rule(sent=st.integers(1, 5))
    def the_lane_moves_on(self, sent: int) -> None:
        """To another connection: what was sent stays, and what follows for the same channels."""
        if not self.lane or len(self.retired) > 2:
            return
        inflight, queue = self.lane[:sent], self.lane[sent:]
        keys = linked({key for each in inflight for key in each.keys}, queue)
        stay = inflight + [each for each in queue if not keys.isdisjoint(each.keys)]
        for each in stay:
            self.order.hold(each)
        self.retired.append(stay)
        self.lane = [each for each in queue if keys.isdisjoint(each.keys)]

    @rule(which=st.integers(0, 5))
    def a_retired_connection_answers(self, which: int) -> None:
        if self.retired:
            pipe = self.retired[which % len(self.retired)]
            each = pipe.pop(0)
            if not pipe:
                self.retired.remove(pipe)
            self._end(each)

    def _end(self, each: Command) -> None:
        retired = [one for pipe in self.retired for one in pipe]
        for earlier in (*self.lane, *self.away, *self.waiting, *retired):
            if self._number(earlier) < self._number(each):
                assert set(earlier.keys).isdisjoint(each.keys), "ended before an earlier one of its channel"
        ready = self.order.release(each)
        for one in ready:
            self.waiting.remove(one)
            self._run(one, one.slow)

    @rule()
    def the_lane_answers(self) -> None:
        if self.lane:
            self._end(self.lane.pop(0))

    @rule(which=st.integers(0, 20))
    def one_elsewhere_ends(self, which: int) -> None:
        if self.away:
            self._end(self.away.pop(which % len(self.away)))

    @invariant()
    def counts(self) -> None:
        assert self.order.waiting == len(self.waiting)

    def teardown(self) -> None:
        while self.lane or self.away or self.retired:
            self.the_lane_answers()
            self.one_elsewhere_ends(0)
            self.a_retired_connection_answers(0)
        assert not self.waiting, "nobody waits without end"
        assert not self.order.held, "no key is held without end"


TestModel = Model.TestCase


@given(st.lists(st.lists(st.sampled_from("abcd"), unique=True, max_size=3), max_size=20))
def test_everything_ends_in_order_of_its_keys(keys: list[list[str]]) -> None:
    order = KeyOrder()
    commands = [command(*each) for each in keys]
    running: list[Command] = []
    for each in commands:
        if not order.must_wait(each):
            order.hold(each)
            running.append(each)
    finished: list[Command] = []
    while running:
        assert len({key for each in running for key in each.keys}) == sum(len(each.keys) for each in running)
        each = running.pop()
        finished.append(each)
        running += order.release(each)
    assert len(finished) == len(commands) and not order.held
    for key in "abcd":
        with_key = [each for each in finished if key in each.keys]
        assert [id(each) for each in with_key] == [id(each) for each in commands if key in each.keys]
