"""What a soak runs: FreeSWITCH, nats-server with a stream on disk, an agent, a router, a CDR writer and its PostgreSQL.

All of it is its own: folders, ports, processes. `close` ends everything.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from bench.losses import LEFT_OUT
from bench.rig import ROOT
from tests.functional.keeper import Keeper
from tests.functional.node_parts import Program
from tests.functional.parts import Agent, NatsServer, hang_up_all
from tests.functional.postgres_parts import PYTHON, Postgres
from tests.functional.proxy import Proxy
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until

NODE = "soak"
ROUTES = "prefix,action,value\n71,transfer,9001\n72,hangup,USER_BUSY\n73,dialplan,\n74,park,\n"
STREAM_BYTES = 3_000_000_000  # then the oldest go; they have been read long before


class Load:
    """One of the programs in load.py; what it says goes to `took`."""

    def __init__(self, took: Callable[[dict[str, Any]], None], *words: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bench.soak.load", *map(str, words)], cwd=ROOT, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.name = str(words[0])
        self._took = took
        self._thread = threading.Thread(target=self._read, name=f"load-{self.name}")
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self._took(json.loads(line))

    @property
    def pid(self) -> int:
        return self._process.pid

    def check(self) -> None:
        """RuntimeError if it is gone."""
        if self._process.poll() is not None:
            raise RuntimeError(f"the load's {self.name} ended with {self._process.returncode}")

    def end(self) -> None:
        """Let it finish, and read all that it says."""
        assert self._process.stdin
        if not self._process.stdin.closed:
            self._process.stdin.close()
        try:
            self._process.wait(90)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._thread.join(10)


class Parts:
    """All of them, started."""

    def __init__(self, settings: dict[str, str]) -> None:
        self._stack = ExitStack()
        try:
            self._start(settings)
        except BaseException:
            self._stack.close()
            raise

    def _start(self, settings: dict[str, str]) -> None:
        ended = self._stack.callback
        self.folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="event-agent-soak-")))
        self.postgres = Postgres().start()
        ended(self.postgres.stop)
        self.monitor = free_port()
        self.nats = NatsServer("-m", str(self.monitor), "-js", "-sd", str(self.folder / "js")).start()
        ended(self.nats.stop)
        subprocess.run(
            [sys.executable, "-m", "event_agent.ctl", "stream", "create", "--max-bytes", str(STREAM_BYTES)], cwd=ROOT,
            check=True, env=os.environ | {"MOD_EVENT_AGENT_URL": self.nats.url}, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        listen = free_port()
        url = f"http://127.0.0.1:{listen}/dialplan"
        self.switch = RealSwitch(dialplan_url=url, modules=("mod_cdr_csv",)).start()
        ended(self.switch.stop)
        self.proxy = Proxy(self.switch.port)
        ended(self.proxy.stop)
        self.agent = Agent(**({
            "url": self.nats.url, "esl_port": str(self.proxy.port), "http_listen": f"127.0.0.1:{listen}",
            "node_id": NODE, "cdr": "true", "events_delivery": "at_least_once", "spool_mode": "always",
            "exclude": ",".join(LEFT_OUT), "heartbeat": "20",
        } | settings))  # fmt: skip
        ended(self.agent.remove)
        self.keeper = Keeper(self.agent)
        ended(self.keeper.close)
        self.keeper.start()
        for line in ("NATS connected", "FreeSWITCH events: subscribed", "events are stored by stream"):
            self.agent.logged(line)
        (self.folder / "routes.csv").write_text(ROUTES)
        self.programs: dict[str, Program] = {}
        ended(self._end_programs)
        self.started: dict[str, int] = {}
        self.start_router()
        self.start_writer()

    def _end_programs(self) -> None:
        for each in self.programs.values():
            each.kill()

    def _program(self, name: str, says: str, *command: str) -> None:
        count = self.started[name] = self.started.get(name, 0) + 1
        variables = {"PYTHONPATH": str(ROOT), "NATS_URL": self.nats.url}
        program = Program([*command], self.folder / f"{name}{count}.out", variables)
        self.programs[name] = program
        program.says(says, 60)

    def start_router(self) -> None:
        command = [sys.executable, "-u", str(ROOT / "examples/programs/router.py"), str(self.folder / "routes.csv")]
        self._program("router", "routing calls in", *command, "public", "--to", "default")

    def start_writer(self) -> None:
        command = [PYTHON, "-u", str(ROOT / "examples/programs/cdr_to_postgres.py"), self.postgres.dsn]
        self._program("writer", "ready", *command)

    def restart_agent(self, number: signal.Signals) -> None:
        """End it with this signal and start the next one, which gets its descriptors as from systemd."""
        process = self.agent.process
        assert process is not None
        process.send_signal(number)
        process.wait(60)
        self.keeper.start()

    def subscriptions(self) -> Counter[str]:
        """Of all clients of the nats-server: subjects, the random parts of inboxes left out."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.monitor}/connz?subs=1&limit=1000", timeout=30) as answer:
            clients = json.load(answer)["connections"]
        found = [each for client in clients for each in client.get("subscriptions_list") or ()]
        return Counter(re.sub(r"^(_INBOX\.|_R_\.|\$SRV\.\w+\.event-agent\.).*", r"\1", each) for each in found)

    def pids(self) -> dict[str, int]:
        """Of each part that lives."""
        found = {
            "agent": self.agent.process, "nats-server": self.nats.process, "FreeSWITCH": self.switch.process,
            **{name: program.process for name, program in self.programs.items()},
        }  # fmt: skip
        return {name: process.pid for name, process in found.items() if process is not None}

    def settle(self) -> None:
        """Until no call is left, and no subscription comes or goes; a lane of a call that is left stays in them."""
        before: Counter[str] | None = None
        hang_up_all(self.switch.port)  # FreeSWITCH may have begun calls late

        def same() -> bool:
            nonlocal before
            last, before = before, self.subscriptions()
            return last == before and not any("freeswitch.call." in each for each in before)

        with suppress(AssertionError):
            until(same, "the subscriptions settle", 60)

    def close(self) -> None:
        self._stack.close()
