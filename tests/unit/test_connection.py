"""One connection to the event socket, by FreeSWITCH's own bindings, to a server that does what a test tells it."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch import connection as module
from event_agent.freeswitch.connection import Connection, Refused, limit_sending
from event_agent.freeswitch.frames import Frame
from event_agent.freeswitch.scheduler import Limits
from event_agent.protocol.requests import MAX_REQUEST
from tests.support import until
from tests.switchsim import SwitchSim

GREETING = b"Content-Type: auth/request\n\n"
ACCEPTED = b"Content-Type: command/reply\nReply-Text: +OK accepted\n\n"
NOT_FOUND = b"Content-Type: command/reply\nReply-Text: -ERR command not found\n\n"
Talk = Callable[[socket.socket], None]


class Server:
    """Takes one connection after the other and lets `talk` have each, on a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.heard = b""
        self.over = threading.Event()
        self._threads: list[threading.Thread] = []

    def serve(self, talk: Talk) -> None:
        def run() -> None:
            with self._listener.accept()[0] as sock:
                sock.settimeout(5)
                try:
                    talk(sock)
                except OSError:
                    pass

        self._threads.append(threading.Thread(target=run, name="test-server", daemon=True))
        self._threads[-1].start()

    def greet(self, sock: socket.socket) -> None:
        """The binding sends `connect` first, as on an outbound connection, which FreeSWITCH does not know here."""
        sock.sendall(GREETING)
        self.read(sock, b"connect\n\n")
        sock.sendall(NOT_FOUND)
        self.read(sock, b"auth ClueCon\n\n")
        sock.sendall(ACCEPTED)

    def read(self, sock: socket.socket, ending: bytes) -> None:
        self.heard = b""
        while not self.heard.endswith(ending):
            chunk = sock.recv(65536)
            if not chunk:
                raise OSError("it went away")
            self.heard += chunk

    def close(self) -> None:
        self.over.set()
        try:
            self._listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self._listener.close()
        for thread in self._threads:
            thread.join(6)
            assert not thread.is_alive()


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


def nothing(sock: socket.socket) -> None:
    """Not a word."""


@pytest.fixture
def connect(server: Server) -> Iterator[Callable[[Talk], Connection]]:
    """Connects to a server that greets and then does this."""
    made: list[Connection] = []

    def make(talk: Talk = nothing) -> Connection:
        def run(sock: socket.socket) -> None:
            server.greet(sock)
            talk(sock)
            server.over.wait(5)

        server.serve(run)
        made.append(Connection("127.0.0.1", server.port, "ClueCon", 2.0))
        return made[-1]

    yield make
    for each in made:
        each.close()


def received(connection: Connection, count: int) -> list[Frame]:
    """So many frames, in order."""
    found: list[Frame] = []

    def enough() -> bool:
        found.extend(connection.receive(0.01))
        return len(found) >= count

    until(enough, f"{count} frames")
    return found


def refused(server: Server, talk: Talk, timeout: float = 0.2) -> LinkError:
    server.serve(talk)
    started = time.monotonic()
    with pytest.raises(LinkError) as caught:
        Connection("127.0.0.1", server.port, "ClueCon", timeout)
    assert time.monotonic() - started < 10, "every wait has a limit"
    until(lambda: "esl-connect-limit" not in {each.name for each in threading.enumerate()}, "no watchdog is left")
    return caught.value


# -- getting in


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(LinkError, match=f"FreeSWITCH at 127.0.0.1:{port} can't be reached: Connection refused"):
        Connection("127.0.0.1", port, "x", 1.0)


def test_a_name_that_does_not_resolve_harms_nothing() -> None:
    """The binding itself would close descriptor 0."""
    with pytest.raises(LinkError, match="can't be reached"):
        Connection("no-such-host.invalid", 8021, "x", 1.0)


def test_who_says_nothing(server: Server) -> None:
    def wait(sock: socket.socket) -> None:
        server.over.wait(5)

    error = refused(server, wait)
    assert "no greeting within 0.2 s" in str(error) and not isinstance(error, Refused)


def test_who_closes_at_once(server: Server) -> None:
    assert "closed the connection" in str(refused(server, nothing))


