"""Who may use the panel: the file of users, sessions, the limit on tries, and what each role may do."""

from __future__ import annotations

import io
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import until
from tests.unit.test_panel_web import Site

app = pytest.importorskip("examples.panel.app", reason="not a checkout")
sessions = pytest.importorskip("examples.panel.sessions", reason="not a checkout")
users = pytest.importorskip("examples.panel.users", reason="not a checkout")

PASSWORDS = {"vic": "viewer-pass", "sue": "supervisor-pass", "eng": "engineer-pass"}
ROLES = {"vic": "viewer", "sue": "supervisor", "eng": "engineer"}


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(users, "COST", (2**10, 1, 1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    found = tmp_path / "users"
    for name, password in PASSWORDS.items():
        users.put(found, name, ROLES[name], password)
    return found


class Door(Site):
    """A site with users; `token` is the session of its requests."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.server.sessions = sessions.Sessions(users.Users(path))
        self.token = ""

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, dict[str, str], bytes]:
        return super().ask(method, path, body, **({"Cookie": f"panel_session={self.token}"} | headers))

    def login(self, name: str, password: str = "", **headers: str) -> int:
        body = {"name": name, "password": password or PASSWORDS.get(name, "")}
        status, found, _ = self.ask("POST", "/login", body, **headers)
        cookie = re.match(
            r"panel_session=([^;]*); Path=/; HttpOnly; SameSite=Strict(; Secure)?", found.get("Set-Cookie", "")
        )
        self.token = cookie[1] if cookie else ""
        self.secure = bool(cookie and cookie[2])
        return status


@pytest.fixture
def door(path: Path) -> Iterator[Door]:
    found = Door(path)
    yield found
    found.close()


def test_only_who_is_logged_in_sees_and_does_anything(door: Door) -> None:
    for method, where in (
        ("GET", "/stream"),
        ("GET", "/event?id=1"),
        ("POST", "/command"),
        ("POST", "/act"),
        ("POST", "/forget"),
    ):
        status, _, body = door.ask(method, where, {} if method == "POST" else None)
        assert status == 401 and json.loads(body)["login"], where
    assert json.loads(door.ask("GET", "/me")[2]) == {"users": True, "name": "", "role": ""}
    assert door.ask("GET", "/")[0] == 200 and door.ask("GET", "/main.js")[0] == 200
    assert not door.asked


@pytest.mark.parametrize(
    ("name", "statuses"), [("vic", (403, 403, 403)), ("sue", (200, 403, 403)), ("eng", (200, 200, 404))]
)
def test_what_each_role_may(door: Door, name: str, statuses: tuple[int, ...]) -> None:
    assert door.login(name) == 200 and not door.secure
    assert json.loads(door.ask("GET", "/me")[2]) == {"users": True, "name": name, "role": ROLES[name]}
    act = {"action": "hangup", "node": "n", "uuid": "u"}
    assert door.ask("POST", "/act", act)[0] == statuses[0]
    assert door.ask("POST", "/command", {"request": {"command": "status"}})[0] == statuses[1]
    assert door.ask("GET", "/event?id=1")[0] == statuses[2]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"endpoint": "user/1", "extension": "9196"}, 200),
        ({"endpoint": "user/1", "extension": "&park()"}, 200),
        ({"endpoint": "user/1", "extension": "&system(x)"}, 403),
        ({"endpoint": "user/1", "destination": "&system(x)"}, 403),
        ({"endpoint": "{execute_on_answer='system x'}user/1", "extension": "1"}, 403),
        ({"endpoint": "user/1", "extension": "1", "dialplan": "inline"}, 403),
        ({"endpoint": "user/1", "extension": "1", "variables": {"a": "b"}}, 403),
        ({"args": "user/1 &park"}, 403),
    ],
)
def test_a_supervisor_makes_calls_and_nothing_else_of_it(door: Door, request_: dict[str, Any], status: int) -> None:
    door.login("sue")
    assert door.ask("POST", "/command", {"request": {"command": "originate", **request_}})[0] == status


def test_a_session_ends(door: Door, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    door.login("eng")
    kept = door.token
    assert door.ask("POST", "/logout", {})[1]["Set-Cookie"].startswith("panel_session=; ")
    assert door.ask("GET", "/event?id=1")[0] == 401, "after the logout"
    for end in ("role", "password", "gone", "unreadable"):
        users.put(path, "eng", "engineer", PASSWORDS["eng"])
        assert door.login("eng") == 200 and door.token != kept
        if end == "role":
            users.put(path, "eng", "supervisor", PASSWORDS["eng"])
        elif end == "password":
            users.put(path, "eng", "engineer", "another-pass")
        elif end == "gone":
            path.write_text("".join(line for line in path.read_text().splitlines(True) if not line.startswith("eng")))
        else:
            path.chmod(0o644)
        assert door.ask("GET", "/event?id=1")[0] == 401, end
    path.chmod(0o600)
    users.put(path, "eng", "engineer", PASSWORDS["eng"])
    for name in ("IDLE", "LASTS"):
        door.login("eng")
        with monkeypatch.context() as patch:
            patch.setattr(sessions, name, -1.0)
            assert door.ask("GET", "/event?id=1")[0] == 401, name
    for odd in ("", "x", "x" * 5000, '"; a=b', "=;=;"):
        assert door.ask("GET", "/event?id=1", Cookie=f"panel_session={odd}")[0] == 401


def test_a_limit_on_tries(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert [door.login("sue", f"wrong-{each}") for each in range(6)] == [401] * 5 + [429]
    assert door.login("sue") == 429, "nor the right one"
    assert door.login("vic") == 200, "others are not concerned"
    assert [door.login(f"nobody{each}", "x") for each in range(20)][-1] == 429, "but an address has a limit too"
    assert "wrong-" not in caplog.text and "viewer-pass" not in caplog.text


def test_a_page_over_tls_gets_a_secure_cookie_and_another_site_no_login(door: Door) -> None:
    assert door.login("sue", Origin="https://panel.example.org", Host="panel.example.org") == 200 and door.secure
    assert door.login("sue", Origin="https://evil.example") == 403
    assert door.login("sue", Sec_Fetch_Site="cross-site") == 403


def test_each_click_is_in_the_log_with_a_name(door: Door, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    door.login("sue")
    door.ask("POST", "/act", {"action": "x\nforged", "node": "n", "uuid": "u", "phone": "user/1"})
    door.ask("POST", "/command", {"request": {"command": "status"}})
    lines = [line for line in caplog.messages if line.startswith("user=")]
    assert lines == [
        "user='sue' role=supervisor action='x\\nforged' node='n' uuid='u' result=err said=act.unknown from=127.0.0.1",
        "user='sue' role=supervisor refused='/command' needs=engineer from=127.0.0.1",
    ]


def test_an_open_page_ends_with_its_session(door: Door) -> None:
    door.login("vic")
    connection = __import__("socket").create_connection(("127.0.0.1", door.port), 10)
    with connection as raw:
        head = f"GET /stream HTTP/1.1\r\nHost: 127.0.0.1:{door.port}\r\nCookie: panel_session={door.token}\r\n\r\n"
        raw.sendall(head.encode())
        came = b""
        while b"event: me" not in came:
            came += raw.recv(65536)
        until(lambda: len(door.world.hub), "it is open")
        assert b'event: me\ndata: {"users":true,"name":"vic","role":"viewer"}' in came and b"event: events" not in came
        door.ask("POST", "/logout", {})
        while raw.recv(65536):
            pass


# -- the file


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o666])
def test_a_file_that_others_may_read_is_refused(path: Path, mode: int, capsys: pytest.CaptureFixture[str]) -> None:
    path.chmod(mode)
    with pytest.raises(users.UsersError, match=f"read or written by others \\({mode:o}\\): chmod 600"):
        users.Users(path)
    assert app.main(["--users", str(path), "--listen", "127.0.0.1:0"]) == 2
    assert f"panel: {path} can be read or written by others" in capsys.readouterr().err


def test_a_file_of_somebody_else_is_refused() -> None:
    found = list(os.stat(__file__))
    found[0], found[4] = 0o100600, os.geteuid() + 1
    assert "belongs to user" in users.rights(os.stat_result(found))
    found[4] = 0
    assert users.rights(os.stat_result(found)) == ""
    found[0] = 0o040700
    assert users.rights(os.stat_result(found)) == "is not a file"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no user in it"),
        ("# nobody\n\n", "no user in it"),
        ("ann:viewer", ":1: a line is name:role:secret"),
        ("a b:viewer:x", ":1: a name has"),
        ("ann:admin:x", ":1: the role must be one of viewer, supervisor, engineer"),
        ("ann:viewer:secret", ":1: the secret is not one"),
        ("ann:viewer:scrypt$1$8$1$AAAA$AAAA", ":1: the secret is not one"),
        ("ann:viewer:scrypt$99999999$8$1$AAAA$AAAA", ":1: the secret is not one"),
        ("ann:viewer:scrypt$1024$8$1$?$AAAA", ":1: the secret is not one"),
        ("ann:viewer:scrypt$1024$8$1$AAAA$", ":1: the secret is not one"),
    ],
)
def test_a_line_that_is_wrong_is_named(text: str, said: str) -> None:
    with pytest.raises(users.UsersError, match=re.escape(said)):
        users.parse(text, "f")
    good = f"ann:viewer:{users.secret_of('password')}\n"
    with pytest.raises(users.UsersError, match=re.escape("f:2: ann is there twice")):
        users.parse(good * 2, "f")


def test_adding_a_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "users"
    for password, code in (("short", 2), ("x" * 2000, 2), ("long-enough", 0)):
        monkeypatch.setattr("sys.stdin", io.StringIO(password + "\n"))
        assert app.main(["--users", str(path), "--user", "ann", "--role", "engineer"]) == code
    assert path.stat().st_mode & 0o777 == 0o600
    found = users.Users(path)
    assert found.check("ann", "long-enough").role == "engineer"
    assert found.check("ann", "long-enough ") is None and found.check("bob", "long-enough") is None
    assert "long-enough" not in path.read_text() and "long-enough" not in capsys.readouterr().out
    assert app.main(["--user", "ann"]) == 2 and app.main(["--users", str(tmp_path / "none")]) == 2
    monkeypatch.setattr("sys.stdin", io.StringIO("long-enough\n"))
    assert app.main(["--users", str(path), "--user", "a:b"]) == 2
