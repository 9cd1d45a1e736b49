"""The loop: who has something to read is called, on one thread, until it says otherwise."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from event_agent.runtime.loop import Loop
from tests.support import until


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
    until(lambda: not loop.watched, "forgotten")


def test_it_may_stay_awake_and_does_all_the_same(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    done: list[bytes] = []
    loop.watch(ours.fileno(), lambda: done.append(ours.recv(2)))
    loop.awake_until = time.monotonic() + 60
    theirs.send(b"ab")
    loop.after(0.01, lambda: done.append(b"timer"))
    until(lambda: sorted(done) == [b"ab", b"timer"], "read, and called")
    loop.call(lambda: loop.forget(ours.fileno()))
    until(lambda: not loop.watched, "forgotten")
    # It stays awake to the end: the fixture sees it end at once.


def test_it_sleeps_while_others_have_work(loop: Loop) -> None:
    def used() -> float:
        """CPU of its thread, in seconds, within a moment."""
        found: list[float] = []
        for _ in range(2):
            loop.call(lambda: found.append(time.thread_time()))
            time.sleep(0.1)  # what it does in this time is what is looked at
        until(lambda: len(found) == 2, "called")
        return found[1] - found[0]

    loop.awake_until = time.monotonic() + 60
    awake = used()
    loop.rest(60)
    assert used() < awake / 4


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


def test_more_may_be_let_arrive(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        own.gather = 0.0
        for _ in range(10):
            theirs.send(b"x")

    own = Loop(pause)
    own.gather = 0.001
    own.watch(ours.fileno(), lambda: read.append(ours.recv(100)))
    own.start()
    try:
        until(lambda: read, "read")
    finally:
        own.stop(5)
    assert pauses == [0.001] and read[0] == b"x" * 10


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


def through(loop: Loop) -> None:
    """The thread has made its round twice: what it could see before, it has seen."""
    for _ in range(2):
        done = threading.Event()
        loop.call(done.set)
        assert done.wait(5)


def test_of_what_is_paused_nothing_is_read(loop: Loop, pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    loop.watch(ours.fileno(), lambda: read.append(ours.recv(100)))
    theirs.send(b"a")
    until(lambda: read == [b"a"], "read")
    for _ in range(2):  # twice is as once
        loop.pause(ours.fileno())
    theirs.send(b"b")
    through(loop)
    assert read == [b"a"]
    for _ in range(2):
        loop.resume(ours.fileno())
    until(lambda: read == [b"a", b"b"], "what waited")
    theirs.send(b"c")
    until(lambda: read == [b"a", b"b", b"c"], "watched as before")


def test_a_descriptor_paused_by_another_of_the_same_look_is_not_read(loop: Loop) -> None:
    """Both have something to read; whichever is first pauses the other."""
    pairs = [socket.socketpair() for _ in range(2)]
    read: list[int] = []

    def readable(number: int) -> None:
        read.append(number)
        loop.pause(pairs[1 - number][0].fileno())
        pairs[number][0].recv(100)

    gate = threading.Event()

    def hold() -> None:
        gate.wait(5)

    loop.call(hold)  # so that both are found by one look
    for number, (ours, theirs) in enumerate(pairs):
        loop.watch(ours.fileno(), lambda number=number: readable(number))  # type: ignore[misc]
        theirs.send(b"x")
    gate.set()
    until(lambda: read, "one of them")
    through(loop)
    assert len(read) == 1
    loop.resume(pairs[1 - read[0]][0].fileno())
    until(lambda: len(read) == 2, "the other")
    for ours, _ in pairs:
        loop.call(lambda ours=ours: loop.forget(ours.fileno()))  # type: ignore[misc]
    through(loop)
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


def test_what_is_paused_can_be_forgotten_and_watched_anew(
    loop: Loop, pair: tuple[socket.socket, socket.socket]
) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    theirs.send(b"a")
    loop.watch(ours.fileno(), lambda: read.append(ours.recv(100)))
    until(lambda: read, "read")
    loop.pause(ours.fileno())
    loop.call(lambda: loop.forget(ours.fileno()))
    through(loop)
    loop.resume(ours.fileno())  # nobody watches it: nothing happens
    theirs.send(b"b")
    through(loop)
    assert read == [b"a"]
    loop.watch(ours.fileno(), lambda: read.append(ours.recv(100)))
    until(lambda: read == [b"a", b"b"], "watched, and not paused")


def test_a_job_is_called_later(loop: Loop) -> None:
    began = time.monotonic()
    called: list[tuple[str, float, bool]] = []

    def note(name: str) -> Callable[[], None]:
        return lambda: called.append((name, time.monotonic() - began, loop.here))

    def begin() -> None:  # on the loop, so that none of them can be called before all are known
        loop.after(0.06, note("third"))
        cancelled = loop.after(0.03, note("never"))
        loop.after(0.02, note("first"))
        loop.after(0.04, note("second"))
        cancelled.cancel()

    loop.call(begin)
    until(lambda: len(called) == 3, "all of them")
    assert [name for name, _, _ in called] == ["first", "second", "third"]
    assert all(at >= least for (_, at, _), least in zip(called, (0.02, 0.04, 0.06), strict=True))
    assert all(here for _, _, here in called)


def test_a_timer_that_is_due_holds_no_reader_up_and_a_fault_in_it_is_said(
    loop: Loop, pair: tuple[socket.socket, socket.socket], caplog: pytest.LogCaptureFixture
) -> None:
    ours, theirs = pair
    read: list[bytes] = []
    loop.watch(ours.fileno(), lambda: read.append(ours.recv(1)))

    def fail() -> None:
        raise ValueError("of the timer")

    theirs.send(b"abc")
    loop.after(0.0, fail)
    until(lambda: len(read) == 3 and "of the timer" in caplog.text, "both")
    assert loop.signs().lives == ("io",)
    assert [(watched.what, watched.sign()) for watched in loop.signs().watched] == [("thread io", 0.0)]
