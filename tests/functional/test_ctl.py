"""event-agentctl as a user runs it: a process, a real nats-server, agents, a switch; in pipes and on a terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from event_agent import __version__
from event_agent.client.client import AgentTimeout, CommandFailed, NoAgent
from event_agent.client.client import Client as OurClient
from event_agent.errors import LinkError
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.support import free_port, until

PARK = "loopback/park/default"
ENVIRON = {name: value for name, value in os.environ.items() if not name.startswith("MOD_EVENT_AGENT_")}
ENVIRON |= {"PYTHONPATH": str(ROOT), "TERM": "xterm"}
ENVIRON.pop("NO_COLOR", None)
TOOL = [sys.executable, "-m", "event_agent.ctl"]

Switch = object
Start = Callable[..., Agent]


def ctl(url: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    environ = ENVIRON | {"MOD_EVENT_AGENT_URL": url}
    done = subprocess.run(
        [*TOOL, *argv], env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@contextlib.contextmanager
def running(url: str, *argv: str) -> Iterator[subprocess.Popen[str]]:
    """One that runs on, with its output in pipes; ended at the end."""
    process = subprocess.Popen(
        [*TOOL, *argv], env=ENVIRON | {"MOD_EVENT_AGENT_URL": url}, text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def subscribed(nats: NatsServer, count: int) -> None:
    """Wait until the server has this many subscriptions of tools: the only sign that `events` is listening."""
    until(lambda: len(tools(nats)) >= count, f"{count} tools subscribed to events")


def tools(nats: NatsServer) -> list[str]:
    """Subjects of events that are subscribed to, as the server's own monitoring has it."""
    with socket.create_connection(("127.0.0.1", monitor(nats)), 5) as connection:
        connection.sendall(b"GET /connz?subs=1 HTTP/1.0\r\n\r\n")
        data = b""
        while chunk := connection.recv(65536):
            data += chunk
    connections = json.loads(data.partition(b"\r\n\r\n")[2])["connections"] or []
    subjects = [subject for each in connections for subject in each.get("subscriptions_list", [])]
    return [subject for subject in subjects if subject.startswith("freeswitch.events.")]


def monitor(nats: NatsServer) -> int:
    """Port of its monitoring, since its last start."""
    return int(re.findall(r"Starting http monitor on 127\.0\.0\.1:(\d+)", nats.log)[-1])


@pytest.fixture
def broker() -> Iterator[NatsServer]:
    """A nats-server of the test's own, with its monitoring on."""
    server = NatsServer("-m", "-1").start()
    yield server
    server.stop()


# -- one agent


def test_req(agent: Agent, nats: NatsServer) -> None:
    done = ctl(nats.url, "req", '{"command":"agent.status","correlation_id":"c-1"}')
    assert done.returncode == 0 and done.stdout.count("\n") == 1 and done.stderr == ""
    reply = json.loads(done.stdout)
    assert reply["success"] and reply["correlation_id"] == "c-1" and reply["node_id"] == "FS-Node-01"
    done = ctl(nats.url, "req", '{"command":"no_such_verb"}')
    assert done.returncode == 1 and json.loads(done.stdout)["success"] is False and done.stderr == ""
    assert ctl(nats.url, "req", '{"command":"status","async":true}').stdout == ""


def test_api(agent: Agent, nats: NatsServer, client: Client) -> None:
    done = ctl(nats.url, "api", "show", "channels", "count")
    assert done.returncode == 0 and done.stdout == client.request("show", "channels count")["data"]
    assert ctl(nats.url, "api", "--node", "fs_node_01", "version").stdout.startswith("FreeSWITCH Version")
    done = ctl(nats.url, "api", "uuid_dump", "nobody")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "event-agentctl: -ERR No such channel!\n")


def test_calls(agent: Agent, nats: NatsServer, client: Client) -> None:
    mine = str(uuid.uuid4())
    events = client.events()
    done = ctl(nats.url, "originate", PARK, "&park", "--uuid", mine, "-v", "colour=blue, dark")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{mine}\n", "")
    assert client.request("uuid_getvar", f"{mine} colour")["data"] == "blue, dark"
    done = ctl(nats.url, "app", mine, "set", "shape=round")
    assert (done.returncode, done.stdout) == (0, "FS-Node-01: execute_app dispatched\n")
    until(lambda: client.request("uuid_getvar", f"{mine} shape")["data"] == "round", "the application has run")
    done = ctl(nats.url, "hangup", mine, "USER_BUSY")
    assert (done.returncode, done.stdout) == (0, "FS-Node-01: Channel hangup successful\n")
    hangup = events.wait("CHANNEL_HANGUP", Unique_ID=mine)[0]
    assert hangup["headers"]["Hangup-Cause"] == "USER_BUSY"
    done = ctl(nats.url, "--node", "FS-Node-01", "hangup", mine)
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1
    done = ctl(nats.url, "originate", "user/nobody", "&park")
    assert done.returncode == 1 and done.stdout == "" and done.stderr.count("\n") == 1


