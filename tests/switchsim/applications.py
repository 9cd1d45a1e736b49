"""The dialplan applications that do something here; every other known one ends at once without effect.

START holds what happens when one starts and how long it lasts, BLOCKING what it leaves behind when it ends. Called
by execution.py under the lock of `Calls`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .channel import Channel, Digits, Running
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
    """playback endless_playback loop_playback echo delay_echo gentones speak say record conference read
    play_and_get_digits""".split()
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


def _intercept(run: Execution, channel: Channel, argument: str) -> Outcome:
    """Takes over the channel of that uuid; nothing, if it is gone or was to be one that talks to nobody."""
    peer = run.calls.channels.get(argument)
    if peer is None or (peer.bridged and channel.get("intercept_unbridged_only") == "true"):
        return DONE
    run.calls.bridge(peer, channel)
    return FOR_EVER


def _playback(run: Execution, channel: Channel, argument: str) -> Outcome:
    run.calls.fire(channel, "PLAYBACK_START", after=_playing(argument))
    silence = re.fullmatch(r"silence_stream://(-?\d+).*", argument)
    if silence:
        length = int(silence[1])
        return Outcome(lasts=True, seconds=length / 1000) if length >= 0 else FOR_EVER
    if argument.startswith("local_stream:"):
        return FOR_EVER
    if argument.startswith("tone_stream:"):
        seconds = _tones(argument)
        return Outcome(lasts=True, seconds=seconds) if seconds >= 0 else FOR_EVER
    return Outcome(lasts=True, seconds=FILE_SECONDS)


def _tones(argument: str) -> float:
    """Seconds that a tone_stream lasts, negative if it has no end (libteletone_generate.c, teletone_run)."""
    spec, _, loops = argument.partition(";loops=")
    again, milliseconds = 1, 0
    for part in spec.removeprefix("tone_stream://").split(";"):
        if times := re.fullmatch(r"[lL]=(\d{1,6})", part):
            again = int(times[1])
        elif tone := re.match(r"%\((\d{1,9}),(\d{1,9}),", part):
            milliseconds += again * (int(tone[1]) + int(tone[2]))
    times_in_all = int(loops) if re.fullmatch(r"-?\d{1,6}", loops) else 1
    return milliseconds / 1000 * (times_in_all or 1)


def _say(run: Execution, channel: Channel, argument: str) -> Outcome:
    """<module> <type> <method> [<gender>] <text>; files last no time. switch_ivr_play_file leaves playback_ms."""
    if len(separate(argument)) in (4, 5):
        channel.set("playback_ms", "0")
    return DONE


def _endless_playback(run: Execution, channel: Channel, argument: str) -> Outcome:
    _playback(run, channel, argument)
    return FOR_EVER


def _played(run: Execution, channel: Channel, running: Running, broken: bool) -> None:
    channel.set("current_application_response", "PLAYBACK ERROR" if broken else "FILE PLAYED")
    status: Headers = [("Playback-Status", "break" if broken else "done")]
    run.calls.fire(channel, "PLAYBACK_STOP", after=[*_playing(running.argument), *status])


def _play_and_get_digits(run: Execution, channel: Channel, argument: str) -> Outcome:
    """<min> <max> <tries> <timeout> <terminators> <file> <invalid_file> <var_name> <regexp>; files last no time."""
    words = [*separate(argument), "", "", "", "", "", "", "", ""]
    least, most, tries, timeout = (int(word) if word.isdigit() else 0 for word in words[:4])
    digits = Digits(words[7], least, max(least, most), words[4])
    return _collect(run, channel, digits, max(1, tries) * timeout / 1000)


def _read(run: Execution, channel: Channel, argument: str) -> Outcome:
    """<min> <max> <file> <var_name> <timeout> <terminators>"""
    words = [*separate(argument), "", "", "", "", "", ""]
    least, most, timeout = (int(word) if word.isdigit() else 0 for word in (words[0], words[1], words[4]))
    return _collect(run, channel, Digits(words[3], least, max(least, most), words[5]), timeout / 1000)


def _collect(run: Execution, channel: Channel, digits: Digits, seconds: float) -> Outcome:
    for name in (digits.variable, "read_result", "read_terminator_used"):
        channel.set(name, None)
    channel.stack[-1].digits = digits
    run.workers.later(0, lambda: run.dtmf(channel, ""))
    return Outcome(lasts=True, seconds=seconds)


def _collected(run: Execution, channel: Channel, running: Running, broken: bool) -> None:
    digits = running.digits
    if digits is None or broken:
        return
    enough = digits.done and len(digits.found) >= digits.least
    channel.set("read_result", "success" if enough else "timeout")
    if enough:
        channel.set(digits.variable, digits.found)
        channel.set("read_terminator_used", digits.terminator or None)


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
    "intercept": _intercept,
    "set": _set,
    "export": _set,
    "multiset": _multiset,
    "unset": _unset,
    "park": _park,
    "sleep": _sleep,
    "transfer": _transfer,
    "play_and_get_digits": _play_and_get_digits,
    "playback": _playback,
    "read": _read,
    "say": _say,
    "loop_playback": _endless_playback,
    "endless_playback": _endless_playback,
    "bridge": _for_ever,
    "conference": _for_ever,
    "delay_echo": _for_ever,
    "eavesdrop": _for_ever,
    "echo": _for_ever,
    "fifo": _for_ever,
}

BLOCKING: Final[dict[str, Callable[[Execution, Channel, Running, bool], None]]] = {
    "park": _unpark,
    "play_and_get_digits": _collected,
    "playback": _played,
    "read": _collected,
    "loop_playback": _played,
    "endless_playback": _played,
}
