"""Ways around the lists: each works on a real FreeSWITCH where there is no list, and none does where there is one.

What they try to run sets a global variable: the verb `global_setvar`, the application `set_global`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from tests.functional.conftest import Switch
from tests.functional.parts import Agent, Client, NatsServer, until

PARK = "loopback/park/default"
Fields = dict[str, Any]


def api(verb: str, args: str) -> Fields:
    return {"command": verb, "args": args}


def app(name: str, args: str) -> Fields:
    return {"command": "execute_app", "uuid": "UUID", "app": name, "args": args}


def call(endpoint: str = PARK, destination: str = "&park", **more: Any) -> Fields:
    return {"command": "originate", "endpoint": endpoint, "destination": destination, "timeout": 5, **more}


# MARK is the variable, UUID a parked call, which is hung up afterwards.
WALKS: list[Fields] = [
    api("bgapi", "global_setvar MARK=1"),
    api("expand", "global_setvar MARK=1"),
    api("expand", "UUID:UUID GLOBAL_setvar MARK=1"),
    api("xml_wrap", "global_setvar MARK=1"),
    api("xml_wrap", "encoded global_setvar MARK=1"),
    api("sched_api", "+0 none global_setvar MARK=1"),
    api("sched_api", "+0  global_setvar MARK=1"),
    api("sched_api", "+0\u00a0a b global_setvar MARK=1&"),
    api("json", '{"command":"fsapi","data":{"cmd":"global_setvar","arg":"MARK=1"}}'),
    api("json", '{"command":"fsapi","data":{"CMD":"\\u0067lobal_setvar","arg":"MARK=1"}}'),
    api("chat", "api|a|global_setvar MARK=1|x"),
    api("chat", "^^:'ap''i':a:global_s%65tvar MARK=1:x"),
    api("eval", "${global_setvar(MARK=1)}"),
    api("eval", "${global_setvar MARK=1}"),
    api("eval", "$${global_setvar(MARK=1)}"),
    api("eval", "${\tglobal_setvar\t(MARK=1)}"),
    api("eval", "${global_setvar MARK=1"),
    api("eval", "${sched_api(+0 {} global_setvar MARK=1)}"),
    api("eval", "${expand(xml_wrap encoded bgapi global_setvar MARK=1)}"),
    api("uuid_setvar", "UUID api_hangup_hook global_setvar MARK=1"),
    api("uuid_setvar", "UUID api_hangup_hook global_setvar::MARK=1"),
    api("uuid_setvar", "UUID 'api'_hangup_hook global_setvar MARK=1"),
    api("uuid_setvar_multi", "UUID a=b;api_hangup_hook=global_setvar MARK=1"),
    api("uuid_broadcast", "UUID set_global::MARK=1 aleg"),
    api("uuid_broadcast", "UUID set_'glob'al::MARK=1 aleg"),
    api("uuid_transfer", "UUID -both set_global:MARK=1 inline"),
    api("uuid_transfer", "UUID set_global:MARK=1 inline"),
    api("uuid_transfer", "UUID 'set_\\'glob\\'al:MARK=1' inline"),
    api("uuid_transfer", "UUID m:^:answer^set_global:MARK=1 inline"),
    api("sched_transfer", "+0 UUID set_global:MARK=1 inline"),
    api("sched_broadcast", "+0 UUID set_global::MARK=1"),
    api("bgapi", "originate loopback/app=set_global:MARK=1 &park"),
    api("bgapi", "originate {execute_on_answer='set_global MARK=1'}loopback/park/default &park"),
    app("set_global", "MARK=1"),
    app("SET_global", "MARK=1"),
    app("set", "x=${global_setvar(MARK=1)}"),
    app("set", "api_hangup_hook=global_setvar MARK=1"),
    app("multiset", "a=b 'api_hangup_hook=global_setvar MARK=1'"),
    app("transfer", "set_global:MARK=1 inline"),
    app("execute_extension", "set_global:MARK=1 inline"),
    app("bridge", "loopback/app=set_global:MARK=1"),
    app("bridge", "{api_on_ring='global_setvar MARK=1'}loopback/ring/default"),
    app("sched_transfer", "+0 set_global:MARK=1 inline"),
    app("sched_broadcast", "+0 set_global::MARK=1"),
    app("broadcast", "set_global::MARK=1 aleg"),
    app("play_and_get_digits", "1 1 1 9 # silence_stream://9 silence_stream://9 x 1 9 'set_global:MARK=1 inline'"),
    app("log", "INFO ${json({\"data\":{\"cmd\":\"global_setvar\",\"arg\":\"MARK=1\"},\"command\":\"fsapi\"})}"),
    app("limit", "hash a b -1 set_global:MARK=1 inline"),
    call(destination="&set_global(MARK=1)"),
    call(destination="&set(api_hangup_hook=global_setvar MARK=1)"),
    call(destination="set_global:MARK=1", dialplan="inline"),
    call(destination="set_'glob'al:MARK=1", dialplan="inline"),
    call("{api_on_answer=global_setvar\\sMARK=1}" + PARK),
    call("[api_on_answer='global_'setvar\\sMARK=1]" + PARK),
    call("{execute_on_answer=set_global\\sMARK=1}" + PARK + ":_:" + PARK),
    call("[x=y,api_on_answer=global_setvar\\sMARK=1]" + PARK + "|" + PARK),
    call("loopback/app=set_global:MARK=1"),
    call("loopback/set_global:MARK=1/default/inline"),
    call(variables={"api_on_answer": "global_setvar MARK=1"}),
    call(variables={"API_on_answer_2": "global_setvar MARK=1"}),
    call(variables={"execute_on_answer": "set_global MARK=1"}),
    call(variables={"execute_on_originate_1": "set_global:MARK=1"}),
    call(variables={"group_confirm_key": "exec", "group_confirm_file": "set_global MARK=1"}),
]


@pytest.fixture
def parked(agent: Agent, client: Client) -> Iterator[str]:
    reply = client.request("originate", endpoint=PARK, destination="&park")
    yield reply["data"]["uuid"]
    client.request("hupall")


def filled(fields: Fields, mark: str, uuid: str) -> Fields:
    def one(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: one(each) for key, each in value.items()}
        return value.replace("MARK", mark).replace("UUID:UUID", f"UUID:{uuid}").replace("UUID ", f"{uuid} ") if (
            isinstance(value, str) and value != "UUID"
        ) else (uuid if value == "UUID" else value)  # fmt: skip

    return {key: one(value) for key, value in fields.items()}


def is_set(client: Client, mark: str) -> bool:
    return bool(client.request("global_getvar", mark)["data"] == "1")


@pytest.mark.parametrize("walk", WALKS, ids=range(len(WALKS)))
def test_it_is_a_way(agent: Agent, client: Client, parked: str, real: bool, walk: Fields) -> None:
    """Else the next test would refuse what does nothing."""
    if not real:
        assert client.request("uuid_exists", parked)["data"] == "true"
        return  # the simulator runs no verb within another
    mark = f"mark_{uuid4().hex[:8]}"
    request = filled(walk, mark, parked)
    reply = client.request(request.pop("command"), fields=request, _timeout=15)

    def has_run() -> bool:
        if "hook" in str(walk):  # it runs when the call ends
            client.request("hupall")
        return is_set(client, mark)

    until(has_run, f"{walk} runs it; the reply was {reply}", 4)


@pytest.fixture(scope="module")
def guarded(nats: NatsServer, switch: Switch) -> Iterator[Agent]:
    found = Agent(
        url=nats.url, esl_port=str(switch.port), esl_password=switch.password, subject_prefix="guarded", node_id="g",
        api_denylist="Global_setvar", app_denylist="set_Global",
    )  # fmt: skip
    yield found.start()
    found.remove()


@pytest.mark.parametrize("walk", WALKS, ids=range(len(WALKS)))
def test_it_is_closed(guarded: Agent, client: Client, parked: str, walk: Fields) -> None:
    mark = f"mark_{uuid4().hex[:8]}"
    request = filled(walk, mark, parked)
    reply = client.request(request.pop("command"), None, "guarded.api", fields=request, _timeout=15)
    assert reply["success"] is False and "denied" in reply["message"], reply
    client.request("hupall")
    assert not is_set(client, mark)
