"""Which calls count as parked, and what they are made to hear; FreeSWITCH is a list of commands here."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.dialplan import parked as module
from event_agent.dialplan.choices import Choices
from event_agent.dialplan.parked import RINGBACK, ParkedCalls
from event_agent.dialplan.secret import Seal
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.protocol.raw_event import RawEvent
from tests.switchsim.framing import Framer

SEAL = Seal("")


class Switch:
    """Answers what is asked about the channels it holds: uuid to mark, Caller-Profile-Index and state."""

    def __init__(self) -> None:
        self.channels: dict[str, str] = {}
        self.variables: dict[str, dict[str, str]] = {}  # further headers of a channel
        self.hold_music = ""
        self.application = "park"
        self.sent: list[str] = []
        self.listed: list[dict[str, object]] = []  # instead of `channels`
        self.choices = Choices(enabled=True)
        self.deaf = False
        self.held: list[Callable[[], None]] = []
        self.parked = ParkedCalls(self.send, lambda: self.choices, SEAL)

    def send(self, commands: Sequence[Command]) -> None:
        for command in commands:
            self.sent.append(command.text)
            words = command.text.split()
            if self.deaf:
                command.failed(Failure("FreeSWITCH is not connected", Executed.NO))
            elif words[1] == "show":
                rows = self.listed or [
                    {"uuid": uuid, "application": self.application, "direction": "inbound", "state": "CS_EXECUTE"}
                    for uuid in self.channels
                ]
                command.done(json.dumps({"row_count": len(rows), "rows": rows}))
            elif words[1] == "uuid_dump":
                assert words[3:] == ["json"]
                command.done(self.dump(words[2]))
            elif words[1] == "global_getvar":
                command.done(self.hold_music or "-ERR no reply\n")
            else:
                command.done("+OK")

    def dump(self, uuid: str) -> str:
        """As FreeSWITCH's uuid_dump."""
        if uuid not in self.channels:
            return "-ERR No such channel!\n"
        mark, index, state = self.channels[uuid].split(" ")
        headers = {"Unique-ID": uuid, "Caller-Profile-Index": index, "Channel-State": state}
        if mark:
            headers |= {"variable_event_agent_parked": mark, "variable_event_agent_seal": SEAL.of(uuid)}
        return json.dumps(headers | self.variables.get(uuid, {}))

    @property
    def streams(self) -> list[tuple[str, str]]:
        """What was started: (uuid, stream), without what goes before every stream."""
        found = []
        for text in self.sent:
            if text.startswith("sendmsg "):
                (sent,) = Framer().feed(text.encode())
                lines = {name.lower(): value for name, value in sent.headers}
                assert lines["execute-app-name"] == "playback" and lines["loops"] == "-1" and "event-lock" not in lines
                found.append((text.split()[1], (sent.body or "").removeprefix(module.UNBREAKABLE)))
        return found


def event(name: str, uuid: str, sequence: int = 1, **variables: str) -> tuple[str, RawEvent]:
    headers = {"Event-Name": name, "Unique-ID": uuid, "Event-Sequence": str(sequence), "Caller-Profile-Index": "1"}
    headers |= {"variable_event_agent_parked": "1", "variable_event_agent_seal": SEAL.of(uuid)} | variables
    return name, RawEvent(json.dumps(headers).encode())


def test_a_call_comes_and_goes() -> None:
    switch = Switch()
    switch.parked.expect("a")
    assert switch.parked.now == 0 and switch.parked.watching
    switch.parked.event(*event("CHANNEL_PARK", "a", 1))
    assert (switch.parked.now, switch.parked.total) == (1, 1) and switch.streams == [("a", RINGBACK)]
    switch.parked.event(*event("CHANNEL_UNPARK", "a", 2))
    assert (switch.parked.now, switch.parked.total) == (0, 1) and not switch.parked.watching


