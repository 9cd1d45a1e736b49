"""What each command of event-agentctl asks, and what it prints."""

from __future__ import annotations

import io
import json
from typing import Any

import pytest

from event_agent.client.client import Reply
from tests.unit.ctl.parts import FakeClient, Run, bad, node_status, ok

# -- req and api


def test_req_prints_the_reply_on_one_line(run: Run) -> None:
    client = FakeClient({"status": [ok("UP\n", correlation_id=7)], "nope": [bad("-ERR nope")]})
    code, out, err = run(client, "req", '{"command":"status","correlation_id":7}')
    assert (code, err) == (0, "")
    assert out.count("\n") == 1 and json.loads(out)["data"] == "UP\n"
    assert client.asked == [("any", {"command": "status", "correlation_id": 7})]
    code, out, err = run(client, "req", '{"command":"nope"}')
    assert code == 1 and json.loads(out)["message"] == "-ERR nope" and err == ""


def test_req_reads_standard_input(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO('{"command":"status"}'))
    assert run(FakeClient({"status": [ok()]}), "req", "-")[0] == 0


def test_req_without_a_reply_to_come(run: Run) -> None:
    client = FakeClient()
    assert run(client, "req", '{"command":"reloadxml","async":true}') == (0, "", "")
    assert client.asked == [("send", {"command": "reloadxml", "async": True})]


@pytest.mark.parametrize("text", ["{", "", "[1]", '"x"', "null", "[" * 100000, "\ud800"])
def test_a_bad_request_is_wrong_usage(run: Run, text: str) -> None:
    client = FakeClient()
    code, out, err = run(client, "req", text)
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("event-agentctl: ")
    assert client.asked == []


def test_req_to_all(run: Run) -> None:
    client = FakeClient({"agent.status": [node_status("a"), node_status("b")], "x": [ok(1, "a"), bad("no", "b")]})
    code, out, err = run(client, "req", "--all", '{"command":"x","k":1}')
    assert code == 1 and [json.loads(line)["node_id"] for line in out.splitlines()] == ["a", "b"]
    assert client.asked[-1] == ("all", {"command": "x", "k": 1})
    assert run(client, "req", "--all", '{"command":1}')[0] == 2


def test_api_prints_what_freeswitch_says(run: Run) -> None:
    client = FakeClient({"show": [ok("a\x1b[31m\n1 total.\n")], "x": [ok("no newline")], "empty": [ok("")]})
    assert run(client, "api", "show", "channels", "-x", "count") == (0, "a\x1b[31m\n1 total.\n", "")
    assert client.asked == [("any", {"command": "show", "args": "channels -x count", "parts": True})]
    assert run(client, "--node", "N", "api", "x") == (0, "no newline\n", "")
    assert client.asked[-1] == ("N", {"command": "x", "parts": True})
    assert run(client, "api", "empty") == (0, "", "")


