"""live_counter.py with threads: how many channels there are on each node, a line for each change; it never drifts.

    python3 live_counter_sync.py

Gaps in the events (a lost link, an agent or a FreeSWITCH that was restarted) are put right by FreeSWITCH's own list.
"""

from __future__ import annotations

import os
import signal
import threading

import event_agent_client as ea

lock = threading.Lock()  # changes come on several threads: the last line must be the last state
last = ""


def show(live: ea.sync.Live) -> None:
    global last
    with lock:
        counts = [f"{node} {len(calls)}" for node, calls in sorted(live.calls.items())]
        line = "  ".join(counts) or "no node"
        if line != last:
            print(line, flush=True)
        last = line


def main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ea.sync.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        live = fs.live(every=float(os.environ.get("EVERY", "30")))
        live.on_change(show)
        show(live)
        fs.forever()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
