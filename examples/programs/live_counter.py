"""How many channels there are on each node, a line for each change; it never drifts.

    python3 live_counter.py

Gaps in the events (a lost link, an agent or a FreeSWITCH that was restarted) are put right by FreeSWITCH's own list.
"""

from __future__ import annotations

import asyncio
import os
import signal

import event_agent_client as ea

last = ""


def show(live: ea.Live) -> None:
    global last
    counts = [f"{node} {len(calls)}" for node, calls in sorted(live.calls.items())]
    line = "  ".join(counts) or "no node"
    if line != last:
        print(line, flush=True)
    last = line


async def main() -> None:
    async with ea.connect(prefix=os.environ.get("PREFIX", "freeswitch")) as fs:
        live = await fs.live(every=float(os.environ.get("EVERY", "30")))
        live.on_change(show)
        show(live)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)  # type: ignore[union-attr]
        await fs.forever()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
