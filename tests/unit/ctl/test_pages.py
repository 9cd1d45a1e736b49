"""What a person reads of many nodes: doctor's page, and why links are down."""

from __future__ import annotations

import time
from typing import Any

from event_agent import __version__
from event_agent.client.client import Reply
from event_agent.ctl.nodes import Nodes, reasons, summary
from event_agent.ctl.troubles import MOST, of_agents
from event_agent.probe.findings import FAULT, NOTE, OK, WARNING, Finding, page, worst

WELL = {"connected": True, "events": True}


def node(name: str, freeswitch: dict[str, Any] | None = None, **data: Any) -> Reply:
    fields = {"version": __version__, "freeswitch": freeswitch or WELL, "driver": "nats", "nats": {}, **data}
    return {"success": True, "node_id": name, "data": fields}


def away(name: str, reason: str, seconds: float) -> Reply:
    """Half a second more, so that the test may take as long."""
    return node(name, {"connected": False, "reason": reason, "since": time.time() - seconds - 0.5})


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


def test_what_few_nodes_have_in_common_is_a_line_each() -> None:
    found = of_agents([*(away(f"n{number}", "refused", 10 + number) for number in range(3)),
                       *(node(f"n{number}") for number in range(3, 8))])  # fmt: skip
    assert found[:3] == [
        Finding(FAULT, "agent", f"n{number}: is not connected to FreeSWITCH for 1{number}s: refused")
        for number in range(3)
    ]
    assert [each.level for each in found[3:]] == [OK]
    assert of_agents([away("n0", "refused", 10)])[0].text == "is not connected to FreeSWITCH for 10s: refused"


def test_a_hundred_nodes_with_much_trouble_are_one_page() -> None:
    replies = [
        *(away(f"fs-node-{number:02}", "127.0.0.1:8021 can't be reached: no", 12 + number) for number in range(18)),
        *(away(f"fs-node-{number:02}", "wrong password", 3700) for number in range(18, 23)),
        *(away(f"fs-node-{number:02}", "no answer", 40 + number) for number in range(23, 25)),
        *(node(f"fs-node-{number:02}", readiness={"reasons": ["drained"]}) for number in range(25, 31)),
        {"success": False, "node_id": "fs-node-31", "message": "the lane is full"},
        *(node(f"fs-node-{number:02}", nats={"messages_dropped": number}) for number in range(32, 40)),
        *(node(f"fs-node-{number:02}") for number in range(40, 100)),
    ]
    found = of_agents(replies)
    assert worst(found) == FAULT and [each.level for each in found] == [FAULT] * 4 + [WARNING] * 3 + [OK]
    assert [each.text for each in found] == [
        "18 nodes are not connected to FreeSWITCH for 12s to 29s: 127.0.0.1:8021 can't be reached: no: "
        "fs-node-00, fs-node-01, fs-node-02, fs-node-03, and 14 more",
        "5 nodes are not connected to FreeSWITCH for 1h 1m: wrong password: "
        "fs-node-18, fs-node-19, fs-node-20, fs-node-21, and 1 more",
        "fs-node-23: is not connected to FreeSWITCH for 1m 3s: no answer",
        "fs-node-24: is not connected to FreeSWITCH for 1m 4s: no answer",
        "8 nodes: 32 to 39 messages of each were dropped: fs-node-32, fs-node-33, fs-node-34, fs-node-35, and 4 more",
        "6 nodes take no requests on any: drained: fs-node-25, fs-node-26, fs-node-27, fs-node-28, and 2 more",
        "fs-node-31: the lane is full",
        "60 nodes: both links are up, they take requests: fs-node-40, fs-node-41, fs-node-42, fs-node-43, and 56 more",
    ]
    assert found[4].todo == "reconnect_buf_size, or fewer events (exclude)", "the same on all of them"
    assert found[5].todo.splitlines() == [
        "event-agentctl --node fs-node-25 drain off", "that is for fs-node-25; likewise for the others"
    ]  # fmt: skip
    lines = page(found, 80).splitlines()
    assert len(lines) <= 24 and max(map(len, lines)) <= 80


def test_reasons_that_differ_by_node_are_one_line_with_two_of_them() -> None:
    found = of_agents([away(f"n{number}", f"10.0.0.{number}:8021 can't be reached", 5) for number in range(25)])
    assert [each.text for each in found] == [
        "25 nodes are not connected to FreeSWITCH for 5s: n0 (10.0.0.0:8021 can't be reached), "
        "n1 (10.0.0.1:8021 can't be reached), and 23 more"
    ]
    long = of_agents([away(f"n{number}", "word " * 100, 5) for number in range(5)])
    assert len(page(long, 80).splitlines()) <= 4


def test_a_figure_that_is_not_known_is_left_out() -> None:
    gone = {"connected": False, "reason": "refused"}
    ahead = [away(f"n{number}", "refused", -60) for number in range(2)]
    found = of_agents([*(node(f"m{number}", gone) for number in range(5)), *ahead])
    assert found[0].text.startswith("7 nodes are not connected to FreeSWITCH for 0s: refused: m0,")
    found = of_agents([node(f"m{number}", gone) for number in range(5)])
    assert found[0].text.startswith("5 nodes are not connected to FreeSWITCH: refused: m0,")


def test_all_kinds_of_trouble_at_once_are_bounded() -> None:
    bad = {"subscriptions_refused": {"freeswitch.api": "no"}, "messages_refused": 1, "messages_dropped": 2,
           "buffered_bytes": 3}  # fmt: skip
    deaf = {"connected": True, "events": False, "events_reason": "closed", "events_lag": 2.0}
    park = {"mode": "park", "binding": "no binding", "add": "in xml_curl.conf.xml: <binding {…}>"}
    replies = [
        node(f"n{number:02}", deaf, version="0.9", readiness={"reasons": ["paused"]}, nats=bad, dialplan=park)
        for number in range(100)
    ]
    found = of_agents(replies)
    assert len(found) == MOST and all(each.text.startswith("100 nodes") for each in found[:-1])
    assert [each.level for each in found] == [FAULT] * 4 + [WARNING] * 4
    assert found[3].about == "park mode" and found[3].todo == park["add"]
    assert found[-1].text == "200 more findings of 100 nodes: n00, n01, n02, n03, and 96 more"
    assert found[-1].todo == "event-agentctl --node n00 status --json"
    alone = of_agents(replies[:1])
    assert len(alone) == 9 and alone[0].text == "gets no events from FreeSWITCH: closed", "of one node all is said"


def test_two_nodes_that_are_alike_are_one_line_if_there_is_much_trouble() -> None:
    replies = [
        node(f"{reason}{number}", {"connected": True, "events": False, "events_reason": reason})
        for reason in "abc" for number in range(4)
    ]  # fmt: skip
    found = of_agents([*replies, node("well")])
    assert [each.text for each in found[:-1]] == [
        "12 nodes get no events from FreeSWITCH: a0 (a), b0 (b), and 10 more"
    ]
    replies[4:] = [node(f"n{number}", readiness={"reasons": ["drained"]}) for number in range(3)]
    replies += [node(f"v{number}", version="0.9") for number in range(3)]
    found = of_agents(replies)
    assert [each.text for each in found] == [
        "4 nodes get no events from FreeSWITCH: a: a0, a1, a2, a3",
        "3 nodes take no requests on any: drained: n0, n1, n2",
        f"3 nodes run another version, this tool is {__version__}: 0.9: v0, v1, v2",
    ]


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
