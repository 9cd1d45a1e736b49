"""router.py with threads; the table is the same, and so is what is said of it there.

    python3 router_sync.py routes.csv public         calls in context "public"
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Any

from router import EMERGENCY, Routes, arguments, decide, say

import event_agent_client as ea


def main() -> None:
    given = arguments()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    routes = Routes(given.table)
    routes.find("")
    with ea.sync.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        @fs.route(context=given.context, exceptions=EMERGENCY)
        def router(call: ea.RouteRequest) -> Mapping[str, Any]:
            return decide(routes, call, given.to)

        say(f"routing calls in {given.context}")
        fs.forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
