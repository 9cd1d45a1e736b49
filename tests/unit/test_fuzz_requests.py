"""The whole request path, fed with damaged requests.

Each that wants an answer gets exactly one, made of FreeSWITCH's answer to its own command; what is sent to FreeSWITCH
is one command each; replies are valid envelopes and copies go to plain subjects.
"""

from __future__ import annotations

import io
import json
import random
import re
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from event_agent.bridge.requests import Answers, Requests
from event_agent.commands.api import ApiCommand
from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.dialplan import dialplan_commands
from event_agent.commands.drain import drain_command
from event_agent.commands.execute_app import AppList, ExecuteApp
from event_agent.commands.guards import Guards
from event_agent.commands.hangup import Hangup
from event_agent.commands.originate import Originate
from event_agent.commands.registry import Registry
from event_agent.commands.sendevent import Sendevent
from event_agent.commands.status import status_command
from event_agent.commands.waiting import Waiting
from event_agent.commands.watch import CallWatch, Watches, unwatch
from event_agent.config.event_names import FREESWITCH
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.router import Router
from event_agent.drivers.base import Message
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.http.listener import HttpListener
from event_agent.protocol.requests import MAX_REQUEST, Request, read_request
from event_agent.protocol.subjects import is_command_lane
from event_agent.protocol.validation import strict_subject
from event_agent.runtime.log import AuditLog
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeDriver
from tests.fakes.questions import FakeQuestions
from tests.fuzz.commands import one_frame
from tests.fuzz.harness import Target, fuzz
from tests.fuzz.mutator import damaged, long, text

UUID = "aaaaaaaa-0000-4000-8000-000000000001"
PREFIX, NODE, SLUG = "freeswitch", "FS-1", "fs_1"
SEEDS: tuple[dict[str, Any], ...] = (
    {"command": "status"},
    {"command": "uuid_kill", "args": f"{UUID} NORMAL_CLEARING", "correlation_id": "id-1"},
    {"command": "echo", "args": "${version()} {a} \\ ' é 日本", "async": True, "forward_to": "copies.here"},
    {"command": "agent.drain", "enabled": True},
    {"command": "agent.status", "node_id": "FS-1", "correlation_id": 7.5},
    {"command": "originate", "endpoint": "user/1000", "extension": "1001", "timeout": 30, "context": "default",
     "dialplan": "XML", "caller_id_name": "Bot", "caller_id_number": "555", "uuid": UUID,
     "variables": {"a": "b,c'd\\", "n": 5, "t": True, "api_on_answer": "fsctl x"}},
    {"command": "originate", "endpoint": "loopback/x", "destination": "&park(a b)"},
    {"command": "originate", "args": "{a='b, c'}user/1000 &park XML default 'Fred S' 555 30", "variables": {"d": 1}},
    {"command": "hangup", "uuid": UUID, "cause": "USER_BUSY"},
    {"command": "hangup", "args": f"{UUID} USER_BUSY"},
    {"command": "execute_app", "uuid": UUID, "app": "playback", "args": "line 1\nline 2 "},
    {"command": "execute_app", "uuid": UUID, "app": "playback", "args": "x", "wait": 5, "result": ["a", "b"]},
    {"command": "call.watch", "uuid": UUID, "events": ["DTMF", "a::b"], "to": "ivr.7", "ttl": 60},
    {"command": "call.unwatch", "uuid": UUID},
    {"command": "originate", "endpoint": "loopback/x", "destination": "&park", "events_to": "ivr.8"},
    {"command": "execute_app", "uuid": UUID, "app": "playback", "events_to": "ivr.9"},
    {"command": "sendevent", "event": "CUSTOM", "subclass": "a::b", "headers": {"A-b": "c", "N": 5, "T": True},
     "body": "x\ny"},
    {"command": "dialplan.enable", "context": ["public", "default"], "number": "^5(\\d+)$",
     "except": ["112", "0900*"]},
    {"command": "dialplan.disable"},
    {"command": "dialplan.audio", "mode": "music", "music_class": "moh"},
    {"command": "dialplan.autoanswer", "enabled": True},
    {"command": "dialplan.status"},
    {"command": "bgapi", "args": "expand sched_api +1 none fsctl ${fsctl(x)}"},
    {"command": "json", "args": "{\"command\":\"fsapi\",\"data\":{\"cmd\":\"fsctl\",\"arg\":\"x\"}}"},
    {"command": "chat", "args": "^^:api:a:f%73ctl x:y"},
    {"command": "execute_app", "uuid": UUID, "app": "set", "args": "api_hangup_hook=fs''ctl ${x}"},
    {"command": "uuid_transfer", "args": f"{UUID} m:^:answer^playback:x inline"},
)  # fmt: skip
COMMON = ("node_id", "async", "forward_to", "correlation_id", "args", "command")
JSON = tuple(json.dumps(each).encode() for each in SEEDS)
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 600, 601, 1e308, -1e-300, 2**70, "\ud800", "x" * 64, "x" * 256, "x" * 5000, "FS-1",
    "a.b", "copies.here", [], {}, [[]], {"a": {}}, ["a"] * 50, {"": ""}, {"a": None}, "^(a+)+$", "(", "[" * 500,
)  # fmt: skip
ANSWERS = (
    "+OK", "+OK Job-UUID: x", "-ERR no reply\n", "-ERR No such channel!\n", "-USAGE: x\n", "", "UP\n", "\x00\x01",
    "\ud800", '"\\', "x" * 3000, "é" * 300, "{}", '{"row_count":0}', "true", "false", "+OK " + UUID, "\r\n\n-ERR x\n",
    "-ERR \x1b[2J\x00\ud800 x",
)  # fmt: skip
_TICKET = re.compile(r"<(\d+)>")  # by which an answer is known again


