"""Where the microseconds of a lone command go: `python -m bench.lone [--rounds 40] [--out bench/out]`.

The same command, one at a time, by all ways in turn: FreeSWITCH's own event socket; NATS with somebody who answers at
once; both, with the least program there can be between them (relay.c); the agent; and mod_event_agent, where FreeSWITCH
can load it. A row each, and lone.svg: what of the agent's latency is FreeSWITCH's, what NATS and any program between
the two cost, and what is the agent's own.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path

from bench.rig import MODULE, NATS, OURS, RAW, REQUEST, ROOT, Rig

RELAY = "a relay in C"
COUNT = 1000  # requests a run
PARTS = {"FreeSWITCH": "#8a8a8a", "NATS": "#2e8b57", "NATS and any program between": "#2e8b57", "the agent": "#1f5fbf"}
WIDTH, LEFT, BAR = 860, 150, 26


@contextmanager
def relay(rig: Rig, folder: Path) -> Iterator[None]:
    """The least program between NATS and FreeSWITCH, on `bench.relay`."""
    program = folder / "relay"
    subprocess.run(["cc", "-O2", "-o", program, ROOT / "bench" / "relay.c"], check=True)
    command = [
        program, "127.0.0.1", str(rig.nats.port), "bench.relay", str(rig.switch.port), rig.switch.password, "version",
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def measured(rig: Rig, folder: Path, rounds: int) -> dict[str, list[float]]:
    """Median latencies of each round, in µs."""
    with rig.agent() as _, rig.client() as client, relay(rig, folder):
        body = client.raw("freeswitch.any", REQUEST.encode()).data.decode()
        with rig.echo(body):
            peers = [RAW, NATS, RELAY, OURS, *rig.peers(MODULE)]
            found: dict[str, list[float]] = {peer: [] for peer in peers}
            for run in range(rounds + 1):
                for peer in peers[run % len(peers) :] + peers[: run % len(peers)]:
                    latency = _median(rig, peer)
                    if run:  # the first one warms up
                        found[peer].append(latency)
    return found


def _median(rig: Rig, peer: str) -> float:
    if peer != RELAY:
        return float(rig.requests(peer, 1, COUNT)["p50_us"])
    result = rig.run("commands", "127.0.0.1", rig.nats.port, "bench.relay", REQUEST, COUNT, 1)
    assert not result["bad"], result
    return float(result["p50_us"])


def split(found: dict[str, float]) -> dict[str, dict[str, float]]:
    """For each peer its parts, in µs: what the peer before it takes is taken off."""
    between = {"FreeSWITCH": found[RAW], "NATS and any program between": max(0.0, found[RELAY] - found[RAW])}
    return {
        RAW: {"FreeSWITCH": found[RAW]},
        NATS: {"NATS": found[NATS]},
        RELAY: between,
        OURS: {**between, "the agent": max(0.0, found[OURS] - max(found[RAW], found[RELAY]))},
    }


def picture(found: dict[str, float], says: str) -> str:
    """A bar for each peer, as SVG."""
    most = max(max(found.values()), 3 * found[RAW])
    scale = (WIDTH - LEFT - 70) / most  # with room for the last bar's text
    lines, y = [], 34
    bars = split(found) | {peer: {peer: value} for peer, value in found.items() if peer == MODULE}
    for peer, parts in bars.items():
        x = float(LEFT)
        lines.append(f'<text x="{LEFT - 8}" y="{y + 17}" text-anchor="end">{escape(peer)}</text>')
        for part, value in parts.items():
            width = value * scale
            colour = PARTS.get(part, "#d2691e")
            lines.append(f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{colour}"/>')
            if width > 22:
                lines.append(f'<text x="{x + 5:.1f}" y="{y + 17}" fill="#fff">{value:.0f}</text>')
            x += width
        lines.append(f'<text x="{x + 5:.1f}" y="{y + 17}">{found[peer]:.0f} µs</text>')
        y += BAR + 8
    for times in (1, 2, 3):
        x = LEFT + times * found[RAW] * scale
        lines.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="26" y2="{y}" stroke="#444" stroke-dasharray="3 4"/>')
        lines.append(f'<text x="{x:.1f}" y="20" text-anchor="middle">{times} × raw</text>')
    x = float(LEFT)
    for part, colour in PARTS.items():
        if part == "NATS":  # it has the colour of the next one
            continue
        lines.append(f'<rect x="{x:.0f}" y="{y + 8}" width="12" height="12" fill="{colour}"/>')
        lines.append(f'<text x="{x + 17:.0f}" y="{y + 18}">{escape(part)}</text>')
        x += 40 + 6.2 * len(part)
    lines.append(f'<text x="{LEFT}" y="{y + 38}" fill="#555">{escape(says)}</text>')
    size = f'width="{WIDTH}" height="{y + 48}" viewBox="0 0 {WIDTH} {y + 48}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *lines, "</svg>"]) + "\n"


def main() -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m bench.lone", description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="runs of 1,000 requests by each way (40)")
    parser.add_argument("--out", type=Path, default=ROOT / "bench" / "out")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="event-agent-bench-") as folder:
        rig = Rig(Path(folder))
        try:
            found = measured(rig, Path(folder), options.rounds)
        finally:
            rig.close()
    print(f"switch: {rig.name}\n\n| | median, µs | to the raw event socket |\n|---|--:|--:|")
    for peer, values in found.items():
        ratios = [a / b for a, b in zip(values, found[RAW], strict=True)]
        low, middle, high = (sorted(values)[round(at * (len(values) - 1))] for at in (0.1, 0.5, 0.9))
        print(f"| {peer} | {middle:.0f} ({low:.0f} … {high:.0f}) | {statistics.median(ratios):.2f} |")
    medians = {peer: statistics.median(values) for peer, values in found.items()}
    says = f"median latency of a lone command in µs, {rig.name.rpartition('/')[2]}, {options.rounds} rounds in turn"
    (options.out / "lone.svg").write_text(picture(medians, says))
    return 0


if __name__ == "__main__":
    sys.exit(main())
