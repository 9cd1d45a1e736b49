"""The link to FreeSWITCH as a whole: who is there, what consumers are told, and what is asked of the event socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from event_agent.config.table import Settings
from event_agent.errors import Frozen, LinkError
from event_agent.freeswitch import link as module
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.link import Switch
from event_agent.runtime.link import LinkState, LinkStatus
from event_agent.runtime.loop import Loop
from event_agent.runtime.stats import Stats
from tests.unit.test_registry import FakeDriver

ALL = EventFilter.of(True, (), ("API",))
LONG = "FreeSWITCH Version 1.10.12-release~64bit ( 64bit)"


class Lane:
    """Takes commands and keeps them."""

    def __init__(self) -> None:
        self.connected = False
        self.sent: list[Command] = []
        self.waiting: list[Command] = []
        self.aborted = 0

    def submit(self, command: Command) -> None:
        self.waiting.append(command)

    def flush(self) -> None:
        self.sent += self.waiting
        self.waiting = []

    def abort(self) -> None:
        self.aborted += 1


class House:
    """A switch whose connections are fakes; its own callbacks are called as the threads would."""

    def __init__(self, **settings: Any) -> None:
        self.driver, self.stats, self.lane, self.pool = FakeDriver(), Stats(), Lane(), Lane()
        self.wanted: list[EventFilter] = []
        self.missed: list[int | None] = []
        self.unseen: int | None = None
        self.events = SimpleNamespace(
            connected=False, subscribe=self.wanted.append, lag=SimpleNamespace(seconds=0.0123),
            gaps=SimpleNamespace(take=lambda: self.unseen, missed=self.missed.append),
        )  # fmt: skip
        self.happened: list[str] = []
        self.switch = Switch(
            replace(Settings(node_id="FS-1"), **settings), cast(Loop, SimpleNamespace()), self.driver, self.stats,
            lambda _: None, "greet me",
        )  # fmt: skip
        self.switch.lane = self.lane  # type: ignore[assignment]
        self.switch.pool = self.pool  # type: ignore[assignment]
        self.switch.events = self.events  # type: ignore[assignment]
        for name in ("on_up", "on_down", "on_linked"):
            setattr(self.switch, name, lambda name=name: self.happened.append(name))
        self.switch.identity.update(version=LONG, core_uuid="core-1", hostname="fs1")
        self.switch.publish(ALL, frozenset())

    def up(self) -> None:
        """Both connections, the commands' first."""
        self.lane.connected = True
        self.switch._up()
        self.events_up()

    def events_up(self) -> None:
        self.events.connected = True
        self.switch._events_changed(LinkStatus(LinkState.UP, "", 0.0))

    def events_down(self, fault: LinkError) -> None:
        self.events.connected = False
        self.switch._events_changed(LinkStatus(LinkState.DOWN, str(fault), 0.0, fault))

    def announced(self) -> list[tuple[str, dict[str, Any]]]:
        return [(subject, json.loads(payload)) for subject, payload in self.driver.published]


@pytest.fixture
def house() -> House:
    return House()


def test_a_link_that_is_complete_is_announced_once(house: House) -> None:
    house.up()
    house.events_up()
    assert house.happened == ["on_up", "on_linked"]
    (command,) = house.lane.sent
    assert command.text == "api show channels as json\n\n" and not house.driver.published
    command.done('{"row_count":1,"rows":[{"uuid":"u1","dest":"100","secret":"no"}]}')
    ((subject, event),) = house.announced()
    assert subject == "freeswitch.events.agent.connected"
    assert event["channels"] == [{"uuid": "u1", "dest": "100"}] and event["headers"]["Core-UUID"] == "core-1"
    assert event["events_dropped"] == 0 and event["events_unseen"] is None


def test_the_loss_is_told_counted_and_made_good(house: House) -> None:
    house.up()
    house.lane.sent[0].done("{}")
    house.stats.events_dropped = 7
    house.lane.connected = False
    house.switch._down("reset by peer")
    house.events_down(LinkError("reset by peer"))
    house.switch._down("refused")
    assert house.switch.losses == 1 and house.switch.reason == "refused"
    assert [subject.rpartition(".")[2] for subject, _ in house.announced()] == ["connected", "disconnected"]
    assert house.announced()[1][1]["reason"] == "reset by peer"
    house.unseen = 12
    house.up()
    house.lane.sent[1].done("{}")
    event = house.announced()[2][1]
    assert (event["events_dropped"], event["events_unseen"]) == (7, 12)
    assert house.switch.reason == ""
    assert house.happened == ["on_up", "on_linked", "on_down", "on_down", "on_up", "on_linked"]