class FakeLane:
    """Answers or fails each command, at once, later, or on another thread, with a ticket in each answer."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.waiting: list[tuple[Command, int]] = []
        self.count = 0
        self.asking = 0  # the number of the request that is being handled

    def submit(self, command: Command) -> None:
        self.count += 1
        one_frame(command)
        if self.rng.random() < 0.5:
            self._end(command, self.asking)
        else:
            self.waiting.append((command, self.asking))

    full = False
    connected = True
    deaf = 0.0  # of the requests that wait for events, the share that finds none come

    def flush(self) -> bool:
        return True

    def expect(self) -> None: ...

    def want(self, who: str, names: frozenset[str]) -> None: ...

    def when_in_force(self, then: Callable[[bool], None]) -> None:
        then(self.rng.random() >= self.deaf)

    def submit_all(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self.submit(command)

    def _end(self, command: Command, asking: int) -> None:
        self.asking = asking  # a command may be followed by another for the same request
        answer = self.rng.choice(ANSWERS)
        if self.rng.random() < 0.2:
            command.failed(Failure("FreeSWITCH is not connected", Executed.NO))
        elif len(answer) < 4:
            command.done(answer)
        else:
            command.done(f"{answer} <{asking}>")

    def end_all(self) -> None:
        """What waits, from a thread that is not the reader's."""
        waiting, self.waiting = self.waiting, []
        self.rng.shuffle(waiting)

        def end_them() -> None:
            for command, asking in waiting:
                self._end(command, asking)

        thread = threading.Thread(target=end_them, name="fuzz-answers")
        thread.start()
        thread.join()


