"""HEARTBEAT as metrics: what is a number is shown, and nothing that is old."""

from __future__ import annotations

import json

from event_agent.observe.exposition import Page
from event_agent.observe.figures import OLD, SwitchFigures
from event_agent.protocol.raw_event import RawEvent

BEAT = {
    "Event-Name": "HEARTBEAT", "Uptime-msec": "86400500", "Session-Count": "12", "Max-Sessions": "1000",
    "Session-Per-Sec": "30", "Session-Per-Sec-Last": "2", "Session-Per-Sec-Max": "9", "Session-Per-Sec-FiveMin": "4",
    "Session-Since-Startup": "5531", "Session-Peak-Max": "80", "Session-Peak-FiveMin": "14", "Idle-CPU": "97.266667",
}  # fmt: skip


def samples(figures: SwitchFigures, connected: bool = True) -> dict[str, float]:
    page = Page()
    figures.add(page, connected)
    lines = [line for line in page.text().decode().splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in (line.split() for line in lines)}


def beat(**changes: str) -> RawEvent:
    return RawEvent(json.dumps(BEAT | {key.replace("_", "-"): value for key, value in changes.items()}).encode())


def test_the_figures_of_a_heartbeat() -> None:
    now = [50.0]
    figures = SwitchFigures(clock=lambda: now[0])
    assert samples(figures, connected=False) == {"freeswitch_up": 0}
    figures.event("HEARTBEAT", beat())
    assert samples(figures) == {
        "freeswitch_up": 1, "freeswitch_current_sessions": 12, "freeswitch_max_sessions": 1000,
        "freeswitch_current_sps": 2, "freeswitch_max_sps": 30, "freeswitch_current_sps_peak": 9,
        "freeswitch_current_sps_peak_last_5min": 4, "freeswitch_sessions_total": 5531,
        "freeswitch_current_sessions_peak": 80, "freeswitch_current_sessions_peak_last_5min": 14,
        "freeswitch_current_idle_cpu": 97.266667, "freeswitch_uptime_seconds": 86400.5,
    }  # fmt: skip
    assert samples(figures, connected=False) == {"freeswitch_up": 0}
    now[0] += OLD + 1
    assert samples(figures) == {"freeswitch_up": 1}


def test_what_is_no_number_is_left_out() -> None:
    figures = SwitchFigures()
    for wrong in ("nan", "inf", "-1", "x", "", "9" * 40, "1e300"):
        figures.event("HEARTBEAT", beat(Session_Count=wrong))
        found = samples(figures)
        assert "freeswitch_current_sessions" not in found and found["freeswitch_max_sessions"] == 1000
    figures.event("HEARTBEAT", RawEvent(b'{"Event-Name":"HEARTBEAT","Session-Count":["1","2"]}'))
    assert samples(figures) == {"freeswitch_up": 1}
