"""`event-agent --check --connect`: both links are tried, and each fault has its line and what to do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, NatsServer
from tests.support import free_port

PERMISSIONS = """
authorization { users = [ { user: agent, password: pass, permissions: {
  subscribe: { allow: ["freeswitch.api", "freeswitch.any", "freeswitch.call.>", "_INBOX.>"] }, publish: { allow: ["x"] }
} } ] }
"""


def check(nats: NatsServer, switch: Switch, *options: str, **settings: str) -> tuple[int, str]:
    environ = {name: text for name, text in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
    environ["PYTHONPATH"] = str(ROOT)
    chosen = {"url": nats.url, "esl_port": str(switch.port), "esl_password": switch.password, **settings}
    environ |= {f"MOD_EVENT_AGENT_{name.upper()}": value for name, value in chosen.items()}
    done = subprocess.run(
        [sys.executable, "-m", "event_agent", "--check", "--connect", "--quiet", *options], env=environ, timeout=60,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/", check=False,
    )  # fmt: skip
    return done.returncode, done.stdout


@pytest.fixture
def strict() -> Iterator[NatsServer]:
    """A server that lets its user do little."""
    server = NatsServer(config=PERMISSIONS).start()
    yield server
    server.stop()


def test_all_is_well(nats: NatsServer, switch: Switch) -> None:
    assert check(nats, switch) == (0, "")


def test_freeswitch_does_not_let_us_in(nats: NatsServer, switch: Switch) -> None:
    code, text = check(nats, switch, esl_password="wrong-one")
    assert code == 1 and "refuses the password" in text and "wrong-one" not in text
    assert "-> esl_password (environment MOD_EVENT_AGENT_ESL_PASSWORD) must be the password in" in text
    code, text = check(nats, switch, esl_port=str(free_port()))
    assert code == 1 and "can't be reached: Connection refused" in text and "-> is it running" in text


def test_nats_is_not_there(nats: NatsServer, switch: Switch) -> None:
    code, text = check(nats, switch, url=f"nats://127.0.0.1:{free_port()}")
    assert code == 1 and "Connection refused" in text
    assert "-> does a NATS server run there, and may this machine reach it? url (environment MOD_EVENT_" in text


def test_nats_does_not_let_us_in(strict: NatsServer, switch: Switch) -> None:
    code, text = check(strict, switch)
    assert code == 1 and "-> no credentials are set: set token, nkey_seed or creds" in text
    code, text = check(strict, switch, token="wrong-one")
    assert code == 1 and "-> tried with token (environment MOD_EVENT_AGENT_TOKEN)" in text and "wrong-one" not in text


def test_each_subject_that_is_refused(strict: NatsServer, switch: Switch) -> None:
    url = strict.url.replace("//", "//agent:pass@")
    code, text = check(strict, switch, url=url, node_id="FS 1")
    faults = [line.partition("nats")[2].strip() for line in text.splitlines() if line.startswith("FAIL")]
    assert code == 1 and ":pass@" not in text
    refused = ("freeswitch.node.fs_1", "freeswitch.api.fs_1", "$SRV.PING", "$SRV.INFO", "$SRV.STATS")
    assert {f"we may not listen on {subject}" for subject in refused} <= set(faults)
    assert not [fault for fault in faults if re.search(r" on freeswitch\.(api|any|call\.\w+)$", fault)]
    assert faults[-1].startswith("we may not publish on _INBOX.")
