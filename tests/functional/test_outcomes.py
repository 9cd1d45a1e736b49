"""What a reply says is what happened, on a real FreeSWITCH: each way in which a verb says that it has failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from event_agent.commands.failures import TABLE
from tests.functional import real_switch
from tests.functional.conftest import running
from tests.functional.parts import Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.support import free_port, until

pytestmark = pytest.mark.skipif(real_switch.binary() is None, reason="needs a real FreeSWITCH")

MODULES = ("mod_conference", "mod_db", "mod_expr", "mod_fifo", "mod_hash", "mod_lua", "mod_sms")
# Verb -> arguments with which it fails in words of its own -> how the message begins.
FAILS: dict[str, dict[str, str]] = {
    "load": {"mod_nope": "-ERR [module load", "mod_expr": "-ERR [Module already"},
    "reload": {"mod_nope": "-ERR loading module ["},
    "unload": {"mod_nope": "-ERR [No such module!]"},
    "expand": {
        "nope": "INVALID COMMAND!", "load mod_nope": "-ERR [module", "sofia status gateway nope": "Invalid Gateway!",
        "uuid:nope expand unsched_api nope": "-ERR no reply", "uuid_kill nope": "-ERR No such channel!",
    },
    "json": {
        '{"command":"nope"}': "Invalid request or non-existant command",
        '{"command":"fsapi","data":{"cmd":"nope","arg":""}}': "The command returned an error",
        '{"command":"mediaStats","data":{"uuid":"nope"}}': "The command returned an error",
        "nope": "-ERR Parse error.",
    },
    "uuid_limit": {"nope": "USAGE: uuid_limit"},
    "uuid_limit_release": {"nope": "USAGE: uuid_limit_release", "nope hash": "-ERR Cannot find session"},
    "limit_usage": {"nope": "USAGE: limit_usage"},
    "limit_hash_usage": {"": "USAGE: limit_hash_usage"},
    "limit_status": {"": "USAGE: limit_status", "nope": "-ERR"},
    "limit_reset": {"": "USAGE: limit_reset", "nope": "-ERR"},
    "limit_interval_reset": {"nope": "USAGE: limit_interval_reset"},
    "interface_ip": {"nope": "USAGE: interface_ip", "": "USAGE: interface_ip"},
    "nat_map": {"add 5060 tcp": "false", "status": "false"},  # there is no NAT here
    "md5": {"": "!err!"},
    "host_lookup": {"": "parameter missing", "nope.invalid": "!err!"},
    "time_test": {"": "parameter missing"},
    "timer_test": {"5 5 nope": "parameter missing: "},
    "db_cache": {"nope": "parameter missing"},
    "stun": {"": "-STUN Failed! NO STUN SERVER"},
    "xml_locate": {"nope": "can't find anything", "configuration configuration name nope": "can't find anything"},
    "pool_stats": {"": "Unable to get core pool"},
    "unsched_api": {"nope": "-ERR no reply", "9999": "-ERR No such id"},
    "tone_detect": {"nope": "-ERR no reply"},
    "uuid_setvar_multi": {"nope": "-ERR no reply"},
    "event_channel_broadcast": {"{}": "-ERR no reply"},
    "uuid_buglist": {"nope": "-ERR no reply"},
    "vpx": {"nope": "-ERR no reply", "": "USAGE: "},
    "sofia": {
        "": "USAGE:", "nope": "Unknown Command [nope]", "profile nope": "Invalid Args!",
        "profile nope start": "Failure starting nope", "profile nope stop": "Invalid Profile [nope]",
        "profile test nope": "-ERR Unknown command!", "profile test register": "No gateway name provided!",
        "profile test register nope": "Invalid gateway!", "profile test unregister nope": "Invalid gateway!",
        "profile test siptrace": "Usage: sofia profile <name> siptrace", "status gateway nope": "Invalid Gateway!",
        "status profile nope": "Invalid Profile!", "status nope nope": "Invalid Syntax!",
        "xmlstatus gateway nope": "Invalid Gateway!", "xmlstatus profile nope": "Invalid Profile!",
        "loglevel nope": "USAGE:", "profile test killgw nope": "-ERR no such gateway.",
    },
    "sofia_dig": {"": "usage: sofia_dig", "nope.invalid": "-ERR: nope.invalid: not found",
                  "a.invalid b.invalid": "-ERR: a.invalid: not found"},
    "conference": {
        "nope list": "-ERR Conference nope not found", "talk": "Conference command, not specified.",
        "talk kick": "kick <", "talk volume_in": "volume_in <", "talk record": "record <", "talk set nope 5": "set <",
        "talk say": "-ERR (say) Error! No text.", "talk stop nope": "stop <", "talk kick 99": "-ERR Non-Existant ID 99",
        "talk dial nope/x": "-ERR CHAN_NOT_IMPLEMENTED", "other dial nope/x": "-ERR CHAN_NOT_IMPLEMENTED",
        "talk nope": "-ERR Conference command 'nope' not found.", "talk get nope": "get <parameter",
    },
    "chat": {"nope": "Invalid", "sip|a|b@nope|hello": "Error! Message Not Sent", "nope|a|b|c": "Error! Message Not"},
    "presence": {"nope": "Invalid: presence"},
    "db": {"nope": "!err!"},
    "group": {"nope": "!err!"},
    "expr": {"1+": "!err!"},
    "hash_dump": {"": "Usage: all|limit|db", "nope": "Usage: all|limit|db"},
    "fifo": {"importance nope": "no fifo by that name", "nope": "-ERR Usage:"},
    "lua": {"nope": "-ERR Cannot execute script", "FOLDER/fails.lua": "-ERR Cannot execute script"},
    "local_stream": {"start nope": "-ERR no reply", "nope": "-ERR no reply", "stop nope": "-ERR Cannot locate"},
    "console": {"": "USAGE:", "nope": "USAGE:", "loglevel nope": "-ERR Invalid console loglevel"},
    "xml_curl": {"nope": "USAGE: [debug_on|debug_off]"},
    "event_sink": {"nope": "This is a web application!"},
}  # fmt: skip
# Verbs with arguments with which they succeed, those of the table and others whose data looks like a failure.
WORKS = [
    ("load", "mod_spandsp"), ("reload", "mod_expr"), ("unload", "mod_expr"), ("reload", "mod_expr"),
    ("reloadxml", ""), ("expand", "echo ok"), ("expand", "echo Invalid Gateway!"), ("expand", "sofia status"),
    ("json", '{"command":"status","data":""}'), ("json", '{"command":"status","data":"","status":"error"}'),
    ("limit_usage", "hash nope nope"), ("limit_hash_usage", "nope nope"), ("limit_status", "db"),
    ("limit_reset", "db"), ("limit_interval_reset", "hash nope nope"), ("interface_ip", "auto lo"), ("md5", "x"),
    ("host_lookup", "localhost"), ("time_test", "1 1"), ("timer_test", "10 2"), ("db_cache", "status"),
    ("xml_locate", "configuration configuration name console.conf"), ("vpx", "debug off"),
    ("sofia", "help"), ("sofia", "status"), ("sofia", "status profile test"), ("sofia", "xmlstatus"),
    ("sofia", "jsonstatus"), ("sofia", "profile test rescan"), ("sofia", "loglevel all 0"), ("sofia", "recover"),
    ("sofia", "profile test siptrace off"), ("sofia", "global siptrace off"), ("sofia", "profile test gwlist"),
    ("sofia_dig", "127.0.0.1"), ("sofia_dig", "127.0.0.1 nope.invalid"), ("sofia_contact", "nope"),
    ("conference", ""), ("conference", "help"), ("conference", "list"), ("conference", "talk list"),
    ("conference", "talk xml_list"), ("conference", "talk json_list"), ("conference", "talk count"),
    ("conference", "talk energy all"), ("conference", "talk getvar nope"), ("conference", "talk lock"),
    ("conference", "talk unlock"), ("conference", "talk relate"), ("conference", "talk pause_play"),
    ("conference", "talk dial loopback/park/default"), ("presence", "in 1000@x unknown hello"),
    ("db", "insert/a/b/c"), ("db", "select/a/b"), ("db", "select/a/none"), ("group", "call:nope"), ("expr", "1+1"),
    ("hash_dump", "all"), ("hash", "insert/a/b/!err!"), ("hash", "select/a/b"), ("fifo", ""), ("fifo", "count"),
    ("fifo", "count nope"), ("fifo", "list"), ("lua", "FOLDER/works.lua"), ("local_stream", "show"),
    ("console", "help"), ("console", "loglevel help"), ("console", "loglevel warning"), ("xml_curl", "debug_off"),
    ("echo", "USAGE: this"), ("echo", "Invalid Gateway!"), ("echo", "!err!"), ("eval", "false"), ("echo", "a -ERR b"),
    ("url_decode", "ok%0A-ERR%20on%20a%20later%20line"), ("user_exists", "id nope nope"), ("uuid_exists", "nope"),
    ("getenv", "nope"), ("group_call", "nope"), ("global_getvar", "nope"), ("list_users", "domain nope"),
    ("status", "nope"), ("banner", ""), ("help", ""), ("xml_wrap", "uuid_kill nope"), ("SOFIA", "status"),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("outcomes")
    (found / "fails.lua").write_text('stream:write("something\\n") error("on purpose")')
    (found / "works.lua").write_text('stream:write("one\\n-ERR is what this line begins with\\nthree\\n")')
    return found


@pytest.fixture(scope="module")
def full_switch(folder: Path) -> Iterator[RealSwitch]:
    """A FreeSWITCH with all modules whose verbs are in the table."""
    with RealSwitch(
        sip_port=free_port(), modules=MODULES, dialplan_url="http://127.0.0.1:1/", music=str(folder)
    ) as found:
        yield found


@pytest.fixture(scope="module")
def shared_agent(nats: NatsServer, full_switch: RealSwitch) -> Iterator[Agent]:
    with running(nats, full_switch, http_listen=f"127.0.0.1:{free_port()}") as agent:
        yield agent


@pytest.fixture
def talk(agent: Agent, client: Client) -> Iterator[str]:
    """A conference with one member, and that channel."""
    reply = client.request("originate", endpoint="loopback/park/default", destination="&conference(talk)")
    until(lambda: client.request("conference", "talk count")["data"] == "1", "the conference has begun")
    yield reply["data"]["uuid"]
    client.request("hupall")
    until(lambda: not client.request("conference", "talk count")["success"], "the conference is over")


@pytest.fixture
def call(agent: Agent, client: Client) -> Iterator[str]:
    """A parked channel."""
    uuid = client.request("originate", endpoint="loopback/park/default", destination="&park")["data"]["uuid"]
    yield uuid
    client.request("uuid_kill", uuid)


def test_a_field_that_the_command_does_not_know_is_named(agent: Agent, client: Client) -> None:
    park = {"endpoint": "loopback/park/default", "destination": "&park"}
    reply = client.request("originate", fields=park | {"varibles": {"a": "b"}, "Timeout": 5})
    assert reply["success"] is True and reply["warnings"] == [
        "unknown field 'varibles': did you mean 'variables'?", "unknown field 'Timeout': did you mean 'timeout'?"
    ]  # fmt: skip
    assert "warnings" not in reply["data"]
    reply = client.request("hangup", uuid=reply["data"]["uuid"], case="USER_BUSY")
    assert reply["success"] is True and reply["warnings"] == ["unknown field 'case': did you mean 'cause'?"]
    assert client.request("version", "", node="fs-node-01")["warnings"] == [
        "unknown field 'node': did you mean 'node_id'?"
    ]
    assert client.request("no_such_verb", zzzzzz=1)["warnings"] == ["unknown field 'zzzzzz'"]
    assert "warnings" not in client.request("agent.status", "", correlation_id=1, node_id="fs_node_01")
    both = client.request("hangup", "some-uuid USER_BUSY", uuid="no-such-channel")
    assert both["message"] == "-ERR No such channel!"
    assert both["warnings"] == ["args are not used: the request has fields in their place"]


def test_the_events_of_an_application_are_known_by_its_uuid(agent: Agent, client: Client, call: str) -> None:
    """Two of the same name at once; and one whose channel does not exist."""
    events = client.events("freeswitch.events.channel.>")
    replies = [client.request("execute_app", uuid=call, app="set", args=f"x={number}") for number in range(2)]
    assert len({reply["app_uuid"] for reply in replies}) == 2
    for number, reply in enumerate(replies):
        assert reply["message"] == "execute_app dispatched" and "data" not in reply
        for name in ("CHANNEL_EXECUTE", "CHANNEL_EXECUTE_COMPLETE"):
            (event,) = events.wait(name, Unique_ID=call, Application_UUID=reply["app_uuid"])
            assert event["headers"]["Application-Data"] == f"x={number}"
    reply = client.request("execute_app", uuid="no-such-channel", app="set", args="a=b")
    assert reply["success"] is False and len(reply["app_uuid"]) == 36
    assert "app_uuid" not in client.request("execute_app", uuid=call, app="no_such_app")


def typed(client: Client, command: str, args: str = "") -> Any:
    """What the server of mod_event_agent's example page sends: these two keys, on this lane."""
    request = json.dumps({"command": command, "args": args}).encode()
    return json.loads(client.raw("freeswitch.api.fs_node_01", request).data)


