"""Whether a node should be given calls: what is asked, what follows from it, what is announced."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from event_agent.bridge.losses import Losses
from event_agent.bridge.presence import Subjects
from event_agent.bridge.readiness import FILE, STATUS, Figures, Readiness
from event_agent.drivers.base import Event
from event_agent.errors import LinkError
from event_agent.freeswitch.command import Executed, Failure
from event_agent.freeswitch.filters import EventFilter
from event_agent.protocol.raw_event import RawEvent
from event_agent.protocol.subjects import endpoints_of
from event_agent.runtime.link import LinkState
from event_agent.runtime.stats import Stats
from tests.asyncapi import event_faults
from tests.fakes.driver import FakeDriver
from tests.support import until
from tests.unit.test_switch import House

QUESTIONS = {"paused": "api fsctl pause_check outbound\n\n", "down": "api fsctl shutdown_check\n\n",
             "figures": f"api json {STATUS}\n\n"}  # fmt: skip


def status(active: int = 3, limit: int = 1000) -> str:
    """As FreeSWITCH 1.10.12 answers, with a few fields left out."""
    return json.dumps({"command": "status", "status": "success", "response": {
        "systemStatus": "ready", "sessions": {"count": {"total": 7, "active": active, "peak": 4, "limit": limit},
                                              "rate": {"current": 2, "max": 30, "peak": 0}},
        "idleCPU": {"used": 0, "allowed": 97.633333}}})  # fmt: skip


class Node:
    """A readiness on a switch whose parts are fakes; its thread does not run unless it is started."""

    def __init__(self, state_dir: str = "", heartbeat: float = 0.0) -> None:
        self.house, self.broker = House(), FakeDriver()
        self.chosen = EventFilter.of(True, (), ())
        self.subjects = Subjects(self.broker, endpoints_of("freeswitch", "FS-1"), lambda messages: None)
        self.stats = Stats()
        self.losses = Losses(self.stats)
        self.channels = 0
        self.readiness = Readiness(
            self.house.switch, self.broker.events, self.losses, self.subjects, "FS-1", "freeswitch",
            lambda: self.chosen, lambda: 2, lambda: self.channels, state_dir, heartbeat,
        )  # fmt: skip

    def answer(self, what: str, text: str) -> None:
        """FreeSWITCH answers the last such question."""
        asked = [each for each in self.house.lane.sent if each.text == QUESTIONS[what]]
        asked[-1].done(text)

    def round(self) -> None:
        """One of its thread's."""
        self.readiness.ask()
        self.readiness.apply()

    def takes_any(self) -> bool:
        return self.subjects.holds("any")

    @property
    def announced(self) -> list[tuple[str, dict[str, Any]]]:
        found = [(subject, json.loads(data)) for subject, data in self.broker.events.taken]
        for _, event in found:
            assert event_faults(event) == []
        return [(subject.removeprefix("freeswitch.events.agent."), event) for subject, event in found]


@pytest.fixture
def node() -> Node:
    return Node()


def test_any_is_held_while_freeswitch_takes_commands(node: Node) -> None:
    assert not node.takes_any() and node.readiness.reasons == ["not connected"]
    node.house.lane.link.set(LinkState.UP)
    assert node.takes_any() and node.readiness.reasons == []
    node.house.events.link.set(LinkState.UP)
    node.house.events.down(LinkError("only the events"))
    assert node.takes_any(), "commands are still taken"
    node.house.lane.down(LinkError("away"))
    assert not node.takes_any() and node.announced == [], "the link has announcements of its own"


@pytest.mark.parametrize(
    ("what", "no", "yes", "reason"),
    [("paused", "true", "false", "paused"), ("down", "true", "false", "shutting down"),
     ("figures", status(1000), status(999), "no sessions left")],
)  # fmt: skip
def test_why_it_is_not_ready(node: Node, what: str, no: str, yes: str, reason: str) -> None:
    node.house.up()
    node.round()
    node.answer(what, no)
    node.round()
    assert not node.takes_any() and node.readiness.reasons == [reason]
    if what == "down":
        node.readiness.event("SHUTDOWN_REQUESTED", RawEvent(b"{}"))
    node.round()
    node.answer(what, yes)
    node.round()
    assert node.takes_any()
    assert [(subject, event["ready"], event["reasons"]) for subject, event in node.announced] == [
        ("readiness", False, [reason]), ("readiness", True, []),
    ]  # fmt: skip


def test_it_is_announced_once_for_all_reasons(node: Node) -> None:
    node.house.up()
    node.readiness.drain(True)
    node.round()
    node.answer("paused", "true")
    node.round()
    node.round()
    assert [event["reasons"] for _, event in node.announced] == [["drained"], ["paused", "drained"]]
    assert [event["drained"] for _, event in node.announced] == [True, True]


def test_a_question_is_out_once(node: Node) -> None:
    node.house.up()
    for _ in range(5):
        node.round()
    assert sorted(each.text for each in node.house.lane.sent) == sorted(QUESTIONS.values())
    node.answer("paused", "false")
    node.house.lane.sent[-1].failed(Failure("timed out", Executed.UNKNOWN))
    node.round()
    assert [each.text for each in node.house.lane.sent[3:]] == [QUESTIONS["paused"]], "the others are not due"


