"""The picture of a soak, plain SVG: what the agent holds over time, with the faults marked."""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH, LEFT, RIGHT, PANEL, GAP, TOP = 1000, 60, 20, 120, 34, 30
COLOURS = ("#1f5fbf", "#d2691e", "#2e8b57", "#8a8a8a", "#7a4fbf")
Line = list[tuple[float, float]]


def picture(found: dict[str, Any]) -> str:
    """Five panels, one above the other, over minutes."""
    samples, minutes = found["samples"], found["minutes"]
    if not samples:
        return '<svg xmlns="http://www.w3.org/2000/svg"/>\n'
    length = max(len(minutes), max(each["at"] for each in samples) / 60)

    def of(name: str, *parts: str) -> dict[str, Line]:
        return {part: [(each["at"] / 60, each[name]) for each in samples if each["part"] == part] for part in parts}

    def by_minute(name: str, value: Any) -> dict[str, Line]:
        return {name: [(minute["number"], value(minute)) for minute in minutes]}

    panels: list[tuple[str, dict[str, Line]]] = [
        ("Resident memory of the agent, MB (a gap: another process)", of("rss", "agent")),
        ("Descriptors and threads of the agent", {
            "descriptors": of("descriptors", "agent")["agent"], "threads": of("threads", "agent")["agent"]}),
        ("Subscriptions at the nats-server", by_minute("subscriptions", lambda each: each["subscriptions"])),
        ("Latency of commands, ms: median and 99th percentile (cut at 1,000)", {
            **by_minute("median", lambda each: min(each["took"][0], 1000)),
            **by_minute("99th", lambda each: min(each["took"][1], 1000))}),
        ("CPU, % of a core", {part: [(each["number"], each["cpu"].get(part, 0.0)) for each in minutes]
                              for part in ("agent", "FreeSWITCH", "nats-server")}),
    ]  # fmt: skip
    height = TOP + len(panels) * (PANEL + GAP) + 110
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" '
        'font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]

    def across(at: float) -> float:
        return LEFT + at / float(length) * (WIDTH - LEFT - RIGHT)

    bottom = TOP + len(panels) * (PANEL + GAP) - GAP
    for minute in minutes:
        if minute["fault"] == "none":
            continue
        x = across(minute["number"] - 1 + 10 / 60)
        parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{bottom}" stroke="#e9c9c9"/>')
        parts.append(f'<text transform="translate({x + 3:.1f} {bottom + 20}) rotate(60)" font-size="8" fill="#a44">'
                     f'{escape(minute["fault"])}</text>')  # fmt: skip
    for number, (title, lines) in enumerate(panels):
        parts += _panel(title, lines, TOP + number * (PANEL + GAP), across)
    step = max(1, round(length / 12))
    for at in range(0, int(length) + 1, step):
        parts.append(f'<text x="{across(at):.1f}" y="{bottom + 12}" text-anchor="middle">{at}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(title: str, lines: dict[str, Line], top: float, across: Any) -> list[str]:
    high = max((value for line in lines.values() for _, value in line), default=1.0) * 1.1 or 1.0
    parts = [f'<text x="{LEFT}" y="{top - 6}" font-weight="bold">{escape(title)}</text>']
    for share in (0.0, 0.5, 1.0):
        y = top + PANEL * (1 - share)
        parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{high * share:,.3g}</text>')
    for number, (name, line) in enumerate(lines.items()):
        colour = COLOURS[number]
        dots = " ".join(f"{across(at):.1f},{top + PANEL * (1 - value / high):.1f}" for at, value in line)
        parts.append(f'<polyline points="{dots}" fill="none" stroke="{colour}" stroke-width="1.2"/>')
        parts.append(f'<text x="{WIDTH - RIGHT - 90 * (len(lines) - number) + 20}" y="{top - 6}" fill="{colour}">'
                     f"{escape(name)}</text>")  # fmt: skip
    return parts