@pytest.mark.parametrize("uuid", ["a", "Call-7@10.0.0.1", "x" * 255, "a+b/c=~#*!%d", "2001:db8::1", "_"])
def test_a_uuid_that_a_client_chose(uuid: str) -> None:
    switch = Switch()
    switch.parked.event(*event("CHANNEL_PARK", uuid, 1))
    assert switch.parked.now == 1 and switch.streams == [(uuid, RINGBACK)] and switch.parked.refused == 0


HOSTILE = [
    "x\n\napi system touch /tmp/x #", "x\r\n\r\napi status", "x\0y", "x ${global_setvar(a=1)}", "$x", "{a=1}x", "a}b",
    "a b", "a\tb", "a\u2028b", "a\\nb", "a'b", 'a"b', "a`b", "a;b", "a|b", "a&b", "a,b", "a<b", "a(b)", "a[b]",
    "x" * 256, "", "\xe9", "\ud800", "\x1b[31m", "\x85",
]  # fmt: skip


@pytest.mark.parametrize("uuid", HOSTILE)
def test_a_uuid_that_is_more_than_a_word(uuid: str, caplog: pytest.LogCaptureFixture) -> None:
    switch = Switch()
    assert not switch.parked.known(uuid)
    for name in ("CHANNEL_PARK", "CHANNEL_UNPARK", "CHANNEL_DESTROY", "PLAYBACK_START"):
        switch.parked.event(*event(name, uuid))
    switch.channels[uuid] = "1 1 CS_EXECUTE"
    switch.parked.resynchronise()
    switch.parked.audio_changed()
    assert switch.parked.now == 0 and all(text.startswith(("api global", "api show")) for text in switch.sent)
    assert switch.parked.refused == 4
    assert len(caplog.records) == 1 and caplog.records[0].levelname == "WARNING", "at a bounded rate"
    assert "\n" not in caplog.records[0].getMessage()


@pytest.mark.parametrize("uuid", [None, 5, ["a"], {"a": 1}, True])
def test_a_uuid_that_is_no_text(uuid: object) -> None:
    switch = Switch()
    name, data = event("CHANNEL_PARK", "a")
    switch.parked.event(name, RawEvent(json.dumps(json.loads(data.data) | {"Unique-ID": uuid}).encode()))
    row = {"uuid": uuid, "application": "park", "direction": "inbound", "state": "CS_EXECUTE"}
    switch.listed = [row]
    switch.parked.resynchronise()
    assert switch.parked.now == 0 and switch.parked.refused == 2
    assert all(text.startswith(("api global", "api show")) for text in switch.sent), "nothing is sent for it"


@pytest.mark.parametrize("seal", ["", "0" * 32, SEAL.of("b"), SEAL.of("a")[:-1], SEAL.of("a") + "0", ["x"], "\ud800"])
def test_a_mark_that_a_client_has_set(seal: object) -> None:
    switch = Switch()
    name, data = event("CHANNEL_PARK", "a")
    headers = json.loads(data.data) | {"variable_event_agent_seal": seal}
    switch.parked.event(name, RawEvent(json.dumps(headers).encode()))
    del headers["variable_event_agent_seal"]
    switch.parked.event(name, RawEvent(json.dumps(headers).encode()))
    assert switch.parked.now == switch.parked.total == 0 and not switch.sent


def test_parked_by_others() -> None:
    switch = Switch()
    switch.parked.event(*event("CHANNEL_PARK", "a", variable_event_agent_parked=""))
    switch.parked.event(*event("CHANNEL_PARK", "b", variable_event_agent_parked="2"))  # transferred to a park of theirs
    assert switch.parked.now == 0 and not switch.sent


def test_events_out_of_order() -> None:
    switch = Switch()
    switch.parked.event(*event("CHANNEL_UNPARK", "a", 9))
    switch.parked.event(*event("CHANNEL_PARK", "a", 8))
    assert (switch.parked.now, switch.parked.total) == (0, 1) and not switch.sent
    switch.parked.event(*event("CHANNEL_PARK", "a", 10))  # parked again
    assert switch.parked.now == 1


