"""Names FreeSWITCH gives to things: events, hangup causes, channel states, applications.

Pure tables and look-ups. Source: FreeSWITCH 1.10 (switch_event.c, switch_types.h, `show application`).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

EVENT_NAMES: Final = tuple(
    """CUSTOM CLONE CHANNEL_CREATE CHANNEL_DESTROY CHANNEL_STATE CHANNEL_CALLSTATE CHANNEL_ANSWER CHANNEL_HANGUP
    CHANNEL_HANGUP_COMPLETE CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_HOLD CHANNEL_UNHOLD CHANNEL_BRIDGE
    CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_OUTGOING CHANNEL_PARK CHANNEL_UNPARK
    CHANNEL_APPLICATION CHANNEL_ORIGINATE CHANNEL_UUID API LOG INBOUND_CHAN OUTBOUND_CHAN STARTUP SHUTDOWN PUBLISH
    UNPUBLISH TALK NOTALK SESSION_CRASH MODULE_LOAD MODULE_UNLOAD DTMF MESSAGE PRESENCE_IN NOTIFY_IN PRESENCE_OUT
    PRESENCE_PROBE MESSAGE_WAITING MESSAGE_QUERY ROSTER CODEC BACKGROUND_JOB DETECTED_SPEECH DETECTED_TONE
    PRIVATE_COMMAND HEARTBEAT TRAP ADD_SCHEDULE DEL_SCHEDULE EXE_SCHEDULE RE_SCHEDULE RELOADXML NOTIFY PHONE_FEATURE
    PHONE_FEATURE_SUBSCRIBE SEND_MESSAGE RECV_MESSAGE REQUEST_PARAMS CHANNEL_DATA GENERAL COMMAND SESSION_HEARTBEAT
    CLIENT_DISCONNECTED SERVER_DISCONNECTED SEND_INFO RECV_INFO RECV_RTCP_MESSAGE SEND_RTCP_MESSAGE CALL_SECURE NAT
    RECORD_START RECORD_STOP PLAYBACK_START PLAYBACK_STOP CALL_UPDATE FAILURE SOCKET_DATA MEDIA_BUG_START
    MEDIA_BUG_STOP CONFERENCE_DATA_QUERY CONFERENCE_DATA CALL_SETUP_REQ CALL_SETUP_RESULT CALL_DETAIL DEVICE_STATE
    TEXT SHUTDOWN_REQUESTED CERT_RELOAD""".split()
)
ALL: Final = "ALL"
_KNOWN_EVENTS: Final = frozenset((*EVENT_NAMES, ALL))

RESERVED_SUBCLASSES: Final = (
    "loopback::bowout",
    "loopback::direct",
    "sofia::register",
    "sofia::unregister",
    "sofia::expire",
    "sofia::gateway_state",
    "sofia::sip_user_state",
    "conference::maintenance",
    "limit::usage",
)
"""CUSTOM subclasses that modules announce at load; `event … ALL` knows only these by name."""

MYEVENTS: Final = frozenset(
    """CHANNEL_ANSWER CHANNEL_APPLICATION CHANNEL_BRIDGE CHANNEL_CREATE CHANNEL_DATA CHANNEL_DESTROY CHANNEL_EXECUTE
    CHANNEL_EXECUTE_COMPLETE CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE CHANNEL_ORIGINATE CHANNEL_UUID CHANNEL_OUTGOING
    CHANNEL_PARK CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_STATE CHANNEL_UNBRIDGE CHANNEL_UNPARK
    DETECTED_SPEECH DTMF NOTALK TALK""".split()
)

EVENTS_WITH_VARIABLES: Final = frozenset(
    """CHANNEL_CREATE CHANNEL_ORIGINATE CHANNEL_UUID CHANNEL_ANSWER CHANNEL_PARK CHANNEL_UNPARK CHANNEL_BRIDGE
    CHANNEL_UNBRIDGE CHANNEL_PROGRESS CHANNEL_PROGRESS_MEDIA CHANNEL_HANGUP CHANNEL_HANGUP_COMPLETE REQUEST_PARAMS
    CHANNEL_DATA CHANNEL_EXECUTE CHANNEL_EXECUTE_COMPLETE CHANNEL_DESTROY SESSION_HEARTBEAT API RECORD_START
    RECORD_STOP PLAYBACK_START PLAYBACK_STOP CALL_UPDATE MEDIA_BUG_START MEDIA_BUG_STOP CHANNEL_HOLD CHANNEL_UNHOLD
    TEXT CUSTOM""".split()
)
"""Channel events that carry `variable_…` headers; the others (CHANNEL_STATE, CODEC, …) hold the basic ones only."""


def event_name(word: str) -> str | None:
    """The event that a word of an `event` command means, or None. Case and a SWITCH_EVENT_ prefix do not matter."""
    name = word.upper().removeprefix("SWITCH_EVENT_")
    return name if name in _KNOWN_EVENTS else None


class State(IntEnum):
    """States of a channel; the value is what Channel-State-Number shows."""

    CS_NEW = 0
    CS_INIT = 1
    CS_ROUTING = 2
    CS_SOFT_EXECUTE = 3
    CS_EXECUTE = 4
    CS_EXCHANGE_MEDIA = 5
    CS_PARK = 6
    CS_CONSUME_MEDIA = 7
    CS_HIBERNATE = 8
    CS_RESET = 9
    CS_HANGUP = 10
    CS_REPORTING = 11
    CS_DESTROY = 12
    CS_NONE = 13


class CallState(IntEnum):
    """What a phone's display would say of the leg; the value is Channel-Call-State-Number."""

    DOWN = 0
    DIALING = 1
    RINGING = 2
    EARLY = 3
    ACTIVE = 4
    HELD = 5
    RING_WAIT = 6
    HANGUP = 7
    UNHELD = 8


