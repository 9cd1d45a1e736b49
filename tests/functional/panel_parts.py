"""The panel as a process of its own, as its README says to start it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.functional.parts import ROOT
from tests.support import free_port, until


class Panel:
    """`start`, then `url` is the page's address; `options` are further arguments."""

    def __init__(self, nats_url: str, *options: str, port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self._command = [
            sys.executable, str(ROOT / "examples/panel"),
            "--listen", f"127.0.0.1:{self.port}", "--url", nats_url, *options,
        ]  # fmt: skip
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
        self._folder = tempfile.TemporaryDirectory(prefix="event-agent-panel-")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has logged."""
        return Path(self._folder.name, "log").read_text(errors="replace")

    def start(self) -> Panel:
        """Start it (again, on the same port); returns when it listens."""
        with open(Path(self._folder.name, "log"), "wb") as log:
            self.process = subprocess.Popen(
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environ
            )
        until(self._listens, "the panel listens")
        return self

    def _listens(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log
        return " panel: http://" in self.log

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it as Ctrl-C does; the exit code. AssertionError when it takes long."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(8)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it did not end in time:\n{self.log[-2000:]}") from None

    def remove(self) -> None:
        """End it, whatever it does."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        self._folder.cleanup()
