"""Fields of a request that its command does not know: ignored, and named in the reply, for they may be misspelled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from event_agent.commands import console
from event_agent.protocol.requests import ARGS, COMMON
from event_agent.protocol.validation import Declaration

MOST = 8  # fields named in one reply
NAME = 64  # characters of a name that are shown; a longer one is close to none


class KnownFields:
    """What each command knows. Any thread may ask."""

    def __init__(self, declared: Iterable[Declaration]) -> None:
        common = {each.name for each in COMMON} - {ARGS.name}
        declared = tuple(declared)
        self._known = {each.name: frozenset(common | each.names) for each in declared}
        self._verbs = self._known.get("")
        self.consoles = {each.name: each for each in declared if each.console}
        """Those that take `args` in the place of fields."""

    def warnings(self, command: str, payload: Mapping[str, object]) -> list[str]:
        """A sentence for each field of `payload` that `command` does not know."""
        known = self._known.get(command, self._verbs)
        if known is None or payload.keys() <= known:
            return []
        names = [name for name in payload if name not in known]
        found = []
        if ARGS.name in names and (not payload[ARGS.name] or command in self.consoles):
            names.remove(ARGS.name)  # an empty one is what a template leaves there
            if payload[ARGS.name] and not console.in_use(self.consoles[command], payload):
                found.append("args are not used: the request has fields in their place")
        # What is cut off is not kept by the cache either, which would hold megabytes of long names.
        found += [
            _warning(name, known) if len(name) <= NAME else f"unknown field '{name[:NAME]}…'" for name in names[:MOST]
        ]
        if len(names) > MOST:
            found.append(f"{len(names) - MOST} more unknown fields")
        return found


@lru_cache(256)  # a client that sends a field of its own sends it each time
def _warning(name: str, known: frozenset[str]) -> str:
    from difflib import get_close_matches  # most agents never need it

    # `args` is a field of other commands, not a slip.
    close = get_close_matches(name.lower(), sorted(known), 1) if name != "args" else []
    return f"unknown field '{name}'" + (f": did you mean '{close[0]}'?" if close else "")
