import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from event_agent.app import Daemon
from event_agent.config.table import Settings
from event_agent.runtime import health
from event_agent.runtime.health import Beat, Echo, Health, Missing, Rounds, Signs, Unread, Watched, only_if
from tests.support import until


class Clock:
    """time.monotonic, moved on by hand."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ours = Clock()
    monkeypatch.setattr(health, "time", ours)
    return ours


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection; what is sent on the second is to be read on the first."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        theirs, _ = listener.accept()
        with ours, theirs:
            yield ours, theirs


def wait(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    until(condition, "the condition", seconds)


# -- Health


def test_a_sign_over_its_limit_is_stuck() -> None:
    ages = {"a": 0.0, "b": 3.0}
    ours = Health()
    for name in ages:
        ours.add(Signs(watched=(Watched(f"thread {name}", 3.0, lambda name=name: ages[name]),)))  # type: ignore[misc]
    assert ours.stuck() == []
    ages["b"] = 3.5
    assert ours.stuck() == ["thread b has shown no sign of life for 4 s"]


def test_a_thread_that_has_ended() -> None:
    ours, end = Health(), threading.Event()
    thread = threading.Thread(target=end.wait, name="worker bee", daemon=True)
    ours.add(Signs(("worker bee",)))
    thread.start()
    assert ours.well()
    end.set()
    thread.join()
    assert ours.stuck() == ["thread worker bee has ended"]
    assert not ours.well()


def test_the_kernel_knows_the_threads_names() -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="a-name-longer-than-15", daemon=True)
    thread.start()
    Health().stuck()
    assert Path(f"/proc/self/task/{thread.native_id}/comm").read_text() == "a-name-longer-t\n"
    end.set()
    thread.join()


def test_what_is_stuck_is_said_once_and_not_at_the_first_look(caplog: pytest.LogCaptureFixture) -> None:
    age = 9.0
    ours = Health()
    ours.add(Signs(watched=(Watched("thread a", 3.0, lambda: age),)))
    with caplog.at_level(logging.CRITICAL, "event_agent"):
        assert not ours.well()
        assert caplog.messages == []  # a machine that was paused looks like this, once
        assert not ours.well() and not ours.well()
        assert len(caplog.messages) == 1 and "thread a" in caplog.messages[0]
        age = 0.0
        assert ours.well()
        age = 9.0
        assert not ours.well() and not ours.well()
        assert len(caplog.messages) == 2


# -- Beat, Rounds, Missing, Echo


def test_beat(clock: Clock) -> None:
    at = 0.0
    ours = Beat(lambda: at)
    clock.now += 5
    assert ours() == 5  # since it began to be watched
    at = clock.now
    clock.now += 2
    assert ours() == 2


def test_rounds_of_a_thread_that_wakes_up_by_itself(clock: Clock) -> None:
    end, go_on = threading.Event(), threading.Event()

    def come_round() -> None:
        while not end.wait(0.01):
            pass
        go_on.wait()

    thread = threading.Thread(target=come_round, name="comes-round", daemon=True)
    ours = Rounds("comes-round")
    clock.now += 50
    assert ours() == 0  # there is none yet
    thread.start()
    for _ in range(3):
        clock.now += 50
        threading.Event().wait(0.1)  # nothing is to be noticed meanwhile
        assert ours() == 0
    end.set()
    threading.Event().wait(0.1)  # the thread gets to its next wait, of which nothing tells
    ours()
    clock.now += 50
    threading.Event().wait(0.1)  # nothing is to be noticed meanwhile
    assert ours() == 50
    go_on.set()
    thread.join()


def test_rounds_of_a_thread_that_comes_and_goes(clock: Clock) -> None:
    def live() -> None:
        end = threading.Event()
        thread = threading.Thread(target=end.wait, name="comes-and-goes", daemon=True)
        thread.start()
        for _ in range(3):
            threading.Event().wait(0.02)  # it sleeps by then, for the first time
            ours()
        assert ours() == 0
        end.set()
        thread.join()

    ours = Rounds("comes-and-goes")
    live()
    clock.now += 90
    live()  # another one, which has slept as often as the first: once


def test_missing(clock: Clock) -> None:
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="comes-and-goes", daemon=True)
    ours = Missing("comes-and-goes")
    assert ours() == 0
    clock.now += 4
    assert ours() == 4
    thread.start()
    assert ours() == 0
    clock.now += 9
    assert ours() == 0
    end.set()
    thread.join()
    clock.now += 2
    assert ours() == 2


def test_a_sign_that_is_owed_at_times() -> None:
    owed = False
    ours = only_if(lambda: owed, lambda: 7.0)
    assert ours() == 0
    owed = True
    assert ours() == 7


def test_what_was_not_owed_is_not_owed_afterwards(clock: Clock) -> None:
    owed = False
    end = threading.Event()
    ours = only_if(lambda: owed, Missing("comes-and-goes"))
    assert ours() == 0
    clock.now += 100
    thread = threading.Thread(target=end.wait, name="comes-and-goes", daemon=True)
    thread.start()
    assert ours() == 0
    end.set()
    thread.join()
    owed = True
    clock.now += 1
    assert ours() == 1


def test_echo_asks_one_question_at_a_time(clock: Clock) -> None:
    asked: list[Callable[[], None]] = []
    ours = Echo(asked.append, every=10)
    assert ours() == 0 and len(asked) == 1
    clock.now += 7
    assert ours() == 7 and len(asked) == 1
    asked[0]()
    assert ours() == 0 and len(asked) == 1
    clock.now += 9
    assert ours() == 0 and len(asked) == 1
    clock.now += 1
    assert ours() == 0 and len(asked) == 2


def test_echo_may_be_answered_at_once(clock: Clock) -> None:
    ours = Echo(lambda answered: answered(), every=10)
    for _ in range(5):
        assert ours() == 0
        clock.now += 60


# -- Unread


def test_bytes_that_nobody_takes(clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    ours = Unread()
    assert ours() == 0
    far.sendall(b"hello")
    ours()
    clock.now += 8
    assert ours() == 8
    far.sendall(b"more")
    clock.now += 1
    assert ours() == 9
    near.recv(2)  # somebody is there, however slow
    assert ours() == 0
    clock.now += 3
    assert ours() == 3
    near.recv(100)
    assert ours() == 0


def test_bytes_of_a_peer_that_has_gone_may_stay(clock: Clock, pair: tuple[socket.socket, socket.socket]) -> None:
    near, far = pair
    ours = Unread()
    far.sendall(b"disconnect notice")
    far.close()
    for _ in range(3):
        ours()
        clock.now += 30
    assert ours() == 0


def test_a_connection_that_was_broken_off_here_is_still_somebodys(
    clock: Clock, pair: tuple[socket.socket, socket.socket]
) -> None:
    near, far = pair
    ours = Unread()
    far.sendall(b"answer")
    ours()
    near.shutdown(socket.SHUT_RDWR)  # what an abort does; its reader should see it at once
    far.close()
    ours()  # the end itself counts as a byte
    clock.now += 30
    assert ours() == 30


# -- the daemon's own threads


def test_the_daemon_is_healthy_with_nobody_there(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = Settings(
        url=("nats://127.0.0.1:1",), esl_port=1, state_dir=str(tmp_path), http_listen=("127.0.0.1", port)
    )
    daemon = Daemon(settings)
    daemon.start()
    try:
        for _ in range(20):
            assert daemon.health.stuck() == []
            threading.Event().wait(0.05)  # nothing is to be noticed meanwhile
        nats, switch = daemon.links.split("; ")
        assert re.fullmatch(r"NATS not connected since .*: Connection refused", nats), nats
        assert re.fullmatch(r"FreeSWITCH not connected since .*: .*Connection refused", switch), switch
        # Every name that must live is one that lives: a thread renamed would be a restart each half minute.
        assert daemon.health.lives <= {thread.name for thread in threading.enumerate()}
        assert {"dialplan", "http"} <= daemon.health.lives
    finally:
        daemon.stop()
    assert "thread esl-events has ended" in daemon.health.stuck()
