"""agent.drain: a node that is to get no more of what any node could do."""

from __future__ import annotations

from collections.abc import Callable

from event_agent.commands.registry import Handler, Invocation, Outcome
from event_agent.protocol.validation import Declaration, boolean

ENABLED = boolean("enabled", help="true: it takes no requests on `any`; false: it does again")
FIELDS = Declaration(
    "agent.drain",
    "Takes the node out of `any`, or back. Its other lanes, its calls and its events go on. Outlasts a restart.",
    (ENABLED,),
    ({"enabled": True, "node_id": "fs-node-01"}, {"args": "true"}),
    console=(ENABLED,),
)


def drain_command(drain: Callable[[bool], bool]) -> Handler:
    """The handler; `drain` says whether it will outlast a restart."""

    def handle(invocation: Invocation) -> Outcome:
        enabled = ENABLED(invocation.payload)
        kept = drain(enabled)
        message = "Drained" if enabled else "Not drained"
        if not kept and enabled:
            message += " until the agent is restarted: it could not be written to disk"
        return Outcome(message, {"drained": enabled, "persisted": kept})

    return handle
