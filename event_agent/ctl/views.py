"""What event-agentctl shows: text made safe for a terminal, colours, tables, events in one line. Pure functions.

What callers choose (names, numbers, headers) is shown to people here, so nothing of it may reach a terminal as a
control sequence: `safe` takes them out of text, `to_json` writes them as JSON escapes.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import time
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

# Whole sequences first, so that no "[31m" stays behind: CSI; OSC, DCS and the like up to their end; other escapes.
_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?|(?:\x1b[]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)?"
    "|\x1b[ -/]*[0-~]?"
)
# Control characters, lone surrogates, and those that reorder or hide text.
_BAD = "\x00-\x1f\x7f-\x9f\ud800-\udfff\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
_UNSAFE = re.compile(f"[{_BAD}]")
_UNSAFE_IN_TEXT = re.compile(f"(?![\n\t])[{_BAD}]")

COLOURS = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "magenta": "35", "cyan": "36", "dim": "2",
           "bold": "1", "reverse": "7"}  # fmt: skip


def safe(value: object, lines: bool = False) -> str:
    """`value` as text without control sequences; line breaks and tabs become blanks unless `lines`."""
    text = value if isinstance(value, str) else str(value)
    text = _SEQUENCE.sub("", text)
    if lines:
        return _UNSAFE_IN_TEXT.sub("", text)
    return _UNSAFE.sub("", text.replace("\r\n", " ").replace("\n", " ").replace("\r", " ").replace("\t", " "))


def to_json(value: object, pretty: bool = False) -> str:
    """JSON, compact on one line or `pretty`; what a terminal might act on is escaped, which changes no value."""
    if pretty:
        text = json.dumps(value, ensure_ascii=False, indent=2)
        return _UNSAFE_IN_TEXT.sub(_escaped, text)
    return _UNSAFE.sub(_escaped, json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _escaped(match: re.Match[str]) -> str:
    return f"\\u{ord(match[0]):04x}"


def columns_of(stream: TextIO) -> int:
    """Of a terminal; 0 if it is none."""
    return shutil.get_terminal_size().columns if stream.isatty() else 0


def is_coloured(stream: TextIO, environ: Mapping[str, str] = os.environ) -> bool:
    """True for a terminal whose user has not asked for none (https://no-color.org)."""
    return stream.isatty() and not environ.get("NO_COLOR") and environ.get("TERM", "dumb") != "dumb"


class Painter:
    """Puts colours around text, or does not."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, *colours: str) -> str:
        if not self.on or not colours or not text:
            return text
        return f"\x1b[{';'.join(COLOURS[colour] for colour in colours)}m{text}\x1b[0m"


# -- tables


class Cell(str):
    """A cell with colours; its text is what counts for the width."""

    colours: tuple[str, ...] = ()

    def __new__(cls, text: object, *colours: str) -> Cell:
        cell = super().__new__(cls, safe(text))
        cell.colours = colours
        return cell


def width(text: str) -> int:
    """Columns that `text` takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def cut(text: str, columns: int) -> str:
    """`text` in at most `columns` columns."""
    if width(text) <= columns:
        return text
    used = 0
    for at, char in enumerate(text):
        used += width(char)
        if used >= columns:
            return text[:at] + "…" if columns > 0 else ""
    return text


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], paint: Painter, right: Iterable[int] = ()) -> list[str]:
    """Lines of a table; columns in `right` are aligned so. Cells are made safe; a cell is at most 40 columns wide."""
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    shown = [[cut(cell, 40) for cell in row] for row in cells]
    widths = [max(width(line[i]) for line in [list(heads), *shown]) for i in range(len(heads))]
    to_right = frozenset(right)

    def line(texts: Sequence[str], colours: Sequence[tuple[str, ...]]) -> str:
        parts = []
        for i, text in enumerate(texts):
            pad = " " * (widths[i] - width(text))
            last = i == len(texts) - 1
            painted = paint(text, *colours[i])
            parts.append(pad + painted if i in to_right else painted + ("" if last else pad))
        return "  ".join(parts)

    head = line(heads, [("bold",)] * len(heads))
    return [head, *(line(texts, [cell.colours for cell in row]) for texts, row in zip(shown, cells, strict=True))]


def some(parts: Sequence[str], joint: str = ", ", most: int = 6) -> str:
    """So many of them, and how many more there are."""
    left = len(parts) - most
    return joint.join(parts) if left <= 0 else f"{joint.join(parts[:most])}{joint}and {left} more"


