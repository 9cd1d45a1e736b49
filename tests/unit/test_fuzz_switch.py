"""Hostile questions of mod_xml_curl, events, lists of channels and answers, on the path of the events and in park mode.

What is sent to FreeSWITCH because of them is one command each and names nothing but a channel; what is published is a
valid event under its own subject; what mod_xml_curl is answered is the XML of a dialplan.
"""

from __future__ import annotations

import json
import random
import re
import xml.etree.ElementTree as ET
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from event_agent.bridge.events import EventPath
from event_agent.bridge.losses import Losses
from event_agent.commands.execute_app import AppList
from event_agent.dialplan import parked
from event_agent.dialplan.control import DialplanControl
from event_agent.dialplan.router import Router
from event_agent.drivers.base import Event
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.freeswitch.filters import EventFilter
from event_agent.http.listener import HttpListener
from event_agent.http.server import HttpAnswer, HttpRequest
from event_agent.protocol.events import EventEncoder
from event_agent.protocol.raw_event import RawEvent
from event_agent.protocol.subjects import event_subject
from event_agent.runtime.stats import Stats
from tests.fakes.driver import FakeSink
from tests.fakes.questions import anything
from tests.fuzz.commands import of_our_own
from tests.fuzz.harness import Target, fuzz
from tests.fuzz.mutator import damaged, long, text, token

PREFIX = "freeswitch"
QUESTION = (Path(__file__).resolve().parent.parent / "fixtures" / "xml-curl" / "dialplan-request.txt").read_bytes()
FORM = QUESTION.partition(b"\n\n\n")[2]
CALLS = tuple(f"5484c8f6-edf8-4b61-b2d3-19b27bc6{number:04d}" for number in range(50))
SEAL = re.compile(rb"SEAL-([0-9]{4})")  # in an input, where the seal of one of these calls goes
KEYS = (
    "section", "tag_name", "key_value", "Hunt-Context", "Hunt-Destination-Number", "Caller-Context", "Call-Direction",
    "Caller-Destination-Number", "Caller-Profile-Index", "Unique-ID", "variable_event_agent_parked", "Answer-State",
    "variable_send_silence_when_idle", "variable_sip_req_uri", "hostname", "Caller-Caller-ID-Name",
)  # fmt: skip
EVENTS = (
    "CHANNEL_PARK", "CHANNEL_PARK", "CHANNEL_UNPARK", "CHANNEL_DESTROY", "PLAYBACK_START", "CHANNEL_CREATE", "CUSTOM",
    "HEARTBEAT", "MODULE_LOAD", "MODULE_UNLOAD",
)  # fmt: skip
DEEP = (b"[" * 5000, b'{"a":' * 2000, b"9" * 5000, b'"' + b"1" * 5000 + b'"')
ACTIONS = {
    "set": re.compile(r"(event_agent_(parked|seal)=[0-9a-f]{1,64}|send_silence_when_idle=-1)\Z", re.ASCII),
    "answer": re.compile(r"\Z"), "pre_answer": re.compile(r"\Z"), "park": re.compile(r"\Z"),
}  # fmt: skip
# What an input is, as its first byte.
ASKED, EVENT, LIST, ANSWER = b"?", b"e", b"l", b"a"


class Sink(FakeSink):
    """Holds what is published until it is looked at, and refuses some of it."""

    def __init__(self) -> None:
        super().__init__()
        self.max_payload = 1_000_000
        self.published = self.taken

    def offer(self, events: Sequence[Event]) -> int:
        super().offer(events)
        self.ids.clear()
        self.writes.clear()
        return sum(len(event.payload) % 7 != 0 for event in events)


