"""After random calls and hostile requests nothing is left behind: no subscription, no watch, nothing that waits.

60 calls; EVENT_AGENT_SCALE=167 makes 10,000 of them.
"""

from __future__ import annotations

import asyncio
import json
import random
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import nats.errors
import pytest

from event_agent.commands.catalogue import COMMANDS
from tests.asyncapi import request_faults
from tests.functional.conftest import Switch
from tests.functional.parts import SCALE, Agent, Client, NatsServer
from tests.functional.test_call_lanes import make
from tests.support import free_port, until

CALLS = 60 * SCALE
AT_ONCE = 20 if SCALE == 1 else 40
STANDING = 40  # calls at most that nobody has hung up
PREFIX = "left"


class Server:
    """A NATS server that says which subscriptions it has."""

    def __init__(self) -> None:
        self.monitor = free_port()
        self.nats = NatsServer("-m", str(self.monitor)).start()

    def subscriptions(self) -> list[str]:
        """The agent's."""
        url = f"http://127.0.0.1:{self.monitor}/connz?subs=1"
        with urllib.request.urlopen(url, timeout=10) as answer:
            found = json.loads(answer.read())["connections"]
        return sorted(
            subject for each in found if each.get("lang") == "python-event-agent"
            for subject in each.get("subscriptions_list", ())
        )  # fmt: skip


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.nats.stop()


@pytest.fixture
def house(server: Server, switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client]) -> House:
    agent = start_agent(
        server.nats, switch, subject_prefix=PREFIX, cdr="true", http_listen=f"127.0.0.1:{free_port()}"
    )  # fmt: skip
    return House(server, agent, connect(server.nats.url))


class House:
    """An agent, what it had to begin with, and what it has now."""

    def __init__(self, server: Server, agent: Agent, client: Client) -> None:
        self.server, self.agent, self.client = server, agent, client
        until(lambda: self.ask("agent.status")["data"]["readiness"]["ready"], "ready", 20)
        self.before = until(self.left, "nothing is there yet", 30, holds=lambda found: not any(found[0].values()))[1]

    def ask(self, command: str, args: str | None = None, **fields: Any) -> Any:
        return self.client.request(command, args, f"{PREFIX}.api", fields=fields, _timeout=60)

    def left(self) -> tuple[dict[str, int], list[str]]:
        """What there is that should not outlast calls, and the subscriptions."""
        data = self.ask("agent.status")["data"]
        found = {name: data[name] for name in ("applications_waiting", "calls_watched")}
        found |= {"held": data["call_lanes"]["held"], "without": data["call_lanes"]["without"]}
        found["pending"] = max(0, data["commands_pending"] - 2)  # the agent itself may ask something now
        found["tracked"] = data["channels"]["tracked"]
        return found, self.server.subscriptions()

    def nothing_left(self) -> None:
        self.ask("hupall")

        def none(found: tuple[dict[str, int], list[str]]) -> bool:
            return not any(found[0].values()) and found[1] == self.before

        until(self.left, "nothing is left", 60, holds=none)
        assert "Traceback" not in self.agent.log and "unhandled" not in self.agent.log


