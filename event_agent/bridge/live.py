"""The channels of this node, and a lane for each: `<prefix>.call.<uuid>`, from CHANNEL_CREATE to CHANNEL_DESTROY.

    known      CHANNEL_CREATE came on this link, or the last list of FreeSWITCH's has it
    doubtful   it was known before this link, or an earlier list of it has it; the next list decides
    ended      CHANNEL_DESTROY came

Events tell what happens on a link. What has happened before it, FreeSWITCH's own list tells. It is behind by up to a
second, so it is asked for three times, the last time when it must be right: who is doubtful then and not on it, has
ended. Without an answer it is asked for again. While there is no link the lanes are kept: the reply to a
request there says that FreeSWITCH is not connected.

FreeSWITCH dispatches events from several threads, so the end of a short call may come before its beginning: ends are
remembered for a while, with their Event-Sequence, by which another channel of the same uuid is known from the same one.

A lane is subscribed to before its CHANNEL_CREATE is published, and before the reply to its originate: that may come
20 ms before the event. Threads: `event` on esl-events, the rest on any.
"""

from __future__ import annotations

import json
import logging
import re
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from event_agent.drivers.base import ManySubjects
from event_agent.errors import AgentError
from event_agent.freeswitch import wire
from event_agent.freeswitch.command import Command
from event_agent.freeswitch.link import SwitchObserver
from event_agent.protocol.raw_event import Key, Names, RawEvent
from event_agent.protocol.subjects import call_lane
from event_agent.protocol.validation import strict_subject
from event_agent.runtime.health import Signs
from event_agent.runtime.log import Seldom

log = logging.getLogger(__name__)

CREATE, DESTROY = "CHANNEL_CREATE", "CHANNEL_DESTROY"
EVENTS = frozenset((CREATE, DESTROY))
MOST = 10_000  # lanes at one time
LOOKS = (1.0, 3.0)  # seconds after a link at which FreeSWITCH is asked for its list once more
AGAIN = 10.0  # seconds until it is asked once more if it did not answer
LIMIT = 30.0  # seconds it has for that
ENDED = 4096  # ends that are remembered
ENDED_FOR = 10.0  # seconds

_BEGINS, _ENDS = Names(CREATE), Names(DESTROY)
_SEQUENCE = Key("Event-Sequence")
_USUAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")  # a uuid of which nothing more is to be asked