def to_json(headers: dict[str, str]) -> bytes:
    """As FreeSWITCH writes it."""
    return json.dumps(headers, separators=(",", ":")).encode()


def turn(name: str, sequence: int, **headers: str) -> tuple[str, RawEvent]:
    """A bridge begins or ends, or a member of a conference comes or goes."""
    usual = {"Event-Name": name, "Event-Sequence": str(sequence)}
    return name, RawEvent(to_json(usual | {k.replace("_", "-"): v for k, v in headers.items()}))


BRIDGED = {"Bridge_A_Unique_ID": "a", "Bridge_B_Unique_ID": "b"}


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (turn("CHANNEL_BRIDGE", 5, **BRIDGED), turn("CHANNEL_UNBRIDGE", 9, **BRIDGED)),
        (
            turn("CHANNEL_BRIDGE", 5, Bridge_A_Unique_ID="x", Bridge_B_Unique_ID="a"),
            turn("CHANNEL_UNBRIDGE", 9, Bridge_A_Unique_ID="x", Bridge_B_Unique_ID="a"),
        ),
        (
            turn("conference::maintenance", 5, Unique_ID="a", Action="add-member"),
            turn("conference::maintenance", 9, Unique_ID="a", Action="del-member"),
        ),
    ],
)
def test_a_parked_call_that_talks_to_somebody_does_not_wait(
    begin: tuple[str, RawEvent], end: tuple[str, RawEvent]
) -> None:
    switch = Switch()
    switch.parked.event(*begin)  # of no call of ours
    switch.parked.event(*event("CHANNEL_PARK", "a", 1))
    switch.parked.event(*event("CHANNEL_PARK", "c", 2))
    assert switch.parked.calls() == ["a", "c"]
    switch.parked.event(*begin)
    assert switch.parked.calls() == ["c"] and (switch.parked.now, switch.parked.total) == (1, 2)
    switch.parked.event(*turn("conference::maintenance", 6, Unique_ID="a", Action="stop-talking"))
    assert switch.parked.now == 1
    # The audio is changed meanwhile: nothing breaks into the talk, and the new one is there afterwards.
    switch.sent.clear()
    switch.choices = Choices(enabled=True, audio="music", music_class="moh")
    switch.parked.audio_changed()
    assert [uuid for uuid, _ in switch.streams] == ["c"]
    switch.parked.event(*end)
    assert sorted(switch.parked.calls()) == ["a", "c"] and switch.parked.total == 2
    assert [uuid for uuid, _ in switch.streams] == ["c", "a"]
    switch.parked.event(*begin)  # late: FreeSWITCH fires from several threads
    assert switch.parked.now == 2


@pytest.mark.parametrize("variable", ["bridge_to", "conference_call_key"])
def test_a_call_that_talks_is_known_after_a_restart(variable: str) -> None:
    switch = Switch()
    switch.channels = {"a": "1 1 CS_EXECUTE", "b": "1 1 CS_EXECUTE"}
    switch.variables = {"a": {f"variable_{variable}": "x"}}
    switch.parked.resynchronise()
    assert switch.parked.calls() == ["b"]
    switch.variables.clear()
    switch.parked.resynchronise()
    assert sorted(switch.parked.calls()) == ["a", "b"]


def test_the_end_of_a_channel_is_the_end_of_its_parking() -> None:
    switch = Switch()
    switch.parked.event(*event("CHANNEL_PARK", "a", 1))
    switch.parked.event(*event("CHANNEL_DESTROY", "a", 2))
    assert switch.parked.now == 0


