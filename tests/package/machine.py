"""The machine that the package is installed on, and its service, as lifecycle.py uses them."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

UNIT = "event-agent.service"
CONFIG = Path("/etc/event-agent/event_agent.conf.xml")
ESL = ("127.0.0.1", 8021)


class Failed(Exception):
    """What was not as it should be."""


def run(*command: str, code: int | None = 0) -> str:
    """Its output, stderr included. Failed where it ends with another code; None is any."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )  # fmt: skip
    if code is not None and done.returncode != code:
        raise Failed(f"exit code {done.returncode}, not {code}: {' '.join(command)}\n{done.stdout}")
    return done.stdout


def check(right: bool, what: str) -> None:
    if not right:
        raise Failed(what)


def wait(what: str, condition: Callable[[], bool], seconds: float = 15.0) -> float:
    """Until `condition` holds; returns how long it took. Failed where it does not in time."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            raise Failed(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)
    return time.monotonic() - start


def show(name: str) -> str:
    """A property of the service."""
    return run("systemctl", "show", "--value", "-p", name, UNIT).strip()


def journal(since: float, *options: str) -> str:
    """What the service has logged since that time. (--after-cursor skips a line too many where there is a filter.)"""
    run("journalctl", "--sync")
    return run("journalctl", "--quiet", "-u", UNIT, "--since", f"@{since:.6f}", "-o", "cat", *options)


def ask(request: dict[str, object], timeout: float = 5.0) -> dict[str, object]:
    """Send a request as any NATS client would; its reply, {} where there is none."""
    with socket.create_connection(("127.0.0.1", 4222), timeout) as link:
        link.settimeout(timeout)
        data = json.dumps(request).encode()
        link.sendall(b'CONNECT {"verbose":false}\r\nSUB _INBOX.test 1\r\n')
        link.sendall(b"PUB freeswitch.api _INBOX.test %d\r\n%b\r\nPING\r\n" % (len(data), data))
        received = b""
        try:
            while not (found := re.search(rb"MSG \S+ 1 (\d+)\r\n(.*)\r\n", received, re.DOTALL)):
                chunk = link.recv(65536)
                if not chunk:
                    return {}
                received += chunk
        except TimeoutError:
            return {}
    reply: dict[str, object] = json.loads(found[2][: int(found[1])])
    return reply


def answers() -> bool:
    try:
        return ask({"command": "status"}, 0.3).get("success") is True
    except OSError:
        return False


def until_answered(what: str, seconds: float = 15.0) -> float:
    return wait(f"{what}: a command is answered", answers, seconds)


def restarted(pid: str, what: str, seconds: float) -> float:
    """How long it took until there was another process that answers."""
    start = time.monotonic()
    wait(f"{what}: another process", lambda: show("MainPID") not in ("0", pid), seconds)
    until_answered(what)
    return time.monotonic() - start


@contextmanager
def drop_in(*lines: str) -> Iterator[None]:
    """Restarts the service with these lines for its unit, and at the end without them."""
    path = Path(f"/etc/systemd/system/{UNIT}.d/test.conf")
    path.parent.mkdir()
    path.write_text("\n".join(("[Service]", *lines, "")), encoding="utf-8")
    try:
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", UNIT)
        yield
    finally:
        path.unlink()
        path.parent.rmdir()
        run("systemctl", "daemon-reload")
        run("systemctl", "restart", UNIT)
        until_answered("without the drop-in again")


@contextmanager
def secret(name: str, text: str) -> Iterator[str]:
    """A file that root alone may read, and the line that makes a credential of it."""
    path = Path(f"/etc/event-agent/{name}.secret")
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
    try:
        yield f"LoadCredential={name}:{path}"
    finally:
        path.unlink()


def kept_secret(text: str, since: float) -> None:
    """It is neither in the environment of the process nor in the journal."""
    environ = Path(f"/proc/{show('MainPID')}/environ").read_bytes()
    check(text.encode() not in environ, "a credential is in the environment")
    check(text not in journal(since), "a secret is in the journal")
