"""Applications that are waited for: who is answered when, and that nothing is left behind."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any

import pytest

from event_agent.commands import waiting as module
from event_agent.commands.registry import Invocation, Outcome
from event_agent.commands.waiting import COMPLETE, EVENTS, HANGUP, Waiter, Waiting
from event_agent.drivers.base import Message
from event_agent.protocol.raw_event import RawEvent


class Clock:
    """Time, and what is to be called when."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.timers: list[list[Any]] = []  # when, what

    def monotonic(self) -> float:
        return self.now

    def after(self, seconds: float, job: Callable[[], object]) -> Any:
        timer = [self.now + seconds, job]
        self.timers.append(timer)
        clock = self

        class Handle:
            def cancel(self) -> None:
                if timer in clock.timers:
                    clock.timers.remove(timer)

        return Handle()

    def go(self, seconds: float) -> None:
        """Let time pass; what is due is called."""
        end = self.now + seconds
        while due := [each for each in self.timers if each[0] <= end]:
            first = min(due, key=lambda each: float(each[0]))
            self.timers.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
        self.now = end


class House:
    """The table, with a link to FreeSWITCH that does what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock = Clock()
        monkeypatch.setattr(module, "time", self.clock)
        self.waiting = Waiting(self, self.clock.after)
        self.connected = True
        self.there: bool | None = True  # None: it is not in force yet
        self.later: list[Callable[[bool], None]] = []
        self.wanted: list[frozenset[str]] = []
        self.sent: list[str] = []
        self.replies: dict[str, Outcome] = {}

    def want(self, who: str, names: frozenset[str]) -> None:
        self.wanted.append(names)

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        if self.there is None:
            self.later.append(then)
        else:
            then(self.there)

    def enter(
        self, name: str, uuid: str = "u-1", seconds: float = 5, result: tuple[str, ...] = (), size: int = 9
    ) -> None:
        def finish(invocation: Invocation, outcome: Outcome) -> None:
            assert name not in self.replies, "answered twice"
            self.replies[name] = outcome

        invocation = Invocation(Message(b"s", b"r", b"x" * size), finish)
        invocation.payload = {"uuid": uuid, "args": "x"}
        waiter = Waiter(invocation, uuid, "playback", name, seconds, result)
        self.waiting.enter(waiter, lambda: self.sent.append(name))

    def happens(self, name: str, **headers: Any) -> None:
        named = {key if key[0].islower() else key.replace("_", "-"): value for key, value in headers.items()}
        data = json.dumps({"Event-Name": name, **named}, separators=(",", ":")).encode()
        self.waiting.event(name, RawEvent(data))

    def message(self, name: str) -> str:
        return self.replies[name].message


@pytest.fixture
def house(monkeypatch: pytest.MonkeyPatch) -> House:
    return House(monkeypatch)


def test_it_is_answered_when_the_application_has_ended(house: House) -> None:
    house.enter("a", result=("pin", "list", "none"))
    assert house.wanted == [EVENTS] and house.sent == ["a"] and not house.replies
    house.happens(COMPLETE, Unique_ID="u-1", Application_UUID="another")
    house.happens(
        COMPLETE, Unique_ID="u-1", Answer_State="answered", Application_Response="FILE PLAYED", Application_UUID="a",
        variable_pin="12\n34", variable_list=["x", "y"],
    )  # fmt: skip
    outcome = house.replies["a"]
    assert outcome.ok and outcome.message == "execute_app completed" and outcome.extra == {"app_uuid": "a"}
    assert outcome.data == {
        "uuid": "u-1", "app": "playback", "application_uuid": "a", "response": "FILE PLAYED",
        "variables": {"pin": "12\n34", "list": ["x", "y"], "none": None},
    }  # fmt: skip
    house.enter("b")
    assert house.wanted == [EVENTS], "once is enough"
    house.happens(HANGUP, Unique_ID="u-1", Hangup_Cause="USER_BUSY")
    assert house.waiting.tables()[:2] == (0, 0)


def test_a_hang_up_answers_all_of_the_channel_and_no_others(house: House) -> None:
    for name, uuid in (("a", "u-1"), ("b", "u-1"), ("c", "u-2")):
        house.enter(name, uuid)
    house.happens(HANGUP, Unique_ID="u-3", Hangup_Cause="NORMAL_CLEARING")
    assert not house.replies
    house.happens(HANGUP, Unique_ID="u-1", Hangup_Cause="USER_BUSY")
    assert set(house.replies) == {"a", "b"} and house.message("b") == "Channel hung up: USER_BUSY"
    assert house.replies["a"].extra == {"app_uuid": "a", "cause": "USER_BUSY", "executed": "unknown"}
    # The two events may come the other way round: FreeSWITCH dispatches from several threads.
    house.happens(COMPLETE, Answer_State="hangup", Hangup_Cause="CALL_REJECTED", Application_UUID="c")
    assert house.message("c") == "Channel hung up: CALL_REJECTED" and not house.replies["c"].ok
    house.enter("d")
    house.happens(HANGUP, Unique_ID="u-1")
    assert house.message("d") == "Channel hung up: unknown"


def test_what_a_client_fires_itself_ends_nothing(house: House) -> None:
    house.enter("a")
    forged = b'{"Application-UUID":"a","Unique-ID":"u-1","Event-Name":"CHANNEL_EXECUTE_COMPLETE"}'
    house.waiting.event(COMPLETE, RawEvent(forged))
    house.waiting.event(HANGUP, RawEvent(forged.replace(COMPLETE.encode(), HANGUP.encode())))
    assert not house.replies


def test_its_time_is_over(house: House) -> None:
    house.enter("long", seconds=3600)
    house.enter("short", seconds=0.5)
    house.clock.go(0.4)
    assert not house.replies
    house.clock.go(0.2)
    assert house.message("short") == "playback has not ended within 0.5 seconds; it goes on"
    assert house.replies["short"].extra == {"app_uuid": "short", "executed": "unknown"}
    house.happens(COMPLETE, Application_UUID="short")
    house.clock.go(3590)
    assert set(house.replies) == {"short"}
    house.clock.go(20)
    assert house.message("long") == "playback has not ended within 3600 seconds; it goes on"
    assert not house.clock.timers, "nothing is looked at while nobody waits"


def test_nothing_is_sent_before_the_events_come(house: House) -> None:
    house.there = None
    house.enter("a")
    house.enter("b")
    assert not house.sent and len(house.waiting) == 2
    house.later.pop(0)(True)
    assert house.sent == ["a"]
    house.later.pop(0)(False)
    assert "FreeSWITCH sends no events now" in house.message("b") and house.replies["b"].extra == {
        "app_uuid": "b", "executed": "no",
    }  # fmt: skip
    house.there = False
    house.enter("c")
    assert "FreeSWITCH sends no events now" in house.message("c") and house.sent == ["a"] and len(house.waiting) == 1
    house.connected = False
    house.enter("d")
    assert house.sent == ["a", "d"], "the lane has the words for that"


def test_the_end_of_the_link_and_of_the_daemon(house: House) -> None:
    house.enter("a")
    house.waiting.unlinked("gone")
    assert house.message("a") == "the link to FreeSWITCH is lost, and with it the end of the application"
    house.enter("b")
    house.waiting.stop(1)
    assert house.message("b") == "event-agent is stopping; the application goes on"
    house.enter("c")
    assert house.replies["c"].extra == {"app_uuid": "c", "executed": "no"}, "none begins now"
    assert house.waiting.tables()[:2] == (0, 0)


def test_there_is_a_bound(house: House) -> None:
    house.waiting.most = 3
    for number in range(4):
        house.enter(str(number))
    assert house.message("3") == "Too many applications are waited for (3)" and house.sent == ["0", "1", "2"]
    house.happens(HANGUP, Unique_ID="u-1")
    house.waiting.most_bytes = 100
    house.enter("large", size=60)
    house.enter("larger", size=60)
    assert "larger" in house.replies and "large" not in house.replies


def test_the_request_is_not_kept_whole(house: House) -> None:
    finished: list[Invocation] = []
    invocation = Invocation(Message(b"s", b"r", b"x"), lambda invocation, outcome: finished.append(invocation))
    invocation.payload = {"uuid": "u", "args": "x" * 60000, "other": 1}
    house.waiting.enter(Waiter(invocation, "u", "playback", "a", 5, ()), lambda: None)
    assert invocation.payload == {"uuid": None, "args": None, "other": None}, "the names are for warnings"


def test_10000_random_calls_leave_nothing_behind(house: House) -> None:
    """Each ends in one way or another, once, and no table grows with what has ended."""
    rng = random.Random(7)
    channels = [f"u-{number}" for number in range(50)]
    entered = 0
    for number in range(10_000):
        name, uuid = f"app-{number}", rng.choice(channels)
        house.there = rng.random() < 0.95
        house.enter(name, uuid, rng.choice((0.1, 1, 30, 3600)))
        entered += 1
        match rng.randrange(6):
            case 0 | 1:
                house.happens(COMPLETE, Unique_ID=uuid, Application_UUID=f"app-{rng.randrange(number + 1)}")
            case 2 | 3:
                house.happens(COMPLETE, Unique_ID=uuid, Application_UUID=name, Answer_State=rng.choice(("hangup", "x")))
            case 4:
                house.happens(HANGUP, Unique_ID=uuid, Hangup_Cause="NORMAL_CLEARING")
            case 5:
                house.clock.go(rng.random() * 3)
        by_app, by_channel, by_time = house.waiting.tables()
        assert by_channel <= min(by_app, len(channels)) and by_time <= 2 * by_app + module.SLACK + 1
        assert len(house.clock.timers) <= 2
    for uuid in channels:
        house.happens(HANGUP, Unique_ID=uuid, Hangup_Cause="NORMAL_CLEARING")
    assert len(house.replies) == entered == 10_000
    assert house.waiting.tables()[:2] == (0, 0) and house.waiting.tables()[2] <= module.SLACK
    house.clock.go(10)
    assert not house.clock.timers
