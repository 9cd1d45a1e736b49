"""event-agent itself on a simulated FreeSWITCH, for tests of programs: nothing of it is made up but the telephones.

It takes a nats-server, event-agent on this machine, and the simulator that comes with this package. What is missing is
said with the way to get it.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from event_agent_client import sync
from event_agent_client.errors import AgentError
from event_agent_client.testing.server import MissingPart, free_port

T = TypeVar("T")
SIMULATORS = ("event_agent_client.testing.switchsim", "tests.switchsim")  # installed; in a checkout


def command() -> list[str]:
    """What starts event-agent: this Python's, or the one on PATH. Raises MissingPart."""
    if importlib.util.find_spec("event_agent") is not None and importlib.util.find_spec("ESL") is not None:
        return [sys.executable, "-m", "event_agent"]
    if found := shutil.which("event-agent"):
        return [found]
    raise MissingPart(
        "event-agent is not installed, neither for this Python nor on PATH: apt install event-agent, or "
        "pip install event-agent; or use fake_agent, which needs none"
    )


def simulated() -> Any:
    """The simulator's module. Raises MissingPart."""
    for name in SIMULATORS:
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as fault:
            if not name.startswith(str(fault.name)):
                raise
    raise MissingPart("the simulated FreeSWITCH is not there: install event-agent-client's wheel or Debian package")


class RealAgent:
    """One node: event-agent and its FreeSWITCH. `with RealAgent(url) as agent`; `settings` are event-agent's."""

    def __init__(self, url: str, *, node: str = "fs-1", prefix: str = "freeswitch", **settings: object) -> None:
        self.url, self.node, self.prefix = url, node, prefix
        self._port = free_port()
        simulator = simulated()
        self.switch: Any = simulator.SwitchSim(dialplan_hook=simulator.XmlCurl(self._port))
        """The simulated FreeSWITCH."""
        self._command = command()
        self._folder = Path(tempfile.mkdtemp(prefix="event-agent-client-agent-"))
        self._settings = {
            "url": url, "node_id": node, "subject_prefix": prefix, "http_listen": f"127.0.0.1:{self._port}",
            "dialplan_key": "off", "state_dir": str(self._folder / "state"),
            **{name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in settings.items()},
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    # -- what a test does

    def incoming(self, number: str, *, context: str = "public", caller: str = "5551234") -> str:
        """Somebody calls this number; returns the uuid of the call."""
        before = set(self.switch.channels)
        self.switch.call(f"{{origination_caller_id_number={caller}}}loopback/{number}/{context}", "&park()")

        def arrived() -> str:
            for uuid, channel in self.switch.channels.items():
                if uuid not in before and channel.direction == "inbound":
                    return str(uuid)
            return ""

        return self._until(arrived, "the call has not arrived")

    def dial(self, uuid: str, digits: str) -> None:
        """The caller dials."""
        self.switch.api(f"uuid_recv_dtmf {uuid} {digits}")

    def hang_up(self, uuid: str, cause: str = "NORMAL_CLEARING") -> None:
        """The other end hangs up."""
        self.switch.api(f"uuid_kill {uuid} {cause}")

    def runs(self, uuid: str, application: str, limit: float = 30.0) -> None:
        """Wait until this application runs on the call. Raises TimeoutError."""
        name = f"uuid_getvar {uuid} current_application"
        self._until(lambda: self.switch.api(name).strip() == application, f"{application} does not run", limit)

    def ended(self, uuid: str, limit: float = 30.0) -> None:
        """Wait until the call has ended. Raises TimeoutError."""
        self._until(lambda: uuid not in self.switch.channels, "the call has not ended", limit)

    def parks(self, limit: float = 30.0) -> None:
        """Wait until a program has switched park mode on. Raises TimeoutError."""
        with sync.connect(self.url, prefix=self.prefix) as fs:
            status = fs.node(self.node)
            self._until(lambda: status.request("dialplan.status").data["mode"] == "park", "no park mode", limit)

    # -- a life

    def start(self, limit: float = 60.0) -> RealAgent:
        """Start both, or the agent again; returns when the node is ready. Raises RuntimeError with its log."""
        if self.switch.port == 0:
            self.switch.start()
        environ = {key: value for key, value in os.environ.items() if not key.startswith("MOD_EVENT_AGENT_")}
        where = {"esl_port": self.switch.port, "esl_password": self.switch.password}
        environ |= {f"MOD_EVENT_AGENT_{key.upper()}": str(value) for key, value in (self._settings | where).items()}
        environ.pop("JOURNAL_STREAM", None)
        with open(self._folder / "log", "ab") as log:
            self._process = subprocess.Popen(
                [*self._command, "-c", self._configuration()], env=environ, stdin=subprocess.DEVNULL, stdout=log,
                stderr=log, cwd=self._folder if "-m" not in self._command else None,
            )  # fmt: skip
        try:
            with sync.connect(self.url, prefix=self.prefix) as fs:
                self._until(lambda: self._ready(fs), "the node is not ready", limit)
        except (TimeoutError, AgentError) as fault:
            log_text = self.log[-2000:]
            self.stop()
            raise RuntimeError(f"{fault}; event-agent's log:\n{log_text}") from None
        return self

    def _configuration(self) -> str:
        """An empty one: all is in the environment."""
        path = self._folder / "event_agent.conf.xml"
        path.write_text('<configuration name="event_agent.conf"><settings/></configuration>\n')
        return str(path)

    def _ready(self, fs: sync.Client) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise TimeoutError(f"event-agent has ended with exit code {self._process.returncode}")
        try:
            return bool(fs.node(self.node).status(wait=5).data["readiness"]["ready"])
        except AgentError:
            return False

    @property
    def log(self) -> str:
        """What event-agent has logged."""
        path = self._folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """SIGKILL for the agent; its FreeSWITCH goes on."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None

    def stop(self) -> None:
        """End both, and remove what they have written."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(10)
        self._process = None
        self.switch.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> RealAgent:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _until(self, value: Callable[[], T], what: str, limit: float = 30.0) -> T:
        deadline = time.monotonic() + limit
        while not (found := value()):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} within {limit:g} seconds")
            time.sleep(0.02)
        return found