CAUSES: Final = {
    name: int(number)
    for name, number in (
        pair.split("=")
        for pair in """NONE=0 UNALLOCATED_NUMBER=1 NO_ROUTE_TRANSIT_NET=2 NO_ROUTE_DESTINATION=3
        CHANNEL_UNACCEPTABLE=6 CALL_AWARDED_DELIVERED=7 NORMAL_CLEARING=16 USER_BUSY=17 NO_USER_RESPONSE=18
        NO_ANSWER=19 SUBSCRIBER_ABSENT=20 CALL_REJECTED=21 NUMBER_CHANGED=22 REDIRECTION_TO_NEW_DESTINATION=23
        EXCHANGE_ROUTING_ERROR=25 DESTINATION_OUT_OF_ORDER=27 INVALID_NUMBER_FORMAT=28 FACILITY_REJECTED=29
        RESPONSE_TO_STATUS_ENQUIRY=30 NORMAL_UNSPECIFIED=31 NORMAL_CIRCUIT_CONGESTION=34 NETWORK_OUT_OF_ORDER=38
        NORMAL_TEMPORARY_FAILURE=41 SWITCH_CONGESTION=42 ACCESS_INFO_DISCARDED=43 REQUESTED_CHAN_UNAVAIL=44
        PRE_EMPTED=45 FACILITY_NOT_SUBSCRIBED=50 OUTGOING_CALL_BARRED=52 INCOMING_CALL_BARRED=54
        BEARERCAPABILITY_NOTAUTH=57 BEARERCAPABILITY_NOTAVAIL=58 SERVICE_UNAVAILABLE=63 BEARERCAPABILITY_NOTIMPL=65
        CHAN_NOT_IMPLEMENTED=66 FACILITY_NOT_IMPLEMENTED=69 SERVICE_NOT_IMPLEMENTED=79 INVALID_CALL_REFERENCE=81
        INCOMPATIBLE_DESTINATION=88 INVALID_MSG_UNSPECIFIED=95 MANDATORY_IE_MISSING=96 MESSAGE_TYPE_NONEXIST=97
        WRONG_MESSAGE=98 IE_NONEXIST=99 INVALID_IE_CONTENTS=100 WRONG_CALL_STATE=101 RECOVERY_ON_TIMER_EXPIRE=102
        MANDATORY_IE_LENGTH_ERROR=103 PROTOCOL_ERROR=111 INTERWORKING=127 SUCCESS=142 ORIGINATOR_CANCEL=487 CRASH=700
        SYSTEM_SHUTDOWN=701 LOSE_RACE=702 MANAGER_REQUEST=703 BLIND_TRANSFER=800 ATTENDED_TRANSFER=801
        ALLOTTED_TIMEOUT=802 USER_CHALLENGE=803 MEDIA_TIMEOUT=804 PICKED_OFF=805 USER_NOT_REGISTERED=806
        PROGRESS_TIMEOUT=807 INVALID_GATEWAY=808 GATEWAY_DOWN=809 INVALID_URL=810 INVALID_PROFILE=811 NO_PICKUP=812
        SRTP_READ_ERROR=813 BOWOUT=814 BUSY_EVERYWHERE=815 DECLINE=816 DOES_NOT_EXIST_ANYWHERE=817 NOT_ACCEPTABLE=818
        UNWANTED=819 NO_IDENTITY=820 BAD_IDENTITY_INFO=821 UNSUPPORTED_CERTIFICATE=822 INVALID_IDENTITY=823
        STALE_DATE=824 REJECT_ALL=825""".split()
    )
}
_CAUSE_NAMES: Final = {number: name for name, number in CAUSES.items()}


