"""The event socket's stream cut into frames. Source: mod_event_socket.c, and tests/fixtures/event-socket.

A frame is a block of `Name: value` lines, a blank line, and as many bytes of body as its Content-Length says.
No sockets in here, and one thread at a time.
"""

from __future__ import annotations

from typing import NamedTuple

from event_agent import quick
from event_agent.errors import LinkError

MAX_HEADERS = 65536  # bytes; a longer block is not an event socket's
MAX_BODY = 64 * 1024 * 1024  # bytes; `show channels` of a full switch is a few MB
# What the events of a subscription begin with, but for the number between the two.
_EVENT, _EVENT_REST = b"Content-Length: ", b"\nContent-Type: text/event-json\n\n"  # 16 and 32 bytes
_ANSWER = b"Content-Type: api/response\nContent-Length: "  # 43 bytes; what an answer begins with
EVENT = b"Content-Type: text/event-json"  # given as the head of all events of a subscription, without their length


class Frame(NamedTuple):
    """One frame, as it came, but that all usual events have the very head EVENT."""

    head: bytes
    body: bytes

    @property
    def content_type(self) -> bytes:
        """Content-Type, e.g. b"api/response"; b"" if there is none."""
        return self.header(b"Content-Type")

    @property
    def text(self) -> str:
        """What a command was answered: the body of an api/response, the Reply-Text of a command/reply."""
        data = self.body if self.content_type == b"api/response" else self.header(b"Reply-Text")
        return data.decode(errors="replace")

    def header(self, name: bytes) -> bytes:
        """Value of a header of this frame (not of an event in it), b"" if it is absent."""
        for line in self.head.split(b"\n"):
            if line.startswith(name + b": "):
                return line[len(name) + 2 :]
        return b""


_made = tuple.__new__  # of Frame: calling that costs three times as much


class FrameReader:
    """Feed it what was read; it returns the frames completed by that."""

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self._held = 0  # bytes in _parts
        self._need = 1  # no frame can be complete before _held reaches this

    @property
    def held(self) -> int:
        """Bytes of a frame that is not complete."""
        return self._held

    @property
    def need(self) -> int:
        """Bytes that the frame has which is not complete, as far as its head tells."""
        return self._need

    @property
    def rest(self) -> bytes:
        """The bytes of a frame that is not complete."""
        return b"".join(self.parts)

    def feed(self, chunk: bytes) -> list[Frame]:
        """Frames completed by `chunk`. Raises LinkError when the stream is not an event socket's."""
        data = chunk
        if self._held:
            self.parts.append(chunk)
            self._held += len(chunk)
            if self._held < self._need:  # a large body still coming: don't join it at every read
                return []
            data = b"".join(self.parts)
        size = len(data)
        frames: list[Frame] = []
        pos = 0
        need = 1
        compiled = quick.compiled
        while pos < size:
            if compiled is not None and (pos := compiled.frames(data, pos, frames, Frame, EVENT)) == size:
                break
            # The other heads that most frames have, in half of the steps.
            head = b""
            if data.startswith(_ANSWER, pos):
                end = data.find(b"\n\n", pos)
                digits, start = data[pos + 43 : end], end + 2
            elif data.startswith(_EVENT, pos):
                end = data.find(_EVENT_REST, pos, pos + 56)
                head, digits, start = EVENT, data[pos + 16 : end], end + 32
            else:
                end, digits = -1, b""
            if end > 0 and digits.isdigit() and len(digits) < 8:
                stop = start + int(digits)
                if stop > size:
                    need = stop - pos
                    break
                frames.append(_made(Frame, (head or data[pos : start - 2], data[start:stop])))
                pos = stop
                continue
            end = data.find(b"\n\n", pos)
            if end < 0:
                if size - pos > MAX_HEADERS:
                    raise LinkError("FreeSWITCH sent a header block without end; is this an event socket?")
                break
            head = data[pos:end]
            start = end + 2
            at = head.find(b"Content-Length: ")
            if at > 0 and head[at - 1] != 10:  # these words in another header's text
                at = head.find(b"\nContent-Length: ", at) + 1 or -1
            if at < 0:
                frames.append(_made(Frame, (head, b"")))
                pos = start
                continue
            digits = head[at + 16 :].partition(b"\n")[0]
            length = int(digits) if len(digits) <= 10 and digits.isdigit() else MAX_BODY + 1
            if length > MAX_BODY:
                raise LinkError(f"FreeSWITCH sent Content-Length {digits[:20]!r}; is this an event socket?")
            stop = start + length
            if stop > size:
                need = stop - pos
                break
            frames.append(_made(Frame, (head, data[start:stop])))
            pos = stop
        if pos < size:
            self.parts, self._held, self._need = [data[pos:]], size - pos, max(need, 1)
        elif self._held:
            self.parts, self._held, self._need = [], 0, 1
        return frames
