"""How systemd has the service on this machine: `check`, `doctor` and `support-bundle` ask it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass

LIMIT = 10.0  # seconds for systemctl, journalctl
_PROPERTIES = ("ActiveState", "SubState", "Result", "StatusText", "NRestarts", "MainPID", "ActiveEnterTimestamp",
               "NeedDaemonReload")  # fmt: skip


@dataclass(frozen=True)
class State:
    """As `systemctl show` has it."""

    active: str  # active, inactive, failed, activating, …
    sub: str
    result: str
    status: str  # the agent's own line
    restarts: int
    pid: int
    since: str
    stale: bool  # the unit's files have changed since systemd read them

    @property
    def runs(self) -> bool:
        return self.active in ("active", "reloading")

    @property
    def text(self) -> str:
        """`failed (exit-code): Wrong configuration: …`."""
        words = {"activating": "starting", "inactive": "stopped", "deactivating": "stopping"}
        again = self.active == "activating" and (self.sub == "auto-restart" or self.restarts)
        state = "starting again and again" if again else words.get(self.active, self.active)
        result = f" ({self.result})" if self.result not in ("", "success") else ""
        # What it said last before an orderly end is no news.
        return f"{state}{result}" + (f": {self.status}" if self.status and self.active != "inactive" else "")


def state_of(name: str) -> State | None:
    """None if there is no systemd to ask."""
    said = output("systemctl", "show", f"--property={','.join(_PROPERTIES)}", name)
    found = dict(line.split("=", 1) for line in said.splitlines() if "=" in line)
    if not found.get("ActiveState"):
        return None

    def whole(key: str) -> int:
        return int(text) if (text := found.get(key, "")).isdigit() else 0

    return State(
        found["ActiveState"], found.get("SubState", ""), found.get("Result", ""), found.get("StatusText", ""),
        whole("NRestarts"), whole("MainPID"), found.get("ActiveEnterTimestamp", ""),
        found.get("NeedDaemonReload") == "yes",
    )  # fmt: skip


def output(*command: str) -> str:
    """What a program prints; empty if it fails or is not there."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=LIMIT, check=False,
            encoding="utf-8", errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
