"""What may be run at all: the deny and allow lists, looked through whatever could hide a verb or an application.

The verb inside a verb that runs one (`bgapi fsctl`) is checked like any other; `${verb(…)}`, which FreeSWITCH runs
wherever it expands a text, too; and where names can stand in many places (dial strings, extensions, variables that
name what to run later), any word of the text that is on a list is refused. Whatever changes how the rest is read, or
is known only inside FreeSWITCH, is refused there instead of followed.
What this can and cannot do is told in docs/SECURITY.md; NATS permissions are the first line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from event_agent.commands import inner
from event_agent.commands.hidden import FLAT, Text, arguments, as_words, expansions
from event_agent.errors import CommandError

# Verbs and applications that run an application, an extension or a dial string named somewhere in their arguments.
_RUNS = frozenset({
    "originate", "uuid_transfer", "uuid_dual_transfer", "uuid_broadcast", "uuid_zombie_exec", "sched_broadcast",
    "sched_transfer", "uuid_execute", "uuid_deflect", "uuid_redirect", "uuid_limit", "page", "fifo_member",
    "fifo_add_outbound",
    "transfer", "execute_extension", "bind_meta_app", "bind_digit_action", "att_xfer", "blind_transfer_ack",
    "limit", "limit_hash", "limit_execute", "limit_hash_execute", "tone_detect", "broadcast", "deflect",
    "redirect", "play_and_get_digits", "dial", "goto", "conference_set_auto_outcall", "valet_park",
})  # fmt: skip
# What hints at a variable, an endpoint or a JSON command that names a verb or an application to be run now or later:
# api_on_…, …_hook, execute_on_…, exec_after_…, bridge_pre_execute_…, record_post_process_exec_…, group_confirm_…,
# transfer_after_bridge, …_fallback_…, park_timeout, …_orbit_…, …_exten, …_dialplan, valet_…, hold_hangup_xfer_exten,
# page_data, page_dp, conference_auto_outcall_prefix, loopback/…, conference's bridge:…, hold_music=app::arguments.
_LATER = (
    "api", "hook", "exec", "app", "inline", "post_", "pre_", "confirm", "transfer", "fallback", "park_",
    "dialplan", "exten", "bind_", "system_on_", "::", "loopback", "valet_", "orbit", "xfer", "bridge:",
    "shell_stream", "page_", "outcall",
)  # fmt: skip
# The same in the value of any variable, whatever its name is: others are plain text there.
_LATER_IN_VALUES = ("::", "shell_stream", "loopback/")
_RUNS_API_LATER = ("api_", "_api", "_hook", "fsapi", "api:")
# mod_spandsp runs what variables of these names hold as a shell command; mod_shell_stream, the name of a file.
_RUNS_SHELL = ("system_on_", "shell_stream")
# Applications that set a variable: what stands between its name and its value.
_SETS = {
    "set": "=", "export": "=", "bridge_export": "=", "push": "=", "unshift": "=", "multiset": "=",
    "set_global": "=", "set_profile_var": "=", "strftime": "=", "capture": "|",
}  # fmt: skip
# Verbs whose answer is what they are given, or of figures: it brings no `${…}` of its own into a variable's value,
# which FreeSWITCH expands once more (mod_dptools.c, base_set).
_ANSWERS_PLAINLY = frozenset({
    "strftime", "strftime_tz", "strepoch", "strmicro", "expr", "md5", "create_uuid", "hostname", "switchname", "regex",
    "replace", "cond", "toupper", "tolower", "url_encode", "user_exists", "user_data", "domain_exists", "in_group",
    "sofia_contact", "group_call", "limit_usage", "uptime", "version", "acl", "global_getvar", "uuid_getvar", "hash",
    "db", "file_exists", "module_exists", "uuid_exists", "is_lan_addr", "interface_ip",
})  # fmt: skip
# Where among their arguments the dialplan stands that is asked for an extension.
_DIALPLAN_OF_VERB = {"originate": 2, "uuid_transfer": 2, "sched_transfer": 3, "uuid_limit": 6}
_DIALPLAN_OF_APP = {"transfer": 1, "sched_transfer": 2, "execute_extension": 1, "limit": 5}
_ASKS_DIALPLAN = frozenset({*_DIALPLAN_OF_VERB, "uuid_dual_transfer"})
_DIALPLANS = frozenset({"xml", "inline", ""})  # others run scripts, such as LUA, or can't be seen through
_LEG = ("-bleg", "-both")

_OTHER_SEPARATOR = re.compile(r"(?<![a-z0-9_])\^\^")  # switch_utils.c, switch_separate_string
_NEEDS_A_LOOK = re.compile(r"[$^]|::|:_")  # in the value of a variable
_PLAIN = re.compile(r"[\w.-]*\Z", re.ASCII)
_INLINE_SEPARATOR = re.compile(r"(?<![a-z0-9_])m:.:", re.DOTALL)  # mod_dptools.c, inline_dialplan_hunt
_JSON_ESCAPE = re.compile(r"\\u[0-9a-f]{4}")  # cJSON reads it, in what a hook is given
_SCOPE = re.compile(r"(?<![a-z0-9_%])%.?\[", re.DOTALL)  # switch_core_session.c, switch_core_session_exec
_SCOPE_FIRST = re.compile(r" *%.?\[", re.DOTALL)
_LOOPBACK_DIALPLAN = re.compile(r"loopback/(?!app=)[^/,|]*/[^/,|]*/(?!(?:xml|inline)?(?![a-z0-9_]))")
_LUA = re.compile(r"(?:[\s/:]|(?:dialplan|_dp)[= ])lua(?![a-z0-9_(])")
_ASKS_A_DIALPLAN = ("loopback", "transfer", "execute_ext", "exten", "dialplan", "park_", "fallback", "orbit", "page_")
_WHOLE_PIECE = re.compile(r"(?<=/)\$\{[a-z_][a-z0-9_]*\}(?=[@,|:;/]|\Z)")  # of an address: sofia/gateway/gw/${number}
_ESCAPED = re.compile(r"\\['\\$]")  # switch_event.c, switch_event_expand_headers_check, takes these away
_NAME = re.compile(r"[a-z0-9_]+\Z")

_SAME = {"...": "shutdown", "break": "uuid_break", "pause": "uuid_pause"}  # two names of one verb
MAX_DEPTH = 8  # verbs within verbs
MAX_TEXT = 16384  # characters that are looked through in one request; what is longer is refused

_UNSEEN = "is denied: what it would run can't be seen"
_NO_EXPANSION = "${…} is denied where it could name what is run"


class _Lists:
    """The lists, made ready for comparing. Never changed."""

    __slots__ = ("denied", "allowed", "apps", "denied_words", "denied_others", "app_words", "app_others")

    def __init__(self, denied: Iterable[str], allowed: Iterable[str], apps: Iterable[str]) -> None:
        self.denied = frozenset(_key(each) for each in denied)
        self.allowed = frozenset(_key(each) for each in allowed)
        self.apps = frozenset(each.lower() for each in apps)
        names = self.denied | {other for other, name in _SAME.items() if name in self.denied}
        self.denied_words, self.denied_others = _words_and_others(names)
        self.app_words, self.app_others = _words_and_others(self.apps)


class Guards:
    """The lists in force; replaced as a whole when the configuration is read again. Any thread may ask."""

    def __init__(self) -> None:
        self.set((), (), ())

    def set(
        self, api_denylist: tuple[str, ...], api_allowlist: tuple[str, ...], app_denylist: tuple[str, ...]
    ) -> None:
        """Hold to these lists from now on; names in any case."""
        self._lists = _Lists(api_denylist, api_allowlist, app_denylist)
        self._idle = not (api_denylist or api_allowlist or app_denylist)

    @property
    def idle(self) -> bool:
        """True while all lists are empty: everything may be run, and nothing is looked through."""
        return self._idle

    def check_builtin(self, name: str) -> None:
        """Raises CommandError for a built-in command that is not to be run."""
        self._verb(name)

    def check_api(self, verb: str, args: str) -> None:
        """Raises CommandError for an API verb that is not to be run, or that would run one that is not."""
        if not self._idle:
            _fits(len(args))
            self._api(verb, args, 0)

    def check_app(self, app: str, args: str) -> None:
        """Raises CommandError for an application that is not to be run, or arguments that would run such a thing."""
        if not self._idle:
            _fits(len(args))
            self._application(app, args, 0)

    def check_event(self, text: str) -> None:
        """Raises CommandError for an event, `text` being all of it, that would have something run that is not to be.

        The application `event` does the same, so both are looked at in one way.
        """
        self.check_app("event", text)

    def check_call(
        self, endpoint: str, destination: str, variables: Mapping[str, str], dialplan: str = "", context: str = ""
    ) -> None:
        """Raises CommandError for a call that would run what is not to be run."""
        if self._idle:
            return
        names, values = "\n".join(variables), "\n".join(variables.values())
        _fits(len(endpoint) + len(destination) + len(names) + len(values))
        for text in (endpoint, context) if context and not _PLAIN.match(context) else (endpoint,):
            seen = self._expanded(text, 0)
            if seen.hints(_LATER):
                self._words(seen)
            _see_through(seen)
        _check_dialplan(dialplan)
        self._destination(destination)
        if variables:
            self._variables(variables, names, values)

    def _destination(self, destination: str) -> None:
        """`&app(args)` or an extension. Source: mod_commands.c, originate_function."""
        seen = self._expanded(destination, 0)
        self._apps_in(seen)
        is_app = destination.startswith("&")
        if is_app:
            # FreeSWITCH cuts them off at the first `)`; looked at is what stands up to the end.
            app, _, args = destination[1:].partition("(")
            self._application(app, args.removesuffix(")"), 0)
            if "$" in app:
                _see_through(Text(app))
        if seen.hints(_LATER):
            self._words(seen)
        if not is_app:
            _see_through(seen)

    def _variables(self, variables: Mapping[str, str], names: str, values: str) -> None:
        """Of a call; `names` and `values` are all of them, a line each, so that many cost no more than a long one."""
        if _NEEDS_A_LOOK.search(values):
            seen = self._expanded(values, 0)
            if ":_:" in values:
                raise CommandError("variables can't hold :_:, which would begin another call")
            _check_separators(seen)
        if _hints(values, _LATER_IN_VALUES) or Text(names).hints(_LATER):
            later = (
                f"{name}={value}"
                for name, value in variables.items()
                if _hints(value, _LATER_IN_VALUES) or _hints(name, _LATER)
            )
            self._anywhere(Text("\n".join(later)))

    def _api(self, verb: str, args: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise CommandError("API commands are nested too deeply")
        self._verb(verb)
        if not args:
            return
        key = verb.lower()
        seen = self._expanded(args, depth)
        if key in inner.VERBS:
            self._inner(key, args, seen, depth)
        elif seen.hints(_LATER):
            self._anywhere(seen)
        elif key in _RUNS:
            self._apps_in(seen)
            _see_through(seen)
        if seen.marked:
            _check_separators(seen)
        if key in _ASKS_DIALPLAN:
            _check_target(key, args)

    def _inner(self, key: str, args: str, seen: Text, depth: int) -> None:
        """A verb that runs others."""
        found = inner.inner_commands(key, args)
        for verb, its_args in found.verbs:
            self._api(verb, its_args, depth + 1)
        for app, its_args in found.apps:
            self._application(app, its_args, depth + 1)
        for text in found.texts:
            self._anywhere(self._expanded(text, depth + 1))
        if key == "expand":
            if seen.holds("${"):
                raise CommandError(_NO_EXPANSION)
            if _ESCAPED.search(args):
                raise CommandError(f"A backslash before a quote, $ or another {_UNSEEN}")

    def _application(self, app: str, args: str, depth: int) -> None:
        key = app.lower()
        if key in self._lists.apps:
            raise CommandError(f"Application '{app}' is denied")
        if not _NAME.match(key):
            name = Text(app)
            self._apps_in(name)
            if name.holds("::"):  # app::arguments, if no arguments are given
                self._anywhere(name)
        if not args:
            return
        seen = self._expanded(args, depth, key in _SETS)
        if seen.marked:
            self._marked_application(key, seen)
        if key == "event":
            inner.refuse_chat_to_api(seen)  # mod_sms sends what SMS::SEND_MESSAGE holds
        elif key in _RUNS or seen.hints(_LATER):
            self._anywhere(seen)
        if key in _DIALPLAN_OF_APP:
            given = arguments(args)
            shift = 1 if given and given[0] in _LEG else 0
            _check_dialplan(_at(given, _DIALPLAN_OF_APP[key] + shift))

    def _marked_application(self, key: str, seen: Text) -> None:
        """Arguments with quotes, `$`, `%` or `^`."""
        if any(_SCOPE_FIRST.match(each) for each in seen.readings):
            raise CommandError(f"%[…] {_UNSEEN}")
        _check_separators(seen)
        if key in _SETS:
            _check_setting(seen, _SETS[key], key == "multiset")
        elif key == "bridge" and any("${" in _WHOLE_PIECE.sub("", each) for each in seen.readings):
            if seen.hints(_LATER):
                self._words(seen)
            raise CommandError(_NO_EXPANSION)

    def _expanded(self, text: str, depth: int, twice: bool = False) -> Text:
        """`${verb(args)}` and `${verb args}` in any argument: FreeSWITCH would run it."""
        if "$" in text:
            for verb, args in expansions(text):
                self._api(verb, args, depth + 1)
                if twice and verb.lower() not in _ANSWERS_PLAINLY:
                    raise CommandError(f"${{{verb}(…)}} is denied in the value of a variable: its answer can't be seen")
        return Text(text)

    def _anywhere(self, seen: Text) -> None:
        """Text in which names can stand at many places."""
        self._words(seen)
        _see_through(seen)

    def _words(self, seen: Text) -> None:
        lists = self._lists
        found = seen.word(lists.denied_words) or _other(seen, lists.denied_others)
        if found:
            raise CommandError(f"API command '{seen.as_written(found)}' is denied")
        if lists.allowed and seen.hints(_RUNS_API_LATER):
            raise CommandError("api_… and …_hook are denied while there is an api_allowlist")
        if seen.hints(_RUNS_SHELL):
            self._verb("system")
            if "system" in lists.apps:
                raise CommandError("Application 'system' is denied")
        self._apps_in(seen)

    def _apps_in(self, seen: Text) -> None:
        lists = self._lists
        if lists.apps:
            found = seen.word(lists.app_words) or _other(seen, lists.app_others)
            if found:
                raise CommandError(f"Application '{seen.as_written(found)}' is denied")

    def _verb(self, name: str) -> None:
        lists = self._lists
        key = _key(name)
        if key in lists.denied or (lists.allowed and key not in lists.allowed):
            raise CommandError(f"API command '{name}' is denied")


def _key(name: str) -> str:
    name = name.lower()
    return _SAME.get(name, name)


def _words_and_others(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names that are found as words, and those that are not words, such as `...`."""
    words = {each for each in names if _NAME.match(each)}
    return as_words(words), tuple(sorted(set(names) - words))


