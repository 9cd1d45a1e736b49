"""All that the panel knows: the link to NATS, the nodes, their calls, the events of late. Tells the pages of changes.

Any thread may use it. One lock makes what is sent to a page one story: a page that joins gets the whole picture, and
from then on every change, none twice and none left out.
"""

from __future__ import annotations

import threading
from collections.abc import Container, Iterable, Mapping
from typing import Any

from event_agent.protocol.subjects import slug

from .calls import Calls, Change, cut
from .hub import Hub, Page, message
from .journal import Journal

NODES = 64  # shown
SILENCE = 3  # questions that a node may leave without an answer before it counts as away
STRANGE = 20  # questions after which the calls of a node that sends events and never answers are forgotten
PARK = ("available", "fault", "binding", "add", "mode", "audio", "music_class", "auto_answer", "context", "number",
        "except", "calls_parked", "calls_parked_total", "calls_intercepted", "calls_missed")  # fmt: skip

Node = dict[str, Any]


class World:
    """See the module's text."""

    def __init__(self, hub: Hub | None = None) -> None:
        self.hub = hub or Hub()
        self._lock = threading.Lock()
        self.calls = Calls()
        self.journal = Journal()
        self._nats: dict[str, Any] = {"connected": False, "reason": "not tried yet"}
        self._nodes: dict[str, Node] = {}
        self.silent: dict[str, int] = {}

    # -- the pages

    def join(self) -> tuple[Page, bytes] | None:
        """A new page and the picture it begins with; None where there are too many."""
        with self._lock:
            page = self.hub.join()
            if page is None:
                return None
            picture = [
                message("links", self.links()),
                message("calls", self.calls.all()),
                message("events", self.journal.recent()),
            ]
        return page, b"retry: 1000\n\n" + b"".join(picture)

    def whole_event(self, number: int) -> bytes | None:
        with self._lock:
            return self.journal.whole(number)

    # -- what is learned

    def linked(self, server: str) -> None:
        """NATS is there. What is known of calls may be out of date until they are listed again."""
        with self._lock:
            self._nats = {"connected": True, "server": server, "reason": ""}
            self._say_links()

    def lost(self, reason: str) -> None:
        with self._lock:
            if self._nats["connected"] or self._nats["reason"] != reason:
                self._nats = {"connected": False, "reason": cut(reason)}
                self._say_links()

    def event(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            self.hub.publish("events", [self.journal.add(event)])
            self._changed(self.calls.apply(event))
            node = self._nodes.get(str(event.get("node_id")))
            if node is None:
                return
            if event["event_name"] == "AGENT_DISCONNECTED":
                node |= {"freeswitch": False, "reason": cut(event.get("reason"))}
                self._say_links()
            elif event["event_name"] == "AGENT_CONNECTED" and not node["freeswitch"]:
                node |= {"freeswitch": True, "reason": ""}
                self._say_links()

    def answered(self, replies: Iterable[Mapping[str, Any]]) -> list[str]:
        """The replies to one agent.status; the nodes whose FreeSWITCH is there now and was not before."""
        with self._lock:
            before = {name: dict(node) for name, node in self._nodes.items()}
            heard = set()
            for reply in replies:
                name = reply.get("node_id")
                if isinstance(name, str) and (name in self._nodes or len(self._nodes) < NODES):
                    heard.add(name)
                    self.silent[name] = 0
                    self._nodes[name] = node_of(name, reply, self._nodes.get(name))
            for name in self._nodes.keys() - heard:
                self.silent[name] = self.silent.get(name, 0) + 1
                if self.silent[name] >= SILENCE:
                    self._nodes[name] = self._nodes[name] | {"up": False}
            for name in self.calls.nodes() - self._nodes.keys():
                self.silent[name] = self.silent.get(name, 0) + 1
                if self.silent[name] >= STRANGE:
                    del self.silent[name]
                    self._changed(self.calls.forget(name))
            if {name: seen(node) for name, node in before.items()} != {
                name: seen(node) for name, node in self._nodes.items()
            }:
                self._say_links()
            nodes = self._nodes.items()
            return [name for name, node in nodes if there(node) and not there(before.get(name, {}))]

    def nodes(self) -> list[str]:
        """Those whose FreeSWITCH is there."""
        with self._lock:
            return [name for name, node in self._nodes.items() if there(node)]

    def forget(self, name: str) -> bool:
        """Take a node that is away off the page, with its calls; False where it is there or not known."""
        with self._lock:
            node = self._nodes.get(name)
            if node is None or node["up"]:
                return False
            del self._nodes[name]
            self.silent.pop(name, None)
            self._changed(self.calls.forget(name))
            self._say_links()
            return True

    def mark(self) -> int:
        with self._lock:
            return self.calls.mark()

    def listed(self, node: str, rows: list[Mapping[str, Any]], mark: int) -> None:
        """A node's channels, asked for at `mark`."""
        with self._lock:
            self._changed(self.calls.replace(node, rows, mark))
            self._list_fault(node, "")

    def unsure(self) -> list[str]:
        """Nodes whose agents count other calls as parked than are known here."""
        with self._lock:
            return [
                name
                for name, node in self._nodes.items()
                if there(node) and node["park"].get("calls_parked", 0) != self.calls.waiting(name)
            ]

    def parked(self, node: str, uuids: Container[str], mark: int) -> None:
        """The calls that a node's agent has parked, asked for at `mark`."""
        with self._lock:
            self._changed(self.calls.parked(node, uuids, mark))

    def not_listed(self, node: str, reason: str) -> None:
        """They could not be asked for: what is shown comes from events alone."""
        with self._lock:
            self._list_fault(node, reason)

    def lane(self, node: str) -> str | None:
        """What to give the client as the node; None for one without an id, which has no lane of its own."""
        return None if slug(node) == "unknown" else node

    # -- under the lock

    def _list_fault(self, name: str, reason: str) -> None:
        node = self._nodes.get(name)
        if node is not None and node["list_fault"] != cut(reason):
            node["list_fault"] = cut(reason)
            self._say_links()

    def _changed(self, changes: list[Change]) -> None:
        for kind, value in changes:
            self.hub.publish(kind, value)

    def _say_links(self) -> None:
        self.hub.publish("links", self.links())

    def links(self) -> dict[str, Any]:
        nodes = sorted(self._nodes.values(), key=lambda node: str(node["id"]))
        return {"nats": self._nats, "nodes": nodes, "untold": self.calls.untold}


def node_of(name: str, reply: Mapping[str, Any], before: Node | None) -> Node:
    """A node as the page shows it, from its agent.status."""
    data = reply.get("data")
    data = data if isinstance(data, dict) else {}
    switch = data.get("freeswitch")
    switch = switch if isinstance(switch, dict) else {}
    park = data.get("dialplan")
    park = park if isinstance(park, dict) else {}
    connected = switch.get("connected") is True
    return {
        "id": name,
        "up": True,
        "freeswitch": connected,
        "reason": "" if connected or before is None else before["reason"],
        "version": cut(data.get("version"), 32),
        "switch_version": cut(switch.get("version"), 64),
        "list_fault": before["list_fault"] if before else "",
        "not_ready": reasons(data.get("readiness")),
        "waiting": waiting if type(waiting := data.get("applications_waiting")) is int else 0,
        "park": {key: park[key] for key in PARK if key in park},
        "routing": routing(park.get("route")),
    }


def routing(route: object) -> dict[str, Any] | None:
    """What a program decides over calls; None if none does, or the agent can't say."""
    if not isinstance(route, dict) or route.get("enabled") is not True:
        return None
    decisions, fallbacks, latency = (route.get(name) for name in ("decisions", "fallbacks", "latency_ms"))
    median = latency.get("median") if isinstance(latency, dict) else None
    return {
        "subject": cut(route.get("subject"), 64),
        "fallback": cut(route.get("fallback"), 16),
        "waiting": _whole(route.get("calls_waiting")),
        "decided": total(decisions),
        "undecided": total(fallbacks),
        "why": cut(route.get("last_fallback")),
        "median": median if isinstance(median, (int, float)) else None,
    }


def total(counts: object) -> int:
    return sum(map(_whole, counts.values())) if isinstance(counts, dict) else 0


def _whole(value: object) -> int:
    return value if isinstance(value, int) else 0


def reasons(readiness: object) -> list[str]:
    """Why a node takes no new calls that any could, but for what the page says anyway; an agent of 1.0 has none."""
    found = readiness.get("reasons") if isinstance(readiness, dict) else None
    return [cut(each, 32) for each in found[:8] if each != "not connected"] if isinstance(found, list) else []


def there(node: Mapping[str, Any]) -> bool:
    return bool(node.get("up") and node.get("freeswitch"))


def seen(node: Mapping[str, Any]) -> str:
    return repr(sorted(node.items(), key=lambda item: item[0]))
