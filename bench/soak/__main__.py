"""An hour of everything at one time, with a fault a minute: `python -m bench.soak [--minutes 60] [--rates 500,1000,3]`.

    FREESWITCH_BIN=/usr/bin/freeswitch python -m bench.soak --minutes 60 --rates 500,1000,3
    FREESWITCH_BIN=/usr/bin/freeswitch python -m bench.soak --minutes 20 --leave-out "event link cut"

Commands a second (by NATS, on three lanes), events a second (fired in FreeSWITCH, beside those of calls), and calls a
second (through mod_xml_curl, dialplan.route and examples/programs/router.py; each has its records, which
cdr_to_postgres.py writes into PostgreSQL). By turns each minute: the agent ended, killed and frozen, the nats-server
killed and frozen, the link to FreeSWITCH cut, PostgreSQL killed, the CDR writer killed, the router killed, nothing.

A line a minute, and at the end what was found: events and records that are missing or there twice, held against a
second event socket and against mod_cdr_csv; requests that were not answered, or wrongly, while nothing was broken; and
whether memory, descriptors, threads and subscriptions grow. What FreeSWITCH fires while the agent's link is cut can't
be seen by it: then those events and records may be missing that an AGENT_GAP has announced. `--out` gets soak.json,
soak.md and soak.svg. The exit code is 1 if anything was found. It starts all that it needs and ends it: nats-server,
FreeSWITCH with mod_cdr_csv, PostgreSQL (Debian: postgresql, python3-psycopg2).
"""

from __future__ import annotations

import argparse
import bisect
import csv
import json
import os
import re
import signal
import statistics
import sys
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bench.soak.faults import FAULTS, turns
from bench.soak.load import LIMIT
from bench.soak.parts import NODE, Load, Parts
from bench.soak.picture import picture
from tests.functional.parts import hang_up_all
from tests.functional.postgres_parts import missing
from tests.functional.real_switch import binary
from tests.support import until

SAMPLES = 5.0  # seconds between two
BEFORE = 10.0  # seconds of a minute before its fault
AFTER = 20.0  # seconds after a fault within which everything is to be as before
WARM = 60.0  # seconds of a life that count as its start
LONG = 8.0  # minutes of a life from which on it is judged
GROWN = 2.0  # MB that an agent may have grown by between its second quarter and its last
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass
class Sample:
    """Of a process, at a moment."""

    at: float
    part: str
    pid: int
    rss: float  # MB
    descriptors: int
    threads: int
    cpu: float  # seconds since its start


@dataclass
class Minute:
    """What there was in it."""

    number: int
    fault: str
    lasted: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    took: list[float] = field(default_factory=list)  # ms
    gaps: list[dict[str, Any]] = field(default_factory=list)
    cpu: dict[str, float] = field(default_factory=dict)  # % of a core
    subscriptions: int = 0
    pending: int = 0  # events fired and not yet in the stream, at its end

    def latency(self, share: float) -> float:
        ordered = sorted(self.took)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def sample(part: str, pid: int) -> Sample | None:
    with suppress(OSError, AttributeError, IndexError):  # it has just ended
        status = Path(f"/proc/{pid}/status").read_text()
        rss, threads = (int(re.search(rf"{name}:\s+(\d+)", status).group(1)) for name in ("VmRSS", "Threads"))  # type: ignore[union-attr]
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        used = (int(fields[11]) + int(fields[12])) / TICKS
        return Sample(time.time(), part, pid, rss / 1024, len(os.listdir(f"/proc/{pid}/fd")), threads, used)
    return None


