"""Events as they come, until Ctrl-C.

    python3 events.py                 those of channels
    python3 events.py '>'             all
    python3 events.py custom.sofia.register
"""

from __future__ import annotations

import asyncio
import json
import os
import sys

import nats
from nats.aio.msg import Msg

URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
PREFIX = os.environ.get("PREFIX", "freeswitch")


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def show(message: Msg) -> None:
    event = json.loads(message.data)
    headers = event["headers"]
    caller = headers.get("Caller-Caller-ID-Number", "")
    # json.dumps: what a caller puts into the number must not reach the terminal as it is.
    print(event["timestamp"], event["node_id"], event["event_name"], event.get("uuid", "-"), json.dumps(caller),
          flush=True)  # fmt: skip


async def gap(message: Msg) -> None:
    """The agent tells when its own link to FreeSWITCH goes and comes: then events are missing."""
    event = json.loads(message.data)
    if event["event_name"] == "AGENT_DISCONNECTED":
        note(f"{event['node_id']}: no events: {event['reason']}")
    else:
        note(f"{event['node_id']}: events flow; {len(event['channels'] or ())} channels are up")


async def lost() -> None:
    note("NATS is unreachable: what happens now is not seen")


async def back() -> None:
    note("NATS is back")


async def failed(error: Exception) -> None:
    note(f"NATS: {error or type(error).__name__}")


async def main() -> None:
    pattern = sys.argv[1] if len(sys.argv) > 1 else "channel.>"
    # For ever: a program that follows events should outlast its broker.
    nc = await nats.connect(
        URL, max_reconnect_attempts=-1, disconnected_cb=lost, reconnected_cb=back, error_cb=failed
    )
    await nc.subscribe(f"{PREFIX}.events.{pattern}", cb=show)
    await nc.subscribe(f"{PREFIX}.events.agent.>", cb=gap)
    await nc.flush()
    note(f"listening on {PREFIX}.events.{pattern}")
    await asyncio.Event().wait()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
