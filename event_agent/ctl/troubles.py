"""What the agents say of themselves, as doctor's page has it: what is wrong with many nodes is one finding.

What can be wrong is a table of kinds, below. Troubles of one kind and for one reason are one thing, however many nodes
have it; the reason, an agent's own words, is compared and not looked into. Pure functions, but for the time of day.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from event_agent import __version__
from event_agent.client.client import Reply
from event_agent.ctl.nodes import data_of, node_of, section
from event_agent.ctl.views import cut, duration, number, some
from event_agent.probe.findings import FAULT, NOTE, OK, WARNING, Finding

LATE = 1.0  # seconds by which events come late
FEW = 4  # nodes that are alike have a line each; more are one finding, which names so many: the page is to stay one
MOST = 8  # findings of nodes in trouble; if there would be more, two nodes that are alike are one already
SUCH_AS = 2  # nodes that are named with their reasons, if those differ
LONG, SHORT = 120, 60  # columns of a reason that many nodes have, and of one among others


@dataclass(frozen=True)
class Kind:
    """Something that can be wrong with a node, in words for one and for several.

    `one` may have `{who}` (the node and a colon, if there are others), `{node}`, `{figure}` and `{why}`; `several`
    `{nodes}` ("25 nodes") and `{figure}`, and is followed by the reason and by names; `todo` may have `{node}`.
    """

    level: str
    one: str
    several: str
    todo: str = ""
    about: str = "agent"
    show: Callable[[float], str] = number  # of the figure
    around: str = "{}"  # the figure, if it is known; a figure that is not known is left out with what is around it


MUTE = Kind(WARNING, "{node}: {why}", "{nodes} answer with an error")
OTHER_VERSION = Kind(NOTE, f"{{who}}runs {{why}}, this tool is {__version__}",
                     f"{{nodes}} run another version, this tool is {__version__}")  # fmt: skip
AWAY = Kind(FAULT, "{who}is not connected to FreeSWITCH{figure}: {why}",
            "{nodes} are not connected to FreeSWITCH{figure}", show=duration, around=" for {}")  # fmt: skip
DEAF = Kind(FAULT, "{who}gets no events from FreeSWITCH: {why}", "{nodes} get no events from FreeSWITCH")
NOT_READY = Kind(WARNING, "{who}takes no requests on any: {why}", "{nodes} take no requests on any")
DRAINED = Kind(NOT_READY.level, NOT_READY.one, NOT_READY.several, "event-agentctl --node {node} drain off")
KEPT_OUT = Kind(FAULT, "{who}may not listen on {why}", "{nodes} may not listen on all of their subjects",
                "allow it for its user (SECURITY.md)")  # fmt: skip
REFUSED = Kind(FAULT, "{who}NATS has refused {figure} of its messages",
               "{nodes}: NATS has refused {figure} messages of each",
               "allow its user to publish on what its log names with Permissions Violation (SECURITY.md)")  # fmt: skip
DROPPED = Kind(WARNING, "{who}{figure} messages were dropped", "{nodes}: {figure} messages of each were dropped",
               "reconnect_buf_size, or fewer events (exclude)")  # fmt: skip
BEHIND = Kind(WARNING, "{who}{figure} bytes wait for NATS", "{nodes}: {figure} bytes of each wait for NATS",
              "is the NATS server, or the network, too slow?")  # fmt: skip
EVENTS_LATE = Kind(WARNING, "{who}events come {figure} s late", "{nodes}: events come {figure} s late",
                   "fewer of them (exclude, event_fields), or a faster machine", show="{:.1f}".format)  # fmt: skip
TWINS = Kind(FAULT, "{who}{figure} more of this name: {why}", "{nodes} have names that other agents have as well",
             "give each its own node_id")  # fmt: skip
NO_NAME = Kind(NOTE, "{who}it has no name: no requests for this node alone",
               "{nodes} have no name: no requests for one of them alone", "node_id")  # fmt: skip
NO_PORT = Kind(WARNING, "{who}no park mode: the port {why} (http_listen) can't be had",
               "{nodes}: no park mode, the port (http_listen) can't be had",
               "ss -ltnp names the program that has it; set http_listen to another port", "park mode")  # fmt: skip
NOT_ASKED = Kind(FAULT, "{who}is on, and FreeSWITCH does not ask us: {why}",
                 "{nodes}: is on, and FreeSWITCH does not ask them", "see DIALPLAN.md", "park mode")  # fmt: skip
NO_KEY = Kind(WARNING, "{who}mod_xml_curl's URL has no key yet", "{nodes}: mod_xml_curl's URL has no key yet",
              "event-agentctl park status", "park mode")  # fmt: skip


@dataclass(frozen=True)
class Trouble:
    """What one node has: a kind, why, in its agent's words, and how much or how long, in the kind's unit."""

    kind: Kind
    node: str
    why: str = ""
    figure: float | None = None
    own_todo: str = ""  # instead of the kind's

    @property
    def todo(self) -> str:
        """What to do about it on this node."""
        return self.own_todo or self.kind.todo.format(node=self.node)


def of_agents(replies: Sequence[Reply]) -> list[Finding]:
    """What is wrong with the agents, the worst first, then what most nodes have; and behind it those that are well."""
    said = [list(_troubles(reply)) for reply in replies]
    well = [reply for reply, troubles in zip(replies, said, strict=True) if not troubles]
    wrong = _wrong([each for troubles in said for each in troubles], len(replies) > 1)
    if len(well) <= FEW:
        return [*wrong, *map(_well, well)]
    names = some([node_of(reply) for reply in well], most=FEW)
    return [*wrong, Finding(OK, "agent", f"{len(well)} nodes: both links are up, they take requests: {names}")]


def _well(reply: Reply) -> Finding:
    version = data_of(reply).get("version")
    return Finding(OK, "agent", f"{node_of(reply)} {version}: both links are up, it takes requests")


# -- what one agent says


def _troubles(reply: Reply) -> Iterator[Trouble]:
    node, data = node_of(reply), data_of(reply)
    if not reply.get("success"):
        yield Trouble(MUTE, node, str(reply.get("message")))
        return
    if (version := str(data.get("version"))) != __version__:
        yield Trouble(OTHER_VERSION, node, version)
    yield from _of_switch(node, section(reply, "freeswitch"), section(reply, "readiness").get("reasons"))
    yield from _of_broker(node, section(reply, str(data.get("driver"))))
    if isinstance(twins := data.get("twins"), list) and twins:
        yield Trouble(TWINS, node, ", ".join(str(each.get("hostname")) for each in twins), len(twins))
    if node == "unknown":
        yield Trouble(NO_NAME, node)
    yield from _of_park(node, section(reply, "dialplan"))


def _of_switch(node: str, switch: Mapping[str, Any], reasons: object) -> Iterator[Trouble]:
    if not switch.get("connected"):
        yield Trouble(AWAY, node, str(switch.get("reason", "?")), _age(switch))
    elif switch.get("events") is False:
        yield Trouble(DEAF, node, str(switch.get("events_reason", "?")))
    if isinstance(reasons, list) and reasons and switch.get("connected"):
        yield Trouble(DRAINED if "drained" in reasons else NOT_READY, node, ", ".join(map(str, reasons)))
    if isinstance(lag := switch.get("events_lag"), (int, float)) and lag > LATE:
        yield Trouble(EVENTS_LATE, node, figure=lag)


def _of_broker(node: str, broker: Mapping[str, Any]) -> Iterator[Trouble]:
    if refused := broker.get("subscriptions_refused"):
        yield Trouble(KEPT_OUT, node, ", ".join(map(str, refused)))
    for name, kind in (("messages_refused", REFUSED), ("messages_dropped", DROPPED), ("buffered_bytes", BEHIND)):
        if isinstance(count := broker.get(name), int) and count:
            yield Trouble(kind, node, figure=count)


def _of_park(node: str, park: Mapping[str, Any]) -> Iterator[Trouble]:
    if park.get("available") is False and park.get("listen"):
        yield Trouble(NO_PORT, node, str(park.get("listen")))
    elif park.get("mode") == "park" and park.get("binding") != "ok":
        yield Trouble(NOT_ASKED, node, str(park.get("binding")), own_todo=str(park.get("add", "")))
    elif park.get("key") == "optional":
        yield Trouble(NO_KEY, node)


def _age(part: Mapping[str, Any]) -> float | None:
    """Seconds; 0 if the agent's clock is ahead of ours."""
    since = part.get("since")
    return max(0.0, time.time() - since) if isinstance(since, (int, float)) else None


