"""A small NATS server that does what a test tells it, and a driver whose observer keeps what it hears."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from typing import Any

from event_agent.drivers.base import Message, Observer
from event_agent.drivers.nats.driver import NatsDriver
from event_agent.drivers.nats.options import NatsOptions
from event_agent.protocol.events import Published
from event_agent.runtime.link import LinkState, LinkStatus
from event_agent.runtime.loop import Loop
from tests.support import until

LIMIT = 5.0


class Link:
    """The server's end of one connection. Answers PING by itself; keeps what else comes, in order."""

    def __init__(
        self, sock: socket.socket, info: dict[str, Any], *, greet: bool = True, pongs: bool = True,
        heard: Callable[[Link, bytes], None] = lambda link, line: None,
    ) -> None:  # fmt: skip
        self.sock = sock
        self._heard = heard  # gets each control line, before it is answered
        self.lines: list[bytes] = []
        """Control lines, PING and PONG too."""
        self.messages: list[tuple[str, bytes]] = []
        self.raw = b""
        """All that came."""
        self.pongs = pongs
        self.reading = threading.Event()
        self.reading.set()
        self.ended = threading.Event()
        self.faults: list[bytes] = []
        if greet:
            self.send(b"INFO " + json.dumps(info).encode() + b"\r\n")
        self._thread = threading.Thread(target=self._read, name="fake-nats", daemon=True)
        self._thread.start()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def deliver(self, subject: str, data: bytes, reply: str = "", headers: bytes = b"") -> None:
        """To all subscriptions of this very subject."""
        for line in self.lines:
            fields = line.split()
            if fields[0] == b"SUB" and fields[1].decode() == subject:
                head = f"{'H' if headers else ''}MSG {subject} {fields[-1].decode()} {reply} "
                sizes = f"{len(headers)} " if headers else ""
                self.send(f"{head}{sizes}{len(headers) + len(data)}\r\n".encode() + headers + data + b"\r\n")

    @property
    def subscriptions(self) -> list[bytes]:
        return [line for line in self.lines if line.startswith(b"SUB ")]

    @property
    def options(self) -> dict[str, Any]:
        """What CONNECT said."""
        (line,) = [line for line in self.lines if line.startswith(b"CONNECT ")]
        found: dict[str, Any] = json.loads(line[8:])
        return found

    def _read(self) -> None:
        data = b""
        try:
            while True:
                self.reading.wait()
                chunk = self.sock.recv(65536)
                if not chunk:
                    break
                data += chunk
                self.raw += chunk
                data = self._parse(data)
        except OSError:
            pass
        self.ended.set()

    def _parse(self, data: bytes) -> bytes:
        while (end := data.find(b"\r\n")) >= 0:
            line = data[:end]
            fields = line.split()
            if fields and fields[0] in (b"PUB", b"HPUB"):
                stop = end + 2 + int(fields[-1])
                if len(data) < stop + 2:
                    return data
                if data[stop : stop + 2] != b"\r\n":
                    self.faults.append(data[: stop + 2])
                self.messages.append((fields[1].decode(errors="replace"), data[end + 2 : stop]))
                data = data[stop + 2 :]
                continue
            if not fields or fields[0] not in (b"CONNECT", b"PING", b"PONG", b"SUB", b"UNSUB"):
                self.faults.append(line)
            self.lines.append(line)
            self._heard(self, line)
            data = data[end + 2 :]
            if line == b"PING" and self.pongs:
                self.send(b"PONG\r\n")
        return data

    def close(self) -> None:
        self.reading.set()
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._thread.join(LIMIT)
        self.sock.close()


class FakeNats:
    """Listens on a port of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.info: dict[str, Any] = {"server_id": "FAKE", "version": "2.9", "max_payload": 1000, "headers": True}
        self.links: list[Link] = []

    def accept(self, **options: Any) -> Link:
        """The next connection; the options are those of Link."""
        sock, _ = self._listener.accept()
        self.links.append(Link(sock, self.info, **options))
        return self.links[-1]

    def close(self) -> None:
        self._listener.close()
        for link in self.links:
            link.close()


class Driven(Observer):
    """A driver with a loop of its own, and all that it said."""

    def __init__(self, *servers: str, **options: Any) -> None:
        self.ups = 0
        self.downs: list[str] = []
        self.gave_up: list[str] = []
        self.settled_to: list[tuple[int, int]] = []
        self.got: list[Message] = []
        self.reads: list[int] = []  # messages of each list
        self._up = False
        self.loop = Loop()
        self.loop.start()
        self.driver = NatsDriver(NatsOptions(servers, **{"reconnect_wait": 0.01} | options), self.loop, self)

    def link_changed(self, status: LinkStatus) -> None:
        if status.up:
            self.ups += 1
        elif status.state is LinkState.DOWN and self._up:
            self.downs.append(status.reason)
        elif status.state is LinkState.GAVE_UP:
            self.gave_up.append(status.reason)
        self._up = status.up

    def settled(self, number: int, lost: int) -> None:
        self.settled_to.append((number, lost))

    def take(self, messages: list[Message]) -> None:
        """For `subscribe`."""
        self.got += messages
        self.reads.append(len(messages))

    def publish(self, subject: str, *payloads: bytes) -> int:
        """Offer these events; returns how many were taken."""
        return self.driver.events.offer([Published("", subject.encode(), payload) for payload in payloads])

    def connect(self, server: FakeNats) -> Link:
        """Start it and wait until it is up."""
        self.driver.start()
        link = server.accept()
        until(lambda: self.ups, "up")
        return link

    def rounds(self) -> None:
        """The loop has looked twice: what it could see, it has seen."""
        for _ in range(2):
            done = threading.Event()
            self.loop.call(done.set)
            assert done.wait(LIMIT)

    def end(self) -> None:
        self.driver.stop(2)
        self.loop.stop(2)


def narrow(driven: Driven, link: Link) -> None:
    """Make the socket's buffers small, so that it soon takes no more."""
    client = driven.driver.client
    assert client is not None
    client._stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    link.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def bodies(*links: Link) -> list[bytes]:
    return [data for link in links for _, data in link.messages]
