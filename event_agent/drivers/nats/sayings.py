"""What the log says of at-least-once delivery: one line for each change of state.

On the loop's thread, or nats-link's.
"""

from __future__ import annotations

import logging

from event_agent.drivers.nats.jetstream import JetStream, StreamState
from event_agent.drivers.outbox import Outbox

log = logging.getLogger(__name__)

WAITS = (StreamState.NO_STREAM, StreamState.DEAF, StreamState.PAUSED)


class Sayings:
    """What was said last, so that it is said once."""

    def __init__(self, stream: JetStream, box: Outbox) -> None:
        self._stream = stream
        self._box = box
        self._said = (StreamState.DOWN, "")
        self._lost_said = 0
        self.waits = ""  # why events are not stored, until one is
        self._waits_said = False  # a line has said so
        self._stored = 0  # acknowledged before that

    def say(self) -> None:
        """Say what has changed."""
        status, box = self._stream.status, self._box
        if status.state in WAITS or (status.state is StreamState.CHECKING and status.reason):
            self.waits, self._stored = status.reason, box.acknowledged
        elif self.waits and status.state is not StreamState.DOWN and (
            box.acknowledged > self._stored or (status.state is StreamState.READY and not box.pending)
        ):
            self.waits, self._waits_said = "", False
        now = (status.state, status.reason)
        trying = status.state is StreamState.CHECKING or (status.state is StreamState.READY and self.waits)
        if now != self._said and not trying:
            before, self._said = self._said, now
            self._waits_said = bool(self.waits)
            if status.state is StreamState.READY:
                log.info("events are stored by stream %s", status.stream or "(unknown)")
            elif status.state is StreamState.NO_STREAM:
                log.warning("events wait: %s; make one with event-agentctl stream create; retrying", status.reason)
            elif status.state is StreamState.DEAF:
                log.warning("events wait: %s; retrying", status.reason)
            elif status.state is StreamState.PAUSED and before[0] is not StreamState.PAUSED:
                log.warning("events wait: the stream is not storing them: %s; retrying", status.reason)
        if self.waits and not self._waits_said and status.state is StreamState.READY:
            # The stream is what it should be, and yet what was sent is not acknowledged.
            self._waits_said = True
            log.warning("events wait: %s; retrying", self.waits)
        lost = sum(box.lost.values())
        if lost and not self._lost_said:
            log.error("events are lost: %s", self._reasons())
        self._lost_said = lost

    def _reasons(self) -> str:
        reasons = dict(self._box.lost) | self._stream.counters.given_up
        return ", ".join(f"{count} {reason}" for reason, count in reasons.items())
