"""JetStream streams, and messages that no agent has made. They are not held against the schemas."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    link = await nats.connect(url, allow_reconnect=False)
    try:
        yield link
    finally:
        await link.close()


async def taken(link: Client) -> None:
    """Wait until the server has what was sent, subscriptions too.

    nats-py writes a PING at once and what waits behind it (Client._send_ping), so the first answer says little.
    """
    await link.flush()
    await link.flush()


async def make_stream(url: str, name: str, *subjects: str) -> None:
    async with connected(url) as link:
        await link.jetstream(timeout=10).add_stream(name=name, subjects=list(subjects))


async def drop_stream(url: str, name: str) -> None:
    async with connected(url) as link:
        await link.jetstream(timeout=10).delete_stream(name)


async def say(url: str, subject: str, *messages: bytes) -> None:
    """Publish these."""
    async with connected(url) as link:
        for message in messages:
            await link.publish(subject, message)
        await link.flush(10)
