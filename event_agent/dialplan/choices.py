"""Park mode and routing: what was chosen, which calls are taken, and how that outlasts a restart.

Choices change on the command's thread and are read on the listener's: the whole of them is one immutable value that
is swapped, so no lock is needed. The counter belongs to the listener's thread.

A call is taken when park mode or routing is on, when it is incoming (an originated leg goes where its
originator said), when it lies within the contexts and the number pattern and is none of the exceptions, and when it was
not parked by us before: a parked call that is transferred must reach the normal dialplan. An emergency call is never
taken, and a call that is answered goes on as its dialplan or its operator wants: FreeSWITCH asks again for each
transfer and for execute_extension. Unless it was parked by us and somebody took the mark off to have it parked again:
the seal tells.

Routing goes before park mode. What a program has sent on has a mark as well, and is not taken again.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from event_agent.dialplan.numbers import EXCEPTION, EXCEPTIONS, SPELLING, compile_exceptions, is_emergency, tried
from event_agent.dialplan.pattern import BadPattern, compile_number
from event_agent.dialplan.routing import FALLBACKS, LONGEST, NAME, ROUTED, SHORTEST, VARIABLE, VARIABLES, Action, Route
from event_agent.protocol.validation import strict_subject

log = logging.getLogger(__name__)

AUDIO = ("silence", "ringback", "music")
CONTEXTS = 64  # contexts in a scope
MARK = "event_agent_parked"  # channel variable on a call of ours: the Caller-Profile-Index under which it was parked
SEAL = "event_agent_seal"  # another: proves that the mark is ours, for anybody who makes a call can set variables on it
FILE = "dialplan.json"
MUSIC_CLASS = re.compile(r"[\w.@/-]{0,63}\Z")  # what is safe in a stream's name: no blank, no ${…}, no second stream
_SIZE = 1_000_000  # bytes of a state file that are read
_INDEX = re.compile(r"\d{1,9}\Z", re.ASCII)  # of a caller profile
# Control characters can't stand in XML, and FreeSWITCH replaces $${…} in any XML it reads.
_UNFIT = re.compile("[\0-\x1f\x7f$\ud800-\udfff\ufffe\uffff]")


@dataclass(frozen=True)
class Choices:
    """What dialplan.* commands set. Empty `contexts` and `number` mean any, `excepted` are numbers never taken."""

    enabled: bool = False
    contexts: tuple[str, ...] = ()
    number: str = ""
    audio: str = "ringback"
    music_class: str = ""
    autoanswer: bool = False
    excepted: tuple[str, ...] = ()
    route: Route = Route()

    @property
    def active(self) -> bool:
        """True while calls may be taken."""
        return self.enabled or self.route.enabled


@dataclass(frozen=True)
class _Scope:
    """Which calls are taken, ready for comparing."""

    contexts: frozenset[str]
    matches: Callable[[str], bool] | None
    excepted: Callable[[str], bool] | None

    @classmethod
    def of(cls, contexts: tuple[str, ...], number: str, excepted: tuple[str, ...]) -> _Scope:
        """Raises BadPattern."""
        return cls(
            # FreeSWITCH compares context names without regard to case (switch_xml.c, switch_xml_find_child).
            frozenset(map(str.lower, contexts)),
            compile_number(number) if number else None,
            compile_exceptions(excepted) if excepted else None,
        )

    def takes(self, context: str, number: str) -> bool:
        """True for a call to this number in this context."""
        if self.contexts and context.lower() not in self.contexts:
            return False
        if self.matches is not None and not all(map(self.matches, tried(number))):
            return False
        return not self.excepts(number)

    def excepts(self, number: str) -> bool:
        """True for a number that is never taken."""
        return self.excepted is not None and self.excepted(number)


@dataclass(frozen=True)
class _Policy:
    """The choices, and what they are compiled to."""

    choices: Choices
    parks: _Scope
    routes: _Scope
    variables: frozenset[bytes]

    @classmethod
    def of(cls, choices: Choices) -> _Policy:
        """Raises BadPattern."""
        route = choices.route
        names = route.variables if route.enabled else ()
        return cls(
            choices,
            _Scope.of(choices.contexts, choices.number, choices.excepted),
            _Scope.of(route.contexts, route.number, route.excepted),
            frozenset(f"{VARIABLE}{name}".encode(errors="replace") for name in names),
        )


@dataclass(frozen=True)
class Extension:
    """What FreeSWITCH is to do with a call: an extension's actions, (application, data), in the call's context."""

    context: str
    actions: tuple[Action, ...]


class Manager:
    """Holds the choices and decides over calls."""

    def __init__(self, seal: Callable[[str], str]) -> None:
        """`seal` makes the value of the variable SEAL for a call's uuid."""
        self._seal = seal
        self._policy = _Policy.of(Choices())

    @property
    def choices(self) -> Choices:
        """What is in force."""
        return self._policy.choices

    def choose(self, **changes: Any) -> Choices:
        """Change some of the choices; takes effect on the next call. Raises BadPattern, and then nothing changes."""
        choices = replace(self._policy.choices, **changes)
        self._policy = _Policy.of(choices)
        return choices

    @property
    def variables(self) -> frozenset[bytes]:
        """What of a POST is wanted besides, as it is spelled there."""
        return self._policy.variables

    def decide(self, params: Mapping[str, str]) -> Extension | Route | None:
        """What to do with the call that mod_xml_curl's POST describes; None for the normal dialplan.

        A Route: a program is to be asked. On the listener's thread. Its Unique-ID has been looked at.
        `params`: see tests/fixtures/xml-curl/dialplan-request.txt.
        """
        policy = self._policy
        choices = policy.choices
        if not choices.active or params.get("section") != "dialplan" or params.get("tag_name"):
            return None
        # The Hunt- profile is the one being routed; an answer for another context would make the call fail.
        context = _context(params)
        number = params.get("Hunt-Destination-Number") or params.get("Caller-Destination-Number", "")
        if not context or _UNFIT.search(context) or params.get("Call-Direction", "inbound") != "inbound":
            return None
        if f"variable_{MARK}" in params or f"variable_{ROUTED}" in params:
            return None
        if params.get("Answer-State") == "answered" and not self._sealed(params):
            return None
        if is_emergency(params):
            return None
        # Numbers that are never parked are never routed either: an emergency number need be named only once.
        if choices.route.enabled and policy.routes.takes(context, number) and not policy.parks.excepts(number):
            return choices.route
        if choices.enabled and policy.parks.takes(context, number):
            return self.park(params)
        return None

    def park(self, params: Mapping[str, str]) -> Extension:
        """Park this call."""
        index = params.get("Caller-Profile-Index", "1")
        actions = [
            ("set", f"{MARK}={index if _INDEX.match(index) else 1}"),
            ("set", f"{SEAL}={self._seal(params.get('Unique-ID', ''))}"),
        ]
        if "variable_send_silence_when_idle" not in params:
            # Without it `park` sends no packets at all if nothing plays, and phones hang up on a dead line.
            actions.append(("set", "send_silence_when_idle=-1"))
        # pre_answer, not ring_ready: a 180 brings no audio, and the caller's phone would play a tone of its own.
        actions += [("answer" if self.choices.autoanswer else "pre_answer", ""), ("park", "")]
        return Extension(_context(params), tuple(actions))

    def route(self, params: Mapping[str, str], actions: tuple[Action, ...]) -> Extension:
        """Have this call run these, and do not take it again."""
        return Extension(_context(params), (("set", f"{ROUTED}=true"), *actions))

    def _sealed(self, params: Mapping[str, str]) -> bool:
        seal = params.get(f"variable_{SEAL}", "")
        return bool(seal) and seal == self._seal(params.get("Unique-ID", ""))


