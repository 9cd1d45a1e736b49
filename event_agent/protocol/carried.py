"""What an event carries: those of its headers and channel variables that were chosen, by name or by its beginning.

FreeSWITCH's JSON is cut, not decoded: one regular expression finds what stays. As in raw_event.py, a quote inside a
JSON string has a backslash before it, so `,"Hangup-Cause":"` can only be a key. The names are joined into a tree
first, so that a hundred of them hardly cost more than ten.

What an event is told by and what calls are followed by stays whatever was chosen (KEPT), and so does the body.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

NOTHING = "none"  # in place of names: no more than what stays anyway
VARIABLE = "variable_"
# What an event is told by, and what calls are followed by: the panel and the client need these.
KEPT = frozenset((
    "Event-Name", "Event-Subclass", "Event-Date-Timestamp", "Event-Sequence", "Core-UUID", "Unique-ID", "Job-UUID",
    "Job-Command", "Application-UUID", "Channel-State", "Channel-Call-State", "Answer-State", "Hangup-Cause",
    "Caller-Channel-Created-Time", "Other-Leg-Unique-ID", "Old-Unique-ID", "Bridge-A-Unique-ID", "Bridge-B-Unique-ID",
))  # fmt: skip
OURS = frozenset(("variable_event_agent_*", "variable_traceparent", "variable_tracestate"))  # of the agent itself
BODY = "_body"

_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_VALUE = rf"(?:{_STRING}|\[(?:{_STRING},?)*\])"
_FIRST = f',"{VARIABLE}'.encode()
_REST = r'[^"\\]*(?:\\.[^"\\]*)*'  # of a key
_HEADER = re.compile(f',"{_REST}":{_VALUE}'.encode(), re.DOTALL)


class Carried:
    """Which headers stay. Immutable; any thread."""

    __slots__ = ("rules", "_fields", "_variables", "_any", "_name")

    def __init__(self, fields: Iterable[str] = (), variables: Iterable[str] = ()) -> None:
        """`fields`, `variables`: names, or beginnings of names with `*`; empty: all, NOTHING alone: none."""
        named, these = _chosen(fields), {VARIABLE + each for each in _chosen(variables)} | OURS
        theirs = these if _cover_variables(named) else these | named | KEPT
        self.rules = (*_sorted(named | KEPT), *_sorted(theirs))
        """The same for what is compiled: names and beginnings of headers, and of variables."""
        # None: all of them
        self._fields = None if "*" in named else _finder(_tree(named | KEPT, _REST))
        self._variables = None if f"{VARIABLE}*" in these else _finder(_tree(these, _REST))
        self._any = _finder(_either(named | KEPT, these, _REST))
        self._name = re.compile(_either(named | KEPT | {BODY}, these, ".*"), re.DOTALL).fullmatch

    def wants(self, name: str) -> bool:
        """Whether this header stays."""
        return self._name(name) is not None

    def cut(self, data: bytes) -> bytes:
        """FreeSWITCH's JSON of an event without a body, with nothing but what stays, in its order."""
        data = b"," + data[1:]
        if self._fields is not None and self._variables is not None:
            return b"{" + b"".join(self._any(data))[1:] + b"}"
        begin, last = data.find(_FIRST), data.rfind(_FIRST)
        if begin < 0:
            begin = end = len(data) - 1
        else:
            end = _ends(data, last)
            # FreeSWITCH writes the variables one behind the other.
            if end < 0 or data.count(b'":', begin, last) != data.count(_FIRST, begin, last):
                return b"{" + b"".join(self._any(data))[1:] + b"}"
        run = data[begin:end]
        if self._variables is not None:
            run = b"".join(self._variables(run))
        if self._fields is None:
            return b"{" + (data[:begin] + run + data[end:-1])[1:] + b"}"
        return b"{" + b"".join((*self._fields(data[:begin]), run, *self._fields(data[end:])))[1:] + b"}"


def carried(fields: tuple[str, ...], variables: tuple[str, ...]) -> Carried | None:
    """None if an event carries all that it has."""
    return Carried(fields, variables) if fields or variables else None


def _chosen(names: Iterable[str]) -> set[str]:
    return set(tuple(names) or ("*",)) - {NOTHING}


def _finder(names: str) -> Callable[[bytes], list[bytes]]:
    """Finds all headers with these names, each with the comma before it."""
    return re.compile(f',"(?:{names})":{_VALUE}'.encode(), re.DOTALL).findall


def _ends(data: bytes, begin: int) -> int:
    """Where the header that begins here ends; -1: it can't be read."""
    found = _HEADER.match(data, begin)
    return found.end() if found else -1


def _either(fields: set[str], variables: set[str], rest: str) -> str:
    """Names of headers, which match no variable, and names of variables."""
    if not _cover_variables(fields):
        return _tree(fields | variables, rest)
    return f"(?!{VARIABLE})(?:{_tree(fields, rest)})|{_tree(variables, rest)}"


def _cover_variables(fields: Iterable[str]) -> bool:
    """Whether all variables begin like one of these."""
    return any(each.endswith("*") and VARIABLE.startswith(each[:-1]) for each in fields)


def _sorted(names: Iterable[str]) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
    """Those that are whole, and the beginnings; of two beginnings of which one begins with the other, the shorter."""
    beginnings: list[bytes] = []
    for each in sorted(name[:-1].encode() for name in names if name.endswith("*")):
        if not beginnings or not each.startswith(beginnings[-1]):
            beginnings.append(each)
    return tuple(sorted(name.encode() for name in names if not name.endswith("*"))), tuple(beginnings)


def _tree(names: Iterable[str], rest: str) -> str:
    """A regular expression for these names; `rest` stands for what a `*` stands for."""
    return "|".join(_branches(list(names), rest))


def _branches(names: list[str], rest: str) -> list[str]:
    """One alternative for each first character, each with a tree of what follows it."""
    if "*" in names:
        return [rest]  # whatever else is here begins so, too
    by_first: dict[str, list[str]] = {}
    for each in names:
        by_first.setdefault(each[:1], []).append(each[1:])
    found = []
    for first, further in sorted(by_first.items(), reverse=True):  # the end of a name comes last: it matches nothing
        branches = _branches(further, rest) if first else [""]
        found.append(re.escape(first) + (branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})"))
    return found
