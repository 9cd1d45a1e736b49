"""What others learn of the link: announcements, and the subjects on which the node takes requests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_agent.bridge.losses import Losses
from event_agent.bridge.presence import Presence, Subjects
from event_agent.drivers.base import Message
from event_agent.errors import LinkError
from event_agent.freeswitch.command import Executed, Failure
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.gaps import UNDER_WAY, Hole
from event_agent.protocol.subjects import endpoints_of
from event_agent.runtime.link import LinkState, LinkStatus
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeDriver
from tests.unit.test_switch import House


class Broker(FakeDriver):
    """Knows who listens where."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[str, str]] = {}
        self.next = 0

    def subscribe(self, subject: str, callback: Any, queue: str = "") -> int:
        self.next += 1
        self.held[self.next] = subject, queue
        return self.next

    def unsubscribe(self, number: int) -> None:
        del self.held[number]

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.held.values()]


class Node:
    """A presence on a switch whose parts are fakes."""

    def __init__(self) -> None:
        self.house, self.broker, self.stats = House(), Broker(), Stats()
        self.chosen = EventFilter.of(True, (), ())
        self.broker_up = True
        self.losses = Losses(self.stats)
        self.requests: list[Message] = []
        self.subjects = Subjects(self.broker, endpoints_of("freeswitch", "FS-1"), self.requests.extend)
        self.presence = Presence(
            self.house.switch, self.broker.events, self.subjects, self.stats, self.losses, "FS-1", "freeswitch",
            lambda: self.chosen, lambda: self.broker_up,
        )

    def lost(self, why: str) -> None:
        self.house.lane.down(LinkError(why))
        self.house.events.down(LinkError(why))

    def answer(self, text: str = "{}") -> None:
        """FreeSWITCH lists its channels."""
        self.house.lane.sent[-1].done(text)

    @property
    def announced(self) -> list[tuple[str, dict[str, Any]]]:
        prefix = "freeswitch.events."
        return [(subject.removeprefix(prefix), json.loads(data)) for subject, data in self.broker.events.taken]


OWN = ["freeswitch.api", "freeswitch.node.fs_1", "freeswitch.api.fs_1"]


@pytest.fixture
def node() -> Node:
    return Node()


def test_a_link_that_is_complete_is_announced_with_what_is_in_progress(node: Node) -> None:
    node.house.up()
    assert node.house.lane.sent[0].text == "api show channels as json\n\n" and not node.announced
    node.answer('{"row_count":1,"rows":[{"uuid":"u1","dest":"100","secret":"no"}]}')
    ((subject, event),) = node.announced
    assert subject == "agent.connected" and event["channels"] == [{"uuid": "u1", "dest": "100"}]
    assert event["headers"]["Core-UUID"] == "core-1"
    assert event["events_dropped"] == 0 and event["events_unseen"] is None


def test_the_loss_is_announced_and_what_was_missed_is_said_afterwards(node: Node) -> None:
    node.house.up()
    node.answer()
    node.stats.events_dropped = 7
    node.lost("reset by peer")
    assert [subject for subject, _ in node.announced] == ["agent.connected", "agent.disconnected"]
    assert node.announced[1][1]["reason"] == "reset by peer"
    node.house.events.unseen = 12
    node.house.up()
    node.answer()
    event = node.announced[2][1]
    assert (event["events_dropped"], event["events_unseen"]) == (7, 12)


def test_what_an_announcement_could_not_say_the_next_one_says(node: Node) -> None:
    node.house.events.unseen, node.stats.events_dropped = 5, 3
    node.house.up()
    node.lost("lost")
    node.house.lane.sent[0].failed(Failure("lost", Executed.NO))
    assert node.announced == [] and node.house.events.missed == [5]
    node.house.up()
    node.answer()
    ((subject, event),) = node.announced
    assert subject == "agent.connected" and event["events_dropped"] == 3


LATE = {
    "listed": lambda asked: asked.done("{}"),
    "not listed": lambda asked: asked.failed(Failure("lost", Executed.NO)),
}


