"""One connection to mod_event_socket, every wait limited. The only module that imports ESL.

The binding attaches to a socket of ours, authenticates and sends. Receiving is ours, for these measured reasons:
its constructor hangs on a silent peer and its receive calls have no time limit; it takes 28 µs a frame where
cutting the stream ourselves takes 4; it needs a lock between two threads of one connection.

A connection belongs to one thread, which receives and closes; other threads may `send` (one at a time), `wake` and
`abort`.

A connection for events can outlive the process (see handover.py). After `hold` what was read stays in the kernel's
buffer until the next `receive`: if the process is killed, the next one reads on exactly behind what this one was
through with. `adopted` takes over such a connection. The binding is not attached to it: attaching sends a command and
reads the answer, and would swallow the events that stand before it.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Callable

import ESL

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import as_frames
from event_agent.freeswitch.frames import Frame, FrameReader
from event_agent.runtime.memory import read_buffer

READ_SIZE = 262144  # bytes; a busy event stream fills this between two reads
# Bytes that the system takes from us while FreeSWITCH reads nothing (it doubles the figure for its own overhead): more
# than the lane ever has under way on a connection (Limits.window_size), so that sending does not block its thread.
SEND_BUFFER = 212992
SEND_LIMIT = 5.0  # seconds a send may take before FreeSWITCH counts as frozen


def limit_sending(sock: socket.socket, seconds: float) -> None:
    """Let a send on a blocking socket take so long and no longer. Raises OSError.

    A 32-bit system has one of two: with a time of 64 bits (Debian 13) the kernel wants a struct timeval of 16 bytes and
    refuses one of two C longs as too short. Source: net/core/sock.c, sock_set_timeout, SO_SNDTIMEO_OLD and _NEW.
    """
    parts = int(seconds), int(seconds % 1 * 1e6)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", *parts))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("=qq", *parts))


class Refused(LinkError):
    """FreeSWITCH is there and does not want us: wrong password, or its access list."""


class NotListed(Refused):
    """Its access list does not have us."""


class Connection:
    """An authenticated connection."""

    _esl: ESL.ESLconnection | None
    _esl_send: Callable[[str], int] | None

    def __init__(
        self, host: str, port: int, password: str, timeout: float, *, send_limit: float = SEND_LIMIT
    ) -> None:
        """Connect and authenticate within `timeout` seconds a step. Raises LinkError, Refused."""
        where = f"FreeSWITCH at {host}:{port}"
        try:
            self._take_up(socket.create_connection((host, port), timeout))
        except OSError as error:
            raise LinkError(f"{where} can't be reached: {error.strerror or error}") from None
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        # The binding's calls wait without end on a silent peer; a shutdown of the socket is what ends them.
        watchdog = threading.Timer(timeout * 2, self.abort)
        watchdog.name = "esl-connect-limit"
        watchdog.daemon = True
        watchdog.start()
        try:
            self._greet(where, timeout)
            self._authenticate(where, password)
            # A send may block for so long and no longer: the binding calls send(2) on a blocking socket.
            self._socket.settimeout(None)
            limit_sending(self._socket, send_limit)
        except OSError as error:
            self.close()
            raise LinkError(f"{where} broke off: {error}") from None
        except LinkError:
            self.close()
            raise
        finally:
            watchdog.cancel()
        self._esl_send = self._esl.send if self._esl else None

    @classmethod
    def adopted(cls, descriptor: int, rest: bytes) -> Connection:
        """One that another process has authenticated and left; `rest` is what that had read of a frame."""
        self = cls.__new__(cls)
        self._take_up(socket.socket(fileno=descriptor))
        self._socket.settimeout(None)
        if rest:
            self._ready = self._frames.feed(rest)
        self._esl_send = self._send_all
        return self

    def _take_up(self, connected: socket.socket) -> None:
        self._socket = connected
        self._descriptor = connected.fileno()
        # recv(262144) would make and shrink a large object each time: three system calls more than the read itself.
        self._buffer = read_buffer(READ_SIZE)
        self._view = memoryview(self._buffer)
        self._frames = FrameReader()
        self._ready: list[Frame] = []
        self._poll = select.poll()
        self._poll.register(connected, select.POLLIN)
        self._esl = None
        self._esl_send = None
        self._holding = False
        self._handed = 0  # bytes in the kernel's buffer that were given out, to be discarded
        self._looked = 0  # bytes that a look found and that complete no frame
        self._low = 1  # SO_RCVLOWAT
        self._bell = -1

    def _send_all(self, text: str) -> int:
        try:
            self._socket.sendall(text.encode())
        except OSError:
            return -1
        return 0

    def _greet(self, where: str, timeout: float) -> None:
        frames = self.receive(timeout)
        if not frames and self._frames.rest:
            raise LinkError(f"{where} is no event socket: it sent {self._frames.rest[:60]!r}")
        if not frames:
            raise LinkError(f"{where} does not answer: no greeting within {timeout:g} s")
        kind = frames[0].content_type
        if kind == b"text/rude-rejection":
            raise NotListed(f"{where} refuses this address: its access list (apply-inbound-acl) does not have it")
        if kind != b"auth/request":
            raise LinkError(f"{where} is no event socket: it sent {frames[0].head[:60]!r}")

    def _authenticate(self, where: str, password: str) -> None:
        self._socket.settimeout(None)  # the binding wants a blocking socket
        self._esl = ESL.ESLconnection(self._socket.fileno())
        if not self._esl.connected():
            raise LinkError(f"{where} does not answer")
        try:
            command = as_frames([wire.line(f"auth {password}")])
        except (wire.Unfit, BadCommand):
            raise Refused(
                "esl_password can't be sent to FreeSWITCH: it has a line break or another control character"
            ) from None
        reply = self._esl.sendRecv(command)
        if reply is None:
            raise LinkError(f"{where} does not answer to the password")
        text = reply.getHeader("Reply-Text") or ""
        if not text.startswith("+OK"):
            raise Refused(f"{where} refuses the password: {text} (esl_password)")

    def send(self, text: str) -> None:
        """Send commands, each with its closing blank line. Raises LinkError when the link is gone or stuck.

        What is sent here is not looked at: it is a constant, or was checked with `command.fault_of`.
        """
        if self._esl_send is None or self._esl_send(text) != 0:
            raise LinkError("FreeSWITCH did not take what was sent")

    @property
    def fileno(self) -> int:
        """The socket's descriptor, to wait on several."""
        return self._descriptor

    def receive(self, timeout: float) -> list[Frame]:
        """The frames of the next read; empty after `timeout` seconds without one. Raises LinkError at the end.

        A read that completes no frame returns an empty list too.
        """
        if self._ready:
            frames, self._ready = self._ready, []
            return frames
        try:
            if self._handed:
                self._discard()
            if timeout and not self._poll.poll(timeout * 1000):
                return []
            if self._holding and not self._frames.held:
                return self._look()
            size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        except OSError as error:
            raise LinkError(f"the connection to FreeSWITCH broke: {error.strerror or error}") from None
        if not size:
            raise LinkError("FreeSWITCH closed the connection")
        return self._frames.feed(bytes(self._view[:size]))

    def watch(self, descriptor: int, on: bool) -> None:
        """By the thread that owns it: `receive` also returns when there is something to read from this one, or not."""
        if on:
            self._poll.register(descriptor, select.POLLIN)
        else:
            self._poll.unregister(descriptor)

    # -- one that outlives the process

    def hold(self) -> None:
        """From now on nothing leaves the kernel's buffer before it was given out and `receive` is called again."""
        self._holding = True
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._bell, select.POLLIN)

    def _look(self) -> list[Frame]:
        """Frames in the kernel's buffer, which they do not leave yet. Raises LinkError, OSError."""
        size = self._socket.recv_into(self._buffer, 0, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        if not size:
            raise LinkError("FreeSWITCH closed the connection")
        frames = self._frames.feed(bytes(self._view[:size]))
        rest, need = self._frames.held, self._frames.need
        if frames:
            self._frames = FrameReader()
            self._handed, self._looked = size - rest, 0
            self._wait_for(1)
            return frames
        if size == READ_SIZE or size == self._looked:
            # A frame that the kernel's buffer does not hold is read as always.
            self._handed = size
            self._wait_for(1)
            return []
        self._frames = FrameReader()
        self._looked = size
        self._wait_for(max(size + 1, min(need, READ_SIZE)))  # no use in looking at the same bytes again
        return []

    def _discard(self) -> None:
        handed, self._handed = self._handed, 0
        while handed > 0:  # MSG_TRUNC: the kernel throws them away, see tcp(7)
            handed -= self._socket.recv_into(self._view, min(handed, READ_SIZE), socket.MSG_TRUNC | socket.MSG_DONTWAIT)

    def _wait_for(self, size: int) -> None:
        """Poll says that there is something to read from so many bytes on."""
        if size != self._low:
            self._low = size
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    @property
    def whole(self) -> bool:
        """True while no part of a frame waits for the rest, outside the kernel's buffer."""
        return not self._frames.held

    def wake(self) -> None:
        """From any thread: `receive` of a held connection returns now."""
        if self._bell >= 0:
            os.eventfd_write(self._bell, 1)

    def release(self) -> bytes:
        """By the thread that owns it: close our end of a held connection without ending it.

        Returns the bytes of a frame that were read and are not complete.
        """
        if self._handed:
            self._discard()
        self._wait_for(1)
        rest = self._frames.rest
        self._esl_send = None
        self._drop_bell()
        if self._esl is not None:
            # The binding would shut the socket down; it is given another descriptor to close.
            with socket.socketpair()[0] as other:
                os.dup2(other.fileno(), self._descriptor, inheritable=False)
            self._socket.detach()
            self._esl.disconnect()
            self._esl = None
        else:
            self._socket.close()
        return rest

    def _drop_bell(self) -> None:
        if self._bell >= 0:
            self._poll.unregister(self._bell)
            os.close(self._bell)
            self._bell = -1

    def ask(self, text: str, timeout: float) -> Frame:
        """Send one command and wait `timeout` seconds for its answer; what else comes is kept for `receive`.

        Only while no answer to an earlier command is outstanding. Raises LinkError, and BadCommand for a text that
        is not exactly one frame.
        """
        self.send(as_frames([text]))
        deadline = time.monotonic() + timeout
        others: list[Frame] = []
        while (left := deadline - time.monotonic()) > 0:
            frames = self.receive(left)
            for at, frame in enumerate(frames):
                if frame.content_type in (b"api/response", b"command/reply"):
                    self._ready = others + frames[:at] + frames[at + 1 :]
                    return frame
            others += frames
        raise LinkError(f"FreeSWITCH did not answer within {timeout:g} s")

    @property
    def ended(self) -> bool:
        """True when an idle connection has something to say: it can only be its end. By the thread that owns it."""
        return bool(self._poll.poll(0))

    def abort(self) -> None:
        """From any thread: all that wait on this connection get a LinkError now."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it was down already

    def close(self) -> None:
        """By the thread that owns it. Closes the socket, once."""
        adopted = self._esl is None and self._esl_send is not None
        self._esl_send = None
        self._drop_bell()
        if adopted:
            self.abort()
            self._socket.close()
        elif self._esl is not None:
            self.abort()
            self._socket.detach()  # the binding closes the descriptor, and a late abort() must not hit its successor
            self._esl.disconnect()
            self._esl = None
        else:
            self._socket.close()
