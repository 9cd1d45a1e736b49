"""What the lanes of calls cost: `python -m bench.lanes`. Calls a second, and CPU a call, with and without.

Each run makes short calls by `originate`, as many at a time as `--window` says: both legs of a loopback call begin and
end, and with lanes each is subscribed to and left. The agents take turns, one at a time. Shown are the medians of the
runs, and of the ratios of each run to that without lanes next to it: what else the machine does meets both alike. The
request itself costs the same in all of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.rig import OURS, Rig, cpu

CALL = json.dumps({"command": "originate", "endpoint": "loopback/park/default", "destination": "&hangup"})
SETTINGS: dict[str, dict[str, str]] = {
    "no lanes of calls": {"call_lanes": "false"},
    "lanes of calls, `lanes` `verbs`": {"lanes": "verbs"},
    "lanes of calls, `lanes` `all`": {},
}
WARM = 50  # calls


def measured(rig: Rig, name: str, count: int, window: int) -> tuple[float, float, float]:
    """Calls a second; CPU of the agent and of nats-server a call, in µs."""
    subject = "freeswitch.node.bench" + (".originate" if "verbs" in name else "")
    settings: dict[str, Any] = SETTINGS[name]
    with rig.agent(**settings) as agent:
        for calls in (WARM, count):
            before = cpu(agent.process), cpu(rig.nats.process), time.monotonic()
            result = rig.run("commands", "127.0.0.1", rig.nats.port, subject, CALL, calls, window)
            spent = time.monotonic() - before[2]
            used = cpu(agent.process) - before[0], cpu(rig.nats.process) - before[1]
            if result["bad"]:
                raise RuntimeError(f"{result['bad']} calls failed")
        return calls / spent, used[0] / calls * 1e6, used[1] / calls * 1e6


def main() -> int:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.lanes", description=__doc__)
    parser.add_argument("--calls", type=int, default=500, help="calls of one run (500)")
    parser.add_argument("--runs", type=int, default=9, help="runs of each (9)")
    parser.add_argument("--window", type=int, default=8, help="calls at a time (8)")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory(prefix="event-agent-bench-") as folder:
        rig = Rig(Path(folder))
        try:
            print(f"switch: {rig.name}; {options.runs} runs of {options.calls} calls, {options.window} at a time\n")
            for run in range(options.runs):
                names = list(SETTINGS)
                for name in names if run % 2 else names[::-1]:
                    found[name].append(measured(rig, name, options.calls, options.window))
            rig.api("hupall", OURS)
        finally:
            rig.close()
    print("| | calls/s | CPU of the agent a call (µs) | CPU of nats-server a call (µs) |\n|---|--:|--:|--:|")
    base = found[next(iter(SETTINGS))]
    for name, runs in found.items():
        cells = []
        for values, without in zip(zip(*runs, strict=True), zip(*base, strict=True), strict=True):
            ratio = statistics.median(one / other for one, other in zip(values, without, strict=True))
            cells.append(f"{statistics.median(values):,.0f} (× {ratio:.2f})")
        print(f"| {name} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
