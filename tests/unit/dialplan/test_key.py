"""The key that FreeSWITCH must show."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tests.support import until
from tests.unit.dialplan.parts import Make, status_of


def test_a_question_must_bear_the_key(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    house = make(key="s3cret-key")
    refused = (
        "", "?key=", "?key=s3cret-ke", "?key=s3cret-keyx", "?KEY=s3cret-key", "?akey=s3cret-key", "?key=%73",
        "?key=x&key=s3cret-key", "?" + "&" * 5000, "?key=" + "x" * 9000,
    )  # fmt: skip
    for query in refused:
        assert status_of(house, query) == 403, query
    assert house.control.section()["questions_refused"] == len(refused)
    assert caplog.text.count("without the right key") == 1 and "s3cret-key" not in caplog.text
    assert status_of(house, "?key=s3cret-key") == status_of(house, "?a=1&key=s3cret-key") == 200


def test_a_key_is_made_once_and_kept(make: Make, tmp_path: Path) -> None:
    house = make(key="auto")
    key = (tmp_path / "dialplan.key").read_text().strip()
    assert len(key) == 64 and (tmp_path / "dialplan.key").stat().st_mode & 0o777 == 0o600
    assert status_of(house, "") == 403 and status_of(house, f"?key={key}") == 200
    again = make(key="auto")
    assert (tmp_path / "dialplan.key").read_text().strip() == key and status_of(again, f"?key={key}") == 200


def used_without_a_key(make: Make) -> None:
    """Leaves what an agent leaves that parked calls before there were keys."""
    before = make()
    before.run("dialplan.enable")
    before.stop()


OPEN = "park mode was in use before there was a dialplan_key"


def test_an_agent_that_was_in_use_without_a_key_goes_on_until_the_first_question_with_it(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    used_without_a_key(make)
    house = make(key="auto")
    key = (tmp_path / "dialplan.key").read_text().strip()
    assert caplog.text.count(OPEN) == 1 and key not in caplog.text
    line = '<param name="gateway-url" value="http://127.0.0.1:{}/dialplan?key={}" bindings="dialplan"/>'
    assert line.format(house.port, "…") in caplog.text and str(tmp_path / "dialplan.key") in caplog.text
    assert b'application="park"' in house.post()
    assert status_of(house, "?key=wrong") == 403 and status_of(house, "?key=") == 403
    assert house.control.fields()["key"] == "optional"
    assert line.format(house.port, key) in house.control.section()["add"]
    house.stop()

    again = make(key="auto")
    assert caplog.text.count(OPEN) == 2 and again.control.fields()["key"] == "optional"
    assert status_of(again, "") == 200
    assert status_of(again, f"?key={key}") == 200
    assert status_of(again, "") == 403, "at once, whatever the disk does"
    assert again.control.fields()["key"] == "required" and "add" not in again.control.section()
    until(lambda: not (tmp_path / "dialplan.key.optional").exists(), "the key is removed")
    until(lambda: "questions have dialplan_key" in caplog.text, "it is logged, after that")
    again.stop()

    assert status_of(make(key="auto"), "") == 403
    assert caplog.text.count(OPEN) == 2 and (tmp_path / "dialplan.key").read_text().strip() == key


def test_the_state_file_may_be_damaged(make: Make, tmp_path: Path) -> None:
    """Park mode is off then, but the binding is there and the next dialplan.enable counts on it."""
    (tmp_path / "dialplan.json").write_text("{")
    assert status_of(make(key="auto"), "") == 200


def test_park_mode_that_is_used_after_the_key_was_made_needs_it(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = make(key="auto")
    first.run("dialplan.enable")
    first.stop()
    second = make(key="auto")
    assert status_of(second, "") == 403 and second.control.fields()["key"] == "required"
    assert OPEN not in caplog.text and not (tmp_path / "dialplan.key.optional").exists()


def test_a_key_of_ones_own_is_wanted_from_the_start(make: Make) -> None:
    used_without_a_key(make)
    house = make(key="s3cret-key")
    assert status_of(house, "") == 403 and house.control.fields()["key"] == "required"


def test_a_disk_that_takes_no_key(
    make: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    used_without_a_key(make)
    with monkeypatch.context() as patch:
        patch.setattr("event_agent.dialplan.secret._write", no_space)
        house = make(key="auto")
        assert caplog.text.count("dialplan.key can't be written: No space left on device") == 1
        assert status_of(house, "") == 200
        house.stop()
    assert not (tmp_path / "dialplan.key").exists()
    again = make(key="auto")
    assert status_of(again, "") == 200, "else park mode would end with the first restart"
    key = (tmp_path / "dialplan.key").read_text().strip()
    monkeypatch.setattr("event_agent.dialplan.secret.os.unlink", no_space)
    assert status_of(again, f"?key={key}") == 200 and status_of(again, "") == 403
    until(lambda: "dialplan.key.optional can't be removed: No space left on device" in caplog.text, "it is logged")


def no_space(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_the_line_to_add_has_the_key_and_the_log_has_not(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    house = make(key="s3cret-key")
    house.asks = False
    house.control.choose(lambda _: None, enabled=True)
    house.control.linked()
    until(lambda: "add" in house.control.section(), "it says what to add")
    assert "/dialplan?key=s3cret-key" in house.control.section()["add"]
    until(lambda: "/dialplan?key=…" in caplog.text, "it is logged, just after")
    assert "s3cret-key" not in caplog.text


def test_without_a_key_all_questions_are_answered_and_one_line_warns(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    assert status_of(make(), "") == 200
    assert caplog.text.count("dialplan_key is empty") == 1
