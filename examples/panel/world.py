"""All that the panel knows: the link to NATS, the nodes, their calls, the events of late. Tells the pages of changes.

Any thread may use it. One lock makes what is sent to a page one story: a page that joins gets the whole picture, and
from then on every change, none twice and none left out.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

from event_agent.protocol.subjects import slug

from .calls import Calls, Change, Leg, cut
from .followed import Followed
from .hub import PIECE, Hub, Page, message
from .journal import Journal, Short
from .lost import Lost

NODES = 200  # shown
LOAD = 3.0  # seconds between two words on what the nodes carry
PHONES = 500  # of a node that are shown
BEATS = 2  # questions in a row without an answer after which a FreeSWITCH counts as not answering
SILENCE = 2  # questions that a node may leave without an answer before it counts as away
STRANGE = 60  # questions after which the calls of a node that sends events and never answers are forgotten
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
        self.lost_callers = Lost()
        self._load: dict[str, dict[str, Any]] = {}  # node -> what it carries
        self._load_said = 0.0
        self._phones: dict[str, list[str]] = {}  # node -> who is registered there
        self._nats: dict[str, Any] = {"connected": False, "reason": "not tried yet", "since": time.time()}
        self._nodes: dict[str, Node] = {}
        self.silent: dict[str, int] = {}
        self._missed: dict[str, int] = {}  # node -> questions in a row that its FreeSWITCH did not answer
        self._followed: dict[tuple[str, str], list[Followed]] = {}

    # -- the pages

    def join(self, events: bool = True) -> tuple[Page, Iterator[bytes]] | None:
        """A new page and the picture it begins with, in pieces; None where there are too many. `events`: it gets these.

        The pieces are made when they are taken: all at once they would be several MB for each page.
        """
        with self._lock:
            page = self.hub.join(frozenset() if events else frozenset(("events",)))
            if page is None:
                return None
            legs = self.calls.all()  # a leg that changes is another leg: these stay as they are
            links = message("links", self.links())
            others = [message("load", self._loads()), message("people", self._people()),
                      message("lost", self.lost_callers.all())]  # fmt: skip
            recent = self.journal.recent() if events else None
        return page, _picture(links, legs, others, recent)

    def whole_event(self, number: int) -> bytes | None:
        with self._lock:
            return self.journal.whole(number)

    # -- one call

    def follow(self, node: str, uuid: str) -> Followed | None:
        """Follow a leg from now on; None if there is none of that uuid."""
        key = (node, uuid)
        with self._lock:
            leg = self.calls.get(*key)
            if leg is None:
                return None
            found = Followed(leg, lambda: self.leg(*key), lambda followed: self._unfollow(key, followed))
            self._followed.setdefault(key, []).append(found)
            return found

    def _unfollow(self, key: tuple[str, str], followed: Followed) -> None:
        with self._lock:
            left = [each for each in self._followed.get(key, ()) if each is not followed]
            self._followed[key] = left
            if not left:
                del self._followed[key]

    def leg(self, node: str, uuid: str) -> Leg | None:
        with self._lock:
            return self.calls.get(node, uuid)

    def ended(self, node: str, uuid: str) -> bool:
        """Whether a leg of that uuid has ended lately."""
        with self._lock:
            return (node, uuid) in self.calls.ended

    def note(self, node: str, uuid: str, **fields: Any) -> None:
        """What the panel itself knows of a leg."""
        with self._lock:
            self._changed(self.calls.note(node, uuid, **fields))

    def consulting(self, node: str, uuid: str, to: str) -> bool:
        """Note which leg a consultation is with; False if somebody has ended it meanwhile."""
        with self._lock:
            leg = self.calls.get(node, uuid)
            if leg is None or not leg["consult"]:
                return False
            self._changed(self.calls.note(node, uuid, consult=leg["consult"] | {"to": to}))
            return True

    def claim(self, node: str, uuid: str, who: str) -> str:
        """Say that `who` is taking this call; "" or, if somebody was first, who that is."""
        with self._lock:
            leg = self.calls.get(node, uuid)
            if leg is None or leg["taking"]:
                return str(leg["taking"]) if leg else ""
            self._changed(self.calls.note(node, uuid, taking=who))
            return ""

    def release(self, node: str, uuid: str) -> None:
        self.note(node, uuid, taking="")

    # -- what is learned

    def linked(self, server: str) -> None:
        """NATS is there. What is known of calls may be out of date until they are listed again."""
        with self._lock:
            self._nats = {"connected": True, "server": server, "reason": "", "since": time.time()}
            self._say_links()

    def lost(self, reason: str) -> None:
        with self._lock:
            if self._nats["connected"] or self._nats["reason"] != cut(reason):
                since = time.time() if self._nats["connected"] else self._nats["since"]
                self._nats = {"connected": False, "reason": cut(reason), "since": since}
                self._say_links()

    def event(self, event: Mapping[str, Any]) -> None:
        with self._lock:
            self.hub.event(self.journal.add(event))
            self._changed(self.calls.apply(event))
            for followed in self._followed.get((str(event.get("node_id")), str(event.get("uuid"))), ()):
                followed.put(str(event["event_name"]), _mapping(event.get("headers")))
            node = self._nodes.get(str(event.get("node_id")))
            if node is None:
                return
            if event["event_name"] == "AGENT_DISCONNECTED":
                node |= {"freeswitch": False, "reason": cut(event.get("reason")), "since": time.time()}
                self._say_links()
            elif event["event_name"] == "AGENT_CONNECTED" and not node["freeswitch"]:
                node |= {"freeswitch": True, "reason": "", "since": time.time()}
                self._say_links()
            elif event["event_name"] == "AGENT_STOPPING":
                self._away(str(event.get("node_id")), "stopped")

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
                    self._load[name] = load_of(reply)
            for name in self._nodes.keys() - heard:
                self.silent[name] = self.silent.get(name, 0) + 1
                if self.silent[name] >= SILENCE:
                    self._away(name, "silent")
            for name in self.calls.nodes() - self._nodes.keys():
                self.silent[name] = self.silent.get(name, 0) + 1
                if self.silent[name] >= STRANGE:
                    del self.silent[name]
                    self._changed(self.calls.forget(name))
            if {name: seen(node) for name, node in before.items()} != {
                name: seen(node) for name, node in self._nodes.items()
            }:
                self._say_links()
            if time.monotonic() > self._load_said + LOAD:
                self._load_said = time.monotonic()
                self.hub.publish("load", self._loads())
            nodes = self._nodes.items()
            return [name for name, node in nodes if there(node) and not there(before.get(name, {}))]

    def listening(self) -> int:
        """How many agents are there."""
        with self._lock:
            return sum(node["up"] for node in self._nodes.values())

    def felt(self, asked: Iterable[str], heard: Container[str]) -> None:
        """Which of the nodes asked had an answer from FreeSWITCH. An agent that is silent itself is another matter."""
        with self._lock:
            changed = False
            for name in asked:
                node = self._nodes.get(name)
                if node is None or not there(node):
                    continue
                if name not in heard and self.silent.get(name):
                    continue
                self._missed[name] = 0 if name in heard else self._missed.get(name, 0) + 1
                stalled = self._missed[name] >= BEATS
                if stalled != bool(node["stalled"]):
                    node["stalled"] = time.time() if stalled else 0
                    changed = True
            if changed:
                self._say_links()

    def unheard(self) -> list[str]:
        """Nodes that did not answer the last question and are not known to be away."""
        with self._lock:
            return [name for name, node in self._nodes.items() if node["up"] and self.silent.get(name)]

    def away(self, name: str, why: str) -> None:
        """A node's agent is away: `stopped`, `absent` (nobody listens on its subject) or `silent`."""
        with self._lock:
            self._away(name, why)

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
            self._load.pop(name, None)
            self.silent.pop(name, None)
            self._missed.pop(name, None)
            self._changed(self.calls.forget(name))
            if self._phones.pop(name, None):
                self.hub.publish("people", self._people())
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
            waiting = self.calls.waiting()
            return [
                name
                for name, node in self._nodes.items()
                if there(node) and node["park"].get("calls_parked", 0) != waiting[name]
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

    def registered(self, node: str, phones: list[str]) -> None:
        """Who is registered on a node, as name@domain."""
        with self._lock:
            if self._phones.get(node, []) != phones:
                self._phones[node] = phones[:PHONES]
                self.hub.publish("people", self._people())

    def lost_caller(self, name: object) -> Mapping[str, Any] | None:
        with self._lock:
            return self.lost_callers.get(name)

    def called_back(self, name: str, who: str) -> None:
        with self._lock:
            self.lost_callers.called_back(name, who)
            self.hub.publish("lost", self.lost_callers.all())

    # -- under the lock

    def _away(self, name: str, why: str) -> None:
        node = self._nodes.get(name)
        if node is not None and node["up"]:
            self._nodes[name] = node | {"up": False, "away": why, "since": time.time()}
            self._say_links()
        elif node is not None and node["away"] == "silent" and why == "absent":  # which says more
            self._nodes[name] = node | {"away": why}
            self._say_links()

    def _list_fault(self, name: str, reason: str) -> None:
        node = self._nodes.get(name)
        if node is not None and node["list_fault"] != cut(reason):
            node["list_fault"] = cut(reason)
            self._say_links()

    def _changed(self, changes: list[Change]) -> None:
        for kind, value in changes:
            key = (value["node"], value["uuid"])
            self.hub.change(key, value | {"gone": True} if kind == "gone" else value)
            for followed in self._followed.get(key, ()):
                if kind == "gone":
                    followed.ended(value["cause"])
                else:
                    followed.put("", {})
        changed = [self.lost_callers.ended(leg, cause) for leg, cause in self.calls.departed]
        if any(changed):
            self.hub.publish("lost", self.lost_callers.all())
        self.calls.departed.clear()

    def _loads(self) -> dict[str, Any]:
        return {name: load for name, load in self._load.items() if name in self._nodes}

    def _people(self) -> list[dict[str, Any]]:
        return [{"node": node, "phones": phones} for node, phones in sorted(self._phones.items()) if phones]

    def _say_links(self) -> None:
        self.hub.publish("links", self.links())

    def links(self) -> dict[str, Any]:
        nodes = sorted(self._nodes.values(), key=lambda node: str(node["id"]))
        return {"nats": self._nats, "nodes": nodes, "untold": self.calls.untold}


def _picture(links: bytes, legs: list[Leg], others: list[bytes], recent: list[Short] | None) -> Iterator[bytes]:
    yield b"retry: 1000\n\n" + links
    for place in range(0, max(1, len(legs)), PIECE):
        yield message("more" if place else "calls", legs[place : place + PIECE])
    yield message("whole", {}) + b"".join(others)
    if recent is not None:
        yield message("events", recent)


def node_of(name: str, reply: Mapping[str, Any], before: Node | None) -> Node:
    """A node as the page shows it, from its agent.status."""
    data = reply.get("data")
    data = data if isinstance(data, dict) else {}
    switch = data.get("freeswitch")
    switch = switch if isinstance(switch, dict) else {}
    park = data.get("dialplan")
    park = park if isinstance(park, dict) else {}
    connected = switch.get("connected") is True
    same = before is not None and before["up"] and before["freeswitch"] == connected
    since = switch.get("since")
    return {
        "id": name,
        "up": True,
        "away": "",
        "freeswitch": connected,
        "reason": "" if connected else cut(switch.get("reason")) or (before["reason"] if before else ""),
        "since": before["since"] if same and before else since if isinstance(since, (int, float)) else time.time(),
        "stalled": before["stalled"] if same and before and connected else 0,
        "version": cut(data.get("version"), 32),
        "switch_version": cut(switch.get("version"), 64),
        "list_fault": before["list_fault"] if before else "",
        "not_ready": reasons(data.get("readiness")),
        "waiting": waiting if type(waiting := data.get("applications_waiting")) is int else 0,
        "park": {key: park[key] for key in PARK if key in park},
        "routing": routing(park.get("route")),
    }


def load_of(reply: Mapping[str, Any]) -> dict[str, Any]:
    """What a node carries, from its agent.status; an agent of 1.0 says less."""
    data = _mapping(reply.get("data"))
    ready = _mapping(data.get("readiness"))
    found = {"sessions": ready.get("sessions"), "most": ready.get("max_sessions"), "idle": ready.get("idle_cpu"),
             "rate": ready.get("sessions_per_second"), "uptime": data.get("uptime"),
             "dropped": data.get("events_dropped")}  # fmt: skip
    load: dict[str, Any] = {name: value for name, value in found.items() if type(value) in (int, float)}
    if isinstance(ready.get("drained"), bool):
        load["drained"] = ready["drained"]
    return load


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


def _mapping(headers: object) -> Mapping[str, Any]:
    return headers if isinstance(headers, dict) else {}


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
