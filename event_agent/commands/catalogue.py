"""All commands, as they are declared: for tools/fields.py, and for all that have to know what a command takes."""

from __future__ import annotations

from event_agent.commands import api, dialplan, drain, execute_app, hangup, originate, sendevent, status, watch
from event_agent.protocol.validation import Declaration

COMMANDS: tuple[Declaration, ...] = (
    api.FIELDS,
    originate.FIELDS,
    hangup.FIELDS,
    execute_app.FIELDS,
    sendevent.FIELDS,
    watch.WATCH,
    watch.UNWATCH,
    dialplan.ENABLE,
    dialplan.DISABLE,
    dialplan.SOUND,
    dialplan.AUTOANSWER,
    dialplan.STATUS,
    dialplan.ROUTE,
    status.FIELDS,
    drain.FIELDS,
)
