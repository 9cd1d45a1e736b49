"""Commands over real parts: lanes, fields, order, slow verbs, bad input."""

from __future__ import annotations

import asyncio
import json
import random
import time

import pytest

from tests.functional.parts import SCALE, Agent, Client
from tests.support import until


def test_an_api_verb_is_answered_with_the_whole_envelope(agent: Agent, client: Client) -> None:
    before = time.time() * 1e6
    reply = client.request("version")
    assert list(reply) == ["success", "status", "message", "timestamp", "node_id", "data"]
    assert reply["success"] is True and reply["status"] == "success" and reply["message"] == "API command executed"
    assert before <= reply["timestamp"] <= time.time() * 1e6 and isinstance(reply["timestamp"], int)
    assert reply["node_id"] == "FS-Node-01" and reply["data"].startswith("FreeSWITCH Version")


@pytest.mark.parametrize(
    "subject", ["freeswitch.api", "freeswitch.node.fs_node_01", "freeswitch.api.fs_node_01", "freeswitch.any"]
)
def test_every_lane_takes_commands(agent: Agent, client: Client, subject: str) -> None:
    assert client.request("echo", "hi", subject)["data"] == "hi"


def test_freeswitch_errors_are_errors_and_empty_output_is_none(agent: Agent, client: Client) -> None:
    reply = client.request("no_such_verb")
    assert reply["success"] is False and reply["status"] == "error"
    assert reply["message"] == "-ERR no_such_verb Command not found!"
    assert reply["data"] == "-ERR no_such_verb Command not found!\n"
    assert client.request("uuid_kill", "no-such-uuid")["message"] == "-ERR No such channel!"
    usage = client.request("uuid_transfer", "")
    assert usage["success"] is False and usage["message"].startswith("-USAGE:")
    empty = client.request("global_getvar", "no_such_variable_at_all")
    assert empty["success"] is True and empty["data"] == ""


def test_another_nodes_request_is_left_alone(agent: Agent, client: Client) -> None:
    answers = client.gather("test.other.>")
    client.publish("freeswitch.api", b'{"command":"version","node_id":"fs-node-02"}', reply="test.other.a")
    client.publish("freeswitch.api", b'{"command":5,"node_id":"fs-node-02"}', reply="test.other.b")
    client.publish("freeswitch.api", b'{"command":"version","node_id":"fs_NODE 01"}', reply="test.other.c")
    until(lambda: answers, "the answer to the request that names this node")
    assert [message.subject for message in answers] == ["test.other.c"]


def test_async_runs_without_a_reply_and_forward_to_gets_the_same_bytes(agent: Agent, client: Client) -> None:
    answers, forwarded = client.gather("test.async.reply"), client.gather("test.async.forward")
    request = {"command": "echo", "args": "x", "forward_to": "test.async.forward", "correlation_id": "c-1"}
    direct = client.raw("freeswitch.api", json.dumps(request).encode()).data
    until(lambda: forwarded, "the forwarded reply")
    assert forwarded[0].data == direct and json.loads(direct)["correlation_id"] == "c-1"
    payload = json.dumps({**request, "async": True, "correlation_id": 7}).encode()
    client.publish("freeswitch.api", payload, reply="test.async.reply")
    until(lambda: len(forwarded) == 2, "the forwarded reply of an async command")
    assert json.loads(forwarded[1].data)["correlation_id"] == 7
    client.request("version")
    assert not answers


@pytest.mark.parametrize("subject", ["a b", "a.*", "a.>", "", ".a", "a..b", "a\r\nPUB x 0\r\n", "freeswitch.api", 5])
def test_forward_to_must_be_a_plain_subject(agent: Agent, client: Client, subject: object) -> None:
    reply = client.request("version", forward_to=subject)
    assert reply["success"] is False and reply["message"].startswith("forward_to must")