def test_the_example_page_of_mod_event_agent_works_whole(agent: Agent, client: Client) -> None:
    """Each request of its server.js and index.html, its quick commands and its console among them."""
    for command, args in (
        ("show", "calls"), ("show", "channels"), ("sofia", "status"), ("show", "registrations"), ("status", ""),
        ("version", ""), ("agent.status", ""), ("dialplan.enable", ""), ("dialplan.status", ""),
        ("dialplan.disable", ""),
    ):  # fmt: skip
        reply = typed(client, command, args)
        assert reply["success"] is True and "warnings" not in reply, (command, reply)
    for mode in ("silence", "music moh", "ringback"):
        assert typed(client, "dialplan.audio", mode)["mode"] == mode.split()[0]
    for word, enabled in (("true", True), ("false", False)):
        assert typed(client, "dialplan.autoanswer", word)["enabled"] is enabled
    reply = typed(client, "originate", "loopback/park/default park XML default")
    assert reply["message"] == "Call originated successfully", reply
    uuid = reply["data"]["uuid"]
    assert reply["data"] == {"uuid": uuid, "endpoint": "loopback/park/default", "destination": "park"}
    reply = typed(client, "uuid_bridge", f"{uuid} user/1001")  # FreeSWITCH wants a channel there
    assert reply["success"] is False and reply["message"] == "-ERR Invalid uuid"
    assert typed(client, "uuid_transfer", f"{uuid} park XML default")["data"] == "+OK\n"
    assert typed(client, "uuid_kill", f"{uuid} NORMAL_CLEARING")["data"] == "+OK\n"


