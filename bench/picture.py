"""The bench's pictures, plain SVG: throughput and latency over requests in flight, and the latency of events."""

from __future__ import annotations

import math
from html import escape
from typing import Any

from bench.rows import Row, from_json, number

COLOURS = {
    "event-agent": "#1f5fbf", "raw event socket": "#8a8a8a", "mod_event_agent": "#d2691e",
    "nats-server alone": "#2e8b57", "event-agent, never nudged": "#8fb4e8",
    "raw event socket, nudged": "#5f5f5f", "raw event socket, never nudged": "#bdbdbd",
}  # fmt: skip
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 460, 320, 62, 14, 40, 44
DASH = {"median latency": "", "99th percentile": ' stroke-dasharray="5 4"', "commands a second": ""}


def pictures(results: dict[str, Any]) -> dict[str, str]:
    """File names and SVG texts; none of what was not measured."""
    rows = from_json(results)
    found = {}
    commands = [row for row in rows if row.group == "commands" and row.what in DASH]
    if commands:
        panels = [
            Panel("Commands a second", [row for row in commands if row.unit == "/s"], 0),
            Panel(
                "Latency, µs: median, 99th percentile (dashed)", [row for row in commands if row.unit == "µs"], WIDTH
            ),
        ]
        found["commands.svg"] = _svg([line for panel in panels for line in panel.lines()], 2 * WIDTH, commands)
    latency = [row for row in rows if row.group == "event latency"]
    if latency:
        found["events.svg"] = _svg(_bars(latency), 2 * WIDTH, latency)
    return found


def _svg(parts: list[str], width: int, rows: list[Row]) -> str:
    peers = list(dict.fromkeys(row.peer for row in rows))
    legend, x = [], float(LEFT)
    for peer in peers:
        legend.append(f'<rect x="{x:.0f}" y="{HEIGHT + 2}" width="12" height="12" fill="{_colour(peer)}"/>')
        legend.append(f'<text x="{x + 16:.0f}" y="{HEIGHT + 12}">{escape(peer)}</text>')
        x += 36 + 6.1 * len(peer)
    size = f'width="{width}" height="{HEIGHT + 24}" viewBox="0 0 {width} {HEIGHT + 24}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="#fff"/>', *parts, *legend, "</svg>"]) + "\n"


def _colour(peer: str) -> str:
    return COLOURS.get(peer, "#000")


def _short(value: float) -> str:
    return f"{value / 1000:g}k" if value >= 1000 else f"{value:g}"


def _decades(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, … from below the lowest to above the highest."""
    steps = [mantissa * 10.0**power for power in range(-3, 7) for mantissa in (1, 2, 5)]
    first = max((step for step in steps if step <= low), default=steps[0])
    last = min((step for step in steps if step >= high), default=steps[-1])
    return [step for step in steps if first <= step <= last]


class Panel:
    """One diagram, both axes logarithmic; `x` is where it begins."""

    def __init__(self, title: str, rows: list[Row], x: int) -> None:
        self.title, self.rows, self.x = title, rows, x
        self.ats = sorted({row.at for row in rows if row.at})
        values = [value for row in rows for value in row.values if value > 0]
        self.ticks = _decades(min(values), max(values))

    def _across(self, at: float) -> float:
        low, high = math.log(self.ats[0]), math.log(self.ats[-1])
        share = (math.log(at) - low) / (high - low) if high > low else 0.5
        return self.x + LEFT + share * (WIDTH - LEFT - RIGHT)

    def _up(self, value: float) -> float:
        low, high = math.log(self.ticks[0]), math.log(self.ticks[-1])
        share = (math.log(max(value, self.ticks[0])) - low) / (high - low) if high > low else 0.5
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def lines(self) -> list[str]:
        """Its elements."""
        parts = [f'<text x="{self.x + LEFT}" y="22" font-size="13" font-weight="bold">{escape(self.title)}</text>']
        right = self.x + WIDTH - RIGHT
        for tick in self.ticks:
            y = self._up(tick)
            parts.append(f'<line x1="{self.x + LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
            parts.append(f'<text x="{self.x + LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_short(tick)}</text>')
        for at in self.ats:
            x = self._across(at)
            parts.append(f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{at:g}</text>')
        middle = self.x + (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">requests in flight</text>')
        for peer, what in dict.fromkeys((row.peer, row.what) for row in self.rows):
            line = [row for row in self.rows if (row.peer, row.what) == (peer, what)]
            line.sort(key=lambda row: row.at or 0)
            colour = _colour(peer)
            points = " ".join(f"{self._across(row.at or 1):.1f},{self._up(row.median):.1f}" for row in line)
            parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"{DASH[what]}/>')
            for row in line:
                x, low, high = self._across(row.at or 1), self._up(min(row.values)), self._up(max(row.values))
                parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}" stroke="{colour}"/>')
                title = escape(f"{peer}, {what}, {row.at:g} in flight: {row.median:,.0f} {row.unit}")
                dot = f'<circle cx="{x:.1f}" cy="{self._up(row.median):.1f}" r="3" fill="{colour}">'
                parts.append(f"{dot}<title>{title}</title></circle>")
        return parts


def _bars(rows: list[Row]) -> list[str]:
    """Groups of bars, one group for each rate: the median, with a mark at the 99th percentile."""
    middles = [row for row in rows if row.what == "median"]
    tails = {(row.peer, row.at): row for row in rows if row.what != "median"}
    ats = sorted({row.at for row in middles if row.at})
    ticks = _decades(min(row.median for row in rows if row.median > 0), max(row.median for row in rows))
    span = 2 * WIDTH - LEFT - RIGHT
    low, high = math.log(ticks[0]), math.log(ticks[-1])

    def up(value: float) -> float:
        share = (math.log(max(value, ticks[0])) - low) / (high - low or 1)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    title = "Latency of events, ms: median (bar) and 99th percentile (mark)"
    parts = [f'<text x="{LEFT}" y="22" font-size="13" font-weight="bold">{title}</text>']
    for tick in ticks:
        y = up(tick)
        parts.append(f'<line x1="{LEFT}" x2="{2 * WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e4e4e4"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>')
    for index, at in enumerate(ats):
        here = [row for row in middles if row.at == at]
        start, wide = LEFT + span * (index + 0.1) / len(ats), span * 0.8 / len(ats)
        name = "idle (one event now and then)" if at < 1 else f"{at:g} events a second"
        parts.append(f'<text x="{start + wide / 2:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{name}</text>')
        for place, row in enumerate(here):
            x, bar, y = start + wide * place / len(here), wide / len(here) - 3, up(row.median)
            place_of = f'x="{x:.1f}" y="{y:.1f}" width="{bar:.1f}" height="{HEIGHT - BOTTOM - y:.1f}"'
            parts.append(f'<rect {place_of} fill="{_colour(row.peer)}"/>')
            tail = tails.get((row.peer, at))
            if tail:
                mark = f'y1="{up(tail.median):.1f}" y2="{up(tail.median):.1f}" stroke="#000" stroke-width="2"'
                parts.append(f'<line x1="{x:.1f}" x2="{x + bar:.1f}" {mark}/>')
            parts.append(
                f'<text x="{x + bar / 2:.1f}" y="{y - 3:.1f}" text-anchor="middle">{number(row.median)}</text>'
            )
    return parts
