"""What a soak does to the parts, and what it reads of them: four programs, each a process that says each second how far
it is, as JSON in a line on its stdout, and ends when its stdin does.

    python -m bench.soak.load commands PORT RATE NODE     requests through a nats-server
    python -m bench.soak.load fire PORT EVENTS CALLS      events and calls, made by an event socket of FreeSWITCH
    python -m bench.soak.load witness PORT FILE           which events FreeSWITCH sends to an event socket
    python -m bench.soak.load stored PORT FILE            which events and call records are in the stream

The last two know an event by its Event-Sequence, and write a byte for each number into FILE at the end: how often it
came. So an hour of them fits into memory, and FreeSWITCH must not be restarted meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import select
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench.losses import LEFT_OUT, OWN

LIMIT = 30.0  # seconds after which a request counts as not answered
TICK = 0.01  # seconds between two looks at the clock
EVENT = "soak::event"
SIGNED = ("freeswitch.clock_difference",)
MORE = "x" * 200
BEHIND = 1000  # events that FreeSWITCH has been asked to fire and has not fired
CONNECT = b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true,"protocol":1}\r\n'
SEQUENCE = re.compile(rb'"Event-Sequence":"(\d+)"')
KINDS = ("71", "71", "72", "73", "73", "74")  # what the numbers begin with; see ROUTES in parts.py


def ended() -> threading.Event:
    """Set when stdin ends."""
    found = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        found.set()

    threading.Thread(target=wait, name="stdin", daemon=True).start()
    return found


def say(**figures: Any) -> None:
    print(json.dumps(figures), flush=True)


class Pace:
    """How many are due by now."""

    def __init__(self, rate: float) -> None:
        self._rate, self._done = rate, 0
        self._began = time.monotonic()

    def due(self) -> int:
        """Their number since the last time; what is a second late is left out."""
        wanted = int((time.monotonic() - self._began) * self._rate)
        count, self._done = wanted - self._done, wanted
        return min(count, int(self._rate) + 1)


class Requests:
    """Requests at a rate, each with an answer of its own."""

    def __init__(self, port: int, rate: float, node: str) -> None:
        self._port = port
        self._lanes = ("freeswitch.api", f"freeswitch.node.{node}", "freeswitch.any")
        self._pace = Pace(rate)
        self._socket: socket.socket | None = None
        self._data = b""
        self._number = 0
        self._waiting: dict[int, tuple[float, str]] = {}  # time.time(), the text that must come back
        self._answered: set[int] = set()
        self._retry = 0.0
        self._new()

    def _new(self) -> None:
        self.counts: Counter[str] = Counter()
        self.took: list[float] = []
        self.bad: list[tuple[float, str, str]] = []  # when it was sent, what became of it, and more about that

    def step(self) -> None:
        """Send what is due, read what has come."""
        due = self._pace.due()
        if self._socket is None:
            self._connect()
        if self._socket is None:
            self.counts["unsent"] += due
            time.sleep(TICK)
            return
        try:
            if due:
                self._socket.sendall(b"".join(self.request() for _ in range(due)))
            if select.select([self._socket], [], [], TICK)[0]:
                chunk = self._socket.recv(1 << 18)
                if not chunk:
                    raise ConnectionError
                self.read(chunk)
        except OSError:
            self._lost()

    def _connect(self) -> None:
        if time.monotonic() < self._retry:
            return
        self._retry = time.monotonic() + 0.2
        try:
            found = socket.create_connection(("127.0.0.1", self._port), 1)
        except OSError:
            return
        found.settimeout(10)
        self._socket, self._data = found, b""
        with suppress(OSError):
            found.sendall(CONNECT + b"SUB soak.> 1\r\n")

    def _lost(self) -> None:
        """What was under way can't be answered any more: the load's own link is gone."""
        assert self._socket
        self._socket.close()
        self._socket = None
        self.counts["cut"] += len(self._waiting)
        self._waiting.clear()

    def request(self) -> bytes:
        number = self._number = self._number + 1
        text = f"soak {number}"
        fields: dict[str, Any] = {"command": "echo", "args": text}
        if number % 10 == 3:
            fields, text = {"command": "uuid_exists", "args": f"nobody-{number}"}, "false"
        elif number % 10 == 6:
            fields, text = {"command": "global_getvar", "args": "core_uuid"}, ""
        elif number % 500 == 9:
            fields, text = {"command": "agent.status"}, ""
        payload = json.dumps(fields | {"correlation_id": number}).encode()
        self._waiting[number] = (time.time(), text)
        self.counts["sent"] += 1
        lane = self._lanes[number % len(self._lanes)]
        return b"PUB %b soak.%d %d\r\n%b\r\n" % (lane.encode(), number, len(payload), payload)

    def read(self, chunk: bytes) -> None:
        data, at = self._data + chunk, 0
        while (end := data.find(b"\r\n", at)) >= 0:
            fields = data[at:end].split()
            if fields and fields[0] in (b"MSG", b"HMSG"):
                stop = end + 2 + int(fields[-1])
                if len(data) < stop + 2:
                    break
                head = int(fields[-2]) if fields[0] == b"HMSG" else 0
                start = end + 2
                self._came(int(fields[1].rpartition(b".")[2]), data[start : start + head], data[start + head : stop])
                at = stop + 2
                continue
            if fields and fields[0] == b"PING":
                assert self._socket
                self._socket.sendall(b"PONG\r\n")
            at = end + 2
        self._data = data[at:]

    def _came(self, number: int, head: bytes, body: bytes) -> None:
        found = self._waiting.pop(number, None)
        if found is None:
            kind = "twice" if number in self._answered else "late"  # late: after the limit, or the link was lost
            self.counts[kind] += 1
            if kind == "twice":
                self.bad.append((time.time(), "twice", body.decode(errors="replace")[:300]))
            return
        at, text = found
        if b" 503" in head[:16]:
            self._fault(at, "nobody", "")
            return
        self._answered.add(number)
        if len(self._answered) > 100_000:
            self._answered = {each for each in self._answered if each > number - 50_000}
        reply = json.loads(body)
        self.took.append(time.time() - at)
        if not reply["success"]:
            what = {name: str(reply.get(name))[:120] for name in ("code", "executed", "message")} | {"wanted": text[:4]}
            self._fault(at, "failed", json.dumps(what))
        elif reply["correlation_id"] != number or (text and reply["data"] != text):
            self._fault(at, "wrong", f"{text!r} is wanted: {body[:200]!r}")
        else:
            self.counts["good"] += 1
            if faults := [*negative(reply["data"])] if isinstance(reply["data"], dict) else []:
                self._fault(at, "figure", ", ".join(faults))

    def _fault(self, at: float, kind: str, more: str) -> None:
        self.counts[kind] += 1
        self.bad.append((at, kind, more))

    def report(self) -> None:
        """Say what there was since the last time."""
        old = time.time() - LIMIT
        for number in [number for number, (at, _) in self._waiting.items() if at < old]:
            self._fault(self._waiting.pop(number)[0], "silent", str(number))
        say(counts=self.counts, took=[round(each * 1000, 2) for each in self.took], bad=self.bad)
        self._new()

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def end(self) -> None:
        """No more is sent; wait for what is under way."""
        self._pace = Pace(0.0)
        until = time.monotonic() + LIMIT + 1
        while self._waiting and time.monotonic() < until:
            self.step()
            if self._waiting and min(at for at, _ in self._waiting.values()) < time.time() - LIMIT:
                self.report()
        self.report()


def negative(value: Any, name: str = "") -> Iterator[str]:
    """Figures below 0 in a status: none can be, but the difference of two clocks."""
    if isinstance(value, dict):
        for key, each in value.items():
            yield from negative(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list):
        for each in value:
            yield from negative(each, f"{name}[]")
    elif isinstance(value, (int, float)) and not isinstance(value, bool) and value < 0 and name not in SIGNED:
        yield f"{name} is {value}"


def commands(port: str, rate: str, node: str) -> None:
    end, requests = ended(), Requests(int(port), float(rate), node)
    every(1.0, requests.step, requests.report, end)
    requests.end()


def every(seconds: float, step: Callable[[], None], report: Callable[[], None], end: threading.Event) -> None:
    """Step until the end; report so often."""
    due = time.monotonic() + seconds
    while not end.is_set():
        step()
        if time.monotonic() >= due:
            report()
            due += seconds


class EventSocket:
    """One of FreeSWITCH's, and nothing of what it says is kept."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 10)
        self.socket.settimeout(None)  # FreeSWITCH may be slow
        self.socket.sendall(b"auth ClueCon\n\n")
        self.data = b""

    def read(self, seconds: float) -> bytes:
        """What comes within so many seconds, b"" for nothing; ConnectionError at the end."""
        if not select.select([self.socket], [], [], seconds)[0]:
            return b""
        chunk = self.socket.recv(1 << 18)
        if not chunk:
            raise ConnectionError("FreeSWITCH closed the event socket")
        return chunk


