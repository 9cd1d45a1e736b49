"""A PostgreSQL of the tests' own, of Debian's package: its own folder and port, started by an unprivileged user."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.support import free_port, until

PYTHON = "/usr/bin/python3"  # Debian's, for Debian's psycopg2


def folder_of_programs() -> Path | None:
    """Where initdb and postgres are."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if named := shutil.which("initdb"):
        found.append(Path(named).resolve().parent)  # all its programs are there, not just those that somebody linked
    return max(found, key=lambda path: path.parent.name.zfill(4), default=None)


def missing() -> str:
    """What there is not, "" if all is there."""
    if folder_of_programs() is None:
        return "no PostgreSQL (Debian: postgresql)"
    code = subprocess.run([PYTHON, "-c", "import psycopg2"], stderr=subprocess.DEVNULL).returncode
    return "no psycopg2 for /usr/bin/python3 (Debian: python3-psycopg2)" if code else ""


needs_postgres = pytest.mark.skipif(bool(missing()), reason=missing() or "-")


class Postgres:
    """One server; `kill` is as a crash, `start` has it on the same port again."""

    def __init__(self) -> None:
        programs = folder_of_programs()
        assert programs is not None
        self._programs = programs
        self.port = free_port()
        self.dsn = f"host=127.0.0.1 port={self.port} user=cdr dbname=postgres"
        self._folder = Path(tempfile.mkdtemp(prefix="event-agent-postgres-"))
        self._user: str | None = None
        if os.geteuid() == 0:  # it refuses to run as root
            names = {each.pw_name for each in pwd.getpwall()}
            self._user = "postgres" if "postgres" in names else "nobody"
            shutil.chown(self._folder, self._user)
        self._process: subprocess.Popen[bytes] | None = None
        options = ["--auth=trust", "--username=cdr", "--no-sync", "--locale=C", "--encoding=UTF8"]
        self._run([str(programs / "initdb"), "-D", str(self._folder / "data"), *options])

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, user=self._user, cwd=self._folder, env={"PATH": os.environ["PATH"]}, capture_output=True,
            text=True, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> Postgres:
        options = {
            "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "16MB",
            "autovacuum": "off", "max_connections": "20",
        }  # fmt: skip
        command = [str(self._programs / "postgres"), "-D", str(self._folder / "data"), "-p", str(self.port)]
        command += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                command, user=self._user, cwd=self._folder, env={"PATH": os.environ["PATH"]}, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log,
            )  # fmt: skip
        try:
            until(self._answers, lambda: f"PostgreSQL answers:\n{self.log}", 60.0)
        except BaseException:
            self.stop()
            raise
        return self

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")[-3000:]

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, self.log
        command = [str(self._programs / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        return subprocess.run(command).returncode == 0

    def query(self, sql: str) -> list[list[str]]:
        """The rows, as texts."""
        command = [
            str(self._programs / "psql"), "-X", "-A", "-t", "-q", "-F", "\x1f", "-v", "ON_ERROR_STOP=1", "-h",
            "127.0.0.1", "-p", str(self.port), "-U", "cdr", "-d", "postgres", "-c", sql,
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [line.split("\x1f") for line in done.stdout.splitlines()]

    def _all(self) -> list[int]:
        """It and its processes, each of which has a session of its own."""
        assert self._process is not None
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        return [pid, *map(int, children.read_text().split())]

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self._all():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def kill(self) -> None:
        """Ended at once, without writing anything down: it has to recover when it starts."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(30)
            finally:
                self._process.kill()
                self._process.wait(10)
                self._process = None

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)