def test_originate_as_at_the_console(agent: Agent, client: Client) -> None:
    """What the page can't type: quotes, variables in front, a name, a time limit; nothing is lost on the way."""
    line = (
        "{a='one, two',b=it\\'s,c=1}loopback/park/default '&playback(silence_stream://-1)' undef undef "
        "'Fred Smith' 5551234 20"
    )
    jobs = client.events("freeswitch.events.background.job")
    client.request("bgapi", f"originate {line}")  # FreeSWITCH's own reading of it
    direct = jobs.wait("BACKGROUND_JOB")[0]["body"].split()[1]
    reply = client.request("originate", line, fields={"variables": {"d": "x y"}, "uuid": "my-own-one"})
    assert reply["success"] is True and reply["data"]["uuid"] == "my-own-one", reply
    for name in ("a", "b", "c"):
        values = [client.request("uuid_getvar", f"{uuid} {name}")["data"] for uuid in (direct, "my-own-one")]
        assert values[0] == values[1] != "_undef_", name
    assert client.request("uuid_getvar", "my-own-one d")["data"] == "x y"
    for uuid in (direct, "my-own-one"):
        dump = json.loads(client.request("uuid_dump", f"{uuid} json")["data"])
        assert dump["Caller-Orig-Caller-ID-Name"] == "Fred Smith" and dump["Caller-Orig-Caller-ID-Number"] == "5551234"
        assert client.request("hangup", f"{uuid} USER_BUSY")["data"] == uuid
    late = client.request("originate", "loopback/ring/default &park XML default x 1 1", _timeout=9)
    assert late["success"] is False and late["message"] == "-ERR NO_ANSWER"
    assert client.request("hangup", "no-such-channel")["message"] == "-ERR No such channel!"


