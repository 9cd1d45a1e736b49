"""mypy on programs of users: against the wheel as it is installed, not against the sources that `make lint` checks.

The wheel is unpacked into a virtual environment of its own, which has nothing else: without py.typed, or without
types, mypy would take the package for one that has none.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent

RIGHT = '''\
"""What a user's program may be: each value has the type that is written here, and no other."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, assert_type

import event_agent_client as ea
from event_agent_client.testing import FakeAgent, FakeCall, Nats, RealAgent


async def calls(fs: ea.Client) -> None:
    @fs.incoming(context="public", number="^4930", audio="silence", exceptions=["112", "911"])
    async def ivr(call: ea.Call) -> None:
        await call.answer()
        assert_type(await call.digits(4, prompt="pin.wav", tries=3, timeout=6), str)
        assert_type(await call.get("sip_from_host"), str | None)
        assert_type(await call.execute("sleep", "100", result="x"), ea.Reply)
        recording = await call.record("/tmp/a.wav", limit=30, silence=3)
        assert_type(recording, ea.Recording)
        assert_type((recording.path, recording.seconds, recording.terminator), tuple[str, float, str])
        await call.set(name="value", number=4711, share=0.5, on=True)
        await call.transfer("1000", context="default")

    async with fs.dial("user/1000", ring=20, caller_id=("Shop", "555"), variables={"a": 1, "b": True}) as call:
        assert_type(call, ea.Call)
        assert_type((call.uuid, call.node, call.up, call.answered), tuple[str, str, bool, bool])
        assert_type((call.cause, call.bridged_to, call.event), tuple[str, str, ea.Event])
        assert_type((call.caller_number, call.caller_name, call.destination, call.context), tuple[str, str, str, str])
        other = await call.bridge("sofia/gateway/carrier/493012345", ring=30)
        assert_type(other, ea.Call)
        assert_type(await call.bridge(other), ea.Call)
        assert_type(await call.wait_for("DTMF", wait=3), ea.Event)
        async for each in call.events():
            assert_type(each, ea.Event | ea.Gap)
        end = await call.ended(wait=3600)
        assert_type((end.cause, end.event, end.duration), tuple[str, ea.Event | None, float | None])
        assert_type(end.billsec, float | None)
    assert_type(await fs.dial("user/1000"), ea.Call)
    assert_type(await fs.take("a-uuid"), ea.Call)


async def events(fs: ea.Client) -> None:
    async for event in fs.events("CHANNEL_ANSWER", "sofia::register", node="fs-1"):
        match event:
            case ea.Gap():
                assert_type((event.reason, event.node, event.count), tuple[str, str, int | None])
                assert_type((event.since, event.until), tuple[int | None, int | None])
            case ea.ChannelHangupComplete():
                assert_type((event.cause, event.duration, event.billsec), tuple[str, float, float])
            case ea.ChannelAnswer() | ea.ChannelCreate() | ea.ChannelProgress() | ea.ChannelPark():
                assert_type((event.direction, event.caller_number, event.caller_name), tuple[str, str, str])
                assert_type((event.destination, event.context, event.channel_name), tuple[str, str, str])
            case ea.ChannelBridge():  # and ChannelUnbridge
                assert_type(event.other_uuid, str)
            case ea.ChannelExecuteComplete():
                assert_type((event.application, event.data, event.response), tuple[str, str, str])
                assert_type(event.app_uuid, str)
            case ea.Dtmf():
                assert_type(event.digit, str)
            case ea.PlaybackStop():
                assert_type((event.path, event.completed), tuple[str, bool])
            case ea.RecordStop():
                assert_type(event.path, str)
            case ea.BackgroundJob():
                assert_type((event.job, event.body), tuple[str, str])
            case ea.Custom():
                assert_type(event.subclass, str)
            case ea.AgentConnected():
                assert_type(event.channels, list[dict[str, str]] | None)
            case _:
                assert_type((event.name, event.uuid, event.node, event.timestamp), tuple[str, str, str, int])
                assert_type((event.header("X"), event.variable("x")), tuple[str, str])
    async with fs.events() as stream:
        assert_type(await stream.next(wait=3), ea.Event | ea.Gap | None)
    async for cdr in fs.cdrs(durable="billing"):
        assert_type(cdr, ea.Record)
        assert_type((cdr.key, cdr.cause, cdr.billsec, cdr.deliveries), tuple[str, str, float, int])
        await cdr.ack()
    live = await fs.live()
    live.on_change(lambda live: print(live.count("fs-1")))
    for node, there in live.calls.items():
        assert_type(node, str)
        for each in there.values():
            assert_type(each, ea.LiveCall)
            assert_type(each.state, str)


