"""The parts of a measurement: nats-server, one or two FreeSWITCH, the load generator, agents; and what they use.

mod_event_agent, where it is installed, runs in a FreeSWITCH of its own: same program, same configuration. Both are
there all the time, so none of the peers pays for the other's events.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch, binary

ROOT = Path(__file__).resolve().parent.parent
OURS, RAW, MODULE, NATS = "event-agent", "raw event socket", "mod_event_agent", "nats-server alone"
RUNG = f"{OURS}, rung"
REQUEST = '{"command":"version"}'
MODULE_PREFIX = "module"  # the C module's subjects, apart from ours
SIMULATOR = "the simulator (FREESWITCH_BIN and PATH name no FreeSWITCH): no figure of a switch"


def cpu(process: subprocess.Popen[Any] | None) -> float:
    """Seconds of CPU that a process has used, ended threads included, to the nanosecond. See clock_getcpuclockid(3)."""
    return time.clock_gettime((~process.pid << 3) | 2) if process else 0.0


def cores() -> tuple[float, float]:
    """Seconds for which the cores of this machine were busy, and had nothing to do, each added up over all cores."""
    fields = [int(field) for field in Path("/proc/stat").read_text().partition("\n")[0].split()[1:]]
    idle = fields[3] + fields[4]
    return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK"), idle / os.sysconf("SC_CLK_TCK")


def peak_memory(process: subprocess.Popen[Any] | None) -> float:
    """The most resident memory that a process ever had, in MB."""
    if process is None:
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0


def _nats_client(switch: RealSwitch) -> str:
    """The NATS C client that FreeSWITCH has loaded; what the module's latency is depends on its version."""
    assert switch.process
    maps = Path(f"/proc/{switch.process.pid}/maps").read_text()
    found = re.search(r"libnats\.so[.\d]*", maps)
    return found.group() if found else "a NATS client of its own"


