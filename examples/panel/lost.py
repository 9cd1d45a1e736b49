"""Today's callers whom nobody has spoken to, for somebody to call back. Knows no threads; world.py has the lock.

A caller is lost who came in, waited or was not answered, and went without having talked to anybody. One who calls again
and is spoken to, or who is called and answers, is lost no longer. Kept in memory: it begins with the panel.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from .calls import Leg

MOST = 300  # kept
LEFT = 3.0  # seconds
TALKED = 2000  # legs remembered that have talked

Entry = dict[str, Any]


class Lost:
    """The callers of today."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Entry] = OrderedDict()  # node and uuid -> entry
        self._talked: OrderedDict[tuple[str, str], None] = OrderedDict()

    def all(self) -> list[Entry]:
        """Newest first."""
        return list(reversed(self._kept.values()))

    def get(self, name: object) -> Entry | None:
        return self._kept.get(str(name))

    def ended(self, leg: Leg, cause: str) -> bool:
        """A leg has ended; True if that changes who is lost."""
        node, uuid = leg["node"], leg["uuid"]
        if leg["talked"] or leg["app"].startswith("eavesdrop "):
            self._talked[node, uuid] = None
            while len(self._talked) > TALKED:
                self._talked.popitem(last=False)
            return bool(leg["talked"]) and self._reached(leg)
        now = time.time()
        # Who has just left the place of waiting went, or was sent somewhere that there is not.
        waited = leg["parked"] or leg["ours"] or not leg["answered"] or leg["left"] / 1e6 > now - LEFT
        if leg["direction"] != "inbound" or not waited or not leg["number"] or (node, leg["pair"]) in self._talked:
            return False
        self._kept[f"{node}/{uuid}"] = {
            "id": f"{node}/{uuid}", "node": node, "name": leg["name"], "number": leg["number"], "to": leg["to"],
            "at": now, "waited": max(0, round(now - leg["since"] / 1e6)) if leg["since"] else 0, "cause": cause,
            "back": "",
        }  # fmt: skip
        while len(self._kept) > MOST:
            self._kept.popitem(last=False)
        return True

    def called_back(self, name: str, who: str) -> None:
        if name in self._kept:
            self._kept[name] = self._kept[name] | {"back": who}

    def _reached(self, leg: Leg) -> bool:
        """A caller that talked is lost no longer."""
        numbers = {leg["number"], leg["to"]} - {""}
        found = [name for name, entry in self._kept.items() if entry["number"] in numbers]
        for name in found:
            del self._kept[name]
        return bool(found)
