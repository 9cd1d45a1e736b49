"""What the client for programs knows without a network: subjects, replies, calls, losses, the NATS protocol."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import event_agent_client as ea
from event_agent.client.client import event_pattern as first_pattern
from event_agent.protocol.questions import ASKING
from event_agent_client import _wire, core
from event_agent_client.core import Inbox, Reply
from event_agent_client.events import event_of
from event_agent_client.state import CallState, Running

# -- events by name


@pytest.mark.parametrize(
    "text",
    ["CHANNEL_ANSWER", "CHANNEL_*", "sofia::register", "channel.>", "custom.sofia.>", ">", "CUSTOM",
     "conference::maintenance", "CHANNEL_HANGUP_COMPLETE", "agent.gap", "AGENT_GAP", "BACKGROUND_JOB"],
)  # fmt: skip
def test_patterns_are_those_of_the_first_client(text: str) -> None:
    assert core.event_pattern(text) == first_pattern(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("CHANNEL_ANSWER CHANNEL_HANGUP", "several events"),
        ("CHANNEL_ANSWER,DTMF", "several events"),
        ("CHANEL_ANSWER", "CHANNEL_ANSWER?"),
        ("DTFM", "there is no event DTFM"),
        ("channel..answer", "neither an event's name"),
        ("a.>.b", "neither an event's name"),
        ("", "neither an event's name"),
        (["DTMF"], "one by one"),
        (None, "one by one"),
        (5, "one by one"),
    ],
)
def test_what_is_no_event_is_refused(text: Any, said: str) -> None:
    with pytest.raises(ea.Refused, match="event") as caught:
        core.event_pattern(text)
    assert said in str(caught.value) and caught.value.field == "events"


@pytest.mark.parametrize(
    ("name", "filters", "why"),
    [
        ("DTMF", {"exclude": ["DTMF", "HEARTBEAT"]}, "exclude has DTMF"),
        ("DTMF", {"exclude": ["dtmf"]}, "exclude has dtmf"),
        ("CHANNEL_ANSWER", {"exclude": ["DTMF"]}, ""),
        ("CHANNEL_ANSWER", {"include": ["CHANNEL_HANGUP"]}, "include does not have it"),
        ("CHANNEL_ANSWER", {"include": ["channel_answer"]}, ""),
        ("CHANNEL_ANSWER", {"include": ["ALL"]}, ""),
        ("CHANNEL_ANSWER", {"exclude": ["ALL"]}, "exclude has ALL"),
        ("CHANNEL_ANSWER", {"publish_all_events": False}, "publish_all_events is false"),
        ("sofia::register", {"exclude": ["CUSTOM"]}, "exclude has CUSTOM"),
        ("sofia::register", {"exclude": ["sofia::expire"]}, ""),
        ("sofia::register", {"include": ["CUSTOM"]}, ""),
        ("CUSTOM", {"include": ["sofia::register"]}, ""),
        ("AGENT_GAP", {"include": ["CHANNEL_ANSWER"]}, ""),
        ("AGENT_GAP", {"exclude": ["AGENT_GAP"]}, "exclude has AGENT_GAP"),
        ("channel.>", {"exclude": ["ALL"]}, ""),
        ("CHANNEL_*", {"include": ["DTMF"]}, ""),
    ],
)
def test_an_event_that_is_kept_back_is_known(name: str, filters: dict[str, Any], why: str) -> None:
    assert core.kept_back(name, filters) == why


@pytest.mark.parametrize(
    ("pattern", "subject", "takes"),
    [("a.>", "a.b.c", True), ("a.>", "a", False), ("a.*", "a.b", True), ("a.*", "a.b.c", False), (">", "a", True),
     ("a.b", "a.b", True), ("a.b", "a.c", False), ("*.b", "a.b", True), ("a.b.c", "a.b", False)],
)  # fmt: skip
def test_what_a_pattern_takes(pattern: str, subject: str, takes: bool) -> None:
    assert core.pattern_takes(pattern, subject) is takes


def test_questions_are_those_of_the_agent() -> None:
    assert core.ASKING == {each for each in ASKING if " " not in each}


# -- replies


@pytest.mark.parametrize(
    ("reply", "kind", "executed"),
    [
        ({"message": "uuid must be between 2 and 63 characters"}, ea.Refused, "no"),
        ({"message": "x", "field": "uuid"}, ea.Refused, "no"),
        ({"message": "-ERR No such channel!", "data": "-ERR No such channel!\n"}, ea.CommandFailed, ""),
        ({"message": "FreeSWITCH is not connected", "executed": "no"}, ea.CommandFailed, "no"),
        ({"message": "Command timed out", "executed": "unknown"}, ea.CommandFailed, "unknown"),
        ({"message": "Channel hung up: USER_BUSY", "cause": "USER_BUSY", "executed": "unknown"}, ea.Hangup, "unknown"),
        ({}, ea.Refused, "no"),
    ],
)
def test_errors_are_types(reply: dict[str, Any], kind: type[ea.AgentError], executed: str) -> None:
    with pytest.raises(ea.AgentError) as caught:
        Reply({"success": False} | reply).check()
    assert type(caught.value) is kind and caught.value.executed == executed
    if isinstance(caught.value, ea.Refused):
        assert caught.value.field == reply.get("field", "")


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        ("-ERR USER_BUSY\n", ea.Busy),
        ("-ERR NO_ANSWER\n", ea.NoAnswer),
        ("-ERR NO_USER_RESPONSE\n", ea.NoAnswer),
        ("-ERR USER_NOT_REGISTERED\n", ea.NotRegistered),
        ("-ERR SUBSCRIBER_ABSENT\n", ea.NotRegistered),
        ("-ERR NO_ROUTE_DESTINATION\n", ea.NoRoute),
        ("-ERR UNALLOCATED_NUMBER\n", ea.NoRoute),
        ("-ERR CALL_REJECTED\n", ea.CallFailed),
    ],
)
def test_a_call_that_fails_says_why_by_its_type(data: str, kind: type[ea.CallFailed]) -> None:
    error = core.cause_of(ea.CommandFailed("x", {"data": data}))
    assert type(error) is kind and error.cause == data[5:].strip()


@pytest.mark.parametrize("data", [None, "", "-ERR Cannot locate registered user", "+OK", {"a": 1}, "-ERR a b\n"])
def test_what_is_no_cause_is_none(data: Any) -> None:
    assert core.cause_of(ea.CommandFailed("x", {"data": data})) is None


@pytest.mark.parametrize("data", [b"", b"[]", b"x", b"5", b"\xff"])
def test_what_is_no_reply_is_an_error(data: bytes) -> None:
    with pytest.raises(ea.CommandFailed):
        core.reply_of(b"", data, "a")


def test_nobody_listens() -> None:
    with pytest.raises(ea.NoAgent, match="no agent listens on freeswitch.any") as caught:
        core.reply_of(b"NATS/1.0 503\r\n\r\n", b"", "freeswitch.any")
    assert caught.value.executed == "no"


def test_timeout_can_not_be_mistaken() -> None:
    with pytest.raises(TypeError, match="ring="):
        core.payload_of("originate", None, None, {"timeout": 20})
    assert core.payload_of("originate", None, {"timeout": 20}, {"a": None}) == {"command": "originate", "timeout": 20}


def test_wait_can_not_be_mistaken() -> None:
    core.check_patience({"command": "execute_app", "wait": 5}, 20.0)
    core.check_patience({"command": "version"}, 20.0)
    with pytest.raises(TypeError, match="fields="):
        core.check_patience({"command": "execute_app"}, 20.0)


@pytest.mark.parametrize(
    ("payload", "seconds"),
    [
        ({"command": "version"}, 35.0),
        ({"command": "execute_app", "wait": 60}, 65.0),
        ({"command": "execute_app", "wait": 1}, 35.0),
        ({"command": "originate", "endpoint": "a|b", "timeout": 60}, 135.0),
        ({"command": "originate", "endpoint": "a"}, 75.0),
    ],
)
def test_how_long_a_reply_may_take(payload: dict[str, Any], seconds: float) -> None:
    assert core.time_for(payload, 35.0) == seconds


# -- calls


def event(name: str, uuid: str = "u", **headers: str) -> ea.Event:
    found = event_of(json.dumps({"event_name": name, "uuid": uuid, "node_id": "n", "headers": headers}).encode())
    assert found is not None
    return found


class Told:
    def __init__(self) -> None:
        self.what: list[Any] = []

    def __call__(self, what: Any) -> None:
        self.what.append(what)


@pytest.mark.parametrize("name", ["CHANNEL_HANGUP", "CHANNEL_HANGUP_COMPLETE", "CHANNEL_DESTROY"])
def test_a_hang_up_ends_every_wait(name: str) -> None:
    state, told = CallState("u"), [Told(), Told()]
    state.wait(None, told[0])
    state.wait(lambda event: event.name == "DTMF", told[1])
    state.feed(event(name, **{"Hangup-Cause": "USER_BUSY"}))
    assert not state.up and state.cause == "USER_BUSY" and state.waits == 0
    for each in told:
        assert [type(what) for what in each.what] == [ea.Hangup] and each.what[0].cause == "USER_BUSY"
    late = Told()
    state.wait(None, late)
    assert late.what[0].cause == "USER_BUSY"


def test_each_wait_is_answered_once() -> None:
    state, told = CallState("u"), Told()
    state.wait(lambda event: event.name == "DTMF", told)
    for name in ("CHANNEL_ANSWER", "DTMF", "DTMF", "CHANNEL_HANGUP", "CHANNEL_DESTROY"):
        state.feed(event(name))
    assert [each.name for each in told.what] == ["DTMF"]


def test_another_call_is_not_ours() -> None:
    state = CallState("u")
    state.feed(event("CHANNEL_HANGUP", "v"))
    assert state.up


def test_a_cause_wins_over_none() -> None:
    state = CallState("u")
    state.gone()
    assert state.cause == "unknown" and state.over
    state.feed(event("CHANNEL_HANGUP_COMPLETE", **{"Hangup-Cause": "NO_ANSWER"}))
    state.feed(event("CHANNEL_DESTROY", **{"Hangup-Cause": "NORMAL_CLEARING"}))
    assert state.cause == "NO_ANSWER" and state.told


def test_what_a_call_is_bridged_to() -> None:
    state = CallState("u")
    state.feed(event("CHANNEL_BRIDGE", **{"Bridge-A-Unique-ID": "u", "Bridge-B-Unique-ID": "v"}))
    assert state.bridged == "v"
    state.feed(event("CHANNEL_UNBRIDGE"))
    assert state.bridged == ""


def test_a_called_leg_is_connected_as_its_state_says() -> None:
    state = CallState("u")

    def moved(to: str, sequence: str) -> tuple[bool, str, int]:
        state.feed(event("CHANNEL_STATE", **{"Channel-State": to, "Event-Sequence": sequence}))
        return state.called, state.bridged, state.joins

    assert moved("CS_SOFT_EXECUTE", "7") == (False, "", 0)
    assert moved("CS_EXCHANGE_MEDIA", "9") == (True, "", 0)
    state.bridged = "v"
    assert moved("CS_RESET", "8") == (True, "v", 0)  # it comes late
    assert moved("CS_EXECUTE", "10") == (False, "", 1)
    assert moved("CS_PARK", "") == (False, "", 1)  # of a FreeSWITCH that does not number them


def test_only_the_waits_of_before_fail() -> None:
    state, old, new = CallState("u"), Told(), Told()
    before = [state.wait(None, old)]
    state.wait(None, new)
    state.fail_some(before, ea.NoReply("x"))
    assert len(old.what) == 1 and not new.what and state.up


def running(app: str, app_uuid: str = "") -> Running:
    found = Running(app, ("pin",))
    found.app_uuid = app_uuid
    return found


def test_an_application_is_known_by_its_event() -> None:
    state = CallState("u")
    first, second = running("playback"), running("Playback")
    state.known.add("x0")  # one that nobody waits for; its event comes late
    state.running += [first, second]
    for app_uuid in ("x0", "x1", "x1", "x2"):
        state.feed(event("CHANNEL_EXECUTE", **{"Application": "playback", "Application-UUID": app_uuid}))
    assert (first.app_uuid, second.app_uuid) == ("x1", "x2")


@pytest.mark.parametrize(
    ("ours", "there", "runs"),
    [
        (running("playback", "x1"), [{"app": "playback", "app_uuid": "x1"}], True),
        (running("playback", "x1"), [{"app": "playback", "app_uuid": "x2"}], False),
        (running("playback"), [{"app": "PLAYBACK", "app_uuid": "x2"}], True),
        (running("playback"), [{"app": "record", "app_uuid": "x2"}], False),
        (running("playback", "x1"), [], False),
    ],
)
def test_whether_an_application_still_runs(ours: Running, there: list[dict[str, str]], runs: bool) -> None:
    assert ours.still_runs(there) is runs


def test_a_reply_that_was_lost_is_made_of_what_the_channel_says() -> None:
    headers = {
        "variable_current_application": "play_and_get_digits", "variable_pin": "1234",
        "variable_current_application_response": "x",
    }  # fmt: skip
    reply = running("Play_and_get_digits", "x1").reply_by("n", "u", headers)
    assert reply.ok and reply.node == "n" and reply["app_uuid"] == "x1"
    assert reply.data["variables"] == {"pin": "1234"} and reply.data["response"] == "x"
    reply = running("record", "x1").reply_by("n", "u", headers)  # another one has run since
    assert reply.data["response"] == "_none_"


def test_what_was_missed_is_made_good_for_those_who_wait() -> None:
    state, answered, bridged = CallState("u"), Told(), Told()
    state.found({"variable_bridge_uuid": "v"})
    assert state.bridged == ""  # it stays set when the connection is over
    state.wait(lambda event: event.name == "CHANNEL_ANSWER", answered)
    state.wait(lambda event: event.name == "CHANNEL_BRIDGE", bridged)
    state.found({"Answer-State": "answered", "variable_bridge_uuid": "v"})
    assert state.answered and [each.name for each in answered.what] == ["CHANNEL_ANSWER"]
    assert state.bridged == "v" and bridged.what[0].other_uuid == "v"


# -- streams


@given(st.lists(st.booleans(), max_size=200), st.integers(1, 8))
def test_what_finds_no_room_is_one_gap_in_its_place(steps: list[bool], most: int) -> None:
    inbox, sent, got, missed = Inbox(most), 0, [], 0
    for put in steps:
        if put:
            sent += 1
            inbox.put(sent, sent)
        elif len(inbox):
            got.append(inbox.take())
    while len(inbox):
        got.append(inbox.take())
    at = 0
    for item in got:
        if isinstance(item, ea.Gap):
            assert item.count and item.since == at + 1 and item.until == at + item.count
            at += item.count
            missed += item.count
        else:
            assert item == at + 1
            at = item
    assert at == sent and sum(not isinstance(item, ea.Gap) for item in got) + missed == sent


@pytest.mark.parametrize(
    ("scopes", "union"),
    [
        ([(["a"], "^1")], {"context": ["a"], "number": "^1"}),
        ([(["a"], "^1"), (["b"], "^2")], {"context": ["a", "b"], "number": "(?:^1)|(?:^2)"}),
        ([(["a"], "^1"), ([], "^2")], {"number": "(?:^1)|(?:^2)"}),
        ([(["a"], ""), (["a"], "^2")], {"context": ["a"]}),
        ([([], "")], {}),
    ],
)
def test_one_scope_for_several_handlers(scopes: list[tuple[list[str], str]], union: dict[str, Any]) -> None:
    assert core.union_of_scopes(scopes) == union


@pytest.mark.parametrize(
    ("text", "word"),
    [("a.wav", "a.wav"), ("a b.wav", "'a b.wav'"), ("it's", r"'it\'s'"), ("", "''"), (r"\d+", r"'\\d+'")],
)
def test_words_of_an_application(text: str, word: str) -> None:
    assert core.quoted(text) == word


# -- the NATS protocol

STREAM = (
    b'INFO {"a":1}\r\nMSG a.b 7 3\r\nxyz\r\nHMSG a.b  8 r.1 12  15\r\nNATS/1.0\r\n\r\nabc\r\nPING\r\n-ERR \'no\'\r\n'
    b"MSG c 9 0\r\n\r\nPONG\r\n"
)
OPERATIONS = [
    _wire.Control("INFO", b'{"a":1}'),
    _wire.Message("a.b", 7, "", b"", b"xyz"),
    _wire.Message("a.b", 8, "r.1", b"NATS/1.0\r\n\r\n", b"abc"),
    _wire.Control("PING", b""),
    _wire.Control("-ERR", b"'no'"),
    _wire.Message("c", 9, "", b"", b""),
    _wire.Control("PONG", b""),
]


@given(st.lists(st.integers(1, 40), min_size=1))
def test_however_the_stream_is_cut(cuts: list[int]) -> None:
    parser, found, rest = _wire.Parser(), [], STREAM
    for size in cuts:
        found += parser.feed(rest[:size])
        rest = rest[size:]
    found += parser.feed(rest)
    assert found == OPERATIONS


@pytest.mark.parametrize(
    "line",
    [b"MSG a 1 x\r\n", b"MSG a\r\n", b"MSG\r\n", b"HMSG a 1 9 3\r\n", b"MSG a 1 999999999999\r\n", b"MSG a x 3\r\n",
     b"A" * 70000],
)  # fmt: skip
def test_what_is_no_message_ends_the_link(line: bytes) -> None:
    with pytest.raises(ea.LinkError):
        _wire.Parser().feed(line)


@pytest.mark.parametrize("subject", ["", "a b", "a\r\nPUB b 0", "a" * 5000])
def test_a_subject_that_can_not_be_sent_to(subject: str) -> None:
    with pytest.raises(ValueError, match="no subject"):
        _wire.pub(subject, "", b"x")


@given(st.binary(max_size=50))
def test_whatever_comes_is_an_event_or_none(data: bytes) -> None:
    found = event_of(data)
    assert found is None or isinstance(found, ea.Event)


def test_typed_events() -> None:
    found = event("CHANNEL_HANGUP_COMPLETE", **{"Hangup-Cause": "NO_ANSWER", "variable_billmsec": "4100"})
    assert isinstance(found, ea.ChannelHangupComplete) and found.cause == "NO_ANSWER" and found.billsec == 4.1
    done = event("CHANNEL_EXECUTE_COMPLETE", Application="playback")
    assert isinstance(done, ea.ChannelExecuteComplete) and done.data == "" and done.response == ""
    assert event("CUSTOM", **{"Event-Subclass": "sofia::register"}).header("Event-Subclass") == "sofia::register"
