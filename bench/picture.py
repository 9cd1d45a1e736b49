"""The bench's picture: bars of throughput and latency over requests in flight, and of event latency. Plain SVG."""

from __future__ import annotations

from html import escape
from typing import Any

WIDTH, BAR, GAP, LEFT = 900, 20, 6, 430


def picture(rows: list[dict[str, Any]]) -> str:
    """An SVG with one group of bars for each unit that says something in a picture."""
    groups = [
        ("Commands a second", [row for row in rows if row["unit"] == "/s" and "events" not in row["what"]]),
        ("Latency of commands, µs", [row for row in rows if row["unit"] == "µs" and "CPU" not in row["what"]]),
        ("Latency of events, ms", [row for row in rows if row["unit"] == "ms"]),
    ]
    parts: list[str] = []
    y = 10
    for title, bars in groups:
        if not bars:
            continue
        parts.append(f'<text x="10" y="{y + 16}" font-weight="bold">{escape(title)}</text>')
        y += 28
        most = max(row["high"] for row in bars) or 1
        for row in bars:
            scale = (WIDTH - LEFT - 110) / most
            colour = "#999" if "raw" in row["what"] else "#36c"
            low, high = LEFT + row["low"] * scale, LEFT + row["high"] * scale
            parts += [
                f'<text x="{LEFT - 8}" y="{y + 15}" text-anchor="end">{escape(row["what"].strip())}</text>',
                f'<rect x="{LEFT}" y="{y}" width="{row["median"] * scale:.1f}" height="{BAR}" fill="{colour}"/>',
                f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y + BAR / 2}" y2="{y + BAR / 2}" stroke="#000"/>',
                f'<text x="{high + 6:.1f}" y="{y + 15}">{row["median"]:,.1f}</text>',
            ]
            y += BAR + GAP
        y += 16
    size = f'width="{WIDTH}" height="{y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([head, f'<rect width="{WIDTH}" height="{y}" fill="#fff"/>', *parts, "</svg>\n"])
