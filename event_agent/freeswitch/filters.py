"""Which events are published, and how FreeSWITCH is asked for just these.

`event json ALL` and then `nixevent X` would lose every CUSTOM event that has a subclass (mod_event_socket.c,
event_handler: without ALL a subclass must have been named), and there is no asking for all subclasses. So the
subscription is always ALL, and `filter` does the choosing inside FreeSWITCH, before an event is queued: a filter that
matches lets an event through, one that starts with `-` stops it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from event_agent.errors import ConfigError

GUARD = "Event-Sequence"  # a header that every event has and no other filter of ours names
_NAME = re.compile(r"[A-Za-z0-9_.:/+@-]{1,200}\Z")


def _norm(name: str) -> str:
    return name if "::" in name else name.upper()


@dataclass(frozen=True)
class EventFilter:
    """What the settings publish_all_events, include and exclude say together. Exclude wins over include."""

    everything: bool
    include: frozenset[str]
    exclude: frozenset[str]

    @classmethod
    def of(cls, publish_all: bool, include: Iterable[str], exclude: Iterable[str]) -> EventFilter:
        """From the settings; a list of what to include says more than publish_all_events. Raises ConfigError."""
        chosen, dropped = frozenset(map(_norm, include)), frozenset(map(_norm, exclude))
        faults = [f"{name!r} is no event name" for name in sorted(chosen | dropped) if not _NAME.match(name)]
        if faults:
            raise ConfigError(faults)
        if "ALL" in dropped:
            return cls(False, frozenset(), frozenset())
        return cls("ALL" in chosen or (publish_all and not chosen), chosen - {"ALL"}, dropped)

    def wants(self, name: str) -> bool:
        """True for an event to publish; `name` is the event's, or the subclass of a CUSTOM one."""
        custom = "::" in name
        if name in self.exclude or (custom and "CUSTOM" in self.exclude):
            return False
        return self.everything or name in self.include or (custom and "CUSTOM" in self.include)

    def section(self) -> dict[str, Any]:
        """For agent.status: what a client has to know before it subscribes."""
        return {
            "publish_all_events": self.everything,
            "include": sorted(self.include),
            "exclude": sorted(self.exclude),
        }

    @property
    def anything(self) -> bool:
        """False if no event at all is let through."""
        return self.everything or any(map(self.wants, self.include))

    def widened(self, names: frozenset[str]) -> EventFilter:
        """The filter that lets through what this one does, and the events called `names` too."""
        include = self.include if self.everything or not names else self.include | names
        exclude = self.exclude - names
        if "CUSTOM" in names:
            exclude = frozenset(each for each in exclude if "::" not in each)
        return EventFilter(self.everything, include, exclude)

    def commands(self, core_uuid: str) -> list[str]:
        """ESL commands, without their blank lines, after which just these events come.

        Sent again with another filter they replace the first, with no moment in which an event is left out that both
        want. FreeSWITCH takes one command at a time, and may fire hundreds of events between two of them; and where
        filters are left that only take away, nothing comes at all. So a filter that all events match stands meanwhile.
        """
        if not self.anything:
            return ["noevents"]
        names = sorted(name for name in self.include if self.wants(name))
        # A filter that matches every event, for the minus ones to take from: all carry the Core-UUID.
        wanted = [f"filter Core-UUID {core_uuid}"] if self.everything else [_filter("", name) for name in names]
        return [
            f"filter {GUARD} /./",
            "filter delete Core-UUID",
            "filter delete Event-Name",
            "filter delete Event-Subclass",
            *wanted,
            *(_filter("-", name) for name in sorted(self.exclude)),
            f"filter delete {GUARD}",
            "event json ALL",
        ]


def _filter(sign: str, name: str) -> str:
    return f"filter {'Event-Subclass' if '::' in name else 'Event-Name'} {sign}{name}"