class Calls:
    """Random calls, some at a time, of random kinds and with random ends."""

    def __init__(self, client: Client, chance: random.Random) -> None:
        self.nc, self.chance = client.nc, chance
        self.replies: Counter[str] = Counter()
        self.standing: list[str] = []

    async def ask(self, subject: str, **fields: Any) -> Any:
        """One reply, whatever it says; None if NATS says that nobody is there."""
        try:
            reply = json.loads((await self.nc.request(subject, json.dumps(fields).encode(), timeout=300)).data)
        except nats.errors.NoRespondersError:
            self.replies["nobody"] += 1
            return None
        self.replies[str(reply["message"]).partition(":")[0]] += 1
        return reply

    def lane(self, uuid: str, command: str) -> tuple[str, dict[str, Any]]:
        """One of the ways to send a command for a call."""
        return self.chance.choice([
            (f"{PREFIX}.api", {"command": command, "uuid": uuid}),
            (f"{PREFIX}.any.{command}", {"uuid": uuid}),
            (f"{PREFIX}.call.{uuid}", {"command": command}),
            (f"{PREFIX}.call.{uuid}.{command}", {}),
        ])  # fmt: skip

    async def step(self, uuid: str) -> None:
        kind = self.chance.choice(["app", "app", "app", "watch", "unwatch", "break", "quiet", "api"])
        if kind == "app":
            subject, fields = self.lane(uuid, "execute_app")
            app = self.chance.choice([
                {"app": "set", "args": "a=b"}, {"app": "sleep", "args": "30"}, {"app": "playback"}, {"app": "park"},
                {"app": "playback", "args": "silence_stream://100"}, {"app": "no_such_app"},
            ])  # fmt: skip
            app.setdefault("args", "silence_stream://-1")
            wait: dict[str, Any] = self.chance.choice([{}, {"wait": 60}, {"wait": 0.1}, {"wait": 60, "result": ["a"]}])
            to: str = self.chance.choice(["", "", "", f"{PREFIX}.own.{uuid}", "apps.here"])
            fields = {**fields, **app, **wait, **({"events_to": to} if to else {})}
            asked = asyncio.ensure_future(self.ask(subject, **fields))
            self.under_way.add(asked)
            asked.add_done_callback(self.under_way.discard)
        elif kind in ("watch", "unwatch"):
            subject, fields = self.lane(uuid, f"call.{kind}")
            if kind == "watch":
                fields |= self.chance.choice([{}, {"ttl": 1}, {"to": "elsewhere", "events": ["CHANNEL_HANGUP"]}])
            await self.ask(subject, **fields)
        elif kind == "break":
            await self.ask(f"{PREFIX}.any.uuid_break", args=f"{uuid} all")
        elif kind == "quiet":
            await self.nc.publish(f"{PREFIX}.call.{uuid}.execute_app", b'{"app":"playback","args":"x","wait":60}')
        else:
            await self.ask(f"{PREFIX}.call.{uuid}.uuid_exists", args=uuid)

    async def one(self) -> None:
        to = {"events_to": self.chance.choice([f"{PREFIX}.made", "calls.here"])} if self.chance.random() < 0.4 else {}
        endpoint = self.chance.choice(["loopback/park/default", "loopback/park/default", "error/USER_BUSY"])
        made = await self.ask(f"{PREFIX}.any.originate", endpoint=endpoint, destination="&park", **to)
        uuid = made["data"]["uuid"] if made and made["success"] else "no-such-channel"
        for _ in range(self.chance.randrange(4)):
            await self.step(uuid)
        end = self.chance.choice(["hangup", "hangup", "uuid_kill", "twice", "left"])
        if end == "uuid_kill":
            await self.ask(f"{PREFIX}.any.uuid_kill", args=uuid)
        elif end == "left":
            self.standing.append(uuid)
            if len(self.standing) > STANDING:
                await self.ask(f"{PREFIX}.any.uuid_kill", args=self.standing.pop(0))
        else:
            subject, fields = self.lane(uuid, "hangup")
            await asyncio.gather(*[self.ask(subject, **fields) for _ in range(1 + (end == "twice"))])
        if self.chance.random() < 0.3:
            await self.step(uuid)  # of a call that has ended

    async def go(self, count: int) -> None:
        self.under_way: set[asyncio.Future[Any]] = set()
        left = count

        async def caller() -> None:
            nonlocal left
            while left > 0:
                left -= 1
                await self.one()

        await asyncio.gather(*[caller() for _ in range(AT_ONCE)])
        # Not before: hupall while a loopback channel is being made aborts FreeSWITCH 1.10.12 (mod_loopback.c,
        # channel_kill_channel: Assertion `tech_pvt != NULL').
        await self.ask(f"{PREFIX}.any.hupall")
        await asyncio.gather(*self.under_way)


