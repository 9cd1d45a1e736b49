"""What FreeSWITCH makes of an endpoint, and what it would die of: refused here, with the switch alive afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from event_agent.freeswitch.dialreader import read
from tests.functional.conftest import Switch
from tests.functional.parts import SCALE, Agent, Client, NatsServer

PARK = "loopback/park/default"

FATAL = [
    {"endpoint": PARK, "extension": "undef"},
    {"endpoint": PARK, "extension": "UnDef"},
    {"endpoint": PARK, "destination": "UNDEF", "dialplan": "XML", "context": "default"},
    {"endpoint": PARK, "extension": " undef "},
    {"endpoint": PARK, "extension": "undef", "dialplan": "inline"},
    {"endpoint": "{hangup_on_single_reject=true}loopback/nobody/default", "extension": "park"},
    {"endpoint": "loopback/nobody/default", "extension": "park", "variables": {"hangup_on_single_reject": True}},
    {"endpoint": "loopback/nobody/default", "extension": "park", "variables": {"Hangup_On_Single_Reject": 1}},
    {"endpoint": "<hangup_on_single_reject=on>loopback/nobody/default", "extension": "park"},
    {"endpoint": "loopback/ring/default,[leg_required=true]loopback/nobody/default,error/USER_BUSY",
     "extension": "park"},
    {"endpoint": "loopback/nobody/default,loopback/ring/default,error/USER_BUSY", "extension": "park",
     "variables": {"leg_required": "true", "originate_timeout": 2}},
    {"endpoint": "{leg_required=yes,originate_timeout=2}loopback/nobody/default,loopback/ring/default,error/USER_BUSY",
     "extension": "park"},
]  # fmt: skip
FATAL_ARGS = [
    ("bgapi", f"originate {PARK} undef"),
    ("bgapi", f"originate {PARK} 'un''def' XML default"),
    ("expand", f"originate {PARK} UNDEF"),
    ("sched_api", f"+0 none originate {PARK} undef"),
    ("xml_wrap", f"originate {PARK} undef"),
    ("eval", f"${{originate({PARK} undef)}}"),
    ("Originate", f"{PARK} undef"),
    ("sched_api", f"+0 originate originate {PARK} undef"),
    ("bgapi", f"uuid:originate originate {PARK} undef"),
    ("expand", f"expand or\\'iginate {PARK} undef"),
    ("bgapi", f"originate {PARK} undef \\"),
    ("eval", f"${{originate({PARK} undef)x}}"),
    ("bgapi", "originate {hangup_on_single_reject=true}loopback/nobody/default &park"),
    ("bgapi", "originate {leg_required=true,originate_timeout=2}loopback/nobody/default,loopback/ring/default,"
              "error/USER_BUSY &park"),
]  # fmt: skip


@pytest.mark.parametrize("request_", FATAL, ids=range(len(FATAL)))
def test_what_would_end_freeswitch_is_refused(
    agent: Agent, client: Client, request_: dict[str, object]
) -> None:
    reply = client.request("originate", fields=request_)
    assert reply["success"] is False
    assert reply["message"].endswith(("FreeSWITCH would abort", "FreeSWITCH would crash")), reply
    assert client.request("status")["success"] is True


@pytest.mark.parametrize(("verb", "args"), FATAL_ARGS, ids=range(len(FATAL_ARGS)))
def test_and_so_it_is_behind_another_verb(agent: Agent, client: Client, verb: str, args: str) -> None:
    reply = client.request(verb, args)
    assert reply["success"] is False and "FreeSWITCH would " in reply["message"], reply
    assert client.request("status")["success"] is True


def test_undef_is_fine_where_freeswitch_takes_it(agent: Agent, client: Client) -> None:
    reply = client.request("originate", endpoint=PARK, extension="park", context="undef", dialplan="undef")
    assert reply["success"] is True
    assert client.request("hangup", uuid=reply["data"]["uuid"])["success"] is True
    reply = client.request("expand", f"originate {PARK} &park undef undef undef")
    assert reply["data"].startswith("+OK "), reply
    assert client.request("hangup", uuid=reply["data"].split()[1])["success"] is True


SPLIT = {
    "endpoint": f"loopback/nobody/default:_:{PARK}",
    "extension": "a:_:b",
    "destination": "&set(a=:_:)",
    "context": "a:_:b",
    "dialplan": "a:_:b",
    "caller_id_name": ":_:loopback/app=set_global:pwned=1:_:",
    "caller_id_number": ":_:",
}


@pytest.mark.parametrize("field", SPLIT)
def test_no_field_splits_the_call(agent: Agent, client: Client, field: str) -> None:
    good = {"endpoint": PARK} if field == "destination" else {"endpoint": PARK, "extension": "park"}
    reply = client.request("originate", fields=good | {field: SPLIT[field]})
    assert reply["success"] is False
    assert reply["message"] == f"{field} can't hold :_:, which would split the call"


@pytest.mark.parametrize("variables", [{"note": ":_:loopback/app=set_global:pwned=1:_:"}, {"a:_:b": "1"}])
def test_no_variable_splits_the_call(
    nats: NatsServer, switch: Switch, start_agent: Callable[..., Agent], connect: Callable[..., Client],
    variables: dict[str, str],
) -> None:  # fmt: skip
    """With a list in force it would be a way round it."""
    start_agent(nats, switch, app_denylist="set_global", subject_prefix="split")
    client = connect(nats.url)
    reply = client.request(
        "originate", endpoint=PARK, destination="&park", variables=variables, subject="split.api"
    )
    assert reply["message"].endswith("can't hold :_:, which would split the call"), reply
    assert client.request("global_getvar", "pwned", subject="split.api")["data"] == ""


INJECTED = "{{origination_uuid=x{0}{0}api{1}global_setvar{1}M=1{0}{0},event_agent_parked=1}}loopback/park/default"


@pytest.mark.parametrize("line", ["\\n", "\\r", "\\\\n", "\\\\\\\\n", "\\'\\n\\'", "'\\n'"])
@pytest.mark.parametrize("blank", ["\\s", "\\\\s"])
def test_no_escape_in_an_endpoint_becomes_a_line_break(agent: Agent, client: Client, line: str, blank: str) -> None:
    reply = client.request("originate", endpoint=INJECTED.format(line, blank), destination="&park")
    assert reply["success"] is False and reply["message"].startswith("endpoint can't hold \\n"), reply


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": "{event_agent_parked=1}loopback/park/default"},
        {"endpoint": "[x=1,Event_Agent_Parked=1]loopback/park/default"},
        {"endpoint": "<event_agent_parked[0]=1>loopback/park/default"},
        {"endpoint": "{event_'agent'_parked=1}loopback/park/default"},
        {"endpoint": PARK, "variables": {"event_agent_parked": "1"}},
        {"endpoint": PARK, "variables": {"EVENT_AGENT_PARKED": 1}},
    ],
)
def test_a_client_can_not_say_that_a_call_is_parked(agent: Agent, client: Client, fields: dict[str, object]) -> None:
    reply = client.request("originate", fields=fields | {"destination": "&park"})
    assert reply["success"] is False and reply["message"].endswith("is set by the agent only"), reply


def test_the_uuid_may_stand_in_the_endpoint_or_in_the_variables(agent: Agent, client: Client) -> None:
    for number, fields in enumerate([
        {"endpoint": "{{origination_uuid={0}}}loopback/park/default"},
        {"endpoint": "[origination_uuid={0}]loopback/park/default"},
        {"endpoint": PARK, "variables": {"origination_uuid": "{0}"}},
        {"endpoint": PARK, "variables": {"Origination_UUID": "{0}"}},
        {"endpoint": PARK, "uuid": "{0}"},
    ]):  # fmt: skip
        own = f"chosen-{number}"
        text = json.dumps(fields).replace("{{", "{").replace("}}loop", "}loop").replace("{0}", own)
        reply = client.request("originate", fields=json.loads(text) | {"destination": "&park"})
        assert reply["success"] is True and reply["data"]["uuid"] == own, (fields, reply)
        assert client.request("hangup", uuid=own)["success"] is True
    for fields in (
        {"endpoint": "{origination_uuid=one}loopback/park/default"},
        {"endpoint": PARK, "variables": {"origination_uuid": "one"}},
    ):
        reply = client.request("originate", fields=fields | {"destination": "&park", "uuid": "two"})
        assert reply["message"].startswith("uuid is not the origination_uuid in "), reply


ODD = st.lists(
    st.sampled_from([*"abxy=,;:|/'\\{}[]^~ns", "\\\\", "\\'", "\\s", "\\\\s", "^^:", "x_1=", "x_2=", "a,b", "''"]),
    max_size=10,
).map("".join)


@settings(max_examples=60 * SCALE, deadline=None, suppress_health_check=list(HealthCheck))
@given(common=ODD, own=ODD, end=st.sampled_from(["", "'", "\\", "\\\\", "'x'", "|error/USER_BUSY"]))
def test_freeswitch_reads_an_endpoint_as_we_do(
    agent: Agent, client: Client, real: bool, common: str, own: str, end: str
) -> None:
    """Every variable of a random endpoint is on the channel as read here, or the endpoint is refused."""
    if not real:
        pytest.skip("the simulator is read by tests/unit/test_dialreader.py")
    endpoint = f"{{x_0=0,{common}}}[{own}]{PARK}{end}"
    reply = client.request("originate", endpoint=endpoint, destination="&park", timeout=1, _timeout=30)
    if reply["message"].startswith("endpoint can't hold "):
        return
    dial = read(endpoint)
    legs = [leg for group in dial.alternatives for leg in group]
    if not reply["success"]:
        assert len(legs) != 1 or legs[0].target != PARK, (endpoint, reply, dial)
        return
    leg = next(leg for leg in legs if leg.target == PARK)
    uuid = reply["data"]["uuid"]
    dump = json.loads(client.request("uuid_dump", f"{uuid} json")["data"])
    assert client.request("hangup", uuid=uuid)["success"] is True
    # What all legs have is set behind a leg's own, and so it wins.
    wanted = dict(leg.variables + dial.variables)
    for name, value in wanted.items():
        if name and "[" not in name and "${" not in value and name.lower() in ("x_0", "x_1", "x_2", "a", "b", "x", "y"):
            assert dump.get(f"variable_{name}") == value, (endpoint, name, dial)
