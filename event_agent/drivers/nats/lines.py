"""Which messages a NATS server takes: it ends the link for one whose protocol line is too long for it.

Its limit, max_control_line, is 4096 bytes unless it was set up otherwise, and INFO does not say it. So the limit is
learned: if a server complains of a line, the longest one sent to it was too long.
"""

from __future__ import annotations

import logging

from event_agent.drivers.nats.wire import CONTROL_LINE, SHORT, TOO_LONG, line_size, sendable
from event_agent.runtime.log import Seldom

log = logging.getLogger(__name__)

LEAST = 256  # bytes; no server is taken to accept less on a line


class Lines:
    """Measures what is to be sent. From any thread; counters may miss one of two at one time."""

    def __init__(self, say: Seldom | None = None) -> None:
        self._say = say or Seldom()
        self._longest = 0  # bytes of the longest line that was sent, of those that are long at all
        self.most = CONTROL_LINE
        self.refused = 0  # messages

    def takes(self, subject: bytes, message: bytes) -> bool:
        """False for a message, a PUB or HPUB to `subject`, that must not be sent: counted, and logged now and then."""
        if not sendable(subject, message, self.most):
            self.refused += 1
            if self._say.due():
                log.warning(
                    "%d messages were dropped: their subject has a line break, or is too long for the NATS server; "
                    "the last one has %d bytes", self.refused, len(subject))  # fmt: skip
            return False
        if len(subject) > SHORT:
            self._longest = max(self._longest, line_size(message))
        return True

    def complained(self, text: str) -> None:
        """The server said this in an -ERR."""
        if text.casefold() == TOO_LONG and self._longest:
            # It does not say how far beyond its limit the line was; this finds out in a few links.
            self.most = max(LEAST, min(self.most, self._longest) // 2)
            self._longest = 0
            log.warning("NATS: from now on no message is sent whose line has more than %d bytes", self.most)
