"""What systemd does for a service's descriptors, in a hundred lines: a store that outlives the process.

sd_notify(3), "FDSTORE=1", and sd_listen_fds_with_names(3): a message on NOTIFY_SOCKET may bring descriptors and a name;
the next process gets them from number 3 on, with LISTEN_FDS, LISTEN_FDNAMES and LISTEN_PID. As in systemd a descriptor
on which poll says HUP or ERR is dropped, unless it came with FDPOLL=0.
"""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress

from tests.functional.parts import ROOT, Agent
from tests.support import until

# LISTEN_PID must be the pid of the process that gets them.
LAUNCH = 'export LISTEN_PID=$$; exec "$@"'


class Keeper:
    """Starts an agent, keeps what it stores, gives it to the next one."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self._path = str(agent.folder / "notify")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self._path)
        self.store: dict[str, list[tuple[int, bool]]] = {}  # name -> (descriptor, polled)
        self.said: list[str] = []
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._read, name="keeper", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while True:
            numbers = array.array("i")
            try:
                data, control, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(16 * numbers.itemsize))
            except OSError:
                return
            if not data:
                return
            for level, kind, content in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    numbers.frombytes(content[: len(content) - len(content) % numbers.itemsize])
            fields = dict(line.partition("=")[::2] for line in data.decode().split("\n"))
            with self._lock:
                self.said.append(data.decode())
                self._take(fields, list(numbers))

    def _take(self, fields: dict[str, str], descriptors: list[int]) -> None:
        name = fields.get("FDNAME", "stored")
        if fields.get("FDSTOREREMOVE") == "1":
            for descriptor, _ in self.store.pop(name, []):
                os.close(descriptor)
        if fields.get("FDSTORE") == "1":
            kept = self.store.setdefault(name, [])
            for descriptor in descriptors:
                kept.append((descriptor, fields.get("FDPOLL", "1") != "0"))
        else:
            for descriptor in descriptors:
                os.close(descriptor)

    def _poll(self) -> None:
        """Drop what has hung up."""
        for name, kept in list(self.store.items()):
            for descriptor, polled in list(kept):
                poll = select.poll()
                poll.register(descriptor, 0)
                if polled and poll.poll(0):
                    kept.remove((descriptor, polled))
                    os.close(descriptor)
            if not kept:
                del self.store[name]

    def start(self) -> Agent:
        """Start the agent with what is stored."""
        with self._lock:
            self._poll()
            given = [(name, descriptor) for name, kept in self.store.items() for descriptor, _ in kept]
        environ = self.agent.environ | {"NOTIFY_SOCKET": self._path}
        if given:
            environ |= {"LISTEN_FDS": str(len(given)), "LISTEN_FDNAMES": ":".join(name for name, _ in given)}

        def arrange() -> None:  # in the child, between fork and exec
            high = [os.dup2(descriptor, 200 + at, inheritable=True) for at, (_, descriptor) in enumerate(given)]
            for at, descriptor in enumerate(high):
                os.dup2(descriptor, 3 + at, inheritable=True)
                os.close(descriptor)

        command = [sys.executable, str(ROOT / "event_agent.py"), "-c", str(self.agent.config)]
        with open(self.agent.folder / "log", "ab") as log:
            self.agent.process = subprocess.Popen(
                ["/bin/sh", "-c", LAUNCH, "sh", *command],
                env=environ, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.agent.folder,
                preexec_fn=arrange, close_fds=False if given else True,
            )  # fmt: skip
        return self.agent

    def restart(self, number: signal.Signals) -> Agent:
        """End the agent with this signal, wait for its end, start the next one."""
        process = self.agent.process
        assert process is not None
        process.send_signal(number)
        process.wait(10)
        return self.start()

    def stored(self, name: str) -> int:
        """How many descriptors of this name are kept."""
        with self._lock:
            return len(self.store.get(name, []))

    def lose(self, name: str) -> None:
        """What the manager does with a descriptor that has hung up."""
        with self._lock:
            for descriptor, _ in self.store.pop(name, []):
                os.close(descriptor)

    def wait_for(self, name: str) -> None:
        """Until a descriptor of this name is kept."""
        until(lambda: self.stored(name), f"{name} in the store")

    def close(self) -> None:
        """Forget everything."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)
        for kept in self.store.values():
            for descriptor, _ in kept:
                os.close(descriptor)
        self.store.clear()
