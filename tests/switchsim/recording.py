"""Recorded conversations with a real FreeSWITCH, and how to play one again and compare.

A recording is a text file: `>>>` is what the client sent, `<<<` what it received, each a Python literal of bytes, or
EOF. `replay` sends the same to some event socket and compares message by message. What must differ between two
switches (uuids, times, counters, line numbers) is levelled on both sides first; a uuid becomes a number in order of
appearance, so that one that turns up in the wrong place is still noticed.
"""

from __future__ import annotations

import ast
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from .events import to_text

SECONDS: Final = 5.0
"""How long an answer may take."""
QUIET_SECONDS: Final = 0.1
"""At the end of a conversation nothing more may come for so long."""

_BLANK: Final = " |%20"
_CLOCK: Final = r"\d\d(?::|%3A)\d\d(?::|%3A)\d\d"


@dataclass
class Step:
    """What the client sent (nothing at first), and all that came before it sent more."""

    sent: bytes
    received: bytes = b""
    ends: bool = False


@dataclass
class Message:
    """One message of the event socket."""

    headers: list[tuple[str, str]]
    body: bytes = b""

    def get(self, name: str) -> str:
        return dict(self.headers).get(name, "")


@dataclass
class Leveller:
    """Takes out of one side's messages what two switches can't have alike."""

    uuids: dict[str, str] = field(default_factory=dict)
    sequences: list[int] = field(default_factory=list)

    def message(self, message: Message) -> list[str]:
        """The message as comparable lines."""
        shown = [f"{name}: {self.text(value)}" for name, value in message.headers if name != "Content-Length"]
        shown += [name for name, _ in message.headers]  # Content-Length differs with what was levelled, not its place
        kind = message.get("Content-Type")
        if kind.startswith("text/event-"):
            return shown + [self._pair(name, value) for name, value in event_pairs(kind, message.body)]
        body = to_text(message.body)
        if body.startswith("UP "):
            up, version, rest = body.split("\n", 2)
            up = re.sub(r"\d+ ([a-z]+?)s?(?=,|$)", r"<n> \1", up)
            body = "\n".join((up, version, re.sub(r"\d+(?:\.\d+)?", "<n>", rest)))
        elif re.fullmatch(r"\d+\n", body):
            body = "<seconds>\n"
        return [*shown, self.text(body)]

    def text(self, text: str) -> str:
        def number(match: re.Match[str]) -> str:
            return self.uuids.setdefault(match[0], f"<uuid {len(self.uuids) + 1}>")

        text = re.sub(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", number, text)
        text = re.sub(rf"\b\d{{4}}-\d\d-\d\d({_BLANK}){_CLOCK}", r"<date\1time>", text)
        text = re.sub(rf"\b\w{{3}},({_BLANK})\d\d({_BLANK})\w{{3}}\2\d{{4}}\2{_CLOCK}\2GMT", r"<gmt\1date>", text)
        text = re.sub(r"\b1\d{15}\b", "<us>", text)
        return re.sub(r"\b1\d{9}\b", "<s>", text)

    def _pair(self, name: str, value: str) -> str:
        if name == "Event-Sequence":
            self.sequences.append(int(value))
            value = "<sequence>"
        elif name == "Event-Calling-Line-Number":
            value = "<line>"
        elif name == "variable_session_id" or re.fullmatch(
            r"variable_([mu]?duration|(bill|flow_bill|answer)(m|u)?sec)", name
        ):
            value = "<n>"
        return f"{name}: {self.text(value)}"


def load(path: Path) -> list[Step]:
    steps = [Step(b"")]
    for line in path.read_text().splitlines():
        mark, _, literal = line.partition(" ")
        if literal == "EOF":
            steps[-1].ends = True
        elif mark == "<<<":
            steps[-1].received += ast.literal_eval(literal)
        else:
            steps.append(Step(ast.literal_eval(literal)))
    return steps


def messages(stream: bytes) -> Iterator[Message]:
    """The messages of a stream. ValueError when it does not end with a message, or a length does not fit."""
    while stream:
        head, blank, stream = stream.partition(b"\n\n")
        if not blank:
            raise ValueError(f"no message: {head!r}")
        message = Message([_header(line) for line in to_text(head).split("\n")])
        length = int(message.get("Content-Length") or 0)
        if len(stream) < length:
            raise ValueError(f"the body is short of {length - len(stream)} bytes")
        message.body, stream = stream[:length], stream[length:]
        yield message


def _header(line: str) -> tuple[str, str]:
    name, colon, value = line.partition(": ")
    if not colon:
        raise ValueError(f"no header: {line!r}")
    return name, value


def event_pairs(kind: str, body: bytes) -> list[tuple[str, str]]:
    """Names and values of an event, in order, doubles and all; URL-encoded where the form has them so."""
    if kind == "text/event-json":
        pairs = json.loads(body.decode(), object_pairs_hook=list)
        compact = json.dumps(dict(pairs), ensure_ascii=False, separators=(",", ":"))
        if len(dict(pairs)) == len(pairs) and compact.encode() != body:
            raise ValueError("the JSON is not compact")
        return [(name, value if isinstance(value, str) else json.dumps(value)) for name, value in pairs]
    if kind == "text/event-xml":
        tags = [(line, re.fullmatch(r"    <([^<>]+)>([^<>]*)</\1>", line)) for line in to_text(body).split("\n")]
        return [(tag[1], tag[2]) if tag else ("xml", line) for line, tag in tags]
    head, _, text = body.partition(b"\n\n")
    if any(byte < 0x21 or byte > 0x7E for byte in head.replace(b": ", b"").replace(b"\n", b"")):
        raise ValueError("a plain event is not URL-encoded")
    pairs = [_header(line) for line in head.decode().split("\n")]
    declared = int(dict(pairs).get("Content-Length", 0)) if text else 0
    if declared != len(text):
        raise ValueError(f"an event's body has {len(text)} bytes, not {declared}")
    return [*pairs, ("_body", to_text(text))]


@dataclass
class Replay:
    """What came of a replay."""

    differences: list[str]
    recorded_gaps: list[int]
    """By how much Event-Sequence rose from one recorded event to the next."""
    gaps: list[int]


def compare(recorded: Message, received: Message, ours: Leveller, theirs: Leveller) -> list[str]:
    """How a message differs from the recorded one; nothing when it is as good."""
    expected, actual = theirs.message(recorded), ours.message(received)
    if expected == actual:
        return []
    missing = [line for line in expected if line not in actual]
    extra = [line for line in actual if line not in expected]
    return [f"- {line}" for line in missing] + [f"+ {line}" for line in extra] or ["the order differs", *actual]


def replay(steps: list[Step], sock: socket.socket) -> Replay:
    """Plays the client's part on a fresh connection."""
    theirs, ours = Leveller(), Leveller()
    differences: list[str] = []
    for step in steps:
        if step.sent:
            sock.sendall(step.sent)
        expected = list(messages(step.received))
        stream, ended = _read(sock, len(expected), step.ends)
        try:
            received = list(messages(stream))
        except ValueError as error:
            differences.append(f"after {step.sent!r}: {error}")
            break
        if len(received) != len(expected) or ended != step.ends:
            differences.append(f"after {step.sent!r}: {len(received)} messages, not {len(expected)}; ended: {ended}")
        for recorded, message in zip(expected, received, strict=False):
            found = compare(recorded, message, ours, theirs)
            if found:
                differences.append("\n  ".join([f"after {step.sent!r}:", *found]))
        if ended:
            break
    else:
        sock.settimeout(QUIET_SECONDS)
        try:
            differences.append(f"at the end: {sock.recv(65536)!r}")
        except TimeoutError:
            pass
    return Replay(differences, _gaps(theirs.sequences), _gaps(ours.sequences))


def _gaps(sequences: list[int]) -> list[int]:
    return [later - earlier for earlier, later in zip(sequences, sequences[1:], strict=False)]


def _read(sock: socket.socket, wanted: int, to_end: bool) -> tuple[bytes, bool]:
    """Reads so many messages (or to the end of the stream), for SECONDS at most."""
    until = time.monotonic() + SECONDS
    stream = b""
    while to_end or _count(stream) < wanted:
        sock.settimeout(max(0.001, until - time.monotonic()))
        try:
            data = sock.recv(1 << 16)
        except TimeoutError:
            break
        if not data:
            return stream, True
        stream += data
    return stream, False


def _count(stream: bytes) -> int:
    try:
        return len(list(messages(stream)))
    except ValueError:
        return -1
