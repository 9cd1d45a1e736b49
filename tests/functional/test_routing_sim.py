"""A program decides over calls: from mod_xml_curl's question by NATS to what FreeSWITCH is told, and what goes wrong.

mod_xml_curl's part is played here; with a real FreeSWITCH and SIP callers it is done in test_routing.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from event_agent_client import RouteRequest, sync
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.functional.route_parts import Program, asked, on_threads
from tests.support import free_port, until
from tests.switchsim import SwitchSim

Start = Callable[..., Agent]
MARK = ("set", "event_agent_routed=true")


class House:
    """An agent with routing on, and its listener's port."""

    def __init__(self, start: Start, nats: NatsServer, sim: SwitchSim, client: Client) -> None:
        self._start, self._nats, self._sim = start, nats, sim
        self.client = client
        self.port = free_port()
        self.agent: Agent

    def agent_of(self, **settings: str) -> Agent:
        self.agent = self._start(self._nats, self._sim, http_listen=f"127.0.0.1:{self.port}", **settings)
        return self.agent

    def route(self, **fields: Any) -> dict[str, Any]:
        reply = self.client.request("dialplan.route", fields=fields)
        assert reply["success"], reply
        return dict(reply)

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.request("dialplan.status")["data"]["route"]
        return found

    def ask(self, number: str = "7000", **more: Any) -> list[tuple[str, str]]:
        return asked(self.port, f"uuid-{number}", number, **more)


@pytest.fixture
def sim() -> Iterator[SwitchSim]:
    with SwitchSim() as found:
        yield found


@pytest.fixture
def house(start_agent: Start, nats: NatsServer, sim: SwitchSim, client: Client) -> House:
    return House(start_agent, nats, sim, client)


def test_each_action(house: House, client: Client) -> None:
    house.agent_of()
    answers: dict[str, Any] = {
        "1": {"action": "transfer", "extension": "1001", "context": "default"},
        "2": {"action": "hangup", "cause": "CALL_REJECTED"},
        "3": {"action": "apps", "apps": [{"app": "answer"}, {"app": "playback", "args": "a 'b' \\ c"}]},
        "4": {"action": "dialplan"},
        "5": {"action": "park"},
        "6": {"action": "apps", "apps": [{"app": "set", "args": "a=${uuid}"}], "expand": True},
    }
    program = Program(client, lambda call: answers[call["destination"]])
    reply = house.route(variables=["sip_from_host", "nothing"])
    assert reply["message"] == "Routing enabled" and reply["subject"] == "freeswitch.route" and "warnings" not in reply
    assert house.ask("1", variable_sip_from_host="pbx.example", **{"Caller-Caller-ID-Name": 'Eve "${x}"\n'}) == [
        MARK, ("transfer", "1001 XML default")
    ]  # fmt: skip
    assert program.calls == [{
        "node_id": "FS-Node-01", "uuid": "uuid-1", "direction": "inbound", "caller_id_name": 'Eve "${x}"\n',
        "caller_id_number": "", "destination": "1", "context": "default", "network_addr": "",
        "variables": {"sip_from_host": "pbx.example"},
    }]  # fmt: skip
    assert house.ask("2") == [MARK, ("hangup", "CALL_REJECTED")]
    assert house.ask("3") == [MARK, ("answer", ""), ("playback", "a 'b' \\\\ c")]
    assert house.ask("4") == []
    assert [each[0] for each in house.ask("5")] == ["set", "set", "set", "pre_answer", "park"]
    assert house.ask("6") == [MARK, ("set", "a=${uuid}")]
    found = house.status()
    assert found["decisions"] == {"park": 1, "dialplan": 1, "transfer": 1, "hangup": 1, "apps": 2}
    assert found["calls_asked"] == 6 and found["calls_waiting"] == 0 and not any(found["fallbacks"].values())
    assert found["latency_ms"]["answers"] == 6 and 0 < found["latency_ms"]["median"] <= found["latency_ms"]["p99"]
    program.close()


