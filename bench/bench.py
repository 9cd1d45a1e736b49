"""What `make bench` runs: the agent between a real FreeSWITCH (or the simulator) and a real nats-server, measured.

Every measure is taken several times; the table shows medians with the smallest and the largest. The load comes from
load.c, compiled at the start. Beside each figure of commands stands the ceiling: the same commands on a raw event
socket, in the same run. Writes results.json and picture.svg into the folder given (default bench/out).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.picture import picture  # noqa: E402
from tests.functional.parts import Agent, Client, NatsServer  # noqa: E402
from tests.functional.real_switch import RealSwitch, binary  # noqa: E402

REQUEST = '{"command":"version"}'
WINDOWS = {1: 5000, 8: 20000, 50: 50000, 200: 50000}  # in flight: how many requests a run


class Bench:
    """The parts under test, and the measures."""

    def __init__(self, repeats: int, quick: bool, switch: Any, nats: NatsServer, load: Path) -> None:
        self.repeats, self.quick, self.switch, self.nats, self.load = repeats, quick, switch, nats, load
        self.rows: list[dict[str, Any]] = []

    def note(self, what: str, unit: str, values: list[float], floor: str = "", aim: str = "") -> None:
        """One row of the table."""
        row = {
            "what": what, "unit": unit, "median": statistics.median(values), "low": min(values), "high": max(values),
            "floor": floor, "aim": aim, "runs": len(values),
        }  # fmt: skip
        self.rows.append(row)
        print(f"{what:56} {row['median']:>11,.2f} {unit:10} {row['low']:,.2f} … {row['high']:,.2f}", flush=True)

    def run(self, *arguments: object) -> dict[str, Any]:
        """One run of the load generator."""
        done = subprocess.run([self.load, *map(str, arguments)], capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"load {arguments}: {done.returncode}: {done.stdout}{done.stderr}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def requests(self, window: int, count: int) -> dict[str, Any]:
        """So many requests, so many in flight."""
        return self.run("commands", "127.0.0.1", self.nats.port, "freeswitch.api", REQUEST, count, window)

    def esl(self, verb: str, count: int, window: int) -> dict[str, Any]:
        """The same on a raw event socket."""
        return self.run("esl", "127.0.0.1", self.switch.port, self.switch.password, verb, count, window)

    def agent(self, **settings: str) -> Agent:
        """A fresh agent, warmed up."""
        links = {"url": self.nats.url, "esl_port": str(self.switch.port), "node_id": "bench"}
        return Agent(**(links | settings)).start()

    # -- the measures

    def commands(self) -> None:
        """Commands a second and latency, at several numbers in flight; the raw event socket beside it."""
        for window, count in WINDOWS.items():
            count //= 10 if self.quick else 1
            raw, ours, cpu = [], [], []
            agent = self.agent()
            self.requests(window, 1000)
            for _ in range(self.repeats):
                raw.append(self.esl("version", count, window))
                before = agent.cpu()
                ours.append(self.requests(window, count))
                cpu.append((agent.cpu() - before) / count * 1e6)
            agent.stop()
            agent.remove()
            floor = {50: ("10,000", "20,000")}.get(window, ("", ""))
            self.note(f"commands/s, {window} in flight", "/s", [each["per_second"] for each in ours], *floor)
            self.note(f"    ceiling: raw event socket, {window} in flight", "/s", [each["per_second"] for each in raw])
            self.note(f"    median latency, {window} in flight", "µs", [each["p50_us"] for each in ours])
            limit = "1,000" if window == 1 else ""
            self.note(f"    99th percentile, {window} in flight", "µs", [each["p99_us"] for each in ours], limit)
            self.note(f"    raw event socket, median, {window} in flight", "µs", [each["p50_us"] for each in raw])
            self.note(f"    CPU of the agent a command, {window} in flight", "µs", cpu)

    def mixed(self) -> None:
        """50 in flight while six slow commands are under way."""
        agent = self.agent()
        client = Client(self.nats.url)
        rates, tails = [], []
        for _ in range(self.repeats):
            for _ in range(6):
                client.publish("freeswitch.api", b'{"command":"msleep","args":"10000","async":true}')
            result = self.requests(50, 5000 if self.quick else 30000)
            rates.append(result["per_second"])
            tails.append(result["p99_us"])
            agent.stop()
            agent.remove()
            agent = self.agent()
        client.close()
        agent.stop()
        agent.remove()
        self.note("commands/s, 50 in flight, six slow ones under way", "/s", rates)
        self.note("    99th percentile", "µs", tails)

    def event_latency(self) -> None:
        """From sendevent to a subscriber, FreeSWITCH's own part included."""
        for wake, name in (("2", "nudged each 2 ms"), ("0", "never nudged")):
            agent = self.agent(event_wake_ms=wake)
            for rate in (1, 100, 1000):
                count = max(5, rate * (1 if self.quick else 4))
                middle, tail = [], []
                for _ in range(self.repeats if rate > 1 else 1):
                    result = self.events(count, rate)
                    middle.append(result["p50_us"] / 1000)
                    tail.append(result["p99_us"] / 1000)
                limits = ("2", "") if (rate, wake) == (100, "2") else ("", "")
                self.note(f"event latency at {rate}/s, {name}: median", "ms", middle, *limits)
                limits = ("4", "") if (rate, wake) == (100, "2") else ("", "")
                self.note("    99th percentile", "ms", tail, *limits)
            agent.stop()
            agent.remove()

    def events(self, count: int, rate: int) -> dict[str, Any]:
        """So many events at this rate, fired by FreeSWITCH; what the subscriber saw."""
        subscriber = self.subscriber("freeswitch.events.custom.>", count, 60 + count / rate)
        self.run("fire", "127.0.0.1", self.switch.port, self.switch.password, count, rate)
        return self.seen(subscriber)

    def subscriber(self, subject: str, count: int, seconds: float) -> subprocess.Popen[str]:
        """Counts events; returns when it is subscribed."""
        started = subprocess.Popen(
            [self.load, "events", "127.0.0.1", str(self.nats.port), subject, str(count), str(seconds)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert started.stdout and started.stdout.readline() == "ready\n"
        return started

    @staticmethod
    def seen(subscriber: subprocess.Popen[str]) -> dict[str, Any]:
        """What it counted, when it is through."""
        out, _ = subscriber.communicate(timeout=120)
        return dict(json.loads(out.splitlines()[-1]))

    def event_flood(self) -> None:
        """Events a second flat out, fired by a cannon that is faster than FreeSWITCH, and what one costs."""
        count = 5000 if self.quick else 100000
        rates, cpu, memory = [], [], []
        for _ in range(self.repeats):
            with subprocess.Popen(
                [sys.executable, "-m", "bench.cannon", str(count)],
                cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            ) as cannon:  # fmt: skip
                assert cannon.stdin and cannon.stdout
                agent = self.agent(esl_port=cannon.stdout.readline().strip())
                before = agent.cpu()
                subscriber = self.subscriber("freeswitch.events.channel.create", count, 60)
                cannon.stdin.write("fire\n")
                cannon.stdin.flush()
                rates.append(self.seen(subscriber)["per_second"])
                cpu.append((agent.cpu() - before) / count * 1e6)
                memory.append(agent.memory())
                agent.stop()
                agent.remove()
                cannon.kill()
        self.note("events/s flat out (2.9 kB, from a cannon)", "/s", rates, "", "30,000")
        self.note("    CPU of the agent an event", "µs", cpu, "", "15")
        self.note("    resident memory after it", "MB", memory, "")

    def at_rest(self) -> None:
        """Start, memory, idle CPU."""
        firsts, memory, after, idle = [], [], [], []
        for _ in range(self.repeats):
            agent = Agent(url=self.nats.url, esl_port=str(self.switch.port), node_id="bench")
            client = Client(self.nats.url)
            started = time.monotonic()
            agent.start(ready=False)
            while True:
                try:
                    client.raw("freeswitch.any", REQUEST.encode(), 0.5)
                    break
                except Exception:
                    time.sleep(0.002)
            firsts.append(time.monotonic() - started)
            client.close()
            memory.append(agent.memory())
            before = agent.cpu()
            time.sleep(3 if self.quick else 10)
            idle.append((agent.cpu() - before) / (3 if self.quick else 10) * 100)
            self.requests(50, 5000 if self.quick else 100000)
            after.append(agent.memory())
            agent.stop()
            agent.remove()
        self.note("start to first reply", "s", firsts, "1")
        self.note("resident memory at the start", "MB", memory, "30")
        self.note("resident memory after 100,000 requests", "MB", after, "30")
        self.note("CPU when idle", "%", idle, "0.5")


def main() -> None:
    """Run all measures, or those named."""
    measures = {"commands": Bench.commands, "mixed": Bench.mixed, "event_latency": Bench.event_latency,
                "event_flood": Bench.event_flood, "at_rest": Bench.at_rest}  # fmt: skip
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("measures", nargs="*", choices=[[], *measures], default=[])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="event-agent-bench-") as folder:
        load = Path(folder) / "load"
        subprocess.run(["cc", "-O2", "-o", load, ROOT / "bench" / "load.c"], check=True)
        nats = NatsServer().start()
        switch, name = _switch()
        try:
            print(f"switch: {name}; load average before: {os.getloadavg()[0]:.1f}; {os.cpu_count()} cores", flush=True)
            bench = Bench(options.repeats, options.quick, switch, nats, load)
            chosen: list[Callable[[Bench], None]] = [measures[each] for each in options.measures or measures]
            for measure in chosen:
                measure(bench)
        finally:
            switch.stop()
            nats.stop()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "results.json").write_text(json.dumps({"switch": name, "rows": bench.rows}, indent=1) + "\n")
    (options.out / "picture.svg").write_text(picture(bench.rows))
    print(f"written: {options.out}/results.json and picture.svg")


def _switch() -> tuple[Any, str]:
    found = binary()
    if found:
        return RealSwitch().start(), found
    from tests.switchsim import SwitchSim

    return SwitchSim().start(), "the simulator (FREESWITCH_BIN and PATH name no FreeSWITCH): no figure of a switch"


if __name__ == "__main__":
    main()
