"""results.json as tables in Markdown; also put into a document, between two markers.

python -m bench.report bench/out/results.json                        prints the tables
python -m bench.report bench/out/results.json docs/PERFORMANCE.md    puts them and the pictures into the document
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.growth import growth
from bench.picture import pictures
from bench.rows import Row, from_json, number

MARKS = "<!-- {}: begin -->", "<!-- {}: end -->"
OURS = "event-agent"
COMPARED = ("raw event socket", "raw event socket, nudged", "mod_event_agent")  # ours is held against these
SHOWN = {"commands": (1, 8, 50, 200)}  # the rest is in results.json and in the picture
UNIT_OF_AT = {"commands": "in flight", "event latency": "events/s", "calls": "calls/s"}


def cell(row: Row | None) -> str:
    """The median, with the smallest and largest where there were more runs than one."""
    if row is None or not row.values:
        return ""
    text = number(row.median)
    if len(row.values) > 1 and min(row.values) != max(row.values):
        text += f" ({number(min(row.values))} … {number(max(row.values))})"
    return text + (f" *{row.note}*" if row.note else "")


def tables(results: dict[str, Any]) -> str:
    """All groups, one table each, in the order in which they were measured."""
    rows = from_json(results)
    parts = ["\n".join(f"- {name}: {_text(value)}" for name, value in results["meta"].items())]
    for group in dict.fromkeys(row.group for row in rows):
        parts.append(_table(group, [row for row in rows if row.group == group]))
    return "\n\n".join(parts) + "\n"


def _text(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _table(group: str, rows: list[Row]) -> str:
    peers = list(dict.fromkeys(row.peer for row in rows))
    peers.sort(key=lambda peer: peer != OURS)  # ours first
    found = {(row.what, row.at, row.peer): row for row in rows}
    lines = list(dict.fromkeys((row.what, row.at) for row in rows))
    lines = [(what, at) for what, at in lines if at is None or at in SHOWN.get(group, (at,))]
    if any(at is not None for _, at in lines):
        order = list(dict.fromkeys(what for what, _ in lines))
        lines.sort(key=lambda line: (order.index(line[0]), line[1] or 0))
    compared = [peer for peer in COMPARED if peer in peers and OURS in peers]
    goals = any(row.floor is not None or row.aim is not None for row in rows)
    head = ["", *peers, *(f"ours to {peer}" for peer in compared), *(["floor", "aim"] if goals else [])]
    body = [head, ["---", *["--:"] * (len(head) - 1)]]
    for what, at in lines:
        row = next(row for row in rows if (row.what, row.at) == (what, at))
        where = f", {_at(group, at)}" if at is not None else ""
        mine = found.get((what, at, OURS))
        line = [f"{what}{where}" + (f" ({row.unit})" if row.unit else "")]
        line += [cell(found.get((what, at, peer))) for peer in peers]
        for peer in compared:
            other = found.get((what, at, peer))
            ratios = sorted(mine.ratios(other)) if mine and other else []
            line.append(f"{ratios[len(ratios) // 2]:.2f}" if ratios else "")
        if goals:
            line += [_goal(mine, "floor"), _goal(mine, "aim")]
        body.append(line)
    widths = [max(len(line[column]) for line in body) for column in range(len(head))]
    text = "\n".join(
        "| " + " | ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)) + " |" for line in body
    )
    return f"**{group[0].upper()}{group[1:]}**\n\n{text}"


def _at(group: str, at: float) -> str:
    if group == "event latency" and at < 1:
        return "idle"
    return f"{at:,g} {UNIT_OF_AT.get(group, 'in flight')}"


def _goal(row: Row | None, name: str) -> str:
    wanted: float | None = getattr(row, name) if row else None
    if row is None or wanted is None:
        return ""
    reached = row.median >= wanted if row.more else row.median <= wanted
    return f"{number(wanted)} {'reached' if reached else 'missed'}"


def put_into(document: str, name: str, text: str) -> str:
    """The document with what stands between the markers of this name replaced."""
    begin, end = (mark.format(name) for mark in MARKS)
    before, found, rest = document.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"the document has no {begin} … {end}")
    return f"{before}{begin}\n\n{text.strip()}\n\n{end}{after}"


def main(arguments: list[str]) -> None:
    """See the module's text."""
    results = json.loads(Path(arguments[0]).read_text())
    if len(arguments) == 1:
        print(tables(results) + "\n" + growth(results))
        return
    document = Path(arguments[1])
    folder = document.parent / "performance"
    folder.mkdir(exist_ok=True)
    made = pictures(results)
    for name, picture in made.items():
        (folder / name).write_text(picture)
    shown = "".join(f"\n\n![{Path(name).stem}](performance/{name})" for name in made)
    text = put_into(document.read_text(), "figures", tables(results) + shown)
    document.write_text(put_into(text, "growth", growth(results)))


if __name__ == "__main__":
    main(sys.argv[1:])
