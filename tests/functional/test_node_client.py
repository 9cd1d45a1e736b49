"""event-agent-client for Node.js: its own tests against an agent, a NATS server and a switch, and its programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.conftest import Switch
from tests.functional.node_parts import build, needs_node, node_test
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.test_lanes import make_stream
from tests.switchsim import SwitchSim

pytestmark = needs_node

Start = Callable[..., Agent]


@pytest.fixture(scope="session", autouse=True)
def package() -> Path:
    return build()


@pytest.fixture
def watched(client: Client) -> Client:
    """What is said under its prefix is held against docs/asyncapi.yaml; other lanes stay without a listener."""
    for subject in ("node.any", "node.api", "node.node.fs_node_01", "node.events.>", "_INBOX.>"):
        client.gather(subject)
    return client


@pytest.mark.parametrize("name", ["requests", "calls"])
def test_its_own_tests(
    name: str, watched: Client, nats: NatsServer, switch: Switch, start_agent: Start, real: bool
) -> None:
    start_agent(nats, switch, subject_prefix="node")
    node_test(name, NATS_URL=nats.url, PREFIX="node", SIMULATED="" if real else "1")


def test_events_and_records(switch: Switch, start_agent: Start, tmp_path: Path) -> None:
    server = NatsServer(config=f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\n').start()
    try:
        make_stream(server.url, "CDR", "node.cdr.>")
        start_agent(server, switch, subject_prefix="node", cdr="true")
        node_test("events", NATS_URL=server.url, PREFIX="node", STREAM="CDR")
    finally:
        server.stop()


def test_each_example_of_its_readme(
    parking: tuple[RealSwitch | SwitchSim, int], start_agent: Start, tmp_path: Path
) -> None:
    switch, port = parking
    server = NatsServer(config=f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\n').start()
    try:
        make_stream(server.url, "CDR", "node.cdr.>")
        start_agent(
            server, switch, subject_prefix="node", node_id="fs-1", cdr="true", http_listen=f"127.0.0.1:{port}"
        )
        node_test("readme", NATS_URL=server.url, PREFIX="node")
    finally:
        server.stop()


def test_incoming_calls(
    watched: Client, nats: NatsServer, parking: tuple[RealSwitch | SwitchSim, int], start_agent: Start
) -> None:
    switch, port = parking
    start_agent(nats, switch, subject_prefix="node", http_listen=f"127.0.0.1:{port}")
    node_test("incoming", NATS_URL=nats.url, PREFIX="node")


def test_incoming_calls_whose_events_have_few_fields_or_do_not_come(
    nats: NatsServer, parking: tuple[RealSwitch | SwitchSim, int], start_agent: Start
) -> None:
    """FreeSWITCH is asked then who calls whom; park mode that nobody could hear of is refused."""
    switch, port = parking
    few = start_agent(
        nats, switch, subject_prefix="few", http_listen=f"127.0.0.1:{port}",
        event_fields="none", event_variables="event_agent_*"
    )  # fmt: skip
    node_test("few", NATS_URL=nats.url, PREFIX="few")
    few.remove()
    start_agent(nats, switch, subject_prefix="deaf", http_listen=f"127.0.0.1:{port}", exclude="CHANNEL_PARK")
    node_test("deaf", NATS_URL=nats.url, PREFIX="deaf")
