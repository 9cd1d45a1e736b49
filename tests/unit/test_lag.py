"""How late events are, on clocks that can be set."""

from __future__ import annotations

import json

import pytest

from event_agent.freeswitch.lag import AGAIN, LATE, Lag
from event_agent.protocol.raw_event import RawEvent


class Switch:
    """FreeSWITCH's clock, ours, and the time that events take from there to here."""

    def __init__(self, behind: float = 0.0) -> None:
        self.now = 1_700_000_000.0  # the true time
        self.ours = 0.0  # our clock, beside it
        self.behind = behind  # FreeSWITCH's clock
        self.lag = Lag(lambda: self.now + self.ours, lambda: self.now)
        self.link()

    def event(self, name: str = "CHANNEL_CREATE", age: float = 0.0) -> RawEvent:
        stamp = str(round((self.now - age - self.behind) * 1e6))
        return RawEvent(json.dumps({"Event-Name": name, "Event-Date-Timestamp": stamp}, separators=(",", ":")).encode())

    def link(self) -> None:
        self.lag.fired()
        self.now += 0.01
        self.lag.linked(self.event("CUSTOM", 0.005))

    def hear(self, age: float, name: str = "CHANNEL_CREATE", verifiable: bool = True) -> None:
        self.lag.heard(self.event(name, age), verifiable)

    def measure(self, fired: float, arrived: float) -> None:
        """Our event is fired after `fired` seconds, and is here `arrived` seconds after that."""
        assert self.lag.odd
        self.lag.fired()
        self.now += fired
        mark = self.event("CUSTOM")
        self.now += arrived
        self.lag.measured(mark)
        assert not self.lag.awaited


@pytest.mark.parametrize("behind", [0.0, 20.0, -20.0, 86400.0])
def test_a_clock_that_differs_is_not_a_backlog(behind: float, caplog: pytest.LogCaptureFixture) -> None:
    switch = Switch(behind)
    for _ in range(5):
        switch.now += 60
        switch.hear(0.01)
    assert switch.lag.seconds < 0.1 and switch.lag.difference == pytest.approx(behind, abs=0.1)
    assert not switch.lag.odd and ("differs from this machine's by" in caplog.text) == bool(behind)
    assert caplog.text.count("differs") <= 1 and "behind FreeSWITCH" not in caplog.text