NESTED = b"[" * 30000
BAD = [
    (b"", "Empty payload"),
    (b"not json", "Invalid JSON payload"),
    (b'{"command":"version"', "Invalid JSON payload"),
    (b'{"command":"version","x":NaN}', "Invalid JSON payload"),
    (b"\xff\xfe", "Invalid JSON payload"),
    (NESTED, "Invalid JSON payload"),
    (b'{"command":' + NESTED, "Invalid JSON payload"),
    (b"[]", "Payload must be a JSON object"),
    (b'"version"', "Payload must be a JSON object"),
    (b"null", "Payload must be a JSON object"),
    (b"{}", "Missing 'command' string"),
    (b'{"command":5}', "Missing 'command' string"),
    (b'{"command":""}', "Missing 'command' string"),
    (b'{"command":["version"]}', "Missing 'command' string"),
    (b'{"command":"version\\n\\napi shutdown"}', "command must not contain line breaks or NUL"),
    (b'{"command":"fsctl shutdown"}', "command must not contain white space; arguments go into args"),
    (b'{"command":"echo","args":"a\\nb"}', "args must not contain line breaks or NUL"),
    (b'{"command":"echo","args":"a\\u0000b"}', "args must not contain line breaks or NUL"),
    (b'{"command":"echo","args":"\\ud800"}', "args must be valid Unicode text"),
    (b'{"command":"echo","args":5}', "args must be a string"),
    (b'{"command":"version","async":"yes"}', "async must be true or false"),
    (b'{"command":"version","correlation_id":{}}', "correlation_id must be a string or a number"),
    (b'{"command":"version","correlation_id":1e400}', "correlation_id must be a string or a number"),
    (b'{"command":"version","correlation_id":-1e400}', "correlation_id must be a string or a number"),
    (b'{"command":"version","node_id":5}', "node_id must be a string"),
]


@pytest.mark.parametrize(("payload", "message"), BAD, ids=range(len(BAD)))
def test_bad_input_gets_its_error(agent: Agent, client: Client, payload: bytes, message: str) -> None:
    reply = json.loads(client.raw("freeswitch.api", payload).data)
    assert reply["success"] is False and reply["status"] == "error" and reply["message"] == message
    field = next((each for each in ("command", "args", "async", "correlation_id", "node_id") if each in message), None)
    assert set(reply) - {"field"} == {"success", "status", "message", "timestamp", "node_id"}
    assert reply.get("field") == field


def test_over_64_kb_is_refused_before_it_is_parsed(agent: Agent, client: Client) -> None:
    fits = b'{"command":"echo","args":"' + b"x" * 65000 + b'"}'
    assert json.loads(client.raw("freeswitch.api", fits).data)["data"] == "x" * 65000
    reply = json.loads(client.raw("freeswitch.api", b"x" * 70000).data)
    assert reply["message"].startswith("Payload too large")


def test_damaged_requests_never_hurt(agent: Agent, client: Client) -> None:
    """2,500 requests with random damage: each with a reply unless it names another node, and the agent goes on."""
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    answers = client.gather("test.damaged.>")
    payloads = []
    for _ in range(2500 * SCALE):
        data = bytearray(b'{"command":"echo","args":"some text","node_id":"fs-node-01","correlation_id":"abc"}')
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            match rng.randrange(4):
                case 0:
                    data[at] = rng.randrange(256)
                case 1:
                    del data[at : at + rng.randint(1, 9)]
                case 2:
                    data[at:at] = bytes(rng.randrange(256) for _ in range(rng.randint(1, 9)))
                case _:
                    data[at:at] = data[: rng.randint(1, 30)]
        payloads.append(bytes(data))

    def silent(data: bytes) -> bool:
        try:
            request = json.loads(data)
        except (ValueError, RecursionError):
            return False
        node = request.get("node_id", "") if isinstance(request, dict) else ""
        return isinstance(node, str) and node != "" and "".join(
            c if c in "abcdefghijklmnopqrstuvwxyz0123456789" else "_" for c in node.lower()
        ) != "fs_node_01"  # fmt: skip

    async def send() -> None:
        for index, payload in enumerate(payloads):
            await client.nc.publish("freeswitch.api", payload, reply=f"test.damaged.{index}")
        await client.nc.flush(30)

    client.run(send())
    expected = {f"test.damaged.{index}" for index, payload in enumerate(payloads) if not silent(payload)}
    until(lambda: len(answers) >= len(expected), f"{len(expected)} replies (seed {seed})", 30 * SCALE)
    assert client.request("version")["success"] is True
    assert sorted(message.subject for message in answers) == sorted(expected), f"seed {seed}"
    for message in answers:
        reply = json.loads(message.data)
        assert reply["success"] is (reply["status"] == "success"), f"seed {seed}"


def test_commands_keep_their_order(agent: Agent, client: Client) -> None:
    for number in range(300):
        client.publish("freeswitch.api", json.dumps({"command": "global_setvar", "args": f"order={number}"}).encode())
    assert client.request("global_getvar", "order")["data"] == "299"


