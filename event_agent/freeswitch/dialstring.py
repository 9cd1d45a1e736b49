"""Text made fit for `originate`: variable blocks, quoted arguments, and what must not be in a call.

FreeSWITCH unescapes a block three times (switch_utils.c, cleanup_separated_string: once with the arguments of
originate, twice with the variables), so what one pass would eat is escaped three times over. Found by reading it, held
by tests/functional/test_calls.py. What can't be written in a way that comes through whole is refused, never changed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress

from event_agent.errors import CommandError
from event_agent.freeswitch.dialreader import Dial, Misread, Pairs, arguments, first_leg, read, true

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.:-]{0,127}\Z", re.ASCII)
_PLAIN_UUID = re.compile(r"[A-Za-z0-9_.:@-]+\Z", re.ASCII)
_ESCAPES = str.maketrans({"\\": "\\" * 8, "'": "\\" * 7 + "'", " ": "\\" * 4 + "s", ",": "\\,"})
_WORD = str.maketrans({"\\": "\\\\", "'": "\\'", " ": "\\s"})
_BREAKS = re.compile(r"\\[nrt]|[\0-\x1f\x7f]")  # control characters, or what FreeSWITCH makes them of
_QUOTING = str.maketrans("", "", "\\'\"")
# In any case, and with quotes and backslashes in it, which a verb that expands its text takes away.
_ORIGINATE = re.compile(r"\b" + r"['\\]*".join("originate") + r"['\\]*[ (]+", re.IGNORECASE)
_WORD_ENDS = re.compile("[)}&]")  # the end of `${originate(…)}`, `${originate …}` and `sched_api … originate …&`
_HEX = re.compile("%[0-9a-fA-F]{2}")
MAX_BLOCK = 32768  # characters of all variables of one call
AT_ONCE = 1000  # variables in one block; FreeSWITCH puts all behind the 1,024th of a block into that one
MAX_CONSOLE = 8192  # characters of an originate behind another verb; more are refused
MOST_CONSOLE = 8  # of these in one text; more are refused
# Endpoints that are no telephone and call none. Any other may lead to SIP, as `user/1000` does.
NO_PHONES = frozenset(("loopback", "null", "error", "pickup"))
CALLER_ID = {"origination_caller_id_name": '"\\/:@', "origination_caller_id_number": '"<>/:@%'}
SPLIT = ":_:"  # what cuts a call in two, wherever it stands (SWITCH_ENT_ORIGINATE_DELIM)
MARK = "event_agent_call"  # the variable by which all legs of a call are found
# Only the agent sets these: they say what it has done with a call.
OURS = ("event_agent_parked", "event_agent_seal", "event_agent_routed", MARK)

Scalar = str | int | float | bool


def variable_block(variables: Mapping[str, Scalar], brackets: str = "{}") -> str:
    """`{a=b,c=d}`, in which every value arrives on the channel as it stands here. Raises CommandError.

    With many variables it is several blocks, one behind the other. `brackets` are `<>` before an endpoint that begins
    with such a block: FreeSWITCH reads these first, and none behind a block in braces.
    """
    parts = [f"{_checked_name(name)}={_escaped(name, value, brackets)}" for name, value in variables.items()]
    opening, closing = brackets[0], brackets[1]
    if len(parts) <= AT_ONCE:
        block = f"{opening}{','.join(parts)}{closing}"
    else:
        pieces = (parts[at : at + AT_ONCE] for at in range(0, len(parts), AT_ONCE))
        block = "".join(f"{opening}{','.join(piece)}{closing}" for piece in pieces)
    if len(block) > MAX_BLOCK:
        raise CommandError(f"variables must be {MAX_BLOCK} characters or fewer together", field="variables")
    return block


def as_text(value: Scalar) -> str:
    """A JSON scalar as FreeSWITCH would write it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _refused(place: str, what: str) -> CommandError:
    """The error of a field, or of what is in one: `variables: name`."""
    return CommandError(f"{place} {what}", field=place.partition(":")[0])


def plain_uuid(field: str, uuid: str) -> str:
    """`uuid`, which must be fit for a channel. Raises CommandError."""
    if not _PLAIN_UUID.match(uuid):
        raise _refused(field, "must contain only letters, digits and _ . : @ -")
    return uuid