@given(st.permutations(range(6)))
def test_any_order_of_events_ends_in_the_truth(order: list[int]) -> None:
    switch = Switch()
    story = [("CHANNEL_PARK", 1), ("CHANNEL_UNPARK", 2), ("CHANNEL_PARK", 3), ("CHANNEL_UNPARK", 4)]
    story += [("CHANNEL_UNPARK", 5), ("CHANNEL_DESTROY", 6)]
    for at in order:
        switch.parked.event(*event(story[at][0], "a", story[at][1]))
    assert switch.parked.now <= 1
    switch.parked.resynchronise()
    assert switch.parked.now == 0


@given(st.binary(max_size=100) | st.recursive(st.none() | st.text() | st.integers(), lambda i: st.lists(i)).map(
    lambda value: json.dumps(value).encode()))
def test_a_broken_event_does_no_harm(data: bytes) -> None:
    Switch().parked.event("CHANNEL_PARK", RawEvent(data))


@pytest.mark.parametrize(
    ("choices", "own", "everybodys", "heard"),
    [
        (Choices(audio="silence"), "", "local_stream://a", []),
        (Choices(audio="ringback"), "", "", [RINGBACK]),
        (Choices(audio="music", music_class="jazz/8000"), "x", "y", ["local_stream://jazz/8000"]),
        (Choices(audio="music"), "local_stream://own", "", ["local_stream://own"]),
        (Choices(audio="music"), "", "local_stream://moh", ["local_stream://moh"]),
        (Choices(audio="music"), "", "", [RINGBACK]),
        (Choices(audio="music"), "", "silence", []),
        (Choices(audio="music"), "a\n\nsendmsg b", "", ["a sendmsg b"]),
        (Choices(audio="music"), "${global_setvar(a=1)}", "", [RINGBACK]),
        (Choices(audio="music"), "", "$${a}", [RINGBACK]),
    ],
)
def test_what_is_heard(choices: Choices, own: str, everybodys: str, heard: list[str]) -> None:
    switch = Switch()
    switch.choices, switch.hold_music = choices, everybodys
    switch.parked.resynchronise()
    switch.parked.event(*event("CHANNEL_PARK", "a", variable_hold_music=own))
    assert [stream for _, stream in switch.streams] == heard
    assert all(len(list(Framer().feed(text.encode()))) == 1 for text in switch.sent)


def test_music_that_is_not_there_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    switch = Switch()
    switch.choices = Choices(audio="music")
    for uuid in "ab":
        switch.parked.event(*event("CHANNEL_PARK", uuid))
    assert caplog.text.count("hold_music is not set") == 1


def test_another_audio_for_those_parked_now() -> None:
    switch = Switch()
    switch.parked.event(*event("CHANNEL_PARK", "a"))
    switch.choices, switch.hold_music = Choices(audio="music"), "local_stream://moh"
    switch.sent.clear()
    switch.parked.audio_changed()
    assert switch.sent[1] == "api uuid_break a\n\n" and switch.streams == [("a", "local_stream://moh")]


def test_audio_that_comes_after_the_call_has_left_is_broken_off() -> None:
    switch = Switch()
    for uuid in "ab":
        switch.parked.event(*event("CHANNEL_PARK", uuid, 1))
    switch.parked.event(*event("CHANNEL_UNPARK", "a", 5))
    switch.sent.clear()
    path = {"Playback-File-Path": RINGBACK}
    for uuid, sequence, more in (
        ("a", 4, path),  # it began before the call left, and ended with that
        ("a", 6, {"Playback-File-Path": "/menu.wav"}),  # somebody else's
        ("b", 6, path),  # still parked
        ("c", 6, path),  # unknown
    ):
        name, plain = event("PLAYBACK_START", uuid, sequence)
        switch.parked.event(name, RawEvent(json.dumps({**plain.headers, **more}).encode()))
    assert not switch.sent
    name, plain = event("PLAYBACK_START", "a", 6)
    switch.parked.event(name, RawEvent(json.dumps({**plain.headers, **path}).encode()))
    assert switch.sent == ["api uuid_break a\n\n"]


