"""A switch without sockets: what event_agent.freeswitch.connection.Connection does, answered by a function.

For tests of what stands upon a connection. Answers come in the order of the commands, as FreeSWITCH's do: one that is
held back holds back all behind it. Any thread may use it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from event_agent.errors import LinkError
from event_agent.freeswitch.connection import Connection
from event_agent.freeswitch.frames import Frame

Answers = Callable[["FakeConnection", str], str | None]
"""The answer to a command (its text without the closing blank line); None holds it back until `pump`."""

HELD: Final = None


def api_frame(text: str) -> Frame:
    body = text.encode()
    return Frame(b"Content-Type: api/response\nContent-Length: %d" % len(body), body)


def reply_frame(text: str) -> Frame:
    return Frame(b"Content-Type: command/reply\nReply-Text: " + text.encode(), b"")


def event_frame(**headers: str) -> Frame:
    """An event; `_` in a name stands for `-`, but at the beginning."""
    named = {name if name.startswith("_") else name.replace("_", "-"): value for name, value in headers.items()}
    body = json.dumps(named, separators=(",", ":")).encode()
    return Frame(b"Content-Length: %d\nContent-Type: text/event-json" % len(body), body)


def answered(connection: FakeConnection, command: str) -> str | None:
    """Answers an `api` with its arguments, everything else with +OK."""
    return command.removeprefix("api ") if command.startswith("api ") else "+OK"


class FakeSwitch:
    """Makes connections and answers what is sent on them."""

    def __init__(self, answers: Answers = answered) -> None:
        self.answers = answers
        self.connections: list[FakeConnection] = []
        self.refusal = ""
        """Why nobody is let in; nothing where all are."""
        self.fresh: list[bool] = []
        """What `connect` was called with."""

    def connect(self, fresh: bool = False) -> Connection:
        """As the daemon's own function; raises LinkError."""
        self.fresh.append(fresh)
        if self.refusal:
            raise LinkError(self.refusal)
        connection = FakeConnection(self)
        self.connections.append(connection)
        return cast(Connection, connection)

    def pump(self) -> None:
        """Ask again for the answers that were held back."""
        for connection in list(self.connections):
            connection.pump()

    @property
    def sent(self) -> list[str]:
        """All commands, in order of the connections."""
        return [command for connection in self.connections for command in connection.sent]

    @property
    def open(self) -> list[FakeConnection]:
        """Connections that nobody has closed."""
        return [connection for connection in self.connections if not connection.closed]


class FakeConnection:
    """One of them."""

    def __init__(self, switch: FakeSwitch) -> None:
        self.switch = switch
        self.sent: list[str] = []
        self.sends = 0
        """How often `send` was called with commands."""
        self.nudges = 0
        self.closed = False
        self.watched: set[int] = set()
        self.broken = ""
        self._pending: deque[str] = deque()
        self._frames: list[Frame] = []
        self.changed = threading.Condition(threading.RLock())
        self.fileno = os.eventfd(0, os.EFD_NONBLOCK)
        """Can be read while there is something to receive."""

    # --- what the program calls --------------------------------------------------------------------------------

    def send(self, text: str) -> None:
        with self.changed:
            if self.broken or self.closed:
                raise LinkError("FreeSWITCH did not take what was sent")
            assert text.endswith("\n\n"), text
            commands = [each for each in text.split("\n\n") if each.strip()]
            self.sends += bool(commands)
            self.nudges += not commands
            self.sent += commands
            self._pending += commands
        self.pump()

    def receive(self, timeout: float) -> list[Frame]:
        assert not self.closed
        with self.changed:
            self.changed.wait_for(lambda: self._frames or self.broken, timeout)
            if self._frames:
                frames, self._frames = self._frames, []
                if not self.broken:
                    os.eventfd_read(self.fileno)
                return frames
            if self.broken:
                raise LinkError(self.broken)
            return []

    def watch(self, descriptor: int, on: bool) -> None:
        (self.watched.add if on else self.watched.remove)(descriptor)

    def ask(self, text: str, timeout: float) -> Frame:
        self.send(text)
        deadline = time.monotonic() + timeout
        others: list[Frame] = []
        while (left := deadline - time.monotonic()) > 0:
            frames = self.receive(left)
            for at, frame in enumerate(frames):
                if frame.content_type in (b"api/response", b"command/reply"):
                    with self.changed:
                        if kept := others + frames[:at] + frames[at + 1 :]:
                            self._frames[:0] = kept
                            self._notify()
                    return frame
            others += frames
        raise LinkError(f"FreeSWITCH did not answer within {timeout:g} s")

    @property
    def ended(self) -> bool:
        return bool(self.broken or self._frames)

    def abort(self) -> None:
        self.cut("the connection to FreeSWITCH broke")

    def close(self) -> None:
        assert not self.closed, "closed twice"
        self.cut("closed")
        self.closed = True
        os.close(self.fileno)

    # --- what the test calls -----------------------------------------------------------------------------------

    def cut(self, reason: str = "FreeSWITCH closed the connection") -> None:
        """The link breaks; what has arrived can still be read."""
        with self.changed:
            self.broken = self.broken or reason
            self._notify()

    def _notify(self) -> None:
        if not self.closed:
            os.eventfd_write(self.fileno, 1)
        self.changed.notify_all()

    def push(self, *frames: Frame) -> None:
        """Frames that nobody asked for, all in one read."""
        with self.changed:
            self._frames += frames
            self._notify()

    def pump(self) -> None:
        with self.changed:
            while self._pending and not self.broken:
                command = self._pending[0]
                answer = self.switch.answers(self, command)
                if answer is None:
                    return
                self._pending.popleft()
                self._frames.append(api_frame(answer) if command.startswith("api ") else reply_frame(answer))
                self._notify()
