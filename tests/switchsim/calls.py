"""The calls of the switch: which channels there are and what becomes of them.

Owns the channels, their states and the events that tell of them; what a channel executes is in execution.py, how a
call is set up in originate.py. All of it happens under `lock`, in the thread that asked for it or in the clock
thread; where FreeSWITCH lets the channel's own thread go on (after a hangup, a transfer, a sendmsg), the clock does.
The order of the events is that of the recorded calls, so that Event-Sequence has the very gaps it has there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from threading import RLock
from typing import Final

from .bus import EventBus, Source, microseconds
from .channel import Channel
from .dialplan import DialplanHook
from .events import Headers
from .names import CallState, State
from .workers import Workers

_CHANNEL: Final = "switch_channel.c"
_SESSION: Final = "switch_core_session.c"
_STATES: Final = "switch_core_state_machine.c"

SOURCES: Final = {
    "CHANNEL_STATE": Source(_CHANNEL, "switch_channel_perform_set_running_state", 2408),
    "CHANNEL_CALLSTATE": Source(_CHANNEL, "switch_channel_perform_set_callstate", 301),
    "CHANNEL_ANSWER": Source(_CHANNEL, "switch_channel_perform_mark_answered", 3846),
    "CHANNEL_PROGRESS": Source(_CHANNEL, "switch_channel_perform_mark_ring_ready_value", 3486),
    "CHANNEL_PROGRESS_MEDIA": Source(_CHANNEL, "switch_channel_perform_mark_pre_answered", 3551),
    "CHANNEL_HANGUP": Source(_CHANNEL, "switch_channel_perform_hangup", 3445),
    "CALL_UPDATE": Source(_CHANNEL, "switch_channel_flip_cid", 3277),
    "CHANNEL_UUID": Source(_SESSION, "switch_core_session_set_uuid", 2051),
    "CHANNEL_OUTGOING": Source(_SESSION, "switch_core_session_outgoing_channel", 768),
    "CHANNEL_EXECUTE": Source(_SESSION, "switch_core_session_exec", 2944),
    "CHANNEL_EXECUTE_COMPLETE": Source(_SESSION, "switch_core_session_exec", 2967),
    "CHANNEL_DESTROY": Source(_SESSION, "switch_core_session_perform_destroy", 1584),
    "CHANNEL_CREATE": Source(_STATES, "switch_core_session_run", 626),
    "CHANNEL_ORIGINATE": Source(_STATES, "switch_core_session_run", 632),
    "CHANNEL_HANGUP_COMPLETE": Source(_STATES, "switch_core_session_reporting_state", 943),
    "CHANNEL_PARK": Source("switch_ivr.c", "switch_ivr_park", 1002),
    "CHANNEL_UNPARK": Source("switch_ivr.c", "switch_ivr_park", 1214),
    "PRIVATE_COMMAND": Source("switch_ivr.c", "switch_ivr_parse_next_event", 804),
    "PLAYBACK_START": Source("switch_ivr_play_say.c", "switch_ivr_play_file", 1649),
    "PLAYBACK_STOP": Source("switch_ivr_play_say.c", "switch_ivr_play_file", 2023),
    "CHANNEL_BRIDGE": Source("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1689),
    "CHANNEL_UNBRIDGE": Source("switch_ivr_bridge.c", "switch_ivr_multi_threaded_bridge", 1879),
    "CODEC": Source("switch_core_codec.c", "switch_core_session_set_read_codec", 279),
}


class Calls:
    """All channels, and what can happen to one."""

    def __init__(self, bus: EventBus, workers: Workers) -> None:
        self.bus = bus
        self.workers = workers
        self.lock = RLock()
        self.channels: dict[str, Channel] = {}
        self.sessions = 0
        self.peak = 0
        self.dialplan_hook: DialplanHook | None = None
        self.unwind: Callable[[Channel], None] = lambda channel: None
        """Ends what a channel executes; set by execution.py."""

    # --- telling -----------------------------------------------------------------------------------------------

    def fire(self, channel: Channel, name: str, before: Headers | None = None, after: Headers | None = None) -> None:
        """Fires an event about the channel, with headers of its own before and after the channel's."""
        self.bus.fire(name, SOURCES[name], lambda: [*(before or ()), *channel.headers(name), *(after or ())])

    def enter(self, channel: Channel, state: State) -> None:
        """The channel's thread begins to run a state."""
        if state > channel.state:
            channel.state = state
        channel.running_state = state
        if channel.direction == "inbound" and state < State.CS_HANGUP:
            if state == State.CS_ROUTING:
                self.set_call_state(channel, CallState.RINGING)
            elif channel.answered:
                self.set_call_state(channel, CallState.ACTIVE)
            elif channel.early:
                self.set_call_state(channel, CallState.EARLY)
        self.fire(channel, "CHANNEL_STATE")

    def set_call_state(self, channel: Channel, call_state: CallState) -> None:
        before = channel.call_state
        if before in (call_state, CallState.HANGUP):
            return
        channel.call_state = call_state
        self.fire(
            channel,
            "CHANNEL_CALLSTATE",
            [("Original-Channel-Call-State", before.name), ("Channel-Call-State-Number", str(int(call_state)))],
        )

    # --- finding -----------------------------------------------------------------------------------------------

    def find(self, uuid: str) -> Channel | None:
        """The channel of that uuid; one that has hung up is not to be found any more, though its events still come."""
        with self.lock:
            channel = self.channels.get(uuid)
            return None if channel is None or channel.down else channel

    def all(self) -> Sequence[Channel]:
        with self.lock:
            return list(self.channels.values())

    def add(self, channel: Channel) -> None:
        self.channels[channel.uuid] = channel
        self.peak = max(self.peak, len(self.channels))

    def next_session(self) -> int:
        self.sessions += 1
        return self.sessions

    # --- what becomes of a channel -----------------------------------------------------------------------------

    def answer(self, channel: Channel) -> None:
        """Answers it, and the far end of a loopback before it."""
        with self.lock:
            for leg in (channel.other, channel):
                if leg is None or leg.answered or leg.down:
                    continue
                leg.answered = True
                leg.times.answered = microseconds()
                self.fire(leg, "CHANNEL_ANSWER")
                self.set_call_state(leg, CallState.ACTIVE)
                leg.set("endpoint_disposition", "ANSWER")
                leg.decided.set()

    def pre_answer(self, channel: Channel) -> None:
        """Gives early media, to the far end of a loopback first."""
        with self.lock:
            for leg in (channel.other, channel):
                if leg is None or leg.answered or leg.early or leg.down:
                    continue
                leg.early = True
                leg.times.progress_media = microseconds()
                self.fire(leg, "CHANNEL_PROGRESS_MEDIA")
                self.set_call_state(leg, CallState.EARLY)
                leg.set("endpoint_disposition", "EARLY MEDIA")
                if leg.get("originate_early_media") != "false":
                    leg.decided.set()

    def ring(self, channel: Channel) -> None:
        with self.lock:
            for leg in (channel.other, channel):
                if leg is None or leg.answered or leg.early or leg.times.progress or leg.down:
                    continue
                leg.times.progress = microseconds()
                self.fire(leg, "CHANNEL_PROGRESS")
                self.set_call_state(leg, CallState.RINGING)

    def hangup(self, channel: Channel, cause: str = "NORMAL_CLEARING") -> bool:
        """Hangs up; False when it was down already. CHANNEL_HANGUP comes at once, the rest a moment later."""
        with self.lock:
            if channel.down:
                return False
            channel.state = State.CS_HANGUP
            channel.hangup_cause = cause
            channel.generation += 1
            channel.actions.clear()
            self.fire(channel, "CHANNEL_HANGUP")
            self.workers.later(0, lambda: self._wind_down(channel))
        return True

    def _wind_down(self, channel: Channel) -> None:
        with self.lock:
            self.unwind(channel)
            self.unbridge(channel)
            self.enter(channel, State.CS_HANGUP)
            channel.close_books(channel.hangup_cause)
            self.set_call_state(channel, CallState.HANGUP)
            other = channel.other
            if other is not None:
                self.hangup(other, channel.hangup_cause)
            self.enter(channel, State.CS_REPORTING)
            self.fire(channel, "CHANNEL_HANGUP_COMPLETE", [("Hangup-Cause", channel.hangup_cause)])
            channel.state = State.CS_DESTROY
            if other is None:
                self._destroy(channel)
            elif other.state == State.CS_DESTROY:  # both ends of a loopback go together, the B leg first
                for leg in sorted((channel, other), key=lambda leg: leg.direction):
                    self._destroy(leg)

    def _destroy(self, channel: Channel) -> None:
        self.channels.pop(channel.uuid, None)
        self.fire(channel, "CHANNEL_DESTROY")
        self.enter(channel, State.CS_DESTROY)
        channel.decided.set()

    def flip_caller_id(self, channel: Channel) -> None:
        """A called leg that now executes a dialplan becomes the calling side."""
        profile = channel.profile
        if profile is None or channel.dialplan_hit:
            return
        channel.dialplan_hit = True
        channel.set("pre_transfer_caller_id_name", profile.caller_name)
        channel.set("pre_transfer_caller_id_number", profile.caller_number)
        profile.caller_name, profile.callee_name = profile.callee_name, profile.caller_name
        profile.caller_number, profile.callee_number = profile.callee_number, profile.caller_number
        channel.set("channel_cid_flipped", "yes")
        self.fire(channel, "CALL_UPDATE", [("Direction", "RECV")])

    # --- bridges -----------------------------------------------------------------------------------------------

    def bridge(self, channel: Channel, peer: Channel) -> bool:
        """Connects two channels, whatever they were doing; False when that can't be."""
        with self.lock:
            if channel.down or peer.down or channel is peer:
                return False
            if not any(leg.answered or leg.early for leg in (channel, peer)):
                return False
            for leg, other in ((channel, peer), (peer, channel)):
                leg.set("bridge_channel", other.name)
                leg.set("bridge_uuid", other.uuid)
                leg.set("signal_bond", other.uuid)
            self.workers.later(0, lambda: self._join(channel, peer))
        return True

    def _join(self, channel: Channel, peer: Channel) -> None:
        with self.lock:
            if channel.down or peer.down:
                return
            for leg in (channel, peer):
                leg.generation += 1
                leg.actions.clear()
                self.unwind(leg)
                self.unbridge(leg, hang_up_peer=False)
                leg.state = State.CS_HIBERNATE
                self.enter(leg, State.CS_HIBERNATE)
            for leg, other in ((channel, peer), (peer, channel)):
                told: Headers = [("Application", "uuid_bridge"), ("Application-Data", other.uuid)]
                self.fire(leg, "CHANNEL_EXECUTE", after=told)
            for leg, other in ((channel, peer), (peer, channel)):
                leg.bridged = other
                leg.times.bridged = microseconds()
                leg.state = State.CS_EXCHANGE_MEDIA
                self.enter(leg, State.CS_EXCHANGE_MEDIA)
                leg.set("last_bridge_to", other.uuid)
            channel.bridge_originator = True
            self.fire(channel, "CHANNEL_BRIDGE", self._bridge_legs(channel, peer))
            for leg, other in ((channel, peer), (peer, channel)):
                leg.set("bridge_to", other.uuid)

    def unbridge(self, channel: Channel, *, hang_up_peer: bool = True) -> None:
        peer, channel.bridged = channel.bridged, None
        if peer is None:
            return
        peer.bridged = None
        for leg in (channel, peer):
            leg.set("bridge_to", None)
        first, second = (channel, peer) if channel.bridge_originator else (peer, channel)
        first.bridge_originator = False
        self.fire(first, "CHANNEL_UNBRIDGE", self._bridge_legs(first, second))
        if hang_up_peer:
            self.hangup(peer, "NORMAL_CLEARING")

    @staticmethod
    def _bridge_legs(channel: Channel, peer: Channel) -> Headers:
        return [("Bridge-A-Unique-ID", channel.uuid), ("Bridge-B-Unique-ID", peer.uuid)]
