"""The example driver of docs/DRIVERS.md in the place of NATS: the whole daemon over it, and the contract of base.py."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from event_agent import drivers
from event_agent.app import Daemon
from event_agent.config.table import Settings
from event_agent.drivers import make_driver
from event_agent.drivers.base import MAX_SUBSCRIPTIONS, Driver, EventSink, Message, Observer, Replies, RequestSource
from event_agent.errors import AgentError
from event_agent.protocol.events import Published
from event_agent.runtime.link import LinkState, LinkStatus
from event_agent.runtime.loop import Loop
from tests.support import until
from tests.switchsim import SwitchSim

example = pytest.importorskip("examples.driver_lines", reason="not a checkout")
T = TypeVar("T")


class Hub:
    """The broker of the example: hands every PUB to all that have subscribed to its subject."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[tuple[str, bytes]] = []  # (subject, payload) of every PUB
        self._peers: dict[socket.socket, set[str]] = {}
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None

    def start(self) -> Hub:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listener.getsockname()[1]
        self._spawn(self._accept, self._listener)
        return self

    def stop(self) -> None:
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
        for peer in list(self._peers):
            with suppress(OSError):  # it has gone by itself
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def subjects(self) -> set[str]:
        with self._lock:
            return set().union(*self._peers.values())

    def publish(self, subject: str, reply: str, payload: bytes) -> None:
        with self._lock:
            for peer, subjects in self._peers.items():
                if subject in subjects:
                    peer.sendall(f"MSG {subject} {reply} ".encode() + payload + b"\n")

    def request(self, payload: dict[str, Any], subject: str = "freeswitch.api") -> Any:
        before = len(self.on("answers"))
        self.publish(subject, "answers", json.dumps(payload).encode())
        return json.loads(until(lambda: self.on("answers")[before:], f"a reply to {payload}")[0])

    def on(self, subject: str) -> list[bytes]:
        return [payload for name, payload in list(self.seen) if name == subject]

    def _spawn(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name="test-hub", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with self._lock:
                self._peers[peer] = set()
            self._spawn(self._serve, peer)

    def _serve(self, peer: socket.socket) -> None:
        with peer, peer.makefile("rb") as stream:
            for line in stream:
                verb, subject, *rest = line.rstrip(b"\n").split(b" ", 3)
                with self._lock:
                    match verb:
                        case b"SUB":
                            self._peers[peer].add(subject.decode())
                        case b"UNSUB":
                            self._peers[peer].discard(subject.decode())
                            peer.sendall(b"DONE " + subject + b"\n")
                        case b"PUB":
                            self.seen.append((subject.decode(), rest[1]))
        with self._lock:
            del self._peers[peer]


@pytest.fixture
def hub() -> Iterator[Hub]:
    found = Hub().start()
    yield found
    found.stop()


@pytest.fixture
def settings(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setitem(drivers.DRIVERS, "lines", example.line_driver)
    return Settings(
        driver="lines", url=(f"nats://127.0.0.1:{hub.port}",), reconnect_wait=0.01, reconnect_buf_size=4096,
        http_listen=None, state_dir="", node_id="fs-node-01",
    )  # fmt: skip


class Heard(Observer):
    """What the driver said."""

    def __init__(self) -> None:
        self.states: list[LinkStatus] = []
        self.settled_to: list[tuple[int, int]] = []

    def link_changed(self, status: LinkStatus) -> None:
        self.states.append(status)

    def settled(self, number: int, lost: int) -> None:
        self.settled_to.append((number, lost))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture
def driver(settings: Settings, heard: Heard) -> Iterator[Driver]:
    found = make_driver(settings, Loop(), heard)
    yield found
    found.stop(1.0)


def publish(driver: Driver, subject: str, *payloads: bytes) -> int:
    return driver.events.offer([Published("", subject.encode(), payload) for payload in payloads])


def test_the_whole_daemon_runs_over_it(hub: Hub, settings: Settings) -> None:
    with SwitchSim() as switch:
        daemon = Daemon(replace(settings, esl_port=switch.port, reconnect_buf_size=1 << 20))
        daemon.start()
        try:
            lanes = {f"freeswitch.{lane}" for lane in ("api", "any", "node.fs_node_01", "api.fs_node_01")}
            until(lambda: hub.subjects() == lanes, "it has subscribed")
            assert hub.request({"command": "echo", "args": "hi"})["data"] == "hi"
            assert hub.request({"command": ""})["message"] == "Missing 'command' string"
            status = hub.request({"command": "agent.status"}, "freeswitch.node.fs_node_01")
            assert status["driver"] == "lines" and status["connected"] is True
            link = {"state", "reason", "since"}
            assert set(status["data"]["lines"]) == {"messages_sent", "messages_dropped", "buffered_bytes", *link}
            until(lambda: daemon.switch.events.connected, "events flow")
            call = {"command": "originate", "endpoint": "loopback/park/default", "destination": "&park"}
            assert hub.request(call)["success"] is True
            (event, *_) = until(lambda: hub.on("freeswitch.events.channel.answer"), "its event")
            assert json.loads(event)["event_name"] == "CHANNEL_ANSWER"
        finally:
            daemon.stop()
    assert not [thread.name for thread in threading.enumerate() if thread.name == "lines-link"]


def test_it_comes_back_with_subscriptions_and_what_waited_in_order(hub: Hub, driver: Driver, heard: Heard) -> None:
    got: list[Message] = []
    driver.subscribe("a", got.extend)
    driver.start()
    until(lambda: hub.subjects() == {"a"}, "subscribed")
    hub.stop()
    until(lambda: not driver.status.up, "the loss is told")
    assert [status.state for status in heard.states[:2]] == [LinkState.UP, LinkState.DOWN]
    for number in range(20):
        assert publish(driver, "n", b"%d" % number) == 1
    driver.subscribe("b", got.extend)
    hub.start()
    until(lambda: hub.subjects() == {"a", "b"}, "subscribed again")
    until(lambda: len(hub.on("n")) == 20, "what waited")
    assert hub.on("n") == [b"%d" % number for number in range(20)]
    assert driver.events.flush(5) and heard.settled_to[-1] == (20, 0)
    hub.publish("b", "back", b"{}")
    until(lambda: got, "a message")
    assert got == [Message(b"b", b"back", b"{}")]


def test_what_does_not_fit_is_dropped_and_counted_and_replies_have_room_of_their_own(driver: Driver) -> None:
    assert [publish(driver, "a", b"x" * 500) for _ in range(10)] == [1] * 8 + [0] * 2
    assert driver.stats()["messages_dropped"] == 2 and driver.stats()["messages_sent"] == 8
    assert driver.send([(Message(b"lane", b"answers", b""), b"y" * 500, "")] * 3) == 3


def test_the_messages_of_a_read_come_in_one_list(hub: Hub, driver: Driver) -> None:
    reads: list[int] = []
    for subject in ("a", "b"):
        driver.subscribe(subject, lambda messages: reads.append(len(messages)))
    both: list[Message] = []
    lists: list[int] = []

    def take(messages: list[Message]) -> None:
        both.extend(messages)
        lists.append(len(messages))

    for subject in ("c", "d"):
        driver.subscribe(subject, take)
    driver.start()
    until(lambda: len(hub.subjects()) == 4, "subscribed")
    driver.pause()
    for number in range(50):
        hub.publish("cd"[number % 2], "-", b"%d" % number)
    driver.resume()
    until(lambda: len(both) == 50, "all")
    assert [message.data for message in both] == [b"%d" % number for number in range(50)]
    assert len(lists) < 50 and not reads


def test_while_it_is_paused_nothing_is_read(hub: Hub, driver: Driver) -> None:
    got: list[Message] = []
    driver.subscribe("a", got.extend)
    driver.start()
    until(lambda: hub.subjects() == {"a"}, "subscribed")
    driver.pause()
    publish(driver, "n", b"1")
    until(lambda: hub.on("n"), "the thread has been here")
    hub.publish("a", "-", b"x")
    publish(driver, "n", b"2")
    until(lambda: len(hub.on("n")) == 2, "the thread has been here again")
    assert not got
    driver.resume()
    until(lambda: got, "what waited")


def test_stop_sends_what_waits(hub: Hub, settings: Settings) -> None:
    driver = make_driver(settings, Loop())
    driver.start()
    until(lambda: driver.status.up, "connected")
    for number in range(50):
        publish(driver, "a", b"%d" % number)
    driver.stop(2.0)
    until(lambda: len(hub.on("a")) == 50, "all of them")


def test_what_was_on_its_way_is_handed_on_before_a_subscription_ends(hub: Hub, driver: Driver) -> None:
    got: list[Message] = []
    number = driver.subscribe("a", got.extend)
    driver.start()
    until(lambda: hub.subjects() == {"a"}, "subscribed")
    for each in range(100):
        hub.publish("a", "-", b"%d" % each)
    driver.unsubscribe(number)
    assert [message.data for message in got] == [b"%d" % each for each in range(100)]
    hub.publish("a", "-", b"late")
    assert hub.subjects() == set() and len(got) == 100


def test_subscriptions_have_a_bound(hub: Hub, driver: Driver) -> None:
    got: list[Message] = []
    for number in range(MAX_SUBSCRIPTIONS):
        last = driver.subscribe(f"s{number}", got.extend)
    with pytest.raises(AgentError):
        driver.subscribe("one more", got.extend)
    driver.unsubscribe(last)
    driver.subscribe("one more", got.extend)


def test_the_document_tells_of_the_whole_interface() -> None:
    text = (Path(__file__).resolve().parent.parent.parent / "docs" / "DRIVERS.md").read_text(encoding="utf-8")
    names = {name for port in (Driver, RequestSource, Replies, EventSink, Observer) for name in vars(port)}
    names |= {name for port in (Driver, Replies, EventSink, Message) for name in port.__annotations__}
    assert not [name for name in sorted(names) if name[0] != "_" and not re.search(rf"`{name}\b", text)]