async def requests(fs: ea.Client) -> None:
    assert_type(await fs.api("show channels count"), str)
    assert_type(await fs.node("fs-1").api("sofia status", wait=35), str)
    reply = await fs.request("sendevent", event="CUSTOM", headers={"Order": 4711})
    assert_type(reply, ea.Reply)
    assert_type((reply.ok, reply.message, reply.node), tuple[bool, str, str])
    assert_type(await fs.gather("agent.status"), list[ea.Reply])
    assert_type(await fs.all.api("reloadxml"), list[ea.Reply])
    assert_type(await fs.nodes(), list[ea.Reply])
    assert_type(await fs.any.status(), ea.Reply)

    @fs.route(context="public", variables=["sip_from_host"])
    async def router(call: ea.RouteRequest) -> Mapping[str, Any]:
        assert_type((call.caller_number, call.destination), tuple[str, str])
        return call.transfer("1001", context="default")

    try:
        await fs.forever()
    except ea.Refused as error:
        assert_type(error.field, str)
    except ea.CallFailed as error:
        assert_type(error.cause, str)
    except ea.AgentError as error:
        assert_type(error.executed, str)


def threads(url: str) -> None:
    with ea.sync.connect(url, handlers=10) as fs:
        @fs.incoming(number="^4930")
        def ivr(call: ea.sync.Call) -> None:
            call.answer()
            assert_type(call.digits(4), str)

        with fs.dial("user/1000", ring=20) as call:
            assert_type(call, ea.sync.Call)
            assert_type(call.bridge("user/1001"), ea.sync.Call)
            assert_type(call.ended().cause, str)
        for event in fs.events("CHANNEL_ANSWER"):
            assert_type(event, ea.Event | ea.Gap)
        for cdr in fs.cdrs("billing"):
            assert_type(cdr, ea.sync.Record)
            cdr.ack()
        assert_type(fs.api("version"), str)
        assert_type(fs.live().count(), int)


# Fixtures have these types; their tests say so.
def test_pin(
    nats_url: str,
    fake_agent: Callable[..., FakeAgent],
    real_agent: Callable[..., RealAgent],
    run_async: Callable[..., Any],
) -> None:
    async def work() -> None:
        async with fake_agent(node="fs-1") as agent, ea.connect(nats_url) as fs:
            await calls(fs)
            agent.digits("1234")
            caller = await agent.incoming("493012", context="public")
            assert_type(caller, FakeCall)
            assert_type(await caller.ended(), str)

    run_async(work())
    assert_type(real_agent().incoming("493012"), str)


async def main() -> None:
    with Nats() as server:
        async with ea.connect(server.url, wait=5) as fs:
            await asyncio.gather(calls(fs), events(fs), requests(fs))
        fs = await ea.connect()
        assert_type(fs, ea.Client)
        await fs.close()
