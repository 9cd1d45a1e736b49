"""Subjects that the NATS server takes and no client library would send: from a bare socket, bytes in and bytes out."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Protocol

import pytest

from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.raw_events import RawEvents
from tests.support import free_port, until


class Switch(Protocol):
    port: int
    password: str


class Bare:
    """A connection to a NATS server without any library between."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 5)
        self._socket.settimeout(0.2)
        self.seen = b""
        options = {"verbose": False, "pedantic": False, "headers": True, "no_responders": True, "protocol": 1}
        self.write(b"CONNECT %b\r\n" % json.dumps(options).encode())
        self.settle()

    def write(self, data: bytes) -> None:
        self._socket.sendall(data)

    def has(self, data: bytes) -> bool:
        """Whether it has come so far; reads on."""
        with suppress(TimeoutError):
            self.seen += self._socket.recv(65536)
        return data in self.seen

    def settle(self) -> None:
        """What was written has been looked at, and nothing ended the connection."""
        count = self.seen.count(b"PONG\r\n")
        self.write(b"PING\r\n")
        until(
            lambda: self.has(b"PONG\r\n") and self.seen.count(b"PONG\r\n") > count,
            lambda: f"a PONG: {self.seen[-300:]!r}",
        )

    def request(self, lane: bytes, reply: bytes, payload: bytes) -> None:
        self.write(b"PUB %b %b %d\r\n%b\r\n" % (lane, reply, len(payload), payload))

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def bare() -> Iterator[Callable[[NatsServer], Bare]]:
    made: list[Bare] = []

    def connect(server: NatsServer) -> Bare:
        made.append(Bare(server.port))
        return made[-1]

    yield connect
    for each in made:
        each.close()


def dropped(client: Client) -> int:
    return int(client.request("agent.status")["data"]["nats"]["messages_dropped"])


@pytest.mark.parametrize(
    "reply",
    [
        b"\xff" * 1400, b"bytes.\xe9", b"\xed\xa0\x80", b"a\x0bb", b"a\x0cb", b"a\x00b", b"a\x1cb", b"\xc2\x85",
        b"\xa0", b"x" * 4070, b"\xff" * 4070, b"a.*", b"a.>", b"*", b">", "é.ü".encode(), b"'", b'"%s{}', b"$SRV.NONE",
    ],
)  # fmt: skip
def test_a_reply_goes_back_to_the_very_bytes(
    agent: Agent, nats: NatsServer, client: Client, bare: Callable[[NatsServer], Bare], reply: bytes
) -> None:
    asker = bare(nats)
    asker.write(b"SUB %b 7\r\n" % reply)
    asker.settle()
    for lane in (b"freeswitch.api", b"$SRV.PING.event-agent"):
        asker.seen = b""
        asker.request(lane, reply, b'{"command":"echo","args":"here it is"}')
        until(lambda: asker.has(b"MSG %b 7 " % reply), "the reply")
    assert client.request("echo", "after")["data"] == "after"
    assert "NATS lost" not in agent.log


@pytest.mark.parametrize("reply", [b"\r", b"a\r", b"\rb", b"a\r\r.b"])
def test_a_reply_that_would_end_the_link_is_not_sent(
    agent: Agent, nats: NatsServer, client: Client, bare: Callable[[NatsServer], Bare], reply: bytes
) -> None:
    before = dropped(client)
    asker = bare(nats)
    for _ in range(20):
        asker.request(b"freeswitch.api", reply, b'{"command":"echo","args":"x"}')
        asker.settle()  # the server itself stumbles over such a line where a read of its own ends in it
    until(lambda: dropped(client) == before + 20, "all of them are counted")
    assert "NATS lost" not in agent.log
    assert len(agent.logged("messages were dropped: their subject has")) == 1, "said once"
    assert len(agent.logged("replies were dropped")) == 1


def test_a_reply_subject_from_a_server_that_takes_longer_lines(
    start_agent: Callable[..., Agent],
    switch: Switch,
    bare: Callable[[NatsServer], Bare],
    connect: Callable[..., Client],
) -> None:
    """In a cluster each server has a limit of its own, and lines between servers have none."""
    first, second = free_port(), free_port()
    routes = f"cluster {{ listen: 127.0.0.1:%d, routes: [nats://127.0.0.1:{first}, nats://127.0.0.1:{second}] }}\n"
    ours = NatsServer(config=routes % first).start()
    theirs = NatsServer(config=routes % second + "max_control_line: 65536\n").start()
    try:
        agent = start_agent(ours, switch)
        far = connect(theirs.url)
        until(lambda: reached(far), "the servers have found each other")
        asker = bare(theirs)
        for size in (4000, 4090, 4097, 5000, 30000):
            reply = b"\xfe" * size
            asker.write(b"SUB %b %d\r\n" % (reply, size))
            asker.settle()
            asker.request(b"freeswitch.api", reply, b'{"command":"echo","args":"x"}')
        asker.settle()
        until(lambda: dropped(far) == 3, "those that are too long for the agent's server")
        for size in (4000, 4090):
            until(lambda size=size: asker.has(b"MSG %b " % (b"\xfe" * size)), "the others")  # type: ignore[misc]
        assert "NATS lost" not in agent.log and agent.stop() == 0
    finally:
        ours.stop()
        theirs.stop()


def reached(client: Client) -> bool:
    with suppress(Exception):  # no responders yet, or no time
        return bool(client.request("echo", "x", _timeout=1)["success"])
    return False


def test_a_server_with_a_lower_limit_is_learned_from(
    start_agent: Callable[..., Agent], switch: Switch, connect: Callable[..., Client]
) -> None:
    """forward_to comes in a payload, where no server looks; the reply to the caller itself always fits."""
    server = NatsServer(config="max_control_line: 512\n").start()
    try:
        agent = start_agent(server, switch)
        client = connect(server.url)
        copies = client.gather("copies.>")
        for size in (1000, 800, 600, 1000, 800, 600):
            with suppress(Exception):  # the link may have ended
                client.request("echo", "x", forward_to="copies." + "x" * size, _timeout=1)
            until(lambda: reached(client), "the agent is there again")
        before = agent.log.count("NATS lost")
        assert 1 <= before <= 3, agent.log
        for size in (1000, 800, 600) * 10:
            assert client.request("echo", "x", forward_to="copies." + "x" * size)["success"]
        client.request("echo", "x", forward_to="copies." + "x" * 100)
        until(lambda: copies, "what fits")
        assert agent.log.count("NATS lost") == before and agent.stop() == 0
    finally:
        server.stop()


def test_an_event_whose_name_makes_no_subject_harms_no_other(agent: Agent, client: Client, switch: Switch) -> None:
    """Whoever may send events chooses their names."""
    events = client.events("freeswitch.events.custom.>")
    before = client.request("agent.status")["data"]["events_dropped"]
    with RawEvents(switch.port, switch.password) as raw:
        for size in (10, 500, 3000, 4500, 20000):
            raw.command(f"sendevent CUSTOM\nEvent-Subclass: name::{'a' * size}\n")
        raw.command("sendevent CUSTOM\nEvent-Subclass: name::last\n")
    until(lambda: client.request("agent.status")["data"]["events_dropped"] == before + 2, "two are dropped")
    until(lambda: len(events.messages) == 4, "the others come")
    sizes = {len(message.subject.rpartition(".")[2]) for message in events.messages}  # in no order that is promised
    assert sizes == {10, 500, 3000, len("last")}
    assert "NATS lost" not in agent.log
