"""Several servers at one time: silent ones and dead ones hold nobody up."""

from __future__ import annotations

import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from event_agent.drivers.nats import tls
from event_agent.drivers.nats.race import greetings
from event_agent.drivers.nats.socket import TlsOptions
from event_agent.errors import LinkError
from tests.fakes.nats import FakeNats
from tests.support import free_port, until
from tests.unit.nats.conftest import Start

LIMIT = 120.0  # seconds a try has here: more than the test


def url(port: int) -> str:
    return f"nats://127.0.0.1:{port}"


@pytest.fixture
def dead() -> Iterator[Callable[[str], str]]:
    """Makes servers that are none: one is silent, one takes no connection and refuses none."""
    with ExitStack() as stack:

        def make(kind: str) -> str:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
            if kind == "swallows":  # its queue is full, so Linux drops what comes
                for _ in range(3):
                    filler = stack.enter_context(socket.socket())
                    filler.setblocking(False)
                    filler.connect_ex(listener.getsockname())
            return url(listener.getsockname()[1])

        yield make


def on() -> bool:
    return True


def test_the_first_that_greets(server: FakeNats, dead: Callable[[str], str]) -> None:
    kinds = ("silent", "swallows", "silent", "swallows")
    refused = url(free_port())
    with closing(greetings([refused, *map(dead, kinds), server.url], LIMIT, on)) as found:
        first, fault = next(found)
        assert first == refused and str(fault) == "Connection refused"
        thread = threading.Thread(target=server.accept)
        thread.start()
        won, sock = next(found)
        thread.join()
        assert won == server.url and isinstance(sock, socket.socket)
        assert sock.recv(5) == b"INFO "
        sock.close()


def test_the_order_counts(server: FakeNats) -> None:
    other = FakeNats()
    try:
        with closing(greetings([server.url, other.url], LIMIT, on)) as found:
            for each in (server, other):
                thread = threading.Thread(target=each.accept)
                thread.start()
                won, sock = next(found)
                thread.join()
                assert won == each.url and isinstance(sock, socket.socket)
                sock.close()
            assert list(found) == []
    finally:
        other.close()


def test_why_there_is_none(dead: Callable[[str], str]) -> None:
    silent, swallows = dead("silent"), dead("swallows")
    found = dict(greetings([silent, swallows, "nats://" + "a" * 300], 0.5, on))
    assert all(isinstance(each, LinkError) for each in found.values()) and len(found) == 3
    assert str(found[silent]) == "the server does not answer" and str(found[swallows]) == "timed out"


def test_it_ends_when_nobody_wants_it_any_more(dead: Callable[[str], str]) -> None:
    looks: list[int] = []

    def go_on() -> bool:
        looks.append(1)
        return len(looks) < 4

    assert list(greetings([dead("silent"), dead("swallows")], LIMIT, go_on)) == []


def test_a_name_with_several_addresses(server: FakeNats, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that do not answer are no reason to leave the server out, and it is told of once."""
    nobody = free_port()
    known = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (nobody, server.port)]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: known)
    thread = threading.Thread(target=server.accept)
    thread.start()
    ((found, sock),) = greetings(["nats://name:1"], LIMIT, on)
    thread.join()
    assert found == "nats://name:1" and isinstance(sock, socket.socket)
    sock.close()
    known[1] = known[0]
    ((found, fault),) = greetings(["nats://name:1"], LIMIT, on)
    assert str(fault) == "Connection refused"


def test_a_server_that_ends_when_tls_is_begun(server: FakeNats) -> None:
    """As one does that is killed; what TLS has taken over by then is not ours any more."""

    def begin(_: str, sock: socket.socket) -> socket.socket:
        link, _ = listener.accept()
        link.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        link.close()  # with a reset
        poll = select.poll()
        poll.register(sock, 0)
        until(lambda: poll.poll(0), "the reset has come")
        return tls.begin(sock, TlsOptions(verify=False), "localhost")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = f"tls://127.0.0.1:{listener.getsockname()[1]}"
        with closing(greetings([ended, server.url], LIMIT, on, begin)) as found:
            assert [(won, str(fault)) for won, fault in [next(found)]] == [(ended, "Connection reset by peer")]
            thread = threading.Thread(target=server.accept)
            thread.start()
            won, sock = next(found)
            thread.join()
            assert won == server.url and isinstance(sock, socket.socket)
            sock.close()


def test_a_server_that_refuses_us_is_passed_over(
    server: FakeNats, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    other = FakeNats()
    try:
        under = start(server.url, other.url)
        under.driver.start()
        server.accept(pongs=False).send(b"-ERR 'maximum connections exceeded'\r\n")
        other.accept()
        until(lambda: under.ups == 1, "the other took us")
        assert "maximum connections exceeded; retrying" in caplog.text
    finally:
        under.driver.stop(2)
        other.close()


def test_three_dead_addresses_that_a_cluster_advertises(
    server: FakeNats, start: Start, dead: Callable[[str], str], caplog: pytest.LogCaptureFixture
) -> None:
    """The configured server is back at once: it is tried first."""
    server.info["connect_urls"] = [dead(kind)[7:] for kind in ("silent", "swallows", "silent")]
    under = start(server.url)
    link = under.connect(server)
    assert len(under.driver.servers) == 4
    link.close()
    server.accept()
    until(lambda: under.ups == 2, "back")
    assert "retrying" not in caplog.text, "no dead one was waited for"


def test_what_the_cluster_advertises_can_be_ignored(server: FakeNats, start: Start) -> None:
    server.info["connect_urls"] = ["127.0.0.1:1", "127.0.0.1:2"]
    under = start(server.url, ignore_discovered=True)
    under.connect(server)
    assert under.driver.servers.round() == [server.url]
