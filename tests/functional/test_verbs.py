"""The command in the subject: `<prefix>.all.<command>`, `.any.…`, `.node.<id>.…`, `.call.<uuid>.…`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import nats.errors
import pytest

from event_agent.client import Client as OurClient
from event_agent.client import NoAgent
from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.test_call_lanes import make
from tests.functional.test_ctl import ctl
from tests.functional.test_monitoring import Listener
from tests.functional.test_subjects import Bare
from tests.support import free_port, until

NODE = "freeswitch.node.fs_node_01"


def ask(client: Client, subject: str, data: Any = b"") -> Any:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return json.loads(client.raw(subject, raw, 20).data)


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> NatsServer:
    """The module of that name is needed, too."""
    found: NatsServer = request.getfixturevalue("nats")
    return found


@pytest.fixture
def bare(broker: NatsServer) -> Iterator[Bare]:
    made = Bare(broker.port)
    yield made
    made.close()


def test_every_lane_takes_it(agent: Agent, client: Client) -> None:
    for lane in ("freeswitch.all", "freeswitch.any", NODE):
        assert ask(client, f"{lane}.status")["message"] == "API command executed"
        assert ask(client, f"{lane}.agent.status", {})["message"] == "Agent status"
        assert ask(client, f"{lane}.uuid_exists", {"args": "nobody", "correlation_id": 5})["data"] == "false"
        agreed = ask(client, f"{lane}.status", {"command": "status", "node_id": "fs-node-01"})
        assert agreed["success"] is True and "warnings" not in agreed
    status = ask(client, f"{NODE}.agent.status")["data"]
    assert status["lanes"] == {
        "all": "freeswitch.api", "node": NODE, "node_api": "freeswitch.api.fs_node_01", "any": "freeswitch.any",
        "all_verbs": "freeswitch.all.>", "node_verbs": f"{NODE}.>", "any_verbs": "freeswitch.any.>",
    }  # fmt: skip
    assert status["nats"]["subscriptions_refused"] == {}
    with pytest.raises(nats.errors.TimeoutError):
        client.raw("freeswitch.all.status", b'{"node_id":"another"}', 0.5)


def test_the_lane_of_a_call_takes_it(agent: Agent, client: Client) -> None:
    uuid, lane = (made := make(client)), f"freeswitch.call.{made}"
    assert ask(client, f"{lane}.uuid_exists", {"args": uuid})["data"] == "true"
    other = ask(client, f"{lane}.hangup", {"uuid": "another"})
    assert other["message"] == f"uuid must be absent, or '{uuid}' as in the subject" and other["success"] is False
    done = ask(client, f"{lane}.execute_app", {"app": "set", "args": "a=b", "uuid": uuid, "wait": 20})
    assert done["message"] == "execute_app completed"
    assert ask(client, f"{lane}.hangup", {"cause": "USER_BUSY"})["data"] == uuid

    def gone() -> bool:
        try:
            ask(client, f"{lane}.hangup")
        except nats.errors.NoRespondersError:
            return True
        return False

    until(gone, "NATS says that nobody has it")


def test_order_is_kept_whichever_lane_the_commands_of_a_call_take(agent: Agent, client: Client) -> None:
    uuid = make(client)
    lanes = ("freeswitch.api", f"freeswitch.call.{uuid}", "freeswitch.all.uuid_setvar", f"{NODE}.uuid_setvar",
             "freeswitch.any", f"freeswitch.call.{uuid}.uuid_setvar", "freeswitch.any.uuid_setvar")  # fmt: skip
    count = 700

    async def go() -> None:
        for number in range(count):
            request = {"command": "uuid_setvar", "args": f"{uuid} step_{number % 5} {number}", "async": True}
            await client.nc.publish(lanes[number % len(lanes)], json.dumps(request).encode())

    client.run(go())
    for name in range(5):
        last = max(number for number in range(count) if number % 5 == name)
        found = ask(client, f"freeswitch.call.{uuid}.uuid_getvar", {"args": f"{uuid} step_{name}"})
        assert found["data"] == str(last)
    ask(client, f"freeswitch.call.{uuid}.hangup")


def test_hostile_subjects_get_one_clear_error_each(agent: Agent, client: Client, bare: Bare) -> None:
    part = "The command in the subject must have no empty part, wildcard, or control character"
    long = "The command in the subject must have at most 255 characters"
    cases = [
        (b"any.\xff\xfe", "The command in the subject is not UTF-8"),
        (b"node.fs_node_01." + b"x" * 3500, long),
        (b"all." + b"a." * 1500 + b"a", long),
        (b"any.a*", part),
        (b"any.a\x01b", part),
        (b"any.no_such_verb", "-ERR no_such_verb Command not found!"),
        (b"any.status.more", "-ERR status.more Command not found!"),
        (b"any.hangup", "uuid must be between 2 and 63 characters"),
    ]

    def replies(inbox: bytes) -> int:
        bare.has(b"")  # reads on
        return bare.seen.count(b"MSG " + inbox + b" ")

    for number, (rest, message) in enumerate(cases):
        inbox = b"inbox.%d" % number
        bare.write(b"SUB %b %d\r\n" % (inbox, number))
        bare.request(b"freeswitch." + rest, inbox, b"{}")
        bare.request(b"freeswitch.node.fs_node_01.version", inbox, b"{}")
        until(lambda inbox=inbox: replies(inbox) == 2, "its reply, and the next one's")  # type: ignore[misc]
        line = bare.seen[bare.seen.index(b"MSG " + inbox) :].split(b"\r\n")[1]
        reply = json.loads(line)
        assert reply["success"] is False and message in reply["message"], (rest[:40], reply)
    for rest in (b"any..status", b"any.", b"node.fs_node_01.", b"call..hangup", b"node..status"):
        bare.request(b"freeswitch." + rest, b"inbox.none", b"{}")  # NATS itself hands these on to nobody
    bare.settle()
    assert ask(client, "freeswitch.any.status")["success"] is True
    assert "Traceback" not in agent.log and "unhandled" not in agent.log


def test_only_verbs(broker: NatsServer, switch: Switch, start_agent: Callable[..., Agent], client: Client) -> None:
    agent = start_agent(broker, switch, subject_prefix="only", node_id="status", lanes="verbs",
                        http_listen=f"127.0.0.1:{(listener := Listener(free_port())).port}")  # fmt: skip
    for lane in ("only.api", "only.any", "only.node.status", "only.api.status"):
        with pytest.raises(nats.errors.NoRespondersError):
            client.raw(lane, b'{"command":"version"}', 5)
    for subject in ("only.all.status", "only.any.status", "only.node.status.status"):
        assert ask(client, subject)["success"] is True
    made = ask(client, "only.any.originate", {"endpoint": "loopback/park/default", "destination": "&park"})
    uuid = made["data"]["uuid"]
    with pytest.raises(nats.errors.NoRespondersError):
        client.raw(f"only.call.{uuid}", b'{"command":"hangup"}', 5)
    assert ask(client, f"only.call.{uuid}.hangup")["success"] is True
    status = ask(client, "only.node.status.agent.status")["data"]
    assert set(status["lanes"]) == {"all_verbs", "node_verbs", "any_verbs"}
    until(lambda: listener.failing() == set(), "all is well")
    ours = OurClient(broker.url, prefix="only", verbs=True)
    with ours:
        assert ours.request("version")["success"] and ours.request("version", node="Status")["success"]
        assert [each["node_id"] for each in ours.gather("agent.status", expect=1)] == ["status"]
        with pytest.raises(ValueError, match="can't stand in a subject"):
            ours.request("two words")
    with OurClient(broker.url, prefix="only") as plain, pytest.raises(NoAgent):
        plain.request("version")
    done = ctl(broker.url, "--prefix", "only", "--verbs", "api", "status")
    assert done.returncode == 0 and "UP" in done.stdout, done
    assert ctl(broker.url, "--prefix", "only", "--verbs", "status").returncode == 0
    ask(client, "only.any.agent.drain", {"enabled": True})
    with pytest.raises(nats.errors.NoRespondersError):
        client.raw("only.any.status", b"", 5)
    agent.stop()


REFUSED = """authorization { users = [
  {user: agent, password: p, permissions: {publish: ">", subscribe: [%s]}}, {user: client, password: p} ] }
