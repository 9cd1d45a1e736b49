"""The loop: who has something to read is called, on one thread, until it says otherwise."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from event_agent.runtime.loop import Loop


def until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline, f"not within 5 s: {what}"
        time.sleep(0.001)


@pytest.fixture
def loop() -> Iterator[Loop]:
    found = Loop()
    found.start()
    yield found
    found.stop(5)
    assert not [each.name for each in threading.enumerate() if each.name == "io"]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def test_who_has_something_to_read_is_called_on_the_thread(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    where: list[bool] = []

    def readable() -> None:
        where.append(loop.here)
        read.append(ours.recv(2))

    loop.watch(ours.fileno(), readable)
    theirs.send(b"abcdef")
    until(lambda: read == [b"ab", b"cd", b"ef"], "called as long as something is left")
    assert all(where) and not loop.here
    loop.call(lambda: loop.forget(ours.fileno()))  # as its owner should, before it closes it
    until(lambda: not loop._watched, "forgotten")


def test_a_watch_ends(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    calls: list[int] = []

    def readable() -> None:
        calls.append(1)
        loop.forget(ours.fileno())
        loop.forget(ours.fileno())  # once more does no harm

    loop.watch(ours.fileno(), readable)
    theirs.send(b"abc")
    until(lambda: calls, "called")
    through = threading.Event()
    loop.call(through.set)
    assert through.wait(5) and calls == [1]
    loop.watch(ours.fileno(), readable)
    until(lambda: len(calls) == 2, "watched again")


def test_calls_are_made_in_their_order_on_the_thread(loop: Loop) -> None:
    made: list[tuple[int, bool]] = []
    for number in range(100):
        loop.call(lambda number=number: made.append((number, loop.here)))  # type: ignore[misc]
    until(lambda: len(made) == 100, "all called")
    assert made == [(number, True) for number in range(100)]


def test_a_callback_that_fails_is_said_and_not_called_again(
    loop: Loop, pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = pair

    def readable() -> None:
        raise ValueError("what went wrong")

    with caplog.at_level(logging.ERROR, "event_agent.loop"):
        loop.watch(ours.fileno(), readable)
        theirs.send(b"x")
        until(lambda: caplog.records, "said")
        through = threading.Event()
        loop.call(through.set)
        assert through.wait(5), "the thread goes on"
    assert len(caplog.records) == 1 and "what went wrong" in caplog.text


def test_a_pause_lets_more_arrive(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    asked = threading.Event()
    go = threading.Event()

    def pause() -> float:
        asked.set()
        go.wait(5)
        return 0.001

    loop.pause = pause
    loop.watch(ours.fileno(), lambda: read.append(ours.recv(100)))
    loop.call(lambda: None)  # the thread comes to its next look
    assert asked.wait(5)
    for _ in range(10):
        theirs.send(b"x")
    go.set()
    until(lambda: read, "read")
    assert read[0] == b"x" * 10


def test_it_ends_with_what_is_watched_and_only_once(pair: tuple[socket.socket, socket.socket]) -> None:
    loop = Loop()
    loop.start()
    loop.watch(pair[0].fileno(), lambda: None)
    loop.stop(5)
    loop.stop(5)
    assert not [each.name for each in threading.enumerate() if each.name == "io"]
    never_started = Loop()
    never_started.stop(5)


def test_a_descriptor_that_its_owner_has_closed_ends_nothing_else(
    loop: Loop, pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    other, _theirs = socket.socketpair()
    _theirs.send(b"x")

    def readable() -> None:
        other.close()
        raise OSError("closed under us")

    with caplog.at_level(logging.CRITICAL):
        loop.watch(other.fileno(), readable)
        until(lambda: other.fileno() < 0, "called")
        through = threading.Event()
        loop.call(through.set)
        assert through.wait(5), "the thread goes on"
    _theirs.close()
