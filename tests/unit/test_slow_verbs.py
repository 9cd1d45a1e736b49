"""What is learned of verbs."""

from __future__ import annotations

import pytest

from event_agent.freeswitch import slow_verbs as module
from event_agent.freeswitch.slow_verbs import FORGIVEN, LISTED, SlowVerbs

QUICK, SLOW = 0.05, 0.25


def test_a_verb_proves_itself() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    assert not verbs.quick("status") and not verbs.slow("status")
    verbs.took("status", QUICK)  # neither quick nor slow: nothing is learned
    assert not verbs.quick("status") and not verbs.slow("status")
    verbs.took("status", QUICK - 0.001)
    assert verbs.quick("status") and not verbs.slow("status")
    verbs.took("status", QUICK * 2)  # a stall of the switch takes nothing away
    assert verbs.quick("status")


def test_a_verb_turns_out_slow_and_is_forgiven() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    verbs.took("wait", SLOW)
    assert verbs.slow("wait") and not verbs.quick("wait")
    for _ in range(FORGIVEN - 1):
        verbs.pool_took("wait", 0.001)
    verbs.pool_took("wait", QUICK)  # not quick: it begins anew
    for _ in range(FORGIVEN):
        assert verbs.slow("wait")
        verbs.pool_took("wait", 0.001)
    assert not verbs.slow("wait")
    assert not verbs.quick("wait"), "it has to prove itself again"


def test_a_quick_verb_is_slow_when_it_was_so_twice() -> None:
    """One stall of the machine must not send `uptime` to the pool, where few are let wait."""
    verbs = SlowVerbs(QUICK, SLOW)
    for _ in range(3):
        verbs.took("uptime", 0.001)
        assert verbs.quick("uptime")
        verbs.took("uptime", SLOW)
        assert not verbs.slow("uptime") and not verbs.quick("uptime")
    verbs.took("uptime", SLOW)
    assert verbs.slow("uptime")


def test_listed_verbs_stay_slow() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    assert {"originate", "reloadxml", "sofia", "load", "unload", "reload", "msleep"} <= LISTED
    for _ in range(FORGIVEN * 2):
        verbs.pool_took("msleep", 0.0)
    assert verbs.slow("msleep")


def test_clients_can_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "KNOWN", 10)
    verbs = SlowVerbs(QUICK, SLOW)
    for number in range(50):
        verbs.took(f"quick-{number}", 0.0)
        verbs.took(f"slow-{number}", 1.0)
    assert len(verbs._quick) == len(verbs._learned) == 10
    assert verbs.quick("quick-0") and not verbs.quick("quick-40")
