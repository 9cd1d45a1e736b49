"""Where else values come from: the environment, credentials, files of secrets; and files that may not be read."""

from __future__ import annotations

import codecs
import grp
import os
import pwd
import re
from pathlib import Path

import pytest

from event_agent.config.files import forbidden, missing, readable
from event_agent.config.load import MAX_VALUE, load
from event_agent.config.render import check_report
from event_agent.config.table import PARAMS, Settings
from event_agent.errors import ConfigError
from tests.unit.config_parts import Folder, credentials, param

# --- environment ---


def test_environment_wins_and_empty_is_unset(folder: Folder) -> None:
    environ = {
        "MOD_EVENT_AGENT_URL": "nats://env",
        "MOD_EVENT_AGENT_NODE_ID": "",
        "MOD_EVENT_AGENT_API_DENYLIST": "a,b",
        "MOD_EVENT_AGENT_PING_INTERVAL": "1.5",
        "ESL_PORT": "1",
    }
    loaded = folder.params(param("url", "file"), param("node_id", "kept"), environ=environ)
    settings = loaded.settings
    assert settings.url == ("nats://env:4222",)
    assert (settings.node_id, settings.api_denylist, settings.ping_interval) == ("kept", ("a", "b"), 1.5)
    assert settings.esl_port == 8021
    assert loaded.sources["url"] == "environment MOD_EVENT_AGENT_URL"
    assert loaded.sources["node_id"] == f"{folder.path}:4"
    assert loaded.sources["esl_port"] == "default"


@pytest.mark.parametrize("name", PARAMS)
def test_every_param_has_its_variable(name: str) -> None:
    try:
        assert load(None, {"MOD_EVENT_AGENT_" + name.upper(): "1"}).sources[name].startswith("environment")
    except ConfigError as error:
        assert re.match(f"environment MOD_EVENT_AGENT_{name.upper()}: {name}:? ", error.faults[0])


def test_unknown_variables_are_a_warning() -> None:
    loaded = load(None, {"MOD_EVENT_AGENT_TOKN": "s3cret", "MOD_EVENT_AGENT_X\nY": "1"})
    assert loaded.settings == Settings()
    assert loaded.warnings[0] == (
        "environment: unknown variable 'MOD_EVENT_AGENT_TOKN', the closest known one is MOD_EVENT_AGENT_TOKEN"
    )
    assert "\n" not in "".join(loaded.warnings)


# --- credentials ---


def test_credentials_win(folder: Folder, tmp_path: Path) -> None:
    files = {"token": "s3cret\n", "MOD_EVENT_AGENT_NKEY_SEED": "seed", "Esl-Password": " p \r\n", "creds": "JWT",
             "url": "a,b\n", "node_id": "\n"}
    environ = {"MOD_EVENT_AGENT_TOKEN": "env", "MOD_EVENT_AGENT_NODE_ID": "env", "MOD_EVENT_AGENT_CREDS": "/env"}
    loaded = folder.params(param("url", "$${x}"), environ=environ | credentials(tmp_path / "c", files))
    settings = loaded.settings
    assert (settings.token, settings.nkey_seed, settings.esl_password) == ("s3cret", "seed", " p ")
    assert settings.creds == str(tmp_path / "c" / "creds")
    assert settings.url == ("nats://a:4222", "nats://b:4222")
    assert settings.node_id == "env"
    assert loaded.sources["token"] == "credential token"
    assert "s3cret" not in check_report(loaded) + repr(loaded)


def test_bad_credentials(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"token": b"\xff", "esl_password": "s3cret\nx", "url": "x" * (MAX_VALUE + 1)}
    with pytest.raises(ConfigError) as caught:
        load(None, credentials(tmp_path / "c", files))
    assert caught.value.faults == (
        f"credential token: '{tmp_path}/c/token' is not UTF-8 text; save it as UTF-8 without a byte order mark",
        f"credential url: too long, at most {MAX_VALUE} characters are allowed",
        "credential esl_password: esl_password must be text of 1 to 255 characters without control characters",
    )
    loaded = load(None, credentials(tmp_path / "d", {"tokn": "s3cret"}))
    assert loaded.warnings == ("credentials: unknown credential 'tokn', the closest known one is token",)
    with pytest.raises(ConfigError, match="credentials: '/nowhere' can't be read"):
        load(None, {"CREDENTIALS_DIRECTORY": "/nowhere"})


# --- secrets in files ---


@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_a_secret_in_a_file(tmp_path: Path, ending: str, mark: bytes) -> None:
    secret = tmp_path / "token"
    secret.write_bytes(mark + b" pa ss" + ending.encode())
    loaded = load(None, {"MOD_EVENT_AGENT_ESL_PASSWORD_FILE": str(secret)})
    assert loaded.settings.esl_password == " pa ss" and not loaded.warnings
    assert loaded.sources["esl_password"] == "environment MOD_EVENT_AGENT_ESL_PASSWORD_FILE"


def test_a_file_that_is_the_value_itself(tmp_path: Path) -> None:
    (tmp_path / "creds").write_text("x")
    assert load(None, {"MOD_EVENT_AGENT_CREDS_FILE": f"{tmp_path}/creds"}).settings.creds == f"{tmp_path}/creds"


