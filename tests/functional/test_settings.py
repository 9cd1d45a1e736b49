"""The daemon's command line and settings as an operator uses them: check, faults, SIGHUP, credentials, prefix."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from event_agent import __version__
from event_agent.config.table import PARAMS
from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.support import until

SECRET = "s3cret-of-the-broker"


def daemon(*argv: str, **environ: str) -> subprocess.CompletedProcess[str]:
    """Runs the daemon to its end; `environ` are params."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
    clean |= {f"MOD_EVENT_AGENT_{name.upper()}": value for name, value in environ.items()}
    return subprocess.run(
        [sys.executable, str(ROOT / "event_agent.py"), *argv],
        capture_output=True, text=True, timeout=20, env=clean, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def write(path: Path, **params: str) -> str:
    lines = "".join(f'\n<param name="{name}" value="{value}"/>' for name, value in params.items())
    path.write_text(f'<configuration name="event_agent.conf"><settings>{lines}\n</settings></configuration>')
    return str(path)


def test_check_shows_what_is_in_force(tmp_path: Path) -> None:
    path = write(tmp_path / "a.xml", url=f"nats://user:{SECRET}@broker", esl_password=SECRET, workers="3")
    done = daemon("-c", path, "--check", token=SECRET, node_id="from-the-environment")
    assert done.returncode == 0
    shown = {line.split(" = ")[0]: line for line in done.stdout.splitlines()}
    assert list(shown) == list(PARAMS)
    assert shown["workers"] == f"workers = 3   ({path}:4)" and "environment" in shown["node_id"]
    assert "(default)" in shown["esl_port"]
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("check", [["--check"], []])
def test_every_fault_is_one_line_and_the_code_is_2(tmp_path: Path, check: list[str]) -> None:
    path = write(tmp_path / "a.xml", subject_prefx="x", workers="none", esl_port="0", token=SECRET, url=f"natss://u:{SECRET}@h")
    done = daemon("-c", path, *check)
    assert done.returncode == 2 and done.stdout == "" and "Traceback" not in done.stderr
    faults = done.stderr.splitlines()
    assert [line.split(": ")[1].rpartition(":")[2] for line in faults] == ["2", "3", "4", "6"], done.stderr
    assert "closest known one is subject_prefix" in faults[0]
    assert SECRET not in done.stderr


def test_faults_are_said_in_the_form_of_the_log(tmp_path: Path) -> None:
    file = tmp_path / "bad.xml"
    file.write_text(
        '<configuration name="event_agent.conf"><settings>\n<param name="log_format" value="json"/>\n'
        '<param name="esl_port" value="99999999"/>\n<param name="nkey_seed" value="SUX"/>\n</settings></configuration>'
    )
    wrong = f"{file}:3: esl_port must be a whole number from 1 to 65535, not '99999999'"
    done = daemon("-c", str(file))
    (line,) = map(json.loads, done.stderr.splitlines())
    assert done.returncode == 2 and line.pop("time").endswith("Z")
    assert line == {"level": "error", "logger": "event_agent", "message": wrong}
    assert daemon("-c", str(file), "--check").stderr == f"event-agent: {wrong}\n", "--check is for people"
    file.write_text(file.read_text().replace("99999999", "8021"))  # now only the driver finds something
    *_, line = map(json.loads, daemon("-c", str(file)).stderr.splitlines())
    assert line["level"] == "error" and line["message"].startswith("nkey_seed is no valid NKey seed")


def test_no_file_and_no_xml(tmp_path: Path) -> None:
    done = daemon("-c", str(tmp_path / "none.xml"))
    assert (done.returncode, done.stderr) == (
        2, f"event-agent: {tmp_path}/none.xml: there is no such file; name another with -c, or none if all "
        "settings are in the environment\n",
    )  # fmt: skip
    (tmp_path / "bad.xml").write_text("<configuration>\n<settings>")
    done = daemon("-c", str(tmp_path / "bad.xml"), "--check")
    assert done.returncode == 2 and "bad.xml:2: <settings> is not closed" in done.stderr


def test_what_it_says_of_itself() -> None:
    assert daemon("--version").stdout.strip().endswith(__version__)
    done = daemon("--help-config")
    assert done.returncode == 0 and all(f"MOD_EVENT_AGENT_{name.upper()}" in done.stdout for name in PARAMS)
    assert daemon("--no-such-option").returncode == 2


Start = Callable[..., Agent]


def test_sighup_changes_lists_and_log_level(
    nats: NatsServer, switch: Switch, start_agent: Start, client: Client, tmp_path: Path
) -> None:
    agent = start_agent(nats, switch, subject_prefix="lists", node_id="l", ready=False)
    agent.kill()
    agent.config = tmp_path / "agent.xml"
    write(agent.config, api_denylist="uptime")
    agent.start()

    def said(command: str, args: str | None = None, **fields: Any) -> str:
        return str(client.request(command, args, "lists.api", **fields)["message"])

    assert said("uptime") == "API command 'uptime' is denied" and said("version") == "API command executed"
    agent.logged("cmd=version")  # it comes after the reply
    write(agent.config, api_allowlist="version,Execute_App", app_denylist="set", log_level="warning")
    agent.signal(signal.SIGHUP)
    set_app = {"uuid": "x", "app": "SET"}
    until(lambda: said("execute_app", "a=b", **set_app) == "Application 'SET' is denied", "the new lists hold")
    assert said("version") == "API command executed" and said("uptime") == "API command 'uptime' is denied"
    assert agent.log.count("NATS connected") == agent.log.count("event-agent 1."), "once a process"
    write(agent.config, api_denylist="no,Such", log_level="info")
    agent.signal(signal.SIGHUP)
    agent.logged("configuration read again")
    assert said("uptime") == "API command executed"
    agent.logged("cmd=uptime .*result=ok")
    assert agent.log.count("cmd=version") == 1, "none while the level was warning"


def test_a_credential_of_systemd_is_the_password(
    nats: NatsServer, switch: Switch, start_agent: Start, client: Client, tmp_path: Path
) -> None:
    (tmp_path / "esl_password").write_text(switch.password + "\n")
    (tmp_path / "MOD_EVENT_AGENT_NODE_ID").write_text("by-credential")
    agent = start_agent(nats, switch, subject_prefix="creds", esl_password="wrong", ready=False)
    agent.kill()
    agent.environ["CREDENTIALS_DIRECTORY"] = str(tmp_path)
    agent.environ["MOD_EVENT_AGENT_LOG_LEVEL"] = "debug"
    agent.start()
    assert client.request("version", None, "creds.node.by_credential")["node_id"] == "by-credential"
    assert switch.password not in agent.log.replace(f"esl_password={switch.password}", "")


def test_a_prefix_is_cleaned(nats: NatsServer, switch: Switch, start_agent: Start, client: Client) -> None:
    agent = start_agent(nats, switch, subject_prefix="pre fix>*")
    agent.logged("subject_prefix is 'pre_fix__', not 'pre fix>\\*'")
    assert client.request("version", None, "pre_fix__.api")["success"] is True


def test_without_a_node_id_there_is_no_node_lane(
    nats: NatsServer, switch: Switch, start_agent: Start, client: Client
) -> None:
    start_agent(nats, switch, subject_prefix="nobody", node_id="")
    assert client.request("version", None, "nobody.api")["node_id"] == "unknown"
    assert client.request("version", None, "nobody.any")["success"] is True
    found = client.gather("nobody.other")
    client.publish("nobody.api", b'{"command":"version","node_id":"unknown"}', reply="nobody.other")
    assert client.request("version", None, "nobody.api")["success"] is True and not found


def test_what_is_logged_of_commands_can_be_changed(
    nats: NatsServer, switch: Switch, start_agent: Start, client: Client, tmp_path: Path
) -> None:
    config = tmp_path / "agent.xml"
    agent = start_agent(nats, switch, ready=False, subject_prefix="logs")
    agent.kill()
    agent.config = config

    def params(**values: str) -> None:
        lines = "".join(f'<param name="{name}" value="{value}"/>' for name, value in values.items())
        config.write_text(f'<configuration name="event_agent.conf"><settings>{lines}</settings></configuration>')

    params(audit="changes")
    agent.start()
    told = 0

    def reload(**values: str) -> None:
        nonlocal told
        params(**values)
        agent.signal(signal.SIGHUP)
        told += 1
        agent.logged("configuration read again", told)

    def asked(*commands: str) -> str:
        """What a question, a failure and a change leave in the log, up to a line that is there in any case."""
        before = len(agent.log)
        for command in commands:
            verb, _, args = command.partition(" ")
            client.request(verb, args, subject="logs.api")
        client.publish("logs.api", b'{"command":"no_such_verb","async":true}')
        until(lambda: "nobody waits for its reply" in agent.log[before:], "the last one", 15)
        return agent.log[before:]

    asked("version", "status", "agent.status", "global_setvar log=ged")
    agent.logged("audit=command cmd=global_setvar")
    assert not re.search("cmd=(version|status|agent.status) ", agent.log)
    reload(audit="errors", slow_log="0.000001")
    asked("version", "global_setvar log=ged")
    agent.logged("audit=command cmd=no_such_verb .*result=err", 2)
    agent.logged(r"slow command: version on node FS-Node-01 took \d+\.\d{3} s \(\d+\.\d{3} s waiting for its turn, ")
    assert "cmd=version" not in agent.log and agent.log.count("cmd=global_setvar") == 1
    reload(audit="all", log_format="json")
    asked("version")
    found = [json.loads(line) for line in agent.logged("^{.*audit=command.*version")]
    assert found[0]["fields"]["cmd"] == "version" and found[0]["logger"] == "event_agent.audit"
