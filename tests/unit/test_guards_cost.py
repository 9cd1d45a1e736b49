"""What looking through a text costs: it grows with the length and not faster, and 10 ms is the most for a request.

Times are the processor time of this thread, the least of several runs, without the garbage collector: neither a busy
machine nor a large heap must fail the test.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import partial

import pytest

from event_agent.commands.guards import MAX_TEXT, Guards
from event_agent.errors import CommandError
from event_agent.protocol.requests import MAX_REQUEST, Request, read_request
from tests.timing import cpu_of

LIMIT = 0.010  # seconds for one request
LENGTHS = (MAX_TEXT // 8, MAX_TEXT - 510)  # characters
# At most so much longer for eight times the text, and NOISE. A square would take 64 times as long. Were the lengths
# nearer to each other, memory would count: blocks that the shorter text finds free have to be had from the kernel for
# the longer one, each time anew where the heap is large (3.3 times as long for twice the text was seen).
FACTOR = 20
NOISE = 0.001  # seconds, for all checks

# What is repeated to make a text. Each is nasty for one way of reading or another.
PIECES = [
    "\\", "\\\\n", "\\n", "\\s", "\\'", "'", '"', "''\"", "${", "${a", "${a}", "${a ", "${a(", "${a(b)", "${a b}",
    "$", "$$", "$$${", "{", "}", "(", ")", "{(", "({", "[", "]", "<", "a", "_", "a ", "a_", "ab:cd,", "api ", "exec_",
    "::", ":_:", "^^", "^^:", "m:a:", "m:", "%", "%61", "%25", "%5c", "%[", " ", "\t", "é", "\u2028", "ß", "...", "=",
    "a=b,", ",", "|", ";", "loopback/", "/", "loopback/a/b/", "app=", "inline ", "json ", "bgapi ", "expand ", "uuid:",
    "bgapi uuid:x ", "sched_api +1 a ", "xml_wrap encoded ", '{"a":', "[[", '{"cmd":"x",', '"\\u0061', "undef ", "\0",
    "%5c${a}'\\s", "'${a}%27%5cs", "m:a:^^b%[", "loopback/a/lua ", "transfer lua/", "system_on_ api_ :: ",
]  # fmt: skip
VERBS = ["echo", "uuid_setvar", "uuid_transfer", "expand", "bgapi", "json", "originate", "chat", "show", "sched_api"]
APPS = ["set", "bridge", "transfer", "playback", "multiset", "event"]


def guards(deny: str = "fsctl,shutdown", allow: str = "", apps: str = "system,record") -> Guards:
    found = Guards()
    found.set(*(tuple(filter(None, each.split(","))) for each in (deny, allow, apps)))
    return found


def spent(check: Callable[[], None], runs: int = 5, enough: float = LIMIT / 4) -> float:
    """The least processor time of a few runs; what took less than `enough` is not run again."""

    def refused_or_not() -> None:
        with contextlib.suppress(CommandError):
            check()

    least = 1e9
    for _ in range(runs):
        least = min(least, cpu_of(refused_or_not))
        if least < enough:
            break
    return least


def checks(one: Guards, text: str) -> list[Callable[[], None]]:
    """Every kind of request with this text in it."""
    many = {f"v{at}": text[at : at + 8] for at in range(0, len(text) * 8 // 14, 8)}
    later = {f"api_{at}": text[at : at + 8] for at in range(0, len(text) * 8 // 18, 8)}
    return [
        *(partial(one.check_api, verb, text) for verb in VERBS),
        *(partial(one.check_app, app, text) for app in APPS),
        partial(one.check_call, text[:255], "&park", {"note": text[255:]}),
        partial(one.check_call, "user/1", f"&set({text})", {}),
        partial(one.check_call, "user/1", "1", many),
        partial(one.check_call, "user/1", "1", later),
    ]


@pytest.mark.parametrize("piece", PIECES)
def test_no_request_takes_long(piece: str) -> None:
    """At the limit, where the text is looked through."""
    for one in (guards(), guards(deny="", allow="status,echo,set,originate,json,bgapi", apps="")):
        text = ("api " + piece * (MAX_TEXT // len(piece)))[: MAX_TEXT - 255]
        for check in checks(one, text):
            assert spent(check) < LIMIT


@pytest.mark.parametrize("piece", PIECES)
def test_the_cost_grows_with_the_length(piece: str) -> None:
    one = guards()
    pairs = [checks(one, (piece * (length // len(piece) + 1))[:length]) for length in LENGTHS]
    least = [[1.0] * len(pairs[0]) for _ in pairs]
    for _ in range(10):  # a neighbour on this machine can make any one run slow
        for times, each in zip(least, pairs, strict=True):
            times[:] = [min(time, spent(check, 1)) for time, check in zip(times, each, strict=True)]
        if sum(least[1]) <= FACTOR * sum(least[0]) + NOISE:
            return
    raise AssertionError(f"{sum(least[0])} s, and {sum(least[1])} s for eight times as much")


def test_a_whole_request_of_the_largest_size() -> None:
    """Parsed, and held to the lists."""
    one = guards()
    for piece in ("\\\\", "a", "é", "${", "'"):
        head, tail = b'{"command":"status","args":"', b'"}'
        data = head + piece.encode() * ((MAX_REQUEST - len(head + tail)) // len(piece.encode())) + tail
        assert MAX_REQUEST - 8 < len(data) <= MAX_REQUEST
        assert spent(partial(ask, one, data)) < LIMIT


def ask(one: Guards, data: bytes) -> None:
    request = Request()
    assert read_request(request, data, "")
    one.check_api(request.command, request.payload["args"])
