"""A simulator that refuses, freezes, is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from tests.switchsim import SwitchSim
from tests.unit.switchsim.parts import LIMIT, ROOT, Client, threads, wait_until

# --- faults ----------------------------------------------------------------------------------------------------


def test_refused_by_acl() -> None:
    with SwitchSim(reject_acl=True) as sim:
        with Client(sim, password=None) as client:
            refusal = client.read()
            assert refusal.get("Content-Type") == "text/rude-rejection"
            assert refusal.body == b"Access Denied, go away.\n"
            assert client.read().get("Content-Type") == "text/disconnect-notice"
            with pytest.raises(EOFError):
                client.read()
        sim.reject_acl(False)
        with Client(sim):
            pass


def test_never_greeted() -> None:
    with SwitchSim(never_greet=True) as sim, Client(sim, password=None) as client:
        client.send("auth ClueCon\n\n")
        assert client.quiet()


def test_frozen(sim: SwitchSim, client: Client) -> None:
    sim.freeze()
    client.send("api echo 1\n\n")
    with Client(sim, password=None) as other:  # taken, but not greeted
        assert client.quiet() and other.quiet()
        sim.thaw()
        assert client.read().body == b"1"
        assert other.read().get("Content-Type") == "auth/request"


def test_a_frozen_switch_can_be_stopped() -> None:
    with SwitchSim() as sim, Client(sim) as client:
        sim.freeze()
        client.send("api echo 1\n\n")


@pytest.mark.parametrize("reset", [False, True])
def test_killed(sim: SwitchSim, client: Client, reset: bool) -> None:
    assert sim.kill_connections(reset=reset) == 1
    with pytest.raises((EOFError, ConnectionResetError)):
        client.read()
    wait_until(lambda: not sim.connections)
    with Client(sim) as again:
        assert again.api("echo back") == "back"


def test_other_password() -> None:
    with SwitchSim(password="sécret") as sim, Client(sim, password="sécret") as client:
        assert client.api("echo in") == "in"


# --- life ------------------------------------------------------------------------------------------------------


def test_stop_ends_whatever_goes_on() -> None:
    sim = SwitchSim().start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(sim)) for _ in range(4)]
        clients[0].send("api msleep 60000\n\n")
        clients[1].send("bgapi msleep 60000\n\n")
        clients[2].send("api originate sim/slow-60000 &park\n\n")
        clients[3].command("event plain ALL")
        wait_until(lambda: sim.api_calls["msleep"] == 2 and sim.channels)
        assert len(threads()) == 2 + 4 + 1
        start = time.monotonic()
        sim.stop()
        assert time.monotonic() - start < 20
    assert threads() == []
    with socket.create_server((sim.host, sim.port)):  # the port is free again
        pass


def test_a_taken_port_leaves_nothing_behind(sim: SwitchSim) -> None:
    with pytest.raises(OSError):
        SwitchSim(sim.port).start()
    assert len(threads()) == 2


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_command_line(by: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.switchsim", "--port", "0", "--password", "pass", "--demo"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("switchsim listens on 127.0.0.1:")
        sim = SwitchSim(int(line.rpartition(":")[2]))
        with Client(sim, "pass") as client:
            client.command("event json CHANNEL_CREATE")
            assert client.event()["Caller-Caller-ID-Name"] == "Demo"
            process.send_signal(by)
            assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.communicate()


def test_command_line_on_a_taken_port(sim: SwitchSim) -> None:
    command = [sys.executable, "-m", "tests.switchsim", "--port", str(sim.port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert "can't listen" in done.stderr
