"""The NATS driver against a server that sends hostile subjects, reply subjects, headers, INFO and -ERR, and nonsense.

What the driver writes is the NATS protocol, no line longer than a server takes; each reply goes to the very bytes it
was asked for on, and in order; whatever ends the link, the next one comes.
"""

from __future__ import annotations

import json
import random
import re
import socket
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

from event_agent.drivers.base import Message, Reply
from event_agent.drivers.nats.driver import NatsDriver
from event_agent.drivers.nats.options import NatsOptions
from event_agent.runtime.loop import Loop
from tests.fuzz.harness import Target, fuzz
from tests.fuzz.mutator import damaged, text, token

LIMIT = 10.0  # seconds for a new link
LAST = b"the.last."  # reply subject, with a number, of the request that stands behind an input
LARGE = 1_000_000  # bytes: no payload of a reply is so large
HEADERS = 600  # bytes at most that an error's mark adds to its payload
LINE = 4096  # bytes behind an operation's name that a server takes
INFO: dict[str, Any] = {"server_id": "FUZZ", "version": "2.9.10", "headers": True, "max_payload": 1_048_576, "proto": 1}
SUBJECTS = (b"freeswitch.api", b"freeswitch.node.fs_1", b"freeswitch.\xff", b"a\x0bb", b"\x00", b"freeswitch.*")
ERRORS = ("", "-ERR x", "two\r\nlines: 1", "\ud800", "é" * 600, "x" * 600, "\x00", " a  b ")
ADDRESSES = (
    "", ":", "127.0.0.1:1", "[::1]:1", "a b:1", "\n:1", "127.0.0.1:99999", "127.0.0.1:x", "nats://u:p@127.0.0.1:1", "[",
    "]", "127.0.0.1:1?x=/@", 5, None, ["x"], {"a": 1}, True, "x" * 5000 + ":1",
)  # fmt: skip
COMPLAINTS = (
    b"-ERR 'Permissions Violation for Publish to \"%b\"'\r\n",
    b"-ERR 'Permissions Violation for Subscription to \"%b\"'\r\n",
    b"-ERR %b\r\n", b"-ERR '%b'\r\n", b"-ERR 'Stale Connection'%b\r\n", b"-ERR 'Unknown Protocol Operation'%b\r\n",
)  # fmt: skip
_MAX_PAYLOAD = re.compile(rb'"max_payload": ([1-9][0-9]*)')
_WHITE = re.compile(rb"[ \t\r\n]")
_HEADERS = re.compile(rb"NATS/1\.0\r\nNats-Service-Error: [^\0-\x1f\x7f]*\r\nNats-Service-Error-Code: 500\r\n\r\n\Z")


class Put(NamedTuple):
    """PUB or HPUB, as a server reads it."""

    subject: bytes
    payload: bytes


class Ended(Exception):
    """The driver has closed the link."""