# -- what many say


def _wrong(troubles: Sequence[Trouble], named: bool) -> list[Finding]:
    """At most MOST findings if there are several agents, which are `named` then."""
    groups = _grouped(troubles, FEW)
    if named and len(groups) > MOST:
        groups = _grouped(troubles, 1)
    if named and len(groups) > MOST:
        shown = [_finding(group, named) for group in groups[: MOST - 1]]
        return [*shown, _left_out([each for group in groups[MOST - 1 :] for each in group])]
    return [_finding(group, named) for group in groups]


def _grouped(troubles: Sequence[Trouble], few: int) -> list[list[Trouble]]:
    """What makes a finding each: troubles of one kind and reason if more than `few` nodes have them; else of one kind,
    if those are more than `few`; else each alone. Those that are alike stay together."""
    by_reason = _by(troubles, lambda each: (each.kind, each.why))
    rest = [each for group in by_reason if len(group) <= few for each in group]
    groups = [group for group in by_reason if len(group) > few] + _by(rest, lambda each: each.kind)
    groups.sort(key=lambda group: (_badness(group[0]), -len(group)))
    return [part for group in groups for part in ([group] if len(group) > few else [[each] for each in group])]


def _by(troubles: Sequence[Trouble], key: Callable[[Trouble], object]) -> list[list[Trouble]]:
    found: dict[object, list[Trouble]] = {}
    for each in troubles:
        found.setdefault(key(each), []).append(each)
    return list(found.values())


