"""Messages that come by two links at once."""

from __future__ import annotations

import pytest

from event_agent.drivers.base import Message
from event_agent.drivers.nats.bothlinks import AGE, MOST, BothLinks


class Two:
    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.now = 100.0
        both = BothLinks(lambda: self.now)
        self._links = [both.of(number, self._take) for number in (0, 1)]

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


def test_what_came_by_one_link_alone_hides_no_later_one(two: Two) -> None:
    two.bring(0, b"x")
    two.now += AGE + 0.01
    two.bring(1, b"x")
    assert two.got == [b"x", b"x"]


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
