"""The grammar of subjects."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.protocol.subjects import (
    any_lane,
    call_lane,
    endpoints_of,
    event_subject,
    is_command_lane,
    lanes,
    slug,
    verb_in,
    with_verb,
)
from event_agent.protocol.validation import strict_subject


@pytest.mark.parametrize(
    ("node_id", "expected"),
    [
        ("FS-Node-01", "fs_node_01"), ("a.b c", "a_b_c"), ("__", "__"), ("ÄÖ1", "__1"), ("x--y", "x__y"), ("", ""),
        ("İ", "i_"),  # two characters in lower case
    ],
)  # fmt: skip
def test_slug(node_id: str, expected: str) -> None:
    assert slug(node_id) == slug(expected) == expected


@given(st.text(st.characters(), min_size=1, max_size=30))
def test_a_slug_is_one_token(node_id: str) -> None:
    assert strict_subject(f"freeswitch.node.{slug(node_id)}")
    assert "." not in slug(node_id) and slug(slug(node_id)) == slug(node_id)


def test_lanes() -> None:
    assert lanes("freeswitch", "FS-1") == [
        ("freeswitch.api", ""), ("freeswitch.node.fs_1", ""), ("freeswitch.api.fs_1", ""),
    ]  # fmt: skip
    assert lanes("p", "") == [("p.api", "")]
    assert any_lane("p") == ("p.any", "p.any")


@pytest.mark.parametrize("prefix", ["freeswitch", "a.b"])
def test_command_lanes_are_known_as_such(prefix: str) -> None:
    for subject, _ in [*lanes(prefix, "n-1"), any_lane(prefix)]:
        assert is_command_lane(prefix, subject)
    assert is_command_lane(prefix, f"{prefix}.node.other") and is_command_lane(prefix, f"{prefix}.api.x.y")
    for lane in (f"{prefix}.api", any_lane(prefix)[0], f"{prefix}.node.n_1", call_lane(prefix, "ab-1")):
        assert is_command_lane(prefix, with_verb(prefix, lane, "dialplan.enable"))
    for subject in (f"{prefix}.events.x", f"{prefix}.apis", f"{prefix}.anyone", f"{prefix}", "other.api", "api"):
        assert not is_command_lane(prefix, subject)


@pytest.mark.parametrize("prefix", ["freeswitch", "a.b"])
@pytest.mark.parametrize("verb", ["status", "agent.status", "x" * 3000, ".", "a..b", "node.x.y", "\xff*"])
def test_the_verb_behind_each_lane(prefix: str, verb: str) -> None:
    for lane in (f"{prefix}.api", any_lane(prefix)[0], f"{prefix}.node.n_1", call_lane(prefix, "ab-1")):
        subject = with_verb(prefix, lane, verb)
        assert verb_in(len(prefix) + 1, subject.encode()) == verb.encode()
    for lane in (f"{prefix}.any", f"{prefix}.node.any", f"{prefix}.call.node", f"{prefix}.all"):
        assert verb_in(len(prefix) + 1, lane.encode()) == b"", "the lane itself"


def test_a_node_may_be_called_as_a_command_or_a_lane_is() -> None:
    for name in ("status", "any", "node", "call", "all", "api"):
        assert verb_in(3, f"fs.node.{name}.status".encode()) == b"status"
        assert verb_in(3, f"fs.call.{name}.status".encode()) == b"status"


def test_the_endpoints_of_a_node() -> None:
    def names(chosen: str, node_id: str = "n", wildcards: bool = True) -> list[str]:
        return [each.name for each in endpoints_of("p", node_id, chosen, wildcards)]

    plain = ["all", "node", "node_api"]
    assert names("all") == [*plain, "all_verbs", "node_verbs", "any", "any_verbs"]
    assert names("verbs") == ["all_verbs", "node_verbs", "any_verbs"]
    assert names("verbs", "") == ["all_verbs", "any_verbs"]
    assert names("all", "n", False) == [*plain, "any"]
    assert [each.name for each in endpoints_of("p", "n") if each.optional] == ["all_verbs", "node_verbs", "any_verbs"]
    assert not any(each.optional for each in endpoints_of("p", "n", "verbs"))
    assert {each.subject: each.queue for each in endpoints_of("p", "N 1", "verbs")} == {
        "p.all.>": "", "p.node.n_1.>": "", "p.any.>": "p.any",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "subclass", "expected"),
    [
        ("CHANNEL_EXECUTE_COMPLETE", "", "channel.execute.complete"),
        ("HEARTBEAT", "", "heartbeat"),
        ("CUSTOM", "sofia::register", "custom.sofia.register"),
        ("CUSTOM", "conference::maintenance", "custom.conference.maintenance"),
        ("CUSTOM", "My Own::Event-2", "custom.my.own.event.2"),
        ("CUSTOM", "", "custom"),
        ("CUSTOM", "::", "custom"),
        ("CUSTOM", "*.>", "custom"),
        ("_A__B_", "", "a.b"),
    ],
)
def test_event_subjects(name: str, subclass: str, expected: str) -> None:
    assert event_subject("freeswitch", name, subclass) == f"freeswitch.events.{expected}"


@given(st.text(st.characters(), max_size=30), st.text(st.characters(), max_size=30))
def test_any_event_can_be_published(name: str, subclass: str) -> None:
    assert strict_subject(event_subject("freeswitch", name, subclass))