@pytest.mark.parametrize("behind", [0.0, 20.0, -20.0])
def test_a_backlog_is_seen_whatever_the_clocks_say(behind: float, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    switch = Switch(behind)
    switch.now += 100
    for age in (2.0, 5.0, 9.0):
        switch.hear(age)
        assert switch.lag.seconds == pytest.approx(age, abs=0.1)
    switch.measure(fired=0.0, arrived=12.0)
    assert switch.lag.seconds == pytest.approx(12.0, abs=0.1)
    assert switch.lag.difference == pytest.approx(behind, abs=0.1)
    switch.hear(12.0)
    switch.hear(0.01)
    assert caplog.text.count("s behind FreeSWITCH") == 1 and caplog.text.count("up to date again") == 1


def test_a_backlog_that_is_over_when_our_own_event_comes_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """The machine was paused: what waited comes all at once."""
    caplog.set_level("INFO")
    switch = Switch()
    switch.now += 100
    switch.hear(10.0)
    switch.lag.fired()
    for age in (8.0, 6.0, 2.0):
        switch.hear(age)
    switch.now += 0.02
    switch.lag.measured(switch.event("CUSTOM", 0.01))
    assert "events are 10 s behind FreeSWITCH" in caplog.text
    switch.hear(0.01)
    assert "up to date again" in caplog.text


@pytest.mark.parametrize("stuck", [0.0, 30.0])
def test_freeswitch_may_be_too_busy_to_fire(stuck: float) -> None:
    """While it can't send it does not read either: our event is fired late, and that is no difference of clocks."""
    switch = Switch()
    switch.now += 100
    switch.hear(30.0)
    switch.measure(fired=stuck, arrived=8.0)
    assert switch.lag.difference == pytest.approx(0.0, abs=0.1) and switch.lag.seconds == pytest.approx(8.0, abs=0.1)


def test_a_backlog_that_our_own_event_waits_in_is_said_before_it_has_come(caplog: pytest.LogCaptureFixture) -> None:
    switch = Switch()
    switch.now += 100
    switch.hear(30.0)
    switch.lag.fired()
    switch.hear(31.0)
    assert not caplog.text, "it may be a clock"
    switch.now += LATE + 1
    switch.hear(32.0)
    assert "events are 32 s behind FreeSWITCH" in caplog.text


@pytest.mark.parametrize("step", [20.0, -20.0])
@pytest.mark.parametrize("whose", ["ours", "behind"])
def test_a_clock_that_is_set_while_linked(step: float, whose: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    switch = Switch()
    switch.now += 100
    switch.hear(0.01)
    setattr(switch, whose, step)
    switch.hear(0.01)
    switch.measure(fired=0.02, arrived=0.02)
    switch.hear(0.01)
    assert switch.lag.seconds < 0.1 and switch.lag.difference == pytest.approx(step, abs=0.1)
    assert "s behind FreeSWITCH" not in caplog.text and "by 20 s" in caplog.text
    assert ("it is behind" in caplog.text) == (step > 0)
    switch.now += 100
    setattr(switch, whose, 0.0)
    switch.hear(0.01)
    switch.measure(fired=0.02, arrived=0.02)
    assert switch.lag.difference == pytest.approx(0.0, abs=0.1) and "agree again" in caplog.text


def test_an_event_with_an_odd_time_changes_nothing_for_good(caplog: pytest.LogCaptureFixture) -> None:
    """Whoever may fire events chooses their headers."""
    for age in (-3600.0, 3600.0):
        switch = Switch()
        switch.now += 100
        switch.hear(age)
        switch.measure(fired=0.02, arrived=0.02)
        switch.hear(0.01)
        assert switch.lag.seconds < 0.1 and switch.lag.difference == pytest.approx(0.0, abs=0.1)
    assert not caplog.text


def test_a_command_that_took_long_is_no_backlog() -> None:
    """Its API event bears the time at which it began."""
    switch = Switch()
    switch.now += 100
    switch.hear(29.0, "API")
    assert switch.lag.seconds < 0.1 and not switch.lag.odd


def test_clocks_that_drift_are_measured_again() -> None:
    """Some seconds a day: at no time is that a backlog."""
    switch = Switch()
    measured = 0
    for _ in range(24 * 60):
        switch.now += 60
        switch.behind += 0.005
        switch.hear(0.01)
        assert switch.lag.seconds < LATE / 2
        if switch.lag.odd:
            measured += 1
            switch.measure(fired=0.01, arrived=0.01)
    assert switch.lag.difference == pytest.approx(switch.behind, abs=1.1) and measured < 10


def test_measured_now_and_then_only() -> None:
    switch = Switch()
    switch.hear(30.0)
    assert not switch.lag.odd, "just measured"
    switch.now += AGAIN
    assert switch.lag.odd


def test_if_our_own_event_is_not_to_be_had(caplog: pytest.LogCaptureFixture) -> None:
    """CUSTOM is excluded: the difference found at the link holds, and the least there was."""
    switch = Switch(20.0)
    switch.now += 100
    switch.hear(30.0, verifiable=False)
    assert switch.lag.seconds == pytest.approx(30.0, abs=0.1) and "events are 30 s behind" in caplog.text
    switch.ours = -5.0
    switch.hear(0.01, verifiable=False)
    assert switch.lag.difference == pytest.approx(15.0, abs=0.1) and switch.lag.seconds < 0.1
    switch.lag.fired()
    switch.hear(0.01, verifiable=False)
    assert not switch.lag.awaited, "a filter that is new keeps it away"


def test_events_without_a_time() -> None:
    switch = Switch()
    for data in (b"{}", b'{"Event-Name":"A","Event-Date-Timestamp":"%b"}' % (b"9" * 5000)):
        switch.lag.heard(RawEvent(data), True)
        switch.lag.fired()
        switch.lag.linked(RawEvent(data))
        assert switch.lag.seconds < 0.1 and switch.lag.difference == 0.0
