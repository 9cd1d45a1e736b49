"""What a client gives to originate arrives as it stands, or is refused; nothing in between."""

from __future__ import annotations

import json
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.functional.parts import SCALE, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.sip_phone import ANSWER, Phone, Request, Step, display
from tests.support import free_port, until

PARK = "loopback/park/default"
REFUSALS = (" can't hold ", " can't be ", " must ")
ODD = st.sampled_from(
    [*" ,'\"\\{}[]()<>^~:;|$=&%`\t/@#", "${", "\\n", "\\'", "''", "ARRAY::", "^^:", "m:^:", ":_:", "))"]
)
ANY = st.characters(exclude_categories=["Cs", "Cc"])
TEXT = st.lists(ANY | ODD, max_size=14).map("".join)
many = settings(max_examples=40 * SCALE, deadline=None, suppress_health_check=list(HealthCheck))


def made(client: Client, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The uuid of a call with these fields, empty when they were refused, and the reply."""
    reply = client.request("originate", fields={"endpoint": PARK, "destination": "&park", **fields}, _timeout=20)
    if reply["success"]:
        return str(reply["data"]["uuid"]), reply
    assert any(each in reply["message"] for each in REFUSALS), (fields, reply)
    return "", reply


def dump(client: Client, uuid: str) -> dict[str, Any]:
    found = json.loads(client.request("uuid_dump", f"{uuid} json")["data"])
    assert isinstance(found, dict)
    return found


def data_of(client: Client, uuid: str, application: str) -> str:
    """The argument with which the application that the channel executes was started."""
    def started() -> dict[str, Any]:
        found = dump(client, uuid)
        return found if found.get("variable_current_application") == application else {}

    return str(until(started, f"{application} runs").get("variable_current_application_data", ""))


DESTINATIONS = [
    "tone_stream://%(500,0,640);loops=4", "a)b", "(a)(b)", ")", "))", " a) ", "it's)", "a\\b)", "a,b:c)", "m:^:x)",
    "^|~;!#%&*+)", "", " ", "a(b", "'a)'", "a\\\\)", "x" * 4000 + ")", "日本) é", '")"',
]  # fmt: skip


@pytest.mark.parametrize("text", DESTINATIONS, ids=range(len(DESTINATIONS)))
def test_the_arguments_of_an_application_arrive_whole(agent: Agent, client: Client, text: str) -> None:
    # FreeSWITCH expands an application's arguments; told not to, it shows what it was given.
    uuid, reply = made(client, destination=f"&park({text})", variables={"app_disable_expand_variables": True})
    assert reply["success"] is True and reply["data"]["destination"] == f"&park({text})"
    assert data_of(client, uuid, "park") == text
    assert client.request("hangup", uuid=uuid)["success"] is True


@many
@given(text=TEXT.filter(lambda text: not text.startswith("ARRAY::")))  # as which the variable would not show it
def test_any_arguments_arrive_whole_or_are_refused(agent: Agent, client: Client, text: str) -> None:
    uuid, reply = made(client, destination=f"&park({text})", variables={"app_disable_expand_variables": True})
    if uuid:
        assert data_of(client, uuid, "park") == text
        assert client.request("hangup", uuid=uuid)["success"] is True
    else:
        assert reply["message"].startswith("destination "), reply


def test_a_tone_with_brackets_is_played(agent: Agent, client: Client, real: bool) -> None:
    events = client.events("freeswitch.events.channel.execute")
    uuid, _ = made(client, destination="&playback(tone_stream://%(500,0,640);loops=4)")
    (event,) = events.wait("CHANNEL_EXECUTE", Unique_ID=uuid, Application="playback")
    assert event["headers"]["Application-Data"] == "tone_stream://%(500,0,640);loops=4"
    assert client.request("hangup", uuid=uuid)["success"] is True


@pytest.mark.parametrize("destination", ["&park(a)b", "&playback(a)b)c", "&park)"[:-1] + ")x"])
def test_what_would_be_cut_off_is_refused(agent: Agent, client: Client, destination: str) -> None:
    _, reply = made(client, destination=destination)
    assert reply["message"] == "destination can't hold text behind its last ), which FreeSWITCH would cut off"


@many
# One that begins so arrives whole, and uuid_dump shows it as a list (switch_event.c, switch_event_base_add_header).
@given(text=TEXT.filter(lambda text: text.strip(" ") and not text.startswith(("&", "ARRAY::"))))
def test_any_extension_arrives_whole_or_is_refused(agent: Agent, client: Client, real: bool, text: str) -> None:
    if not real:
        pytest.skip("the simulator has no context that takes any extension")
    uuid, reply = made(client, destination=text, context="public")
    if not uuid:
        assert reply["message"].startswith("destination "), reply
        return
    def routed() -> Any:
        found = dump(client, uuid)
        return found if found.get("variable_from_disk") == "true" else None

    assert until(routed, "the extension is executed")["Caller-Destination-Number"] == text
    assert client.request("hangup", uuid=uuid)["success"] is True


NAMES = st.from_regex(r"x_[A-Za-z0-9_.:-]{0,20}", fullmatch=True)


@many
@given(variables=st.dictionaries(NAMES, TEXT, max_size=6))
def test_names_and_values_arrive_whole_or_are_refused(
    agent: Agent, client: Client, variables: dict[str, str]
) -> None:
    # FreeSWITCH does not tell names by their case.
    variables = {name.lower(): value for name, value in variables.items()}
    for endpoint in (PARK, f"<first=1>{PARK}", f"[own=1]{PARK}|error/USER_BUSY"):
        uuid, reply = made(client, endpoint=endpoint, variables=variables)
        if not uuid:
            assert reply["message"].startswith("variables"), reply
            continue
        found = {name.lower(): value for name, value in dump(client, uuid).items()}
        assert {name: found.get(f"variable_{name}", "") for name in variables} == variables, endpoint
        assert client.request("hangup", uuid=uuid)["success"] is True


@pytest.mark.parametrize("count", [1022, 1023, 1024, 1025, 1100, 2300])
def test_all_variables_are_there(agent: Agent, client: Client, count: int) -> None:
    variables = {f"v{number}": f"{number}" for number in range(count)}
    uuid, reply = made(client, variables=variables)
    assert uuid, reply
    found = dump(client, uuid)
    assert {name: found.get(f"variable_{name}") for name in variables} == variables
    assert client.request("hangup", uuid=uuid)["success"] is True


def test_variables_before_an_endpoint_in_angle_brackets(agent: Agent, client: Client) -> None:
    uuid, reply = made(client, endpoint=f"<theirs=a>{{more=b}}{PARK}", variables={"mine": "c>d<"}, uuid="angled")
    assert reply["message"].startswith("variables: mine can't hold unbalanced <>")
    uuid, reply = made(client, endpoint=f"<theirs=a>{{more=b}}{PARK}", variables={"mine": "<c>"}, uuid="angled")
    assert uuid == "angled", reply
    found = dump(client, uuid)
    assert [found[f"variable_{name}"] for name in ("theirs", "more", "mine")] == ["a", "b", "<c>"]
    assert client.request("hangup", uuid=uuid)["success"] is True


@pytest.mark.parametrize("size", [256, 1024, 4096])
def test_long_endpoints_and_destinations(agent: Agent, client: Client, size: int) -> None:
    endpoint = f"error/USER_BUSY|{{}}{PARK}".replace("{}", "")
    endpoint = "[x=" + "y" * (size - len(endpoint) - 4) + f"]{endpoint}"
    assert len(endpoint) == size
    extension = "&park(" + "z" * (size - 7) + ")"
    uuid, reply = made(client, endpoint=endpoint, destination=extension)
    assert uuid and reply["data"]["endpoint"] == endpoint and reply["data"]["destination"] == extension
    assert data_of(client, uuid, "park") == extension[6:-1]
    assert client.request("hangup", uuid=uuid)["success"] is True


# -- with a telephone


@pytest.fixture(scope="module")
def sip_switch(real: bool) -> Iterator[RealSwitch]:
    if not real:
        pytest.skip("the simulator speaks no SIP")
    with RealSwitch(sip_port=free_port()) as switch:
        yield switch


@pytest.fixture(scope="module")
def sip_agent(nats: NatsServer, sip_switch: RealSwitch) -> Iterator[Agent]:
    agent = Agent(
        url=nats.url, esl_port=str(sip_switch.port), esl_password=sip_switch.password, subject_prefix="sip"
    )
    agent.start()
    yield agent
    agent.remove()


@pytest.fixture
def dial(sip_agent: Agent, client: Client) -> Iterator[Callable[..., dict[str, Any]]]:
    def call(**fields: Any) -> dict[str, Any]:
        found = client.request("originate", None, "sip.api", fields={"destination": "&park", **fields}, _timeout=30)
        assert isinstance(found, dict)
        return found

    yield call
    client.request("hupall", None, "sip.api")


@pytest.fixture
def phone() -> Iterator[Phone]:
    with Phone() as found:
        yield found


def shown(invite: Request) -> tuple[set[str], set[str]]:
    """Names and numbers that a telephone may show."""
    headers = [each for name in ("From", "Remote-Party-ID", "P-Asserted-Identity") for each in invite.all(name)]
    numbers = {urllib.parse.unquote(each.rpartition("<sip:")[2].partition("@")[0]) for each in headers}
    return {display(each) for each in headers}, numbers


def test_a_183_is_no_answer(dial: Callable[..., dict[str, Any]]) -> None:
    steps = (Step("100 Trying"), Step("183 Session Progress", sdp=True), Step("486 Busy Here", 1.0))
    with Phone(steps) as phone:
        started = time.monotonic()
        reply = dial(endpoint=f"sofia/test/1000@{phone.address}")
        assert reply["message"] == "-ERR USER_BUSY" and time.monotonic() - started > 0.9
        reply = dial(endpoint=f"sofia/test/1000@{phone.address}", early_media=True)
        assert reply["success"] is True
    with Phone((*steps[:2], Step("180 Ringing", 0.3), Step("200 OK", 0.5, sdp=True))) as phone:
        started = time.monotonic()
        assert dial(endpoint=f"sofia/test/1000@{phone.address}")["success"] is True
        assert time.monotonic() - started > 0.7
    with Phone(steps[:2]) as phone:
        assert dial(endpoint=f"sofia/test/1000@{phone.address}", timeout=2)["message"] == "-ERR NO_ANSWER"
        until(lambda: phone.cancelled == 1, "the call is cancelled")


NAMES_SHOWN = ["Bot, the 1st", "O'Neil", "<b>", "日本 é", "100% x", "a;b=c", "(x)", " x ", "!#$^*+=?`~|[]{}"]
NOT_SHOWN = [
    'Fred "Fast" Smith', "back\\slash", 'A" <sip:+4999@x>;y="', "a/b", "a:b", "a@b", "50%41", "_undef_", '"', "\\",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES_SHOWN)
def test_the_phone_shows_the_name(dial: Callable[..., dict[str, Any]], phone: Phone, name: str) -> None:
    endpoint = f"sofia/test/1000@{phone.address}"
    assert dial(endpoint=endpoint, caller_id_name=name, caller_id_number="555")["success"] is True
    assert dial(endpoint=endpoint, variables={"origination_caller_id_name": name})["success"] is True
    assert [shown(invite)[0] for invite in phone.invites] == [{name}, {name}]
    assert shown(phone.invites[0])[1] == {"555"}


@pytest.mark.parametrize("name", NOT_SHOWN)
def test_a_name_that_it_would_not_show_is_refused(
    dial: Callable[..., dict[str, Any]], phone: Phone, name: str
) -> None:
    endpoint = f"sofia/test/1000@{phone.address}"
    reply = dial(endpoint=endpoint, caller_id_name=name)
    assert reply["message"].startswith("caller_id_name can't "), reply
    reply = dial(endpoint=endpoint, variables={"Origination_Caller_Id_Name": name})
    assert reply["message"].startswith("variables: Origination_Caller_Id_Name can't "), reply
    assert not phone.invites


@settings(max_examples=40 * SCALE, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=TEXT, number=st.text("0123456789+*# ()-ab<>\"/:@%.;=?&\\,'é", max_size=10))
def test_any_caller_id_is_shown_or_refused(
    dial: Callable[..., dict[str, Any]], phone: Phone, name: str, number: str
) -> None:
    before = len(phone.invites)
    reply = dial(endpoint=f"sofia/test/1000@{phone.address}", caller_id_name=name, caller_id_number=number)
    if not reply["success"]:
        field = reply["message"].partition(" can't ")[0].removeprefix("variables: origination_")
        assert field in ("caller_id_name", "caller_id_number"), reply
        return
    names, numbers = shown(phone.invites[before])
    assert not name or names == {name}
    assert not number or numbers == {number}


def test_all_legs_have_the_caller_id_and_the_variables(dial: Callable[..., dict[str, Any]]) -> None:
    ring = (Step("100 Trying"), Step("180 Ringing"))
    with Phone((Step("486 Busy Here"),)) as first, Phone(ring) as second, Phone((*ring, *ANSWER[2:])) as third:
        one, two, three = (f"sofia/test/1@{phone.address}" for phone in (first, second, third))
        reply = dial(
            endpoint=f"{one}|[leg_timeout=9]{two},{three}", caller_id_name="Shop", caller_id_number="555",
            variables={"sip_h_X-Id": "a,b"},
        )  # fmt: skip
        assert reply["success"] is True, reply
        for phone in (first, second, third):
            (invite,) = phone.invites
            assert shown(invite) == ({"Shop"}, {"555"}) and invite.get("X-Id") == "a,b"
        until(lambda: second.cancelled == 1, "the other leg is cancelled")


def test_a_chosen_uuid_is_that_of_the_first_leg(dial: Callable[..., dict[str, Any]]) -> None:
    """With one uuid for all, mod_sofia would call the first one only."""
    ring = (Step("100 Trying"), Step("180 Ringing"))
    with Phone(ring) as first, Phone((*ring, *ANSWER[2:])) as second:
        one, two = (f"sofia/test/1@{phone.address}" for phone in (first, second))
        for number, endpoint in enumerate((f"{one},{two}", f"[x=1]{one},{two}", f"{{x=1}}{{y=2}}[z=3]{one},{two}")):
            reply = dial(endpoint=endpoint, uuid=f"group-{number}")
            assert reply["success"] is True and reply["data"]["uuid"] != f"group-{number}", reply
            assert len(first.invites) == len(second.invites) == number + 1
        reply = dial(endpoint=f"{two},{one}", uuid="group-first", variables={"leg_timeout": 5})
        assert reply["data"]["uuid"] == "group-first"
        reply = dial(endpoint=f"[leg_timeout=1]{one}|{two}", variables={"origination_uuid": "next-first"})
        assert reply["success"] is True and reply["data"]["uuid"] != "next-first"


def test_a_contact_of_4000_characters_arrives_whole(dial: Callable[..., dict[str, Any]], phone: Phone) -> None:
    push = ";pn-provider=apns;pn-prid=" + "0123456789abcdef" * 240
    endpoint = f"sofia/test/sip:1000@{phone.address}{push}"
    assert 3800 < len(endpoint) <= 4096
    reply = dial(endpoint=endpoint)
    assert reply["success"] is True, reply
    assert phone.invites[0].uri == f"sip:1000@{phone.address}{push}"
