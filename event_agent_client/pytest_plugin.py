"""Fixtures for tests of programs that use this client. Not loaded by itself; in a conftest.py:

    pytest_plugins = ["event_agent_client.pytest_plugin"]

    nats_url      the URL of a nats-server of the test run's own
    fake_agent    an agent that is none (event_agent_client.testing), for tests written with `async def` and run by
                  `run_async`, or by a plugin of your choice: `async with fake_agent() as agent`
    run_async     runs a coroutine with a time limit
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from event_agent_client.testing import FakeAgent, Nats


@pytest.fixture(scope="session")
def nats_url() -> Iterator[str]:
    """The URL of a nats-server, from PATH, that is there for all tests."""
    if not Nats.installed():
        pytest.skip("there is no nats-server")
    with Nats() as server:
        yield server.url


@pytest.fixture
def fake_agent(nats_url: str) -> Callable[..., FakeAgent]:
    """Makes agents: `async with fake_agent(node="fs-1") as agent`."""

    def make(**options: Any) -> FakeAgent:
        return FakeAgent(nats_url, **options)

    return make


@pytest.fixture
def run_async() -> Callable[..., Any]:
    """Runs a coroutine: `run_async(work())`; TimeoutError after `limit` seconds."""

    def run(work: Coroutine[Any, Any, Any], limit: float = 60.0) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(limit):
                return await work

        return asyncio.run(limited())

    return run
