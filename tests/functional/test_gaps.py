"""Whatever was lost is announced, whatever its cause; and the counts agree wherever they stand."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import ConsumerConfig, DiscardPolicy, StorageType, StreamConfig

from tests.functional.conftest import Switch
from tests.functional.keeper import Keeper
from tests.functional.link_parts import AnySwitch
from tests.functional.metrics import metric, taken
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until

Start = Callable[..., Agent]
Clients = Callable[..., Client]

MARK = "gaps::n"
LONG = 30.0  # seconds that a loaded machine may take


@pytest.fixture
def raw(switch: Switch) -> Iterator[RawEvents]:
    with RawEvents(switch.port, switch.password) as found:
        yield found


def fire(raw: RawEvents, count: int, size: int = 0, batch: str = "") -> None:
    for number in range(count):
        raw.command(
            f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nX-N: {number}\nX-Batch: {batch}\nFill: {'x' * size}\n"
        )


def status(client: Client) -> dict[str, Any]:
    data: dict[str, Any] = client.request("agent.status", _timeout=10)["data"]
    return data


def counted(client: Client, reason: str) -> int:
    return int(status(client)["losses"]["events"].get(reason, 0))


def gaps(events: Any, reason: str) -> list[dict[str, Any]]:
    """Announcements of a reason, those that were repeated once."""
    found = {json.dumps(each): each for each in events.named("AGENT_GAP") if each["reason"] == reason}
    return list(found.values())


def announced(events: Any, reason: str, count: int) -> list[dict[str, Any]]:
    """Wait until the announcements of a reason speak of so many events."""
    until(lambda: sum(each["count"] for each in gaps(events, reason)) >= count, f"{count} {reason}", LONG)
    return gaps(events, reason)


def test_what_a_full_buffer_does_not_take(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    port = free_port()
    agent = start_agent(
        own_nats, switch, reconnect_wait="0.2", reconnect_buf_size="20000", include=MARK,
        http_listen=f"127.0.0.1:{port}",
    )  # fmt: skip
    own_nats.kill()
    agent.logged("NATS lost")
    fire(raw, 200)
    agent.logged("buffer for NATS is full")
    own_nats.start()
    client = connect(own_nats.url)
    events = client.events()
    agent.logged("NATS connected", 2)
    dropped = status(client)["events_dropped"]
    assert 100 < dropped <= 200
    found = announced(events, "buffer full", dropped)
    assert sum(each["count"] for each in found) == dropped == counted(client, "buffer full")
    until(lambda: metric(port, "event_agent_gaps_total", reason="buffer full") == len(found), "in /metrics", LONG)
    assert metric(port, "event_agent_events_lost_total", reason="buffer full") == dropped
    first, last = found[0], found[-1]
    assert 0 < first["from"] <= last["to"] and first["from_sequence"] < last["to_sequence"]
    assert last["to_sequence"] - first["from_sequence"] + 1 >= dropped
    assert len(first["headers"]["Core-UUID"]) == 36 and len(agent.logged("a gap in the events: .*, buffer full")) >= 1


def test_what_was_on_its_way_when_the_link_broke(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    with Proxy(own_nats.port) as proxy:
        agent = start_agent(own_nats, switch, url=proxy.url, reconnect_wait="0.2", include=MARK)
        client = connect(own_nats.url)
        events = client.events()
        fire(raw, 10)
        events.wait("CUSTOM", 10, LONG)
        proxy.stall()
        fire(raw, 30)
        proxy.drop()
        agent.logged("NATS connected", 2, LONG)
        data = until(lambda: (found := status(client))["nats"]["messages_unconfirmed"] and found, "counted", LONG)
        lost = data["losses"]["events"]["unconfirmed"]
        assert 0 < lost <= 42 and lost <= data["nats"]["messages_unconfirmed"]
        found = announced(events, "unconfirmed", lost)
        assert sum(each["count"] for each in found) == lost
        came = {each["headers"]["Event-Sequence"] for each in events.named("CUSTOM")}
        assert len(came) + lost >= 40
        assert 0 < found[0]["from"] <= found[0]["to"]
        if found[0]["from_sequence"] is not None:  # it is where an event of the agent's own is among them
            assert found[0]["from_sequence"] <= found[0]["to_sequence"]


def test_what_a_frozen_server_publishes_late_was_announced(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    """It had taken them before it froze; the agent goes on with another one meanwhile."""
    with Proxy(own_nats.port) as proxy:
        urls = f"{proxy.url},{own_nats.url}"
        agent = start_agent(
            own_nats, switch, url=urls, include=MARK, ping_timeout="2", ping_interval="60", reconnect_wait="0.2"
        )
        events = connect(own_nats.url).events()
        fire(raw, 10)
        events.wait("CUSTOM", 10, LONG)
        proxy.stall()
        fire(raw, 30)
        agent.logged("NATS connected", 2, LONG)
        fire(raw, 10, batch="last")
        events.wait("CUSTOM", 10, LONG, X_Batch="last")  # and so all that waited in the agent when the link broke
        before = {each["headers"]["Event-Sequence"] for each in events.named("CUSTOM")}
        (gap,) = until(lambda: gaps(events, "unconfirmed"), "announced", LONG)
        # What the server says meets a connection that is gone: that would take with it what stands in it, unread.
        proxy.garble = lambda _: b""
        proxy.stall(False)
        came = events.wait("CUSTOM", 50, LONG)
        assert len({each["headers"]["Event-Sequence"] for each in came}) == len(came) == 50
        behind = [each for each in came if each["headers"]["Event-Sequence"] not in before]
        assert 0 < len(behind) <= gap["count"]
        for each in behind:  # the real FreeSWITCH does not send them in their order
            assert gap["from"] <= int(each["headers"]["Event-Date-Timestamp"]) <= gap["to"]
            if gap["from_sequence"] is not None:  # it is where an event of the agent's own is at one end
                assert gap["from_sequence"] <= int(each["headers"]["Event-Sequence"]) <= gap["to_sequence"]


def test_what_freeswitch_fired_while_nobody_listened(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    """The count is that of AGENT_CONNECTED, and the numbers are those around the hole."""
    with Proxy(switch.port) as event_socket:
        client = connect(nats.url)
        events = client.events("unseen.events.>")
        agent = start_agent(nats, event_socket, subject_prefix="unseen", include=MARK)
        events.wait("AGENT_CONNECTED", 1, LONG)
        fire(raw, 1)
        events.wait("CUSTOM", 1, LONG)
        event_socket.refusing = True
        event_socket.cut()
        events.wait("AGENT_DISCONNECTED", 1, LONG)
        fire(raw, 7)
        event_socket.refusing = False
        back = events.wait("AGENT_CONNECTED", 2, LONG)[1]
        (gap,) = events.wait("AGENT_GAP", 1, LONG)
        assert gap["reason"] == "unseen" and gap["count"] == back["events_unseen"] >= 7
        assert gap["from_sequence"] + gap["count"] < gap["to_sequence"] and gap["from"] < gap["to"]
        assert gap["headers"] == back["headers"]
        assert agent.stop() == 0


def test_nothing_is_missed_of_a_switch_that_was_frozen(
    own_nats: NatsServer, own_switch: AnySwitch, start_agent: Start, connect: Clients
) -> None:
    """What it fires as it goes on comes first, whether a new connection would be there by then or not."""
    with RawEvents(own_switch.port, own_switch.password) as raw:
        client = connect(own_nats.url)
        events = client.events()
        agent = start_agent(own_nats, own_switch)
        events.wait("AGENT_CONNECTED", 1, LONG)
        for round_ in (1, 2):
            own_switch.freeze()
            try:
                events.wait("AGENT_DISCONNECTED", round_, 60)
                until(lambda: not status(client)["freeswitch"]["events"], "the event connection is down too", 60)
                for number in range(200):
                    raw.send(f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nX-N: {number}\n")
            finally:
                own_switch.thaw()
            agent.logged("FreeSWITCH events: subscribed", 1 + round_, timeout=60)
            events.wait("AGENT_CONNECTED", 1 + round_, LONG)
            came(events, 200 * round_)
        assert sorted(ours(events)) == sorted([*range(200)] * 2)
        assert [each["events_unseen"] for each in events.named("AGENT_CONNECTED")] == [None, 0, 0]
        assert gaps(events, "unseen") == [] and status(client)["losses"]["events"] == {}


def ours(events: Any) -> list[int]:
    """The numbers of the events that `fire` and its like had fired."""
    return [int(each["headers"]["X-N"]) for each in events.named("CUSTOM", Event_Subclass=MARK)]


def came(events: Any, count: int) -> None:
    until(lambda: len(ours(events)) >= count, lambda: f"{count} of them; {len(ours(events))} came", LONG)


def test_another_freeswitch(
    nats: NatsServer, own_switch: Any, start_agent: Start, connect: Clients
) -> None:
    client = connect(nats.url)
    events = client.events("other.events.>")
    start_agent(nats, own_switch, subject_prefix="other")
    events.wait("AGENT_CONNECTED", 1, LONG)
    with RawEvents(own_switch.port, own_switch.password) as raw:
        fire(raw, 1)
    events.wait("CUSTOM", 1, LONG)
    own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
    events.wait("AGENT_DISCONNECTED", 1, LONG)
    own_switch.start()
    back = events.wait("AGENT_CONNECTED", 2, 60.0)[1]
    (gap,) = events.wait("AGENT_GAP", 1, LONG)
    assert gap["reason"] == "FreeSWITCH restarted" and gap["count"] is None and back["events_unseen"] is None
    assert gap["from"] < gap["to"] and gap["from_sequence"] is None


def test_what_had_not_left_when_the_agent_ended_is_announced_by_the_next(
    own_nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    port = free_port()
    agent = start_agent(own_nats, switch, reconnect_wait="0.2", include=MARK, http_listen=f"127.0.0.1:{port}")
    own_nats.kill()
    agent.logged("NATS lost")
    before = taken(port)
    fire(raw, 25)
    until(lambda: taken(port) >= before + 25, "the agent has them")
    assert agent.stop() == 0
    own_nats.start()
    client = connect(own_nats.url)
    events = client.events()
    agent.start()
    (gap, *_) = announced(events, "stopped", 25)
    assert gap["count"] in (25, 26), "AGENT_DISCONNECTED is not one of them"
    if gap["from_sequence"]:  # else one of the agent's own events was among them
        assert gap["to_sequence"] - gap["from_sequence"] >= 24
    assert gaps(events, "killed") == []


def test_a_killed_agent_may_have_lost_what_it_had_in_memory(
    nats: NatsServer, switch: Switch, start_agent: Start, connect: Clients
) -> None:
    events = connect(nats.url).events("killed.events.>")
    agent = start_agent(nats, switch, subject_prefix="killed", include=MARK)
    agent.kill()
    agent.start()
    (gap,) = events.wait("AGENT_GAP", 1, LONG)
    assert gap["reason"] == "killed" and gap["count"] is None and gap["from"] <= gap["to"]


def test_what_nats_does_not_let_us_publish(
    switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    config = """authorization { users = [
        {user: agent, password: agent, permissions: {subscribe: ">", publish: {deny: "freeswitch.events.custom.>"}}},
        {user: all, password: all} ] }\n"""
    server = NatsServer(config=config).start()
    try:
        start_agent(server, switch, url=f"nats://agent:agent@127.0.0.1:{server.port}", include=MARK)
        client = connect(server.url, user="all", password="all")
        events = client.events()
        fire(raw, 20)
        found = announced(events, "refused by the server", 20)
        assert sum(each["count"] for each in found) == counted(client, "refused by the server") == 20
        fire(raw, 1)
        found = announced(events, "refused by the server", 21)
        until(lambda: status(client)["losses"]["announced"] == len(found), "all are announced", LONG)
    finally:
        server.stop()


# -- at least once


class Stream:
    """A nats-server with JetStream; the agent's own events in its stream."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(config=f'jetstream {{ store_dir: "{folder}" }}\n').start()

    def run(self, work: Callable[[Any], Any]) -> Any:
        async def go() -> Any:
            client = await nats.connect(self.server.url)
            try:
                return await work(client.jetstream(timeout=10))
            finally:
                await client.close()

        return asyncio.run(go())

    def make(self, **more: Any) -> None:
        config = StreamConfig(name="events", subjects=["freeswitch.events.>"], storage=StorageType.FILE, **more)
        self.run(lambda js: js.add_stream(config))

    def gaps(self) -> list[dict[str, Any]]:
        subject = "freeswitch.events.agent.gap"

        async def read(js: Any) -> list[Any]:
            found: list[Any] = []
            count = ((await js.stream_info("events", subjects_filter=subject)).state.subjects or {}).get(subject, 0)
            sub = await js.pull_subscribe(subject, stream="events", config=ConsumerConfig(max_ack_pending=-1))
            while len(found) < count:
                found += await sub.fetch(count - len(found), timeout=10)
            return [json.loads(each.data) for each in found]

        return self.run(read)  # type: ignore[no-any-return]

    def wait_for(self, reason: str, count: int | None) -> list[dict[str, Any]]:
        """Until so many events of a reason are announced in the stream; None: any number, unknown."""

        def enough() -> list[dict[str, Any]]:
            found = [each for each in self.gaps() if each["reason"] == reason]
            if count is None:
                return [each for each in found if each["count"] is None]
            return found if sum(each["count"] for each in found) >= count else []

        return until(enough, f"{count} {reason} in the stream", 60.0)


