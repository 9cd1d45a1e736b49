"""Messages to systemd: ready, how it stands, still alive. A datagram to $NOTIFY_SOCKET, as sd_notify(3) has it.

systemd also keeps descriptors for us, over a restart and over the death of the process (FileDescriptorStoreMax= in the
unit): `store` gives it one under a name, `inherited` is what the process before us has left there.

If systemd did not start us there is no such socket, and all of this does nothing. Any thread may send.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Mapping

FIRST = 3  # the number of the first inherited descriptor, SD_LISTEN_FDS_START


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

    def store(self, name: str, descriptor: int) -> bool:
        """Have systemd keep a descriptor under this name, until it hangs up. False if nobody keeps it."""
        if self._socket is None:
            return False
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))
        try:
            text = f"FDSTORE=1\nFDNAME={name}".encode()
            self._socket.sendmsg([text], [rights], socket.MSG_DONTWAIT, self._address)
        except OSError:
            return False
        return True

    def drop(self, name: str) -> None:
        """Have systemd close what it keeps under this name."""
        self.send("FDSTOREREMOVE=1", f"FDNAME={name}")

    def in_time(self, seconds: float) -> float:
        """So long, or less where the watchdog wants to hear of us more often: three times within its limit."""
        return min(seconds, max(self.watchdog / 3, 0.1)) if self.watchdog else seconds

    def status(self, text: str) -> None:
        """The line that `systemctl status` shows; sent when it has changed."""
        if text != self._status:
            self._status = text
            self.send(f"STATUS={text}")


def inherited(environ: Mapping[str, str]) -> dict[str, list[int]]:
    """The descriptors that were left for this process, by name. Source: sd_listen_fds_with_names(3)."""
    try:
        if int(environ.get("LISTEN_PID", "0")) != os.getpid():
            return {}
        count = int(environ.get("LISTEN_FDS", "0"))
    except ValueError:
        return {}
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    found: dict[str, list[int]] = {}
    for at in range(min(count, len(names))):
        try:
            os.set_inheritable(FIRST + at, False)
        except OSError:
            continue  # it is not open
        found.setdefault(names[at], []).append(FIRST + at)
    return found


def _watchdog(environ: Mapping[str, str]) -> float:
    """WatchdogSec= in seconds; 0 where there is none, or where it is meant for another process."""
    try:
        if int(environ.get("WATCHDOG_PID", os.getpid())) != os.getpid():
            return 0.0
        return max(0, int(environ.get("WATCHDOG_USEC", 0))) / 1e6
    except ValueError:
        return 0.0
