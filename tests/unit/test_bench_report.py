"""The bench's tables, pictures and what is drawn on from them, made from a canned results.json."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest

from bench import report
from bench.growth import growth, line
from bench.picture import pictures
from bench.rows import Results, from_json, number, rotated

CANNED = Path(__file__).parent.parent / "fixtures" / "bench-results.json"


@pytest.fixture
def results() -> dict[str, Any]:
    return dict(json.loads(CANNED.read_text()))


def row(text: str, beginning: str) -> list[str]:
    found = next(line for line in text.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in found.strip("|").split("|")]


def test_a_table_compares_within_the_runs(results: dict[str, Any]) -> None:
    text = report.tables(results)
    assert row(text, "  ")[1:4] == ["event-agent", "raw event socket", "mod_event_agent"]
    # ours 10,000 12,000 14,000; the raw event socket's 20,000 20,000 20,000
    assert row(text, "commands a second, 50 in flight")[1:] == [
        "12,000 (10,000 … 14,000)", "20,000", "40,000 (30,000 … 50,000)",
        "0.60", "0.30", "10,000 reached", "20,000 missed",
    ]  # fmt: skip
    assert row(text, "99th percentile, 1 in flight")[-2:] == ["1,000 missed", ""]
    assert row(text, "median, idle (ms)")[1] == "9.50"
    assert "- mod_event_agent: loaded" in text


def test_what_was_not_measured_leaves_its_cell_empty(results: dict[str, Any]) -> None:
    results["rows"] = [each for each in results["rows"] if each["peer"] != "mod_event_agent" or each["at"] == 1]
    text = report.tables(results)
    assert row(text, "commands a second, 50 in flight")[3] == ""
    assert row(text, "commands a second, 50 in flight")[5] == ""


def test_pictures_are_well_formed_and_show_every_peer(results: dict[str, Any]) -> None:
    made = pictures(results)
    assert sorted(made) == ["commands.svg", "events.svg"]
    for text in made.values():
        root = ElementTree.fromstring(text)
        width, height = float(root.attrib["width"]), float(root.attrib["height"])
        for element in root.iter():
            for name, most in (("x", width), ("y", height), ("cx", width), ("cy", height)):
                if name in element.attrib:
                    assert 0 <= float(element.attrib[name]) <= most
    for peer in ("event-agent", "raw event socket", "mod_event_agent"):
        assert f">{peer}</text>" in made["commands.svg"]


def test_no_picture_of_what_was_not_measured() -> None:
    assert pictures({"meta": {}, "rows": []}) == {}


def test_growth_is_a_line_through_the_figures(results: dict[str, Any]) -> None:
    assert line([(1, 3.0), (10, 12.0), (50, 52.0)]) == pytest.approx((2.0, 1.0))
    text = growth(results)
    assert "- The agent: 2 % of a core and 10 ms of CPU a call." in text
    assert "some 100 such calls a\nsecond, which is 4,000 events" in text
    assert "costs a node 4 µs of CPU" in text
    assert growth({"meta": {}, "rows": []}) == ""


def test_a_document_gets_tables_pictures_and_growth(results: dict[str, Any], tmp_path: Path) -> None:
    shutil.copy(CANNED, tmp_path / "results.json")
    document = tmp_path / "PERFORMANCE.md"
    marks = "".join(f"<!-- {name}: begin -->old<!-- {name}: end -->\n" for name in ("figures", "growth"))
    document.write_text(f"before\n{marks}after\n")
    for _ in range(2):  # the second time it changes nothing
        report.main([str(tmp_path / "results.json"), str(document)])
    text = document.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "old" not in text
    assert text.count("**Commands**") == 1 and text.count("costs a node") == 1
    assert (tmp_path / "performance" / "commands.svg").exists() and "](performance/commands.svg)" in text


def test_a_document_without_markers_is_refused(results: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="figures: begin"):
        report.put_into("nothing here", "figures", "text")


def test_results_gather_the_values_of_all_runs(capsys: pytest.CaptureFixture[str]) -> None:
    gathered = Results({"runs": 2})
    for value in (1.0, 3.0):
        gathered.add("commands", "median latency", "µs", "event-agent", value, 1, floor=2.0)
    gathered.add("commands", "median latency", "µs", "event-agent", 9.0, 50)
    assert "median latency at 50, event-agent: 9.00 µs" in capsys.readouterr().out
    first, second = json.loads(json.dumps(gathered.as_json()))["rows"]
    assert (first["values"], first["median"], first["low"], first["high"], first["floor"]) == (
        [1.0, 3.0],
        2.0,
        1.0,
        3.0,
        2.0,
    )
    assert from_json(gathered.as_json())[1].at == second["at"] == 50


def test_numbers_have_the_digits_that_say_something() -> None:
    shown = [number(value) for value in (12345.6, 100.4, 12.34, 1.234, 0.5, 0.0123, 0, 4000.0)]
    assert shown == ["12,346", "100", "12.3", "1.23", "0.50", "0.012", "0", "4,000"]


def test_each_peer_comes_first_in_turn() -> None:
    assert [rotated(["a", "b", "c"], run)[0] for run in range(4)] == ["a", "b", "c", "a"]
