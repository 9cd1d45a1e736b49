"""docs/SECURITY.md, "One command and not another": its users on a real NATS server, what each may and may not do."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, Events, NatsServer
from tests.functional.route_parts import Program, asked
from tests.functional.streams import taken
from tests.functional.test_api_doc import DOCS, block
from tests.functional.test_ctl import ctl
from tests.support import free_port, until

NODE = "fs-node-01"
PARK = {"endpoint": "loopback/park/default", "destination": "&park"}


class User:
    """A client with one of these users' permissions."""

    def __init__(self, name: str, port: int) -> None:
        self.refused: list[str] = []  # subjects, in lower case, as nats-py has them
        inbox = "_INBOX" if name == "operator" else f"_INBOX_{name}"

        async def told(error: Exception) -> None:
            found = re.search(r'permissions violation for (publish|subscription) to "(.*?)"', str(error), re.IGNORECASE)
            self.refused.append(f"{found[1]} {found[2]}".lower() if found else str(error))

        self.url = f"nats://{name}:{name}@127.0.0.1:{port}"
        self.client = Client(self.url, error_cb=told, inbox_prefix=inbox.encode())

    def ask(self, subject: str, **fields: Any) -> Any:
        return json.loads(self.client.raw(subject, json.dumps(fields).encode(), 30).data)

    def may_not_publish(self, *subjects: str) -> None:
        """Not even what would be taken, and nothing comes of it."""
        for subject in subjects:
            self.client.publish(subject, json.dumps({"command": "show", "args": "channels"}).encode())
            until(lambda each=subject: f"publish {each}".lower() in self.refused, f"{subject}: {self.refused}")  # type: ignore[misc]

    def may_not_subscribe(self, *subjects: str, queue: str = "") -> None:
        async def go(subject: str) -> None:
            await self.client.nc.subscribe(subject, queue)
            await taken(self.client.nc)

        for subject in subjects:
            self.client.run(go(subject))
            until(lambda each=subject: f"subscription {each}".lower() in self.refused, f"{subject}: {self.refused}")  # type: ignore[misc]


@pytest.fixture
def server() -> Iterator[NatsServer]:
    config = block((DOCS / "SECURITY.md").read_text(encoding="utf-8"), "conf nats-server verbs")
    config = re.sub(r"\$(\w+)_PASSWORD", lambda match: match[1].lower(), config)
    made = NatsServer(config=config).start()
    yield made
    made.stop()


@pytest.fixture
def port() -> int:
    """The agent's, for mod_xml_curl."""
    return free_port()


@pytest.fixture
def house(
    server: NatsServer, port: int, switch: Switch, start_agent: Callable[..., Agent], tmp_path: Path
) -> Iterator[Callable[[str], User]]:
    agent = start_agent(
        server, switch, url=f"nats://agent:agent@127.0.0.1:{server.port}", node_id=NODE, lanes="verbs", cdr="true",
        http_listen=f"127.0.0.1:{port}",
        app_denylist="system,bgsystem,lua,socket",
    )  # fmt: skip
    users: list[User] = []

    def user(name: str) -> User:
        users.append(User(name, server.port))
        return users[-1]

    yield user
    for each in users:
        each.client.close()
    assert "Permissions Violation" not in agent.log, "the agent's own permissions are complete"


def test_a_monitor_shows_channels_and_nothing_else(house: Callable[[str], User]) -> None:
    operator, monitor = house("operator"), house("monitor")
    uuid = operator.ask("freeswitch.any.originate", **PARK)["data"]["uuid"]
    for subject in ("freeswitch.all.show", "freeswitch.node.fs_node_01.show"):
        until(lambda where=subject: uuid in monitor.ask(where, args="channels as json")["data"], "it shows")  # type: ignore[misc]
        for command in ("originate", "hangup", "SHOW", "status"):
            reply = monitor.ask(subject, command=command, uuid=uuid, **PARK)
            assert reply["message"] == "command must be absent, or 'show' as in the subject"
        reply = monitor.ask(subject, args=f"channels\n\napi uuid_kill {uuid}")
        assert reply["success"] is False and "line break" in reply["message"], reply
    monitor.may_not_publish(
        "freeswitch.api", "freeswitch.any", "freeswitch.node.fs_node_01", f"freeswitch.call.{uuid}",
        "freeswitch.any.show", "freeswitch.all.status", "freeswitch.all.show.more", "freeswitch.all.hangup",
        "freeswitch.node.fs_node_01.originate", f"freeswitch.call.{uuid}.hangup", "freeswitch.all.bgapi",
        "freeswitch.events.channel.answer", "freeswitch.route", "$SRV.PING",
    )  # fmt: skip
    monitor.may_not_subscribe(
        "freeswitch.events.>", "freeswitch.all.>", "freeswitch.all.show", "freeswitch.calls.>", "_INBOX.>", ">",
        "$SRV.PING", "freeswitch.cdr.*",
    )  # fmt: skip
    assert operator.ask(f"freeswitch.call.{uuid}.uuid_exists", args=uuid)["data"] == "true", "nothing came of it"
    assert operator.ask(f"freeswitch.call.{uuid}.hangup")["success"] is True


