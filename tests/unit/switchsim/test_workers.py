"""The simulator's threads."""

from __future__ import annotations

import threading

from tests.switchsim.workers import Workers


def test_a_wait_longer_than_the_system_can_take_holds_up_nothing() -> None:
    workers = Workers("test")
    done = threading.Event()
    try:
        workers.later(1e300, done.set)
        assert not done.wait(0.05)  # nothing is due
        workers.later(0.0, done.set)
        assert done.wait(30)
    finally:
        workers.stop()