def test_which_calls_are_asked_about(house: House, client: Client) -> None:
    house.agent_of()
    program = Program(client, lambda _: {"action": "transfer", "extension": "1"})
    house.route(context=["default"], number="^7", **{"except": ["7112", "79*"]})
    for number, more in (
        ("8000", {}), ("7112", {}), ("7112#", {}), ("7900", {}), ("7000", {"Hunt-Context": "public"}),
        ("7000", {"Call-Direction": "outbound"}), ("7000", {"Answer-State": "answered"}),
        ("7000", {"variable_sip_req_uri": "nobody@service:sos"}), ("7000", {"variable_event_agent_routed": "true"}),
        ("7000", {"variable_event_agent_parked": "1"}), ("7000", {"Unique-ID": "a b"}),
    ):  # fmt: skip
        assert house.ask(number, **more) == []
    assert program.calls == []
    # Park mode takes what is not routed, and not what is.
    client.request("dialplan.enable", number="^[78]")
    assert house.ask("8000")[-1] == ("park", "") and house.ask("7000") == [MARK, ("transfer", "1")]
    assert house.ask("7000", variable_event_agent_routed="true") == []
    # A number that is never parked is never routed either, with park mode off as well.
    client.request("dialplan.enable", fields={"number": "^[78]", "except": ["7001"]})
    client.request("dialplan.disable")
    assert house.ask("7001") == [] and len(program.calls) == 1
    client.request("dialplan.enable", number="^[78]")
    assert client.request("dialplan.route", enabled=False)["message"] == "Routing disabled"
    assert house.ask("7000")[-1] == ("park", "") and len(program.calls) == 1
    program.close()


DEEP = b'{"action":' + b"[" * 30_000 + b"]" * 30_000 + b"}"
APPS: dict[str, Any] = {"action": "apps"}
HOSTILE: tuple[tuple[Any, str], ...] = (
    (b"", "not JSON"), (b"\x00\xff\xfe", "not JSON"), (b"[]", "no JSON object"), (b"null", "no JSON object"),
    (DEEP, "not JSON"), (b"x" * 1_000_000, "it has 1000000 bytes; 65536 are allowed"),
    ({}, "action must be"), ({"action": ["park"]}, "action must be"), ({"action": "PARK"}, "action must be"),
    ({"action": "transfer"}, "extension must be"), ({"action": "transfer", "extension": 5}, "extension must be"),
    ({"action": "transfer", "extension": "1 inline x"}, "white space"),
    ({"action": "transfer", "extension": "1\napi status"}, "line breaks"),
    ({"action": "transfer", "extension": "${system touch /tmp/x}"}, "white space"),
    ({"action": "transfer", "extension": "${uuid}"}, "white space"),
    ({"action": "transfer", "extension": "-both"}, "must not begin with"),
    ({"action": "transfer", "extension": "^^:1:2"}, "must not begin with"),
    ({"action": "transfer", "extension": "%[a=b]1"}, "must not begin with"),
    ({"action": "transfer", "extension": "1", "context": "a'b"}, "quotes"),
    ({"action": "transfer", "extension": "1", "dialplan": "LUA", "context": "x.lua"}, "Dialplan 'lua' is denied"),
    ({"action": "transfer", "extension": "system:true", "dialplan": "inline"}, "'system' is denied"),
    ({"action": "hangup", "cause": "A\nB"}, "line breaks"), ({"action": "hangup", "cause": 16}, "cause must be"),
    (APPS, "apps must be a list"), (APPS | {"apps": []}, "1 to 64"), (APPS | {"apps": {}}, "apps must be a list"),
    (APPS | {"apps": [{"app": "answer"}] * 65}, "1 to 64"), (APPS | {"apps": [{"app": "log"}] * 3_000}, "to 64"),
    (APPS | {"apps": [{"app": "answer"}] * 10_000}, "are allowed"), (APPS | {"apps": ["answer"]}, "no object"),
    (APPS | {"apps": [{"app": "an swer"}]}, "the name of an app"), (APPS | {"apps": [{"args": "x"}]}, "app must be"),
    (APPS | {"apps": [{"app": "answer"}, {"app": "playback", "args": 5}]}, "entry number 2: args must be"),
    (APPS | {"apps": [{"app": "set", "args": "a=b\nc"}]}, "line breaks"),
    (APPS | {"apps": [{"app": "set", "args": "a=\ud800"}]}, "no Unicode text"),
    (APPS | {"apps": [{"app": "set", "args": "a=${system(touch /tmp/x)}"}]}, "expand"),
    (APPS | {"apps": [{"app": "set", "args": "a=$\\'{system(touch /tmp/x)}"}]}, "can't hold"),
    (APPS | {"apps": [{"app": "set", "args": "a=$${domain}"}]}, "$${"),
    (APPS | {"apps": [{"app": "set", "args": "a=\\'"}]}, "leaves the application out"),
    (APPS | {"apps": [{"app": "set", "args": "a=\\'"}], "expand": True}, "leaves the application out"),
    (APPS | {"apps": [{"app": "set", "args": "a=$${domain}"}], "expand": True}, "$${"),
    (APPS | {"apps": [{"app": "set", "args": "a=${system(true)}"}], "expand": True}, "'system' is denied"),
    (APPS | {"apps": [{"app": "playback", "args": "%[x=y]tone_stream://1"}]}, "expand"),
    (APPS | {"apps": [{"app": "answer"}], "expand": "yes"}, "expand must be"),
    (APPS | {"apps": [{"app": "answer"}, {"app": "SYSTEM", "args": "true"}]}, "Application 'SYSTEM' is denied"),
    (APPS | {"apps": [{"app": "set", "args": "api_hangup_hook=system true"}]}, "'system' is denied"),
    (APPS | {"apps": [{"app": "execute_extension", "args": "system:true inline"}]}, "'system' is denied"),
    (APPS | {"apps": [{"app": "no_such_application"}]}, "Unknown application: no_such_application"),
)  # fmt: skip