def test_a_question_that_is_lost_with_the_link_announces_nothing(house: House) -> None:
    house.unseen, house.stats.events_dropped = 5, 3
    house.up()
    house.lane.sent[0].failed("lost")
    assert not house.driver.published and house.missed == [5]
    house.events_down(LinkError("lost"))
    house.up()
    house.lane.sent[1].done("{}")
    assert house.announced()[-1][1]["events_dropped"] == 3, "the next announcement tells of it"


def test_our_own_end_is_not_announced(house: House) -> None:
    house.up()
    house.lane.sent[0].done("{}")
    house.switch._events_changed(LinkStatus(LinkState.STOPPED, "", 0.0))
    assert [subject.rpartition(".")[2] for subject, _ in house.announced()] == ["connected"]


def test_a_list_of_channels_that_is_too_large_is_left_out(house: House) -> None:
    house.driver.most = 600
    house.up()
    house.lane.sent[0].done(json.dumps({"rows": [{"uuid": "u" * 36}] * 100}))
    assert house.announced()[0][1]["channels"] is None


def test_announcements_can_be_excluded(house: House) -> None:
    house.switch.publish(EventFilter.of(True, (), ("AGENT_CONNECTED",)), frozenset())
    house.up()
    house.lane.sent[0].done("{}")
    assert not house.driver.published


def test_what_is_asked_of_the_event_socket(house: House) -> None:
    some = EventFilter.of(False, ("CHANNEL_ANSWER",), ())
    house.switch.publish(some, frozenset(("MODULE_LOAD",)))
    house.switch.watch(frozenset(("CHANNEL_PARK",)))
    assert house.wanted[-1] == some.widened(frozenset(("MODULE_LOAD", "CHANNEL_PARK")))
    house.switch.publish(ALL, frozenset(("MODULE_LOAD",)))
    assert house.wanted[-1].wants("CHANNEL_PARK") and house.wanted[-1].everything
    house.switch.publish(some, frozenset())
    house.switch.watch(frozenset())
    assert house.wanted[-1] == some


def test_a_frozen_switch_breaks_the_other_connections(house: House) -> None:
    house.up()
    house.events_down(Frozen("no answer"))
    assert house.lane.aborted == house.pool.aborted == 1
    house.events_down(LinkError("is it frozen?"))
    assert house.lane.aborted == 1


def test_how_it_stands_in_words(house: House) -> None:
    assert house.switch.state == "not connected" and house.switch.version == "1.10.12-release"
    house.lane.connected = True
    assert house.switch.state == "connected (1.10.12-release), without events"
    house.events.connected = True
    assert house.switch.state == "connected (1.10.12-release)"
    assert house.switch.section() == {
        "connected": True, "events": True, "events_lag": 0.012, "version": LONG, "core_uuid": "core-1",
        "hostname": "fs1",
    }  # fmt: skip


def test_the_lane_is_asked_and_answers_either_way(house: House) -> None:
    answers: list[int] = []
    house.switch.ask_lane(lambda: answers.append(1))
    house.switch.ask_lane(lambda: answers.append(2))
    first, second = house.lane.sent
    first.done("+OK")
    second.failed("not connected")
    assert answers == [1, 2]


class Connection:
    """Answers what a new link asks."""

    answers: dict[str, str] = {}

    def __init__(self, host: str, port: int, password: str, limit: float) -> None:
        self.closed = False
        Connection.last = self

    last: Connection

    def ask(self, text: str, timeout: float) -> Any:
        return SimpleNamespace(text=self.answers[text.strip()])

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize(
    ("version", "raised"),
    [("FreeSWITCH Version 1.10.99", False), ("-ERR version Command not found!", True)],
)
def test_who_is_there_is_asked_at_a_new_link(
    house: House, monkeypatch: pytest.MonkeyPatch, version: str, raised: bool
) -> None:
    monkeypatch.setattr(module, "Connection", Connection)
    monkeypatch.setattr(Connection, "answers", {
        "api version": version, "api global_getvar core_uuid": "core-2\n", "api hostname": "fs2",
        "api greet me": "hello",
    })  # fmt: skip
    greeted: list[str] = []
    house.switch.on_greeted = greeted.append
    connect: Callable[[bool], Any] = house.switch._connect
    if raised:
        with pytest.raises(LinkError, match="still starting"):
            connect(True)
        assert Connection.last.closed and not greeted
        return
    assert connect(False) is Connection.last and house.switch.identity["core_uuid"] == "core-1"
    assert connect(True) is Connection.last and not Connection.last.closed
    assert house.switch.identity == {"version": version, "core_uuid": "core-2", "hostname": "fs2"}
    assert greeted == ["hello"] and house.switch.version == "1.10.99"
