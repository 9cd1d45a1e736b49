"""A program decides over calls: what it is asked, what it may answer, and what FreeSWITCH is to do then.

Pure functions; any thread may call them. Whatever an answer holds, it becomes one extension of known applications with
arguments that arrive as they stand, or it is refused as a whole. Source for what FreeSWITCH does to an action's data:
switch_xml.c, expand_vars (`$${…}` in any XML that it reads); switch_core_session.c, switch_core_session_exec;
switch_caller.c, switch_caller_extension_add_application (`\\'`); switch_event.c, switch_event_expand_headers_check;
mod_dptools.c, transfer_function; all of 1.10.12.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from event_agent.errors import CommandError
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.validation import Form, boolean, enum, spelled, string

FALLBACKS = ("dialplan", "park")
ACTIONS = ("park", "dialplan", "transfer", "hangup", "apps")
TIMEOUT, SHORTEST, LONGEST = 0.8, 0.1, 5.0  # seconds
VARIABLES = 64  # that are told of a call
NAME = 127  # characters of the name of one
APPS = 64  # applications in an answer
ANSWER = 65536  # bytes of an answer
VARIABLE = "variable_"  # what FreeSWITCH puts before the name of a channel variable
ROUTED = "event_agent_routed"  # channel variable on a call that a program has sent on: it is not asked about again

Check = Callable[[str, str], None]  # an application and its arguments; raises CommandError if it must not be run
Action = tuple[str, str]


@dataclass(frozen=True)
class Route:
    """What dialplan.route sets. Empty `contexts` and `number` mean any, an empty `subject` the default."""

    enabled: bool = False
    subject: str = ""
    timeout: float = TIMEOUT
    contexts: tuple[str, ...] = ()
    number: str = ""
    excepted: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    fallback: str = FALLBACKS[0]


@dataclass(frozen=True)
class Decision:
    """One of ACTIONS, and for the last three what FreeSWITCH is to run."""

    action: str
    actions: tuple[Action, ...] = ()


# -- the question

# What is asked, and where it stands in what mod_xml_curl posts: the profile that is being routed, then the caller's.
_ASKED = (
    ("direction", ("Call-Direction",)),
    ("caller_id_name", ("Hunt-Caller-ID-Name", "Caller-Caller-ID-Name")),
    ("caller_id_number", ("Hunt-Caller-ID-Number", "Caller-Caller-ID-Number")),
    ("destination", ("Hunt-Destination-Number", "Caller-Destination-Number")),
    ("context", ("Hunt-Context", "Caller-Context")),
    ("network_addr", ("Hunt-Network-Addr", "Caller-Network-Addr")),
)
NEEDED = tuple(dict.fromkeys(name for _, names in _ASKED for name in names))


def question(node_id: str, route: Route, params: Mapping[str, str]) -> bytes:
    """What a program is asked about the call that mod_xml_curl's POST describes."""
    asked: dict[str, Any] = {"node_id": node_id, "uuid": params.get("Unique-ID", "")}
    for field, names in _ASKED:
        asked[field] = next((params[name] for name in names if params.get(name)), "")
    posted = ((name, params.get(f"{VARIABLE}{name}")) for name in route.variables)
    asked["variables"] = {name: value for name, value in posted if value is not None}
    return to_utf8(dump_json(asked))


# -- the answer

# No quote, no backslash and no `$`: FreeSWITCH takes the arguments of `transfer` apart at blanks and unquotes them. One
# that begins with `-` is an option, with `^^` another separator, with `%` a block of variables.
_PLAIN = re.compile(r"[^\s\x00-\x1f\x7f\\'\"$\ud800-\udfff]*\Z")
_TARGET = re.compile(r"(?![-%]|\^\^)")
_PART = spelled(_PLAIN, "hold no white space, control characters, quotes, \\ and $", {}, "")


def _target(name: str, text: str) -> None:
    _PART.check(name, text)
    if not _TARGET.match(text):
        raise CommandError(f"{name} must not begin with -, % or ^^")


