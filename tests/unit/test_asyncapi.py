"""docs/asyncapi.yaml and docs/schemas: sound in themselves, with the code's own limits, and what is wrong fails.

That the document is AsyncAPI 3.0 was seen with AsyncAPI's own parser, which is too large to come along.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import event_agent
from event_agent.config.table import Settings
from event_agent.drivers.base import Message
from event_agent.observe import discovery
from event_agent.protocol.subjects import any_lane, call_lane, event_subject, lanes, verb_lanes
from tests import asyncapi
from tests.asyncapi import DOCS, discovery_faults, event_faults, reply_faults, request_faults
from tests.functional.test_api_doc import steps
from tests.functional.wire import EXCHANGES, SAMPLE, Wire
from tests.unit.test_fuzz_requests import SEEDS, House

# Run from the place in which the installed package is tested, there is nothing to compare.
pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="not a checkout")

FILES = ("request", "reply", "event", "discovery")


def parts(value: Any, path: str = "#") -> Iterator[tuple[str, Any]]:
    """All objects in a document, with where they stand."""
    if isinstance(value, dict):
        yield path, value
        for key, each in value.items():
            yield from parts(each, f"{path}/{key}")
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from parts(each, f"{path}/{index}")


def references(value: Any) -> Iterator[str]:
    for _, each in parts(value):
        if isinstance(each.get("$ref"), str):
            yield each["$ref"]


def resolved(ref: str, home: Any) -> Any:
    """What a reference leads to. KeyError where it leads nowhere."""
    file, _, pointer = ref.partition("#")
    found = json.loads((DOCS / file).read_text(encoding="utf-8")) if file else home
    for key in pointer.strip("/").split("/"):
        found = found[key]
    return found


# -- the document


def test_every_reference_leads_somewhere() -> None:
    document = asyncapi.document()
    found = list(references(document))
    assert len(found) > 80
    for ref in found:
        assert isinstance(resolved(ref, document), dict), ref
    for name in FILES:
        for ref in references(asyncapi.schemas(name)):
            assert isinstance(resolved(ref, asyncapi.schemas(name)), dict), f"{name}: {ref}"


@pytest.mark.parametrize("name", FILES)
def test_the_schemas_are_schemas_and_their_examples_fit(name: str) -> None:
    schema = asyncapi.schemas(name)
    assert schema["$schema"] == "http://json-schema.org/draft-07/schema#"
    jsonschema.Draft7Validator.check_schema(schema)
    faults_of = {
        "request": request_faults, "reply": lambda each: reply_faults(each), "event": event_faults,
        "discovery": discovery_faults,
    }[name]  # fmt: skip
    messages = {ref["$ref"].rpartition("/")[2] for ref in schema["oneOf"]}
    for definition in messages:
        examples = schema["definitions"][definition]["examples"]
        assert examples, definition
        for example in examples:
            assert faults_of(example) == [], definition
    used = {ref.rpartition("/")[2] for ref in references(schema)}
    assert used == set(schema["definitions"]), "a definition that nothing names"
    named = {ref.rpartition("/")[2] for ref in references(asyncapi.document()) if f"/{name}.json" in ref}
    assert named == messages, "asyncapi.yaml and the schema name other messages"


def test_operations_name_messages_of_their_channels() -> None:
    document = asyncapi.document()
    used = set()
    for name, operation in document["operations"].items():
        for part in (operation, operation.get("reply", {})):
            if not part:
                continue
            channel = part["channel"]["$ref"]
            used.add(channel.rpartition("/")[2])
            for message in part.get("messages", ()):
                assert message["$ref"].startswith(f"{channel}/messages/"), name
    assert used == set(document["channels"])
    for name, channel in document["channels"].items():
        declared = set(re.findall(r"\{(\w+)\}", channel["address"] or ""))
        assert declared == set(channel.get("parameters", {})), name


def filled(channel: str, **values: str) -> str:
    address = asyncapi.document()["channels"][channel]["address"]
    return str(address.format(prefix="p", node="fs_1", **values))


def test_the_addresses_are_those_of_the_code() -> None:
    found = {filled(name) for name in ("allNodes", "oneNode", "oneNodeApi")}
    assert found == {subject for subject, _ in lanes("p", "FS-1")}
    assert filled("anyNode") == any_lane("p")[0]
    below = {filled(f"{name}Verb", command=">") for name in ("allNodes", "oneNode", "anyNode")}
    assert below == {subject for _, subject, _ in verb_lanes("p", "FS-1")}
    assert filled("oneCallVerb", uuid="x", command="hangup") == f"{call_lane('p', 'x')}.hangup"
    prefix = Settings().subject_prefix
    assert asyncapi.document()["components"]["parameters"]["prefix"]["default"] == prefix
    assert asyncapi.document()["operations"]["onAnyNode"]["bindings"]["nats"]["queue"] == any_lane(prefix)[1]
    assert filled("events", event="channel.execute.complete") == event_subject("p", "CHANNEL_EXECUTE_COMPLETE")
    assert filled("events", event="custom.sofia.register") == event_subject("p", "CUSTOM", "sofia::register")
    assert filled("agentConnected") == event_subject("p", "AGENT_CONNECTED")
    assert filled("agentDisconnected") == event_subject("p", "AGENT_DISCONNECTED")
    assert filled("agentStopping") == event_subject("p", "AGENT_STOPPING")
    assert filled("agentGap") == event_subject("p", "AGENT_GAP")
    assert filled("agentReadiness") == event_subject("p", "AGENT_READINESS")
    assert filled("agentHeartbeat") == event_subject("p", "AGENT_HEARTBEAT")
    assert filled("agentChannelGone") == event_subject("p", "AGENT_CHANNEL_GONE")
    assert filled("agentChannelFound") == event_subject("p", "AGENT_CHANNEL_FOUND")
    for verb in ("PING", "INFO", "STATS"):
        found = {filled(f"discover{what}", verb=verb, id="x") for what in ("Services", "Agents", "Agent")}
        asked = f"{discovery.ROOT}.{verb}"
        assert found == {asked, f"{asked}.{discovery.NAME}", f"{asked}.{discovery.NAME}.x"}
    assert asyncapi.document()["info"]["version"] == event_agent.__version__


def test_every_command_is_in_it(tmp_path: Path) -> None:
    handlers = set(House(random.Random(0), tmp_path).registry.handlers)
    assert set(asyncapi.commands()) == handlers
    others: list[str]
    (others,) = [each["enum"] for path, each in parts(asyncapi.schemas("request")) if path.endswith("command/not")]
    assert set(others) == handlers
    assert {*asyncapi.commands().values(), "apiVerb"} <= set(asyncapi.document()["operations"])


def test_the_examples_of_the_api_fit() -> None:
    """docs/API.md's, each reply held against the request before it."""
    count = 0
    request: Any = None
    for step in steps((DOCS / "API.md").read_text(encoding="utf-8")):
        value: Any = json.loads(step.text) if step.text[:1] == "{" else None
        if step.kind == "request":
            request = value
        elif step.kind == "event":
            count += 1
            # It shows a few headers only; the rest of an event fits.
            assert [each for each in event_faults(value) if "is a required property" not in each] == []
        elif step.kind == "reply":
            count += 1
            assert reply_faults(value, request) == [], f"line {step.line}"
            if value["success"]:
                assert request_faults(request) == [], f"line {step.line}"
    assert count > 25