'''

HEAD = "import event_agent_client as ea\n\nasync def work(fs: ea.Client, sfs: ea.sync.Client, call: ea.Call) -> None:\n"
ANSWERED = "    async for event in fs.events():\n        if isinstance(event, ea.ChannelAnswer):\n"
WRONG = {
    ANSWERED + "            print(event.digit)\n": '"ChannelAnswer" has no attribute "digit"',
    "    async for event in fs.events():\n        print(event.uuid)\n": 'Item "Gap" of "Event | Gap" has no attribute',
    '    fs.dial("user/1000", ring="20")\n': 'Argument "ring" to "dial" of "Client" has incompatible type "str"',
    '    sfs.dial("user/1000", ring="20")\n': 'Argument "ring" to "dial" of "Client" has incompatible type "str"',
    '    await call.digits("4")\n': 'Argument 1 to "digits" of "Call" has incompatible type "str"; expected "int"',
    '    await call.ended(wait="3")\n': 'Argument "wait" to "ended" of "Call" has incompatible type "str"',
    "    fs.dial(1000)\n": 'Argument 1 to "dial" of "Client" has incompatible type "int"; expected "str"',
    '    fs.dial("user/1000", timeout=20)\n': 'Unexpected keyword argument "timeout" for "dial" of "Client"',
    '    fs.dail("user/1000")\n': '"Client" has no attribute "dail"',
    '    with fs.dial("user/1000") as other:\n        other.uuid\n': '"Dial" has no attribute "__enter__"',
    "    pin: int = await call.digits(4)\n": '(expression has type "str", variable has type "int")',
    "    print((await call.ended()).billsec + 1)\n": 'Unsupported operand types for + ("None" and "int")',
    "    @fs.incoming()\n    def ivr(call: ea.sync.Call) -> None: ...\n": 'has incompatible type "Callable[[',
    "    ea.ChannelAnswered\n": 'Module has no attribute "ChannelAnswered"',
}


class Users:
    """A virtual environment with the wheel in it, and mypy of ours to look at programs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        build = [sys.executable, str(ROOT / "tools" / "build_client.py"), str(folder / "dist")]
        done = subprocess.run(build, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        (wheel,) = (folder / "dist").glob("*.whl")
        venv.create(folder / "venv", with_pip=False, symlinks=True)
        self.python = folder / "venv" / "bin" / "python"
        (self.site,) = (folder / "venv" / "lib").glob("python*/site-packages")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(self.site)
        self.package = self.site / "event_agent_client"

    def mypy(self, text: str, *options: str) -> list[str]:
        """What mypy finds wrong with a program."""
        (self.folder / "program.py").write_text(text, encoding="utf-8")
        environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
        command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--no-error-summary", *options]
        done = subprocess.run(
            [*command, "--python-executable", str(self.python), "program.py"],
            cwd=self.folder, env=environ, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode in (0, 1) and not done.stderr, done.stdout + done.stderr
        return [line for line in done.stdout.splitlines() if ": note: " not in line]


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Users:
    return Users(tmp_path_factory.mktemp("users"))


def test_a_program_of_a_user_is_accepted(users: Users) -> None:
    assert users.mypy(RIGHT) == []


def test_what_is_wrong_is_refused(users: Users) -> None:
    text, places = HEAD, []
    for lines, said in WRONG.items():
        first = text.count("\n") + 2
        text += "    if call.up:\n" + "".join(f"    {line}\n" for line in lines.splitlines())
        places.append((range(first, text.count("\n") + 1), said))
    found = [(int(line.split(":")[1]), line) for line in users.mypy(text)]
    for place, said in places:
        assert any(number in place and said in line for number, line in found), (said, found)
    assert all(any(number in place for place, _ in places) for number, _ in found), found


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("py.typed", "", None),
        ("calls.py", ') -> str:\n        """What the caller dials', '):\n        """What the caller dials'),
        ("calls.py", "def caller_number(self) -> str:", "def caller_number(self) -> Any:"),
        ("sync/calls.py", "-> End:", "-> Any:"),
        ("events.py", "def digit(self) -> str:", "def digit(self):"),
    ],
)
def test_types_that_are_lost_are_found(users: Users, name: str, before: str, after: str | None) -> None:
    path = users.package / name
    text = path.read_text(encoding="utf-8")
    assert before in text
    try:
        if after is None:
            path.unlink()
        else:
            path.write_text(text.replace(before, after), encoding="utf-8")
        found = users.mypy(RIGHT)
    finally:
        path.write_text(text, encoding="utf-8")
    assert found, f"{name} has lost types, and mypy says nothing"
