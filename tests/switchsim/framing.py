"""Bytes in, commands out: how mod_event_socket reads.

A command is a line, then headers, up to a blank line; `Content-Length` among the headers announces a body. Blank
lines before a command are skipped. Knows no sockets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from .events import to_text

MAX_COMMAND: Final = 10_485_760
MAX_BODY: Final = 10_485_760

_END: Final = re.compile(rb"\n\r*\n")
_BLANKS: Final = re.compile(rb"[\r\n]*")


class FramingError(Exception):
    """The peer announced a body that no switch would take; the connection is closed."""


@dataclass(slots=True)
class Command:
    """One command as it came."""

    line: str
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: str | None = None

    def get(self, name: str) -> str | None:
        wanted = name.lower()
        return next((value for key, value in self.headers if key.lower() == wanted), None)


class Framer:
    """Collects bytes and cuts them into commands."""

    def __init__(self) -> None:
        self._buffer = b""

    @property
    def partial(self) -> bool:
        """A command has begun but not ended: no event is sent until it has."""
        return bool(self._buffer)

    def feed(self, data: bytes) -> Iterator[Command]:
        """The commands that are complete now. The rest waits for more; FramingError ends it all."""
        buffer = self._buffer + data if self._buffer else data
        at = 0
        try:
            while True:
                blanks = _BLANKS.match(buffer, at)
                at = blanks.end() if blanks else at
                end = buffer.find(b"\n\n", at)
                if b"\r" in buffer:
                    found = _END.search(buffer, at)
                    end, after = (found.start(), found.end()) if found else (-1, 0)
                else:
                    after = end + 2
                if end < 0:
                    if len(buffer) - at < MAX_COMMAND:
                        return
                    end = after = at + MAX_COMMAND
                block = buffer[at:end]
                if b"\n" not in block and b"\r" not in block:
                    at = after
                    yield Command(to_text(block))
                    continue
                command, length = self._parse(block)
                if len(buffer) - after < length:
                    return
                if length:
                    command.body = to_text(buffer[after : after + length].partition(b"\0")[0])
                at = after + length
                yield command
        finally:
            self._buffer = buffer[at:]

    @staticmethod
    def _parse(block: bytes) -> tuple[Command, int]:
        lines = [line for line in to_text(block).replace("\r", "\n").split("\n") if line]
        command = Command(lines[0])
        length = 0
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if not colon:
                continue
            value = value.lstrip(" ")
            command.headers.append((name, value))
            if name.lower() == "content-length":
                digits = re.match(r"[+-]?\d+", value)
                length = int(digits[0]) if digits else 0
                if not 0 <= length <= MAX_BODY:
                    raise FramingError(value)
        return command, length
