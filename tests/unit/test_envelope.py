"""Whatever a client sends is a request, another node's, or refused; whatever leaves is JSON."""

from __future__ import annotations

import json
import math
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.errors import CommandError
from event_agent.protocol.replies import ABSENT, Envelope, dump_json, to_utf8
from event_agent.protocol.requests import MAX_REQUEST, Request, read_request

TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        name: JSON | st.sampled_from(("", "fs-node-01", "FS_NODE_01", "status", "a.b", True, 5))
        for name in ("command", "args", "node_id", "async", "forward_to", "correlation_id")
    },
)
OURS = "fs_node_01"


def parsed(data: bytes, slug: str = OURS) -> Request | None:
    """The request; None for another node's. Raises CommandError."""
    request = Request()
    return request if read_request(request, data, slug) else None


def refused(data: bytes) -> tuple[str, Request]:
    """What is said of it, and what is known of it."""
    request = Request()
    with pytest.raises(CommandError) as caught:
        read_request(request, data, OURS)
    return caught.value.message, request


def packed(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def check(data: bytes) -> None:
    request = Request()
    try:
        if not read_request(request, data, OURS):
            return
    except CommandError as error:
        assert error.message and "\n" not in error.message
        assert not isinstance(request.correlation_id, bool)
        assert (request.command, request.payload, request.run_async, request.forward_to) == ("", {}, False, "")
        return
    assert isinstance(request, Request) and request.command and isinstance(request.command, str)
    assert isinstance(request.run_async, bool) and isinstance(request.forward_to, str)
    assert request.correlation_id is None or isinstance(request.correlation_id, (str, int, float))
    assert request.payload["command"] == request.command
    # What was taken can be answered.
    json.loads(Envelope("n").reply(False, "x", correlation_id=request.correlation_id))


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    check(data)


@given(JSON | FIELDS, st.sampled_from(("utf-8", "utf-16", "latin-1")))
def test_any_json(value: Any, encoding: str) -> None:
    check(json.dumps(value, ensure_ascii=True).encode(encoding))
    check(json.dumps(value, ensure_ascii=False).encode(encoding, "replace"))


@given(FIELDS, st.integers(0, 200), st.binary(max_size=3))
def test_json_with_a_fault(value: Any, at: int, fault: bytes) -> None:
    data = json.dumps(value).encode()
    at %= len(data) + 1
    check(data[:at] + fault + data[at + 1 :])


def test_checks_come_in_their_order() -> None:
    too_large = b"x" * (MAX_REQUEST + 1)
    assert refused(too_large)[0] == "Payload too large (65537 bytes, at most 65536)"
    assert refused(b"")[0] == "Empty payload"
    bad = (b"{", b"nope", b"\xff", b'{"a":NaN}', b'{"a":-Infinity}', b"[" * 60000, b'{"a":1}x', b"\xef\xbb\xbf{}")
    for data in bad:
        assert refused(data)[0] == "Invalid JSON payload", data[:20]
    for data in (b"[]", b'"x"', b"null", b"5", b"true"):
        assert refused(data)[0] == "Payload must be a JSON object"
    assert parsed(packed(node_id="another"), OURS) is None  # before the missing command
    for fields in ({}, {"command": ""}, {"command": 5}, {"command": None}, {"command": ["x"]}):
        assert refused(packed(**fields))[0] == "Missing 'command' string"
    padding = b" " * (MAX_REQUEST - len(packed(command="status")))
    assert parsed(packed(command="status") + padding, OURS) is not None  # exactly as large as may be


@pytest.mark.parametrize("node_id", ["FS-Node-01", "fs_node_01", "fs.node.01", "FS NODE 01", ""])
def test_a_request_for_us(node_id: str) -> None:
    request = parsed(packed(command="status", node_id=node_id), OURS)
    assert request is not None and request.command == "status"


@pytest.mark.parametrize(
    ("node_id", "slug"), [("fs-node-1", OURS), ("x", ""), ("fs_node_01x", OURS), ("x" * 256, "x" * 256)]
)
def test_a_request_for_another(node_id: str, slug: str) -> None:
    assert parsed(packed(command="status", node_id=node_id), slug) is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"node_id": 5}, "node_id must be a string"),
        ({"node_id": None}, "node_id must be a string"),
        ({"async": "yes"}, "async must be true or false"),
        ({"async": 1}, "async must be true or false"),
        ({"async": None}, "async must be true or false"),
        ({"forward_to": 5}, "forward_to must be a plain subject"),
        ({"forward_to": None}, "forward_to must be a plain subject"),
        ({"correlation_id": True}, "correlation_id must be a string or a number"),
        ({"correlation_id": {}}, "correlation_id must be a string or a number"),
    ],
)
def test_common_fields_of_the_wrong_type(fields: dict[str, Any], message: str) -> None:
    assert refused(packed(command="status", **fields))[0] == message