class Bridge(Target):
    """Inputs of all kinds, one after the other, on one agent in park mode."""

    room = 1_000_000  # what is remembered of calls and subjects has bounds
    spike = 8_000_000

    def __init__(self) -> None:
        self._sent: deque[Command] = deque()
        self.asked = self.parked = self.commands = self.published = 0
        self._sink = Sink()
        self.path = EventPath(EventEncoder(PREFIX, "FS-1"), self._sink, Stats(), Losses(Stats()))
        self.path.filter = EventFilter(True, frozenset(), frozenset(("HEARTBEAT",)))
        router = Router("", "", None, anything)
        self.control = DialplanControl(HttpListener(("127.0.0.1", 8092)), "", self._send, lambda _: None, router)
        self.control.parked.expected_within = 0.0  # the calls not yet parked are asked about at once
        self.control.choose(lambda _: None, enabled=True, audio="music")
        self._apps = AppList(self._send)
        self._apps.learn('{"rows":[]}')
        self.path.tap("parked calls", parked.EVENTS | parked.ENDS, self.control.event)
        self.path.tap("applications", ("MODULE_LOAD", "MODULE_UNLOAD"), self._apps.module_event)
        self._seals: dict[bytes, bytes] = {}
        for number, uuid in enumerate(CALLS):
            body = self._ask(b"section=dialplan&Hunt-Context=a&Unique-ID=" + uuid.encode())
            found = re.search(rb"event_agent_seal=([0-9a-f]+)", body)
            self._seals[b"%04d" % number] = found[1] if found else b""

    def _send(self, commands: Sequence[Command]) -> None:
        for command in commands:
            of_our_own(command)
            self._sent.append(command)
            self.commands += 1

    # -- inputs

    def make(self, rng: random.Random) -> bytes:
        number = rng.randrange(len(CALLS))
        uuid = CALLS[number] if rng.random() < 0.8 else text(rng, 200)
        seal = f"SEAL-{number:04d}"
        match rng.randrange(8):
            case 0 | 1 | 2:
                return ASKED + self._question(rng, uuid)
            case 3 | 4 | 5:
                return EVENT + spoilt(rng, event(rng, uuid, seal))
            case 6:
                row = {"uuid": uuid, "direction": "inbound", "state": "CS_EXECUTE", "application": "park"}
                rows = [_parsed(spoilt(rng, dict(row))) for _ in range(3)]
                listed: Any = {"row_count": 3, "rows": rng.choice((rows, rows, rows, None, text(rng), [rows]))}
                return LIST + (json.dumps(listed).encode() if rng.random() < 0.9 else spoilt(rng, listed))
        others = ("-ERR no reply\n", "-ERR No such channel!\n", "silence", "local_stream://a", text(rng))
        if rng.random() < 0.3:
            return ANSWER + rng.choice(others).encode(errors="replace")
        return ANSWER + spoilt(rng, event(rng, uuid, seal) | {"Channel-State": "CS_EXECUTE"})

    def _question(self, rng: random.Random, uuid: str) -> bytes:
        fields = {key: value for key, _, value in (pair.partition(b"=") for pair in FORM.split(b"&"))}
        fields[b"Unique-ID"] = quote(uuid.encode(errors="surrogatepass")).encode()
        for _ in range(rng.choice((0, 1, 1, 3))):
            key = rng.choice(KEYS).encode() if rng.random() < 0.9 else token(rng, 100)
            value = long(rng, 100_000) if rng.random() < 0.03 else token(rng)
            fields[key] = rng.choice((quote_plus(value).encode(), quote(value, safe="").encode(), value))
        data = b"&".join(b"%b=%b" % pair for pair in fields.items())
        return damaged(rng, data, (FORM,)) if rng.random() < 0.2 else data

    # -- what becomes of them

    def feed(self, rng: random.Random, data: bytes) -> None:
        kind, data = data[:1], SEAL.sub(lambda found: self._seals.get(found[1], b""), data[1:])
        answers: list[bytes] = []
        if kind == ASKED:
            self._ask(data)
        elif kind == EVENT:
            self._event(data)
        elif kind == LIST:
            self.control.parked.resynchronise()
            self._apps.up()
            answers = [data]
        else:
            answers = [data]
        if rng.random() < 0.05:
            self.control.parked.tick()
        self._answer(rng, answers)

    def _ask(self, data: bytes) -> bytes:
        if b" " in data or b"\n" in data:
            request = HttpRequest("POST", "/dialplan", "", data)
        else:
            request = HttpRequest("GET", "/dialplan", data.decode("latin-1"))
        answer = self.control._asked(request)
        assert isinstance(answer, HttpAnswer) and answer.status in (200, 400, 403)
        if answer.status != 200:
            return b""
        self.asked += 1
        assert b"$" not in answer.body  # FreeSWITCH replaces $${…} in any XML that it reads
        root = ET.fromstring(answer.body)
        assert root.tag == "document" and [each.tag for each in root] == ["section"]
        actions = [(each.get("application", ""), each.get("data", "")) for each in root.iter("action")]
        for application, argument in actions:
            assert ACTIONS[application].match(argument), (application, argument)
        if actions:
            assert actions[-1] == ("park", "")
            self.parked += 1
        else:
            assert root.find("section[@name='result']/result[@status='not found']") is not None, answer.body
        return answer.body

    def _event(self, data: bytes) -> None:
        self.path.take([RawEvent(data)])
        sent = _parsed(data)  # JSON is FreeSWITCH's to write; what it wrote is not looked through for faults
        subclasses = _subclasses(data)
        for subject, payload in self._sink.published:
            self.published += 1
            assert re.fullmatch(r"freeswitch\.events(\.[a-z0-9]+)*", subject), subject  # the driver measures it
            if isinstance(sent, dict):
                json.loads(payload.decode())
                self._check(subject, _parsed(payload), dict(sent), subclasses)
        self._sink.published.clear()

    def _check(self, subject: str, published: dict[str, Any], sent: dict[str, Any], subclasses: list[str]) -> None:
        name = published["event_name"]
        assert isinstance(name, str) and isinstance(published["timestamp"], int)
        assert published["node_id"] == "FS-1"
        # A key may come twice; then its first value may count, or its last.
        possible = [event_subject(PREFIX, name, each) for each in (*subclasses, "")] if name == "CUSTOM" else [
            event_subject(PREFIX, name)
        ]
        assert subject in possible, (subject, published)
        assert published.get("body") == sent.pop("_body", None)
        assert published["headers"] == sent

    def _answer(self, rng: random.Random, answers: list[bytes]) -> None:
        """What was sent is answered, by this input's own answer if it has one."""
        for _ in range(40):
            if not self._sent:
                return
            command = self._sent.popleft()
            if rng.random() < 0.1:
                command.failed(Failure("FreeSWITCH is not connected", Executed.NO))
            elif answers:
                command.done(answers[0].decode(errors="replace"))
            else:
                command.done("+OK")

    def settle(self) -> None:
        for _ in range(2):
            while self._sent:
                self._sent.popleft().failed(Failure("FreeSWITCH is not connected", Executed.NO))
            self.control.parked.tick()


