"""Which call is taken, what it is told to do, and how the choices outlast a restart."""

from __future__ import annotations

import json
import logging
import os
import threading
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.dialplan.answers import NOT_FOUND, read_params, write_extension, write_probe
from event_agent.dialplan.choices import FILE, Choices, Extension, Manager, Store
from event_agent.dialplan.pattern import BadPattern
from event_agent.dialplan.routing import Route
from event_agent.dialplan.secret import SEAL_FILE, Seal, kept_secret

RECORDED = Path(__file__).parent.parent / "fixtures" / "xml-curl" / "dialplan-request.txt"


SEAL = Seal("")


def recorded() -> dict[str, str]:
    return read_params(RECORDED.read_bytes().strip().rpartition(b"\n")[2])


def on(**changes: object) -> Manager:
    manager = Manager(SEAL.of)
    manager.choose(enabled=True, **changes)
    return manager


def parks(manager: Manager, params: dict[str, str]) -> Extension | None:
    found = manager.decide(params)
    assert not isinstance(found, Route)
    return found


def test_the_recorded_request_is_understood() -> None:
    params = recorded()
    assert params["section"] == "dialplan" and params["Hunt-Context"] == "default"
    assert params["Hunt-Destination-Number"] == "9196" and params["Caller-Profile-Index"] == "1"
    assert params["Unique-ID"] == "5484c8f6-edf8-4b61-b2d3-19b27bc6518e" and params["Call-Direction"] == "inbound"


def test_off_takes_no_call() -> None:
    manager = Manager(SEAL.of)
    assert manager.decide(recorded()) is None


@pytest.mark.parametrize(("autoanswer", "first"), [(False, "pre_answer"), (True, "answer")])
def test_park(autoanswer: bool, first: str) -> None:
    manager = on(autoanswer=autoanswer)
    extension = parks(manager, recorded())
    assert extension is not None and extension.context == "default"
    assert [each[0] for each in extension.actions] == ["set", "set", "set", first, "park"]
    assert extension.actions[0] == ("set", "event_agent_parked=1")
    assert extension.actions[1] == ("set", f"event_agent_seal={SEAL.of(recorded()['Unique-ID'])}")


def test_a_silence_setting_of_the_call_is_left_alone() -> None:
    extension = parks(on(), recorded() | {"variable_send_silence_when_idle": "400"})
    assert extension is not None and [each[0] for each in extension.actions] == ["set", "set", "pre_answer", "park"]


def test_a_call_that_is_answered_is_left_alone() -> None:
    answered = recorded() | {"Answer-State": "answered", "Caller-Profile-Index": "2"}
    assert on().decide(answered) is None
    assert on().decide(answered | {"Caller-Profile-Index": "1"}) is None  # execute_extension
    assert on().decide(answered | {"variable_event_agent_seal": "guess"}) is None
    # It was parked by us, and somebody took the mark off.
    assert on().decide(answered | {"variable_event_agent_seal": SEAL.of(recorded()["Unique-ID"])})
    for state in ("ringing", "early", ""):
        assert on().decide(answered | {"Answer-State": state})


@pytest.mark.parametrize(
    "change",
    [
        {"variable_event_agent_parked": "1"},  # parked before, and sent on
        {"Call-Direction": "outbound"},
        {"section": "directory"},
        {"tag_name": "extension"},
        {"Hunt-Context": "", "Caller-Context": ""},
        {"Hunt-Context": "a\x07b"},
        {"Hunt-Context": "$${evil}"},
    ],
)
def test_not_ours(change: dict[str, str]) -> None:
    assert on().decide(recorded() | change) is None


def test_scope() -> None:
    manager = on(contexts=("public", "Default"), number="^91")
    assert manager.decide(recorded())
    assert manager.decide(recorded() | {"Hunt-Context": "DEFAULT"})
    assert not manager.decide(recorded() | {"Hunt-Context": "internal"})
    assert not manager.decide(recorded() | {"Hunt-Destination-Number": "5551234"})
    manager.choose(contexts=(), number="")
    assert manager.decide(recorded() | {"Hunt-Context": "internal", "Hunt-Destination-Number": "5551234"})


def test_a_bad_pattern_changes_nothing() -> None:
    manager = on(number="^91")
    with pytest.raises(BadPattern):
        manager.choose(number="(a+)+$", enabled=False)
    assert manager.choices == Choices(enabled=True, number="^91")


def test_an_odd_profile_index_can_not_get_into_the_xml() -> None:
    extension = parks(on(), recorded() | {"Caller-Profile-Index": "${system(true)}"})
    assert extension is not None and extension.actions[0] == ("set", "event_agent_parked=1")


@given(st.text())
def test_the_xml_says_what_was_decided(context: str) -> None:
    extension = parks(on(), recorded() | {"Hunt-Context": context, "Caller-Context": ""})
    if extension is None:
        return
    root = ET.fromstring(write_extension(extension))
    found = root.find("./section[@name='dialplan']/context")
    assert root.attrib == {"type": "freeswitch/xml"} and found is not None and found.get("name") == context
    actions = [(each.get("application"), each.get("data") or "") for each in found.iter("action")]
    assert actions == list(extension.actions)


def test_not_found_and_probe() -> None:
    result = ET.fromstring(NOT_FOUND).find("./section[@name='result']/result")
    assert result is not None and result.get("status") == "not found"
    probe = ET.fromstring(write_probe('a"<&')).find("./section[@name='dialplan']/event-agent")
    assert probe is not None and probe.get("probe") == 'a"<&'


@given(st.binary(max_size=2000))
def test_any_body_can_be_read(data: bytes) -> None:
    on().decide(read_params(data))