@pytest.mark.parametrize(
    ("settings", "args", "message"),
    [
        ({"app_denylist": "system"}, "loopback/park/default '&system(ls)'", "Application 'system' is denied"),
        ({"api_denylist": "originate"}, "loopback/park/default &park", "API command 'originate' is denied"),
        ({"api_denylist": "fsctl"}, "{a=${fsctl(pause)}}loopback/park/default &park", "API command 'fsctl' is denied"),
    ],
)  # fmt: skip
def test_args_go_through_the_lists(
    nats: NatsServer, full_switch: RealSwitch, start_agent: Callable[..., Agent], client: Client,
    settings: dict[str, str], args: str, message: str,
) -> None:  # fmt: skip
    start_agent(nats, full_switch, node_id="guarded", **settings)
    reply = client.request("originate", args, subject="freeswitch.node.guarded")
    assert reply["success"] is False and reply["message"] == message


def test_every_row_is_tried() -> None:
    assert set(FAILS) | {"reloadxml"} == {verb for row in TABLE for verb in row.verbs}
    verbs = [verb for row in TABLE for verb in row.verbs]
    assert len(verbs) == len(set(verbs)) and all(verb == verb.lower() for verb in verbs)


def left_out(client: Client) -> set[str]:
    """`vpx` is a verb of the core, if FreeSWITCH was built with libvpx (switch_vpx.c); all others must be there."""
    return {"vpx"} if client.request("vpx", "")["message"] == "-ERR vpx Command not found!" else set()


