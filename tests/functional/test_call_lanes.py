"""The lane of one channel, `<prefix>.call.<uuid>`."""

from __future__ import annotations

import contextlib
import json
import signal
from collections.abc import Callable, Iterator
from typing import Any

import nats.errors
import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.streams import taken
from tests.support import until
from tests.switchsim import SwitchSim

PARK = "loopback/park/default"


def make(client: Client, lane: str = "freeswitch.api", **fields: Any) -> str:
    reply = client.request("originate", None, lane, endpoint=PARK, destination="&park", _timeout=30, **fields)
    assert reply["success"] is True, reply
    return str(reply["data"]["uuid"])


@pytest.fixture
def call(agent: Agent, client: Client) -> Iterator[str]:
    uuid = make(client)
    yield uuid
    client.request("uuid_kill", uuid)


def there(client: Client, uuid: str, prefix: str = "freeswitch") -> bool:
    """Whether somebody has the lane; who has it has the channel."""
    try:
        reply = client.request("uuid_exists", uuid, f"{prefix}.call.{uuid}", _timeout=20)
    except nats.errors.NoRespondersError:
        return False
    return bool(reply["success"])


def held(client: Client, lane: str = "freeswitch.api") -> int:
    return int(client.request("agent.status", None, lane, _timeout=20)["data"]["call_lanes"]["held"])


def test_it_is_there_with_the_reply_to_originate_and_gone_with_the_channel(agent: Agent, client: Client) -> None:
    for _ in range(20):
        uuid = make(client)
        assert client.request("uuid_exists", uuid, f"freeswitch.call.{uuid}")["data"] == "true"
        reply = client.request("hangup", None, f"freeswitch.call.{uuid}", cause="USER_BUSY")
        assert reply["success"] is True and reply["data"] == uuid, "the channel is that of the subject"
        until(lambda uuid=uuid: not there(client, uuid), "it ends with the channel")  # type: ignore[misc]
    with pytest.raises(nats.errors.NoRespondersError):
        client.request("hangup", None, "freeswitch.call.no-such-channel")


def test_who_sees_the_channel_begin_can_speak_to_it_at_once(agent: Agent, client: Client) -> None:
    """The lane is there before CHANNEL_CREATE is published."""
    answers: list[dict[str, Any]] = []

    async def came(message: Any) -> None:
        uuid = json.loads(message.data)["uuid"]
        request = json.dumps({"command": "uuid_exists", "args": uuid}).encode()
        reply = await client.nc.request(f"freeswitch.call.{uuid}", request, timeout=20)
        answers.append(json.loads(reply.data))

    async def subscribe() -> Any:
        found = await client.nc.subscribe("freeswitch.events.channel.create", cb=came)
        await taken(client.nc)
        return found

    sub = client.run(subscribe())
    uuids = [make(client) for _ in range(10)]
    until(lambda: len(answers) >= 20, "both legs of each are answered")
    assert all(each["success"] for each in answers)
    client.run(sub.unsubscribe())
    for uuid in uuids:
        client.request("hangup", None, f"freeswitch.call.{uuid}")


def test_applications_are_waited_for_there_too(client: Client, call: str) -> None:
    request = {"app": "sleep", "args": "100", "wait": 30}
    reply = client.request("execute_app", None, f"freeswitch.call.{call}", fields=request, _timeout=40)
    assert reply["message"] == "execute_app completed" and reply["data"]["uuid"] == call
    other = client.request("hangup", None, f"freeswitch.call.{call}", uuid="another")
    assert other["message"] == "-ERR No such channel!", "a uuid in the request counts"
    status = client.request("agent.status", None, f"freeswitch.call.{call}")
    assert status["success"] is True and "warnings" not in status
    copy = client.request("status", forward_to=f"freeswitch.call.{call}")
    assert copy["message"] == "forward_to must not be a command lane"


def test_order_is_kept_whichever_lane_commands_take(client: Client, call: str) -> None:
    lanes = ("freeswitch.api", f"freeswitch.call.{call}", "freeswitch.node.fs_node_01", "freeswitch.any",
             f"freeswitch.call.{call}", "freeswitch.api.fs_node_01")  # fmt: skip
    count = 600

    async def go() -> None:
        for number in range(count):
            args = f"{call} step_{number % 7} {number}"
            request = json.dumps({"command": "uuid_setvar", "args": args, "async": True}).encode()
            await client.nc.publish(lanes[number % len(lanes)], request)

    client.run(go())
    for name in range(7):
        last = max(number for number in range(count) if number % 7 == name)
        asked = client.request("uuid_getvar", f"{call} step_{name}", f"freeswitch.call.{call}", _timeout=30)
        assert asked["data"] == str(last)


def test_the_node_that_has_the_channel_takes_it_and_nobody_else(
    nats: NatsServer, own_switch: RealSwitch | SwitchSim, switch: Switch, start_agent: Callable[..., Agent],
    client: Client,
) -> None:  # fmt: skip
    start_agent(nats, switch, subject_prefix="two", node_id="one")
    start_agent(nats, own_switch, subject_prefix="two", node_id="other")
    for node in ("one", "other"):
        uuid = make(client, f"two.node.{node}")
        inbox = client.gather(f"test.two.{node}")
        client.publish(f"two.call.{uuid}", b'{"command":"hangup"}', reply=f"test.two.{node}")
        until(lambda inbox=inbox: inbox, "an answer")  # type: ignore[misc]
        client.request("status", None, "two.node.one")
        client.request("status", None, "two.node.other")
        assert [json.loads(each.data)["node_id"] for each in inbox] == [node]


