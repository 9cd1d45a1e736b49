"""What is learned of verbs."""

from __future__ import annotations

import pytest

from event_agent.freeswitch.slow_verbs import FORGIVEN, LATE, LISTED, STEADY, UNSEEN, SlowVerbs, filed_under
from event_agent.protocol.questions import READING

QUICK, SLOW = 0.05, 0.25


def test_a_verb_proves_itself() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    assert "status" not in verbs.quick and "status" not in verbs.slow
    verbs.took("status", QUICK)  # neither quick nor slow: nothing is learned
    assert "status" not in verbs.quick and "status" not in verbs.slow
    verbs.took("status", QUICK - 0.001)
    assert "status" in verbs.quick and "status" not in verbs.slow
    verbs.took("status", QUICK * 2)  # a stall of the switch takes nothing away
    assert "status" in verbs.quick


def test_a_verb_turns_out_slow_and_is_forgiven() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    verbs.took("wait", SLOW)
    assert "wait" in verbs.slow and "wait" not in verbs.quick
    for _ in range(FORGIVEN - 1):
        verbs.pool_took("wait", 0.001)
    verbs.pool_took("wait", QUICK)  # not quick: it begins anew
    for _ in range(FORGIVEN):
        assert "wait" in verbs.slow
        verbs.pool_took("wait", 0.001)
    assert "wait" not in verbs.slow
    assert "wait" not in verbs.quick, "it has to prove itself again"


def test_a_quick_verb_is_slow_when_it_was_so_twice() -> None:
    """One stall of the machine must not send `uptime` to the pool, where few are let wait."""
    verbs = SlowVerbs(QUICK, SLOW)
    for _ in range(3):
        verbs.took("uptime", 0.001)
        assert "uptime" in verbs.quick
        verbs.took("uptime", SLOW)
        assert "uptime" not in verbs.slow and "uptime" not in verbs.quick
    verbs.took("uptime", SLOW)
    assert "uptime" in verbs.slow


def test_listed_verbs_stay_slow() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    assert {"originate", "reloadxml", "sofia", "load", "unload", "reload", "msleep"} <= LISTED
    for _ in range(FORGIVEN * 2):
        verbs.pool_took("msleep", 0.0)
    assert "msleep" in verbs.slow


def test_clients_can_not_fill_the_memory() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    verbs.most = 10
    for number in range(50):
        verbs.took(f"quick-{number}", 0.0)
        verbs.took(f"slow-{number}", 1.0)
    assert len(verbs.quick) == len(verbs.learned) == 10
    assert "quick-0" in verbs.quick and "quick-40" not in verbs.quick


def test_a_verb_that_is_late_again_and_again_is_slow() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    for _ in range(LATE - 1):
        verbs.took("sometimes", 0.1)
    verbs.took("sometimes", 0.01)
    for _ in range(LATE - 1):
        verbs.took("sometimes", 0.1)
        assert "sometimes" not in verbs.slow
    verbs.took("sometimes", 0.1)
    assert "sometimes" in verbs.slow and "sometimes" not in verbs.quick


def test_a_verb_that_hangs_is_slow_before_it_has_answered() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    verbs.took("show", 0.01)
    verbs.hung("show")
    assert "show" in verbs.slow and "show" not in verbs.quick


@pytest.mark.parametrize(
    ("verb", "args", "name"),
    [
        ("status", "", "status"),
        ("STATUS", "x", "status"),
        ("conference", "c1 dial user/1 2 3", "conference dial"),
        ("Conference", "c1 DIAL user/1", "conference dial"),
        ("conference", "c1 list count", "conference list"),
        ("conference", "list", "conference list"),
        ("conference", "", "conference"),
        # the conference's name is `a list b`: what looks like a question is a kick
        ("conference", "'a list b' kick all", "conference"),
        ("conference", "^^;list list x;kick;all", "conference"),
        ("conference", " ^^;a list b;kick;all", "conference"),
        ("conference", "a\\ list kick", "conference"),
        ("expand", "msleep 9000", "msleep"),
        ("expand", "uuid:1-2 msleep 9000", "msleep"),
        ("expand", "  expand xml_wrap MSLEEP 9000", "msleep"),
        ("expand", "conference c1 dial user/1", "conference dial"),
        ("expand", "echo ${name} ${other}", "echo"),
        ("expand", "echo ${msleep(9000)}", UNSEEN),
        ("expand", "echo ${msleep 9000}", UNSEEN),
        ("expand", "${verb} 9000", "${verb}"),
        ("eval", "${msleep(9000)}", UNSEEN),
        ("eval", "uuid:1-2 ${caller_id_name}", "eval"),
        ("eval", "msleep 9000", "eval"),
        ("expand", "", ""),
        ("expand", "expand " * 20, UNSEEN),
        ("bgapi", "msleep 9000", "bgapi"),
    ],
)
def test_what_a_verb_is_filed_under(verb: str, args: str, name: str) -> None:
    assert filed_under(verb, args) == name


def test_what_is_not_seen_never_counts_as_quick() -> None:
    verbs = SlowVerbs(QUICK, SLOW)
    verbs.took(UNSEEN, 0.001)
    assert UNSEEN not in verbs.quick


def test_no_verb_only_asks_and_is_slow() -> None:
    assert not READING.keys() & LISTED and not STEADY & LISTED
