"""What the client for programs costs a request, beside bare nats-py: the same requests to the same echo, in turns.

    .venv/bin/python -m bench.client_overhead [--requests 2000] [--rounds 5]

A nats-server of its own and an echo process; no agent, so that what is compared is the two clients. Shown are
microseconds a request, one at a time and 50 in flight, the median of the rounds, and the ratio.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import nats

import event_agent_client as ea
from event_agent_client.testing import Nats

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


async def timed(ask: Ask, requests: int, in_flight: int) -> float:
    """Microseconds a request."""
    left = requests

    async def worker() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await ask()

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return (time.perf_counter() - began) / requests * 1e6


async def compare(url: str, requests: int, rounds: int) -> None:
    nc = await nats.connect(url)
    async with ea.connect(url) as fs:

        async def bare() -> object:
            message = await nc.request("freeswitch.any", json.dumps({"command": "version"}).encode(), timeout=30)
            return json.loads(message.data)["data"]

        async def ours() -> object:
            return (await fs.request("version")).data

        print(f"{'in flight':>10}{'nats-py':>12}{'ours':>12}{'ratio':>8}   µs a request, median of {rounds} rounds")
        for in_flight in (1, 50):
            found: dict[str, list[float]] = {"bare": [], "ours": []}
            for _ in range(rounds):
                found["bare"].append(await timed(bare, requests, in_flight))
                found["ours"].append(await timed(ours, requests, in_flight))
            one, other = (statistics.median(each) for each in found.values())
            print(f"{in_flight:>10}{one:>12.1f}{other:>12.1f}{other / one:>8.2f}")
    await nc.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.client_overhead")
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with Nats() as server:
        echo = subprocess.Popen([sys.executable, "-c", ECHO, server.url], stdout=subprocess.PIPE)
        try:
            assert echo.stdout is not None
            echo.stdout.readline()
            asyncio.run(compare(server.url, options.requests, options.rounds))
        finally:
            echo.kill()
            echo.communicate()
    return 0


if __name__ == "__main__":
    sys.exit(main())