def with_verb(verb: bytes, data: bytes) -> Request:
    request = Request()
    request.verb = verb
    assert read_request(request, data, OURS)
    return request


def test_the_command_may_stand_in_the_subject() -> None:
    assert with_verb(b"status", b"").command == with_verb(b"status", b"{}").command == "status"
    assert with_verb(b"dialplan.enable", b'{"context":"x"}').command == "dialplan.enable"
    assert with_verb("größe".encode(), b"{}").command == "größe"
    agreed = with_verb(b"hangup", b'{"command":"hangup","uuid":"a"}')
    assert agreed.command == agreed.payload["command"] == "hangup" and agreed.payload["uuid"] == "a"


@pytest.mark.parametrize(
    ("verb", "data", "message"),
    [
        (b"status", b'{"command":"show"}', "command must be absent, or 'status' as in the subject"),
        (b"status", b'{"command":"STATUS"}', "command must be absent, or 'status' as in the subject"),
        (b"status", b'{"command":""}', "command must be absent, or 'status' as in the subject"),
        (b"status", b'{"command":null}', "command must be absent, or 'status' as in the subject"),
        (b"status", b'{"command":["status"]}', "command must be absent, or 'status' as in the subject"),
        (b"status", b"{", "Invalid JSON payload"),
        (b"status", b"[]", "Payload must be a JSON object"),
        (b"\xff", b"", "The command in the subject is not UTF-8"),
        (b"x" * 256, b"", "The command in the subject must have at most 255 characters"),
        (b"a..b", b"", "The command in the subject must have no empty part, wildcard, or control character"),
        (b"a.", b"", "The command in the subject must have no empty part, wildcard, or control character"),
        (b"a*", b"", "The command in the subject must have no empty part, wildcard, or control character"),
        (b"a\x00", b"", "The command in the subject must have no empty part, wildcard, or control character"),
        (b"a\rb", b"", "The command in the subject must have no empty part, wildcard, or control character"),
    ],
)
def test_a_command_in_the_subject_that_is_none_or_another(verb: bytes, data: bytes, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        with_verb(verb, data)
    assert caught.value.message == message


def test_a_request_for_another_node_is_left_alone_whatever_its_subject_says() -> None:
    request = Request()
    request.verb = b"\xff"
    assert not read_request(request, b'{"node_id":"another"}', OURS)


def test_a_refusal_can_be_told_apart() -> None:
    assert refused(packed(correlation_id="id-7"))[1].correlation_id == "id-7"
    assert refused(packed(command="x", correlation_id=7, **{"async": 5}))[1].correlation_id == 7
    assert refused(packed(command="x", correlation_id=7.5, forward_to=5))[1].correlation_id == 7.5


@given(
    st.booleans(), TEXT, JSON, st.none() | st.dictionaries(TEXT.filter(bool), JSON, max_size=3),
    st.none() | TEXT | st.integers() | st.floats(allow_nan=False, allow_infinity=False), TEXT,
)  # fmt: skip
def test_any_reply_is_one_line_of_json(
    ok: bool, message: str, data: Any, extra: dict[str, Any] | None, correlation_id: Any, node_id: str
) -> None:
    standard = {"success", "status", "message", "timestamp", "node_id", "data", "correlation_id"}
    extra = {name: value for name, value in (extra or {}).items() if name not in standard}
    envelope = Envelope(node_id)
    before = time.time_ns() // 1000
    raw = envelope.reply(ok, message, data, extra, correlation_id)
    assert b"\n" not in raw and b"\r" not in raw
    reply = json.loads(raw.decode())  # strict UTF-8

    def same(value: Any) -> Any:
        return json.loads(to_utf8(dump_json(value)))

    assert reply["success"] is ok and reply["status"] == ("success" if ok else "error")
    assert reply["message"] == same(message) and reply["node_id"] == same(node_id or "unknown")
    assert type(reply["timestamp"]) is int and before <= reply["timestamp"] <= time.time_ns() // 1000
    assert reply.get("correlation_id") == same(correlation_id)
    assert ("correlation_id" in reply) == (correlation_id is not None)
    expected = {**data, **extra} if isinstance(data, dict) else data
    assert ("data" in reply) == (ok or data is not None)
    assert reply.get("data") == same(expected)
    for name, value in same(extra).items():
        assert reply[name] == value


def test_replies_look_as_documented() -> None:
    raw = Envelope("fs-node-01").reply(True, "API command executed", "UP\n")
    stamp = json.loads(raw)["timestamp"]
    assert raw == (
        b'{"success":true,"status":"success","message":"API command executed",'
        b'"timestamp":%d,"node_id":"fs-node-01","data":"UP\\n"}' % stamp
    )
    assert "data" not in json.loads(Envelope("").reply(True, "done"))
    assert json.loads(Envelope("").reply(True, "done"))["node_id"] == "unknown"
    assert json.loads(Envelope("").reply(True, "done", None))["data"] is None
    reply = json.loads(Envelope("x").reply(True, "done", {"a": 1}, {"mode": "park"}, "c"))
    assert reply["data"] == {"a": 1, "mode": "park"} and reply["mode"] == "park" and reply["correlation_id"] == "c"


def test_text_stays_text() -> None:
    raw = Envelope("x").reply(True, "ok", 'quote " backslash \\ line\nbreak \x00 é 日本 \ud800')
    assert json.loads(raw.decode())["data"] == 'quote " backslash \\ line\nbreak \x00 é 日本 ?'
    assert "日本".encode() in raw


def test_what_json_can_not_hold_is_no_reply() -> None:
    with pytest.raises(ValueError):
        dump_json(math.nan)


TEXT = st.text(st.characters(), max_size=400) | st.text("\\\"\nu0aä€😀\x00\x1f\ud800", max_size=400)


@given(TEXT, st.integers(260, 600))
def test_pieces_fit_and_come_together_again(text: str, most: int) -> None:
    parts = Envelope("n").parts(most, True, "m", text, {"mode": "x"}, 7)
    found = [json.loads(each) for each in parts]  # each is UTF-8 and JSON by itself
    assert "".join(each["data"] for each in found) == text.encode(errors="replace").decode()
    assert all(len(each) <= most for each in parts)
    assert [(each["part"], each["parts"]) for each in found] == [(n, len(parts)) for n in range(1, len(parts) + 1)]
    same = [{key: value for key, value in each.items() if key not in ("part", "data")} for each in found]
    assert all(each == same[0] and each["mode"] == "x" and each["correlation_id"] == 7 for each in same)


@given(st.dictionaries(st.text(max_size=30), st.text(max_size=60) | st.integers(), max_size=20))
def test_pieces_of_an_object_are_its_json(data: dict[str, Any]) -> None:
    parts = [json.loads(each) for each in Envelope("n").parts(260, True, "m", data, {"info": "ä"})]
    assert json.loads("".join(each["data"] for each in parts)) == {**data, "info": "ä"}
    assert all(each["json"] is True for each in parts)


@pytest.mark.parametrize("data", [ABSENT, None, "x" * 1_000_000])
def test_what_can_not_be_had_in_parts(data: object) -> None:
    assert Envelope("n").parts(260, True, "m", data) == []
    assert Envelope("n").parts(260, True, "m" * 200, "data") == [], "no room beside the message"


def test_a_long_answer_takes_no_long_time() -> None:
    for text in ("\\" * 2_000_000, "\x00" * 700_000, "😀" * 1_000_000):
        began = time.process_time()
        parts = Envelope("n").parts(1_000_000, True, "m", text)
        assert time.process_time() - began < 5.0 and len(parts) >= 4
        assert "".join(json.loads(each)["data"] for each in parts) == text
