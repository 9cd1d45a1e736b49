"""TLS with servers that greet, that do not, and that do so late; and what is said if it can't be had."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from event_agent.drivers.nats import tls
from event_agent.drivers.nats.connection import NatsClient
from event_agent.drivers.nats.socket import NatsSocket, TlsOptions
from event_agent.errors import LinkError
from tests.support import until
from tests.unit.nats.conftest import Start

INFO = {"server_id": "FAKE", "max_payload": 1000, "headers": True, "tls_required": True}
LIMIT = 20.0


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ca.pem, other.pem, a CA that signed nothing, server.pem for localhost, old.pem that has expired; keys of all."""
    folder = tmp_path_factory.mktemp("tls")
    (folder / "san").write_text("subjectAltName=DNS:localhost\n")
    for name in ("ca", "other", "server", "old", "client"):
        openssl(folder, "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", f"{name}.key")
        if name in ("ca", "other"):
            openssl(folder, "req", "-x509", "-key", f"{name}.key", "-days", "2", "-subj", f"/CN={name}",
                    "-out", f"{name}.pem")  # fmt: skip
            continue
        openssl(folder, "req", "-new", "-key", f"{name}.key", "-subj", f"/CN={name}", "-out", f"{name}.csr")
        openssl(folder, "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
                "-days", "-1" if name == "old" else "2", "-extfile", "san", "-out", f"{name}.pem")  # fmt: skip
    openssl(folder, "ec", "-in", "client.key", "-aes128", "-passout", "pass:secret", "-out", "locked.key")
    return folder


class Server:
    """One connection at a time; `script` is what it does with each, and gets its plain socket."""

    def __init__(self, files: Path, script: Callable[[Server, socket.socket], None]) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(files / "server.pem", files / "server.key")
        self.said = b""
        self.spoken_to = threading.Event()  # with TLS, unasked
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                sock.settimeout(LIMIT)
                with sock, contextlib.suppress(OSError):
                    self._script(self, sock)

    def greet(self, sock: socket.socket, **more: object) -> None:
        sock.sendall(b"INFO " + json.dumps(INFO | more).encode() + b"\r\n")

    def tls(self, sock: socket.socket) -> ssl.SSLSocket:
        return self.context.wrap_socket(sock, server_side=True)

    def serve(self, sock: socket.socket) -> None:
        """As a NATS server does, to the end of the link."""
        while data := sock.recv(65536):
            self.said += data
            for _ in range(data.count(b"PING\r\n")):
                sock.sendall(b"PONG\r\n")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(LIMIT)


@pytest.fixture
def began(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[threading.Event]]:
    """Events to be set when we have begun TLS."""
    events: list[threading.Event] = []
    begin = tls.begin

    def beginning(*arguments: Any) -> Any:
        begun = begin(*arguments)
        for each in events:
            each.set()
        return begun

    monkeypatch.setattr(tls, "begin", beginning)
    yield events


Made = Callable[[Callable[[Server, socket.socket], None]], Server]


@pytest.fixture
def serve(files: Path, began: list[threading.Event]) -> Iterator[Made]:
    made: list[Server] = []

    def make(script: Callable[[Server, socket.socket], None]) -> Server:
        made.append(Server(files, script))
        began.append(made[-1].spoken_to)
        return made[-1]

    yield make
    for each in made:
        each.close()


def usual(server: Server, sock: socket.socket) -> None:
    server.greet(sock)
    server.serve(server.tls(sock))


def first(server: Server, sock: socket.socket) -> None:
    """handshake_first: true."""
    secure = server.tls(sock)
    server.greet(secure)
    server.serve(secure)


def late(server: Server, sock: socket.socket) -> None:
    """The greeting crosses our first words of TLS, as it does on a long line."""
    server.spoken_to.wait(LIMIT)
    server.greet(sock)
    server.serve(server.tls(sock))


def late_in_parts(server: Server, sock: socket.socket) -> None:
    server.spoken_to.wait(LIMIT)
    whole = b"INFO " + json.dumps(INFO).encode() + b"\r\n"
    for part in (whole[:3], whole[3:-1], whole[-1:]):
        sock.sendall(part)
        time.sleep(0.05)  # it has been taken: nothing waits for it
    server.serve(server.tls(sock))


@pytest.mark.parametrize("script", [usual, first, late, late_in_parts])
def test_either_side_begins(
    serve: Made, files: Path, start: Start, script: Callable[[Server, socket.socket], None]
) -> None:
    server = serve(script)
    under = start(f"tls://localhost:{server.port}", tls=TlsOptions(ca=str(files / "ca.pem")))
    under.driver.start()
    until(lambda: under.driver.status.up, "connected", LIMIT)
    assert b"CONNECT {" in server.said and under.driver.stats()["server"] == "FAKE"


@pytest.mark.parametrize("script", [usual, first, late])
def test_either_side_begins_with_the_client_for_programs(
    serve: Made, files: Path, script: Callable[[Server, socket.socket], None]
) -> None:
    server = serve(script)
    client = NatsClient(f"tls://localhost:{server.port}", name="x", tls=TlsOptions(ca=str(files / "ca.pem")))
    client.connect()
    assert client.flush(LIMIT)
    client.close()


def fault(serve: Made, options: TlsOptions, script: Callable[[Server, socket.socket], None], host: str) -> str:
    server = serve(script)
    with pytest.raises(LinkError) as caught:
        NatsClient(f"tls://{host}:{server.port}", name="x", tls=options).connect()
    assert "s3cr3t" not in str(caught.value)
    return str(caught.value)