def test_check(agent: Agent, nats: NatsServer) -> None:
    done = ctl(nats.url, "check")
    assert done.returncode == 0, done.stdout
    assert re.fullmatch(
        r"EVENT-AGENT OK - FS-Node-01: FreeSWITCH connected \| nodes=1 freeswitch=1 pending=0 commands=\d+c "
        r"failed=\d+c events=\d+c dropped=0c lost=0c\n",
        done.stdout,
    )
    done = ctl(nats.url, "check", "--min-nodes", "2")
    assert done.returncode == 2 and done.stdout.startswith("EVENT-AGENT CRITICAL - 1 node of at least 2 | ")
    done = ctl(nats.url, "check", "--node", "other")
    assert done.returncode == 2 and done.stdout.startswith("EVENT-AGENT CRITICAL - no agent listens on")


def test_where_the_switch_is_away(broker: NatsServer, start_agent: Start) -> None:
    class Nowhere:
        port, password = 1, "x"

    agent = start_agent(broker, Nowhere(), ready=False)
    agent.logged("NATS connected")
    done = ctl(broker.url, "api", "status")
    assert (done.returncode, done.stderr) == (1, "event-agentctl: FreeSWITCH is not connected\n")
    done = ctl(broker.url, "status")
    assert done.returncode == 0 and done.stdout.splitlines()[1].split()[3:7] == ["up", "away", "-", "-"]
    done = ctl(broker.url, "check")
    assert done.returncode == 2 and "FreeSWITCH unreachable on FS-Node-01" in done.stdout


# -- three agents


@pytest.fixture
def three(broker: NatsServer, switch: Switch, start_agent: Start) -> list[Agent]:
    return [start_agent(broker, switch, node_id=f"node-{number}") for number in (1, 2, 3)]


def test_a_cluster(three: list[Agent], broker: NatsServer) -> None:
    done = ctl(broker.url, "status")
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0] for row in rows] == ["NODE", "node-1", "node-2", "node-3"] and "\x1b" not in done.stdout
    rates = r"[\d.]+ +[\d.]+ +[\d.]+ +(?:-|[\d.]+ m?s)"
    node = rf"node-\d +{re.escape(__version__)} +\d+s +up +\d+\.\d+\.\d+ +\d+ +\d+ +{rates} +\d+ +\d+ +\d+"
    assert all(re.fullmatch(node, line) for line in done.stdout.splitlines()[1:])

    replies = [json.loads(line) for line in ctl(broker.url, "status", "--json").stdout.splitlines()]
    assert [reply["node_id"] for reply in replies] == ["node-1", "node-2", "node-3"]

    before = sum(reply["commands_received"] for reply in replies)
    assert ctl(broker.url, "api", "status").returncode == 0
    with OurClient(broker.url) as client:
        after = sum(reply["commands_received"] for reply in client.gather("agent.status", expect=3))
    assert after - before == 1 + 3  # the command ran once, agent.status on each

    done = ctl(broker.url, "api", "--all", "version")
    assert [line for line in done.stdout.splitlines() if line.startswith("---")] == [f"--- node-{n}" for n in (1, 2, 3)]
    assert ctl(broker.url, "check", "--min-nodes", "3").returncode == 0

    done = ctl(broker.url, "top", "-n", "2", "--interval", "0.2")
    assert done.returncode == 0 and done.stdout.count("3 nodes") == 2 and "\x1b" not in done.stdout
    assert len(re.findall(node, done.stdout.rpartition("3 nodes")[2])) == 3

    three[1].signal(signal.SIGSTOP)
    try:
        done = ctl(broker.url, "--timeout", "1", "--node", "node-2", "api", "status")
        assert (done.returncode, done.stderr) == (3, "event-agentctl: no reply within 1 seconds\n")
        assert ctl(broker.url, "check", "--min-nodes", "3").returncode == 2
    finally:
        three[1].signal(signal.SIGCONT)


def test_park_on_all(broker: NatsServer, switch: Switch, start_agent: Start) -> None:
    for number in (1, 2):
        start_agent(broker, switch, node_id=f"node-{number}", http_listen=f"127.0.0.1:{free_port()}")
    assert ctl(broker.url, "park", "on", "--node", "node-2").stdout == "node-2: Park mode enabled\n"
    rows = [line.split() for line in ctl(broker.url, "park", "status").stdout.splitlines()]
    assert [row[:2] for row in rows[1:]] == [["node-1", "disabled"], ["node-2", "park"]]
    done = ctl(broker.url, "park", "audio", "silence")
    assert done.returncode == 0 and done.stdout.count("Audio mode updated") == 2


# -- events