def test_each_verb_fails_as_the_table_says(agent: Agent, client: Client, talk: str, folder: Path) -> None:
    wrong, missing = [], left_out(client)
    for verb, cases in FAILS.items():
        for args, message in cases.items() if verb not in missing else ():
            reply = client.request(verb, args.replace("FOLDER", str(folder)), _timeout=20)
            if reply["success"] or not reply["message"].startswith(message) or "Command not found" in reply["message"]:
                wrong.append((verb, args, message, reply["message"], reply.get("data")))
            assert "data" in reply, reply  # what FreeSWITCH said, as it came
    assert not wrong


def test_what_works_is_a_success(agent: Agent, client: Client, talk: str, folder: Path) -> None:
    wrong, missing = [], left_out(client)
    for verb, args in (each for each in WORKS if each[0] not in missing):
        reply = client.request(verb, args.replace("FOLDER", str(folder)), _timeout=20)
        if not reply["success"]:
            wrong.append((verb, args, reply["message"], reply.get("data")))
    assert not wrong
    assert client.request("uuid_buglist", talk)["data"].startswith("<media-bugs>")
    reply = client.request("lua", str(folder / "works.lua"))
    assert reply["data"] == "one\n-ERR is what this line begins with\nthree\n"


def test_configuration_that_is_no_xml(agent: Agent, client: Client, full_switch: RealSwitch) -> None:
    """FreeSWITCH says +OK to it, with the fault in brackets."""
    path = full_switch.folder / "conf" / "freeswitch.xml"
    text = path.read_text()
    assert client.request("reloadxml")["success"] is True
    path.write_text(text.replace("</document>", ""))
    try:
        for verb, args in (("reloadxml", ""), ("reloadacl", ""), ("sofia", "profile test rescan")):
            reply = client.request(verb, args)
            assert reply["success"] is False and "unclosed tag <document>" in reply["message"], reply
    finally:
        path.write_text(text)
    assert client.request("reloadxml")["success"] is client.request("sofia", "profile test rescan")["success"] is True


def test_a_profile_that_is_too_young_is_not_stopped(
    nats: NatsServer, start_agent: Callable[..., Agent], client: Client, agent: Agent
) -> None:
    """FreeSWITCH refuses it in the first ten seconds, in a sentence."""
    with RealSwitch(sip_port=free_port()) as young:
        start_agent(nats, young, node_id="young")
        reply = client.request("sofia", "profile test stop", subject="freeswitch.node.young")
    assert reply["success"] is False and reply["message"].startswith("Profile test must be up for at least 10 seconds")
