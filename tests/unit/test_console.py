"""`args` instead of fields: cut as FreeSWITCH cuts them, under the rules of the fields."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.commands import console
from event_agent.commands.catalogue import COMMANDS
from event_agent.commands.hangup import FIELDS as HANGUP
from event_agent.commands.originate import FIELDS as ORIGINATE
from event_agent.commands.unknown import KnownFields
from event_agent.errors import CommandError
from event_agent.freeswitch.dialreader import arguments, read
from event_agent.freeswitch.dialstring import as_word

BY_NAME = {each.name: each for each in COMMANDS}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("hangup", "ab-cd", {"uuid": "ab-cd"}),
    ("hangup", "  ab-cd   USER_BUSY ", {"uuid": "ab-cd", "cause": "USER_BUSY"}),
    ("hangup", "ab-cd undef", {"uuid": "ab-cd"}),
    ("dialplan.audio", "ringback", {"mode": "ringback"}),
    ("dialplan.audio", "music moh", {"mode": "music", "music_class": "moh"}),
    ("dialplan.autoanswer", "true", {"enabled": True}), ("dialplan.autoanswer", "OFF", {"enabled": False}),
    ("dialplan.autoanswer", "on", {"enabled": True}), ("dialplan.autoanswer", "1", {"enabled": "1"}),
    ("originate", "user/1000 &park XML default",
     {"endpoint": "user/1000", "extension": "&park", "dialplan": "XML", "context": "default"}),
    ("originate", "user/1000 '&playback(a b.wav)' undef UNDEF 'Fred O\\'Neill' 555 30",
     {"endpoint": "user/1000", "extension": "&playback(a b.wav)", "caller_id_name": "Fred O'Neill",
      "caller_id_number": "555", "timeout": 30}),
    ("originate", "{a=b,c='d e'}[x=y]user/1000 9000",
     {"endpoint": "{a=b,c=d\\se}[x=y]user/1000", "extension": "9000"}),
    ("originate", "user/1000 5000 XML default n 1 0x10",
     {"endpoint": "user/1000", "extension": "5000", "dialplan": "XML", "context": "default", "caller_id_name": "n",
      "caller_id_number": "1", "timeout": "0x10"}),
    ("originate", "^^|user/1000|&park", {"endpoint": "user/1000", "extension": "&park"}),
]  # fmt: skip


@pytest.mark.parametrize(("command", "args", "fields"), CASES)
def test_words_become_fields(command: str, args: str, fields: dict[str, Any]) -> None:
    request = {"command": command, "args": args, "correlation_id": 1}
    assert console.filled(BY_NAME[command], request) == {**request, **fields}
    assert "endpoint" not in request, "the request itself is as it was"


def test_a_field_wins_over_its_word() -> None:
    request = {"args": "user/1000 &park XML default n 1 30", "timeout": 5, "context": "mine", "variables": {}}
    found = console.filled(ORIGINATE, request)
    assert (found["timeout"], found["context"], found["endpoint"]) == (5, "mine", "user/1000")


@pytest.mark.parametrize(
    ("command", "request_"),
    [
        ("hangup", {"args": "ab cd", "uuid": "xy"}), ("hangup", {"args": ""}), ("hangup", {"args": None}),
        ("originate", {"args": "a b", "endpoint": "x"}), ("originate", {"args": "a b", "extension": "x"}),
        ("originate", {"args": "a b", "destination": "x"}), ("dialplan.audio", {"args": "music", "mode": "ringback"}),
    ],
)  # fmt: skip
def test_args_are_not_used_beside_a_required_field(command: str, request_: dict[str, Any]) -> None:
    assert console.filled(BY_NAME[command], request_) is request_
    expected = ["args are not used: the request has fields in their place"] if request_.get("args") else []
    assert KnownFields(COMMANDS).warnings(command, request_) == expected


def test_args_that_are_used_bring_no_warning() -> None:
    known = KnownFields(COMMANDS)
    assert known.warnings("originate", {"args": "a b", "timeout": 5}) == []
    assert known.warnings("originate", {"args": "a b", "timeot": 5}) == [
        "unknown field 'timeot': did you mean 'timeout'?"
    ]


@pytest.mark.parametrize(
    ("command", "args", "message"),
    [
        ("hangup", "a b c", "args must be <uuid> [cause]"),
        ("dialplan.audio", "music moh x", "args must be <silence|ringback|music> [music_class]"),
        ("dialplan.autoanswer", "true false", "args must be <true|false>"),
        ("originate", "a b c d e f 7 h", "args must be <endpoint> <extension> [dialplan] [context] [caller_id_name] "
         "[caller_id_number] [timeout]"),
        ("hangup", ["a"], "args must be a string"), ("hangup", 5, "args must be a string"),
        ("hangup", "a\nb", "args must not contain line breaks or NUL"),
        ("hangup", "a\\", "args can't hold a backslash at the end of a part"),
    ],
)  # fmt: skip
def test_what_can_not_be_taken_apart(command: str, args: Any, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        console.filled(BY_NAME[command], {"args": args})
    assert caught.value.message == message


def test_fields_that_args_hold() -> None:
    """Required ones come first, or an absent one could not be told from the one behind it; each is the command's."""
    for command in COMMANDS:
        needs = [each.required for each in command.console]
        assert needs == sorted(needs, reverse=True) and set(command.console) <= set(command.fields), command.name
        if command.console:
            assert {each for each in command.fields if each.required} <= set(command.console)
    assert HANGUP.console


@given(st.text(st.sampled_from("ab'\\\" ,{}[]=|^s"), min_size=1, max_size=12))
def test_a_word_comes_through_whole(text: str) -> None:
    """What was cut out of `args` is what FreeSWITCH cuts out of the command that is made of it."""
    assert arguments(f"x{as_word(text)} y") == [f"x{text}", "y"]


def test_an_endpoint_reads_as_it_was_typed() -> None:
    typed = "{origination_caller_id_name='Joe Smith',x=a\\,b}user/1000"
    (endpoint, _) = arguments(f"{typed} 9000")
    assert read(as_word(endpoint)) == read(typed)
    assert ("origination_caller_id_name", "Joe Smith") in read(typed).pairs()


def test_args_have_a_bound_that_keeps_them_quick() -> None:
    """20,000 characters of quotes took 20 ms on the thread that reads all requests."""
    declaration = BY_NAME["hangup"]
    with pytest.raises(CommandError, match="args must be 8192 characters or fewer"):
        console.filled(declaration, {"command": "hangup", "args": "&'" * 4097})
    with pytest.raises(CommandError, match="args must be <uuid>"):
        console.filled(declaration, {"command": "hangup", "args": "a " * 4000})
