"""A command that acts is carried out once, whichever subjects NATS lets agents and clients use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from event_agent.client import Client as OurClient
from event_agent.client import NoAgent, NotAllowed
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.test_ctl import ctl
from tests.support import until
from tests.switchsim import SwitchSim

PARK = "loopback/park/default"
Sim = RealSwitch | SwitchSim
NOT_ANY = """authorization { users = [
    {user: agent, password: p, permissions: {%s}}, {user: caller, password: p, permissions: {%s}},
    {user: watcher, password: p} ] }
"""
AGENTS = 'subscribe: {deny: "freeswitch.any"}, publish: ">"'
CALLER = 'publish: {deny: "freeswitch.any"}, subscribe: ">"'


class House:
    """Two agents on a NATS server with permissions."""

    def __init__(self, server: NatsServer, watcher: Client) -> None:
        self.server, self.watcher = server, watcher
        self.url = f"nats://caller:p@127.0.0.1:{server.port}"

    def carried_out(self, command: str) -> int:
        """How often, by all nodes."""
        found = 0
        for node in ("one", "two"):
            reply = self.watcher.request("agent.status", subject=f"freeswitch.node.{node}")
            found += reply["data"]["commands"].get(command, {}).get("count", 0)
        return found


@pytest.fixture(params=["agents", "caller"])
def house(
    request: pytest.FixtureRequest, switch: Sim, own_switch: Sim, start_agent: Callable[..., Agent],
    connect: Callable[..., Client],
) -> Iterator[House]:
    """`any` is denied to the agents, or to who calls."""
    allowed = "publish: \">\", subscribe: \">\""
    config = NOT_ANY % ((AGENTS, allowed) if request.param == "agents" else (allowed, CALLER))
    server = NatsServer(config=config).start()
    try:
        for node, each in (("one", switch), ("two", own_switch)):
            start_agent(server, each, url=f"nats://agent:p@127.0.0.1:{server.port}", node_id=node)
        yield House(server, connect(server.url, user="watcher", password="p"))
    finally:
        server.stop()


def test_one_call_is_made(house: House) -> None:
    done = ctl(house.url, "originate", PARK, "&park")
    assert done.returncode == 0 and done.stderr == "", done
    with OurClient(house.url) as ours:
        reply = ours.request("originate", endpoint=PARK, extension="&park")
        assert house.carried_out("originate") == 2
        ours.send({"command": "originate", "endpoint": PARK, "extension": "&park", "async": True})
        until(lambda: house.carried_out("originate") >= 3, "the call is made")
        assert ours.request("version")["success"] is True  # a question
    for uuid in (done.stdout.strip(), reply["data"]["uuid"]):
        assert ctl(house.url, "hangup", uuid).returncode == 0
    assert house.carried_out("hangup") == 2
    assert house.carried_out("originate") == 3


def test_a_node_that_is_not_ready_does_not_get_it(house: House) -> None:
    assert house.watcher.request("agent.drain", enabled=True, subject="freeswitch.node.one")["success"] is True
    with OurClient(house.url) as ours:
        for _ in range(5):
            assert ours.request("global_setvar", "lanes=1")["node_id"] == "two"
        assert house.watcher.request("agent.drain", enabled=True, subject="freeswitch.node.two")["success"] is True
        with pytest.raises(NoAgent, match=r"no node can take it: (one|two) \(drained\), (one|two) \(drained\)"):
            ours.request("global_setvar", "lanes=1")
    done = ctl(house.url, "originate", PARK, "&park")
    assert done.returncode == 3 and done.stdout == "" and done.stderr.count("\n") == 1
    assert house.carried_out("originate") == 0


def test_a_subject_that_nats_denies_is_said_at_once() -> None:
    server = NatsServer(config=NOT_ANY % (AGENTS, 'publish: "freeswitch.node.one", subscribe: ">"')).start()
    try:
        with OurClient(f"nats://caller:p@127.0.0.1:{server.port}") as ours:
            calls: list[Callable[[], Any]] = [
                lambda: ours.request("version"), lambda: ours.request("originate"), lambda: ours.gather("version"),
                lambda: ours.request("version", node="two"), lambda: ours.send({"command": "version", "async": True}),
            ]  # fmt: skip
            for call in calls:
                with pytest.raises(NotAllowed, match="does not allow us to publish on freeswitch"):
                    call()
            with pytest.raises(NoAgent) as nobody:
                ours.request("version", node="one")
            assert not isinstance(nobody.value, NotAllowed)
    finally:
        server.stop()
