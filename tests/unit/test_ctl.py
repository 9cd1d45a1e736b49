"""event-agentctl's command line with a client made of Python: arguments, output, exit codes."""

from __future__ import annotations

import ast
import io
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

import event_agent
from event_agent.client.client import AgentTimeout, Client, CommandFailed, NoAgent, Reply, event_pattern
from event_agent.ctl import check as ctl_check
from event_agent.ctl import connection as ctl_connection
from event_agent.ctl import program as ctl
from event_agent.ctl.completion import bash
from event_agent.ctl.connection import client as make_client
from event_agent.errors import ConfigError, LinkError


def ok(data: Any = None, node: str = "n1", **more: Any) -> Reply:
    found: Reply = {"success": True, "status": "success", "message": "done", "node_id": node, **more}
    return found if data is None else found | {"data": data}


def bad(message: str, node: str = "n1") -> Reply:
    return {"success": False, "status": "error", "message": message, "node_id": node}


def node_status(node: str = "n1", up: bool = True, **more: Any) -> Reply:
    data = {
        "version": "1.0.0", "uptime": 61, "commands_received": 1234, "events_published": 5, "events_dropped": 0,
        "commands_pending": 0, "stats": {"requests_failed": 0},
        "freeswitch": {"connected": up, "events": up, "version": "FreeSWITCH Version 1.10.12-release+git~2 (git x)"},
    }  # fmt: skip
    return ok(data | more, node)


class FakeClient:
    """Answers as `replies` says, by command; remembers what it was asked."""

    def __init__(self, replies: Mapping[str, Any] | None = None, fault: Exception | None = None) -> None:
        self.replies = {"agent.status": [node_status()], **(replies or {})}
        self.fault = fault
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.timeouts: list[float] = []
        self.streams: set[str] = set()

    def _answer(self, how: str, payload: Mapping[str, Any], timeout: float) -> list[Reply]:
        self.asked.append((how, dict(payload)))
        self.timeouts.append(timeout)
        found = self.replies.get(payload["command"], [])
        if isinstance(found, Exception):
            raise found
        return [json.loads(json.dumps(each)) for each in found]

    def call(self, payload: Mapping[str, Any], node: str | None = None, timeout: float = 35) -> Reply:
        return self._answer(node or "any", payload, timeout)[0]

    def request(
        self, command: str, args: str | None = None, node: str | None = None, timeout: float = 35,
        fields: Mapping[str, Any] | None = None,
    ) -> Reply:  # fmt: skip
        payload = {"command": command, **({} if args is None else {"args": args}), **(fields or {})}
        reply = self.call(payload, node, timeout)
        if not reply["success"]:
            raise CommandFailed(reply)
        return reply

    def gather(
        self, command: str, args: str | None = None, timeout: float = 5, fields: Mapping[str, Any] | None = None, *,
        node: str | None = None, settle: float | None = None, expect: int | None = None,
        until: Callable[[Reply], bool] | None = None,
    ) -> list[Reply]:  # fmt: skip
        payload = {"command": command, **({} if args is None else {"args": args}), **(fields or {})}
        found = []
        for reply in self._answer(node or "all", payload, timeout):
            found.append(reply)
            if until is not None and until(reply):
                break
        return found

    def send(self, payload: Mapping[str, Any], node: str | None = None) -> None:
        self.asked.append(("send", dict(payload)))

    def __enter__(self) -> FakeClient:
        if self.fault is not None:
            raise self.fault
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        pass


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Run]:
    """Runs event-agentctl with a fake client; returns exit code, stdout and stderr."""

    def go(client: FakeClient, *argv: str) -> tuple[int, str, str]:
        for module in (ctl, ctl_check):
            monkeypatch.setattr(module, "client", lambda options, environ: client)
        try:
            code = ctl.main(argv)
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    yield go


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
    assert client.asked == [("any", {"command": "show", "args": "channels -x count"})]
    assert run(client, "--node", "N", "api", "x") == (0, "no newline\n", "")
    assert client.asked[-1] == ("N", {"command": "x"})
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


# -- status


