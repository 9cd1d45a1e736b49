"""The listener, spoken to over real sockets."""

from __future__ import annotations

import contextlib
import http.client
import os
import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_agent.http.server import HttpAnswer, HttpLimits, HttpRequest, HttpServer, Later
from tests.support import until

BIG = b"x" * 3_000_000


def echo(request: HttpRequest) -> HttpAnswer:
    return HttpAnswer(request.body or request.query.encode())


Make = Callable[..., HttpServer]


def fail(request: HttpRequest) -> HttpAnswer:
    raise RuntimeError("a route's own fault")


@pytest.fixture
def make() -> Iterator[Make]:
    servers: list[HttpServer] = []

    def build(**limits: Any) -> HttpServer:
        servers.append(HttpServer({
            ("POST", "/dialplan"): echo, ("GET", "/health"): lambda _: HttpAnswer(b"ok"), ("GET", "/fail"): fail,
            ("GET", "/big"): lambda _: HttpAnswer(BIG, "application/octet-stream"), ("GET", "/q"): echo,
        }, limits=HttpLimits(**limits)))  # fmt: skip
        return servers[-1]

    yield build
    for server in servers:
        server.stop(5)
    assert not [thread.name for thread in threading.enumerate() if thread.name == "http"]


def started(server: HttpServer) -> HttpServer:
    server.start("127.0.0.1", 0)
    return server


@pytest.fixture
def server(make: Make) -> HttpServer:
    return started(make())


def ask(server: HttpServer, data: bytes, *, end: bool = True) -> bytes:
    """Send these bytes and, with `end`, no more; all that comes back."""
    with socket.create_connection(server.address, 5) as peer:
        peer.sendall(data)
        if end:
            peer.shutdown(socket.SHUT_WR)
        answer = b""
        while chunk := peer.recv(65536):
            answer += chunk
        return answer


