"""Two checkouts of this program side by side: `python -m bench.pairs --base DIR`, DIR being the other one.

Both agents run at the same time, on one FreeSWITCH and one nats-server, with subjects of their own. Many short runs are
taken in turn, the one first and then the other; each pair gives one ratio. Shown are the median of all, and between
which two the true one lies (95 of 100 times). What else the machine does meets both runs of a pair alike, or neither of
most; pairs in which it did more than `--others` are left out. Then each is run once more while its calls and the
interpreter's steps are counted, which a load hardly changes.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from bench.rig import OURS, REQUEST, ROOT, Rig, cores, cpu, seen
from tests.functional.parts import Agent
from tests.support import until

THIS, BASE = "this", "base"
PAIRS = {1: 150, 8: 600, 50: 2000}
"""In flight: how many requests a run."""
FEWEST = 8  # pairs that are left; with fewer all are taken
COUNTED = {1: 300, 50: 2000}
EVENTS = 2000  # a run
FLAT_OUT = 38 * 2500  # recorded events a run: whole calls
RATE = 200.0  # events a second while they are counted


class Checkout(Agent):
    """The agent of a checkout, with its own sample file; run by this one's Python."""

    def __init__(self, tree: Path, name: str, counts: str = "", **settings: str) -> None:
        """`counts`: "calls" or "steps", where these are to be counted."""
        super().__init__(node_id=name, subject_prefix=name, **settings)
        self.name = name
        self.out = self.folder / "counts"
        config = ["-c", str(tree / "etc" / "event_agent.conf.xml")]
        counted = [str(ROOT / "bench" / "counted.py"), str(tree), str(self.out), counts]
        self.command = [sys.executable, *(counted if counts else [str(tree / "event_agent.py")]), *config]

    def start(self, *, ready: bool = True) -> Agent:
        """See Agent."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder
            )
        for line in ("NATS connected", "FreeSWITCH connected", "FreeSWITCH events: subscribed"):
            self.logged(line, timeout=60)
        return self

    def counted(self, thread: str) -> dict[str, int]:
        """What a thread did since the last call, if it is counted."""
        self.out.unlink(missing_ok=True)
        assert self.process
        os.kill(self.process.pid, signal.SIGUSR1)
        until(self.out.exists, "counts", 60)
        return dict(json.loads(self.out.read_text()).get(thread, {}))


@contextmanager
def agents(rig: Rig, base: Path, settings: dict[str, str], counts: str = "") -> Iterator[list[Checkout]]:
    """Both, this one first."""
    links = {
        "url": rig.nats.url, "esl_port": str(rig.switch.port), "dialplan_listen": "off", "exclude": "API",
    }  # fmt: skip
    with ExitStack() as stack:
        both = [Checkout(tree, name, counts, **links | settings) for tree, name in ((ROOT, THIS), (base, BASE))]
        for each in both:
            stack.callback(each.remove)
            each.environ.pop("MOD_EVENT_AGENT_HTTP_LISTEN")  # it goes by two names
            each.start()
        yield both
        for each in both:
            each.stop()


class Others:
    """What share of all cores others than the parts of this measurement use."""

    def __init__(self, rig: Rig, agents: list[Checkout]) -> None:
        self._processes = [rig.nats.process, *(each.process for each in agents)]
        self._processes += [getattr(each, "process", None) for each in (rig.switch, rig.module_switch)]
        self._cores = os.cpu_count() or 1
        self._last = self._now()

    def _now(self) -> tuple[float, float]:
        """Seconds of CPU that all have used but us, and the time."""
        busy, _ = cores()
        ours = sum(map(cpu, self._processes)) + sum(os.times()[:4])
        return busy - ours, time.monotonic()

    def share(self) -> float:
        """Since the last time."""
        (busy, then), self._last = self._last, self._now()
        return max(0.0, self._last[0] - busy) / max(1e-3, self._last[1] - then) / self._cores


def requests(rig: Rig, agent: Checkout, window: int, count: int) -> tuple[float, float]:
    """Median latency and the agent's CPU for each of so many requests, in µs."""
    before = cpu(agent.process)
    subject = f"{agent.name}.node.{agent.name}"
    result = rig.run("commands", "127.0.0.1", rig.nats.port, subject, REQUEST, count, window)
    if result["bad"]:
        raise RuntimeError(f"{agent.name} answered {result['bad']} requests with an error")
    return float(result["p50_us"]), (cpu(agent.process) - before) / count * 1e6


def compare(rig: Rig, both: list[Checkout], pairs: int, most: float) -> None:
    """Latency and CPU of commands; CPU of events, which both get at the same time."""
    for agent in both:
        requests(rig, agent, 8, 3000)  # warmed up
    others = Others(rig, both)
    for window, count in PAIRS.items():
        found: dict[str, list[tuple[float, float]]] = {THIS: [], BASE: []}
        loads: list[float] = []
        others.share()
        for run in range(pairs):
            for agent in both if run % 2 else both[::-1]:
                found[agent.name].append(requests(rig, agent, window, count))
            loads.append(others.share())
        kept = quiet(loads, most)
        for at, what in enumerate(("median latency (µs)", "CPU of the agent a command (µs)")):
            show(
                f"{what}, {window} in flight", *([found[name][pair][at] for pair in kept] for name in (THIS, BASE))
            )
    used: dict[str, list[float]] = {THIS: [], BASE: []}
    loads = []
    others.share()
    for _ in range(pairs):
        before = [cpu(agent.process) for agent in both]
        rig.fire(OURS, EVENTS, 0)
        for agent, start in zip(both, before, strict=True):
            used[agent.name].append((cpu(agent.process) - start) / EVENTS * 1e6)
        loads.append(others.share())
    kept = quiet(loads, most)
    show("CPU of the agent an event (µs)", *([used[name][pair] for pair in kept] for name in (THIS, BASE)))


