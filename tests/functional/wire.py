"""What test clients send and get, held against docs/asyncapi.yaml's schemas when a test has ended.

Watched is what passes a `WatchedNats`, the connection of parts.Client. A request and its reply are known by the reply
subject (or `forward_to`). Then

- a reply must fit its command's schema, or that of errors;
- a request that was carried out must fit its schema;
- a request that fits must not have been refused by a check of its fields;
- a request without a reply subject must fit; a test that sends others on purpose asks for replies;
- an event must fit, and so must an answer to discovery.

All of it up to the limits below, and of what is beyond them one in SAMPLE: a test of 100,000 requests must not take
longer for it. Checking begins when the test's own work is done, so it is in no time that a test measures.
"""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client as Nats
from nats.aio.msg import Msg

from tests.asyncapi import discovery_faults, event_faults, refused_by_a_check, reply_faults, request_faults, taken_apart

EXCHANGES = 2000  # reply subjects in one test that are looked at without exception
MESSAGES = 200  # requests, and replies, on one reply subject
EVENTS = 60  # events of one subject
SAMPLE = 97  # of what is beyond, one in so many
SHOWN = 5  # faults

_LANE = re.compile(r"[^$].*\.(api|any|(api|node)\.[a-z0-9_]+)|(?P<call>[^$][^.]*\.call\.)[^.]+")
_VERB = re.compile(r"(?P<lane>[^$][^.]*\.(all|any|node\.[a-z0-9_]+|call\.[^.]+))\.(?P<verb>.+)")
_NEED_UUID = re.compile(rb'"(hangup|execute_app|call\.watch|call\.unwatch)"')
_DISCOVERY = "$SRV."
_EVENT = re.compile(r"[^$].*?\.(events|cdr)\..+")


