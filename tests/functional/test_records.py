"""Call records: one for each channel, saying what FreeSWITCH's own mod_cdr_csv says."""

from __future__ import annotations

import csv
import json
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.asyncapi import event_faults
from tests.functional.parts import SCALE, Agent, Client, NatsServer
from tests.functional.real_switch import RealSwitch
from tests.functional.sip_phone import ANSWER, Phone, Step
from tests.support import free_port, until

PARK = "loopback/park/default"
COLUMNS = (
    "uuid", "created", "ringing", "early_media", "answered", "bridged", "ended", "duration", "billsec", "cause",
    "caller_id_number", "destination", "context", "direction",
)  # fmt: skip
TIMES = ("created", "ringing", "early_media", "answered", "bridged", "ended")


class Records:
    """The records that have come, by the channel's uuid."""

    def __init__(self, client: Client, subject: str = "freeswitch.cdr.>") -> None:
        self._events = client.events(subject)

    def all(self) -> list[dict[str, Any]]:
        return [json.loads(message.data) for message in self._events.messages]

    def of(self, uuid: str) -> dict[str, Any]:
        """The one of this channel; waits for it."""
        found = until(lambda: [each for each in self.all() if each["uuid"] == uuid], f"the record of {uuid}")
        assert len(found) == 1
        return found[0]

    @property
    def subjects(self) -> set[str]:
        return {message.subject for message in self._events.messages}


