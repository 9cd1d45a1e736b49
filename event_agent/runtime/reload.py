"""`systemctl reload` and its outcome. The daemon alone can read its credentials, and knows which file it was started
with; so it reads them itself on SIGHUP, and says in a file what became of that. `event-agent --reload` sends the
signal and waits for that file.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

FILE = "reload.json"
LIMIT = 15.0  # seconds
LOOK = 0.05  # seconds between two looks
MOST = 65536  # bytes


class NoReload(Exception):
    """The daemon could not be asked, or did not answer."""


def folder(environ: Mapping[str, str]) -> str:
    """Where the outcome is written: RuntimeDirectory= of the unit; empty if there is none."""
    return environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]


def report(where: str, faults: Sequence[str]) -> None:
    """By the daemon: say what became of a SIGHUP. Never fails: nothing depends on it but who asked."""
    if not where:
        return
    with suppress(OSError):
        path = os.path.join(where, FILE)
        with open(f"{path}.new", "w", encoding="utf-8", errors="replace") as file:
            json.dump({"mark": os.urandom(8).hex(), "faults": list(faults)}, file)
        os.replace(f"{path}.new", path)


def ask(where: str, pid: int, limit: float = LIMIT) -> list[str]:
    """Have the daemon read its configuration again; its faults. Raises NoReload."""
    before = _mark(where)
    try:
        os.kill(pid, signal.SIGHUP)
    except OSError as error:
        raise NoReload(f"process {pid}: {error.strerror}") from None
    if not where:
        return []
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        answer = _read(where)
        if answer.get("mark") not in (None, before):
            return [str(each) for each in answer.get("faults", [])]
        time.sleep(LOOK)
    raise NoReload(f"process {pid} did not say within {limit:g} s whether it has read its configuration")


def _mark(where: str) -> object:
    return _read(where).get("mark") if where else None


def _read(where: str) -> Mapping[str, list[str] | str]:
    try:
        with open(os.path.join(where, FILE), encoding="utf-8") as file:
            found = json.loads(file.read(MOST))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
