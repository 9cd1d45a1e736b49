"""A command that acts is carried out once, whichever subjects NATS lets agents and clients use."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from event_agent.client import AgentTimeout, NoAgent, NotAllowed
from event_agent.client import Client as OurClient
from tests.functional.metrics import metric
from tests.functional.panel_parts import Panel
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.test_ctl import ctl
from tests.support import free_port, until
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


# -- two agents of one name


@pytest.mark.parametrize(("names", "more"), [(("fs-1", "FS_1"), {}), (("one", "one"), {"discovery": "false"})])
def test_two_agents_of_one_name_notice_each_other(
    own_nats: NatsServer, switch: Sim, own_switch: Sim, start_agent: Callable[..., Agent],
    connect: Callable[..., Client], names: tuple[str, str], more: dict[str, str],
) -> None:
    ports = [free_port(), free_port()]
    agents = [
        start_agent(own_nats, each, node_id=name, http_listen=f"127.0.0.1:{port}", **more)
        for name, each, port in zip(names, (switch, own_switch), ports, strict=True)
    ]
    for agent, name, other in zip(agents, names, reversed(names), strict=True):
        agent.logged(f"ERROR .*another agent has node_id {name}: {other} on ", timeout=60)
    lane = f"freeswitch.node.{names[0].lower().replace('-', '_')}"
    (twin,) = connect(own_nats.url).request("agent.status", subject=lane)["data"]["twins"]
    assert twin["node_id"] in names
    done = ctl(own_nats.url, "check")
    assert done.returncode == 1 and "2 agents are called" in done.stdout
    done = ctl(own_nats.url, "originate", PARK, "&park")  # `any` takes exactly one
    assert done.returncode == 0
    for port in ports:
        with pytest.raises(urllib.error.HTTPError) as failing:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=10)
        assert failing.value.code == 503
        assert json.load(failing.value)["checks"]["node_id"].startswith("used by another agent, too: ")
        assert metric(port, "event_agent_twins") == 1


# -- a JetStream stream whose subjects include the command lanes


@pytest.fixture
def greedy(tmp_path: Path) -> Iterator[NatsServer]:
    """A NATS server with such a stream."""
    server = NatsServer(config=f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\n').start()
    try:
        make_stream(server.url, "GREEDY", "freeswitch.>")
        yield server
    finally:
        server.stop()


def make_stream(url: str, name: str, *subjects: str) -> None:
    with OurClient(url) as ours:
        config = {"name": name, "subjects": [*subjects], "storage": "memory", "num_replicas": 1, "retention": "limits",
                  "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0, "discard": "old"}  # fmt: skip
        answer, _ = ours.ask(f"$JS.API.STREAM.CREATE.{name}", json.dumps(config).encode())
    assert "error" not in json.loads(answer), answer


def test_a_stream_that_takes_requests_is_not_taken_for_an_agent(
    greedy: NatsServer, switch: Sim, start_agent: Callable[..., Agent]
) -> None:
    start_agent(greedy, switch, node_id="one")
    with OurClient(greedy.url) as ours:
        reply = ours.request("originate", endpoint=PARK, extension="&park")
        assert reply["node_id"] == "one" and ours.streams == {"GREEDY"}
        assert [each["node_id"] for each in ours.gather("agent.status", expect=1)] == ["one"]
        ours.send({"command": "version", "async": True})
        with pytest.raises(AgentTimeout, match="the JetStream stream GREEDY takes what is sent to freeswitch.node.two"):
            ours.request("version", node="two", timeout=0.5)
    done = ctl(greedy.url, "originate", PARK, "&park")
    assert done.returncode == 0 and done.stderr == "", done
    for uuid in (reply["data"]["uuid"], done.stdout.strip()):
        assert ctl(greedy.url, "hangup", uuid).stdout == "one: Channel hangup successful\n"
    for argv in (["api", "version"], ["api", "--all", "version"], ["status"], ["req", '{"command":"version"}'],
                 ["req", '{"command":"version","async":true}'], ["park", "status"]):  # fmt: skip
        done = ctl(greedy.url, *argv)
        assert done.returncode == (1 if argv[0] == "park" else 0) and "GREEDY" not in done.stdout, done
    warned = "EVENT-AGENT WARNING - the JetStream stream GREEDY takes requests and answers them itself: keep its"
    for argv in (["check"], ["--node", "one", "check"]):
        done = ctl(greedy.url, *argv)
        assert done.returncode == 1 and done.stdout.startswith(warned), done


@pytest.fixture
def panel_of() -> Iterator[Callable[[str], Panel]]:
    """Panels, ended after the test."""
    started: list[Panel] = []

    def start(url: str) -> Panel:
        started.append(Panel(url).start())
        return started[-1]

    yield start
    for each in started:
        each.remove()


def through(panel: Panel, command: str, **fields: str) -> Any:
    """The panel's answer to its page, when it has its link to NATS."""
    body = json.dumps({"request": {"command": command, **fields}, "node": None}).encode()
    headers = {"Content-Type": "application/json", "Origin": panel.url.rstrip("/")}

    def answer() -> Any:
        request = urllib.request.Request(f"{panel.url}command", body, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as response:
                found = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return None
        return None if found.get("error") == "not connected" else found

    return until(answer, "the panel is connected to NATS", 20)


def test_the_panel_hears_the_agent_behind_such_a_stream(
    greedy: NatsServer, switch: Sim, start_agent: Callable[..., Agent], panel_of: Callable[[str], Panel]
) -> None:
    start_agent(greedy, switch, node_id="one")
    answer = through(panel_of(greedy.url), "version")
    assert answer["ok"] is True and answer["reply"]["node_id"] == "one", answer


def test_the_panel_makes_one_call(house: House, panel_of: Callable[[str], Panel]) -> None:
    answer = through(panel_of(house.url), "originate", endpoint=PARK, extension="&park")
    assert answer["ok"] is True, answer
    assert house.carried_out("originate") == 1
    assert ctl(house.url, "hangup", answer["reply"]["data"]["uuid"]).returncode == 0
