"""The nodes as `status` and `top` show them: what they answer, their rates, the table."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from event_agent.client.client import Client, Reply
from event_agent.ctl.views import Cell, Painter, duration, number, some, table

GATHER_TIMEOUT = 3.0  # seconds; an agent answers agent.status at once
SETTLE = 0.1  # part of the time in which no further reply may come before nobody else is expected to answer
FAR = 0.3  # seconds that an agent far away may take longer than one beside the NATS server
GONE_AFTER = 60.0  # seconds for which a node that no longer answers is shown
HEADS = ("NODE", "VERSION", "UPTIME", "NATS", "FREESWITCH", "CALLS", "CHANNELS", "CMD/S", "FAIL/S", "EVENTS/S",
         "LAG", "PENDING", "FAILED", "DROPPED")  # fmt: skip
# What can be wrong with a node, the worst first.
TROUBLE = ("silent", "without FreeSWITCH", "without events", "in error", "two of a name", "kept from a subject",
           "not ready", "behind", "with failures")  # fmt: skip
LATE = 1.0  # seconds after which events count as late
LEFT = 5  # columns that are aligned to the left
# What a narrow terminal can do without, first what is missed least.
DISPENSABLE = ("PENDING", "FAIL/S", "CHANNELS", "FAILED", "VERSION", "UPTIME", "NATS", "DROPPED", "LAG", "CMD/S",
               "EVENTS/S", "CALLS")  # fmt: skip


# -- what they answer


def statuses(client: Client, node: str | None, timeout: float, expect: int | None = None) -> list[Reply]:
    """agent.status of one node, or of all, by name. With `expect` that many are waited for."""
    if node:
        return [client.call({"command": "agent.status"}, node, timeout)]
    settle = max(timeout * SETTLE, min(timeout, FAR)) if expect is None else None
    return sorted(client.gather("agent.status", timeout=timeout, settle=settle, expect=expect), key=node_of)


def counts(client: Client, node: str | None, kind: str, timeout: float, expect: int) -> list[Reply]:
    """What the nodes answer to `show calls count` or `show channels count`."""
    if node:
        return [client.call({"command": "show", "args": f"{kind} count"}, node, timeout)]
    return client.gather("show", f"{kind} count", timeout, expect=expect)


def section(reply: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An object in `data`; empty if it is no object."""
    found = data_of(reply).get(name)
    return found if isinstance(found, dict) else {}


def data_of(reply: Mapping[str, Any]) -> dict[str, Any]:
    data = reply.get("data")
    return data if isinstance(data, dict) else {}


def node_of(reply: Mapping[str, Any]) -> str:
    return str(reply.get("node_id", "unknown"))


def short_version(text: object) -> str:
    """`1.10.12` of what FreeSWITCH's `version` says."""
    found = re.search(r"(?<!\d)\d{1,9}\.\d{1,9}(\.\d{1,9})?", str(text or ""))
    return found[0] if found else ""


def since(link: Mapping[str, Any]) -> str:
    """` (1h 7m)`: for how long a link has been as it is; empty if its agent does not tell."""
    found = link.get("since")
    return f" ({duration(time.time() - found)})" if isinstance(found, (int, float)) and found > 0 else ""


def count_of(reply: Mapping[str, Any], kind: str) -> int | None:
    """How many `calls` or `channels` a node has, as far as its status says so."""
    value = section(reply, "freeswitch").get(kind)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def add_counts(replies: list[Reply], kind: str, asked: Iterable[Reply]) -> None:
    """Put what `show calls count` answered into the statuses; not if two nodes go by one name."""
    by_node: dict[str, list[Reply]] = {}
    for reply in replies:
        by_node.setdefault(node_of(reply), []).append(reply)
    for answer in asked:
        found = re.search(r"(\d{1,9}) total", str(answer.get("data", ""))) if answer.get("success") else None
        same = by_node.get(node_of(answer), [])
        if found and len(same) == 1 and isinstance(data := same[0].get("data"), dict):
            data.setdefault("freeswitch", {})[kind] = int(found[1])


# -- over time


@dataclass
class Node:
    """What was last heard of a node, and its rates per second."""

    reply: Reply
    seen: float  # monotonic
    asked: int = 0  # requests of ours to it since then
    commands: float | None = None
    failed: float | None = None
    events: float | None = None


class Nodes:
    """The nodes that have answered of late. Nodes that go by one name are told apart by their order only."""

    def __init__(self) -> None:
        self._nodes: dict[tuple[str, int], Node] = {}

    def __iter__(self) -> Iterator[Node]:
        return (node for _, node in sorted(self._nodes.items()))

    def heard(self, now: float) -> int:
        """How many answered last time."""
        return sum(node.seen == now for node in self._nodes.values())

    def asked(self) -> None:
        """A request of ours went to all: it is not to be counted among their commands."""
        for node in self._nodes.values():
            node.asked += 1

    def update(self, replies: Iterable[Reply], now: float) -> None:
        """The statuses of one round, at one time."""
        numbers: dict[str, int] = {}
        for reply in replies:
            name = node_of(reply)
            numbers[name] = numbers.get(name, 0) + 1
            key = (name, numbers[name])
            self._nodes[key] = _after(self._nodes.get(key), reply, now)
        self._nodes = {key: node for key, node in self._nodes.items() if now - node.seen < GONE_AFTER}


def _after(before: Node | None, reply: Reply, now: float) -> Node:
    node = Node(reply, now)
    if before is None:
        return node
    old, new = data_of(before.reply), data_of(reply)
    seconds = (_figure(reply, "timestamp") - _figure(before.reply, "timestamp")) / 1e6  # the node's own clock
    # A counter that went back is another process: no rate from these two.
    if seconds <= 0 or _figure(new, "uptime") < _figure(old, "uptime"):
        return node

    def rate(one: dict[str, Any], other: dict[str, Any], name: str, ours: int = 0) -> float:
        return max(0.0, (_figure(other, name) - _figure(one, name) - ours) / seconds)

    node.commands = rate(old, new, "commands_received", before.asked)
    node.events = rate(old, new, "events_published")
    node.failed = rate(section(before.reply, "stats"), section(reply, "stats"), "requests_failed")
    return node