class CallLanes(SwitchObserver):
    """Holds a subject for each channel that there is. A part of the daemon without a thread."""

    name = "lanes of calls"

    def __init__(
        self,
        prefix: str,
        subjects: ManySubjects,
        send: Callable[[Sequence[Command]], None],
        after: Callable[[float, Callable[[], object]], Any],
        core_uuid: Callable[[], str],
        tails: Sequence[str] = ("",),
        most: int = MOST,
    ) -> None:
        """`after`: have something called so many seconds later. `core_uuid`: which start of FreeSWITCH it is.

        `tails`: what stands behind the lane in each of the subjects that a channel has.
        """
        self._tails = tails
        self._most = most
        self._prefix = prefix
        self._usual_fits = strict_subject(call_lane(prefix, "0" * 36))
        self._subjects = subjects
        self._send = send
        self._after = after
        self._core_uuid = core_uuid
        self._lock = threading.Lock()  # guards what follows. Under it the driver subscribes
        self._channels: dict[str, bool] = {}  # uuid: whether it has a lane
        self._doubtful: set[str] = set()
        self._ended: dict[str, tuple[float, int]] = {}  # uuid: time.monotonic(), Event-Sequence
        self._held = 0
        self._link = 0  # which link it is
        self._core = ""
        self._closed = False
        self._told = Seldom()
        self.refused = 0  # channels that got no lane

    # -- a part of the daemon

    def start(self) -> None:
        """Nothing to do."""

    def stop(self, timeout: float) -> None:
        """Leave all lanes. What is on its way there is still answered."""
        with self._lock:
            self._closed = True
            self._forget(list(self._channels))

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    def figures(self) -> dict[str, int]:
        """For agent.status."""
        with self._lock:  # a channel leaves both numbers at one time
            held = min(self._held, len(self._subjects))  # the server may have refused them
            return {"held": held, "without": len(self._channels) - held, "refused": self.refused}

    # -- what events tell

    def event(self, name: str, event: RawEvent) -> None:
        """One of EVENTS came."""
        if event.is_one_of(_BEGINS):
            uuid = event.uuid
            with self._lock:
                ended = self._ended.get(uuid)
                if ended is None or ended[1] < event.number(_SEQUENCE):
                    self._doubtful.discard(uuid)
                    self._begin(uuid, later=True)
        elif event.is_one_of(_ENDS):
            uuid, sequence = event.uuid, event.number(_SEQUENCE)
            with self._lock:
                self._note_end(uuid, sequence)
                self._forget((uuid,), later=True)

    def told(self) -> None:
        """The events of a read are through."""
        self._subjects.tell()

    def began(self, uuid: str) -> None:
        """FreeSWITCH says that there is this channel; its CHANNEL_CREATE may be yet to come. From any thread."""
        with self._lock:
            if uuid not in self._ended:
                self._begin(uuid)

    def _note_end(self, uuid: str, sequence: int) -> None:
        """Lock held."""
        now = time.monotonic()
        self._ended.pop(uuid, None)
        self._ended[uuid] = (now, sequence)
        while len(self._ended) > 1:
            first = next(iter(self._ended))
            if len(self._ended) <= ENDED and now - self._ended[first][0] < ENDED_FOR:
                break
            del self._ended[first]

    def _begin(self, uuid: str, later: bool = False) -> None:
        """Lock held. `later`: see ManySubjects."""
        if not uuid or uuid in self._channels or self._closed or len(self._channels) >= 10 * self._most:
            return
        lane = call_lane(self._prefix, uuid)
        # Behind a dot in it a command could be meant: then who may send only that could send all.
        fits = self._held < self._most and (
            (self._usual_fits and _USUAL.match(uuid) is not None)
            or (wire.is_uuid(uuid) and "." not in uuid and strict_subject(lane))
        )
        if fits:
            try:
                self._subjects.join(*(lane + tail for tail in self._tails), later=later)
            except AgentError:
                fits = False
        self._channels[uuid] = fits
        self._held += fits
        if not fits:
            self.refused += 1
            if self._told.due():
                full = self._held >= self._most
                why = f"at most {self._most} are held" if full else "a uuid can't be part of a subject"
                log.warning("%d channels have no lane of their own: %s", self.refused, why)

    def _forget(self, uuids: Sequence[str], later: bool = False) -> None:
        """Lock held. `later`: see ManySubjects."""
        lanes = []
        for uuid in uuids:
            self._doubtful.discard(uuid)
            if self._channels.pop(uuid, False):
                lanes.append(call_lane(self._prefix, uuid))
        self._held -= len(lanes)
        if lanes:
            self._subjects.leave((lane + tail for lane in lanes for tail in self._tails), later)

    # -- what the list tells

    def linked(self) -> None:
        """FreeSWITCH's list says which channels were there before this link."""
        core = self._core_uuid()
        with self._lock:
            self._link += 1
            link = self._link
            if self._core and core != self._core:  # it was restarted, and its channels have ended
                self._forget(list(self._doubtful))
            self._core = core
            self._doubtful = set(self._channels)
        self._look(link, False)
        for seconds in LOOKS:
            self._after(seconds, partial(self._look, link, seconds == LOOKS[-1]))

    def unlinked(self, reason: str) -> None:
        """It is not known yet which channels outlast the lost link."""
        with self._lock:
            self._link += 1
            self._doubtful = set(self._channels)

    def _look(self, link: int, last: bool) -> None:
        if link != self._link or self._closed:
            return
        asked = time.monotonic()

        def listed(answer: str) -> None:
            uuids = uuids_of(answer)
            if uuids is None or (last and time.monotonic() - asked > ENDED_FOR / 2):
                failed(None)  # an end since then may be forgotten already
            else:
                self._listed(link, uuids, last)

        def failed(_: object) -> None:
            if last:
                self._after(AGAIN, partial(self._look, link, True))

        self._send([Command(wire.api("show", "channels as json"), "show", listed, failed, slow=True, limit=LIMIT)])

    def _listed(self, link: int, uuids: Sequence[str], last: bool) -> None:
        with self._lock:
            if link != self._link:
                return
            for uuid in uuids:
                if uuid not in self._channels and uuid not in self._ended:
                    self._begin(uuid)
                    if not last:
                        self._doubtful.add(uuid)
            if last:
                self._forget(list(self._doubtful.difference(uuids)))
                self._doubtful.clear()


def uuids_of(answer: str) -> list[str] | None:
    """The channels that FreeSWITCH lists; None if it would not say."""
    try:
        found = json.loads(answer)
        return [str(row["uuid"]) for row in found.get("rows", [])]
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return None
