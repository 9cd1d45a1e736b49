"""Two agents of one name: what they say, what they make of what they hear."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from event_agent.bridge.twins import APART, GONE, HELLO, MOST, PING, Twins
from event_agent.drivers.base import Message
from event_agent.protocol.requests import Request, read_request
from event_agent.protocol.subjects import slug, verb_in
from event_agent.runtime.link import LinkState, LinkStatus
from event_agent.runtime.loop import Timer
from tests.asyncapi import closed, schemas
from tests.fakes.driver import FakeDriver


class Broker:
    """Hands what an agent says to all that are in `agents`; time passes by `tick`."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.agents: list[Agent] = []
        self.denied: set[str] = set()

    def tick(self, seconds: float = PING) -> None:
        """So much later all say what they say then."""
        self.now += seconds
        for agent in list(self.agents):
            agent.tick()


class Agent:
    """One process; `said` are the subjects on which it has spoken."""

    def __init__(self, broker: Broker, node_id: str = "fs-1", *, verbs: bool = False) -> None:
        self.broker = broker
        self.driver = FakeDriver()
        self.jobs: list[Callable[[], object]] = []
        self.said: list[str] = []
        self.twins = Twins(
            self.driver, self.later, lambda: self.driver.link, node_id, "freeswitch", self.clock, verbs=verbs
        )
        self.slug = slug(node_id)
        self.twins.start()
        broker.agents.append(self)

    def clock(self) -> float:
        return self.broker.now

    def later(self, seconds: float, job: Callable[[], object]) -> Timer:
        self.jobs.append(job)
        return Timer(seconds, job)

    def tick(self) -> None:
        for job in [self.jobs.pop()] if self.jobs else []:
            job()
        for subject, payload in self.driver.copies:
            self.said.append(subject)
            if subject not in self.broker.denied:
                for each in self.broker.agents:
                    if each.slug == self.slug:
                        each.hear(payload, subject)
        self.driver.copies.clear()

    def hear(self, payload: bytes, subject: str = "freeswitch.node.fs_1") -> None:
        request = Request()
        request.verb = verb_in(len("freeswitch."), subject.encode())
        assert payload.startswith(HELLO) and not read_request(request, payload, self.slug)
        self.twins.hear(Message(subject.encode(), b"", payload))

    @property
    def names(self) -> list[str]:
        return [each.node_id for each in self.twins.found]


def test_who_listens_to_commands_in_subjects_alone_says_it_there() -> None:
    broker = Broker()
    agents = [Agent(broker, verbs=True), Agent(broker, verbs=True)]
    for _ in range(4):
        broker.tick()
    assert {subject for each in agents for subject in each.said} == {"freeswitch.node.fs_1.agent.hello"}
    assert all(each.names == ["fs-1"] for each in agents)


def test_two_of_one_name_notice_each_other(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "event_agent")
    broker = Broker()
    one, two, other = Agent(broker, "fs-1"), Agent(broker, "FS_1"), Agent(broker, "fs-2")
    broker.tick(1)
    assert one.names == two.names == []
    began = broker.now
    for _ in range(3):
        broker.tick()
    assert broker.now - began < 60
    assert (one.names, two.names, other.names) == (["FS_1"], ["fs-1"], [])
    section = one.twins.section()
    assert section is not None and set(section[0]) == {"node_id", "hostname", "since"}
    assert one.twins.fault.startswith("used by another agent, too: FS_1 on ") and other.twins.fault == ""
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2 and all(text.startswith("another agent has node_id ") for text in errors)
    broker.agents.remove(two)
    for _ in range(int(GONE / PING) + 2):
        broker.tick()
    assert one.twins.section() == [] and one.twins.fault == ""
    assert "no other agent has node_id fs-1 any more" in caplog.text
    assert caplog.text.count("another agent has node_id fs-1:") == 1


def test_a_restart_is_no_second_agent(caplog: pytest.LogCaptureFixture) -> None:
    broker = Broker()
    old = Agent(broker)
    broker.tick()
    new = Agent(broker)
    broker.tick()  # the last word of the old one
    broker.agents.remove(old)
    for _ in range(10):
        broker.tick()
        assert new.names == []
    assert "another agent" not in caplog.text


def test_what_is_said_is_as_its_schema_has_it() -> None:
    said = json.loads(Agent(Broker()).twins.hello)
    jsonschema.validate(said, closed(schemas("hello")))


