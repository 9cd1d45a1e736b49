import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from event_agent.runtime.sdnotify import Notifier


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """What systemd holds the other end of."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(2)
        yield listening


def notifier(manager: socket.socket, **environ: str) -> Notifier:
    return Notifier({"NOTIFY_SOCKET": manager.getsockname(), **environ})


def test_sends_assignments_in_one_datagram(manager: socket.socket) -> None:
    notifier(manager).send("READY=1", "STATUS=fine")
    assert manager.recv(1000) == b"READY=1\nSTATUS=fine"


def test_a_line_break_can_not_become_an_assignment(manager: socket.socket) -> None:
    notifier(manager).send("STATUS=one\nMAINPID=1\r\n\u2028two \ud800")
    assert b"\n" not in manager.recv(1000)


def test_status_is_sent_when_it_changes(manager: socket.socket) -> None:
    ours = notifier(manager)
    for text in ("a", "a", "b"):
        ours.status(text)
    assert [manager.recv(1000), manager.recv(1000)] == [b"STATUS=a", b"STATUS=b"]
    manager.setblocking(False)
    with pytest.raises(BlockingIOError):
        manager.recv(1000)


def test_abstract_socket() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0event-agent-test-{os.getpid()}")
        listening.settimeout(2)
        Notifier({"NOTIFY_SOCKET": f"@event-agent-test-{os.getpid()}"}).send("READY=1")
        assert listening.recv(100) == b"READY=1"


@pytest.mark.parametrize("address", ["", "vsock:2:1234", "relative", "/nowhere/at/all"])
def test_nobody_there_is_no_fault(address: str) -> None:
    ours = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1000000"})
    ours.send("READY=1")
    ours.status("x")
    assert ours.watchdog == (1.0 if address.startswith("/") else 0.0)


def test_a_manager_that_does_not_read_never_holds_us_up(manager: socket.socket) -> None:
    ours = notifier(manager)

    def send() -> None:
        for number in range(5000):
            ours.send(f"STATUS={number}")

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert manager.recv(1000) == b"STATUS=0"


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({}, 0.0),
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, 0.0),
        ({"WATCHDOG_USEC": "soon"}, 0.0),
        ({"WATCHDOG_USEC": "-1"}, 0.0),
    ],
)
def test_watchdog(manager: socket.socket, environ: dict[str, str], seconds: float) -> None:
    assert notifier(manager, **environ).watchdog == seconds


@pytest.mark.parametrize(("microseconds", "seconds"), [("30000000", 2.0), ("3000000", 1.0), ("1", 0.1), ("0", 2.0)])
def test_a_short_watchdog_is_fed_more_often(manager: socket.socket, microseconds: str, seconds: float) -> None:
    assert notifier(manager, WATCHDOG_USEC=microseconds).in_time(2.0) == pytest.approx(seconds)
