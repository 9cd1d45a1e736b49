"""The event connection outlives the process: what is left is taken up exactly where it was left, or not at all."""

from __future__ import annotations

import fcntl
import json
import logging
import multiprocessing
import os
import socket
from collections.abc import Iterator

import pytest

from event_agent.errors import LinkError
from event_agent.freeswitch.connection import READ_SIZE, Connection
from event_agent.freeswitch.handover import NOTES, SOCKET, Handover

CORE = "11111111-2222-3333-4444-555555555555"
WHERE = "127.0.0.1:8021"


def frame(number: int, size: int = 20) -> bytes:
    body = b'{"n":"%d","x":"%s"}' % (number, b"x" * size)
    return b"Content-Length: %d\nContent-Type: text/event-json\n\n%s" % (len(body), body)


def numbers(connection: Connection, timeout: float = 0.2) -> list[int]:
    return [int(json.loads(each.body)["n"]) for each in connection.receive(timeout)]


class Store:
    """What systemd does."""

    def __init__(self) -> None:
        self.kept: dict[str, list[int]] = {}

    def store(self, name: str, descriptor: int) -> bool:
        self.kept.setdefault(name, []).append(os.dup(descriptor))
        return True

    def drop(self, name: str) -> None:
        for descriptor in self.kept.pop(name, []):
            os.close(descriptor)

    def given(self) -> dict[str, list[int]]:
        """What the next process finds."""
        return {name: [os.dup(each) for each in kept] for name, kept in self.kept.items()}