def test_hostile_answers_take_the_fallback(house: House, client: Client) -> None:
    agent = house.agent_of(app_denylist="system", api_denylist="system")
    until(lambda: client.request("execute_app", uuid="x", app="no_such_application")["message"], "apps are known",
          holds=lambda found: found.startswith("Unknown application"))  # fmt: skip
    answers = iter([answer for answer, _ in HOSTILE])
    program = Program(client, lambda _: next(answers))
    house.route(fallback="park", timeout=5)
    for number, (answer, why) in enumerate(HOSTILE, 1):
        assert house.ask()[-1] == ("park", ""), answer
        found = house.status()
        assert found["fallbacks"]["invalid"] == number and why in found["last_fallback"], (found, answer)
    assert sum(house.status()["fallbacks"].values()) == len(HOSTILE) and not any(house.status()["decisions"].values())
    assert len(agent.logged("dialplan.route: an answer is not valid: it is not JSON; so far 1 calls took")) == 1
    assert agent.log.count("an answer is not valid") == 1  # one line a minute
    assert client.request("status")["success"]
    program.close()


def test_no_program_one_that_is_late_and_two(house: House, client: Client) -> None:
    agent = house.agent_of()
    house.route(timeout=5)
    assert house.ask() == []
    assert house.status()["fallbacks"]["no_responders"] == 1
    agent.logged("dialplan.route: no program listens on freeswitch.route; so far 1 calls took the fallback")

    slow = Program(client, lambda _: {"action": "hangup"}, seconds=1.0)
    reply = house.route(timeout=0.1, fallback="park")
    assert "warnings" not in reply and house.ask()[-1] == ("park", "")
    until(lambda: house.status()["answers_ignored"]["late"] == 1, "its answer came too late", 20)
    assert house.status()["fallbacks"]["late"] == 1
    agent.logged("dialplan.route: no answer came from freeswitch.route within 0.1 s")
    agent.logged("1 answers to requests of ours were ignored: they came too late")
    slow.close()

    both = [Program(client, lambda _: {"action": "hangup"}, queue=queue) for queue in ("a", "b")]
    (warning,) = house.route(timeout=5)["warnings"]
    assert "in xml_curl.conf.xml the binding's timeout must be 6 or more" in warning
    assert house.ask() == [MARK, ("hangup", "NORMAL_CLEARING")]
    until(lambda: house.status()["answers_ignored"]["second"] == 1, "the other's answer is ignored", 20)
    agent.logged("1 answers to requests of ours were ignored: there was one before")
    for each in both:
        each.close()


def test_programs_share_the_work(house: House, client: Client) -> None:
    house.agent_of()
    programs = [
        Program(client, lambda call: {"action": "transfer", "extension": call["destination"]}) for _ in range(3)
    ]
    house.route(timeout=5, subject="my.routers")
    assert house.ask() == [] and house.status()["subject"] == "my.routers"
    house.route(timeout=5)
    numbers = [str(7000 + each) for each in range(60)]
    found = on_threads([lambda number=number: house.ask(number) for number in numbers])  # type: ignore[misc]
    assert found == [[MARK, ("transfer", number)] for number in numbers]
    assert sorted(call["destination"] for program in programs for call in program.calls) == numbers
    assert house.status()["decisions"]["transfer"] == 60
    for program in programs:
        program.close()


