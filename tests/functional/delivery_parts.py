"""A nats-server with JetStream, and events that are numbered."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import nats
from nats.js.api import ConsumerConfig, StorageType, StreamConfig

from tests.functional.parts import ROOT, Client, NatsServer
from tests.functional.raw_events import RawEvents
from tests.support import until

MARK = "delivery::mark"
SUBJECT = "freeswitch.events.custom.delivery.mark"


class Broker:
    """A nats-server with JetStream, and what is in its stream."""

    def __init__(self, folder: Path) -> None:
        self.server = NatsServer(config=f'jetstream {{ store_dir: "{folder}" }}\n').start()
        self.url = self.server.url

    @classmethod
    def of(cls, server: NatsServer, url: str) -> Broker:
        """The stream of a server that runs, by a url of ours."""
        made = cls.__new__(cls)
        made.server, made.url = server, url
        return made

    def run(self, work: Callable[[Any], Any]) -> Any:
        """`work` with a JetStream context of nats-py."""

        async def go() -> Any:
            client = await nats.connect(self.url)
            try:
                return await work(client.jetstream(timeout=5))
            finally:
                await client.close()

        return asyncio.run(go())

    def make(self, **more: Any) -> None:
        given: dict[str, Any] = {"subjects": ["freeswitch.events.>"], "duplicate_window": 600, **more}
        if given.get("no_ack"):
            del given["duplicate_window"]
        config = StreamConfig(name="events", storage=StorageType.FILE, **given)
        self.run(lambda js: js.add_stream(config))

    def delete(self) -> None:
        self.run(lambda js: js.delete_stream("events"))

    def messages(self) -> list[Any]:
        """All messages of the mark, in order."""

        async def read(js: Any) -> list[Any]:
            found: list[Any] = []
            total = (await js.stream_info("events", subjects_filter=SUBJECT)).state.subjects or {}
            count = total.get(SUBJECT, 0)
            sub = await js.pull_subscribe(SUBJECT, stream="events", config=ConsumerConfig(max_ack_pending=-1))
            while len(found) < count:
                found += await sub.fetch(min(500, count - len(found)), timeout=5)
            return found

        return self.run(read)  # type: ignore[no-any-return]

    def numbers(self) -> list[int]:
        return [int(json.loads(each.data)["headers"]["Number"]) for each in self.messages()]


class Gun:
    """Fires numbered events, one after the other."""

    def __init__(self, switch: Any) -> None:
        self._socket = RawEvents(switch.port, switch.password)
        self.fired = 0
        self._on = threading.Event()
        self._shot = threading.Lock()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="gun")
        self._thread.start()

    def fire(self, count: int, size: int = 10) -> None:
        for _ in range(count):
            text = f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nNumber: {self.fired}\nFill: {'x' * size}\n\n"
            self._socket.command(text.encode())
            self.fired += 1

    def _run(self) -> None:
        while not self._ended:
            if self._on.wait(0.1):
                with self._shot:
                    if self._on.is_set():
                        self.fire(1)
                time.sleep(0.002)

    @contextmanager
    def firing(self) -> Iterator[None]:
        self._on.set()
        try:
            yield
        finally:
            self._on.clear()
            with self._shot:  # the last one has been fired
                pass

    def close(self) -> None:
        self._ended = True
        self._thread.join()
        self._socket.__exit__()


def arrived(broker: Broker, count: int, timeout: float = 30.0) -> list[int]:
    """The numbers in the stream, once there are as many."""
    found: list[int] = []

    def missing() -> object:
        try:
            found[:] = broker.numbers()
        except Exception as error:  # the server is just starting, or has no stream yet
            return error
        return [] if len(found) >= count else sorted(set(range(count)) - set(found))[:20] or found[-20:]

    until(missing, f"{count} events in the stream", timeout, holds=lambda left: left == [])
    return found


def told(broker: Broker, connect: Callable[..., Client], port: int) -> list[str]:
    """What agent.status, /health, /metrics and event-agentctl check say of the delivery; empty if all is well."""
    status = connect(broker.url).request("agent.status", _timeout=20)["data"]["nats"]["delivery"]["fault"]
    bodies = []
    for path in ("/health", "/metrics"):
        request = Request(f"http://127.0.0.1:{port}{path}")  # noqa: S310
        try:
            bodies.append(urlopen(request, timeout=10).read().decode())  # noqa: S310
        except HTTPError as error:
            bodies.append(error.read().decode())
    health = json.loads(bodies[0])["checks"]["delivery"]
    metric = "in the metrics" if "\nevent_agent_delivery_fault 1\n" in bodies[1] else ""
    checked = subprocess.run(
        [sys.executable, "-m", "event_agent.ctl", "check"], env=os.environ | {"MOD_EVENT_AGENT_URL": broker.url},
        cwd=ROOT, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    check = "" if checked.returncode == 0 else checked.stdout + checked.stderr
    said = [status, "" if health == "ok" else health, metric, check]
    return [each for each in said if each]


def numbers_of(broker: Broker) -> list[int]:
    try:
        return broker.numbers()
    except Exception:  # the server is just starting
        return []
