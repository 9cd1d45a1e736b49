"""`event-agent --reload`: the daemon reads its configuration by itself, and says what became of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from event_agent import __main__ as program
from event_agent.runtime import reload


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[list[list[str]]]:
    """Answers each SIGHUP to this process with the next of these; without one it says nothing."""
    answers: list[list[str]] = []

    def asked(*_: object) -> None:
        if answers:
            reload.report(str(tmp_path), answers.pop(0))

    before = signal.signal(signal.SIGHUP, asked)
    yield answers
    signal.signal(signal.SIGHUP, before)


def test_the_outcome_of_this_reload_and_not_of_the_last(daemon: list[list[str]], tmp_path: Path) -> None:
    daemon += [[], ["FILE:3: a", "b"], []]
    assert [reload.ask(str(tmp_path), os.getpid()) for _ in range(3)] == [[], ["FILE:3: a", "b"], []]


def test_no_answer(daemon: list[list[str]], tmp_path: Path) -> None:
    with pytest.raises(reload.NoReload, match=r"did not say within 0.1 s"):
        reload.ask(str(tmp_path), os.getpid(), 0.1)
    with pytest.raises(reload.NoReload, match="No such process"):
        reload.ask(str(tmp_path), 2**22 + 1)


def test_a_torn_file_is_no_answer(daemon: list[list[str]], tmp_path: Path) -> None:
    (tmp_path / reload.FILE).write_text('{"mark"')
    daemon.append(["x"])
    assert reload.ask(str(tmp_path), os.getpid()) == ["x"]


def test_without_a_runtime_directory_the_signal_is_all(daemon: list[list[str]]) -> None:
    assert reload.ask("", os.getpid()) == []
    reload.report("", ["x"])
    reload.report("/nowhere", ["x"])


def test_the_command(
    daemon: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", f"{tmp_path}:/other")
    monkeypatch.setenv("MAINPID", str(os.getpid()))
    daemon += [[], ["FILE:3: unknown param"]]
    assert program.main(["--reload"]) == 0
    assert program.main(["--reload"]) == 2
    assert capsys.readouterr().err == "event-agent: not reloaded: FILE:3: unknown param\n"
    monkeypatch.delenv("MAINPID")
    assert program.main(["--reload"]) == 1
    assert "systemctl reload event-agent is meant to run this" in capsys.readouterr().err


