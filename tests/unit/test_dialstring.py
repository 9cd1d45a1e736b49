"""Variable blocks and quoted arguments, read back the way FreeSWITCH reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.errors import CommandError
from event_agent.freeswitch.dialreader import read
from event_agent.freeswitch.dialstring import (
    MAX_BLOCK,
    as_text,
    check_call,
    check_console,
    check_extension,
    destination_text,
    quoted,
    read_endpoint,
    variable_block,
)
from tests.switchsim.text import separate
from tests.switchsim.text import variable_block as read_block

PIECES = "abnsrt ,='\"\\{}[]()|^~é日$:<>&%+;#!@*`"
NASTY = st.lists(
    st.sampled_from([*PIECES, "${", "$${", "\\\\", "''", "ARRAY::", "|:", "^^:", "  "])
    | st.characters(exclude_categories=("Cs", "Cc")),
    max_size=12,
).map("".join)
NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:-]{0,12}", fullmatch=True)


def arrived(variables: dict[str, str | int | float | bool]) -> dict[str, str]:
    """What stands on the channel: the arguments of originate are split, then the block."""
    line = f"{variable_block(variables)}loopback/x {quoted('&park')} {quoted('XML')} {quoted('default')}"
    words = separate(line, limit=10)
    assert words[1:] == ["&park", "XML", "default"], words
    block = read_block(words[0])
    assert block is not None
    assert block[1] == "loopback/x", block
    return block[0]


@given(st.dictionaries(NAMES, NASTY, max_size=5))
def test_every_value_arrives_whole_or_is_refused(variables: dict[str, str]) -> None:
    try:
        found = arrived(dict(variables))
    except CommandError as error:
        assert error.message.startswith("variables: ")
        assert any("{" in value or "}" in value or value.startswith("ARRAY::") for value in variables.values())
        return
    assert found == {name: value for name, value in variables.items() if value}  # FreeSWITCH keeps no empty ones


@given(st.dictionaries(NAMES, NASTY, min_size=1, max_size=5), NASTY)
def test_no_value_touches_its_neighbours(variables: dict[str, str], evil: str) -> None:
    try:
        found = arrived({**variables, "evil": evil, "last": "safe"})
    except CommandError:
        return
    assert found["last"] == "safe" and set(found) <= {*variables, "evil", "last"}


@given(NASTY.filter(bool), NASTY.filter(bool))
def test_a_quoted_argument_is_one_argument(first: str, second: str) -> None:
    line = f"loopback/x {quoted(first)} {quoted(second)} end"
    assert separate(line, limit=10) == ["loopback/x", first, second, "end"]


@pytest.mark.parametrize("value", ["}", "{", "}{", "a}b,c=d", "{{}", "${x}", "$${x}", "${", "ARRAY::a|:b"])
def test_what_can_not_arrive_is_refused(value: str) -> None:
    with pytest.raises(CommandError, match="variables: x can't hold") as caught:
        variable_block({"x": value})
    assert value not in caught.value.message.replace("${, which", "").replace("ARRAY:: at", "") or len(value) < 3


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a,b", "a}b", "1a", "ä", "a" * 129, "a\n", "a'b", "-a"])
def test_names_are_plain(name: str) -> None:
    with pytest.raises(CommandError, match="variables must have names"):
        variable_block({name: "x"})


def test_scalars() -> None:
    assert [as_text(value) for value in (True, False, 3, 2.5, "x")] == ["true", "false", "3", "2.5", "x"]
    assert variable_block({}) == "{}"
    assert arrived({"a": True, "b": 0, "c": -1.5}) == {"a": "true", "b": "0", "c": "-1.5"}


def test_the_block_has_a_limit() -> None:
    assert len(variable_block({"a": "x" * (MAX_BLOCK - 4)})) == MAX_BLOCK
    with pytest.raises(CommandError, match=f"{MAX_BLOCK} characters or fewer"):
        variable_block({"a": "x" * (MAX_BLOCK - 3)})
    with pytest.raises(CommandError, match="or fewer together"):
        variable_block({"a": "\\" * (MAX_BLOCK // 8)})  # it counts as it is sent


@pytest.mark.parametrize(
    ("endpoint", "message"),
    [
        ("loopback/busy/x:_:loopback/park/x", "endpoint can't hold :_:, which would split the call"),
        ("loopback/busy/x:'_':loopback/park/x", "endpoint can't hold :_:, which would split the call"),
        ("[a=:\\\\'_\\\\':]loopback/x", "endpoint can't hold :_:, which would split the call"),
        ("{origination_uuid=x\\n\\napi\\sstatus}loopback/x", "endpoint can't hold \\n, \\r, \\t or a control"),
        ("{a=x\\\\\\\\r}loopback/x", "endpoint can't hold \\n, \\r, \\t or a control"),
        ("[a=1\2b=2]loopback/x", "endpoint can't hold \\n, \\r, \\t or a control"),
        ("{event_agent_parked=1}loopback/x", "endpoint: event_agent_parked is set by the agent only"),
        ("{EVENT_agent_'parked'=1}loopback/x", "endpoint: EVENT_agent_parked is set by the agent only"),
        ("[a=1,event_agent_parked[0]=1]loopback/x", "endpoint: event_agent_parked is set by the agent only"),
        ("<event_agent_parked=1>loopback/x", "endpoint: event_agent_parked is set by the agent only"),
        ("{origination_uuid=a$b}loopback/x", "endpoint: origination_uuid must contain only letters"),
        ("{origination_uuid=a\\\\sb}loopback/x", "endpoint: origination_uuid must contain only letters"),
        ("loopback/x'", "endpoint can't hold quotes that are not closed"),
    ],
)
def test_an_endpoint_that_would_be_something_else_is_refused(endpoint: str, message: str) -> None:
    with pytest.raises(CommandError) as caught:
        read_endpoint(endpoint)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"note": ":_:loopback/x:_:"}, "variables: note can't hold :_:, which would split the call"),
        ({"x:_:y": "1"}, "variables: x:_:y can't hold :_:, which would split the call"),
        ({"Event_Agent_Parked": "1"}, "variables: Event_Agent_Parked is set by the agent only"),
        ({"origination_uuid": "x\\n\\napi"}, "variables: origination_uuid must contain only letters"),
        ({"hangup_on_single_reject": "yes"}, "hangup_on_single_reject needs fail_on_single_reject"),
        ({"leg_required": "true"}, "leg_required can't be used with several legs"),
    ],
)
def test_variables_that_would_be_something_else_are_refused(variables: dict[str, str], message: str) -> None:
    with pytest.raises(CommandError) as caught:
        check_call(read_endpoint("loopback/a,loopback/b"), variables, {})
    assert caught.value.message.startswith(message)


def test_calls_that_freeswitch_survives_are_not_refused() -> None:
    check_call(read_endpoint("a/1,b/2"), {"hangup_on_single_reject": "1", "fail_on_single_reject": "USER_BUSY"}, {})
    check_call(read_endpoint("[leg_required=true]a/1|b/2"), {"hangup_on_single_reject": "false"}, {})
    check_call(read_endpoint("{leg_required=no}loopback/1,null/2"), {"x": ":_", "y": "_:"}, {"caller_id_name": "a:b"})


@pytest.mark.parametrize("extension", ["undef", "UNDEF", "Undef", " undef", "undef  "])
def test_undef_is_no_extension(extension: str) -> None:
    with pytest.raises(CommandError, match="extension can't be undef: FreeSWITCH would abort"):
        check_extension("extension", extension)


@pytest.mark.parametrize(
    ("verb", "args"),
    [
        ("bgapi", "originate loopback/x undef"),
        ("bgapi", "ORIGINATE loopback/x 'un''def' XML"),
        ("expand", "originate {a='x y'}loopback/x Undef"),
        ("sched_api", "+0 none originate loopback/x undef&"),
        ("xml_wrap", "encoded originate loopback/x undef"),
        ("eval", "${originate(loopback/x undef)}"),
        ("expand", "echo ${originate loopback/x undef}"),
        ("bgapi", "originate {hangup_on_single_reject=true}loopback/x &park"),
        ("bgapi", "originate {leg_required=true}loopback/x,loopback/y &park"),
        ("Originate", "loopback/x undef"),
        ("sched_api", "+0 originate originate loopback/x undef"),
        ("bgapi", "uuid:originate ORIGINATE loopback/x undef"),
        ("expand", "expand or\\'iginate loopback/x undef"),
        ("sched_api", "+0 originate expand o\\'riginate loopback/x un\\'def"),
        ("bgapi", "originate loopback/x undef \\"),
        ("eval", "${originate(loopback/x undef)more}"),
        ("eval", "${originate({a='x'}loopback/x undef)} ${originate(loopback/x &park)}"),
    ],
)
def test_an_originate_behind_another_verb_does_not_end_freeswitch(verb: str, args: str) -> None:
    with pytest.raises(CommandError, match="FreeSWITCH would (abort|crash)"):
        check_console(verb, args)


def test_an_originate_behind_another_verb_may_be_anything_else() -> None:
    for args in ("originate user/1000 &park undef undef undef 5551234", "originate x", "originate",
                 "originate 'x undef", "x originated", "originate loopback/x undefined",
                 "originate loopback/undef &park"):
        check_console("bgapi", args)


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("1000", ("1000", "")),
        ("&", ("&", "")),
        ("&park", ("&park", "")),
        ("&park()", ("&park()", "")),
        ("&set(a=(b", ("&set(a=(b", "")),
        ("&set(a=b)c)", ("m:^:set:a=b)c", "inline")),
        ("&playback(tone_stream://%(500,0,640);loops=4)",
         ("m:^:playback:tone_stream://%(500,0,640);loops=4", "inline")),
        ("&set( ^(\\'a') )", None),
        ("&set( ^(\\a'b') )", ("m:|:set:\\s^(\\\\a\\'b\\')\\s", "inline")),
        ("&set(  ))", ("m:^:set:\\s\\s)", "inline")),
    ],
)  # fmt: skip
def test_what_is_sent_for_a_destination(text: str, sent: tuple[str, str] | None) -> None:
    if sent is None:
        with pytest.raises(CommandError, match="for which FreeSWITCH leaves the application out"):
            destination_text("destination", text)
    else:
        assert destination_text("destination", text) == sent


@pytest.mark.parametrize("text", ["&park(a)b", "&a)b", "&a)b)", "&a)b(c)", "&a:b(c)d)"])
def test_a_destination_that_would_be_cut_is_refused(text: str) -> None:
    with pytest.raises(CommandError, match=r"extension can't hold text behind its last \)"):
        destination_text("extension", text)


@pytest.mark.parametrize("count", [1000, 1001, 1023, 1024, 1025, 2500])
@pytest.mark.parametrize("brackets", ["{}", "<>"])
def test_any_number_of_variables(count: int, brackets: str) -> None:
    variables: dict[str, str | int | float | bool] = {f"a{number}": number for number in range(count)}
    dial = read_endpoint(f"{variable_block(variables, brackets)}loopback/x")
    assert dict(dial.variables) == {name: str(value) for name, value in variables.items()}


@given(st.dictionaries(NAMES, NASTY, max_size=5))
def test_values_in_angle_brackets(variables: dict[str, str]) -> None:
    try:
        block = variable_block(dict(variables), "<>")
    except CommandError:
        return
    dial = read(f"{block}<last=1>{{more=2}}loopback/x")
    wanted = [(name, value) for name, value in variables.items() if value]
    assert dial.variables == [*wanted, ("last", "1"), ("more", "2")]


BAD_CALLER_IDS = [
    {"caller_id_name": 'Fred "Fast" Smith'}, {"caller_id_name": "back\\slash"}, {"caller_id_name": "a/b"},
    {"caller_id_name": "a:b"}, {"caller_id_name": "a@b"}, {"caller_id_name": "50%41"}, {"caller_id_name": "_UNDEF_"},
    {"caller_id_number": "a>b"}, {"caller_id_number": "a<b"}, {"caller_id_number": "sip:1@b"},
    {"caller_id_number": "5%"}, {"caller_id_number": 'a"b'},
]  # fmt: skip


@pytest.mark.parametrize("fields", BAD_CALLER_IDS)
def test_what_a_phone_would_not_show_is_refused(fields: dict[str, str]) -> None:
    ((field, value),) = fields.items()
    phone, nobody = read_endpoint("user/1000|loopback/x"), read_endpoint("loopback/x,null/y")
    with pytest.raises(CommandError, match=f"^{field} can't (hold|be) "):
        check_call(phone, {}, fields)
    with pytest.raises(CommandError, match=f"^variables: origination_{field} can't (hold|be) "):
        check_call(phone, {f"origination_{field}": value}, {})
    check_call(nobody, {f"origination_{field}": value}, fields)


def test_a_caller_id_in_the_endpoint_is_looked_at_too() -> None:
    for endpoint in ("{origination_caller_id_name=a/b}user/1", "[Origination_Caller_ID_Number=a/b]user/1"):
        with pytest.raises(CommandError, match="^endpoint: .* can't hold /"):
            check_call(read_endpoint(endpoint), {}, {})


def test_an_originate_behind_another_verb_that_is_too_long_to_be_read_is_refused() -> None:
    """Padding must not carry `undef`, of which FreeSWITCH dies, past the look at it."""
    with pytest.raises(CommandError, match="must be 8192 characters or fewer"):
        check_console("bgapi", f"originate {{a={'x' * 9000}}}loopback/1 undef")
    check_console("bgapi", f"echo {'x' * 9000}")
    with pytest.raises(CommandError, match="must stand 8 times or fewer"):
        check_console("eval", "${originate(a)}" * 9)
    check_console("eval", "${originate(a)}" * 8)
