"""What a person reads of many nodes: doctor's page, and why links are down."""

from __future__ import annotations

import time
from typing import Any

from event_agent import __version__
from event_agent.client.client import Reply
from event_agent.ctl.doctor import of_agents
from event_agent.ctl.nodes import Nodes, reasons, summary
from event_agent.probe.findings import FAULT, NOTE, OK, WARNING, Finding, page

WELL = {"connected": True, "events": True}


def node(name: str, freeswitch: dict[str, Any] | None = None, **data: Any) -> Reply:
    fields = {"version": __version__, "freeswitch": freeswitch or WELL, "driver": "nats", "nats": {}, **data}
    return {"success": True, "node_id": name, "data": fields}


def fleet(count: int) -> list[Reply]:
    found = [node(f"n{number:02}") for number in range(count)]
    found[3] = node("n03", version="1.0.0")
    found[5] = node("n05", {"connected": False, "reason": "Connection refused"})
    found[7] = node("n07", readiness={"reasons": ["drained"]})
    return found


def test_few_agents_have_a_line_each() -> None:
    assert [each.level for each in of_agents([node("a"), node("b")])] == [OK, OK]


def test_of_many_agents_those_in_trouble_come_first_and_the_others_are_one_line() -> None:
    found = of_agents(fleet(100))
    assert [each.level for each in found] == [FAULT, WARNING, NOTE, OK]
    assert "Connection refused" in found[0].text and found[1].todo == "event-agentctl --node n07 drain off"
    assert found[-1].text == (
        "97 nodes: both links are up, they take requests: n00, n01, n02, n04, and 93 more"
    )


def test_a_page_for_a_terminal() -> None:
    long = Finding(FAULT, "agent", " ".join(["word"] * 30), "sudo a-command --that-is-longer-than-the-terminal " * 2)
    lines = page([long], 80).splitlines()
    assert max(map(len, lines[:-1])) <= 80 and all(line.startswith(" " * 18) for line in lines[1:])
    assert lines[-1].endswith(long.todo), "a command is one line, to be copied"
    assert len(page([long]).splitlines()) == 2


def test_why_links_are_down() -> None:
    now, since = 5.0, time.time() - 65
    gone = {"connected": False, "reason": "refused", "since": since}
    deaf = {"connected": True, "events": False, "events_reason": "closed", "events_since": since}
    nodes = Nodes()
    nodes.update([node("a", gone), node("b", gone), node("c", gone), node("d", deaf), node("e"), node("f", {})], now)
    said = reasons(nodes, now)
    assert said == ["a (1m 5s), b (1m 5s), and 1 more: refused", "d (1m 5s): closed"]
    assert reasons(nodes, now, most=1) == said[:1]


def test_what_an_agent_is_kept_from_is_trouble() -> None:
    nodes = Nodes()
    refused = {"subscriptions_refused": {"freeswitch.api": "Permissions Violation"}}
    nodes.update([node("a", twins=[{"node_id": "a"}]), node("b", nats=refused), node("c")], 1.0)
    assert summary(nodes, 1.0) == "3 nodes: 1 two of a name, 1 kept from a subject"
