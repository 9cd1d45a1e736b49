"""The text of commands: one frame each, whatever they are made of, or refused."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import event_agent
from event_agent.freeswitch import wire
from event_agent.freeswitch.wire import Unfit
from tests.switchsim.framing import Framer

ANY = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.sampled_from(
    ["\n\napi x", "a\r\n\r\nb", "\0", "Content-Length: 5", "content-length", "a: b", "", " "]
)


def test_what_is_made() -> None:
    assert wire.api("status") == "api status\n\n"
    assert wire.api("echo", "  a  b ") == "api echo   a  b \n\n"
    assert wire.bgapi("originate", "user/1 &park", "j-1") == "bgapi originate user/1 &park\nJob-UUID: j-1\n\n"
    assert wire.execute("u", "answer") == "sendmsg u\ncall-command: execute\nexecute-app-name: answer\n\n"
    assert wire.execute("u", "set", "a=\n\u00e9 ", {"loops": "-1"}) == (
        "sendmsg u\ncall-command: execute\nexecute-app-name: set\nloops: -1\n"
        "content-type: text/plain\ncontent-length: 6\n\na=\n\u00e9 "
    )
    assert wire.sendevent("CUSTOM", {"Event-Subclass": "a::b"}) == "sendevent CUSTOM\nEvent-Subclass: a::b\n\n"


@pytest.mark.parametrize(
    "make",
    [
        lambda: wire.line("a\nb"), lambda: wire.line("a\r"), lambda: wire.api("a", "\0"), lambda: wire.api("a\n", "b"),
        lambda: wire.bgapi("a", "b\n", "j"), lambda: wire.bgapi("a", "b", "j\nx: y"), lambda: wire.execute("a b", "c"),
        lambda: wire.execute("a", "b c"), lambda: wire.execute("a", ""), lambda: wire.execute("a", "b", "\0"),
        lambda: wire.execute("a", "b", "\ud800"), lambda: wire.sendevent("A", {}, "\udcff"),
        lambda: wire.execute("a", "b", "c", {"x": "y\n"}), lambda: wire.execute("a", "b", "c", {"x\n": "y"}),
        lambda: wire.execute("a", "b", "c", {"Content-Length": "1"}), lambda: wire.execute("a", "b", "", {"x: y": "z"}),
        lambda: wire.sendevent("a b", {}), lambda: wire.checked_uuid("${x}"), lambda: wire.word(""),
    ],
)  # fmt: skip
def test_what_is_refused(make: Callable[[], str]) -> None:
    with pytest.raises(Unfit):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: wire.api("status", "unload mod_event_socket"),
        lambda: wire.api("uuid_exists", "RELOAD.Mod_Event_Socket"),
        lambda: wire.api("reload", "-f mod_event_socket"), lambda: wire.api("mod_event_socket", "reload"),
        lambda: wire.line("event json CUSTOM unload::mod_event_socket"),
        lambda: wire.bgapi("originate", "{note=unload}user/1 mod_event_socket", "j"),
        lambda: wire.bgapi("status", "", "unload-mod_event_socket"),
        lambda: wire.execute("unload-mod_event_socket", "a"),
        lambda: wire.execute("u", "unload", "", {"x": "mod_event_socket"}),
        lambda: wire.sendevent("reload", {"mod_event_socket": "a"}),
    ],
)  # fmt: skip
def test_what_freeswitch_would_take_for_the_end_of_its_event_socket_is_refused(make: Callable[[], str]) -> None:
    """Whatever the command is: mod_event_socket.c, parse_command."""
    with pytest.raises(Unfit, match="would end its event socket"):
        make()
    assert not wire.is_uuid("unload-mod_event_socket")


def test_the_event_socket_may_be_reloaded_and_named() -> None:
    """Where that is what the command says; a body is not looked at."""
    assert wire.api("reload", "mod_event_socket") == "api reload mod_event_socket\n\n"
    assert wire.api("bgapi", "Unload mod_event_socket") == "api bgapi Unload mod_event_socket\n\n"
    assert wire.api("module_exists", "mod_event_socket") and wire.api("reload", "mod_sofia")
    assert wire.execute("u", "log", "unload mod_event_socket")


@given(ANY, ANY, ANY, st.dictionaries(ANY, ANY, max_size=3))
def test_each_is_one_frame(first: str, second: str, third: str, headers: dict[str, str]) -> None:
    made: tuple[Callable[[], str], ...] = (
        lambda: wire.api(first, second),
        lambda: wire.bgapi(first, second, third),
        lambda: wire.execute(first, second, third, headers),
        lambda: wire.sendevent(first, headers, third),
    )
    for make in made:
        try:
            text = make()
        except Unfit:
            continue
        framer = Framer()
        assert len(list(framer.feed(text.encode()))) == 1 and not framer.partial


def test_no_command_is_written_anywhere_else() -> None:
    """A text that ends a command stands in wire.py alone, so nothing can get past its checks.

    command.py looks for the end of a text; ctl writes pages.
    """
    package = Path(event_agent.__file__).parent
    found = set()
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.endswith("\n\n"):
                found.add(str(path.relative_to(package)))
    assert found <= {"freeswitch/wire.py", "freeswitch/command.py", "ctl/program.py"}, found
