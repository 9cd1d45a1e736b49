"""The bell: a nudge for each ring, no more of them than the clock would make, and the clock when rings fail to come."""

from __future__ import annotations

import random
import socket
from collections.abc import Iterator

import pytest

from event_agent.config.table import PARAMS
from event_agent.freeswitch import bell as module
from event_agent.freeswitch.bell import Bell
from tests.support import free_port

GROUP = "239.255.0.7"
CLOCK = 0.002


class Rope:
    """Whoever rings."""

    def __init__(self) -> None:
        self.port = free_port()
        self.bell = Bell((GROUP, self.port), CLOCK)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))

    def ring(self, data: bytes = b"x", times: int = 1) -> None:
        for _ in range(times):
            self._socket.sendto(data, (GROUP, self.port))

    def step(self, now: float, events: bool = False, rings: int = 0) -> bool:
        self.ring(times=rings)
        return self.bell.step(now, events)

    def close(self) -> None:
        self._socket.close()
        self.bell.close()


@pytest.fixture
def rope() -> Iterator[Rope]:
    made = Rope()
    yield made
    made.close()


def proven(rope: Rope, now: float = 100.0) -> float:
    """Rings have brought events; returns the time."""
    for _ in range(module.PROVEN):
        assert rope.step(now, rings=1)
        assert not rope.step(now + 0.001, events=True)
        now += 1
    assert rope.bell.trusted(now)
    return now


def test_a_ring_is_answered_once_at_once_and_once_more_if_no_event_comes(rope: Rope) -> None:
    assert not rope.step(100.0)
    assert rope.step(100.1, rings=5), "five datagrams are one ring"
    assert not rope.bell.listens(100.1) and rope.bell.wait(100.1, 1.0) == pytest.approx(CLOCK / 2)
    assert not rope.step(100.1015) and rope.bell.wait(100.1015, 1.0) == pytest.approx(0.0005)
    assert rope.step(100.102), "no event came"
    assert not rope.step(100.2) and rope.bell.wait(100.2, 1.0) == 1.0
    assert rope.step(100.3, rings=1) and not rope.step(100.3005, events=True)
    assert not rope.step(100.4), "an event came"


def test_no_clock_while_rings_bring_events_and_the_clock_when_one_is_missed(
    rope: Rope, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    assert not rope.bell.trusted(99.0)
    now = proven(rope)
    assert "mod_event_multicast announces events on 239.255.0.7:" in caplog.text
    now += 1
    rope.step(now, events=True)  # nobody has rung
    assert rope.bell.missed == 1 and not rope.bell.trusted(now)
    now += module.DOUBT + 0.1
    assert not rope.bell.trusted(now)
    assert "mod_event_multicast does not announce events on" in caplog.text
    assert proven(rope, now) and rope.bell.missed == 1
    assert not rope.bell.trusted(now + module.SILENT + 10), "FreeSWITCH itself has not rung for a minute"


def test_a_new_link_begins_anew_and_the_figures_go_on(rope: Rope) -> None:
    proven(rope)
    rope.ring(times=3)
    rope.bell.linked()
    assert not rope.step(200.0), "what rang before the link is forgotten"
    assert rope.bell.heard == module.PROVEN


@pytest.mark.parametrize("data", [b"", b"\0", b"\n\napi shutdown\n\n", b"x" * 65000])
def test_what_a_datagram_says_is_not_looked_at(rope: Rope, data: bytes) -> None:
    assert not rope.step(100.0)
    rope.ring(data)
    assert rope.bell.step(101.0, False) and rope.bell.heard == 1


@pytest.mark.parametrize("useful", [0.0, 0.5, 1.0])
def test_a_flood_of_datagrams_costs_no_more_than_a_clock(rope: Rope, useful: float) -> None:
    rng = random.Random(useful)
    now, nudges, steps = 100.0, 0, 0
    while now < 104.0:
        rope.ring()
        steps += 1
        nudged = rope.bell.step(now, rng.random() < useful)
        nudges += nudged
        now += max(rope.bell.wait(now, 1.0), 0.00001 if rope.bell.listens(now) else 0.0)
    most = 4 / CLOCK * 2
    assert 0 < nudges <= most + 1 and steps <= 2 * most + 10
    if not useful:  # soon nobody listens to it more often than FreeSWITCH looks by itself
        assert nudges < module.FLOOD + module.FALSE + 2 / module.LOOK + 10


def test_other_networks_and_other_groups_do_not_ring(rope: Rope) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.sendto(b"x", ("127.0.0.1", rope.port))
        other.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        other.sendto(b"x", ("239.255.0.8", rope.port))
    rope.step(100.0, rings=1)
    assert rope.bell.heard == 1


def test_a_group_that_can_not_be_joined_leaves_the_clock(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
        taken.bind((GROUP, 0))
        bell = Bell((GROUP, taken.getsockname()[1]), CLOCK)
    assert "can't be joined: Address already in use; nudging FreeSWITCH instead" in caplog.text
    assert not bell.listens(1.0) and not bell.step(1.0, True) and not bell.trusted(1.0) and bell.wait(1.0, 2.0) == 2.0
    assert bell.section()["joined"] is False
    bell.close()


def test_two_agents_hear_the_same_bell(rope: Rope) -> None:
    other = Bell((GROUP, rope.port), CLOCK)
    rope.ring()
    assert rope.bell.step(100.0, False) and other.step(100.0, False)
    other.close()


@pytest.mark.parametrize("text", ["239.255.0.7:4242", "224.0.0.1:1"])
def test_groups_that_are_taken(text: str) -> None:
    param = PARAMS["event_wake_multicast"]
    assert param.write(param.read(text)) == text and param.read("") is None and param.read("off") is None


@pytest.mark.parametrize(
    "text", ["127.0.0.1:4242", "239.255.0.7", "239.255.0.7:0", "239.255.0.777:1", "[ff02::1]:1", "x:1"]
)
def test_groups_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="event_wake_multicast must be group:port"):
        PARAMS["event_wake_multicast"].read(text)