class Server:
    """The server's end of one link at a time, on the caller's thread."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(LIMIT)
        self.url = f"nats://127.0.0.1:{self._listener.getsockname()[1]}"
        self._socket: socket.socket | None = None
        self._data = b""
        self._number = 0
        self.links = 0

    def link(self) -> None:
        """Have a link that is subscribed to."""
        while self._socket is None:
            self._socket, _ = self._listener.accept()
            self._socket.settimeout(LIMIT)
            self._data = b""
            self.links += 1
            try:
                self._socket.sendall(b"INFO " + json.dumps(INFO).encode() + b"\r\n")
                while not any(each == b"SUB freeswitch.api" for each in self.read()[1]):
                    pass
            except (Ended, OSError):
                self.unlink()

    def unlink(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def exchange(self, data: bytes) -> list[Put]:
        """Send this and a last request; what comes before the answer to that, or before the end of the link."""
        assert self._socket is not None
        found: list[Put] = []
        self._number += 1
        last = LAST + b"%d" % self._number
        try:
            self._socket.sendall(data + b"MSG freeswitch.api 1 %b 0\r\n\r\n" % last)
            self._socket.settimeout(0.5)  # damage may have eaten the last one
            while last not in (each.subject for each in found):
                found += self.read()[0]
            self._socket.settimeout(LIMIT)
        except (Ended, OSError):
            self.unlink()
        return [each for each in found if not each.subject.startswith(LAST)]

    def read(self) -> tuple[list[Put], list[bytes]]:
        """What one read brings: messages, and the first two words of other lines. AssertionError if it is no NATS."""
        assert self._socket is not None
        chunk = self._socket.recv(262144)
        if not chunk:
            assert not self._data, f"the link ended within a message: {self._data[:100]!r}"
            raise Ended
        data, at = self._data + chunk, 0
        puts, lines = [], []
        while (end := data.find(b"\r\n", at)) >= 0:
            line = data[at:end]
            assert b"\r" not in line, line[:200]
            name, _, rest = line.partition(b" ")
            assert len(rest) <= LINE or name == b"CONNECT", f"a line of {len(rest)} bytes: {line[:100]!r}"
            fields = line.split(b" ")
            if name in (b"PUB", b"HPUB"):
                assert len(fields) == (3 if name == b"PUB" else 4), line[:200]
                size = int(fields[-1])
                if len(data) < end + 4 + size:
                    break
                body = data[end + 2 : end + 2 + size]
                assert data[end + 2 + size : end + 4 + size] == b"\r\n", line[:200]
                if name == b"HPUB":
                    assert _HEADERS.match(body[: int(fields[2])]), body[:200]
                    body = body[int(fields[2]) :]
                puts.append(Put(fields[1], body))
                at = end + 4 + size
                continue
            assert name in (b"CONNECT", b"SUB", b"UNSUB", b"PING", b"PONG"), line[:200]
            if name == b"PING":
                self._socket.sendall(b"PONG\r\n")
            lines.append(b" ".join(fields[:2]))
            at = end + 2
        self._data = data[at:]
        return puts, lines

    def close(self) -> None:
        self.unlink()
        self._listener.close()


class Linked(Target):
    """Each input is what the server sends: as a server would (its first byte is =), or damaged (!)."""

    limit = 0.015  # up to 12 requests
    here = False
    spike = 12_000_000

    def __init__(self) -> None:
        self._server = Server()
        self._loop = Loop()
        before = set(threading.enumerate())
        self._loop.start()
        self._driver = NatsDriver(NatsOptions((self._server.url,), reconnect_wait=0.01), self._loop)
        self._driver.subscribe("freeswitch.api", self._asked)
        self._driver.start()
        self._asking: list[Message] = []
        self._due: list[Put] = []  # what was handed to the driver and has not come, in its order
        self._number = 0
        self._used = 0  # the link on which an input has been sent
        self._takes = 0  # bytes of a payload that the driver could send, however small max_payload became on the way
        self._lost_to = 0  # up to this one they may be lost with a link, or come over the next
        self._server.link()
        lasting = ("io", "nats-link", "nats-flush")
        self._threads = [each for each in threading.enumerate() if each not in before and each.name in lasting]
        assert len(self._threads) == len(lasting)
        self.answers = 0

    def threads(self) -> Sequence[threading.Thread]:
        return self._threads

    def _asked(self, messages: list[Message]) -> None:
        """As the daemon does it: replies to what wants one, none longer than the server takes."""
        replies: list[Reply] = []
        for message in messages:
            if message.reply.startswith(LAST):
                replies.append((message, b"", ""))
                continue
            self._asking.append(message)
            self._number += 1
            payload = b"%d:" % self._number + message.data[:500]
            if message.reply and len(payload) <= self._driver.max_payload:
                self._due.append(Put(message.reply, payload))
                replies.append((message, payload, ERRORS[len(message.data) % len(ERRORS)]))
        self._driver.send(replies)

    # -- inputs

    def make(self, rng: random.Random) -> bytes:
        data = b"".join(self._operation(rng) for _ in range(rng.randrange(1, 13)))
        if rng.random() < 0.03:
            return b"!" + damaged(rng, data, (data, b"INFO {}\r\n"))
        return b"=" + data

    def _operation(self, rng: random.Random) -> bytes:
        match rng.randrange(12):
            case 0:
                return b"PING\r\n"
            case 1:
                line = _WHITE.sub(b"?", token(rng, 3000))
                return rng.choice(COMPLAINTS) % line
            case 2:
                return b"INFO %b\r\n" % json.dumps(self._info(rng)).encode()
        subject, reply = rng.choice(SUBJECTS), self._reply(rng)
        body = token(rng, 5000)
        words = [subject, b"1", *([reply] if reply else [])]
        if rng.random() < 0.3:
            name, value = _WHITE.sub(b"", token(rng, 100)), _WHITE.sub(b" ", token(rng, 300))
            block = b"NATS/1.0\r\n%b: %b\r\n\r\n" % (name, value)
            words += [b"%d" % len(block), b"%d" % (len(block) + len(body))]
            return b"HMSG %b\r\n%b%b\r\n" % (b" ".join(words), block, body)
        return b"MSG %b\r\n%b\r\n" % (b" ".join([*words, b"%d" % len(body)]), body)

    def _reply(self, rng: random.Random) -> bytes:
        if rng.random() < 0.2:
            return b""
        if rng.random() < 0.1:
            return rng.choice((b"\xff", b"a", b"\xc3\xa9", b"a.", b"\x0b")) * rng.randrange(1, 4060)
        return b"_INBOX." + _WHITE.sub(b"", token(rng, 3000))[:4000]

    def _info(self, rng: random.Random) -> dict[str, Any]:
        values: tuple[Any, ...] = (text(rng), 0, -1, 1.5, 1e308, 2**70, None, True, [], {}, [[]])
        found = dict(INFO)
        for key in rng.sample((*INFO, "connect_urls", "nonce", "server_name", "cluster", "client_id"), 2):
            found[key] = rng.choice(values)
        if rng.random() < 0.02:  # a lame duck: the link ends, and the next takes its time
            found["ldm"] = rng.choice(values)
        if rng.random() < 0.3:
            found["max_payload"] = rng.choice((1, 300, 100_000))
        if rng.random() < 0.3:
            found["connect_urls"] = [rng.choice(ADDRESSES) for _ in range(rng.choice((1, 3, 30)))]
        elif isinstance(found.get("connect_urls"), str):
            found["connect_urls"] = [5]  # no name that somebody would look up
        return found

    # -- what becomes of them

    def feed(self, rng: random.Random, data: bytes) -> None:
        self._server.link()
        self._asking.clear()
        links = self._server.links
        # Replies wait until a link is taken over; what is then larger than the server takes is dropped, and logged.
        limits = [int(each) for each in _MAX_PAYLOAD.findall(data)] if links != self._used else []
        self._used, self._takes = links, min(limits, default=LARGE)
        for put in self._server.exchange(data[1:]):
            while self._due and put != self._due[0]:
                self._missing(self._due.pop(0))
            assert self._due, f"it was not asked for, or comes twice or out of order: {put}"
            del self._due[0]
            self.answers += 1
        self._server.link()  # if it has ended: the next one comes
        if self._server.links != links:
            self._lost_to = self._number
            return
        while self._due:
            self._missing(self._due.pop(0))
        if data[:1] == b"=":
            assert [(each.subject, each.reply, each.data) for each in self._asking] == _messages(data[1:])

    def _missing(self, put: Put) -> None:
        """It has not come: no server takes it, or this one does not, or it was on its way when the link ended."""
        may_be = not _sendable(put) or len(put.payload) + HEADERS > self._takes
        assert may_be or int(put.payload.partition(b":")[0]) <= self._lost_to, f"it has not come: {put}"

    def close(self) -> None:
        self._driver.stop(2)
        self._server.close()
        self._loop.stop(2)


def _sendable(put: Put) -> bool:
    """A reply that no server would end the link for. With headers its line has a number more."""
    return b"\r" not in put.subject and len(put.subject) + 12 <= LINE


def _messages(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """(subject, reply, data) of the messages in an undamaged stream."""
    found, at = [], 0
    while at < len(data):
        end = data.index(b"\r\n", at)
        fields = data[at:end].split(b" ")
        at = end + 2
        if fields[0] in (b"MSG", b"HMSG"):
            lengths = 2 if fields[0] == b"HMSG" else 1
            start = int(fields[-2]) if lengths == 2 else 0
            reply = fields[3] if len(fields) == 4 + lengths else b""
            found.append((fields[1], reply, data[at + start : at + int(fields[-1])]))
            at += int(fields[-1]) + 2
    return found


def test_a_hostile_server() -> None:
    found: list[Linked] = []

    def build() -> Linked:
        found.append(Linked())
        return found[-1]

    fuzz(build, least=40)
    assert found[0].answers > 100
