"""The link to FreeSWITCH as a whole: what observers hear, which events are asked for, and who is there."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from event_agent.errors import Frozen, LinkError
from event_agent.freeswitch import dialer as dialing
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.dialer import Dialer
from event_agent.freeswitch.event_reader import EventReader
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.gaps import Hole
from event_agent.freeswitch.lane import CommandLane
from event_agent.freeswitch.link import Switch, SwitchObserver
from event_agent.freeswitch.pool import WorkerPool
from event_agent.runtime.health import Signs
from event_agent.runtime.link import Link, LinkState

ALL = EventFilter.of(True, (), ("API",))
LONG = "FreeSWITCH Version 1.10.12-release~64bit ( 64bit)"


class Part:
    """What the lane, the pool and the event reader have in common, and notes of what was done to them."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.link = Link()
        self.pending = 0
        self.sent: list[Command] = []
        self.waiting: list[Command] = []
        self.aborted: list[LinkError | None] = []
        self.stopped: list[float] = []
        self.wanted: list[EventFilter] = []
        self.unseen: int | None = None
        self.bell = None
        self.answers = 0
        self.missed: list[int | None] = []
        self.holes: list[Hole] = []
        self.gaps = SimpleNamespace(
            take=lambda: self.unseen, missed=self.missed.append, holes=lambda: [self.holes.pop() for _ in self.holes[:]]
        )
        self.lag = SimpleNamespace(seconds=0.0123, difference=-20.0)

    @property
    def connected(self) -> bool:
        return self.link.up

    def submit(self, command: Command) -> None:
        self.waiting.append(command)

    def flush(self) -> None:
        self.sent += self.waiting
        self.waiting = []

    def subscribe(self, wanted: EventFilter) -> None:
        self.wanted.append(wanted)

    def abort(self, fault: LinkError | None = None) -> None:
        self.aborted.append(fault)

    def answered(self) -> None:
        self.answers += 1

    def stop(self, timeout: float) -> None:
        self.stopped.append(timeout)

    def signs(self) -> Signs:
        return Signs((self.name,))

    def down(self, fault: LinkError) -> None:
        self.link.set(LinkState.DOWN, fault)


class Watcher(SwitchObserver):
    """Notes what it is told, and when."""

    def __init__(self, house: House) -> None:
        self._house = house
        self.happened: list[str] = []

    def up(self) -> None:
        assert self._house.switch.connected
        self.happened.append("up")

    def linked(self) -> None:
        assert self._house.switch.complete
        self.happened.append("linked")

    def unlinked(self, reason: str) -> None:
        self.happened.append(f"unlinked: {reason}")

    def down(self, reason: str) -> None:
        assert not self._house.switch.connected
        self.happened.append(f"down: {reason}")


class House:
    """A switch whose parts are fakes; their links change as their threads would have it."""

    def __init__(self) -> None:
        self.pool, self.lane, self.events = Part("pool"), Part("lane"), Part("events")
        self.dialer = Dialer("127.0.0.1", 8021, "x")
        self.dialer.identity = {"version": LONG, "core_uuid": "core-1", "hostname": "fs1"}
        self.switch = Switch(
            self.dialer, cast(WorkerPool, self.pool), cast(CommandLane, self.lane), cast(EventReader, self.events)
        )
        self.watcher = Watcher(self)
        self.switch.observe(self.watcher)
        self.switch.publish(ALL)

    def up(self) -> None:
        """Both connections, the commands' first."""
        self.lane.link.set(LinkState.UP)
        self.events.link.set(LinkState.UP)


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize("first", ["lane", "events"])
def test_the_link_is_complete_when_both_are_up(house: House, first: str) -> None:
    parts = [house.lane, house.events] if first == "lane" else [house.events, house.lane]
    parts[0].link.set(LinkState.UP)
    assert "linked" not in house.watcher.happened and not house.switch.complete
    parts[1].link.set(LinkState.UP)
    assert house.watcher.happened == ["up", "linked"]


def test_a_loss_is_said_once_whichever_connection_notices_first(house: House) -> None:
    house.up()
    house.lane.down(LinkError("reset by peer"))
    house.events.down(LinkError("reset by peer"))
    house.lane.down(LinkError("refused"))
    assert house.watcher.happened[2:] == ["down: reset by peer", "unlinked: reset by peer", "down: refused"]
    assert house.switch.losses == 1 and house.switch.status.reason == "refused"
    house.up()
    assert house.watcher.happened[5:] == ["up", "linked"] and house.switch.status.reason == ""


