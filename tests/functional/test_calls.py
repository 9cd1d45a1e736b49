"""originate, hangup and execute_app, and the guards, over real parts."""

from __future__ import annotations

import json
import random
import string
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functional.conftest import Switch
from tests.functional.parts import SCALE, Agent, Client, NatsServer
from tests.support import until

PARK = "loopback/park/default"


@pytest.fixture
def call(agent: Agent, client: Client) -> Iterator[str]:
    """A call of which one leg is parked; its uuid."""
    reply = client.request("originate", endpoint=PARK, destination="&park")
    assert reply["success"] is True, reply
    yield reply["data"]["uuid"]
    client.request("uuid_kill", reply["data"]["uuid"])


def variable(client: Client, uuid: str, name: str) -> str:
    return str(client.request("uuid_getvar", f"{uuid} {name}")["data"])


def test_originate_answers_when_the_call_is_answered(agent: Agent, client: Client) -> None:
    uuid = f"own-{uuid4()}"
    reply = client.request(
        "originate", endpoint=PARK, destination="&park", caller_id_name="Bot, the 1st", caller_id_number="5551234",
        variables={"custom_var": "value", "count": 3, "flag": True}, uuid=uuid, timeout=10,
    )  # fmt: skip
    assert reply["message"] == "Call originated successfully"
    assert reply["data"] == {"uuid": uuid, "endpoint": PARK, "destination": "&park"}
    assert variable(client, uuid, "custom_var") == "value" and variable(client, uuid, "count") == "3"
    assert variable(client, uuid, "flag") == "true"
    assert variable(client, uuid, "origination_caller_id_name") == "Bot, the 1st"
    hangup = client.request("hangup", uuid=uuid)
    assert hangup["message"] == "Channel hangup successful" and hangup["data"] == uuid
    assert client.request("hangup", uuid=uuid)["message"] == "-ERR No such channel!"


def test_originate_to_an_extension_of_a_context(agent: Agent, client: Client) -> None:
    reply = client.request("originate", endpoint=PARK, extension="park", context="default", dialplan="XML")
    assert reply["success"] is True and reply["data"]["destination"] == "park"
    assert client.request("hangup", uuid=reply["data"]["uuid"], cause="USER_BUSY")["success"] is True


def test_originate_that_fails_says_why(agent: Agent, client: Client) -> None:
    reply = client.request("originate", endpoint="user/nobody", destination="&park")
    assert reply["success"] is False and reply["message"].startswith("-ERR ")
    started = time.monotonic()
    reply = client.request("originate", endpoint="loopback/ring/default", destination="&park", timeout=1, _timeout=9)
    assert reply["success"] is False and reply["message"].startswith("-ERR ") and time.monotonic() - started < 5


def test_a_ringing_call_can_be_hung_up(agent: Agent, client: Client) -> None:
    answers, uuid = client.gather("test.ringing"), str(uuid4())
    request = {"command": "originate", "endpoint": "loopback/ring/default", "destination": "&park", "uuid": uuid}
    client.publish("freeswitch.api", json.dumps(request).encode(), reply="test.ringing")
    until(lambda: client.request("uuid_exists", uuid)["data"] == "true", "the call rings")
    assert not answers
    assert client.request("hangup", uuid=uuid)["success"] is True
    until(lambda: answers, "the originate's own reply")
    assert json.loads(answers[0].data)["success"] is False


def test_40_originates_ring_while_uptime_answers_at_once(agent: Agent, client: Client) -> None:
    answers = client.gather("test.forty.>")
    request = {"command": "originate", "endpoint": "loopback/ring/default", "destination": "&park", "timeout": 30}
    for number in range(40):
        client.publish("freeswitch.api", json.dumps(request).encode(), reply=f"test.forty.{number}")
    for _ in range(100):
        assert client.request("uptime")["success"] is True
    assert not answers, "all of them still ring"
    until(lambda: client.request("hupall") and len(answers) == 40, "40 replies", 20)
    assert len({message.subject for message in answers}) == 40


