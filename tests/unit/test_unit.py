"""What the service on this machine is started with, read from its unit's files as systemd reads them."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from event_agent.config.unit import service
from event_agent.errors import ConfigError

UNIT = """\
[Unit]
Description=x
[Service]
EnvironmentFile=-/etc/default/event-agent
ExecStart=/usr/bin/event-agent
User=event-agent
ProtectHome=yes
PrivateTmp=yes
"""
FILE = """\
<configuration name="event_agent.conf"><settings>
  <param name="node_id" value="from-file"/>
  <param name="esl_password" value="from-file"/>
</settings></configuration>
"""


def put(top: Path, name: str, text: str) -> None:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def top(tmp_path: Path) -> Path:
    """A machine with the package on it."""
    put(tmp_path, "lib/systemd/system/event-agent.service", UNIT)
    put(tmp_path, "lib/systemd/system/event-agent@.service", UNIT.replace("event-agent\nUser", "event-agent@%i\nUser"))
    return tmp_path


def environ(top: Path, name: str = "event-agent") -> dict[str, str]:
    found = service(name, str(top))
    assert found is not None
    return found.environ


def test_no_unit_and_a_masked_one(top: Path) -> None:
    assert service("other", str(top)) is None
    put(top, "etc/systemd/system/x", "")
    (top / "etc/systemd/system/event-agent.service").symlink_to("/dev/null")
    assert service("event-agent", str(top)) is None


def test_the_environment_file_wins_over_the_unit_and_the_last_wins(top: Path) -> None:
    put(top, "etc/default/event-agent", """\