def flat_out(rig: Rig, base: Path, settings: dict[str, str], pairs: int) -> None:
    """CPU of events that come as fast as they are taken, recorded ones: of whole calls, and one over and over."""
    with ExitStack() as stack:
        both: list[tuple[Checkout, Any]] = []
        for tree, name in ((ROOT, THIS), (base, BASE)):
            port, gun = stack.enter_context(rig.cannon(FLAT_OUT))
            agent = Checkout(tree, name, url=rig.nats.url, esl_port=port, **settings)
            stack.callback(agent.remove)
            agent.environ.pop("MOD_EVENT_AGENT_HTTP_LISTEN")  # it goes by two names
            agent.start()
            both.append((agent, gun))
        for way in ("calls", "one"):
            used: dict[str, list[float]] = {THIS: [], BASE: []}
            for run in range(pairs + 1):
                for agent, gun in both if run % 2 else both[::-1]:
                    before = cpu(agent.process)
                    where = ("127.0.0.1", rig.nats.port, f"{agent.name}.events.>", FLAT_OUT, 60)
                    with rig.background("events", *where) as subscriber:
                        gun.stdin.write(f"{way}\n")
                        gun.stdin.flush()
                        result = seen(subscriber)
                    assert gun.stdout.readline() == "fired\n" and result["count"] == FLAT_OUT, result
                    if run:  # the first one warms up
                        used[agent.name].append((cpu(agent.process) - before) / FLAT_OUT * 1e6)
            what = "of whole calls" if way == "calls" else "CHANNEL_CREATE"
            show(f"CPU of the agent an event (µs), recorded, {what}", used[THIS], used[BASE])


def quiet(loads: list[float], most: float) -> list[int]:
    """The numbers of the pairs in which others did not use more than this share of the cores; all, if they are few."""
    kept = [pair for pair, load in enumerate(loads) if load <= most]
    return kept if len(kept) >= FEWEST else list(range(len(loads)))


def show(what: str, this: list[float], base: list[float]) -> None:
    """One row: both medians, and of the ratios of the pairs the median and where it lies in 95 of 100 cases."""
    ratios = sorted(a / b for a, b in zip(this, base, strict=True))
    apart = 0.98 * len(ratios) ** 0.5  # the median of such samples is this far away at most, in places
    low, high = (ratios[min(max(0, round(len(ratios) / 2 - 0.5 + way * apart)), len(ratios) - 1)] for way in (-1, 1))
    print(
        f"| {what} | {statistics.median(this):.1f} | {statistics.median(base):.1f} "
        f"| {statistics.median(ratios):.3f} ({low:.3f} … {high:.3f}) | {len(ratios)} |", flush=True,
    )  # fmt: skip


def count(rig: Rig, both: list[Checkout]) -> None:
    """Calls or steps for each command and each event."""
    for agent in both:
        requests(rig, agent, 1, 300)
    for window, number in COUNTED.items():
        done: list[dict[str, int]] = []
        for agent in both:
            agent.counted("io")
            requests(rig, agent, window, number)
            done.append(agent.counted("io"))
        rows(f"a command, {window} in flight", done, number)
    for agent in both:
        agent.counted("io")
    rig.fire(OURS, EVENTS, RATE)
    rows("an event", [agent.counted("esl-events") for agent in both], EVENTS)


def rows(what: str, done: list[dict[str, int]], number: int) -> None:
    """A row for each kind of count."""
    for kind in done[0]:
        this, base = (each.get(kind, 0) / number for each in done)
        print(f"| {kind} {what} | {this:.1f} | {base:.1f} | {this / base if base else 0:.3f} | |", flush=True)


def main() -> int:
    """Compare this checkout with another."""
    parser = argparse.ArgumentParser(prog="python -m bench.pairs", description=__doc__)
    parser.add_argument("--base", type=Path, required=True, help="the other checkout")
    parser.add_argument("--pairs", type=int, default=150, help="pairs of runs for each measure (150)")
    parser.add_argument(
        "--others", type=float, default=0.15, metavar="SHARE",
        help="of all cores, that others may use during a pair for it to count (0.15)",
    )  # fmt: skip
    parser.add_argument("--flat-out", type=int, default=20, metavar="PAIRS", help="of recorded events flat out (20)")
    parser.add_argument("--counts", choices=("yes", "no", "only"), default="yes", help="count calls and steps, too")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of both")
    options = parser.parse_args()
    settings: dict[str, Any] = dict(each.split("=", 1) for each in options.set)
    base = options.base.resolve()
    with tempfile.TemporaryDirectory(prefix="event-agent-bench-") as folder:
        rig = Rig(Path(folder))
        try:
            print(f"switch: {rig.name}\n\n| | this | base | this to base | pairs |\n|---|--:|--:|--:|--:|", flush=True)
            if options.counts != "only":
                with agents(rig, base, settings) as both:
                    if options.pairs:
                        compare(rig, both, options.pairs, options.others)
            if options.flat_out:
                flat_out(rig, base, settings, options.flat_out)
            for counts in ("calls", "steps") if options.counts != "no" else ():
                with agents(rig, base, settings, counts) as both:
                    count(rig, both)
        finally:
            rig.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
