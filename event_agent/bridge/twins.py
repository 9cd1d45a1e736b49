"""Finds out whether another agent goes by our name: then both carry out each command that is sent to this node.

Two node_ids that differ only in letters that subjects do not have, `fs-1` and `fs_1`, are one name. Every PING seconds
an agent says on its own subject, which only agents of its name listen on, that it is there, with an id that this
process alone has. It looks like a request for a node that nobody can be, so agents that do not know it leave it alone.

What comes back with our own id says that we are allowed to ask. If none does, the NATS server does not let us publish
there: then it is not known, and nothing is sent until there is another link.

Another process must be heard twice, APART seconds apart: the one before us may have said its last word just before its
end. It counts as gone when it was not heard for GONE seconds in which the link was up.

The timer is the loop's; what is heard comes on the driver's thread.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from event_agent import __version__
from event_agent.drivers.base import Message, Replies
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import lanes, slug
from event_agent.runtime.health import Signs
from event_agent.runtime.link import LinkStatus
from event_agent.runtime.log import clean
from event_agent.runtime.loop import Job, Timer

log = logging.getLogger(__name__)

FIRST = 1.0  # seconds from the start to the first word, and between two looks at a link that is not up
PING = 15.0  # seconds from one word to the next
APART = 10.0  # seconds between two words of the same process that prove it alive
GONE = 60.0  # seconds
MOST = 16  # other processes remembered
HELLO = b'{"hello":'  # how such a message begins
NAME = "agent.hello"
LONGEST = 2048  # bytes of one


@dataclass
class Twin:
    """Another process of our name."""

    node_id: str
    hostname: str
    since: float  # seconds since 1970
    first: float  # monotonic, as is `last`
    last: float

    @property
    def proved(self) -> bool:
        """It was there for longer than a message is on its way."""
        return self.last - self.first >= APART


class Twins:
    """Asks the other agents of our name to say so, and remembers them. A part of the daemon."""

    name = "twins"

    def __init__(
        self,
        replies: Replies,
        later: Callable[[float, Job], Timer],
        link: Callable[[], LinkStatus],
        node_id: str,
        prefix: str,
        clock: Callable[[], float] = time.monotonic,
        *,
        verbs: bool = False,
    ) -> None:
        """`later`: has something called after so many seconds. `link`: how that to the broker stands.

        `verbs`: we listen only to what has the command in the subject.
        """
        self._replies, self._later, self._link, self._clock = replies, later, link, clock
        self._node_id = node_id
        own = [subject for subject, _ in lanes(prefix, node_id)[1:]]  # none without a node_id
        if verbs:
            own = [f"{each}.{NAME}" for each in own[:1]]
        self._subjects = [subject.encode() for subject in own]
        self.instance = os.urandom(11).hex()
        said = {"instance": self.instance, "node_id": node_id, "hostname": socket.gethostname(), "version": __version__}
        # What listens on this subject has our slug, and this one's is longer: nobody takes it for a request.
        other = f"{node_id}#{self.instance}"
        self.hello = to_utf8(dump_json({"hello": said, "command": NAME, "node_id": other}))
        self._lock = threading.Lock()  # guards the next two
        self.others: dict[str, Twin] = {}
        self._heard_ourselves = False  # on this link
        self._way = 0  # which of the subjects is used
        self._link_since: float | None = None  # the link on which that is so
        self._up_from = 0.0  # monotonic: when it was first seen to be up
        self._told: list[str] = []  # the instances that were logged
        self._ticking: Timer | None = None
        self._ended = False

    # -- a part of the daemon

    def start(self) -> None:
        """Begin asking."""
        if self._subjects:
            self._ticking = self._later(FIRST, self._tick)

    def stop(self, timeout: float) -> None:
        """Say nothing more."""
        self._ended = True
        if self._ticking is not None:
            self._ticking.cancel()

    def signs(self) -> Signs:
        """It has no thread."""
        return Signs()

    # -- what is known

    @property
    def found(self) -> list[Twin]:
        """The others, the oldest first."""
        with self._lock:
            return sorted((each for each in self.others.values() if each.proved), key=lambda each: each.first)

    def section(self) -> list[dict[str, Any]] | None:
        """agent.status's part; None if it can't be known."""
        found = [{"node_id": e.node_id, "hostname": e.hostname, "since": round(e.since, 3)} for e in self.found]
        return found if found or self._way < len(self._subjects) else None

    @property
    def fault(self) -> str:
        """What is wrong; "" if nothing is."""
        found = self.found
        return f"used by another agent, too: {_named(found)}" if found else ""

    # -- what is heard

    def hear(self, message: Message) -> None:
        """What begins with HELLO. Never raises: anybody may have sent it."""
        try:
            if len(message.data) > LONGEST:
                return
            said = json.loads(message.data)["hello"]
            instance, node_id, hostname = said["instance"], said["node_id"], said["hostname"]
            ours = slug(node_id) == slug(self._node_id) and len(instance) <= 64
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return
        if not ours or not self._subjects:
            return
        now = self._clock()
        with self._lock:
            if instance == self.instance:
                self._heard_ourselves = True
            elif (twin := self.others.get(instance)) is not None:
                twin.last = now
            elif len(self.others) < MOST:
                self.others[instance] = Twin(clean(node_id), clean(str(hostname)), time.time(), now, now)

    # -- the timer

    def _tick(self) -> None:
        if self._ended:
            return
        wait = FIRST
        try:
            status = self._link()
            if status.up:
                wait = PING
                self._say(status.since)
                self._look()
        except Exception:
            log.exception("unhandled exception in %s", self.name)
        self._ticking = self._later(wait, self._tick)

    def _say(self, since: float) -> None:
        if since != self._link_since:
            self._link_since, self._up_from, self._way = since, self._clock(), 0
            with self._lock:
                self._heard_ourselves = False
        elif not self._heard_ourselves and self._way < len(self._subjects):
            self._way += 1
        if self._way < len(self._subjects):
            self._replies.send([(Message(b"", self._subjects[self._way], b""), self.hello, "")])

    def _look(self) -> None:
        """Forget who is gone, and log what has changed."""
        now = self._clock()
        with self._lock:
            if now - self._up_from > GONE:
                self.others = {name: each for name, each in self.others.items() if now - each.last <= GONE}
            there = sorted(name for name, each in self.others.items() if each.proved)
        new = set(there) - set(self._told)
        if new:
            log.error(
                "another agent has node_id %s: %s; both execute each command for this node: give one of them another "
                "node_id", self._node_id, _named(self.found),
            )  # fmt: skip
        elif self._told and not there:
            log.info("no other agent has node_id %s any more", self._node_id)
        self._told = there


def _named(found: list[Twin]) -> str:
    return ", ".join(f"{each.node_id} on {each.hostname}" for each in found)
