"""A channel: one leg of a call, its caller profile, its variables, and how events show them.

State only; what happens to a channel is decided in calls.py. Guarded by the lock of `Calls`.
Header names and their order: switch_channel_event_set_basic_data() of FreeSWITCH, and the recorded calls.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from threading import Event as Flag
from uuid import uuid4

from .bus import microseconds
from .events import Headers, Value, flat
from .names import EVENTS_WITH_VARIABLES, CallState, State, q850

Action = tuple[str, str]
"""A dialplan application and its argument."""


@dataclass
class Times:
    """Microseconds since the epoch at which things happened to the channel; 0: they did not."""

    profile_created: int = 0
    channel_created: int = 0
    answered: int = 0
    progress: int = 0
    progress_media: int = 0
    hangup: int = 0
    transfer: int = 0
    resurrect: int = 0
    bridged: int = 0
    last_hold: int = 0
    hold_accum: int = 0


@dataclass
class Profile:
    """Who calls whom, as the `Caller-…` headers tell it."""

    direction: str
    dialplan: str = "xml"
    caller_name: str = ""
    caller_number: str = "0000000000"
    orig_caller_name: str = ""
    orig_caller_number: str = "0000000000"
    callee_name: str = "Outbound Call"
    callee_number: str = ""
    ani: str = "0000000000"
    destination: str = ""
    source: str = "mod_loopback"
    transfer_source: str = ""
    context: str = "default"
    rdnis: str = ""
    index: int = 1

    def headers(self, prefix: str, channel: Channel) -> Headers:
        shown: list[tuple[str, str]] = [
            ("Direction", self.direction),
            ("Logical-Direction", self.direction),
            ("Dialplan", self.dialplan),
            ("Caller-ID-Name", self.caller_name),
            ("Caller-ID-Number", self.caller_number),
            ("Orig-Caller-ID-Name", self.orig_caller_name),
            ("Orig-Caller-ID-Number", self.orig_caller_number),
            ("Callee-ID-Name", self.callee_name),
            ("Callee-ID-Number", self.callee_number),
            ("ANI", self.ani),
            ("Destination-Number", self.destination),
            ("Unique-ID", channel.uuid),
            ("Source", self.source),
            ("Transfer-Source", self.transfer_source),
            ("Context", self.context),
            ("RDNIS", self.rdnis),
            ("Channel-Name", channel.name),
            ("Profile-Index", str(self.index)),
        ]
        for one in fields(Times):
            title = one.name.replace("_", "-").title()
            owner = "" if one.name.endswith("_created") else "Channel-"
            suffix = "" if one.name in ("last_hold", "hold_accum") else "-Time"
            shown.append((f"{owner}{title}{suffix}", str(getattr(channel.times, one.name))))
        shown += [("Screen-Bit", "true"), ("Privacy-Hide-Name", "false"), ("Privacy-Hide-Number", "false")]
        return [(f"{prefix}-{name}", value) for name, value in shown]


@dataclass
class Digits:
    """What an application that collects digits wants, and what it has."""

    variable: str
    least: int
    most: int
    terminators: str
    found: str = ""
    terminator: str = ""
    done: bool = False

    def take(self, digits: str) -> str:
        """Takes digits until there are enough; returns those that are left."""
        while digits and not self.done:
            digit, digits = digits[0], digits[1:]
            if digit in self.terminators:
                self.terminator = digit
                self.done = True
            else:
                self.found += digit
                self.done = len(self.found) >= self.most
        return digits


@dataclass
class Running:
    """An application that a channel executes and that has not ended yet."""

    application: str
    argument: str
    uuid: str
    finished: bool = False
    digits: Digits | None = None


@dataclass
class Channel:
    """One leg."""

    name: str
    direction: str
    session_id: int
    uuid: str = field(default_factory=lambda: str(uuid4()))
    profile: Profile | None = None
    variables: dict[str, Value] = field(default_factory=dict)
    times: Times = field(default_factory=Times)
    state: State = State.CS_NEW
    running_state: State = State.CS_NONE
    call_state: CallState = CallState.DOWN
    answered: bool = False
    early: bool = False
    dialplan_hit: bool = False
    hangup_cause: str = ""
    write_codec: bool = True
    stack: list[Running] = field(default_factory=list)
    last: Running | None = None
    """What it executed last."""
    actions: list[Action] = field(default_factory=list)
    """What the extension has left to do."""
    dtmf: str = ""
    """Digits that the caller has dialled and nobody has taken."""
    other: Channel | None = None
    """The other end of a loopback."""
    bridged: Channel | None = None
    bridge_originator: bool = False
    decided: Flag = field(default_factory=Flag)
    """Set once it is answered, has early media, or is gone: what `originate` waits for."""
    generation: int = 0
    """Changes when the channel is transferred, so that what was running before knows that it is over."""

    @property
    def down(self) -> bool:
        return self.state >= State.CS_HANGUP

    def set(self, name: str, value: Value | None) -> None:
        """Sets a variable, which moves it to the end of the list; an empty value takes it away."""
        self.variables.pop(name, None)
        if value:
            self.variables[name] = value

    def get(self, name: str) -> str | None:
        """A variable's text; fields of the profile can be asked for by their variable names too."""
        value = self.variables.get(name)
        if value is not None:
            return flat(value)
        if self.profile is None:
            return None
        return {
            "destination_number": self.profile.destination,
            "caller_id_name": self.profile.caller_name,
            "caller_id_number": self.profile.caller_number,
            "context": self.profile.context,
            "dialplan": self.profile.dialplan,
            "ani": self.profile.ani,
            "source": self.profile.source,
            "state": self.running_state.name,
            "state_number": str(int(self.state)),
        }.get(name) or None

    def headers(self, event_name: str) -> Headers:
        """All headers that an event of that name has of this channel."""
        shown = [*self._basic()]
        if self.profile is not None:
            shown += self.profile.headers("Caller", self)
        if event_name in EVENTS_WITH_VARIABLES:
            shown += [(f"variable_{name}", value) for name, value in self.variables.items()]
        return shown

    def _basic(self) -> Iterator[tuple[str, Value]]:
        yield "Channel-State", self.running_state.name
        yield "Channel-Call-State", self.call_state.name
        yield "Channel-State-Number", str(int(self.state))
        yield "Channel-Name", self.name
        yield "Unique-ID", self.uuid
        yield "Call-Direction", self.direction
        yield "Presence-Call-Direction", self.direction
        yield "Channel-HIT-Dialplan", "true" if self.direction == "inbound" or self.dialplan_hit else "false"
        yield "Channel-Call-UUID", flat(self.variables.get("call_uuid", self.uuid))
        answer = "answered" if self.answered else "early" if self.early else "ringing"
        yield "Answer-State", "hangup" if self.down else answer
        if self.hangup_cause:
            yield "Hangup-Cause", self.hangup_cause
        for way in ("Read", "Write") if self.write_codec else ("Read",):
            yield f"Channel-{way}-Codec-Name", "L16"
            yield f"Channel-{way}-Codec-Rate", "8000"
            yield f"Channel-{way}-Codec-Bit-Rate", "128000"

    def close_books(self, cause: str) -> None:
        """The variables a call detail record is made of, set when the channel has hung up."""
        times = self.times
        times.hangup = microseconds()
        self.set("hangup_cause", cause)
        self.set("hangup_cause_q850", str(q850(cause)))
        self.set("digits_dialed", "none")
        named = {
            "start": times.channel_created,
            "profile_start": times.profile_created,
            "answer": times.answered,
            "bridge": times.bridged,
        }
        for name, at in [*named.items(), ("end", times.hangup)]:
            if at:
                self.set(f"{name}_stamp", time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at // 1_000_000)))
        for name, at in [*named.items(), ("last_hold", times.last_hold)]:
            self._epochs(name, at)
        for unit in ("seconds", "usec", "ms"):
            self.set(f"hold_accum_{unit}", "0")
        for name in ("resurrect", "progress", "progress_media"):
            self._epochs(name, int(getattr(times, name)))
        self._epochs("end", times.hangup)
        if self.last is not None:
            self.set("last_app", self.last.application)
            self.set("last_arg", self.last.argument)
        if self.profile is not None:
            number = self.profile.caller_number
            self.set("caller_id", f'"{self.profile.caller_name}" <{number}>' if self.profile.caller_name else number)
        for unit, size in (("sec", 1_000_000), ("msec", 1_000), ("usec", 1)):
            self._durations(unit, size)
        self.set("is_loopback", "1" if self.other is not None else None)

    def _epochs(self, name: str, at: int) -> None:
        self.set(f"{name}_epoch", str(at // 1_000_000))
        self.set(f"{name}_uepoch", str(at))

    def _durations(self, unit: str, size: int) -> None:
        """`duration`, `billsec`, …, each in seconds, then ms (`mduration`), then µs."""
        times = self.times

        def between(start: int, end: int) -> str:
            return str(end // size - start // size) if start and end else "0"

        billed = between(times.answered, times.hangup)
        self.set("duration" if unit == "sec" else f"{unit[0]}duration", between(times.channel_created, times.hangup))
        self.set(f"bill{unit}", billed)
        self.set(f"progress{unit}", between(times.channel_created, times.progress))
        self.set(f"answer{unit}", between(times.channel_created, times.answered))
        self.set(f"wait{unit}", between(times.channel_created, times.bridged))
        self.set(f"progress_media{unit}", between(times.channel_created, times.progress_media))
        self.set(f"flow_bill{unit}", billed)
