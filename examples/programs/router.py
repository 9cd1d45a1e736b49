"""Decides where new calls go, by a table that may be changed while it runs: the longest prefix of the number wins.

    python3 router.py routes.csv public         calls in context "public"

    prefix,action,value
    4930,transfer,1001
    493099,hangup,CALL_REJECTED
    49,dialplan,
    0049,park,
    ,transfer,operator

An empty prefix is for all other numbers; without one they go to FreeSWITCH's dialplan, and so does every call if no
router answers within 0.8 seconds. A table with a fault is not used: the one before it is, and the fault is said.
Park mode must be set up on the nodes (docs/DIALPLAN.md).
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import event_agent_client as ea

EMERGENCY = ["112", "911"]  # never asked about
ACTIONS = ("transfer", "hangup", "dialplan", "park")
Table = dict[str, tuple[str, str]]


class Routes:
    """The table, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at: tuple[int, int] | None = None
        self._table: Table = {}

    def find(self, number: str) -> tuple[str, str]:
        self._look()
        for length in range(len(number), -1, -1):
            if found := self._table.get(number[:length]):
                return found
        return "dialplan", ""

    def _look(self) -> None:
        try:
            about = self._path.stat()
            if (about.st_mtime_ns, about.st_size) == self._read_at:
                return
            self._read_at = about.st_mtime_ns, about.st_size
            self._table = table_of(self._path)
            say(f"{len(self._table)} routes in {self._path}")
        except (OSError, ValueError) as fault:
            say(f"{self._path} is not used: {fault}")


def table_of(path: Path) -> Table:
    """Raises ValueError with the line that is wrong."""
    table: Table = {}
    with open(path, encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            if not row or row[0].startswith("#") or (number == 1 and row[0] == "prefix"):
                continue
            if len(row) != 3 or row[1] not in ACTIONS or (row[1] == "transfer" and not row[2]):
                raise ValueError(f"line {number}: prefix, one of {', '.join(ACTIONS)}, and where to")
            table[row[0]] = (row[1], row[2])
    return table


def decide(routes: Routes, call: ea.RouteRequest, context: str) -> Mapping[str, Any]:
    action, value = routes.find(call.destination.removeprefix("+"))
    say(f"{call.uuid} {call.caller_number!r} -> {call.destination!r}: {action} {value}")
    if action == "transfer":
        return call.transfer(value, context=context)
    if action == "hangup":
        return call.hangup(value or "CALL_REJECTED")
    return call.park() if action == "park" else call.dialplan()


def say(text: str) -> None:
    print(text, flush=True)


def arguments() -> argparse.Namespace:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("table", type=Path)
    options.add_argument("context", nargs="?", default="public", help="in which calls come")
    options.add_argument("--to", default="default", metavar="CONTEXT", help="in which the extensions are")
    return options.parse_args()


async def main() -> None:
    given = arguments()
    routes = Routes(given.table)
    routes.find("")
    async with ea.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        @fs.route(context=given.context, exceptions=EMERGENCY)
        def router(call: ea.RouteRequest) -> Mapping[str, Any]:
            return decide(routes, call, given.to)

        say(f"routing calls in {given.context}")
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
        await fs.forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
