"""Fixtures for tests of programs that use this client. Not loaded by itself; in a conftest.py:

    pytest_plugins = ["event_agent_client.pytest_plugin"]

    nats_url      the URL of a nats-server of the test run's own
    fake_agent    an agent that is none (event_agent_client.testing), for tests written with `async def` and run by
                  `run_async`, or by a plugin of your choice: `async with fake_agent() as agent`
    real_agent    event-agent itself, which must be installed, on a simulated FreeSWITCH: `agent = real_agent()`
    run_async     runs a coroutine with a time limit
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from event_agent_client.testing import FakeAgent, Nats, RealAgent


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """The URL of a nats-server, from PATH, that is there for all tests."""
    with Nats() as server:
        yield server.url


@pytest.fixture
def fake_agent(nats_url: str) -> Callable[..., FakeAgent]:
    """Makes agents: `async with fake_agent(node="fs-1") as agent`."""

    def make(**options: Any) -> FakeAgent:
        return FakeAgent(nats_url, **options)

    return make


@pytest.fixture
def real_agent(nats_url: str) -> Iterator[Callable[..., RealAgent]]:
    """Starts agents on simulated switches: `agent = real_agent(node="fs-1")`; they end with the test."""
    with ExitStack() as started:

        def start(**settings: Any) -> RealAgent:
            return started.enter_context(RealAgent(nats_url, **settings))

        yield start


@pytest.fixture
def run_async() -> Callable[..., Any]:
    """Runs a coroutine: `run_async(work())`; TimeoutError after `limit` seconds."""

    def run(work: Coroutine[Any, Any, Any], limit: float = 60.0) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(limit):
                return await work

        return asyncio.run(limited())

    return run
