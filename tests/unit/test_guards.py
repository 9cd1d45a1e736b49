"""What may be run: the lists, and the ways around them that are closed."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.commands.guards import MAX_DEPTH, MAX_TEXT, Guards
from event_agent.errors import CommandError
from tests.timing import cpu_of
from tests.ways import APP, VERB, WAYS, Fields

TEXT = st.text(st.sampled_from("ab ${}()\\'\",:;=&|\n") | st.characters(), max_size=60)


def guards(deny: str = "fsctl,Shutdown,system", allow: str = "", apps: str = "system,record") -> Guards:
    found = Guards()
    found.set(*(tuple(filter(None, each.split(","))) for each in (deny, allow, apps)))
    return found


def refusal(check: object, *args: object) -> str:
    assert callable(check)
    try:
        check(*args)
    except CommandError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    ("verb", "args", "message"),
    [
        ("fsctl", "", "API command 'fsctl' is denied"),
        ("FsCtl", "x", "API command 'FsCtl' is denied"),
        ("shutdown", "", "API command 'shutdown' is denied"),
        ("bgapi", " fsctl  pause", "API command 'fsctl' is denied"),
        ("expand", "expand fsctl", "API command 'fsctl' is denied"),
        ("expand", "uuid:x fsctl pause", "API command 'fsctl' is denied"),
        ("expand", " uuid:x bgapi fsctl pause", "API command 'fsctl' is denied"),
        ("sched_api", "+1 group fsctl pause", "API command 'fsctl' is denied"),
        ("xml_wrap", "fsctl", "API command 'fsctl' is denied"),
        ("echo", "a ${fsctl(pause)} b", "API command 'fsctl' is denied"),
        ("echo", "${  FSCTL pause}", "API command 'FSCTL' is denied"),
        ("eval", "${echo(${fsctl(pause)})}", "${…} within ${…} is denied: what it would run can't be seen"),
        ("eval", "${${name}ctl(pause)}", "${…} within ${…} is denied: what it would run can't be seen"),
        ("uuid_setvar", "x api_on_answer fsctl pause", "API command 'fsctl' is denied"),
        ("uuid_transfer", "x system:ls inline", "API command 'system' is denied"),
        ("uuid_broadcast", "x record::/tmp/x aleg", "Application 'record' is denied"),
        ("originate", "user/1 &record(/tmp/x)", "Application 'record' is denied"),
        ("json", '{"command":"fsapi","data":{"cmd":"fsctl"}}', "API command 'fsctl' is denied"),
        ("json", '{"command":"fsapi","data":{"CMD":"\\u0066sctl"}}', "API command 'fsctl' is denied"),
        ("json", '{"data":{"cmd":"bgapi","arg":"fsctl x"}}', "API command 'fsctl' is denied"),
        ("json", '{"data":{"cmd":"status","cmd":"fsctl"}}', "json with several commands is denied"),
        ("json", '{"data":{"cmd":"status"}} x', "json is denied where its argument is not JSON"),
        ("json", '{"command":"status","data":""}', ""),
        ("...", "", "API command '...' is denied"),
        ("bgapi", "...", "API command '...' is denied"),
        ("bgapi", "\vfsctl pause", "API command 'fsctl' is denied"),
        ("expand", "UUID:x fsctl pause", "API command 'fsctl' is denied"),
        ("xml_wrap", "encoded fsctl pause", "API command 'fsctl' is denied"),
        ("xml_wrap", "ENCODED fsctl pause", "API command 'fsctl' is denied"),
        ("sched_api", "+1  fsctl pause", "API command 'fsctl' is denied"),
        ("sched_api", "+1\u00a0a b fsctl pause", "API command 'fsctl' is denied"),
        ("sched_api", "+1 none fsctl&", "API command 'fsctl' is denied"),
        ("sched_api", "+1 none echo fsctl pause", ""),
        ("echo", "${sched_api({} a fsctl pause)}", "API command 'fsctl' is denied"),
        ("echo", "${sched_api(() a fsctl pause)}", "API command 'fsctl' is denied"),
        ("echo", "${sched_api({} a ${x} pause)}", "${…} within ${…} is denied: what it would run can't be seen"),
        ("echo", "${fsctl  (pause)}", "API command 'fsctl' is denied"),
        ("echo", "${fsctl\t(pause)}", "API command 'fsctl' is denied"),
        ("echo", "$''{fsctl(pause)}", "API command 'fsctl' is denied"),
        ("echo", "${fs''ctl(pause)}", "API command 'fsctl' is denied"),
        ("echo", "${fsctl\\s(pause)}", "API command 'fsctl' is denied"),
        ("echo", "${fsctl(pause", "API command 'fsctl' is denied"),
        ("echo", "$${fsctl(pause)}", "API command 'fsctl' is denied"),
        ("echo", "${name} ${other}", ""),
        ("chat", "api|a|fsctl pause|x", "chat to api is denied: what it would run can't be seen"),
        ("chat", "^^:'ap''i':a:f%73ctl pause:x", "chat to api is denied: what it would run can't be seen"),
        ("chat", "sip|a|b|fsctl", ""),
        ("uuid_setvar", "x 'api'_hangup_hook fsctl pause", "API command 'fsctl' is denied"),
        ("uuid_setvar", "x api_hangup_hook ${name} pause",
         "${…} is denied where it could name what is run"),
        ("uuid_setvar", "x hold_music system::ls", "API command 'system' is denied"),
        ("uuid_setvar", "x transfer_after_bridge record:/tmp/x:inline", "Application 'record' is denied"),
        ("uuid_setvar", "x system_on_fax_result ls", "API command 'system' is denied"),
        ("global_setvar", "execute_on_answer=record /tmp/x", "Application 'record' is denied"),
        ("uuid_transfer", "x re''cord:/tmp/x inline", "Application 'record' is denied"),
        ("uuid_transfer", "x m:^:answer^re\\'cord:x inline", "Application 'record' is denied"),
        ("originate", "loopback/app=record:/tmp/x 1", "Application 'record' is denied"),
        ("status", "", ""),
        ("bgapi", "status", ""),
        ("echo", "fsctl is a word", ""),
        ("echo", "$fsctl {fsctl}", ""),
        ("uuid_setvar", "x greeting fsctl", ""),
        ("expand", "", ""),
        ("sched_api", "+1", ""),
        ("bgapi", "uuid:x fsctl pause", "API command 'fsctl' is denied"),
        ("bgapi", "UUID:x bgapi uuid:y fsctl", "API command 'fsctl' is denied"),
        ("bgapi", "uuid:fsctl status", ""),
        ("expand", "echo ${x}", "${…} is denied where it could name what is run"),
        ("expand", "fs\\'ctl pause",
         "A backslash before a quote, $ or another is denied: what it would run can't be seen"),
        ("json", '{"command":"execute","data":{"app":"rec\\u006frd"}}', "Application 'record' is denied"),
        ("json", '{"command":"execute","data":{"app":"set","arg":"api_hangup_hook=fsctl"}}',
         "API command 'fsctl' is denied"),
        ("json", '{"command":"execute","data":{"app":"playback","arg":"x.wav","uuid":"y"}}', ""),
        ("json", '{"data":{"cmd\\u0000x":"fsctl\\u0000y"}}', "API command 'fsctl' is denied"),
        ("json", '{"command":"store","data":{"a":["b",["record"]]}}', "Application 'record' is denied"),
        ("json", '{"command":"channelData","data":{"uuid":"record"}}', ""),
        ("event_channel_broadcast", '{"eventChannel":"x","value":["rec\\u006frd:x","inline"]}',
         "Application 'record' is denied"),
        ("uuid_setvar", 'x api_hangup_hook json {"a":"\\u0062"}', "\\u… is denied: what it would run can't be seen"),
        ("uuid_transfer", "x 1000 XML default", ""),
        ("uuid_transfer", "x -both 1000 xml default", ""),
        ("uuid_transfer", "x 1000 LUA y", "Dialplan 'lua' is denied: what it would run can't be seen"),
        ("uuid_dual_transfer", "x 1/XML/default 2/asterisk",
         "Dialplan 'asterisk' is denied: what it would run can't be seen"),
        ("uuid_dual_transfer", "x answer/inline 2", ""),
        ("uuid_broadcast", "x transfer::1\\sLUA\\sy", "Dialplan 'LUA' is denied: what it would run can't be seen"),
        ("uuid_setvar", "x execute_on_answer lua y.lua", ""),
        ("bgapi", "originate user/1 1000 undef undef", ""),
        ("bgapi", "originate user/1 1000 enum", "Dialplan 'enum' is denied: what it would run can't be seen"),
        ("uuid_setvar", "^^:x:y:z", "^^ is denied at the beginning of an argument: what it would run can't be seen"),
        ("uuid_setvar", "x codec '^'^:PCMU",
         "^^ is denied at the beginning of an argument: what it would run can't be seen"),
        ("uuid_record", "x start y 1 %7Brecord_post_process_%65xec_app=rec%6Frd%7D", "Application 'record' is denied"),
        ("uuid_record", "x start /tmp/100%25.wav", ""),
        ("conference", "c bgdial loopback/m:z:answerz1/default/inline",
         "m:…: is denied: what it would run can't be seen"),
        ("playback", "shell_stream://record", "API command 'system' is denied"),
        ("echo", "${a}{b}", "${…}{…} is denied: what it would run can't be seen"),
        ("echo", "${a" + "{" * 1100, "${…} so many times is denied"),
    ],
)
def test_api_verbs(verb: str, args: str, message: str) -> None:
    assert refusal(guards().check_api, verb, args) == message


def asked(one: Guards, request: Fields) -> str:
    """The refusal of a request as a client sends it, or nothing."""
    command = request["command"]
    if command == "originate":
        variables = request.get("variables", {})
        others = (request.get("dialplan", "XML"), request.get("context", "default"))
        return refusal(one.check_call, request["endpoint"], request["destination"], variables, *others)
    if command == "execute_app":
        return refusal(one.check_app, request["app"], request["args"])
    return refusal(one.check_api, command, request["args"])


@pytest.mark.parametrize("way", WAYS, ids=range(len(WAYS)))
def test_ways_around_the_lists_are_closed(way: Fields) -> None:
    assert "denied" in asked(guards(deny=VERB, apps=APP), way)
    text = str(way).lower()
    if "setvar" in text and "set_global" not in text:
        assert "denied" in asked(guards(deny=VERB, apps=""), way)
    if "set_global" in text and "setvar" not in text:
        assert "denied" in asked(guards(deny="", apps=APP), way)


def test_an_allowlist_names_the_only_ones() -> None:
    one = guards(deny="status", allow="Version,status,bgapi,originate", apps="")
    assert refusal(one.check_api, "version", "") == refusal(one.check_api, "bgapi", "VERSION") == ""
    assert refusal(one.check_api, "uptime", "") == "API command 'uptime' is denied"
    assert refusal(one.check_api, "status", "") == "API command 'status' is denied", "a denied one stays denied"
    assert refusal(one.check_api, "bgapi", "uptime") == "API command 'uptime' is denied"
    assert refusal(one.check_api, "version", "${uptime()}") == "API command 'uptime' is denied"
    assert refusal(one.check_api, "bgapi", "expand xml_wrap sched_api +1 a uptime") == "API command 'expand' is denied"
    hooks = "api_… and …_hook are denied while there is an api_allowlist"
    assert refusal(one.check_call, "user/1", "1", {"api_on_answer": "uptime"}) == hooks
    assert refusal(one.check_call, "[api_on_answer=uptime]user/1", "1", {}) == hooks
    assert refusal(one.check_app, "set", "api_hangup_hook=uptime") == hooks
    assert refusal(one.check_builtin, "originate") == ""
    assert refusal(one.check_builtin, "hangup") == "API command 'hangup' is denied"


@pytest.mark.parametrize(
    ("app", "args", "message"),
    [
        ("SYSTEM", "ls", "Application 'SYSTEM' is denied"),
        ("transfer", "record:x inline", "Application 'record' is denied"),
        ("set", "a=${fsctl(pause)}", "API command 'fsctl' is denied"),
        ("set", "api_hangup_hook=fsctl pause", "API command 'fsctl' is denied"),
        ("set", "execute_on_answer=record x", "Application 'record' is denied"),
        ("set", "${a}=fsctl pause", "${…} is denied in a variable's name: what it would set can't be seen"),
        ("system::ls", "", "Application 'system' is denied"),
        ("bridge", "loopback/app=record:/tmp/x", "Application 'record' is denied"),
        ("bridge", "{group_confirm_key=exec,group_confirm_file=record x}user/1", "Application 'record' is denied"),
        ("limit", "hash a b 1 record:x inline", "Application 'record' is denied"),
        ("set", "group_confirm_file=record x", "Application 'record' is denied"),
        ("set", "hold_music=record::x", "Application 'record' is denied"),
        ("bridge", "[leg_timeout=20]sofia/gateway/gw/${destination_number}", ""),
        ("bridge", "user/${number}@${domain_name}", "${…} is denied where it could name what is run"),
        ("bridge", "sofia/gateway/gw/${number},user/${other}@host", ""),
        ("bridge", "${number}", "${…} is denied where it could name what is run"),
        ("bridge", "loopback/${number}", "${…} is denied where it could name what is run"),
        ("bridge", "${a}loopback/app=record:x", "Application 'record' is denied"),
        ("set", "a=${b}", ""),
        ("set", "a=${strftime(%H:%M)}", ""),
        ("set", "a=${b}{c}", "${…}{…} is denied: what it would run can't be seen"),
        ("set", "a=$$${b}{c}", "$$${…} is denied: what it would run can't be seen"),
        ("set", "a=${b} $", "$ and { are denied beside ${…}: what they would make can't be seen"),
        ("set", "a=${url_decode(x)}",
         "${url_decode(…)} is denied in the value of a variable: its answer can't be seen"),
        ("multiset", "a=${b} c=${d}", ""),
        ("multiset", "a=b ${c}=d", "${…} is denied in a variable's name: what it would set can't be seen"),
        ("capture", "a|${b}|(.*)", ""),
        ("capture", "${a}|b|(.*)", "${…} is denied in a variable's name: what it would set can't be seen"),
        ("transfer", "1000 XML ${context}", "${…} is denied where it could name what is run"),
        ("transfer", "1000 LUA x.lua", "Dialplan 'lua' is denied: what it would run can't be seen"),
        ("transfer", "-bleg 1000 asterisk x", "Dialplan 'asterisk' is denied: what it would run can't be seen"),
        ("transfer", "^^:1000", "^^ is denied at the beginning of an argument: what it would run can't be seen"),
        ("transfer", "m:a:b inline", "m:…: is denied: what it would run can't be seen"),
        ("playback", "%[a=b]x.wav", "%[…] is denied: what it would run can't be seen"),
        ("playback", " ''%|[a=b]x.wav", "%[…] is denied: what it would run can't be seen"),
        ("event", "Event-Name=CUSTOM,dest_proto=api,to=x", "chat to api is denied: what it would run can't be seen"),
        ("event", "Event-Name=CUSTOM,Event-Subclass=my::own,a=${b}", ""),
        ("bridge", "{x=^^:a:b}user/1", "^^ is denied at the beginning of an argument: what it would run can't be seen"),
        ("log", "INFO 2^^3", ""),
        ("playback", "/sounds/record.wav", ""),
        ("set", "a=b", ""),
    ],
)
def test_applications(app: str, args: str, message: str) -> None:
    assert refusal(guards().check_app, app, args) == message


@pytest.mark.parametrize(
    ("endpoint", "destination", "variables", "message"),
    [
        ("user/1", "&system(ls)", {}, "Application 'system' is denied"),
        ("user/1", "system:ls inline", {}, "Application 'system' is denied"),
        ("user/${fsctl(x)}", "1", {}, "API command 'fsctl' is denied"),
        ("[api_on_ring=fsctl]user/1", "1", {}, "API command 'fsctl' is denied"),
        ("user/1", "1", {"api_on_answer": "fsctl x"}, "API command 'fsctl' is denied"),
        ("user/1", "1", {"EXECUTE_ON_RING": "Record x"}, "Application 'Record' is denied"),
        ("user/1", "1", {"note": "record fsctl"}, ""),
        ("user/1", "1", {"hold_music": "record::/tmp/x"}, "Application 'record' is denied"),
        ("user/1", "1", {"group_confirm_file": "record /tmp/x"}, "Application 'record' is denied"),
        ("user/1", "1", {"transfer_after_bridge": "record:x:inline"}, "Application 'record' is denied"),
        ("user/1", "1", {"fifo_orbit_exten": "record:/tmp/x"}, "Application 'record' is denied"),
        ("user/1", "1", {"park_timeout": "9:record:inline"}, "Application 'record' is denied"),
        ("user/1", "1", {"system_on_fax_result": "ls"}, "API command 'system' is denied"),
        ("user/1", "1", {"ringback": "Shell_Stream://ls"}, "API command 'system' is denied"),
        ("user/1", "1", {"x": "loopback/app=record:/tmp/x"}, "Application 'record' is denied"),
        ("user/1", "1", {"x": "loopback/1/default"}, ""),
        ("user/1", "&page", {"page_data": "user/1", "page_beep": "/x.wav"}, ""),
        ("user/1", "&page", {"page_dp": "Lua", "page_context": "x.lua"},
         "Dialplan 'LUA' is denied: what it would run can't be seen"),
        ("user/1", "1", {"Conference_Auto_Outcall_Prefix": "user/"},
         "conference_auto_outcall_prefix is denied: what it would run can't be seen"),
        ("user/1", "1", {"conference_auto_outcall_timeout": "20"}, ""),
        ("loopback/app=record:/tmp/x", "1", {}, "Application 'record' is denied"),
        ("[api_on_ring=fs''ctl]user/1", "1", {}, "API command 'fsctl' is denied"),
        ("user/1", "&re''cord(x)", {}, "Application 'record' is denied"),
        ("user/1", "&set(api_hangup_hook=fsctl pause)", {}, "API command 'fsctl' is denied"),
        ("user/1", "${fsctl(x)}", {}, "API command 'fsctl' is denied"),
        ("user/fsctl", "1000", {}, ""),
        ("user/${number}", "1000", {}, "${…} is denied where it could name what is run"),
        ("user/1", "${number}", {}, "${…} is denied where it could name what is run"),
        ("user/1", "&${a}(b)", {}, "${…} is denied where it could name what is run"),
        ("user/1", "&playback(/x/${y}.wav)", {}, ""),
        ("user/1", "&set(x=${y})", {}, ""),
        ("user/1", "&set(x=()${url_decode(y)})", {},
         "${url_decode(…)} is denied in the value of a variable: its answer can't be seen"),
        ("user/1", "&transfer(${y})", {}, "${…} is denied where it could name what is run"),
        ("[a=^^:b]user/1", "1", {}, "^^ is denied at the beginning of an argument: what it would run can't be seen"),
        ("user/1", "^^:1", {}, "^^ is denied at the beginning of an argument: what it would run can't be seen"),
        ("user/1", "1", {"x": "^^:PCMU:PCMA"},
         "^^ is denied at the beginning of an argument: what it would run can't be seen"),
        ("user/1", "1", {"x": "a:_:b"}, "variables can't hold :_:, which would begin another call"),
        ("loopback/1/default/LUA", "1", {},
         "A dialplan other than XML and inline is denied: what it would run can't be seen"),
        ("loopback/1/default/xml", "1", {}, ""),
    ],
)
def test_calls(endpoint: str, destination: str, variables: dict[str, str], message: str) -> None:
    assert refusal(guards().check_call, endpoint, destination, variables) == message


@pytest.mark.parametrize(
    ("dialplan", "context", "message"),
    [
        ("XML", "default", ""),
        ("xml", "default", ""),
        ("inline", "default", ""),
        ("LUA", "x.lua", "Dialplan 'LUA' is denied: what it would run can't be seen"),
        ("XML,inline:x", "default", "Dialplan 'XML,inline:x' is denied: what it would run can't be seen"),
        ("XML:/tmp/x.xml", "default", "Dialplan 'XML:/tmp/x.xml' is denied: what it would run can't be seen"),
        ("XML", "${x}", "${…} is denied where it could name what is run"),
    ],
)
def test_dialplans_of_a_call(dialplan: str, context: str, message: str) -> None:
    assert refusal(guards().check_call, "user/1", "1", {}, dialplan, context) == message


def test_names_that_are_no_words() -> None:
    one = guards(deny="a-b,...", apps="c.d")
    assert refusal(one.check_api, "uuid_setvar", "x api_hangup_hook a-b c") == "API command 'a-b' is denied"
    assert refusal(one.check_api, "uuid_setvar", "x api_hangup_hook ... c") == "API command '...' is denied"
    assert refusal(one.check_app, "set", "execute_on_answer=C.d x") == "Application 'C.d' is denied"
    assert refusal(one.check_app, "c.d", "") == "Application 'c.d' is denied"


def test_empty_lists_look_through_nothing() -> None:
    one = Guards()
    assert one.idle
    one.check_api("fsctl", "${fsctl(x)}")
    one.check_app("system", "x")
    one.check_call("${fsctl(x)}", "&system(x)", {"api_on_answer": "fsctl"})
    one.check_builtin("originate")
    for lists in ((("a",), (), ()), ((), ("a",), ()), ((), (), ("a",))):
        one.set(*lists)
        assert [one.idle] == [False]
    one.set((), (), ())
    assert [one.idle] == [True]


def test_two_names_of_one_verb_are_one() -> None:
    one = guards(deny="uuid_break,...", apps="")
    assert refusal(one.check_api, "break", "x") == "API command 'break' is denied"
    assert refusal(one.check_api, "Shutdown", "") == "API command 'Shutdown' is denied"
    assert refusal(guards(deny="", allow="shutdown", apps="").check_api, "...", "") == ""


@given(TEXT, TEXT)
def test_any_text_is_let_through_or_refused(verb: str, args: str) -> None:
    for one in (guards(), guards(allow="status")):
        refusal(one.check_api, verb, args)
        refusal(one.check_app, verb, args)
        refusal(one.check_call, verb, args, {verb: args})


@given(TEXT, TEXT, st.sampled_from(["${fsctl(x)}", "${fsctl x}", "${ fsctl(x)}", "${FSCTL (x)}"]))
def test_a_verb_in_braces_is_found_wherever_it_stands(before: str, after: str, evil: str) -> None:
    before = before.replace("${", "").replace("}", "") + "|"
    assert "is denied" in refusal(guards().check_api, "echo", before + evil + after) or "$" in before[-2:]


def test_nesting_has_an_end() -> None:
    for text in ("expand " * (MAX_DEPTH + 5), "${expand " * 1500, "${a(" * 4000, "bgapi expand " * 1200):
        check = partial(refusal, guards().check_api, "expand", text)
        message = check()
        assert "nested too deeply" in message or "within" in message or "so many times" in message
        assert cpu_of(check) < 1


@pytest.mark.parametrize("piece", ["${", "${ ", "${a", "${a ", "${a(", "$", "{", " ", "}", "${a}", "api ", "\t", "\\"])
def test_no_text_takes_long(piece: str) -> None:
    """Of the most that is looked through."""
    text = piece * (MAX_TEXT // len(piece))
    assert cpu_of(partial(refusal, guards().check_api, "echo", text)) < 0.1
    assert cpu_of(partial(refusal, guards().check_app, "set", text)) < 0.1


def test_a_text_that_is_too_long_is_refused_unread() -> None:
    message = f"Arguments of more than {MAX_TEXT} characters are denied while a list is in force"
    text = "a" * (MAX_TEXT + 1)
    for one in (guards(), guards(deny="", apps="system"), guards(deny="", allow="echo,set", apps="")):
        assert refusal(one.check_api, "echo", text) == refusal(one.check_app, "set", text) == message
        assert refusal(one.check_call, "user/1", "1", {"note": text}) == message
        assert refusal(one.check_api, "echo", text[:-1]) == ""
    nothing = Guards()
    assert refusal(nothing.check_api, "echo", text) == refusal(nothing.check_call, "user/1", "1", {"a": text}) == ""