def test_status(run: Run) -> None:
    nodes = [node_status("b", up=False), node_status("a", events_dropped=3)]
    counts = [ok("\n2 total.\n", "a"), bad("FreeSWITCH is not connected", "b")]
    client = FakeClient({"agent.status": nodes, "show": counts})
    code, out, err = run(client, "status")
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert rows[0][0] == "NODE"
    assert rows[1] == ["a", "1.0.0", "1m", "1s", "up", "1.10.12", "2", "2", "-", "-", "-", "-", "0", "0", "3"]
    assert rows[2] == ["b", "1.0.0", "1m", "1s", "up", "away", "-", "-", "-", "-", "-", "-", "0", "0", "0"]


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


# -- faults and exit codes


@pytest.mark.parametrize(
    ("fault", "code", "text"),
    [
        (LinkError("NATS at nats://h:1: refused"), 3, "NATS at nats://h:1: refused"),
        (NoAgent("no agent listens on freeswitch.api"), 3, "no agent listens on freeswitch.api"),
        (AgentTimeout("no reply within 5 seconds"), 3, "no reply within 5 seconds"),
        (CommandFailed(bad("-ERR no\x1b[2J")), 1, "-ERR no\n"),
        (ConfigError(["one", "two"]), 2, "one\nevent-agentctl: two\n"),
        (ValueError("too large"), 2, "too large"),
        (KeyboardInterrupt(), 130, ""),
        (BrokenPipeError(), 0, ""),
        (OSError(28, "No space left on device"), 1, "can't write: No space left on device"),
    ],
)
def test_faults_are_one_line_and_a_code(
    run: Run, monkeypatch: pytest.MonkeyPatch, fault: Any, code: int, text: str
) -> None:
    monkeypatch.setattr(ctl, "_mute", lambda: None)
    found, out, err = run(FakeClient(fault=fault), "status")
    assert found == code and out == "" and text in err and "Traceback" not in err


def test_an_unknown_node_is_named(run: Run) -> None:
    client = FakeClient({"status": NoAgent("no agent listens on freeswitch.node.x_y")})
    code, _, err = run(client, "--node", "X-Y\x1b", "api", "status")
    assert code == 3 and err.startswith("event-agentctl: no agent is called 'X-Y") and "\x1b" not in err
    assert err.endswith(" here; there are: n1\n")
    client.replies["agent.status"] = NoAgent("no agent listens on freeswitch.api")
    assert run(client, "--node", "x", "api", "status")[2].endswith(" here; there are: none at all\n")
    assert run(client, "api", "status")[2].endswith("is one running, and with this prefix?\n")


@pytest.mark.parametrize(
    "argv",
    [["nope"], ["status", "--nope"], ["--timeout", "0", "status"], ["--timeout", "x", "status"], ["api"],
     ["events", "a b"], ["events", "--fields", ","], ["events", "-n", "-1"], ["park"], ["park", "audio", "loud"],
     ["completion", "fish"], ["status", "x\x1b[2J"]],
)  # fmt: skip
def test_wrong_usage_is_one_line(run: Run, argv: list[str]) -> None:
    code, out, err = run(FakeClient(), *argv)
    assert code == 2 and out == "" and err.count("\n") == 1 and err.startswith("event-agentctl") and "\x1b" not in err


def test_nothing_at_all_gets_the_help(run: Run) -> None:
    code, out, err = run(FakeClient())
    assert code == 2 and out == "" and "status" in err and "Exit codes:" in err


def test_options_stand_before_or_after_the_command() -> None:
    for argv in (["--node", "a", "--timeout", "2", "api", "x"], ["api", "--node", "a", "--timeout", "2", "x"]):
        options = ctl.parser().parse(argv)
        assert (options.node, options.timeout, options.verb, options.args) == ("a", 2.0, "x", [])
    options = ctl.parser().parse(["--url", "h", "park", "--node", "a", "on"])
    assert (options.url, options.node, options.what) == ("h", "a", "on")
    assert ctl.parser().parse(["events", "CHANNEL_ANSWER"]).pattern == event_pattern("CHANNEL_ANSWER")


# -- where it connects


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Client]:
    """The client for a command line and an environment, with no agent's file unless there is one in tmp_path."""
    monkeypatch.setattr(ctl_connection, "DEFAULT_FILE", str(tmp_path / "default.xml"))

    def go(*argv: str, **environ: str) -> Client:
        variables = {f"MOD_EVENT_AGENT_{name.upper()}": value for name, value in environ.items()}
        return make_client(ctl.parser().parse([*argv, "status"]), variables)

    return go