LONG = {
    "endpoint": 4097, "extension": 4097, "context": 128, "dialplan": 64, "caller_id_name": 128, "caller_id_number": 64,
}  # fmt: skip
MESSAGES = {
    "endpoint": "endpoint must be between 1 and 4096 characters",
    "extension": "extension must be between 1 and 4096 characters",
    "destination": "destination must be between 1 and 4096 characters",
    "context": "context must be 127 characters or fewer",
    "dialplan": "dialplan must be 63 characters or fewer",
    "caller_id_name": "caller_id_name must be 127 characters or fewer",
    "caller_id_number": "caller_id_number must be 63 characters or fewer",
    "timeout": "timeout must be between 1 and 600",
    "variables": "variables must be an object of strings, numbers, and booleans",
    "uuid": "uuid must be between 2 and 63 characters",
    "cause": "cause must be 63 characters or fewer",
}
BAD_VALUES: dict[str, dict[str, list[Any]]] = {
    "originate": {
        **{field: ["x" * size, 5, None] for field, size in LONG.items()},
        "timeout": [0, 601, "30", True, None, -1, 1e9],
        "variables": [[], "a=b", {"a": {}}, {"a": None}, {"": "b"}],
        "uuid": ["x", "x" * 64, 5],
    },
    "hangup": {"uuid": ["x", "x" * 64, 5, None], "cause": ["x" * 64, 5]},
}
BAD_VALUES["originate"]["endpoint"].append("")
BAD_VALUES["originate"]["extension"].append("")
WRONG: list[tuple[str, str, Any]] = [
    (command, field, value)
    for command, fields in BAD_VALUES.items()
    for field, values in fields.items()
    for value in values
]


@pytest.mark.parametrize(("command", "field", "value"), WRONG, ids=range(len(WRONG)))
def test_fields_are_checked(agent: Agent, client: Client, command: str, field: str, value: Any) -> None:
    good = {"endpoint": PARK, "extension": "park"} if command == "originate" else {"uuid": "some-uuid"}
    reply = client.request(command, fields=good | {field: value})
    assert reply["success"] is False and reply["message"] == MESSAGES[field]


def test_nothing_is_originated_without_a_destination(agent: Agent, client: Client) -> None:
    assert client.request("originate", endpoint=PARK)["message"] == MESSAGES["extension"]
    assert client.request("originate", endpoint=PARK, destination="")["message"] == MESSAGES["destination"]
    assert client.request("originate", extension="park")["message"] == MESSAGES["endpoint"]


@pytest.mark.parametrize("field", ["endpoint", "extension", "context", "dialplan", "caller_id_name", "uuid"])
@pytest.mark.parametrize("evil", ["a\nb", "a\rb", "a\x00b", "ab\n\napi hupall"])
def test_no_field_can_begin_a_second_command(agent: Agent, client: Client, field: str, evil: str) -> None:
    reply = client.request("originate", fields={"endpoint": PARK, "extension": "park", field: evil})
    assert reply["message"] == f"{field} must not contain line breaks or NUL"


WHOLE = [
    "a,b", "it's", "a\\b", "\\", "a\\\\b", "{x}", "[x]", '"q"', "a b  c", "x'y'z", "^^:a", "a=b", "a|b", "héllo 日本",
    "$1", "$", "a\\,b", "\\'", ",", "0", " a", "a ", "   ", " , ", "\\n", "\\s", "a\\", "a\tb", "'", "''", "<x>", "a;b",
    "[a", "a]", "(", "%41", "100% %41", "\\x", "'a,b'", "{a,b}", "&park", "a::b", "~",
]  # fmt: skip
REFUSED = {
    "${domain}": "${", "a${hostname}b": "${", "$${x}": "${", "${version()}": "${",
    "}": "unbalanced braces", "{": "unbalanced braces", "}{": "unbalanced braces", "a}b,c=d": "unbalanced braces",
    "ARRAY::a|:b": "ARRAY::",
}  # fmt: skip


def originate_with(client: Client, variables: dict[str, str]) -> dict[str, str]:
    reply = client.request("originate", endpoint=PARK, destination="&park", variables=variables)
    assert reply["success"] is True, (variables, reply)
    uuid = reply["data"]["uuid"]
    dump = json.loads(client.request("uuid_dump", f"{uuid} json")["data"])
    assert client.request("hangup", uuid=uuid)["success"] is True
    return {name: dump.get(f"variable_{name}") for name in variables}


