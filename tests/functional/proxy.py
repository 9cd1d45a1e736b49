"""A TCP proxy that counts, cuts, delays, trickles, garbles and stalls, between the daemon and a part."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Callable

Change = Callable[[bytes], bytes]


class Proxy:
    """Listens on a free port of loopback and passes everything on to `target`.

    `to_client` counts the bytes that came from the target. `trickle` passes single bytes on, `delay` waits so many
    seconds before each piece, `stalled` holds everything back, `garble` changes what comes from the target.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.to_client = 0
        self.connections = 0
        self.trickle = False
        self.delay = 0.0
        self.garble: Change | None = None
        self.refusing = False
        self._stalled = threading.Event()
        self._stalled.set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.password = "ClueCon"
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._spawn(self._accept)

    @property
    def url(self) -> str:
        """For a NATS client."""
        return f"nats://127.0.0.1:{self.port}"

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                if self.refusing:
                    raise OSError
                server = socket.create_connection(("127.0.0.1", self.target), 5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            with self._lock:
                self.connections += 1
                self._sockets |= {client, server}
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._pump, server, client, True)
            self._spawn(self._pump, client, server, False)

    def _pump(self, source: socket.socket, sink: socket.socket, to_client: bool) -> None:
        try:
            while data := source.recv(65536):
                if to_client:
                    self.to_client += len(data)
                self._stalled.wait()
                if self.delay:
                    time.sleep(self.delay)  # the delay that was asked for
                if to_client and self.garble is not None:
                    data = self.garble(data)
                for piece in ([data[at : at + 1] for at in range(len(data))] if self.trickle else [data]):
                    sink.sendall(piece)
        except OSError:
            pass  # cut, or an end went away: both are closed below
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def stall(self, on: bool = True) -> None:
        """Hold everything back, or let it go."""
        self._stalled.clear() if on else self._stalled.set()

    def drop(self) -> None:
        """Let go what was held back, into connections that are gone: what stood in them is lost."""
        self.cut()
        self.stall(False)

    def cut(self) -> None:
        """End all connections now."""
        with self._lock:
            sockets, self._sockets = self._sockets, set()
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        """Cut, stop listening, end the threads."""
        self.stall(False)
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(5)

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def flip_bytes(rng: random.Random, share: float) -> Change:
    """Damage: about this share of the bytes becomes another."""

    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(max(1, int(len(data) * share))):
            changed[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(changed)

    return change
