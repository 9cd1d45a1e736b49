"""Messages that come by two links at once."""

from __future__ import annotations

import pytest

from event_agent.drivers.base import Message
from event_agent.drivers.nats.bothlinks import MOST, BothLinks


class Two:
    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.both = BothLinks()
        self._links = [self.both.of(number, self._take) for number in (0, 1)]

    def _take(self, messages: list[Message]) -> None:
        assert messages, "no empty list"
        self.got += [message.data for message in messages]

    def bring(self, link: int, *data: bytes, reply: bytes = b"") -> None:
        self._links[link]([Message(b"s", reply, each) for each in data])


@pytest.fixture
def two() -> Two:
    return Two()


def test_each_is_handed_on_once_whichever_link_is_first(two: Two) -> None:
    two.bring(0, b"1", b"2")
    two.bring(1, b"1", b"2", b"3")
    two.bring(0, b"3", b"4")
    two.bring(1, b"4")
    assert two.got == [b"1", b"2", b"3", b"4"]


def test_the_same_text_twice_is_handed_on_twice(two: Two) -> None:
    """A request without a reply says nothing of which it is."""
    two.bring(0, b"x", b"x")
    two.bring(1, b"x", b"x", b"x")
    two.bring(0, b"x")
    assert two.got == [b"x"] * 3


def test_the_same_text_for_another_is_another(two: Two) -> None:
    two.bring(0, b"x", reply=b"a")
    two.bring(1, b"x", reply=b"b")
    assert two.got == [b"x", b"x"]


@pytest.mark.parametrize("first", [0, 1])
def test_the_other_half_may_come_late_and_after_any_change(two: Two, first: int) -> None:
    """The agent reads nothing for a while, where too many requests wait."""
    two.bring(first, b"early")
    two.both.sure()
    two.bring(first, b"late")
    two.bring(1 - first, b"early")
    two.both.certain()
    two.bring(first, b"last")
    two.bring(1 - first, b"late", b"last")
    assert two.got == [b"early", b"late", b"last"]


def test_what_only_the_old_link_could_bring_hides_no_later_one(two: Two) -> None:
    """It came before the new one had the subscription."""
    two.bring(0, b"x")
    two.both.sure()
    two.both.certain()
    two.bring(1, b"x")
    assert two.got == [b"x", b"x"]


def test_what_only_the_old_link_could_bring_hides_none_that_both_bring(two: Two) -> None:
    two.bring(0, b"x")
    for link in (0, 1):
        two.bring(link, b"x")
    two.both.sure()
    for link in (1, 0, 0, 1):
        two.bring(link, b"x")
    assert two.got == [b"x"] * 4


def test_what_comes_while_that_changes_is_handed_on_once(two: Two) -> None:
    """Another thread says so."""
    change = iter([two.both.sure, two.both.certain])

    def take(messages: list[Message]) -> None:
        two.got += [message.data for message in messages]
        for each in change:
            each()

    old, new = two.both.of(0, take), two.both.of(1, take)
    for data in (b"1", b"2"):
        old([Message(b"s", b"", data)])
    new([Message(b"s", b"", b"2")])
    assert two.got == [b"1", b"2"]


def test_of_more_than_are_remembered_the_oldest_are_forgotten(two: Two) -> None:
    """Not those that have just come: it is they whose other half is on its way."""
    for number in range(MOST + 100):
        two.bring(0, b"%d" % number)
    for number in range(100, MOST + 100):
        two.bring(1, b"%d" % number)
    assert len(two.got) == MOST + 100


def test_what_has_come_by_both_makes_room(two: Two) -> None:
    two.bring(0, b"waits")
    for number in range(3 * MOST):
        two.bring(0, b"%d" % number)
        two.bring(1, b"%d" % number)
    two.bring(1, b"waits")
    assert len(two.got) == 3 * MOST + 1