@pytest.mark.parametrize("value", WHOLE, ids=range(len(WHOLE)))
def test_a_variable_of_any_text_arrives_whole(agent: Agent, client: Client, value: str) -> None:
    assert originate_with(client, {"x_one": value}) == {"x_one": value}


def test_variables_arrive_whole_all_together(agent: Agent, client: Client) -> None:
    variables = {f"x_{number}": value for number, value in enumerate(WHOLE)}
    assert originate_with(client, variables) == variables


@pytest.mark.parametrize("value", REFUSED)
def test_what_cannot_arrive_whole_is_refused(agent: Agent, client: Client, value: str) -> None:
    reply = client.request("originate", endpoint=PARK, destination="&park", variables={"x_one": value})
    assert reply["success"] is False and reply["message"].startswith("variables: x_one can't hold ")
    assert REFUSED[value] in reply["message"]


def test_random_variables_arrive_whole_or_are_refused(agent: Agent, client: Client) -> None:
    seed = random.randrange(1 << 30)
    rng = random.Random(seed)
    pieces = [*string.ascii_letters[:6], *"nsrtq,'\"\\{}[]() |^~é日$=:<>&%+;\t#!@*`", "${", "\\\\", "''", "ARRAY::"]
    for _ in range(60):
        variables = {
            f"x_{number}": "".join(rng.choice(pieces) for _ in range(rng.randint(1, 9)))
            for number in range(rng.choice((1, 2, 6)))
        }
        reply = client.request("originate", endpoint=PARK, destination="&park", variables=variables)
        if reply["success"] is False:
            assert reply["message"].startswith("variables: x_"), f"seed {seed}: {variables}"
            name = reply["message"].split()[1]
            variables = {name: "refused"}
        else:
            client.request("hangup", uuid=reply["data"]["uuid"])
        assert originate_with(client, variables) == variables, f"seed {seed}"


ODD = st.sampled_from(
    [*" ,'\"\\{}[]()<>^~:;|$=&%`\t", "${", "$${", "\\n", "\\s", "''", "{}", "ARRAY::", "|:", "^^:", "${a}"]
)
ANY = st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0")
VALUES = st.lists(st.lists(ANY | ODD, max_size=12).map("".join), min_size=8, max_size=8)


@settings(max_examples=25 * SCALE, deadline=None, suppress_health_check=list(HealthCheck))
@given(values=VALUES)
def test_eight_variables_of_any_text_in_one_call(agent: Agent, client: Client, values: list[str]) -> None:
    """Whole or refused, never changed; EVENT_AGENT_SCALE=12 makes 300 calls."""
    variables = {f"x_{number}": value for number, value in enumerate(values)}
    while True:
        reply = client.request("originate", endpoint=PARK, destination="&park", variables=variables)
        if reply["success"]:
            break
        assert reply["message"].startswith("variables: x_") and "can't hold" in reply["message"], reply
        del variables[reply["message"].split()[1]]
    uuid = reply["data"]["uuid"]
    dump = json.loads(client.request("uuid_dump", f"{uuid} json")["data"])
    assert client.request("hangup", uuid=uuid)["success"] is True
    # What is empty is no variable to FreeSWITCH.
    arrived = {name: dump.get(f"variable_{name}", "") for name in variables}
    assert arrived == variables


@pytest.mark.parametrize("name", ["a b", "a=b", "a,b", "a}b", "1a", "ä", "a" * 129])
def test_variable_names_are_plain(agent: Agent, client: Client, name: str) -> None:
    reply = client.request("originate", endpoint=PARK, destination="&park", variables={name: "x"})
    assert reply["message"].startswith("variables must have names of letters")