# MOD_EVENT_AGENT_TOKEN=comment
; MOD_EVENT_AGENT_TOKEN=comment
MOD_EVENT_AGENT_TOKEN = "a b#c"
MOD_EVENT_AGENT_URL=nats://a:4222#b
MOD_EVENT_AGENT_NODE_ID='fs \\
1'
not a line
MOD_EVENT_AGENT_ESL_PASSWORD=p\\$x
""")
    put(top, "etc/systemd/system/event-agent.service.d/50-b.conf",
        '[Service]\nEnvironment="MOD_EVENT_AGENT_TOKEN=unit" MOD_EVENT_AGENT_ESL_PORT=1 MOD_EVENT_AGENT_ESL_HOST=h\n'
        "[Install]\nEnvironment=MOD_EVENT_AGENT_ESL_PORT=3\n")  # fmt: skip
    for name, port in (("60-c.conf", 2), ("50-b.conf", 9)):
        put(top, f"run/systemd/system/event-agent.service.d/{name}",
            f"[Service]\nEnvironment=MOD_EVENT_AGENT_ESL_PORT={port}\n")  # fmt: skip
    found = environ(top)
    assert found == {
        "MOD_EVENT_AGENT_TOKEN": "a b#c", "MOD_EVENT_AGENT_URL": "nats://a:4222#b", "MOD_EVENT_AGENT_ESL_PORT": "2",
        "MOD_EVENT_AGENT_ESL_HOST": "h", "MOD_EVENT_AGENT_NODE_ID": "fs 1", "MOD_EVENT_AGENT_ESL_PASSWORD": "p$x",
    }  # fmt: skip


def test_an_empty_assignment_takes_back_what_was_before(top: Path) -> None:
    put(top, "etc/default/event-agent", "MOD_EVENT_AGENT_TOKEN=t\n")
    put(top, "etc/default/other", "MOD_EVENT_AGENT_ESL_PORT=5\nMOD_EVENT_AGENT_ESL_HOST=h\n")
    put(top, "etc/systemd/system/event-agent.service.d/a.conf",
        "[Service]\nEnvironmentFile=\nEnvironmentFile=/etc/default/other\nExecStart=\n"
        "ExecStart=/usr/bin/event-agent --log-level debug \\\n  --config '/srv/my agent.xml'\n"
        "UnsetEnvironment=MOD_EVENT_AGENT_ESL_HOST\n")  # fmt: skip
    found = service("event-agent", str(top))
    assert found is not None and found.config == "/srv/my agent.xml"
    assert found.environ == {"MOD_EVENT_AGENT_ESL_PORT": "5"}


@pytest.mark.parametrize(
    ("arguments", "config"),
    [("-c /a.xml", "/a.xml"), ("--config=/a.xml", "/a.xml"), ("-c/a.xml", "/a.xml"), ("--log-level info", "")],
)
def test_the_file_that_the_unit_names(top: Path, arguments: str, config: str) -> None:
    put(top, "etc/systemd/system/event-agent.service.d/a.conf",
        f"[Service]\nExecStart=\nExecStart=/usr/bin/event-agent {arguments}\n")  # fmt: skip
    found = service("event-agent", str(top))
    assert found is not None and found.config == config


def test_an_instance_of_the_template(top: Path) -> None:
    put(top, "etc/systemd/system/event-agent@.service.d/a.conf",
        "[Service]\nEnvironment=MOD_EVENT_AGENT_NODE_ID=%i MOD_EVENT_AGENT_STATE_DIR=%S/x@%i\n")  # fmt: skip
    put(top, "etc/systemd/system/event-agent@b.service.d/b.conf", "[Service]\nEnvironment=MOD_EVENT_AGENT_ESL_PORT=7\n")
    assert environ(top, "event-agent@b") == {
        "MOD_EVENT_AGENT_NODE_ID": "b", "MOD_EVENT_AGENT_STATE_DIR": "/var/lib/x@b", "MOD_EVENT_AGENT_ESL_PORT": "7",
    }  # fmt: skip
    assert environ(top, "event-agent@c")["MOD_EVENT_AGENT_NODE_ID"] == "c"


def test_credentials_win_and_each_value_has_its_source(top: Path) -> None:
    put(top, "etc/agent.xml", FILE)
    put(top, "etc/secret", "from-credential\r\n")
    put(top, "etc/credstore/token", "from-store")
    put(top, "etc/default/event-agent", "MOD_EVENT_AGENT_ESL_PASSWORD=x\nMOD_EVENT_AGENT_TOKEN=x\n")
    put(top, "etc/systemd/system/event-agent.service.d/a.conf",
        f"[Service]\nExecStart=\nExecStart=/usr/bin/event-agent -c {top}/etc/agent.xml\n"
        "LoadCredential=esl_password:/etc/secret\nLoadCredential=token\nSetCredential=nkey-seed:set\n"
        "LoadCredential=not_ours:/etc/none\n")  # fmt: skip
    found = service("event-agent", str(top))
    assert found is not None and found.unread == []
    loaded = found.load({"MOD_EVENT_AGENT_ESL_PORT": "9", "HOME": "/root"})
    assert (loaded.settings.esl_password, loaded.settings.token) == ("from-credential", "from-store")
    assert (loaded.settings.nkey_seed, loaded.settings.node_id, loaded.settings.esl_port) == ("set", "from-file", 9)
    drop_in = "/etc/systemd/system/event-agent.service.d/a.conf"
    assert loaded.sources["esl_password"] == f"credential esl_password from /etc/secret ({drop_in}:4)"
    assert loaded.sources["token"] == f"credential token from /etc/credstore/token ({drop_in}:5)"
    assert loaded.sources["node_id"] == f"{top}/etc/agent.xml:2"
    assert loaded.sources["esl_port"] == "your environment MOD_EVENT_AGENT_ESL_PORT"
    assert "from-" not in repr(loaded.settings).replace("from-file", "")


def test_what_we_may_not_read_is_said_and_the_wrong_value_below_it_is_not_used(top: Path) -> None:
    put(top, "etc/default/event-agent", "MOD_EVENT_AGENT_ESL_PASSWORD=wrong\n")
    put(top, "etc/systemd/system/event-agent.service.d/a.conf",
        "[Service]\nLoadCredential=esl_password:/etc/none\nLoadCredential=creds:/etc/nothing\n"
        "EnvironmentFile=/etc/missing\n")  # fmt: skip
    found = service("event-agent", str(top))
    assert found is not None and found.environ == {}
    assert found.unread == [
        "/etc/missing: there is no such file (EnvironmentFile=)",
        "/etc/none (LoadCredential=esl_password): No such file or directory",
        "/etc/nothing (LoadCredential=creds): No such file or directory",
    ]


def test_files_are_judged_as_the_service_has_them(top: Path) -> None:
    put(top, "etc/default/event-agent", "MOD_EVENT_AGENT_TLS_CA=/home/me/ca.pem\nMOD_EVENT_AGENT_CREDS=/tmp/x.creds\n")
    found = service("event-agent", str(top))
    assert found is not None
    with pytest.raises(ConfigError) as caught:
        found.load({})
    assert [fault.partition(", which")[0] for fault in sorted(caught.value.faults)] == [
        "/etc/default/event-agent:1, MOD_EVENT_AGENT_TLS_CA: tls_ca: /home/me/ca.pem can't be read by the service",
        "/etc/default/event-agent:2, MOD_EVENT_AGENT_CREDS: creds: /tmp/x.creds can't be read by the service",
    ]


def test_enabled_or_not(top: Path) -> None:
    found = service("event-agent", str(top))
    assert found is not None and not found.enabled
    wants = top / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir(parents=True)
    os.symlink("/lib/systemd/system/event-agent.service", wants / "event-agent.service")
    found = service("event-agent", str(top))
    assert found is not None and found.enabled


def test_a_secret_in_a_file_is_judged_too(top: Path) -> None:
    put(top, "secret", "t0ken\n")
    put(top, "etc/default/event-agent", f"MOD_EVENT_AGENT_TOKEN_FILE={top}/secret\n")
    put(top, "etc/systemd/system/event-agent.service.d/a.conf", "[Service]\nPrivateTmp=no\nUser=root\n")
    found = service("event-agent", str(top))
    assert found is not None
    found.user = ""
    assert found.load({}).settings.token == "t0ken"
    (top / "secret").unlink()
    with pytest.raises(ConfigError) as caught:
        found.load({})
    where = "/etc/default/event-agent:1, MOD_EVENT_AGENT_TOKEN_FILE"
    assert caught.value.faults == (f"{where}: {top}/secret does not exist",)
    assert found.load({"MOD_EVENT_AGENT_TOKEN_FILE": ""}).settings.token == ""
    assert found.load({}, lambda *_: "not ours").settings.token == ""


def test_the_template_is_the_unit_with_a_name_in_it(tmp_path: Path) -> None:
    """As debian/rules makes it."""
    root = Path(__file__).resolve().parent.parent.parent
    if not (root / "debian").exists():
        pytest.skip("not a checkout")
    rules = (root / "debian/rules").read_text(encoding="utf-8")
    edits = re.findall(r"-e '(s\|.*?)'", rules)
    unit = (root / "debian/event-agent.service").read_text(encoding="utf-8")
    command = ["sed", *(word for edit in edits for word in ("-e", edit))]
    done = subprocess.run(command, input=unit, capture_output=True, text=True, check=True)
    before, after = unit.splitlines(), done.stdout.splitlines()
    assert [line for line in after if line not in before] == [
        "Description=Bridge between FreeSWITCH and NATS (%i)",
        "Environment=MOD_EVENT_AGENT_STATE_DIR=/var/lib/event-agent@%i",
        "EnvironmentFile=-/etc/default/event-agent@%i",
        "ExecStart=/usr/bin/event-agent -c /etc/event-agent/%i.conf.xml",
        "SyslogIdentifier=event-agent@%i",
        "RuntimeDirectory=event-agent@%i",
        "StateDirectory=event-agent@%i",
    ]