def event(rng: random.Random, uuid: str, seal: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "Event-Name": rng.choice(EVENTS), "Core-UUID": "c", "Event-Sequence": str(rng.randrange(10_000)),
        "Event-Date-Timestamp": "1733433600000000", "Unique-ID": uuid, "Caller-Profile-Index": "1",
        "variable_event_agent_parked": "1", "variable_event_agent_seal": seal, "Playback-File-Path": parked.RINGBACK,
    }  # fmt: skip
    if found["Event-Name"] == "CUSTOM":
        found["Event-Subclass"] = rng.choice(("sofia::register", "conference::maintenance", text(rng)))
    if rng.random() < 0.3:
        found["variable_hold_music"] = rng.choice(("local_stream://moh", "silence", text(rng)))
    if rng.random() < 0.1:
        found |= {"type": "application", "name": text(rng), "_body": text(rng)}
    return found


def spoilt(rng: random.Random, fields: dict[str, Any]) -> bytes:
    """JSON of it, as FreeSWITCH writes it, with hostile values, further keys, the same key twice, deep nesting."""
    for _ in range(rng.choice((0, 1, 1, 3))):
        key = rng.choice((*fields, text(rng, 60)))
        fields[key] = rng.choice((text(rng), text(rng), None, 1, True, [text(rng)], {"a": text(rng)}, [[]] * 9))
    data = json.dumps(fields, ensure_ascii=rng.random() < 0.5, separators=(",", ":")).encode(errors="surrogatepass")
    if rng.random() < 0.1:
        key = rng.choice(("Unique-ID", "Event-Name", "Event-Date-Timestamp", "Event-Subclass", "Hangup-Cause"))
        data = data[:-1] + f',"{key}":{json.dumps(text(rng, 100))}}}'.encode()
    if rng.random() < 0.02:
        data = data.replace(b'"1"', rng.choice(DEEP), 1)
    return damaged(rng, data, (data, b'{"rows":[]}')) if rng.random() < 0.2 else data


def _parsed(data: bytes) -> Any:
    """Its value, None if it is no JSON; a lone surrogate, which UTF-8 can't hold, is a question mark."""
    try:
        value = json.loads(data.decode(errors="replace"))
        return json.loads(json.dumps(value, ensure_ascii=False).encode(errors="replace"))
    except (ValueError, RecursionError):
        return None


def _subclasses(data: bytes) -> list[str]:
    """All values that the key has."""
    found: list[str] = []

    def pairs(each: list[tuple[str, Any]]) -> dict[str, Any]:
        found.extend(value for key, value in each if key == "Event-Subclass" and isinstance(value, str))
        return dict(each)

    try:
        json.loads(data.decode(errors="replace"), object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        pass
    return found


def test_a_hostile_switch() -> None:
    found: list[Bridge] = []

    def build() -> Bridge:
        found.append(Bridge())
        return found[-1]

    fuzz(build, least=400)  # however busy the machine is
    first = found[0]
    assert first.asked > 20 and first.parked > 10 and first.commands > 50 and first.published > 20
