"""The client for threads: `ea.sync.connect`, the same as `ea.connect` without `await`.

    with ea.sync.connect("nats://127.0.0.1:4222") as fs:
        with fs.dial("user/1000", ring=20) as call:
            call.play("tone_stream://%(300,100,800)")

Every method may be called from any thread but the client's own. That one, `event-agent-client`, runs the client for
asyncio, so both behave alike. Handlers of `incoming` and `route` run on threads of a pool, one for each call.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from typing import Final

from event_agent_client import aio
from event_agent_client.core import WAIT
from event_agent_client.sync.calls import Call
from event_agent_client.sync.client import Client, Handler, Router
from event_agent_client.sync.nodes import All, Node
from event_agent_client.sync.streams import Cdrs, Events, Live, Record
from event_agent_client.sync.thread import twin_of

__all__ = [
    "All", "Call", "Cdrs", "Client", "Events", "Handler", "Live", "Node", "Record", "Router", "connect",
]  # fmt: skip
HANDLERS: Final = 200  # calls that are handled at one time; further ones wait, parked


@twin_of(aio.connect)
def connect(
    url: str | Sequence[str] = "",
    *,
    prefix: str = "freeswitch",
    token: str = "",
    nkey_seed: str = "",
    creds: str = "",
    tls: ssl.SSLContext | None = None,
    name: str = "",
    wait: float = WAIT,
    connect_wait: float = 10.0,
    patience: float = 10.0,
    away: float = aio.AWAY,
    ping_interval: float = 5.0,
    handlers: int = HANDLERS,
) -> Client:
    inner = aio.connect(
        url, prefix=prefix, token=token, nkey_seed=nkey_seed, creds=creds, tls=tls,
        name=name or f"event-agent-client/sync pid={os.getpid()}", wait=wait, connect_wait=connect_wait,
        patience=patience, away=away, ping_interval=ping_interval,
    )  # fmt: skip
    return Client(inner, handlers)
