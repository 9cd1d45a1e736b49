"""The bell: FreeSWITCH's mod_event_multicast sends a datagram for each event that it fires, and that it came says that
there is something to fetch. What it says is not looked at.

    no bell    the reader nudges FreeSWITCH by the clock while it is busy, see event_reader.py
    trusted    datagrams come, and events behind them: no clock, a nudge for each ring

A ring is answered with one nudge at once, and another one a little later if no event has come: where the module was
loaded behind mod_event_socket the datagram is sent before the event is queued for us (switch_event.c,
switch_event_bind_removable: who comes last is called first). Whoever may send to the group can ring, so between two
rings nobody listens for half of the time that the clock waits, and for longer if no events come of them.

An event without a ring before it was missed: it waited for FreeSWITCH's own look, each 20 ms. From then on the clock is
used, for a while and until rings bring events again.

Datagrams are taken from the loopback interface only. One thread, the event reader's; the figures any thread may read.
"""

from __future__ import annotations

import logging
import socket
import struct
import time
from typing import Any

log = logging.getLogger(__name__)

FALSE = 8  # rings without an event, after which they are listened to as often as the clock ticks
FLOOD = 1000  # the same, after which FreeSWITCH's own look is soon enough
LOOK = 0.02  # seconds between two looks of FreeSWITCH's at its queue (mod_event_socket.c, listener_run)
COVERS = 0.25  # seconds for which a ring explains that events come
DOUBT = 2.0  # seconds for which the clock is used after an event that no ring announced
SILENT = 60.0  # seconds; FreeSWITCH fires a HEARTBEAT every 20
DATAGRAMS = 64  # that are taken at a time
PROVEN = 3  # rings that events came of


class Bell:
    """Joins a multicast group on the loopback interface, and decides when to nudge."""

    def __init__(self, address: tuple[str, int], clock: float) -> None:
        """`clock`: seconds between two nudges without it."""
        self.address = f"{address[0]}:{address[1]}"
        self._clock = clock or 0.002
        self.heard = 0  # datagrams
        self.missed = 0  # events that none announced
        self._at = 0.0  # time.monotonic() of the last ring
        self._deaf_until = 0.0
        self._again = 0.0  # when to nudge once more; 0: not
        self._false = 0
        self._proven = 0
        self._doubt_until = 0.0
        self._trusted: bool | None = None  # as was logged last on this link
        self._missed_before = 0  # this link
        self._socket = _joined(address)
        self.fileno = -1 if self._socket is None else self._socket.fileno()

    def close(self) -> None:
        """Leave the group."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
            self.fileno = -1

    def linked(self) -> None:
        """A new connection: what rang before was about another one."""
        self._again, self._deaf_until, self._false = 0.0, 0.0, 0
        self._trusted, self._missed_before = None, self.missed
        self._take()

    def listens(self, now: float) -> bool:
        """Whether it is worth waking up for a datagram."""
        return self.fileno >= 0 and now >= self._deaf_until

    def wait(self, now: float, longest: float) -> float:
        """How many seconds the reader may wait until it calls `step`: at most `longest`."""
        if self._again:
            longest = min(longest, max(0.0, self._again - now))
        return min(longest, self._deaf_until - now) if self._deaf_until > now else longest

    def trusted(self, now: float) -> bool:
        """Whether no clock is needed."""
        trusted = self._proven >= PROVEN and now >= self._doubt_until and now - self._at < SILENT
        if trusted != self._trusted and (trusted or (self.missed > self._missed_before and now - self._at > DOUBT)):
            self._trusted = trusted
            if trusted:
                log.info("mod_event_multicast announces events on %s; no nudges are needed", self.address)
            else:
                log.warning(
                    "mod_event_multicast does not announce events on %s; nudging FreeSWITCH instead", self.address
                )
        return trusted

    def step(self, now: float, events: bool) -> bool:
        """After each wait, `events`: some have come. True: nudge FreeSWITCH."""
        listens = self.listens(now)
        rang = self._take() if listens else 0
        if events:
            self._came(now, listens and not rang)
        if rang:
            self.heard += rang
            self._at = now
            self._false += 1
            apart = self._clock / 2 if self._false <= FALSE else self._clock if self._false <= FLOOD else LOOK
            self._deaf_until = now + apart
            self._again = now + self._clock if self._false <= FALSE else 0.0
            return True
        if self._again and now >= self._again:
            self._again = 0.0
            return True
        return False

    def _came(self, now: float, unannounced: bool) -> None:
        self._again = 0.0
        if now - self._at <= COVERS:
            self._proven = min(self._proven + bool(self._false), PROVEN)
        elif unannounced:
            self.missed += 1
            if self._proven:
                self._proven = 0
                self._doubt_until = now + DOUBT
        self._false = 0

    def _take(self) -> int:
        """How many datagrams have come since the last time, DATAGRAMS at most."""
        taken = 0
        if self._socket is not None:
            try:
                while taken < DATAGRAMS:
                    self._socket.recv(1, socket.MSG_DONTWAIT)  # of a datagram the kernel throws away the rest
                    taken += 1
            except OSError:
                pass  # none is left
        return taken

    def section(self) -> dict[str, Any]:
        """agent.status's part."""
        silent = time.monotonic() - self._at if self._at else None
        return {
            "address": self.address,
            "joined": self.fileno >= 0,
            "rings": self._proven >= PROVEN and silent is not None and silent < SILENT,
            "heard": self.heard,
            "missed": self.missed,
            "silent": None if silent is None else round(silent, 1),
        }


def _joined(address: tuple[str, int]) -> socket.socket | None:
    """A socket that gets what is sent to the group on this machine, and nothing from the network."""
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # other agents here listen as well
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # one datagram is as good as a thousand
        made.setsockopt(socket.IPPROTO_IP, _MULTICAST_ALL, 0)  # not what others have joined
        made.bind(address)
        group = struct.pack("4s4s", socket.inet_aton(address[0]), socket.inet_aton("127.0.0.1"))
        made.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, group)
    except OSError as error:
        made.close()
        reason = error.strerror or error
        log.warning("event_wake_multicast: %s:%d can't be joined: %s; nudging FreeSWITCH instead", *address, reason)
        return None
    return made


_MULTICAST_ALL = 49  # IP_MULTICAST_ALL, ip(7); Python has no name for it
