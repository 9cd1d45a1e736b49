"""The configuration file as XML: its elements with their lines, or where it is wrong and since which line.

What expat calls a mismatched tag is noticed where the next element outside ends, a hundred lines after the slip. So
what is open at a fault is known here, and the fault names the line on which that begins.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from xml.parsers import expat

from event_agent.errors import ConfigError

SAID = 10  # elements at most that are said to be open

_INVALID_TOKEN, _MISMATCH, _NO_ELEMENTS, _UNCLOSED = (
    expat.errors.codes[each]
    for each in (
        expat.errors.XML_ERROR_INVALID_TOKEN, expat.errors.XML_ERROR_TAG_MISMATCH,
        expat.errors.XML_ERROR_NO_ELEMENTS, expat.errors.XML_ERROR_UNCLOSED_TOKEN,
    )
)  # fmt: skip
_ENTITY = re.compile(rb"&[^;\s<>]*.?$", re.DOTALL)
_END = re.compile(rb"</\s*([^\s>]+)")
_OPENING = re.compile(rb"</?[A-Za-z_][\w.:-]*|<!--|<!\[CDATA\[|<\?\w+")
# A tag up to its end: quotes may hold '>', but no '<'.
_WHOLE = re.compile(rb"""</?[A-Za-z_](?:[^<>"']|"[^<"]*"|'[^<']*')*>""")


def parse(path: str, data: bytes) -> tuple[ET.Element, dict[ET.Element, int]]:
    """The document, and the line each element begins on, which ElementTree's own parser does not tell.

    A DOCTYPE is refused, and with it every entity: nothing can be expanded without end or fetched from elsewhere.
    Raises ConfigError.
    """
    parser = expat.ParserCreate()
    builder = ET.TreeBuilder()
    lines: dict[ET.Element, int] = {}
    opened: list[tuple[str, int]] = []

    def start(tag: str, attributes: dict[str, str]) -> None:
        opened.append((tag, parser.CurrentLineNumber))
        lines[builder.start(tag, attributes)] = parser.CurrentLineNumber

    def end(tag: str) -> None:
        opened.pop()
        builder.end(tag)

    def doctype(*_: object) -> None:
        raise ConfigError([f"{path}:{parser.CurrentLineNumber}: a DOCTYPE is not allowed"])

    if not data.strip():
        raise ConfigError([f"{path}: the file is empty"])
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        faults = _not_closed(path, data, error, parser.ErrorByteIndex, opened)
        if not faults:
            text = expat.ErrorString(error.code)
            if error.code == _INVALID_TOKEN:
                text += _hint(data, parser.ErrorByteIndex)
            faults = [f"{path}:{error.lineno}: not well-formed XML: {text}"]
        raise ConfigError(faults) from None
    except (LookupError, ValueError):
        raise ConfigError([f"{path}:1: unknown encoding, UTF-8 is best"]) from None
    return builder.close(), lines


def _not_closed(
    path: str, data: bytes, error: expat.ExpatError, index: int, opened: list[tuple[str, int]]
) -> list[str]:
    """A line for each element that should have ended before the fault; none if the fault is another one."""
    code = error.code
    if code == _MISMATCH:
        found = _END.match(data, data.rfind(b"</", 0, index + 2))
        name = found[1].decode(errors="replace") if found else ""
        names = [tag for tag, _ in opened]
        if name in names:  # it ends something further out: all within should have ended
            return _said(path, opened[len(names) - names[::-1].index(name) :], error.lineno)
        tag, line = opened[-1]
        return [f"{path}:{error.lineno}: </{name[:100]}> ends no element; <{tag}> of line {line} is open"]
    if code == _NO_ELEMENTS:
        return _said(path, opened, error.lineno)
    unfinished = code == _UNCLOSED
    if b"<!--" in data[max(0, index - 4) : index + 2] and not unfinished:  # a comment in one that should have ended
        at, unfinished = data.find(b"<!--", data.rfind(b"-->", 0, index) + 1), True
        last = error.lineno
    else:
        at = index if unfinished else data.rfind(b"<", 0, index)
        last = data.rstrip().count(b"\n") + 1 if unfinished else error.lineno
    opening = _OPENING.match(data, at) if at >= 0 else None
    line = data.count(b"\n", 0, at) + 1
    if opening is None or (line == error.lineno and not unfinished):
        return []
    if unfinished or (data[index : index + 1] == b"<" and not _WHOLE.match(data, at)):
        what = opening[0].decode() + ("" if opening[0].startswith(b"<!") else ">")
        return [f"{path}:{line}: {what} is not closed; noticed at line {last}"]
    return []


def _said(path: str, opened: list[tuple[str, int]], line: int) -> list[str]:
    return [f"{path}:{began}: <{tag}> is not closed; noticed at line {line}" for tag, began in opened[:SAID]]


def _hint(data: bytes, index: int) -> str:
    """For what people write into a value: a password, a URL."""
    line = data[data.rfind(b"\n", 0, index) + 1 : index]
    here = data[index : index + 1]
    if here > b"\x7f":
        return f": byte {here.hex()} is not UTF-8; save the file as UTF-8"
    if _ENTITY.search(line + here):
        return ": '&' is written &amp; here"
    if here == b"<" and line.count(b'"') % 2:
        return ": '<' is written &lt; in a value"
    if line.rstrip().endswith(b"="):
        return ": a value stands in quotes"
    if data.rfind(b"<!--", 0, index) > data.rfind(b"-->", 0, index):
        return ": '--' can't stand in a comment"
    return ""