def test_what_is_wrong_is_said_in_the_words_of_the_settings(serve: Made, files: Path) -> None:
    (files / "text").write_text("s3cr3t")
    (files / "empty").write_text("")

    def said(host: str = "localhost", **options: str) -> str:
        paths: dict[str, Any] = {name: str(files / each) for name, each in options.items()}
        return fault(serve, TlsOptions(**paths), usual, host)

    assert said(ca="other.pem") == (
        f"the server's certificate is not signed by an authority in tls_ca ({files}/other.pem)"
    )
    assert said() == "the server's certificate is not signed by an authority in the system's store (set tls_ca)"
    assert said("127.0.0.1", ca="ca.pem") == "the server's certificate is not for 127.0.0.1, the name in url"
    for wrong in ("text", "empty", "ca.key"):
        assert said(ca=wrong) == f"tls_ca: {files}/{wrong} holds no certificate that can be read (PEM)"
        assert said(ca="ca.pem", cert=wrong, key="client.key") == (
            f"tls_cert: {files}/{wrong} holds no certificate that can be read (PEM)"
        )
    for wrong in ("text", "empty", "client.pem", "locked.key"):
        assert said(ca="ca.pem", cert="client.pem", key=wrong) == (
            f"tls_key: {files}/{wrong} holds no key that can be read (PEM, without a passphrase)"
        )
    assert said(ca="ca.pem", cert="client.pem", key="server.key") == (
        f"tls_key: {files}/server.key is not the key of the certificate in tls_cert ({files}/client.pem)"
    )
    assert said(ca="none") == f"tls_ca: {files}/none can't be read: No such file or directory"
    assert said(ca="ca.pem", cert="client.pem", key="none") == (
        f"tls_key: {files}/none can't be read: No such file or directory"
    )


def test_a_certificate_that_has_expired(serve: Made, files: Path) -> None:
    def script(server: Server, sock: socket.socket) -> None:
        server.context.load_cert_chain(files / "old.pem", files / "old.key")
        first(server, sock)

    found = fault(serve, TlsOptions(ca=str(files / "ca.pem")), script, "localhost")
    assert found == "the server's certificate has expired, by the clock of this machine"


def test_a_server_that_wants_a_certificate_of_ours(serve: Made, files: Path) -> None:
    def script(server: Server, sock: socket.socket) -> None:
        server.context.verify_mode = ssl.CERT_REQUIRED
        server.context.load_verify_locations(files / "ca.pem")
        first(server, sock)

    ca = str(files / "ca.pem")
    assert fault(serve, TlsOptions(ca=ca), script, "localhost") == (
        "the server wants a certificate of ours (tls_cert, tls_key)"
    )
    other = TlsOptions(ca=ca, cert=str(files / "other.pem"), key=str(files / "other.key"))
    assert f"does not take the certificate in tls_cert ({files}/other.pem, " in fault(serve, other, script, "localhost")


def test_a_server_without_tls(serve: Made, files: Path) -> None:
    options = TlsOptions(ca=str(files / "ca.pem"))

    def plain(server: Server, sock: socket.socket) -> None:
        server.greet(sock, tls_required=False)
        server.serve(sock)

    def late_and_plain(server: Server, sock: socket.socket) -> None:
        server.spoken_to.wait(LIMIT)
        plain(server, sock)

    for script in (plain, late_and_plain):
        assert fault(serve, options, script, "localhost") == "the server offers no TLS"

    def gone(_: Server, sock: socket.socket) -> None:
        sock.recv(1, socket.MSG_PEEK)

    assert fault(serve, options, gone, "localhost") in ("the server closed the connection during the TLS handshake",
                                                        os.strerror(errno.ECONNRESET))


def test_a_server_that_waits_for_tls_and_is_spoken_to_without(serve: Made) -> None:
    def script(_: Server, sock: socket.socket) -> None:
        sock.close()

    server = serve(script)
    with pytest.raises(LinkError, match=r"without a greeting \(does it want tls:// in url\?\)"):
        NatsClient(f"nats://localhost:{server.port}", name="x").connect()


def test_what_tls_has_begun_arrives_whatever_comes_first_after_it(serve: Made) -> None:
    """A reply and a PING go before events that wait: TLS must not take them for what it has begun to write."""
    read, received = threading.Event(), bytearray()

    def script(server: Server, sock: socket.socket) -> None:
        with server.tls(sock) as link:
            read.wait(LIMIT)
            while part := link.recv(65536):
                received.extend(part)

    server = serve(script)
    link = tls.TlsSocket(NatsSocket("localhost", server.port, LIMIT), TlsOptions(verify=False), "localhost")
    link.ready()
    taken = bytearray()
    data, blocked = b"", 0
    for letter in range(400):
        data += b"%c" % (65 + letter % 26) * 70_000  # behind what is begun something else each time
        count = link.send_now(data)
        taken += data[:count]
        blocked += count < len(data)
        data = data[count : count + 1]  # the rest of a message goes first; what stood behind it comes later
    assert blocked > 100, "the socket took all"
    read.set()
    while data:
        assert link.wait_writable(LIMIT)
        count = link.send_now(data)
        taken += data[:count]
        data = data[count:]
    until(lambda: len(received) >= len(taken), "all")
    link.close()
    assert received == taken