class Sampled:
    """Messages of one kind: all up to a limit, then one in SAMPLE."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.seen = 0
        self.kept: list[bytes] = []

    def add(self, data: bytes) -> None:
        self.seen += 1
        if self.seen <= self._limit or self.seen % SAMPLE == 0:
            self.kept.append(data)


@dataclass
class Exchange:
    """What was sent with one reply subject, and what came there."""

    requests: Sampled = field(default_factory=lambda: Sampled(MESSAGES))
    replies: Sampled = field(default_factory=lambda: Sampled(MESSAGES))


class Wire:
    """What has passed since the last check. Clients call it from threads of their own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.checked = {"requests": 0, "replies": 0, "events": 0, "discoveries": 0}  # since the beginning
        self._begin()

    def _begin(self) -> None:
        self._exchanges: dict[str, Exchange] = {"": Exchange()}
        self._subjects = 0
        self._events: dict[str, Sampled] = {}
        self._discovery: dict[str, Sampled] = {}

    def sent(self, subject: str, data: bytes, reply: str) -> None:
        """A message was sent, by one of our clients or another."""
        if subject.startswith(_DISCOVERY) and reply:
            with self._lock:
                self._discovery.setdefault(reply, Sampled(MESSAGES))
        if (named := _VERB.fullmatch(subject)) and isinstance(_json(data or b"{}"), dict):
            given, uuid = _parsed(data), named["lane"].rpartition(".")[2]
            if given.get("command", named["verb"]) != named["verb"] or given.get("uuid", uuid) != uuid:
                return  # what no schema has
            subject = named["lane"].replace(".all", ".api")
            data = json.dumps({**_parsed(data), "command": named["verb"]}).encode()  # there it need not be said
        lane = _LANE.fullmatch(subject)
        if not lane:
            return
        if lane["call"] and b'"uuid"' not in data and _NEED_UUID.search(data):
            uuid = subject.removeprefix(lane["call"])  # there it need not be said once more
            data = json.dumps({**_parsed(data), "uuid": uuid}).encode()
        forward = _parsed(data).get("forward_to") if b'"forward_to"' in data else None
        with self._lock:
            self._exchange(reply, data)
            if isinstance(forward, str) and forward:
                self._exchange(forward, data)

    def _exchange(self, reply: str, data: bytes) -> None:
        exchange = self._exchanges.get(reply)
        if exchange is None:
            self._subjects += 1
            if self._subjects > EXCHANGES and self._subjects % SAMPLE:
                return
            exchange = self._exchanges[reply] = Exchange()
        exchange.requests.add(data)

    def came(self, message: Msg) -> None:
        """A message arrived."""
        subject, data = message.subject, message.data
        with self._lock:
            exchange = self._exchanges.get(subject)
            if exchange is not None and data:  # one without data says that nobody listens
                exchange.replies.add(data)
                return
            if data and (discovered := self._discovery.get(subject)):
                discovered.add(data)
                return
            if _EVENT.fullmatch(subject):
                self._events.setdefault(subject, Sampled(EVENTS)).add(data)
                return
        self.sent(subject, data, message.reply)  # heard by somebody who listens to everything

    def check(self) -> list[str]:
        """What is wrong with what has passed; then it begins anew."""
        with self._lock:
            exchanges, events, discovery = self._exchanges, self._events, self._discovery
            self._begin()
        faults: list[str] = []
        for subject, exchange in exchanges.items():
            faults += self._check_exchange(subject, exchange)
        for subject, sampled in events.items():
            for data in sampled.kept:
                self.checked["events"] += 1
                faults += [f"event on {subject}: {fault}: {data[:600]!r}" for fault in event_faults(_json(data))]
                faults += [f"event on {subject}: {key} is there twice: {data[:600]!r}" for key in _doubled(data)]
        for sampled in discovery.values():
            for data in sampled.kept:
                self.checked["discoveries"] += 1
                faults += [f"discovery: {fault}: {data[:600]!r}" for fault in discovery_faults(_json(data))]
        return faults

    def _check_exchange(self, subject: str, exchange: Exchange) -> list[str]:
        requests = list(dict.fromkeys(exchange.requests.kept))
        replies = [_json(data) for data in exchange.replies.kept]
        alone = _json(requests[0]) if len(requests) == 1 else None
        self.checked["requests"] += len(exchange.requests.kept)
        self.checked["replies"] += len(replies)
        faults = []
        for reply in replies:
            faults += [f"reply: {fault}: {reply!r}"[:900] for fault in reply_faults(reply, alone)]
        done = bool(replies) and all(isinstance(reply, dict) and reply.get("success") is True for reply in replies)
        if done or not subject:
            for data in requests:
                faults += [f"request: {fault}: {data[:600]!r}" for fault in request_faults(_json(data))]
        elif alone is not None and not request_faults(alone) and not taken_apart(alone):
            for reply in filter(refused_by_a_check, replies):
                faults.append(f"the schema allows what was refused: {reply['message']}: {requests[0][:600]!r}")
        return faults


def _json(data: bytes) -> Any:
    """None for what is no JSON."""
    try:
        return json.loads(data, parse_float=_finite, parse_constant=_refused)
    except (ValueError, RecursionError):
        return None


def _doubled(data: bytes) -> list[str]:
    """Keys that an object has more than once: parsers differ in which one they take."""
    found: list[str] = []

    def members(pairs: list[tuple[str, Any]]) -> None:
        keys = [key for key, _ in pairs]
        found.extend({key for key in keys if keys.count(key) > 1})

    try:
        json.loads(data, object_pairs_hook=members)
    except (ValueError, RecursionError):
        pass  # said of it elsewhere
    return found


def _finite(text: str) -> float:
    """1e400 is a number to JSON and to nobody else."""
    number = float(text)
    return number if abs(number) != float("inf") else _refused(text)


def _refused(text: str) -> float:
    raise ValueError(text)


def _parsed(data: bytes) -> dict[str, Any]:
    found = _json(data)
    return found if isinstance(found, dict) else {}


WIRE = Wire()


class WatchedNats(Nats):
    """nats-py's client; what passes it is told to WIRE. Its `request` is made of the two methods here."""

    async def publish(self, subject: str, payload: bytes = b"", reply: str = "", *args: Any, **more: Any) -> None:
        WIRE.sent(subject, payload, reply)
        await super().publish(subject, payload, reply, *args, **more)

    async def subscribe(self, subject: str, queue: str = "", cb: Any = None, *args: Any, **more: Any) -> Any:
        async def told(message: Msg) -> None:
            WIRE.came(message)
            await cb(message)

        return await super().subscribe(subject, queue, told if cb else None, *args, **more)
