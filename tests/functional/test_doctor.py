"""event-agentctl doctor, beside a running agent: one page, each fault with what to do."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.support import free_port


def doctor(nats: NatsServer, switch: Switch, **settings: str) -> tuple[int, str]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
    chosen = {"url": nats.url, "esl_port": str(switch.port), "esl_password": switch.password, **settings}
    environ |= {f"MOD_EVENT_AGENT_{name.upper()}": value for name, value in chosen.items()}
    done = subprocess.run(
        [sys.executable, "-m", "event_agent.ctl", "doctor"], env=environ | {"PYTHONPATH": str(ROOT)}, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/", check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stdout, done.stdout
    return done.returncode, done.stdout


@pytest.fixture
def jetstream(tmp_path: Path) -> Iterator[NatsServer]:
    """A nats-server with JetStream and no stream."""
    server = NatsServer("-js", "-sd", str(tmp_path)).start()
    yield server
    server.stop()


def test_all_is_well(agent: Agent, nats: NatsServer, switch: Switch) -> None:
    code, text = doctor(nats, switch, node_id="FS-Node-01")
    assert code == 0 and "FAIL" not in text, text
    assert "ok    agent       FS-Node-01" in text and "lets us in: nats-server" in text and "lets us in: 1." in text


def test_a_node_that_does_not_answer(agent: Agent, nats: NatsServer, switch: Switch) -> None:
    code, text = doctor(nats, switch, node_id="other")
    assert code == 1 and "FAIL  agent       other does not answer over NATS; there: FS-Node-01" in text


def test_settings_and_links(nats: NatsServer, switch: Switch) -> None:
    code, text = doctor(nats, switch, esl_port="many")
    assert code == 1 and "FAIL  settings    environment MOD_EVENT_AGENT_ESL_PORT: esl_port must be" in text
    assert "-> correct it, then: sudo event-agent --check" in text
    code, text = doctor(nats, switch, esl_password="wrong-one", url=f"nats://u:pw-of-url@127.0.0.1:{free_port()}")
    assert code == 1 and text.count("FAIL") == 2 and "pw-of-url" not in text and "wrong-one" not in text
    assert "refuses the password" in text and "-> does a NATS server run there" in text


def test_two_agents_of_one_name(
    own_nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client]
) -> None:
    for _ in range(2):
        start_agent(own_nats, switch, node_id="twin")
    code, text = doctor(own_nats, switch, node_id="twin")
    assert code == 1 and "2 agents are called twin: each carries out what is sent to it" in text
    assert "-> give each its own node_id" in text


def test_no_stream_for_the_events(jetstream: NatsServer, switch: Switch, start_agent: Callable[..., Agent]) -> None:
    start_agent(jetstream, switch, node_id="n")
    code, text = doctor(jetstream, switch, node_id="n", events_delivery="at_least_once")
    assert code == 1 and "FAIL  stream      events wait: no stream takes freeswitch.events.>" in text
    assert "-> event-agentctl stream create" in text
