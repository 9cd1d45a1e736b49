"""The whole request path, fed with damaged requests: no exception gets out, every reply is a valid envelope.

A second long by default; EVENT_AGENT_FUZZ_SECONDS makes it longer (`make fuzz`).
"""

from __future__ import annotations

import gc
import io
import json
import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from event_agent.commands.api import ApiCommand
from event_agent.commands.dialplan import dialplan_commands
from event_agent.commands.execute_app import AppList, ExecuteApp
from event_agent.commands.guards import Guards
from event_agent.commands.hangup import Hangup
from event_agent.commands.originate import Originate
from event_agent.commands.registry import Registry
from event_agent.commands.status import status_command
from event_agent.dialplan.control import DialplanControl
from event_agent.drivers.base import Message
from event_agent.freeswitch.command import Command
from event_agent.protocol.requests import MAX_REQUEST
from event_agent.protocol.subjects import is_command_lane
from event_agent.protocol.validation import strict_subject
from event_agent.runtime.log import AuditLog
from event_agent.runtime.stats import Stats
from tests.switchsim.framing import Framer
from tests.unit.test_registry import FakeDriver

SECONDS = float(os.environ.get("EVENT_AGENT_FUZZ_SECONDS", "1"))
UUID = "aaaaaaaa-0000-4000-8000-000000000001"
SEEDS: tuple[dict[str, Any], ...] = (
    {"command": "status"},
    {"command": "uuid_kill", "args": f"{UUID} NORMAL_CLEARING", "correlation_id": "id-1"},
    {"command": "echo", "args": "${version()} {a} \\ ' é 日本", "async": True, "forward_to": "copies.here"},
    {"command": "agent.status", "node_id": "FS-1", "correlation_id": 7.5},
    {"command": "originate", "endpoint": "user/1000", "extension": "1001", "timeout": 30, "context": "default",
     "dialplan": "XML", "caller_id_name": "Bot", "caller_id_number": "555", "uuid": UUID,
     "variables": {"a": "b,c'd\\", "n": 5, "t": True, "api_on_answer": "fsctl x"}},
    {"command": "originate", "endpoint": "loopback/x", "destination": "&park(a b)"},
    {"command": "hangup", "uuid": UUID, "cause": "USER_BUSY"},
    {"command": "execute_app", "uuid": UUID, "app": "playback", "args": "line 1\nline 2 "},
    {"command": "dialplan.enable", "context": ["public", "default"], "number": "^5(\\d+)$"},
    {"command": "dialplan.disable"},
    {"command": "dialplan.audio", "mode": "music", "music_class": "moh"},
    {"command": "dialplan.autoanswer", "enabled": True},
    {"command": "dialplan.status"},
    {"command": "bgapi", "args": "expand sched_api +1 none fsctl ${fsctl(x)}"},
    {"command": "json", "args": "{\"command\":\"fsapi\",\"data\":{\"cmd\":\"fsctl\",\"arg\":\"x\"}}"},
    {"command": "chat", "args": "^^:api:a:f%73ctl x:y"},
    {"command": "execute_app", "uuid": UUID, "app": "set", "args": "api_hangup_hook=fs''ctl ${x}"},
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 600, 601, 1e308, -1e-300, 2**70, "", " ", "\n", "\r\n\r\napi hupall", "\0", "\ud800",
    "é",     "x" * 64, "x" * 256, "x" * 5000, "${fsctl(x)}", "{", "}", "'", "\\", ">", "*", "a.b", "freeswitch.api",
    "freeswitch.node.x", [], {}, [[]], {"a": {}}, ["a"] * 50, {"": ""}, {"a": None}, "^(a+)+$", "(", "[" * 500, "FS-1",
    "other", "&", "ARRAY::a|:b",
)  # fmt: skip
ANSWERS = (
    "+OK", "+OK Job-UUID: x", "-ERR no reply\n", "-ERR No such channel!\n", "-USAGE: x\n", "", "UP\n", "\x00\x01",
    "\ud800", '"\\', "x" * 3000, "é" * 300, "{}", '{"row_count":0}', "true", "false", "+OK " + UUID,
)  # fmt: skip


