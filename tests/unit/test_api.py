"""An API verb: what is sent, what is refused, and what FreeSWITCH's answers mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.commands.api import EXECUTED, ApiCommand, api_outcome, keys_of
from event_agent.commands.guards import Guards
from event_agent.errors import CommandError
from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.freeswitch.frames import FrameReader
from tests.switchsim.framing import Framer


class FakeCall:
    def __init__(self, **payload: Any) -> None:
        self.command = payload["command"]
        self.payload = payload
        self.outcomes: list[Any] = []
        self.failures: list[str] = []
        self.finish = self.outcomes.append
        self.fail = self.failures.append


def sent(**payload: Any) -> Command:
    """What is submitted for a request."""
    commands: list[Command] = []
    ApiCommand(commands.append, Guards())(FakeCall(**payload))  # type: ignore[arg-type]
    (command,) = commands
    return command


def refused(**payload: Any) -> str:
    with pytest.raises(CommandError) as caught:
        sent(**payload)
    return caught.value.message


def test_somebody_may_ask_to_hear_of_a_verb_later() -> None:
    heard: list[str] = []
    after: dict[str, Callable[[], None]] = {}
    commands: list[Command] = []
    handler = ApiCommand(commands.append, Guards(), after)
    after["fsctl"] = lambda: heard.append("fsctl")
    for verb in ("status", "FSCTL"):
        handler(FakeCall(command=verb, args="pause"))  # type: ignore[arg-type]
    assert not heard
    for command in commands:
        command.done("+OK\n")
    assert heard == ["fsctl"]


def test_what_is_sent() -> None:
    assert sent(command="status").text == "api status\n\n"
    assert sent(command="status", args="").text == "api status\n\n"
    assert sent(command="echo", args="  a  b ").text == "api echo   a  b \n\n"
    command = sent(command="uuid_kill", args="abc NORMAL_CLEARING")
    assert (command.verb, command.keys, command.job, command.slow) == ("uuid_kill", ("abc",), "", False)


@pytest.mark.parametrize(
    ("verb", "args"),
    [("ORIGINATE", "loopback/x undef"), ("bgapi", "Originate loopback/x undef"),
     ("expand", "expand or\\'iginate loopback/x undef")],
)  # fmt: skip
def test_an_originate_of_which_freeswitch_dies_is_refused_however_it_is_written(verb: str, args: str) -> None:
    assert refused(command=verb, args=args) == "extension can't be undef: FreeSWITCH would abort"


@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=60))
def test_any_request_is_one_command_or_refused(verb: str, args: str) -> None:
    try:
        command = sent(command=verb, args=args)
    except CommandError as error:
        assert "\n" not in error.message and "\r" not in error.message
        return
    data = command.text.encode()  # no lone surrogates
    (found,) = Framer().feed(data)
    assert found.line == (f"api {verb} {args}" if args else f"api {verb}") and not found.headers
    assert b"\n" not in data[:-2] and b"\r" not in data and b"\0" not in data


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        ({"command": "fsctl shutdown"}, "command must not contain white space; arguments go into args"),
        ({"command": "a\tb"}, "command must not contain white space; arguments go into args"),
        ({"command": "a\u3000b"}, "command must not contain white space; arguments go into args"),
        ({"command": "a\nb"}, "command must not contain line breaks or NUL"),
        ({"command": "x" * 256}, "command must be between 1 and 255 characters"),
        ({"command": "x", "args": "a\r"}, "args must not contain line breaks or NUL"),
        ({"command": "x", "args": "a\0"}, "args must not contain line breaks or NUL"),
        ({"command": "x", "args": 5}, "args must be a string"),
        ({"command": "x", "args": None}, "args must be a string"),
        ({"command": "x", "args": "\ud800"}, "args must be valid Unicode text"),
    ],
)
def test_what_is_refused(payload: dict[str, Any], message: str) -> None:
    assert refused(**payload) == message


def test_the_lists_hold() -> None:
    guards = Guards()
    guards.set(("fsctl",), (), ())
    commands: list[Command] = []
    with pytest.raises(CommandError, match="'fsctl' is denied"):
        ApiCommand(commands.append, guards)(FakeCall(command="bgapi", args="fsctl x"))  # type: ignore[arg-type]
    assert not commands


@pytest.mark.parametrize(
    ("verb", "args", "keys"),
    [
        ("uuid_kill", "a", ("a",)), ("uuid_kill", "  a  b", ("a",)), ("uuid_kill", "", ()),
        ("uuid_bridge", "a b", ("a", "b")), ("uuid_bridge", "a a", ("a",)), ("uuid_bridge", "a", ("a",)),
        ("uuid_bridge", "a b c", ("a", "b")), ("status", "a", ()), ("uuid_setvar", "a b c d e", ("a",)),
        ("UUID_Kill", "a", ("a",)), ("UUID_BRIDGE", "a b", ("a", "b")), ("uuid_setvar", "'a' x 2", ("a",)),
        ("uuid_setvar", "^^:a:x:2", ("a",)), ("uuid_getvar", " ^^;a;x", ("a",)), ("uuid_bridge", "^^|a|b", ("a", "b")),
        ("uuid_setvar", "a x ^^:1", ("a",)), ("uuid_setvar", "^^", ("^^",)), ("STATUS", "a", ()),
    ],
)  # fmt: skip
def test_the_channels_a_command_is_about(verb: str, args: str, keys: tuple[str, ...]) -> None:
    assert keys_of(verb, args) == keys


@pytest.mark.parametrize(
    ("answer", "ok", "message", "data"),
    [
        ("UP 0 years\n", True, EXECUTED, "UP 0 years\n"),
        ("", True, EXECUTED, ""),
        ("-ERR no reply\n", True, EXECUTED, ""),
        ("-ERR No such channel!\n", False, "-ERR No such channel!", "-ERR No such channel!\n"),
        ("-USAGE: <uuid> [cause]\n", False, "-USAGE: <uuid> [cause]", "-USAGE: <uuid> [cause]\n"),
        (" -ERR inside", True, EXECUTED, " -ERR inside"),
        ("+OK -ERR", True, EXECUTED, "+OK -ERR"),
    ],
)
def test_answers(answer: str, ok: bool, message: str, data: str) -> None:
    outcome = api_outcome(answer)
    assert (outcome.ok, outcome.message, outcome.data) == (ok, message, data)


def test_the_answer_finishes_the_call() -> None:
    commands: list[Command] = []
    call = FakeCall(command="status")
    ApiCommand(commands.append, Guards())(call)  # type: ignore[arg-type]
    commands[0].done("UP")
    commands[0].failed(Failure("FreeSWITCH is not connected", Executed.NO))
    assert call.outcomes[0].data == "UP" and [str(each) for each in call.failures] == ["FreeSWITCH is not connected"]
    assert FrameReader().feed(commands[0].text.encode())[0].head == b"api status"