def test_a_word_that_comes_twice_at_once_proves_nothing() -> None:
    broker = Broker()
    one, two = Agent(broker), Agent(broker)
    broker.agents.remove(two)
    payload = two.twins.hello
    one.hear(payload)
    broker.now += APART - 1
    one.hear(payload)
    assert one.names == []
    broker.now += 1
    one.hear(payload)
    assert one.names == ["fs-1"]


def test_while_the_link_is_away_nobody_is_gone_and_nothing_is_said() -> None:
    broker = Broker()
    one, two = Agent(broker), Agent(broker)
    for _ in range(3):
        broker.tick()
    one.driver.link = LinkStatus(LinkState.DOWN, "closed", 5.0)
    said = len(one.said)
    broker.tick(10 * GONE)
    assert len(one.said) == said and one.names == ["fs-1"]
    one.driver.link = LinkStatus(LinkState.UP, "", 6.0)
    broker.agents.remove(two)
    broker.tick()
    assert one.names == ["fs-1"]
    for _ in range(int(GONE / PING) + 2):
        broker.tick()
    assert one.names == []


def test_who_may_not_speak_on_one_lane_speaks_on_the_other() -> None:
    broker = Broker()
    broker.denied = {"freeswitch.node.fs_1"}
    one, two = Agent(broker), Agent(broker)
    for _ in range(5):
        broker.tick()
    assert one.said == ["freeswitch.node.fs_1", *["freeswitch.api.fs_1"] * 4]
    assert one.names == two.names == ["fs-1"]


def test_who_may_not_speak_at_all_does_not_know() -> None:
    broker = Broker()
    broker.denied = {"freeswitch.node.fs_1", "freeswitch.api.fs_1"}
    one = Agent(broker)
    for _ in range(20):
        broker.tick()
    assert one.said == ["freeswitch.node.fs_1", "freeswitch.api.fs_1"]
    assert one.twins.section() is None and one.twins.fault == ""
    one.driver.link = LinkStatus(LinkState.UP, "", 7.0)  # another link, on which it may be allowed
    broker.denied = set()
    broker.tick()
    broker.tick()
    assert one.said[2:] == ["freeswitch.node.fs_1"] * 2 and one.twins.section() == []


def test_without_a_node_id_nothing_is_said() -> None:
    broker = Broker()
    nameless = Agent(broker, "")
    broker.tick()
    assert nameless.jobs == [] and nameless.said == [] and nameless.twins.section() is None


def test_after_its_end_it_says_nothing() -> None:
    broker = Broker()
    one = Agent(broker)
    broker.tick()
    one.twins.stop(1)
    broker.tick()
    assert len(one.said) == 1


@pytest.mark.parametrize("said", [
    b"", b'"x"', b"[]", b"{}", b'{"instance":1,"node_id":"fs-1","hostname":"h"}',
    b'{"instance":"i","node_id":2,"hostname":"h"}', b'{"instance":"i","node_id":"fs-2","hostname":"h"}',
    b'{"instance":"' + b"i" * 65 + b'","node_id":"fs-1","hostname":"h"}',
    b'{"instance":"i","node_id":"fs-1"}', b'{"instance":"i","node_id":"fs-1","hostname":"' + b"h" * 3000 + b'"}',
    b"[" * 2000, b"\xff",
])  # fmt: skip
def test_what_is_no_word_of_an_agent_changes_nothing(said: bytes) -> None:
    broker = Broker()
    one = Agent(broker)
    for _ in range(2):
        one.twins.hear(Message(b"freeswitch.node.fs_1", b"", HELLO + said + b"}"))
        broker.now += APART
    assert one.twins.others == {} and one.twins.found == []


def test_whatever_is_said_there_is_a_bound() -> None:
    broker = Broker()
    one = Agent(broker)

    def flood() -> None:
        for number in range(100):
            said: dict[str, Any] = {"instance": f"i{number}", "node_id": "fs-1", "hostname": "a\nb" * 100}
            payload = json.dumps({"hello": said}, separators=(",", ":")).encode()
            one.twins.hear(Message(b"freeswitch.node.fs_1", b"", payload))

    flood()
    broker.now += APART
    flood()
    assert len(one.twins.found) == MOST
    assert all(len(each.hostname) <= 64 and "\n" not in each.hostname for each in one.twins.found)
