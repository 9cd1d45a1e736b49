"""Gateways and registrations in /metrics: FreeSWITCH is asked seldom, nobody waits, odd answers spoil nothing."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from prometheus_client.parser import text_string_to_metric_families

from event_agent.freeswitch.command import Command, Executed, Failure
from event_agent.observe.exposition import Page
from event_agent.observe.gateways import EVERY, LATER, LIMIT, MOST, OLD, AskedFigures

SOFIA, REGISTRATIONS, CALLS = (
    f"api {each}\n\n"
    for each in ("sofia xmlstatus gateway", "show registrations count as json", "show calls count as json")
)


def gateway(name: str, status: str = "UP", state: str = "REGED", **more: str) -> str:
    """As FreeSWITCH 1.10.12 writes it; what it does not escape is not escaped."""
    values = {
        "name": name, "profile": "external", "scheme": "Digest", "realm": "sip.example.com", "username": "u",
        "password": "yes", "from": "&lt;sip:u@sip.example.com;transport=udp&gt;", "proxy": "sip:sip.example.com",
        "context": "public", "expires": "3600", "ping": "1753700000", "pingfreq": "30", "pingmin": "1",
        "pingcount": "1", "pingmax": "1", "pingtime": "12.50", "pinging": "0", "state": state, "status": status,
        "uptime-usec": "9391581", "calls-in": "3", "calls-out": "14", "failed-calls-in": "1", "failed-calls-out": "2",
    } | more  # fmt: skip
    return "".join(["  <gateway>\n", *(f"    <{key}>{value}</{key}>\n" for key, value in values.items()),
                    "  </gateway>\n"])  # fmt: skip


def answer(*gateways: str) -> str:
    return '<?xml version="1.0" encoding="ISO-8859-1"?>\n<gateways>\n' + "".join(gateways) + "</gateways>\n"


class Switch:
    """Keeps what it is asked."""

    def __init__(self) -> None:
        self.now = 100.0
        self.asked: dict[str, Command] = {}
        self.figures = AskedFigures(self.send, lambda: self.now)

    def send(self, commands: Sequence[Command]) -> None:
        for command in commands:
            assert command.slow and command.limit == LIMIT
            self.asked[command.text] = command

    def scrape(self, connected: bool = True) -> dict[str, float]:
        page = Page()
        self.figures.add(page, connected)
        return {
            sample.name + "".join(f"[{key}={value}]" for key, value in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(page.text().decode())
            for sample in family.samples
        }

    def answers(self, text: str, of: str = SOFIA) -> dict[str, float]:
        """What /metrics has after it was asked and has answered."""
        self.scrape()
        self.asked.pop(of).done(text)
        return self.scrape()


def test_a_gateway_that_is_up_and_one_that_is_down() -> None:
    found = Switch().answers(answer(gateway("itsp"), gateway("old", "DOWN", "FAIL_WAIT", retry="30s")))
    up, down = (f"[name={name}][profile=external][proxy=sip:sip.example.com]" for name in ("itsp", "old"))
    assert found[f"freeswitch_sofia_gateway_status[context=public]{up}[scheme=Digest]"] == 1
    assert found[f"freeswitch_sofia_gateway_status[context=public]{down}[scheme=Digest]"] == 0
    assert found[f"freeswitch_sofia_gateway_state{up}[state=REGED]"] == 1
    assert found[f"freeswitch_sofia_gateway_state{down}[state=FAIL_WAIT]"] == 1
    values = {name: found[f"freeswitch_sofia_gateway_{name}{up}"] for name in (
        "call_in", "call_out", "failed_call_in", "failed_call_out", "ping", "pingfreq", "pingmin", "pingmax",
        "pingcount", "pingtime",
    )}  # fmt: skip
    assert values == {
        "call_in": 3, "call_out": 14, "failed_call_in": 1, "failed_call_out": 2, "ping": 1753700000, "pingfreq": 30,
        "pingmin": 1, "pingmax": 1, "pingcount": 1, "pingtime": 12.5,
    }  # fmt: skip
    assert found["freeswitch_sofia_gateways"] == 2 and len(found) == 2 * 12 + 1


def test_counts_of_registrations_and_calls() -> None:
    switch = Switch()
    switch.answers('{"row_count":7,"rows":[]}', REGISTRATIONS)
    switch.asked.pop(CALLS).done('{"row_count":2,"rows":[]}')
    assert switch.scrape() == {"freeswitch_registrations": 7, "freeswitch_current_calls": 2}


@pytest.mark.parametrize("wrong", [
    "", "-ERR sofia Command not found!\n", "x", "null", "[]", "{}", '{"row_count":"7"}', '{"row_count":-1}',
    '{"row_count":true}', '{"row_count":1.5}', "[" * 100_000, "<gateways>", "Invalid Gateway!\n", "-ERR no reply\n",
])  # fmt: skip
def test_what_is_no_answer_is_not_shown_and_is_asked_for_later(wrong: str) -> None:
    for question in (SOFIA, REGISTRATIONS, CALLS):
        switch = Switch()
        assert switch.answers(wrong, question) == {}
        switch.now += EVERY + 1
        switch.scrape()
        assert question not in switch.asked
        switch.now += LATER
        switch.scrape()
        assert question in switch.asked


@pytest.mark.parametrize("name", [
    'a"b', "a\\b", "a&b", "a<b>c", "ü", "\udcff", "x" * 5000, "a{b=c}", "</name>", "", "ends\\",
])  # fmt: skip
def test_a_name_may_be_anything(name: str) -> None:
    found = Switch().answers(answer(gateway(name), gateway("itsp")))
    assert found["freeswitch_sofia_gateways"] == 2
    assert sum(key.startswith("freeswitch_sofia_gateway_status") for key in found) == 2


def test_one_that_is_there_twice_does_not_spoil_the_scrape() -> None:
    found = Switch().answers(answer(gateway("x" * 300), gateway("x" * 300 + "y"), gateway("itsp"), gateway("itsp")))
    assert found["freeswitch_sofia_gateways"] == 2


def test_of_too_many_those_that_are_down_are_shown() -> None:
    many = [gateway(f"g{number:04}") for number in range(MOST + 50)]
    found = Switch().answers(answer(*many, gateway("zz", "DOWN")))
    shown = {key: value for key, value in found.items() if key.startswith("freeswitch_sofia_gateway_status")}
    assert len(shown) == MOST and list(shown.values()).count(0) == 1
    assert found["freeswitch_sofia_gateways"] == MOST + 51


def test_numbers_that_are_none_are_left_out() -> None:
    found = Switch().answers(answer(gateway("itsp", pingtime="nan", ping="-1", **{"calls-in": "many"})))
    names = {key.partition("[")[0] for key in found}
    gone = {f"freeswitch_sofia_gateway_{name}" for name in ("pingtime", "ping", "call_in")}
    assert not names & gone and "freeswitch_sofia_gateway_call_out" in names


def test_it_is_asked_seldom_and_once_at_a_time() -> None:
    switch = Switch()
    switch.scrape()
    assert set(switch.asked) == {SOFIA, REGISTRATIONS, CALLS}
    first = switch.asked.pop(SOFIA)
    switch.now += 10 * EVERY
    switch.scrape()
    assert SOFIA not in switch.asked, "its answer is still out"
    first.done(answer(gateway("itsp")))
    switch.asked.clear()
    assert "freeswitch_sofia_gateways" in switch.scrape() and SOFIA in switch.asked
    switch.asked.pop(SOFIA).done(answer())
    switch.now += EVERY - 1
    assert switch.scrape()["freeswitch_sofia_gateways"] == 0
    assert SOFIA not in switch.asked, "it was asked a moment ago"
    switch.now += 1
    switch.scrape()
    assert SOFIA in switch.asked


def test_nobody_is_asked_while_freeswitch_is_away() -> None:
    switch = Switch()
    assert switch.scrape(connected=False) == {} and not switch.asked


def test_no_answer_leaves_the_last_until_it_is_too_old() -> None:
    switch = Switch()
    switch.answers(answer(gateway("itsp")))
    switch.now += EVERY
    switch.scrape()
    switch.asked.pop(SOFIA).failed(Failure("Command timed out after 5 seconds", Executed.UNKNOWN))
    switch.now += LATER - 1
    assert "freeswitch_sofia_gateways" in switch.scrape() and SOFIA not in switch.asked
    switch.now += 1
    switch.scrape()
    assert SOFIA in switch.asked
    switch.now += OLD
    assert switch.scrape() == {}


def test_another_freeswitch_is_asked_anew_and_a_late_answer_of_the_first_is_not_taken() -> None:
    switch = Switch()
    switch.answers(answer(gateway("itsp")))
    switch.now += EVERY
    switch.scrape()
    late = switch.asked.pop(SOFIA)
    switch.figures.up()
    late.done(answer(gateway("itsp")))
    assert switch.scrape() == {} and SOFIA in switch.asked
    switch.asked.pop(SOFIA).done(answer())
    late.failed(Failure("FreeSWITCH is unreachable", Executed.NO))
    assert switch.scrape() == {"freeswitch_sofia_gateways": 0}
