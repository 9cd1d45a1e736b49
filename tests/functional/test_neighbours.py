"""A verb that hangs takes nobody with it, and a failure says whether the command may be carried out.

FreeSWITCH runs the `api` commands of a connection one after the other, and carries out whatever it has received on it.
All of this is tried with commands of other clients beside one that hangs: `eval ${msleep(…)}`, which no list knows to
be slow.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest

from tests.functional import real_switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import until

pytestmark = pytest.mark.skipif(real_switch.binary() is None, reason="the simulator runs each api on its own thread")

CALL = "loopback/park/default"


@pytest.fixture(scope="module")
def full_switch() -> Iterator[RealSwitch]:
    """A FreeSWITCH with conferences."""
    with RealSwitch(modules=("mod_conference",)) as found:
        yield found


@pytest.fixture
def agents(nats: NatsServer, full_switch: RealSwitch) -> Iterator[Callable[..., Agent]]:
    """Starts agents; each is ended after the test, and with it what it knows of verbs."""
    started: list[Agent] = []

    def start(**settings: str) -> Agent:
        links = {"url": nats.url, "esl_port": str(full_switch.port), "esl_password": full_switch.password}
        started.append(Agent(**(links | settings)))
        return started[-1].start()

    yield start
    for each in started:
        each.remove()


class Clients:
    """Requests that are under way beside each other, and when each was answered."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._pool = ThreadPoolExecutor(400)

    def ask(self, command: str, args: str | None = None, **fields: Any) -> Future[tuple[Any, float]]:
        """A reply and the seconds it took, to come."""

        def go() -> tuple[Any, float]:
            began = time.monotonic()
            reply = self._client.request(command, args, _timeout=60, **fields)
            return reply, time.monotonic() - began

        return self._pool.submit(go)

    def close(self) -> None:
        self._pool.shutdown()


@pytest.fixture
def clients(client: Client) -> Iterator[Clients]:
    found = Clients(client)
    yield found
    found.close()


def hang(clients: Clients, seconds: float) -> Future[tuple[Any, float]]:
    return clients.ask("eval", f"${{msleep({int(seconds * 1000)})}}")


def prime(client: Client, *commands: tuple[str, str]) -> None:
    """Have verbs prove to be quick."""
    for command, args in commands:
        client.request(command, args)


# -- calls


def test_a_call_that_is_answered_while_another_verb_hangs(
    agents: Callable[..., Agent], clients: Clients, client: Client
) -> None:
    agents()
    prime(client, ("eval", "${strftime(%Y)}"))
    call = clients.ask("originate", endpoint="loopback/late1000/default", destination="&park")
    time.sleep(0.75)  # a point in the middle of its ringing
    hanging = hang(clients, 4)
    reply, took = call.result()
    assert reply["success"] and reply["message"] == "Call originated successfully", reply
    assert took < 2 and not hanging.done(), "at once, although the other verb still hangs"
    assert hanging.result()[0]["success"]


@pytest.mark.parametrize(
    "verb", [("eval", "${msleep(9000)}"), ("expand", "msleep 9000"), ("expand", "eval ${msleep(9000)}")]
)
def test_a_call_behind_a_verb_that_hangs(
    agents: Callable[..., Agent], clients: Clients, client: Client, verb: tuple[str, str]
) -> None:
    agents(command_timeout="5")
    prime(client, ("eval", "${strftime(%Y)}"), ("expand", "echo 1"), ("expand", "eval ${strftime(%Y)}"))
    uuid = str(uuid4())
    hanging = clients.ask(*verb)
    time.sleep(0.1)  # the request of another client, 0.1 s behind it
    reply, took = clients.ask("originate", endpoint=CALL, destination="&park", uuid=uuid).result()
    assert reply["success"] and took < 1
    late, took = hanging.result()
    assert not late["success"] and late["message"] == "Command timed out after 5 seconds" and 4.9 < took < 6
    assert late["executed"] == "unknown"
    assert client.request("hangup", uuid=uuid)["success"]


def test_what_is_answered_no_is_not_carried_out(agents: Callable[..., Agent], clients: Clients, client: Client) -> None:
    """FreeSWITCH is stopped for longer than the commands' time: those that it has received run when it goes on."""
    with RealSwitch() as switch:
        agents(command_timeout="2", esl_port=str(switch.port))
        prime(client, ("global_setvar", "primed=1"))
        mark = uuid4().hex
        assert switch.process is not None
        os.kill(switch.process.pid, signal.SIGSTOP)
        try:
            asked = {f"v{number}_{mark}": clients.ask("global_setvar", f"v{number}_{mark}=1") for number in range(300)}
            slow = {f"s{number}_{mark}": clients.ask("fsctl", "status") for number in range(12)}
            replies = {name: future.result()[0] for name, future in (asked | slow).items()}
        finally:
            os.kill(switch.process.pid, signal.SIGCONT)
        told = {name: reply.get("executed") for name, reply in replies.items() if not reply["success"]}
        assert set(told) == set(replies) and set(told.values()) == {"no", "unknown"}, "each says one of the two"
        until(lambda: client.request("status")["success"], "it goes on")
        never = [name for name, executed in told.items() if executed == "no" and name in asked]
        assert never and not [name for name in never if client.request("global_getvar", name)["data"]]


