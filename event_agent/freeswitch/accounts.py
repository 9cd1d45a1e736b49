"""What is kept of the events that were read: how many calls there are, which were missed, how late they come.

All of it runs on the event thread, but for `active_until`, which others move on when they expect events.
"""

from __future__ import annotations

from event_agent.freeswitch.channels import LIVES, Channels
from event_agent.freeswitch.gaps import Gaps
from event_agent.freeswitch.lag import Lag
from event_agent.protocol.raw_event import Names, RawEvent

# Events of an idle switch, after which nothing else is to be expected.
HOUSEKEEPING = Names("RE_SCHEDULE", "HEARTBEAT", "MODULE_LOAD")
BEGIN, END = "CHANNEL_CREATE", "CHANNEL_DESTROY"
BEGINS, ENDS = Names(BEGIN), Names(END)


class Accounts:
    """Whether more events are to be expected, and what was missed."""

    def __init__(
        self, active: float, lag: Lag, gaps: Gaps | None = None, channels: Channels | None = None
    ) -> None:
        """`active`: seconds after an event for which the connection counts as busy. `channels`: see EventReader."""
        self._active = active
        self.counted = False  # channels that are up keep the connection awake: others will follow
        self.calls = 0  # channels seen to begin and not to end
        self.active_until = 0.0  # time.monotonic()
        self.gaps = gaps or Gaps()
        self.channels = channels
        self.lag = lag

    def linked(self, core_uuid: str) -> None:
        """There is a connection, and it is known what was missed before it."""
        seamless = self.gaps.seamless()
        if self.channels is not None:
            self.channels.linked(core_uuid, seamless)

    def go_on(self, core_uuid: str, calls: int, now: float) -> None:
        """The connection of the process before is read on."""
        self.calls = calls
        self.active_until = now + self._active
        self.gaps.go_on(core_uuid)

    def take(self, events: list[RawEvent], now: float, verifiable: bool) -> None:
        """These came. `verifiable`: whether an event of ours would be heard."""
        names = LIVES.beginnings
        lives = [event for event in events if event.data.startswith(names)]  # `is_one_of`, a call less
        for event in lives:
            if event.is_one_of(BEGINS):
                self.calls += self.counted
            elif self.calls and event.is_one_of(ENDS):
                self.calls -= 1
        if lives and self.channels is not None:
            self.channels.take(lives)
        if not self.counted:
            self.calls = 0  # a channel whose end is not heard of would keep this connection busy
        if events:
            last = events[-1]
            if not last.is_one_of(HOUSEKEEPING):
                self.active_until = max(self.active_until, now + self._active)
            self.gaps.seen(events)
            self.lag.heard(last, verifiable)

    def without_ours(self, events: list[RawEvent], mark: bytes) -> list[RawEvent]:
        """Take out the event by which the lag is measured: it is nobody else's."""
        others = []
        for event in events:
            if mark in event.data:
                self.lag.measured(event)
                self.gaps.seen([event])
            else:
                others.append(event)
        return others
