"""A link that is kept up: on a clock and a stop of its own, without a thread."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from event_agent.errors import Frozen, GaveUp, LinkError
from event_agent.runtime.backoff import Backoff
from event_agent.runtime.link import AT_ONCE, ROUND, STEADY, Link, LinkState, LinkStatus, keep_connected

START, WALL = 1000.0, 1_700_000_000.0


class Time:
    """A clock that moves when somebody waits on it, and a stop that is set when the plan has been gone through."""

    def __init__(self) -> None:
        self.now = START
        self.waits: list[float] = []
        self.stopped = False

    def is_set(self) -> bool:
        return self.stopped

    def wait(self, timeout: float) -> bool:
        self.waits.append(timeout)
        self.now += timeout
        return self.stopped


class Peer:
    """Does what `plan` says at each try: a fault, or for how many seconds the link holds and why it ends."""

    def __init__(self, *plan: LinkError | tuple[float, LinkError | None]) -> None:
        self.time = Time()
        self.seen: list[LinkStatus] = []
        self.served: list[int] = []
        self.gaps: list[float] = []  # seconds waited before each try
        self._plan: Iterator[LinkError | tuple[float, LinkError | None]] = iter(plan)
        self._tries = 0
        self.link = Link(lambda: WALL + self.time.now - START, lambda: self.time.now)
        self.link.observe(self.seen.append)

    def connect(self) -> tuple[int, float, LinkError | None]:
        self.gaps.append(sum(self.time.waits))
        self.time.waits.clear()
        self._tries += 1
        step = next(self._plan, None)
        if step is None:
            self.time.stopped = True
            raise LinkError("the plan has ended")
        if isinstance(step, LinkError):
            raise step
        return self._tries, *step

    def serve(self, connection: tuple[int, float, LinkError | None]) -> None:
        number, seconds, fault = connection
        assert self.link.up, "the observer knows of the link before it is served"
        self.served.append(number)
        self.time.now += seconds
        if fault is not None:
            raise fault

    def keep(self, backoff: Backoff | None = None) -> Peer:
        keep_connected(self.connect, self.serve, backoff or Backoff(1.0, 8.0), self.time, self.link)
        return self

    @property
    def states(self) -> list[tuple[LinkState, str]]:
        return [(each.state, each.reason) for each in self.seen]


UP, DOWN, STOPPED = LinkState.UP, LinkState.DOWN, LinkState.STOPPED


def test_each_change_is_reported_once() -> None:
    away, other = LinkError("nobody listens"), LinkError("wrong password")
    peer = Peer(away, away, away, other, away, (60, LinkError("closed")), away, away, (60, LinkError("closed"))).keep()
    assert peer.states == [
        (DOWN, "nobody listens"), (DOWN, "wrong password"), (DOWN, "nobody listens"), (UP, ""),
        (DOWN, "closed"), (DOWN, "nobody listens"), (UP, ""), (DOWN, "closed"), (STOPPED, ""),
    ]  # fmt: skip
    assert peer.served == [6, 9]


def test_since_when_it_is_down() -> None:
    """Another reason does not make an outage younger."""
    peer = Peer((60, LinkError("closed")), LinkError("nobody listens"), (60, LinkError("closed"))).keep()
    up, closed, nobody, again = (each.since for each in peer.seen[:4])
    assert (up, closed, nobody) == (WALL, WALL + 60, WALL + 60) and again > nobody


def test_the_type_of_a_fault_is_kept() -> None:
    peer = Peer((60, Frozen("no answer"))).keep()
    assert isinstance(peer.seen[1].fault, Frozen) and peer.seen[0].fault is None


def test_before_the_first_try_has_ended() -> None:
    link = Link()
    assert link.status.state is LinkState.STARTING and not link.up and not link.status.up


def test_waits_grow_while_it_is_away() -> None:
    peer = Peer(*(LinkError("away") for _ in range(5))).keep()
    for gap, plain in zip(peer.gaps, (0, 1, 2, 4, 8, 8), strict=True):
        assert plain * 0.75 <= gap <= plain * 1.25


@pytest.mark.parametrize(("held", "soon"), [(STEADY, True), (STEADY - 0.1, False)])
def test_only_a_link_that_held_is_tried_again_at_once(held: float, soon: bool) -> None:
    """A peer that takes us and drops us must not be tried without a pause."""
    away = LinkError("away")
    peer = Peer(away, away, away, (held, LinkError("closed")), away).keep()
    first, second = peer.gaps[4:]
    assert (first <= AT_ONCE) == soon and (second <= 1.25) == soon


def test_a_long_wait_has_signs_of_life() -> None:
    """A thread that is not heard of for long counts as stuck."""
    beats: list[float] = []
    peer = Peer(LinkError("away"))
    wait = peer.time.wait

    def watched(timeout: float) -> bool:
        beats.append(peer.time.now - peer.link.beat)
        assert timeout <= ROUND
        return wait(timeout)

    peer.time.wait = watched  # type: ignore[method-assign]
    peer.keep(Backoff(600.0, 600.0))
    assert len(beats) >= 450 / ROUND and max(beats) <= ROUND


@pytest.mark.parametrize("when", ["connecting", "waiting", "serving"])
def test_the_end_is_no_fault(when: str) -> None:
    peer = Peer(LinkError("away"), (60, None))
    if when == "connecting":
        peer.time.stopped = True
    elif when == "waiting":
        peer.time.wait = lambda timeout: _stop(peer.time)  # type: ignore[method-assign]
    else:
        serve = peer.serve

        def ends(connection: tuple[int, float, LinkError | None]) -> None:
            serve(connection)
            peer.time.stopped = True
            raise LinkError("aborted")

        peer.serve = ends  # type: ignore[method-assign]
    peer.keep()
    expected = {
        "connecting": [(STOPPED, "")],
        "waiting": [(DOWN, "away"), (STOPPED, "")],
        "serving": [(DOWN, "away"), (UP, ""), (STOPPED, "")],
    }
    assert peer.states == expected[when]


def _stop(time: Time) -> bool:
    time.stopped = True
    return True


def test_what_is_connected_while_the_end_comes_is_served_and_not_reported() -> None:
    """`serve` is what closes it."""
    peer = Peer((60, None))
    served: list[int] = []

    def connect() -> tuple[int, float, LinkError | None]:
        peer.time.stopped = True
        return 1, 0.0, None

    keep_connected(connect, lambda each: served.append(each[0]), Backoff(1, 1), peer.time, peer.link)
    assert served == [1] and peer.states == [(STOPPED, "")]


def test_a_link_that_ends_without_a_word_is_down() -> None:
    peer = Peer((60, None)).keep()
    assert peer.states == [(UP, ""), (DOWN, ""), (STOPPED, "")]


def test_giving_up_is_the_end() -> None:
    peer = Peer(LinkError("away"), GaveUp("could not be reached in 2 tries"), (60, None)).keep()
    assert peer.states == [(DOWN, "away"), (LinkState.GAVE_UP, "could not be reached in 2 tries")]
    assert not peer.served


def test_a_bug_ends_the_thread() -> None:
    """The watchdog sees a thread that has ended; one that goes on in an unknown state nobody sees."""
    peer = Peer()

    def connect() -> tuple[int, float, LinkError | None]:
        raise ZeroDivisionError

    peer.connect = connect  # type: ignore[method-assign]
    with pytest.raises(ZeroDivisionError):
        peer.keep()


def test_its_signs_of_life() -> None:
    signs = Link().signs("esl-events")
    assert signs.lives == ("esl-events",)
    assert [(what, limit) for what, limit, _ in signs.watched] == [
        ("thread esl-events", 20.0), ("thread esl-events", 120.0),
    ]  # fmt: skip