"""
PLAIN = '"freeswitch.api", "freeswitch.node.*", "freeswitch.api.*", "freeswitch.any freeswitch.any", "$SRV.>"'


@pytest.mark.parametrize("lanes", ["all", "verbs"])
def test_a_server_that_refuses_them(
    switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client], lanes: str
) -> None:
    """Permissions of the first edition: nothing is worse than it was, for who has not asked for them."""
    server = NatsServer(config=REFUSED % PLAIN).start()
    try:
        url, listener = f"nats://agent:p@127.0.0.1:{server.port}", Listener(free_port())
        agent = start_agent(
            server, switch, url=url, lanes=lanes, http_listen=f"127.0.0.1:{listener.port}", call_lanes="false",
        )  # fmt: skip
        agent.logged('Permissions Violation for Subscription to "freeswitch.any.>"')
        refused = {"freeswitch.all.>", f"{NODE}.>", "freeswitch.any.>"}
        until(lambda: listener.failing() == ({"subscriptions"} if lanes == "verbs" else set()), "what is needed")

        def metric() -> float:
            return listener.samples()["event_agent_nats_subscriptions_refused"]

        if lanes == "verbs":
            until(lambda: metric() == 3, "all three are refused", 15)
            said = listener.health()[1]["checks"]["subscriptions"]
            assert all(each in said for each in refused)
            return
        assert metric() == 0
        assert not [line for line in agent.log.splitlines() if "WARNING" in line and "NATS" in line], agent.log
        client = connect(f"nats://client:p@127.0.0.1:{server.port}")
        for lane in ("freeswitch.api", "freeswitch.any", NODE):
            assert client.request("version", None, lane)["success"] is True
        status = client.request("agent.status")["data"]
        assert status["nats"]["subscriptions_refused"] == {}
        assert set(status["lanes"]) == {"all", "node", "node_api", "any"}
    finally:
        server.stop()