def test_the_refusals_of_the_api_are_refused_here_too() -> None:
    count = 0
    for step in steps((DOCS / "API.md").read_text(encoding="utf-8")):
        reply = {"success": False, "message": step.words.get("message", "")}
        if step.kind == "row" and asyncapi.refused_by_a_check(reply):
            count += 1
            request = json.loads(step.text)
            assert request_faults(request) or asyncapi.taken_apart(request), step.text
    assert count > 30


# -- what is wrong fails


REPLY: dict[str, Any] = {"success": True, "status": "success", "message": "API command executed", "timestamp": 1,
                         "node_id": "n", "data": ""}  # fmt: skip
ERROR: dict[str, Any] = {"success": False, "status": "error", "message": "m", "timestamp": 1, "node_id": "n"}
EVENT = asyncapi.schemas("event")["definitions"]["freeswitch"]["examples"][0] if DOCS.exists() else {}


@pytest.mark.parametrize(
    "change",
    [
        {"success": "true"}, {"status": "error"}, {"message": "Done"}, {"timestamp": 1.5}, {"timestamp": "1"},
        {"timestamp": -1}, {"node_id": ""}, {"node_id": None}, {"data": None}, {"data": {}}, {"correlation_id": None},
        {"correlation_id": True}, {"surprise": 1},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_reply_is_found(change: dict[str, Any]) -> None:
    assert reply_faults(REPLY, {"command": "status"}) == [] and reply_faults(ERROR, {"command": "status"}) == []
    assert reply_faults({**REPLY, **change}, {"command": "status"})
    if "data" not in change and "message" not in change:
        wrong = {"status": "success"} if "status" in change else change
        assert reply_faults({**ERROR, **wrong}, {"command": "status"})


@pytest.mark.parametrize("missing", list(REPLY))
def test_a_reply_that_lacks_a_key_is_found(missing: str) -> None:
    assert reply_faults({key: value for key, value in REPLY.items() if key != missing}, {"command": "status"})


def test_a_reply_to_another_command_is_found() -> None:
    replies = {
        name: each["examples"][0] for name, each in asyncapi.schemas("reply")["definitions"].items() if "title" in each
    }
    for command, name in asyncapi.commands().items():
        for other, reply in replies.items():
            fits = other in (name, "error", "part")
            assert bool(reply_faults(reply, {"command": command})) is not fits, (command, other)


@pytest.mark.parametrize(
    "change",
    [
        {"event_name": "channel_answer"}, {"event_name": None}, {"timestamp": "1"}, {"node_id": 5}, {"uuid": ""},
        {"headers": {}}, {"headers": []}, {"headers": {**EVENT.get("headers", {}), "A": 5}}, {"body": {}},
        {"headers": {**EVENT.get("headers", {}), "A": [5]}}, {"surprise": 1}, {"event_name": "CUSTOM"},
        {"event_name": "AGENT_CONNECTED"}, {"event_name": "AGENT_DISCONNECTED"}, {"event_name": "AGENT_GAP"},
        {"event_name": "AGENT_STOPPING"},
        {"event_name": "AGENT_CHANNEL_GONE"}, {"event_name": "AGENT_CHANNEL_FOUND"},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_event_is_found(change: dict[str, Any]) -> None:
    assert event_faults(EVENT) == []
    assert event_faults({**EVENT, **change})


class Came:
    """A message of nats-py, as far as it is looked at."""

    def __init__(self, subject: str, value: Any, reply: str = "") -> None:
        self.subject, self.reply = subject, reply
        self.data = value if isinstance(value, bytes) else json.dumps(value).encode()


def sent(wire: Wire, subject: str, value: Any, reply: str = "") -> None:
    wire.sent(subject, Came("", value).data, reply)


def came(wire: Wire, subject: str, value: Any, reply: str = "") -> None:
    wire.came(Came(subject, value, reply))  # type: ignore[arg-type]


def test_the_functional_tests_would_fail() -> None:
    """Each kind of thing that can be wrong on the wire, and that what is right is let through."""
    wire = Wire()
    good, bad = {"command": "status"}, {"command": "originate"}

    def faults() -> int:
        return len(wire.check())

    sent(wire, "p.api", good, "r")
    came(wire, "r", REPLY)
    sent(wire, "p.node.fs_1", bad, "r2")
    came(wire, "r2", ERROR | {"message": "endpoint must be between 1 and 255 characters"})
    came(wire, "p.events.channel.answer", EVENT)
    came(wire, "somewhere.else", {"any": "thing"})
    assert faults() == 0 and wire.checked == {"requests": 2, "replies": 2, "events": 1, "discoveries": 0}
    sent(wire, "p.api", good, "r")
    came(wire, "r", REPLY | {"surprise": 1})
    assert faults() == 1, "a reply that does not fit"
    sent(wire, "p.any", bad, "r")
    came(wire, "r", REPLY | {"message": "Call originated successfully", "data": {"uuid": "ab", "endpoint": "x",
                                                                              "destination": "y"}})  # fmt: skip
    assert faults() > 0, "a request that was carried out and does not fit"
    sent(wire, "p.api.fs_1", good, "r")
    came(wire, "r", ERROR | {"message": "uuid must be between 2 and 63 characters"})
    assert faults() == 1, "a request that fits and was refused"
    sent(wire, "p.api", bad)
    assert faults() > 0, "a request without a reply that does not fit"
    came(wire, "p.api", bad)
    assert faults() > 0, "the same of another client"
    came(wire, "p.events.channel.answer", {**EVENT, "headers": []})
    assert faults() == 1, "an event that does not fit"
    sent(wire, "p.api", {**good, "async": True, "forward_to": "copies"})
    came(wire, "copies", b"no json")
    assert faults() > 0, "a forwarded reply that does not fit"
    ping = asyncapi.schemas("discovery")["definitions"]["ping"]["examples"][0]
    for change, wrong in (({}, 0), ({"name": "another"}, 0), ({"id": 5}, 1), ({"surprise": 1}, 1)):
        answer = {**ping, **change}
        sent(wire, "$SRV.PING", {}, "d")
        came(wire, "d", answer)
        assert faults() == wrong, answer
    came(wire, "r", REPLY | {"surprise": 1})
    assert faults() == 0, "a check has forgotten what was before"


def test_beyond_the_limits_it_is_a_sample() -> None:
    wire = Wire()
    for number in range(EXCHANGES + 10 * SAMPLE):
        sent(wire, "p.api", {"command": "status"}, f"r{number}")
        came(wire, f"r{number}", REPLY)
    assert wire.check() == []
    assert EXCHANGES + 8 <= wire.checked["replies"] <= EXCHANGES + 12


# -- the validators of the code and the schemas of the document are of one mind


ODD = "\r\n\0 \t.-:@/*>${}(),;'\"\\\x1c\x7f\x85\xa0\u2028\ufeffé日"
OTHERS: tuple[Any, ...] = (None, True, False, 0, 5, 2.5, "x", "", [], {}, ["x"], {"a": "b"})


def flat(schema: Any) -> dict[str, Any]:
    """A field's schema with what it refers to."""
    found = {key: value for key, value in schema.items() if key not in ("$ref", "allOf")}
    for each in (schema, *schema.get("allOf", ())):
        if "$ref" in each:
            found = {**flat(resolved(each["$ref"], asyncapi.schemas("request"))), **found}
    return found


def around(low: int, high: int) -> list[int]:
    return sorted({low - 1, low, low + 1, high - 1, high, high + 1} - {-1})


def texts(schema: dict[str, Any]) -> list[str]:
    """Strings at a schema's limits and just beyond, and with every character that may be refused."""
    sizes = around(schema.get("minLength", 0), schema.get("maxLength", 300))
    odd = [text for each in ODD for text in (f"ab{each}cd", f"{each}ab", f"ab{each}")]
    return [*("a" * size for size in sizes), *odd, "ARRAY::a", "a..b", "a${b}", "5a", "_a"]


def edges(field: str, schema: Any) -> list[Any]:
    """Values for a field: at the limits of its schema, just beyond, and of other types."""
    schema = flat(schema)
    if "enum" in schema:
        return [*schema["enum"], schema["enum"][0].upper(), *OTHERS]
    if "minimum" in schema:
        low, high = schema["minimum"], schema["maximum"]
        return [low - 1, low - 0.01, low, low + 0.5, high, high + 0.01, high + 1, 1e300, *OTHERS]
    if "propertyNames" in schema:
        names = [{name: "x"} for name in texts(schema["propertyNames"])]
        return [*names, *({"a": value} for value in (*texts({}), *OTHERS, -(2**70))), {}, *OTHERS]
    if "anyOf" in schema:
        one = texts(flat(schema["anyOf"][0]))
        counts = around(schema["anyOf"][1]["minItems"], schema["anyOf"][1]["maxItems"])
        return [*one, *(["x", value] for value in (*one, *OTHERS)), *(["x"] * count for count in counts), *OTHERS]
    return [*OTHERS, *(texts(schema) if "string" in schema.get("type", "") else ())]


def fields(definition: str) -> dict[str, Any]:
    common = asyncapi.schemas("request")["definitions"]["common"]
    own: dict[str, Any] = {}
    for part in asyncapi.schemas("request")["definitions"][definition]["allOf"]:
        own |= part.get("properties", {})
    return {**common["properties"], **own}


def known() -> Iterator[tuple[dict[str, Any], str, list[Any]]]:
    """Each field of each command, with an example, one that has the field if there is one, and values for it."""
    definitions = asyncapi.schemas("request")["definitions"]
    for definition in (*asyncapi.commands().values(), "apiVerb"):
        for field, schema in fields(definition).items():
            if field not in ("node_id", "command" if definition != "apiVerb" else ""):
                examples = definitions[definition]["examples"]
                with_it = next((each for each in examples if field in each), examples[0])
                yield with_it, field, edges(field, schema)


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """A request of one command: its example, with some fields put in, left out or replaced."""
    example, _, _ = draw(st.sampled_from(ALL))
    request = {**example, "node_id": draw(st.sampled_from(("FS-1", "fs_1", "")))}
    own = [(field, values) for each, field, values in ALL if each is example]
    for field, values in draw(st.lists(st.sampled_from(own), min_size=1, max_size=3)):
        anything = st.one_of(st.sampled_from(values), st.text(st.characters(codec="utf-8")), st.integers())
        request[field] = draw(anything)
        if draw(st.integers(0, 5)) == 0:
            del request[field]
    return request


ALL = list(known()) if DOCS.exists() else []


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """The request path of the daemon, with park mode at hand."""
    found = House(random.Random(0), tmp_path_factory.mktemp("asyncapi"))
    found.driver.max_payload, found.driver.takes = 1_000_000, True
    return found


UNAVAILABLE = ("Dialplan control is not available", "Nobody watches this call")  # said when all fields are in order


def refusal(house: House, request: dict[str, Any]) -> str:
    """What a check of the agent says to a request; empty where it is let through."""
    before = house.lane.count
    house.driver.replies.clear()
    house.driver.copies.clear()
    alone = {key: value for key, value in request.items() if key != "async" or not isinstance(value, bool)}
    data = json.dumps(alone).encode()
    house.requests.take([Message(b"freeswitch.api", b"inbox", data)])
    house.lane.waiting.clear()
    house.waiting.unlinked("for the next")
    house.watches.end_all()
    if house.lane.count > before:
        return ""
    ((_, payload, _),) = house.driver.replies
    reply = json.loads(payload)
    message = str(reply["message"])
    return "" if reply["success"] or message.startswith(UNAVAILABLE) else message


def compare(house: House, request: dict[str, Any]) -> bool:
    """Whether a request is taken; AssertionError where schema and agent are not of one mind."""
    message = refusal(house, request)
    faults = request_faults(request)
    if asyncapi.BEYOND_SCHEMA.match(message) or (message and asyncapi.taken_apart(request)):
        return False
    if message.startswith("music_class must hold") and not str(request["music_class"]).isascii():
        return False  # what a letter is beyond ASCII, patterns of JSON Schema can't say
    if not message and faults and {"extension", "destination"} <= set(request) and "destination" in faults[0]:
        return True  # of two names for one thing the agent looks at the one it goes by
    assert bool(message) is bool(faults), (request, message, faults)
    return not message


FREE = ("args", "forward_to", "async", "correlation_id", "event")  # any value is taken, or only some names


def test_schemas_and_validators_agree_at_every_limit(house: House) -> None:
    for example, field, values in ALL:
        taken = {compare(house, {**example, "node_id": "FS-1", field: value}) for value in values}
        assert taken == {True, False} or field in FREE, field
        without = {key: value for key, value in example.items() if key not in (field, "node_id")}
        compare(house, without)


@given(request=requests())
@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_schemas_and_validators_agree(house: House, request: dict[str, Any]) -> None:
    compare(house, request)


def test_what_works_fits() -> None:
    for request in SEEDS:
        assert request_faults(request) == [], request