def test_who_is_no_event_socket(server: Server) -> None:
    assert "is no event socket" in str(refused(server, lambda sock: sock.sendall(b"HTTP/1.1 400\r\nX: y\n\n")))
    assert "FreeSWITCH" in str(refused(server, lambda sock: sock.sendall(b"x" * 200_000)))

    def nats(sock: socket.socket) -> None:  # no blank line
        sock.sendall(b'INFO {"server_id":"x"}\r\n')
        server.over.wait(5)

    assert "is no event socket: it sent b'INFO {" in str(refused(server, nats))


def test_the_access_list(server: Server) -> None:
    rejection = b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"
    error = refused(server, lambda sock: sock.sendall(rejection))
    assert isinstance(error, Refused) and "apply-inbound-acl" in str(error)


def test_a_wrong_password_is_not_shown(server: Server) -> None:
    def talk(sock: socket.socket) -> None:
        sock.sendall(GREETING)
        server.read(sock, b"connect\n\n")
        sock.sendall(NOT_FOUND)
        server.read(sock, b"auth ClueCon\n\n")
        sock.sendall(b"Content-Type: command/reply\nReply-Text: -ERR invalid\n\n")

    error = refused(server, talk, 1.0)
    assert isinstance(error, Refused) and "refuses the password: -ERR invalid" in str(error)
    assert "ClueCon" not in str(error)


def test_who_never_answers_to_the_password(server: Server) -> None:
    def talk(sock: socket.socket) -> None:
        sock.sendall(GREETING)
        server.read(sock, b"connect\n\n")
        sock.sendall(NOT_FOUND)
        server.over.wait(5)

    assert "does not answer to the password" in str(refused(server, talk))


# -- talking


def test_frames_of_one_read_come_together(connect: Callable[[Talk], Connection]) -> None:
    data = b"Content-Type: api/response\nContent-Length: 2\n\nabContent-Type: command/reply\nReply-Text: +OK\n\n"
    connection = connect(lambda sock: sock.sendall(data))
    assert [frame.text for frame in received(connection, 2)] == ["ab", "+OK"]
    assert connection.receive(0.0) == [] and not connection.ended


def test_what_is_sent_arrives_as_it_is(connect: Callable[[Talk], Connection], server: Server) -> None:
    connection = connect(lambda sock: server.read(sock, b"last\n\n"))
    connection.send("api echo é  x\n\n")
    connection.send("\n\n")
    connection.send("api last\n\n")
    until(lambda: server.heard.endswith(b"last\n\n"), "all")
    assert server.heard.replace(b"\n\n\n\n", b"\n\n").startswith("api echo é  x\n\n".encode())


def test_ask_keeps_what_else_comes(connect: Callable[[Talk], Connection], server: Server) -> None:
    """Before the answer, in the same read, and behind it."""

    def event(name: bytes) -> bytes:
        return b"Content-Length: %d\nContent-Type: text/event-json\n\n%s" % (len(name), name)

    answer = b"Content-Type: api/response\nContent-Length: 3\n\n+OK"

    def talk(sock: socket.socket) -> None:
        server.read(sock, b"\n\n")
        sock.sendall(event(b"one") + event(b"two") + answer + event(b"three"))

    connection = connect(talk)
    assert connection.ask("api x\n\n", 5).text == "+OK"
    assert [frame.body for frame in received(connection, 3)] == [b"one", b"two", b"three"]


def test_ask_has_a_time_limit(connect: Callable[[Talk], Connection]) -> None:
    connection = connect(nothing)
    started = time.monotonic()
    with pytest.raises(LinkError, match=r"did not answer within 0\.05 s"):
        connection.ask("api x\n\n", 0.05)
    assert time.monotonic() - started < 10


def test_what_is_asked_is_one_frame(connect: Callable[[Talk], Connection], server: Server) -> None:
    def talk(sock: socket.socket) -> None:
        server.read(sock, b"api x\n\n")
        sock.sendall(b"Content-Type: api/response\nContent-Length: 3\n\n+OK")

    connection = connect(talk)
    for text in ("api x\n\napi y\n\n", "\n\n", "api x", "filter Core-UUID a\r\n\r\n"):
        with pytest.raises(BadCommand):
            connection.ask(text, 5)
    assert connection.ask("api x\n\n", 5).text == "+OK"


@pytest.mark.parametrize("password", ["a\n\napi system date", "a\rb", "a\0b", "\ud800"])
def test_a_password_that_would_be_a_second_command(server: Server, password: str) -> None:
    def talk(sock: socket.socket) -> None:
        sock.sendall(GREETING)
        server.read(sock, b"connect\n\n")
        sock.sendall(NOT_FOUND)

    server.serve(talk)
    with pytest.raises(Refused, match="esl_password can't be sent") as caught:
        Connection("127.0.0.1", server.port, password, 1.0)
    assert password not in str(caught.value)


