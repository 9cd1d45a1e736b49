"""Prometheus's text format, read with the parser of Prometheus's own client library."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from event_agent.observe.exposition import Page

# What UTF-8 can hold: the parser is given text.
TEXTS = st.text(st.characters(codec="utf-8"), max_size=30)


def read(page: Page) -> dict[str, list[tuple[str, dict[str, str], float]]]:
    """{family: [(sample, labels, value)]}, by somebody else's parser."""
    return {
        family.name: [(each.name, each.labels, each.value) for each in family.samples]
        for family in text_string_to_metric_families(page.text().decode())
    }


def test_each_kind() -> None:
    page = Page()
    page.gauge("a", "What a is.", 1.5)
    page.gauge("b", "B.", True, x="y", z="")
    page.counter("c_total", "C.", 2**60)
    page.counters("d_total", "D.", [({"of": "1"}, 0), ({"of": "2"}, 7)])
    page.histograms("e_seconds", "E.", [0.001, 1.0], [({"of": "1"}, [3, 4], 5, 12.25)])
    assert read(page) == {
        "a": [("a", {}, 1.5)],
        "b": [("b", {"x": "y", "z": ""}, 1)],
        "c": [("c_total", {}, 2**60)],
        "d": [("d_total", {"of": "1"}, 0), ("d_total", {"of": "2"}, 7)],
        "e_seconds": [
            ("e_seconds_bucket", {"of": "1", "le": "0.001"}, 3),
            ("e_seconds_bucket", {"of": "1", "le": "1.0"}, 4),
            ("e_seconds_bucket", {"of": "1", "le": "+Inf"}, 5),
            ("e_seconds_sum", {"of": "1"}, 12.25),
            ("e_seconds_count", {"of": "1"}, 5),
        ],
    }
    kinds = {each.name: each.type for each in text_string_to_metric_families(page.text().decode())}
    assert kinds == {"a": "gauge", "b": "gauge", "c": "counter", "d": "counter", "e_seconds": "histogram"}
    assert b"# HELP a What a is.\n" in page.text()


@given(st.dictionaries(st.sampled_from("abc"), TEXTS), TEXTS)
def test_no_label_breaks_out(labels: dict[str, str], more: str) -> None:
    page = Page()
    page.counters("x_total", "X.", [({**labels, "z": more}, 3)])
    page.gauge("after", "After.", 4)
    assert read(page) == {"x": [("x_total", {**labels, "z": more}, 3)], "after": [("after", {}, 4)]}


@given(st.floats(allow_nan=False) | st.integers(-(2**63), 2**63))
def test_numbers_keep_their_value(value: float) -> None:
    page = Page()
    page.gauge("x", "X.", value)
    ((_, _, found),) = read(page)["x"]
    assert found == value, "a float as it is, an integer to its last digit"


@pytest.mark.parametrize("text", ["\ud800", "a\udfffb"])
def test_what_utf8_can_not_hold(text: str) -> None:
    page = Page()
    page.gauge("x", "X.", 1, of=text)
    ((_, labels, _),) = read(page)["x"]
    assert "?" in labels["of"]
