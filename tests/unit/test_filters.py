"""Which events are wanted, and that FreeSWITCH, told so, sends just these."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.errors import ConfigError
from event_agent.freeswitch.filters import EventFilter
from tests.switchsim.events import Event
from tests.switchsim.subscription import Subscription

CORE = "11111111-2222-3333-4444-555555555555"
EVENTS = (
    ("CHANNEL_CREATE", ""), ("CHANNEL_ANSWER", ""), ("HEARTBEAT", ""), ("DTMF", ""), ("API", ""),
    ("CUSTOM", "sofia::register"), ("CUSTOM", "sofia::expire"), ("CUSTOM", "my::own"),
)  # fmt: skip
NAMES = st.sampled_from(
    "channel_create CHANNEL_ANSWER Heartbeat DTMF API CUSTOM sofia::register my::own ALL all".split()
)
FILTERS = st.builds(EventFilter.of, st.booleans(), st.lists(NAMES, max_size=4), st.lists(NAMES, max_size=3))


def told(subscription: Subscription, wanted: EventFilter, between: Callable[[], None] = lambda: None) -> None:
    """What mod_event_socket does with the commands."""
    for command in wanted.commands(CORE):
        between()
        match command.split():
            case ["noevents"]:
                subscription.clear()
            case ["filter", "delete", name]:
                subscription.delete_filter(name, None)
            case ["filter", name, value]:
                subscription.add_filter(name, value)
            case ["event", *words]:
                assert subscription.add(words)
            case _:
                raise AssertionError(command)


def heard(subscription: Subscription) -> set[str]:
    for name, subclass in EVENTS:
        headers = [("Event-Name", name), ("Core-UUID", CORE), ("Event-Sequence", "17")]
        subscription.offer(Event(name, [*headers, *([("Event-Subclass", subclass)] if subclass else [])]))
    return {event.subclass or event.name for event in subscription.take()}


def chosen(wanted: EventFilter) -> set[str]:
    return {subclass or name for name, subclass in EVENTS if wanted.wants(subclass or name)}


@given(st.lists(FILTERS, min_size=1, max_size=3))
def test_freeswitch_sends_just_what_is_wanted(filters: list[EventFilter]) -> None:
    """Also when one filter follows another on the same connection."""
    subscription = Subscription()
    for wanted in filters:
        told(subscription, wanted)
        assert heard(subscription) == chosen(wanted), wanted.commands(CORE)


@pytest.mark.parametrize(
    ("everything", "include", "exclude", "expected"),
    [
        (True, (), (), {subclass or name for name, subclass in EVENTS}),
        (False, (), (), set()),
        (False, ("heartbeat",), (), {"HEARTBEAT"}),
        (True, ("HEARTBEAT",), (), {"HEARTBEAT"}),  # a list says more than publish_all_events
        (True, ("ALL",), ("DTMF", "API", "CUSTOM"), {"CHANNEL_CREATE", "CHANNEL_ANSWER", "HEARTBEAT"}),
        (False, ("ALL",), ("all",), set()),
        (False, ("CUSTOM",), ("my::own",), {"sofia::register", "sofia::expire"}),
        (False, ("sofia::register", "DTMF"), ("DTMF",), {"sofia::register"}),  # exclude wins
        (False, ("sofia::register",), ("CUSTOM",), set()),
    ],
)
def test_choices(everything: bool, include: tuple[str, ...], exclude: tuple[str, ...], expected: set[str]) -> None:
    wanted = EventFilter.of(everything, include, exclude)
    assert chosen(wanted) == expected
    subscription = Subscription()
    told(subscription, wanted)
    assert heard(subscription) == expected


@given(FILTERS, FILTERS)
def test_an_event_that_both_filters_want_comes_between_any_two_commands(first: EventFilter, then: EventFilter) -> None:
    subscription = Subscription()
    told(subscription, first)
    both = chosen(first) & chosen(then)

    def between() -> None:
        assert both <= heard(subscription)

    told(subscription, then, between)
    assert heard(subscription) == chosen(then)


def test_nothing_is_asked_for_before_the_filters_stand() -> None:
    commands = EventFilter.of(False, ("DTMF", "HEARTBEAT"), ()).commands(CORE)
    assert not [command for command in commands if command.startswith(("nixevent", "noevents", "filter delete all"))]
    assert commands[-1] == "event json ALL"


@pytest.mark.parametrize("name", ["a b", "a\nb", "", "x" * 201, "a;b", "a\r\n\r\napi", "é", "A\n"])
def test_a_name_that_could_be_a_command_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no event name"):
        EventFilter.of(True, (name,), ())
    with pytest.raises(ConfigError, match="is no event name"):
        EventFilter.of(True, (), (name,))
    with pytest.raises(ConfigError) as caught:
        EventFilter.of(True, (name, "?"), ("!",))
    assert len(caught.value.faults) == 3


def test_widened() -> None:
    needed = frozenset(("CHANNEL_PARK", "CHANNEL_DESTROY"))
    everything = EventFilter.of(True, (), ("CHANNEL_PARK", "API"))
    some = EventFilter.of(False, ("CHANNEL_ANSWER",), ())
    nothing = EventFilter.of(False, (), ("ALL",))
    for wanted in (everything, some, nothing):
        assert wanted.widened(frozenset()) == wanted
        both = wanted.widened(needed)
        assert all(map(both.wants, needed)) and not both.wants("API")
        assert both.wants("CHANNEL_ANSWER") == wanted.wants("CHANNEL_ANSWER")
