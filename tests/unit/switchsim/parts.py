"""A client of the simulator that speaks its protocol by hand."""

from __future__ import annotations

import json
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support import until
from tests.switchsim import SwitchSim
from tests.switchsim.channel import Channel
from tests.switchsim.recording import Message, messages

ROOT = Path(__file__).resolve().parents[3]
FIXTURES = ROOT / "tests" / "fixtures"
RECORDINGS = sorted((FIXTURES / "event-socket").glob("*.txt"))
PARKED = "aaaaaaaa-0000-4000-8000-000000000001"
LIMIT = 5.0
"""Seconds a condition may take to become true."""


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    return until(condition, what, LIMIT)


OTHERS: set[threading.Thread] = set()  # of a simulator that outlives a test


def running() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("switchsim")]


def threads() -> list[str]:
    return [thread.name for thread in running() if thread not in OTHERS]


def parked(sim: SwitchSim, uuid: str) -> Channel:
    def found() -> Channel | None:
        channel = sim.channels.get(uuid)
        return channel if channel and channel.stack and channel.stack[-1].application == "park" else None

    channel = wait_until(found, "parking")
    assert isinstance(channel, Channel)
    return channel


class Client:
    """A bare event-socket client: what it reads is what came."""

    def __init__(self, sim: SwitchSim, password: str | None = "ClueCon") -> None:
        self.socket = socket.create_connection((sim.host, sim.port), timeout=LIMIT)
        self._buffer = b""
        self._events: deque[Message] = deque()
        """Events that came while a reply was waited for."""
        if password is not None:
            assert self.read().get("Content-Type") == "auth/request"
            assert self.command(f"auth {password}") == "+OK accepted"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def read(self) -> Message:
        """The next message; EOFError at the end of the stream."""
        while True:
            head, blank, rest = self._buffer.partition(b"\n\n")
            if blank:
                length = int(dict(line.split(": ", 1) for line in head.decode().split("\n")).get("Content-Length", 0))
                if len(rest) >= length:
                    whole = len(head) + 2 + length
                    message = next(messages(self._buffer[:whole]))
                    self._buffer = self._buffer[whole:]
                    return message
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._buffer += data

    def reply(self) -> Message:
        """The next message that is no event."""
        while (message := self.read()).get("Content-Type").startswith("text/event-"):
            self._events.append(message)
        return message

    def command(self, line: str) -> str:
        self.send(f"{line}\n\n")
        return self.reply().get("Reply-Text")

    def api(self, command: str) -> str:
        self.send(f"api {command}\n\n")
        return self.reply().body.decode()

    def event(self, name: str | None = None) -> dict[str, Any]:
        """The next event (of that name), as the JSON form has it."""
        while True:
            message = self._events.popleft() if self._events else self.read()
            event: dict[str, Any] = json.loads(message.body)
            if name in (None, event["Event-Name"]):
                return event

    def quiet(self, seconds: float = 0.06) -> bool:
        """Nothing comes for so long (three looks of the connection at its queue)."""
        self.socket.settimeout(seconds)
        try:
            return not self._buffer and not self._events and not self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(LIMIT)
