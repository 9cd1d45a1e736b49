"""Numbers as they are dialled, and the calls that are never taken."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.dialplan.answers import read_params
from event_agent.dialplan.choices import Manager, Store
from event_agent.dialplan.numbers import SPELLING, compile_exceptions, is_emergency, plain
from event_agent.dialplan.secret import Seal

RECORDED = Path(__file__).parent.parent / "fixtures" / "xml-curl" / "dialplan-request.txt"
WRITTEN = (
    "112", "112;phone-context=+49", "112;user=phone", "112#", "112%23", "112##", "+112", "%2B112", "1-1-2", "(112)",
    "1 1 2", "11.2", "tel:112", "sip:112@127.0.0.1", "112@pbx:5060", "112;phone-context=+49@pbx:5060", "+112#;x=y",
)  # fmt: skip
OTHERS = ("1120", "0112", "12", "*112", "11 2 3", "112*", "phone", "911", "", "#", "+", ";112")


def decided(dialled: str, *, variables: dict[str, str] | None = None, **choices: object) -> bool:
    """True if a call to this number is parked; asked as FreeSWITCH asks, escapes and all."""
    body = RECORDED.read_bytes().strip().rpartition(b"\n")[2]
    body = body.replace(b"Hunt-Destination-Number=9196", f"Hunt-Destination-Number={quote_plus(dialled)}".encode())
    for name, value in (variables or {}).items():
        body += f"&{name}={quote_plus(value)}".encode()
    manager = Manager(Seal("").of)
    manager.choose(enabled=True, **choices)
    return manager.decide(read_params(body)) is not None


@pytest.mark.parametrize("number", WRITTEN)
def test_a_number_that_is_excepted_is_never_parked_however_it_is_written(number: str) -> None:
    assert not decided(number, excepted=("112", "0900*"))
    assert not decided(number, excepted=("11*",))
    assert not decided(number, excepted=("+112#",))
    assert not decided(number, number=".", excepted=("112",))
    assert decided(number, excepted=("113", "0900*"))


@pytest.mark.parametrize("number", OTHERS)
def test_other_numbers_are_parked(number: str) -> None:
    assert decided(number, excepted=("112", "0900*"))


def test_a_star_at_the_end_stands_for_any_rest_and_elsewhere_for_itself() -> None:
    excepted = compile_exceptions(["0900*", "*21*"])
    assert all(map(excepted, ("0900", "0900123", "0900-123;x=y", "*21*4711#", "*21")))
    assert not any(map(excepted, ("900", "1900", "0800", "214711", "*2")))


@pytest.mark.parametrize("number", WRITTEN)
def test_a_negative_pattern_keeps_them_out_too(number: str) -> None:
    assert not decided(number, number=r"^(?!112$|911$)")


@pytest.mark.parametrize(
    ("pattern", "number", "parked"),
    [
        (r"^\*21\*.*#$", "*21*4711#", True),
        (r"^\+49", "+4930123", True),
        (r"^\+49", "+4930123;phone-context=example.com", True),
        (r"^4930123$", "4930123;isub=1", True),
        (r"@example\.com$", "4930;x=y@example.com", True),
        (r"^30-1", "30-123456", True),
        (r"phone-context", "112;phone-context=+49", False),
        (r"^112$", "112;phone-context=+49", True),
        (r"^112$", "112", True),  # who asks for it gets it
    ],
)
def test_patterns_go_on_meaning_what_they_meant(pattern: str, number: str, parked: bool) -> None:
    assert decided(number, number=pattern) is parked


@pytest.mark.parametrize("name", ["variable_sip_req_uri", "variable_sip_to_uri"])
@pytest.mark.parametrize(
    "uri",
    ["nobody@service:sos", "nobody@service:sos.fire", "nobody@SERVICE:SOS.Police", "nobody@service:test.sos",
     "urn:service:sos@example.com", "urn:service:sos", "nobody@service:sos.ecall.manual"],
)  # fmt: skip
def test_an_emergency_service_is_never_parked(name: str, uri: str) -> None:
    assert not decided("4711", variables={name: uri})
    assert not decided("4711", variables={name: uri}, number="^4711$", contexts=("default",))


@pytest.mark.parametrize(
    "uri", ["sos@example.com", "112@example.com", "nobody@service:counseling", "service@sos.com", ""]
)
def test_other_services_are_parked(uri: str) -> None:
    assert decided("4711", variables={"variable_sip_req_uri": uri})
    assert not decided("sos", variables={"variable_sip_req_uri": uri}, excepted=("SOS",))


def test_the_exceptions_are_kept(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    manager = Manager(Seal("").of)
    store.save(manager.choose(enabled=True, excepted=("112", "0900*")))
    assert store.load().excepted == ("112", "0900*")


def test_a_state_of_1_0_has_none_and_a_damaged_one_is_set_aside(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    path = tmp_path / "dialplan.json"
    old = (
        '{"version": 1, "enabled": true, "contexts": [], "number": "", "audio": "silence", "music_class": "",'
        ' "autoanswer": false%s}'
    )
    path.write_text(old % "")
    assert store.load().enabled and store.load().excepted == ()
    for bad in ('"*"', "5", '"112;x"', f'"{"1" * 65}"', ", ".join(['"1"'] * 65)):
        path.write_text(old % f', "excepted": [{bad}]')
        assert not store.load().enabled and (tmp_path / "dialplan.json.damaged").exists()


@given(st.text())
def test_any_text_can_be_compared(text: str) -> None:
    assert not set(plain(text)) & set(";@-.() \t") and not plain(text).endswith("#")
    assert is_emergency({"variable_sip_req_uri": f"nobody@service:sos{text}"})


@given(st.text(max_size=64).filter(SPELLING.match))
def test_an_exception_leaves_something_to_compare(text: str) -> None:
    assert plain(text.rstrip("*")) and compile_exceptions([text])(text.rstrip("*"))