def _figure(data: dict[str, Any], name: str) -> float:
    value = data.get(name)
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else 0


# -- the table


def trouble(node: Node, now: float) -> str:
    """What is wrong with a node in a word or two, one of TROUBLE; empty: nothing."""
    data, switch = data_of(node.reply), section(node.reply, "freeswitch")
    reasons = section(node.reply, "readiness").get("reasons")
    broker = section(node.reply, str(data.get("driver")))
    wrong = {
        "silent": node.seen < now,
        "in error": not node.reply.get("success"),
        "without FreeSWITCH": not switch.get("connected"),
        "without events": switch.get("events") is False,
        "not ready": isinstance(reasons, list) and bool(reasons),
        "two of a name": bool(data.get("twins")),
        "kept from a subject": bool(broker.get("subscriptions_refused")),
        "behind": bool(broker.get("buffered_bytes"))
        or _figure(switch, "events_lag") > LATE,
        "with failures": bool(node.failed),
    }
    return next((each for each in TROUBLE if wrong[each]), "")


def summary(nodes: Nodes, now: float) -> str:
    """How many answered at `now`, and what is wrong: `99 nodes: 1 silent, 2 not ready`."""
    found = [trouble(node, now) for node in nodes]
    heard = nodes.heard(now)
    wrong = ", ".join(f"{found.count(each)} {each}" for each in TROUBLE if each in found)
    return f"{heard} node{'' if heard == 1 else 's'}{': ' if wrong else ''}{wrong}"


def reasons(nodes: Iterable[Node], now: float, most: int = 3) -> list[str]:
    """Why FreeSWITCH or its events are away, a line each reason, and since when."""
    found: dict[str, list[str]] = {}
    for node in nodes:
        switch = section(node.reply, "freeswitch")
        kind = {"without FreeSWITCH": "", "without events": "events_"}.get(trouble(node, now))
        if kind is not None and (why := switch.get(f"{kind}reason")):
            name = node_of(node.reply) + since({"since": switch.get(f"{kind}since")})
            found.setdefault(str(why), []).append(name)
    return [f"{some(names, most=2)}: {why}" for why, names in list(found.items())[:most]]


def node_table(nodes: Iterable[Node], now: float, paint: Painter, columns: int = 0, lines: int = 0) -> list[str]:
    """The nodes, one a line, those in trouble first; what was not heard at `now` is silent.

    At most `columns` wide and `lines` high, if those are not 0. Of a node in trouble the line stays, however many
    there are; the last line says how many others were left out.
    """
    # sorted() keeps the order of those that are alike, which is that of the names
    ranked = sorted(((_rank(node, now), node) for node in nodes), key=lambda each: each[0])
    most = len(ranked)
    if lines and len(ranked) + 1 > lines:
        most = max(lines - 2, sum(rank < len(TROUBLE) for rank, _ in ranked))
    rows = [_row(node, now) for _, node in ranked[:most]]
    return [*_table(rows, paint, columns), *([f"… {left} more, all well"] if (left := len(ranked) - most) else [])]


def _rank(node: Node, now: float) -> int:
    found = trouble(node, now)
    return TROUBLE.index(found) if found else len(TROUBLE)


def _table(rows: list[list[str]], paint: Painter, columns: int) -> list[str]:
    heads = list(HEADS)
    for head in ("", *DISPENSABLE):
        if head:
            at = heads.index(head)
            heads.pop(at)
            rows = [row[:at] + row[at + 1 :] for row in rows]
        left = sum(each in HEADS[:LEFT] for each in heads)
        if not columns or max(map(len, table(heads, rows, Painter(False), range(left, len(heads))))) <= columns:
            break
    return table(heads, rows, paint, range(left, len(heads)))


def _row(node: Node, now: float) -> list[str]:
    reply, data, switch = node.reply, data_of(node.reply), section(node.reply, "freeswitch")
    failed, dropped = section(reply, "stats").get("requests_failed"), data.get("events_dropped")
    buffered = section(reply, str(data.get("driver"))).get("buffered_bytes")
    nats = Cell("behind", "yellow") if buffered else Cell("up", "green")
    if node.seen < now:
        nats, state = Cell("-"), Cell(f"silent for {duration(now - node.seen)}", "red")
    elif not reply.get("success"):
        state = Cell(reply.get("message", "no status"), "yellow")
    elif not switch.get("connected"):
        state = Cell("away", "red", "bold")
    elif switch.get("events") is False:
        state = Cell("no events", "red")
    elif isinstance(reasons := section(reply, "readiness").get("reasons"), list) and reasons:
        state = Cell(str(reasons[0])[:20], "yellow")
    else:
        state = Cell(short_version(switch.get("version")) or "up", "green")
    return [
        node_of(reply),
        Cell(data.get("version", "-")),
        duration(data.get("uptime")),
        nats,
        state,
        number(count_of(reply, "calls")),
        number(count_of(reply, "channels")),
        number(node.commands),
        Cell(number(node.failed), *(["yellow"] if node.failed else [])),
        number(node.events),
        _lag(switch.get("events_lag")),
        number(data.get("commands_pending")),
        Cell(number(failed), *(["yellow"] if failed else [])),
        Cell(number(dropped), *(["red"] if dropped else [])),
    ]


def _lag(seconds: object) -> str:
    """`29 ms`, `1.5 s`."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e9:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