def test_the_program_of_the_document_and_one_with_our_own_client(house: House, nats: NatsServer) -> None:
    house.agent_of()
    house.route(timeout=5)
    text = (ROOT / "docs" / "DIALPLAN.md").read_text(encoding="utf-8").partition("## A program decides")[2]
    source = text.partition("```python\n")[2].partition("```")[0].replace("nats://127.0.0.1:4222", nats.url)
    with subprocess.Popen([sys.executable, "-c", source]) as process:
        try:
            until(house.ask, "it decides", 30, holds=lambda found: found == [MARK, ("transfer", "sales XML default")])
            caller = {"Caller-Caller-ID-Number": "09001234"}
            assert house.ask(**caller) == [MARK, ("hangup", "CALL_REJECTED")]
        finally:
            process.kill()
    with sync.connect(nats.url) as client:

        @client.route("default", "^7", exceptions="7112", timeout=5, variables=["a"])
        def decide(call: RouteRequest) -> Mapping[str, Any]:
            return call.transfer(f"{call.destination}{call.variables['a']}")

        until(lambda: house.ask(variable_a="x"), "it decides", 30,
              holds=lambda found: found == [MARK, ("transfer", "7000x")])  # fmt: skip
        assert house.ask("7112") == [] and house.status()["except"] == ["7112"]


def request_of(number: int) -> bytes:
    body = f"section=dialplan&Unique-ID=u{number}&Hunt-Context=default&Hunt-Destination-Number=7000".encode()
    return b"POST /dialplan HTTP/1.1\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def test_five_hundred_calls_wait_and_nothing_else_does(house: House, client: Client) -> None:
    agent = house.agent_of()
    dead = Program(client, lambda _: None)
    house.route(timeout=5)

    def health() -> int:
        probe = http.client.HTTPConnection("127.0.0.1", house.port, timeout=20)
        probe.request("GET", "/health")
        answer = probe.getresponse()
        answer.read()
        probe.close()
        return answer.status

    with contextlib.ExitStack() as stack:
        calls = []
        for number in range(600):  # as FreeSWITCH does it: a connection, and its request at once
            calls.append(stack.enter_context(socket.create_connection(("127.0.0.1", house.port), 20)))
            calls[-1].sendall(request_of(number))
        until(lambda: house.status()["calls_waiting"], "512 wait", 20, holds=lambda found: found == 512)
        times = []
        for _ in range(10):
            began = time.monotonic()
            assert health() == 200
            times.append((time.monotonic() - began) * 1000)
        found = house.status()
        print(f"\n/health took {sorted(times)[5]:.1f} ms with {found['calls_waiting']} calls waiting")
        assert found["calls_waiting"] == 512 and found["fallbacks"]["too_many"] == 88
        answers = [call.recv(65536) for call in calls]
        assert all(b"not found" in answer for answer in answers)
        # Kept alive, the connections are more than the listener keeps: it closes the oldest, and takes new ones.
        assert health() == 200
    assert house.status()["fallbacks"] | {"late": 512, "too_many": 88} == house.status()["fallbacks"]
    assert house.status()["calls_waiting"] == 0
    agent.logged("dialplan.route: too many calls wait for an answer")
    dead.close()


def test_freeswitch_gives_up_first(house: House, client: Client) -> None:
    agent = house.agent_of()
    slow = Program(client, lambda _: {"action": "park"}, seconds=0.5)
    house.route(timeout=5)
    with socket.create_connection(("127.0.0.1", house.port), 20) as call:
        call.sendall(request_of(1))
        until(lambda: slow.calls, "the program has it", 20)
    until(lambda: house.status()["fallbacks"]["gave_up"] == 1, "it is counted", 20)
    assert client.request("dialplan.status")["data"]["calls_intercepted"] == 0
    agent.logged("dialplan.route: FreeSWITCH gave up waiting before 5 s: raise the timeout in xml_curl.conf.xml")
    slow.close()