def _other(seen: Text, names: tuple[str, ...]) -> str | None:
    return next((each for each in names if seen.holds(each)), None)


def _fits(length: int) -> None:
    if length > MAX_TEXT:
        raise CommandError(f"Arguments of more than {MAX_TEXT} characters are denied while a list is in force")


def _see_through(seen: Text) -> None:
    """Refuse, where something is named that is run, whatever changes how it is read or is known only inside."""
    if seen.marked:
        if seen.holds("${"):
            raise CommandError(_NO_EXPANSION)
        _check_separators(seen)
        if seen.holds("\\u") and seen.finds(_JSON_ESCAPE):
            raise CommandError(f"\\u… {_UNSEEN}")
        if seen.holds("%") and seen.finds(_SCOPE):
            raise CommandError(f"%[…] {_UNSEEN}")
    if seen.holds("m:") and seen.finds(_INLINE_SEPARATOR):
        raise CommandError(f"m:…: {_UNSEEN}")
    if seen.holds("loopback/") and seen.finds(_LOOPBACK_DIALPLAN):
        raise CommandError(f"A dialplan other than XML and inline {_UNSEEN}")
    if seen.holds("lua") and seen.hints(_ASKS_A_DIALPLAN) and seen.finds(_LUA):
        raise CommandError(f"Dialplan 'LUA' {_UNSEEN}")
    if seen.holds("outcall_prefix"):  # mod_conference puts it before each number that it calls
        raise CommandError(f"conference_auto_outcall_prefix {_UNSEEN}")