def _badness(trouble: Trouble) -> int:
    return (FAULT, WARNING, NOTE).index(trouble.kind.level)


def _finding(group: Sequence[Trouble], named: bool) -> Finding:
    first, kind = group[0], group[0].kind
    figure = _range(kind, [each.figure for each in group if each.figure is not None])
    if len(group) == 1:
        who = f"{first.node}: " if named else ""
        text = kind.one.format(who=who, node=first.node, figure=figure, why=first.why)
    else:
        text = f"{kind.several.format(nodes=f'{len(group)} nodes', figure=figure)}: {_names(group)}"
    return Finding(kind.level, kind.about, text, _todo(group))


def _range(kind: Kind, figures: Sequence[float]) -> str:
    """From the least of the figures to the greatest; empty if there are none."""
    ends = dict.fromkeys(map(kind.show, (min(figures), max(figures)))) if figures else ()
    return kind.around.format(" to ".join(ends)) if ends else ""


def _names(group: Sequence[Trouble]) -> str:
    """The reason and some of the nodes; or, if the reasons differ, some of the nodes with theirs, which do differ."""
    first = {each.why: each for each in reversed(group)}
    if len(first) > 1:
        ranked = sorted(group, key=lambda each: first[each.why] is not each)
        return some([f"{each.node} ({cut(each.why, SHORT)})" for each in ranked], most=SUCH_AS)
    why, names = group[0].why, some(list(dict.fromkeys(each.node for each in group)), most=FEW)
    return f"{cut(why, LONG)}: {names}" if why else names


def _todo(group: Sequence[Trouble]) -> str:
    """What to do on all of the nodes, or on the first of them, as it is there to be copied."""
    first = group[0]
    alike = all(each.todo == first.todo for each in group)
    return first.todo if alike else f"{first.todo}\nthat is for {first.node}; likewise for the others"


def _left_out(troubles: Sequence[Trouble]) -> Finding:
    nodes = list(dict.fromkeys(each.node for each in troubles))
    of = f"{len(nodes)} nodes: {some(nodes, most=FEW)}" if len(nodes) > 1 else nodes[0]
    text = f"{len(troubles)} more findings of {of}"
    return Finding(troubles[0].kind.level, "agent", text, f"event-agentctl --node {nodes[0]} status --json")