def test_a_new_life_finds_what_is_parked() -> None:
    switch = Switch()
    switch.channels = {"ours": "1 1 CS_EXECUTE", "sent-on": "1 2 CS_EXECUTE", "bridged": "1 1 CS_EXCHANGE_MEDIA",
                       "theirs": " 1 CS_EXECUTE"}  # fmt: skip
    switch.parked.resynchronise()
    assert (switch.parked.now, switch.parked.total) == (1, 1) and switch.streams == [("ours", RINGBACK)]
    switch.parked.resynchronise()
    assert (switch.parked.now, switch.parked.total) == (1, 1) and len(switch.streams) == 1


def test_a_call_that_hears_something_is_left_alone() -> None:
    switch = Switch()
    switch.channels, switch.application = {"ours": "1 1 CS_EXECUTE"}, "playback"
    switch.parked.resynchronise()
    assert switch.parked.now == 1 and not switch.streams


def test_after_a_restart_of_freeswitch_all_are_gone() -> None:
    switch = Switch()
    for number in range(100):
        switch.parked.event(*event("CHANNEL_PARK", f"call-{number}"))
    assert switch.parked.now == 100
    switch.parked.resynchronise()
    assert switch.parked.now == 0


def test_no_answer_changes_nothing() -> None:
    switch = Switch()
    switch.parked.event(*event("CHANNEL_PARK", "a"))
    switch.deaf = True
    switch.parked.resynchronise()
    assert switch.parked.now == 1
    switch.deaf = False
    switch.parked.resynchronise()
    assert switch.parked.now == 0


def test_a_lost_event_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    switch = Switch()
    switch.parked.expect("a")
    switch.parked.expect("b")
    switch.channels = {"a": "1 1 CS_EXECUTE"}
    clock[0] += module.EXPECTED
    switch.parked.tick()
    assert switch.parked.now == 1 and switch.streams == [("a", RINGBACK)]
    switch.channels = {}
    clock[0] += module.REVIEW
    switch.parked.tick()
    assert switch.parked.now == 0 and not switch.parked.watching


def test_bounds() -> None:
    switch = Switch()
    for number in range(module.EXPECTING + 10):
        switch.parked.expect(f"call-{number}")
    assert len(switch.parked.expected) == module.EXPECTING
    for number in range(module.GONE + 10):
        switch.parked.event(*event("CHANNEL_UNPARK", f"call-{number}"))
    assert len(switch.parked.gone) == module.GONE


def test_channels_are_listed_again_for_freeswitchs_list_is_behind() -> None:
    switch = Switch()
    switch.parked.again = (0.0, 3600.0)
    switch.choices = Choices(enabled=True, audio="ringback")
    switch.parked.resynchronise()
    assert switch.parked.now == 0
    switch.channels["a"] = "1 1 CS_EXECUTE"
    switch.parked.tick()
    assert switch.parked.now == 1 and switch.streams == [("a", RINGBACK)]
    listed = len([text for text in switch.sent if "show channels" in text])
    switch.parked.tick()
    assert listed == len([text for text in switch.sent if "show channels" in text]) == 2, "not each second"


def test_a_call_that_did_not_take_the_answer_is_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    switch = Switch()
    for uuid in ("parked", "elsewhere", "routed", "transferred", "gone"):
        switch.parked.expect(uuid)
    switch.channels = {
        "parked": "1 1 CS_EXECUTE", "elsewhere": " 1 CS_EXECUTE", "routed": " 1 CS_ROUTING",
        "transferred": "1 2 CS_EXECUTE",
    }  # fmt: skip
    clock[0] += module.EXPECTED
    switch.parked.tick()
    assert (switch.parked.missed, switch.parked.now) == (1, 1) and caplog.text.count("go past park mode") == 1
    switch.parked.miss()
    assert switch.parked.missed == 2 and caplog.text.count("go past park mode") == 1, "at a bounded rate"
