"""Reads side by side: `python -m bench.reads --base DIR`, DIR being another checkout (1.0.0, say).

Requests a second with many in flight, in turn on one FreeSWITCH and one nats-server: the base, this checkout with
`lanes_read` off and with each of `--reads`, and one connection of the raw event socket. Shown are the medians, and the
medians of the ratios within the rounds; what else the machine does meets all of a round alike. And what a command costs
each part in CPU, and what the cores had nothing to do, as in the end that decides. The kernel's work for loopback
connections is in no part's figure: where the cores are full, the parts' sum is less than what there is.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from bench.pairs import Checkout
from bench.rig import REQUEST, ROOT, Rig, cores, cpu

RAW = "raw"
COUNT = 20_000


def measure(rig: Rig, name: str, agent: Checkout | None, window: int, count: int) -> tuple[float, ...]:
    """Requests a second; µs of CPU of the agent, FreeSWITCH, nats-server and the load generator for each; and how many
    of 100 all cores were idle."""
    parts = [agent.process if agent else None, getattr(rig.switch, "process", None), rig.nats.process]
    before, rested, began = [cpu(each) for each in parts], cores()[1], time.monotonic()
    if agent is None:
        result = rig.run("esl", "127.0.0.1", rig.switch.port, rig.switch.password, "version", count, window)
    else:
        result = rig.run("commands", "127.0.0.1", rig.nats.port, f"{name}.node.{name}", REQUEST, count, window)
    if result["bad"]:
        raise RuntimeError(f"{name} answered {result['bad']} requests with an error")
    rested = (cores()[1] - rested) / (time.monotonic() - began) / (os.cpu_count() or 1) * 100
    costs = [(cpu(each) - start) / count * 1e6 for each, start in zip(parts, before, strict=True)]
    return (float(result["per_second"]), *costs, float(result["own_cpu_us"]), rested)


def main() -> int:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.reads", description=__doc__)
    parser.add_argument("--base", type=Path, help="the other checkout")
    parser.add_argument("--reads", default="2,3,4", help="values of lanes_read (2,3,4)")
    parser.add_argument("--windows", default="50,200", help="in flight (50,200)")
    parser.add_argument("--rounds", type=int, default=15, help="rounds (15)")
    parser.add_argument("--count", type=int, default=COUNT, help=f"requests in each run ({COUNT})")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="event-agent-bench-") as folder, ExitStack() as stack:
        rig = Rig(Path(folder))
        stack.callback(rig.close)
        links = {"url": rig.nats.url, "esl_port": str(rig.switch.port), "dialplan_listen": "off", "exclude": "API"}
        trees: dict[str, tuple[Path, dict[str, str]]] = {}
        if options.base:
            trees["base"] = options.base.resolve(), {}
        trees["off"] = (ROOT, {})
        trees |= {f"reads{each}": (ROOT, {"lanes_read": each}) for each in options.reads.split(",")}
        agents: dict[str, Checkout | None] = {}
        for name, (tree, more) in trees.items():
            agent = Checkout(tree, name, **links, **more)
            stack.callback(agent.remove)
            agent.environ.pop("MOD_EVENT_AGENT_HTTP_LISTEN")  # it goes by two names
            agents[name] = agent
            agent.start()
            stack.callback(agent.stop)
        agents[RAW] = None
        print(f"switch: {rig.name}\n\n| in flight | | requests a second | to the first | to raw | µs of CPU: agent, "
              "FreeSWITCH, nats-server, load | idle, % |\n|--:|---|--:|--:|--:|---|--:|", flush=True)  # fmt: skip
        for window in map(int, options.windows.split(",")):
            show(window, rounds(rig, agents, window, options))
    return 0


def rounds(
    rig: Rig, agents: dict[str, Checkout | None], window: int, options: argparse.Namespace
) -> dict[str, list[tuple[float, ...]]]:
    """What each was measured at in each round."""
    found: dict[str, list[tuple[float, ...]]] = {name: [] for name in agents}
    names = list(agents)
    for name in names:
        measure(rig, name, agents[name], window, options.count)  # warmed up
    for at in range(options.rounds):
        for name in names[at % len(names) :] + names[: at % len(names)]:
            found[name].append(measure(rig, name, agents[name], window, options.count))
    return found


def show(window: int, found: dict[str, list[tuple[float, ...]]]) -> None:
    """A row for each."""
    first = next(iter(found.values()))
    for name, values in found.items():
        rates = [each[0] for each in values]
        to_first, to_raw = (
            statistics.median(mine / other[0] for mine, other in zip(rates, others, strict=True))
            for others in (first, found[RAW])
        )
        *costs, rested = (statistics.median(each) for each in list(zip(*values, strict=True))[1:])
        print(f"| {window} | {name} | {statistics.median(rates):,.0f} | {to_first:.2f} | {to_raw:.2f} | "
              f"{', '.join(f'{each:.1f}' for each in costs)} | {rested:.0f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
