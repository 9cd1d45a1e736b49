"""What may be run at all: the deny and allow lists, looked through whatever could hide a verb or an application.

Three ways of looking, each as narrow as it can be: the verb inside a verb that runs one (`bgapi fsctl`) is checked
like any other; `${verb(…)}`, which FreeSWITCH runs wherever it expands a text, too; and where names can stand in many
places (destinations, variables that name what to run later), any word of the text that is on a list is refused.
What this can and cannot do is told in docs/SECURITY.md; NATS permissions are the first line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from event_agent.commands.hidden import expansions, inner_commands, spellings, words
from event_agent.errors import CommandError

# Verbs and applications that can run an application, named somewhere in their arguments.
_RUNS_APP = frozenset({
    "originate", "uuid_transfer", "uuid_dual_transfer", "uuid_broadcast", "uuid_zombie_exec", "sched_broadcast",
    "sched_transfer", "event_channel_broadcast", "uuid_execute", "uuid_deflect", "uuid_redirect", "page",
    "transfer", "execute_extension", "bind_meta_app", "bind_digit_action", "att_xfer", "blind_transfer_ack",
    "limit", "limit_hash", "limit_execute", "limit_hash_execute", "tone_detect", "broadcast", "deflect",
    "redirect", "play_and_get_digits",
})  # fmt: skip
# What hints at a variable, an endpoint or a JSON command that names a verb or an application to be run now or later:
# api_on_…, …_hook, execute_on_…, exec_after_…, bridge_pre_execute_…, record_post_process_exec_…, group_confirm_…,
# transfer_after_bridge, …_fallback_…, park_timeout, …_exten, …_dialplan, loopback/app=…, hold_music=app::arguments.
_LATER = (
    "api", "hook", "exec", "app", "inline", "post_", "pre_", "confirm", "transfer", "fallback", "park_", "dialplan",
    "exten", "bind_", "system_on_", "::",
)  # fmt: skip
_RUNS_API_LATER = re.compile(r"api_|_api|_hook|fsapi", re.IGNORECASE)
# Applications that set a variable: `name=value`.
_SETS = frozenset({"set", "export", "bridge_export", "push", "unshift", "multiset", "set_global", "set_profile_var"})
_SAME = {"...": "shutdown", "break": "uuid_break", "pause": "uuid_pause"}  # two names of one verb
# mod_spandsp runs what variables of these names hold as a shell command.
_RUNS_SHELL = re.compile("system_on_", re.IGNORECASE)
MAX_DEPTH = 8  # verbs within verbs
MAX_TEXT = 16384  # characters that are looked through in one request; what is longer is refused


class Guards:
    """The lists in force; replaced as a whole when the configuration is read again. Any thread may ask."""

    def __init__(self) -> None:
        self.set((), (), ())

    def set(
        self, api_denylist: tuple[str, ...], api_allowlist: tuple[str, ...], app_denylist: tuple[str, ...]
    ) -> None:
        """Hold to these lists from now on; names in any case."""
        denied = frozenset(_key(each) for each in api_denylist)
        allowed = frozenset(_key(each) for each in api_allowlist)
        apps = frozenset(each.lower() for each in app_denylist)
        self._lists = (denied, allowed, apps)

    @property
    def idle(self) -> bool:
        """True while all lists are empty: everything may be run, and nothing is looked through."""
        return not any(self._lists)

    def check_builtin(self, name: str) -> None:
        """Raises CommandError for a built-in command that is not to be run."""
        self._verb(name)

    def check_api(self, verb: str, args: str) -> None:
        """Raises CommandError for an API verb that is not to be run, or that would run one that is not."""
        if not self.idle:
            _fits(len(args))
            self._api(verb, args, 0)

    def check_app(self, app: str, args: str) -> None:
        """Raises CommandError for an application that is not to be run, or arguments that would run such a thing."""
        if self.idle:
            return
        _fits(len(args))
        for word in words(app):
            self._app(word, app)
        self._text(args, 0)
        key = app.lower()
        if key in _SETS and "${" in args.partition("=")[0]:
            raise CommandError("${…} is denied in a variable's name: what it would set can't be seen")
        if key in _RUNS_APP or _later(args):
            self._anywhere(args)

    def check_call(self, endpoint: str, destination: str, variables: Mapping[str, str], *others: str) -> None:
        """Raises CommandError for a call that would run what is not to be run; `others` name nothing that is run."""
        if self.idle:
            return
        _fits(len(endpoint) + len(destination) + sum(len(name) + len(text) for name, text in variables.items()))
        for text in (endpoint, destination, *others):
            self._text(text, 0)
        if _later(endpoint):
            self._anywhere(endpoint)
        self._apps_in(destination)
        if _later(destination):
            self._anywhere(destination)
        for name, value in variables.items():
            self._text(value, 0)
            if _later(name) or "::" in value:
                self._anywhere(f"{name}={value}")

    def _api(self, verb: str, args: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise CommandError("API commands are nested too deeply")
        self._verb(verb)
        self._text(args, depth)
        key = verb.lower()
        inner = inner_commands(key, args)
        for each, its_args in inner:
            self._api(each, its_args, depth + 1)
        if not inner and _later(args):
            self._anywhere(args)
        if key in _RUNS_APP:
            self._apps_in(args)

    def _text(self, text: str, depth: int) -> None:
        """`${verb(args)}` and `${verb args}` in any argument: FreeSWITCH would run it."""
        for verb, args in expansions(text):
            self._api(verb, args, depth + 1)

    def _anywhere(self, text: str) -> None:
        """Text in which names can stand at many places."""
        denied, allowed, _ = self._lists
        for word in set(words(text)):
            if _key(word) in denied:
                raise CommandError(f"API command '{_as_written(word, text)}' is denied")
        if allowed and any(_RUNS_API_LATER.search(each) for each in spellings(text)):
            raise CommandError("api_… and …_hook are denied while there is an api_allowlist")
        if any(_RUNS_SHELL.search(each) for each in spellings(text)):
            self._verb("system")
            self._app("system", "system")
        self._apps_in(text)

    def _apps_in(self, text: str) -> None:
        if not self._lists[2]:
            return
        if any("${" in each for each in spellings(text)):
            raise CommandError("${…} is denied where an application is named: what it would run can't be seen")
        for word in set(words(text)):
            self._app(word, text)

    def _verb(self, name: str) -> None:
        denied, allowed, _ = self._lists
        key = _key(name)
        if key in denied or (allowed and key not in allowed):
            raise CommandError(f"API command '{name}' is denied")

    def _app(self, word: str, text: str) -> None:
        if word in self._lists[2]:
            raise CommandError(f"Application '{_as_written(word, text)}' is denied")


def _key(name: str) -> str:
    name = name.lower()
    return _SAME.get(name, name)


def _fits(length: int) -> None:
    if length > MAX_TEXT:
        raise CommandError(f"Arguments of more than {MAX_TEXT} characters are denied while a list is in force")


def _later(text: str) -> bool:
    lower = text.lower()
    if any(hint in lower for hint in _LATER):
        return True
    return any(hint in each for each in spellings(lower)[1:] for hint in _LATER)


def _as_written(word: str, text: str) -> str:
    """A word found in `text`, for a message: in the case in which it stands there."""
    at = text.lower().find(word)
    return text[at : at + len(word)] if at >= 0 else word