def test_routing_outlasts_the_agent(house: House, client: Client, tmp_path: Path) -> None:
    program = Program(client, lambda _: {"action": "transfer", "extension": "1"})
    agent = house.agent_of(state_dir=str(tmp_path))
    house.route(context="default", timeout=5, variables=["a"], fallback="park", **{"except": ["112"]})
    before = house.status()
    agent.kill()
    house.agent_of(state_dir=str(tmp_path))
    assert house.status() == before
    until(lambda: house.ask(), "it is routed", 20, holds=lambda found: found == [MARK, ("transfer", "1")])
    assert house.ask("112") == []
    # An agent without routing reads the file, too, and one with it a file without.
    state = tmp_path / "dialplan.json"
    saved = json.loads(state.read_text())
    assert saved["version"] == 1 and saved.pop("route")["fallback"] == "park"
    house.agent.kill()
    state.write_text(json.dumps(saved))
    house.agent_of(state_dir=str(tmp_path))
    assert house.status()["enabled"] is False
    program.close()


def test_the_broker_is_away_and_comes_back(house: House, own_nats: NatsServer, start_agent: Start,
                                           sim: SwitchSim) -> None:  # fmt: skip
    agent = start_agent(own_nats, sim, http_listen=f"127.0.0.1:{house.port}")
    client = Client(own_nats.url)
    program = Program(client, lambda _: {"action": "transfer", "extension": "1"})
    assert client.request("dialplan.route", timeout=5, fallback="park")["success"]
    assert house.ask() == [MARK, ("transfer", "1")]
    own_nats.kill()
    agent.logged("NATS lost")
    assert house.ask()[-1] == ("park", "")
    agent.logged("dialplan.route: NATS is not connected")
    own_nats.start()
    agent.logged("NATS connected", 2)
    until(lambda: house.ask(), "routed again", 20, holds=lambda found: found == [MARK, ("transfer", "1")])
    program.close()
    client.close()


@contextlib.contextmanager
def broker(*options: str, config: str = "") -> Iterator[NatsServer]:
    server = NatsServer(*options, config=config)
    try:
        yield server.start()
    finally:
        server.stop()


def test_the_answer_of_a_stream_is_none(house: House, start_agent: Start, sim: SwitchSim, tmp_path: Path) -> None:
    with broker("-js", "-sd", str(tmp_path)) as server:
        client = Client(server.url)
        client.raw("$JS.API.STREAM.CREATE.all", json.dumps({"name": "all", "subjects": ["freeswitch.route"]}).encode())
        start_agent(server, sim, http_listen=f"127.0.0.1:{house.port}")
        program = Program(client, lambda _: {"action": "transfer", "extension": "1"}, seconds=0.3)
        until(lambda: client.request("dialplan.route", timeout=5).get("success"), "routing is on", 20)
        assert house.ask() == [MARK, ("transfer", "1")]
        program.close()
        client.close()


PERMISSIONS = """
authorization {
  users = [
    { user: agent, password: x, permissions: {
        publish: %s, subscribe: %s, allow_responses: { max: 1, expires: "1m" } } }
    { user: other, password: x }
  ]
}
"""


@pytest.mark.parametrize(
    ("publish", "subscribe"),
    [('["freeswitch.events.>"]', '["freeswitch.api", "_INBOX.fs_node_01.>"]'),
     ('["freeswitch.events.>", "freeswitch.route"]', '["freeswitch.api"]')],
    ids=["may not ask", "may not hear"],
)  # fmt: skip
def test_a_server_that_does_not_allow_it(
    house: House, start_agent: Start, sim: SwitchSim, publish: str, subscribe: str
) -> None:
    with broker(config=PERMISSIONS % (publish, subscribe)) as server:
        agent = start_agent(server, sim, url=server.url.replace("//", "//agent:x@"), discovery="false",
                            call_lanes="false", http_listen=f"127.0.0.1:{house.port}")  # fmt: skip
        client = Client(server.url.replace("//", "//other:x@"))
        program = Program(client, lambda _: {"action": "transfer", "extension": "1"})
        assert client.request("dialplan.route", timeout=5, fallback="park")["success"]
        house.client = client
        until(lambda: (house.ask(), house.status()["fallbacks"]["refused"])[1], "it is refused", 20)
        agent.logged("dialplan.route: the NATS server does not let the agent ask on freeswitch.route, or hear")
        program.close()
        client.close()
