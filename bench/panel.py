"""How the panel's page keeps up: frames, CPU and memory in a real browser, with many nodes and channels.

`python -m bench.panel` has 100 nodes, 10,000 channels and 50 new calls a second for a minute, on agents that are none
(fleet.py); `--seconds 1200` is twenty minutes. `--view engineer` has events, console and park mode as well. On a
machine that does other things too, frames are late for want of CPU: the share of a core tells.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.fleet import Fleet
from tests.functional.browser import Browser
from tests.functional.panel_parts import Panel
from tests.functional.parts import NatsServer
from tests.support import until

WATCH = """
window.frames_ = [];
let before = performance.now();
(function frame(now) { frames_.push(now - before); before = now; requestAnimationFrame(frame); })(before);
"""
TAKE = "const found = window.frames_ ?? []; window.frames_ = []; return found;"


def resident(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def heap(browser: Browser) -> tuple[float, int]:
    """MB of JavaScript after a collection of garbage, and elements."""
    browser.cdp("HeapProfiler.collectGarbage")
    metrics = {each["name"]: each["value"] for each in browser.cdp("Performance.getMetrics")["metrics"]}
    return metrics["JSHeapUsedSize"] / 1e6, int(metrics["Nodes"])


def quantile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))] if values else 0.0


def measure(browser: Browser, what: str, seconds: float = 0.0, step: Any = None) -> None:
    """Frames and CPU while `seconds` pass; without them, the frames that have been."""
    frames: list[float] = []
    if seconds:
        browser.js(TAKE)
    began, used = time.monotonic(), browser.cpu()
    while True:
        left = began + seconds - time.monotonic()
        if left > 0 and step is not None:
            step()
        time.sleep(max(0.0, min(left, 1.0)))
        frames += browser.js(TAKE)
        if left <= 1.0:
            break
    over = sum(each > 100 for each in frames)
    middle = statistics.median(frames or [0])
    share = 100 * (browser.cpu() - used) / (time.monotonic() - began)
    used_words = f"main thread {share:.0f} % of a core, " if seconds else ""
    print(f"{what:28} {len(frames):5} frames: median {middle:.0f}, p99 {quantile(frames, 0.99):.0f}, "
          f"longest {max(frames, default=0):.0f} ms, {over} over 100 ms; "
          f"{used_words}load {os.getloadavg()[0]:.1f}", flush=True)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=100)
    parser.add_argument("--channels", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=50.0, help="new calls a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--view", default="supervisor")
    options = parser.parse_args()
    with ExitStack() as stack:
        nats = NatsServer().start()
        stack.callback(nats.stop)
        fleet = stack.enter_context(Fleet(nats.url, options.nodes, options.channels, options.rate))
        panel = Panel(nats.url).start()
        stack.callback(panel.remove)
        browser = stack.enter_context(Browser())
        browser.cdp("Performance.enable")
        browser.cdp("Page.addScriptToEvaluateOnNewDocument", source=WATCH)
        shown = "return Number(document.querySelector('#calls-table')?.getAttribute('aria-rowcount') ?? 0)"
        browser.open(f"{panel.url}#{options.view}")
        wanted = options.channels // 2
        until(lambda: int(browser.js(shown)) > wanted * 0.95, "all calls are there", 180)
        measure(browser, "while they are listed")
        browser.open("about:blank")
        browser.open(f"{panel.url}#{options.view}")
        began = time.monotonic()
        until(lambda: int(browser.js(shown)) > wanted * 0.95, "all calls are there", 180)
        print(f"a page that comes new has them all after {time.monotonic() - began:.1f} s")
        measure(browser, "a page that comes new")
        measure(browser, "left alone", 10)
        scroll = "const box = document.querySelector('#calls-scroll'); box.scrollTop = Math.random() * box.scrollHeight"
        measure(browser, "scrolled each second", 10, lambda: browser.js(scroll))
        words = iter(["caller", "caller 12", "-waits", "7012", "fs-042", "nobody", "", "49301", "talking", ""] * 10)
        filter_ = ("const box = document.querySelector('#calls-filter'); box.value = arguments[0];"
                   "box.dispatchEvent(new Event('input', { bubbles: true }))")  # fmt: skip
        measure(browser, "filtered each second", 10, lambda: browser.js(filter_, next(words)))
        browser.js(filter_, "")
        assert panel.process
        end = time.monotonic() + options.seconds
        while (left := end - time.monotonic()) > 0:
            measure(browser, "with calls that come and go", min(60.0, left))
            size, nodes = heap(browser)
            server = resident(panel.process.pid)
            print(f"{'':28} heap {size:.1f} MB after a collection, {nodes} elements; panel's server {server:.1f} MB; "
                  f"{fleet.made} calls, {fleet.sent} events", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
