"""Log lines and the audit line: nobody can forge one, and none is lost without being counted."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from event_agent.runtime.log import AuditLog, Budget, Seldom, change_format, clean, priority, setup, to_journal
from tests.support import until

LINE = re.compile(
    r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO \[event_agent\] audit=command cmd=\S+ subject=\S+ "
    r"result=(ok|err) async=(yes|no) payload_bytes=\d+"
)
ANY = st.text(st.characters(), max_size=300)


@pytest.fixture(autouse=True)
def no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)


def written(stream: io.StringIO) -> list[str]:
    text = stream.getvalue()
    assert text == "" or text.endswith("\n")
    return text.splitlines()  # at whatever could be taken for the end of a line


@given(ANY, ANY, st.booleans(), st.booleans(), st.integers(0, 65536))
def test_the_audit_line_can_not_be_forged(name: str, subject: str, ok: bool, run_async: bool, size: int) -> None:
    stream = io.StringIO()
    audit = AuditLog(stream)
    audit.command(name, subject, ok, run_async, size)
    audit.write()
    (line,) = written(stream)
    assert LINE.fullmatch(line), line
    assert line.isascii() and len(line) < 500
    assert f"result={'ok' if ok else 'err'} async={'yes' if run_async else 'no'} payload_bytes={size}" in line
    assert line.count("result=") == 1 or "result=" in name + subject


@given(ANY, st.integers(1, 80))
def test_clean(text: str, limit: int) -> None:
    cleaned = clean(text, limit)
    assert cleaned and len(cleaned) <= max(limit, 1) and " " not in cleaned
    assert cleaned.isascii() and cleaned.isprintable()
    if text and text.isascii() and text.isprintable() and " " not in text:
        assert cleaned == text[:limit]


def test_clean_says_something_of_nothing() -> None:
    assert clean("") == "-"
    assert clean("a b\nc\x1b[31m\u2028é") == "a?b?c?[31m??"


def test_audit_lines_are_written_in_order_by_their_thread() -> None:
    stream = io.StringIO()
    audit = AuditLog(stream)
    audit.start()
    for number in range(500):
        audit.command(f"cmd-{number}", "freeswitch.api", True, False, number)
    audit.stop(5)
    assert [line.split("cmd=")[1].split()[0] for line in written(stream)] == [f"cmd-{number}" for number in range(500)]
    assert not [thread for thread in threading.enumerate() if thread.name == "audit"]


def test_what_does_not_fit_is_counted() -> None:
    stream = io.StringIO()
    audit = AuditLog(stream, most=10)
    for number in range(25):
        audit.command(f"cmd-{number}", "s", True, False, 0)
    audit.write()
    lines = written(stream)
    assert len(lines) == 11 and lines[-1].endswith("audit=lost lines=15")
    audit.command("again", "s", True, False, 0)
    audit.write()
    assert len(written(stream)) == 12, "said once"


def test_audit_can_be_off() -> None:
    stream = io.StringIO()
    audit = AuditLog(stream)
    audit.enabled = False
    audit.command("x", "s", True, False, 0)
    audit.write()
    assert stream.getvalue() == ""


def test_a_stream_that_is_gone_is_no_fault() -> None:
    stream = io.StringIO()
    audit = AuditLog(stream)
    audit.start()
    stream.close()
    audit.command("x", "s", True, False, 0)
    audit.stop(5)
    assert not audit.thread.is_alive()


Journal = Callable[[], str]


def wait(condition: Callable[[], bool]) -> None:
    until(condition, "the condition", 15)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[TextIO, Journal]]:
    """A stream of which systemd has said that it is the journal's, and what was written to it."""
    path = tmp_path / "journal"
    with open(path, "w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        yield stream, path.read_text


def test_the_journal_gets_a_priority(journal: tuple[TextIO, Journal]) -> None:
    stream, text = journal
    audit = AuditLog(stream)
    audit.command("x", "s", False, True, 3)
    audit.write()
    assert text() == "<6>[event_agent] audit=command cmd=x subject=s result=err async=yes payload_bytes=3\n"


def test_a_stream_is_the_journals_only_where_systemd_says_so_of_it(
    journal: tuple[TextIO, Journal], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream, _ = journal
    monkeypatch.setattr(sys, "stderr", stream)
    assert to_journal(stream) and priority(3) == "<3>"
    with open(tmp_path / "other", "w") as other:
        monkeypatch.setattr(sys, "stderr", other)
        assert not to_journal(other) and priority(3) == ""  # the variable was inherited; this stderr is a file
    assert not to_journal(other) and priority(3) == ""  # closed
    assert not to_journal(io.StringIO())
    monkeypatch.setenv("JOURNAL_STREAM", "8:12345")
    assert not to_journal(stream)
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not to_journal(stream)


def test_audit_comes_round_with_nothing_to_write() -> None:
    audit = AuditLog(io.StringIO(), idle=0.01)
    assert audit.beat == 0
    audit.start()
    for _ in range(3):
        beat = audit.beat
        wait(lambda beat=beat: audit.beat > beat)  # type: ignore[misc]
    audit.stop(5)


def test_audit_says_that_it_waits_for_a_reader() -> None:
    read, write = os.pipe()
    with open(read, "rb") as reading, open(write, "w") as stream:
        audit = AuditLog(stream)
        audit.start()
        for _ in range(2000):
            audit.command("x" * 64, "s" * 256, True, False, 0)  # more than a pipe takes
        wait(lambda: audit.writing)
        beat = audit.beat
        reader = threading.Thread(target=reading.read, daemon=True)
        reader.start()
        wait(lambda: audit.beat > beat and not audit.writing)
        audit.stop(5)
        assert not audit.thread.is_alive()
        stream.close()
        reader.join(5)
        assert not reader.is_alive()


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    """The program's logger as it is before any set-up."""
    logger = logging.getLogger("event_agent")
    kept = (logger.handlers[:], logger.propagate, logger.level)
    flags = (logging.logThreads, logging.logProcesses, logging.logMultiprocessing)
    logger.handlers = []
    yield logger
    logger.handlers, logger.propagate = kept[0], kept[1]
    logger.setLevel(kept[2])
    logging.logThreads, logging.logProcesses, logging.logMultiprocessing = flags


def test_set_up(root: logging.Logger) -> None:
    stream, other = io.StringIO(), io.StringIO()
    setup("info", stream)
    logger = logging.getLogger("event_agent.some.module")
    logger.info("hello %s", "you\nCRITICAL forged\r\n")
    logger.debug("not this")
    setup("debug", other)
    logger.debug("but this")
    lines = written(stream)
    assert other.getvalue() == "" and len(root.handlers) == 1, "set up once"
    assert lines[0].endswith("INFO [event_agent] hello you\\nCRITICAL forged\\r\\n"), "one record is one line"
    assert lines[-1].endswith("DEBUG [event_agent] but this")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("\x1b[2Jgone", "\\x1b[2Jgone"), ("a\rb\x00\x7f\x85", "a\\rb\\x00\\x7f\\x85"), ("a\u2028b", "a\\u2028b"),
        ("\ud800", "\\ud800"), ("Zoë: 日本\t", "Zoë: 日本\\t"), ("C:\\n", "C:\\n"),
    ],
)  # fmt: skip
def test_foreign_text_stays_on_its_line(root: logging.Logger, text: str, line: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    setup("info", stream)
    root.info("%s", text)
    try:
        raise ValueError(text)
    except ValueError:
        root.exception("it failed")
    first, second, *traceback = stream.buffer.getvalue().decode().splitlines()
    assert first.endswith(f"[event_agent] {line}") and second.endswith("[event_agent] it failed")
    assert traceback[-1] == f" | ValueError: {line}" and all(each.startswith(" | ") for each in traceback)
    stream.close()


def test_priorities(root: logging.Logger, journal: tuple[TextIO, Journal]) -> None:
    stream, text = journal
    setup("debug", stream)
    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(root, name)("text")
    assert text().splitlines() == [f"<{number}>[event_agent] text" for number in (7, 6, 4, 3, 2)]
    try:
        raise ValueError("inside")
    except ValueError:
        root.exception("it failed")
    last = text().splitlines()[5:]
    assert last[0] == "<3>[event_agent] it failed" and all(line.startswith(" | ") for line in last[1:])


def test_a_line_that_others_can_cause_is_let_through_once_in_a_while() -> None:
    times = iter((1000.0, 1001.0, 1059.9, 1060.0, 1061.0, 5000.0))
    seldom = Seldom(60.0, clock=lambda: next(times))
    assert [seldom.due() for _ in range(6)] == [True, False, False, True, False, True]


def test_json(root: logging.Logger, journal: tuple[TextIO, Journal]) -> None:
    stream, text = journal
    setup("info", stream, "json")
    logging.getLogger("event_agent.some").warning("hello %s", "you\n\u2028\ud800é", extra={"fields": {"a": 1}})
    try:
        raise ValueError("in\nside")
    except ValueError:
        root.exception("it failed")
    change_format("text")
    root.info("plain again")
    first, second, third = text().splitlines()
    assert first.startswith("<4>{") and second.startswith("<3>{") and third == "<6>[event_agent] plain again"
    found = json.loads(first[3:])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "warning", "logger": "event_agent.some", "message": "hello you\n\u2028\ud800é", "fields": {"a": 1},
    }  # fmt: skip
    assert json.loads(second[3:])["exception"].endswith("ValueError: in\nside")


