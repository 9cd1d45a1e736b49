"""The connection to a NATS server as bytes: TCP over IPv4 or IPv6. nats_tls.py has the same with TLS.

One thread receives; threads that write do so one at a time, and `send_now` never waits; any thread may `abort`.
"""

from __future__ import annotations

import fcntl
import select
import socket
import termios
import time
from dataclasses import dataclass

from event_agent.errors import LinkError
from event_agent.runtime.memory import read_buffer

READ_SIZE = 262144  # bytes
TURN = 32768  # bytes of a read where others wait for their turn: some hundred requests, a few milliseconds of work


@dataclass(frozen=True)
class TlsOptions:
    """Files for `tls://`, and whether the server must prove who it is."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


class NatsSocket:
    """A TCP connection to a server. Made by the thread that connects; `ready` ends that stage."""

    def __init__(self, host: str, port: int, limit: float, sock: socket.socket | None = None) -> None:
        """Connect within `limit` seconds for each address of the host, or take one over. Raises LinkError."""
        try:
            self.socket = socket.create_connection((host, port), limit) if sock is None else sock
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, UnicodeError) as error:
            raise LinkError(getattr(error, "strerror", None) or str(error)) from None
        # recv(262144) would make and shrink a large object each time: three system calls more than the read itself.
        self._buffer = read_buffer(READ_SIZE)
        self._view = memoryview(self._buffer)
        self.fileno = -1  # once it is ready

    def _take_over(self, other: NatsSocket) -> None:
        self.socket, self._buffer, self._view, self.fileno = other.socket, other._buffer, other._view, -1

    def ready(self) -> None:
        """The handshakes are over: reading has no limit any more."""
        self.socket.settimeout(None)
        self.fileno = self.socket.fileno()

    def receive_by(self, deadline: float) -> bytes:
        """Before `ready`: the next bytes, b"" at the end. Raises LinkError if none come by `deadline`.

        `deadline` is of time.monotonic(). It bounds the whole step, however few bytes come at a time.
        """
        try:
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            return self.socket.recv(READ_SIZE)
        except TimeoutError:
            raise LinkError("the server does not answer") from None
        except OSError as error:
            raise LinkError(error.strerror or str(error)) from None

    def receive(self) -> bytes:
        """Wait for bytes; b"" at the end. Raises OSError."""
        return bytes(self._view[: self.socket.recv_into(self._buffer)])

    def receive_now(self) -> bytes | None:
        """What is there, TURN bytes at most; None if nothing is, b"" at the end. Raises OSError."""
        try:
            return bytes(self._view[: self.socket.recv_into(self._buffer, TURN, socket.MSG_DONTWAIT)])
        except BlockingIOError:
            return None

    def send_now(self, data: bytes) -> int:
        """Write as much as is taken without waiting; returns how much. Raises LinkError."""
        try:
            return self.socket.send(data, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.abort()
            raise LinkError(error.strerror or str(error)) from None

    def wait_readable(self, timeout: float) -> bool:
        """True when there is something to read; False after `timeout` seconds."""
        poll = select.poll()
        poll.register(self.socket, select.POLLIN)
        return bool(poll.poll(timeout * 1000))

    def wait_writable(self, timeout: float) -> bool:
        """True when it takes bytes again, or has ended; False after `timeout` seconds."""
        poll = select.poll()
        try:
            poll.register(self.socket, select.POLLOUT)
        except (OSError, ValueError):
            return False
        return bool(poll.poll(timeout * 1000))

    @property
    def unread(self) -> bool:
        """Whether the server has sent something that nobody has read yet."""
        try:
            return fcntl.ioctl(self.fileno, termios.FIONREAD, b"\0" * 4) != b"\0" * 4
        except OSError:
            return False  # it is closed

    def abort(self) -> None:
        """From any thread: end the connection; the thread that reads sees the end."""
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was down already

    def close(self) -> None:
        """When nobody uses it any more."""
        self.socket.close()
