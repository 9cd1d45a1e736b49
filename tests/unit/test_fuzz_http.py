"""The HTTP listener, fed with damaged requests and raw bytes: what comes back is HTTP, and it goes on listening."""

from __future__ import annotations

import random
import re
import socket
import threading
from collections.abc import Sequence

from event_agent.http.server import HttpAnswer, HttpRequest, HttpServer
from tests.fuzz.harness import Target, fuzz
from tests.fuzz.mutator import cut, damaged, token

LIMIT = 5.0  # seconds for an answer
STATUSES = frozenset((100, 200, 400, 401, 403, 404, 405, 408, 411, 413, 414, 431, 500, 503, 505))
_HEAD = re.compile(
    rb"HTTP/1\.1 (\d{3}) [A-Za-z -]+\r\n((?:[A-Za-z-]+: [\x20-\x7e]*\r\n)*)\r\n"
)
_LENGTH = re.compile(rb"(?:^|\n)Content-Length: (\d+)\r\n")
CORPUS: tuple[bytes, ...] = (
    b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"HEAD /health HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /q?a=b&c=%20 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /echo HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
    b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"OPTIONS * HTTP/1.1\r\n\r\n",
    b"GET http://x/health HTTP/1.1\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
)  # fmt: skip


def echo(request: HttpRequest) -> HttpAnswer:
    return HttpAnswer(request.body or request.query.encode("latin-1"))


def answers(data: bytes, whole: bool = True, heads: bool = False) -> list[tuple[int, bytes]]:
    """(status, body) of each answer in a stream; AssertionError if it is no HTTP, or (if `whole`) ends in an answer.

    `heads`: HEAD may have been asked; the answer to that has the length of a body, and none.
    """
    found = []
    while data:
        head = _HEAD.match(data)
        if head is None and not whole and b"\r\n\r\n" not in data:
            break
        assert head is not None, f"no answer: {data[:200]!r}"
        status = int(head[1])
        assert status in STATUSES, data[:200]
        length = _LENGTH.search(head[2])
        size = int(length[1]) if length else 0
        assert length or status == 100, head[0]
        if heads and data[head.end() :][:9] in (b"", b"HTTP/1.1 "):
            size = 0
        assert len(data) >= head.end() + size or not whole, "an answer was cut short"
        if status != 100:
            found.append((status, data[head.end() : head.end() + size]))
        data = data[head.end() + size :]
    return found


class Listener(Target):
    """Each input is what one client sends before it says that there is no more."""

    here = False
    spike = 8_000_000

    def __init__(self) -> None:
        self.server = HttpServer({
            ("POST", "/echo"): echo, ("GET", "/q"): echo, ("GET", "/health"): lambda _: HttpAnswer(b"ok"),
        })  # fmt: skip
        before = set(threading.enumerate())
        self.server.start("127.0.0.1", 0)
        self._threads = [each for each in threading.enumerate() if each not in before]
        self._number = 0
        self._made, self._bodies = b"", [b""]  # an undamaged input, and what is answered to it

    def threads(self) -> Sequence[threading.Thread]:
        return self._threads

    def make(self, rng: random.Random) -> bytes:
        if rng.random() < 0.02:
            return b"".join(token(rng) for _ in range(rng.randrange(1, 9)))
        bodies = [rng.randbytes(rng.choice((1, 9, 300, 5000))) for _ in range(rng.randrange(1, 4))]
        parts = [_post(body, b"y" * rng.randrange(99)) for body in bodies]
        if rng.random() < 0.2:
            self._made, self._bodies = b"".join(parts), bodies
            return self._made
        parts.insert(rng.randrange(len(parts) + 1), rng.choice(CORPUS))
        return damaged(rng, b"".join(parts), CORPUS)

    def feed(self, rng: random.Random, data: bytes) -> None:
        found, closed = self._ask(cut(rng, data))
        came = answers(found, whole=closed, heads=b"HEAD" in data)
        if data == self._made:
            assert came and came == [(200, each) for each in self._bodies][: len(came)]

    def settle(self) -> None:
        """What is undamaged is answered, each question with its own answer and in order, whatever came before."""
        bodies = [b"%d" % (self._number + each) for each in range(3)]
        self._number += 3
        found = answers(self._ask([b"".join(map(_post, bodies))])[0])
        assert found and found == [(200, each) for each in bodies][: len(found)], found
        assert answers(self._ask([CORPUS[0]])[0]) == [(200, b"ok")]

    def _ask(self, pieces: list[bytes]) -> tuple[bytes, bool]:
        """All that comes back until the listener closes; False if it did so while more was on its way to it."""
        found = b""
        with socket.create_connection(self.server.address, LIMIT) as peer:
            peer.settimeout(LIMIT)
            try:
                for piece in pieces:
                    peer.sendall(piece)
                peer.shutdown(socket.SHUT_WR)
                while chunk := peer.recv(65536):
                    found += chunk
            except TimeoutError:
                raise AssertionError(f"neither answered nor closed within {LIMIT:g} s") from None
            except OSError:
                return found, False
        return found, True

    def close(self) -> None:
        self.server.stop(5)


def _post(body: bytes, padding: bytes = b"") -> bytes:
    return b"POST /echo HTTP/1.1\r\nX: %b\r\nContent-Length: %d\r\n\r\n%b" % (padding, len(body), body)


def test_damaged_requests() -> None:
    fuzz(Listener)