def test_figures_are_asked_for_when_events_have_told_of_many_channels(node: Node) -> None:
    node.house.up()
    node.round()
    node.answer("figures", status(3, 100))

    def asked() -> int:
        node.round()
        return sum(each.text == QUESTIONS["figures"] for each in node.house.lane.sent)

    node.channels = 89
    assert asked() == 1, "there are enough left, and FreeSWITCH has just been asked"
    node.channels = 90
    assert asked() == 2
    node.answer("figures", status(100, 100))
    node.round()
    assert node.readiness.reasons == ["no sessions left"] and not node.takes_any()
    node.channels = 0
    node.answer("figures", status(2, 100))
    before = asked()
    node.readiness.look()
    assert asked() == before + 1, "somebody has sent fsctl, which may have been max_sessions"


def test_another_freeswitch_is_asked_anew(node: Node) -> None:
    node.house.up()
    node.round()
    node.answer("paused", "true")
    node.round()
    node.house.lane.down(LinkError("away"))
    node.house.lane.link.set(LinkState.UP)
    assert node.takes_any() and [event["ready"] for _, event in node.announced] == [False, True]
    before = len(node.house.lane.sent)
    node.round()
    assert sorted(each.text for each in node.house.lane.sent[before:]) == sorted(QUESTIONS.values())


@pytest.mark.parametrize("odd", ["", "-ERR fsctl Command not found!\n", "-ERR no reply\n", "TRUE ", "{}", "[]", "null",
                                 '{"response":{"sessions":7}}', status(-1), status(True), '{"response":' * 2000])
def test_an_answer_that_is_none_changes_nothing(node: Node, odd: str) -> None:
    node.house.up()
    node.round()
    for what in QUESTIONS:
        node.answer(what, odd)
    node.round()
    assert node.takes_any() and node.announced == []


def test_the_figures() -> None:
    assert Figures.of(status()).fields() == {
        "sessions": 3, "max_sessions": 1000, "sessions_per_second": 2, "max_sessions_per_second": 30, "idle_cpu": 97.63,
    }  # fmt: skip
    assert set(Figures.of("garbage").fields().values()) == {None}
    assert [Figures.of(status(active, 10)).nearly_full(0) for active in (8, 9)] == [False, True]
    assert not Figures.of(status(5, 0)).full, "no limit"


def test_a_node_that_is_nearly_full_is_asked_at_each_round(node: Node) -> None:
    node.house.up()
    node.round()
    for active in (950, 960):
        node.answer("figures", status(active))
        node.round()
    assert [each.text for each in node.house.lane.sent].count(QUESTIONS["figures"]) == 3


def test_a_drain_outlasts_a_restart(tmp_path: Path) -> None:
    first = Node(str(tmp_path))
    first.house.up()
    assert first.readiness.drain(True) and not first.takes_any() and (tmp_path / FILE).exists()
    second = Node(str(tmp_path))
    second.house.up()
    assert not second.takes_any() and second.readiness.section()["drained"] is True
    assert second.readiness.drain(False) and second.takes_any() and not (tmp_path / FILE).exists()
    assert second.readiness.drain(False)


def test_a_drain_that_can_not_be_kept_says_so(tmp_path: Path) -> None:
    assert Node("").readiness.drain(True) is False
    assert Node(str(tmp_path / "none")).readiness.drain(True) is False


def test_it_leaves_before_it_says_that_it_is_not_ready(node: Node) -> None:
    """Whoever hears of it may send to all at once."""
    node.house.up()
    held: list[bool] = []
    offer = node.broker.events.offer

    def offered(events: Sequence[Event]) -> int:
        held.append(node.takes_any())
        return offer(events)

    node.broker.events.offer = offered  # type: ignore[method-assign]
    node.readiness.drain(True)
    assert held == [False]


def test_its_events_can_be_excluded(node: Node) -> None:
    node.chosen = EventFilter.of(True, (), ("AGENT_READINESS", "AGENT_HEARTBEAT"))
    node.house.up()
    node.readiness.drain(True)
    assert node.announced == []


@pytest.fixture
def beating() -> Iterator[Node]:
    node = Node(heartbeat=0.05)
    node.house.up()
    node.readiness.start()
    yield node
    node.readiness.stop(5)
    assert "readiness" not in {thread.name for thread in threading.enumerate()}


def test_the_thread_asks_and_beats(beating: Node) -> None:
    until(lambda: len(beating.house.lane.sent) >= 3, "it has asked")
    beating.answer("figures", status())
    beating.readiness.look()
    until(lambda: [event for what, event in beating.announced if what == "heartbeat" and event["sessions"]], "beats")
    event = [event for what, event in beating.announced if what == "heartbeat"][-1]
    assert (event["ready"], event["drained"], event["parked"], event["sessions"]) == (True, False, 2, 3)


def test_an_announcement_for_which_there_is_no_room_is_a_loss(node: Node) -> None:
    node.house.up()
    node.round()
    node.broker.events.room = 0
    node.answer("paused", "true")
    node.round()
    assert node.announced == [] and node.stats.events_dropped == 1 and node.losses.events["buffer full"] == 1