def test_a_dialler_makes_calls_and_ends_them(house: Callable[[str], User]) -> None:
    dialler = house("dialler")
    for subject in ("freeswitch.any.originate", "freeswitch.node.fs_node_01.originate"):
        uuid = dialler.ask(subject, **PARK)["data"]["uuid"]
        events = Events(dialler.client.gather(f"freeswitch.calls.{uuid}.>"))
        assert dialler.ask(f"freeswitch.call.{uuid}.call.watch")["success"] is True
        assert dialler.ask(f"freeswitch.call.{uuid}.hangup", cause="USER_BUSY")["data"] == uuid
        events.wait("CHANNEL_HANGUP_COMPLETE", timeout=20)
    denied = dialler.ask("freeswitch.any.originate", endpoint="loopback/park/default", destination="&system(true)")
    assert denied["message"] == "Application 'system' is denied"
    dialler.may_not_publish(
        "freeswitch.all.originate", "freeswitch.any", "freeswitch.any.status", "freeswitch.all.show",
        "freeswitch.node.fs_node_01.execute_app", "freeswitch.call.x.execute_app", "freeswitch.call.x",
        "freeswitch.any.agent.drain", "freeswitch.events.channel.answer",
    )  # fmt: skip
    dialler.may_not_subscribe("freeswitch.events.>", "freeswitch.any.originate", "freeswitch.call.*.>", "_INBOX.>")


def test_a_router_answers_when_it_is_asked(house: Callable[[str], User]) -> None:
    router = house("router")
    agent = house("agent")  # what the agent may do towards routers

    async def answer(message: Any) -> None:
        await message.respond(b'{"action":"park"}')
        await message.respond(b'{"action":"hangup"}')

    async def subscribe() -> None:
        await router.client.nc.subscribe("freeswitch.route", "routers", cb=answer)
        await taken(router.client.nc)

    async def ask() -> list[bytes]:
        found: list[bytes] = []

        async def came(message: Any) -> None:
            found.append(message.data)

        await agent.client.nc.subscribe("_INBOX.fs_node_01.x.*", cb=came)
        await agent.client.nc.publish("freeswitch.route", b"{}", reply="_INBOX.fs_node_01.x.1")
        for _ in range(2000):
            if found and router.refused:
                break
            await asyncio.sleep(0.01)  # between two looks
        return found

    router.client.run(subscribe())
    assert agent.client.run(ask()) == [b'{"action":"park"}'], "one answer for each question"
    assert router.refused == ["publish _inbox.fs_node_01.x.1"]
    router.may_not_publish(
        "freeswitch.route", "freeswitch.any.originate", "freeswitch.all.show", "freeswitch.events.x",
        "_INBOX.fs_node_01.x.2",
    )  # fmt: skip
    router.may_not_subscribe("freeswitch.route", "freeswitch.events.>", "freeswitch.any.>", "_INBOX.>")


def test_a_router_decides_a_call(house: Callable[[str], User], port: int) -> None:
    operator, router = house("operator"), house("router")
    on = operator.ask("freeswitch.any.dialplan.route", enabled=True, timeout=5, context="default")
    assert on["success"] is True, on
    program = Program(router.client, lambda call: {"action": "transfer", "extension": "1001", "context": "default"})
    try:
        assert ("transfer", "1001 XML default") in asked(port, "uuid-7")
        assert [call["uuid"] for call in program.calls] == ["uuid-7"] and not router.refused
    finally:
        program.close()
        assert operator.ask("freeswitch.any.dialplan.route", enabled=False)["success"] is True


def test_an_operator_may_send_all_commands(house: Callable[[str], User]) -> None:
    operator = house("operator")
    events = Events(operator.client.gather("freeswitch.events.>"))
    uuid = operator.ask("freeswitch.node.fs_node_01.originate", **PARK)["data"]["uuid"]
    events.wait("CHANNEL_CREATE", timeout=20)
    assert operator.ask(f"freeswitch.call.{uuid}.execute_app", app="set", args="a=b")["success"] is True
    assert operator.ask("freeswitch.all.hangup", uuid=uuid)["success"] is True
    done = ctl(operator.url, "--verbs", "api", "show", "channels", "count")
    assert done.returncode == 0 and "total" in done.stdout, done
    assert ctl(operator.url, "--verbs", "status").returncode == 0
    assert "may not" in (refused := ctl(operator.url, "api", "status").stderr) or "not allow" in refused
    operator.may_not_publish("freeswitch.api", "freeswitch.node.fs_node_01", "freeswitch.events.x", "freeswitch.route")
    operator.may_not_subscribe("freeswitch.all.>", "freeswitch.any.>", "freeswitch.route")


def test_the_agent_may_do_what_it_needs_and_no_more(house: Callable[[str], User]) -> None:
    agent = house("agent")
    agent.may_not_publish("freeswitch.any.originate", "freeswitch.node.fs_node_02.agent.hello", "freeswitch.all.status")
    agent.may_not_subscribe("freeswitch.events.>", "freeswitch.node.fs_node_02.>", "freeswitch.any.>", "_INBOX.>")
