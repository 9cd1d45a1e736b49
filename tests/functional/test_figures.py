"""What is counted, read at any moment: no figure below nothing, no counter that goes back."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from nats.errors import NoRespondersError

from tests.functional.conftest import Switch
from tests.functional.delivery_parts import Broker
from tests.functional.metrics import families
from tests.functional.parts import Agent, Client, hang_up_all
from tests.functional.proxy import Proxy
from tests.support import free_port, until

CALLS = 20  # in each round
Start = Callable[..., Agent]
Samples = dict[str, float]


class Reader:
    """Reads something over and over, on a thread of its own."""

    def __init__(self, name: str, read: Callable[[], Samples]) -> None:
        self.faults: list[str] = []
        self.reads = 0
        self._read = read
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)

    def __enter__(self) -> Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(60)

    def _run(self) -> None:
        before: Samples = {}
        while not self._ended.is_set():
            samples = self._read()
            self.reads += 1
            self.faults += [f"{name}: {value}" for name, value in samples.items() if value < 0]
            for name, was in before.items():
                if samples.get(name, was) < was:
                    self.faults.append(f"{name}: {was} -> {samples[name]}")
            before = {name: value for name, value in samples.items() if _grows(name)}


MAY_BE_NEGATIVE = ".freeswitch.clock_difference"
COUNTED = ("received", "success", "failed", "published", "dropped", "sent", "refused", "reconnects", "unseen", "again")


def _grows(name: str) -> bool:
    return name.split("{")[0].endswith("_total") or name.endswith(COUNTED)


def _numbers(at: str, value: Any) -> Samples:
    """Each number of a reply by its path."""
    if isinstance(value, dict):
        return {path: each for key in value for path, each in _numbers(f"{at}.{key}", value[key]).items()}
    return {at: float(value)} if isinstance(value, (int, float)) and not isinstance(value, bool) else {}


def _metrics(port: int) -> Samples:
    return {
        sample.name + str(sorted(sample.labels.items())): sample.value
        for family in families(port) if family.type == "counter" for sample in family.samples
        if sample.name.endswith("_total")
    }  # fmt: skip


def _status(client: Client) -> Samples:
    """Empty while no agent can be asked."""
    try:
        reply = client.request("agent.status", _timeout=3)
    except (NoRespondersError, TimeoutError):
        return {}
    return {path: each for path, each in _numbers("", reply["data"]).items() if path != MAY_BE_NEGATIVE}


@pytest.mark.parametrize("delivery", ["at_most_once", "at_least_once"])
def test_whatever_happens_meanwhile(delivery: str, switch: Switch, start_agent: Start, tmp_path: Path) -> None:
    """Calls begin and end and both links are cut while three threads read."""
    broker = Broker(tmp_path / "store")
    broker.make()
    port = free_port()
    with contextlib.ExitStack() as stack:
        stack.callback(broker.server.stop)
        to_nats = stack.enter_context(Proxy(int(broker.url.rsplit(":", 1)[1])))
        to_switch = stack.enter_context(Proxy(switch.port))
        to_switch.password = switch.password
        settings = {"events_delivery": delivery, "spool_dir": str(tmp_path / "spool"), "url": to_nats.url}
        start_agent(broker.server, to_switch, http_listen=f"127.0.0.1:{port}", **settings)
        client, asking = (stack.enter_context(contextlib.closing(Client(broker.url))) for _ in range(2))
        readers = [
            stack.enter_context(Reader("metrics", lambda: _metrics(port))),
            *(stack.enter_context(Reader("status", lambda: _status(asking))) for _ in range(2)),
        ]
        for proxy in (to_nats, to_switch, to_nats):
            for number in range(CALLS):
                with contextlib.suppress(NoRespondersError, TimeoutError):
                    client.request("originate", endpoint="loopback/park/default", destination="&park", _timeout=3)
                if number == CALLS // 2:
                    proxy.cut()
            hang_up_all(switch.port, switch.password)
        until(lambda: _status(client).get(".call_lanes.held") == 0, "all calls have ended", 60)
        until(lambda: all(each.reads > 30 for each in readers), "each has read often", 60)
    assert [each.faults for each in readers] == [[], [], []]