def duration(seconds: object) -> str:
    """`3d 4h`, `4h 12m`, `12m 5s`, `5s`; `-` for what is no number."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool) or not 0 <= seconds < 1e12:
        return "-"
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or parts or unit == "s":
            parts.append(f"{number}{unit}")
    return " ".join(parts[:2])


def number(value: object) -> str:
    """A count as a person reads it (`12,345`; `1.2M` if it is large); `-` for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not -1e15 <= value <= 1e15:
        return "-"
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) < 1000 else number(int(value))
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if abs(value) >= 10 * size or (unit != "M" and abs(value) >= size):
            return f"{value / size:.1f}{unit}"
    return f"{value:,}"


# -- events

_KINDS = (
    ("CHANNEL_HANGUP", "red"), ("CHANNEL_DESTROY", "red"), ("CHANNEL_ANSWER", "green"), ("CHANNEL_BRIDGE", "green"),
    ("CHANNEL_CREATE", "cyan"), ("CHANNEL_PARK", "yellow"), ("CUSTOM", "magenta"), ("DTMF", "yellow"),
    ("CHANNEL", "blue"),
)  # fmt: skip
# The header that an event is all about.
_ABOUT = {"CHANNEL_STATE": "Channel-State", "CHANNEL_CALLSTATE": "Channel-Call-State"}
_WITH_CAUSE = ("CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE")
# Headers worth a place in one line, with a short name; those with "" need none.
_SHOWN = (
    ("Event-Subclass", ""), ("Application", "app"), ("Application-Data", "data"),
    ("Hangup-Cause", "cause"), ("DTMF-Digit", "digit"), ("API-Command", "api"), ("API-Command-Argument", ""),
    ("Job-Command", "job"), ("Other-Leg-Unique-ID", "other"), ("Event-Info", ""),
)  # fmt: skip


def event_line(event: Mapping[str, Any], paint: Painter, fields: Sequence[str] = ()) -> str:
    """One event in one line: time, node, name, uuid, and what matters of its headers, or just these `fields`."""
    name = safe(event.get("event_name", ""))
    colour = next((colour for start, colour in _KINDS if name.startswith(start)), "")
    parts = [
        paint(clock(event.get("timestamp")), "dim"),
        paint(safe(event.get("node_id", "")), "dim"),
        paint(f"{name:<24}", *([colour] if colour else [])),
    ]
    if fields:
        found = pick(event, fields)
        parts += [f"{paint(safe(field) + '=', 'dim')}{safe(_flat(value))}" for field, value in found.items()]
        return "  ".join(parts).rstrip()
    if event.get("uuid"):
        parts.append(safe(event["uuid"]))
    headers = event.get("headers")
    if isinstance(headers, dict):
        if (caller := _caller(headers)) and name.startswith("CHANNEL"):
            parts.append(caller)
        for header, label in ((_ABOUT.get(name, ""), ""), *_SHOWN):
            value = headers.get(header)
            if header == "Hangup-Cause" and name not in _WITH_CAUSE:
                continue  # from the hangup on every event of the channel has it
            if value not in (None, ""):
                text = safe(_flat(value))
                parts.append(f"{paint(label + '=', 'dim')}{text}" if label else text)
    return "  ".join(parts).rstrip()


def clock(microseconds: object) -> str:
    """Local time of day with milliseconds."""
    if not isinstance(microseconds, (int, float)) or isinstance(microseconds, bool) or not 0 <= microseconds < 1e17:
        return "--:--:--.---"
    seconds, rest = divmod(int(microseconds), 1_000_000)
    return f"{time.strftime('%H:%M:%S', time.localtime(seconds))}.{rest // 1000:03d}"


def pick(event: Mapping[str, Any], fields: Sequence[str]) -> dict[str, Any]:
    """These fields of an event, under the names asked for: its own (`uuid`) or its headers', in any case."""
    headers = event.get("headers")
    by_name = {str(key).lower(): value for key, value in headers.items()} if isinstance(headers, dict) else {}
    own = {key: value for key, value in event.items() if key != "headers"}
    found = {field: own.get(field, by_name.get(field.lower())) for field in fields}
    return {field: value for field, value in found.items() if value is not None}


def _caller(headers: Mapping[str, Any]) -> str:
    """`Alice <1001> → 5551234`, as far as it is known."""
    name, number = headers.get("Caller-Caller-ID-Name"), headers.get("Caller-Caller-ID-Number")
    to = headers.get("Caller-Destination-Number")
    who = safe(name) if name and name != number else ""
    if number:
        who = f"{who} <{safe(number)}>" if who else safe(number)
    return f"{who} → {safe(to)}" if to else who


def _flat(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