def test_events_in_a_pipe(broker: NatsServer, switch: Switch, start_agent: Start) -> None:
    start_agent(broker, switch, node_id="A")
    mine, fields = str(uuid.uuid4()), "event_name,uuid,Hangup-Cause"
    with (
        running(broker.url, "events", "CHANNEL_HANGUP", "--uuid", mine, "--fields", fields, "-n", "1") as one,
        running(broker.url, "events", "channel.>", "--node", "other") as other,
        running(broker.url, "events") as head,
    ):
        subscribed(broker, 3)
        assert one.stdout and other.stdout and head.stdout and other.stderr
        assert ctl(broker.url, "originate", PARK, "&park", "--uuid", mine).returncode == 0
        assert ctl(broker.url, "hangup", mine).returncode == 0
        assert json.loads(one.stdout.readline()) == {
            "event_name": "CHANNEL_HANGUP", "uuid": mine, "Hangup-Cause": "NORMAL_CLEARING",
        }  # fmt: skip
        assert one.wait(10) == 0
        assert json.loads(head.stdout.readline())["node_id"] == "A"
        head.stdout.close()  # as `head -1` does; no further event needs to come
        assert head.wait(10) == 0
        other.send_signal(signal.SIGINT)
        assert other.wait(10) == 0
        assert other.stdout.read() == ""
        assert other.stderr.read() == (
            "event-agentctl: no agent is called 'other' here; waiting for its events all the same\n"
        )


def test_events_outlast_a_restart_of_the_server(broker: NatsServer) -> None:
    with running(broker.url, "events", "-n", "1") as watching:
        assert watching.stderr and watching.stdout
        subscribed(broker, 1)
        broker.kill()
        assert watching.stderr.readline().startswith("event-agentctl: the link to NATS is lost: ")
        broker.start()
        assert watching.stderr.readline() == "event-agentctl: connected again; events in between are missing here\n"
        subscribed(broker, 1)
        publisher = Client(broker.url)
        publisher.publish("freeswitch.events.x", b'{"event_name":"X"}')
        publisher.close()
        assert watching.wait(10) == 0 and watching.stdout.read() == '{"event_name":"X"}\n'


# -- on a terminal


class Terminal:
    """A process on a terminal of its own, 100 columns wide."""

    def __init__(self, url: str, *argv: str) -> None:
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            os.environ.clear()
            os.environ.update(ENVIRON | {"MOD_EVENT_AGENT_URL": url, "COLUMNS": "100", "LINES": "20"})
            os.execv(sys.executable, [*TOOL, *argv])
        self.text = ""

    def expect(self, pattern: str, timeout: float = 60.0) -> None:
        """Wait until this has been shown."""
        end = time.monotonic() + timeout
        while not re.search(pattern, self.text):
            ready = select.select([self.master], [], [], max(0.0, end - time.monotonic()))[0]
            assert ready, f"{pattern!r} in {self.text[-2000:]!r}"
            try:
                data = os.read(self.master, 65536)
            except OSError:  # how Linux says that the other end is closed
                data = b""
            assert data, f"it ended before {pattern!r}: {self.text[-2000:]!r}"
            self.text += data.decode(errors="replace")

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def wait(self) -> int:
        """Its exit code, after the rest of its output."""
        with contextlib.suppress(AssertionError):
            self.expect("\0never\0")
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.master)


@pytest.fixture
def terminal(agent: Agent, nats: NatsServer) -> Iterator[Callable[..., Terminal]]:
    started: list[Terminal] = []

    def start(*argv: str) -> Terminal:
        started.append(Terminal(nats.url, *argv))
        return started[-1]

    yield start
    for each in started:
        each.close()


@pytest.mark.parametrize(("keys", "code"), [(b"q", 0), (b"\x03", 0)])
def test_top_takes_the_screen_and_gives_it_back(
    terminal: Callable[..., Terminal], keys: bytes, code: int
) -> None:
    screen = terminal("top", "--interval", "0.1")
    screen.expect(r"\x1b\[\?1049h")
    screen.expect(r"1 node(.|\n)*FS-Node-01(.|\n)*1 node")
    screen.type(keys)
    assert screen.wait() == code
    assert screen.text.endswith("\x1b[?25h\x1b[?1049l") and "Traceback" not in screen.text


def test_top_gives_the_screen_back_when_it_is_ended(terminal: Callable[..., Terminal]) -> None:
    screen = terminal("top")
    screen.expect("FS-Node-01")
    os.kill(screen.pid, signal.SIGTERM)
    assert screen.wait() == 128 + signal.SIGTERM
    assert screen.text.endswith("\x1b[?25h\x1b[?1049l")