class Rig:
    """Everything but the agents, which come and go."""

    def __init__(self, folder: Path) -> None:
        self.load = folder / "load"
        subprocess.run(["cc", "-O2", "-o", self.load, ROOT / "bench" / "load.c"], check=True)
        self.nats = NatsServer().start()
        self.real = binary() is not None
        self.name = binary() or SIMULATOR
        self.module_switch: RealSwitch | None = None
        self.rung_switch: RealSwitch | None = None
        self.module_says = "not measured: no FreeSWITCH"
        self.switch: Any = None
        try:
            if self.real:
                self.switch = RealSwitch().start()
                self._load_module()
            else:
                from tests.switchsim import SwitchSim

                self.switch = SwitchSim().start()
        except BaseException:
            self.close()
            raise

    def _load_module(self) -> None:
        params = {
            "driver": "nats", "url": self.nats.url, "subject_prefix": MODULE_PREFIX, "node_id": "bench",
            "publish_all_events": "true", "exclude": "DTMF,HEARTBEAT,API",
        }  # fmt: skip
        switch = RealSwitch(mod_event_agent=params).start()
        with RawEvents(switch.port, switch.password) as socket:
            socket.command("api load mod_event_agent")
            there = socket.command("api module_exists mod_event_agent").strip() == b"true"
        if there:
            self.module_switch, self.module_says = switch, f"loaded, with {_nats_client(switch)}"
        else:
            switch.stop()
            self.module_says = "not installed in this FreeSWITCH"

    def close(self) -> None:
        """End all of it."""
        for part in (self.switch, self.module_switch, self.nats):
            if part is not None:
                part.stop()

    def switch_of(self, peer: str) -> Any:
        """The FreeSWITCH that a peer is measured with."""
        return {MODULE: self.module_switch, RUNG: self.rung_switch}.get(peer, self.switch)

    @contextmanager
    def bell(self) -> Iterator[RealSwitch]:
        """A FreeSWITCH with mod_event_multicast, for RUNG. Each command costs it a datagram, so others go without."""
        with RealSwitch(modules=("mod_event_multicast",)) as switch:
            self.rung_switch = switch
            try:
                yield switch
            finally:
                self.rung_switch = None

    def switch_cpu(self, peer: str) -> float:
        """Seconds of CPU of that FreeSWITCH; 0 for the simulator."""
        return cpu(self.switch_of(peer).process) if self.real else 0.0

    def peers(self, *wanted: str) -> list[str]:
        """Those of them that are here."""
        return [peer for peer in wanted if peer != MODULE or self.module_switch is not None]

    def api(self, command: str, peer: str = OURS) -> str:
        """One API command, on an event socket of its own."""
        switch = self.switch_of(peer)
        with RawEvents(switch.port, switch.password) as socket:
            return socket.command(f"api {command}").decode(errors="replace")

    # -- agents

    @contextmanager
    def agent(self, *, ready: bool = True, **settings: str) -> Iterator[Agent]:
        """A fresh agent."""
        links = {"url": self.nats.url, "esl_port": str(self.switch.port), "node_id": "bench"}
        agent = Agent(**(links | settings))
        try:
            yield agent.start(ready=ready)
            agent.stop()
        finally:
            agent.remove()

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A client for single requests."""
        client = Client(self.nats.url)
        try:
            yield client
        finally:
            client.close()

    # -- the load generator

    def run(self, *arguments: object, partial: bool = False) -> dict[str, Any]:
        """One run of it. `partial`: that something is missing at its end is a result too."""
        done = subprocess.run([self.load, *map(str, arguments)], capture_output=True, text=True, timeout=600)
        if done.returncode not in ((0, 1) if partial else (0,)):
            raise RuntimeError(f"load {arguments}: {done.returncode}: {done.stdout}{done.stderr}")
        return dict(json.loads(done.stdout.splitlines()[-1]))

    def requests(self, peer: str, window: int, count: int, *, partial: bool = False) -> dict[str, Any]:
        """So many requests to a peer, so many in flight. All must be answered, and with success, but for `partial`."""
        if peer == RAW:
            port, password = self.switch.port, self.switch.password
            return self.run("esl", "127.0.0.1", port, password, "version", count, window)
        subject = {OURS: "freeswitch.api", MODULE: f"{MODULE_PREFIX}.api", NATS: "bench.echo"}[peer]
        result = self.run("commands", "127.0.0.1", self.nats.port, subject, REQUEST, count, window, partial=partial)
        if result["bad"] and not partial:
            raise RuntimeError(f"{peer} answered {result['bad']} of {count} requests with an error")
        return result

    @contextmanager
    def echo(self, body: str) -> Iterator[None]:
        """Somebody who answers requests with this and does nothing else: the part of a latency that is NATS."""
        with self.background("echo", "127.0.0.1", self.nats.port, "bench.echo", body):
            yield

    @contextmanager
    def background(self, *arguments: object) -> Iterator[subprocess.Popen[str]]:
        """One that runs on until its stdin ends; it is ready when the block begins."""
        with subprocess.Popen(
            [self.load, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdin and process.stdout
            try:
                assert process.stdout.readline() == "ready\n"
                yield process
            finally:
                process.stdin.close()
                if arguments[0] != "echo" and process.poll() is None:
                    process.kill()

    def fire(self, peer: str, count: int, rate: float, *command: str) -> dict[str, Any]:
        """Have a peer's FreeSWITCH fire events, or run a command, at a rate (0: flat out)."""
        switch = self.switch_of(peer)
        return self.run("fire", "127.0.0.1", switch.port, switch.password, count, f"{rate:g}", *command)

    @contextmanager
    def cannon(self, count: int) -> Iterator[tuple[str, Any]]:
        """An event socket that fires `count` recorded events for a line on its stdin (bench/cannon.py); its port."""
        with subprocess.Popen(
            [sys.executable, "-m", "bench.cannon", str(count)],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            assert process.stdout
            try:
                yield process.stdout.readline().strip(), process
            finally:
                process.kill()


def seen(subscriber: subprocess.Popen[str], timeout: float = 120.0) -> dict[str, Any]:
    """What a subscriber counted, when it is through."""
    assert subscriber.stdout
    line = subscriber.stdout.readline()  # comes when all have come, or its own time limit has passed
    subscriber.wait(timeout)
    return dict(json.loads(line))
