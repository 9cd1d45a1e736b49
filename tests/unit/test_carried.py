"""What an event carries: which headers stay, and that nobody can tell the quick way from the slow one by it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.config.table import MAX_HEADERS, PARAMS
from event_agent.protocol.carried import KEPT, Carried, carried
from event_agent.protocol.events import EventEncoder
from event_agent.protocol.raw_event import RawEvent

PLACE = {
    "Event-Calling-File": "switch_channel.c", "Event-Calling-Function": "f", "Event-Calling-Line-Number": "7",
    "Event-Sequence": "9",
}  # fmt: skip
CORE = {"Event-Name": "CHANNEL_ANSWER", "Core-UUID": "c-1", "Event-Date-Timestamp": "5", **PLACE}
KEYS = st.sampled_from([
    "Caller-ANI", "Caller-Destination-Number", "Channel-State", "Hangup-Cause", "Call-Direction", "Callers", "Caller-",
    "variable_sip_call_id", "variable_sip_h_X-Foo", "variable_sip", "variable_x.y", "variable_", "variabl", "v",
    "variable_DP_MATCH", "variable_event_agent_parked", 'Caller-"x', "Caller-\\", "Caller-é", "Caller-\n", "X", "",
])  # fmt: skip
VALUES = st.lists(
    st.sampled_from(['"', "\\", ",", ":", "{", "}", "[", "]", "é", "\n", "x", '","X":"y', ',"Caller-ANI":"z"', "]}"]),
    max_size=4,
).map("".join)
EVENTS = st.dictionaries(KEYS, VALUES | st.lists(VALUES, max_size=3), max_size=9)
PATTERNS = ["Caller-*", "Caller-ANI", "Callers", "C*", "v*", "*", "X", "variabl*", "Call-Direction", "(", "a|b", ".*"]
VARIABLES = ["sip_*", "sip_call_id", "x.y", "*", "DP_MATCH", "sip_h_X-*", "sip", "$"]


def of(fields: str = "", variables: str = "") -> Carried | None:
    return carried(PARAMS["event_fields"].read(fields), PARAMS["event_variables"].read(variables))


def published(event: dict[str, Any], chosen: Carried | None, times: int = 1) -> Any:
    encoder = EventEncoder("fs", "n")
    encoder.carried = chosen
    raw = RawEvent(json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode())
    for _ in range(times):
        found = encoder.encode(raw)
    return json.loads(found.payload)


def model(name: str, fields: list[str], variables: list[str]) -> bool:
    """The rule, written down another way."""

    def named(text: str, patterns: list[str]) -> bool:
        return any(text.startswith(each[:-1]) if each.endswith("*") else text == each for each in patterns)

    if name in KEPT or named(name, ["variable_event_agent_*", "variable_traceparent", "variable_tracestate"]):
        return True
    if name.startswith("variable_"):
        return not variables or named(name.removeprefix("variable_"), variables)
    return not fields or named(name, fields)


def lists(of: list[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(of), max_size=4)


@given(EVENTS, lists(PATTERNS), lists(VARIABLES))
def test_what_stays_is_what_the_rule_says_on_both_ways(
    further: dict[str, Any], fields: list[str], variables: list[str]
) -> None:
    event = {**CORE, "Unique-ID": "u-1", **further}
    chosen = of(",".join(fields), ",".join(variables))
    expected = {name: value for name, value in event.items() if model(name, fields, variables)}
    found = published(event, chosen, 3)
    assert found["headers"] == expected and list(found["headers"]) == list(expected)
    assert (found["event_name"], found["timestamp"], found["uuid"]) == ("CHANNEL_ANSWER", 5, "u-1")
    slow = published({**event, "_body": "text"}, chosen)  # a body is decoded
    assert slow["headers"] == expected and slow["body"] == "text"
    sent = published({"X": "first", **event}, chosen)  # as sendevent writes it
    assert sent["headers"] == ({"X": event.get("X", "first")} if model("X", fields, variables) else {}) | expected


def test_none_leaves_what_an_event_is_told_by_and_what_calls_are_followed_by() -> None:
    event = {**CORE, "Unique-ID": "u", "Channel-State": "CS_EXECUTE", "Caller-ANI": "1", "variable_a": "b"}
    event |= {"variable_event_agent_parked": "1", "variable_traceparent": "00-1", "variable_tracestate": "t"}
    left = published(event, of("none", "none"))["headers"]
    assert set(event) - set(left) == {
        "Event-Calling-File", "Event-Calling-Function", "Event-Calling-Line-Number", "Caller-ANI", "variable_a",
    }  # fmt: skip
    assert set(event) - set(published(event, of("", "none"))["headers"]) == {"variable_a"}
    assert "variable_a" in published(event, of("none"))["headers"]


def test_a_list_that_names_all_is_as_no_list() -> None:
    event = {**CORE, "Unique-ID": "u", "variable_a": "b", "Caller-ANI": "1"}
    assert of() is None
    assert published(event, of("*", "*")) == published(event, None)


def test_a_key_that_is_there_twice_stays_once() -> None:
    encoder = EventEncoder("fs", "n")
    encoder.carried = of("Codec", "none")
    text = json.dumps({**CORE, "Codec": "A", "Hangup-Cause": "B", "Unique-ID": "u"}, separators=(",", ":"))
    raw = RawEvent((text[:-1] + ',"Codec":"C","Hangup-Cause":"D"}').encode())
    pairs: list[Any] = []
    for _ in range(40):
        payload = encoder.encode(raw).payload
        json.loads(payload, object_pairs_hook=lambda found: pairs.append(found))
        headers = [pair for pair in pairs[-2] if pair[0] in ("Codec", "Hangup-Cause")]
        assert headers == [("Codec", "C"), ("Hangup-Cause", "D")]


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("event_fields", " Caller-* , Call-Direction,Caller-* ", ("Caller-*", "Call-Direction")),
        ("event_fields", "None", ("none",)),
        ("event_fields", "", ()),
        ("event_variables", "variable_sip_call_id,sip_h_X-*", ("sip_call_id", "sip_h_X-*")),
        ("event_variables", "none", ("none",)),
    ],
)
def test_lists_that_are_taken(name: str, text: str, value: tuple[str, ...]) -> None:
    assert PARAMS[name].read(text) == value and PARAMS[name].read(PARAMS[name].write(value)) == value


@pytest.mark.parametrize(
    ("name", "text", "part"),
    [
        ("event_fields", "Caller*ANI", "'Caller*ANI'"),
        ("event_fields", "a b", "'a b'"),
        ("event_fields", 'a"b', "'a\"b'"),
        ("event_fields", "none,Caller-ANI", "'none'"),
        ("event_fields", "variable_x", "belongs in event_variables"),
        ("event_fields", "é", "'é'"),
        ("event_variables", "variable_", "'variable_'"),
        ("event_variables", ",".join(map(str, range(MAX_HEADERS + 1))), f"{MAX_HEADERS + 1} of them"),
    ],
)
def test_lists_that_are_refused(name: str, text: str, part: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be none, or up to {MAX_HEADERS} names") as raised:
        PARAMS[name].read(text)
    assert part in str(raised.value)


def test_an_event_that_is_too_large_counts_only_what_it_carries() -> None:
    encoder = EventEncoder("fs", "n")
    encoder.carried = of("A,B", "none")
    event = {**CORE, "Unique-ID": "u", "A": "a" * 300, "B": "b" * 200, "C": "c" * 5000}
    raw = RawEvent(json.dumps(event, separators=(",", ":")).encode())
    found = json.loads(encoder.reduced(raw, 600).payload)
    assert found["truncated"] == ["A"] and "B" in found["headers"] and "C" not in found["headers"]


def test_many_names_and_endless_values_cost_no_more_than_their_length() -> None:
    chosen = Carried([f"Field-{number}*" for number in range(MAX_HEADERS)], ["none"])
    assert chosen.wants("Field-255x") and not chosen.wants("Fiel")
    for endless in (b'"' + b'\\"' * 200_000, b'["' + b'","' * 200_000, b'["' + b',"Field-1":' * 50_000):
        assert chosen.cut(b'{"Event-Name":"a","Field-1":' + endless) == b'{"Event-Name":"a"}'
