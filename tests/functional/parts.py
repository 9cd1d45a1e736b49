"""The real parts that functional tests start, each on a free port: nats-server, the daemon, and a client not ours."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest
from nats.aio.msg import Msg

from tests.functional.streams import taken
from tests.functional.wire import WatchedNats
from tests.support import free_port, until

ROOT = Path(__file__).resolve().parent.parent.parent
SCALE = int(os.environ.get("EVENT_AGENT_SCALE", "1"))  # `make soak` does everything so many times as often
T = TypeVar("T")


def send(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal; SIGSTOP has stopped all threads when this returns."""
    process.send_signal(number)
    if number == signal.SIGSTOP:
        until(lambda: all(state == "T" for state in _states(process.pid)), "stopped", 5.0)


def _states(pid: int) -> list[str]:
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):  # a thread that has just ended
            found.append((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def nats_program() -> str:
    """The nats-server of PATH; what NATS_SERVER_BIN names is there first (tests/conftest.py)."""
    return shutil.which("nats-server") or "/usr/sbin/nats-server"  # not in every user's PATH


def needs_nats_server(*version: int) -> None:
    """Skip the test where the nats-server is older than that."""
    said = subprocess.run([nats_program(), "--version"], capture_output=True, text=True, check=True).stdout.strip()
    found = re.search(r"v(\d+)\.(\d+)", said)
    assert found is not None, said
    if tuple(map(int, found.groups())) < version:
        pytest.skip(f"{said}: NATS_SERVER_BIN names none from {'.'.join(map(str, version))} on")


class NatsServer:
    """One nats-server process; `options` are further arguments, `config` the text of a configuration file."""

    def __init__(self, *options: str, config: str = "", port: int = 0) -> None:
        self.port = port or free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        self._options = list(options)
        self.config = config
        self.folder = Path(tempfile.mkdtemp(prefix="event-agent-nats-"))
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self) -> NatsServer:
        """Start it (again, on the same port); returns when it greets."""
        binary = nats_program()
        options = ["-a", "127.0.0.1", "-p", str(self.port), *self._options]
        if self.config:
            (self.folder / "conf").write_text(self.config)
            options += ["-c", str(self.folder / "conf")]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen([binary, *options], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        try:
            until(self.greets, lambda: f"nats-server greets:\n{self.log}", 60.0)  # it looks through its streams first
        except AssertionError:
            self.kill()
            raise
        return self

    def greets(self) -> bool:
        assert self.process is not None and self.process.poll() is None, self.log
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as probe:
            return probe.recv(4) == b"INFO"
        return False

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP freezes it, SIGCONT thaws it, SIGUSR2 is lame duck mode."""
        assert self.process is not None
        send(self.process, number)

    def stop(self) -> None:
        """End it and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class Agent:
    """The daemon as a process of its own, as an operator runs it."""

    def __init__(self, **settings: str) -> None:
        """`settings`: param names and values; they go in by the environment."""
        self.folder = Path(tempfile.mkdtemp(prefix="event-agent-"))
        defaults = {
            "http_listen": "off", "dialplan_key": "off", "state_dir": str(self.folder / "state"),
            "node_id": "FS-Node-01", "heartbeat": "0",
        }  # fmt: skip
        settings = defaults | settings
        (self.folder / "state").mkdir()
        self.environ = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
        self.environ |= {f"MOD_EVENT_AGENT_{name.upper()}": value for name, value in settings.items()}
        self.environ.pop("JOURNAL_STREAM", None)
        self.config = ROOT / "etc" / "event_agent.conf.xml"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        """What it has logged."""
        return (self.folder / "log").read_text(errors="replace")

    def start(self, *, ready: bool = True) -> Agent:
        """Start it; with `ready` wait until both links are up."""
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "event_agent.py"), "-c", str(self.config)],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        if ready:
            self.logged("NATS connected")
            self.logged("FreeSWITCH connected")
            self.logged("FreeSWITCH events: subscribed")
        return self

    def logged(self, pattern: str, count: int = 1, timeout: float = 60.0) -> list[str]:
        """Wait until `count` lines match; returns them."""
        def lines() -> list[str]:
            assert self.process is not None
            found = [line for line in self.log.splitlines() if re.search(pattern, line)]
            if len(found) < count:
                assert self.process.poll() is None, f"the agent ended with {self.process.returncode}:\n{self.log}"
                return []
            return found

        return until(lines, lambda: f"{count} log lines like {pattern!r}; log:\n{self.log[-3000:]}", timeout)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        assert self.process is not None
        send(self.process, number)

    def stop(self) -> int:
        """SIGTERM; returns the exit code. AssertionError if it does not end: in 5 s, more on a busy machine."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.terminate()
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(f"it did not end in time:\n{self.log[-3000:]}") from None

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)

    def remove(self) -> None:
        """End it, whatever it does, and remove its folder."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def memory(self) -> float:
        """Resident memory in MB."""
        assert self.process is not None
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]

    def cpu(self) -> float:
        """Seconds of CPU used so far."""
        assert self.process is not None
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def threads(self) -> list[str]:
        """Names of its threads."""
        assert self.process is not None
        tasks = Path(f"/proc/{self.process.pid}/task")
        names = []
        for task in tasks.iterdir():
            with contextlib.suppress(OSError):  # one that has just ended
                names.append((task / "comm").read_text().strip())
        return sorted(names)


