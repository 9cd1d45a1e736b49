"""What each fault of the two links costs, counted: `make faults` prints the table.

While a fault is injected, requests are sent (20 a second) and events fired (50 a second, through an event socket of
our own, where the switch is not the one that is away). For each fault: requests sent and how they were answered,
events fired, delivered and counted as dropped or unconfirmed, seconds from the fault's end to the first good reply,
and the agent's CPU while it waited.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.functional.parts import Agent, Client, NatsServer  # noqa: E402
from tests.functional.proxy import Proxy  # noqa: E402
from tests.functional.raw_events import RawEvents  # noqa: E402
from tests.functional.real_switch import RealSwitch, binary  # noqa: E402
from tests.switchsim import SwitchSim  # noqa: E402

AWAY = 5.0  # seconds a fault lasts


class Trial:
    """Real parts, an agent between them, and a load that goes on while something breaks."""

    def __init__(self, *, proxied: bool = False, **settings: str) -> None:
        self.switch: Any = RealSwitch().start() if binary() else SwitchSim().start()
        self.nats = NatsServer().start()
        self.proxy = Proxy(self.nats.port)
        url = self.proxy.url if proxied else self.nats.url
        links = {"url": url, "esl_port": str(self.switch.port), "reconnect_wait": "0.2", "command_timeout": "3"}
        self.agent = Agent(**(links | settings)).start()
        self.client = Client(self.nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        self.events = self.client.events("freeswitch.events.custom.>")
        self.sent = self.good = self.bad = self.unanswered = self.fired = 0
        self.first_good = 0.0  # time.monotonic() of the first good reply after `mended`
        self.mended = float("inf")
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each, name=each.__name__) for each in (self._ask, self._fire)]
        for thread in self._threads:
            thread.start()

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            self.sent += 1
            started = time.monotonic()
            try:
                good = json.loads(self.client.raw("freeswitch.api", b'{"command":"uptime"}', 6).data)["success"]
            except Exception:
                self.unanswered += 1  # the broker is away, or nobody listens there
                continue
            self.good, self.bad = self.good + good, self.bad + (not good)
            if good and started > self.mended and not self.first_good:
                self.first_good = time.monotonic()

    def _fire(self) -> None:
        while not self._stop.is_set():
            try:
                with RawEvents(self.switch.port, self.switch.password) as raw:
                    while not self._stop.wait(0.02):
                        raw.command(f"sendevent CUSTOM\nEvent-Subclass: faults::n\nX-N: {self.fired}\n")
                        self.fired += 1
            except (OSError, AssertionError):
                self._stop.wait(0.2)  # the switch is away

    def report(self, name: str, cpu: float) -> None:
        """End the load and print the row."""
        deadline = time.monotonic() + 30
        while not self.first_good and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1)
        self._stop.set()
        for thread in self._threads:
            thread.join()
        time.sleep(0.5)
        data = self.client.request("agent.status")["data"]
        counted = data["nats"]["messages_dropped"], data["nats"]["messages_unconfirmed"]
        numbers = [event["headers"]["X-N"] for event in self.events.named("CUSTOM")]
        back = self.first_good - self.mended
        print(
            f"{name:34} requests {self.sent:4}: {self.good:4} good {self.bad:3} error {self.unanswered:3} none | "
            f"events {self.fired:4}: {len(numbers):4} came, {len(numbers) - len(set(numbers))} twice, "
            f"{counted[0]} dropped, {counted[1]} unconfirmed | back after {back:5.2f} s | cpu {cpu:4.1f} % | "
            f"{self.agent.memory():.1f} MB",
            flush=True,
        )
        assert self.agent.stop() == 0

    def close(self) -> None:
        """End all parts."""
        self._stop.set()
        self.agent.remove()
        self.client.close()
        self.proxy.stop()
        self.nats.stop()
        self.switch.stop()


def trial(name: str, begin: Callable[[Trial], object], end: Callable[[Trial], object], **options: Any) -> None:
    """One fault."""
    found = Trial(**options)
    try:
        time.sleep(1)
        begin(found)
        before = found.agent.cpu()
        time.sleep(AWAY)
        cpu = (found.agent.cpu() - before) / AWAY * 100
        end(found)
        found.mended = time.monotonic()
        found.report(name, cpu)
    finally:
        found.close()


def main() -> None:
    """All faults."""
    print(f"switch: {binary() or 'the simulator'}; each fault lasts {AWAY:g} s")
    nothing = lambda _: None  # noqa: E731
    trial("none, for comparison", nothing, nothing)
    trial(
        "switch killed and started again",
        lambda t: t.switch.kill() if binary() else t.switch.stop(),
        lambda t: t.switch.start(),
    )
    trial("switch frozen", lambda t: t.switch.freeze(), lambda t: t.switch.thaw())
    trial("broker killed and started again", lambda t: t.nats.kill(), lambda t: t.nats.start())
    frozen = {"ping_interval": "1"}
    trial("broker frozen", lambda t: t.nats.signal(signal.SIGSTOP), lambda t: t.nats.signal(signal.SIGCONT), **frozen)
    trial("link to the broker cut", lambda t: t.proxy.cut(), nothing, proxied=True)

    def shut(t: Trial) -> None:
        t.proxy.refusing = True
        t.proxy.cut()

    def let(t: Trial) -> None:
        t.proxy.refusing = False

    trial("broker out of the agent's reach", shut, let, proxied=True)
    trial("buffer too small for that", shut, let, proxied=True, reconnect_buf_size="100000")


if __name__ == "__main__":
    main()
