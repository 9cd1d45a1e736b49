"""Trace headers of a request: on its reply, its copy, its audit line, its call; and who sent it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer, hang_up_all, needs_nats_server
from tests.support import until

Start = Callable[..., Agent]
PARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
TRACE = {"traceparent": PARENT, "tracestate": "rojo=00f067aa0ba902b7,shop@eu=1:2;3"}


def payload(command: str, **fields: object) -> bytes:
    return json.dumps({"command": command, **fields}).encode()


def test_it_is_handed_on(nats: NatsServer, switch: Switch, start_agent: Start, client: Client) -> None:
    agent = start_agent(nats, switch, subject_prefix="traced", audit="all")
    copies = client.gather("traced-copies")
    message = client.raw("traced.api", payload("version", forward_to="traced-copies"), headers=TRACE)
    assert message.headers == TRACE and json.loads(message.data)["success"]
    until(lambda: copies, "the copy", 15)
    assert copies[0].headers == TRACE and copies[0].data == message.data
    agent.logged(f"audit=command cmd=version .* traceparent={PARENT} tracestate=rojo=00f067aa0ba902b7,shop@eu=1:2;3$")
    failed = client.raw("traced.api", payload("no_such_verb"), headers=TRACE)
    assert failed.headers is not None and failed.headers["traceparent"] == PARENT
    assert failed.headers["Nats-Service-Error-Code"] == "500"
    # What is not valid is as if it were not there, and counted.
    wrong = client.raw("traced.api", payload("version"), headers={"traceparent": PARENT.upper()})
    assert wrong.headers is None and json.loads(wrong.data)["success"]
    status = client.request("agent.status", subject="traced.api")
    assert status["data"]["stats"]["traces_invalid"] == 1


def test_it_is_on_the_call_and_its_events(nats: NatsServer, switch: Switch, start_agent: Start, client: Client) -> None:
    start_agent(nats, switch, subject_prefix="called")
    events = client.events("called.events.>")
    try:
        made = json.loads(client.raw(
            "called.api", payload("originate", endpoint="loopback/park/default", destination="&park()"), 20, TRACE
        ).data)  # fmt: skip
        uuid = made["data"]["uuid"]
        answered = events.wait("CHANNEL_ANSWER", timeout=15)
        assert any(each["headers"].get("variable_traceparent") == PARENT for each in answered)
        for name, value in TRACE.items():
            assert client.request("uuid_getvar", f"{uuid} {name}", "called.api")["data"] == value
        other = PARENT.replace("4bf9", "1234")
        reply = client.raw(
            "called.api", payload("execute_app", uuid=uuid, app="set", args="a=b"), 15, {"traceparent": other}
        )
        assert json.loads(reply.data)["success"]
        assert client.request("uuid_getvar", f"{uuid} traceparent", "called.api")["data"] == other
    finally:
        hang_up_all(switch.port, switch.password)


ACCOUNTS = """
accounts {
  SWITCH { users: [{user: agent, password: a}], exports: [{service: "freeswitch.>"}, {stream: ">"}] }
  SHOP {
    users: [{user: alice, password: b}]
    imports: [{service: {account: SWITCH, subject: "freeswitch.api"}, share: true}]
  }
}
"""


@pytest.mark.parametrize("share", [True, False])
def test_who_sent_it(switch: Switch, start_agent: Start, share: bool) -> None:
    server = NatsServer(config=ACCOUNTS if share else ACCOUNTS.replace(", share: true", "")).start()
    try:
        agent = start_agent(server, switch, url=f"nats://agent:a@127.0.0.1:{server.port}", audit="all")
        client = Client(server.url, user="alice", password="b", name="till 4")
        try:
            reply = client.raw("freeswitch.api", payload("version"), 15, {"x": "y"} | TRACE)
            assert json.loads(reply.data)["success"] and reply.headers == TRACE
        finally:
            client.close()
        (line,) = agent.logged("audit=command cmd=version")
        if share:
            assert re.search(r" account=SHOP user=alice host=127\.0\.0\.1 client=till\?4 traceparent=", line), line
        else:
            assert " account=SHOP traceparent=" in line, line
    finally:
        server.stop()


def test_the_server_follows_a_request_of_its_own_accord(switch: Switch, start_agent: Start) -> None:
    """With `msg_trace` in its account, by the same traceparent; it adds a header, and the agent's are as before."""
    needs_nats_server(2, 11)
    followed = re.sub("(SWITCH|SHOP) {", r"\g<0> msg_trace: traces\n", ACCOUNTS)
    server = NatsServer(config=followed).start()
    try:
        agent = start_agent(server, switch, url=f"nats://agent:a@127.0.0.1:{server.port}", audit="all")
        client = Client(server.url, user="alice", password="b", name="till 4")
        try:
            traces = client.gather("traces")
            reply = client.raw("freeswitch.api", payload("version"), 15, TRACE)
            assert json.loads(reply.data)["success"]
            assert reply.headers is not None and reply.headers.items() >= TRACE.items()
            until(lambda: traces, "the server's report", 15)
            unsampled = {"traceparent": PARENT[:-2] + "00"}
            assert client.raw("freeswitch.api", payload("version"), 15, unsampled).headers == unsampled
        finally:
            client.close()
        first, second = agent.logged("audit=command cmd=version", 2)
        assert f" client=till?4 traceparent={PARENT} tracestate={TRACE['tracestate']}" in first, first
        assert second.endswith(f" traceparent={unsampled['traceparent']}"), second
    finally:
        server.stop()
