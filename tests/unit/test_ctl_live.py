"""event-agentctl events and top, with clients made of Python and no clock to wait for."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from event_agent.client.client import Reply
from event_agent.ctl import events as ctl_events
from event_agent.ctl import program as ctl
from event_agent.ctl import top as ctl_top
from event_agent.ctl.events import matcher
from event_agent.ctl.nodes import HEADS, Nodes, node_table, summary
from event_agent.ctl.views import Painter
from event_agent.errors import LinkError

Event = dict[str, Any]


def event(name: str = "CHANNEL_ANSWER", node: str = "FS-1", uuid: str = "u", **headers: str) -> Event:
    return {"event_name": name, "node_id": node, "uuid": uuid, "headers": headers}


# -- events


class FakeStream:
    """Gives these events, then does what the last item says."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items
        self.dropped = 0
        self.closed = True  # once there are no more items

    def next(self, timeout: float | None = None) -> Event | None:
        if not self.items:
            return None
        if callable(self.items[0]):
            self.items.pop(0)(self)
            return self.next(timeout)
        if isinstance(self.items[0], BaseException):
            raise self.items.pop(0)
        found: Event = self.items.pop(0)
        return found

    def __enter__(self) -> FakeStream:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class FakeClient:
    def __init__(self, *streams: list[Any], connect: list[Exception] | None = None) -> None:
        self.streams = list(streams)
        self.connects = connect or []
        self.patterns: list[str] = []

    def events(self, pattern: str) -> FakeStream:
        self.patterns.append(pattern)
        return FakeStream(self.streams.pop(0))

    def connect(self) -> None:
        if self.connects:
            raise self.connects.pop(0)


def watch(client: Any, *argv: str) -> int:
    return ctl_events.run(client, ctl.parser().parse(["events", *argv]))


def test_events_are_json_lines_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeClient([event("A"), event("B", X_Y="\x9b2J")])
    assert watch(client, "CHANNEL_*") == 0
    out = capsys.readouterr().out
    assert [json.loads(line)["event_name"] for line in out.splitlines()] == ["A", "B"]
    assert "\x9b" not in out and client.patterns == ["channel.>"]


def test_events_are_lines_for_people_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "dumb")
    assert watch(FakeClient([event("CHANNEL_HANGUP", **{"Hangup-Cause": "X\x1b[2J"})])) == 0
    assert capsys.readouterr().out == "--:--:--.---  FS-1  CHANNEL_HANGUP            u  cause=X\n"
    assert watch(FakeClient([event()]), "--json") == 0
    assert json.loads(capsys.readouterr().out) == event()


def test_events_with_fields_and_a_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert watch(FakeClient([event(A="1"), event(A="2"), event(A="3")]), "--fields", "a,uuid", "-n", "2") == 0
    assert capsys.readouterr().out == '{"a":"1","uuid":"u"}\n{"a":"2","uuid":"u"}\n'
    assert watch(FakeClient([event()]), "-n", "0") == 0


def test_whose_events() -> None:
    assert matcher(None, None)(event())
    assert matcher("fs_1", None)(event()) and not matcher("fs_2", None)(event())
    for header in ("Unique-ID", "Channel-Call-UUID", "Other-Leg-Unique-ID"):
        assert matcher(None, "v")(event(**{header: "v"}))
    assert matcher(None, "u")(event()) and not matcher(None, "v")(event(Other="v"))
    assert not matcher("n", "u")({"event_name": "X"}) and not matcher(None, "u")({"headers": []})


def test_a_lost_link_is_tried_again(capsys: pytest.CaptureFixture[str]) -> None:
    client = FakeClient([event("A"), LinkError("lost")], [event("B")], connect=[LinkError("refused")])
    assert watch(client, "-n", "2") == 0
    out, err = capsys.readouterr()
    assert [json.loads(line)["event_name"] for line in out.splitlines()] == ["A", "B"]
    assert err == (
        "event-agentctl: lost; trying again\nevent-agentctl: connected again; events in between are missing here\n"
    )


def test_a_link_that_stays_lost() -> None:
    refused: list[Exception] = [LinkError("refused")] * 3
    with pytest.raises(LinkError, match="refused"):
        watch(FakeClient([LinkError("lost")], connect=refused), "--timeout", "0.5")


def test_slow_output_is_reported_and_ctrl_c_is_an_end(capsys: pytest.CaptureFixture[str]) -> None:
    def drop(stream: FakeStream) -> None:
        stream.dropped = 7

    assert watch(FakeClient([event("A"), drop, event("B"), event("C"), KeyboardInterrupt()])) == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 3
    assert err == "event-agentctl: 7 events left out: the output is too slow\n"


