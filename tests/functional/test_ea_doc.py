"""Every Python block of docs/CLIENT.md runs, against the agent of event_agent_client.testing."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import event_agent_client as ea
from event_agent_client.testing import FakeAgent
from tests.functional.parts import ROOT, NatsServer
from tests.functional.streams import make_stream, say
from tests.functional.test_ea_client import LIMIT, run

PAGE = (ROOT / "docs" / "CLIENT.md").read_text(encoding="utf-8")
README = (ROOT / "clients" / "python" / "README.md").read_text(encoding="utf-8")
SETTLED = 1.0  # seconds for which a block that goes on is looked at


def blocks(page: str, what: str) -> list[tuple[str, bool, str]]:
    """Name, whether it goes on until it is ended, and text of the blocks of a kind."""
    found = []
    for match in re.finditer(r"^( *)```python(.*)\n((?:.*\n)*?) *```$", page, re.MULTILINE):
        words = match[2].split()
        kind = next((word for word in words if word != "goes-on"), "fragment")
        line = page[: match.start()].count("\n") + 1
        if kind == what:
            found.append((f"line {line}", "goes-on" in words, textwrap.dedent(match[3])))
    return found


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[NatsServer]:
    server = NatsServer("-js", "-sd", str(tmp_path / "js")).start()
    yield server
    server.stop()


def test_there_are_blocks() -> None:
    kinds = {kind: len(blocks(PAGE, kind)) for kind in ("program", "fragment", "test")}
    assert kinds["program"] >= 3 and kinds["fragment"] >= 6 and kinds["test"] == 2
    assert sum(kinds.values()) == PAGE.count("```python")


def test_fragments(stored: NatsServer) -> None:
    async def work() -> None:
        async with FakeAgent(stored.url, node="fs-1") as agent, ea.connect(stored.url) as fs:
            await make_stream(stored.url, "RECORDS", "freeswitch.cdr.>")
            await say(stored.url, "freeswitch.cdr.fs_1", b'{"event_name":"CDR","node_id":"fs-1","uuid":"u"}')
            agent.on("show", lambda _: {"data": '{"row_count":0,"rows":[]}'})
            for name, goes_on, text in blocks(PAGE, "fragment"):
                await fragment(name, goes_on, text, agent, fs)
                for call in list(agent.calls.values()):
                    call.hang_up()

    run(work())


async def fragment(name: str, goes_on: bool, text: str, agent: FakeAgent, fs: ea.Client) -> None:
    scope: dict[str, Any] = {"ea": ea, "fs": fs}
    exec(compile("async def block():\n" + textwrap.indent(text, "    "), name, "exec"), scope)  # noqa: S102
    task = asyncio.create_task(scope["block"]())
    if goes_on:
        await asyncio.sleep(0.2)  # the fragment listens by then
        await agent.incoming("1", context="elsewhere")
        done, _ = await asyncio.wait({task}, timeout=SETTLED)
        assert not done, f"{name}: {task.exception()!r}"
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return
    async with asyncio.timeout(LIMIT):
        while not task.done():
            await asyncio.sleep(0.02)
            for call in agent.calls.values():
                if call.applications and call.applications[-1][0] == "bridge" and not call.cause:
                    call.hang_up()
                    break
        await task


@pytest.mark.parametrize(
    ("name", "goes_on", "text"),
    [*blocks(PAGE, "program"), *blocks(README, "fragment")],
    ids=lambda part: str(part)[:12],
)
def test_programs(name: str, goes_on: bool, text: str, nats: NatsServer) -> None:
    prefix = re.sub(r"\W", "", name)
    text = text.replace('connect("nats://127.0.0.1:4222"', f'connect("{nats.url}", prefix="{prefix}"')

    async def work() -> None:
        async with FakeAgent(nats.url, node="fs-1", prefix=prefix) as agent:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", text, env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd="/",
                stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
            try:
                if goes_on or "forever" in text:
                    await agent.parks(LIMIT)
                    agent.digits("1234")
                    caller = await agent.incoming("493012", context="public")
                    assert await caller.ended(LIMIT) == "NORMAL_CLEARING"
                    assert caller.applications[-1] == ("playback", "right.wav")
                    assert process.returncode is None
                else:
                    async with asyncio.timeout(LIMIT):
                        out, fault = await process.communicate()
                    assert process.returncode == 0 and b"NORMAL_CLEARING" in out, fault.decode()
            finally:
                if process.returncode is None:
                    process.kill()
                await process.communicate()

    run(work())


def test_the_ivr_has_at_most_twelve_lines() -> None:
    texts = [text for _, _, text in blocks(PAGE, "program") if "fs.incoming" in text]
    assert len(texts) == 2  # asyncio, threads
    assert all(len([line for line in text.splitlines() if line.strip()]) <= 12 for text in texts)


def test_the_tests_of_a_program(tmp_path: Path) -> None:
    texts = [text for _, _, text in blocks(PAGE, "test")]
    for number, text in enumerate(texts):
        (tmp_path / f"test_{number}.py").write_text(text)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["event_agent_client.pytest_plugin"]\n')
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)], cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert f"{len(texts)} passed" in done.stdout, done.stdout


HIDDEN = """
import importlib.util, sys
import pytest
from event_agent_client.testing import server

found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "event_agent" else found(name, *more)
server.Nats.installed = staticmethod(lambda: False)
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "."]))
"""
LACKING = """
from event_agent_client.testing import RealAgent

def test_nats(nats_url): pass

def test_agent():
    RealAgent("nats://127.0.0.1:1")
"""


def test_what_a_test_lacks_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Neither a nats-server nor event-agent."""
    (tmp_path / "test_it.py").write_text(LACKING)
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["event_agent_client.pytest_plugin"]\n')
    done = subprocess.run(
        [sys.executable, "-c", HIDDEN], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert "apt install nats-server" in done.stdout and "apt install event-agent" in done.stdout, done.stdout
    assert "skipped" not in done.stdout and done.returncode == 1
