"""Channels that ended or began unseen: each is announced once, and what FreeSWITCH says decides."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import pytest

from event_agent.bridge.losses import Losses
from event_agent.bridge.unseen import ASKING, SLICE, UnseenChannels
from event_agent.errors import LinkError
from event_agent.freeswitch.channels import Channels
from event_agent.freeswitch.command import Executed, Failure
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.gaps import Gaps
from event_agent.runtime.loop import Loop
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeSink
from tests.unit.test_channels import C1, C2, event
from tests.unit.test_switch import House as SwitchHouse


class Jobs:
    """A loop whose time passes when it is told to."""

    def __init__(self) -> None:
        self.waiting: list[tuple[float, Callable[[], None]]] = []
        self.now = 0.0

    def call(self, job: Callable[[], None]) -> None:
        self.after(0.0, job)

    def after(self, seconds: float, job: Callable[[], None]) -> None:
        self.waiting.append((self.now + seconds, job))

    def pass_time(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((each for each in self.waiting if each[0] <= end), key=lambda each: each[0]):
            self.waiting.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
        self.now = end


class House:
    def __init__(self) -> None:
        self.switch, self.jobs, self.sink, self.stats = SwitchHouse(), Jobs(), FakeSink(), Stats()
        self.losses = Losses(self.stats)
        self.channels = Channels("", Gaps())
        self.chosen = EventFilter.of(True, (), ())
        UnseenChannels(
            self.switch.switch, self.channels, self.sink, self.losses, self.stats, cast(Loop, self.jobs), "n1", "fs",
            lambda: self.chosen,
        )  # fmt: skip
        self.alive: set[str] = set()
        self.rows: list[str] = []
        self.asked: list[str] = []
        self.mute = ""  # the beginning of what is not answered
        self.channels.linked(C1, False)

    def know(self, *uuids: str) -> None:
        self.channels.take([event("CREATE", uuid) for uuid in uuids])

    def link(self, core: str = C1, seamless: bool = False) -> None:
        self.channels.linked(core, seamless)
        self.switch.up()

    def answer(self) -> None:
        """FreeSWITCH answers what it was asked."""
        sent, self.switch.lane.sent = self.switch.lane.sent, []
        for command in sent:
            self.asked.append(command.text.strip())
            if self.mute and self.mute in command.text:
                command.failed(Failure("no", Executed.NO))
            elif "show channels" in command.text:
                command.done(json.dumps({"rows": [{"uuid": uuid, "dest": "100"} for uuid in self.rows]}))
            else:
                command.done("true" if command.text.split()[2] in self.alive else "false")

    def pass_time(self, seconds: float = 20.0) -> None:
        for _ in range(int(seconds * 4)):
            self.jobs.pass_time(0.25)
            self.answer()

    @property
    def said(self) -> list[tuple[str, str]]:
        """What happened to which, sorted."""
        prefix = "fs.events.agent.channel."
        return sorted((subject.removeprefix(prefix), json.loads(data)["uuid"]) for subject, data in self.sink.taken)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(data) for _, data in self.sink.taken]


@pytest.fixture
def house() -> House:
    return House()


def test_one_event_for_each_that_ended_or_began_unseen(house: House) -> None:
    house.know("old", "gone1", "gone2")
    house.alive, house.rows = {"old", "new"}, ["old", "new", "gone1"]
    house.link()
    house.pass_time()
    assert house.said == [("found", "new"), ("gone", "gone1"), ("gone", "gone2")], "the list is behind"
    (found,) = [each for each in house.events if each["event_name"] == "AGENT_CHANNEL_FOUND"]
    assert found["dest"] == "100" and found["node_id"] == "n1" and found["headers"]["Core-UUID"] == "core-1"
    assert (house.stats.channels_gone, house.stats.channels_found) == (2, 1)
    assert house.channels.count == 2 and house.channels.to_check() == (False, [])
    asked = len(house.asked)
    house.pass_time(100)
    assert len(house.asked) == asked, "and then there is nothing to ask"


def test_without_a_gap_freeswitch_is_not_asked(house: House) -> None:
    house.know("old")
    house.link(seamless=True)
    house.pass_time()
    assert house.asked == [] and house.said == []


def test_events_that_were_still_on_their_way(house: House) -> None:
    """FreeSWITCH says that it is gone, or there, before its event has come."""
    house.know("ends")
    house.alive, house.rows = {"begins"}, ["begins"]
    house.link()
    for _ in range(7):  # the questions are answered, and it is not decided
        house.jobs.pass_time(0.25)
        house.answer()
    assert any("uuid_exists ends" in each for each in house.asked) and not house.said
    house.channels.take([event("DESTROY", "ends"), event("CREATE", "begins")])
    house.pass_time()
    assert house.said == []


def test_another_freeswitch(house: House) -> None:
    house.know("a", "b")
    house.rows, house.alive = ["new"], {"new"}
    house.link(C2)
    house.pass_time()
    assert house.said == [("found", "new"), ("gone", "a"), ("gone", "b")]
    assert {each["headers"]["Core-UUID"] for each in house.events if "GONE" in each["event_name"]} == {C1}
    assert not [each for each in house.asked if each.endswith((" a", " b"))]


def test_a_list_that_freeswitch_does_not_give_is_asked_for_again(house: House) -> None:
    house.know("gone")
    house.mute = "show channels"
    house.link()
    house.pass_time(60)
    assert house.said == [] and house.channels.to_check()[0]
    house.mute, house.rows, house.alive = "", ["new"], {"new"}
    house.pass_time(60)
    assert house.said == [("found", "new"), ("gone", "gone")]


def test_of_what_freeswitch_does_not_say_nothing_is_said(house: House) -> None:
    house.know("a", "b")
    house.mute = "uuid_exists a"
    house.link()
    house.pass_time(20)
    assert house.said == [("gone", "b")]
    house.mute = ""
    house.pass_time(60)
    assert house.said == [("gone", "a"), ("gone", "b")]


def test_a_link_that_is_lost_meanwhile_leaves_it_to_the_next(house: House) -> None:
    house.know("a")
    house.link()
    house.jobs.pass_time(1.5)
    house.switch.lane.sent.clear()
    house.switch.events.down(LinkError("lost"))
    house.pass_time(100)
    assert house.said == []
    house.link()
    house.pass_time()
    assert house.said == [("gone", "a")]


def test_many_are_asked_for_and_published_a_few_at_a_time(house: House) -> None:
    names = [f"u{number}" for number in range(5 * SLICE + 7)]
    house.know(*names)
    house.link()
    most = 0
    for _ in range(400):
        house.jobs.pass_time(0.25)
        most = max(most, len(house.switch.lane.sent))
        house.answer()
    assert most <= ASKING and max(house.sink.writes) <= SLICE
    assert house.said == sorted(("gone", name) for name in names)


def test_what_the_broker_does_not_take_is_a_loss(house: House) -> None:
    house.know("a", "b")
    house.sink.room = 1
    house.link()
    house.pass_time()
    assert house.losses.events["buffer full"] == 1 and len(house.said) == 1 and house.stats.events_dropped == 1


@pytest.mark.parametrize("name", ["AGENT_CHANNEL_GONE", "AGENT_CHANNEL_FOUND"])
def test_each_can_be_excluded(house: House, name: str) -> None:
    house.chosen = EventFilter.of(True, (), (name,))
    house.know("a")
    house.rows, house.alive = ["b"], {"b"}
    house.link()
    house.pass_time()
    assert len(house.said) == 1 and house.events[0]["event_name"] != name
    assert (house.stats.channels_gone, house.stats.channels_found) == (1, 1)
