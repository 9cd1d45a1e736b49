"""event_wake_multicast: FreeSWITCH's mod_event_multicast rings, and the agent says whether it does."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import GROUP, RealSwitch, binary
from tests.support import until
from tests.switchsim import SwitchSim


@pytest.fixture
def rung() -> Iterator[tuple[Any, Callable[[], None]]]:
    """A switch, and how to ring its bell: the real one does that itself for each event, for the simulator we do."""
    switch = RealSwitch(modules=("mod_event_multicast",)) if binary() else SwitchSim()
    with switch as started, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as rope:
        rope.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))

        def ring() -> None:
            if isinstance(switch, SwitchSim):
                rope.sendto(b"x", (GROUP, switch.port))

        yield started, ring


def test_the_bell_rings_and_status_says_so(
    nats: NatsServer, rung: tuple[Any, Callable[[], None]], start_agent: Callable[..., Agent], client: Client
) -> None:
    switch, ring = rung
    lane = "bell.api"
    agent = start_agent(
        nats, switch, subject_prefix="bell", node_id="bell", event_wake_multicast=f"{GROUP}:{switch.port}"
    )
    events = client.events("bell.events.custom.>")

    def bell() -> dict[str, Any]:
        return dict(client.request("agent.status", None, lane, _timeout=20)["data"]["freeswitch"]["bell"])

    assert bell()["joined"] is True and bell()["address"] == f"{GROUP}:{switch.port}"
    with RawEvents(switch.port, switch.password) as raw:

        def heard() -> bool:
            raw.command("sendevent CUSTOM\nEvent-Subclass: bell::test\n")
            ring()
            return bool(bell()["rings"])

        until(heard, "rings that bring events", 30)
    agent.logged(f"mod_event_multicast announces events on {re.escape(GROUP)}:{switch.port}; no nudges are needed")
    found = bell()
    assert found["heard"] >= 3 and found["silent"] >= 0 and events.parsed()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("127.0.0.1"))
        for data in (b"", b"\n\napi shutdown\n\n", b"x" * 60_000):
            before = bell()["heard"]
            stranger.sendto(data, (GROUP, switch.port))
            until(lambda before=before: bell()["heard"] > before, "a stranger's rings, and does nothing else")  # type: ignore[misc]
    assert client.request("version", None, lane)["success"] is True
    assert agent.stop() == 0 and "Traceback" not in agent.log
