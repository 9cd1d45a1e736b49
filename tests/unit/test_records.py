"""Call records: what they say of a channel, and how they leave."""

from __future__ import annotations

import json
from typing import Any

import pytest

from event_agent.bridge.losses import Losses
from event_agent.bridge.records import EVENTS, CallRecords, record_of, subject_of
from event_agent.protocol.raw_event import RawEvent
from event_agent.runtime.stats import Stats
from tests.asyncapi import event_faults
from tests.fakes.driver import FakeDriver

HEADERS = {
    "Event-Name": "CHANNEL_HANGUP_COMPLETE",
    "Core-UUID": "344aa2a7-d32b-46c6-ab79-cb240fc381f7",
    "Event-Date-Timestamp": "1795446560710000",
    "Event-Sequence": "419",
    "Hangup-Cause": "NORMAL_CLEARING",
    "Unique-ID": "u-1",
    "Call-Direction": "outbound",
    "Caller-Caller-ID-Name": "Fred \"Fast\" Smith",
    "Caller-Caller-ID-Number": "5551234",
    "Caller-Destination-Number": "1000",
    "Caller-Context": "default",
    "Caller-Channel-Created-Time": "1795446556309999",
    "Caller-Channel-Progress-Time": "1795446556409076",
    "Caller-Channel-Progress-Media-Time": "0",
    "Caller-Channel-Answered-Time": "1795446556609001",
    "Caller-Channel-Bridged-Time": "0",
    "Caller-Channel-Hangup-Time": "1795446560709000",
    "variable_sip_hangup_disposition": "recv_bye",
    "variable_sip_term_status": "200",
    "variable_sip_gateway_name": "carrier",
    "variable_accountcode": "shop",
    "variable_read_codec": "PCMU",
    "variable_write_codec": "PCMA",
    "variable_ticket": "47,11",
    "variable_last_bridge_to": "u-2",
}


def record(**changes: Any) -> dict[str, Any]:
    """Of these headers, with - for _ in names that don't begin with variable_; None takes one away."""
    headers: dict[str, Any] = dict(HEADERS)
    for name, value in changes.items():
        headers[name if name.startswith("variable_") else name.replace("_", "-")] = value
    found = record_of({name: value for name, value in headers.items() if value is not None}, "fs-1", ("ticket", "none"))
    assert event_faults(found) == []
    return found


def test_a_whole_record() -> None:
    assert record() == {
        "event_name": "CDR", "node_id": "fs-1", "uuid": "u-1", "other_uuid": "u-2", "direction": "outbound",
        "caller_id_name": 'Fred "Fast" Smith', "caller_id_number": "5551234", "destination": "1000",
        "context": "default", "created": 1795446556309999, "ringing": 1795446556409076, "early_media": None,
        "answered": 1795446556609001, "bridged": None, "ended": 1795446560709000, "duration": 4.4, "billsec": 4.1,
        "cause": "NORMAL_CLEARING", "sip_code": 200, "hung_up_by": "them", "gateway": "carrier", "account": "shop",
        "remote_addr": None, "read_codec": "PCMU", "write_codec": "PCMA",
        "variables": {"ticket": "47,11", "none": None},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("disposition", "status", "by"),
    [
        ("send_bye", None, "us"), ("recv_bye", "200", "them"), ("send_cancel", None, "us"),
        ("recv_cancel", None, "them"), ("send_refuse", "486", "us"), ("recv_refuse", "486", "them"),
        (None, "200", "them"), (None, None, None), ("odd", None, None), ("", None, None),
    ],
)
def test_who_hung_up(disposition: str | None, status: str | None, by: str | None) -> None:
    found = record(variable_sip_hangup_disposition=disposition, variable_sip_term_status=status)
    assert found["hung_up_by"] == by


@pytest.mark.parametrize(
    ("ended", "refused", "answered", "code"),
    [
        ("200", None, True, 200), ("486", "486", False, 486), (None, "487", False, 487),
        (None, "486", True, None),  # its partner's
        (None, None, False, None), ("x", "99999", False, None), (None, "0", False, None),
    ],
)
def test_the_sip_code(ended: str | None, refused: str | None, answered: bool, code: int | None) -> None:
    found = record(
        variable_sip_term_status=ended, variable_sip_invite_failure_status=refused,
        Caller_Channel_Answered_Time="1795446556609001" if answered else "0",
    )  # fmt: skip
    assert found["sip_code"] == code
    assert (found["billsec"] > 0) == answered


@pytest.mark.parametrize("odd", ["", "-1", "x", "9" * 30, None, ["1", "2"]])
def test_a_time_that_is_none(odd: Any) -> None:
    found = record(Caller_Channel_Answered_Time=odd, Caller_Channel_Hangup_Time=odd)
    assert (found["answered"], found["ended"], found["duration"], found["billsec"]) == (None, None, 0.0, 0.0)


def test_a_channel_of_which_little_is_known() -> None:
    found = record(
        variable_last_bridge_to=None, Other_Leg_Unique_ID="u-3", Caller_Caller_ID_Name="", variable_ticket=["a", "b"],
        Caller_Network_Addr="10.0.0.1",
    )  # fmt: skip
    assert (found["other_uuid"], found["caller_id_name"]) == ("u-3", None)
    assert (found["remote_addr"], found["variables"]["ticket"]) == ("10.0.0.1", ["a", "b"])


class House:
    def __init__(self) -> None:
        self.broker, self.stats = FakeDriver(), Stats()
        self.records = CallRecords(self.broker.events, self.stats, Losses(self.stats), "fs", "FS-Node.1")

    def ended(self, **changes: Any) -> None:
        (name,) = EVENTS
        data = json.dumps({**HEADERS, **changes}, separators=(",", ":")).encode()
        self.records.event(name, RawEvent(data))


def test_it_leaves_with_a_name_of_its_own() -> None:
    house = House()
    house.ended()
    ((subject, payload),) = house.broker.events.taken
    assert subject == "fs.cdr.fs_node_1" == subject_of("fs", "FS-Node.1")
    assert house.broker.events.ids == [b"344aa2a7-d32b-46c6-ab79-cb240fc381f7.419.cdr"]
    assert json.loads(payload)["uuid"] == "u-1"
    assert (house.stats.records_published, house.stats.events_dropped) == (1, 0)


def test_what_does_not_fit_is_counted() -> None:
    house = House()
    house.broker.events.room = 0
    house.ended()
    assert (house.stats.records_published, house.stats.events_dropped) == (0, 1)


def test_one_that_is_too_large_leaves_without_its_variables() -> None:
    house = House()
    house.records.variables = ("ticket", "other")
    house.broker.events.max_payload = 2000
    house.ended(variable_ticket="x" * 3000)
    ((_, payload),) = house.broker.events.taken
    found = json.loads(payload)
    assert found["variables"] == {"ticket": None, "other": None} and found["truncated"] == ["variables"]
    assert event_faults(found) == []


def test_what_sendevent_fires_under_that_name_makes_no_record() -> None:
    house = House()
    data = json.dumps({"Unique-ID": "u", **HEADERS}, separators=(",", ":")).encode()
    assert not data.startswith(b'{"Event-Name')
    house.records.event("CHANNEL_HANGUP_COMPLETE", RawEvent(data))
    assert house.broker.events.taken == []
