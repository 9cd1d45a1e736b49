"""One command and its reply.

    python3 request.py status
    python3 request.py show channels count

Exit code: 0 done, 1 the reply is an error, 2 there is no reply.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import Any

import nats
import nats.errors
from nats.aio.client import Client

URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
PREFIX = os.environ.get("PREFIX", "freeswitch")
TIMEOUT = 35  # seconds; the agent itself gives up after 30 and says so


async def quiet(_: Exception) -> None:
    """What is wrong is said where it is caught."""


async def ask(nc: Client, subject: str, request: dict[str, Any]) -> Any:
    """The agent's reply. `nc.request` would take whatever comes first: a JetStream stream on the subject answers, too.

    Raises NoRespondersError, TimeoutError.
    """
    replies = await nc.subscribe(inbox := nc.new_inbox())
    await nc.publish(subject, json.dumps(request).encode(), reply=inbox)
    async with asyncio.timeout(TIMEOUT):
        async for message in replies.messages:
            if message.headers and message.headers.get("Status") == "503":
                raise nats.errors.NoRespondersError
            reply = json.loads(message.data)
            if "success" in reply:
                return reply
    raise TimeoutError


async def main() -> int:
    if len(sys.argv) < 2:
        print("usage: request.py COMMAND [ARGS]", file=sys.stderr)
        return 2
    request = {"command": sys.argv[1], "args": " ".join(sys.argv[2:])}
    try:
        nc = await nats.connect(URL, max_reconnect_attempts=1, reconnect_time_wait=0.5, error_cb=quiet)
        try:
            # .any: one node, whichever. All nodes: .api. One certain node: .node.<id>
            reply = await ask(nc, f"{PREFIX}.any", request)
        finally:
            await nc.close()
    except nats.errors.NoRespondersError:
        print("no agent, or none whose FreeSWITCH is connected", file=sys.stderr)
        return 2
    except (nats.errors.Error, OSError) as error:
        print(f"NATS at {URL}: {error or type(error).__name__}", file=sys.stderr)
        return 2
    if not reply["success"]:
        print(reply["message"], file=sys.stderr)
        return 1
    print(reply["data"])
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
