"""At least once: events that a stream has acknowledged, whatever happens to it, to the broker and to the agent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.js.api import DiscardPolicy

from tests.functional.delivery_parts import MARK, Broker, Gun, arrived, numbers_of, told
from tests.functional.keeper import Keeper
from tests.functional.metrics import metric
from tests.functional.parts import ROOT, Agent, Client, NatsServer
from tests.functional.proxy import Proxy
from tests.functional.streams import taken
from tests.support import free_port, until

PENDING = "event_agent_delivery_pending"


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    made = Broker(tmp_path / "js")
    yield made
    made.server.stop()


@pytest.fixture
def start(broker: Broker, switch: Any) -> Iterator[Callable[..., Keeper]]:
    started: list[Keeper] = []

    def go(**settings: str) -> Keeper:
        agent = Agent(
            **{"url": broker.url, "esl_port": str(switch.port), "events_delivery": "at_least_once", "include": MARK,
               "reconnect_wait": "0.1"} | settings,
        )  # fmt: skip
        keeper = Keeper(agent)
        started.append(keeper)
        keeper.start()
        agent.logged("FreeSWITCH events: subscribed")
        return keeper

    yield go
    for keeper in started:
        keeper.agent.remove()
        keeper.close()


@pytest.fixture
def gun(switch: Any) -> Iterator[Gun]:
    made = Gun(switch)
    yield made
    made.close()


def test_each_event_is_stored_once_under_a_name_of_its_own(
    broker: Broker, start: Callable[..., Keeper], gun: Gun
) -> None:
    broker.make()
    start(stream="events").agent.logged("events are stored by stream events")
    gun.fire(50)
    assert arrived(broker, 50) == list(range(50))
    for message in broker.messages():
        event = json.loads(message.data)["headers"]
        assert message.headers["Nats-Msg-Id"] == f"{event['Core-UUID']}.{event['Event-Sequence']}"
        assert message.headers["Nats-Expected-Stream"] == "events"


def test_a_broker_that_is_killed_and_frozen_loses_nothing(
    broker: Broker, start: Callable[..., Keeper], gun: Gun
) -> None:
    broker.make()
    start().agent.logged("events are stored by stream events")
    with gun.firing():
        for _ in range(3):
            until(lambda done=gun.fired: gun.fired > done + 100, "some events")  # type: ignore[misc]
            broker.server.kill()
            until(lambda done=gun.fired: gun.fired > done + 100, "some events")  # type: ignore[misc]
            broker.server.start()
        broker.server.signal(signal.SIGSTOP)
        until(lambda done=gun.fired: gun.fired > done + 100, "some events")  # type: ignore[misc]
        broker.server.kill()
        broker.server.start()
    fired = gun.fired
    assert arrived(broker, fired) == list(range(fired))


def test_without_a_stream_events_wait_and_one_line_says_so(
    broker: Broker, start: Callable[..., Keeper], gun: Gun
) -> None:
    keeper = start()
    keeper.agent.logged("events wait: no stream takes freeswitch.events.>; make one with event-agentctl stream create")
    gun.fire(30)
    broker.make()
    assert arrived(broker, 30) == list(range(30))
    broker.delete()
    gun.fire(30)
    keeper.agent.logged("events wait: no stream takes", 2)
    broker.make()
    assert arrived(broker, 30) == list(range(30, 60))
    assert len(keeper.agent.logged("events wait")) == 2


def test_what_is_wrong_with_the_stream_shows_everywhere_until_it_is_mended(
    broker: Broker, start: Callable[..., Keeper], gun: Gun, connect: Callable[..., Client]
) -> None:
    """It does not acknowledge, or takes other subjects: one line each, and nothing is lost."""
    broker.make()
    port = free_port()
    keeper = start(stream="events", http_listen=f"127.0.0.1:{port}")
    agent = keeper.agent
    agent.logged("events are stored by stream events")
    gun.fire(10)
    assert arrived(broker, 10) == list(range(10))
    until(lambda: told(broker, connect, port), "all is well", 20, holds=lambda found: not found)
    faults: list[tuple[dict[str, Any], str]] = [
        ({"no_ack": True}, r"events wait: stream events does not acknowledge \(no_ack\)"),
        ({"subjects": ["freeswitch.events.agent.>"]}, "events wait: .*stream events .*take.* freeswitch.events.>"),
    ]
    for count, (config, said) in enumerate(faults):
        broker.delete()
        broker.make(**config)
        gun.fire(5)
        agent.logged(said, timeout=30)
        until(lambda: told(broker, connect, port), "it shows", 20, holds=lambda found: len(found) == 4)
        assert len(agent.logged("events wait: ")) == count + 1, "one line"
    broker.delete()
    broker.make()
    assert arrived(broker, 10) == list(range(10, 20))
    until(lambda: told(broker, connect, port), "all is well", 20, holds=lambda found: not found)
    assert "events are lost" not in agent.log


def test_another_stream_than_the_one_named_will_not_do(broker: Broker, start: Callable[..., Keeper]) -> None:
    broker.make()
    start(stream="calls").agent.logged("events wait: no stream calls takes freeswitch.events.>")


def test_where_acknowledgements_may_not_be_heard_events_wait_until_they_may(
    switch: Any, gun: Gun, tmp_path: Path, connect: Callable[..., Client]
) -> None:
    """On the same link; and one line says so, however often it is tried."""
    config = f'''jetstream {{ store_dir: "{tmp_path / "js"}" }}
      authorization {{ users = [
        {{ user: agent, password: a, permissions: {{ subscribe: {{ allow: ">", deny: "DENIED" }}, publish: ">" }} }}
        {{ user: client, password: c }} ] }}'''
    server = NatsServer(config=config.replace("DENIED", "_INBOX.>")).start()
    broker = Broker.of(server, f"nats://client:c@127.0.0.1:{server.port}")
    agent = Agent(
        url=f"nats://agent:a@127.0.0.1:{server.port}", esl_port=str(switch.port), events_delivery="at_least_once",
        include=MARK,
    )
    try:
        broker.make()
        agent.start()
        agent.logged("events wait: the NATS server refuses the subscription for acknowledgements, to _INBOX.>")
        gun.fire(20)
        client = connect(broker.url)
        nats_part = client.request("agent.status")["data"]["nats"]
        assert list(nats_part["subscriptions_refused"]) == ["_INBOX.>"]
        assert nats_part["delivery"]["state"] == "no acknowledgements"
        (server.folder / "conf").write_text(config.replace("DENIED", "nothing"))
        server.signal(signal.SIGHUP)
        agent.logged("events are stored by stream events", timeout=30)
        assert arrived(broker, 20) == list(range(20))
        assert len(agent.logged("events wait")) == 1 and len(agent.logged("NATS connected")) == 1
        assert client.request("agent.status")["data"]["nats"]["subscriptions_refused"] == {}
    finally:
        agent.remove()
        server.stop()


def test_a_full_stream_that_refuses_the_new_loses_those_and_counts_them(
    broker: Broker, start: Callable[..., Keeper], gun: Gun, connect: Callable[..., Client]
) -> None:
    broker.make(max_msgs=20, discard=DiscardPolicy.NEW)
    keeper = start()
    keeper.agent.logged("events are stored by stream events")
    client = connect(broker.url)
    gun.fire(50)  # and the agent has announced itself
    keeper.agent.logged("events are lost: ")

    def delivery() -> Any:
        return client.request("agent.status")["data"]["nats"]["delivery"]

    until(lambda: sum(delivery()["lost"].values()) == 31 and not delivery()["pending"], "all but 20 are counted")
    broker.run(lambda js: js.purge_stream("events"))
    gun.fire(10)
    assert arrived(broker, 10)[-1] == 59


def test_what_memory_does_not_hold_waits_on_disk_in_order(
    broker: Broker, start: Callable[..., Keeper], gun: Gun
) -> None:
    broker.make()
    keeper = start(event_buffer_size="65536")
    keeper.agent.logged("events are stored by stream events")
    spool = keeper.agent.folder / "state" / "spool"
    broker.server.kill()
    gun.fire(300, 500)
    until(lambda: sum(path.stat().st_size for path in spool.glob("*.spool")) > 100_000, "events on disk")
    broker.server.start()
    assert arrived(broker, 300) == list(range(300))
    until(lambda: sum(path.stat().st_size for path in spool.glob("*.spool")) < 1_100_000, "a spool that shrinks")


def test_a_stop_while_the_broker_is_away_keeps_what_waits_for_the_next_start(
    broker: Broker, start: Callable[..., Keeper], gun: Gun
) -> None:
    broker.make()
    port = free_port()
    keeper = start(http_listen=f"127.0.0.1:{port}")
    keeper.agent.logged("events are stored by stream events")
    broker.server.kill()
    gun.fire(40)
    until(lambda: metric(port, PENDING) >= 20, "some are read")  # what is not read waits with FreeSWITCH
    keeper.restart(signal.SIGTERM)
    keeper.agent.logged(r"(\d+) events are not acknowledged: \1 are kept on disk")
    keeper.agent.logged(r"spool: \d+ events wait on disk")
    gun.fire(10)
    broker.server.start()
    assert arrived(broker, 50) == list(range(50))


@pytest.mark.parametrize("mode", ["overflow", "always"])
def test_restarts_lose_nothing(broker: Broker, start: Callable[..., Keeper], gun: Gun, mode: str) -> None:
    broker.make()
    keeper = start(spool_mode=mode)
    keeper.agent.logged("events are stored by stream events")
    keeper.wait_for("freeswitch-events")
    killed = [signal.SIGKILL] if mode == "always" else []
    numbers = [*killed, signal.SIGTERM, *killed]
    with gun.firing():
        for count, number in enumerate(numbers, 2):
            until(lambda done=gun.fired: gun.fired > done + 100, "some events")  # type: ignore[misc]
            keeper.restart(number)
            keeper.agent.logged("events are stored by stream events", count)
    fired = gun.fired
    assert arrived(broker, fired) == list(range(fired))


def test_a_spool_that_cant_be_used_is_one_line(broker: Broker, start: Callable[..., Keeper], gun: Gun) -> None:
    broker.make()
    folder = Path(os.devnull)
    keeper = start(spool_dir=str(folder / "spool"))
    assert len(keeper.agent.logged("no spool: /dev/null")) == 1
    gun.fire(5)
    assert arrived(broker, 5) == list(range(5))


def test_a_spool_that_is_mended_is_used(
    broker: Broker, start: Callable[..., Keeper], gun: Gun, tmp_path: Path, connect: Callable[..., Client]
) -> None:
    """It could not be made at the start, and later its disk fails: one line each, and it is used again by itself."""
    broker.make()
    place, port = tmp_path / "disk", free_port()
    place.write_text("no folder")
    keeper = start(
        spool_dir=str(place / "spool"), event_buffer_size="65536", spool_max_bytes="2000000",
        http_listen=f"127.0.0.1:{port}",
    )  # fmt: skip
    agent = keeper.agent
    agent.logged("no spool: .*Not a directory; events are lost when memory is full; retrying")
    until(lambda: told(broker, connect, port), "it shows", 40, holds=lambda found: len(found) == 4)
    place.unlink()
    agent.logged("spool: the disk takes events again", timeout=30)
    until(lambda: told(broker, connect, port), "all is well", 40, holds=lambda found: not found)
    broker.server.kill()
    gun.fire(300, 500)
    until(lambda: sum(path.stat().st_size for path in place.glob("spool/*.spool")) > 100_000, "events on disk")
    place.rename(tmp_path / "away")
    place.write_text("no folder")
    gun.fire(300, 500)
    agent.logged(r"spool: .*; events are kept in memory until it is full")
    place.unlink()
    (tmp_path / "away").rename(place)
    agent.logged("spool: the disk takes events again", 2, timeout=30)
    gun.fire(20)
    broker.server.start()
    until(lambda: 619 in numbers_of(broker), "the last one", 60)
    numbers = numbers_of(broker)
    client = connect(broker.url)

    def lost() -> int:
        return sum(client.request("agent.status", _timeout=20)["data"]["losses"]["events"].values())

    until(lost, "what there was no room for is counted", 20, holds=lambda count: count + len(numbers) >= 620)
    assert numbers == sorted(set(numbers)) and numbers[:300] == list(range(300)) and numbers[-20:] == [*range(600, 620)]
    assert len(agent.logged("events are kept in memory until it is full")) == 1
    assert len(agent.logged("no spool: ")) == 1


def test_check_looks_for_a_stream_and_at_the_spool(broker: Broker, tmp_path: Path) -> None:
    """event-agent --check, with --connect at the NATS server too. It changes nothing."""
    (tmp_path / "file").write_text("")
    agent = Agent(url=broker.url, events_delivery="at_least_once", spool_dir=str(tmp_path / "file"))

    def warnings(*more: str) -> list[str]:
        command = [sys.executable, str(ROOT / "event_agent.py"), "-c", str(agent.config), "--check", *more]
        done = subprocess.run(command, env=agent.environ, capture_output=True, text=True, timeout=60)
        assert "spool_dir = " in done.stdout
        return [line.removeprefix("event-agent: warning: ") for line in done.stderr.splitlines()]

    try:
        wrong = f"no spool: {tmp_path / 'file'} is no folder"
        assert warnings() == [wrong]
        assert warnings("--connect") == [wrong, "events wait: no stream takes freeswitch.events.>"]
        broker.make()
        (tmp_path / "file").unlink()
        assert warnings("--connect") == [] and not (tmp_path / "file").exists()
        broker.server.kill()
        assert warnings("--connect") == ["no stream was looked for, as NATS can't be reached: Connection refused"]
    finally:
        agent.remove()


def test_a_lame_duck_is_left_without_a_lost_event(
    switch: Any, gun: Gun, tmp_path: Path, connect: Callable[..., Client]
) -> None:
    """The server of the link shuts down in its own time; the one with the stream stays. Stored once, in order."""
    port = free_port()
    jetstream = f'jetstream {{ store_dir: "{tmp_path / "js"}", domain: hub }}\n'
    hub = NatsServer(config=jetstream + f'leafnodes {{ host: "127.0.0.1", port: {port} }}\n').start()
    near = NatsServer(
        config=f'leafnodes {{ remotes: [ {{ url: "nats://127.0.0.1:{port}" }} ] }}\n'
        'default_js_domain: {"$G": "hub"}\n'
        "lame_duck_duration: 30s\nlame_duck_grace_period: 1s\n"
    ).start()
    broker = Broker.of(hub, hub.url)
    agent = Agent(
        url=f"{near.url},{hub.url}", esl_port=str(switch.port), events_delivery="at_least_once", include=MARK,
        reconnect_wait="0.1",
    )
    try:
        broker.make()
        until(lambda: "Leafnode connection created" in near.log, "the two servers are linked", 30)
        agent.start()
        agent.logged("events are stored by stream events")
        with gun.firing():
            until(lambda: gun.fired > 100, "some events")
            near.signal(signal.SIGUSR2)
            agent.logged("NATS connected", 2, 30)
            until(lambda done=gun.fired: gun.fired > done + 100, "some events")  # type: ignore[misc]
        fired = gun.fired
        assert arrived(broker, fired) == list(range(fired))
        data = connect(hub.url).request("agent.status", _timeout=20)["data"]
        assert data["nats"]["reconnects"] == 0 and not any(data["losses"]["events"].values())
    finally:
        agent.remove()
        near.stop()
        hub.stop()


def test_garbage_in_the_spool_is_one_line_and_nothing_else_is_lost(
    broker: Broker, start: Callable[..., Keeper], gun: Gun
) -> None:
    broker.make()
    port = free_port()
    keeper = start(http_listen=f"127.0.0.1:{port}")
    broker.server.kill()
    gun.fire(20)
    until(lambda: metric(port, PENDING) >= 20, "they are read")
    assert keeper.agent.stop() == 0
    spool = keeper.agent.folder / "state" / "spool"
    (spool / "notes.txt").write_text("mine")
    (segment,) = (spool / "front").glob("*.spool")
    with open(segment, "ab") as file:
        file.write(b"half a record")
    keeper.start()
    keeper.agent.logged("spool: .* holds files that are not ours: notes.txt")
    keeper.agent.logged("spool: 13 bytes of an incomplete record at its end were cut off")
    broker.server.start()
    assert arrived(broker, 20) == list(range(20))


def test_acknowledgements_that_are_garbage_or_come_twice_change_nothing(
    broker: Broker, start: Callable[..., Keeper], gun: Gun
) -> None:
    broker.make()
    start().agent.logged("events are stored by stream events")
    there, ended = threading.Event(), threading.Event()
    disturbed: list[str] = []

    async def disturb() -> None:
        client = await nats.connect(broker.url)

        async def answer(message: Any) -> None:
            disturbed.append(message.reply)
            for data in (b"garbage", b"{}", b'{"stream":"events","seq":1}', b'{"error":{"code":1}}'):
                await client.publish(message.reply, data)

        await client.subscribe("freeswitch.events.>", cb=answer)
        await taken(client)
        there.set()
        while not ended.is_set():
            await asyncio.sleep(0.05)
        await client.close()

    thread = threading.Thread(target=lambda: asyncio.run(disturb()), name="disturber")
    thread.start()
    try:
        assert there.wait(10), "it listens"
        gun.fire(100)
        assert arrived(broker, 100) == list(range(100))
        until(lambda: len(disturbed) >= 100, "each was answered with garbage")
        assert all(disturbed)
    finally:
        ended.set()
        thread.join()


def test_a_link_that_is_half_open_is_left_for_another_server(
    broker: Broker, start: Callable[..., Keeper], gun: Gun, connect: Callable[..., Client]
) -> None:
    """What is sent is taken, and nothing comes back."""
    broker.make()
    with Proxy(broker.server.port) as proxy:
        keeper = start(url=f"{proxy.url},{broker.url}", ping_timeout="2", ping_interval="60")
        keeper.agent.logged("events are stored by stream events")
        client = connect(broker.url)
        assert client.request("version", subject="freeswitch.any")["success"] is True
        with gun.firing():
            until(lambda: gun.fired > 100, "some events")
            proxy.stall()
            keeper.agent.logged(r"NATS lost: the server did not answer a PING within 2 s \(ping_timeout\)", timeout=30)
            keeper.agent.logged("NATS connected", 2, timeout=30)
            until(lambda done=gun.fired: gun.fired > done + 100, "some events")  # type: ignore[misc]
        fired = gun.fired
        assert arrived(broker, fired) == list(range(fired))
        assert client.request("version", subject="freeswitch.api")["success"] is True
        proxy.stall(False)


ROOM = 'jetstream {{ store_dir: "{}", max_file_store: {} }}\n'


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Broker]:
    """A server with little room; it outlives the agent."""
    server = NatsServer(config=ROOM.format(tmp_path / "small", "100K")).start()
    yield Broker.of(server, server.url)
    server.stop()


def test_a_server_without_room_is_one_line_until_it_has_some(
    small: Broker, start: Callable[..., Keeper], gun: Gun, connect: Callable[..., Client], tmp_path: Path
) -> None:
    """However often it is tried meanwhile."""
    small.make()
    agent = start(url=small.url).agent
    agent.logged("events are stored by stream events")
    client = connect(small.url)

    def delivery() -> Any:
        return client.request("agent.status", _timeout=20)["data"]["nats"]["delivery"]

    gun.fire(200, 1000)
    agent.logged("events wait: the stream is not storing them: insufficient resources")
    until(delivery, "it is tried again", 30, holds=lambda found: found["sent_again"] > found["pending"] > 0)
    assert len(agent.logged("events wait")) == len(agent.logged("events are stored")) == 1
    assert "insufficient resources" in delivery()["fault"]
    small.server.kill()
    small.server.config = ROOM.format(tmp_path / "small", "100M")
    small.server.start()
    assert arrived(small, 200) == list(range(200))
    until(delivery, "all is well", 30, holds=lambda found: not found["fault"] and not found["pending"])
