"""The simulator answers as FreeSWITCH did in the recorded conversations."""

from __future__ import annotations

import copy
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.switchsim import SwitchSim
from tests.switchsim.framing import Command, Framer, FramingError
from tests.switchsim.recording import Leveller, Message, compare, load, messages, replay
from tests.unit.switchsim.parts import FIXTURES, PARKED, RECORDINGS, Client, parked

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
