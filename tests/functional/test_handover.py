"""A restart of the agent loses no event: the event connection is kept by the service manager, here by tests/keeper."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from event_agent.freeswitch.handover import NOTES, SOCKET
from tests.functional.keeper import Keeper
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.raw_events import RawEvents
from tests.functional.real_switch import RealSwitch
from tests.support import until

MARK = "handover::mark"


@pytest.fixture
def keeper(nats: NatsServer, switch: Any) -> Iterator[Keeper]:
    agent = Agent(url=nats.url, esl_port=str(switch.port), exclude="API,HEARTBEAT,RE_SCHEDULE")
    keeper = Keeper(agent)
    keeper.start()
    agent.logged("FreeSWITCH events: subscribed")
    agent.logged("NATS connected")
    yield keeper
    agent.remove()
    keeper.close()


@contextmanager
def firing(switch: Any) -> Iterator[list[str]]:
    """Events with a number are fired all the time; the numbers."""
    fired: list[str] = []
    ended = threading.Event()

    def fire() -> None:
        with RawEvents(switch.port, switch.password) as socket:
            while not ended.wait(0.003):
                number = str(len(fired))
                socket.command(f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nNumber: {number}\n\n".encode())
                fired.append(number)

    thread = threading.Thread(target=fire, name="firing")
    thread.start()
    try:
        yield fired
    finally:
        ended.set()
        thread.join()


def numbers(messages: list[Any]) -> list[str]:
    return [json.loads(each.data)["headers"]["Number"] for each in list(messages)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_event_is_missing_after_restarts(
    keeper: Keeper, switch: Any, client: Client, number: signal.Signals
) -> None:
    got = client.gather("freeswitch.events.custom.handover.mark")
    keeper.wait_for(SOCKET)
    with firing(switch) as fired:
        for count in range(1, 4):
            enough = 100 * count
            until(lambda enough=enough: len(fired) > enough, "some events")  # type: ignore[misc]
            keeper.restart(number)
            keeper.agent.logged("taken over from the last process", count)
            # Without a link, events wait in memory, and SIGKILL ends that.
            latest = fired[-1]
            until(lambda latest=latest: latest in numbers(got), "they go out again", 30)  # type: ignore[misc]
    until(lambda: fired[-1] in numbers(got), "the last event")
    came = numbers(got)
    assert sorted(set(fired).difference(came), key=int) == []
    assert sorted(came, key=int) == came, "in order"
    # Killed between an event and the next read, the event comes again; nothing else does.
    assert len(came) - len(fired) <= (3 * 20 if number == signal.SIGKILL else 0)


def test_the_announcement_after_a_restart_says_that_nothing_was_unseen(keeper: Keeper, client: Client) -> None:
    told = client.gather("freeswitch.events.agent.connected")
    keeper.wait_for(SOCKET)
    keeper.restart(signal.SIGTERM)
    keeper.agent.logged("taken over from the last process")
    # That of the first process may still come.
    until(lambda: told and json.loads(told[-1].data)["events_unseen"] == 0, "the announcement of the second")


def test_a_connection_that_died_meanwhile_is_one_line(keeper: Keeper, switch: Any, client: Client) -> None:
    keeper.wait_for(SOCKET)
    process = keeper.agent.process
    assert process is not None
    process.send_signal(signal.SIGTERM)
    process.wait(10)
    keeper.lose(SOCKET)
    got = client.gather("freeswitch.events.custom.handover.mark")
    keeper.start()
    keeper.agent.logged("the event connection of the last process can't be used: FreeSWITCH has closed it; connecting")
    keeper.agent.logged("FreeSWITCH events: subscribed", 2)
    keeper.agent.logged("NATS connected", 2)
    with firing(switch) as fired:
        until(lambda: len(fired) > 20, "some events")
    until(lambda: fired[-1] in numbers(got), "the last event")
    keeper.wait_for(SOCKET)
    assert keeper.stored(SOCKET) == keeper.stored(NOTES) == 1


def test_a_link_that_breaks_leaves_nothing_in_the_store(nats: NatsServer, own_switch: Any) -> None:
    agent = Agent(url=nats.url, esl_port=str(own_switch.port))
    keeper = Keeper(agent)
    keeper.start()
    try:
        keeper.wait_for(SOCKET)
        own_switch.kill() if isinstance(own_switch, RealSwitch) else own_switch.stop()
        until(lambda: not keeper.stored(SOCKET) and not keeper.stored(NOTES), "an empty store")
    finally:
        agent.remove()
        keeper.close()