def test_the_end_is_noticed(connect: Callable[[Talk], Connection]) -> None:
    connection = connect(lambda sock: sock.shutdown(socket.SHUT_RDWR))
    until(lambda: connection.ended, "the end")
    with pytest.raises(LinkError, match="closed the connection"):
        connection.receive(5.0)


def test_nonsense_ends_the_connection(connect: Callable[[Talk], Connection]) -> None:
    connection = connect(lambda sock: sock.sendall(b"Content-Length: x\n\n"))
    with pytest.raises(LinkError, match="Content-Length"):
        while True:
            connection.receive(5)


def test_abort_wakes_a_waiting_thread(connect: Callable[[Talk], Connection]) -> None:
    connection = connect(nothing)
    timer = threading.Timer(0.02, connection.abort)
    timer.start()
    started = time.monotonic()
    with pytest.raises(LinkError):
        connection.receive(60.0)
    assert time.monotonic() - started < 10
    timer.join()
    with pytest.raises(LinkError):
        connection.send("api x\n\n")


def test_close_twice_and_abort_after_close_harm_nothing(connect: Callable[[Talk], Connection]) -> None:
    connection = connect(nothing)
    connection.close()
    with socket.socketpair()[0] as successor:  # it may get the descriptor that was closed
        connection.abort()
        connection.close()
        successor.getsockname()
    with pytest.raises(LinkError):
        connection.send("api x\n\n")


def test_a_send_that_gets_stuck_ends(server: Server) -> None:
    """A frozen switch reads nothing; the sender must not hang."""

    def talk(sock: socket.socket) -> None:
        server.greet(sock)
        server.over.wait(5)

    server.serve(talk)
    connection = Connection("127.0.0.1", server.port, "ClueCon", 2.0, send_limit=0.2)
    started = time.monotonic()
    with pytest.raises(LinkError, match="did not take"):
        for _ in range(1000):
            connection.send(f"api echo {'x' * 100000}\n\n")
    assert time.monotonic() - started < 5
    connection.close()


def test_a_switch_that_reads_nothing_blocks_nobody_within_the_window(server: Server) -> None:
    """What the lane has under way on a connection fits into the socket's buffer, and a request of any size with it."""

    def talk(sock: socket.socket) -> None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        server.greet(sock)
        server.over.wait(5)

    server.serve(talk)
    connection = Connection("127.0.0.1", server.port, "ClueCon", 30.0)
    started = time.monotonic()
    for _ in range(Limits().window_size // 256):
        connection.send(f"api echo {'x' * 245}\n\n")
    connection.send(f"api echo {'x' * MAX_REQUEST}\n\n")
    assert time.monotonic() - started < 10
    connection.close()


def test_with_the_simulator() -> None:
    with SwitchSim() as sim:
        connection = Connection("127.0.0.1", sim.port, sim.password, 2.0)
        assert connection.ask("api echo hello\n\n", 2).text == "hello"
        with pytest.raises(Refused):
            Connection("127.0.0.1", sim.port, "wrong", 2.0)
        sim.kill_connections()
        until(lambda: connection.ended, "the end")
        connection.close()


class OfThirtyTwoBits:
    """As the kernel of a 32-bit system whose time has 64 bits: it wants 16 bytes of a time limit."""

    def __init__(self) -> None:
        self.limit = b""

    def setsockopt(self, _: int, __: int, value: bytes) -> None:
        if len(value) < 16:
            raise OSError(errno.EINVAL, "Invalid argument")
        self.limit = value


def test_the_limit_of_a_send_on_a_32_bit_system(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = SimpleNamespace(pack=lambda form, *parts: struct.pack(form.replace("@ll", "=ii"), *parts))
    monkeypatch.setattr(module, "struct", narrow)
    sock = OfThirtyTwoBits()
    limit_sending(sock, 2.5)  # type: ignore[arg-type]
    assert struct.unpack("=qq", sock.limit) == (2, 500_000)


def test_the_limit_of_a_send_here() -> None:
    one, other = socket.socketpair()
    with one, other:
        limit_sending(one, 0.05)
        with pytest.raises(BlockingIOError):
            while True:
                one.send(bytes(65536))