def write(path: Path, **params: str) -> str:
    lines = "".join(f'<param name="{name}" value="{value}"/>' for name, value in params.items())
    path.write_text(f'<configuration name="event_agent.conf"><settings>{lines}</settings></configuration>')
    return str(path)


def test_options_win_over_environment_over_file_over_default(connect: Callable[..., Client], tmp_path: Path) -> None:
    assert connect().servers == ("nats://127.0.0.1:4222",)
    write(tmp_path / "default.xml", url="file:1", subject_prefix="pbx")
    assert (connect().servers, connect().prefix) == (("nats://file:1",), "pbx")
    assert connect(url="env:2").servers == ("nats://env:2",)
    found = connect("--url", "opt:3,opt:4", "--prefix", "x", url="env:2")
    assert (found.servers, found.prefix) == (("nats://opt:3", "nats://opt:4"), "x")
    other = write(tmp_path / "other.xml", url="other:5")
    assert connect("-c", other).servers == ("nats://other:5",)
    assert connect("-c", other, url="env:2").servers == ("nats://env:2",)


def test_whose_credentials(connect: Callable[..., Client]) -> None:
    def token(*argv: str, **environ: str) -> str:
        return connect(*argv, **environ)._credentials.token

    assert token(token="e") == "e"
    assert token("--token", "o", token="e", nkey_seed="SUnone") == "o"
    assert token("--url", "user:pass@h", token="e") == ""
    assert token("--url", "h", token="e") == "e"


def test_the_rest_of_the_environment_is_the_daemons(connect: Callable[..., Client]) -> None:
    assert connect(esl_port="x", node_id="n", include="(").servers == ("nats://127.0.0.1:4222",)
    with pytest.raises(ConfigError, match="MOD_EVENT_AGENT_URL"):
        connect(url="http://x")


def test_an_agents_file_that_is_of_no_use(connect: Callable[..., Client], tmp_path: Path) -> None:
    (tmp_path / "default.xml").write_text("<oops")
    with pytest.raises(ConfigError, match="well-formed"):
        connect()
    assert connect("--url", "h").servers == ("nats://h:4222",)
    assert connect(url="h").servers == ("nats://h:4222",)
    with pytest.raises(ConfigError, match="can't be read"):
        connect("-c", str(tmp_path / "none.xml"), "--url", "h")
    with pytest.raises(ConfigError, match="--prefix must be"):
        connect("--url", "h", "--prefix", "a b")
    with pytest.raises(ConfigError, match="--url: url must be"):
        connect("--url", "h:x")


def test_a_faulty_secret_is_not_shown(connect: Callable[..., Client]) -> None:
    for argv in (("--url", "nats://u:s3cret@h:x"), ("--token", "s3cret\n")):
        with pytest.raises(ConfigError) as raised:
            connect(*argv)
        assert "s3cret" not in str(raised.value)


# -- completion, and the house


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sta"], "status"),
        (["--url", "h", "pa"], "park"),
        (["park", "a"], "audio autoanswer"),
        (["park", "--node", "x", "audio", "m"], "music"),
        (["events", "--u"], "--url --uuid"),
        (["--node", ""], ""),
        (["status", "par"], ""),
    ],
)
def test_completion(words: list[str], found: str) -> None:
    script = bash(ctl.parser()) + """
COMP_WORDS=(event-agentctl "$@"); COMP_CWORD=$#; _event_agentctl; echo "${COMPREPLY[*]}"
"""
    done = subprocess.run(["bash", "-c", script, "x", *words], capture_output=True, text=True, check=True)
    assert (done.stdout.strip(), done.stderr) == (found, "")


def test_completion_is_printed(run: Run) -> None:
    code, out, err = run(FakeClient(), "completion", "bash")
    assert code == 0 and err == "" and "complete -F _event_agentctl event-agentctl" in out


def test_the_tool_does_not_load_the_daemon() -> None:
    folder = Path(event_agent.__file__).parent
    for path in [*folder.glob("client/*.py"), *folder.glob("ctl/*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("event_agent"):
                parts = (node.module or "").split(".")
                assert parts[1:2] not in (["daemon"], ["freeswitch"], ["commands"], ["dialplan"]), path


def test_closed_streams(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(f"sys.{name}", None)
    monkeypatch.setattr(ctl, "client", lambda options, environ: FakeClient())
    assert ctl.main(["status"]) == 0
    assert ctl.main(["req", "-"]) == 2
    assert os.path.exists(os.devnull)
