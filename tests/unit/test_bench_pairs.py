"""What bench.pairs shows of two checkouts, and how the calls of an agent are counted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.pairs import quiet, rows, show
from bench.rig import ROOT

AGENT = """
import os, signal, threading

def step():
    return len(())

def run():
    for _ in range(100):
        step()

def main():
    thread = threading.Thread(target=run, name="io")
    thread.start()
    thread.join()
    signal.raise_signal(signal.SIGUSR1)
    return 0
"""


def counted(folder: Path, what: str) -> dict[str, int]:
    (folder / "event_agent").mkdir()
    (folder / "event_agent" / "__init__.py").write_text("")
    (folder / "event_agent" / "__main__.py").write_text(AGENT)
    command = [sys.executable, str(ROOT / "bench" / "counted.py"), str(folder), str(folder / "out"), what]
    subprocess.run(command, check=True, timeout=60)
    return dict(json.loads((folder / "out").read_text())["io"])


def test_calls_of_a_thread_are_counted(tmp_path: Path) -> None:
    found = counted(tmp_path, "calls")
    assert 100 <= found["calls"] < 200 and 100 <= found["built-in calls"] < 200


def test_steps_of_a_thread_are_counted(tmp_path: Path) -> None:
    assert counted(tmp_path, "steps")["steps"] > 500


def test_a_row_has_the_median_of_the_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    show("CPU", [10.0, 30.0, 9.0, 44.0], [10.0, 20.0, 10.0, 40.0])
    assert capsys.readouterr().out == "| CPU | 20.0 | 15.0 | 1.050 (0.900 … 1.500) | 4 |\n"


def test_the_more_pairs_the_narrower_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    show("CPU", [100.0 + number % 100 for number in range(400)], [100.0] * 400)
    assert capsys.readouterr().out == "| CPU | 149.5 | 100.0 | 1.495 (1.450 … 1.540) | 400 |\n"


def test_pairs_during_which_others_worked_are_left_out() -> None:
    loads = [0.5, 0.1] * 8
    assert quiet(loads, 0.15) == [1, 3, 5, 7, 9, 11, 13, 15]
    assert quiet(loads, 0.05) == list(range(16)), "none is quiet: all count"


def test_counts_are_for_each_command(capsys: pytest.CaptureFixture[str]) -> None:
    rows("a command", [{"calls": 300}, {"calls": 400}], 10)
    assert capsys.readouterr().out == "| calls a command | 30.0 | 40.0 | 0.750 | |\n"