# -- top


def status(
    node: str = "a", at: float = 0.0, commands: int = 0, events: int = 0, uptime: int = 10, **more: Any
) -> Reply:
    data = {
        "commands_received": commands, "events_published": events, "uptime": uptime, "commands_pending": 0,
        "events_dropped": 0, "stats": {"requests_failed": 0}, "freeswitch": {"connected": True, "calls": 1}, **more,
    }  # fmt: skip
    return {"success": True, "node_id": node, "timestamp": int(at * 1e6), "data": data}


def rows(nodes: Nodes, now: float) -> list[list[str]]:
    return [line.split() for line in node_table(nodes, now, Painter(False))[1:]]


def test_rates_are_by_the_nodes_own_clock_and_without_our_own_requests() -> None:
    nodes = Nodes()
    nodes.asked()
    nodes.update([status(at=100, commands=10, events=50)], 1.0)
    assert rows(nodes, 1.0)[0] == ["a", "-", "10s", "up", "up", "1", "-", "-", "-", "-", "-", "0", "0", "0"]
    nodes.asked()
    nodes.asked()
    nodes.update([status(at=102, commands=32, events=250, stats={"requests_failed": 3})], 2.0)
    assert rows(nodes, 2.0)[0][7:10] == ["10.0", "1.5", "100.0"]


@pytest.mark.parametrize("after", [status(at=102, uptime=1), status(at=100), status(at=99)])
def test_no_rate_across_a_restart_or_without_time(after: Reply) -> None:
    nodes = Nodes()
    nodes.update([status(at=100, commands=10)], 1.0)
    nodes.update([after], 2.0)
    assert rows(nodes, 2.0)[0][7] == "-"


def test_nodes_come_and_go() -> None:
    nodes = Nodes()
    nodes.update([status("b"), status("a"), status("unknown"), status("unknown")], 1.0)
    assert [row[0] for row in rows(nodes, 1.0)] == ["a", "b", "unknown", "unknown"]
    assert nodes.heard(1.0) == 4
    nodes.update([status("a")], 6.0)
    assert nodes.heard(6.0) == 1 and rows(nodes, 6.0)[1][3:7] == ["-", "silent", "for", "5s"]
    nodes.update([status("a")], 70.0)
    assert [row[0] for row in rows(nodes, 70.0)] == ["a"]


def test_odd_replies_are_shown_too() -> None:
    nodes = Nodes()
    for now in (1.0, 2.0):
        nodes.update(
            [{"success": False, "message": "denied\x1b[2J"}, {"success": True, "data": [], "node_id": "x"},
             status("y", uptime="no", commands=None, stats=3)],  # type: ignore[arg-type]
            now,
        )  # fmt: skip
        assert rows(nodes, now)[0][0] == "unknown" and rows(nodes, now)[0][4] == "denied"
        assert rows(nodes, now)[1][0] == "x" and rows(nodes, now)[1][4] == "away"


def test_links_and_lag() -> None:
    def shown(**more: Any) -> list[str]:
        nodes = Nodes()
        nodes.update([status(**more)], 1.0)
        (row,) = node_table(nodes, 1.0, Painter(False))[1:]
        return [cell.strip() for cell in row.split("  ")]

    assert "29 ms" in shown(freeswitch={"connected": True, "events": True, "events_lag": 0.0291})
    assert any("1.5 s" in each for each in shown(freeswitch={"connected": True, "events_lag": 1.5}))
    assert "no events" in shown(freeswitch={"connected": True, "events": False})
    assert "1.10.12" in shown(freeswitch={"connected": True, "version": "FreeSWITCH Version 1.10.12-release"})
    assert "behind" in shown(driver="nats", nats={"buffered_bytes": 9})


def test_a_narrow_terminal_gets_fewer_columns() -> None:
    nodes = Nodes()
    nodes.update([status("node-with-a-name")], 1.0)
    before = len(HEADS) + 1
    for columns in (0, 120, 100, 80, 60, 40, 30, 1):
        head, line = node_table(nodes, 1.0, Painter(False), columns)
        heads = head.split()
        assert columns < 30 or not columns or max(len(head), len(line)) <= columns
        assert heads[0] == "NODE" and "FREESWITCH" in heads and len(line.split()) == len(heads) <= before
        before = len(heads)
    assert heads == ["NODE", "FREESWITCH"]

