"""Where a lone command's microseconds go: what is taken off what, and that the picture is one."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.lone import RELAY, picture, split
from bench.rig import MODULE, NATS, OURS, RAW

FOUND = {RAW: 70.0, NATS: 110.0, RELAY: 240.0, OURS: 290.0, MODULE: 180.0}


def test_the_parts_of_each_bar_are_its_whole() -> None:
    bars = split(FOUND)
    assert {peer: sum(parts.values()) for peer, parts in bars.items()} == {
        peer: value for peer, value in FOUND.items() if peer != MODULE
    }
    assert bars[OURS] == {"FreeSWITCH": 70, "NATS and any program between": 170, "the agent": 50}


def test_nothing_is_less_than_nothing() -> None:
    bars = split(FOUND | {RELAY: 60.0, OURS: 65.0})
    assert bars[OURS]["NATS and any program between"] == bars[OURS]["the agent"] == 0


@pytest.mark.parametrize("without", [None, MODULE])
def test_the_picture_has_a_bar_for_each_way(without: str | None) -> None:
    found = {peer: value for peer, value in FOUND.items() if peer != without}
    svg = ElementTree.fromstring(picture(found, "a < b"))
    texts = ["".join(each.itertext()) for each in svg.iter("{http://www.w3.org/2000/svg}text")]
    for peer, value in found.items():
        assert peer in texts and f"{value:.0f} µs" in texts
    assert "3 × raw" in texts and "a < b" in texts
