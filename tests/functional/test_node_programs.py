"""The programs in examples/clients/node and examples/clients/browser, and what faults do to them."""

from __future__ import annotations

import functools
import http.server
import re
import shutil
import threading
import wave
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.functional import browser
from tests.functional.conftest import Switch
from tests.functional.node_parts import PACKAGE, Program, build, compile_in, needs_node
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until
from tests.switchsim import SwitchSim

pytestmark = needs_node
PAGE = ROOT / "examples" / "clients" / "browser"

Start = Callable[..., Agent]


@pytest.fixture(scope="session")
def programs() -> Path:
    build()
    compile_in(PACKAGE, "tsconfig.examples.json")
    return PACKAGE / "build" / "examples"


@pytest.fixture
def run(programs: Path, tmp_path: Path) -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def start(name: str, *arguments: str, **environ: str) -> Program:
        command = ["node", "--unhandled-rejections=strict", str(programs / f"{name}.js"), *arguments]
        started.append(Program(command, tmp_path / f"{name}.out", environ))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Short silent files in the place of spoken ones."""
    folder = tmp_path / "sounds"
    folder.mkdir()
    for name in ("welcome", "menu", "invalid", "pin", "busy"):
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", "not compressed"))
            file.writeframes(bytes(1600))
    return folder


def test_an_ivr_and_a_counter_outlast_faults(
    run: Callable[..., Program], own_nats: NatsServer, parking: tuple[RealSwitch | SwitchSim, int], start_agent: Start,
    connect: Callable[..., Client], sounds: Path, real: bool
) -> None:  # fmt: skip
    """The NATS server killed, the agent killed, both while a caller is in the menu."""
    switch, port = parking
    agent = start_agent(own_nats, switch, node_id="fs-1", http_listen=f"127.0.0.1:{port}")
    client = connect(own_nats.url)
    environ = {"NATS_URL": own_nats.url, "SOUNDS": str(sounds)}
    ivr = run("ivr", "default", "error/USER_BUSY", **environ)
    ivr.says("taking calls in default")
    counter = run("live_counter", **environ, RESYNC="1")
    counter.says("fs-1 0")

    def call(number: str) -> str:
        """A caller who has come as far as the menu."""
        client.request("bgapi", f"originate loopback/{number}/default &park()")
        ivr.says(f'calls "{number}"')
        uuid = next(line for line in ivr.output.splitlines() if f'calls "{number}"' in line).split()[0]
        until(lambda: in_menu(uuid), lambda: f"{number} hears the menu:\n{ivr.output}", 20)
        return uuid

    def in_menu(uuid: str) -> bool:
        return bool(client.request("uuid_getvar", f"{uuid} current_application")["data"] == "play_and_get_digits")

    def dial(uuid: str, digits: str) -> None:
        assert client.request("uuid_recv_dtmf", f"{uuid} {digits}")["success"]

    def agrees() -> bool:
        total = re.search(r"(\d+) total", client.request("show", "channels count")["data"])
        return total is not None and counter.output.splitlines()[-1] == f"fs-1 {total[1]}"

    uuid = call("7001")
    if real:  # the simulator's bridge neither fails nor rings
        dial(uuid, "0")
        ivr.says("the front desk: USER_BUSY")
    else:
        dial(uuid, "1")
        ivr.says("chose 1")
    client.request("uuid_kill", f"{uuid} NORMAL_CLEARING")
    ivr.says("is done")
    until(agrees, "the counter is right", 20)

    uuid = call("7002")
    own_nats.kill()
    own_nats.start()
    agent.logged("NATS connected", 2)
    until(lambda: in_menu(uuid), "the call goes on", 20)
    dial(uuid, "2")
    ivr.says("chose 2")  # the wait for this digit began before the fault
    client.request("uuid_kill", uuid)
    ivr.says("is done", 20, 2)
    until(agrees, "the counter is right", 20)

    call("7003")
    agent.kill()
    agent.start()
    ivr.says("is done", 30, 3)  # what became of the menu is not known: the caller is hung up
    call("7004")
    client.request("hupall")
    ivr.says("is done", 20, 4)
    until(agrees, "the counter is right", 20)
    for each in (ivr, counter):
        assert each.interrupt() == 0, each.output
        assert "Unhandled" not in each.output and "    at " not in each.output, each.output


@pytest.mark.skipif(bool(browser.missing()), reason=browser.missing() or "-")
def test_the_page(start_agent: Start, switch: Switch, tmp_path: Path, package: Path) -> None:
    """With the permissions of its nats.conf, in a browser, over nats-server's own WebSocket."""
    ws = free_port()
    config = (PAGE / "nats.conf").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{ws}")
    server = NatsServer(config=config).start()
    folder = tmp_path / "page"
    folder.mkdir()
    shutil.copy(PAGE / "index.html", folder)
    shutil.copy(package / "node_modules" / "nats.ws" / "esm" / "nats.js", folder)
    shutil.copytree(package / "dist", folder / "event-agent-client")
    handler = functools.partial(Quiet, directory=str(folder))
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=web.serve_forever, name="test-page")
    thread.start()
    try:
        start_agent(server, switch, url=f"nats://agent:agent@127.0.0.1:{server.port}", node_id="fs-1")
        with browser.Browser() as page:
            base = f"http://127.0.0.1:{web.server_port}/?server=ws://127.0.0.1:{ws}"
            page.open(f"{base}&user=page&password=page")
            page.sees("#state", "connected", 20)
            page.sees("#count", "0", 20)
            page.type("[name=endpoint]", "loopback/park/default")
            page.click("#dial button")
            page.sees("#outcome", "answered", 20)
            page.sees("#calls", "fs-1", 20)
            page.click("#calls tr button")
            page.sees("#outcome", "ended: NORMAL_CLEARING", 20)
            page.sees("#count", "0", 20)
            page.type("[name=endpoint]", "error/USER_BUSY")
            page.click("#dial button")
            page.sees("#outcome", "Busy", 20)
            assert page.complaints() == []
            server.kill()
            page.sees("#state", "the link to NATS is lost", 60)
            server.start()
            page.sees("#state", "connected", 60)
            page.open(f"{base}&user=page&password=wrong")
            page.sees("#state", "no connection: ", 60)
    finally:
        web.shutdown()
        web.server_close()
        thread.join(10)
        server.stop()


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves the page's files and says nothing."""

    protocol_version = "HTTP/1.0"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def package() -> Path:
    return build()
