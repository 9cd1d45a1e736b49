"""What `make bench` runs: the agent between a real FreeSWITCH (or the simulator) and a real nats-server, measured.

Every measure is taken several times, all peers in turn within each run, so that figures of one run can be compared.
The load comes from load.c, compiled at the start. Writes results.json, and the tables and pictures made from it, into
the folder given (default bench/out). docs/PERFORMANCE.md says what is measured and why.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

from bench import commands, events, rest
from bench.picture import pictures
from bench.report import tables
from bench.rig import ROOT, Rig
from bench.rows import Results

MEASURES = {
    "commands": commands.commands, "mixed": commands.mixed, "nodes": commands.others, "burst": commands.burst,
    "latency": events.latency, "flat_out": events.flat_out, "cannon": events.cannon, "carried": events.carried,
    "at_rest": rest.at_rest, "million": rest.million, "nudge": rest.nudge, "calls": rest.calls, "flood": rest.flood,
}  # fmt: skip


def main() -> int:
    """Run all measures, or those named; 1 where one of them failed."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=…", description=__doc__)
    parser.add_argument("measures", nargs="*", choices=[[], *MEASURES], default=[])
    parser.add_argument("--repeats", type=int, help="runs of each measure (5; quick: 1)")
    parser.add_argument("--quick", action="store_true", help="little of everything, to see that it works")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out")
    options = parser.parse_args()
    repeats = options.repeats or (1 if options.quick else 5)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = False
    with tempfile.TemporaryDirectory(prefix="event-agent-bench-") as folder:
        rig = Rig(Path(folder))
        try:
            results = Results(_meta(rig, repeats, options.quick))
            for name, value in results.meta.items():
                print(f"{name}: {value}", flush=True)
            for name in options.measures or MEASURES:
                started = time.monotonic()
                print(f"{name}:", flush=True)
                try:
                    MEASURES[name](rig, results, repeats, options.quick)
                except Exception:
                    failed = True
                    traceback.print_exc()
                    results.meta.setdefault("failed", []).append(name)
                print(f"{name} took {time.monotonic() - started:.0f} s", flush=True)
                _write(results, options.out)
        finally:
            rig.close()
    print(tables(results.as_json()))
    print(f"written: {options.out}/results.json, results.md and the pictures beside it")
    return int(failed)


def _write(results: Results, folder: Path) -> None:
    """After each measure: what was measured is not lost when a later one fails."""
    found = results.as_json()
    (folder / "results.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    (folder / "results.md").write_text(tables(found))
    for name, picture in pictures(found).items():
        (folder / name).write_text(picture)


def _meta(rig: Rig, repeats: int, quick: bool) -> dict[str, Any]:
    """What a figure is worth depends on these."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    broker = subprocess.run(["nats-server", "--version"], capture_output=True, text=True).stdout.strip()
    return {
        "switch": rig.api("version").partition("~")[0].strip() if rig.real else rig.name,
        "mod_event_agent": rig.module_says,
        "broker": broker,
        "python": platform.python_version(),
        "machine": f"{os.cpu_count()} cores, {cpu[0] if cpu else platform.machine()}, Linux {platform.release()}",
        "load average before": round(os.getloadavg()[0], 2),
        "CPU in use before": f"{_busy():.0f} % of all cores",
        "date": time.strftime("%Y-%m-%d %H:%M", time.gmtime()),
        "runs": repeats,
        "quick": quick,
    }


def _busy() -> float:
    """Percent of all cores in use, over a second in which nothing of ours does anything: who else is there."""

    def ticks() -> tuple[int, int]:
        fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]
        return sum(fields), fields[3] + fields[4]

    total, idle = ticks()
    time.sleep(1)
    later, still = ticks()
    return 100 - (still - idle) / max(1, later - total) * 100


if __name__ == "__main__":
    sys.exit(main())
