"""Whatever was lost is announced: `<prefix>.events.agent.gap`, and it shows in agent.status and /metrics.

    a part that notices a loss -> Losses: counted by its reason, and gathered -> Announcer -> the sink, as an event

Losses of one reason are gathered until there were none for a second, and for GATHER seconds at most: a full buffer is
one announcement, not thousands. An announcement leaves when the broker is there and has room. It is not lost itself:
what the broker has not confirmed when its link breaks is sent again as it was, and what could not leave before the end
of the process stands in GAPS in the state directory and leaves after the next start.

That file also tells whether the last process came to an orderly end. One that was killed has lost what it had in
memory, and nobody knows how much that was.

All times are those that FreeSWITCH has put into its events. If none of the lost ones is known, it is the agent's clock.
A driver tells the first and the last event of a run as they came, and FreeSWITCH's events come a little out of order:
one between them may have been fired before the first or behind the last. So a run is announced as wide as that may be.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from event_agent.drivers import base
from event_agent.drivers.base import EventSink, Loss
from event_agent.freeswitch.filters import EventFilter
from event_agent.freeswitch.gaps import DEPTH, UNDER_WAY
from event_agent.protocol.announcements import gap_announcement
from event_agent.protocol.events import CORE, SEQUENCE, STAMP, Published
from event_agent.protocol.raw_event import MAX_DIGITS, RawEvent
from event_agent.runtime.health import Signs
from event_agent.runtime.loop import Loop, Timer
from event_agent.runtime.stats import Stats

log = logging.getLogger(__name__)

NAME = "AGENT_GAP"
UNSEEN, OTHER_SWITCH = "unseen", "FreeSWITCH restarted"
UNREADABLE, KILLED = "unreadable", "killed"
REASONS = (
    UNSEEN, OTHER_SWITCH, UNREADABLE, base.TOO_LARGE, base.BUFFER_FULL, base.SPOOL_FULL, base.SPOOL_FAULT,
    base.SPOOL_DAMAGED, base.UNCONFIRMED, base.SERVER_REFUSED, base.STREAM_REFUSED, base.STOPPED, KILLED,
)  # fmt: skip
HEAD = b'{"event_name":"AGENT_GAP"'  # of our own making; what FreeSWITCH sends begins with a name of its own
TICK = 1.0  # seconds between two looks at what is to be announced
GATHER = 5.0  # seconds for which losses of one reason are gathered at most
SIGN = 5.0  # seconds between two signs of life in the file, while events are published
GAPS = "gaps.json"
VERSION = 1
MOST = 1024 * 1024  # bytes of the file
UNSETTLED = 256  # announcements that wait for their confirmation; the oldest beyond that are taken to have arrived

Place = tuple[int, str, int]  # of an event: microseconds since 1970, Core-UUID, Event-Sequence


@dataclass(slots=True)
class Gap:
    """Losses of one reason that are not announced yet."""

    reason: str
    count: int | None = 0
    begin: int = 0  # microseconds since 1970
    end: int = 0
    core: str | None = ""  # of the FreeSWITCH that the numbers are of; None if they are of several, or not all known
    first: int = 0  # Event-Sequence; 0 is unknown
    last: int = 0
    opened: float = field(default=0.0, compare=False)  # time.monotonic()
    grown: float = field(default=0.0, compare=False)

    def add(self, count: int | None, ends: Sequence[Place], now: float) -> None:
        """Further losses, between these two."""
        self.count = None if count is None or self.count is None else self.count + count
        for stamp, core, number in ends:
            self.begin = min(self.begin, stamp) if self.begin else stamp
            self.end = max(self.end, stamp)
            if self.core == "" and core:
                self.core = core
            if core != self.core or not number:
                self.core = None
            else:
                self.first = min(self.first, number) if self.first else number
                self.last = max(self.last, number)
        if self.core is None:
            self.first = self.last = 0
        self.opened = self.opened or now
        self.grown = now


def place_of(payload: bytes) -> Place | None:
    """Time, Core-UUID and Event-Sequence of an event, published or as FreeSWITCH sent it; None if it has no time."""
    event = RawEvent(payload)
    stamp = event.number(STAMP)
    if not stamp:
        at = payload.find(b'"timestamp":')
        digits = payload[at + 12 : at + 12 + MAX_DIGITS + 1].partition(b",")[0] if at >= 0 else b""
        stamp = int(digits) if digits.isdigit() and len(digits) <= MAX_DIGITS else 0
    core = event.scan(CORE)
    return (stamp, core.decode() if core else "", event.number(SEQUENCE)) if stamp else None


def around(first: bytes, last: bytes, stray: int = DEPTH) -> list[Place]:
    """Places between which the events lie that came from `first` to `last`, some of them out of their order.

    `stray`: how many numbers below or above those two there may be. See freeswitch/gaps.py.
    """
    known = [place for place in map(place_of, (first, last)) if place is not None]
    below = [(max(1, at - UNDER_WAY), core, number and max(1, number - stray)) for at, core, number in known]
    above = [(at + UNDER_WAY, core, number and number + stray) for at, core, number in known]
    return below + above


class Losses:
    """What was lost. From any thread."""

    def __init__(self, stats: Stats) -> None:
        """`stats` has the counters."""
        self._stats = stats
        self._lock = threading.Lock()  # guards the counters, and all that follows
        self._open: dict[str, Gap] = {}
        self.events = stats.events_lost = dict.fromkeys(REASONS, 0)
        self.gaps = stats.gaps = dict.fromkeys(REASONS, 0)
        self.last: dict[str, Any] | None = None  # the last one
        self.settled = (0, 0)  # see drivers.base.Observer: the number, and how many were lost

    def through(self, number: int, lost: int) -> None:
        """See drivers.base.Observer.settled."""
        with self._lock:
            self.settled = max(self.settled, (number, lost))

    def add(self, loss: Loss) -> None:
        """One event was lost, or a run of those that came one after the other."""
        # Of an event that could not be read, only what stood beside it is known.
        itself = loss.count == 1 and loss.first == loss.last and loss.reason != base.SPOOL_DAMAGED
        if not itself:
            self.between(loss.reason, loss.count, *around(loss.first, loss.last))
        elif loss.first.startswith(HEAD):
            self._again(loss.first)
        else:
            self.between(loss.reason, 1, place_of(loss.first))

    def _again(self, payload: bytes) -> None:
        """An announcement was lost itself: what it said is still to be announced."""
        said = json.loads(payload)
        core = said["headers"]["Core-UUID"] if said["from_sequence"] else ""
        self.put_back(Gap(
            said["reason"], said["count"], said["from"], said["to"], core, said["from_sequence"] or 0,
            said["to_sequence"] or 0,
        ))  # fmt: skip

    def offer(self, sink: EventSink, events: Sequence[base.Event]) -> int:
        """Have the sink take events, of FreeSWITCH or of our own; returns how many it took. The rest is counted."""
        taken = sink.offer(events)
        if taken < len(events):
            with self._lock:
                self._stats.events_dropped += len(events) - taken
            self.refused(sink.refused, events[taken:])
        return taken

    def refused(self, reason: str, events: Sequence[Any]) -> None:
        """These events were not taken, in this order."""
        if events:
            self.add(Loss(reason, len(events), events[0].payload, events[-1].payload))

    def between(self, reason: str, count: int | None, *places: Place | None) -> None:
        """Something was lost between these, and nothing beyond them. None is unknown."""
        ends = [each for each in places if each is not None] or [(time.time_ns() // 1000, "", 0)]
        now = time.monotonic()
        with self._lock:
            gap = self._open.setdefault(reason, Gap(reason))
            gap.add(count, ends, now)
            self.events[reason] += count or 0
            self._stats.gaps_waiting = len(self._open)

    def due(self, now: float) -> list[Gap]:
        """Take out what is to be announced now."""
        with self._lock:
            if not self._open:
                return []
            ready = [
                each for each in self._open.values() if now - each.grown >= TICK or now - each.opened >= GATHER
            ]
            for each in ready:
                del self._open[each.reason]
            self._stats.gaps_waiting = len(self._open)
            return ready

    def put_back(self, gap: Gap) -> None:
        """It could not be announced. Its events are counted already."""
        ends = [(gap.begin, gap.core or "", gap.first), (gap.end, gap.core or "", gap.last)]
        with self._lock:
            into = self._open.setdefault(gap.reason, Gap(gap.reason))
            into.add(gap.count, ends, time.monotonic())
            self._stats.gaps_waiting = len(self._open)

    def announced(self, gap: Gap, fields: dict[str, Any]) -> None:
        """It was announced."""
        with self._lock:
            self.gaps[gap.reason] += 1
            self.last = fields

    def waiting(self) -> list[Gap]:
        """What is not announced yet; it stays here."""
        with self._lock:
            return list(self._open.values())

    def section(self) -> dict[str, Any]:
        """agent.status's part."""
        with self._lock:
            return {
                "announced": sum(self.gaps.values()),
                "waiting": len(self._open),
                "events": {reason: count for reason, count in self.events.items() if count},
                "last": self.last,
            }


