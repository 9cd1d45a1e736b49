"""Sockets and threads: listens, and runs one session a connection.

The thread "switchsim-accept" takes connections; each has a thread of its own, "switchsim-connection-<n>", the only one
that reads and writes its socket. Faults are played here, because they are faults of the link.

Timing is FreeSWITCH's: while commands come in nothing else is sent than their answers; once the socket is quiet the
waiting events go out, and only when there are none either the thread sleeps until bytes arrive, 20 ms at most. That
is why an event on a quiet connection is late by up to 20 ms, and why a lone line feed makes it come at once.
"""

from __future__ import annotations

import contextlib
import select
import socket
from itertools import count
from threading import Event as Gate
from threading import Lock
from typing import Final

from .session import FLUSH, GREETING, Session, rejection
from .switch import Switch

POLL_MS: Final = 20
_READ_SIZE: Final = 262_144


class Connection:
    """One accepted socket and its session."""

    def __init__(self, server: Server, sock: socket.socket, peer: tuple[str, int]) -> None:
        self.peer = peer
        self.session = Session(server.switch, server.password, server.queue_bound)
        self._server = server
        self._socket = sock
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def run(self) -> None:
        server = self._server
        subscription = self.session.subscription
        server.switch.bus.attach(subscription)
        try:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            server.gate.wait()
            if server.reject_acl:
                self._send(rejection())
            elif server.never_greet:
                self._swallow()
            else:
                self._send(GREETING)
                self._talk()
        except OSError:
            pass  # the peer went away; FreeSWITCH does not mind either
        finally:
            server.switch.bus.detach(subscription)
            with contextlib.suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)
            self._socket.close()
            server.forget(self)

    def _talk(self) -> None:
        session = self.session
        while not session.closed:
            self._server.gate.wait()
            data = self._read()
            if data == b"":
                session.closed = True
            elif data is not None:
                self._answer(data)
            else:
                events = session.events()
                if events:
                    self._send(events)
                elif not session.closed:
                    self._poll.poll(POLL_MS)
        self._send(session.farewell())

    def _read(self) -> bytes | None:
        """What has arrived; b"" at the end of the stream, None for nothing."""
        try:
            return self._socket.recv(_READ_SIZE, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

    def _answer(self, data: bytes) -> None:
        """Executes what arrived and sends the answers of one read in one write."""
        answers: list[bytes] = []
        for answer in self.session.receive(data):
            if answer == FLUSH:
                self._send(b"".join(answers))
                answers.clear()
            else:
                answers.append(answer)
        self._send(b"".join(answers))

    def _swallow(self) -> None:
        while self._socket.recv(_READ_SIZE):
            pass

    def _send(self, data: bytes) -> None:
        self._server.gate.wait()
        if data:
            self._socket.sendall(data)

    def kill(self, *, reset: bool = False) -> None:
        """Cuts the connection from any thread; with a reset the peer sees an error instead of the stream's end."""
        with contextlib.suppress(OSError):
            if reset:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            self._socket.shutdown(socket.SHUT_RDWR)


class Server:
    """The listening socket and the connections."""

    def __init__(self, switch: Switch, host: str, port: int, password: str, queue_bound: int) -> None:
        self.switch = switch
        self.password = password
        self.queue_bound = queue_bound
        self.reject_acl = False
        self.never_greet = False
        self.gate = Gate()
        """Shut while the switch plays frozen: connections are taken, nothing is answered."""
        self.gate.set()
        self._numbers = count(1)
        self._lock = Lock()
        self._connections: list[Connection] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def start(self) -> None:
        self.switch.workers.spawn("accept", self._accept)

    @property
    def connections(self) -> list[Connection]:
        with self._lock:
            return list(self._connections)

    def forget(self, connection: Connection) -> None:
        with self._lock:
            self._connections.remove(connection)

    def kill_connections(self, *, reset: bool = False) -> int:
        """Cuts all connections; returns how many there were."""
        connections = self.connections
        for connection in connections:
            connection.kill(reset=reset)
        return len(connections)

    def close(self) -> None:
        """Takes no more connections and cuts those there are. The threads are joined by the switch's workers."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept()
        self._listener.close()
        with self._lock:
            self._closing = True
        self.gate.set()
        self.kill_connections()

    _closing = False

    def _accept(self) -> None:
        while True:
            try:
                sock, peer = self._listener.accept()
            except OSError:
                return
            connection = Connection(self, sock, peer[:2])
            with self._lock:
                if self._closing:
                    sock.close()
                    return
                self._connections.append(connection)
            if not self.switch.workers.spawn(f"connection-{next(self._numbers)}", connection.run):
                sock.close()