@pytest.mark.parametrize("how", LATE)
@pytest.mark.parametrize("when", ["before the loss is noticed", "while it is away", "on the next link", "after that"])
def test_each_announcement_is_made_once_and_in_turn(node: Node, how: str, when: str) -> None:
    """However late FreeSWITCH's list comes, or that there is none."""
    node.house.events.unseen, node.stats.events_dropped = 5, 3
    node.house.up()
    first = node.house.lane.sent[0]
    if when == "before the loss is noticed":
        node.house.lane.link.status = LinkStatus(LinkState.DOWN, "", 0.0)  # its observers are yet to be called
        LATE[how](first)
    node.lost("lost")
    if when == "while it is away":
        LATE[how](first)
    node.house.up()
    if when == "on the next link":
        LATE[how](first)
    assert node.announced == []
    node.answer()
    if when == "after that":
        LATE[how](first)
    node.house.events.down(LinkError("lost again"))
    node.house.lane.down(LinkError("lost again"))
    assert [subject for subject, _ in node.announced] == ["agent.connected", "agent.disconnected"]
    assert node.house.events.missed == [5], "what the first could not say is kept"


def test_a_freeswitch_that_can_not_list_its_channels_is_announced_without(node: Node) -> None:
    """Its database is locked, and it takes commands all the same."""
    node.house.events.unseen = 5
    node.house.up()
    node.house.lane.sent[0].failed(Failure("timed out", Executed.NO))
    ((subject, event),) = node.announced
    assert subject == "agent.connected" and event["channels"] is None and event["events_unseen"] == 5
    assert node.house.lane.sent[0].limit == 10.0 and not node.house.events.missed


def test_a_list_of_channels_that_is_too_large_is_left_out(node: Node) -> None:
    node.broker.events.max_payload = 600
    node.house.up()
    node.answer(json.dumps({"rows": [{"uuid": "u" * 36}] * 100}))
    assert node.announced[0][1]["channels"] is None


def test_announcements_can_be_excluded(node: Node) -> None:
    node.chosen = EventFilter.of(True, (), ("AGENT_CONNECTED",))
    node.house.up()
    node.answer()
    node.lost("away")
    assert [subject for subject, _ in node.announced] == ["agent.disconnected"]


def test_no_request_is_taken_after_the_end_has_begun(node: Node) -> None:
    node.presence.listen()
    node.house.up()
    node.presence.stop(1.0)
    assert node.broker.subjects == []
    node.lost("away")
    node.house.up()
    assert node.broker.subjects == [], "a link that comes back meanwhile brings no requests"


def raw(stamp: int, sequence: int, core: str = "core-1") -> bytes:
    fields = {"Event-Name": "X", "Core-UUID": core, "Event-Date-Timestamp": str(stamp), "Event-Sequence": str(sequence)}
    return json.dumps(fields, separators=(",", ":")).encode()


def test_events_that_were_not_seen_are_losses(node: Node) -> None:
    node.house.events.holes = [Hole(7, raw(1_000_000, 10), raw(3_000_000, 18), False)]
    node.house.up()
    (gap,) = node.losses.waiting()
    assert (gap.reason, gap.count, gap.core, gap.first, gap.last) == ("unseen", 7, "core-1", 10, 18)
    # The threads of FreeSWITCH do not take the number and the time at once.
    assert (gap.begin, gap.end) == (1_000_000 - UNDER_WAY, 3_000_000 + UNDER_WAY)
    node.lost("again")
    node.house.events.holes = [Hole(None, raw(4_000_000, 20), raw(9_000_000, 5, "core-2"), True)]
    node.house.up()
    other = next(each for each in node.losses.waiting() if each.reason == "FreeSWITCH restarted")
    assert (other.count, other.core, other.first) == (None, None, 0)
    assert (other.begin, other.end) == (4_000_000 - UNDER_WAY, 9_000_000 + UNDER_WAY)


def test_an_announcement_for_which_there_is_no_room_is_a_loss(node: Node) -> None:
    node.broker.events.room = 0
    node.house.up()
    node.answer()
    node.lost("reset by peer")
    assert node.announced == [] and node.stats.events_dropped == 2 and node.losses.events["buffer full"] == 2


def test_the_end_of_the_agent_is_announced_once() -> None:
    node = Node()
    node.presence.stop(1.0)
    node.presence.stop(1.0)
    assert [(name, event["event_name"], event["node_id"]) for name, event in node.announced] == [
        ("agent.stopping", "AGENT_STOPPING", "FS-1")
    ]


def test_the_end_of_the_agent_is_not_announced_to_nobody() -> None:
    node = Node()
    node.broker_up = False
    node.presence.stop(1.0)
    assert not node.announced
    node = Node()
    node.chosen = EventFilter.of(True, (), ("AGENT_STOPPING",))
    node.presence.stop(1.0)
    assert not node.announced
