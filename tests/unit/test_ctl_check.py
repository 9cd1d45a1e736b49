"""event-agentctl check: states, exit codes and the one line that monitoring systems read."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import pytest

from event_agent.client.client import AgentTimeout, NoAgent, Reply
from event_agent.config import unit as unit_files
from event_agent.ctl import check as ctl_check
from event_agent.ctl import connection
from event_agent.ctl import program as ctl
from event_agent.ctl.check import CRITICAL, OK, WARNING, figures, judge
from event_agent.errors import ConfigError, LinkError


def options(*argv: str) -> argparse.Namespace:
    return ctl.parser().parse([*argv, "check"] if argv and argv[0] == "--node" else ["check", *argv])


def node(name: str = "n1", up: bool = True, events: bool = True, **data: Any) -> Reply:
    fields = {"freeswitch": {"connected": up, "events": events}, "stats": {"requests_failed": 1}, **data}
    return {"success": True, "node_id": name, "data": fields}


@pytest.mark.parametrize(
    ("replies", "argv", "code", "text"),
    [
        ([node()], [], OK, "n1: FreeSWITCH connected"),
        ([node("a"), node("b")], [], OK, "2 nodes, FreeSWITCH connected on all"),
        ([], [], CRITICAL, "no agent has replied"),
        ([node()], ["--min-nodes", "2"], CRITICAL, "1 node of at least 2"),
        ([node()], ["--node", "n1"], OK, "n1: FreeSWITCH connected"),
        ([node(up=False)], [], CRITICAL, "FreeSWITCH unreachable on n1"),
        ([node("a"), node("b", up=False, events=False)], [], WARNING, "FreeSWITCH unreachable on b"),
        ([node(events=False, freeswitch={"connected": False, "reason": "it has ended"})], [], CRITICAL,
         "FreeSWITCH unreachable on n1: it has ended"),
        ([*(node(name, freeswitch={"connected": False, "reason": why}) for name, why in ("ax", "by", "cx")), node("d")],
         [], WARNING, "FreeSWITCH unreachable on a, c: x; FreeSWITCH unreachable on b: y"),
        ([node(freeswitch={"connected": True, "events": False, "events_reason": "closed"})], [], WARNING,
         "n1 gets no events from FreeSWITCH: closed"),
        ([node("FS-1"), node("fs_1")], [], WARNING, "2 agents are called fs_1: each takes its commands"),
        ([node("a", twins=[{"node_id": "A"}])], [], WARNING, "a: 1 more agent is called so: each takes its commands"),
        ([node("a", twins=[]), node("b", twins=None)], [], OK, "2 nodes, FreeSWITCH connected on all"),
        ([node("unknown"), node("unknown")], [], OK, "2 nodes, FreeSWITCH connected on all"),
        ([node(events=False)], [], WARNING, "n1 gets no events from FreeSWITCH"),
        ([node(commands_pending=1001)], [], WARNING, "n1: 1001 commands waiting"),
        ([node(commands_pending=1000)], [], OK, "n1: FreeSWITCH connected"),
        ([node(commands_pending=5)], ["--max-pending", "4"], WARNING, "n1: 5 commands waiting"),
        ([node(events_dropped=9)], [], OK, "n1: FreeSWITCH connected"),
        ([node(losses={"events": {"unconfirmed": 7}})], ["--max-dropped", "6"], WARNING, "n1: 7 events dropped"),
        ([node(driver="nats", nats={"delivery": {"fault": "events wait: no stream takes freeswitch.events.>"}})], [],
         WARNING, "n1: events wait: no stream takes freeswitch.events.>"),
        ([node(driver="nats", nats={"delivery": {"fault": ""}})], [], OK, "n1: FreeSWITCH connected"),
        ([node(events_dropped=9)], ["--max-dropped", "0"], WARNING, "n1: 9 events dropped"),
        ([node(dialplan={"key": "required"})], [], OK, "n1: FreeSWITCH connected"),
        (
            [node(dialplan={"key": "optional"})], [], WARNING,
            "n1: mod_xml_curl's URL has no key yet, see event-agentctl park status",
        ),
        ([{"success": False, "node_id": "x", "message": "denied"}], [], WARNING, "x: denied"),
        (
            [node("a", up=False), node("b", up=False), {"success": False, "node_id": "c", "message": "denied"}],
            ["--min-nodes", "4"], CRITICAL, "3 nodes of at least 4; FreeSWITCH unreachable on a, b; c: denied",
        ),
    ],
)  # fmt: skip
def test_states(replies: list[Reply], argv: list[str], code: int, text: str) -> None:
    found = judge(replies, options(*argv))
    if len(replies) == 3:
        assert found[0] == CRITICAL and set(found[1].split("; ")) == set(text.split("; "))
    else:
        assert found == (code, text)


def test_a_stream_that_takes_requests_is_warned_of() -> None:
    code, text = judge([node()], options(), {"B", "A"})
    assert code == WARNING
    assert text == "; ".join(
        f"the JetStream stream {name} takes requests and answers them itself: keep its subjects to events and cdr"
        for name in "AB"
    )
    assert judge([], options(), ["A"])[1].startswith("no agent has replied; the JetStream stream A takes")


def test_a_hundred_nodes_in_one_line_that_can_be_read() -> None:
    well = [node(f"n{number:02}") for number in range(60)]
    away = [node(f"n{number:02}", up=False) for number in range(60, 80)]
    drained = [node(f"n{number:02}", readiness={"reasons": ["drained"]}) for number in range(80, 100)]
    code, text = judge([*well, *away, *drained], options())
    assert code == WARNING and text.startswith("FreeSWITCH unreachable on n60, n61, n62, n63, n64, n65, and 14 more; ")
    assert text.endswith("n84 is not ready: drained; and 15 more") and len(text) < 300


def test_figures() -> None:
    replies = [
        node(commands_received=2, events_published=3, events_dropped=1, commands_pending=4),
        node("b", up=False),
        {"success": False},
    ]
    assert figures(replies) == "nodes=3 freeswitch=1 pending=4 commands=2c failed=2c events=3c dropped=1c lost=0c"


class FakeClient:
    """Gathers these replies, or raises."""

    def __init__(self, found: Any) -> None:
        self.found = found
        self.streams: set[str] = set()

    def gather(self, *_: Any, **__: Any) -> Any:
        return self._answer()

    def call(self, *_: Any, **__: Any) -> Any:
        return self._answer()[0]

    def _answer(self) -> Any:
        if isinstance(self.found, BaseException):
            raise self.found
        return self.found

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass


@pytest.mark.parametrize(
    ("found", "code", "line"),
    [
        ([node()], 0, r"EVENT-AGENT OK - n1: FreeSWITCH connected \| nodes=1 .*"),
        ([node("a|b\x1b[2J\nc", up=False)], 2, r"EVENT-AGENT CRITICAL - FreeSWITCH unreachable on a/b c \| nodes=1 .*"),
        ([], 2, "EVENT-AGENT CRITICAL - no agent has replied"),
        (LinkError("NATS at x: refused"), 2, "EVENT-AGENT CRITICAL - NATS at x: refused"),
        (NoAgent("no agent listens"), 2, "EVENT-AGENT CRITICAL - no agent listens"),
        (AgentTimeout("no reply"), 2, "EVENT-AGENT CRITICAL - no reply"),
        (ConfigError(["a", "b"]), 3, "EVENT-AGENT UNKNOWN - a; b"),
        (KeyboardInterrupt(), 3, "EVENT-AGENT UNKNOWN - interrupted"),
        (RuntimeError("bug"), 3, "EVENT-AGENT UNKNOWN - RuntimeError: bug"),
    ],
)
def test_the_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], found: Any, code: int, line: str
) -> None:
    def client(options: argparse.Namespace, environ: Mapping[str, str]) -> FakeClient:
        return FakeClient(found)

    monkeypatch.setattr(ctl_check, "client", client)
    assert ctl.main(["check"]) == code
    out, err = capsys.readouterr()
    assert re.fullmatch(line + "\n", out) and err == ""


@pytest.mark.parametrize("argv", [["check", "--min-nodes", "x"], ["check", "--nope"], ["check", "x"]])
def test_wrong_usage_is_unknown(capsys: pytest.CaptureFixture[str], argv: list[str]) -> None:
    with pytest.raises(SystemExit) as end:
        ctl.main(argv)
    assert end.value.code == 3
    assert re.fullmatch("EVENT-AGENT UNKNOWN - .*\n", capsys.readouterr().out)


# -- on a machine that has an agent


UNIT = "[Service]\nEnvironmentFile=-/etc/default/event-agent\nExecStart=/usr/bin/event-agent\nUser=event-agent\n"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A machine with the package; the function says what systemctl shows of the service."""
    unit = tmp_path / "lib/systemd/system/event-agent.service"
    unit.parent.mkdir(parents=True)
    unit.write_text(UNIT)
    default = tmp_path / "etc/default/event-agent"
    default.parent.mkdir(parents=True)
    default.write_text("MOD_EVENT_AGENT_NODE_ID=here\n")
    for name in ("URL", "HOST"):
        monkeypatch.delenv(f"MOD_EVENT_AGENT_{name}", raising=False)
    find = unit_files.service
    monkeypatch.setattr(connection, "service", lambda name: find(name, str(tmp_path)))

    def shows(text: str) -> None:
        tool = tmp_path / "bin/systemctl"
        tool.parent.mkdir(exist_ok=True)
        tool.write_text(f"#!/bin/sh\ncat <<'E'\n{text}\nE\n")
        tool.chmod(0o755)
        monkeypatch.setenv("PATH", str(tool.parent), prepend=os.pathsep)

    return shows


