"""The switch simulator against recordings of a real FreeSWITCH, and against FreeSWITCH's own bindings."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ESL
import pytest

from tests.switchsim import SwitchSim
from tests.switchsim.channel import Channel
from tests.switchsim.framing import Command, Framer, FramingError
from tests.switchsim.recording import Leveller, Message, compare, load, messages, replay
from tests.switchsim.text import separate, variable_block

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = ROOT / "tests" / "fixtures"
RECORDINGS = sorted((FIXTURES / "event-socket").glob("*.txt"))
PARKED = "aaaaaaaa-0000-4000-8000-000000000001"
LIMIT = 5.0
"""Seconds a condition may take to become true."""


def wait_until(condition: Callable[[], Any], what: str = "the condition") -> Any:
    until = time.monotonic() + LIMIT
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < until, f"{what} did not come true"
        time.sleep(0.002)


_others = 0


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("switchsim")][_others:]


def parked(sim: SwitchSim, uuid: str) -> Channel:
    def found() -> Channel | None:
        channel = sim.channels.get(uuid)
        return channel if channel and channel.stack and channel.stack[-1].application == "park" else None

    channel = wait_until(found, "parking")
    assert isinstance(channel, Channel)
    return channel


class Client:
    """A bare event-socket client: what it reads is what came."""

    def __init__(self, sim: SwitchSim, password: str | None = "ClueCon") -> None:
        self.socket = socket.create_connection((sim.host, sim.port), timeout=LIMIT)
        self._buffer = b""
        self._events: deque[Message] = deque()
        """Events that came while a reply was waited for."""
        if password is not None:
            assert self.read().get("Content-Type") == "auth/request"
            assert self.command(f"auth {password}") == "+OK accepted"

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def read(self) -> Message:
        """The next message; EOFError at the end of the stream."""
        while True:
            head, blank, rest = self._buffer.partition(b"\n\n")
            if blank:
                length = int(dict(line.split(": ", 1) for line in head.decode().split("\n")).get("Content-Length", 0))
                if len(rest) >= length:
                    whole = len(head) + 2 + length
                    message = next(messages(self._buffer[:whole]))
                    self._buffer = self._buffer[whole:]
                    return message
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self._buffer += data

    def reply(self) -> Message:
        """The next message that is no event."""
        while (message := self.read()).get("Content-Type").startswith("text/event-"):
            self._events.append(message)
        return message

    def command(self, line: str) -> str:
        self.send(f"{line}\n\n")
        return self.reply().get("Reply-Text")

    def api(self, command: str) -> str:
        self.send(f"api {command}\n\n")
        return self.reply().body.decode()

    def event(self, name: str | None = None) -> dict[str, Any]:
        """The next event (of that name), as the JSON form has it."""
        while True:
            message = self._events.popleft() if self._events else self.read()
            event: dict[str, Any] = json.loads(message.body)
            if name in (None, event["Event-Name"]):
                return event

    def quiet(self, seconds: float = 0.06) -> bool:
        """Nothing comes for so long (three looks of the connection at its queue)."""
        self.socket.settimeout(seconds)
        try:
            return not self._buffer and not self._events and not self.socket.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(LIMIT)


@pytest.fixture(autouse=True)
def no_thread_left() -> Iterator[None]:
    global _others
    _others = 0
    _others = len(threads())  # a simulator that outlives this test
    yield
    assert threads() == []


@pytest.fixture
def sim() -> Iterator[SwitchSim]:
    with SwitchSim() as simulator:
        yield simulator


@pytest.fixture
def client(sim: SwitchSim) -> Iterator[Client]:
    with Client(sim) as connection:
        yield connection


@pytest.fixture
def esl(sim: SwitchSim) -> Any:
    connection = ESL.ESLconnection(sim.host, str(sim.port), "ClueCon")
    assert connection.connected()
    return connection


# --- recordings ------------------------------------------------------------------------------------------------


def test_all_recordings_are_there() -> None:
    assert len(RECORDINGS) == 14


@pytest.mark.parametrize("path", RECORDINGS, ids=lambda path: path.stem)
def test_recorded_conversation(path: Path) -> None:
    with SwitchSim(hostname="vm") as sim:
        if path.stem == "execute-app":  # recorded while a call was up
            sim.call(f"{{origination_uuid={PARKED}}}loopback/park/default", "&park")
            parked(sim, PARKED)
        with socket.create_connection((sim.host, sim.port)) as sock:
            result = replay(load(path), sock)
    assert result.differences == []
    if path.stem == "events-custom-json":  # the switch had other things to do as well
        assert len(result.gaps) == len(result.recorded_gaps)
    else:
        assert result.gaps == result.recorded_gaps


def recorded_messages() -> list[Message]:
    return [message for path in RECORDINGS for step in load(path) for message in messages(step.received)]


def test_comparison_takes_what_is_alike() -> None:
    for message in recorded_messages():
        assert compare(message, message, Leveller(), Leveller()) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda message: message.headers.pop(),
        lambda message: message.headers.insert(0, ("X-New", "1")),
        lambda message: message.headers.__setitem__(0, (message.headers[0][0].lower(), message.headers[0][1])),
        lambda message: message.headers.__setitem__(0, (message.headers[0][0], message.headers[0][1] + "x")),
    ],
    ids=["missing", "new", "case", "text"],
)
def test_comparison_notices_a_wrong_header(spoil: Callable[[Message], None]) -> None:
    for message in recorded_messages():
        if message.headers[0][0] == "Content-Length":
            continue
        wrong = copy.deepcopy(message)
        spoil(wrong)
        assert compare(message, wrong, Leveller(), Leveller()), wrong


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        (b'"Channel-State":"CS_EXECUTE"', b'"Channel-State":"CS_PARK"'),
        (b'"Channel-State":"CS_INIT",', b""),
        (b'"Answer-State":"ringing"', b'"Answer-state":"ringing"'),
        (b'"Unique-ID":"a', b'"Unique-ID":"b'),
        (b'"variable_loopback_leg":"A"}', b'"variable_loopback_leg":"A","more":"x"}'),
        (b'"Call-Direction":"outbound","Presence', b'"Presence-Call-Direction":"outbound","'),
        (b'"Caller-Channel-Hangup-Time":"0"', b'"Caller-Channel-Hangup-Time":"1795419173120088"'),
        (b"Caller-Context: default\n", b"Caller-Context: public\n"),
        (b"%2023%20Nov%20", b"%2023+Nov%20"),
        (b"100%25%20%41", b"100%25%20%2541"),
        (b"<X-Array>one</X-Array>\n", b""),
        (b"41\n\n-ERR nonexistent_verb Command not found!\n", b"40\n\n-ERR nonexistent_verb Command not found\n"),
        (b"3\n\none", b"3\n\ntwo"),
        (b"0 total.\n", b"0 total\n\n"),
    ],
)
def test_comparison_notices_a_wrong_body(right: bytes, wrong: bytes) -> None:
    noticed = 0
    for path in RECORDINGS:
        for step in load(path):
            for message in messages(step.received):
                whole = b"%d\n\n%s" % (len(message.body), message.body)
                if right in whole:
                    spoilt = Message(message.headers, whole.replace(right, wrong, 1).partition(b"\n\n")[2])
                    try:
                        noticed += bool(compare(message, spoilt, Leveller(), Leveller()))
                    except ValueError:
                        noticed += 1
                    break
    assert noticed


def test_comparison_notices_a_swapped_uuid() -> None:
    ours, theirs = Leveller(), Leveller()
    one, two = (f"{digit * 8}-0000-4000-8000-000000000001" for digit in "12")
    first = Message([("Reply-Text", f"+OK {one}")])
    assert compare(first, Message([("Reply-Text", f"+OK {two}")]), ours, theirs) == []
    assert compare(first, Message([("Reply-Text", f"+OK {one}")]), ours, theirs)


def test_replay_notices_what_comes_too_much() -> None:
    with SwitchSim() as sim:
        steps = load(FIXTURES / "event-socket" / "pipelined-api.txt")
        steps[-1].sent += b"api echo more\n\n"
        with socket.create_connection((sim.host, sim.port)) as sock:
            assert replay(steps, sock).differences


def test_dialplan_hook_is_asked_what_xml_curl_is_asked() -> None:
    recorded = (FIXTURES / "xml-curl" / "dialplan-request.txt").read_text().strip().rpartition("\n")[2]
    names = [pair.partition("=")[0] for pair in recorded.split("&")]
    asked: list[dict[str, str]] = []

    def hook(request: dict[str, str]) -> None:
        asked.append(request)

    with SwitchSim(dialplan_hook=hook) as sim:
        sim.call("{ignore_early_media=true}loopback/9196/default", "&park()")
    assert list(asked[0]) == names
    assert asked[0]["Hunt-Destination-Number"] == "9196"
    assert asked[0]["Channel-State"] == "CS_ROUTING"


# --- framing ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_commands_arrive_in_pieces(size: int) -> None:
    stream = b"\n\r\napi a\n\nsendmsg u\r\nContent-Length: 5\r\nX: y\r\n\r\n\n\nabcapi b\n\nrest"
    framer = Framer()
    found: list[Command] = []
    for at in range(0, len(stream), size):
        found += framer.feed(stream[at : at + size])
    assert [command.line for command in found] == ["api a", "sendmsg u", "api b"]
    assert found[1].headers == [("Content-Length", "5"), ("X", "y")]
    assert found[1].body == "\n\nabc"
    assert framer.partial


@pytest.mark.parametrize("length", ["-1", "999999999999"])
def test_impossible_body_ends_the_connection(sim: SwitchSim, client: Client, length: str) -> None:
    with pytest.raises(FramingError):
        list(Framer().feed(f"sendevent X\nContent-Length: {length}\n\n".encode()))
    client.send(f"api echo 1\n\nsendevent X\nContent-Length: {length}\n\n")
    assert client.read().body == b"1"
    assert client.read().get("Content-Type") == "text/disconnect-notice"
    with pytest.raises(EOFError):
        client.read()


def test_one_read_is_answered_in_one_write(sim: SwitchSim, client: Client) -> None:
    client.send("api echo 1\n\n" * 200)
    assert [client.read().body for _ in range(200)] == [b"1"] * 200


def test_speed(sim: SwitchSim, client: Client) -> None:
    count = 20_000
    expected = count * len(client.api("version")) + count * len("Content-Type: api/response\nContent-Length: 114\n\n")
    writer = threading.Thread(target=client.send, args=("api version\n\n" * count,))
    start = time.perf_counter()
    writer.start()
    got = 0
    while got < expected:
        got += len(client.socket.recv(1 << 20))
    seconds = time.perf_counter() - start
    writer.join()
    assert got == expected
    assert count / seconds > 1_000


# --- events ----------------------------------------------------------------------------------------------------


def test_fire_reaches_who_listens(sim: SwitchSim, client: Client) -> None:
    assert client.command("event json HEARTBEAT CUSTOM my::own") == "+OK event listener enabled json"
    sim.fire("HEARTBEAT", {"List": ["a", "b"], "Empty": ""}, "söme\nbody")
    event = client.event()
    assert event["List"] == ["a", "b"]
    assert "Empty" not in event
    assert event["_body"] == "söme\nbody"
    assert event["Content-Length"] == "10"
    sim.fire("CUSTOM", {"Event-Subclass": "not::mine"})
    sim.fire("RELOADXML")
    sim.fire("CUSTOM", {"Event-Subclass": "my::own"})
    assert client.event()["Event-Subclass"] == "my::own"


def test_bytes_that_are_no_utf8_come_through(sim: SwitchSim, client: Client) -> None:
    client.command("event plain CUSTOM x")
    client.send(b"sendevent CUSTOM\nEvent-Subclass: x\nX-Raw: \xff\xfe\n\n")
    client.read()
    assert b"X-Raw: %FF%FE\n" in client.read().body
    client.send(b"api echo \xff\n\n")
    assert client.read().body == b"\xff"


def test_every_event_takes_a_number(sim: SwitchSim, client: Client) -> None:
    client.command("event json HEARTBEAT")
    sim.fire("HEARTBEAT")
    first = int(client.event()["Event-Sequence"])
    for _ in range(5):
        client.api("echo x")
    sim.fire("HEARTBEAT")
    assert int(client.event()["Event-Sequence"]) == first + 6


def test_core_uuid_is_of_one_start() -> None:
    sim = SwitchSim().start()
    first, port = sim.core_uuid, sim.port
    sim.stop()
    sim.stop()
    with sim:
        assert sim.port == port
        assert sim.core_uuid != first


def test_all_knows_only_announced_subclasses_once_something_is_nixed(sim: SwitchSim, client: Client) -> None:
    client.command("event json ALL")
    sim.fire("CUSTOM", {"Event-Subclass": "my::own"})
    assert client.event()["Event-Subclass"] == "my::own"
    client.command("nixevent HEARTBEAT")
    sim.fire("CUSTOM", {"Event-Subclass": "my::own"})
    sim.fire("HEARTBEAT")
    sim.fire("CUSTOM", {"Event-Subclass": "sofia::register"})
    assert client.event()["Event-Subclass"] == "sofia::register"


@pytest.mark.parametrize(
    ("filters", "heard"),
    [
        (["Colour red"], ["red"]),
        (["colour RED", "Colour green"], ["red", "green"]),
        (["Colour /^(re|bl)/"], ["red", "blue"]),
        (["Event-Name HEARTBEAT", "Colour -red"], ["green", "blue"]),
        (["Colour red", "delete Colour red"], ["red", "green", "blue"]),
        (["Colour red", "delete all"], ["red", "green", "blue"]),
        (["Colour red", "Colour green", "delete Colour"], ["red", "green", "blue"]),
        (["Colour red", "delete Colour RED"], ["red"]),  # a value is compared with its case
        (["Colour -red", "Event-Name HEARTBEAT"], ["green", "blue"]),  # whichever comes first
        (["Colour red", "Colour -red"], []),
        (["Colour -red"], []),  # nothing lets the others through
        (["Event-Name HEARTBEAT", "Colour -+red"], ["red", "green", "blue"]),  # the last sign counts
    ],
)
def test_filters(sim: SwitchSim, client: Client, filters: list[str], heard: list[str]) -> None:
    client.command("event json HEARTBEAT TRAP")
    for one in filters:
        assert client.command(f"filter {one}").startswith("+OK filter ")
    for colour in ("red", "green", "blue"):
        sim.fire("HEARTBEAT", {"Colour": colour})
    assert [client.event()["Colour"] for _ in heard] == heard
    assert client.quiet()


def test_myevents_follows_one_channel(sim: SwitchSim, client: Client) -> None:
    uuid, other = sim.call(), sim.call()
    parked(sim, uuid)
    assert client.command("myevents no-such-uuid json") == "-ERR invalid uuid"
    assert client.command(f"myevents {uuid} json") == "+OK Events Enabled"
    assert client.command(f"myevents {uuid}") == "-ERR aready enabled."
    assert client.command("linger 5") == "+OK will linger 5 seconds"
    assert client.command("nolinger") == "+OK will not linger"
    assert client.command("divert_events on") == "+OK events diverted"
    sim.api(f"uuid_kill {other}")
    sim.api(f"uuid_kill {uuid}")
    assert client.event()["Unique-ID"] == uuid
    assert client.event("CHANNEL_DESTROY")["Unique-ID"] == uuid
    assert sim.connections[0].session.subscription.take() == []


def test_a_line_feed_makes_a_connection_look_at_once(sim: SwitchSim, client: Client) -> None:
    """A quiet connection looks each 20 ms, so an event is late by 10 ms on average; nudged, it is not."""
    client.command("event json HEARTBEAT")

    def late(nudge: bool) -> float:
        delays = []
        for _ in range(15):
            assert client.quiet(0.005)
            start = time.perf_counter()
            sim.fire("HEARTBEAT")
            if nudge:
                client.send("\n")
            client.event()
            delays.append(time.perf_counter() - start)
        return statistics.median(delays)

    assert late(nudge=True) < late(nudge=False) / 2


def test_events_wait_until_a_command_is_complete(sim: SwitchSim, client: Client) -> None:
    client.command("event json HEARTBEAT")
    client.send("api ec")
    wait_until(lambda: sim.connections[0].session._framer.partial)
    sim.fire("HEARTBEAT")
    assert client.quiet()
    client.send("ho 1\n\n")
    assert client.read().body == b"1"
    assert client.event()["Event-Name"] == "HEARTBEAT"


def test_a_connection_that_loses_too_many_events_is_thrown_out() -> None:
    with SwitchSim(queue_bound=10) as sim, Client(sim) as client:
        client.command("event json HEARTBEAT")
        client.send("api msleep 200\n\n")
        wait_until(lambda: sim.api_calls["msleep"])
        for _ in range(10 + 501):
            sim.fire("HEARTBEAT")
        assert client.read().body == b"+OK"
        assert client.read().body == b"killed listener because of lost events\n"


def test_heartbeat() -> None:
    with SwitchSim(heartbeat=0.02) as sim, Client(sim) as client:
        client.command("event json HEARTBEAT")
        first, second = client.event(), client.event()
    assert first["Event-Info"] == "System Ready"
    assert int(second["Uptime-msec"]) > int(first["Uptime-msec"])


# --- API -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("global_setvar colour=blue", "+OK"),
        ("eval ${colour} $${colour:0:2}", "blue bl"),
        ("expand echo <${colour}>", "<blue>"),
        ("eval ${echo(a ${colour})}", "a blue"),
        ("eval ${nothing}", "-ERR no reply\n"),
        ("global_setvar colour=", "+OK"),
        ("global_getvar colour", "-ERR no reply\n"),
        ("expr (2+3)*4-1", "19"),
        ("expr 1/0", "ERR"),
        ("strftime 0|%Y", time.strftime("%Y", time.localtime(0))),
        ("module_exists mod_sofia", "true"),
        ("unload mod_sofia", "+OK\n"),
        ("unload mod_sofia", "-ERR [No such module!]\n"),
        ("load mod_sofia", "+OK Reloading XML\n+OK\n"),
        ("load mod_sofia", "+OK Reloading XML\n-ERR [Module already loaded]\n"),
        ("reload mod_sofia", "+OK Reloading XML\n+OK module unloaded\n+OK module loaded\n"),
        ("show channels count", "\n0 total.\n"),
        ("show nonsense", "-USAGE: codec|"),
        ("uuid_getvar x", "-USAGE: <uuid> <var>\n"),
        ("uuid_bridge a b", "-ERR Invalid uuid\n"),
        ("uuid_broadcast a b", "-ERR invalid uuid\n"),
        ("uuid_transfer a b", "-ERR No such channel!\n"),
        ("VERSION short", "1.10.12\n"),
        (" ", "-ERR  Command not found!\n"),
    ],
)
def test_api_output(client: Client, command: str, output: str) -> None:
    if command.startswith(("eval", "expand", "global_setvar")) or "colour" in command:
        client.api("global_setvar colour=blue")
    if command.startswith("global_getvar colour"):
        client.api("global_setvar colour=")
    if command == "load mod_sofia" and output.endswith("+OK\n") or output.startswith("-ERR [No"):
        client.api("unload mod_sofia")
    assert client.api(command).startswith(output)


def test_lists_as_json(sim: SwitchSim, client: Client) -> None:
    names = {row["name"] for row in json.loads(client.api("show application as json"))["rows"]}
    assert {"park", "playback", "set", "bridge", "hangup"} <= names
    assert len(names) > 140
    uuid = sim.call()
    parked(sim, uuid)
    shown = json.loads(client.api("show channels as json"))
    assert shown["row_count"] == 2
    assert {row["uuid"] for row in shown["rows"]} == set(sim.channels)
    assert client.api("show channels").endswith("\n\n2 total.\n")
    assert "RUNNING" in client.api("sofia status")


def test_interfaces_of_all_types_come_and_go_with_their_modules(sim: SwitchSim, client: Client) -> None:
    def rows() -> list[dict[str, str]]:
        answer = json.loads(client.api("show interfaces as json"))
        assert answer["row_count"] == len(answer["rows"])
        return list(answer["rows"])

    found = rows()
    assert all(list(row) == ["type", "name", "ikey"] for row in found)
    assert {"api", "application", "chat", "codec", "dialplan", "endpoint", "file", "timer"} <= {
        row["type"] for row in found
    }
    assert {"type": "application", "name": "hash", "ikey": "mod_hash"} in found
    assert {"type": "application", "name": "page", "ikey": "mod_dptools"} in found  # it has no description, so …
    shown = {row["name"] for row in json.loads(client.api("show application as json"))["rows"]}
    assert "hash" in shown and "page" not in shown
    client.api("unload mod_hash")
    assert not [row for row in rows() if row["ikey"] == "mod_hash"]
    uuid = sim.call("sim/x", "&park()")
    assert client.command(f"sendmsg {uuid}\ncall-command: execute\nexecute-app-name: hash") == "+OK"
    wait_until(lambda: uuid not in sim.channels, "an application that went with its module hangs up")


def test_status_is_told(sim: SwitchSim, client: Client) -> None:
    assert client.api("status").startswith("UP 0 years, ")


def test_every_verb_fires_an_api_event_and_is_counted(sim: SwitchSim, client: Client) -> None:
    client.command("event json API MODULE_LOAD MODULE_UNLOAD RELOADXML")
    client.api("echo  a b ")
    event = client.event("API")
    assert (event["API-Command"], event["API-Command-Argument"]) == ("echo", "a b")
    client.api("reload mod_sofia")
    assert client.event()["Event-Name"] == "RELOADXML"
    brought = [client.event() for _ in range(12)]  # one event for each interface of the module
    assert [event["Event-Name"] for event in brought] == ["MODULE_UNLOAD"] * 6 + ["MODULE_LOAD"] * 6
    assert {(event["type"], event["name"]) for event in brought} >= {("application", "sofia_sla"), ("api", "sofia")}
    assert client.event()["Event-Name"] == "API"
    assert sim.api_calls["echo"] == sim.api_calls["reload"] == 1


def test_a_slow_verb_holds_up_its_own_connection_only(sim: SwitchSim, client: Client) -> None:
    with Client(sim) as other:
        client.send("api echo first\n\napi msleep 150\n\napi echo last\n\n")
        assert client.read().body == b"first"  # does not wait for what comes behind it
        start = time.perf_counter()
        assert other.api("echo quick") == "quick"
        assert time.perf_counter() - start < 0.1
        assert [client.read().body for _ in range(2)] == [b"+OK", b"last"]
        assert time.perf_counter() - start > 0.1


def test_bgapi_does_not_hold_up_its_connection(sim: SwitchSim, client: Client) -> None:
    client.command("event json BACKGROUND_JOB")
    assert client.command("bgapi msleep 100\nJob-UUID: slow") == "+OK Job-UUID: slow"
    assert client.command("bgapi echo quick") != ""
    assert client.api("echo now") == "now"
    assert [client.event()["Job-Command"] for _ in range(2)] == ["echo", "msleep"]


def test_delay_of_a_verb(sim: SwitchSim, client: Client) -> None:
    sim.delay("Echo", 0.05)
    start = time.perf_counter()
    client.api("echo x")
    assert time.perf_counter() - start >= 0.05
    sim.delay("echo", 0)
    assert sim.switch.delays == {}


# --- calls -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["\\", ",", "'", "a b", "[x]", "{x}", '"', "|", "grün", "a\\b,c'd e"])
def test_escaping_that_comes_through_originate(client: Client, value: str) -> None:
    escaped = value.replace("\\", "\\" * 4).replace("'", "\\\\\\'").replace(",", "\\,").replace(" ", "\\s")
    reply = client.api(f"originate {{one={escaped}}}sim/x &park()")
    assert client.api(f"uuid_getvar {reply[4:].strip()} one") == value
    reply = client.api(f"originate {{one={escaped},two={escaped},three=3}}sim/x &park()")
    uuid = reply[4:].strip()
    assert [client.api(f"uuid_getvar {uuid} {name}") for name in ("one", "two", "three")] == [value, value, "3"]


@pytest.mark.parametrize(
    ("block", "value"),
    [("{a='x,y'}", "x"), ("{a=1}{a=2}", "2"), ("{a=${hostname}}", "switchsim"), ("{a=\\s\\sx\\s}", "x")],
)
def test_what_originate_makes_of_variables(client: Client, block: str, value: str) -> None:
    reply = client.api(f"originate {block}sim/x &park()")
    assert client.api(f"uuid_getvar {reply[4:].strip()} a") == value


def test_splitting() -> None:
    assert separate("a 'b c'  d\\ e") == ["a", "b c", "d\\ e"]
    assert separate("a,'b,c',d\\,e", ",") == ["a", "b,c", "d,e"]
    assert separate("^^:a:b c") == ["a", "b c"]
    assert separate("a=b=c", "=", limit=2) == ["a", "b=c"]  # the last holds the rest
    assert separate("u name  one two ", limit=3) == ["u", "name", "one two"]
    assert variable_block("{a=1,b={x}}rest") == ({"a": "1", "b": "{x}"}, "rest")
    assert variable_block("{a=1") is None


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("user/none &park", "SUBSCRIBER_ABSENT"),
        ("error/CALL_REJECTED &park", "CALL_REJECTED"),
        ("loopback/nowhere/default &park", "NO_ROUTE_DESTINATION"),
        ("loopback/busy/default &park", "USER_BUSY"),
        ("nonsense/x &park", "CHAN_NOT_IMPLEMENTED"),
        ("sofia/gateway/none/1 &park", "INVALID_GATEWAY"),
        ("sim/slow-60000 &park XML default a 1 0", "NO_ANSWER"),
    ],
)
def test_originate_that_fails(sim: SwitchSim, client: Client, arguments: str, cause: str) -> None:
    assert client.api(f"originate {arguments}") == f"-ERR {cause}\n"
    wait_until(lambda: not sim.channels, "the end of all legs")


def test_originate_waits_for_the_answer(sim: SwitchSim, client: Client) -> None:
    start = time.perf_counter()
    assert client.api("originate sim/slow-80 &park()").startswith("+OK ")
    assert time.perf_counter() - start >= 0.08


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        ("{originate_timeout=1}loopback/ring &park", "NO_ANSWER"),
        ("{originate_timeout=1}loopback/ring|sim/x &park", "NO_ANSWER"),  # it limits all of them together
        ("[leg_timeout=1]loopback/ring &park", "ALLOTTED_TIMEOUT"),
        ("loopback/ring &park XML default x y 1", "NO_ANSWER"),
    ],
)
def test_originate_gives_up_in_time(client: Client, arguments: str, cause: str) -> None:
    start = time.monotonic()
    assert client.api(f"originate {arguments}") == f"-ERR {cause}\n"
    assert 0.9 < time.monotonic() - start < 20


def test_a_call_is_killed_while_it_rings(sim: SwitchSim, client: Client) -> None:
    with Client(sim) as other:
        other.send("api originate {origination_uuid=ring-1}sim/slow-60000 &park()\n\n")
        wait_until(lambda: sim.channels)
        assert client.api("uuid_exists ring-1") == "true"
        assert client.api("uuid_kill ring-1 CALL_REJECTED") == "+OK\n"
        assert client.api("uuid_kill ring-1") == "-ERR No such channel!\n"
        assert other.read().body == b"-ERR CALL_REJECTED\n"


def test_early_media_is_enough_unless_it_is_ignored(client: Client) -> None:
    assert client.api("originate loopback/early/default &park").startswith("+OK ")
    ignoring = "{ignore_early_media=true}loopback/early/default &park XML default a 1 0"
    assert client.api(f"originate {ignoring}") == "-ERR NO_ANSWER\n"


def test_second_endpoint_is_tried(client: Client) -> None:
    assert client.api("originate error/USER_BUSY|sim/x &park").startswith("+OK ")


def test_originate_into_the_dialplan(sim: SwitchSim, client: Client) -> None:
    client.command("event json CHANNEL_EXECUTE CHANNEL_HANGUP")
    uuid = client.api("originate sim/x 9196 XML default")[4:].strip()
    assert [client.event()["Application"] for _ in range(2)] == ["answer", "echo"]
    assert client.api(f"uuid_transfer {uuid} park") == "+OK\n"
    assert [client.event()["Application"] for _ in range(2)] == ["answer", "park"]
    assert parked(sim, uuid).get("destination_number") == "park"
    assert client.api(f"uuid_transfer {uuid} nowhere XML none") == "+OK\n"
    assert client.event("CHANNEL_HANGUP")["Hangup-Cause"] == "NO_ROUTE_DESTINATION"


def test_dialplan_hook_decides(sim: SwitchSim, client: Client) -> None:
    def hook(request: dict[str, str]) -> list[tuple[str, str]] | None:
        number = request["Caller-Destination-Number"]
        return {"mine": [("set", "who=${destination_number}"), ("park", "")], "none": []}.get(number)

    sim.set_dialplan_hook(hook)
    assert client.api("originate loopback/none/default &park") == "-ERR NO_ROUTE_DESTINATION\n"
    assert client.api("originate loopback/park/default &park").startswith("+OK ")
    uuid = client.api("originate sim/x mine")[4:].strip()
    assert parked(sim, uuid).get("who") == "mine"


def test_playback_ends_and_broadcast_goes_on_top_of_park(sim: SwitchSim, client: Client) -> None:
    client.command("event json PLAYBACK_START PLAYBACK_STOP CHANNEL_UNPARK CHANNEL_HANGUP")
    uuid = sim.call("sim/x", "&playback(silence_stream://20)")
    assert [client.event()["Event-Name"] for _ in range(3)] == ["PLAYBACK_START", "PLAYBACK_STOP", "CHANNEL_HANGUP"]
    uuid = sim.call("sim/x")
    channel = parked(sim, uuid)
    assert client.api(f"uuid_broadcast {uuid} tone_stream://%(1000,1000,440) aleg") == "+OK Message sent\n"
    assert client.event()["Playback-File-Type"] == "tone_stream"
    assert [running.application for running in channel.stack] == ["park", "playback"]
    client.api(f"uuid_kill {uuid}")
    assert [client.event()["Event-Name"] for _ in range(3)] == ["CHANNEL_HANGUP", "PLAYBACK_STOP", "CHANNEL_UNPARK"]


def test_bridge(sim: SwitchSim, client: Client) -> None:
    one, two = sim.call("sim/a"), sim.call("sim/b")
    parked(sim, one), parked(sim, two)
    client.command("event json CHANNEL_BRIDGE CHANNEL_UNBRIDGE CHANNEL_DESTROY")
    assert client.api(f"uuid_bridge {one} {two}") == f"+OK {two}\n"
    event = client.event()
    assert (event["Bridge-A-Unique-ID"], event["Bridge-B-Unique-ID"]) == (one, two)
    client.api(f"uuid_kill {two}")
    assert [client.event()["Event-Name"] for _ in range(3)] == ["CHANNEL_UNBRIDGE", *["CHANNEL_DESTROY"] * 2]
    assert sim.channels == {}


def test_variables_and_dump(sim: SwitchSim, client: Client) -> None:
    uuid = sim.call("sim/x")
    parked(sim, uuid)
    assert client.api(f"uuid_setvar {uuid} colour light\\sblue") == "+OK\n"
    assert client.api(f"uuid_getvar {uuid} colour") == "light blue"
    assert client.api(f"uuid_setvar {uuid} list ARRAY::a|:b") == "+OK\n"
    assert client.api(f"uuid_getvar {uuid} list[1]") == "b"
    assert json.loads(client.api(f"uuid_dump {uuid} json"))["variable_list"] == ["a", "b"]
    assert f"Unique-ID: {uuid}\n" in client.api(f"uuid_dump {uuid}")
    assert client.api(f"eval uuid:{uuid} ${{colour}}") == "light blue"
    assert client.api(f"uuid_setvar {uuid} colour") == "+OK\n"
    assert client.api(f"uuid_getvar {uuid} colour") == "_undef_"


def test_sendmsg_hangup_and_a_body(sim: SwitchSim, client: Client) -> None:
    uuid = sim.call("sim/x")
    channel = parked(sim, uuid)
    body = "text=one\n\ntwo"
    client.send(
        f"sendmsg {uuid}\ncall-command: execute\nexecute-app-name: set\ncontent-type: text/plain\n"
        f"content-length: {len(body)}\n\n{body}"
    )
    assert client.read().get("Reply-Text") == "+OK"
    wait_until(lambda: channel.get("text") == "one\n\ntwo")
    client.command("event json CHANNEL_HANGUP")
    assert client.command(f"sendmsg {uuid}\ncall-command: hangup\nhangup-cause: USER_BUSY") == "+OK"
    assert client.event()["Hangup-Cause"] == "USER_BUSY"


# --- FreeSWITCH's own bindings -------------------------------------------------------------------------------------


def test_bindings_api(esl: Any) -> None:
    assert esl.api("echo", "h\u00e9llo").getBody() == "h\u00e9llo"
    assert esl.api("nonexistent_verb").getBody() == "-ERR nonexistent_verb Command not found!\n"
    assert esl.sendRecv("api version").getBody().startswith("FreeSWITCH Version ")
    assert esl.sendRecv("noop").getHeader("Reply-Text") == "-ERR command not found"


def test_bindings_wrong_password(sim: SwitchSim) -> None:
    assert not ESL.ESLconnection(sim.host, str(sim.port), "wrong").connected()


@pytest.mark.parametrize("form", ["plain", "json", "xml"])
def test_bindings_events(sim: SwitchSim, esl: Any, form: str) -> None:
    assert esl.events(form, "CUSTOM my::own") == 0
    sim.fire("CUSTOM", {"Event-Subclass": "my::own", "Text": "a b\u00fc%: \\"}, "the body")
    event = esl.recvEventTimed(2000)
    if form != "xml":  # the binding leaves XML to the reader
        assert event.getType() == "CUSTOM"
        assert event.getHeader("Text") == "a b\u00fc%: \\"
    assert "the body" in event.getBody()


def test_bindings_filter(sim: SwitchSim, esl: Any) -> None:
    esl.events("plain", "HEARTBEAT")
    assert esl.filter("Colour", "red").getHeader("Reply-Text") == "+OK filter added. [Colour]=[red]"
    sim.fire("HEARTBEAT", {"Colour": "green"})
    sim.fire("HEARTBEAT", {"Colour": "red"})
    assert esl.recvEventTimed(2000).getHeader("Colour") == "red"


def test_bindings_bgapi(esl: Any) -> None:
    esl.events("plain", "BACKGROUND_JOB")
    reply = esl.bgapi("echo", "hello", "my-job")
    assert reply.getHeader("Job-UUID") == "my-job"
    event = esl.recvEventTimed(2000)
    assert (event.getHeader("Job-UUID"), event.getHeader("Job-Command"), event.getBody()) == (
        "my-job",
        "echo",
        "hello",
    )


def test_bindings_call(sim: SwitchSim, esl: Any) -> None:
    esl.events("json", "CHANNEL_CREATE CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP CHANNEL_DESTROY")
    uuid = esl.api("originate", "loopback/park/default &park()").getBody()[4:].strip()
    parked(sim, uuid)
    assert esl.execute("set", "colour=blue", uuid).getHeader("Reply-Text") == "+OK"
    wait_until(lambda: sim.channels[uuid].get("colour") == "blue")
    assert esl.execute("no_such_application", "", uuid).getHeader("Reply-Text") == "+OK"
    seen: list[str] = []
    while seen.count("CHANNEL_DESTROY") < 2:
        event = esl.recvEventTimed(2000)
        assert event is not None
        seen.append(event.getHeader("Event-Name"))
    assert seen[:2] == ["CHANNEL_CREATE", "CHANNEL_CREATE"]
    assert seen.count("CHANNEL_HANGUP") == 2
    assert sim.channels == {}


def test_bindings_send_and_receive_events(esl: Any) -> None:
    esl.events("plain", "CUSTOM my::own")
    event = ESL.ESLevent("CUSTOM", "my::own")
    event.addHeader("Colour", "blue")
    event.addBody("some text")
    assert esl.sendEvent(event).getHeader("Reply-Text").startswith("+OK ")
    received = esl.recvEventTimed(2000)
    assert (received.getHeader("Colour"), received.getBody()) == ("blue", "some text")


def test_bindings_notice_the_end(sim: SwitchSim, esl: Any) -> None:
    sim.kill_connections()
    assert esl.recvEvent().getHeader("Event-Name") == "SERVER_DISCONNECTED"
    assert not esl.connected()


# --- faults ----------------------------------------------------------------------------------------------------


def test_refused_by_acl() -> None:
    with SwitchSim(reject_acl=True) as sim:
        with Client(sim, password=None) as client:
            refusal = client.read()
            assert refusal.get("Content-Type") == "text/rude-rejection"
            assert refusal.body == b"Access Denied, go away.\n"
            assert client.read().get("Content-Type") == "text/disconnect-notice"
            with pytest.raises(EOFError):
                client.read()
        sim.reject_acl(False)
        with Client(sim):
            pass


def test_never_greeted() -> None:
    with SwitchSim(never_greet=True) as sim, Client(sim, password=None) as client:
        client.send("auth ClueCon\n\n")
        assert client.quiet()


def test_frozen(sim: SwitchSim, client: Client) -> None:
    sim.freeze()
    client.send("api echo 1\n\n")
    with Client(sim, password=None) as other:  # taken, but not greeted
        assert client.quiet() and other.quiet()
        sim.thaw()
        assert client.read().body == b"1"
        assert other.read().get("Content-Type") == "auth/request"


def test_a_frozen_switch_can_be_stopped() -> None:
    with SwitchSim() as sim, Client(sim) as client:
        sim.freeze()
        client.send("api echo 1\n\n")


@pytest.mark.parametrize("reset", [False, True])
def test_killed(sim: SwitchSim, client: Client, reset: bool) -> None:
    assert sim.kill_connections(reset=reset) == 1
    with pytest.raises((EOFError, ConnectionResetError)):
        client.read()
    wait_until(lambda: not sim.connections)
    with Client(sim) as again:
        assert again.api("echo back") == "back"


def test_other_password() -> None:
    with SwitchSim(password="sécret") as sim, Client(sim, password="sécret") as client:
        assert client.api("echo in") == "in"


# --- life ------------------------------------------------------------------------------------------------------


def test_stop_ends_whatever_goes_on() -> None:
    sim = SwitchSim().start()
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Client(sim)) for _ in range(4)]
        clients[0].send("api msleep 60000\n\n")
        clients[1].send("bgapi msleep 60000\n\n")
        clients[2].send("api originate sim/slow-60000 &park\n\n")
        clients[3].command("event plain ALL")
        wait_until(lambda: sim.api_calls["msleep"] == 2 and sim.channels)
        assert len(threads()) == 2 + 4 + 1
        start = time.monotonic()
        sim.stop()
        assert time.monotonic() - start < 20
    assert threads() == []
    with socket.create_server((sim.host, sim.port)):  # the port is free again
        pass


def test_a_taken_port_leaves_nothing_behind(sim: SwitchSim) -> None:
    with pytest.raises(OSError):
        SwitchSim(sim.port).start()
    assert len(threads()) == 2


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_command_line(by: signal.Signals) -> None:
    command = [sys.executable, "-m", "tests.switchsim", "--port", "0", "--password", "pass", "--demo"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("switchsim listens on 127.0.0.1:")
        sim = SwitchSim(int(line.rpartition(":")[2]))
        with Client(sim, "pass") as client:
            client.command("event json CHANNEL_CREATE")
            assert client.event()["Caller-Caller-ID-Name"] == "Demo"
            process.send_signal(by)
            assert process.wait(LIMIT) == 0
    finally:
        process.kill()
        process.communicate()


def test_command_line_on_a_taken_port(sim: SwitchSim) -> None:
    command = [sys.executable, "-m", "tests.switchsim", "--port", str(sim.port)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=LIMIT, check=False)
    assert done.returncode == 1
    assert "can't listen" in done.stderr