class House(Target):
    """The request path of the daemon, on a fake driver and a fake lane."""

    limit = 0.010
    room = 500_000  # latencies of commands have a bound of their own
    spike = 12_000_000  # a request may have 64 kB, and JSON makes more of that

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.driver = FakeDriver()
        self.lane = FakeLane(rng)
        self.stats = Stats()
        self.stream = io.StringIO()
        self.audit = AuditLog(self.stream)
        self.guards = Guards()
        submit = self.lane.submit
        self.registry = Registry(PREFIX, self.guards, ApiCommand(submit, self.guards), declared=COMMANDS)
        self.requests = Requests(
            self.registry, self.driver, self.driver, Answers(self.driver), self.lane, self.lane, self.stats, self.audit,
            NODE,
        )  # fmt: skip
        apps = AppList(self.lane.submit_all)
        apps.learn('{"rows":[{"type":"application","name":"playback","ikey":"x"}]}')
        router = Router(NODE, f"{PREFIX}.route", FakeQuestions(), self.guards.check_app)
        send = self.lane.submit_all
        self.control = DialplanControl(HttpListener(None), str(folder), send, lambda names: None, router)
        self.registry.add("agent.drain", drain_command(lambda enabled: True))
        self.registry.add("agent.status", status_command(self.stats, self.driver, dict))

        self.watches = Watches(
            PREFIX, frozenset(FREESWITCH), self.lane, self.driver, self.lane.submit_all, lambda seconds, job: None
        )
        self.registry.add("originate", Originate(submit, self.guards, self.lane.submit_all, self.watches))
        self.registry.add("call.watch", CallWatch(self.watches, self.lane.submit_all, frozenset(FREESWITCH)))
        self.registry.add("call.unwatch", unwatch(self.watches))
        self.registry.add("hangup", Hangup(submit))
        self.waiting = Waiting(self.lane, lambda seconds, job: None)
        execute = ExecuteApp(self.lane.submit_all, self.guards, apps, self.waiting, self.watches)
        self.registry.add("execute_app", execute)
        self.registry.add("sendevent", Sendevent(submit, self.guards, frozenset(FREESWITCH)))
        for name, handler in dialplan_commands(self.control, PREFIX).items():
            self.registry.add(name, handler)
        self.number = 0
        self.owed: dict[bytes, object] = {}  # reply subjects of requests not answered yet: the correlation_id to come
        self.good = 0

    def make(self, rng: random.Random) -> bytes:
        request = dict(rng.choice(SEEDS))
        for _ in range(rng.choice((0, 1, 1, 2, 3))):
            other = rng.choice(SEEDS)
            field = rng.choice((*request, *other, *COMMON))
            request[field] = spoilt(rng, request.get(field, other.get(field)))
        if rng.random() < 0.03:
            request[rng.choice((*request, "args"))] = long(rng, MAX_REQUEST).decode(errors="replace")
        if rng.random() < 0.1 and request:
            del request[rng.choice(list(request))]
        data = json.dumps(request, ensure_ascii=rng.random() < 0.5).encode(errors="surrogatepass")
        if rng.random() < 0.25:
            data = damaged(rng, data, JSON)
        return data[: MAX_REQUEST + 100] if rng.random() < 0.99 else data * 500

    def feed(self, rng: random.Random, data: bytes) -> None:
        """One request; now and then what waits is answered."""
        self.number += 1
        self.lane.rng, self.lane.asking, self.lane.deaf = rng, self.number, 0.1
        self.driver.max_payload = rng.choice((300, 5000, 1_000_000))
        self.driver.takes = rng.random() < 0.9
        if rng.random() < 0.05:
            names = ("fsctl", "status", "hangup", "playback", "park", "originate", "echo")
            deny, allow, apps = (tuple(rng.sample(names, rng.randrange(3))) for _ in range(3))
            self.guards.set(deny, allow if rng.random() < 0.1 else (), apps)
        reply = rng.choice((b"inbox.%d" % self.number, b"inbox.%d" % self.number, b""))
        if reply:
            self._owe(reply, data)
        headers = rng.choice((b"", b"NATS/1.0\r\n\r\n"))
        self.requests.take([Message(f"{PREFIX}.api".encode(), reply, data, headers)])
        if rng.random() < 0.1:
            self.driver.max_payload = 300  # it may have become less since the request came
            self.lane.end_all()
        self._check()

    def _owe(self, reply: bytes, data: bytes) -> None:
        request = Request()
        with suppress(CommandError):
            if not read_request(request, data, SLUG) or request.run_async:
                return
        self.owed[reply] = request.correlation_id

    def _check(self) -> None:
        """Everything that has left since the last look."""
        for message, payload, error in self.driver.replies:
            assert message.reply in self.owed, f"an answer to what was not asked, or the second one: {payload!r}"
            wanted = self.owed.pop(message.reply)
            assert b"\n" not in payload
            reply = json.loads(payload.decode())
            assert isinstance(reply["success"], bool)
            assert reply["status"] == ("success" if reply["success"] else "error")
            assert isinstance(reply["message"], str) and isinstance(reply["timestamp"], int)
            assert reply["node_id"] == NODE
            assert bool(error) == (not reply["success"]), payload
            if len(payload) < 200:
                if isinstance(wanted, str):
                    wanted = wanted.encode(errors="replace").decode()  # a lone surrogate, which UTF-8 can't hold
                assert reply.get("correlation_id") == wanted or "too large" in reply["message"], payload
            for ticket in _TICKET.findall(f"{reply['message']} {reply.get('data')}"):
                assert message.reply == b"inbox." + ticket.encode(), f"another's answer: {message.reply!r} {payload!r}"
                self.good += 1
        for subject, payload in self.driver.copies:
            assert strict_subject(subject) and not is_command_lane(PREFIX, subject)
            json.loads(payload.decode())
        self.driver.replies.clear()
        self.driver.copies.clear()
        self.audit.write()
        for line in self.stream.getvalue().splitlines():
            assert " audit=" in line and line.isprintable(), line
        self.stream.seek(0)
        self.stream.truncate()

    def settle(self) -> None:
        self.lane.rng = random.Random(self.number)
        while self.lane.waiting:
            self.lane.end_all()
        self.waiting.unlinked("the end")
        assert self.waiting.tables()[:2] == (0, 0)
        self._check()
        assert not self.owed, f"not answered: {list(self.owed)[:5]}"
        assert self.stats.received == self.stats.succeeded + self.stats.failed


