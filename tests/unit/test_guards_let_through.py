"""What harms nobody goes on working while there is a deny list: ordinary requests are let through."""

from __future__ import annotations

import pytest

from event_agent.commands.guards import Guards

OF_SECURITY_MD = (
    ("fsctl", "shutdown", "system", "bg_system", "spawn", "spawn_stream", "lua", "luarun", "load", "unload", "reload"),
    (),
    ("system", "bgsystem", "lua", "socket"),
)
LISTS = {
    "both": OF_SECURITY_MD,
    "verbs": (OF_SECURITY_MD[0], (), ()),
    "applications": ((), (), OF_SECURITY_MD[2]),
    "others": (("global_setvar",), (), ("set_global", "record", "read")),
}

APIS = [
    ("status", ""), ("version", ""), ("show", "channels as json"), ("uuid_exists", "U"), ("uuid_dump", "U json"),
    ("uuid_getvar", "U caller_id_name"), ("global_getvar", "domain"), ("uuid_kill", "U NORMAL_CLEARING"),
    ("bgapi", "status"), ("bgapi", "uuid:abc status"), ("bgapi", "originate user/1000 1000"),
    ("bgapi", "originate {ignore_early_media=true}sofia/gateway/gw/49123 1000 XML default 'John Doe' 123 30"),
    ("bgapi", "originate {origination_caller_id_name='John Doe'}sofia/internal/1000@10.0.0.1 &park undef undef"),
    ("bgapi", "originate user/1000 &bridge(user/1001)"), ("bgapi", "originate user/1000 &playback(/tmp/a.wav) XML"),
    ("expand", "status"), ("xml_wrap", "status"), ("sched_api", "+60 none status"), ("sched_api", "@30 g uuid_kill U"),
    ("eval", "${hostname}"), ("eval", "$${domain}"), ("eval", "uuid:U ${caller_id_name} ${x}"),
    ("eval", "${strftime(%Y-%m-%d)}"), ("echo", "hello ${name}"), ("echo", "a^b m:x"), ("echo", "50% of [x]"),
    ("echo", 'it\'s "so" \\ {x}'), ("regex", "abc|^(a)(.*)$|%1"), ("cond", "1 == 1 ? a : b"), ("url_decode", "a%20b"),
    ("uuid_transfer", "U 1000"), ("uuid_transfer", "U 1000 XML default"), ("uuid_transfer", "U -both 1000 XML default"),
    ("uuid_transfer", "U -bleg 1000"), ("uuid_transfer", "U park inline"), ("uuid_transfer", "U answer,park inline"),
    ("uuid_transfer", "U 'sleep:500,hangup' inline"), ("sched_transfer", "+5 U 1000 XML default"),
    ("uuid_dual_transfer", "U 1000/XML/default 1001/XML/default"), ("uuid_dual_transfer", "U park/inline 1001"),
    ("uuid_bridge", "U V"), ("uuid_park", "U"), ("uuid_answer", "U"), ("uuid_hold", "U"), ("uuid_send_dtmf", "U 1#"),
    ("uuid_record", "U start /tmp/x.wav 60"), ("uuid_record", "U stop all"), ("uuid_displace", "U start /x.wav 0 mux"),
    ("uuid_broadcast", "U /sounds/x.wav both"), ("uuid_broadcast", "U playback::/sounds/x.wav aleg"),
    ("uuid_broadcast", "U local_stream://moh aleg"), ("uuid_broadcast", "U tone_stream://%(1000,0,350) aleg"),
    ("sched_broadcast", "+5 U /x.wav both"), ("sched_hangup", "+60 U"), ("uuid_limit", "U hash a b 5"),
    ("uuid_limit", "U hash a b 5 1000 XML default"), ("uuid_setvar", "U greeting hello"),
    ("uuid_setvar", "U note a,b=c;d"), ("uuid_setvar", "U note ${other}"), ("uuid_setvar_multi", "U a=b;c=d"),
    ("uuid_setvar", "U absolute_codec_string PCMU,PCMA"), ("uuid_setvar", "U hangup_after_bridge true"),
    ("uuid_setvar", "U hold_music local_stream://moh"), ("uuid_setvar", "U transfer_after_bridge 1000:XML:default"),
    ("uuid_setvar", "U execute_on_answer playback /x.wav"), ("uuid_setvar", "U api_hangup_hook status"),
    ("conference", "3000 list"), ("conference", "3000 kick all"), ("conference", "3000 play /x.wav"),
    ("conference", "3000 dial sofia/gateway/gw/123"), ("conference", "3000 bgdial {a=b}user/1000"),
    ("conference", "3000 transfer 3001 5"), ("sofia", "status profile internal"), ("sofia", "profile internal rescan"),
    ("chat", "sip|a@b|c@d|hello there"), ("json", '{"command":"status","data":""}'),
    ("json", '{"command":"fsapi","data":{"cmd":"status","arg":""}}'),
    ("json", '{"command":"execute","data":{"uuid":"U","app":"playback","arg":"/x.wav"}}'),
    ("hash", "insert/realm/key/value"), ("db", "insert/realm/key/value"), ("fifo_member", "add f user/1000"),
    ("hupall", "NORMAL_CLEARING a b"), ("log", "info hello application"), ("user_data", "1000@host var x"),
]  # fmt: skip
APPS = [
    ("answer", ""), ("park", ""), ("hangup", "USER_BUSY"), ("sleep", "500"), ("info", ""),
    ("playback", "/x.wav"), ("playback", "/sounds/${language}/x.wav"), ("playback", "/tmp/part_${uuid}.wav"),
    ("playback", "tone_stream://%(200,0,440);loops=2"), ("displace_session", "/x.wav m"), ("echo", ""),
    ("bridge", "user/1000"), ("bridge", "sofia/gateway/gw/1234"), ("bridge", "loopback/1000/default/XML"),
    ("bridge", "{originate_timeout=30}user/1000@host|user/1001"), ("bridge", "sofia/gateway/gw/${destination_number}"),
    ("bridge", "[leg_timeout=20]sofia/gateway/gw/${destination_number}"), ("bridge", "user/${destination_number}"),
    ("bridge", "{absolute_codec_string='PCMU,PCMA'}sofia/internal/1@h"),
    ("set", "a=b"), ("set", "a=${b}"), ("set", "who=${caller_id_name} <${caller_id_number}>"), ("set", "x={a}"),
    ("set", "t=${strftime(%H:%M)}"), ("set", "x=${expr(1+1)}"), ("set", "r=${regex(1000|^1(.*)|%1)}"),
    ("set", "price=5$"), ("set", "ringback=%(2000,4000,440,480)"), ("set", "continue_on_fail=true"),
    ("export", "nolocal:x=y"), ("multiset", "a=b c=d"), ("multiset", "a=${b} c=${d}"), ("unset", "x"),
    ("transfer", "1000 XML default"), ("transfer", "1000"), ("transfer", "-bleg 1000 XML default"),
    ("execute_extension", "foo XML features"), ("sched_transfer", "+10 1000 XML default"),
    ("log", "INFO call from ${caller_id_number}"), ("conference", "3000@default"),
    ("conference", "${conf}@default+flags{mute}"), ("voicemail", "default ${domain_name} ${destination_number}"),
    ("say", "en number iterated 123"), ("speak", "flite|kal|hello"), ("phrase", "voicemail_hello,x"),
    ("play_and_get_digits", "1 5 3 5000 # /a.wav /b.wav digits \\d+ 3000"), ("record_session", "/tmp/${uuid}.wav"),
    ("limit", "hash realm id 5"), ("limit", "hash realm id 5 1000 XML default"), ("bind_meta_app", "1 a s hangup::"),
    ("limit_execute", "hash a b 5 playback /x.wav"), ("att_xfer", "user/1000"), ("hash", "insert/${domain_name}/a/b"),
    ("event", "Event-Name=CUSTOM,Event-Subclass=my::event,foo=${bar}"), ("fifo", "f in"), ("valet_park", "lot 8000"),
    ("send_info", "text/plain|hello\nthere"), ("eavesdrop", "${x}"), ("intercept", "U"), ("deflect", "sip:1000@host"),
    ("capture", "x|${y}|a(.*)"), ("strftime", "now=%H:%M"), ("soft_hold", "1 local_stream://moh"),
    ("tone_detect", "busy 480,620 r +5000 hangup normal_clearing 3"),
]  # fmt: skip
CALLS: list[tuple[str, str, dict[str, str], str]] = [
    ("user/1000", "1000", {}, "XML"), ("sofia/gateway/gw/4912345", "&park", {}, "XML"), ("null/x", "&park", {}, "XML"),
    ("user/1000", "&bridge(user/1001)", {}, "XML"), ("user/1000", "&playback(/x.wav)", {}, "XML"),
    ("user/1000", "&conference(3000@default)", {}, "XML"), ("user/1000", "answer,park", {}, "inline"),
    ("[leg_timeout=20]sofia/gateway/gw/1|user/1000", "1000", {}, "XML"), ("group/sales", "1000", {}, "XML"),
    ("loopback/1000/default", "&park", {}, "XML"), ("loopback/1000", "&park", {}, "XML"),
    ("error/USER_BUSY", "&park", {}, "XML"), ("{a=b}user/1000", "&set(x=${y})", {}, "XML"),
    ("user/1000", "&log(INFO ${x})", {}, "XML"), ("user/1000", "1000", {}, "xml"), ("verto.rtc/1", "1", {}, "XML"),
    ("user/1000", "1000", {"origination_caller_id_name": 'O\'Brien, "X" {a} 50%', "sip_h_X-Foo": "a=b;c"}, "XML"),
    ("user/1000", "1000", {"absolute_codec_string": "PCMU,PCMA", "note": "fsctl record app"}, "XML"),
    ("user/1000", "&park", {"execute_on_answer": "playback /x.wav", "api_on_answer": "status"}, "XML"),
    ("user/1000", "&park", {"transfer_after_bridge": "1000:XML:default"}, "XML"),
]  # fmt: skip


@pytest.fixture(params=LISTS)
def one(request: pytest.FixtureRequest) -> Guards:
    found = Guards()
    found.set(*LISTS[request.param])
    return found


def test_verbs(one: Guards) -> None:
    for verb, args in APIS:
        one.check_api(verb, args)


def test_applications(one: Guards) -> None:
    for app, args in APPS:
        one.check_app(app, args)


def test_calls(one: Guards) -> None:
    for endpoint, destination, variables, dialplan in CALLS:
        one.check_call(endpoint, destination, variables, dialplan, "default")