def read_endpoint(endpoint: str) -> Dial:
    """What FreeSWITCH will make of an endpoint. Raises CommandError if it would misread it, or could crash."""
    _check_split("endpoint", endpoint.translate(_QUOTING) if "\\" in endpoint or "'" in endpoint else endpoint)
    if _BREAKS.search(endpoint):
        raise _refused("endpoint", r"can't hold \n, \r, \t or a control character, which would end or cut a command")
    try:
        dial = read(endpoint)
    except Misread as fault:
        raise _refused("endpoint", f"can't hold {fault}") from None
    for name, value in dial.pairs():
        _check_ours("endpoint", name)
        if name.lower() == "origination_uuid" and value:
            plain_uuid("endpoint: origination_uuid", value)
    return dial


def with_uuid(endpoint: str, uuid: str) -> str:
    """An endpoint of several legs, of which the first gets this uuid. Raises CommandError.

    With one uuid for all of them mod_sofia would call only one: "Duplicate UUID!", switch_core_session.c,
    switch_core_session_request_uuid.
    """
    at = first_leg(endpoint)
    found = f"{endpoint[:at]}[origination_uuid={uuid}]{endpoint[at:]}"
    try:
        same = [each.target for each in read(found).legs] == [each.target for each in read(endpoint).legs]
    except Misread:
        same = False
    if not same:
        raise CommandError("uuid can't be given to an endpoint that begins like this", field="uuid")
    return found


def check_call(dial: Dial, variables: Mapping[str, str], others: Mapping[str, str]) -> None:
    """Raises CommandError for what FreeSWITCH would take apart, and for what it would die of.

    `variables` are those of the request, `others` its other fields that become part of the text.
    """
    for name, value in variables.items():
        _check_ours("variables", name)
        if SPLIT in name or SPLIT in value:
            raise _refusal(name, f"{SPLIT}, which would split the call")
        if name.lower() == "origination_uuid" and value:
            plain_uuid("variables: origination_uuid", value)
    for field, value in others.items():
        _check_split(field, value)
    if any(leg.kind not in NO_PHONES for leg in dial.legs):
        _check_caller_id("", [(f"origination_{field}", value) for field, value in others.items()])
        _check_caller_id("variables: ", variables.items())
        _check_caller_id("endpoint: ", dial.pairs())
    _check_fatal(dial, [*variables.items(), *dial.variables])


def _check_caller_id(where: str, pairs: Iterable[tuple[str, str]]) -> None:
    """What a telephone would show otherwise, or not get at all. Seen on the wire.

    Source: switch_utils.h, switch_sanitize_number, which cuts at `/`, `:` and `@`; mod_sofia.h, check_decode, which
    decodes %41 and cuts at quotes; the name stands in quotes in the From header, so a backslash in it is an escape.
    """
    for name, value in pairs:
        bad = CALLER_ID.get(name.lower())
        if bad and value:
            field = f"{where}{name}" if where else name.removeprefix("origination_")
            if found := next((char for char in value if char in bad), "") or _HEX.search(value):
                what = found if isinstance(found, str) else found[0]
                raise _refused(field, f"can't hold {what}, with which a phone would show something else")
            if value.lower() == "_undef_":
                raise _refused(field, "can't be _undef_: a phone would show nothing")


def destination_text(field: str, text: str) -> tuple[str, str]:
    """What to send for an extension or `&app(args)`, and the dialplan for it, empty for that of the request.

    `&app(args)` ends for FreeSWITCH at the first `)`. With one in its arguments it is sent as a dialplan of one
    application, whose arguments may hold anything. Source: mod_commands.c, originate_function; mod_dptools.c,
    inline_dialplan_hunt. Raises CommandError for what would not arrive whole.
    """
    check_extension(field, text)
    if not text.startswith("&") or len(text) < 2:
        return text, ""
    if "\\'" in text:  # switch_caller.c, switch_caller_extension_add_application
        raise _refused(field, "can't hold \\', for which FreeSWITCH leaves the application out")
    end = text.find(")")
    if end < 0 or end == len(text) - 1:
        return text, ""
    name, bracket, args = text[1:].partition("(")
    if not bracket or not args.endswith(")") or ")" in name or ":" in name:
        raise _refused(field, "can't hold text behind its last ), which FreeSWITCH would cut off")
    args = args[:-1]
    delimiter = next((each for each in "^|~;!#%&*+=<>?@_-ABCDEFGHIJ" if each not in text), "")
    if not delimiter:
        raise _refused(field, "can't hold a ) with so many other characters")
    inner = args.strip(" ")
    before = len(args) - len(args.lstrip(" "))
    escaped = inner.replace("\\", "\\\\").replace("'", "\\'")
    blanks = "\\s" * before, "\\s" * (len(args) - before - len(inner))
    return f"m:{delimiter}:{name}:{blanks[0]}{escaped}{blanks[1]}", "inline"