@pytest.fixture
def stream(tmp_path: Path) -> Iterator[Stream]:
    made = Stream(tmp_path / "js")
    yield made
    made.server.stop()


# Without a heartbeat: one that found no room would be counted beside the events of FreeSWITCH.
STORED: dict[str, Any] = {
    "events_delivery": "at_least_once", "include": MARK, "reconnect_wait": "0.1", "heartbeat": "0",
}  # fmt: skip


def test_a_spool_that_is_full_and_a_stream_that_stores_the_announcement(
    stream: Stream, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    """Those that did not fit, and only those, are missing; who reads the stream later learns of it there."""
    stream.make()
    agent = start_agent(
        stream.server, switch, **STORED, event_buffer_size="65536", spool_max_bytes="1048576"
    )
    agent.logged("events are stored by stream events")
    stream.server.kill()
    agent.logged("NATS lost")
    fire(raw, 700, 3000)
    stream.server.start()
    agent.logged("events are stored by stream events", 2, LONG)
    client = connect(stream.server.url)

    def all_read() -> dict[str, Any] | None:
        data = status(client)
        return data if data["events_published"] + data["events_dropped"] >= 700 else None

    lost = (until(all_read, "the agent has read all events", LONG) or {})["events_dropped"]
    assert 200 < lost < 600 and lost == counted(client, "spool full")
    found = stream.wait_for("spool full", lost)
    assert sum(each["count"] for each in found) == lost == status(client)["nats"]["delivery"]["lost"]["spool full"]
    assert found[-1]["to_sequence"] - found[0]["from_sequence"] + 1 >= lost


def test_what_the_stream_will_never_store(
    stream: Stream, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    stream.make(max_msg_size=4000)
    agent = start_agent(stream.server, switch, **STORED)
    agent.logged("events are stored by stream events")
    client = connect(stream.server.url)
    fire(raw, 5, 5000)
    fire(raw, 5)
    (gap, *more) = stream.wait_for("refused by the stream", 5)
    assert gap["count"] + sum(each["count"] for each in more) == counted(client, "refused by the stream") == 5
    assert gap["from_sequence"] <= gap["to_sequence"] and gap["from"] <= gap["to"]


def test_an_announcement_waits_for_a_stream_that_refuses_it_with_the_rest(
    stream: Stream, switch: Switch, start_agent: Start, connect: Clients, raw: RawEvents
) -> None:
    """Full, discard new: nothing is stored, nor is the announcement, which is made until it is."""
    stream.make(max_msgs=20, discard=DiscardPolicy.NEW)
    agent = start_agent(stream.server, switch, **STORED)
    agent.logged("events are stored by stream events")
    client = connect(stream.server.url)
    fire(raw, 50)
    until(lambda: counted(client, "refused by the stream") == 31, "those that found no room are counted", LONG)
    until(lambda: status(client)["losses"]["announced"] >= 2, "announced, refused, announced", LONG)
    assert stream.gaps() == []
    stream.run(lambda js: js.purge_stream("events"))
    found = stream.wait_for("refused by the stream", 31)
    assert sum(each["count"] for each in found) == counted(client, "refused by the stream") == 31


def test_a_spool_that_was_damaged(stream: Stream, switch: Switch, start_agent: Start, raw: RawEvents) -> None:
    stream.make()
    port = free_port()
    agent = start_agent(stream.server, switch, http_listen=f"127.0.0.1:{port}", **STORED)
    agent.logged("events are stored by stream events")
    stream.server.kill()
    agent.logged("NATS lost")
    before = taken(port)
    fire(raw, 20)
    until(lambda: taken(port) >= before + 20, "the agent has them")
    assert agent.stop() == 0
    (segment,) = (agent.folder / "state" / "spool" / "front").glob("*.spool")
    with open(segment, "ab") as file:
        file.write(b"half a record")
    agent.start(ready=False)
    agent.logged("an incomplete record at its end were cut off")
    stream.server.start()
    (gap,) = stream.wait_for("spool damaged", None)
    assert gap["from"] <= gap["to"]


@pytest.mark.parametrize("mode", ["overflow", "always"])
def test_a_killed_agent_says_so_unless_all_was_on_disk(
    stream: Stream, switch: Switch, raw: RawEvents, mode: str, connect: Clients
) -> None:
    stream.make()
    agent = Agent(url=stream.server.url, esl_port=str(switch.port), spool_mode=mode, **STORED)
    keeper = Keeper(agent)
    try:
        keeper.start()
        agent.logged("events are stored by stream events")
        keeper.wait_for("freeswitch-events")
        fire(raw, 10)
        keeper.restart(signal.SIGKILL)
        agent.logged("events are stored by stream events", 2)
        if mode == "overflow":
            assert stream.wait_for("killed", None)
        else:
            client = connect(stream.server.url)
            fire(raw, 1)
            until(lambda: status(client)["nats"]["delivery"]["acknowledged"] >= 1, "at work again", LONG)
            losses = status(client)["losses"]
            assert losses == {"announced": 0, "waiting": 0, "events": {}, "last": None} and stream.gaps() == []
    finally:
        agent.remove()
        keeper.close()
