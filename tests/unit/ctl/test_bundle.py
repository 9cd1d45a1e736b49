"""The file for a bug report: secrets are planted everywhere, and then looked for."""

from __future__ import annotations

import base64
import os
import tarfile
from pathlib import Path
from urllib.parse import quote

import pytest

from event_agent.config import unit as unit_files
from event_agent.config.table import MASK
from event_agent.ctl import bundle, connection
from event_agent.ctl import program as ctl
from event_agent.ctl.bundle import Mask
from tests.support import free_port

SECRETS = {
    "file": "f1le-p@ss wörd&<x>",
    "default": "d3fault-t0ken",
    "dropin": "dr0p-in-secret",
    "credential": "cr3dential-pass",
    "url": "url-pa55w0rd",
    "key": "k3y-of-the-listener",
    "seed": "SUAMK2FG4MI6UE3ACF3FK3OIQBCEIEZV7NSWFFEW63UXMRLFM2XLAXK4TY",
    "jwt": "eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.eyJqdGkiOiJY.c2ln",
    "pem": "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49",
    "journal": "j0urnal-passw0rd",
    "stray": "str4y-value",
}
# What is known to be a secret is found in each form; the others only beside a word that says what they are.
KNOWN = [text for name, text in SECRETS.items() if name not in ("pem", "journal")]
CONFIG = """\
<configuration name="event_agent.conf">
  <X-PRE-PROCESS cmd="set" data="pw={file}"/>
  <settings>
    <param name="url" value="nats://agent:{url}@127.0.0.1:{port}"/>
    <param name="esl_port" value="{esl}"/><param name="http_listen" value="off"/>
    <param name="nkey_seed" value="{seed}"/>
    <param name="dialplan_key" value="{key}"/>
    <param name="state_dir" value="{top}"/>
    <param name="creds" value="{top}/user.creds"/>
  </settings>
</configuration>
"""


def forms(text: str) -> tuple[str, ...]:
    """Ways to write a secret."""
    return text, quote(text), base64.b64encode(text.encode()).decode().rstrip("="), text.encode().hex()


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An agent with a secret in each place that can hold one, and a journal that has them all."""

    def put(name: str, text: str) -> None:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    escaped = SECRETS["file"].replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    put("agent.xml", CONFIG.format(**{**SECRETS, "file": escaped}, top=tmp_path, port=free_port(), esl=free_port()))
    put("user.creds", f"-----BEGIN NATS USER JWT-----\n{SECRETS['jwt']}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{SECRETS['seed']}\n------END USER NKEY SEED------\n")  # fmt: skip
    put("seal.key", "a" * 64)
    put("secret", SECRETS["credential"] + "\n")
    put("etc/default/event-agent", f"MOD_EVENT_AGENT_TOKEN={SECRETS['default']}\nWHATEVER={SECRETS['stray']}\n")
    put("lib/systemd/system/event-agent.service", "[Service]\nEnvironmentFile=/etc/default/event-agent\n"
        f"ExecStart=/usr/bin/event-agent -c {tmp_path}/agent.xml\n")  # fmt: skip
    put("etc/systemd/system/event-agent.service.d/a.conf",
        f"[Service]\nEnvironment=MOD_EVENT_AGENT_NKEY_SEED={SECRETS['dropin']}\n"
        f"LoadCredential=esl_password:/secret\nSetCredential=token:{SECRETS['dropin']}\n")  # fmt: skip
    said, pem = SECRETS["journal"], SECRETS["pem"]
    lines = [f"auth {SECRETS['credential']} refused", f"password={said}", f'"token": "{said}"',
             f"https://u:{said}@h/", f"-----BEGIN PRIVATE KEY-----\n{pem}\n-----END PRIVATE KEY-----",
             f"GET /dialplan?key={said}&x=1"]  # fmt: skip
    for text in KNOWN:
        lines += [f"x{text}y", *forms(text), repr(text)]
    put("log", "\n".join(lines) + "\nFreeSWITCH connected\n")
    for name, shown in (("journalctl", "log"), ("systemctl", "etc/default/event-agent")):
        put(f"bin/{name}", f"#!/bin/sh\ncat {tmp_path}/{shown}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    for name in ("URL", "HOST"):
        monkeypatch.delenv(f"MOD_EVENT_AGENT_{name}", raising=False)
    find = unit_files.service

    def here(name: str) -> unit_files.Service | None:
        found = find(name, str(tmp_path))
        if found is not None:
            found.user = ""
            found.files = [f"{tmp_path}{path}" for path in found.files]
        return found

    monkeypatch.setattr(connection, "service", here)
    return tmp_path


def test_nothing_secret_is_in_it(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = machine / "report.tar.gz"
    assert ctl.main(["support-bundle", str(path)]) == 0
    assert "Secrets are masked" in capsys.readouterr().out
    assert path.stat().st_mode & 0o777 == 0o600
    with tarfile.open(path) as archive:
        texts = {each.name.partition("/")[2]: archive.extractfile(each) for each in archive}
        parts = {name: file.read().decode() for name, file in texts.items() if file is not None}
    names = {"versions.txt", "settings.txt", "doctor.txt", "status.json", "unit.txt", "service.txt", "log.txt"}
    assert set(parts) == names
    whole = "\n".join(parts.values())
    for what, text in SECRETS.items():
        for form in forms(text):
            assert form not in whole, (what, form)
    # What a report is for is there.
    assert "FreeSWITCH connected" in parts["log.txt"] and "esl_port = " in parts["settings.txt"]
    assert "LoadCredential=esl_password:/secret" in parts["unit.txt"] and "Connection refused" in parts["doctor.txt"]


def test_a_file_that_is_there_stays(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "x").write_text("mine")
    assert ctl.main(["support-bundle", str(machine / "x")]) == 1
    assert (machine / "x").read_text() == "mine" and "can't be written: File exists" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("esl_password = x y", f"esl_password = {MASK} y"),
        ('<param name="nkey_seed" value="abc"/>', f'<param name="nkey_seed" value={MASK}/>'),
        ("Authorization: Bearer abc.def", f"Authorization: {MASK}"),
        ("tls://me:p%40ss@h:1,nats://tok@h", f"tls://{MASK}@h:1,nats://{MASK}@h"),
        ("token (credential token from /etc/x)", "token (credential token from /etc/x)"),
        ("LoadCredential=token:/etc/x", "LoadCredential=token:/etc/x"),
        ("FreeSWITCH connected", "FreeSWITCH connected"),
        ("the-s3cret", MASK), ("x%20the-s3cret", f"x%20{MASK}"),
    ],
)  # fmt: skip
def test_the_mask(text: str, shown: str) -> None:
    assert Mask(["the-s3cret", "", "ab"])(text) == shown


def test_a_faulty_configuration_is_reported_too(machine: Path) -> None:
    (machine / "agent.xml").write_text("<oops")
    options = ctl.parser().parse(["support-bundle"])
    parts = bundle.collected(options, {})
    assert "is not closed" in parts["settings.txt"] and "FreeSWITCH connected" in parts["log.txt"]
    assert SECRETS["default"] not in "".join(parts.values())
