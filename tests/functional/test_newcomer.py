"""The way of somebody new: an empty virtual environment, the wheel, the IVR of docs/CLIENT.md, a digit collected."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.node_parts import Program
from tests.functional.parts import ROOT, SCALE, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.test_ea_doc import PAGE, blocks
from tests.support import until
from tests.switchsim import SwitchSim

LIMIT = 60.0


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(SCALE < 2, reason="pip and venv take long; EVENT_AGENT_SCALE=2 runs it")
def test_from_pip_install_to_a_digit(
    own_nats: NatsServer, parking: tuple[RealSwitch | SwitchSim, int], start_agent: Callable[..., Agent],
    connect: Callable[..., Client], tmp_path: Path,
) -> None:  # fmt: skip
    switch, port = parking
    start_agent(own_nats, switch, node_id="fs-1", http_listen=f"127.0.0.1:{port}")
    client = connect(own_nats.url)
    run(sys.executable, str(ROOT / "tools" / "build_client.py"), str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    began = time.monotonic()
    run("/usr/bin/python3", "-m", "venv", str(tmp_path / "venv"))
    python = str(tmp_path / "venv" / "bin" / "python")
    run(python, "-m", "pip", "install", "--no-index", "--quiet", str(wheel))
    installed = time.monotonic()
    text = next(text for _, _, text in blocks(PAGE, "program") if "fs.incoming" in text)
    text = text.replace("nats://127.0.0.1:4222", own_nats.url).replace('context="public"', 'context="default"')
    text = text.replace("pin.wav", "tone_stream://%(100,0,800)").replace("right.wav", "silence_stream://50")
    (tmp_path / "ivr.py").write_text(text)
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    program = Program([python, str(tmp_path / "ivr.py")], tmp_path / "out", environ)
    try:
        until(lambda: client.request("dialplan.status")["data"]["number"] == "^4930", lambda: program.output, LIMIT)
        executed = client.events("freeswitch.events.channel.execute.complete")
        client.request("bgapi", "originate loopback/493012/default &park()")

        def collected() -> bool:
            for message in executed.messages:
                event = message.data
                if b'"Application":"play_and_get_digits"' in event:
                    return b'"variable_event_agent_digits":"1234"' in event
            for row in client.request("show", "channels as json")["data"].split('"uuid":"')[1:]:
                uuid = row.partition('"')[0]
                if client.request("uuid_getvar", f"{uuid} current_application")["data"] == "play_and_get_digits":
                    client.request("uuid_recv_dtmf", f"{uuid} 1234")
            return False

        until(collected, lambda: program.output, LIMIT)
        ended = time.monotonic()
    finally:
        program.kill()
    assert "Traceback" not in program.output, program.output
    print(f"{installed - began:.1f} s until it is installed, {ended - began:.1f} s until the digits are collected")