def cause(text: str) -> str:
    """The hangup cause a text or a number names; NORMAL_CLEARING where it names none, as FreeSWITCH has it."""
    if text[:1].isdigit():
        digits = text[: len(text) - len(text.lstrip("0123456789"))]
        return _CAUSE_NAMES.get(int(digits), "NORMAL_CLEARING")
    return text.upper() if text.upper() in CAUSES else "NORMAL_CLEARING"


def q850(name: str) -> int:
    """Q.850 number of a cause: causes of FreeSWITCH's own making (above 127) count as normal clearing."""
    number = CAUSES[name]
    return number if number < 128 else CAUSES["NORMAL_CLEARING"]


APPLICATIONS: Final = frozenset(
    """acknowledge_call answer att_xfer bgsystem bind_digit_action bind_meta_app blind_transfer_ack block_dtmf break
    bridge bridge_export broadcast capture capture_text check_acl clear_digit_action clear_speech_cache cng_plc
    conference conference_set_auto_outcall db debug_media deduplicate_dtmf deflect delay_echo detect_audio
    detect_silence detect_speech digit_action_set_realm displace displace_session early_hangup eavesdrop echo
    enable_heartbeat enable_keepalive endless_playback esf_page_group eval event execute_extension export fax_detect
    fifo fifo_track_call filter_codecs flush_dtmf gentones group hangup hash hold info intercept ivr jitterbuffer
    limit limit_execute limit_hash limit_hash_execute log loop_playback media_reset mkdir multiset multiunset mutex
    native_eavesdrop novideo page park park_state phrase pickup play_and_detect_speech play_and_get_digits playback
    pre_answer preprocess presence privacy push queue_dtmf read record record_session record_session_mask
    record_session_pause record_session_resume record_session_unmask recovery_refresh redirect remove_bugs rename
    respond reuse_caller_profile ring_ready say sched_broadcast sched_cancel sched_hangup sched_heartbeat
    sched_transfer send_display send_dtmf send_info session_loglevel set set_audio_level set_global set_media_stats
    set_mute set_name set_profile_var set_user set_zombie_exec sleep socket sofia_sla soft_hold sound_test speak
    start_dtmf start_dtmf_generate stop stop_displace_session stop_dtmf stop_dtmf_generate stop_record_session
    stop_tone_detect stop_video_write_overlay strftime system three_way tone_detect transfer transfer_vars
    unbind_meta_app unblock_dtmf unhold unloop unset unshift vad_test valet_park verbose_events video_decode
    video_refresh video_write_overlay wait_for_answer wait_for_silence wait_for_video_ready""".split()
)
"""Dialplan applications of a small set-up: any other name hangs the channel up."""

NAMED_LOG_LEVELS: Final = ("console", "alert", "crit", "err", "warning", "notice", "info", "debug")
