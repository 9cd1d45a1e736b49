"""`spool show` and `spool drop`: what an agent on this machine has on disk for the broker.

`show` reads while the agent runs; `drop` needs the agent to be stopped, and says what it deleted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping

from event_agent.ctl.connection import settings_of
from event_agent.ctl.views import number
from event_agent.drivers.outbox import drop_all, look_at
from event_agent.drivers.segments import SpoolError
from event_agent.errors import ConfigError


def run(options: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Returns the exit code: 0 done, 1 the disk or the agent is in the way, 2 nothing to do it for."""
    try:
        folder = options.folder or settings_of(options, environ).spool_folder
        if not folder:
            print("event-agentctl: spool_max_bytes is 0: no events are kept on disk", file=sys.stderr)
            return 2
        if options.what == "show":
            found = look_at(folder)
            print(f"folder:   {folder}")
            print(f"events:   {number(found.records)} not acknowledged")
            print(f"bytes:    {number(found.size)}")
            if found.torn:
                print(f"damaged:  {number(found.torn)} bytes at the end are no whole record")
            for name in found.foreign:
                print(f"not ours: {name}")
            return 0
        if not options.yes:
            print("event-agentctl: spool drop deletes events for good; add --yes", file=sys.stderr)
            return 2
        records, size = drop_all(folder)
    except ConfigError as error:
        for fault in error.faults:
            print(f"event-agentctl: {fault}", file=sys.stderr)
        return 2
    except SpoolError as error:
        print(f"event-agentctl: {error}", file=sys.stderr)
        return 1
    print(f"{number(records)} events deleted, {number(size)} bytes")
    return 0