def test_a_terminal_sees_colours_but_none_of_a_callers(
    terminal: Callable[..., Terminal], client: Client
) -> None:
    screen = terminal("events", "CHANNEL_ANSWER", "-n", "1")
    name = "Al\x1b[2J\x1b]0;owned\x07ice"
    event = {"event_name": "CHANNEL_ANSWER", "uuid": "u", "headers": {"Caller-Caller-ID-Name": name}}
    end = time.monotonic() + 15
    while not select.select([screen.master], [], [], 0.05)[0]:  # until it listens
        client.publish("freeswitch.events.channel.answer", json.dumps(event).encode())
        assert time.monotonic() < end
    assert screen.wait() == 0
    assert "\x1b[32mCHANNEL_ANSWER" in screen.text and "Alice" in screen.text
    assert "\x1b[2J" not in screen.text and "owned" not in screen.text

    screen = terminal("req", '{"command":"status"}')
    assert screen.wait() == 0 and '{\r\n  "success": true,' in screen.text
    screen = terminal("status")
    assert screen.wait() == 0 and "\x1b[1mNODE\x1b[0m" in screen.text


# -- faults


def test_nobody_there(broker: NatsServer, tmp_path: Path) -> None:
    for argv in (["status"], ["api", "status"], ["hangup", "u-1"], ["park", "on"], ["req", '{"command":"status"}'],
                 ["req", '{"command":"status","async":true}'], ["--node", "x", "api", "status"]):  # fmt: skip
        started = time.monotonic()
        done = ctl(broker.url, *argv)
        assert done.returncode == 3 and done.stdout == "" and done.stderr.count("\n") == 1, (argv, done)
        assert time.monotonic() - started < 5, argv  # at once, and not after a timeout
    assert ctl(broker.url, "check").returncode == 2


def test_no_server() -> None:
    url = "nats://user:s3cret@127.0.0.1:1"
    for argv in (["status"], ["events"], ["top"], ["api", "status"]):
        done = ctl(url, *argv)
        assert done.returncode == 3 and done.stdout == "" and "s3cret" not in done.stderr
        assert done.stderr == "event-agentctl: NATS at nats://user:********@127.0.0.1:1: Connection refused\n"


def test_a_server_that_wants_a_token(switch: Switch, start_agent: Start) -> None:
    server = NatsServer("--auth", "s3cret").start()
    try:
        start_agent(server, switch, token="s3cret")
        done = ctl(server.url, "status")
        assert done.returncode == 3 and "no credentials are set (token" in done.stderr and done.stderr.count("\n") == 1
        assert ctl(server.url, "--token", "s3cret", "status").returncode == 0
        assert ctl(server.url, "--url", f"nats://s3cret@127.0.0.1:{server.port}", "status").returncode == 0
        done = ctl(server.url, "status", "--token", "wr0ng")
        assert done.returncode == 3 and "wr0ng" not in done.stderr
    finally:
        server.stop()


def test_a_full_disk(agent: Agent, nats: NatsServer) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*TOOL, "api", "status"], env=ENVIRON | {"MOD_EVENT_AGENT_URL": nats.url}, stdout=full,
            stderr=subprocess.PIPE, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "event-agentctl: can't write: No space left on device\n")


# -- the client, as others import it


def test_the_client(agent: Agent, nats: NatsServer, client: Client) -> None:
    with OurClient(nats.url) as ours:
        assert ours.request("show", "channels count")["data"] == client.request("show", "channels count")["data"]
        with pytest.raises(CommandFailed, match="No such channel") as failed:
            ours.request("uuid_dump", "nobody", node="FS-Node-01")
        assert failed.value.reply["node_id"] == "FS-Node-01"
        with pytest.raises(NoAgent, match=r"freeswitch\.node\.nobody"):
            ours.request("status", node="nobody")
        assert [reply["node_id"] for reply in ours.gather("agent.status", expect=1)] == ["FS-Node-01"]
        with ours.events("CHANNEL_PARK") as stream:
            mine = ours.request("originate", endpoint=PARK, destination="&park")["data"]["uuid"]
            parked = [stream.next(10), stream.next(10)]  # both legs of the loopback
            assert all(event and event["event_name"] == "CHANNEL_PARK" for event in parked)
            assert mine in [event["uuid"] for event in parked if event]
            ours.request("hangup", uuid=mine)
        agent.signal(signal.SIGSTOP)
        try:
            with pytest.raises(AgentTimeout):
                ours.request("status", timeout=0.2)
        finally:
            agent.signal(signal.SIGCONT)


def test_the_client_notices_a_frozen_server(own_nats: NatsServer) -> None:
    with OurClient(own_nats.url, ping_interval=0.2) as ours:
        own_nats.signal(signal.SIGSTOP)
        try:
            with pytest.raises(LinkError, match="did not answer .*PING"):
                ours.request("status", timeout=20)
        finally:
            own_nats.signal(signal.SIGCONT)
        ours.connect()
        with pytest.raises(NoAgent):
            ours.request("status")
