"""Parts start forward and end backward, whatever one of them does."""

from __future__ import annotations

import pytest

from event_agent.runtime.health import Signs
from event_agent.runtime.part import LEAST, RESERVE, Parts


class Some:
    """A part that notes what is done to it."""

    def __init__(self, name: str, log: list[str], took: float = 0.0, fault: str = "") -> None:
        self.name = name
        self.timeout = -1.0
        self._log = log
        self._took = took
        self._fault = fault

    def start(self) -> None:
        self._log.append(f"+{self.name}")
        if self._fault == "start":
            raise OSError("no port")

    def stop(self, timeout: float) -> None:
        global now
        self._log.append(f"-{self.name}")
        self.timeout = timeout
        now += self._took
        if self._fault == "stop":
            raise OSError("no file")

    def signs(self) -> Signs:
        return Signs((self.name,))


now = 0.0


def clock() -> float:
    return now


def test_forward_and_backward() -> None:
    log: list[str] = []
    parts = Parts([Some(name, log) for name in "abc"], clock)
    parts.start()
    parts.stop(5.0)
    assert log == ["+a", "+b", "+c", "-c", "-b", "-a"]
    assert [each.lives for each in parts.signs()] == [("a",), ("b",), ("c",)]


def test_a_part_that_can_not_end_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    log: list[str] = []
    Parts([Some("a", log), Some("b", log, fault="stop"), Some("c", log)], clock).stop(5.0)
    assert log == ["-c", "-b", "-a"] and "stopping: b" in caplog.text and "no file" in caplog.text


def test_time_is_kept_for_those_that_are_still_to_end() -> None:
    parts = [Some("a", []), Some("b", []), Some("c", [], took=100.0), Some("d", [], took=1.0)]
    Parts(parts, clock).stop(5.0)
    assert [each.timeout for each in parts] == pytest.approx([LEAST, LEAST, 4.0 - 2 * RESERVE, 5.0 - 3 * RESERVE])


def test_what_was_started_is_ended_if_another_can_not_start() -> None:
    log: list[str] = []
    with pytest.raises(OSError, match="no port"):
        Parts([Some("a", log), Some("b", log, fault="start"), Some("c", log)], clock).start()
    assert log == ["+a", "+b", "-c", "-b", "-a"]
