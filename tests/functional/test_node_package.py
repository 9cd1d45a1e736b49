"""The npm package as its users get it: packed, installed in an empty folder, run, and compiled against."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.node_parts import NPM_LIMIT, PACKAGE, Program, build, needs_node, run, tsc
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import until
from tests.switchsim import SwitchSim

pytestmark = needs_node

EXAMPLES = ROOT / "examples" / "clients" / "node"


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build()
    folder = tmp_path_factory.mktemp("pack")
    run(["npm", "pack", "--ignore-scripts", "--silent", "--pack-destination", str(folder)], PACKAGE, NPM_LIMIT)
    (found,) = folder.iterdir()
    return found


@pytest.fixture(scope="module")
def installed(tarball: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder in which nothing was done but `npm install` of the tarball."""
    folder = tmp_path_factory.mktemp("user")
    options = ["--no-audit", "--no-fund", "--ignore-scripts", "--prefer-offline", "--silent"]
    run(["npm", "install", *options, str(tarball)], folder, NPM_LIMIT)
    return folder


def test_the_examples_ask_for_the_tarball_that_make_builds(tarball: Path) -> None:
    wanted = json.loads((EXAMPLES / "package.json").read_text())["dependencies"]
    assert wanted == {"event-agent-client": f"file:../../../dist/{tarball.name}"}
    assert f"dist/{tarball.name}" in (PACKAGE / "README.md").read_text()


def test_no_host_of_a_registry_is_in_the_lock_file() -> None:
    assert '"resolved"' not in (PACKAGE / "package-lock.json").read_text()


def test_the_first_program_of_its_readme(
    installed: Path, own_nats: NatsServer, parking: tuple[RealSwitch | SwitchSim, int],
    start_agent: Callable[..., Agent], connect: Callable[..., Client]
) -> None:  # fmt: skip
    """A caller's PIN is collected by what a newcomer has copied."""
    switch, port = parking
    start_agent(own_nats, switch, node_id="fs-1", http_listen=f"127.0.0.1:{port}")
    found = re.search(r"^```ts\n(.*?)^```$", (PACKAGE / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert found is not None and "nats://127.0.0.1:4222" in found[1]
    (installed / "ivr.mjs").write_text(found[1].replace("nats://127.0.0.1:4222", own_nats.url))
    client = connect(own_nats.url)
    played = client.events("freeswitch.events.channel.>")
    command = ["node", "--unhandled-rejections=strict", str(installed / "ivr.mjs")]
    program = Program(command, installed / "ivr.out", {})
    try:
        until(lambda: client.request("dialplan.status")["data"]["mode"] == "park", lambda: program.output, 30)
        assert client.request("bgapi", "originate loopback/49301/public &park()")["success"]
        uuid = played.wait("CHANNEL_PARK", 1, variable_event_agent_parked="1")[0]["uuid"]

        def asked() -> bool:
            return bool(client.request("uuid_getvar", f"{uuid} current_application")["data"] == "play_and_get_digits")

        until(asked, lambda: f"the caller is asked for a PIN:\n{program.output}", 30)
        assert client.request("uuid_recv_dtmf", f"{uuid} 1234")["success"]
        right = "tone_stream://%(100,50,1200);loops=3"
        begun = played.wait("CHANNEL_EXECUTE", 1, Unique_ID=uuid, Application_Data=right)
        assert begun[0]["headers"]["Application"] == "playback"
        assert program.output == ""
    finally:
        program.kill()


def test_a_program_is_compiled_against_its_types(installed: Path) -> None:
    """With --strict, and with the declarations of all libraries checked."""
    folder = installed / "typed"
    folder.mkdir()
    for each in EXAMPLES.glob("*.ts"):
        shutil.copy(each, folder)
    (folder / "package.json").write_text('{"type": "module"}')
    options = ["--strict", "--noEmit", "--target", "es2022", "--module", "nodenext"]
    types = ["--types", "node", "--typeRoots", str(PACKAGE / "node_modules" / "@types")]
    tsc(folder, *options, *types, *(str(each) for each in sorted(folder.glob("*.ts"))))
    program = (
        'import { connect } from "event-agent-client";\n'
        'const fs = await connect("nats://127.0.0.1:4222");\n'
        'const call = await fs.dial("user/1000", { ring: 20 });\n'
        "await call.hangup();\n"
    )
    (folder / "plain.ts").write_text(program)
    tsc(folder, *options, str(folder / "plain.ts"))  # without Node.js's own types, as for a browser
    (folder / "wrong.ts").write_text(program.replace("ring:", "rings:"))
    with pytest.raises(AssertionError, match="'rings' does not exist in type 'DialOptions'"):
        tsc(folder, *options, str(folder / "wrong.ts"))