def post(body: bytes, *fields: str) -> bytes:
    lines = ["POST /dialplan HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *fields]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def test_somebody_elses_client(server: HttpServer) -> None:
    client = http.client.HTTPConnection(*server.address, timeout=5)
    for size in (0, 1, 3000, 200_000):  # all on one connection
        client.request("POST", "/dialplan", b"a" * size)
        answer = client.getresponse()
        assert (answer.status, answer.read()) == (200, b"a" * size)
    client.request("GET", "/q?a=b&c")
    assert client.getresponse().read() == b"a=b&c"
    client.request("GET", "/big")
    assert client.getresponse().read() == BIG
    client.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", 404),
        (b"GET /dialplan HTTP/1.1\r\n\r\n", 405),
        (b"GET /fail HTTP/1.1\r\n\r\n", 500),
        (b"nonsense\r\n\r\n", 400),
        (b"GET http://x/ HTTP/1.1\r\n\r\n", 400),
        (b"GET /health HTTP/2\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n: x\r\n\r\n", 400),
        (b"GET /health HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        (b"POST /dialplan HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /dialplan HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        (b"POST /dialplan HTTP/1.1\r\nContent-Length: 999999\r\n\r\n", 413),
        (b"POST /dialplan HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", 413),
        (b"POST /dialplan HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (b"GET /health HTTP/1.1\r\nX: " + b"x" * 20000, 431),
    ],
)
def test_refused(server: HttpServer, data: bytes, status: int) -> None:
    assert ask(server, data).startswith(f"HTTP/1.1 {status} ".encode())
    assert b"200 OK" in ask(server, post(b"still there"))


def test_head_and_allow(server: HttpServer) -> None:
    answer = ask(server, b"HEAD /health HTTP/1.1\r\n\r\n")
    whole = ask(server, b"GET /health HTTP/1.1\r\n\r\n")
    assert answer == whole[: whole.index(b"\r\n\r\n") + 4] and b"Content-Length: 2\r\n" in answer
    both = ask(server, b"HEAD /health HTTP/1.1\r\n\r\n" + post(b"two"))
    assert both.count(b"200 OK") == 2 and both.endswith(b"two")
    for request, allowed in (
        (b"POST /health HTTP/1.1\r\n\r\n", b"GET, HEAD"), (b"DELETE /dialplan HTTP/1.1\r\n\r\n", b"POST"),
        (b"HEAD /dialplan HTTP/1.1\r\n\r\n", b"POST"),
    ):  # fmt: skip
        answer = ask(server, request)
        assert answer.startswith(b"HTTP/1.1 405 ") and b"\r\nAllow: " + allowed + b"\r\n" in answer
    assert b"Allow" not in ask(server, b"HEAD /nothing HTTP/1.1\r\n\r\n")


def test_keep_alive_and_close(server: HttpServer) -> None:
    both = ask(server, post(b"one") + post(b"two", "Connection: close") + post(b"three"), end=False)
    assert both.count(b"200 OK") == 2 and both.endswith(b"two") and b"one" in both
    assert ask(server, b"GET /health HTTP/1.0\r\n\r\n", end=False).endswith(b"ok")


def test_a_request_in_pieces(server: HttpServer) -> None:
    with socket.create_connection(server.address, 5) as peer:
        for byte in post(b"slowly but surely"):
            peer.send(bytes((byte,)))
        assert peer.recv(4096).endswith(b"slowly but surely")


def test_expect_100(server: HttpServer) -> None:
    with socket.create_connection(server.address, 5) as peer:
        head = post(b"body", "Expect: 100-continue")[:-4]
        peer.sendall(head)
        assert peer.recv(4096) == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.sendall(b"body")
        assert peer.recv(4096).endswith(b"\r\n\r\nbody")


def test_time_limits(make: Make) -> None:
    server = started(make(first=0.3, request=0.2, idle=0.4))
    for data, least in ((b"POST /dialplan HTT", 0.2), (post(b"body")[:-1], 0.2), (b"", 0.3), (post(b"x"), 0.4)):
        began = time.monotonic()
        ask(server, data, end=False)
        assert least - 0.05 < time.monotonic() - began < least + 10


def test_a_byte_now_and_then_makes_no_request_longer(make: Make) -> None:
    server = started(make(request=0.3))
    began = time.monotonic()
    with socket.create_connection(server.address, 5) as peer, pytest.raises(OSError):
        for byte in post(b"x" * 1000):
            peer.send(bytes((byte,)))
            threading.Event().wait(0.01)  # the sender's pace
    assert 0.2 < time.monotonic() - began < 10


def test_connections_that_ask_nothing_keep_nobody_out(server: HttpServer, caplog: pytest.LogCaptureFixture) -> None:
    """640 of them, five times as many as there may be, and then some that send a part of a request."""
    idle = [socket.create_connection(server.address, 5) for _ in range(640)]
    for each in idle[-100:]:
        each.sendall(post(b"x" * 100)[:-50])
    for _ in range(20):
        assert b"200 OK" in ask(server, post(b"late", "Connection: close"), end=False)
    assert len(server.peers) <= HttpLimits().connections
    assert caplog.text.count("too many connections") == 1
    answered = threading.Event()
    server.ask(answered.set)
    assert answered.wait(10)
    for each in idle:
        each.close()


def test_the_oldest_without_a_request_goes(make: Make) -> None:
    server = started(make(connections=3))
    first, second, third, fourth = (socket.create_connection(server.address, 5) for _ in range(4))
    assert first.recv(1) == b""
    second.sendall(b"GET /health HTTP/1.1\r\n\r\n")  # it has asked since
    assert second.recv(4096).endswith(b"ok")
    fifth = socket.create_connection(server.address, 5)
    assert third.recv(1) == b""
    for each in (second, fourth, fifth):
        each.sendall(b"GET /health HTTP/1.1\r\nConnection: close\r\n\r\n")
        assert each.recv(4096).endswith(b"ok")
    for each in (first, second, third, fourth, fifth):
        each.close()


def test_those_that_take_no_answer_keep_nobody_out(make: Make) -> None:
    server = started(make(connections=3))
    deaf = []
    for _ in range(6):
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(server.address)
        peer.sendall(b"GET /big HTTP/1.1\r\n\r\n" * 3)
        deaf.append(peer)
    assert b"200 OK" in ask(server, post(b"late", "Connection: close"), end=False)
    for peer in deaf:
        peer.close()


def test_without_a_descriptor_for_one_more_it_waits_and_goes_on(server: HttpServer) -> None:
    here = len(os.listdir("/proc/self/fd"))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    held = [socket.create_connection(server.address, 5) for _ in range(8)]
    until(lambda: len(server.peers) >= len(held), "they are taken", 20)
    late = socket.socket()
    used = time.process_time()
    resource.setrlimit(resource.RLIMIT_NOFILE, (here + 2 * len(held) + 1, before[1]))
    try:
        late.connect(server.address)
        late.settimeout(5)
        late.sendall(post(b"late"))
        assert late.recv(4096).endswith(b"late"), "one that asks nothing made room"
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert time.process_time() - used < 0.5
    for each in (*held, late):
        each.close()


def test_a_client_that_does_not_read_is_cut_off(make: Make) -> None:
    server = started(make(request=0.2))
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(server.address)
        peer.sendall(b"GET /big HTTP/1.1\r\n\r\n" * 5)
        time.sleep(0.5)  # a reader that reads nothing for so long
        peer.settimeout(5)
        taken = 0
        try:
            while chunk := peer.recv(65536):
                taken += len(chunk)
        except ConnectionResetError:
            pass
        assert taken < 5 * len(BIG)


def test_many_clients_at_once(server: HttpServer) -> None:
    failures: list[object] = []

    def one(number: int) -> None:
        for turn in range(50):
            body = f"{number}-{turn}".encode()
            if not ask(server, post(body, "Connection: close"), end=False).endswith(b"\r\n\r\n" + body):
                failures.append(body)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not failures


def test_a_port_that_is_taken(server: HttpServer, make: Make) -> None:
    with pytest.raises(OSError, match="in use"):
        make().start(*server.address)


def test_ipv6(make: Make) -> None:
    found = make()
    found.start("::1", 0)
    assert b"200 OK" in ask(found, post(b"x"))


def test_it_stops_with_connections_open(server: HttpServer) -> None:
    with socket.create_connection(server.address, 5) as peer:
        peer.sendall(post(b"half")[:-2])
        # Or the kernel ends the connection with a reset: something would be left unread.
        until(lambda: any(each.taken for each in list(server.peers)), "it has read that", 20)
        started = time.monotonic()
        server.stop(30)
        assert time.monotonic() - started < 10
        assert peer.recv(1) == b""


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(max_size=300), st.binary(max_size=60).map(lambda junk: post(b"ab")[:-20] + junk)))
def test_any_bytes(server: HttpServer, data: bytes) -> None:
    ask(server, data)
    assert ask(server, post(b"alive", "Connection: close")).endswith(b"alive")