@given(ANY, ANY, st.dictionaries(st.sampled_from(["account", "traceparent"]), ANY))
def test_the_audit_line_as_json(name: str, subject: str, more: dict[str, str]) -> None:
    stream = io.StringIO()
    audit = AuditLog(stream, most=1)
    audit.json = True
    audit.command(name, subject, True, False, 5, more)
    audit.command(name, subject, True, False, 5)
    audit.write()
    line, lost = written(stream)
    fields = json.loads(line)["fields"]
    assert fields["cmd"] == clean(name) and fields["result"] == "ok" and fields["async"] is False
    assert fields.keys() == {"cmd", "subject", "result", "async", "payload_bytes", *more}
    assert json.loads(lost)["fields"] == {"lost": 1} and json.loads(lost)["logger"] == "event_agent.audit"


@given(st.dictionaries(st.sampled_from(["account", "traceparent"]), ANY, min_size=1))
def test_what_is_added_to_the_audit_line_forges_nothing(more: dict[str, str]) -> None:
    stream = io.StringIO()
    audit = AuditLog(stream)
    audit.command("x", "s", True, False, 5, more)
    audit.write()
    (line,) = written(stream)
    assert LINE.match(line) and line.isascii() and len(line.split(" payload_bytes=5 ")[1].split(" ")) == len(more)


def test_so_many_lines_a_second() -> None:
    now = [10.0]
    budget = Budget(2, clock=lambda: now[0])
    assert [budget.due() for _ in range(5)] == [True, True, False, False, False]
    now[0] = 11.0
    assert budget.due() and budget.dropped() == " (3 lines like this were left out)" and budget.dropped() == ""