def _fields(gap: Gap) -> dict[str, Any]:
    """What an announcement says of it."""
    return {
        "from": gap.begin,
        "to": gap.end,
        "from_sequence": gap.first or None,
        "to_sequence": gap.last or None,
        "count": gap.count,
        "reason": gap.reason,
    }


class Announcer:
    """Publishes what was lost; a part of the daemon. Its work is done on the loop's thread, once a second."""

    name = "losses"

    def __init__(
        self,
        losses: Losses,
        sink: EventSink,
        loop: Loop,
        linked: Callable[[], bool],
        identity: Callable[[], dict[str, str]],
        node_id: str,
        prefix: str,
        chosen: Callable[[], EventFilter],
        published: Callable[[], int],
        state_dir: str,
        nothing_in_memory: bool = False,
    ) -> None:
        """`linked`: whether the broker is there. `published`: how many events were, so far.

        `state_dir`: "" for none. `nothing_in_memory`: what was taken is on disk, a killed process loses nothing.
        """
        self._losses = losses
        self._sink = sink
        self._loop = loop
        self._linked = linked
        self._identity = identity
        self._node_id = node_id
        self._subject = f"{prefix}.events.agent.gap".encode()
        self._chosen = chosen
        self._published = published
        self._file = Path(state_dir, GAPS) if state_dir else None
        self._nothing_in_memory = nothing_in_memory
        self._sent: list[tuple[int, int, bytes]] = []  # number, `lost` before it, payload: what is not confirmed
        self.signed = (0.0, 0)  # time.monotonic() of the last sign of life, events published then
        self._fault = ""
        self._ticking: Timer | None = None
        self._ended = False

    # -- a part of the daemon

    def start(self) -> None:
        """Take up what the process before could not announce."""
        self._load()
        self._save(running=True)
        self._ticking = self._loop.after(TICK, self._tick)

    def stop(self, timeout: float) -> None:
        """After the driver: keep what could not leave."""
        self._ended = True
        if self._ticking is None:
            return
        self._ticking.cancel()
        self._look_at_sent()
        self._save(running=False)

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    # -- announcing

    def _tick(self) -> None:
        if self._ended:
            return
        now = time.monotonic()
        self._look_at_sent()
        if self._linked() and (ready := self._losses.due(now)):
            for gap in ready:
                self._announce(gap)
            self._save(running=True)
        self._sign(now)
        self._ticking = self._loop.after(TICK, self._tick)

    def _announce(self, gap: Gap) -> None:
        what = _fields(gap)
        if NAME not in self._chosen().exclude:
            payload = gap_announcement(NAME, self._node_id, self._identity(), gap.core or "", what)
            if not self._offer(payload):
                self._losses.put_back(gap)
                return
        self._losses.announced(gap, what)
        count = "an unknown number of" if gap.count is None else str(gap.count)
        log.warning("a gap in the events: %s, %s", count, gap.reason)

    def _offer(self, payload: bytes) -> bool:
        lost = self._losses.settled[1]
        number = self._sink.announce(Published(NAME, self._subject, payload))
        if number > 0:
            self._sent = [*self._sent[-UNSETTLED + 1 :], (number, lost, payload)]
        return number != 0

    def _look_at_sent(self) -> None:
        """What the broker has not confirmed when its link broke is sent again, as it was."""
        settled, lost = self._losses.settled
        through = [each for each in self._sent if each[0] <= settled]
        self._sent = [each for each in self._sent if each[0] > settled]
        for number, before, payload in through:
            if lost > before and not (self._linked() and self._offer(payload)):
                self._sent.append((number, before, payload))

    # -- what is kept

    def _load(self) -> None:
        if self._file is None:
            return
        try:
            with self._file.open("rb") as file:
                data = file.read(MOST)
                touched = os.fstat(file.fileno()).st_mtime_ns // 1000
        except FileNotFoundError:
            return
        except OSError as error:
            log.warning("gaps that were not announced can't be read: %s: %s", self._file, error.strerror)
            return
        try:
            found = json.loads(data)
            if found["version"] != VERSION:
                raise ValueError(f"version {found['version']!r}")
            gaps = [_gap_of(each) for each in found["gaps"]]
            sent = [each.encode() for each in found["sent"]]
            running = found["running"] is True
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.warning("gaps that were not announced can't be read: %s: %s", self._file, str(error)[:200])
            return
        for gap in gaps:
            self._losses.put_back(gap)
        self._sent = [(0, -1, payload) for payload in sent[:UNSETTLED]]
        if running and not self._nothing_in_memory:
            self._losses.between(KILLED, None, (touched, "", 0), (time.time_ns() // 1000, "", 0))

    def _save(self, running: bool) -> None:
        if self._file is None:
            return
        kept = {field.name for field in fields(Gap) if field.compare}
        gaps = [
            {name: value for name, value in asdict(each).items() if name in kept} for each in self._losses.waiting()
        ]
        sent = [payload.decode(errors="replace") for _, _, payload in self._sent]
        text = json.dumps({"version": VERSION, "running": running, "gaps": gaps, "sent": sent})
        new = self._file.with_suffix(".new")
        try:
            self._file.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            new.write_text(text + "\n", encoding="utf-8")
            new.replace(self._file)
            self._fault = ""
        except OSError as error:
            if not self._fault:
                self._fault = str(error)
                log.warning("gaps can't be kept over a restart: %s: %s", self._file, error.strerror)

    def _sign(self, now: float) -> None:
        """The file's time is that of the last event, about: from there on a killed process has lost events."""
        then, before = self.signed
        if now - then < SIGN:
            return
        published, waiting = self._published(), self._losses.waiting()
        if published != before or waiting:
            self.signed = (now, published)
            if self._file is None or waiting or self._fault:
                self._save(running=True)
                return
            try:
                os.utime(self._file)
            except OSError:
                self._save(running=True)


def _gap_of(value: dict[str, Any]) -> Gap:
    """A gap of the file. Raises ValueError, KeyError, TypeError."""
    reason, count, core = value["reason"], value["count"], value["core"]
    numbers = [value[name] for name in ("begin", "end", "first", "last")]
    if reason not in REASONS or not all(type(each) is int and each >= 0 for each in numbers):
        raise ValueError("not a gap")
    if not (count is None or (type(count) is int and count >= 0)) or not (core is None or isinstance(core, str)):
        raise ValueError("not a gap")
    begin, end, first, last = numbers
    return Gap(reason, count, begin, end, core, first, last)