def test_random_calls_leave_nothing(house: House) -> None:
    seed = random.randrange(1 << 30)
    calls = Calls(house.client, random.Random(seed))
    house.client.run(calls.go(CALLS), 120 * SCALE)
    house.nothing_left()
    print(f"seed {seed}: {calls.replies}")
    assert calls.replies["Call originated successfully"] and calls.replies["nobody"], seed
    assert calls.replies["execute_app completed"] + calls.replies["Channel hung up"], seed


TRIED = (
    "execute_app", "sendevent", "call.watch", "call.unwatch", "agent.drain", "originate", "hangup", "dialplan.enable",
    "dialplan.audio", "dialplan.autoanswer", "dialplan.route",
)  # fmt: skip
WRONG: tuple[Any, ...] = (
    None, True, -1, 0, 1.5, 10**30, "", " ", "a\nb", "a\rapi status", "a\x00b", "x" * 5000, "*", ">", "a..b",
    [], [None], [""], ["a\nb"], ["x"] * 100, {}, {"a": None}, {"a": "b\nc"}, {"a\nb": "c"},
)  # fmt: skip


def test_hostile_fields_get_one_clear_error_each(house: House) -> None:
    """What the schemas forbid is refused, and the message names the field."""
    for enabled in (True, False):
        assert house.ask("dialplan.route", enabled=enabled)["success"] is True
    house.before = house.left()[1]  # the one subscription for answers of programs, whatever they are asked, stays
    alive, ended = make(house.client, f"{PREFIX}.api"), make(house.client, f"{PREFIX}.api")
    assert house.ask("hangup", uuid=ended)["success"] is True
    right: dict[str, dict[str, Any]] = {
        "execute_app": {"uuid": alive, "app": "set", "args": "a=b", "wait": 0.1},
        "sendevent": {"event": "CUSTOM", "subclass": "test::left", "headers": {"a": "b"}, "body": "x"},
        "call.watch": {"uuid": alive, "events": ["DTMF"], "to": "left.here", "ttl": 1},
        "call.unwatch": {"uuid": alive}, "agent.drain": {"enabled": False},
        "originate": {"endpoint": "error/USER_BUSY", "destination": "&park", "events_to": "left.here"},
        "hangup": {"uuid": ended}, "dialplan.enable": {}, "dialplan.audio": {"mode": "silence"},
        "dialplan.autoanswer": {"enabled": False}, "dialplan.route": {"enabled": False},
    }  # fmt: skip
    fields = {each.name: {one.name for one in each.fields} for each in COMMANDS if each.name in TRIED}
    assert set(fields) == set(TRIED)
    clear = 0
    for command, names in fields.items():
        for name in sorted(names):
            for value in WRONG:
                request = {"command": command, **right[command], name: value}
                raw = json.dumps(request).encode()
                reply = json.loads(house.client.raw(f"{PREFIX}.api", raw, 30).data)
                assert "\n" not in reply["message"].strip(), "one line"
                if request_faults(request):
                    assert reply["success"] is False and name in reply["message"], (request, reply)
                    clear += 1
    assert clear > 500 and house.ask("agent.drain", enabled=False)["success"] is True
    assert house.ask("dialplan.disable")["success"] and house.ask("dialplan.route", enabled=False)["success"]
    for command in ("execute_app", "call.watch", "call.unwatch", "hangup"):
        for uuid in ("no-such-channel", ended):
            reply = house.ask(command, **{**right.get(command, {}), "uuid": uuid})
            assert reply["success"] is False and reply["message"], (command, reply)
            with pytest.raises(nats.errors.NoRespondersError):
                house.client.raw(f"{PREFIX}.call.{uuid}.{command}", b"{}", 30)
    house.nothing_left()
