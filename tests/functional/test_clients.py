"""examples/clients, run as their readers run them: each language against the agent, a NATS server and a switch.

Another client listens to everything, so what the examples send is held against docs/asyncapi.yaml as well.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.functional.conftest import Switch
from tests.functional.node_parts import build, missing_node
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.test_lanes import make_stream
from tests.support import free_port, until
from tests.switchsim import SwitchSim

CLIENTS = ROOT / "examples" / "clients"
LANGUAGES = ("python", "node", "shell")


@pytest.fixture(scope="session")
def node_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Node.js examples with event-agent-client beside them."""
    if missing_node:
        pytest.skip(f"{missing_node}: the Node.js examples are not run")
    folder = tmp_path_factory.mktemp("node") / "node"
    shutil.copytree(CLIENTS / "node", folder, ignore=shutil.ignore_patterns("node_modules"))
    (folder / "node_modules").mkdir()
    (folder / "node_modules" / "event-agent-client").symlink_to(build())
    return folder


@dataclass
class Language:
    """How the examples of one language are run."""

    program: list[str]
    folder: Path
    suffix: str
    environ: dict[str, str]

    def command(self, name: str, *arguments: str) -> list[str]:
        return [*self.program, str(self.folder / f"{name}{self.suffix}"), *arguments]

    def run(self, name: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(name, *arguments), env=self.environ | environ, capture_output=True, text=True, timeout=30
        )


@pytest.fixture(params=LANGUAGES)
def language(request: pytest.FixtureRequest, nats: NatsServer) -> Language:
    environ = {name: value for name, value in os.environ.items() if name not in ("NATS_URL", "PREFIX")}
    environ |= {"NATS_URL": nats.url, "PREFIX": f"clients-{request.param}", "NATS_PING": "1"}
    if request.param == "python":
        return Language([sys.executable, "-u"], CLIENTS / "python", ".py", environ)
    if request.param == "node":
        folder: Path = request.getfixturevalue("node_folder")
        return Language(["node", "--unhandled-rejections=strict"], folder, ".mjs", environ)
    if shutil.which("nc") is None:
        pytest.skip("no nc in PATH (Debian: netcat-openbsd): the shell examples are not run")
    return Language([], CLIENTS / "shell", ".sh", environ)


class Running:
    """An example that runs until it is ended; its output goes to a file."""

    def __init__(self, language: Language, folder: Path, name: str, *arguments: str) -> None:
        self._path = folder / f"{name}.out"
        with open(self._path, "wb") as out:
            self.process = subprocess.Popen(
                language.command(name, *arguments), env=language.environ, stdin=subprocess.DEVNULL, stdout=out,
                stderr=out, start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def says(self, text: str, timeout: float = 60) -> None:
        try:
            until(lambda: text in self.output, text, timeout)
        except AssertionError:
            raise AssertionError(f"it does not say {text!r}, but:\n{self.output[-2000:]}") from None

    def interrupt(self) -> int:
        """As Ctrl-C does: the whole group gets it."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(15)

    def kill(self) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)


@pytest.fixture
def running(language: Language, tmp_path: Path) -> Iterator[Callable[..., Running]]:
    started: list[Running] = []

    def start(name: str, *arguments: str) -> Running:
        started.append(Running(language, tmp_path, name, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def prefix(language: Language, client: Client) -> str:
    """Of this language's own agent; all that is said under it is watched."""
    client.gather(f"{language.environ['PREFIX']}.>")
    client.gather("_INBOX.>")
    return language.environ["PREFIX"]


def test_a_request_and_its_reply(
    language: Language, prefix: str, nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent]
) -> None:
    nobody = language.run("request", "status", PREFIX="nobody-listens")
    assert (nobody.returncode, nobody.stdout) == (2, "") and "no agent" in nobody.stderr
    start_agent(nats, switch, subject_prefix=prefix)
    done = language.run("request", "echo", "a", 'b"c\\d', "é *")
    assert (done.returncode, done.stderr) == (0, "")
    shown = 'a b\\"c\\\\d é *' if "shell" in prefix else 'a b"c\\d é *'
    assert shown in done.stdout
    failed = language.run("request", "no_such_verb")
    assert failed.returncode == 1 and "-ERR no_such_verb Command not found!" in failed.stdout + failed.stderr
    away = language.run("request", "status", NATS_URL=f"nats://127.0.0.1:{free_port()}")
    assert (away.returncode, away.stdout) == (2, "") and "NATS at" in away.stderr
    assert "Traceback" not in away.stderr
    assert language.run("request").returncode == 2, "usage"


def test_a_stream_that_takes_requests_is_not_taken_for_the_agent(
    language: Language, running: Callable[..., Running], switch: Switch, start_agent: Callable[..., Agent],
    tmp_path: Path
) -> None:  # fmt: skip
    server = NatsServer(config=f'jetstream {{ store_dir: "{tmp_path / "js"}" }}\n').start()
    try:
        prefix, language.environ["NATS_URL"] = language.environ["PREFIX"], server.url
        make_stream(server.url, "GREEDY", f"{prefix}.>")
        start_agent(
            server, switch, subject_prefix=prefix, node_id="one", http_listen=f"127.0.0.1:{free_port()}"
        )
        done = language.run("request", "version")
        assert (done.returncode, done.stderr) == (0, "") and "GREEDY" not in done.stdout, done
        assert "FreeSWITCH" in done.stdout
        failed = language.run("request", "no_such_verb")
        assert failed.returncode == 1 and "-ERR no_such_verb Command not found!" in failed.stdout + failed.stderr
        router = running("park_and_route", "default", "9999")
        router.says("Park mode enabled")
        assert router.interrupt() == 0
        assert "GREEDY" not in router.output and "Traceback" not in router.output
    finally:
        server.stop()