def test_commands_for_one_channel_keep_their_order(agent: Agent, client: Client, call: str) -> None:
    """While slow ones run, on this channel as well."""
    client.publish("freeswitch.api", b'{"command":"msleep","args":"700"}')
    for number in range(300):
        request = {"command": "uuid_setvar", "args": f"{call} x_order {number}"}
        if number == 150:
            client.publish("freeswitch.api", f'{{"command":"expand","args":"uuid:{call} msleep 300"}}'.encode())
        client.publish("freeswitch.api", json.dumps(request).encode())
    assert variable(client, call, "x_order") == "299"


# -- execute_app


@pytest.mark.parametrize(
    "value", ["a b  c", " leading and trailing ", "line 1\nline 2\r\n\nline 4", "x" * 60000, "a\\n'b'", "日本 é"]
)
def test_execute_app_passes_arguments_byte_for_byte(agent: Agent, client: Client, call: str, value: str) -> None:
    events = client.events("freeswitch.events.channel.execute.complete")
    reply = client.request("execute_app", uuid=call, app="set", args=f"x_app={value}")
    assert reply["success"] is True and reply["message"] == "execute_app dispatched" and "data" not in reply
    (event,) = events.wait("CHANNEL_EXECUTE_COMPLETE", Unique_ID=call, Application="set")
    assert event["headers"]["Application-Data"] == f"x_app={value}"


def test_execute_app_never_waits(agent: Agent, client: Client, call: str) -> None:
    started = time.monotonic()
    assert client.request("execute_app", uuid=call, app="sleep", args="6000")["success"] is True
    assert client.request("execute_app", uuid=call, app="set", args="x_after=yes")["success"] is True
    assert time.monotonic() - started < 5
    until(lambda: variable(client, call, "x_after") == "yes", "the second runs")


def test_execute_app_refuses_before_anything_happens(agent: Agent, client: Client, call: str) -> None:
    for app in ("no_such_app", "setx", "set;hangup"):
        assert client.request("execute_app", uuid=call, app=app)["message"] == f"Unknown application: {app}"
    assert client.request("execute_app", uuid=call, app="set\nX: y")["message"].startswith("app must not contain")
    assert client.request("execute_app", uuid=call)["message"] == "app must be between 1 and 63 characters"
    assert client.request("execute_app", app="set")["message"] == "uuid must be between 1 and 63 characters"
    number = client.request("execute_app", fields={"uuid": call, "app": "set", "args": 5})
    assert number["message"] == "args must be a string"
    assert client.request("execute_app", uuid=call, app="set", args="\0")["message"] == "args must not contain NUL"
    unknown = client.request("execute_app", uuid="no-such-uuid", app="set", args="a=b")
    assert unknown["success"] is False and "invalid session id" in unknown["message"]
    assert client.request("uuid_exists", call)["data"] == "true"


def test_an_application_without_a_description_is_known(agent: Agent, client: Client, call: str) -> None:
    """`show application` leaves these out."""
    assert client.request("execute_app", uuid=call, app="PLAYBACK", args="silence_stream://1")["success"] is True
    reply = client.request("execute_app", uuid=call, app="page")
    assert reply["message"] != "Unknown application: page"


def test_applications_come_and_go_with_modules(agent: Agent, client: Client, call: str, real: bool) -> None:
    if not real:
        assert client.request("execute_app", uuid=call, app="set", args="a=b")["success"] is True
        return  # the simulator's modules hold no applications

    def known() -> bool:
        reply = client.request("execute_app", uuid="no-such-uuid", app="hash")
        return bool(reply["message"] != "Unknown application: hash")

    assert not known()
    assert client.request("load", "mod_hash")["success"] is True
    until(known, "the application of a module just loaded")
    assert client.request("unload", "mod_hash")["success"] is True
    until(lambda: not known(), "gone with its module")


# -- guards


@pytest.fixture
def guarded(nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], client: Client) -> Callable[..., str]:
    """An agent with lists; the callable sends a command to it and returns the reply's message."""
    start_agent(
        nats, switch, subject_prefix="guarded", node_id="g",
        api_denylist="fsctl,Shutdown,global_getvar,dialplan.enable,system", app_denylist="system,record",
    )  # fmt: skip
    return lambda command, args=None, **fields: client.request(command, args, "guarded.api", **fields)["message"]


