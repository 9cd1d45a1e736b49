"""execute_app with `wait`: the reply comes when the application has ended."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from event_agent.client.client import Client as OwnClient
from tests.functional.conftest import Switch
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import until

PARK = "loopback/park/default"


@pytest.fixture
def calls(agent: Agent, client: Client) -> Iterator[Callable[[], str]]:
    """Makes calls of which one leg is parked; gives their uuids."""
    made: list[str] = []

    def make() -> str:
        reply = client.request("originate", endpoint=PARK, destination="&park", _timeout=20)
        assert reply["success"] is True, reply
        made.append(reply["data"]["uuid"])
        return made[-1]

    yield make
    for uuid in made:
        client.request("uuid_kill", uuid)


@pytest.fixture
def call(calls: Callable[[], str]) -> str:
    return calls()


class Waiter:
    """A request that is waited for on a thread."""

    def __init__(self, client: Client, **fields: Any) -> None:
        self.reply: dict[str, Any] | None = None
        self._thread = threading.Thread(target=self._ask, args=(client, fields), name="test-waiter")
        self._thread.start()

    def _ask(self, client: Client, fields: dict[str, Any]) -> None:
        self.reply = client.request("execute_app", fields=fields, _timeout=50)

    def result(self) -> dict[str, Any]:
        self._thread.join(60)
        assert self.reply is not None
        return self.reply


def waiting(client: Client, subject: str = "freeswitch.api") -> int:
    return int(client.request("agent.status", None, subject)["data"]["applications_waiting"])


def test_the_reply_comes_when_it_has_ended(client: Client, call: str) -> None:
    events = client.events("freeswitch.events.channel.execute.complete")
    started = time.monotonic()
    reply = client.request("execute_app", uuid=call, app="playback", args="silence_stream://700", wait=30, _timeout=40)
    assert time.monotonic() - started > 0.6
    assert reply["success"] is True and reply["message"] == "execute_app completed"
    assert reply["data"] == {
        "uuid": call, "app": "playback", "application_uuid": reply["app_uuid"], "response": "FILE PLAYED",
        "variables": {}, "app_uuid": reply["app_uuid"],
    }  # fmt: skip
    assert len(events.wait("CHANNEL_EXECUTE_COMPLETE", Application_UUID=reply["app_uuid"])) == 1


def test_digits_are_one_request(client: Client, call: str) -> None:
    prompt = "silence_stream://50"
    waiter = Waiter(
        client, uuid=call, app="play_and_get_digits", args=f"4 4 1 30000 # {prompt} {prompt} pin \\d+", wait=40,
        result=["pin", "never_set"],
    )  # fmt: skip
    until(lambda: waiting(client) == 1, "it waits")
    for digit in "1234":
        assert client.request("uuid_recv_dtmf", f"{call} {digit}")["success"] is True
    reply = waiter.result()
    assert reply["success"] is True, reply
    assert reply["data"]["variables"] == {"pin": "1234", "never_set": None}
    nothing = client.request(
        "execute_app", uuid=call, app="play_and_get_digits", args=f"4 4 1 200 # {prompt} {prompt} pin \\d+",
        wait=30, result="pin", _timeout=40,
    )  # fmt: skip
    assert nothing["success"] is True and nothing["data"]["variables"] == {"pin": None}


@pytest.mark.parametrize("app", ["playback", "park", "hangup"])
def test_a_channel_that_ends_first(client: Client, call: str, app: str) -> None:
    """Applications that have no end of their own are answered then too."""
    args = {"playback": "silence_stream://-1", "park": "", "hangup": "USER_BUSY"}[app]
    waiter = Waiter(client, uuid=call, app=app, args=args, wait=45)
    if app == "park":  # sent by sendmsg it completes at once on FreeSWITCH
        until(lambda: waiter.reply or not client.request("uuid_kill", f"{call} USER_BUSY"), "answered")
        assert waiter.result()["message"] in ("execute_app completed", "Channel hung up: USER_BUSY")
        return
    if app == "playback":
        until(lambda: waiting(client) == 1, "it waits")
        client.request("uuid_kill", f"{call} USER_BUSY")
    reply = waiter.result()
    assert reply["success"] is False and reply["message"] == "Channel hung up: USER_BUSY", reply
    assert reply["cause"] == "USER_BUSY" and reply["app_uuid"]
    assert waiting(client) == 0


def test_not_in_time_and_the_application_goes_on(client: Client, call: str) -> None:
    events = client.events("freeswitch.events.channel.execute.complete")
    reply = client.request("execute_app", uuid=call, app="sleep", args="1500", wait=0.2, _timeout=20)
    assert reply["success"] is False and reply["message"] == "sleep has not ended within 0.2 seconds; it goes on"
    assert reply["executed"] == "unknown" and not events.named("CHANNEL_EXECUTE_COMPLETE", Unique_ID=call)
    events.wait("CHANNEL_EXECUTE_COMPLETE", Application_UUID=reply["app_uuid"])
    assert waiting(client) == 0


def test_breaks_and_transfers_end_it(client: Client, call: str) -> None:
    transfer = "uuid_transfer {} park XML default"
    # A transfer is noticed at the head of FreeSWITCH's loop or within it (switch_ivr_play_say.c, switch_ivr_play_file).
    for end, responses in (("uuid_break {} all", ["FILE PLAYED"]), (transfer, ["PLAYBACK ERROR", "FILE PLAYED"])):
        events = client.events("freeswitch.events.playback.start")
        waiter = Waiter(client, uuid=call, app="playback", args="silence_stream://30000", wait=40)
        events.wait("PLAYBACK_START", Unique_ID=call)
        verb, _, args = end.format(call).partition(" ")
        assert client.request(verb, args)["success"] is True
        reply = waiter.result()
        assert reply["success"] is True and reply["data"]["response"] in responses, (end, reply)


def test_what_is_refused_is_not_waited_for(client: Client, call: str) -> None:
    for fields, message in (
        ({"uuid": "no-such-uuid", "app": "sleep", "wait": 30}, "-ERR invalid session id [no-such-uuid]"),
        ({"uuid": call, "app": "no_such_app", "wait": 30}, "Unknown application: no_such_app"),
        ({"uuid": call, "app": "sleep", "wait": 0.05}, "wait must be between 0.1 and 3600"),
        ({"uuid": call, "app": "sleep", "wait": 3601}, "wait must be between 0.1 and 3600"),
        ({"uuid": call, "app": "sleep", "wait": True}, "wait must be between 0.1 and 3600"),
        ({"uuid": call, "app": "sleep", "wait": None}, "wait must be between 0.1 and 3600"),
        ({"uuid": call, "app": "sleep", "wait": "1e400"}, "wait must be between 0.1 and 3600"),
        ({"uuid": call, "app": "sleep", "result": ["a"]}, "result must come with wait"),
        ({"uuid": call, "app": "sleep", "wait": 1, "result": ["a"] * 65},
         "result must be a string or a list of 1 to 64 of them"),
        ({"uuid": call, "app": "sleep", "wait": 1, "result": ["a\nb"]}, "result must not contain line breaks or NUL"),
        ({"uuid": call, "app": "sleep", "wait": 1, "result": ["a" * 128]}, "result must be 127 characters or fewer"),
        ({"uuid": call, "app": "sleep", "wait": 1, "result": {}}, "result must be 127 characters or fewer"),
    ):  # fmt: skip
        reply = client.request("execute_app", fields=fields, _timeout=20)
        assert (reply["success"], reply["message"]) == (False, message)
    assert waiting(client) == 0


def test_forward_to_gets_the_end_and_nothing_waits_for_it(client: Client, call: str) -> None:
    forwarded, answers = client.gather("test.waiting.forward"), client.gather("test.waiting.reply")
    request = {
        "command": "execute_app", "uuid": call, "app": "sleep", "args": "300", "wait": 30, "async": True,
        "forward_to": "test.waiting.forward", "correlation_id": "w-1",
    }  # fmt: skip
    client.publish("freeswitch.api", json.dumps(request).encode(), reply="test.waiting.reply")
    until(lambda: forwarded, "the end of the application")
    reply = json.loads(forwarded[0].data)
    assert reply["message"] == "execute_app completed" and reply["correlation_id"] == "w-1" and not answers


def test_what_is_published_stays_the_same(
    nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], client: Client
) -> None:
    """The events that it needs are asked for when somebody waits for the first time; nobody else gets them."""
    start_agent(nats, switch, subject_prefix="few", node_id="few", include="CHANNEL_ANSWER,CHANNEL_DESTROY")
    events = client.events("few.events.channel.>")
    made = client.request("originate", None, "few.api", endpoint=PARK, destination="&park", _timeout=20)
    uuid = made["data"]["uuid"]
    sleep = {"uuid": uuid, "app": "sleep", "args": "50", "wait": 30}
    for _ in range(3):
        reply = client.request("execute_app", None, "few.api", fields=sleep, _timeout=40)
        assert reply["message"] == "execute_app completed"

    def kill() -> None:
        until(lambda: waiting(client, "few.api") == 1, "it waits")
        client.request("uuid_kill", uuid)  # carried out after what was sent before for the same channel

    waiter = threading.Thread(target=kill, name="test-killer")
    waiter.start()
    endless = {"uuid": uuid, "app": "playback", "args": "silence_stream://-1", "wait": 30}
    reply = client.request("execute_app", None, "few.api", fields=endless, _timeout=40)
    waiter.join()
    assert reply["message"] == "Channel hung up: NORMAL_CLEARING"
    events.wait("CHANNEL_DESTROY", Unique_ID=uuid)
    assert {each["event_name"] for each in events.parsed()} == {"CHANNEL_ANSWER", "CHANNEL_DESTROY"}


def test_1000_wait_and_hold_up_nothing(agent: Agent, client: Client, calls: Callable[[], str]) -> None:
    uuids = [calls() for _ in range(20)]
    before = agent.threads()
    many = 1000

    async def ask(number: int) -> dict[str, Any]:
        request = {
            "command": "execute_app", "uuid": uuids[number % len(uuids)], "app": "playback", "wait": 120,
            "args": "silence_stream://-1", "correlation_id": number,
        }  # fmt: skip
        message = await client.nc.request("freeswitch.api", json.dumps(request).encode(), timeout=120)
        found: dict[str, Any] = json.loads(message.data)
        return found

    async def all_of_them() -> list[dict[str, Any]]:
        return await asyncio.gather(*map(ask, range(many)))

    asked = client.begin(all_of_them())
    until(lambda: waiting(client) == many, "all wait", 60)
    for _ in range(20):
        assert client.request("status", _timeout=20)["success"] is True
    assert len(agent.threads()) <= len(before) + 20, "no thread waits for one"  # a busy machine takes some workers
    for uuid in uuids:
        assert client.request("uuid_kill", f"{uuid} CALL_REJECTED", _timeout=20)["success"] is True
    replies = asked.result(120)
    assert [reply["correlation_id"] for reply in replies] == list(range(many))
    assert {reply["message"] for reply in replies} == {"Channel hung up: CALL_REJECTED"}
    assert waiting(client) == 0


def test_the_end_of_the_agent_and_of_its_link(
    nats: NatsServer, own_switch: Any, start_agent: Callable[..., Agent], client: Client
) -> None:
    agent = start_agent(nats, own_switch, subject_prefix="ends", node_id="ends")
    events = client.events("ends.events.channel.execute")

    def wait_for(what: Callable[[], object]) -> dict[str, Any]:
        made = client.request("originate", None, "ends.api", endpoint=PARK, destination="&park", _timeout=20)
        inbox = client.gather(f"test.ends.{what.__name__}")
        uuid = made["data"]["uuid"]
        request = {"command": "execute_app", "uuid": uuid, "app": "sleep", "args": "60000", "wait": 60}
        client.publish("ends.api", json.dumps(request).encode(), reply=f"test.ends.{what.__name__}")
        events.wait("CHANNEL_EXECUTE", Unique_ID=uuid, Application="sleep")
        assert waiting(client, "ends.api") == 1
        what()
        until(lambda: inbox, "an answer", 20)
        found: dict[str, Any] = json.loads(inbox[0].data)
        return found

    def restart() -> None:
        own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
        own_switch.start()

    reply = wait_for(restart)
    assert reply["message"] == "the link to FreeSWITCH is lost, and with it the end of the application"
    assert reply["executed"] == "unknown"
    agent.logged("FreeSWITCH events: subscribed", 2, 60)
    agent.logged("FreeSWITCH connected", 2, 60)
    assert wait_for(agent.stop)["message"] == "event-agent is stopping; the application goes on"


def test_our_own_client_and_tool(agent: Agent, nats: NatsServer, call: str) -> None:
    with OwnClient(nats.url) as own:
        reply = own.request("execute_app", fields={"uuid": call, "app": "sleep", "args": "200", "wait": 30})
        assert reply["message"] == "execute_app completed"
    tool = [sys.executable, "-m", "event_agent.ctl", "--url", nats.url, "app", "--wait", "30"]
    argv = [*tool, "--result", "current_application", "--result", "nope", call, "sleep", "200"]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done
    assert done.stdout == "FS-Node-01: execute_app completed\ncurrent_application=sleep\n"
