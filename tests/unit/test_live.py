"""The lanes of calls: which channels have one, whatever of their events and lists was missed."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

from event_agent.bridge import live as module
from event_agent.bridge.live import AGAIN, CREATE, DESTROY, ENDED_FOR, LOOKS, CallLanes
from event_agent.drivers.base import ManySubjects
from event_agent.errors import AgentError
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.protocol.raw_event import RawEvent
from event_agent.protocol.subjects import call_lane


class Broker(ManySubjects):
    """What is subscribed to."""

    def __init__(self) -> None:
        self.held: set[str] = set()
        self.refuses = ""

    def join(self, *subjects: str, later: bool = False) -> None:
        for subject in subjects:
            if subject == self.refuses:
                raise AgentError("no")
            assert subject not in self.held
            self.held.add(subject)

    def leave(self, subjects: Iterable[str], later: bool = False) -> None:
        for subject in subjects:
            self.held.remove(subject)

    def tell(self) -> None:
        pass

    def __len__(self) -> int:
        return len(self.held)


class House:
    """The lanes, on a FreeSWITCH whose channels a test makes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "time", self)
        self.timers: list[tuple[float, Callable[[], object]]] = []
        self.asked: list[Command] = []
        self.broker = Broker()
        self.core = "core-1"
        self.sequence = 0
        self.lanes = CallLanes("fs", self.broker, self.send, self.after, lambda: self.core, **options)

    def monotonic(self) -> float:
        return self.now

    def after(self, seconds: float, job: Callable[[], object]) -> None:
        self.timers.append((self.now + seconds, job))

    def send(self, commands: Sequence[Command]) -> None:
        self.asked += commands

    def go(self, seconds: float, *listed: str) -> None:
        """Let time pass; whenever FreeSWITCH is asked for its list, these are on it."""
        end = self.now + seconds
        self.answer(*listed)
        while due := sorted((each for each in self.timers if each[0] <= end), key=lambda each: each[0]):
            self.timers.remove(due[0])
            self.now = max(self.now, due[0][0])
            due[0][1]()
            self.answer(*listed)
        self.now = end

    def answer(self, *listed: str) -> None:
        asked, self.asked = self.asked, []
        for command in asked:
            command.done(json.dumps({"row_count": len(listed), "rows": [{"uuid": each} for each in listed]}))

    def happens(self, name: str, uuid: str, sequence: int = 0) -> None:
        self.sequence += 1
        headers = {"Event-Name": name, "Event-Sequence": str(sequence or self.sequence), "Unique-ID": uuid}
        self.lanes.event(name, RawEvent(json.dumps(headers, separators=(",", ":")).encode()))

    @property
    def held(self) -> set[str]:
        assert all(each.startswith("fs.call.") for each in self.broker.held)
        return {each.removeprefix("fs.call.") for each in self.broker.held}


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def test_from_its_beginning_to_its_end(house: House) -> None:
    house.lanes.linked()
    house.go(LOOKS[-1])
    house.happens(CREATE, "a")
    house.happens(CREATE, "b")
    house.happens(CREATE, "a")
    assert house.held == {"a", "b"}
    house.happens(DESTROY, "a")
    house.happens(DESTROY, "nobody")
    assert house.held == {"b"} and house.lanes.figures() == {"held": 1, "without": 0, "refused": 0}
    house.happens(CREATE, "a")
    assert house.held == {"a", "b"}, "another channel of the same uuid"


def test_the_end_may_come_before_the_beginning(house: House) -> None:
    house.lanes.linked()
    house.happens(DESTROY, "a", 12)
    house.happens(CREATE, "a", 11)
    house.lanes.began("a")
    assert not house.held
    house.happens(CREATE, "a", 20)
    assert house.held == {"a"}


def test_the_reply_to_originate_may_come_before_the_beginning(house: House) -> None:
    house.lanes.linked()
    house.lanes.began("a")
    assert house.held == {"a"}
    house.happens(CREATE, "a")
    house.happens(DESTROY, "a")
    assert not house.held


def test_what_was_there_before_us_is_on_the_list(house: House) -> None:
    house.lanes.linked()
    house.happens(CREATE, "new")  # not on the list: that is behind
    house.answer("old", "older")
    assert house.held == {"new", "old", "older"}
    house.happens(DESTROY, "older")
    house.go(LOOKS[-1] + 1, "old", "older", "new")
    assert house.held == {"new", "old"}, "the list is behind: what was seen to end has ended"
    house.go(60)
    assert house.held == {"new", "old"} and not house.timers, "nobody asks any more"