# -- those beside it


def test_a_verb_that_hangs_again_and_again_takes_nobody_with_it(
    agents: Callable[..., Agent], clients: Clients, client: Client
) -> None:
    """A poll each second of something that takes 40: `status` and calls beside it."""
    agents()
    prime(client, ("eval", "${strftime(%Y)}"), ("status", ""))
    over = threading.Event()

    def poll() -> None:
        while not over.wait(1.0):
            client.publish("freeswitch.api", b'{"command":"eval","args":"${msleep(40000)}","async":true}')

    thread = threading.Thread(target=poll)
    thread.start()
    asked: list[Future[tuple[Any, float]]] = []
    calls: list[Future[tuple[Any, float]]] = []
    try:
        began = time.monotonic()
        while time.monotonic() - began < 20:
            asked.append(clients.ask("status"))
            if len(asked) % 25 == 0:
                calls.append(clients.ask("originate", endpoint=CALL, destination="&hangup"))
            time.sleep(0.02)  # the load's pace
        answers = [future.result() for future in asked]
        outcomes = [future.result() for future in calls]
    finally:
        over.set()
        thread.join()
    assert len(answers) > 500 and all(reply["success"] for reply, _ in answers)
    assert sorted(took for _, took in answers)[-1] < 1, "none waited for what hangs"
    assert all(reply["success"] for reply, _ in outcomes) and max(took for _, took in outcomes) < 2


def test_a_database_that_is_locked_holds_up_only_what_asks_it(
    agents: Callable[..., Agent], clients: Clients, client: Client, full_switch: RealSwitch
) -> None:
    agents(command_timeout="10")
    prime(client, ("show", "channels"), ("show", "channels"), ("global_setvar", "x=1"), ("status", ""))
    with sqlite3.connect(full_switch.folder / "db" / "core.db", isolation_level=None) as database:
        database.execute("BEGIN EXCLUSIVE")
        shows = [clients.ask("show", "channels") for _ in range(3)]
        others = [
            clients.ask(*command)
            for _ in range(10)
            for command in (("status",), ("global_setvar", "x=2"), ("uuid_exists", "nope"))
        ]
        call = clients.ask("originate", endpoint=CALL, destination="&park")
        answers = [future.result() for future in (*others, call)]
        assert all(reply["success"] for reply, _ in answers), [reply for reply, _ in answers if not reply["success"]]
        assert max(took for _, took in answers) < 1 and not any(show.done() for show in shows)
        database.execute("ROLLBACK")
    assert all(show.result()[0]["success"] for show in shows)
    assert client.request("hangup", uuid=call.result()[0]["data"]["uuid"])["success"]


def test_no_verb_takes_all_workers(agents: Callable[..., Agent], clients: Clients, client: Client) -> None:
    agents()
    prime(client, ("conference", "c0 dial loopback/late400/default"))  # it is known to be slow
    dials = [clients.ask("conference", f"c{number} dial loopback/late6000/default") for number in range(9)]
    until(lambda: int(client.request("show", "channels count")["data"].split()[0]) >= 16, "eight of them ring")
    for command, args in (("reloadxml", ""), ("fsctl", "loglevel"), ("conference", "list"), ("lua", "~x=1")):
        _, took = clients.ask(command, args).result()
        assert took < 3, f"{command} {args} waited {took:.1f} s"
    assert not any(dial.done() for dial in dials)
    outcomes = [dial.result() for dial in dials]
    assert all(reply["success"] for reply, _ in outcomes), outcomes


def test_replies_hold_against_the_schema(agents: Callable[..., Agent], clients: Clients, client: Client) -> None:
    """An error of FreeSWITCH's own has no `executed`; one that was never sent says `no`."""
    agents(command_timeout="1", workers="1")
    assert "executed" not in client.request("uuid_kill", "nope")
    assert "executed" not in client.request("hangup", uuid="n\nope")
    asked = [clients.ask("msleep", "3000") for _ in range(4)]
    replies = sorted((future.result()[0] for future in asked), key=lambda reply: str(reply["message"]))
    assert [reply["executed"] for reply in replies] == ["unknown", "unknown", "no", "no"], json.dumps(replies)
    assert replies[3]["message"] == "Command timed out after 1 seconds: no worker was free"