def _context(params: Mapping[str, str]) -> str:
    return params.get("Hunt-Context") or params.get("Caller-Context", "")


class Store:
    """The choices on disk: written whole, or not at all. One thread at a time."""

    def __init__(self, folder: str) -> None:
        """An empty `folder` keeps nothing."""
        self._folder = folder
        self._path = os.path.join(folder, FILE)
        self._told = False

    @property
    def exists(self) -> bool:
        """True if something was ever saved. Looks at the disk."""
        return bool(self._folder) and os.path.lexists(self._path)

    def load(self) -> Choices:
        """What was saved; the defaults if nothing was or it can't be used. Says why, and sets damage aside."""
        if not self._folder:
            return Choices()
        try:
            with open(self._path, "rb") as file:
                data = file.read(_SIZE)
        except FileNotFoundError:
            return Choices()
        except OSError as error:
            log.warning("dialplan state: %s can't be read: %s; park mode is off", self._path, error.strerror)
            return Choices()
        try:
            return _checked(json.loads(data.decode()))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            aside = f"{self._path}.damaged"
            with suppress(OSError):
                os.replace(self._path, aside)
            log.error("dialplan state: %s is damaged (%s): set aside as %s; park mode is off", self._path,
                      str(error)[:100], aside)
            return Choices()

    def save(self, choices: Choices) -> bool:
        """Write them so that a power cut leaves the old or the new. A folder that can't be written is said once.

        False if they could not be written.
        """
        if not self._folder:
            return True  # nobody wants them to be kept
        text = json.dumps({"version": 1, **asdict(choices)}, indent=1) + "\n"
        new = f"{self._path}.new"
        try:
            with open(new, "w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, self._path)
            folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(folder)  # the renaming itself
            finally:
                os.close(folder)
        except OSError as error:
            if not self._told:
                self._told = True
                log.warning("dialplan state: %s can't be written: %s; it will not outlast a restart", self._path,
                            error.strerror)
            return False
        self._told = False
        return True


def _checked(saved: Any) -> Choices:
    """Choices from a file's JSON. ValueError, TypeError or KeyError if it is not what `save` writes."""
    if saved["version"] != 1:
        raise ValueError(f"version {saved['version']!r}")
    contexts = tuple(saved["contexts"])
    excepted = tuple(saved.get("excepted", ()))  # 1.0 writes none
    choices = Choices(
        saved["enabled"], contexts, saved["number"], saved["audio"], saved["music_class"], saved["autoanswer"],
        excepted, _checked_route(saved.get("route")),
    )  # fmt: skip
    if not isinstance(choices.audio, str) or not isinstance(choices.music_class, str):
        raise ValueError("a text is not a string")
    _check_scope(contexts, choices.number, excepted)
    if not isinstance(choices.enabled, bool) or not isinstance(choices.autoanswer, bool):
        raise ValueError("a switch is neither true nor false")
    if choices.audio not in AUDIO or not MUSIC_CLASS.match(choices.music_class):
        raise ValueError("no such audio")
    return choices


def _check_scope(contexts: tuple[Any, ...], number: Any, excepted: tuple[Any, ...]) -> None:
    if not all(isinstance(each, str) for each in (*contexts, number)) or len(contexts) > CONTEXTS or "" in contexts:
        raise ValueError("a text is not a string")
    if len(excepted) > EXCEPTIONS or not all(
        isinstance(each, str) and len(each) <= EXCEPTION and SPELLING.match(each) for each in excepted
    ):
        raise ValueError("an exception is not a number")
    if number:
        try:
            compile_number(number)
        except BadPattern as error:
            raise ValueError(f"number {error}") from None


def _checked_route(saved: Any) -> Route:
    """The part of a file that an agent without routing does not write."""
    if saved is None:
        return Route()
    lists = {name: tuple(saved[name]) for name in ("contexts", "excepted", "variables")}
    route = Route(
        saved["enabled"], saved["subject"], saved["timeout"], lists["contexts"], saved["number"], lists["excepted"],
        lists["variables"], saved["fallback"],
    )  # fmt: skip
    _check_scope(route.contexts, route.number, route.excepted)
    if not isinstance(route.enabled, bool) or route.fallback not in FALLBACKS:
        raise ValueError("a switch of the route is neither true nor false")
    if not isinstance(route.subject, str) or (route.subject and not strict_subject(route.subject)):
        raise ValueError("the route's subject is not valid")
    if type(route.timeout) not in (int, float) or not SHORTEST <= route.timeout <= LONGEST:
        raise ValueError("the route's timeout is not valid")
    if len(route.variables) > VARIABLES or not all(
        isinstance(each, str) and 1 <= len(each) <= NAME for each in route.variables
    ):
        raise ValueError("the route's variables are not valid")
    return route