def check_extension(field: str, text: str) -> None:
    """Raises CommandError for the extension of which FreeSWITCH dies (mod_commands.c, originate_function)."""
    if text.strip(" ").lower() == "undef":
        raise _refused(field, "can't be undef: FreeSWITCH would abort")


def check_console(verb: str, args: str) -> None:
    """An API verb with its arguments, in which an originate may be that FreeSWITCH would die of. Raises CommandError.

    For `originate` behind another verb (bgapi, expand, sched_api, `${originate(…)}`) and `Originate` in another case,
    which is an API verb like any other; nothing else is looked at.
    """
    text = f"{verb} {args}"
    if "originate" not in text.lower() and "'" not in text and "\\" not in text:
        return  # most are quicker than a search
    # The first one need not be it: a group of tasks and a job may have this name, too.
    for number, found in enumerate(_ORIGINATE.finditer(text), 1):
        if number > MOST_CONSOLE:  # what can't be read in time is not let through
            what = f"originate must stand {MOST_CONSOLE} times or fewer in the arguments of a verb"
            raise CommandError(what, field="args")
        if len(text) - found.end() > MAX_CONSOLE:
            raise CommandError(f"the arguments of originate must be {MAX_CONSOLE} characters or fewer", field="args")
        with suppress(Misread):  # FreeSWITCH says so itself
            _check_arguments(arguments(text[found.end() :], 3))


def _check_arguments(words: list[str]) -> None:
    """Those of an originate; the third one is whatever follows. Raises Misread, CommandError."""
    if len(words) > 1:
        check_extension("extension", _WORD_ENDS.split(words[1].translate(_QUOTING))[0])
    if words:
        dial = read(words[0])
        _check_fatal(dial, dial.variables)


def _check_fatal(dial: Dial, common: Iterable[tuple[str, str]]) -> None:
    """What FreeSWITCH 1.10.12 dies of (SIGSEGV), seen on a real one.

    switch_ivr_originate.c: a failed leg with hangup_on_single_reject and without fail_on_single_reject is looked up in
    a list that is not there; of a group with a required leg that ends, all legs are hung up, those too that never were.
    """
    pairs = [(name.lower(), value) for name, value in common]
    names = {name for name, _ in pairs}
    if _says("hangup_on_single_reject", pairs) and "fail_on_single_reject" not in names:
        raise CommandError("hangup_on_single_reject needs fail_on_single_reject: FreeSWITCH would crash")
    for group in dial.alternatives:
        if len(group) > 1:
            own = [(name.lower(), value) for leg in group for name, value in leg.variables]
            if _says("leg_required", pairs + own):
                raise CommandError("leg_required can't be used with several legs: FreeSWITCH would crash")


def _says(wanted: str, pairs: Pairs) -> bool:
    return any(name == wanted and true(value) for name, value in pairs)


def _check_split(field: str, text: str) -> None:
    if SPLIT in text:
        raise _refused(field, f"can't hold {SPLIT}, which would split the call")


def _check_ours(field: str, name: str) -> None:
    """`name[3]` is an array of that name to FreeSWITCH."""
    if name.partition("[")[0].lower() in OURS:
        raise _refused(f"{field}: {name.partition('[')[0]}", "is set by the agent only")


def _checked_name(name: str) -> str:
    if not _NAME.match(name):
        raise CommandError("variables must have names of letters, digits and _ . : - (at most 128)", field="variables")
    return name


def _escaped(name: str, value: Scalar, brackets: str) -> str:
    text = as_text(value)
    if "${" in text or "$${" in text:
        raise _refusal(name, "${, which FreeSWITCH would expand")
    if text.startswith("ARRAY::"):
        raise _refusal(name, "ARRAY:: at its beginning, which FreeSWITCH would take apart")
    if not _balanced(text, "{}"):
        raise _refusal(name, "unbalanced braces, which would end the block of variables")
    if brackets != "{}" and not _balanced(text, brackets):
        raise _refusal(name, f"unbalanced {brackets}, which would end the block of variables")
    return text.translate(_ESCAPES)


def _refusal(name: str, what: str) -> CommandError:
    return _refused(f"variables: {name}", f"can't hold {what}")


def _balanced(text: str, brackets: str) -> bool:
    opening, closing = brackets[0], brackets[1]
    if opening not in text and closing not in text:
        return True
    depth = 0
    for each in text:
        if each == opening:
            depth += 1
        elif each == closing:
            depth -= 1
            if depth < 0:
                return False
    return depth == 0


def as_word(text: str) -> str:
    """One argument of `originate` without quotes: what it was before FreeSWITCH cut it out of all of them."""
    return text.translate(_WORD)


def quoted(text: str) -> str:
    """One argument of `originate` that may hold blanks."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
