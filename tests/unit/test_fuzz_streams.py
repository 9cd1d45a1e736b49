"""What comes from a NATS server and from FreeSWITCH's event socket, damaged and cut anywhere.

However it is cut, the same comes of it; what is no such stream ends in a LinkError and in nothing else.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from event_agent.drivers.nats.wire import WireReader
from event_agent.errors import LinkError
from event_agent.freeswitch.frames import FrameReader
from tests.fuzz.harness import Target, fuzz
from tests.fuzz.mutator import cut, damaged, token

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "event-socket"
INFO = (
    b'INFO {"server_id":"NA","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576,"client_id":7,'
    b'"connect_urls":["127.0.0.1:4222","[::1]:4223"],"ldm":true,"nonce":"aGVsbG8"} \r\n'
)
NATS: tuple[bytes, ...] = (
    INFO,
    b"PING\r\n",
    b"PONG\r\n",
    b"ping\r\n+OK\r\n",
    b"-ERR 'Permissions Violation for Publish to \"a.b\"'\r\n",
    b"MSG freeswitch.api 1 5\r\nhello\r\n",
    b"MSG freeswitch.api 1 _INBOX.abc.1 28\r\n{\"command\":\"echo\",\"args\":\"\"}\r\n",
    b"MSG  freeswitch.api  3   _INBOX.\xe9\xff.1 0\r\n\r\n",
    b"HMSG freeswitch.any 2 _INBOX.x 25 27\r\nNATS/1.0\r\nName: value\r\n\r\n{}\r\n",
    b"HMSG a 2 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    b"HMSG a 2 r 16 16\r\nNATS/1.0 503\r\n\r\n\r\n",
)  # fmt: skip


def recorded() -> list[bytes]:
    """What FreeSWITCH sent in the recorded conversations."""
    lines = [line for file in sorted(FIXTURES.iterdir()) for line in file.read_text().splitlines()]
    return [ast.literal_eval(line[4:]) for line in lines if line.startswith("<<< b")]


class Stream(Target):
    """Each input is all that a peer sends; it is read in one piece, and in many."""

    def __init__(self, reader: Callable[[], Any], corpus: Sequence[bytes], exact: Callable[[Any], bytes]) -> None:
        """`exact`: what must be in the stream as it stands, of one thing read."""
        self._reader, self._corpus, self._exact = reader, corpus, exact
        self._number = 0

    def make(self, rng: random.Random) -> bytes:
        data = b"".join(rng.choice(self._corpus) for _ in range(rng.choice((1, 2, 5))))
        if rng.random() < 0.1:
            data = b"".join(token(rng) for _ in range(rng.randrange(1, 9))) + data
        return damaged(rng, data, self._corpus) if rng.random() < 0.9 else data

    def feed(self, rng: random.Random, data: bytes) -> None:
        whole, fault = self._read([data])
        pieces, fault_in_pieces = self._read(cut(rng, data))
        assert fault_in_pieces == fault
        # What came before a fault is lost where it came in the same read, so pieces may bring more.
        assert pieces == whole or fault and pieces[: len(whole)] == whole, (whole, pieces)
        for each in whole:
            assert self._exact(each) in data, each

    def _read(self, pieces: Sequence[bytes]) -> tuple[list[Any], bool]:
        reader = self._reader()
        found: list[Any] = []
        for piece in pieces:
            try:
                found += reader.feed(piece)
            except LinkError:
                return found, True
        return found, False


def _reply_of(operation: Any) -> bytes:
    """The bytes of a message's data; of anything else nothing."""
    return bytes(getattr(operation, "data", b""))


def test_a_nats_server() -> None:
    fuzz(lambda: Stream(WireReader, NATS, _reply_of))


def test_an_event_socket() -> None:
    corpus = recorded()
    assert len(corpus) > 20
    fuzz(lambda: Stream(FrameReader, corpus, lambda frame: bytes(frame.body)))