_CONTROL = re.compile("[\0-\x1f\x7f\ud800-\udfff\ufffe\uffff]")


def _args(name: str, text: str) -> None:
    if _CONTROL.search(text):
        raise CommandError(f"{name} must not contain line breaks, control characters or what is no Unicode text")


_WORD = re.compile(r"[A-Za-z0-9_.:-]+\Z", re.ASCII)
ACTION = enum("action", *ACTIONS)
EXTENSION = string("extension", 1, 255, form=Form(_target))
CONTEXT = string("context", 1, 127, form=_PART).optional("")
DIALPLAN = string("dialplan", 1, 63, form=_PART).optional("")
CAUSE = string("cause", 1, 63, form=spelled(_WORD, "be the name or number of a cause", {}, "")).optional(
    "NORMAL_CLEARING"
)
APP = string("app", 1, 63, form=spelled(_WORD, "be the name of an application", {}, ""))
ARGS = string("args", form=Form(_args)).optional("")
EXPAND = boolean("expand").optional(False)


def decision(data: bytes, check: Check) -> Decision:
    """What an answer says. Raises CommandError for one that is not valid, or wants what must not be run."""
    if len(data) > ANSWER:
        raise CommandError(f"it has {len(data)} bytes; {ANSWER} are allowed")
    try:
        answer = json.loads(data.decode())
    except (ValueError, RecursionError):
        raise CommandError("it is not JSON") from None
    if not isinstance(answer, dict):
        raise CommandError("it is no JSON object")
    action = ACTION(answer)
    if action == "transfer":
        found: tuple[Action, ...] = (("transfer", _transfer(answer)),)
    elif action == "hangup":
        found = (("hangup", CAUSE(answer)),)
    elif action == "apps":
        found = _apps(answer)
    else:
        return Decision(action)
    for app, args in found:
        check(app, args)
    if action == "apps" and not EXPAND(answer):
        found = tuple((app, _kept(args)) for app, args in found)
    return Decision(action, found)


def _transfer(answer: Mapping[str, object]) -> str:
    extension, context, dialplan = EXTENSION(answer), CONTEXT(answer), DIALPLAN(answer)
    if not context and not dialplan:
        return extension  # in the call's own
    return f"{extension} {dialplan or 'XML'} {context}".rstrip()


def _apps(answer: Mapping[str, object]) -> tuple[Action, ...]:
    apps, expand = answer.get("apps"), EXPAND(answer)
    if not isinstance(apps, list) or not 1 <= len(apps) <= APPS:
        raise CommandError(f"apps must be a list of 1 to {APPS} objects")
    found = []
    for number, each in enumerate(apps, 1):
        if not isinstance(each, dict):
            raise CommandError(f"apps: the entry number {number} is no object")
        try:
            app, args = APP(each), ARGS(each)
            if "$${" in args:
                raise CommandError("args can't hold $${…}, which FreeSWITCH would expand in any XML")
            if "\\'" in args:
                raise CommandError("args can't hold \\', for which FreeSWITCH leaves the application out")
            if not expand:
                _check_plain(args)
        except CommandError as error:
            raise CommandError(f"apps: the entry number {number}: {error}") from None
        found.append((app, args))
    return tuple(found)


_QUOTING = str.maketrans("", "", "\\'\"")
_SCOPE = re.compile(r"%.?\[")


def _check_plain(args: str) -> None:
    """An application may expand its arguments once more, so no escape would keep `${…}` from being run."""
    if "$" in args and "${" in args.translate(_QUOTING):
        raise CommandError('args can\'t hold ${…} without "expand": true')
    if _SCOPE.match(args):
        raise CommandError('args can\'t begin with %[…] without "expand": true')


def _kept(args: str) -> str:
    """Arguments that arrive as they stand: FreeSWITCH removes the backslashes of escapes."""
    return args.replace("\\", "\\\\").replace("$", "\\$") if "\\" in args else args
