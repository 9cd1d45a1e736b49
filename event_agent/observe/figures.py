"""What FreeSWITCH says of itself every 20 seconds (HEARTBEAT), as the metrics that FreeSWITCH's exporters have.

The names are those of freeswitch_exporter (https://github.com/florentchauveau/freeswitch_exporter), so dashboards made
for it go on working. FreeSWITCH is not asked for them: the events come by themselves (switch_core.c, send_heartbeat),
whether they are published or not. `event` runs on the event thread, `add` on `http`.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from event_agent.observe.exposition import Page
from event_agent.protocol.raw_event import RawEvent

EVENTS = frozenset(("HEARTBEAT",))
OLD = 120.0  # seconds after which figures are no longer shown: FreeSWITCH, or the link, is not what it was

# Header of the event: name, whether it only grows, a factor, help.
FIGURES: tuple[tuple[str, str, bool, float, str], ...] = (
    ("Session-Count", "freeswitch_current_sessions", False, 1, "Sessions that there are."),
    ("Session-Peak-Max", "freeswitch_current_sessions_peak", False, 1, "Most sessions since FreeSWITCH's start."),
    ("Session-Peak-FiveMin", "freeswitch_current_sessions_peak_last_5min", False, 1, "Most sessions in five minutes."),
    ("Max-Sessions", "freeswitch_max_sessions", False, 1, "Sessions that are taken at most."),
    ("Session-Per-Sec-Last", "freeswitch_current_sps", False, 1, "Sessions begun in the last second."),
    ("Session-Per-Sec-Max", "freeswitch_current_sps_peak", False, 1, "Most sessions begun in a second, ever."),
    ("Session-Per-Sec-FiveMin", "freeswitch_current_sps_peak_last_5min", False, 1, "Most in five minutes."),
    ("Session-Per-Sec", "freeswitch_max_sps", False, 1, "Sessions that are begun in a second at most."),
    ("Session-Since-Startup", "freeswitch_sessions_total", True, 1, "Sessions begun since FreeSWITCH's start."),
    ("Idle-CPU", "freeswitch_current_idle_cpu", False, 1, "Idle processor time of its machine, per cent."),
    ("Uptime-msec", "freeswitch_uptime_seconds", False, 0.001, "Seconds since FreeSWITCH's start."),
)


class SwitchFigures:
    """The figures of the last HEARTBEAT."""

    name = "figures of FreeSWITCH"

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[str, float] = {}  # replaced, never changed
        self._since = 0.0

    def event(self, _: str, event: RawEvent) -> None:
        """A HEARTBEAT came."""
        found: dict[str, float] = {}
        headers = event.headers
        for header, name, _grows, factor, _help in FIGURES:
            value = headers.get(header)
            if isinstance(value, str) and (known := number(value)) is not None:
                found[name] = known * factor if factor != 1 else known
        self._known, self._since = found, self._clock()

    def add(self, page: Page, connected: bool) -> None:
        """Add what is known to a page of metrics."""
        page.gauge("freeswitch_up", "1 while commands reach FreeSWITCH.", connected)
        known = self._known
        if not connected or self._clock() - self._since > OLD:
            return
        for _header, name, grows, _factor, help in FIGURES:
            if name in known:
                (page.counter if grows else page.gauge)(name, help, known[name])


def number(text: str) -> float | None:
    """A number that is none of the odd ones; None if it is not."""
    try:
        value = float(text) if len(text) < 32 else -1.0
    except ValueError:
        return None
    if not 0 <= value < 1e18:
        return None
    return int(value) if value == int(value) else value