def test_the_first_of_a_name_counts() -> None:
    params = read_params(b"section=dialplan&section=directory&Hunt-Context=a%20b+c%C3%A9%FF&Hunt-Context=x&junk")
    assert params == {"section": "dialplan", "Hunt-Context": "a b c\xe9\ufffd"}


def test_escapes_that_are_none_and_values_that_are_long() -> None:
    data = b"section=%&tag_name=%4&key_value=%zz%41%&Hunt-Context=" + b"%61" * 2000 + b"&Unique-ID=" + b"%" * 200_000
    params = read_params(data)
    assert (params["section"], params["tag_name"], params["key_value"]) == ("%", "%4", "%zzA%")
    assert params["Hunt-Context"] == "a" * 341 + "%" and params["Unique-ID"] == "%" * 1024


@pytest.mark.parametrize(("given", "kept"), [("12", "12"), ("9" * 10, "1"), ("\u0663", "1"), ("x", "1"), ("", "1")])
def test_a_profile_index_is_a_small_number(given: str, kept: str) -> None:
    extension = parks(on(), recorded() | {"Caller-Profile-Index": given})
    assert extension is not None and extension.actions[0] == ("set", f"event_agent_parked={kept}")



# --- what is kept on disk


def test_a_secret_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    made = kept_secret(str(tmp_path), SEAL_FILE)
    assert len(made) == 64 and (tmp_path / SEAL_FILE).stat().st_mode & 0o777 == 0o600
    assert kept_secret(str(tmp_path), SEAL_FILE) == made and [each.name for each in tmp_path.iterdir()] == [SEAL_FILE]
    (tmp_path / SEAL_FILE).write_text("damaged")
    assert kept_secret(str(tmp_path), SEAL_FILE, make=False) == ""
    assert kept_secret(str(tmp_path), SEAL_FILE) not in ("damaged", made, "")


def test_a_secret_that_can_not_be_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert kept_secret("", SEAL_FILE) != kept_secret("", SEAL_FILE) and not caplog.records
    assert len(kept_secret(str(tmp_path / "missing"), SEAL_FILE)) == 64
    (tmp_path / SEAL_FILE).mkdir()
    assert len(kept_secret(str(tmp_path), SEAL_FILE)) == 64
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


def test_seals(tmp_path: Path) -> None:
    seal = Seal(str(tmp_path))
    seal.load()
    assert not seal.fits("a", "") and not list(tmp_path.iterdir()), "nothing was sealed yet"
    made = seal.of("a")
    assert len(made) == 32 and seal.fits("a", made) and not seal.fits("b", made) and not seal.fits("a", made.upper())
    second = Seal(str(tmp_path))
    second.load()
    assert second.fits("a", made)

KEPT = Choices(True, ("public", "b\xe9"), "^91", "music", "moh/8000", True)


def test_saved_and_loaded(tmp_path: Path) -> None:
    Store(str(tmp_path)).save(KEPT)
    assert Store(str(tmp_path)).load() == KEPT
    assert [each.name for each in tmp_path.iterdir()] == [FILE]


def test_nothing_saved_yet(tmp_path: Path) -> None:
    assert Store(str(tmp_path)).load() == Choices() == Store("").load()
    Store("").save(KEPT)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "null", '{"version":2}', "\xff", "[" * 5000,
        *(
            json.dumps({"version": 1, "enabled": True, "contexts": [], "number": "", "audio": "ringback",
                        "music_class": "", "autoanswer": False} | wrong)
            for wrong in (
                {"enabled": 1}, {"contexts": [1]}, {"contexts": [""]}, {"number": "(a+)+$"}, {"audio": "jazz"},
                {"music_class": "a b"}, {"autoanswer": None}, {"contexts": None}, {"version": 0},
            )
        ),
    ],
)  # fmt: skip
def test_damage_is_reported_and_set_aside(tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_text(text, encoding="latin-1")
    assert Store(str(tmp_path)).load() == Choices()
    assert [record.levelno for record in caplog.records] == [logging.ERROR] and "damaged" in caplog.text
    assert (tmp_path / f"{FILE}.damaged").read_text(encoding="latin-1") == text and not (tmp_path / FILE).exists()


def test_a_folder_that_can_not_be_written_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = Store(str(tmp_path / "missing"))
    store.save(KEPT)
    store.save(KEPT)
    assert len(caplog.records) == 1 and "can't be written" in caplog.text


@pytest.mark.parametrize("broken", ["write", "fsync", "replace"])
def test_a_power_cut_leaves_the_old_or_the_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    store = Store(str(tmp_path))
    store.save(KEPT)

    def cut(*_: object) -> None:
        raise OSError(5, "power cut")

    if broken == "write":
        monkeypatch.setattr(json, "dumps", lambda *_, **__: "half\udcff")  # fails while it is written
        with pytest.raises(UnicodeEncodeError):
            store.save(Choices())
    else:
        monkeypatch.setattr(os, broken, cut)
        store.save(Choices())
    monkeypatch.undo()
    assert Store(str(tmp_path)).load() == KEPT


def test_choices_may_change_while_calls_are_decided() -> None:
    manager, seen, stop = Manager(SEAL.of), set(), threading.Event()

    def change() -> None:
        while not stop.is_set():
            manager.choose(enabled=True, number="^91", contexts=("default",))
            manager.choose(enabled=True, number="", contexts=("other",))

    thread = threading.Thread(target=change)
    thread.start()
    for _ in range(2000):
        seen.add(manager.decide(recorded()) is not None)
    stop.set()
    thread.join(5)
    assert seen <= {True, False}
