"""Setting calls up: dial strings, the legs they make, and the wait for an answer.

`originate` runs in the thread of the one that asked, as in FreeSWITCH, and answers when the call is answered (or has
early media) or has failed. Endpoints: `loopback/<extension>[/<context>]`, `sim/<anything>` (one leg that answers at
once), `sim/slow-<ms>` (answers after that time), `error/<cause>`, `user/…` (nobody is registered). Endpoints with
commas between them are called together. `originate_timeout` among the variables limits each alternative (`a|b`) by
itself, and ends them all; `[leg_timeout=…]` ends a single endpoint, and the next alternative has its turn.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from .bus import Source, microseconds
from .calls import Calls
from .channel import Action, Channel, Profile
from .events import Headers, header_value
from .execution import Execution
from .names import State, cause
from .text import is_true, variable_block

_READ: Final = Source("switch_core_codec.c", "switch_core_session_set_read_codec", 279)
_WRITE: Final = Source("switch_core_codec.c", "switch_core_session_set_write_codec", 450)

Later = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class Order:
    """What `originate` was asked for."""

    dial_string: str
    destination: str
    """An extension, or `&application(argument)`."""
    dialplan: str = "XML"
    context: str = "default"
    caller_name: str = ""
    caller_number: str = ""
    timeout: float = 60.0
    """Seconds to wait for an answer, where no originate_timeout says otherwise."""


@dataclass
class _Leg:
    """One endpoint of a dial string, with what the variables in front of it say."""

    kind: str
    target: str
    order: Order
    variables: dict[str, str] = field(default_factory=dict)


class Originator:
    """Makes calls on the channels of `Calls`."""

    def __init__(
        self, calls: Calls, execution: Execution, later: Later, takes: Callable[[], bool] = lambda: True
    ) -> None:
        """`takes`: whether a channel can be made."""
        self.calls = calls
        self._takes = takes
        self.execution = execution
        self._later = later
        """Runs a job once the answer to the command has been sent."""

    def originate(self, order: Order, expand: Callable[[str], str] = lambda text: text) -> tuple[bool, str]:
        """(True, uuid) once the call is up, (False, cause) when it failed. Blocks meanwhile."""
        failure = "DESTINATION_OUT_OF_ORDER"
        for group in self._alternatives(order, expand):
            legs = [leg for leg in group if isinstance(leg, _Leg)]
            failure = next((leg for leg in group if isinstance(leg, str)), failure)
            if legs and not self._takes():
                failure = "DESTINATION_OUT_OF_ORDER"
                continue
            started = time.monotonic()
            called = [(self._call(leg), leg) for leg in legs]
            channel, failure, late = self._wait(called, started, failure)
            if channel is not None:
                self._connect(channel, order)
                return True, channel.uuid
            if late and not is_true(legs[0].variables.get("originate_continue_on_timeout")):
                break
        return False, failure

    # --- dial strings ------------------------------------------------------------------------------------------

    def _alternatives(self, order: Order, expand: Callable[[str], str]) -> Iterator[list[_Leg | str]]:
        """Groups of endpoints to try one after the other; for one that can't be called the cause."""
        common: dict[str, str] = {}
        rest = order.dial_string
        for brackets in ("<>", "{}"):
            block = variable_block(rest, brackets[0], brackets[1])
            if block is None:
                yield ["DESTINATION_OUT_OF_ORDER"]
                return
            common, rest = common | block[0], block[1]
        for group in _split(rest, "|"):
            yield [self._leg(order, common, each, expand) for each in _split(group, ",")]

    @staticmethod
    def _leg(order: Order, common: dict[str, str], text: str, expand: Callable[[str], str]) -> _Leg | str:
        own = variable_block(text, "[", "]")
        if own is None:
            return "DESTINATION_OUT_OF_ORDER"
        kind, slash, target = own[1].partition("/")
        variables = {name: expand(value) for name, value in (common | own[0]).items()}
        for name, value in (("name", order.caller_name), ("number", order.caller_number)):
            if value:
                variables[f"origination_caller_id_{name}"] = value
        if not slash or not target:
            return "NO_ROUTE_DESTINATION" if kind == "loopback" else "DESTINATION_OUT_OF_ORDER"
        match kind:
            case "group":
                return "NO_ROUTE_DESTINATION"
            case "error":
                return cause(target)
            case "user":
                return "SUBSCRIBER_ABSENT"
            case "sofia":
                return "INVALID_GATEWAY" if target.startswith("gateway/") else "NETWORK_OUT_OF_ORDER"
            case "loopback" | "sim" | "null":
                return _Leg(kind, target, order, variables)
        return "CHAN_NOT_IMPLEMENTED"

    # --- legs --------------------------------------------------------------------------------------------------

    def _call(self, leg: _Leg) -> Channel:
        """Calls one endpoint."""
        calls = self.calls
        with calls.lock:
            channel = self._outgoing(leg)
            incoming = self._loopback(channel, leg) if leg.kind == "loopback" else None
            calls.fire(channel, "CHANNEL_CREATE")
            calls.fire(channel, "CHANNEL_ORIGINATE")
            calls.enter(channel, State.CS_ROUTING)
            calls.enter(channel, State.CS_CONSUME_MEDIA)
            if incoming is not None:
                incoming.state = State.CS_INIT
                calls.enter(incoming, State.CS_INIT)
                incoming.state = State.CS_ROUTING
                calls.fire(incoming, "CHANNEL_CREATE")
        if incoming is not None:
            self.execution.route(incoming)
        else:
            slow = re.fullmatch(r"slow-(\d+)", leg.target)
            if slow:
                calls.workers.later(int(slow[1]) / 1000, lambda: calls.answer(channel))
            else:
                calls.answer(channel)
        return channel

    def _wait(
        self, called: list[tuple[Channel, _Leg]], started: float, failure: str
    ) -> tuple[Channel | None, str, bool]:
        """The one that is up, or the cause why none is, and whether the time of all was over."""
        left = [(channel, started + _seconds(leg.variables, "leg_timeout", math.inf)) for channel, leg in called]
        until = started + max((_seconds(leg.variables, "originate_timeout", leg.order.timeout) for _, leg in called),
                              default=0.0)  # fmt: skip
        while left:
            now = time.monotonic()
            for channel, end in left:
                if channel.decided.is_set() and not channel.down and not channel.hangup_cause:
                    for other, _ in left:
                        if other is not channel:
                            self.calls.hangup(other, "LOSE_RACE")
                    return channel, "", False
                if self.calls.workers.stopping:
                    self.calls.hangup(channel, "SYSTEM_SHUTDOWN")
                elif now >= until:
                    self.calls.hangup(channel, "NO_ANSWER")
                elif now >= end:
                    self.calls.hangup(channel, "ALLOTTED_TIMEOUT")
                if channel.hangup_cause:
                    failure = channel.hangup_cause
            if now >= until:
                return None, "NO_ANSWER", True
            left = [(channel, end) for channel, end in left if not channel.hangup_cause]
            if left:
                left[0][0].decided.wait(0.002 if len(left) > 1 else min(0.1, max(0.0, min(until, left[0][1]) - now)))
        return None, failure, False

    def _outgoing(self, leg: _Leg) -> Channel:
        calls = self.calls
        variables = leg.variables
        extension, context, dialplan = [*leg.target.split("/", 2), "", ""][:3]
        suffix = "-a" if leg.kind == "loopback" else ""
        channel = Channel(f"{leg.kind}/{leg.target}{suffix}", "outbound", calls.next_session())
        channel.set("direction", "outbound")
        channel.set("is_outbound", "true")
        self._codecs(channel)
        channel.name = f"{leg.kind}/{extension}{suffix}"
        number = variables.get("origination_caller_id_number", "0000000000")
        name = variables.get("origination_caller_id_name", "")
        channel.profile = Profile(
            direction="outbound",
            caller_name=name,
            caller_number=number,
            orig_caller_name=name,
            orig_caller_number=number,
            ani=number,
            callee_number=leg.target.rpartition("/")[2],
            destination=extension,
            context=context or "default",
            dialplan=dialplan or "xml",
            source=f"mod_{leg.kind}",
        )
        channel.times.profile_created = channel.times.channel_created = microseconds()
        channel.set("uuid", channel.uuid)
        channel.set("call_uuid", channel.uuid)
        self._technical_variables(channel)
        channel.set("channel_name", channel.name)
        channel.state = State.CS_INIT
        wanted = next((value for name, value in variables.items() if name.lower() == "origination_uuid"), "")
        if wanted and wanted not in calls.channels:
            old, channel.uuid = channel.uuid, wanted
            channel.set("uuid", wanted)
            channel.set("call_uuid", wanted)
            calls.fire(channel, "CHANNEL_UUID", [("Old-Unique-ID", old)])
        calls.add(channel)
        calls.fire(channel, "CHANNEL_OUTGOING")
        for name, value in variables.items():
            channel.set(name, header_value(value))
        answered_only = is_true(variables.get("ignore_early_media"))
        answered_only = answered_only or not is_true(variables.get("group_confirm_early_ok", "true"))
        channel.set("originate_early_media", "false" if answered_only else "true")
        channel.set("originate_endpoint", leg.kind)
        calls.enter(channel, State.CS_INIT)
        channel.state = State.CS_ROUTING
        return channel

    def _loopback(self, outgoing: Channel, leg: _Leg) -> Channel:
        """The B leg: the end of a loopback that goes into the dialplan."""
        calls = self.calls
        incoming = Channel(outgoing.name[:-1] + "b", "inbound", calls.next_session())
        self._codecs(incoming)
        assert outgoing.profile is not None
        incoming.profile = Profile(**(vars(outgoing.profile) | {"direction": "inbound"}))
        incoming.times.profile_created = incoming.times.channel_created = microseconds()
        for name in ("direction", "uuid", "call_uuid"):
            incoming.set(name, "inbound" if name == "direction" else incoming.uuid)
        incoming.set("session_id", str(incoming.session_id))
        incoming.set("channel_name", incoming.name)
        self._technical_variables(incoming, codecs_only=True)
        for name, value in leg.variables.items():
            incoming.set(name, header_value(value))
        for one, far, end in ((outgoing, incoming, "A"), (incoming, outgoing, "B")):
            one.other = far
            one.set("other_loopback_leg_uuid", far.uuid)
            one.set("loopback_leg", end)
        calls.add(incoming)
        return incoming

    def _codecs(self, channel: Channel) -> None:
        """The two CODEC events of a new channel, which has neither a profile nor, at first, a write codec."""
        channel.write_codec = False
        read: Headers = [
            ("channel-read-codec-name", "L16"),
            ("channel-read-codec-rate", "8000"),
            ("channel-read-codec-bit-rate", "128000"),
        ]
        self.calls.bus.fire("CODEC", _READ, lambda: [*channel.headers("CODEC"), *read])
        channel.write_codec = True
        write: Headers = [
            ("Channel-Write-Codec-Name", "L16"),
            ("Channel-Write-Codec-Rate", "8000"),
            ("Channel-Write-codec-bit-rate", "128000"),
        ]
        self.calls.bus.fire("CODEC", _WRITE, lambda: [*channel.headers("CODEC"), *write])

    @staticmethod
    def _technical_variables(channel: Channel, *, codecs_only: bool = False) -> None:
        if not codecs_only:
            channel.set("session_id", str(channel.session_id))
        for way in ("read", "write"):
            channel.set(f"{way}_codec", "L16")
            channel.set(f"{way}_rate", "8000")

    # --- where the called leg goes -----------------------------------------------------------------------------

    def _connect(self, channel: Channel, order: Order) -> None:
        calls = self.calls
        application = application_of(order.destination)
        if application is None:
            transfer = (order.destination, order.dialplan, order.context)
            self._later(lambda: self.execution.transfer(channel, *transfer))
            return
        with calls.lock:
            calls.flip_caller_id(channel)
            channel.actions = [application]
        self._later(lambda: self.execution.begin(channel))


def _seconds(variables: dict[str, str], name: str, otherwise: float) -> float:
    """The number that a variable begins with, where it is above 0."""
    digits = re.match(r"\d+", variables.get(name, ""))
    return float(digits[0]) if digits and int(digits[0]) else otherwise


def _split(text: str, delimiter: str) -> list[str]:
    """Cut where a delimiter stands outside of square brackets."""
    return re.split(rf"[{delimiter}](?![^\[\]]*\])", text)


def application_of(destination: str) -> Action | None:
    """What `&app(argument)` names; None for an extension."""
    if not destination.startswith("&") or len(destination) < 2:
        return None
    name, _, argument = destination[1:].partition(")")[0].partition("(")
    return name, argument
