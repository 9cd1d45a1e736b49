"""What each fault of the two links costs, counted: `make faults` prints the table.

While a fault is injected, requests are sent (20 a second) and events fired (50 a second, through an event socket of
our own, where the switch is not the one that is away). For each fault: requests sent and how they were answered,
events fired, delivered and counted as dropped, unconfirmed or unseen, seconds from the fault's end to the first good
reply, and the agent's CPU while the fault lasted.

`silent` requests got no answer at all: the NATS server, or the way to it, was away when they, or their replies, were on
their way. `nobody` are those that the server refused, because no agent listened.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.functional.load import Load  # noqa: E402
from tests.functional.parts import Agent, Client, NatsServer  # noqa: E402
from tests.functional.proxy import Proxy  # noqa: E402
from tests.functional.real_switch import RealSwitch, binary  # noqa: E402
from tests.support import until  # noqa: E402
from tests.switchsim import SwitchSim  # noqa: E402

AWAY = 5.0  # seconds a fault lasts


class Trial:
    """Real parts, an agent between them, a proxy on each link, and a load that goes on while something breaks."""

    def __init__(self, *, proxied: bool = False, **settings: str) -> None:
        """`proxied`: both links go through the proxies. The load never does."""
        self.switch: Any = RealSwitch().start() if binary() else SwitchSim().start()
        self.nats = NatsServer().start()
        self.broker, self.event_socket = Proxy(self.nats.port), Proxy(self.switch.port)
        links = {
            "url": self.broker.url if proxied else self.nats.url,
            "esl_port": str(self.event_socket.port if proxied else self.switch.port),
            "reconnect_wait": "0.2", "command_timeout": "3",
        }  # fmt: skip
        self.agent = Agent(**(links | settings)).start()
        self.client = Client(self.nats.url, max_reconnect_attempts=-1, reconnect_time_wait=0.05)
        self.load = Load(self.client, self.switch).start()

    def close(self) -> None:
        """End all parts."""
        self.load.stop()
        self.agent.remove()
        self.client.close()
        self.broker.stop()
        self.event_socket.stop()
        self.nats.stop()
        self.switch.stop()


def trial(name: str, begin: Callable[[Trial], object], end: Callable[[Trial], object], **options: Any) -> None:
    """One fault, and its row."""
    found = Trial(**options)
    try:
        until(lambda: len(found.load.numbers()) > 40, "the load runs")
        begin(found)
        before = found.agent.cpu()
        time.sleep(AWAY)
        cpu = (found.agent.cpu() - before) / AWAY * 100
        end(found)
        found.load.mended = time.monotonic()
        back = found.load.back_after(60)
        until(lambda: found.load.status()["freeswitch"]["events"], "events again", 60)
        time.sleep(1)
        account = found.load.account()
        memory = found.agent.memory()
        print(f"{name:36} {account} | back after {back:5.2f} s | cpu {cpu:4.1f} % | {memory:.1f} MB", flush=True)
        assert found.agent.stop() == 0
    finally:
        found.close()


def main() -> None:
    """All faults."""
    print(f"switch: {binary() or 'the simulator'}; each fault lasts {AWAY:g} s")

    def nothing(_: Trial) -> None:
        pass

    def shut(proxy: Proxy) -> None:
        proxy.refusing = True
        proxy.cut()

    def let(proxy: Proxy) -> None:
        proxy.refusing = False

    stop, go_on = signal.SIGSTOP, signal.SIGCONT
    quick = {"ping_interval": "1"}
    trial("none, for comparison", nothing, nothing)
    trial(
        "switch killed and started again",
        lambda t: t.switch.kill() if binary() else t.switch.stop(),
        lambda t: t.switch.start(),
    )
    trial("switch frozen", lambda t: t.switch.freeze(), lambda t: t.switch.thaw())
    trial("links to the switch cut", lambda t: t.event_socket.cut(), nothing, proxied=True)
    trial("switch out of reach", lambda t: shut(t.event_socket), lambda t: let(t.event_socket), proxied=True)
    trial("switch behind a blackhole", lambda t: t.event_socket.stall(), lambda t: t.event_socket.drop(), proxied=True)
    trial("broker killed and started again", lambda t: t.nats.kill(), lambda t: t.nats.start())
    trial("broker frozen", lambda t: t.nats.signal(stop), lambda t: t.nats.signal(go_on), **quick)
    trial("link to the broker cut", lambda t: t.broker.cut(), nothing, proxied=True)
    trial("broker out of reach", lambda t: shut(t.broker), lambda t: let(t.broker), proxied=True)
    trial("broker behind a blackhole", lambda t: t.broker.stall(), lambda t: t.broker.drop(), proxied=True, **quick)
    small = {"reconnect_buf_size": "100000"}
    trial("buffer too small for that", lambda t: shut(t.broker), lambda t: let(t.broker), proxied=True, **small)
    trial("the agent itself stopped", lambda t: t.agent.signal(stop), lambda t: t.agent.signal(go_on))


if __name__ == "__main__":
    main()
