"""A plain event-socket client of the tests' own: what FreeSWITCH itself says, to hold ours against."""

from __future__ import annotations

import json
import socket
import threading
from typing import Any

from tests.support import until


class RawEvents:
    """Connects, authenticates, subscribes; a thread gathers the events."""

    def __init__(self, port: int, password: str, *commands: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), 10)
        self._socket.settimeout(None)  # a switch may be silent for as long as it likes
        self.events: list[dict[str, Any]] = []
        self._replies: list[bytes] = []
        self._thread = threading.Thread(target=self._read, name="raw-events", daemon=True)
        self._thread.start()
        self.command(f"auth {password}")
        for command in commands:
            self.command(command)

    def command(self, text: str | bytes) -> bytes:
        """Send it with its closing blank line (or its body), and wait for the reply."""
        before = len(self._replies)
        self.send(text)
        until(lambda: len(self._replies) > before, f"a reply to {text[:60]!r}", 30.0)
        return self._replies[before]

    def send(self, text: str | bytes) -> None:
        """The same without waiting: a switch that is frozen carries it out when it goes on."""
        data = text if isinstance(text, bytes) else text.encode()
        self._socket.sendall(data + (b"\n" if data.endswith(b"\n") else b"" if b"\n\n" in data else b"\n\n"))

    def wait(self, name: str, count: int) -> None:
        """Until so many of these have come."""
        until(lambda: sum(event["Event-Name"] == name for event in list(self.events)) >= count, f"{count} {name}", 60)

    def _read(self) -> None:
        stream = self._socket.makefile("rb")
        try:
            while True:
                headers: dict[bytes, bytes] = {}
                while (line := stream.readline()) not in (b"\n", b""):
                    name, _, value = line.rstrip(b"\n").partition(b": ")
                    headers[name] = value
                if not line:
                    return
                body = stream.read(int(headers.get(b"Content-Length", b"0")))
                match headers.get(b"Content-Type"):
                    case b"text/event-json":
                        self.events.append(json.loads(body))
                    case b"command/reply":
                        self._replies.append(headers[b"Reply-Text"])
                    case b"api/response":
                        self._replies.append(body)
        except (OSError, ValueError):
            return  # closed

    def __enter__(self) -> RawEvents:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._socket.close()