class Soak:
    """A run."""

    def __init__(self, parts: Parts, options: argparse.Namespace) -> None:
        self.parts, self.options = parts, options
        self.samples: list[Sample] = []
        self.minutes: list[Minute] = []
        self.windows: list[tuple[float, float]] = []  # when something was broken, and the time to mend it
        self.bad: list[tuple[float, str, str]] = []  # what requests met
        self.stored: dict[str, Any] = {}
        self.witnessed: dict[str, Any] = {}
        self.sequences: list[tuple[float, int]] = []  # when, and the last Event-Sequence by then
        self.gaps: list[dict[str, Any]] = []
        self.fired: dict[str, int] = {}
        self.findings: list[str] = []
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, name="sampler")
        rates = options.rates
        ports = parts.switch.port, parts.nats.port
        self.files = {name: parts.folder / name for name in ("witness", "stored")}
        self.witness = Load(self._witnessed, "witness", ports[0], self.files["witness"])
        self.reader = Load(self._stored, "stored", ports[1], self.files["stored"])
        until(lambda: self.witnessed and self.stored, "the witnesses have begun", 30)
        parts.settle()
        self.base = parts.subscriptions()
        self.began = time.time()
        self.loads = [
            Load(self._commands, "commands", ports[1], rates[0], NODE),
            Load(self._fired, "fire", ports[0], rates[1], rates[2]),
        ]
        self._sampler.start()

    # -- what the load says

    def _commands(self, found: dict[str, Any]) -> None:
        with self._lock:
            if self.minutes:
                self.minutes[-1].counts.update(found["counts"])
                self.minutes[-1].took += found["took"]
            self.bad += [(at, kind, more) for at, kind, more in found["bad"]]

    def _fired(self, found: dict[str, Any]) -> None:
        self.fired = found

    def _witnessed(self, found: dict[str, Any]) -> None:
        self.witnessed = found
        self.sequences.append((found["at"], found["last"]))

    def _stored(self, found: dict[str, Any]) -> None:
        with self._lock:
            self.stored = found
            self.gaps += found["gaps"]
            if self.minutes:
                self.minutes[-1].gaps += found["gaps"]

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLES):
            pids = self.parts.pids() | {load.name: load.pid for load in (*self.loads, self.witness, self.reader)}
            self.samples += [found for part, pid in pids.items() if (found := sample(part, pid))]

    # -- the minutes

    def run(self) -> None:
        names = turns(tuple(self.options.leave_out))
        begin = time.monotonic()
        for number in range(1, int(self.options.minutes) + 1):
            self._minute(Minute(number, self.options.only or next(names)), begin + number * 60)

    def _minute(self, minute: Minute, end: float) -> None:
        before = self._used()
        began = time.monotonic()
        with self._lock:
            self.minutes.append(minute)
        time.sleep(max(0.0, end - 60 + BEFORE - time.monotonic()))
        at, since = time.time(), time.monotonic()
        FAULTS[minute.fault](self.parts)
        minute.lasted = time.monotonic() - since
        if minute.fault != "none":
            with self._lock:
                self.windows.append((at, time.time()))
        time.sleep(max(0.0, end - time.monotonic()))
        for load in (*self.loads, self.witness, self.reader):
            load.check()
        minute.subscriptions = self.parts.subscriptions().total()
        minute.pending = self.witnessed["count"] - self.stored["count"]
        took = time.monotonic() - began
        minute.cpu = {part: (used - before.get(part, 0.0)) / took * 100 for part, used in self._used().items()}
        print(self.line(minute), flush=True)

    def _used(self) -> dict[str, float]:
        """Seconds of CPU of each part so far, over all its lives."""
        lives: dict[tuple[str, int], float] = {}
        for each in list(self.samples):
            lives[each.part, each.pid] = each.cpu
        found: Counter[str] = Counter()
        for (part, _), used in lives.items():
            found[part] += used  # type: ignore[assignment]
        return dict(found)

    def line(self, minute: Minute) -> str:
        counts = minute.counts
        with self._lock:
            broken = Counter(kind for at, kind, _ in self.bad if self._broken(at))
            odd = Counter(kind for at, kind, _ in self.bad if not self._broken(at))
        since = self.began + (minute.number - 1) * 60
        own = [each for each in self.samples if each.part == "agent" and since <= each.at < since + 60]
        memory = f"{min(each.rss for each in own):.1f}-{max(each.rss for each in own):.1f}" if own else "?"
        gaps = Counter(gap["reason"] for gap in minute.gaps)
        announced = ", ".join(f"{count} {reason}" for reason, count in gaps.items()) or "none"
        cpu = ", ".join(f"{part} {minute.cpu.get(part, 0.0):.0f}" for part in ("agent", "FreeSWITCH", "nats-server"))
        return (
            f"{minute.number:3} {minute.fault:18} {counts['sent']:6} sent {counts['good']:6} good "
            f"{counts['cut']:4} cut {counts['nobody']:4} nobody {counts['failed']:4} failed {counts['silent']:3} "
            f"silent; {minute.latency(0.5):.1f} {minute.latency(0.99):.0f} ms; behind {minute.pending}; "
            f"gaps: {announced}; agent {memory} MB, {max((each.descriptors for each in own), default=0)} fds, "
            f"{max((each.threads for each in own), default=0)} threads; {minute.subscriptions} subs; CPU % {cpu}; "
            f"so far {sum(odd.values())} odd, {sum(broken.values())} under faults"
        )

    def _broken(self, at: float) -> bool:
        """Whether a request sent then may have met a fault."""
        return any(begin - LIMIT <= at <= end + AFTER for begin, end in self.windows)

    # -- the end

    def end(self) -> None:
        """No more load: what is under way arrives."""
        for load in self.loads:
            load.end()
        hang_up_all(self.parts.switch.port)
        quiet = -1
        while quiet != self.witnessed["last"]:
            quiet = self.witnessed["last"]
            time.sleep(3.0)
        with suppress(AssertionError):  # the comparison says what is missing
            until(lambda: self.stored["last"] >= self.witnessed["last"], "the last event is in the stream", 120)
        self.compare_records()
        self.parts.settle()
        self.after = self.parts.subscriptions()
        self.witness.end()
        self.reader.end()
        self._ended.set()
        self._sampler.join()
        self.compare_events()
        self.requests()
        self.growth()
        if re.search("Traceback|unhandled exception", self.parts.agent.log):
            self.findings.append("the agent's log has an exception")
        for path in self.parts.folder.glob("*.out"):
            if "Traceback" in path.read_text(errors="replace"):
                self.findings.append(f"{path.name} has an exception:\n{path.read_text(errors='replace')[-1500:]}")

    def stop(self) -> None:
        """Whatever has happened."""
        self._ended.set()
        for load in (*self.loads, self.witness, self.reader):
            load.end()

    def compare_events(self) -> None:
        sent, found = (self.files[name].read_bytes() for name in ("witness", "stored"))
        found += bytes(max(0, len(sent) - len(found)))
        missing = [number for number, count in enumerate(sent) if count and not found[number]]
        twice = sum(count > 1 for count in found)
        announced = [gap for gap in self.gaps if gap["from_sequence"] is not None and gap["to_sequence"] is not None]
        silent = [number for number in missing
                  if not any(gap["from_sequence"] <= number <= gap["to_sequence"] for gap in announced)]  # fmt: skip
        total = sum(1 for count in sent if count)
        self.events = {"fired": total, "missing": len(missing), "announced": len(missing) - len(silent), "twice": twice}
        if silent:
            moments = [at for at, _ in self.sequences]
            numbers = [last for _, last in self.sequences]
            where = Counter(self._minute_of(moments[min(bisect.bisect_left(numbers, each), len(moments) - 1)])
                            for each in silent)  # fmt: skip
            self.findings.append(f"{len(silent)} events are missing and not announced, by minutes: {dict(where)}; "
                                 f"the first: {silent[:20]}")  # fmt: skip
        if twice:
            self.findings.append(f"{twice} events are in the stream twice")

    def _minute_of(self, at: float) -> int:
        return int((at - self.began) // 60) + 1

    def compare_records(self) -> None:
        """The table in PostgreSQL with mod_cdr_csv's file."""
        path = self.parts.switch.folder / "log" / "cdr-csv" / "Master.csv"

        def rows() -> dict[str, int]:
            with open(path, newline="", encoding="utf-8") as file:
                return {row[0]: int(row[6]) for row in csv.reader(file) if row}

        def table() -> list[str]:
            return [uuid for (uuid,) in self.parts.postgres.query("select uuid from cdr")]

        def unannounced() -> list[str]:
            have, spans = set(table()), [(gap["from"], gap["to"]) for gap in self.gaps if gap["reason"] == "unseen"]
            left = [(uuid, ended) for uuid, ended in rows().items() if uuid not in have]
            return [uuid for uuid, ended in left if not any(a - 1e6 <= ended <= b + 1e6 for a, b in spans)]

        with suppress(AssertionError):  # said below
            until(unannounced, "all records are there", 120, holds=lambda left: not left)
        found, expected, lost = table(), rows(), unannounced()
        self.records = {
            "mod_cdr_csv": len(expected), "PostgreSQL": len(found), "missing": len(set(expected) - set(found)),
            "missing, announced": len(set(expected) - set(found)) - len(lost), "twice": len(found) - len(set(found)),
            "rejected": int(self.parts.postgres.query("select count(*) from cdr_rejected")[0][0]),
        }  # fmt: skip
        if lost:
            when = Counter(self._minute_of(expected[uuid] / 1e6) for uuid in lost)
            self.findings.append(f"{len(lost)} records are missing, by minutes: {dict(when)}; {lost[:5]}")
        if self.records["twice"] or self.records["rejected"] or set(found) - set(expected):
            self.findings.append(f"records: {self.records}, {len(set(found) - set(expected))} unknown to mod_cdr_csv")

    def requests(self) -> None:
        """What was answered wrongly, or not, while nothing was broken; and what is wrong at any time."""
        wrong = [(at, kind, more) for at, kind, more in self.bad
                 if kind in ("twice", "wrong", "figure") or not self._broken(at)]  # fmt: skip
        kinds = Counter(kind for _, kind, _ in wrong)
        for kind, count in kinds.items():
            first = [(self._minute_of(at), more) for at, each, more in wrong if each == kind][:5]
            self.findings.append(f"{count} requests {kind}; minute and more of the first: {first}")

    def growth(self) -> None:
        """Of the longest life of the agent, and of what lived all the time."""
        lives: dict[tuple[str, int], list[Sample]] = {}
        for each in self.samples:
            lives.setdefault((each.part, each.pid), []).append(each)
        self.lives: list[dict[str, Any]] = []
        for (part, pid), found in lives.items():
            if part in ("commands", "fire", "witness", "stored"):
                continue
            steady = [each for each in found if each.at >= found[0].at + WARM]
            if len(steady) < 8:
                continue
            quarter = len(steady) // 4
            early, late = steady[quarter : 2 * quarter], steady[-quarter:]
            life: dict[str, Any] = {"part": part, "pid": pid, "minutes": (found[-1].at - found[0].at) / 60}
            for name in ("rss", "descriptors", "threads"):
                life[name] = [statistics.median(getattr(each, name) for each in some) for some in (early, late)]
            life["most rss"] = max(each.rss for each in found)
            self.lives.append(life)
            if part != "agent" or life["minutes"] < LONG:
                continue
            if life["rss"][1] - life["rss"][0] > GROWN:
                self.findings.append(f"an agent grew from {life['rss'][0]:.1f} to {life['rss'][1]:.1f} MB")
            for name in ("descriptors", "threads"):
                if life[name][1] > life[name][0] + 3:
                    self.findings.append(f"an agent's {name} grew from {life[name][0]:g} to {life[name][1]:g}")
        if self.after != self.base:
            more, fewer = self.after - self.base, self.base - self.after
            self.findings.append(f"subscriptions: since the load began more {dict(more)}, fewer {dict(fewer)}")

    def report(self) -> str:
        sent = sum((minute.counts for minute in self.minutes), Counter())
        took = sorted(each for minute in self.minutes for each in minute.took)
        gaps: Counter[str] = Counter()
        for gap in self.gaps:
            gaps[gap["reason"]] += gap["count"] or 0
        lines = [
            f"{len(self.minutes)} minutes, {'/'.join(f'{rate:g}' for rate in self.options.rates)} commands, events and "
            f"calls a second; faults: {dict(Counter(minute.fault for minute in self.minutes))}",
            f"requests: {dict(sent)}"
            + (f"; median {took[len(took) // 2]:.1f} ms, 99th {took[len(took) * 99 // 100]:.0f} ms" if took else ""),
            f"events: {self.events}; gaps announced: {dict(gaps) or 'none'}; the agent's own: {self.stored['own']}",
            f"fired by the load: {self.fired}",
            f"records: {self.records}",
            f"subscriptions: {self.base.total()} before, {self.after.total()} after",
        ]
        for life in self.lives:
            lines.append(
                f"{life['part']}, {life['minutes']:.0f} minutes: {life['rss'][0]:.1f} MB in its second quarter, "
                f"{life['rss'][1]:.1f} in its last, {life['most rss']:.1f} at most; descriptors "
                f"{life['descriptors'][0]:g}, {life['descriptors'][1]:g}; threads "
                f"{life['threads'][0]:g}, {life['threads'][1]:g}"
            )
        failed = Counter(more for _, kind, more in self.bad if kind == "failed")
        for more, count in failed.most_common(8):
            lines.append(f"failed, {count}: {more}")
        lines += [f"FOUND: {each}" for each in self.findings] or ["nothing was found"]
        return "\n".join(lines)

    def write(self, out: Path) -> None:
        out.mkdir(parents=True, exist_ok=True)
        minutes = [{**vars(each), "took": [each.latency(0.5), each.latency(0.99)]} for each in self.minutes]
        samples = [{**asdict(each), "at": round(each.at - self.began, 1)} for each in self.samples]
        found = {"rates": self.options.rates, "minutes": minutes, "samples": samples, "findings": self.findings,
                 "bad": self.bad}  # fmt: skip
        (out / "soak.json").write_text(json.dumps(found))
        text = [self.line(minute) for minute in self.minutes]
        (out / "soak.md").write_text("\n".join(["```", *text, "", self.report(), "```", ""]))
        (out / "soak.svg").write_text(picture(found))
        (out / "agent.log").write_text(self.parts.agent.log)


def rates(text: str) -> list[float]:
    found = [float(each) for each in text.split(",")]
    if len(found) != 3 or min(found) < 0:
        raise ValueError
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="bench.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=int, default=60, help="how long (%(default)s)")
    parser.add_argument("--rates", type=rates, default=[500, 1000, 3], help="commands, events, calls a second")
    parser.add_argument("--out", type=Path, default=Path("bench/out/soak"), help="folder for the report (%(default)s)")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the agent")
    parser.add_argument("--leave-out", action="append", default=[], choices=list(FAULTS), help="not this fault")
    parser.add_argument("--only", choices=list(FAULTS), help="this fault each minute")
    options = parser.parse_args()
    if lacks := missing() or ("" if binary() else "no FreeSWITCH: FREESWITCH_BIN and PATH name none"):
        print(f"bench.soak: {lacks}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    parts = Parts(dict(each.split("=", 1) for each in options.set))
    try:
        soak = Soak(parts, options)
        try:
            try:
                soak.run()
            except KeyboardInterrupt:  # what there is by then is reported
                pass
            except Exception as error:
                soak.findings.append(f"the run ended early: {type(error).__name__}: {error}")
            soak.end()
            soak.write(options.out)
            print(soak.report(), flush=True)
        finally:
            soak.stop()
    finally:
        parts.close()
    return 1 if soak.findings else 0


if __name__ == "__main__":
    sys.exit(main())