def test_only_events_are_lost(house: House) -> None:
    house.up()
    house.events.down(LinkError("closed"))
    house.events.link.set(LinkState.UP)
    assert house.watcher.happened[2:] == ["unlinked: closed", "linked"] and house.switch.losses == 1


def test_our_own_end_is_no_loss(house: House) -> None:
    house.up()
    for part in (house.lane, house.events):
        part.link.set(LinkState.STOPPED)
    assert house.watcher.happened == ["up", "linked"] and house.switch.losses == 0


def test_observers_hear_in_the_order_in_which_they_came(house: House) -> None:
    order: list[str] = []
    for name in ("second", "third"):
        watcher = Watcher(house)
        watcher.up = lambda name=name: order.append(name)  # type: ignore[method-assign, misc]
        house.switch.observe(watcher)
    house.up()
    assert order == ["second", "third"]


def test_what_is_asked_of_the_event_socket(house: House) -> None:
    some = EventFilter.of(False, ("CHANNEL_ANSWER",), ())
    house.switch.publish(some)
    house.switch.want("applications", frozenset(("MODULE_LOAD",)))
    house.switch.want("park mode", frozenset(("CHANNEL_PARK",)))
    assert house.events.wanted[-1] == some.widened(frozenset(("MODULE_LOAD", "CHANNEL_PARK")))
    house.switch.publish(ALL)
    assert house.events.wanted[-1].wants("CHANNEL_PARK") and house.events.wanted[-1].everything
    house.switch.publish(some)
    house.switch.want("applications", frozenset())
    house.switch.want("park mode", frozenset())
    assert house.events.wanted[-1] == some


def test_a_frozen_switch_breaks_the_other_connections(house: House) -> None:
    house.up()
    fault = Frozen("no answer")
    house.events.down(fault)
    assert house.lane.aborted == [fault] and house.pool.aborted == [None]
    house.events.down(LinkError("is it frozen?"))
    assert len(house.lane.aborted) == 1, "the type decides, not the words"


def test_the_event_reader_is_told_that_freeswitch_answers(house: House) -> None:
    house.up()
    house.lane.down(Frozen("no answer"))
    assert house.events.answers == 1
    house.lane.link.set(LinkState.UP)
    assert house.events.answers == 2


def test_commands_finish_before_the_connections_end(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.switch.stop(0.1)
    assert not caplog.text
    house.lane.pending = 3
    house.switch.stop(0.1)
    assert "3 commands were still running at the end" in caplog.text
    for part in (house.pool, house.lane, house.events):
        assert len(part.stopped) == 2 and part.stopped[1] >= 0.05


def test_its_threads_are_those_of_its_parts(house: House) -> None:
    assert house.switch.signs().lives == ("pool", "lane", "events")


def test_how_it_stands_in_words(house: House) -> None:
    assert house.switch.state == "not connected" and house.switch.version == "1.10.12-release"
    house.lane.link.set(LinkState.UP)
    assert house.switch.state == "connected (1.10.12-release), without events"
    house.events.link.set(LinkState.UP)
    assert house.switch.state == "connected (1.10.12-release)"


def test_agent_status_says_why_and_since_when(house: House) -> None:
    started = house.lane.link.status.since
    section = house.switch.section()
    assert section == {
        "connected": False, "state": "connecting", "reason": "", "since": round(started, 3), "events": False,
        "events_state": "connecting", "events_reason": "", "events_since": round(house.events.link.status.since, 3),
        "events_lag": 0.012, "clock_difference": -20.0, "version": LONG, "core_uuid": "core-1", "hostname": "fs1",
    }  # fmt: skip
    house.lane.down(LinkError("refused"))
    section = house.switch.section()
    assert (section["state"], section["reason"]) == ("disconnected", "refused")
    assert section["since"] >= round(started, 3)


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
def test_who_is_there_is_asked_at_a_new_link(monkeypatch: pytest.MonkeyPatch, version: str, raised: bool) -> None:
    monkeypatch.setattr(dialing, "Connection", Connection)
    monkeypatch.setattr(Connection, "answers", {
        "api version": version, "api global_getvar core_uuid": "core-2\n", "api hostname": "fs2",
    })  # fmt: skip
    dialer = Dialer("127.0.0.1", 8021, "x")
    if raised:
        with pytest.raises(LinkError, match="still starting"):
            dialer.connect(fresh=True)
        assert Connection.last.closed and dialer.version == ""
        return
    dialer.connect(fresh=False)
    assert dialer.identity["core_uuid"] == ""
    dialer.connect(fresh=True)
    assert not Connection.last.closed
    assert dialer.identity == {"version": version, "core_uuid": "core-2", "hostname": "fs2"}
    assert dialer.version == "1.10.99"
