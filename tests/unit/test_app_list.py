"""Which applications there are: FreeSWITCH's list, and what events tell beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from event_agent.commands.execute_app import LIST_VERB, SETTLED, AppList, ExecuteApp
from event_agent.commands.guards import Guards
from event_agent.commands.registry import Invocation, Outcome
from event_agent.commands.waiting import Waiting
from event_agent.commands.watch import Watches
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.protocol.raw_event import RawEvent
from tests.fakes.driver import FakeDriver


class Switch:
    """Keeps the commands it is given."""

    def __init__(self) -> None:
        self.sent: list[Command] = []

    def send(self, commands: Sequence[Command]) -> None:
        self.sent += commands

    @property
    def texts(self) -> list[str]:
        return [each.text.split("\n")[0] for each in self.sent]


class NoEvents:
    """Nobody waits in these tests."""

    connected = True

    def want(self, who: str, names: frozenset[str]) -> None: ...

    def when_in_force(self, then: Callable[[bool], None]) -> None: ...


class House:
    """execute_app on a switch."""

    def __init__(self) -> None:
        self.switch = Switch()
        self.apps = AppList(self.switch.send)
        waiting = Waiting(NoEvents(), lambda seconds, job: None)
        watches = Watches("p", frozenset(), NoEvents(), FakeDriver(), self.switch.send, lambda seconds, job: None)
        self.command = ExecuteApp(self.switch.send, Guards(), self.apps, waiting, watches)
        self.replies: list[str] = []

    def ask(self, app: str) -> None:
        payload = {"uuid": "u-1", "app": app}
        invocation = SimpleNamespace(
            payload=payload, trace=None, finish=self._finish, fail=lambda why: self._failed(why)
        )
        self.command(cast(Invocation, invocation))

    def _failed(self, why: str) -> None:
        self.replies.append(f"failed: {why}")

    def _finish(self, outcome: Outcome) -> None:
        self.replies.append(outcome.message)


LIST, SENT = f"api {LIST_VERB}", "sendmsg u-1"


def test_the_list_is_asked_for_at_each_link_and_nothing_waits_for_it() -> None:
    house = House()
    house.apps.up()
    known = [house.apps.known]
    assert house.switch.texts == [LIST] and house.switch.sent[0].slow
    house.switch.sent[0].done(listed("park"))
    known.append(house.apps.known)
    assert house.apps.has("park") and not house.apps.has("playback")
    house.apps.up()
    known.append(house.apps.known)
    assert known == [False, True, False], "it may be another FreeSWITCH"


def test_an_application_that_exists_is_sent() -> None:
    house = House()
    house.apps.learn(listed("park"))
    house.ask("park")
    assert house.switch.texts == [SENT]


def test_one_that_is_not_listed_is_asked_about_before_it_is_refused() -> None:
    house = House()
    house.apps.learn(listed("park"))
    house.ask("playback")
    house.ask("nope")
    assert house.switch.texts == [LIST, LIST]
    for each in house.switch.sent[:2]:
        each.done(listed("park", "playback"))
    assert house.switch.texts[2:] == [SENT] and house.replies == ["failed: Unknown application: nope"]
    house.ask("nope")
    house.switch.sent[-1].failed(Failure("timed out", Executed.NO))
    assert house.replies[1:] == ["failed: timed out"]


def test_before_the_first_list_a_command_waits_for_one_but_not_for_long() -> None:
    """FreeSWITCH's database may be locked: the list is then half a minute in coming."""
    house = House()
    house.ask("nope")
    house.ask("park")
    assert house.switch.texts == [LIST, LIST] and 0 < house.switch.sent[0].limit <= 5
    house.switch.sent[1].failed(Failure("timed out", Executed.NO))
    assert house.switch.texts[2:] == [SENT], "it is not checked then"
    house.switch.sent[0].done(listed("park"))
    assert house.replies == ["failed: Unknown application: nope"]


def listed(*names: str) -> str:
    return json.dumps({"rows": [{"type": "application", "name": name} for name in names]})


def event(name: str) -> RawEvent:
    return RawEvent(json.dumps({"type": "application", "name": name}).encode())


def test_events_keep_the_list_fresh() -> None:
    apps = AppList(Switch().send)
    assert apps.has("anything"), "as long as nobody knows"
    apps.learn(listed("park", "Hash"))
    assert apps.has("PARK") and apps.has("hash") and not apps.has("curl")
    apps.module_event("MODULE_LOAD", event("Curl"))
    assert apps.has("curl")
    apps.module_event("MODULE_UNLOAD", event("hash"))
    assert not apps.has("hash")


def test_a_list_that_is_behind_the_events_brings_nothing_back() -> None:
    now = 100.0
    apps = AppList(Switch().send, lambda: now)
    apps.learn(listed("park", "hash"))
    apps.module_event("MODULE_UNLOAD", event("hash"))
    apps.learn(listed("park", "hash"))
    assert not apps.has("hash")
    apps.module_event("MODULE_LOAD", event("hash"))
    assert apps.has("hash"), "loaded again"
    apps.module_event("MODULE_UNLOAD", event("hash"))
    now += SETTLED
    apps.learn(listed("park", "hash"))
    assert apps.has("hash"), "the list is right in the end"


@pytest.mark.parametrize("answer", ["", "-ERR", "[]", '{"rows":5}', '{"rows":[{"type":"application"}]}'])
def test_a_list_that_can_not_be_read_refuses_nothing(answer: str) -> None:
    apps = AppList(Switch().send)
    apps.learn(listed("park"))
    apps.learn(answer)
    assert apps.has("anything")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"type":"application"}', b'{"type":"api","name":"park"}'])
def test_events_about_something_else_change_nothing(data: bytes) -> None:
    apps = AppList(Switch().send)
    apps.learn(listed("park"))
    apps.module_event("MODULE_UNLOAD", RawEvent(data))
    assert apps.has("park")
