"""README.md's command lines, run in its order: against an agent, a NATS server and a switch of their own."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, Agent, NatsServer

TOOLS = Path(sys.executable).parent
LIMIT = 30.0  # seconds for one command


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def lines(containing: str) -> list[str]:
    """The commands of the one block in which this stands, as a reader would type them."""
    (found,) = [block for block in blocks() if containing in block]
    commands = [line.partition(" #")[0].strip() for line in found.splitlines()]
    return [line.replace(".venv/bin/", f"{shlex.quote(str(TOOLS))}/") for line in commands]


def run(line: str, environ: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(line, shell=True, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=LIMIT)


def first_line(line: str, environ: dict[str, str], meanwhile: Callable[[], object]) -> str:
    """What a command says first that does not end by itself; then it gets Ctrl-C, and has to end well."""
    process = subprocess.Popen(
        f"exec {line}", shell=True, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        os.set_blocking(process.stdout.fileno(), False)
        deadline = time.monotonic() + LIMIT
        while not (said := process.stdout.readline()):
            assert process.poll() is None and time.monotonic() < deadline, line
            meanwhile()
        os.killpg(process.pid, signal.SIGINT)
        process.communicate(timeout=LIMIT)
        assert process.returncode in (0, 130), line
        return said
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


@pytest.fixture
def environ(own_nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent]) -> dict[str, str]:
    """An environment in which the defaults lead to parts of ours."""
    start_agent(own_nats, switch)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
    return kept | {"MOD_EVENT_AGENT_URL": own_nats.url, "NATS_URL": own_nats.url}


def test_the_commands_of_the_readme_work(environ: dict[str, str]) -> None:
    uuid = ""
    seen: list[str] = []
    call = run(f"{TOOLS}/event-agentctl originate loopback/park/default park", environ)
    assert call.returncode == 0, call.stderr
    for line in lines("event-agentctl hangup"):
        # The FreeSWITCH of the tests has an extension `park`, the simulator any.
        line = line.replace("UUID", uuid).replace("loopback/9196/", "loopback/park/")
        if " events " in line:
            again = f"{TOOLS}/event-agentctl originate loopback/short/default park"
            assert "CHANNEL_" in first_line(line, environ, partial(run, again, environ))
        elif "request.sh" in line and shutil.which("nc") is None:
            continue  # tests/functional/test_clients.py says so
        else:
            done = run(line, environ)
            assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
            assert done.stdout or "hangup" in line, line
            if " originate " in line:
                uuid = done.stdout.strip()
                assert re.fullmatch(r"[0-9a-f-]{36}", uuid), done.stdout
        seen.append(line)
    assert len(seen) >= 6 and uuid
    assert run(f"{TOOLS}/event-agentctl check", environ).returncode in (0, 1), "it knows how things stand"


def test_the_settings_of_the_readme_are_in_force() -> None:
    exports = [line for line in lines("--check") if line.startswith("export ")]
    commands = [line for line in lines("--check") if line not in exports]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
    done = run("; ".join([*exports, commands[0]]), kept)
    assert done.returncode == 0 and len(exports) == 2, done.stdout + done.stderr
    assert "url = nats://10.0.0.6:4222" in done.stdout and "node_id = fs-node-01" in done.stdout
    assert "secret" not in done.stdout
    assert commands[1] == commands[0].removesuffix(" --check")


def test_its_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {match for block in blocks() for match in re.findall(r"^make ([a-z-]+)", block, re.MULTILINE)}
    assert named >= {"run", "deb"} and named <= targets
