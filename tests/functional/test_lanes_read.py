"""Reads side by side (`lanes_read`), seen by a client: each read sees what was written before it, whatever breaks."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.functional.conftest import Switch
from tests.functional.link_parts import Start
from tests.functional.parts import Client, NatsServer
from tests.functional.proxy import Proxy
from tests.support import until

READERS = 4
READS = ("global_getvar reads_x", "version", "echo", "global_getvar reads_x", "status", "hostname", "uptime us")


def status(client: Client, prefix: str) -> Any:
    return client.request("agent.status", None, f"{prefix}.api")["data"]


def burst(client: Client, prefix: str, texts: list[str]) -> list[dict[str, Any]]:
    """Send all at once; their replies, in the order of the requests."""
    answers = client.gather(f"{prefix}.answers.{len(texts)}")
    payloads = []
    for number, text in enumerate(texts):
        verb, _, args = text.partition(" ")
        payloads.append(json.dumps({"command": verb, "args": args, "correlation_id": str(number)}).encode())
    client.publish_all(f"{prefix}.api", payloads, f"{prefix}.answers.{len(texts)}")
    until(lambda: len(answers) >= len(texts), lambda: f"{len(answers)} of {len(texts)} answered", 60)
    replies = {each["correlation_id"]: each for each in (json.loads(message.data) for message in answers)}
    return [replies[str(number)] for number in range(len(texts))]


def test_each_read_sees_what_was_written_before_it(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    start_agent(nats, switch, subject_prefix="reads", lanes_read=str(READERS))
    client = connect(nats.url)
    until(lambda: status(client, "reads")["command_connections"] == READERS, "all are there", 15)
    burst(client, "reads", [*READS, "global_setvar reads_x=begin"])  # each verb has been quick now
    texts = ["global_setvar reads_x=first"]
    for number in range(6):
        texts += READS * (20 + number) + (f"global_setvar reads_x={number}",) * 2
    texts += READS * 20
    written, clock = "", 0
    for text, reply in zip(texts, burst(client, "reads", texts), strict=True):
        assert reply["success"] is True, reply
        verb, _, args = text.partition(" ")
        if verb == "global_setvar":
            written = args.partition("=")[2]
        elif verb == "global_getvar":
            assert reply["data"] == written, "it sees another order"
        elif verb == "uptime":
            assert int(reply["data"]) >= clock, "the older answer comes later"
            clock = int(reply["data"])


def test_reads_of_a_channel_see_what_was_set_before_them(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    start_agent(nats, switch, subject_prefix="chan", lanes_read=str(READERS))
    client = connect(nats.url)
    until(lambda: status(client, "chan")["command_connections"] == READERS, "all are there", 15)
    uuids = [f"00000000-0000-4000-8000-00000000190{number}" for number in range(3)]
    for uuid in uuids:
        made = client.request("originate", f"{{origination_uuid={uuid}}}loopback/park/default &park()", "chan.api")
        assert made["success"] is True, made
    texts = [f"uuid_setvar {uuid} x begin" for uuid in uuids]
    for number in range(8):
        texts += [f"uuid_getvar {uuid} x" for uuid in uuids] * 15
        texts += [f"uuid_setvar {uuids[number % 3]} x {number}"]
    try:
        burst(client, "chan", [*texts[:4], "uuid_setvar nobody x y"])
        seen: dict[str, str] = {}
        for text, reply in zip(texts, burst(client, "chan", texts), strict=True):
            verb, uuid, _, *value = text.split()
            if verb == "uuid_setvar":
                seen[uuid] = value[0]
            else:
                assert reply["data"] == seen[uuid]
    finally:
        for uuid in uuids:
            client.request("hangup", uuid, "chan.api")


def test_after_a_cut_all_connections_are_there_again_and_nothing_waits_in_vain(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Callable[..., Client]
) -> None:
    with Proxy(switch.port) as proxy:
        proxy.password = switch.password
        start_agent(nats, proxy, subject_prefix="cut", lanes_read=str(READERS))
        client = connect(nats.url)
        until(lambda: status(client, "cut")["command_connections"] == READERS, "all are there", 15)
        burst(client, "cut", list(READS))
        answers = client.gather("cut.lost")
        proxy.stall()
        client.publish_all("cut.api", [b'{"command":"version"}'] * 100, "cut.lost")
        until(lambda: status(client, "cut")["commands_pending"] >= 100, "they are under way", 15)
        proxy.drop()
        until(lambda: len(answers) == 100, lambda: f"{len(answers)} of 100 are answered", 30)
        replies = [json.loads(message.data) for message in answers]
        assert not any(each["success"] for each in replies)
        assert {each["executed"] for each in replies} <= {"no", "unknown"}, "each says whether it may have been run"
        assert any(each["executed"] == "unknown" for each in replies)
        until(lambda: status(client, "cut")["command_connections"] == READERS, "all are there again", 30)
        assert all(each["success"] for each in burst(client, "cut", ["version"] * 50))
