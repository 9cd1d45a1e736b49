"""Trace headers by the grammar of the W3C: what is valid is handed on, everything else is as if it were not there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.protocol.trace import PARENT, STATE, STATE_SIZE, has_trace, sender, trace_of

GOOD = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def block(*lines: str) -> bytes:
    return "\r\n".join(("NATS/1.0", *lines, "", "")).encode("latin-1")


def test_what_is_valid_is_handed_on() -> None:
    found = trace_of(block(f"Traceparent:  {GOOD} ", "X: y", "TRACESTATE: rojo=00f067aa0ba902b7 , ,congo=t61"))
    assert found is not None
    assert found.headers == {PARENT: GOOD, STATE: "rojo=00f067aa0ba902b7,congo=t61"}
    alone = trace_of(block(f"traceparent: {GOOD}"))
    assert alone is not None and alone.headers == {PARENT: GOOD} and alone.variables == {PARENT: GOOD}


@pytest.mark.parametrize(
    "value",
    [
        "", "x", GOOD.upper(), GOOD[:-1], GOOD + "0", GOOD + "-more", "ff" + GOOD[2:], "0" + GOOD,
        GOOD.replace("-", "_"),
        "00-" + "0" * 32 + GOOD[35:], GOOD[:36] + "0" * 16 + "-01", GOOD.replace("4b", "4g"), GOOD.replace("f", "\xff"),
        f"{GOOD}, {GOOD}",
    ],
)  # fmt: skip
def test_what_is_not_valid_is_ignored(value: str) -> None:
    assert trace_of(block(f"traceparent: {value}")) is None


def test_two_of_them_are_none() -> None:
    assert trace_of(block(f"traceparent: {GOOD}", f"traceparent: {GOOD}")) is None
    assert trace_of(block("tracestate: a=b")) is None
    assert trace_of(block(f"traceparent: {GOOD}", "x: " + "y" * 20000)) is None


def test_a_later_version_is_made_one_that_we_know() -> None:
    found = trace_of(block(f"traceparent: cc{GOOD[2:-2]}ff-what-comes"))
    assert found is not None and found.parent == GOOD


@pytest.mark.parametrize(
    ("state", "taken"),
    [
        ("a=b", "a=b"), ("tenant@system=x y", "tenant@system=x y"), ("0a/b*_-=!", "0a/b*_-=!"), (" , ,", ""),
        ("A=b", ""), ("a", ""), ("a=", ""), ("=b", ""), ("a=b=c", ""), ("a=\x01", ""), ("a=é", ""), ("a=b,a=c", ""),
        (",".join(f"k{n}=v" for n in range(33)), ""), ("a" * 257 + "=b", ""), ("a=" + "v" * 257, ""),
    ],
)  # fmt: skip
def test_the_state(state: str, taken: str) -> None:
    found = trace_of(block(f"traceparent: {GOOD}", f"tracestate: {state}"))
    assert found is not None and found.state == taken


def test_a_long_state_loses_whole_members_from_its_end() -> None:
    found = trace_of(block(f"traceparent: {GOOD}", *(f"tracestate: k{n}={'v' * 200}" for n in range(3))))
    assert found is not None and len(found.state) <= STATE_SIZE and found.state.count("=") == 2


@pytest.mark.parametrize(
    "value", ["${system x}", "a'b", "a\\b", "a:_:b", "{x}", "[x]", "a b", "<x>", '"', "a|b", "a`b"]
)
def test_no_state_that_freeswitch_could_read_goes_onto_a_channel(value: str) -> None:
    found = trace_of(block(f"traceparent: {GOOD}", f"tracestate: a={value}"))
    assert found is not None and found.state == f"a={value}" and found.variables == {PARENT: GOOD}


@given(st.binary(max_size=300))
def test_nothing_harms_it(data: bytes) -> None:
    for each in (data, b"NATS/1.0\r\ntraceparent: " + data, b"NATS/1.0\r\nNats-Request-Info: " + data):
        found = trace_of(each)
        assert found is None or all(value.isascii() and value.isprintable() for value in found.headers.values())
        assert all(isinstance(value, str) for value in sender(each).values())


def test_who_sent_it() -> None:
    info = '{"acc":"APP","user":"al\\"ice","host":"10.0.0.5","name":"billing","rtt":5,"id":7}'
    assert sender(block("x: y", f"Nats-Request-Info: {info}")) == {
        "account": "APP", "user": 'al"ice', "host": "10.0.0.5", "client": "billing",
    }  # fmt: skip
    for wrong in ("", "[]", "{", '{"acc":5}', '"x"', "[" * 5000):
        assert sender(block(f"Nats-Request-Info: {wrong}")) == {}
    assert sender(b"") == {} and not has_trace(block("x: y")) and has_trace(block(f"Traceparent: {GOOD}"))