def test_one_that_ended_before_us_and_is_still_listed_goes_with_the_last_list(house: House) -> None:
    house.lanes.linked()
    house.answer("ghost")
    assert house.held == {"ghost"}
    house.go(LOOKS[-1])
    assert not house.held


def test_after_a_gap_what_is_not_on_the_list_has_ended(house: House) -> None:
    house.lanes.linked()
    house.go(5)
    for uuid in "abc":
        house.happens(CREATE, uuid)
    house.lanes.unlinked("gone")
    assert house.held == {"a", "b", "c"}, "who asks there is told that FreeSWITCH is not connected"
    house.lanes.linked()
    house.happens(DESTROY, "c")
    house.answer("a", "c")
    house.happens(CREATE, "d")
    assert house.held == {"a", "b", "d"}
    house.go(LOOKS[-1], "a", "d")
    assert house.held == {"a", "d"}


def test_a_freeswitch_that_was_restarted_has_none_of_the_channels(house: House) -> None:
    house.lanes.linked()
    house.go(5)
    house.happens(CREATE, "a")
    house.lanes.unlinked("gone")
    house.core = "core-2"
    house.lanes.linked()
    assert not house.held
    house.answer("b")
    assert house.held == {"b"}


def test_without_a_list_nobody_is_given_up_and_it_is_asked_again(house: House) -> None:
    house.lanes.linked()
    house.go(5)
    house.happens(CREATE, "a")
    house.happens(CREATE, "b")
    house.lanes.unlinked("gone")
    house.lanes.linked()
    for _ in range(5):
        for command in house.asked:
            command.failed(Failure("locked", Executed.UNKNOWN))
        house.asked.clear()
        house.now = max([each[0] for each in house.timers], default=house.now)
        timers, house.timers = house.timers, []
        for _, job in timers:
            job()
        assert house.held == {"a", "b"}
    house.asked.pop().done("-ERR")
    house.go(AGAIN, "b")
    assert house.held == {"b"} and not house.timers


def test_a_last_list_that_was_long_in_coming_is_not_trusted(house: House) -> None:
    """What has ended meanwhile may be forgotten."""
    house.lanes.linked()
    house.go(LOOKS[-1] - 0.5)
    ((_, last),) = house.timers
    house.timers.clear()
    house.now += 0.5
    last()
    (question,) = house.asked
    house.asked.clear()
    house.happens(CREATE, "a")
    house.happens(DESTROY, "a")
    house.now += 2 * ENDED_FOR
    house.happens(DESTROY, "z")  # forgets the older one
    question.done(json.dumps({"rows": [{"uuid": "a"}]}))
    assert not house.held and len(house.timers) == 1
    house.go(AGAIN, "b")
    assert house.held == {"b"}


def test_lists_of_a_link_that_is_gone_say_nothing(house: House) -> None:
    house.lanes.linked()
    (question,) = house.asked
    house.asked.clear()
    house.lanes.unlinked("gone")
    question.done(json.dumps({"rows": [{"uuid": "a"}]}))
    assert not house.held
    house.go(60, "a")
    assert not house.held and not house.timers


