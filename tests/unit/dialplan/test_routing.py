"""What a program is asked about a call, what it may answer, and what is counted."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.dialplan.answers import VARIABLE, read_params, write_extension
from event_agent.dialplan.choices import Choices, Manager, Store
from event_agent.dialplan.routing import ANSWER, Decision, Route, decision, question
from event_agent.drivers.base import Unanswered
from event_agent.errors import CommandError
from event_agent.http.server import HttpAnswer
from tests.asyncapi import schemas
from tests.fakes.questions import anything
from tests.support import until
from tests.unit.dialplan.parts import UUID, House, Make
from tests.unit.dialplan.route_parts import posted, validator


def read(answer: Any) -> Decision:
    return decision(answer if isinstance(answer, bytes) else json.dumps(answer).encode(), anything)


def test_the_question_has_what_freeswitch_says_of_the_call() -> None:
    route = Route(True, variables=("a", "b", "sip_req_uri"))
    data = posted(
        ("Caller-Caller-ID-Name", "old"), ("Hunt-Caller-ID-Name", "Ann"), ("Caller-Caller-ID-Number", "1"),
        ("Hunt-Network-Addr", "192.0.2.1"), ("variable_a", "x y\n"), ("variable_c", "secret"),
        ("variable_sip_req_uri", "7000@pbx"),
    )  # fmt: skip
    manager = Manager(str)
    manager.choose(route=route)
    asked = json.loads(question("fs-1", route, read_params(data, manager.variables)))
    assert asked == {
        "node_id": "fs-1", "uuid": UUID, "direction": "inbound", "caller_id_name": "Ann", "caller_id_number": "1",
        "destination": "7000", "context": "public", "network_addr": "192.0.2.1",
        "variables": {"a": "x y\n", "sip_req_uri": "7000@pbx"},
    }  # fmt: skip
    assert not list(validator("call").iter_errors(asked))


def test_a_variable_is_passed_whole_or_not_at_all() -> None:
    manager = Manager(str)
    manager.choose(route=Route(True, variables=("a", "b")))
    pairs = ("variable_a", "x" * VARIABLE), ("variable_b", "x" * (VARIABLE + 1))
    params = read_params(posted(*pairs), manager.variables)
    assert len(params["variable_a"]) == VARIABLE and "variable_b" not in params
    manager.choose(route=Route(False, variables=("a",)))
    assert manager.variables == frozenset()


@pytest.mark.parametrize(
    ("answer", "actions"),
    [
        ({"action": "park"}, ()),
        ({"action": "dialplan", "reason": "further keys are ignored"}, ()),
        ({"action": "transfer", "extension": "+49;x=1@host"}, (("transfer", "+49;x=1@host"),)),
        ({"action": "transfer", "extension": "1", "context": "c"}, (("transfer", "1 XML c"),)),
        ({"action": "transfer", "extension": "1", "dialplan": "enum"}, (("transfer", "1 enum"),)),
        ({"action": "transfer", "extension": "*70%", "context": "c", "dialplan": "d"}, (("transfer", "*70% d c"),)),
        ({"action": "hangup"}, (("hangup", "NORMAL_CLEARING"),)),
        ({"action": "hangup", "cause": "17"}, (("hangup", "17"),)),
        ({"action": "apps", "apps": [{"app": "answer"}]}, (("answer", ""),)),
        ({"action": "apps", "apps": [{"app": "a", "args": r"x\y $5 \\z"}]}, (("a", r"x\\y \$5 \\\\z"),)),
        ({"action": "apps", "apps": [{"app": "a", "args": "$5, {b} <&>'\""}]}, (("a", "$5, {b} <&>'\""),)),
        ({"action": "apps", "expand": True, "apps": [{"app": "a", "args": r"${b} \$"}]}, (("a", r"${b} \$"),)),
    ],
)  # fmt: skip
def test_valid_answers(answer: Any, actions: tuple[tuple[str, str], ...]) -> None:
    assert read(answer) == Decision(answer["action"], actions)
    assert not list(validator("decision").iter_errors(answer))


def test_the_size_of_an_answer_has_a_limit() -> None:
    data = b'{"action":"park"}'
    assert read(data.ljust(ANSWER)).action == "park"
    with pytest.raises(CommandError, match="it has 65537 bytes; 65536 are allowed"):
        read(data.ljust(ANSWER + 1))


@pytest.mark.parametrize("depth", [0, 1])
def test_what_must_not_be_run_is_refused_with_the_whole_answer(depth: int) -> None:
    apps = [{"app": "answer"}] * depth + [{"app": "system", "args": "true"}, {"app": "hangup"}]
    with pytest.raises(CommandError, match="Application 'system' is denied"):
        read({"action": "apps", "apps": apps})


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
    | st.sampled_from(["answer", "transfer", "apps", "${x}", "$${x}", "1\n2", "-bleg", "%[a=b]c", "\\", "'"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(st.sampled_from(["app", "args", "extension", "context", "x"]), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip
_ANSWERS = st.fixed_dictionaries(
    {"action": st.sampled_from(["park", "dialplan", "transfer", "hangup", "apps"])},
    optional=dict.fromkeys(("extension", "context", "dialplan", "cause", "apps", "expand"), _JSON),
)


@given(_ANSWERS | _JSON)
def test_whatever_is_answered_becomes_well_formed_xml_or_is_refused(answer: Any) -> None:
    try:
        found = read(answer)
    except CommandError as error:
        assert 0 < len(str(error)) < 300 and "\n" not in str(error)
        return
    assert not list(validator("decision").iter_errors(answer))
    manager = Manager(str)
    data = write_extension(manager.route({"Hunt-Context": "public"}, found.actions))
    actions = [(each.get("application"), each.get("data") or "") for each in ET.fromstring(data).iter("action")]
    assert actions == [("set", "event_agent_routed=true"), *found.actions]
    assert b"$${" not in data and (b"${" not in data or answer.get("expand") is True)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(CommandError):
        decision(b"\xff" + data, anything)


# -- the whole, with a listener


def answered(house: House, answer: bytes | Unanswered, *pairs: tuple[str, str]) -> list[str]:
    """The applications that FreeSWITCH is told to run."""
    call = house.call(posted(*pairs))
    until(lambda: house.questions.waiting, "it is asked")
    house.questions.answer(answer)
    root = ET.fromstring(call())
    return [each.get("application", "") for each in root.iter("action")]


def test_a_call_waits_for_the_answer_and_health_does_not(make: Make) -> None:
    house = make(start=False)
    house.listener.route("GET", "/health", lambda _: HttpAnswer(b"ok"))
    house.start()
    outcome = house.run("dialplan.route", subject="a.b", timeout=2, fallback="park")
    assert (outcome.message, outcome.extra) == ("Routing enabled", {"route": "enabled", "subject": "a.b"})
    assert len(outcome.warnings) == 1 and "timeout must be 3 or more" in outcome.warnings[0]
    assert house.questions.begun == 1
    call = house.call(posted())
    until(lambda: house.router.waiting == 1, "it waits")
    assert house.get("/health") == b"ok" and house.router.waiting == 1
    (subject, data, timeout), = house.questions.asked  # fmt: skip
    assert (subject, json.loads(data)["destination"], timeout) == ("a.b", "7000", 2.0)
    house.questions.answer(b'{"action":"hangup"}')
    assert b'application="hangup"' in call() and house.router.waiting == 0
    for number, reason in enumerate(Unanswered, 1):
        assert answered(house, reason)[-1] == "park"
        assert house.router.fallbacks[reason.value] == 1 and sum(house.router.fallbacks.values()) == number
    assert answered(house, b'{"action":"apps","apps":[{"app":"system"}]}')[-1] == "park"
    assert house.router.last == "an answer is not valid: Application 'system' is denied"
    assert house.router.fallbacks["invalid"] == 1 and house.router.latency.count == 2
    fields = house.run("dialplan.status").data["route"]
    assert fields["calls_asked"] == 2 + len(Unanswered) and fields["decisions"]["hangup"] == 1
    assert house.control.intercepted == 1 + len(Unanswered)  # those that were parked
    assert set(fields["fallbacks"]) == set(schemas("reply")["definitions"]["dialplanRouting"]["properties"]["fallbacks"]
                                           ["required"])  # fmt: skip


def test_a_driver_that_can_not_ask(make: Make) -> None:
    house = make()
    house.router._questions = None
    with pytest.raises(CommandError, match="driver can't ask programs"):
        house.run("dialplan.route")
    assert house.run("dialplan.route", enabled=False).message == "Routing disabled"
    house.control._manager.choose(route=Route(True))  # as a file may say that was written with another driver
    assert house.call(posted())().count(b"not found") == 1 and house.router.fallbacks["not_connected"] == 1


# -- what is kept


def test_it_is_kept_and_what_is_damaged_is_set_aside(tmp_path: Path) -> None:
    route = Route(True, "a.b", 0.5, ("public",), "^7", ("112",), ("a",), "park")
    store = Store(str(tmp_path))
    store.save(Choices(route=route))
    assert store.load() == Choices(route=route)
    saved = json.loads((tmp_path / "dialplan.json").read_text())
    for name, value in (
        ("enabled", 1), ("subject", "a b"), ("subject", None), ("timeout", 9), ("timeout", True), ("contexts", [1]),
        ("number", "("), ("excepted", ["*"]), ("variables", [""]), ("variables", "abc" * 30), ("fallback", "x"),
    ):  # fmt: skip
        (tmp_path / "dialplan.json").write_text(json.dumps(saved | {"route": saved["route"] | {name: value}}))
        assert store.load() == Choices(), name
    (tmp_path / "dialplan.json").write_text(json.dumps(saved | {"route": 5}))
    assert store.load() == Choices()
    del saved["route"]  # of an agent that had none
    (tmp_path / "dialplan.json").write_text(json.dumps(saved))
    assert store.load() == Choices()
