"""What an event costs that a stream stores and acknowledges, beside one at most once; and memory with a full spool.

    python -m bench.stored                       100,000 events for each way of delivery, then 1 GB in the spool
    python -m bench.stored --rate 20000          so many a second, not as fast as they are taken
    python -m bench.stored --events 20000 --spool 0 --nats-server /opt/nats-server-2.14/nats-server

Recorded events of some 2.9 kB, each with a number of its own, come as fast as the agent reads them, from a process that
does nothing else (bench/cannon.py). It reads them faster than they are stored, so most pass its disk; with --rate they
do not have to. An event at least once is through when it is acknowledged. CPU is that of the
process, whatever else the machine does; events a second are those of this machine, with all that runs on it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.rig import cpu, peak_memory
from tests.functional.parts import Agent, Client, NatsServer
from tests.support import nats_server, until

ROOT = Path(__file__).resolve().parent.parent
SUBJECT = "freeswitch.events.channel.create"
WAYS: dict[str, dict[str, str]] = {
    "at most once": {},
    "at least once": {"events_delivery": "at_least_once"},
    "at least once, spool_mode always": {"events_delivery": "at_least_once", "spool_mode": "always"},
}
LONG = 600.0  # seconds


@contextmanager
def cannon(count: int) -> Iterator[tuple[str, Any]]:
    """Its port, and the process that fires `count` events at each line."""
    command = [sys.executable, "-m", "bench.cannon", str(count), "numbered"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()


def fire(gun: Any, rate: int = 0) -> None:
    """And wait until the agent has read them. `rate`: how many a second, 0 for as fast as it reads."""
    gun.stdin.write(f"{rate}\n")
    gun.stdin.flush()
    assert gun.stdout.readline() == "fired\n"


@contextmanager
def parts(folder: Path, port: str, settings: dict[str, str]) -> Iterator[tuple[NatsServer, Agent]]:
    """A nats-server with a stream, and an agent."""
    server = NatsServer(config=f'jetstream {{ store_dir: "{folder / "js"}" }}\n').start()
    agent = Agent(url=server.url, esl_port=port, **settings)
    try:
        if settings.get("events_delivery"):
            subprocess.run(
                [sys.executable, "-m", "event_agent.ctl", "stream", "create"], cwd=ROOT, check=True,
                env=os.environ | {"MOD_EVENT_AGENT_URL": server.url}, stdout=subprocess.DEVNULL,
            )  # fmt: skip
        agent.start()
        if settings.get("events_delivery"):
            agent.logged("events are stored by stream")
        yield server, agent
    finally:
        agent.remove()
        server.stop()


def delivery(client: Client) -> dict[str, Any]:
    data = client.request("agent.status", _timeout=60)["data"]
    found = data["nats"].get("delivery") or {"acknowledged": data["events_published"], "pending": 0, "lost": {}}
    return {**found, "published": data["events_published"]}


def cost(count: int, rate: int) -> None:
    """A row for each way."""
    first = 0.0
    for way, settings in WAYS.items():
        with tempfile.TemporaryDirectory(prefix="event-agent-stored-") as name, cannon(count) as (port, gun):
            with parts(Path(name), port, settings) as (server, agent):
                client = Client(server.url)
                before, began = (cpu(agent.process), cpu(server.process)), time.monotonic()
                fire(gun, rate)
                until(lambda: delivery(client), "all are through", LONG,  # noqa: B023
                      holds=lambda now: now["acknowledged"] >= count and not now["pending"])  # fmt: skip
                took = time.monotonic() - began
                ours, theirs = cpu(agent.process) - before[0], cpu(server.process) - before[1]
                client.close()
                first = first or ours
                print(
                    f"{way:33} {count / took:7,.0f} events/s; CPU an event: agent {ours / count * 1e6:5.1f} us "
                    f"({ours / first:.2f} times), nats-server {theirs / count * 1e6:5.1f} us; "
                    f"{peak_memory(agent.process):.1f} MB at most",
                    flush=True,
                )


def spool(gigabytes: float) -> None:
    """Fill the spool while the broker is away, and let it be read."""
    most = int(gigabytes * 1e9)
    settings = {
        "events_delivery": "at_least_once", "spool_max_bytes": str(most + 100_000_000), "http_listen": "off",
    }  # fmt: skip
    block = 10_000
    with tempfile.TemporaryDirectory(prefix="event-agent-stored-") as name, cannon(block) as (port, gun):
        with parts(Path(name), port, settings) as (server, agent):
            folder = agent.folder / "state" / "spool"
            server.kill()
            agent.logged("NATS lost")
            fired, before, began = 0, cpu(agent.process), time.monotonic()
            size = 0
            while size < most:
                fire(gun)
                fired += block
                size = sum(path.stat().st_size for path in folder.glob("*.spool"))
            took, full = time.monotonic() - began, agent.memory()
            used = (cpu(agent.process) - before) / fired * 1e6
            print(
                f"broker away: {fired:,} events, {size / 1e9:.2f} GB on disk, {fired / took:,.0f} events/s, "
                f"{used:.1f} us an event; {full:.1f} MB resident, {peak_memory(agent.process):.1f} MB at most",
                flush=True,
            )
            server.start()
            began = time.monotonic()
            agent.logged("events are stored by stream", 2, 120.0)
            client = Client(server.url)
            done = until(lambda: delivery(client), "all are stored", LONG, holds=lambda now: not now["pending"])
            took = time.monotonic() - began
            client.close()
            print(
                f"broker back: {done['acknowledged']:,} acknowledged, lost: {done['lost'] or 'none'}, "
                f"{fired / took:,.0f} events/s; {agent.memory():.1f} MB resident, "
                f"{peak_memory(agent.process):.1f} MB at most",
                flush=True,
            )


def main() -> int:
    parser = argparse.ArgumentParser(prog="bench.stored", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--events", type=int, default=100_000, help="events for each way, 0 for none (%(default)s)")
    parser.add_argument("--rate", type=int, default=0, help="events a second, 0 for as fast as they are read (0)")
    parser.add_argument("--spool", type=float, default=1.0, help="GB in the spool, 0 for none (%(default)g)")
    parser.add_argument("--nats-server", default=os.environ.get("NATS_SERVER_BIN", ""), help="the program to use")
    options = parser.parse_args()
    with nats_server(options.nats_server):
        print(os.popen("nats-server --version").read().strip(), flush=True)
        if options.events:
            cost(options.events, options.rate)
        if options.spool:
            spool(options.spool)
    return 0


if __name__ == "__main__":
    sys.exit(main())