class ThisClient(FakeClient):
    """Remembers which node was asked."""

    asked: ClassVar[list[str | None]] = []

    def gather(self, *_: Any, **options: Any) -> Any:
        self.asked.append(options["node"])
        return self._answer()


def checked(monkeypatch: pytest.MonkeyPatch, *argv: str) -> int:
    ThisClient.asked.clear()
    monkeypatch.setattr(ctl_check, "client", lambda options, environ: ThisClient([node("here")]))
    return ctl.main(["check", *argv])


@pytest.mark.parametrize(
    ("shown", "line"),
    [
        (
            "ActiveState=failed\nSubState=failed\nResult=exit-code\nStatusText=Wrong configuration: a.xml:3: x",
            "failed (exit-code): Wrong configuration: a.xml:3: x",
        ),
        ("ActiveState=activating\nSubState=auto-restart\nResult=signal\nStatusText=",
         "starting again and again (signal)"),
        ("ActiveState=activating\nSubState=start\nNRestarts=3", "starting again and again"),
        ("ActiveState=activating\nSubState=start\nNRestarts=0", "starting"),
        ("ActiveState=inactive\nSubState=dead\nStatusText=Draining", "stopped"),
        ("ActiveState=deactivating\nSubState=stop", "stopping"),
    ],
)  # fmt: skip
def test_the_agent_of_this_machine_is_not_running(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], shown: str,
    line: str, tmp_path: Path,
) -> None:  # fmt: skip
    machine(shown)
    wants = tmp_path / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    (wants / "event-agent.service").symlink_to("/lib/systemd/system/event-agent.service")
    assert checked(monkeypatch) == 2
    said = f"event-agent.service on this machine is {line}; see event-agentctl doctor"
    assert capsys.readouterr().out == f"EVENT-AGENT CRITICAL - {said}\n"
    assert checked(monkeypatch, "--all") == 0 and ThisClient.asked == [None]


def test_the_agent_of_this_machine(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine("ActiveState=active\nSubState=running")
    assert checked(monkeypatch) == 0 and ThisClient.asked == ["here"]
    for argv in (["--all"], ["--min-nodes", "1"], ["--url", "nats://x"]):
        assert checked(monkeypatch, *argv) == 0 and ThisClient.asked == [None]
    assert checked(monkeypatch, "--node", "n") == 0 and ThisClient.asked == ["n"]
    assert checked(monkeypatch, "--unit", "event-agent@none") == 3
    assert "there is no unit event-agent@none on this machine" in capsys.readouterr().out


def test_a_service_that_is_not_in_use_is_no_agent(
    machine: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine("ActiveState=inactive\nSubState=dead")
    assert checked(monkeypatch) == 0 and ThisClient.asked == [None]