def test_secrets_in_files_that_will_not_do(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    (tmp_path / "lines").write_bytes(b"one\ntwo\n")
    (tmp_path / "empty").write_bytes(b"\n")
    (tmp_path / "large").write_bytes(b"x" * (MAX_VALUE + 1))
    prefix, unfit = "MOD_EVENT_AGENT_", "is not UTF-8 text; save it as UTF-8 without a byte order mark"
    with pytest.raises(ConfigError) as caught:
        load(None, {
            f"{prefix}TOKEN_FILE": f"{tmp_path}/none", f"{prefix}NKEY_FILE": f"{tmp_path}/binary",
            f"{prefix}ESL_PASSWORD_FILE": f"{tmp_path}/lines", f"{prefix}URL_FILE": str(tmp_path),
            f"{prefix}NODE_ID_FILE": f"{tmp_path}/large",
        })  # fmt: skip
    assert caught.value.faults == (
        f"environment {prefix}NKEY_FILE: '{tmp_path}/binary' {unfit}",
        f"environment {prefix}NODE_ID_FILE: too long, at most {MAX_VALUE} characters are allowed",
        f"environment {prefix}TOKEN_FILE: '{tmp_path}/none' can't be read: No such file or directory",
        f"environment {prefix}URL_FILE: '{tmp_path}' can't be read: Is a directory",
        f"environment {prefix}ESL_PASSWORD_FILE: esl_password must be {PARAMS['esl_password'].allowed}",
    )
    loaded = load(None, {f"{prefix}TOKEN_FILE": f"{tmp_path}/empty", f"{prefix}TOKN_FILE": "x"})
    assert loaded.settings.token == ""
    assert loaded.warnings == (
        f"environment {prefix}TOKEN_FILE: '{tmp_path}/empty' is empty; token is not set by it",
        f"environment: unknown variable '{prefix}TOKN_FILE', the closest known one is {prefix}TOKEN",
    )


def test_a_secret_given_twice(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("in a file\n")
    loaded = load(None, {"MOD_EVENT_AGENT_TOKEN": "as text", "MOD_EVENT_AGENT_TOKEN_FILE": f"{tmp_path}/token"})
    assert loaded.settings.token == "in a file"
    assert "token is set twice" in loaded.warnings[0] and "text" not in loaded.warnings[0]


# --- files that this user may not read ---


class Rights:
    """This process as user 12345, whom `closed` keeps out."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.closed: set[str] = set()
        self._access = os.access
        monkeypatch.setattr(os, "access", self.access)
        for name, value in (("geteuid", 12345), ("getegid", 12346), ("getgroups", [12346])):
            monkeypatch.setattr(os, name, lambda value=value: value)

    def access(self, path: str, mode: int) -> bool:
        return path not in self.closed and self._access(path, mode)


@pytest.fixture
def rights(monkeypatch: pytest.MonkeyPatch) -> Rights:
    return Rights(monkeypatch)


def test_a_file_that_belongs_to_somebody_else(tmp_path: Path, rights: Rights) -> None:
    file = tmp_path / "a ca.pem"
    file.write_text("x")
    file.chmod(0o600)
    rights.closed.add(str(file))
    owner, group = pwd.getpwuid(file.stat().st_uid).pw_name, grp.getgrgid(file.stat().st_gid).gr_name
    why = (
        f"{file} can't be read by user 12345 ({owner}:{group} 600): "
        f"sudo chgrp 12346 '{file}'; sudo chmod 640 '{file}'"
    )
    assert forbidden(str(file)) == why
    with pytest.raises(ConfigError) as caught:
        load(None, {"MOD_EVENT_AGENT_TLS_CA": str(file)})
    assert caught.value.faults == (f"environment MOD_EVENT_AGENT_TLS_CA: tls_ca: {why}",)
    file.chmod(0o644)  # then it is not the mode
    assert "although its mode allows it" in forbidden(str(file))


def test_a_folder_that_lets_nothing_through(tmp_path: Path, rights: Rights) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "ca.pem").write_text("x")
    rights.closed |= {f"{tmp_path}/home", f"{tmp_path}/home/ca.pem"}
    found = forbidden(f"{tmp_path}/home/ca.pem")
    assert f"the folder {tmp_path}/home (" in found
    assert found.endswith(" 700) does not let it in; move the file elsewhere")


def test_a_file_that_is_not_there_is_not_forbidden(tmp_path: Path) -> None:
    assert forbidden(f"{tmp_path}/none") == ""
    assert not readable(f"{tmp_path}/none") and not readable(str(tmp_path))


def test_why_there_is_no_such_file(tmp_path: Path) -> None:
    (tmp_path / "there").write_text("x")
    (tmp_path / "link").symlink_to("/nowhere/ca.pem")
    os.mkfifo(tmp_path / "pipe")
    said = {
        "there": "",
        "none": "does not exist",
        "no/such": f"does not exist, nor does its folder {tmp_path}/no",
        "link": "is a link to nothing, /nowhere/ca.pem",
        "pipe": "is not a file",
        ".": "is a folder, not a file",
    }
    assert {name: missing(f"{tmp_path}/{name}") for name in said} == {
        name: text and f"{os.path.abspath(tmp_path / name)} {text}" for name, text in said.items()
    }