def _check_separators(seen: Text) -> None:
    if seen.holds("^^") and seen.finds(_OTHER_SEPARATOR):
        raise CommandError("^^ is denied at the beginning of an argument: what it would run can't be seen")


def _check_setting(seen: Text, separator: str, several: bool) -> None:
    """`name=${…}` is let through, if the name can be seen and the value makes nothing that is expanded again."""
    for reading in seen.readings:
        if "${" not in reading:
            continue
        for setting in reading.split(" ") if several else (reading,):
            name, _, value = setting.partition(separator)
            if "${" in name:
                raise CommandError("${…} is denied in a variable's name: what it would set can't be seen")
            rest = FLAT.sub("", value)
            if "${" in value and ("$" in rest or "{" in rest):
                raise CommandError("$ and { are denied beside ${…}: what they would make can't be seen")


def _check_target(verb: str, args: str) -> None:
    """The dialplan that a verb asks. Source: mod_commands.c, the functions of these names."""
    given = arguments(args)
    if verb == "uuid_dual_transfer":
        for target in given[1:3]:
            _check_dialplan("" if target.endswith("/inline") else _at(target.split("/"), 1))
        return
    at = _DIALPLAN_OF_VERB[verb]
    if verb == "uuid_transfer" and _at(given, 1).startswith("-"):
        at += 1
    dialplan = _at(given, at)
    if not (verb == "originate" and dialplan == "undef"):  # the default, XML
        _check_dialplan(dialplan)


def _hints(text: str, hints: Iterable[str]) -> bool:
    lower = text.lower()
    return any(hint in lower for hint in hints)


def _at(given: list[str], index: int) -> str:
    return given[index] if index < len(given) else ""


def _check_dialplan(name: str) -> None:
    """Others than XML and inline run scripts, or name what to run behind a colon."""
    if name.strip().lower() not in _DIALPLANS:
        raise CommandError(f"Dialplan '{name}' {_UNSEEN}")