def test_there_is_a_bound_which_is_said_and_counted(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    house = House(monkeypatch, most=3)
    house.lanes.linked()
    for number in range(5):
        house.happens(CREATE, f"u{number}")
    assert len(house.held) == 3 and house.lanes.figures() == {"held": 3, "without": 2, "refused": 2}
    assert "channels have no lane of their own: at most 3 are held" in caplog.text
    for number in range(5):
        house.happens(DESTROY, f"u{number}")
    assert house.lanes.figures() == {"held": 0, "without": 0, "refused": 2}
    house.happens(CREATE, "again")
    assert house.held == {"again"}


@pytest.mark.parametrize("uuid", ["a*", ">", "a b", "a..b", ".a", "a$b", "x" * 300, "a\nSUB b 1"])
def test_a_uuid_that_is_no_part_of_a_subject_gets_no_lane(house: House, uuid: str) -> None:
    house.lanes.linked()
    house.happens(CREATE, uuid)
    assert not house.held and house.lanes.refused == 1
    house.happens(DESTROY, uuid)
    assert house.lanes.figures()["without"] == 0


def test_a_broker_that_does_not_take_one(house: House) -> None:
    house.broker.refuses = "fs.call.a"
    house.happens(CREATE, "a")
    house.happens(DESTROY, "a")
    assert house.lanes.figures() == {"held": 0, "without": 0, "refused": 1}


def test_what_a_client_fires_itself_begins_and_ends_nothing(house: House) -> None:
    house.happens(CREATE, "a")
    for name, uuid in ((CREATE, "b"), (DESTROY, "a")):
        house.lanes.event(name, RawEvent(f'{{"Unique-ID":"{uuid}","Event-Name":"{name}"}}'.encode()))
    assert house.held == {"a"}


def test_at_the_end_all_are_left(house: House) -> None:
    house.lanes.linked()
    house.happens(CREATE, "a")
    house.lanes.stop(1)
    house.happens(CREATE, "b")
    house.lanes.began("c")
    assert not house.held
    house.go(60, "d")
    assert not house.held and not house.timers


def test_random_calls_links_and_orders_leave_the_channels_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was missed: three seconds after a link the lanes are those of the channels."""
    rng = random.Random(5)
    for _ in range(40):
        house = House(monkeypatch)
        alive: dict[str, None] = {}
        linked = False
        number = 0
        late: list[tuple[str, str, int]] = []
        for _ in range(200):
            house.sequence += 1
            event: tuple[str, str, int] | None = None
            match rng.randrange(8):
                case 0 | 1 | 2:
                    number += 1
                    alive[f"u{number}"] = None
                    event = (CREATE, f"u{number}", house.sequence)
                case 3 | 4 if alive:
                    uuid = rng.choice(list(alive))
                    del alive[uuid]
                    event = (DESTROY, uuid, house.sequence)
                case 5 if linked:
                    linked = False
                    late.clear()  # they were on their way, and are lost
                    house.lanes.unlinked("gone")
                case 6 if not linked:
                    linked = True
                    house.lanes.linked()
                case _:
                    house.go(rng.random() * 2, *alive)
            if event is not None and linked:
                late.append(event)
            while late and rng.random() < 0.8:  # in any order, a little
                house.happens(*late.pop(rng.randrange(min(2, len(late)))))
        if not linked:
            house.lanes.linked()
        for each in late:
            house.happens(*each)
        house.go(LOOKS[-1] + 1, *alive)
        assert house.held == set(alive)
        for uuid in alive:
            house.happens(DESTROY, uuid)
        assert not house.held and house.lanes.figures()["without"] == 0


def test_no_figure_is_of_half_an_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Status is asked for by another thread, at any time."""
    seen: list[dict[str, int]] = []
    threads: list[threading.Thread] = []

    def asked_for_meanwhile(prefix: str, uuid: str) -> str:
        thread = threading.Thread(target=lambda: seen.append(house.lanes.figures()), name="status")
        thread.start()
        thread.join(0.1)  # it gets its figures, or waits until the end is complete
        threads.append(thread)
        return call_lane(prefix, uuid)

    house.lanes.linked()
    monkeypatch.setattr(module, "call_lane", asked_for_meanwhile)
    for uuid in "abc":
        house.happens(CREATE, uuid)
    house.lanes.stop(5)
    for thread in threads:
        thread.join(15)
    assert len(seen) == 6, "one for each beginning and each end"
    assert all(each["without"] == 0 for each in seen), seen


def test_what_is_no_list(house: House) -> None:
    for answer in ("", "-ERR", "[]", '{"rows":5}', '{"rows":[5]}', '{"rows":[{}]}', "[" * 100000):
        assert module.uuids_of(answer) is None
    assert module.uuids_of('{"row_count":0}') == []




def test_a_uuid_with_a_dot_has_no_lane(house: House) -> None:
    """Commands `hangup` for `a` go to `fs.call.a.hangup`; a client that may send only these must not send all."""
    house.lanes.linked()
    for uuid in ("a.hangup", ".", "a."):
        house.happens(CREATE, uuid)
    house.happens(CREATE, "a")
    assert house.held == {"a"} and house.lanes.figures() == {"held": 1, "without": 3, "refused": 3}


def test_a_channel_has_a_subject_for_each_way_of_asking(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House(monkeypatch)
    house.lanes = CallLanes("fs", house.broker, house.send, house.after, lambda: house.core, ("", ".>"))
    house.lanes.linked()
    house.happens(CREATE, "a")
    house.happens(CREATE, "b")
    assert house.held == {"a", "a.>", "b", "b.>"} and house.lanes.figures()["held"] == 2
    house.happens(DESTROY, "a")
    assert house.held == {"b", "b.>"}
    house.lanes.stop(1)
    assert not house.held
