"""A nats-server of a test's own."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import suppress
from pathlib import Path


class MissingPart(RuntimeError):
    """A part of a test's surroundings is not installed; the text says how to get it."""


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Nats:
    """One nats-server process, from PATH or /usr/sbin; with `jetstream` it keeps streams, in a folder of its own."""

    def __init__(self, *, jetstream: bool = False) -> None:
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._jetstream = jetstream
        self._folder = Path(tempfile.mkdtemp(prefix="event-agent-client-nats-"))
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    def installed() -> bool:
        """Whether there is a nats-server."""
        return bool(shutil.which("nats-server") or Path("/usr/sbin/nats-server").exists())

    def start(self, limit: float = 20.0) -> Nats:
        """Start it (again, on the same port); returns when it greets. Raises MissingPart, RuntimeError."""
        if not self.installed():
            raise MissingPart(
                "there is no nats-server, neither on PATH nor in /usr/sbin: apt install nats-server, or a binary from "
                "https://github.com/nats-io/nats-server/releases on PATH"
            )
        binary = shutil.which("nats-server") or "/usr/sbin/nats-server"
        options = ["-a", "127.0.0.1", "-p", str(self.port)]
        if self._jetstream:
            options += ["-js", "-sd", str(self._folder / "js")]
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen([binary, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        deadline = time.monotonic() + limit
        while time.monotonic() < deadline and self._process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                if probe.recv(4) == b"INFO":
                    return self
            time.sleep(0.02)
        log_text = (self._folder / "log").read_text(errors="replace")[-1000:]
        self.stop()
        raise RuntimeError(f"nats-server did not come up:\n{log_text}")

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> Nats:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