def test_60_calls_after_a_restart_of_the_agent(
    nats: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Callable[..., Agent], client: Client
) -> None:
    agent = start_agent(nats, own_switch, subject_prefix="again", node_id="again")
    uuids = [make(client, "again.api") for _ in range(60)]
    assert all(there(client, uuid, "again") for uuid in uuids)
    agent.kill()
    ended = uuids[:10]
    other = start_agent(nats, own_switch, subject_prefix="other", node_id="other")
    for uuid in ended:
        assert client.request("hangup", None, "other.api", uuid=uuid, _timeout=20)["success"] is True
    other.stop()
    agent.start()
    until(lambda: all(there(client, uuid, "again") for uuid in uuids[10:]), "the calls have their lanes", 30)
    until(lambda: not any(there(client, uuid, "again") for uuid in ended), "those that ended meanwhile have none", 30)
    for uuid in uuids[10:]:
        client.request("hangup", None, f"again.call.{uuid}")
    until(lambda: held(client, "again.api") == 0, "none is left", 30)


def test_a_link_that_is_lost_and_a_broker_that_is_lost(
    own_nats: NatsServer, own_switch: RealSwitch | SwitchSim, start_agent: Callable[..., Agent],
    connect: Callable[..., Client],
) -> None:  # fmt: skip
    agent = start_agent(own_nats, own_switch)
    client = connect(own_nats.url)
    uuid = make(client)
    own_nats.kill()
    own_nats.start()
    agent.logged("NATS connected", 2, 60)

    def back() -> bool:
        with contextlib.suppress(Exception):  # nats-py is connecting, too
            return there(client, uuid)
        return False

    until(back, "the broker's new life has the lane", 60)
    own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
    agent.logged("FreeSWITCH is unreachable", 1, 60)
    reply = client.request("uuid_exists", uuid, f"freeswitch.call.{uuid}", _timeout=20)
    assert reply["message"] == "FreeSWITCH is not connected" and reply["executed"] == "no"
    own_switch.start()
    until(lambda: not there(client, uuid), "another FreeSWITCH does not have the channel", 60)


def test_without_them(
    nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], client: Client
) -> None:
    start_agent(nats, switch, subject_prefix="off", node_id="off", call_lanes="false")
    uuid = make(client, "off.api")
    assert not there(client, uuid, "off")
    assert "call_lanes" not in client.request("agent.status", None, "off.api")["data"]
    assert client.request("hangup", None, "off.api", uuid=uuid)["success"] is True


def test_an_agent_that_may_not_subscribe_to_them(
    switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client]
) -> None:
    """An account as it was before there were such lanes: one line in the log, and all else works."""
    config = """authorization { users = [
      { user: agent, password: a, permissions: {
          subscribe: ["freeswitch.api", "freeswitch.*.fs_node_01", "freeswitch.any freeswitch.any", "$SRV.>"]
          publish: ["freeswitch.events.>", "freeswitch.node.fs_node_01"]
          allow_responses: { max: 1, expires: "61m" } } }
      { user: client, password: c } ] }"""
    server = NatsServer(config=config).start()
    try:
        agent = start_agent(server, switch, url=f"nats://agent:a@127.0.0.1:{server.port}")
        client = connect(server.url, user="client", password="c")
        uuids = [make(client) for _ in range(5)]
        agent.logged("NATS refuses the lanes of calls: Permissions Violation")
        until(lambda: held(client) == 0, "said")
        for uuid in uuids:
            assert not there(client, uuid)
            assert client.request("hangup", uuid=uuid)["success"] is True
        assert len([line for line in agent.log.splitlines() if "WARNING" in line and "Permissions" in line]) == 1
        refused = client.request("agent.status")["data"]["nats"]["subscriptions_refused"]
        assert list(refused) == ["freeswitch.call.*"]
    finally:
        server.stop()


def test_once_the_agent_may_subscribe_to_them_they_are_there(
    switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client]
) -> None:
    """On the same link: permissions change while the server runs."""
    config = """authorization {{ users = [
      {{ user: agent, password: a, permissions: {{ subscribe: {{ allow: ">", deny: "{}" }}, publish: ">" }} }}
      {{ user: client, password: c }} ] }}"""
    server = NatsServer(config=config.format("freeswitch.call.>")).start()
    try:
        agent = start_agent(server, switch, url=f"nats://agent:a@127.0.0.1:{server.port}")
        client = connect(server.url, user="client", password="c")
        uuids = [make(client) for _ in range(3)]
        agent.logged("NATS refuses the lanes of calls: Permissions Violation")
        (server.folder / "conf").write_text(config.format("nothing"))
        server.signal(signal.SIGHUP)
        agent.logged("NATS server accepts the lanes of calls", timeout=60)
        assert client.request("agent.status")["data"]["nats"]["subscriptions_refused"] == {}
        for uuid in uuids:
            assert client.request("hangup", None, f"freeswitch.call.{uuid}")["success"] is True
        assert len(agent.logged("NATS connected")) == 1
    finally:
        server.stop()


def test_a_limit_to_subscriptions_costs_the_lanes_of_calls_only(
    switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client]
) -> None:
    server = NatsServer(config="max_subscriptions: 20\n").start()
    try:
        agent = start_agent(server, switch)
        client = connect(server.url)
        uuids = [make(client) for _ in range(14)]
        agent.logged("NATS refuses the lanes of calls: maximum subscriptions exceeded")
        for lane in ("freeswitch.any", "freeswitch.api", "freeswitch.node.fs_node_01"):
            assert client.request("version", None, lane)["success"] is True
        for uuid in uuids:
            assert client.request("hangup", uuid=uuid)["success"] is True
        assert len(agent.logged("NATS connected")) == 1
    finally:
        server.stop()