def test_a_channel_that_has_ended_has_a_record(
    start_agent: Callable[..., Agent], nats: NatsServer, switch: Any, client: Client
) -> None:
    agent = start_agent(nats, switch, node_id="cdr-1", cdr="true", cdr_variables="ticket,nothing", include="DTMF")
    records = Records(client)
    uuid = "record-1"
    reply = client.request(
        "originate", fields={"endpoint": PARK, "destination": "&park", "uuid": uuid, "caller_id_number": "555",
                             "variables": {"ticket": "47, 11"}}, subject="freeswitch.node.cdr_1",
    )  # fmt: skip
    assert reply["success"] is True, reply
    before = time.time()
    assert client.request("hangup", uuid=uuid, subject="freeswitch.node.cdr_1")["success"] is True
    record = records.of(uuid)
    assert records.subjects == {"freeswitch.cdr.cdr_1"}
    assert event_faults(record) == []
    assert (record["node_id"], record["direction"], record["cause"]) == ("cdr-1", "outbound", "NORMAL_CLEARING")
    assert record["variables"] == {"ticket": "47, 11", "nothing": None}
    assert (record["gateway"], record["hung_up_by"], record["sip_code"]) == (None, None, None)
    assert record["created"] <= record["answered"] <= record["ended"]
    assert abs(record["ended"] / 1e6 - before) < 60
    assert record["billsec"] == (record["ended"] // 1000 - record["answered"] // 1000) / 1000
    status = client.request("agent.status", subject="freeswitch.node.cdr_1")["data"]
    assert status["records_published"] == len(records.all()) >= 1
    assert "Traceback" not in agent.log


def test_without_the_setting_there_is_none(agent: Agent, client: Client) -> None:
    records, events = Records(client), client.events("freeswitch.events.channel.hangup.complete")
    reply = client.request("originate", fields={"endpoint": PARK, "destination": "&park", "uuid": "record-none"})
    assert reply["success"] is True
    assert client.request("hangup", uuid="record-none")["success"] is True
    events.wait("CHANNEL_HANGUP_COMPLETE", Unique_ID="record-none")
    assert client.request("agent.status")["data"]["records_published"] == 0 and not records.all()


# -- beside mod_cdr_csv


@pytest.fixture(scope="module")
def house(real: bool, nats: NatsServer) -> Iterator[tuple[RealSwitch, Agent]]:
    """A FreeSWITCH with SIP and mod_cdr_csv, and its agent."""
    if not real:
        pytest.skip("the simulator has no mod_cdr_csv")
    switch = RealSwitch(sip_port=free_port(), modules=("mod_cdr_csv",))
    switch.start()
    agent = Agent(url=nats.url, esl_port=str(switch.port), subject_prefix="rec", cdr="true")
    agent.start()
    yield switch, agent
    agent.remove()
    switch.stop()


def _rows(switch: RealSwitch) -> dict[str, dict[str, str]]:
    path = switch.folder / "log" / "cdr-csv" / "Master.csv"
    if not path.exists():
        return {}
    with path.open(newline="", errors="replace") as file:
        return {row[0]: dict(zip(COLUMNS, row, strict=True)) for row in csv.reader(file) if len(row) == len(COLUMNS)}


class Caller:
    """Makes calls of all kinds, each to its end."""

    def __init__(self, client: Client, phones: dict[str, Phone]) -> None:
        self._ask = client.request
        self._sip = {name: f"sofia/test/1000@{phone.address}" for name, phone in phones.items()}

    def __call__(self, kind: str) -> None:
        getattr(self, kind)()

    def _dial(self, endpoint: str, destination: str = "&park", **fields: Any) -> str:
        fields = {"endpoint": endpoint, "destination": destination, "caller_id_number": "555"} | fields
        reply = self._ask("originate", fields=fields, subject="rec.api", _timeout=60)
        return str(reply["data"]["uuid"]) if reply["success"] else ""

    def _end(self, uuid: str) -> None:
        self._ask("hangup", uuid=uuid, subject="rec.api")

    def answered_and_ended_by_us(self) -> None:
        self._end(self._dial(self._sip["answers"]))

    def ended_by_them(self) -> None:
        self._dial("loopback/short/default", "&echo")

    def busy(self) -> None:
        assert not self._dial(self._sip["busy"])

    def cancelled(self) -> None:
        assert not self._dial(self._sip["rings"], timeout=2)

    def announced_and_refused(self) -> None:
        assert not self._dial(self._sip["announces"])

    def failed(self) -> None:
        assert not self._dial("error/USER_BUSY")

    def transferred(self) -> None:
        uuid = self._dial(self._sip["answers"])
        self._ask("uuid_transfer", f"{uuid} short XML default", subject="rec.api")

    def bridged(self) -> None:
        first, second = self._dial(PARK), self._dial(self._sip["answers"])
        self._ask("uuid_bridge", f"{first} {second}", subject="rec.api")
        time.sleep(random.uniform(0.05, 0.3))  # how long they talk
        self._end(random.choice((first, second)))

    def with_no_name(self) -> None:
        self._end(self._dial(self._sip["answers"], caller_id_number="", caller_id_name="A, B"))


KINDS = [name for name in vars(Caller) if not name.startswith("_")]


def test_the_records_agree_with_mod_cdr_csv(
    house: tuple[RealSwitch, Agent], connect: Callable[..., Client], nats: NatsServer
) -> None:
    switch, agent = house
    client = connect(nats.url)
    records = Records(client, "rec.cdr.>")
    ring = (Step("100 Trying"), Step("180 Ringing"))
    early = (Step("100 Trying"), Step("183 Session Progress", sdp=True), Step("486 Busy Here", 0.2))
    with (
        Phone(ANSWER) as answers, Phone((Step("486 Busy Here"),)) as busy, Phone(ring) as rings,
        Phone(early) as announces,
    ):  # fmt: skip
        caller = Caller(client, {"answers": answers, "busy": busy, "rings": rings, "announces": announces})
        wanted = [KINDS[number % len(KINDS)] for number in range(54 * SCALE)]
        with ThreadPoolExecutor(6, thread_name_prefix="caller") as pool:
            list(pool.map(caller, wanted))
    client.request("hupall", subject="rec.api")
    until(lambda: client.request("show", "channels", subject="rec.api")["data"], "all have ended", 30,
          holds=lambda found: "\n0 total." in found)  # fmt: skip
    until(lambda: _rows(switch) and len(_rows(switch)) == len(records.all()), "as many rows as records", 30)
    rows, found = _rows(switch), records.all()
    assert len({each["uuid"] for each in found}) == len(found) > len(wanted), "each channel has one"
    for record in found:
        row = rows[record["uuid"]]
        for name in TIMES:
            assert (record[name] or 0) == int(row[name]), (name, record, row)
        assert round(record["duration"] * 1000) == int(row["duration"]), (record, row)
        assert round(record["billsec"] * 1000) == int(row["billsec"]), (record, row)
        for name in ("cause", "caller_id_number", "destination", "context", "direction"):
            assert (record[name] or "") == row[name], (name, record, row)
        assert event_faults(record) == []
    by = {(each["cause"], each["sip_code"], each["hung_up_by"]) for each in found}
    assert ("USER_BUSY", 486, "them") in by, by
    assert any(code == 487 and who == "us" for _, code, who in by), by
    assert "Traceback" not in agent.log
