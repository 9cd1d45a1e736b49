"""Call records: one for each channel that has ended, made of its CHANNEL_HANGUP_COMPLETE.

What a record says is what FreeSWITCH's own mod_cdr_csv writes: the last caller profile's names and numbers, and the
times of its timetable (switch_channel.c, switch_channel_event_set_data and switch_channel_set_timestamps).

Runs on the event thread. A record costs about as much as decoding one event.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from event_agent.bridge.losses import Losses
from event_agent.drivers.base import EventSink, Loss
from event_agent.protocol.events import CORE, SEQUENCE, Published
from event_agent.protocol.raw_event import MAX_DIGITS, Names, RawEvent
from event_agent.protocol.replies import dump_json, to_utf8
from event_agent.protocol.subjects import slug
from event_agent.runtime.stats import Stats

EVENTS = frozenset(("CHANNEL_HANGUP_COMPLETE",))
NAME = "CDR"
_ENDED = Names(*EVENTS)  # not what `sendevent` fires under that name
_DIGITS = re.compile(rf"[0-9]{{1,{MAX_DIGITS}}}\Z")
_SIP_CODE = re.compile(r"[1-6][0-9]{2}\Z")
_OURS, _THEIRS = "us", "them"
# mod_sofia.c and sofia.c set it: send_bye, recv_bye, send_cancel, recv_cancel, send_refuse, recv_refuse.
_SENDERS = {"send": _OURS, "recv": _THEIRS}
TIMES = {  # in a record: the header
    "created": "Caller-Channel-Created-Time",
    "ringing": "Caller-Channel-Progress-Time",
    "early_media": "Caller-Channel-Progress-Media-Time",
    "answered": "Caller-Channel-Answered-Time",
    "bridged": "Caller-Channel-Bridged-Time",
    "ended": "Caller-Channel-Hangup-Time",
}


def subject_of(prefix: str, node_id: str) -> str:
    """Where the records of a node go."""
    return f"{prefix}.cdr.{slug(node_id or 'unknown')}"


def record_of(headers: Mapping[str, Any], node_id: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """The record of a channel, from the headers of its CHANNEL_HANGUP_COMPLETE. What is not there is None.

    `wanted`: the names of variables. Times are microseconds since 1970, durations seconds with milliseconds.
    """

    def text(*names: str) -> str | None:
        for name in names:
            value = headers.get(name)
            if isinstance(value, str) and value:
                return value
        return None

    def variable(*names: str) -> str | None:
        return text(*(f"variable_{name}" for name in names))

    times = {name: _time(headers.get(header)) for name, header in TIMES.items()}
    answered = times["answered"] is not None
    return {
        "event_name": NAME,
        "node_id": node_id or "unknown",
        "uuid": text("Unique-ID"),
        "other_uuid": variable("last_bridge_to", "bridge_uuid") or text("Other-Leg-Unique-ID"),
        "direction": text("Call-Direction", "Caller-Direction"),
        "caller_id_name": text("Caller-Caller-ID-Name"),
        "caller_id_number": text("Caller-Caller-ID-Number"),
        "destination": text("Caller-Destination-Number"),
        "context": text("Caller-Context"),
        **times,
        "duration": _seconds(times["created"], times["ended"]),
        "billsec": _seconds(times["answered"], times["ended"]),
        "cause": text("Hangup-Cause", "variable_hangup_cause"),
        "sip_code": _sip_code(variable("sip_term_status"), variable("sip_invite_failure_status"), answered),
        "hung_up_by": _hung_up_by(variable("sip_hangup_disposition"), variable("sip_term_status")),
        "gateway": variable("sip_gateway_name", "sip_gateway"),
        "account": variable("accountcode"),
        "remote_addr": text("Caller-Network-Addr") or variable("sip_network_ip", "sip_received_ip"),
        "read_codec": variable("read_codec"),
        "write_codec": variable("write_codec"),
        "variables": {name: headers.get(f"variable_{name}") for name in wanted},
    }


def _time(value: object) -> int | None:
    """FreeSWITCH writes 0 for what did not happen."""
    return (int(value) or None) if isinstance(value, str) and _DIGITS.match(value) else None


def _seconds(begin: int | None, end: int | None) -> float:
    """As FreeSWITCH counts mduration and billmsec: the difference of whole milliseconds; 0 without a beginning."""
    return 0.0 if begin is None or end is None else (end // 1000 - begin // 1000) / 1000


def _sip_code(ended: str | None, refused: str | None, answered: bool) -> int | None:
    """The final status of the INVITE; an answered call's has no failure of its own, whatever its partner's said."""
    if ended is not None and _SIP_CODE.match(ended):
        return int(ended)
    return int(refused) if refused is not None and not answered and _SIP_CODE.match(refused) else None


def _hung_up_by(disposition: str | None, status: str | None) -> str | None:
    """Who ended it. sofia.c sets the disposition behind the hangup: of a BYE that came there may be the status only."""
    if disposition is not None:
        return _SENDERS.get(disposition.partition("_")[0])
    return _THEIRS if status is not None else None


class CallRecords:
    """Publishes the records."""

    def __init__(self, sink: EventSink, stats: Stats, losses: Losses, prefix: str, node_id: str) -> None:
        self._sink = sink
        self._stats = stats
        self._losses = losses
        self._node_id = node_id
        self._subject = subject_of(prefix, node_id).encode()
        self.variables: tuple[str, ...] = ()  # replaced from any thread

    def event(self, _: str, event: RawEvent) -> None:
        """A channel has ended. On the event thread."""
        if not event.is_one_of(_ENDED):
            return
        record = record_of(event.headers, self._node_id, self.variables)
        payload = to_utf8(dump_json(record))
        if len(payload) > self._sink.max_payload:
            record["variables"] = dict.fromkeys(record["variables"])
            payload = to_utf8(dump_json({**record, "truncated": ["variables"]}))
        core, sequence = event.scan(CORE), event.scan(SEQUENCE)
        msg_id = b"%b.%b.cdr" % (core, sequence) if core and sequence else b""
        taken = self._sink.offer([Published(NAME, self._subject, payload, msg_id)])
        self._stats.records_published += taken
        if not taken:
            self._stats.events_dropped += 1
            self._losses.add(Loss(self._sink.refused, 1, event.data, event.data))
