"""Runs the bridge from the checkout until Ctrl-C: what `make run` does.

FreeSWITCH is the one that answers on the configured event socket, else the bundled simulator. The NATS server is the
one that answers on the configured URL, else one started here on loopback. Ports that something else has taken are
evaded. Everything started here is stopped again, the last first.

Only the main thread starts and stops children. Each child has a thread that passes on its output and reports its end;
signal handlers only report the signal. Both reports go through one queue, which the main thread waits on.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from event_agent.config.load import load
from event_agent.config.table import PARAMS, Settings
from event_agent.ctl.connection import CONNECTION, DEFAULT_FILE
from event_agent.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
CONFIGURATION = "etc/event_agent.conf.xml"
LOOPBACK = "127.0.0.1"
PROBE_TIMEOUT = 2.0
START_TIMEOUT = 10.0
STOP_TIMEOUT = 7.0  # the agent takes at most 5 s to finish what it does


class RunError(Exception):
    """Why the run ends, for the user to read."""


def say(text: str) -> None:
    print(text, flush=True)


# --- what is there ---


def greeting(host: str, port: int, end: bytes, goodbye: bytes = b"") -> bytes | None:
    """What a server says first, up to `end`; empty where it says nothing, None where nobody listens.

    `goodbye` is sent then, and the server left to close: FreeSWITCH leaks memory when it is just dropped.
    """
    received = b""
    try:
        with socket.create_connection((host, port), PROBE_TIMEOUT) as connection:
            try:
                while end not in received and (data := connection.recv(4096)):
                    received += data
                if goodbye and received:
                    connection.sendall(goodbye)
                    while connection.recv(4096):
                        pass
            except OSError:  # mostly a timeout: it has nothing to say
                pass
    except OSError:
        return None
    return received


def freeswitch_answers(host: str, port: int) -> bool:
    said = greeting(host, port, b"\n\n", b"exit\n\n")
    if said is None:
        return False
    if b"auth/request" in said:
        return True
    what = "a FreeSWITCH whose ACL refuses us" if b"rude-rejection" in said else "something else than FreeSWITCH"
    say(f"On {host}:{port} is {what}.")
    return False


def nats_answers(host: str, port: int) -> bool:
    said = greeting(host, port, b"\r\n")
    if said is None:
        return False
    if said.startswith(b"INFO "):
        return True
    say(f"On {host}:{port} is something else than a NATS server.")
    return False


def free_port(wanted: int) -> int:
    """`wanted` on loopback, or another where it is taken."""
    for port in (wanted, 0):
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                listener.bind((LOOPBACK, port))
            except OSError:
                continue
            return int(listener.getsockname()[1])
    raise RunError(f"no free port on {LOOPBACK}")


# --- what is started here ---


class Child:
    """A process in a session of its own, so that a terminal's Ctrl-C is ours alone to handle."""

    def __init__(self, name: str, command: list[str], env: Mapping[str, str], quiet: bool = False) -> None:
        self.name = name
        self.quiet = quiet  # shows only warnings and errors, in nats-server's way of marking them
        self.last_lines: deque[str] = deque(maxlen=15)
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, **env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def pass_on_output(self) -> None:
        """Until the end of the process. Runs in a thread of its own."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            line = line.rstrip()
            self.last_lines.append(line)
            if not self.quiet or any(mark in line for mark in ("[WRN]", "[ERR]", "[FTL]")):
                say(f"{self.name:<11} | {line}")
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            say(f"{self.name} did not stop within {STOP_TIMEOUT:g} s and is killed.")
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Run:
    """One run: its children, and the queue of what happens to them."""

    def __init__(self) -> None:
        self.children: list[Child] = []
        self.happened: SimpleQueue[Child | signal.Signals] = SimpleQueue()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, _: self.happened.put(signal.Signals(received)))

    def start(self, name: str, command: list[str], env: Mapping[str, str] | None = None, quiet: bool = False) -> None:
        child = Child(name, command, env or {}, quiet)
        self.children.append(child)

        def watch() -> None:
            child.pass_on_output()
            self.happened.put(child)

        Thread(target=watch, name=f"output of {name}", daemon=True).start()

    def wait(self, condition: Callable[[], bool], seconds: float) -> bool:
        """True as soon as `condition` holds, False when it does not in time; KeyboardInterrupt, RunError as below."""
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                return False
            self.look(0.1)
        return True

    def look(self, seconds: float = 1.0) -> None:
        """Wait for something to happen. KeyboardInterrupt: the user wants to stop. RunError: a child has died.

        After `seconds` it returns in any case: a signal that comes just before the wait begins does not end the wait.
        """
        try:
            what = self.happened.get(timeout=seconds)
        except Empty:
            return
        if isinstance(what, signal.Signals):
            raise KeyboardInterrupt
        lines = "".join(f"\n    {line}" for line in what.last_lines)
        raise RunError(f"{what.name} ended with exit code {what.process.returncode}; it said last:{lines}")

    def stop(self) -> None:
        for child in reversed(self.children):
            child.stop()


# --- the parts ---


def freeswitch(run: Run, host: str, port: int, env: dict[str, str]) -> str:
    """Find FreeSWITCH or start the simulator; says which."""
    if freeswitch_answers(host, port):
        return f"FreeSWITCH on {host}:{port}, found there"
    port = free_port(port)
    run.start("switchsim", [sys.executable, "-m", "tests.switchsim", "--port", str(port), "--demo"])
    if not run.wait(lambda: bool(greeting(LOOPBACK, port, b"\n\n", b"exit\n\n")), START_TIMEOUT):
        raise RunError(f"the simulator does not answer on {LOOPBACK}:{port}")
    env["MOD_EVENT_AGENT_ESL_HOST"], env["MOD_EVENT_AGENT_ESL_PORT"] = LOOPBACK, str(port)
    return f"simulated FreeSWITCH on {LOOPBACK}:{port}, started here"


def nats(run: Run, urls: tuple[str, ...], env: dict[str, str]) -> str:
    """Find a NATS server or start one; says which."""
    addresses = [(parts.hostname or LOOPBACK, parts.port or 4222) for parts in map(urlsplit, urls)]
    for host, port in addresses:
        if nats_answers(host, port):
            return f"NATS server on {host}:{port}, found there"
    program = shutil.which("nats-server") or "/usr/sbin/nats-server"  # not in every user's PATH
    port = free_port(addresses[0][1])
    run.start("nats-server", [program, "-a", LOOPBACK, "-p", str(port)], quiet=True)
    if not run.wait(lambda: bool(greeting(LOOPBACK, port, b"\r\n")), START_TIMEOUT):
        raise RunError(f"nats-server does not answer on {LOOPBACK}:{port}")
    url = f"nats://{LOOPBACK}:{port}"
    if urls != (url,):
        env["MOD_EVENT_AGENT_URL"] = url
    return f"NATS server on {LOOPBACK}:{port}, started here"


def agent(run: Run, env: Mapping[str, str], ctl: list[str]) -> bool:
    """Start it; True once it has answered a command sent with `ctl`."""
    run.start("event-agent", [sys.executable, "event_agent.py", "-c", CONFIGURATION], env)
    request = [*ctl, "req", '{"command":"agent.status"}']
    asking: list[subprocess.Popen[bytes]] = []

    def answered() -> bool:
        if asking and (code := asking[-1].poll()) is not None:
            if code == 0:
                return True
            asking.pop()
        if not asking:
            asking.append(subprocess.Popen(request, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        return False

    try:
        return run.wait(answered, START_TIMEOUT)
    finally:
        for process in asking:
            process.kill()
            process.wait()


def tool(settings: Settings, env: Mapping[str, str]) -> list[str]:
    """event-agentctl's command line for this run, without what it is to do; bare if its own defaults are right."""
    command = [".venv/bin/event-agentctl"]
    defaults = Settings()
    if os.path.exists(DEFAULT_FILE) or any(
        getattr(settings, name) != getattr(defaults, name) for name in CONNECTION if name in PARAMS
    ):
        command += ["-c", CONFIGURATION]
    url = env.get("MOD_EVENT_AGENT_URL") or ",".join(settings.url)
    if url != ",".join(defaults.url) and "@" not in url:  # a password is not for the screen
        command += ["--url", url]
    return command


