"""Which events a connection of the simulator gets."""

from __future__ import annotations

import statistics
import time

import pytest

from tests.switchsim import SwitchSim
from tests.unit.switchsim.parts import Client, parked, wait_until

# --- events ----------------------------------------------------------------------------------------------------


def test_fire_reaches_all_listeners(sim: SwitchSim, client: Client) -> None:
    assert client.command("event json HEARTBEAT CUSTOM my::own") == "+OK event listener enabled json"
    sim.fire("HEARTBEAT", {"List": ["a", "b"], "Empty": ""}, "söme\nbody")
    event = client.event()
    assert event["List"] == ["a", "b"]
    assert "Empty" not in event
    assert event["_body"] == "söme\nbody"
    assert event["Content-Length"] == "10"
    sim.fire("CUSTOM", {"Event-Subclass": "not::mine"})
    sim.fire("RELOADXML")
    sim.fire("CUSTOM", {"Event-Subclass": "my::own"})
    assert client.event()["Event-Subclass"] == "my::own"


def test_bytes_that_are_no_utf8_come_through(sim: SwitchSim, client: Client) -> None:
    client.command("event plain CUSTOM x")
    client.send(b"sendevent CUSTOM\nEvent-Subclass: x\nX-Raw: \xff\xfe\n\n")
    client.read()
    assert b"X-Raw: %FF%FE\n" in client.read().body
    client.send(b"api echo \xff\n\n")
    assert client.read().body == b"\xff"


def test_every_event_takes_a_number(sim: SwitchSim, client: Client) -> None:
    client.command("event json HEARTBEAT")
    sim.fire("HEARTBEAT")
    first = int(client.event()["Event-Sequence"])
    for _ in range(5):
        client.api("echo x")
    sim.fire("HEARTBEAT")
    assert int(client.event()["Event-Sequence"]) == first + 6


def test_core_uuid_is_of_one_start() -> None:
    sim = SwitchSim().start()
    first, port = sim.core_uuid, sim.port
    sim.stop()
    sim.stop()
    with sim:
        assert sim.port == port
        assert sim.core_uuid != first


def test_all_knows_only_announced_subclasses_once_something_is_nixed(sim: SwitchSim, client: Client) -> None:
    client.command("event json ALL")
    sim.fire("CUSTOM", {"Event-Subclass": "my::own"})
    assert client.event()["Event-Subclass"] == "my::own"
    client.command("nixevent HEARTBEAT")
    sim.fire("CUSTOM", {"Event-Subclass": "my::own"})
    sim.fire("HEARTBEAT")
    sim.fire("CUSTOM", {"Event-Subclass": "sofia::register"})
    assert client.event()["Event-Subclass"] == "sofia::register"


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        (["Colour red"], ["red"]),
        (["colour RED", "Colour green"], ["red", "green"]),
        (["Colour /^(re|bl)/"], ["red", "blue"]),
        (["Event-Name HEARTBEAT", "Colour -red"], ["green", "blue"]),
        (["Colour red", "delete Colour red"], ["red", "green", "blue"]),
        (["Colour red", "delete all"], ["red", "green", "blue"]),
        (["Colour red", "Colour green", "delete Colour"], ["red", "green", "blue"]),
        (["Colour red", "delete Colour RED"], ["red"]),  # a value is compared with its case
        (["Colour -red", "Event-Name HEARTBEAT"], ["green", "blue"]),  # whichever comes first
        (["Colour red", "Colour -red"], []),
        (["Colour -red"], []),  # nothing lets the others through
        (["Event-Name HEARTBEAT", "Colour -+red"], ["red", "green", "blue"]),  # the last sign counts
    ],
)
def test_filters(sim: SwitchSim, client: Client, filters: list[str], heard: list[str]) -> None:
    client.command("event json HEARTBEAT TRAP")
    for one in filters:
        assert client.command(f"filter {one}").startswith("+OK filter ")
    for colour in ("red", "green", "blue"):
        sim.fire("HEARTBEAT", {"Colour": colour})
    assert [client.event()["Colour"] for _ in heard] == heard
    assert client.quiet()


def test_myevents_follows_one_channel(sim: SwitchSim, client: Client) -> None:
    uuid, other = sim.call(), sim.call()
    parked(sim, uuid)
    assert client.command("myevents no-such-uuid json") == "-ERR invalid uuid"
    assert client.command(f"myevents {uuid} json") == "+OK Events Enabled"
    assert client.command(f"myevents {uuid}") == "-ERR aready enabled."
    assert client.command("linger 5") == "+OK will linger 5 seconds"
    assert client.command("nolinger") == "+OK will not linger"
    assert client.command("divert_events on") == "+OK events diverted"
    sim.api(f"uuid_kill {other}")
    sim.api(f"uuid_kill {uuid}")
    assert client.event()["Unique-ID"] == uuid
    assert client.event("CHANNEL_DESTROY")["Unique-ID"] == uuid
    assert sim.connections[0].session.subscription.take() == []


def test_a_line_feed_makes_a_connection_look_at_once(sim: SwitchSim, client: Client) -> None:
    """A quiet connection looks each 20 ms, so an event is late by 10 ms on average; nudged, it is not."""
    client.command("event json HEARTBEAT")

    def late(nudge: bool) -> float:
        delays = []
        for _ in range(15):
            assert client.quiet(0.005)
            start = time.perf_counter()
            sim.fire("HEARTBEAT")
            if nudge:
                client.send("\n")
            client.event()
            delays.append(time.perf_counter() - start)
        return statistics.median(delays)

    assert late(nudge=True) < late(nudge=False) / 2


def test_events_wait_until_a_command_is_complete(sim: SwitchSim, client: Client) -> None:
    client.command("event json HEARTBEAT")
    client.send("api ec")
    wait_until(lambda: sim.connections[0].session.framer.partial)
    sim.fire("HEARTBEAT")
    assert client.quiet()
    client.send("ho 1\n\n")
    assert client.read().body == b"1"
    assert client.event()["Event-Name"] == "HEARTBEAT"


def test_a_connection_that_loses_too_many_events_is_thrown_out() -> None:
    with SwitchSim(queue_bound=10) as sim, Client(sim) as client:
        client.command("event json HEARTBEAT")
        client.send("api msleep 200\n\n")
        wait_until(lambda: sim.api_calls["msleep"])
        for _ in range(10 + 501):
            sim.fire("HEARTBEAT")
        assert client.read().body == b"+OK"
        assert client.read().body == b"killed listener because of lost events\n"


def test_heartbeat() -> None:
    with SwitchSim(heartbeat=0.02) as sim, Client(sim) as client:
        client.command("event json HEARTBEAT")
        first, second = client.event(), client.event()
    assert first["Event-Info"] == "System Ready"
    assert int(second["Uptime-msec"]) > int(first["Uptime-msec"])
