"""Park incoming calls, do something with each, and send it on: a workflow that waits for nobody.

    python3 park_and_route.py public 1001        calls in context "public" go to extension 1001 of context "default"

Each step is sent with `async`, so nobody waits for its reply. The reply comes on the subject in `forward_to`, with the
`correlation_id` that was given, and starts the next step:

    CHANNEL_PARK  ->  execute_app  ->  reply: step "mark"  ->  uuid_transfer  ->  reply: step "transfer"  ->  log

Ctrl-C switches park mode off again. Calls that are parked then stay parked.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from typing import Any

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

URL = os.environ.get("NATS_URL", "nats://127.0.0.1:4222")
PREFIX = os.environ.get("PREFIX", "freeswitch")


def log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class Router:
    def __init__(self, nc: Client, context: str, extension: str) -> None:
        self.nc = nc
        self.context = context
        self.extension = extension
        self.outcomes = nc.new_inbox()  # nobody else's subject; any plain one is right

    async def step(self, name: str, uuid: str, node: str, request: dict[str, Any]) -> None:
        request |= {"async": True, "forward_to": self.outcomes, "correlation_id": f"{name} {uuid}"}
        if node != "unknown":  # to the call's own node; one without node_id can't be named
            request["node_id"] = node
        await self.nc.publish(f"{PREFIX}.api", json.dumps(request).encode())

    async def parked(self, message: Msg) -> None:
        event = json.loads(message.data)
        if "variable_event_agent_parked" not in event["headers"]:
            return  # parked by somebody else
        uuid = event["uuid"]
        log(f"{uuid}: parked")
        request = {"command": "execute_app", "uuid": uuid, "app": "set", "args": "routed_by=park_and_route"}
        await self.step("mark", uuid, event["node_id"], request)

    async def outcome(self, message: Msg) -> None:
        reply = json.loads(message.data)
        name, _, uuid = reply["correlation_id"].partition(" ")
        if not reply["success"]:
            log(f"{uuid}: {name} failed: {reply['message']}")  # most likely the caller has hung up
        elif name == "mark":
            request = {"command": "uuid_transfer", "args": f"{uuid} {self.extension} XML default"}
            await self.step("transfer", uuid, reply["node_id"], request)
        else:
            log(f"{uuid}: sent to {self.extension}")

    async def run(self) -> None:
        await self.nc.subscribe(f"{PREFIX}.events.channel.park", cb=self.parked)
        await self.nc.subscribe(self.outcomes, cb=self.outcome)
        await self.park("dialplan.enable", context=self.context)
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        await stop.wait()
        await self.park("dialplan.disable")

    async def park(self, command: str, **fields: Any) -> None:
        replies = await self.nc.subscribe(inbox := self.nc.new_inbox())
        await self.nc.publish(f"{PREFIX}.api", json.dumps({"command": command, **fields}).encode(), reply=inbox)
        while True:
            message = await replies.next_msg(timeout=10)
            if message.headers and message.headers.get("Status") == "503":
                sys.exit("no agent")
            reply = json.loads(message.data)
            if "success" in reply:  # a JetStream stream that takes requests answers as well, without it
                break
        await replies.unsubscribe()
        log(reply["message"])
        if not reply["success"]:
            sys.exit(1)


async def failed(error: Exception) -> None:
    log(f"NATS: {error or type(error).__name__}")


async def main() -> None:
    if len(sys.argv) != 3:
        sys.exit("usage: park_and_route.py CONTEXT EXTENSION")
    nc = await nats.connect(URL, max_reconnect_attempts=-1, error_cb=failed)
    try:
        await Router(nc, *sys.argv[1:]).run()
    finally:
        await nc.close()


if __name__ == "__main__":
    asyncio.run(main())
