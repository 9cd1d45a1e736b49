"""Requests and events that go on while something breaks; all are numbered, and accounted for afterwards."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.functional.parts import Client
from tests.functional.raw_events import RawEvents
from tests.support import until

SUBCLASS = "load::n"


@dataclass
class Account:
    """What became of all of it."""

    asked: int = 0
    good: int = 0
    bad: int = 0  # error replies
    nobody: int = 0  # refused by the server: no responders
    received: int = 0  # of them by the agent
    fired: int = 0
    came: int = 0
    dropped: int = 0  # events, and messages of any kind, that the agent counted as dropped
    unconfirmed: int = 0
    unseen: int | None = 0  # events fired while the agent's own connection was down; None: not known
    told: int = 0  # how often that came with the word that it is back

    @property
    def silent(self) -> int:
        """Requests without any answer."""
        return self.asked - self.good - self.bad - self.nobody

    def __str__(self) -> str:
        return (
            f"requests {self.asked:5}: {self.good:5} good {self.bad:4} error {self.nobody:4} nobody {self.silent:3} "
            f"silent | events {self.fired:5}: {self.came:5} came, {self.dropped} dropped, {self.unconfirmed} "
            f"unconfirmed, {self.unseen} unseen"
        )


class Load:
    """20 requests and 50 events a second, from `start` to `stop`. `client` and `switch` go round the faults."""

    def __init__(self, client: Client, switch: Any, prefix: str = "freeswitch", padding: int = 0) -> None:
        """`padding`: bytes of a body of each event. FreeSWITCH reads headers byte by byte (mod_event_socket.c)."""
        self.client, self.switch, self.prefix = client, switch, prefix
        self._padding = f"Content-Length: {padding}\n\n{'x' * padding}" if padding else ""
        self.answers = client.gather(f"{prefix}.load.answers.*")
        self.events = client.events(f"{prefix}.events.>")
        self.asked = self.fired = 0
        self.first_good = 0.0  # time.monotonic() of the first good reply to a request sent after `mended`
        self.mended = float("inf")
        self._sent: list[float] = []
        self._statuses = 0
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=each, name=each.__name__) for each in (self._ask, self._fire)]

    def start(self) -> Load:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def stop(self) -> None:
        """End it; what was begun may still be answered."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        while not self._stop.wait(0.05):
            number = self.asked
            payload = {"command": "echo", "args": f"n{number}", "correlation_id": number}
            self._sent.append(time.monotonic())
            self.client.publish(
                f"{self.prefix}.api", json.dumps(payload).encode(), reply=f"{self.prefix}.load.answers.{number}"
            )
            self.asked += 1

    def _fire(self) -> None:
        while not self._stop.is_set():
            try:
                with RawEvents(self.switch.port, self.switch.password) as raw:
                    while not self._stop.wait(0.02):
                        raw.command(f"sendevent CUSTOM\nEvent-Subclass: {SUBCLASS}\nX-N: {self.fired}\n{self._padding}")
                        self.fired += 1
            except (OSError, AssertionError):
                self._stop.wait(0.2)  # the switch is away

    def replies(self) -> dict[int, list[dict[str, Any] | None]]:
        """For each request what came; None for the server's word that nobody listens."""
        found: dict[int, list[dict[str, Any] | None]] = {}
        for message in list(self.answers):
            number = int(message.subject.rpartition(".")[2])
            found.setdefault(number, []).append(json.loads(message.data) if message.data else None)
        return found

    def back_after(self, timeout: float = 60.0) -> float:
        """Seconds from `mended` to the first good reply to a request sent after it; waits for that."""

        def first() -> bool:
            later = [reply for number, (reply, *_) in self.replies().items() if self._sent[number] > self.mended]
            return any(reply is not None and reply["success"] is True for reply in later)

        until(first, "a good reply", timeout)
        return time.monotonic() - self.mended

    def status(self) -> dict[str, Any]:
        """agent.status, tried until it comes."""

        def ask() -> dict[str, Any]:
            try:
                found = self.client.request("agent.status", None, f"{self.prefix}.api", _timeout=1)
            except Exception:
                return {}
            self._statuses += 1
            return dict(found["data"])

        return until(ask, "agent.status", 30)

    def account(self, settle: float = 10.0) -> Account:
        """Ends the load; a last event and a last request must come through within `settle` seconds each.

        AssertionError also where a request has two answers or a wrong one, or an event came twice or out of order.
        """
        self.stop()
        found = Account(asked=self.asked)
        status = self.status()
        lost = status["nats"]["messages_unconfirmed"] + status["nats"]["messages_dropped"]
        arrived = status["stats"]["requests_received"] - self._statuses

        def quiet() -> bool:
            answered = sum(replies != [None] for replies in self.replies().values())
            return bool(answered + lost >= arrived)

        until(quiet, "all that arrived is answered, or its reply is counted as lost", settle)
        for number, replies in self.replies().items():
            assert len(replies) == 1, f"request {number} has the answers {replies}"
            (reply,) = replies
            if reply is None:
                found.nobody += 1
            elif reply["success"]:
                assert reply["data"] == f"n{number}" and reply["correlation_id"] == number
                found.good += 1
            else:
                found.bad += 1
        with RawEvents(self.switch.port, self.switch.password) as raw:
            raw.command(f"sendevent CUSTOM\nEvent-Subclass: {SUBCLASS}\nX-N: {self.fired}\n")
        until(lambda: self.numbers()[-1:] == [self.fired], "the last event", settle)
        found.fired = self.fired + 1
        numbers = self.numbers()
        assert numbers == sorted(set(numbers)), "events came twice or out of order"
        found.came = len(numbers)
        status = self.status()
        found.received = status["stats"]["requests_received"] - self._statuses
        # An event that found no room is in both; one too large, or a reply, in one of them.
        found.dropped = max(status["events_dropped"], status["nats"]["messages_dropped"])
        found.unconfirmed = status["nats"]["messages_unconfirmed"]
        told = [event for event in self.events.parsed() if event["event_name"].startswith("AGENT_")]
        if told and told[0]["event_name"] == "AGENT_CONNECTED" and told[0]["events_unseen"] is None:
            del told[0]  # that of the agent's start, which came when the load had begun
        back = [event for event in told if event["event_name"] == "AGENT_CONNECTED"]
        found.told = len(back)
        for event in back:
            unseen = event["events_unseen"]
            found.unseen = None if unseen is None or found.unseen is None else found.unseen + unseen
        return found

    def numbers(self) -> list[int]:
        """Of the events that came."""
        return [int(event["headers"]["X-N"]) for event in self.events.named("CUSTOM", Event_Subclass=SUBCLASS)]
