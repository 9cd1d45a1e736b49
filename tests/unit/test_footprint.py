"""What the running daemon does not need is not in its memory."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
from event_agent.__main__ import Options, main
from event_agent.app import Daemon
from event_agent.config.load import load
Daemon(load(None, {}).settings)
print(*sys.modules)
"""
# Python's own that an import brings in easily, and what it costs; and our own for who asks for it.
UNNEEDED = {
    "argparse",  # 0.4 MB
    "asyncio", "concurrent.futures", "difflib", "email", "http", "http.server", "multiprocessing", "pkg_resources",
    "platform", "ssl", "subprocess", "tempfile", "unittest", "urllib.request", "uuid",
    "event_agent.config.render", "event_agent.config.unit", "event_agent.drivers.nats.jetstream",
    "event_agent.drivers.nats.stream", "event_agent.drivers.outbox", "event_agent.drivers.segments",
}  # fmt: skip


def test_the_service_has_in_memory_what_it_needs() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "event_agent.drivers.nats.driver" in loaded
    assert not loaded & UNNEEDED
    tools = ("event_agent.ctl", "event_agent.client", "event_agent.probe", "event_agent_client")
    assert not [each for each in loaded if each.startswith(tools)]


@pytest.mark.parametrize(
    "code", ["import event_agent.client", "from event_agent_client import CommandFailed, Event, Reply"]
)
def test_what_needs_no_asyncio_does_not_load_it(code: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "event_agent_client.replies" in loaded
    assert loaded.isdisjoint({"asyncio", "concurrent.futures", "difflib", "uuid", "event_agent_client.aio"})