def test_events_are_followed(
    language: Language, prefix: str, running: Callable[..., Running], client: Client, own_nats: NatsServer,
    switch: Switch, start_agent: Callable[..., Agent]
) -> None:  # fmt: skip
    """Over a loss of the NATS server as well."""
    language.environ["NATS_URL"] = own_nats.url
    agent = start_agent(own_nats, switch, subject_prefix=prefix, node_id="ev")
    events = running("events")
    for count in (1, 2):
        until(lambda count=count: events.output.count("listening on") + events.output.count("NATS is back") >= count,  # type: ignore[misc]
              f"it listens, {count}", 20)  # fmt: skip
        agent.logged("NATS connected", count)
        watcher = Client(own_nats.url)
        try:
            reply = watcher.request(
                "originate", subject=f"{prefix}.any", endpoint="loopback/park/default", extension="&park"
            )
            assert reply["success"], reply
            watcher.request("hangup", subject=f"{prefix}.any", uuid=reply["data"]["uuid"])
        finally:
            watcher.close()
        uuid = reply["data"]["uuid"]

        def seen(uuid: str = uuid) -> bool:
            lines = [line for line in events.output.splitlines() if uuid in line]
            return all(any(name in line for line in lines) for name in ("CHANNEL_ANSWER", "CHANNEL_DESTROY"))

        until(seen, lambda: f"the call's events; it says:\n{events.output[-2000:]}", 20)
        own_nats.kill()
        events.says("NATS is unreachable")
        own_nats.start()
    assert "Traceback" not in events.output
    assert events.interrupt() in (0, 130, -signal.SIGINT)


def test_calls_are_parked_and_sent_on(
    language: Language, prefix: str, running: Callable[..., Running], client: Client, nats: NatsServer,
    parking: tuple[RealSwitch | SwitchSim, int], start_agent: Callable[..., Agent], real: bool
) -> None:  # fmt: skip
    switch, port = parking
    start_agent(nats, switch, subject_prefix=prefix, node_id="FS 1", http_listen=f"127.0.0.1:{port}")
    events = client.events(f"{prefix}.events.channel.>")
    lane = f"{prefix}.api"

    def call(number: str) -> None:
        reply = client.request("bgapi", f"originate loopback/{number}/default &park()", lane)
        assert reply["success"], reply

    def to(number: str) -> set[str]:
        return {e["uuid"] for e in events.named("CHANNEL_EXECUTE", Caller_Destination_Number=number)}

    router = running("park_and_route", "default", "9999")
    router.says("Park mode enabled")
    for number in ("7001", "7002", "7003"):
        call(number)
    until(lambda: router.output.count("sent to 9999") == 3, lambda: f"three calls are sent on:\n{router.output}", 20)
    parked = {event["uuid"] for event in events.wait("CHANNEL_PARK", 3, variable_event_agent_parked="1")}
    assert all(f"{uuid}: parked" in router.output and f"{uuid}: sent to 9999" in router.output for uuid in parked)
    until(lambda: parked <= to("9999"), "they are there")
    marked = client.request("uuid_getvar", f"{min(parked)} routed_by", lane)
    assert marked["data"] == "park_and_route"
    status = client.request("dialplan.status", subject=lane)["data"]
    assert (status["mode"], status["context"], status["calls_parked"]) == ("park", ["default"], 0)
    assert "failed" not in router.output and "Traceback" not in router.output
    assert router.interrupt() == 0
    assert client.request("dialplan.status", subject=lane)["data"]["mode"] == "disabled"


def test_what_is_wrong_is_logged(
    language: Language, prefix: str, running: Callable[..., Running], client: Client, nats: NatsServer, switch: Switch,
    start_agent: Callable[..., Agent]
) -> None:  # fmt: skip
    """Park mode that is not available ends it; a call that has gone is a line in its log."""
    agent = start_agent(nats, switch, subject_prefix=prefix, node_id="FS 1")
    refused = running("park_and_route", "default", "9999")
    assert refused.process.wait(15) == 1
    assert "Dialplan control is not available" in refused.output
    agent.kill()
    start_agent(nats, switch, subject_prefix=prefix, node_id="FS 1", http_listen=f"127.0.0.1:{free_port()}")
    router = running("park_and_route", "default", "9999")
    router.says("Park mode enabled")
    gone = b'{"event_name":"CHANNEL_PARK","timestamp":1,"node_id":"FS 1","uuid":"gone-1","headers":{%b}}'
    theirs = b'"Event-Name":"CHANNEL_PARK","Core-UUID":"c","Event-Date-Timestamp":"1","Event-Sequence":"1"'
    theirs += b',"Caller-Context":"default","Caller-Destination-Number":"7001"'
    client.publish(f"{prefix}.events.channel.park", gone.replace(b"gone-1", b"theirs") % theirs)
    client.publish(f"{prefix}.events.channel.park", gone % (theirs + b',"variable_event_agent_parked":"1"'))
    if language.suffix == ".mjs":  # a caller who has hung up is nothing to complain about there
        assert router.interrupt() == 0
        assert "gone-1" not in router.output and "Error" not in router.output, router.output
    else:
        router.says("gone-1: mark failed: -ERR invalid session id")
        assert router.interrupt() == 0
    assert "theirs" not in router.output


def test_nothing_of_npm_is_committed() -> None:
    listed = subprocess.run(["git", "ls-files", str(CLIENTS)], cwd=ROOT, capture_output=True, text=True).stdout
    assert "node_modules" not in listed and "package-lock" not in listed
