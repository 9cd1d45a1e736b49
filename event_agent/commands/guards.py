"""What may be run at all: the deny and allow lists, looked through whatever could hide a verb or an application.

Three ways of looking, each as narrow as it can be: the verb inside a verb that runs one (`bgapi fsctl`) is checked
like any other; `${verb(…)}`, which FreeSWITCH runs wherever it stands, too; and where names can stand in many places
(destinations, variables that name what to run later), any word of the text that is on a list is refused.
What this can and cannot do is told in docs/SECURITY.md; NATS permissions are the first line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from event_agent.errors import CommandError

# Verbs that run the verb at this word of their arguments. Source: mod_commands.c.
_RUNS_VERB = {"bgapi": 0, "expand": 0, "xml_wrap": 0, "sched_api": 2}
# Verbs and applications that can run an application, named somewhere in their arguments.
_RUNS_APP = frozenset({
    "originate", "uuid_transfer", "uuid_dual_transfer", "uuid_broadcast", "uuid_zombie_exec", "sched_broadcast",
    "sched_transfer", "event_channel_broadcast", "uuid_execute",
    "transfer", "execute_extension", "bind_meta_app", "bind_digit_action", "att_xfer", "blind_transfer_ack",
    "limit_execute", "limit_hash_execute", "tone_detect",
})  # fmt: skip
# What hints at a variable, or a JSON command, that names a verb or an application to be run later.
_LATER = re.compile(r"api|hook|exec|fsapi|inline|post_|pre_", re.IGNORECASE)
_IN_BRACES = re.compile(r"\$\{\s*([^\s(){}]+)\s*[(\s]([^}]*)")
_NESTED = re.compile(r"\$\{[^}]*\$\{")
_WORD = re.compile(r"\w+")
MAX_DEPTH = 8  # verbs within verbs


class Guards:
    """The lists in force; replaced as a whole when the configuration is read again. Any thread may ask."""

    def __init__(self) -> None:
        self.set((), (), ())

    def set(
        self, api_denylist: tuple[str, ...], api_allowlist: tuple[str, ...], app_denylist: tuple[str, ...]
    ) -> None:
        """Hold to these lists from now on; names in any case."""
        denied = frozenset(each.lower() for each in api_denylist)
        allowed = frozenset(each.lower() for each in api_allowlist)
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
            self._api(verb, args, 0)

    def check_app(self, app: str, args: str) -> None:
        """Raises CommandError for an application that is not to be run, or arguments that would run such a thing."""
        if not self.idle:
            self._app(app)
            self._text(args, 0)
            if app.lower() in _RUNS_APP or _LATER.search(args):
                self._anywhere(args)

    def check_call(self, endpoint: str, destination: str, variables: Mapping[str, str]) -> None:
        """Raises CommandError for a call that would run what is not to be run."""
        if self.idle:
            return
        self._text(endpoint, 0)
        if _LATER.search(endpoint):
            self._anywhere(endpoint)
        self._text(destination, 0)
        self._apps_in(destination)
        for name, value in variables.items():
            self._text(value, 0)
            if _LATER.search(name):
                self._anywhere(value)

    def _api(self, verb: str, args: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise CommandError("API commands are nested too deeply")
        self._verb(verb)
        self._text(args, depth)
        key = verb.lower()
        at = _RUNS_VERB.get(key)
        if at is not None:
            if key == "expand" and args.lstrip().startswith("uuid:"):
                at = 1  # expand uuid:<uuid> <verb> <args>
            words = args.split(None, at + 1)
            if at < len(words):
                self._api(words[at], words[at + 1] if at + 1 < len(words) else "", depth + 1)
        elif _LATER.search(args) or key == "json":
            self._anywhere(args)
        if key in _RUNS_APP:
            self._apps_in(args)

    def _text(self, text: str, depth: int) -> None:
        """`${verb(args)}` and `${verb args}` in any argument: FreeSWITCH would run it."""
        if "${" in text:
            if _NESTED.search(text):
                raise CommandError("${…} within ${…} is denied: what it would run can't be seen")
            for match in _IN_BRACES.finditer(text):
                self._api(match.group(1), match.group(2).rstrip(")"), depth + 1)

    def _anywhere(self, text: str) -> None:
        """Text in which names can stand at many places."""
        denied = self._lists[0]
        for word in _WORD.findall(text):
            if word.lower() in denied:
                raise CommandError(f"API command '{word}' is denied")
        self._apps_in(text)

    def _apps_in(self, text: str) -> None:
        if self._lists[2] and "${" in text:
            raise CommandError("${…} is denied where an application is named: what it would run can't be seen")
        for word in _WORD.findall(text):
            self._app(word)

    def _verb(self, name: str) -> None:
        denied, allowed, _ = self._lists
        if name.lower() in denied or (allowed and name.lower() not in allowed):
            raise CommandError(f"API command '{name}' is denied")

    def _app(self, name: str) -> None:
        if name.lower() in self._lists[2]:
            raise CommandError(f"Application '{name}' is denied")