def fire(port: str, events: str, calls: str) -> None:
    end, link = ended(), EventSocket(int(port))
    paces = Pace(float(events)), Pace(float(calls))
    counts: Counter[str] = Counter()

    waits = 0  # for a reply

    def step() -> None:
        nonlocal waits
        due = [pace.due() for pace in paces]
        texts = []
        if waits > BEHIND:  # FreeSWITCH does not keep up
            counts["held back"] += due[0]
            due[0] = 0
        for _ in range(due[0]):
            counts["events"] += 1
            texts.append(f"sendevent CUSTOM\nEvent-Subclass: {EVENT}\nNumber: {counts['events']}\nMore: {MORE}\n\n")
        for _ in range(due[1]):
            counts["calls"] += 1
            number = f"{KINDS[counts['calls'] % len(KINDS)]}{counts['calls']:06}"
            seconds = 1 + counts["calls"] % 7
            hang_up = f"execute_on_answer='sched_hangup +{seconds} NORMAL_CLEARING'"
            block = f"{{originate_timeout=4,ignore_early_media=true,{hang_up}}}"  # who is parked is not answered
            texts.append(f"bgapi originate {block}loopback/{number}/public &park()\n\n")
        if texts:
            waits += len(texts)
            link.socket.sendall("".join(texts).encode())
        waits -= link.read(TICK).count(b"Reply-Text: ")

    every(1.0, step, lambda: say(**counts), end)
    say(**counts)


