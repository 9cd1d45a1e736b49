"""Which applications there are: FreeSWITCH's list, and what events tell beside it."""

from __future__ import annotations

import json

import pytest

from event_agent.commands import execute_app as module
from event_agent.commands.execute_app import AppList
from event_agent.protocol.raw_event import RawEvent


def listed(*names: str) -> str:
    return json.dumps({"rows": [{"type": "application", "name": name} for name in names]})


def event(name: str) -> RawEvent:
    return RawEvent(json.dumps({"type": "application", "name": name}).encode())


def test_events_keep_the_list_fresh() -> None:
    apps = AppList()
    assert apps.has("anything"), "as long as nobody knows"
    apps.learn(listed("park", "Hash"))
    assert apps.has("PARK") and apps.has("hash") and not apps.has("curl")
    apps.module_event("MODULE_LOAD", event("Curl"))
    assert apps.has("curl")
    apps.module_event("MODULE_UNLOAD", event("hash"))
    assert not apps.has("hash")


def test_a_list_that_is_behind_the_events_brings_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    apps = AppList()
    apps.learn(listed("park", "hash"))
    apps.module_event("MODULE_UNLOAD", event("hash"))
    apps.learn(listed("park", "hash"))
    assert not apps.has("hash")
    apps.module_event("MODULE_LOAD", event("hash"))
    assert apps.has("hash"), "loaded again"
    apps.module_event("MODULE_UNLOAD", event("hash"))
    monkeypatch.setattr(module, "SETTLED", 0.0)
    apps.learn(listed("park", "hash"))
    assert apps.has("hash"), "the list is right in the end"


@pytest.mark.parametrize("answer", ["", "-ERR", "[]", '{"rows":5}', '{"rows":[{"type":"application"}]}'])
def test_a_list_that_can_not_be_read_refuses_nothing(answer: str) -> None:
    apps = AppList()
    apps.learn(listed("park"))
    apps.learn(answer)
    assert apps.has("anything")


@pytest.mark.parametrize("data", [b"", b"[]", b'{"type":"application"}', b'{"type":"api","name":"park"}'])
def test_events_about_something_else_change_nothing(data: bytes) -> None:
    apps = AppList()
    apps.learn(listed("park"))
    apps.module_event("MODULE_UNLOAD", RawEvent(data))
    assert apps.has("park")