def test_a_terminal_gets_no_control_sequences(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    client = FakeClient({"show": [ok("a\x1b[31mb\n")]})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert run(client, "api", "show")[1] == "ab\n"
    out = run(client, "req", '{"command":"show"}')[1]
    assert "\x1b" not in out and out.startswith('{\n  "success": true')


def test_api_that_fails(run: Run) -> None:
    code, out, err = run(FakeClient({"x": [bad("-ERR \x1b[2Jno\nsuch")]}), "api", "x")
    assert (code, out, err) == (1, "", "event-agentctl: -ERR no such\n")


def test_api_on_all_says_who_is_missing(run: Run) -> None:
    nodes = [node_status("a"), node_status("b"), node_status("b")]
    client = FakeClient({"agent.status": nodes, "x": [ok("2", "b"), ok("1", "a")]})
    code, out, err = run(client, "api", "--all", "x")
    assert (code, out) == (3, "--- a\n1\n--- b\n2\n")
    assert err == "event-agentctl: b: no reply within 35 seconds\n"
    assert run(FakeClient({"agent.status": []}), "api", "--all", "x")[0] == 3


# -- calls


def test_originate(run: Run) -> None:
    client = FakeClient({"originate": [ok({"uuid": "u-1"})]})
    argv = ["user/1000", "&park()", "-v", "a=b=c", "--variable", "d=", "--caller-id-name", "Al", "--ring", "20"]
    assert run(client, "originate", *argv) == (0, "u-1\n", "")
    assert client.asked[0][1] == {
        "command": "originate", "endpoint": "user/1000", "extension": "&park()", "caller_id_name": "Al", "timeout": 20,
        "variables": {"a": "b=c", "d": ""},
    }  # fmt: skip
    assert client.timeouts == [25]
    assert run(client, "originate", "user/1000", "1", "-v", "a")[0] == 2


def test_hangup_and_app_go_to_the_node_that_has_the_channel(run: Run) -> None:
    where = [ok("false", "a"), ok("true", "b")]
    client = FakeClient({"uuid_exists": where, "hangup": [ok("u", "b")], "execute_app": [ok("u", "b")]})
    assert run(client, "hangup", "u", "USER_BUSY") == (0, "b: done\n", "")
    assert client.asked == [
        ("all", {"command": "uuid_exists", "args": "u"}),
        ("b", {"command": "hangup", "uuid": "u", "cause": "USER_BUSY"}),
    ]
    assert run(client, "app", "u", "playback", "-x", "y")[0] == 0
    assert client.asked[-1] == ("b", {"command": "execute_app", "uuid": "u", "app": "playback", "args": "-x y"})
    run(client, "app", "u", "answer", "--node", "z")  # what follows the application is its own
    assert client.asked[-1] == ("b", {"command": "execute_app", "uuid": "u", "app": "answer", "args": "--node z"})
    client.asked.clear()
    assert run(client, "--node", "a", "hangup", "u")[0] == 0
    assert [how for how, _ in client.asked] == ["a"]


def test_a_channel_that_nobody_has_gets_no_command(run: Run) -> None:
    client = FakeClient({"uuid_exists": [ok("false", "a"), ok("false", "b")]})
    assert run(client, "hangup", "u") == (1, "", "event-agentctl: -ERR No such channel!\n")
    assert [payload["command"] for _, payload in client.asked] == ["uuid_exists"]


@pytest.mark.parametrize("exists", [[bad("API command 'uuid_exists' is denied", "a")], [ok("true", "unknown")]])
def test_hangup_and_app_find_the_channel_of_a_node_that_cannot_be_named(run: Run, exists: list[Reply]) -> None:
    replies = [bad("no such channel", "a"), ok("u", "b"), bad("no such channel", "c")]
    client = FakeClient({"uuid_exists": exists, "hangup": replies, "execute_app": replies})
    assert run(client, "hangup", "u", "USER_BUSY") == (0, "b: done\n", "")
    assert client.asked[-1] == ("all", {"command": "hangup", "uuid": "u", "cause": "USER_BUSY"})


def test_a_channel_nobody_has(run: Run) -> None:
    client = FakeClient({"hangup": [bad("no such channel", "a"), bad("no such channel", "b")]})
    assert run(client, "hangup", "u") == (1, "", "event-agentctl: no such channel\n")
    assert run(FakeClient({"hangup": []}), "hangup", "u") == (3, "", "event-agentctl: no reply within 35 seconds\n")


# -- park


@pytest.mark.parametrize(
    ("argv", "payload"),
    [
        (["on"], {"command": "dialplan.enable"}),
        (["on", "--context", "a"], {"command": "dialplan.enable", "context": "a"}),
        (
            ["on", "--context", "a", "--context", "b", "--number", "^9"],
            {"command": "dialplan.enable", "context": ["a", "b"], "number": "^9"},
        ),
        (["on", "--except", "112", "--except", "0900*"], {"command": "dialplan.enable", "except": ["112", "0900*"]}),
        (["off"], {"command": "dialplan.disable"}),
        (["audio", "silence"], {"command": "dialplan.audio", "mode": "silence"}),
        (["audio", "music", "jazz"], {"command": "dialplan.audio", "mode": "music", "music_class": "jazz"}),
        (["autoanswer", "on"], {"command": "dialplan.autoanswer", "enabled": True}),
        (["autoanswer", "off"], {"command": "dialplan.autoanswer", "enabled": False}),
    ],
)
def test_park(run: Run, argv: list[str], payload: dict[str, Any]) -> None:
    client = FakeClient({payload["command"]: [ok()]})
    assert run(client, "park", *argv) == (0, "n1: done\n", "")
    assert client.asked[-1] == ("all", payload)
    assert run(client, "park", *argv, "--node", "n1")[0] == 0
    assert client.asked[-1] == ("n1", payload)


def test_park_where_a_node_refuses(run: Run) -> None:
    nodes = [node_status("a"), node_status("b")]
    client = FakeClient({"agent.status": nodes, "dialplan.disable": [bad("no listener", "b"), ok(None, "a")]})
    assert run(client, "park", "off") == (1, "a: done\n", "event-agentctl: b: no listener\n")


def test_park_status(run: Run) -> None:
    fields = {"mode": "park", "audio": "music", "music_class": "jazz", "auto_answer": True, "context": ["a", "b"],
              "number": "", "calls_parked": 2, "calls_parked_total": 9, "key": "optional"}  # fmt: skip
    info = "Mode: disabled | Audio: ringback | Auto-answer: enabled | Calls parked: 5"
    nodes = [node_status("a"), node_status("b")]
    client = FakeClient({"agent.status": nodes, "dialplan.status": [ok(None, "b", info=info), ok(fields, "a")]})
    code, out, _ = run(client, "park", "status")
    assert code == 0
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == ["a", "park", "music", "(jazz)", "on", "a,", "b", "any", "2", "9"]
    assert rows[2] == ["b", "disabled", "ringback", "enabled", "any", "any", "5", "-"]
    assert out.splitlines()[3:] == [
        "a: mod_xml_curl's URL has no key yet, so any program on that machine can ask for the dialplan; "
        "data.dialplan.add of agent.status has the line for xml_curl.conf.xml"
    ]
    client.replies["dialplan.status"][1]["data"]["except"] = ["112", "0900*"]
    rows = [line.split() for line in run(client, "park", "status")[1].splitlines()]
    assert rows[0][6] == "EXCEPT" and rows[1][7:] == ["any", "112,", "0900*", "2", "9"]
    assert rows[2] == ["b", "disabled", "ringback", "enabled", "any", "any", "none", "5", "-"]


# -- route


@pytest.mark.parametrize(
    ("argv", "payload"),
    [
        (["on"], {}),
        (["off"], {"enabled": False}),
        (
            ["on", "--subject", "a.b", "--wait", "0.5", "--context", "c", "--number", "^9", "--except", "112",
             "-v", "x", "--variable", "y", "--fallback", "park"],
            {"subject": "a.b", "timeout": 0.5, "context": ["c"], "number": "^9", "except": ["112"],
             "variables": ["x", "y"], "fallback": "park"},
        ),
    ],
)  # fmt: skip
def test_route(run: Run, argv: list[str], payload: dict[str, Any]) -> None:
    client = FakeClient({"dialplan.route": [ok()]})
    assert run(client, "route", *argv) == (0, "n1: done\n", "")
    assert client.asked[-1] == ("all", {"command": "dialplan.route", **payload})
    assert run(client, "route", *argv, "--node", "n1")[0] == 0
    assert client.asked[-1] == ("n1", {"command": "dialplan.route", **payload})
    warned = FakeClient({"dialplan.route": [ok() | {"warnings": ["timeout: longer"]}]})
    assert run(warned, "route", *argv) == (0, "n1: done\n", "event-agentctl: n1: timeout: longer\n")


def test_route_status(run: Run) -> None:
    route = {"enabled": True, "subject": "a.route", "fallback": "park", "calls_waiting": 1, "calls_asked": 9,
             "decisions": {"park": 2, "apps": 3}, "fallbacks": {"late": 3, "invalid": 0, "too_many": 1},
             "last_fallback": "no answer came", "latency_ms": {"median": 1.5, "p99": None}}  # fmt: skip
    nodes = [node_status("a"), node_status("b")]
    client = FakeClient({"agent.status": nodes, "dialplan.status": [ok({}, "b"), ok({"route": route}, "a")]})
    code, out, _ = run(client, "route", "status")
    lines = out.splitlines()
    assert code == 0 and lines[1].split() == [
        "a", "on", "a.route", "park", "1", "9", "5", "1.5", "-", "3", "late,", "1", "too_many",
    ]  # fmt: skip
    assert lines[2].split() == ["b", "off", "-", "-", "-", "-", "-", "-", "-", "none"]
    assert lines[3:] == ["a: the last call that took the fallback: no answer came"]


# -- status


def test_status(run: Run) -> None:
    nodes = [node_status("b", up=False), node_status("a", events_dropped=3)]
    counts = [ok("\n2 total.\n", "a"), bad("FreeSWITCH is not connected", "b")]
    client = FakeClient({"agent.status": nodes, "show": counts})
    code, out, err = run(client, "status")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][0] == "NODE"
    assert rows[2] == ["a", "1.0.0", "1m", "1s", "up", "1.10.12", "2", "2", "-", "-", "-", "-", "0", "0", "3"]
    assert rows[1] == ["b", "1.0.0", "1m", "1s", "up", "away", "-", "-", "-", "-", "-", "-", "0", "0", "0"]


