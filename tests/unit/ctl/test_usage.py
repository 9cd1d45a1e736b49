"""Wrong usage, faults, where it connects, completion."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import event_agent
from event_agent.client.client import AgentTimeout, Client, CommandFailed, NoAgent, event_pattern
from event_agent.ctl import completion
from event_agent.ctl import connection as ctl_connection
from event_agent.ctl import program as ctl
from event_agent.ctl.completion import bash
from event_agent.ctl.connection import client as make_client
from event_agent.errors import ConfigError, LinkError
from tests.unit.ctl.parts import FakeClient, Run, bad, node_status, ok

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
    with pytest.raises(ConfigError, match="is not closed"):
        connect()
    assert connect("--url", "h").servers == ("nats://h:4222",)
    assert connect(url="h").servers == ("nats://h:4222",)
    with pytest.raises(ConfigError, match="there is no such file"):
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
        (["events", "--u"], "--unit --url --uuid"),
        (["--node", ""], ""),
        (["status", "par"], ""),
    ],
)
def test_completion(words: list[str], found: str) -> None:
    script = bash(ctl.parser()) + """
event-agentctl() { :; }
COMP_LINE="event-agentctl $*"; COMP_POINT=${#COMP_LINE}; _event_agentctl; echo "${COMPREPLY[*]}"
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


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--node", "f"], "fs-1 fs-2"),
        (["--node=f"], "fs-1 fs-2"),
        (["--url", "nats://user:secret@h:4333", "--node", "f"], "fs-3"),
        (["--url=nats://user:secret@h:4333", "--node", "f"], "fs-3"),
        (["status", "--node", ""], "fs-1 fs-2 x"),
        (["--url", "h", "--node", "x"], "x"),
        (["api", "uuid_b"], "uuid_bridge"),
        (["api", "--"], None),
        (["events", "CHANNEL_A"], "CHANNEL_ANSWER"),
        (["watch", "CHANNEL_A"], "CHANNEL_ANSWER"),
    ],
)
def test_completion_knows_nodes_verbs_and_events(words: list[str], found: str | None) -> None:
    script = bash(ctl.parser()) + r"""
event-agentctl() {
    case "$*" in
        *--url[\ =]nats://user:secret@h:4333\ *nodes) echo "fs-3" ;;
        *nodes) echo "fs-1 fs-2 x" ;;
        *verbs) echo "uuid_bridge uuid_kill" ;;
        *events) echo "CHANNEL_ANSWER CHANNEL_PARK" ;;
    esac
}
COMP_LINE="event-agentctl $*"; COMP_POINT=${#COMP_LINE}; _event_agentctl; echo "${COMPREPLY[*]}"
"""
    done = subprocess.run(["bash", "-c", script, "x", *words], capture_output=True, text=True, check=True)
    assert done.stderr == "" and (done.stdout.strip() == found if found else "uuid_bridge" not in done.stdout)


def test_words_for_completion(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["b", "a", "a", "$(reboot)", "x y", "`id`", "*"]
    verbs = json.dumps({"row_count": 2, "rows": [{"name": "uuid_kill"}, {"name": "$(reboot)"}]})
    client = FakeClient({"agent.status": [node_status(name) for name in names], "show": [ok(verbs)]})
    monkeypatch.setattr(completion, "client", lambda options, environ: client)
    assert run(client, "completion", "nodes") == (0, "a\nb\n", "")
    assert run(client, "completion", "verbs") == (0, "agent.status\ndialplan.status\nuuid_kill\n", "")
    assert "CHANNEL_ANSWER\n" in run(client, "completion", "events")[1]
    client.replies["show"] = [ok("no JSON")]
    assert run(client, "completion", "verbs") == (0, "agent.status\ndialplan.status\n", "")
    client.fault = LinkError("away")
    assert run(client, "completion", "nodes") == (0, "\n", "")
