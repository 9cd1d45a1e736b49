"""What follows from the figures for more calls and more nodes: straight lines through what was measured."""

from __future__ import annotations

import statistics
from typing import Any

from bench.rows import Row, from_json, number

OURS = "event-agent"


def growth(results: dict[str, Any]) -> str:
    """A list in Markdown; says what is measured and what is drawn on from it. Empty without the measures it needs."""
    rows = from_json(results)
    return "\n".join([*_calls(rows), *_nodes(rows)])


def line(points: list[tuple[float, float]]) -> tuple[float, float]:
    """The straight line of least squares: where it begins, and its slope."""
    if len(points) < 2:
        return 0.0, points[0][1] / points[0][0] if points else 0.0
    found = statistics.linear_regression([x for x, _ in points], [y for _, y in points])
    return found.intercept, found.slope


def _points(rows: list[Row], what: str, peer: str = OURS) -> list[tuple[float, float]]:
    return [(row.at or 0, row.median) for row in rows if (row.group, row.what, row.peer) == ("calls", what, peer)]


def _calls(rows: list[Row]) -> list[str]:
    agent = _points(rows, "CPU of the agent")
    if not agent:
        return []
    events = statistics.median(value for _, value in _points(rows, "events a call"))
    *early, last = (f"{rate:g}" for rate, _ in agent)
    rates = f"{', '.join(early)} and {last}" if early else last
    found = []
    for name, points in (
        ("The agent", agent),
        ("FreeSWITCH, with the agent", _points(rows, "CPU of FreeSWITCH")),
        ("FreeSWITCH alone", _points(rows, "CPU of FreeSWITCH", "FreeSWITCH alone")),
        ("FreeSWITCH with mod_event_agent in it", _points(rows, "CPU of FreeSWITCH", "mod_event_agent")),
        ("nats-server", _points(rows, "CPU of nats-server")),
    ):
        if points:
            base, slope = line(points)
            found.append(f"- {name}: {number(max(0.0, base))} % of a core and {number(slope * 10)} ms of CPU a call.")
    slope = line(agent)[1]
    full = 100 / slope if slope > 0 else 0
    return [
        f"A short call is {number(events)} events. Lines through the figures at {rates} calls a second:",
        "",
        *found,
        "",
        f"Drawn on, not measured: the agent's one core would be full at some {number(_rounded(full))} such calls a",
        f"second, which is {number(_rounded(full * events))} events a second.",
        "",
    ]


def _nodes(rows: list[Row]) -> list[str]:
    cost = next((row.median for row in rows if row.group == "nodes"), None)
    if cost is None:
        return []
    others = 9 * 1000
    return [
        f"A request on `freeswitch.api` that names another node costs a node {number(cost)} µs of CPU. Ten nodes with",
        f"1,000 commands a second each, all sent that way: {number(others * cost / 1e4)} % of a core on every node,",
        "for the requests of the others. On the lane of a node, `freeswitch.node.<id>`, they cost the others nothing.",
    ]


def _rounded(value: float) -> float:
    """Two digits; more would claim too much."""
    return float(f"{value:.2g}")