WALKS = [
    ("fsctl", "shutdown"), ("FSCTL", "pause"), ("shutdown", ""), ("bgapi", "fsctl shutdown"), ("expand", "fsctl pause"),
    ("expand", "uuid:x fsctl pause"), ("bgapi", "bgapi  FSCTL x"), ("eval", "${fsctl(pause)}"),
    ("sched_api", "+1 none fsctl shutdown"), ("xml_wrap", "fsctl pause"), ("echo", "${FSCTL pause}"),
    ("uuid_setvar", "x api_hangup_hook fsctl shutdown"), ("eval", "${expand(fsctl pause)}"),
    ("eval", "${${aa}(pause_check)}"), ("expand", "echo ${${aa} pause_check}"),
    ("json", '{"command":"fsapi","data":{"cmd":"fsctl","arg":"shutdown"}}'), ("global_setvar", "x=${ fsctl( pause ) }"),
    ("expand", "expand expand expand expand expand expand fsctl x"),
]  # fmt: skip


@pytest.mark.parametrize(("verb", "args"), WALKS, ids=range(len(WALKS)))
def test_the_denylist_can_not_be_walked_around(guarded: Callable[..., str], verb: str, args: str) -> None:
    assert guarded(verb, args).lower() in (
        "api command 'fsctl' is denied", "api command 'shutdown' is denied",
        "${…} within ${…} is denied: what it would run can't be seen",
    )  # fmt: skip


def test_lists_hold_for_everything_and_leave_the_rest_alone(guarded: Callable[..., str]) -> None:
    assert guarded("fsctl shutdown").startswith("command must not contain white space")
    assert guarded("dialplan.enable") == "API command 'dialplan.enable' is denied"
    assert guarded("version") == guarded("bgapi", "version") == guarded("expand", "version") == "API command executed"
    assert guarded("originate", endpoint=PARK, destination="&system(touch /x)") == "Application 'system' is denied"
    assert guarded("originate", endpoint=PARK, destination="system:touch inline") == "Application 'system' is denied"
    variables = {"execute_on_answer": "record /x"}
    assert "'record' is denied" in guarded("originate", endpoint=PARK, destination="&park", variables=variables)
    variables = {"api_on_answer": "fsctl shutdown"}
    assert "'fsctl' is denied" in guarded("originate", endpoint=PARK, destination="&park", variables=variables)
    assert "'fsctl' is denied" in guarded("originate", endpoint="user/${fsctl(x)}", destination="&park")
    assert "'fsctl' is denied" in guarded("originate", endpoint="[api_on_answer=fsctl\\sx]user/1", destination="&park")
    assert "'SYSTEM' is denied" in guarded("execute_app", uuid="xx", app="SYSTEM", args="ls")
    assert "'system' is denied" in guarded("execute_app", uuid="xx", app="transfer", args="system:ls inline")
    assert "'fsctl' is denied" in guarded("execute_app", uuid="xx", app="set", args="a=${fsctl(pause)}")
    assert "'system' is denied" in guarded("execute_app", uuid="xx", app="limit_execute", args="a b c 1 system ls")
    assert guarded("execute_app", uuid="xx", app="transfer", args="${yy}:ls inline").startswith("${…} is denied")
    assert "'system' is denied" in guarded("uuid_transfer", "xx system:ls inline")
    assert "'system' is denied" in guarded("uuid_broadcast", "xx system::ls aleg")
    assert "'system' is denied" in guarded("bgapi", "originate user/1 &system(ls)")


def test_the_allowlist_names_the_only_ones(
    nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], client: Client
) -> None:
    start_agent(nats, switch, subject_prefix="allowed", node_id="a", api_allowlist="version,bgapi,agent.status")
    assert client.request("VERSION", None, "allowed.api")["success"] is True
    assert client.request("agent.status", None, "allowed.api")["success"] is True
    assert client.request("bgapi", "version", "allowed.api")["success"] is True
    for verb, args in (("status", ""), ("bgapi", "status"), ("hangup", ""), ("version", "${status()}")):
        reply = client.request(verb, args, "allowed.api")
        assert reply["message"].endswith("is denied"), (verb, reply)
