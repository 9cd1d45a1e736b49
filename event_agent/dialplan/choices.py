"""Park mode: what was chosen, which call it takes, and how that outlasts a restart.

Choices change on the command's thread and are read on the listener's: the whole of them is one immutable value that
is swapped, so no lock is needed. The counter belongs to the listener's thread.

A call is taken when park mode is on, when it is incoming (an originated leg goes where its originator said), when it
lies within the contexts and the number pattern and is none of the exceptions, and when it was not parked by us before:
a parked call that is transferred must reach the normal dialplan. An emergency call is never taken, and a call that is
answered goes on as its dialplan or its operator wants: FreeSWITCH asks again for each transfer and for
execute_extension. Unless it was parked by us and somebody took the mark off to have it parked again: the seal tells.
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


@dataclass(frozen=True)
class _Policy:
    """The choices, and what they are compiled to."""

    choices: Choices
    contexts: frozenset[str]
    matches: Callable[[str], bool] | None
    excepted: Callable[[str], bool] | None


@dataclass(frozen=True)
class Extension:
    """What FreeSWITCH is to do with a call: an extension's actions, (application, data), in the call's context."""

    context: str
    actions: tuple[tuple[str, str], ...]


class Manager:
    """Holds the choices and decides over calls."""

    def __init__(self, seal: Callable[[str], str]) -> None:
        """`seal` makes the value of the variable SEAL for a call's uuid."""
        self._seal = seal
        self._policy = _Policy(Choices(), frozenset(), None, None)

    @property
    def choices(self) -> Choices:
        """What is in force."""
        return self._policy.choices

    def choose(self, **changes: Any) -> Choices:
        """Change some of the choices; takes effect on the next call. Raises BadPattern, and then nothing changes."""
        choices = replace(self._policy.choices, **changes)
        matches = compile_number(choices.number) if choices.number else None
        # FreeSWITCH compares context names without regard to case (switch_xml.c, switch_xml_find_child).
        contexts = frozenset(map(str.lower, choices.contexts))
        excepted = compile_exceptions(choices.excepted) if choices.excepted else None
        self._policy = _Policy(choices, contexts, matches, excepted)
        return choices

    def decide(self, params: Mapping[str, str]) -> Extension | None:
        """What to do with the call that mod_xml_curl's POST describes; None for the normal dialplan.

        On the listener's thread. Its Unique-ID has been looked at.
        `params`: see tests/fixtures/xml-curl/dialplan-request.txt.
        """
        policy = self._policy
        choices = policy.choices
        if not choices.enabled or params.get("section") != "dialplan" or params.get("tag_name"):
            return None
        # The Hunt- profile is the one being routed; an answer for another context would make the call fail.
        context = params.get("Hunt-Context") or params.get("Caller-Context", "")
        number = params.get("Hunt-Destination-Number") or params.get("Caller-Destination-Number", "")
        if not context or _UNFIT.search(context) or params.get("Call-Direction", "inbound") != "inbound":
            return None
        if f"variable_{MARK}" in params or (policy.contexts and context.lower() not in policy.contexts):
            return None
        if policy.matches is not None and not all(map(policy.matches, tried(number))):
            return None
        if params.get("Answer-State") == "answered" and not self._sealed(params):
            return None
        if is_emergency(params) or (policy.excepted is not None and policy.excepted(number)):
            return None
        index = params.get("Caller-Profile-Index", "1")
        actions = [
            ("set", f"{MARK}={index if _INDEX.match(index) else 1}"),
            ("set", f"{SEAL}={self._seal(params.get('Unique-ID', ''))}"),
        ]
        if "variable_send_silence_when_idle" not in params:
            # Without it `park` sends no packets at all where nothing plays, and phones hang up on a dead line.
            actions.append(("set", "send_silence_when_idle=-1"))
        # pre_answer, not ring_ready: a 180 brings no audio, and the caller's phone would play a tone of its own.
        actions += [("answer" if choices.autoanswer else "pre_answer", ""), ("park", "")]
        return Extension(context, tuple(actions))

    def _sealed(self, params: Mapping[str, str]) -> bool:
        seal = params.get(f"variable_{SEAL}", "")
        return bool(seal) and seal == self._seal(params.get("Unique-ID", ""))


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
        """What was saved; the defaults where nothing was or it can't be used. Says why, and sets damage aside."""
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

    def save(self, choices: Choices) -> None:
        """Write them so that a power cut leaves the old or the new. A folder that can't be written is said once."""
        if not self._folder:
            return
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
        else:
            self._told = False


def _checked(saved: Any) -> Choices:
    """Choices from a file's JSON. ValueError, TypeError or KeyError where it is not what `save` writes."""
    if saved["version"] != 1:
        raise ValueError(f"version {saved['version']!r}")
    contexts = tuple(saved["contexts"])
    excepted = tuple(saved.get("excepted", ()))  # 1.0 writes none
    choices = Choices(
        saved["enabled"], contexts, saved["number"], saved["audio"], saved["music_class"], saved["autoanswer"], excepted
    )
    texts = (*contexts, choices.number, choices.audio, choices.music_class)
    if not all(isinstance(each, str) for each in texts) or len(contexts) > CONTEXTS or "" in contexts:
        raise ValueError("a text is no text")
    if len(excepted) > EXCEPTIONS or not all(
        isinstance(each, str) and len(each) <= EXCEPTION and SPELLING.match(each) for each in excepted
    ):
        raise ValueError("an exception is no number")
    if not isinstance(choices.enabled, bool) or not isinstance(choices.autoanswer, bool):
        raise ValueError("a switch is neither on nor off")
    if choices.audio not in AUDIO or not MUSIC_CLASS.match(choices.music_class):
        raise ValueError("no such audio")
    if choices.number:
        try:
            compile_number(choices.number)
        except BadPattern as error:
            raise ValueError(f"number {error}") from None
    return choices