class FakeLane:
    """Answers or fails each command, at once, later, or on another thread; holds what was sent to be looked at."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self.waiting: list[Command] = []
        self.count = 0

    def submit(self, command: Command) -> None:
        self.count += 1
        data = command.text.encode()
        found = list(Framer().feed(data))
        assert len(found) == 1, f"not one command: {data!r}"
        assert data.endswith(b"\n\n") or found[0].body is not None
        assert command.text.startswith(("api ", "bgapi ", "sendmsg "))
        if self._rng.random() < 0.5:
            self.end(command)
        else:
            self.waiting.append(command)

    def submit_all(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self.submit(command)

    def end(self, command: Command) -> None:
        if self._rng.random() < 0.2:
            command.failed("FreeSWITCH is not connected")
        else:
            command.done(self._rng.choice(ANSWERS))

    def end_all(self) -> None:
        """What waits, from a thread that is not the reader's."""
        waiting, self.waiting = self.waiting, []
        self._rng.shuffle(waiting)

        def end_them() -> None:
            for command in waiting:
                self.end(command)

        thread = threading.Thread(target=end_them)
        thread.start()
        thread.join()


class House:
    """The request path of the daemon, on a fake driver and a fake lane."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.rng = rng
        self.driver = FakeDriver()
        self.lane = FakeLane(rng)
        self.stats = Stats()
        self.stream = io.StringIO()
        self.audit = AuditLog(self.stream)
        self.guards = Guards()
        submit = self.lane.submit
        self.registry = Registry(
            self.driver, "FS-1", "freeswitch", self.stats, self.audit, self.guards, ApiCommand(submit, self.guards)
        )
        apps = AppList()
        apps.learn('{"rows":[{"type":"application","name":"playback","ikey":"x"}]}')
        control = DialplanControl(None, str(folder), self.lane.submit_all, lambda names: None)
        self.registry.add("agent.status", status_command(self.stats, self.driver, "nats", dict))
        self.registry.add("originate", Originate(submit, self.guards))
        self.registry.add("hangup", Hangup(submit))
        self.registry.add("execute_app", ExecuteApp(self.lane.submit_all, self.guards, apps))
        for name, handler in dialplan_commands(control).items():
            self.registry.add(name, handler)

    def round(self, data: bytes) -> None:
        """One request; then now and then what waits is answered."""
        rng = self.rng
        self.driver.most = rng.choice((300, 5000, 1_000_000))
        self.driver.takes = rng.random() < 0.9
        reply = rng.choice(("inbox", "inbox", ""))
        self.registry.handle(Message("freeswitch.api", reply.encode(), data, rng.choice((b"", b"NATS/1.0\r\n\r\n"))))
        if rng.random() < 0.05:
            names = ("fsctl", "status", "hangup", "playback", "park", "originate", "echo")
            deny, allow, apps = (tuple(rng.sample(names, rng.randrange(3))) for _ in range(3))
            self.guards.set(deny, allow if rng.random() < 0.1 else (), apps)
        if rng.random() < 0.1:
            self.driver.most = 300  # it may have become less since the request came
            self.lane.end_all()

    def check(self) -> None:
        """Everything that has left so far."""
        for message, payload, error in self.driver.replies:
            assert message.reply == b"inbox"
            reply = json.loads(payload.decode())
            assert isinstance(reply["success"], bool)
            assert reply["status"] == ("success" if reply["success"] else "error")
            assert isinstance(reply["message"], str) and isinstance(reply["timestamp"], int)
            assert reply["node_id"] == "FS-1"
            assert b"\n" not in payload
            assert bool(error) == (not reply["success"]), payload
        for subject, payload in self.driver.published:
            assert strict_subject(subject) and not is_command_lane("freeswitch", subject)
            json.loads(payload.decode())
        assert self.stats.received == self.stats.succeeded + self.stats.failed + len(self.lane.waiting)
        self.audit._write()
        for line in self.stream.getvalue().splitlines():
            assert " audit=" in line or line.startswith("<6>"), line
        self.stream.seek(0)
        self.stream.truncate()
        self.driver.replies.clear()
        self.driver.published.clear()


def damaged_value(rng: random.Random, value: Any, depth: int = 0) -> Any:
    match rng.randrange(6):
        case 0:
            return rng.choice(VALUES)
        case 1 if isinstance(value, str) and value:
            at = rng.randrange(len(value))
            return value[:at] + rng.choice([each for each in VALUES if isinstance(each, str)]) + value[at + 1 :]
        case 2 if isinstance(value, dict) and depth < 3:
            return {**value, str(rng.choice(VALUES))[:40]: damaged_value(rng, "x", depth + 1)}
        case 3:
            return [value] * rng.randrange(4)
        case 4:
            return "".join(rng.choice("ab ${}()\\',\"\n\x00é=:&/%") for _ in range(rng.randrange(40)))
    return chr(rng.randrange(0x110000)) * rng.randrange(300)


def made(rng: random.Random) -> bytes:
    """A request, damaged in some way."""
    request = dict(rng.choice(SEEDS))
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        other = rng.choice(SEEDS)
        field = rng.choice([*request, *other, "node_id", "async", "forward_to", "correlation_id", "args", "command"])
        request[field] = damaged_value(rng, request.get(field, other.get(field)))
    if rng.random() < 0.1 and request:
        del request[rng.choice(list(request))]
    data = json.dumps(request, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
    for _ in range(rng.choice((0, 0, 0, 0, 1, 3))):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(4):
            case 0:
                data = data[:at] + rng.randbytes(rng.randrange(4)) + data[at + 1 :]
            case 1:
                data = data[:at] + data[at : at + 20] * rng.randrange(5) + data[at:]
            case 2:
                data = data[:at]
            case 3:
                piece = rng.choice((b"[", b'{"a":', b"1e999", b"NaN", b"\\ud800", b"9" * 5000, b'"'))
                data = data[:at] + piece + data[at:]
    return data[: MAX_REQUEST + 100] if rng.random() < 0.99 else data * 500


@contextmanager
def odd_logged() -> Iterator[list[str]]:
    """`handle` catches what it did not expect, and says so: that is gathered.

    Nothing else is kept: pytest keeps every log record of a test, and in ten minutes they fill a gigabyte.
    """
    odd: list[str] = []

    class Noting(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            text = self.format(record)
            if record.exc_info:
                odd.append(text)

    loggers = (logging.getLogger(), logging.getLogger("event_agent"))
    before = [(logger, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    loggers[1].addHandler(Noting())
    try:
        yield odd
    finally:
        for logger, handlers in before:
            logger.handlers = handlers


class Collector:
    """The CPU time that Python's garbage collector has taken: it looks through pytest's objects too, not ours alone."""

    def __init__(self) -> None:
        self.seconds = self.longest = self._began = 0.0

    def __call__(self, phase: str, _: dict[str, int]) -> None:
        now = time.process_time()
        if phase == "start":
            self._began = now
        else:
            self.seconds += now - self._began
            self.longest = max(self.longest, now - self._began)


@pytest.fixture
def collector() -> Iterator[Collector]:
    found = Collector()
    gc.callbacks.append(found)
    yield found
    gc.callbacks.remove(found)


def test_damaged_requests(tmp_path: Path, collector: Collector) -> None:
    with odd_logged() as odd:
        damaged_requests(tmp_path, odd, collector)


def damaged_requests(tmp_path: Path, odd: list[str], collector: Collector) -> None:
    seed = random.randrange(1 << 32)
    rng = random.Random(seed)
    house = House(rng, tmp_path)
    ended = time.monotonic() + SECONDS
    count = 0
    slowest, slow_request = 0.0, b""
    while time.monotonic() < ended:
        data = made(rng)
        count += 1
        started, collected = time.process_time(), collector.seconds
        try:
            house.round(data)
        except BaseException as error:
            raise AssertionError(f"seed {seed}, request {count}: {data!r}") from error
        took = time.process_time() - started - (collector.seconds - collected)
        if took > slowest:
            slowest, slow_request = took, data
        assert not odd, f"seed {seed}, request {count}: {data!r}\n{odd[0]}"
        if count % 200 == 0:
            house.check()
    house.lane.end_all()
    house.check()
    assert slowest < 1.0, f"seed {seed}: {slowest:.1f} s for {slow_request[:300]!r}"
    print(f"{count} requests, {house.lane.count} commands; seed {seed}; the slowest {slowest * 1000:.0f} ms of CPU")
    print(f"without the garbage collector, which took {collector.longest:.3f} s at most:")
    print(slow_request[:300])
    assert count > 100 and house.lane.count > 10, f"seed {seed}: {count} requests, {house.lane.count} commands"


def test_the_undamaged_ones_work(tmp_path: Path) -> None:
    """Else the fuzzer would fuzz nothing."""
    house = House(random.Random(1), tmp_path)
    for request in SEEDS:
        house.registry.handle(Message("freeswitch.api", b"inbox", json.dumps(request).encode()))
    house.lane.end_all()
    assert house.stats.received == len(SEEDS) and house.lane.count >= 8
    assert house.stats.succeeded >= 3
    house.check()
