"""The dialplan applications that do something here; every other known one ends at once without effect.

START holds what happens when one starts and how long it lasts, BLOCKING what it leaves behind when it ends. Called
by execution.py under the lock of `Calls`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .channel import Channel, Running
from .events import Headers, header_value
from .names import cause
from .text import separate

if TYPE_CHECKING:
    from .execution import Execution

FILE_SECONDS: Final = 0.2
"""How long a sound file plays: short, so that tests need not wait."""


@dataclass(frozen=True)
class Outcome:
    """How an application goes on: `lasts` for so many seconds, or until something else ends it (None)."""

    lasts: bool = False
    seconds: float | None = None


DONE: Final = Outcome()
FOR_EVER: Final = Outcome(lasts=True)

MEDIA: Final = frozenset(
    "playback endless_playback loop_playback echo delay_echo gentones speak say record conference read".split()
)
"""These need audio: on a leg that is not answered they give early media first."""


def _answer(run: Execution, channel: Channel, argument: str) -> Outcome:
    run.calls.answer(channel)
    return DONE


def _pre_answer(run: Execution, channel: Channel, argument: str) -> Outcome:
    run.calls.pre_answer(channel)
    return DONE


def _ring_ready(run: Execution, channel: Channel, argument: str) -> Outcome:
    run.calls.ring(channel)
    return DONE


def _hangup(run: Execution, channel: Channel, argument: str) -> Outcome:
    run.calls.hangup(channel, cause(argument or "NORMAL_CLEARING"))
    return DONE


def _set(run: Execution, channel: Channel, argument: str) -> Outcome:
    name, _, value = argument.partition("=")
    channel.set(name.strip(" "), None if value in ("", "_undef_") else header_value(value))
    return DONE


def _multiset(run: Execution, channel: Channel, argument: str) -> Outcome:
    for pair in separate(argument):
        _set(run, channel, pair)
    return DONE


def _unset(run: Execution, channel: Channel, argument: str) -> Outcome:
    channel.set(argument, None)
    return DONE


def _park(run: Execution, channel: Channel, argument: str) -> Outcome:
    run.calls.fire(channel, "CHANNEL_PARK")
    return FOR_EVER


def _unpark(run: Execution, channel: Channel, running: Running, broken: bool) -> None:
    run.calls.fire(channel, "CHANNEL_UNPARK")


def _for_ever(run: Execution, channel: Channel, argument: str) -> Outcome:
    return FOR_EVER


def _sleep(run: Execution, channel: Channel, argument: str) -> Outcome:
    return Outcome(lasts=True, seconds=int(argument) / 1000) if argument.isdigit() else DONE


def _transfer(run: Execution, channel: Channel, argument: str) -> Outcome:
    words = [*separate(argument), "", "", ""]
    run.workers.later(0, lambda: run.transfer(channel, words[0], words[1], words[2]))
    return FOR_EVER


def _playback(run: Execution, channel: Channel, argument: str) -> Outcome:
    run.calls.fire(channel, "PLAYBACK_START", after=_playing(argument))
    silence = re.fullmatch(r"silence_stream://(-?\d+).*", argument)
    if silence:
        length = int(silence[1])
        return Outcome(lasts=True, seconds=length / 1000) if length >= 0 else FOR_EVER
    if argument.startswith(("tone_stream:", "local_stream:")):
        return FOR_EVER
    return Outcome(lasts=True, seconds=FILE_SECONDS)


def _endless_playback(run: Execution, channel: Channel, argument: str) -> Outcome:
    _playback(run, channel, argument)
    return FOR_EVER


def _played(run: Execution, channel: Channel, running: Running, broken: bool) -> None:
    channel.set("current_application_response", "PLAYBACK ERROR" if broken else "FILE PLAYED")
    status: Headers = [("Playback-Status", "break" if broken else "done")]
    run.calls.fire(channel, "PLAYBACK_STOP", after=[*_playing(running.argument), *status])


def _playing(path: str) -> Headers:
    shown: Headers = []
    for kind in ("local_stream", "tone_stream"):
        if path.startswith(f"{kind}:"):
            shown.append(("Playback-File-Type", kind))
    return [*shown, ("Playback-File-Path", path)]


START: Final[dict[str, Callable[[Execution, Channel, str], Outcome]]] = {
    "answer": _answer,
    "pre_answer": _pre_answer,
    "ring_ready": _ring_ready,
    "hangup": _hangup,
    "set": _set,
    "export": _set,
    "multiset": _multiset,
    "unset": _unset,
    "park": _park,
    "sleep": _sleep,
    "transfer": _transfer,
    "playback": _playback,
    "loop_playback": _endless_playback,
    "endless_playback": _endless_playback,
    "bridge": _for_ever,
    "conference": _for_ever,
    "delay_echo": _for_ever,
    "echo": _for_ever,
    "fifo": _for_ever,
}

BLOCKING: Final[dict[str, Callable[[Execution, Channel, Running, bool], None]]] = {
    "park": _unpark,
    "playback": _played,
    "loop_playback": _played,
    "endless_playback": _played,
}
