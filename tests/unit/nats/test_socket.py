"""The connection to a NATS server as bytes: time limits, what is taken now, its end."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from event_agent.drivers.nats.socket import READ_SIZE, NatsSocket, TlsOptions
from event_agent.drivers.nats.tls import TlsSocket
from event_agent.errors import LinkError


@pytest.fixture
def ends() -> Iterator[tuple[NatsSocket, socket.socket]]:
    """Ours, and the server's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = NatsSocket("127.0.0.1", listener.getsockname()[1], 5)
        theirs, _ = listener.accept()
    with theirs:
        yield ours, theirs
    ours.close()


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a" * 64 + ".invalid", "..", "127.0.0.1"])
def test_who_can_not_be_reached(host: str) -> None:
    with pytest.raises(LinkError) as caught:
        NatsSocket(host, 1, 5)
    assert str(caught.value) and "[Errno" not in str(caught.value)


def test_a_step_has_a_limit_however_slowly_bytes_come(ends: tuple[NatsSocket, socket.socket]) -> None:
    ours, theirs = ends
    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(0.01):
            theirs.sendall(b"x")

    thread = threading.Thread(target=trickle)
    thread.start()
    try:
        deadline = time.monotonic() + 0.2
        with pytest.raises(LinkError, match="does not answer"):
            while True:
                assert ours.receive_by(deadline)
        assert time.monotonic() < deadline + 2
    finally:
        stop.set()
        thread.join()


def test_writing_never_waits(ends: tuple[NatsSocket, socket.socket]) -> None:
    ours, theirs = ends
    ours.ready()
    sent = 0
    while taken := ours.send_now(b"x" * 1000000):
        sent += taken
    assert not ours.wait_writable(0.01)
    left = sent
    while left:
        left -= len(theirs.recv(1000000))
    assert ours.wait_writable(5) and ours.send_now(b"y") == 1
    assert theirs.recv(10) == b"y"


def test_the_end(ends: tuple[NatsSocket, socket.socket]) -> None:
    ours, theirs = ends
    ours.ready()
    theirs.sendall(b"z" * 10)
    assert ours.receive() == b"z" * 10
    reader = threading.Thread(target=ours.receive)
    reader.start()
    ours.abort()
    reader.join(5)
    assert not reader.is_alive() and ours.receive() == b""
    with pytest.raises(LinkError):
        ours.send_now(b"x")
    ours.close()
    ours.abort()  # once more is no fault
    assert not ours.wait_writable(0.01) and READ_SIZE >= 65536


@pytest.mark.parametrize("options", [TlsOptions(ca="/nonexistent/file.pem"), TlsOptions(cert="/nonexistent/file.pem")])
def test_files_of_tls_that_are_not_there(ends: tuple[NatsSocket, socket.socket], options: TlsOptions) -> None:
    ours, _ = ends
    with pytest.raises(LinkError):
        TlsSocket(ours, options, "localhost")