def test_status_takes_rates(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = {"connected": True, "calls": 0, "channels": 0}
    rounds = [
        node_status("a", freeswitch=switch) | {"timestamp": 10_000_000},
        node_status("a", freeswitch=switch, commands_received=1275, events_published=105) | {"timestamp": 12_000_000},
    ]
    client = FakeClient()
    monkeypatch.setattr(client, "_answer", lambda how, payload, timeout: [rounds.pop(0)])
    code, out, _ = run(client, "status")
    # 41 commands in two seconds, one of which was ours.
    assert code == 0 and out.splitlines()[1].split()[8:11] == ["20.0", "0.0", "50.0"]


def test_status_where_the_agent_counts_calls_itself(run: Run) -> None:
    client = FakeClient({"agent.status": [node_status(freeswitch={"connected": True, "calls": 4, "channels": 8})]})
    assert run(client, "status")[1].splitlines()[1].split()[4:8] == ["up", "up", "4", "8"]
    assert len(client.asked) == 2


def test_status_of_nodes_of_one_name_and_of_odd_ones(run: Run) -> None:
    nodes = [node_status("unknown"), node_status("unknown"), bad("denied", "z"), ok("text", "y"), ok([1], "x")]
    client = FakeClient({"agent.status": nodes, "show": [ok("1 total.", "unknown")] * 2})
    code, out, _ = run(client, "status")
    assert code == 1 and len(out.splitlines()) == 6
    assert [line.split()[6:8] for line in out.splitlines() if line.startswith("unknown")] == [["-", "-"]] * 2


def test_status_as_json(run: Run) -> None:
    client = FakeClient({"agent.status": [node_status("b"), node_status("a")]})
    out = run(client, "status", "--json")[1]
    assert [json.loads(line)["node_id"] for line in out.splitlines()] == ["a", "b"]


def test_status_of_nobody(run: Run) -> None:
    assert run(FakeClient({"agent.status": []}), "status") == (3, "", "event-agentctl: no reply within 3 seconds\n")
