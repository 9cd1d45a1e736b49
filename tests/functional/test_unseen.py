"""Channels that ended or began while nobody listened: one event for each, over a restart of the agent too."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.functional.conftest import Switch
from tests.functional.keeper import Keeper
from tests.functional.parts import Agent, Client, Events, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import until

Start = Callable[..., Agent]
Clients = Callable[..., Client]
LONG = 40.0  # seconds that a loaded machine may take


class Calls:
    """Calls made and ended without the agent."""

    def __init__(self, switch: Any) -> None:
        self._raw = RawEvents(switch.port, switch.password, "event json CHANNEL_CREATE CHANNEL_DESTROY")
        self.up: set[str] = set()

    def _named(self, name: str) -> set[str]:
        return {each["Unique-ID"] for each in list(self._raw.events) if each["Event-Name"] == name}

    def begin(self) -> set[str]:
        """One call; the uuids of its channels, when there are no more to come."""
        before = self._named("CHANNEL_CREATE")
        reply = self._raw.command("api originate loopback/park/default &park()").decode()
        assert reply.startswith("+OK "), reply
        uuid = reply.split()[1]

        def both() -> set[str]:
            new = self._named("CHANNEL_CREATE") - before
            return new if uuid in new and len(new) == self.legs(new) else set()

        channels = until(both, "its channels", LONG)
        self.up |= channels
        return channels

    def legs(self, uuids: set[str]) -> int:
        """How many of these FreeSWITCH has, or all if it does not say yet."""
        alive = [self._raw.command(f"api uuid_exists {uuid}") == b"true" for uuid in uuids]
        return sum(alive) if len(uuids) > 1 else 2

    def end(self, uuids: set[str]) -> None:
        for uuid in uuids:
            self._raw.command(f"api uuid_kill {uuid}")
        self.up -= uuids
        until(lambda: uuids <= self._named("CHANNEL_DESTROY"), "their end", LONG)

    def close(self) -> None:
        self._raw.__exit__()


@pytest.fixture
def calls(switch: Switch) -> Any:
    found = Calls(switch)
    yield found
    found.end(set(found.up))
    found.close()


def told(events: Events, name: str) -> list[str]:
    return sorted(each["uuid"] for each in events.named(f"AGENT_CHANNEL_{name}"))


def settled(events: Events, gone: set[str], found: set[str]) -> None:
    """Wait until these are told, and see that it is these, once."""
    until(lambda: gone <= set(told(events, "GONE")), f"gone: {sorted(gone)}", LONG)
    until(lambda: found <= set(told(events, "FOUND")), f"found: {sorted(found)}", LONG)
    assert (told(events, "GONE"), told(events, "FOUND")) == (sorted(gone), sorted(found))


def status(client: Client, prefix: str) -> Any:
    return client.request("agent.status", None, f"{prefix}.api", _timeout=10)["data"]["channels"]


def test_after_a_lost_link(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, calls: Calls
) -> None:
    """Whatever the filters say: nothing of the calls themselves is published here."""
    with Proxy(switch.port) as event_socket:
        client = connect(nats.url)
        events = client.events("unseen1.events.agent.>")
        start_agent(nats, event_socket, subject_prefix="unseen1", include="none::at_all")
        events.wait("AGENT_CONNECTED", 1, LONG)
        stays, goes = calls.begin(), calls.begin()
        until(lambda: status(client, "unseen1")["tracked"] == len(stays | goes), "tracked", LONG)
        event_socket.refusing = True
        event_socket.cut()
        events.wait("AGENT_DISCONNECTED", 1, LONG)
        calls.end(goes)
        comes = calls.begin()
        event_socket.refusing = False
        events.wait("AGENT_CONNECTED", 2, LONG)
        settled(events, goes, comes)
        found = events.named("AGENT_CHANNEL_FOUND")
        assert all({"direction", "state", "callstate", "dest"} < set(each) for each in found)
        calls.end(stays | comes)
        until(lambda: status(client, "unseen1")["tracked"] == 0, "all ended, and seen", LONG)
        assert status(client, "unseen1") == {"tracked": 0, "gone": len(goes), "found": len(comes)}
        settled(events, goes, comes)


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_over_a_restart_of_the_agent(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, calls: Calls, end: str
) -> None:
    prefix = f"over_{end}"
    client = connect(nats.url)
    events = client.events(f"{prefix}.events.agent.>")
    agent = start_agent(nats, switch, subject_prefix=prefix)
    events.wait("AGENT_CONNECTED", 1, LONG)
    stays, goes = calls.begin(), calls.begin()
    until(lambda: status(client, prefix)["tracked"] == len(stays | goes), "tracked", LONG)
    if end == "stopped":
        assert agent.stop() == 0
    else:
        agent.kill()
    calls.end(goes)
    comes = calls.begin()
    agent.start()
    settled(events, goes, comes)
    connected = events.wait("AGENT_CONNECTED", 2, LONG)[1]
    gaps = until(lambda: [each for each in events.named("AGENT_GAP") if each["reason"] == "unseen"], "a gap", LONG)
    assert [each["count"] for each in gaps] == [connected["events_unseen"]]
    assert (connected["events_unseen"] is None) == (end == "killed")
    calls.end(stays | comes)
    until(lambda: status(client, prefix)["tracked"] == 0, "all ended, and seen", LONG)


def test_after_a_restart_of_freeswitch(
    nats: NatsServer, own_switch: Any, start_agent: Start, connect: Clients
) -> None:
    client = connect(nats.url)
    events = client.events("unseen2.events.agent.>")
    start_agent(nats, own_switch, subject_prefix="unseen2")
    first = events.wait("AGENT_CONNECTED", 1, LONG)[0]
    calls = Calls(own_switch)
    goes = calls.begin() | calls.begin()
    until(lambda: status(client, "unseen2")["tracked"] == len(goes), "tracked", LONG)
    calls.close()
    own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
    events.wait("AGENT_DISCONNECTED", 1, LONG)
    own_switch.start()
    settled(events, goes, set())
    assert {each["headers"]["Core-UUID"] for each in events.named("AGENT_CHANNEL_GONE")} == {
        first["headers"]["Core-UUID"]
    }
    until(lambda: status(client, "unseen2")["tracked"] == 0, "none is left", LONG)


def test_the_first_agent_of_all_finds_what_is_up(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, calls: Calls
) -> None:
    comes = calls.begin()
    events = connect(nats.url).events("unseen3.events.agent.>")
    start_agent(nats, switch, subject_prefix="unseen3")
    settled(events, set(), comes)


def test_a_connection_that_outlived_the_agent_leaves_nothing_unseen(
    nats: NatsServer, switch: Switch, connect: Clients, calls: Calls
) -> None:
    agent = Agent(url=nats.url, esl_port=str(switch.port), subject_prefix="unseen4")
    keeper = Keeper(agent)
    try:
        client = connect(nats.url)
        events = client.events("unseen4.events.>")
        keeper.start()
        events.wait("AGENT_CONNECTED", 1, LONG)
        goes = calls.begin()
        until(lambda: status(client, "unseen4")["tracked"] == len(goes), "tracked", LONG)
        keeper.wait_for("freeswitch-events")
        process = agent.process
        assert process is not None
        process.send_signal(signal.SIGTERM)
        process.wait(10)
        calls.end(goes)
        comes = calls.begin()
        keeper.start()
        until(lambda: set(_uuids(events, "CHANNEL_DESTROY")) >= goes, "their end was seen", LONG)
        until(lambda: set(_uuids(events, "CHANNEL_CREATE")) >= comes, "and the others' beginning", LONG)
        events.wait("AGENT_CONNECTED", 2, LONG)
        time.sleep(3.0)  # time in which something could be said
        settled(events, set(), set())
        assert status(client, "unseen4")["tracked"] == len(comes)
    finally:
        agent.remove()
        keeper.close()


def _uuids(events: Events, name: str) -> list[str]:
    return [each["uuid"] for each in events.named(name)]


def test_who_wants_neither_event_pays_for_neither(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, calls: Calls
) -> None:
    client = connect(nats.url)
    events = client.events("unseen5.events.>")
    agent = start_agent(
        nats, switch, subject_prefix="unseen5", include="none::at_all", exclude="AGENT_CHANNEL_GONE,AGENT_CHANNEL_FOUND"
    )
    events.wait("AGENT_CONNECTED", 1, LONG)
    calls.begin()
    assert status(client, "unseen5") == {"tracked": None, "gone": 0, "found": 0}
    assert agent.stop() == 0 and not (agent.folder / "state" / "channels").exists()


def test_a_damaged_list_of_channels_is_one_line(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, calls: Calls
) -> None:
    events = connect(nats.url).events("unseen6.events.agent.>")
    agent = start_agent(nats, switch, subject_prefix="unseen6")
    events.wait("AGENT_CONNECTED", 1, LONG)
    assert agent.stop() == 0
    (agent.folder / "state" / "channels").write_bytes(b"\xff" * 1000)
    comes = calls.begin()
    agent.start()
    assert len(agent.logged("the list of channels can't be read")) == 1
    settled(events, set(), comes)
