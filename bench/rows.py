"""Rows of results: what was measured, at which load, for whom, the value of each run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Row:
    """Values stand in the order of the runs, so two rows' values of one run can be compared."""

    group: str
    what: str
    unit: str
    peer: str
    at: float | None = None  # requests in flight, or events or calls a second
    values: list[float] = field(default_factory=list)
    floor: float | None = None
    aim: float | None = None
    more: bool = False  # more is better
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    def ratios(self, other: Row) -> list[float]:
        """Ours to another's, run by run."""
        return [ours / theirs for ours, theirs in zip(self.values, other.values, strict=False) if theirs]


def number(value: float) -> str:
    """As many digits as say something."""
    size = abs(value)
    if size >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.1f}" if size >= 10 else f"{value:.2f}" if size >= 0.1 or size == 0 else f"{value:.3f}"


def from_json(results: dict[str, Any]) -> list[Row]:
    """The rows of a results.json."""
    known = Row.__dataclass_fields__
    return [Row(**{name: value for name, value in row.items() if name in known}) for row in results["rows"]]


class Results:
    """Gathers values; a row is made when its first value comes."""

    def __init__(self, meta: dict[str, Any]) -> None:
        self.meta = meta
        self.rows: list[Row] = []

    def add(
        self, group: str, what: str, unit: str, peer: str, value: float, at: float | None = None, **more: Any
    ) -> None:
        """One value of one run. `more`: floor, aim, more, note."""
        for row in self.rows:
            if (row.group, row.what, row.peer, row.at) == (group, what, peer, at):
                break
        else:
            row = Row(group, what, unit, peer, at, **more)
            self.rows.append(row)
        row.values.append(round(value, 4))
        where = f" at {at:g}" if at is not None else ""
        print(f"  {group}: {what}{where}, {peer}: {value:,.2f} {unit}", flush=True)

    def as_json(self) -> dict[str, Any]:
        rows = [
            asdict(row) | {"median": row.median, "low": min(row.values), "high": max(row.values)} for row in self.rows
        ]
        return {"meta": self.meta, "rows": rows}


def rotated(peers: Sequence[str], run: int) -> list[str]:
    """The peers, another one first in each run: who comes first has no advantage."""
    at = run % len(peers)
    return [*peers[at:], *peers[:at]]
