"""Answers that are over the NATS server's max_payload: `"parts": true`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

import event_agent_client as ea
from event_agent.client import AgentTimeout
from event_agent.client import Client as OurClient
from tests.functional import node_parts
from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.test_call_lanes import make
from tests.functional.test_ctl import ctl
from tests.support import until

SHOW = {"command": "show", "args": "channels as json", "parts": True}
USERS = """authorization { users = [ {user: agent, password: a, permissions: {
  subscribe: ">", publish: "freeswitch.>", allow_responses: {max: 1, expires: "1m"} } }, {user: c, password: c} ] }
"""


@pytest.fixture
def small(request: pytest.FixtureRequest) -> Iterator[NatsServer]:
    server = NatsServer(config=getattr(request, "param", "max_payload: 1200\n")).start()
    yield server
    server.stop()


@pytest.fixture
def five(
    small: NatsServer, switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client]
) -> Iterator[Client]:
    """A node with five calls, of which `show` says more than fits."""
    start_agent(small, switch, url=f"nats://agent:a@127.0.0.1:{small.port}", publish_all_events="false")
    client = connect(f"nats://c:c@127.0.0.1:{small.port}")
    uuids = [make(client) for _ in range(5)]
    yield client
    for uuid in uuids:
        client.request("hangup", uuid=uuid)


def shown(text: str) -> int:
    return int(json.loads(text)["row_count"])


def collected(client: Client, **request: Any) -> list[dict[str, Any]]:
    """All replies to it, as they came."""
    found = client.gather(inbox := f"collected.{uuid4().hex}")
    client.publish("freeswitch.any", json.dumps(request, ensure_ascii=False).encode(), reply=inbox)
    until(lambda: found and len(found) == json.loads(found[0].data).get("parts", 1), "all of them", 20)
    assert all(len(each.data) <= 1200 for each in found)
    return [json.loads(each.data) for each in found]


def test_a_long_answer_comes_in_parts(five: Client) -> None:
    def in_order() -> bool:
        replies = collected(five, **SHOW, correlation_id=9, forward_to="copies")
        if len(replies) == 1:  # few are shown yet: FreeSWITCH's list is behind by up to a second
            return False
        assert [each["part"] for each in replies] == list(range(1, len(replies) + 1)) and len(replies) > 2
        assert len({(each["timestamp"], each["node_id"], each["correlation_id"]) for each in replies}) == 1
        return shown("".join(each["data"] for each in replies)) >= 10

    copies = five.gather("copies")
    until(in_order, "all channels are shown")
    assert 1 in [json.loads(each.data).get("part") for each in copies]
    text = "a\\\"ä€😀 " * 74  # the request fits, with the reply's envelope it does not
    echoed = collected(five, command="echo", args=text, parts=True)
    assert len(echoed) > 1 and "".join(each["data"] for each in echoed).strip() == text.strip()
    status = collected(five, command="agent.status", parts=True)
    assert len(status) > 1 and all(each["json"] is True and each["driver"] == "nats" for each in status)
    assert json.loads("".join(each["data"] for each in status))["call_lanes"]["held"] >= 10
    fits = collected(five, command="version", parts=True)
    assert len(fits) == 1 and "part" not in fits[0]
    assert five.request("show", "channels as json")["message"].startswith("Reply too large")
    wrongs: tuple[Any, ...] = (1, "yes", None, [], {})
    for wrong in wrongs:
        assert five.request("version", parts=wrong)["message"] == "parts must be true or false"


def test_our_tools_put_them_together(five: Client, small: NatsServer) -> None:
    url = f"nats://c:c@127.0.0.1:{small.port}"
    until(lambda: shown(ctl(url, "api", "show", "channels", "as", "json").stdout) >= 10, "shown by event-agentctl")
    with OurClient(url) as ours:
        assert shown(ours.request("show", "channels as json", parts=True)["data"]) >= 10
        (only,) = ours.gather("show", "channels as json", parts=True, expect=1)
        assert shown(only["data"]) >= 10
        assert ours.request("agent.status", parts=True)["data"]["call_lanes"]["held"] >= 10


def test_the_client_for_programs_puts_them_together(five: Client, small: NatsServer) -> None:
    url = f"nats://c:c@127.0.0.1:{small.port}"

    async def work() -> None:
        async with asyncio.timeout(90), ea.connect(url) as fs:
            while shown(await fs.api("show channels as json")) < 10:
                await asyncio.sleep(0.1)
            assert shown((await fs.request("show", "channels as json", parts=True)).data) >= 10
            assert (await fs.request("agent.status", parts=True)).data["call_lanes"]["held"] >= 10
            (only,) = await fs.all.api("show channels as json")
            assert shown(only.data) >= 10
            (only,) = await fs.gather("show", "channels as json", parts=True)
            assert shown(only.data) >= 10
            with pytest.raises(ea.CommandFailed, match="Reply too large"):
                await fs.request("show", "channels as json")
            assert (await fs.live()).count() >= 10

    asyncio.run(work())
    with ea.sync.connect(url) as fs:
        assert shown(fs.api("show channels as json")) >= 10
        assert fs.request("agent.status", parts=True).data["call_lanes"]["held"] >= 10


@node_parts.needs_node
def test_the_client_for_node_puts_them_together(five: Client, small: NatsServer) -> None:
    node_parts.build()
    node_parts.node_test("long", NATS_URL=f"nats://c:c@127.0.0.1:{small.port}")


@pytest.mark.parametrize("small", [f"max_payload: 1200\n{USERS}"], indirect=True)
def test_parts_that_the_server_does_not_let_through(five: Client, small: NatsServer) -> None:
    with OurClient(f"nats://c:c@127.0.0.1:{small.port}") as ours:
        with pytest.raises(AgentTimeout, match=r"no reply within 2 seconds: parts? 2.* of the reply did not come"):
            ours.call({"command": "agent.status", "parts": True}, timeout=2)
        assert ours.request("version")["success"] is True

    async def work() -> None:
        async with asyncio.timeout(90), ea.connect(f"nats://c:c@127.0.0.1:{small.port}") as fs:
            with pytest.raises(ea.NoReply, match=r"no reply within 2 seconds: parts? 2.* of the reply did not come"):
                await fs.request("agent.status", wait=2, parts=True)
            assert await fs.gather("agent.status", wait=2, settle=0.2, parts=True) == []
            assert (await fs.request("version")).ok

    asyncio.run(work())


@node_parts.needs_node
@pytest.mark.parametrize("small", [f"max_payload: 1200\n{USERS}"], indirect=True)
def test_parts_that_do_not_reach_the_client_for_node(five: Client, small: NatsServer) -> None:
    node_parts.build()
    node_parts.node_test("cut", NATS_URL=f"nats://c:c@127.0.0.1:{small.port}")
