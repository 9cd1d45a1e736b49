"""How many events were missed: those behind the last one that came, and those before it that were under way."""

from __future__ import annotations

import json

import pytest

from event_agent.freeswitch.gaps import DEPTH, UNDER_WAY, Gaps
from event_agent.protocol.raw_event import RawEvent

CORE, OTHER = "6f0f1a52-5b5e-4a9e-8c7b-0d6a5f3a9c11", "0d6a5f3a-5b5e-4a9e-8c7b-6f0f1a529c11"
NOW = 1_800_000_000_000_000  # microseconds since 1970


def event(number: int | str, stamp: int = NOW) -> RawEvent:
    fields = {"Event-Name": "X", "Event-Date-Timestamp": str(stamp), "Event-Sequence": str(number)}
    return RawEvent(json.dumps(fields, separators=(",", ":")).encode())


def number_of(data: bytes) -> int:
    return int(json.loads(data)["Event-Sequence"])


@pytest.fixture
def gaps() -> Gaps:
    """With a link whose mark is number 100."""
    made = Gaps()
    made.linked(CORE, event(100))
    assert made.take() is None
    return made


@pytest.mark.parametrize(
    ("came", "missed", "begin"),
    [
        ((101, 102, 103), 6, 103),
        ((102, 101, 103), 6, 103),  # in another order
        ((102, 103), 6 + 1, 100),  # the mark is what comes before the first
        ((101, 103, 106), 3 + 3, 101),
        ((101, 102, 106, 103), 3 + 2, 103),
        ((101, 104, 103), 5 + 1, 101),  # of those that came together the last one is not the highest
    ],
)
def test_those_under_way_when_the_link_broke(gaps: Gaps, came: tuple[int, ...], missed: int, begin: int) -> None:
    for together in (came[:1], came[1:]):
        gaps.seen([event(each) for each in together])
    assert gaps.linked(CORE, event(110))
    assert gaps.take() == missed
    (hole,) = gaps.holes()
    assert (hole.count, number_of(hole.before), number_of(hole.after), hole.other) == (missed, begin, 110, False)
    assert gaps.linked(CORE, event(111)) and gaps.take() == 0, "told once"


def test_only_what_is_near_can_be_under_way(gaps: Gaps) -> None:
    """Neither in time nor in numbers: those were events that nobody wanted."""
    gaps.seen([event(105, NOW), event(107, NOW + 1), event(108, NOW + 2 * UNDER_WAY), event(109, NOW + 2 * UNDER_WAY)])
    assert gaps.linked(CORE, event(110)) and gaps.take() == 0
    gaps.seen([event(112), event(200), event(200 + DEPTH)])
    assert gaps.linked(CORE, event(600))
    assert gaps.take() == 600 - 200 - 1 - 1, "all from 200 on, but for the one that came"
    gaps.seen([event(each) for each in range(601, 600 + 10 * DEPTH)])
    assert gaps.linked(CORE, event(600 + 10 * DEPTH)) and gaps.take() == 0


def test_after_a_further_mark_it_begins_anew(gaps: Gaps) -> None:
    gaps.seen([event(101)])
    gaps.linked(CORE, event(110))
    gaps.between(event(120), [event(115)])
    assert gaps.take() == 8 + 8
    gaps.seen([event(115), event(121), event(123)])
    gaps.linked(CORE, event(130))
    assert gaps.take() == 6 + 1


def test_another_freeswitch_has_nothing_under_way_here(gaps: Gaps) -> None:
    gaps.seen([event(101), event(105)])
    assert not gaps.linked(OTHER, event(7)) and gaps.take() is None
    gaps.seen([event(8)])
    assert gaps.linked(OTHER, event(9)) and gaps.take() == 0


@pytest.mark.parametrize("number", ["", "x", "-5", "9" * 400, "0"])
def test_an_event_without_a_number_makes_no_hole(gaps: Gaps, number: str) -> None:
    gaps.seen([event(101), event(number)])
    gaps.seen([event(number)])
    assert gaps.linked(CORE, event(105)) and gaps.take() == 3


def test_a_number_that_somebody_made_up_is_no_large_hole_and_hides_none(gaps: Gaps) -> None:
    gaps.seen([event(101), event(5)])
    assert gaps.linked(CORE, event(105)) and gaps.take() == 3
    gaps.seen([event(106), event("9" * 18), event(107)])
    assert gaps.linked(CORE, event(110)) and gaps.take() is None
    assert [each.count for each in gaps.holes()] == [3, None]
    gaps.seen([event(111)])
    assert gaps.linked(CORE, event(113)) and gaps.take() == 1


def test_what_the_process_before_saw_goes_on_here(gaps: Gaps) -> None:
    gaps.go_on(CORE)
    gaps.seen([event(501), event(502)])
    assert gaps.linked(CORE, event(505)) and gaps.take() == 2