def start(run: Run, state_dir: str) -> None:
    settings = load(str(ROOT / CONFIGURATION), os.environ).settings
    env = {"MOD_EVENT_AGENT_STATE_DIR": state_dir}
    switch = freeswitch(run, settings.esl_host, settings.esl_port, env)
    broker = nats(run, settings.url, env)
    ctl = tool(settings, env)
    up = agent(run, env, ctl)
    state = "up" if up else f"started, and has answered no command in {START_TIMEOUT:g} s: see its lines above"
    say(
        f"""
event-agent is {state}. What runs:
  {switch}
  {broker}
  event-agent with {CONFIGURATION}

Try it from another terminal, in {ROOT}:
  {shlex.join(ctl)} req '{{"command":"status"}}'
  {shlex.join(ctl)} events

Ctrl-C stops what was started here.
"""
    )


def main() -> int:
    os.chdir(ROOT)
    run = Run()
    with tempfile.TemporaryDirectory(prefix="event-agent-run-") as state_dir:
        try:
            start(run, state_dir)
            while True:
                run.look()
        except KeyboardInterrupt:
            say("\nStopping.")
            return 0
        except ConfigError as error:
            say("\n".join(error.faults))
            return 2
        except (RunError, OSError) as error:
            say(f"make run: {error}")
            return 1
        finally:
            run.stop()


if __name__ == "__main__":
    sys.exit(main())