def spoilt(rng: random.Random, value: Any, depth: int = 0) -> Any:
    match rng.randrange(7):
        case 0:
            return rng.choice(VALUES)
        case 1 if isinstance(value, str) and value:
            at = rng.randrange(len(value))
            return value[:at] + text(rng, 60_000) + value[at + rng.randrange(2) :]
        case 2 if isinstance(value, dict) and depth < 3:
            return {**value, text(rng)[:40]: spoilt(rng, "x", depth + 1)}
        case 3:
            return [value] * rng.randrange(4)
        case 4:
            return "".join(rng.choice("ab ${}()\\',\"\n\x00é=:&/%^|") for _ in range(rng.randrange(40)))
        case 5:
            return chr(rng.randrange(0x110000)) * rng.randrange(300)
    return text(rng, 60_000)


def test_damaged_requests(tmp_path: Path) -> None:
    found: list[House] = []

    def build() -> House:
        found.append(House(random.Random(0), tmp_path))
        return found[-1]

    fuzz(build, least=400)  # however busy the machine is
    assert found[0].lane.count > 50 and found[0].good > 10, (found[0].lane.count, found[0].good)


def test_the_undamaged_ones_work(tmp_path: Path) -> None:
    """Else the fuzzer would fuzz nothing."""
    house = House(random.Random(0), tmp_path)
    for request in SEEDS:
        house.requests.take([Message(b"freeswitch.api", b"", json.dumps(request).encode())])
    house.settle()
    assert house.stats.received == len(SEEDS) and house.lane.count >= 8
    assert house.stats.succeeded >= 3