@pytest.fixture
def store() -> Iterator[Store]:
    made = Store()
    yield made
    for name in list(made.kept):
        made.drop(name)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """FreeSWITCH's end, and ours. TCP: low-water marks and discarding are TCP's."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
    yield theirs, ours
    theirs.close()
    ours.close()


def held(ours: socket.socket) -> Connection:
    connection = Connection.adopted(os.dup(ours.fileno()), b"")
    connection.hold()
    return connection


# -- a connection that is held


def test_what_was_given_out_leaves_the_kernel_with_the_next_read(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    connection = held(ours)
    theirs.sendall(frame(1) + frame(2))
    assert numbers(connection) == [1, 2]
    assert ours.recv(100_000, socket.MSG_PEEK) == frame(1) + frame(2), "still there, if we die now"
    theirs.sendall(frame(3))
    assert numbers(connection) == [3]
    assert ours.recv(100_000, socket.MSG_PEEK) == frame(3)
    assert connection.release() == b""
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)


def test_half_a_frame_is_waited_for_without_looking_again_and_again(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    connection = held(ours)
    whole = frame(1, 5000)
    theirs.sendall(whole[:3000])
    assert numbers(connection) == []
    assert connection.receive(0.05) == [], "poll does not say that there is something to read"
    theirs.sendall(whole[3000:] + frame(2)[:10])
    assert numbers(connection) == [1]
    assert numbers(connection) == []
    theirs.sendall(frame(2)[10:])
    assert numbers(connection) == [2]
    connection.close()


@pytest.mark.parametrize("size", [READ_SIZE - 100, READ_SIZE, READ_SIZE + 1, 3 * READ_SIZE])
def test_a_frame_larger_than_any_buffer_comes_whole(pair: tuple[socket.socket, socket.socket], size: int) -> None:
    theirs, ours = pair
    connection = held(ours)
    data = frame(1) + frame(2, size) + frame(3)
    sender = multiprocessing.get_context("fork").Process(target=theirs.sendall, args=(data,))
    sender.start()
    found: list[int] = []
    while len(found) < 3:
        found += numbers(connection, 5.0)
    sender.join(5)
    assert found == [1, 2, 3] and connection.whole
    connection.close()


def test_waking_it_ends_the_wait(pair: tuple[socket.socket, socket.socket]) -> None:
    _, ours = pair
    connection = held(ours)
    connection.wake()
    assert connection.receive(30.0) == []
    connection.close()


def test_its_end_is_heard(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    connection = held(ours)
    theirs.sendall(frame(1)[:20])
    theirs.close()
    with pytest.raises(LinkError, match="closed"):
        for _ in range(3):
            connection.receive(1.0)
    connection.close()


def test_releasing_it_ends_nothing(pair: tuple[socket.socket, socket.socket]) -> None:
    theirs, ours = pair
    held(ours).release()
    theirs.sendall(b"more")
    assert ours.recv(10) == b"more"


# -- from one process to the next


def test_the_next_process_reads_on_where_the_last_one_stopped(
    pair: tuple[socket.socket, socket.socket], store: Store
) -> None:
    theirs, ours = pair
    first = Handover(store, {}, WHERE)
    assert first.take() is None
    connection = held(ours)
    assert first.hold(connection, CORE)
    theirs.sendall(frame(1) + frame(2)[:15])
    assert numbers(connection) == [1]
    first.note(CORE, 3, connection.release())
    theirs.sendall(frame(2)[15:] + frame(3))
    left = Handover(store, store.given(), WHERE).take()
    assert left is not None and (left.core_uuid, left.calls) == (CORE, 3)
    left.connection.hold()
    assert numbers(left.connection) + numbers(left.connection) == [2, 3]
    left.connection.close()


def test_after_a_kill_nothing_is_missing(pair: tuple[socket.socket, socket.socket], store: Store) -> None:
    """What was given out and not followed by another read comes again: better twice, with the same id, than never."""
    theirs, ours = pair
    connection = held(ours)
    Handover(store, {}, WHERE).hold(connection, CORE)
    theirs.sendall(frame(1) + frame(2))
    assert numbers(connection) == [1, 2]
    theirs.sendall(frame(3))
    assert numbers(connection) == [3]
    left = Handover(store, store.given(), WHERE).take()
    assert left is not None
    left.connection.hold()
    assert numbers(left.connection) == [3]
    left.connection.close()
    connection.close()


def test_the_first_part_of_a_frame_is_handed_on(pair: tuple[socket.socket, socket.socket], store: Store) -> None:
    theirs, ours = pair
    handover = Handover(store, {}, WHERE)
    handover.hold(held(ours), CORE)
    handover.note(CORE, 0, frame(7)[:30])
    theirs.sendall(frame(7)[30:] + frame(8))
    left = Handover(store, store.given(), WHERE).take()
    assert left is not None and [left.connection.whole] == [False]
    left.connection.hold()
    assert numbers(left.connection) == [7, 8] and left.connection.whole
    left.connection.close()


def taken(store: Store, caplog: pytest.LogCaptureFixture, where: str = WHERE) -> str:
    """The one line that says why what was left is not used; nothing of it may stay behind."""
    caplog.clear()
    given = store.given()
    with caplog.at_level(logging.WARNING):
        left = Handover(store, given, where).take()
    assert left is None
    for descriptor in (each for kept in given.values() for each in kept):
        with pytest.raises(OSError):
            os.fstat(descriptor)
    assert not store.kept
    (record,) = caplog.records
    return record.getMessage()


def notes(text: bytes) -> int:
    descriptor = os.memfd_create("notes")
    os.write(descriptor, text)
    return descriptor


GOOD = {"version": 1, "where": WHERE, "core_uuid": CORE, "calls": 0, "rest": ""}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Expecting value"),
        (b"\xff\xfe\x00", "decode"),
        (b"[]", "another version"),
        (json.dumps(GOOD | {"version": 2}).encode(), "another version"),
        (json.dumps(GOOD | {"core_uuid": 7}).encode(), "damaged"),
        (json.dumps(GOOD | {"core_uuid": "x\n\napi shutdown"}).encode(), "damaged"),
        (json.dumps(GOOD | {"rest": "%%%"}).encode(), "base64"),
        (json.dumps(GOOD | {"calls": "x"}).encode(), "damaged"),
        (json.dumps(GOOD | {"where": "10.0.0.1:8021"}).encode(), "it is to 10.0.0.1:8021"),
    ],
)
def test_notes_that_will_not_do_are_one_line(
    pair: tuple[socket.socket, socket.socket], store: Store, caplog: pytest.LogCaptureFixture, text: bytes, why: str
) -> None:
    _, ours = pair
    descriptor = notes(text)
    store.store(NOTES, descriptor)
    os.close(descriptor)
    store.store(SOCKET, ours.fileno())
    line = taken(store, caplog)
    assert why in line and line.endswith("connecting anew")


def test_a_connection_that_has_ended_is_one_line(
    pair: tuple[socket.socket, socket.socket], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = pair
    connection = held(ours)
    Handover(store, {}, WHERE).hold(connection, CORE)
    connection.release()
    theirs.close()
    ours.shutdown(socket.SHUT_RDWR)
    assert "FreeSWITCH has closed it" in taken(store, caplog)


def test_one_without_the_other_is_one_line(
    pair: tuple[socket.socket, socket.socket], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    _, ours = pair
    store.store(SOCKET, ours.fileno())
    assert "notes are missing" in taken(store, caplog)
    descriptor = notes(json.dumps(GOOD).encode())
    store.store(NOTES, descriptor)
    assert "FreeSWITCH has closed it" in taken(store, caplog), "systemd has dropped a dead socket by itself"
    store.store(NOTES, descriptor)
    store.store(SOCKET, descriptor)
    assert "no socket" in taken(store, caplog)
    for _ in range(2):
        store.store(NOTES, descriptor)
        store.store(SOCKET, ours.fileno())
    assert "2 were kept, with 2 notes" in taken(store, caplog)
    os.close(descriptor)


def test_one_process_reads_at_a_time(
    pair: tuple[socket.socket, socket.socket], store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    _, ours = pair
    connection = held(ours)
    Handover(store, {}, WHERE).hold(connection, CORE)
    ready, go = os.pipe(), os.pipe()
    child = os.fork()
    if not child:  # the other process, which holds the lock
        fcntl.lockf(store.kept[NOTES][0], fcntl.LOCK_EX)
        os.write(ready[1], b"x")
        os.read(go[0], 1)
        os._exit(0)
    try:
        fcntl.lockf(store.kept[NOTES][0], fcntl.LOCK_UN)
        os.read(ready[0], 1)
        assert "another process reads it" in taken(store, caplog)
    finally:
        os.write(go[1], b"x")
        os.waitpid(child, 0)
        for descriptor in (*ready, *go):
            os.close(descriptor)
        connection.close()


def test_it_is_forgotten_when_the_link_ends(pair: tuple[socket.socket, socket.socket], store: Store) -> None:
    _, ours = pair
    handover = Handover(store, {}, WHERE)
    connection = held(ours)
    handover.hold(connection, CORE)
    handover.forget()
    assert not store.kept
    connection.close()
