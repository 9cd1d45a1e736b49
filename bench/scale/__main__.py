"""Many agents with simulated switches on one nats-server: `python -m bench.scale [--agents 100] [--out FOLDER]`.

In turn: all are started, found by discovery, left idle, asked on each lane, given calls at growing rates, restarted one
by one while requests go on, and lose their broker. Writes scale.json and scale.md. docs/SCALING.md has what came of it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from bench.rig import ROOT, cpu, peak_memory
from event_agent.client.client import Client
from event_agent.config.table import Settings
from event_agent.errors import AgentError
from tests.functional.parts import Agent, NatsServer
from tests.support import free_port, until

SWITCHES = 25  # in a process
STEPS = (10, 50, 100, 200, 400, 700, 1000)  # calls a second over all
SECONDS = 8.0  # for each step
HOLD = 10.0  # seconds that a call lasts
AWAY = 5.0  # seconds for which the broker is gone
BEHIND = 0.9  # part of the calls that have to be begun for a rate to count as carried


class Broker(NatsServer):
    """A nats-server that says how it is."""

    def __init__(self) -> None:
        self.monitor = free_port()
        super().__init__("-m", str(self.monitor), config="max_connections: 10000\n")

    def figures(self) -> dict[str, float]:
        """What it counts, and its CPU (s) and memory (MB)."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/varz", timeout=30) as answer:
            found = json.load(answer)
        names = ("in_msgs", "out_msgs", "in_bytes", "out_bytes", "connections", "subscriptions", "slow_consumers")
        return {name: found[name] for name in names} | {"cpu": cpu(self.process), "memory": found["mem"] / 1e6}