def test_a_thousand_requests_in_one_read_are_answered_as_they_are_taken(server: HttpServer) -> None:
    """Each for 3 MB: only what the peer takes is made, and all of it comes."""
    with socket.create_connection(server.address, 5) as peer:
        peer.sendall(b"GET /big HTTP/1.1\r\n\r\n" * 1000)
        held = until(lambda: max((len(each.unsent) for each in list(server.peers)), default=0), "it is answered", 20)
        assert held < 2 * len(BIG)
    with socket.create_connection(server.address, 5) as peer:
        peer.sendall(b"GET /big HTTP/1.1\r\n\r\n" * 4 + b"GET /q?end HTTP/1.1\r\nConnection: close\r\n\r\n")
        taken = b""
        while chunk := peer.recv(1 << 20):
            taken += chunk
    assert taken.count(b"HTTP/1.1 200 OK") == 5 and len(taken) > 4 * len(BIG) and taken.endswith(b"\r\n\r\nend")


def test_a_peer_that_has_given_up_is_known() -> None:
    gone: list[bool] = []
    let_go = threading.Event()

    def busy() -> None:
        let_go.wait(20)

    def route(request: HttpRequest) -> HttpAnswer:
        gone.append(request.gone())
        return HttpAnswer(b"")

    server = HttpServer({("GET", "/"): route})
    server.start("127.0.0.1", 0)
    try:
        server.ask(busy)
        waits, gave_up = (socket.create_connection(server.address, 10) for _ in range(2))
        for peer in (gave_up, waits):
            peer.sendall(b"GET / HTTP/1.1\r\n\r\n")
        gave_up.close()
        let_go.set()
        assert waits.recv(100).startswith(b"HTTP/1.1 200")
        until(lambda: len(gone) == 2, "both were looked at")
        assert sorted(gone) == [False, True]
        waits.close()
    finally:
        server.stop(10)


# -- answers that are made later


