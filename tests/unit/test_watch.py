"""Calls that are watched: bounds, time limits, and that nothing is left behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from event_agent.commands import watch as module
from event_agent.commands.registry import Outcome
from event_agent.commands.watch import DESTROY, IDLE, LINGER, CallWatch, Watches
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Command, Failure
from event_agent.protocol.raw_event import RawEvent
from tests.fakes.driver import FakeDriver

ALL = frozenset(("CHANNEL_ANSWER", "CHANNEL_HANGUP", DESTROY, "CUSTOM"))


class House:
    """The watches, on a link that does what a test says."""

    connected = True

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "time", self)
        self.there = True
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.wanted: list[frozenset[str]] = []
        self.asked: list[Command] = []
        self.driver = FakeDriver()
        self.watches = Watches("fs", ALL, self, self.driver, self.send, self.after)

    def monotonic(self) -> float:
        return self.now

    def want(self, who: str, names: frozenset[str]) -> None:
        self.wanted.append(names)

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        then(self.there)

    def send(self, commands: Sequence[Command]) -> None:
        self.asked += commands

    def after(self, seconds: float, job: Callable[[], object]) -> None:
        self.timers.append((self.now + seconds, job))

    def go(self, seconds: float) -> None:
        end = self.now + seconds
        while due := sorted((each for each in self.timers if each[0] <= end), key=lambda each: each[0]):
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][1]()
        self.now = end

    def begin(
        self, uuid: str, to: str = "", names: Sequence[str] = (), ttl: float = 100, coming: bool = False
    ) -> Failure | None:
        said: list[Failure | None] = []
        self.watches.begin(uuid, self.watches.place(uuid, to), said.append, names, ttl, coming)
        (found,) = said
        return found

    def happens(self, name: str, uuid: str) -> list[str]:
        """Where this event goes."""
        event = RawEvent(json.dumps({"Event-Name": name, "Unique-ID": uuid}, separators=(",", ":")).encode())
        own = f"fs.events.{name.lower().replace('_', '.').replace('::', '.')}".encode()
        subjects = self.watches.subjects(event, name, own)
        self.watches.add(subjects, event.data)
        self.watches.flush()
        return [each.decode() for each in subjects]


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def test_from_the_beginning_to_the_end_of_the_channel(house: House) -> None:
    assert not house.watches.active
    assert house.begin("u") is None and house.wanted == [ALL]
    assert house.happens("CHANNEL_ANSWER", "u") == ["fs.calls.u.channel.answer"]
    assert house.happens("CHANNEL_ANSWER", "other") == []
    assert house.driver.copies == [("fs.calls.u.channel.answer", b'{"Event-Name":"CHANNEL_ANSWER","Unique-ID":"u"}')]
    assert house.happens(DESTROY, "u") == ["fs.calls.u.channel.destroy"]
    assert house.happens("CHANNEL_ANSWER", "u") == [] and not house.watches.active


def test_only_the_events_that_it_names(house: House) -> None:
    house.begin("u", "x", ("channel_answer", "a::b"))
    house.begin("u", "y", ("CUSTOM",))
    assert house.wanted[0] == {"CHANNEL_ANSWER", "a::b", DESTROY} and house.wanted[-1] == {*house.wanted[0], "CUSTOM"}
    assert house.happens("CHANNEL_ANSWER", "u") == ["x.channel.answer"]
    assert house.happens("a::b", "u") == ["x.a.b", "y.a.b"]
    assert house.happens("c::d", "u") == ["y.c.d"]
    assert house.happens("CHANNEL_HANGUP", "u") == []
    assert house.happens(DESTROY, "u") == [] and len(house.watches) == 0


def test_time_limits_and_what_is_asked_of_freeswitch(house: House) -> None:
    house.begin("u", "x", ("CHANNEL_ANSWER",), ttl=10)
    house.begin("u", "y", ("CHANNEL_HANGUP",), ttl=20)
    house.go(11)
    assert len(house.watches) == 1 and house.happens("CHANNEL_HANGUP", "u") == ["y.channel.hangup"]
    house.go(10)
    assert len(house.watches) == 0 and house.wanted[-1]
    house.go(IDLE + 5)
    assert house.wanted[-1] == frozenset() and not house.timers, "nobody looks while nothing is watched"
    house.begin("v", "x", ("CHANNEL_ANSWER",))
    assert house.wanted[-1] == {"CHANNEL_ANSWER", DESTROY} and house.timers


def test_the_last_events_of_a_call_that_failed(house: House) -> None:
    house.begin("u", "x")
    house.begin("u", "y")
    house.watches.end_soon("u", "x")
    house.watches.end_soon("nobody", "x")
    assert house.happens("CHANNEL_HANGUP", "u") == ["x.channel.hangup", "y.channel.hangup"]
    house.go(LINGER + 2)
    assert house.happens("CHANNEL_HANGUP", "u") == ["y.channel.hangup"]


def test_a_watch_that_could_not_be_renewed_goes_on_as_it_was(house: House) -> None:
    assert house.begin("u", "x", ("CHANNEL_ANSWER",), ttl=50) is None
    house.there = False
    assert house.begin("u", "x", ("CHANNEL_HANGUP",), ttl=5) is not None and len(house.watches) == 1
    house.there = True
    assert house.begin("u", "y") is None and house.begin("u", "x") is None
    assert house.watches.take_back("u", "x") and not house.watches.take_back("u", "z")
    assert len(house.watches) == 2
    house.go(10)
    assert house.happens("CHANNEL_ANSWER", "u") == ["y.channel.answer", "x.channel.answer"]
    assert house.happens("CHANNEL_HANGUP", "u") == ["y.channel.hangup"]
    assert house.watches.take_back("u", "x") and len(house.watches) == 1, "it has not replaced another"
    house.go(50)
    assert house.happens("CHANNEL_ANSWER", "u") == ["y.channel.answer"]


def test_the_last_events_of_a_call_that_ends_while_its_watch_is_renewed(house: House) -> None:
    """FreeSWITCH knows the channel no more, and its hang-up is on its way."""
    answers: list[Outcome] = []
    watch = CallWatch(house.watches, house.send, ALL)
    for _ in range(2):
        watch(asked_to_watch("u", answers))
    first, second = house.asked
    first.done("true")
    second.done("false\n")
    assert [each.ok for each in answers] == [True, False]
    assert house.happens("CHANNEL_HANGUP_COMPLETE", "u") == ["fs.calls.u.channel.hangup.complete"]
    assert house.happens(DESTROY, "u") and len(house.watches) == 0
    watch(asked_to_watch("nobody", answers))
    house.asked[-1].done("false")
    assert len(house.watches) == 0, "nothing is left of one that never was"


def asked_to_watch(uuid: str, answers: list[Outcome]) -> Any:
    return SimpleNamespace(payload={"uuid": uuid}, finish=answers.append, fail=pytest.fail)


def test_bounds(house: House) -> None:
    house.watches.most, house.watches.most_of_one = 3, 2
    assert house.begin("u", "a") is None and house.begin("u", "b") is None
    assert str(house.begin("u", "c")) == "Too many watches (2, 2 of this call)"
    assert house.begin("u", "b") is None, "it takes the place of the earlier one"
    assert house.begin("v") is None
    assert str(house.begin("w")) == "Too many watches (3, 0 of this call)"
    assert house.watches.end("u") == 2 and house.begin("w") is None


def test_without_events_it_is_refused(house: House) -> None:
    house.there = False
    assert "FreeSWITCH sends no events now" in str(house.begin("u"))
    house.connected = False
    assert str(house.begin("u")) == "FreeSWITCH is not connected" and len(house.watches) == 0


def test_after_a_link_each_channel_is_asked_about(house: House) -> None:
    for uuid in ("a", "b", "c"):
        house.begin(uuid)
    house.watches.linked()
    assert [each.text.split()[1:] for each in house.asked] == [["uuid_exists", each] for each in "abc"]
    for command, answer in zip(house.asked, ("true", "false", "-ERR"), strict=True):
        command.done(answer)
    assert house.happens("CHANNEL_ANSWER", "a") and house.happens("CHANNEL_ANSWER", "c")
    assert not house.happens("CHANNEL_ANSWER", "b")


def test_a_channel_that_is_being_called_is_asked_about_when_it_is_there(house: House) -> None:
    """A link comes back while FreeSWITCH is about to make it: it does not exist yet, and its events are all to come."""
    for uuid in ("a", "b", "c", "d"):
        assert house.begin(uuid, "x", coming=True) is None
    assert house.begin("b", "x") is None, "as call.watch does"
    house.watches.arrived("a")  # before the link
    house.watches.linked()
    assert [each.text.split()[2] for each in house.asked] == ["a"]
    assert house.happens("CHANNEL_ANSWER", "b"), "it is watched on"
    house.watches.end_soon("c", "x")  # the call has failed
    house.go(LINGER + 1)
    house.happens(DESTROY, "d")
    for uuid in ("c", "d"):
        house.watches.arrived(uuid)
        assert not house.happens("CHANNEL_ANSWER", uuid)
    assert len(house.asked) == 1
    house.watches.arrived("b")
    house.watches.arrived("b")
    assert [each.text.split()[2] for each in house.asked] == ["a", "b"], "it may have ended unseen"
    house.asked[1].done("false")
    assert not house.happens("CHANNEL_ANSWER", "b")


@pytest.mark.parametrize("to", ["fs", "fs.api", "fs.any", "fs.node.x", "fs.call.u", "fs.events", "fs.cdr.x", "$SYS.x"])
def test_where_copies_must_not_go(house: House, to: str) -> None:
    with pytest.raises(CommandError):
        house.watches.place("u", to)


def test_10000_random_calls_leave_nothing_behind(house: House) -> None:
    rng = random.Random(3)
    for number in range(10_000):
        uuid = f"u{rng.randrange(200)}"
        match rng.randrange(6):
            case 0 | 1 | 2:
                house.there = rng.random() < 0.9
                names = rng.choice(((), ("CHANNEL_ANSWER",)))
                house.begin(uuid, rng.choice(("", "x", "y")), names, rng.choice((1, 60)), rng.random() < 0.5)
            case 3:
                house.happens(DESTROY, uuid)
            case 4:
                house.watches.end(uuid, rng.choice(("", "x")))
            case 5:
                house.watches.end_soon(uuid, "x")
                house.go(rng.random())
        assert len(house.timers) <= 1 and len(house.watches) == sum(map(len, house.watches.watches.values())), number
    house.go(100)
    assert len(house.watches) == 0 and not house.watches.active and not house.timers
    assert house.wanted[-1] == frozenset()
    house.begin("u")
    house.watches.stop(1)
    assert not house.watches.active and str(house.begin("u")).startswith("Too many watches")