class Fleet:
    """The broker, the switches and the agents."""

    def __init__(self, count: int, load: Path) -> None:
        self.load = load
        self.broker = Broker()
        self.broker.start()
        self.switches: list[subprocess.Popen[str]] = []
        self.agents: list[Agent] = []
        ports: list[str] = []
        try:
            for first in range(0, count, SWITCHES):
                number = min(SWITCHES, count - first)
                process = subprocess.Popen(
                    [sys.executable, "-m", "bench.scale.switches", str(number)], cwd=ROOT, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )  # fmt: skip
                self.switches.append(process)
                assert process.stdout
                *found, events = process.stdout.readline().split()
                ports += found
                self.events = int(events)
            for number, port in enumerate(ports):
                # No clock: the switches here send at once, and a hundred clocks would take a machine of their own.
                settings = {"url": self.broker.url, "esl_port": port, "heartbeat": "20", "event_wake_ms": "0"}
                self.agents.append(Agent(node_id=f"node-{number:03}", **settings))
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all of it."""
        for process in self.switches:
            process.kill()
            process.wait()
        for agent in self.agents:
            if agent.process is not None:
                agent.process.terminate()
        for agent in self.agents:
            agent.remove()
        self.broker.stop()

    def calls(self, rate: float, hold: float = HOLD) -> tuple[int, int]:
        """So many calls a second over all from now on; returns how many have begun and how many channels are up."""
        begun = up = 0
        for process in self.switches:
            assert process.stdin and process.stdout
            process.stdin.write(f"{rate / len(self.switches):g} {hold:g}\n")
            process.stdin.flush()
            answer = process.stdout.readline().split()
            begun, up = begun + int(answer[0]), up + int(answer[1])
        return begun, up

    def used(self) -> dict[str, float]:
        """Seconds of CPU so far, of each part."""
        return {
            "agents": sum(cpu(agent.process) for agent in self.agents),
            "switches": sum(cpu(process) for process in self.switches),
            "broker": cpu(self.broker.process),
        }

    def client(self) -> Client:
        """One that asks."""
        client = Client.of(Settings(url=(self.broker.url,)))
        client.connect()
        return client

    def requests(self, subject: str, payload: str, count: int, window: int) -> dict[str, Any]:
        """By the load generator."""
        done = subprocess.run(
            [self.load, "commands", "127.0.0.1", str(self.broker.port), subject, payload, str(count), str(window)],
            capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        return dict(json.loads(done.stdout.splitlines()[-1]))

    @contextmanager
    def subscriber(self, count: int, seconds: float) -> Iterator[subprocess.Popen[str]]:
        """Counts the events of all nodes."""
        arguments = ["events", "127.0.0.1", str(self.broker.port), "freeswitch.events.>", str(count), str(seconds)]
        with subprocess.Popen(
            [self.load, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin and process.stdout
            assert process.stdout.readline() == "ready\n"
            yield process
            process.stdin.close()
            process.kill()


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--agents", type=int, default=100)
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out")
    parser.add_argument("--most", type=float, default=STEPS[-1], help="calls a second, at most")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {
        "agents": options.agents, "cores": os.cpu_count(), "load average before": round(os.getloadavg()[0], 2),
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
    }  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="event-agent-scale-") as folder:
        load = Path(folder) / "load"
        subprocess.run(["cc", "-O2", "-o", load, ROOT / "bench" / "load.c"], check=True)
        fleet = Fleet(options.agents, load)
        try:
            for name, measure in MEASURES.items():
                began = time.monotonic()
                found[name] = measure(fleet, options)
                print(f"{name} ({time.monotonic() - began:.0f} s): {json.dumps(found[name])}", flush=True)
                (options.out / "scale.json").write_text(json.dumps(found, indent=1) + "\n")
        finally:
            fleet.close()
    return 0


def started(fleet: Fleet, options: argparse.Namespace) -> dict[str, Any]:
    """All at once, as after a power cut; until each is ready, and until a client has an answer from all."""
    began = time.monotonic()
    for agent in fleet.agents:
        agent.start(ready=False)
    client = fleet.client()
    try:
        first = 0.0
        answered: set[str] = set()
        while len(answered) < len(fleet.agents) and time.monotonic() - began < 300:
            try:
                replies = client.gather("agent.status", timeout=10, expect=len(fleet.agents), settle=1.0)
            except AgentError:  # nobody is there yet
                time.sleep(0.1)
                continue
            first = first or time.monotonic() - began
            answered = {str(reply["node_id"]) for reply in replies if reply["data"]["freeswitch"]["events"]}
        all_there = time.monotonic() - began
        asked = time.monotonic()
        replies = client.gather("agent.status", timeout=30, expect=len(fleet.agents))
        took = time.monotonic() - asked
    finally:
        client.close()
    return {
        "first answers after, s": round(first, 2), "all answer and have events after, s": round(all_there, 2),
        "nodes": len(answered), "agent.status of all takes, s": round(took, 2), "answers": len(replies),
    }  # fmt: skip


def idle(fleet: Fleet, options: argparse.Namespace) -> dict[str, Any]:
    """Nothing to do, after things have settled."""
    time.sleep(5)
    return _over(fleet, 15.0)


def _over(fleet: Fleet, seconds: float) -> dict[str, Any]:
    """CPU in % of a core, and what the broker counts a second."""
    began, used, counted = time.monotonic(), fleet.used(), fleet.broker.figures()
    time.sleep(seconds)
    took = time.monotonic() - began
    after = fleet.broker.figures()
    result = {f"{name}, % of a core": round((fleet.used()[name] - used[name]) / took * 100, 2) for name in used}
    for name in ("in_msgs", "out_msgs", "in_bytes", "out_bytes"):
        result[f"{name}/s"] = round((after[name] - counted[name]) / took, 1)
    result |= {name: after[name] for name in ("connections", "subscriptions", "slow_consumers")}
    result["broker, MB"] = round(after["memory"], 1)
    result["agent, most MB"] = round(max(peak_memory(agent.process) for agent in fleet.agents), 1)
    return result


def lanes(fleet: Fleet, options: argparse.Namespace) -> dict[str, Any]:
    """Requests on each lane, one at a time and 50 in flight; latencies in µs."""
    node = len(fleet.agents) // 2
    subjects = {
        "one node's lane": (f"freeswitch.node.node_{node:03}", '{"command":"version"}'),
        "one node's lane, verb in the subject": (f"freeswitch.node.node_{node:03}.version", "{}"),
        "any": ("freeswitch.any", '{"command":"version"}'),
        "all nodes' lane, node_id in it": ("freeswitch.api", f'{{"command":"version","node_id":"node-{node:03}"}}'),
    }
    result = {}
    for name, (subject, payload) in subjects.items():
        for window, count in ((1, 300), (50, 3000)):
            used = fleet.used()
            got = fleet.requests(subject, payload, count, window)
            after = fleet.used()
            result[f"{name}, {window} in flight"] = {
                "p50": round(got["p50_us"]), "p99": round(got["p99_us"]), "a second": round(got["per_second"]),
                "bad": got["bad"],
                "CPU of all agents a request": round((after["agents"] - used["agents"]) / count * 1e6),
                "CPU of the broker a request": round((after["broker"] - used["broker"]) / count * 1e6),
            }  # fmt: skip
    return result


def calls(fleet: Fleet, options: argparse.Namespace) -> dict[str, Any]:
    """Growing rates, with one subscriber to all events, until they are not carried."""
    result: dict[str, Any] = {}
    for rate in [each for each in STEPS if each <= options.most]:
        with fleet.subscriber(10**9, SECONDS + HOLD + 30) as subscriber:
            begun, _ = fleet.calls(rate)
            time.sleep(2)
            first, _ = fleet.calls(rate)
            found = _over(fleet, SECONDS)
            last, up = fleet.calls(rate)
            found["calls a second"] = round((last - first) / SECONDS, 1)
            found["channels up"] = up
            fleet.calls(0)
            time.sleep(1)
            subscriber.kill()
        calm = until(lambda: _settled(fleet), "what is under way is through", 120)
        found["lag at the end, s (median of nodes)"] = calm
        events = max(1.0, found["in_msgs/s"])
        for part in ("agents", "broker"):
            found[f"{part}, µs an event"] = round(found[f"{part}, % of a core"] * 1e4 / events, 1)
        result[f"{rate} calls a second"] = found
        print(f"  {rate}: {json.dumps(found)}", flush=True)
        if found["calls a second"] < rate * BEHIND or found["in_msgs/s"] < rate * fleet.events * BEHIND * 0.7:
            break
    return result


def _settled(fleet: Fleet) -> float | None:
    """The lag, when nothing moves any more."""
    before = fleet.broker.figures()["in_msgs"]
    time.sleep(1)
    if fleet.broker.figures()["in_msgs"] - before > 20 + len(fleet.agents):
        return None
    client = fleet.client()
    try:
        replies = client.gather("agent.status", timeout=20, expect=len(fleet.agents))
    finally:
        client.close()
    return float(statistics.median(reply["data"]["freeswitch"]["events_lag"] for reply in replies)) + 0.001


def rolling(fleet: Fleet, options: argparse.Namespace) -> dict[str, Any]:
    """Each agent is ended and started again, one after the other, while somebody asks on `any`."""
    answered, failed, ended = [0], [0], threading.Event()

    def ask() -> None:
        client = fleet.client()
        while not ended.is_set():
            try:
                reply = client.call({"command": "version"}, timeout=5)
                (answered if reply.get("success") else failed)[0] += 1
            except AgentError:
                failed[0] += 1
        client.close()

    began = time.monotonic()
    each = []
    with ThreadPoolExecutor(1) as pool:
        asking = pool.submit(ask)
        for agent in fleet.agents:
            at = time.monotonic()
            count = len(re.findall("FreeSWITCH events: subscribed", agent.log))
            agent.stop()
            agent.start(ready=False)
            agent.logged("FreeSWITCH events: subscribed", count + 1, 60)
            each.append(time.monotonic() - at)
        ended.set()
        asking.result(30)
    return {
        "all, s": round(time.monotonic() - began, 1), "one, median s": round(statistics.median(each), 2),
        "one, longest s": round(max(each), 2), "requests answered meanwhile": answered[0], "failed": failed[0],
    }  # fmt: skip


def broker(fleet: Fleet, options: argparse.Namespace) -> dict[str, Any]:
    """The broker is killed, and comes back: when does each agent have its link again?"""
    linked = {agent: len(re.findall("NATS connected", agent.log)) for agent in fleet.agents}
    fleet.broker.kill()
    time.sleep(AWAY)
    back = time.time()
    fleet.broker.start()
    times = []
    for agent, count in linked.items():
        line = agent.logged("NATS connected", count + 1, 60)[-1]
        times.append(datetime.strptime(line[:23], "%Y-%m-%d %H:%M:%S,%f").timestamp() - back)
    client = fleet.client()
    try:
        answers = until(
            lambda: len(client.gather("agent.status", timeout=20, expect=len(fleet.agents))) == len(fleet.agents),
            "all answer", 60,
        )
    finally:
        client.close()
    times.sort()
    most = max(sum(1 for each in times if at <= each < at + 0.1) for at in times)
    return {
        "away, s": AWAY, "first after, s": round(times[0], 2), "median": round(statistics.median(times), 2),
        "last": round(times[-1], 2), "most within 0.1 s": most, "all answer": answers,
        "times": [round(each, 2) for each in times],
    }  # fmt: skip


MEASURES = {
    "started": started, "idle": idle, "lanes": lanes, "calls": calls, "rolling restart": rolling, "broker": broker,
}  # fmt: skip

if __name__ == "__main__":
    sys.exit(main())
