"""What the clients for programs cost a request, beside bare nats-py and nats.js: the same requests, in turns.

    .venv/bin/python -m bench.client_overhead [--requests 2000] [--rounds 5] [--node]

A nats-server of its own and an echo process; no agent, so that what is compared is the clients. Shown are microseconds
a request, one at a time and 50 in flight, the median of the rounds: the time it takes, and the processor time of the
client's process, which a busy machine changes less. With `--node` bench/node_client.mjs follows, which does the same
for Node.js; that needs `make client-node` once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import nats

import event_agent_client as ea
from event_agent_client.testing import Nats

NODE = Path(__file__).with_name("node_client.mjs")
ECHO = """
import asyncio, nats, sys
async def main():
    nc = await nats.connect(sys.argv[1])
    async def answer(message):
        await message.respond(b'{"success":true,"status":"success","message":"done","node_id":"echo","data":"x"}')
    await nc.subscribe("freeswitch.any", cb=answer)
    await nc.flush()
    print("ready", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
Ask = Callable[[], Awaitable[object]]


async def timed(ask: Ask, requests: int, in_flight: int) -> tuple[float, float]:
    """Microseconds a request: of time, of processor time."""
    left = requests

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await ask()

    began, used = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.perf_counter() - began) / requests * 1e6, (time.process_time() - used) / requests * 1e6


async def compare(url: str, requests: int, rounds: int) -> None:
    nc = await nats.connect(url)
    async with ea.connect(url) as fs:

        async def bare() -> object:
            message = await nc.request("freeswitch.any", json.dumps({"command": "version"}).encode(), timeout=30)
            return json.loads(message.data)["data"]

        async def ours() -> object:
            return (await fs.request("version")).data

        print(f"µs a request, median of {rounds} rounds of {requests} requests")
        print(f"{'in flight':>10}{'of':>12}{'nats-py':>12}{'ours':>12}{'ratio':>8}")
        for in_flight in (1, 50):
            found: dict[str, list[tuple[float, float]]] = {"bare": [], "ours": []}
            for number in range(-1, rounds):
                pair = {"bare": await timed(bare, requests, in_flight), "ours": await timed(ours, requests, in_flight)}
                for name, each in pair.items() if number >= 0 else ():  # the first one warms up
                    found[name].append(each)
            for which, of in enumerate(("time", "processor")):
                one, other = (statistics.median(each[which] for each in rows) for rows in found.values())
                print(f"{in_flight:>10}{of:>12}{one:>12.1f}{other:>12.1f}{other / one:>8.2f}")
    await nc.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.client_overhead")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--node", action="store_true", help="nats.js and our client for Node.js as well")
    options = parser.parse_args()
    with Nats() as server:
        echo = subprocess.Popen([sys.executable, "-c", ECHO, server.url], stdout=subprocess.PIPE)
        try:
            assert echo.stdout is not None
            echo.stdout.readline()
            asyncio.run(compare(server.url, options.requests, options.rounds))
            if options.node:
                command = ["node", str(NODE), str(max(1, options.requests * options.rounds // 100))]
                return subprocess.run(command, env={**os.environ, "NATS_URL": server.url}).returncode
        finally:
            echo.kill()
            echo.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