class TopClient:
    """Statuses round by round; an exception is raised."""

    def __init__(self, *rounds: Any) -> None:
        self.rounds = list(rounds)
        self.connected = True
        self.shows = 0

    def connect(self) -> None:
        self.connected = True

    def gather(self, command: str, args: str | None = None, timeout: float = 5.0, **_: Any) -> list[Reply]:
        if command == "show":
            self.shows += 1
            return [{"success": True, "node_id": "a", "data": "\n3 total.\n"}]
        found = self.rounds.pop(0)
        if isinstance(found, Exception):
            self.connected = False
            raise found
        assert self.connected
        replies: list[Reply] = found
        return replies


def draw(client: TopClient, count: int, monkeypatch: pytest.MonkeyPatch, *argv: str) -> None:
    waits: list[float] = []

    def wait(keyboard: int | None, seconds: float) -> bool:
        waits.append(seconds)
        return False

    monkeypatch.setattr(ctl_top, "_wait", wait)
    options: argparse.Namespace = ctl.parser().parse(["top", "-n", str(count), *argv])
    assert ctl_top.run(client, options) == 0  # type: ignore[arg-type]
    assert len(waits) == count - 1


def fleet(count: int, wrong: dict[int, dict[str, Any]]) -> list[Reply]:
    """The statuses of many nodes; those that are named differ so."""
    well = {"connected": True, "events": True, "version": "1.10.12", "events_lag": 0.01, "calls": 10, "channels": 20}
    found = []
    for number in range(count):
        reply = status(f"node-{number:03}", freeswitch=dict(well), events=10**6, uptime=10**6)
        for section, values in wrong.get(number, {}).items():
            reply["data"][section] = {**reply["data"].get(section, {}), **values}
        found.append(reply)
    return found


WRONG: dict[int, dict[str, Any]] = {
    7: {"readiness": {"reasons": ["drained"]}}, 42: {"freeswitch": {"connected": False}},
    63: {"freeswitch": {"events_lag": 7.5}}, 98: {"freeswitch": {"events": False}},
}


def test_a_hundred_nodes_on_a_small_terminal() -> None:
    nodes = Nodes()
    nodes.update(fleet(100, {}), 1.0)
    assert summary(nodes, 1.0) == "100 nodes"
    nodes.update(fleet(99, WRONG), 2.0)
    lines = node_table(nodes, 2.0, Painter(False), 80, 21)
    assert len(lines) == 21 and max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines[1:8]] == [
        "node-099", "node-042", "node-098", "node-007", "node-063", "node-000", "node-001",
    ]  # fmt: skip
    assert lines[-1] == "… 81 more, all well"
    assert summary(nodes, 2.0) == (
        "99 nodes: 1 silent, 1 without FreeSWITCH, 1 without events, 1 not ready, 1 behind"
    )
    assert len(node_table(nodes, 2.0, Painter(False))) == 101, "in a pipe all are there"


def test_no_node_in_trouble_is_left_out() -> None:
    nodes = Nodes()
    nodes.update(fleet(100, {number: {"readiness": {"reasons": ["paused"]}} for number in range(50)}), 1.0)
    lines = node_table(nodes, 1.0, Painter(False), 80, 21)
    assert len(lines) == 52 and lines[-1] == "… 50 more, all well"


def test_top_of_a_hundred_nodes_says_what_is_wrong_first(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    draw(TopClient(fleet(100, WRONG)), 1, monkeypatch)
    shown = capsys.readouterr().out.splitlines()
    assert "100 nodes: 1 without FreeSWITCH, 1 without events, 1 not ready, 1 behind" in shown[0]
    assert shown[3].startswith("node-042")


def test_top_in_a_pipe(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    client = TopClient([status(freeswitch={"connected": True})], LinkError("lost"), [], [status()])
    draw(client, 4, monkeypatch)
    tables = capsys.readouterr().out.split("event-agentctl top")[1:]
    assert "1 node\n" in tables[0] and tables[0].split("\n")[3].split()[3:7] == ["up", "up", "3", "3"]
    assert "0 nodes: 1 silent  lost" in tables[1] and "silent for" in tables[1]
    assert "no reply within 1 seconds" in tables[2]
    assert "1 node\n" in tables[3]
    assert client.shows == 2  # once each for calls and channels
    assert "\x1b" not in "".join(tables)


def test_top_does_not_count_what_the_status_says(monkeypatch: pytest.MonkeyPatch) -> None:
    client = TopClient([status(freeswitch={"connected": True, "calls": 1, "channels": 2})])
    draw(client, 1, monkeypatch)
    assert client.shows == 0


def test_a_line_as_wide_as_the_screen_keeps_its_last_character(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Erasing behind it would take that one: the cursor still stands on it."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("LINES", "5")
    ctl_top.draw(["x" * 20, "short"])
    shown = capsys.readouterr().out
    assert "x" * 20 + "\r\n" in shown and "\x1b[Kshort" in shown
