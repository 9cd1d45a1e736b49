"""Ways around the lists: each works on a real FreeSWITCH where there is no list, and none does where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import until
from tests.switchsim import SwitchSim
from tests.ways import APP, PARK, VERB, WAYS, Fields

# What some of them need: FreeSWITCH's own modules, all of them in its Debian packages.
MODULES = ("mod_hash", "mod_lua", "mod_sms", "mod_conference", "mod_dialplan_asterisk")


@pytest.fixture(scope="module")
def switch(real: bool) -> Iterator[Switch]:
    """In the place of the one that all tests share: with more modules."""
    with RealSwitch(modules=MODULES) if real else SwitchSim() as found:
        yield found


@pytest.fixture
def parked(agent: Agent, client: Client) -> Iterator[str]:
    reply = client.request("originate", endpoint=PARK, destination="&park")
    yield reply["data"]["uuid"]
    client.request("hupall")


def filled(fields: Fields, mark: str, uuid: str) -> Fields:
    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one(each) for key, each in value.items()}
        return value.replace("MARK", mark).replace("UUID", uuid) if isinstance(value, str) else value

    return {key: one(value) for key, value in fields.items()}


def is_set(client: Client, mark: str) -> bool:
    return bool(client.request("global_getvar", mark)["data"] == "1")


def test_its_modules_are_there(agent: Agent, client: Client, real: bool) -> None:
    """Else some ways would not be ways."""
    there = {name: client.request("module_exists", name)["data"] for name in MODULES} if real else {}
    assert set(there.values()) <= {"true"}, there


@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
def test_it_is_a_way(agent: Agent, client: Client, parked: str, real: bool, way: Fields) -> None:
    """Else the next test would refuse what does nothing."""
    if not real:
        assert client.request("uuid_exists", parked)["data"] == "true"
        return  # the simulator runs no verb within another
    mark = f"mark_{uuid4().hex[:8]}"
    request = filled(way, mark, parked)
    reply = client.request(request.pop("command"), fields=request, _timeout=15)

    def has_run() -> bool:
        if "hangup_" in str(way):  # it runs when the call ends
            client.request("hupall")
        return is_set(client, mark)

    until(has_run, f"{way} runs it; the reply was {reply}")


@pytest.fixture(scope="module")
def guarded(nats: NatsServer, switch: Switch) -> Iterator[Agent]:
    found = Agent(
        url=nats.url, esl_port=str(switch.port), esl_password=switch.password, subject_prefix="guarded", node_id="g",
        api_denylist=VERB, app_denylist=APP,
    )  # fmt: skip
    yield found.start()
    found.remove()


@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
def test_it_is_closed(guarded: Agent, client: Client, parked: str, way: Fields) -> None:
    mark = f"mark_{uuid4().hex[:8]}"
    request = filled(way, mark, parked)
    reply = client.request(request.pop("command"), None, "guarded.api", fields=request, _timeout=15)
    assert reply["success"] is False and "denied" in reply["message"], reply
    client.request("hupall")
    assert not is_set(client, mark)


@pytest.mark.parametrize(
    "request_",
    [
        {"command": "status", "args": "unload mod_event_socket"},
        {"command": "echo", "args": "Mod_Event_Socket RELOAD"},
        {"command": "hangup", "uuid": "unload-mod_event_socket"},
        {"command": "execute_app", "uuid": "unload-mod_event_socket", "app": "log"},
        {"command": "originate", "endpoint": PARK, "destination": "&park",
         "variables": {"note": "reload of mod_event_socket"}},
    ],
)  # fmt: skip
def test_no_text_ends_the_event_socket(agent: Agent, client: Client, request_: Fields) -> None:
    """FreeSWITCH would carry out `unload mod_event_socket` in the place of any of these, allowed or not."""
    request = dict(request_)
    reply = client.request(request.pop("command"), fields=request)
    assert reply["success"] is False and "would end its event socket" in reply["message"], reply
    assert client.request("status")["success"] is True