class Slow:
    """A route that answers when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[HttpRequest, Later]] = []

    def __call__(self, request: HttpRequest) -> Later:
        later = request.later()
        self.waiting.append((request, later))
        return later

    def answer(self, text: bytes = b"done") -> None:
        self.waiting.pop(0)[1].answer(lambda: HttpAnswer(text))


@pytest.fixture
def slow() -> Slow:
    return Slow()


@pytest.fixture
def patient(slow: Slow) -> Iterator[HttpServer]:
    routes = {("POST", "/dialplan"): slow, ("GET", "/health"): lambda _: HttpAnswer(b"ok")}
    server = HttpServer(routes, limits=HttpLimits(connections=4))  # type: ignore[arg-type]
    yield started(server)
    server.stop(5)
    assert not [thread.name for thread in threading.enumerate() if thread.name == "http"]


def test_an_answer_that_is_made_later(patient: HttpServer, slow: Slow) -> None:
    with socket.create_connection(patient.address, 20) as peer:
        peer.sendall(post(b"1") + post(b"2") + b"GET /health HTTP/1.1\r\n\r\n")
        until(lambda: slow.waiting, "it waits", 20)
        assert ask(patient, b"GET /health HTTP/1.1\r\n\r\n").endswith(b"ok")
        assert len(slow.waiting) == 1  # the next request of a connection waits for the answer before
        slow.answer(b"first")
        until(lambda: slow.waiting, "so does the second", 20)
        slow.answer(b"second")
        answer = b""
        while not answer.endswith(b"ok"):
            answer += peer.recv(65536)
    assert [part for part in (b"first", b"second", b"ok") if part in answer] == [b"first", b"second", b"ok"]
    assert answer.index(b"first") < answer.index(b"second") and answer.count(b"200 OK") == 3


def test_those_that_wait_keep_nobody_out(patient: HttpServer, slow: Slow) -> None:
    with contextlib.ExitStack() as stack:
        calls = [stack.enter_context(socket.create_connection(patient.address, 20)) for _ in range(3)]
        for number in range(50):
            calls.append(stack.enter_context(socket.create_connection(patient.address, 20)))
            calls[-1].sendall(post(b"%d" % number))
            until(lambda count=number + 1: len(slow.waiting) == count, "it waits", 20)  # type: ignore[misc]
        for _ in range(20):
            assert ask(patient, b"GET /health HTTP/1.1\r\n\r\n").endswith(b"ok")
        while slow.waiting:
            slow.answer()
        assert all(call.recv(4096).endswith(b"done") for call in calls[3:])


def test_the_client_that_asked_has_gone(patient: HttpServer, slow: Slow) -> None:
    with socket.create_connection(patient.address, 20) as peer:
        peer.sendall(post(b"x"))
        until(lambda: slow.waiting, "it waits", 20)
    request, later = slow.waiting[0]
    until(request.gone, "its end is seen", 20)
    called = threading.Event()

    def make_it() -> HttpAnswer:
        called.set()
        return HttpAnswer(b"to nobody")

    later.answer(make_it)
    assert called.wait(20)  # it is made all the same
    assert ask(patient, b"GET /health HTTP/1.1\r\n\r\n").endswith(b"ok")


def test_who_goes_on_sending_meanwhile_is_cut_off(patient: HttpServer, slow: Slow) -> None:
    with socket.create_connection(patient.address, 20) as peer:
        peer.sendall(post(b"x"))
        until(lambda: slow.waiting, "it waits", 20)
        with pytest.raises(OSError):
            for _ in range(1000):
                peer.sendall(b"x" * 65536)
    assert ask(patient, b"GET /health HTTP/1.1\r\n\r\n").endswith(b"ok")


def test_an_answer_that_never_comes(slow: Slow) -> None:
    server = HttpServer({("POST", "/dialplan"): slow}, limits=HttpLimits(later=0.2))
    try:
        with socket.create_connection(started(server).address, 20) as peer:
            peer.sendall(post(b"x"))
            assert peer.recv(4096) == b""
        slow.answer()  # to nobody, any more
    finally:
        server.stop(5)


def test_an_answer_that_fails(patient: HttpServer, slow: Slow, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(patient.address, 20) as peer:
        peer.sendall(post(b"x", "Connection: close"))
        until(lambda: slow.waiting, "it waits", 20)

        def fails() -> HttpAnswer:
            raise RuntimeError("a fault of the route")

        slow.waiting.pop(0)[1].answer(fails)
        assert peer.recv(4096).startswith(b"HTTP/1.1 500 ") and peer.recv(4096) == b""
    assert "unhandled exception in an answer made later" in caplog.text
    assert ask(patient, b"GET /health HTTP/1.1\r\n\r\n").endswith(b"ok")