def test_slow_commands_hold_up_nobody(agent: Agent, client: Client) -> None:
    """Six msleep of 8 s under way, and uptime is still answered."""
    answers = client.gather("test.slow.>")
    started = time.monotonic()
    for number in range(6):
        client.publish("freeswitch.api", b'{"command":"msleep","args":"8000"}', reply=f"test.slow.{number}")
    for _ in range(100):
        assert client.request("uptime")["success"] is True
    assert not answers, "uptime was answered before any of them"
    until(lambda: len(answers) == 6, "the slow ones' own replies", 60)
    assert all(json.loads(message.data)["success"] for message in answers)
    assert time.monotonic() - started < 40, "they ran one after the other"


def test_a_verb_that_turns_out_slow_holds_up_nobody(agent: Agent, client: Client) -> None:
    """`expand` is on no list of slow verbs; through it runs one that is."""
    answers = client.gather("test.hidden")
    started = time.monotonic()
    client.publish("freeswitch.api", b'{"command":"expand","args":"msleep 6000"}', reply="test.hidden")
    for _ in range(5):
        assert client.request("uptime")["success"] is True
    assert not answers
    until(lambda: answers, "the slow one's reply")
    assert time.monotonic() - started >= 5.9


def test_many_requests_are_each_answered_once_and_right(agent: Agent, client: Client) -> None:
    """20,000 requests with 50 in flight; with EVENT_AGENT_SCALE=5 it is 100,000."""
    count, window = 20000 * SCALE, 50
    wrong: list[bytes] = []

    async def go() -> int:
        room, seen = asyncio.Semaphore(window), set()
        done = asyncio.Event()

        async def took(message: object) -> None:
            data = message.data  # type: ignore[attr-defined]
            reply = json.loads(data)
            number = reply["correlation_id"]
            if number in seen or reply["data"] != f"n {number}":
                wrong.append(data)
            seen.add(number)
            room.release()
            if len(seen) == count:
                done.set()

        await client.nc.subscribe("test.many", cb=took)
        for number in range(count):
            await asyncio.wait_for(room.acquire(), 10)
            payload = b'{"command":"echo","args":"n %d","correlation_id":%d}' % (number, number)
            await client.nc.publish("freeswitch.any", payload, reply="test.many")
        await asyncio.wait_for(done.wait(), 20)
        return len(seen)

    assert client.run(go(), 120 * SCALE) == count and not wrong


def test_a_flood_is_answered_or_refused_and_memory_stays(agent: Agent, client: Client) -> None:
    """30,000 requests sent at once."""
    count = 30000 * SCALE
    before = agent.memory()
    answers = client.gather("test.flood")
    client.publish_all("freeswitch.api", [b'{"command":"uptime"}'] * count, reply="test.flood")
    until(lambda: len(answers) == count, f"{count} replies", 60 * SCALE)
    assert agent.memory() - before < 40, f"{before:.0f} MB before, {agent.memory():.0f} MB after"


def test_status_counts_what_was_done(agent: Agent, client: Client) -> None:
    first = client.request("agent.status")
    client.request("echo", "x")
    client.request("no_such_verb")
    second = client.request("agent.status")
    data = second["data"]
    for key in ("version", "uptime", "events_published", "commands_received", "driver", "connected"):
        assert second[key] == data[key]
    assert data["driver"] == "nats" and data["connected"] is True and data["freeswitch"]["connected"] is True
    before, after = first["data"]["stats"], data["stats"]
    assert after["requests_received"] - before["requests_received"] == 3
    assert after["requests_success"] - before["requests_success"] == 2
    assert after["requests_failed"] - before["requests_failed"] == 1
    assert data["commands"]["echo"]["count"] >= 1 and 0 < data["commands"]["echo"]["p50"] < 1000
    assert set(data["commands"]["echo"]) == {"count", "errors", "p50", "p99"}


def test_the_audit_line_is_one_line(agent: Agent, client: Client) -> None:
    payload = b'{"command":"ev\\u2028il\\u001b[2J audit=command","args":"secret-text"}'
    client.raw("freeswitch.api", payload)
    (line,) = agent.logged(r"cmd=ev\?il")
    assert "subject=freeswitch.api result=err async=no" in line and line.endswith(f"payload_bytes={len(payload)}")
    assert "secret-text" not in agent.log
