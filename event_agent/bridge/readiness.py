"""Whether this node should be given calls: only then it takes requests on `any`, the subject that all nodes share.

It is ready while

    FreeSWITCH is connected                              Reason.NOT_CONNECTED
    it is not paused, `fsctl pause` or `pause outbound`  Reason.PAUSED
    it is not asked to shut down                         Reason.SHUTTING_DOWN
    it has sessions left                                 Reason.NO_SESSIONS
    nobody has drained the node, `agent.drain`           Reason.DRAINED

FreeSWITCH fires no event when it is paused, so it is asked: every CHECK seconds, and at once when somebody has given it
`fsctl` through us. For its sessions it is asked as often when most of them are taken. `pause_check outbound` tells all
pauses that keep originate from making calls, and `shutdown asap` (switch_core.c, switch_core_session_ctl:
SCF_NO_NEW_SESSIONS is both directions). `shutdown elegant` fires SHUTDOWN_REQUESTED, and shows in `shutdown_check`.

A change, but for that of the connection, which has announcements of its own, is announced: AGENT_READINESS. Every
`heartbeat` seconds AGENT_HEARTBEAT says how much FreeSWITCH has to do.

The questions leave and the changes are made on the thread `readiness`; what changes with the link, at once on its
thread. Answers come on others and wake it.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from enum import Enum
from typing import Any

from event_agent.bridge.announcements import Announcements
from event_agent.bridge.losses import Losses
from event_agent.bridge.presence import Subjects
from event_agent.drivers.base import EventSink
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.link import Switch, SwitchObserver
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.health import STUCK, Signs, Watched

log = logging.getLogger(__name__)

CHECK = 1.0  # seconds between two questions whether FreeSWITCH is paused
LIMIT = 5.0  # seconds an answer may take
FIGURES = 20.0  # seconds between two looks at its figures, if no heartbeat asks more often
NEAR = 0.9  # of max_sessions: with more channels, FreeSWITCH is asked for its figures every CHECK seconds
READINESS, HEARTBEAT = "AGENT_READINESS", "AGENT_HEARTBEAT"
EVENTS = frozenset(("SHUTDOWN_REQUESTED",))
FILE = "drained"  # in state_dir: there while the node is drained
STATUS = '{"command":"status","data":""}'  # without `data` no command is found (switch_json_api_execute)


class Reason(Enum):
    """Why a node is not ready; the values are what others read."""

    NOT_CONNECTED = "not connected"
    PAUSED = "paused"
    SHUTTING_DOWN = "shutting down"
    NO_SESSIONS = "no sessions left"
    DRAINED = "drained"


class Figures:
    """What FreeSWITCH says of its load; None is not known."""

    def __init__(self) -> None:
        self.sessions: int | None = None
        self.max_sessions: int | None = None
        self.sessions_per_second: int | None = None
        self.max_sessions_per_second: int | None = None
        self.idle_cpu: float | None = None  # per cent

    @classmethod
    def of(cls, answer: str) -> Figures:
        """From the answer to STATUS (mod_commands.c, json_status_function)."""
        found = cls()
        try:
            response = json.loads(answer)["response"]
            sessions = response["sessions"]
            found.sessions = _whole(sessions["count"]["active"])
            found.max_sessions = _whole(sessions["count"]["limit"])
            found.sessions_per_second = _whole(sessions["rate"]["current"])
            found.max_sessions_per_second = _whole(sessions["rate"]["max"])
            found.idle_cpu = _number(response["idleCPU"]["allowed"])
        except (ValueError, KeyError, TypeError, RecursionError):
            log.debug("status: %.200r", answer)
        return found

    def fields(self) -> dict[str, Any]:
        """As others read them."""
        return dict(vars(self))

    @property
    def full(self) -> bool:
        """No further session is taken."""
        return bool(self.max_sessions) and (self.sessions or 0) >= (self.max_sessions or 0)

    def nearly_full(self, channels: int) -> bool:
        """Soon there may be none; `channels`: how many there are by now, as far as events have told."""
        return bool(self.max_sessions) and max(self.sessions or 0, channels) >= NEAR * (self.max_sessions or 0)


def _whole(value: object) -> int | None:
    return int(value) if isinstance(value, (int, float)) and 0 <= value < 1e15 else None


def _number(value: object) -> float | None:
    return round(float(value), 2) if isinstance(value, (int, float)) else None


class _Drain:
    """Whether the node is drained; a file keeps that over a restart."""

    def __init__(self, path: str) -> None:
        """`path`: the file, empty for none."""
        self._path = path
        self.on = bool(path) and os.path.exists(path)

    def set(self, enabled: bool) -> bool:
        """False if it will not outlast a restart, because it could not be written."""
        self.on = enabled
        if not self._path:
            return False
        try:
            if enabled:
                with open(self._path, "w", encoding="ascii"):
                    pass
            else:
                with suppress(FileNotFoundError):
                    os.remove(self._path)
        except OSError as error:
            log.warning("%s can't be written: %s; a restart will end the drain", self._path, error.strerror)
            return False
        return True


class _Due:
    """When what is due next; time.monotonic()."""

    def __init__(self) -> None:
        self.asked: dict[str, float] = {}  # question: when it was asked, while its answer is out
        self.figures = self.heartbeat = 0.0


class Readiness(SwitchObserver):
    """Decides whether the node takes requests on `any`, and says so. A part of the daemon."""

    name = "readiness"

    def __init__(
        self,
        switch: Switch,
        sink: EventSink,
        losses: Losses,
        subjects: Subjects,
        node_id: str,
        prefix: str,
        chosen: Callable[[], EventFilter],
        parked: Callable[[], int],
        channels: Callable[[], int],
        state_dir: str,
        heartbeat: float,
    ) -> None:
        """`parked`: how many calls are. `channels`: how many there are. `heartbeat`: seconds between two, 0 is none.

        `state_dir`: where it is kept that the node is drained.
        """
        self._switch, self._sink, self._losses, self._subjects = switch, sink, losses, subjects
        self._prefix, self._parked, self._channels = prefix, parked, channels
        self._announcements = Announcements(node_id, prefix, lambda: switch.identity, chosen)
        self._every = heartbeat
        self._turn = threading.Lock()  # who changes what is held and announced; never held while FreeSWITCH is asked
        self._lock = threading.Lock()  # guards what FreeSWITCH has answered
        self._paused = self._shutting_down = False
        self._drain = _Drain(os.path.join(state_dir, FILE) if state_dir else "")
        self._announced: list[str] = []  # the reasons that were announced last
        self.figures = Figures()
        self._due = _Due()
        self._beat = time.monotonic()  # the thread's last round
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="readiness", daemon=True)
        switch.observe(self)
        if self._drain.on:
            log.warning("the node is drained (agent.drain): it takes no requests on %s.any", prefix)

    # -- a part of the daemon

    def start(self) -> None:
        """Begin asking."""
        self._due.heartbeat = time.monotonic() + self._every
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """End the thread."""
        self._stopping.set()
        self._wake.set()
        if self._thread.ident is not None:
            self._thread.join(timeout)

    def signs(self) -> Signs:
        """It wakes up every CHECK seconds."""
        return Signs((self._thread.name,), (Watched("thread readiness", STUCK, lambda: time.monotonic() - self._beat),))

    # -- what is known

    @property
    def reasons(self) -> list[str]:
        """Why it is not ready; empty if it is."""
        found = [] if self._switch.connected else [Reason.NOT_CONNECTED]
        with self._lock:
            found += [Reason.PAUSED] if self._paused else []
            found += [Reason.SHUTTING_DOWN] if self._shutting_down else []
            found += [Reason.NO_SESSIONS] if self.figures.full else []
        found += [Reason.DRAINED] if self._drain.on else []
        return [each.value for each in found]

    @property
    def drained(self) -> bool:
        """Whether the node is drained."""
        return self._drain.on

    def section(self) -> dict[str, Any]:
        """agent.status's part."""
        reasons = self.reasons
        return {"ready": not reasons, "reasons": reasons, "drained": self._drain.on, **self.figures.fields()}

    # -- what changes it

    def drain(self, enabled: bool) -> bool:
        """`agent.drain`. False if it will not outlast a restart, because it could not be written."""
        kept = self._drain.set(enabled)
        log.info("the node is %s (agent.drain)", "drained" if enabled else "no longer drained")
        self.apply()
        return kept

    def look(self) -> None:
        """Somebody may have paused FreeSWITCH, or changed its limits: ask now. From any thread."""
        for question in ("fsctl pause_check outbound", f"json {STATUS}"):
            self._due.asked.pop(question, None)
        self._due.figures = 0.0
        self._wake.set()

    def event(self, _: str, __: RawEvent) -> None:
        """FreeSWITCH is asked to shut down. On the event thread."""
        with self._lock:
            self._shutting_down = True
        self._wake.set()

    def up(self) -> None:
        """What a FreeSWITCH before this one said is not known of this one. It is asked at once."""
        with self._lock:
            self._paused = self._shutting_down = False
            self.figures = Figures()
            self._due.asked.clear()
            self._due.figures = 0.0
        self.apply()
        self._wake.set()

    def down(self, reason: str) -> None:
        """Leave `any` first: until then the node may be given work that another one could do."""
        self.apply()

    # -- the thread

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._beat = time.monotonic()
            try:
                if self._switch.connected:
                    self.ask()
                self.apply()
                self._say()
            except Exception:
                log.exception("unhandled exception in %s", self.name)
            self._wake.wait(CHECK)
            self._wake.clear()

    def ask(self) -> None:
        now = time.monotonic()
        self._question("fsctl pause_check outbound", self._told_paused, now)
        if self._shutting_down or not self._due.figures:
            self._question("fsctl shutdown_check", self._told_shutdown, now)
        if now >= self._due.figures or self.figures.nearly_full(self._channels()):
            self._due.figures = now + min(self._every or FIGURES, FIGURES)
            self._question(f"json {STATUS}", self._told_figures, now)

    def _question(self, text: str, told: Callable[[str], None], now: float) -> None:
        """Ask, unless the answer to the same is still out."""
        if now - self._due.asked.get(text, -LIMIT) < LIMIT:
            return
        self._due.asked[text] = now
        verb, _, args = text.partition(" ")

        def done(answer: str) -> None:
            self._due.asked.pop(text, None)
            told(answer.strip())

        def failed(_: object) -> None:
            self._due.asked.pop(text, None)

        # Filed under a verb that answers from memory, as these do: `fsctl` in general is slow.
        self._switch.send([Command(wire.api(verb, args), "status", done, failed, limit=LIMIT, patient=True)])

    def _told_paused(self, answer: str) -> None:
        with self._lock:
            before, self._paused = self._paused, answer == "true"
        if self._paused != before:
            self._wake.set()

    def _told_shutdown(self, answer: str) -> None:
        with self._lock:
            before, self._shutting_down = self._shutting_down, answer == "true"
        if self._shutting_down != before:
            self._wake.set()

    def _told_figures(self, answer: str) -> None:
        was = self.figures.full
        with self._lock:
            self.figures = Figures.of(answer)
        if self.figures.full != was:
            self._wake.set()

    # -- what follows from it

    def apply(self) -> None:
        """Join or leave `any`, and announce a change."""
        with self._turn:
            reasons = self.reasons
            if reasons:
                self._subjects.leave("any")
            elif not self._stopping.is_set():
                self._subjects.join("any")
            told = [each for each in reasons if each != Reason.NOT_CONNECTED.value]
            if told == self._announced or not self._switch.connected:
                return
            self._announced = told
            if told:
                log.warning("not ready: %s; no requests are taken on %s.any", ", ".join(told), self._prefix)
            else:
                log.info("ready: requests are taken on %s.any", self._prefix)
            self._publish(READINESS, ready=not told, reasons=told, drained=self._drain.on)

    def _say(self) -> None:
        now = time.monotonic()
        if self._every and now >= self._due.heartbeat:
            self._due.heartbeat = max(self._due.heartbeat + self._every, now)
            self._publish(HEARTBEAT, **self.section(), parked=self._parked())

    def _publish(self, name: str, **fields: Any) -> None:
        if events := self._announcements.of(name, **fields):
            self._losses.offer(self._sink, events)
