"""agent.status: what this agent is, what its two links do, and what it has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from event_agent import __version__
from event_agent.commands.registry import Handler, Invocation, Outcome
from event_agent.drivers.base import Driver
from event_agent.protocol.validation import Declaration
from event_agent.runtime.stats import Stats

FIELDS = Declaration(
    "agent.status",
    "What this agent is and has done. Answered while FreeSWITCH is unreachable, too.",
    examples=({"node_id": "fs-node-01"},),
)


def status_command(
    stats: Stats, driver: Driver, sections: Callable[[], dict[str, Any]]
) -> Handler:
    """The handler; `sections` gives further parts of `data`, such as `freeswitch` and `dialplan`."""

    def handle(invocation: Invocation) -> Outcome:
        top = {
            "version": __version__,
            "uptime": stats.uptime,
            "events_published": stats.events_published,
            "commands_received": stats.received,
            "driver": driver.name,
            "connected": driver.status.up,
        }
        data = {
            "events_dropped": stats.events_dropped,
            "records_published": stats.records_published,
            "stats": {
                "requests_received": stats.received,
                "requests_success": stats.succeeded,
                "requests_failed": stats.failed,
                "requests_unreachable": stats.unreachable,
                "traces_invalid": stats.traces_invalid,
            },
            driver.name: {**driver.status.fields(), **driver.stats()},
            **sections(),
            "commands": stats.commands(),
        }
        return Outcome("Agent status", data, top)

    return handle