class Seen:
    """How often each number came."""

    def __init__(self) -> None:
        self.bytes = bytearray(1 << 20)
        self.count = self.twice = self.last = 0
        self.first = 0

    def add(self, number: int) -> None:
        while number >= len(self.bytes):
            self.bytes.extend(bytes(len(self.bytes)))
        if self.bytes[number]:
            self.twice += 1
        self.bytes[number] = min(255, self.bytes[number] + 1)
        self.count += 1
        self.first = self.first or number
        self.last = max(self.last, number)


def witness(port: str, file: str) -> None:
    end, link, seen = ended(), EventSocket(int(port)), Seen()
    text = f"event json ALL CUSTOM {EVENT}\n\nnixevent {' '.join(LEFT_OUT)}\n\n"
    link.socket.sendall(text.encode())
    data = b""
    own = OWN.encode()

    def step() -> None:
        nonlocal data
        data += link.read(0.1)
        at = 0
        while (stop := data.find(b"\n\n", at)) >= 0:
            head = data[at:stop]
            found = re.search(rb"Content-Length: (\d+)", head)
            length = int(found.group(1)) if found else 0
            if len(data) < stop + 2 + length:
                break
            body = data[stop + 2 : stop + 2 + length]
            at = stop + 2 + length
            if b"text/event-json" in head and own not in body and (number := SEQUENCE.search(body)):
                seen.add(int(number.group(1)))
            elif b"disconnect-notice" in head:
                raise ConnectionError("FreeSWITCH closed the event socket")
        data = data[at:]

    every(1.0, step, lambda: say(at=time.time(), count=seen.count, first=seen.first, last=seen.last), end)
    Path(file).write_bytes(seen.bytes)


class Stream:
    """What the stream has, read to its end and then as it comes, whatever becomes of the nats-server."""

    def __init__(self, port: str) -> None:
        self.url = f"nats://127.0.0.1:{port}"
        self.seen = Seen()
        self.records: Counter[str] = Counter()
        self.own: Counter[str] = Counter()
        self.gaps: list[dict[str, Any]] = []
        self.place = 0  # in the stream

    async def run(self, end: threading.Event) -> None:
        while not end.is_set():
            try:
                await self._read(end)
            except Exception as error:  # whatever a library says when its server is away
                print(f"stored: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
                await asyncio.sleep(0.5)

    async def _read(self, end: threading.Event) -> None:
        import nats
        from nats.errors import TimeoutError as NothingNew
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        async def quiet(_: Exception) -> None:
            pass

        client = await nats.connect(self.url, allow_reconnect=False, error_cb=quiet, ping_interval=2)
        try:
            config = ConsumerConfig(
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=self.place + 1,
                ack_policy=AckPolicy.NONE, inactive_threshold=60,
            )  # fmt: skip
            stream = client.jetstream(timeout=5)
            subscription = await stream.pull_subscribe("", stream="events", config=config)
            while not end.is_set():
                try:
                    messages = await subscription.fetch(500, timeout=1)
                except NothingNew:
                    if not client.is_connected:
                        return
                    continue
                for message in messages:
                    number = message.metadata.sequence.stream
                    if number <= self.place:
                        continue
                    self.place = number
                    self.take(message.subject, message.data)
        finally:
            await client.close()

    def take(self, subject: str, data: bytes) -> None:
        if subject.startswith("freeswitch.cdr."):
            self.records[json.loads(data)["uuid"]] += 1
        elif subject.startswith("freeswitch.events.agent."):
            event = json.loads(data)
            self.own[event["event_name"]] += 1
            if event["event_name"] == "AGENT_GAP":
                self.gaps.append({name: event[name] for name in
                                  ("from", "to", "from_sequence", "to_sequence", "count", "reason")})  # fmt: skip
        elif number := SEQUENCE.search(data):
            self.seen.add(int(number.group(1)))

    def report(self) -> None:
        seen = self.seen
        say(count=seen.count, twice=seen.twice, last=seen.last, own=self.own, gaps=self.gaps,
            records=len(self.records), records_twice=sum(count - 1 for count in self.records.values()))  # fmt: skip
        self.gaps = []


def stored(port: str, file: str) -> None:
    end, stream = ended(), Stream(port)
    reader = threading.Thread(target=lambda: asyncio.run(stream.run(end)), name="stream")
    reader.start()
    every(1.0, lambda: time.sleep(0.1), stream.report, end)
    reader.join()
    stream.report()
    Path(file).write_bytes(stream.seen.bytes)
    Path(f"{file}.records").write_text("\n".join(stream.records))


if __name__ == "__main__":
    os.setpgrp()  # ^C ends the driver, which ends this
    PROGRAMS: dict[str, Callable[..., None]] = {
        "commands": commands, "fire": fire, "witness": witness, "stored": stored,
    }  # fmt: skip
    PROGRAMS[sys.argv[1]](*sys.argv[2:])
