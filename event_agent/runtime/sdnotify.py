"""What systemd is told: ready, how it stands, still alive. A datagram to $NOTIFY_SOCKET, as sd_notify(3) has it.

Where systemd did not start us there is no such socket, and all of this does nothing. Any thread may send.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping


class Notifier:
    """The way to the service manager. Sending never blocks and never fails: nothing here may harm a call."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the zero byte of the abstract namespace; vsock: and other addresses are for virtual machines.
        self._address = "\0" + address[1:] if address.startswith("@") else address if address.startswith("/") else ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if self._address else None
        self._status = ""
        self.watchdog = _watchdog(environ) if self._socket else 0.0

    def send(self, *assignments: str) -> None:
        """Send `NAME=value`s; line breaks in them become blanks."""
        if self._socket is None:
            return
        text = "\n".join(" ".join(each.splitlines()) for each in assignments)
        try:
            self._socket.sendto(text.encode(errors="replace"), socket.MSG_DONTWAIT, self._address)
        except OSError:
            pass  # the watchdog's silence tells the rest

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows; sent when it has changed."""
        if text != self._status:
            self._status = text
            self.send(f"STATUS={text}")


def _watchdog(environ: Mapping[str, str]) -> float:
    """WatchdogSec= in seconds; 0 where there is none, or where it is meant for another process."""
    try:
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return 0.0
        return max(0, int(environ.get("WATCHDOG_USEC", 0))) / 1e6
    except ValueError:
        return 0.0