class EventSocket:
    """A way to FreeSWITCH without the agent."""

    def __init__(self, port: int, password: str = "ClueCon", timeout: float = 5.0) -> None:
        """`timeout`: seconds for each step of it."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout)
        self._file = self._socket.makefile("rb")
        self._frame()
        self._socket.sendall(f"auth {password}\n\n".encode())
        self._frame()

    def _frame(self) -> str:
        length = 0
        while line := self._file.readline().strip():
            if line.startswith(b"Content-Length:"):
                length = int(line.partition(b":")[2])
        return self._file.read(length).decode()

    def api(self, command: str) -> str:
        self._socket.sendall(f"api {command}\n\n".encode())
        return self._frame()

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def hang_up_all(port: int, password: str = "ClueCon") -> None:
    """No call is left on this switch, nor in its list, which is up to a second behind in FreeSWITCH."""
    def calls() -> str:
        socket_.api("hupall")
        return socket_.api("show channels")

    with contextlib.closing(EventSocket(port, password)) as socket_:
        until(calls, "no call is left", holds=lambda found: "\n0 total." in found)


async def _unsaid(_: Exception) -> None:
    """A broker that goes away is what many tests are about."""


class Client:
    """nats-py, somebody else's client, behind calls that wait; its loop runs on a thread of its own."""

    def __init__(self, url: str, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="test-client", daemon=True)
        self._thread.start()
        options.setdefault("error_cb", _unsaid)
        self.nc = WatchedNats()  # what it sends and gets is held against docs/asyncapi.yaml
        self.run(self.nc.connect(url, **options))

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float = 60.0) -> T:
        """Run it on the client's loop."""
        return self.begin(coroutine).result(timeout)

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """The same, without waiting for its end."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def raw(self, subject: str, data: bytes, timeout: float = 20.0, headers: dict[str, str] | None = None) -> Msg:
        """One request; the reply as it came."""
        return self.run(self.nc.request(subject, data, timeout=timeout, headers=headers))

    def request(
        self,
        command: str,
        args: str | None = None,
        subject: str = "freeswitch.api",
        *,
        fields: dict[str, Any] | None = None,
        _timeout: float = 20.0,
        **more: Any,
    ) -> Any:
        """One request with these fields; the reply, parsed."""
        payload = {"command": command, **({} if args is None else {"args": args}), **(fields or {}), **more}
        return json.loads(self.raw(subject, json.dumps(payload).encode(), _timeout).data)

    def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Publish, without waiting for it to arrive."""
        self.run(self.nc.publish(subject, data, reply=reply))

    def publish_all(self, subject: str, payloads: list[bytes], reply: str = "") -> None:
        """Publish all of these in order."""
        async def go() -> None:
            for payload in payloads:
                await self.nc.publish(subject, payload, reply=reply)
            await self.nc.flush(30)

        self.run(go())

    def gather(self, subject: str) -> list[Msg]:
        """Subscribe; the list grows as messages come."""
        found: list[Msg] = []

        async def go() -> None:
            async def took(message: Msg) -> None:
                found.append(message)

            await self.nc.subscribe(subject, cb=took)
            await taken(self.nc)

        self.run(go())
        return found

    def events(self, subject: str = "freeswitch.events.>") -> Events:
        """Subscribe to events."""
        return Events(self.gather(subject))

    def close(self) -> None:
        """End the connection and the thread."""
        with contextlib.suppress(Exception):
            self.run(self.nc.close(), 5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()


class Events:
    """Events that have come so far."""

    def __init__(self, messages: list[Msg]) -> None:
        self.messages = messages

    def parsed(self) -> list[dict[str, Any]]:
        """All of them, in order."""
        return [json.loads(message.data) for message in list(self.messages)]

    def named(self, name: str, **headers: str) -> list[dict[str, Any]]:
        """Those of one name, with these headers (`_` for `-`, but in variable_…)."""
        wanted = {key if key[0].islower() else key.replace("_", "-"): value for key, value in headers.items()}
        return [
            event
            for event in self.parsed()
            if event["event_name"] == name
            and all(event["headers"].get(key) == value for key, value in wanted.items())
        ]

    def wait(self, name: str, count: int = 1, timeout: float = 30.0, **headers: str) -> list[dict[str, Any]]:
        """Wait for `count` of them."""

        def enough() -> list[dict[str, Any]] | None:
            found = self.named(name, **headers)
            return found if len(found) >= count else None

        try:
            return until(enough, f"{count} {name}", timeout) or []
        except AssertionError as error:
            came = [(event["event_name"], event.get("body", "")[:80]) for event in self.parsed()]
            raise AssertionError(f"{error}; these came: {came[-60:]}") from None
