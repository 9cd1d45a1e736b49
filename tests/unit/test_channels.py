"""Which channels there are, as far as consumers have heard, and how that outlives the process."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from event_agent.freeswitch import channels as module
from event_agent.freeswitch.channels import FILE, HEAD, Channels
from event_agent.freeswitch.gaps import Gaps
from event_agent.protocol.raw_event import RawEvent

POSTINST = Path(__file__).resolve().parent.parent.parent / "debian" / "event-agent.postinst"
C1, C2 = "11111111-0000-0000-0000-000000000001", "22222222-0000-0000-0000-000000000002"


def event(name: str, uuid: str, **more: str) -> RawEvent:
    fields = {"Event-Name": f"CHANNEL_{name}", "Unique-ID": uuid, **{key.replace("_", "-"): more[key] for key in more}}
    return RawEvent(json.dumps(fields, separators=(",", ":")).encode())


def seen(gaps: Gaps, number: int, stamp: int = 1000) -> RawEvent:
    fields = {"Event-Name": "X", "Core-UUID": C1, "Event-Date-Timestamp": str(stamp), "Event-Sequence": str(number)}
    found = RawEvent(json.dumps(fields, separators=(",", ":")).encode())
    gaps.seen([found])
    return found


class House:
    def __init__(self, folder: Path | str) -> None:
        self.gaps = Gaps()
        self.channels = Channels(str(folder), self.gaps)
        self.channels.start()

    def link(self, core: str = C1, seamless: bool = False) -> tuple[bool, list[str]]:
        self.channels.linked(core, seamless)
        checking, suspects = self.channels.to_check()
        return checking, sorted(suspects)

    def take(self, *events: RawEvent) -> None:
        self.channels.take(events)

    def stop(self) -> None:
        self.channels.stop(1.0)


@pytest.fixture
def house(tmp_path: Path) -> House:
    found = House(tmp_path)
    assert found.link() == (True, []), "nothing is known of the time before"
    return found


def test_channels_begin_end_and_are_renamed(house: House) -> None:
    house.take(event("CREATE", "a"), event("CREATE", "b"), event("UUID", "c", Old_Unique_ID="b"))
    assert house.channels.count == 2
    house.take(event("DESTROY", "a"), event("UUID", "y", Old_Unique_ID="x"), event("DESTROY", "c"))
    assert house.channels.count == 0


def test_an_end_that_comes_before_its_beginning(house: House) -> None:
    house.take(event("DESTROY", "a"))
    house.take(event("CREATE", "a"))
    assert house.channels.count == 0
    house.take(event("CREATE", "a"))
    assert house.channels.count == 1, "another channel of the same name"
    for number in range(2 * module.EARLY):
        house.take(event("DESTROY", f"u{number}"))
    assert len(house.channels.early) == module.EARLY


def test_what_sendevent_fires_and_what_is_no_uuid_is_not_tracked(house: House) -> None:
    house.take(event("CREATE", "a b"), event("CREATE", "a\nb"), event("CREATE", ""), event("CREATE", "é"))
    assert house.channels.count == 0


def test_without_a_gap_nothing_is_suspect(house: House) -> None:
    house.take(event("CREATE", "a"), event("CREATE", "b"))
    house.channels.checked(house.channels.epoch)
    assert house.link(seamless=True) == (False, [])
    assert house.link(seamless=False) == (True, ["a", "b"])
    house.take(event("DESTROY", "a"))
    assert house.channels.to_check() == (True, ["b"]), "consumers have seen that one end"
    assert not house.channels.gone("a") and house.channels.gone("b") and not house.channels.gone("b")


def test_what_ended_while_it_was_looked_for_is_not_found(house: House) -> None:
    house.take(event("DESTROY", "a"), event("CREATE", "b"))
    assert house.channels.knows("a") and house.channels.knows("b") and not house.channels.knows("c")
    assert not house.channels.found("a") and not house.channels.found("b")
    assert house.channels.found("c") and not house.channels.found("c") and house.channels.count == 2
    house.channels.checked(house.channels.epoch - 1)
    assert house.channels.to_check()[0], "that was another link's"
    house.channels.checked(house.channels.epoch)
    assert house.channels.to_check() == (False, [])


def test_another_freeswitch_has_none_of_them(house: House) -> None:
    house.take(event("CREATE", "b"), event("CREATE", "a"))
    assert house.link(C2) == (True, [])
    assert house.channels.dead() == [(C1, "a"), (C1, "b")] and house.channels.dead() == []
    assert house.channels.count == 0


@pytest.mark.parametrize("end", ["stopped", "killed"])
def test_they_outlive_the_process(house: House, tmp_path: Path, end: str) -> None:
    house.take(event("CREATE", "a"), event("CREATE", "b"), event("CREATE", "c"), event("DESTROY", "b"))
    house.channels.gone("c")
    house.channels.found("d")
    if end == "stopped":
        house.stop()
        house.stop()
    again = House(tmp_path)
    assert again.channels.count == 2
    # Nothing was missed, if the connection outlived the process; but a killed one may have dropped what it had read.
    assert again.link(seamless=True) == ((False, []) if end == "stopped" else (True, ["a", "d"]))


def test_the_last_event_outlives_an_orderly_end(house: House, tmp_path: Path) -> None:
    mark = seen(house.gaps, 99)
    house.gaps.linked(C1, mark)
    seen(house.gaps, 100, 5000)
    house.stop()
    again = House(tmp_path)
    again.gaps.linked(C1, seen(Gaps(), 120, 9000))
    (hole,) = again.gaps.holes()
    assert hole.count == again.gaps.take() == 19 and not hole.other
    assert b'"5000"' in hole.before and b'"9000"' in hole.after


def test_what_was_under_way_at_an_orderly_end_is_missed_as_well(house: House, tmp_path: Path) -> None:
    house.gaps.linked(C1, seen(house.gaps, 1))
    for number in (2, 3, 6, 7, 5, 9):  # 4 and 8 are not here yet
        seen(house.gaps, number, 5000 + number)
    house.stop()
    again = House(tmp_path)
    again.gaps.linked(C1, seen(Gaps(), 20, 9000))
    (hole,) = again.gaps.holes()
    assert hole.count == again.gaps.take() == 10 + 2
    assert b'"5003"' in hole.before and b'"9000"' in hole.after, "it begins before the first of them"


def test_a_killed_process_leaves_a_gap_of_which_nobody_knows_the_size(house: House, tmp_path: Path) -> None:
    house.gaps.linked(C1, seen(house.gaps, 1))
    os.utime(tmp_path / FILE, (1000.0, 1000.0))
    again = House(tmp_path)
    again.gaps.linked(C1, seen(Gaps(), 120, 9000))
    (hole,) = again.gaps.holes()
    assert hole.count is None and again.gaps.take() is None and not hole.other and b'"1000000000"' in hole.before
    other = House(tmp_path)
    other.gaps.linked(C2, seen(Gaps(), 3, 9000))
    (hole,) = other.gaps.holes()
    assert hole.other and hole.count is None


@pytest.mark.skipif(not POSTINST.exists(), reason="not a checkout")
def test_after_a_version_that_keeps_no_file_events_may_be_missing_since_the_upgrade(tmp_path: Path) -> None:
    """The package's postinst writes the file; it has no FreeSWITCH that could be another one."""
    postinst = POSTINST.read_text(encoding="utf-8")
    (line,) = [text for text in postinst.split('"') if text.startswith(HEAD)]
    (tmp_path / FILE).write_text(f"{line}\n", encoding="utf-8")
    os.utime(tmp_path / FILE, (1000.0, 1000.0))
    house = House(tmp_path)
    house.gaps.linked(C1, seen(Gaps(), 120, 9000))
    (hole,) = house.gaps.holes()
    assert hole.count is None and not hole.other and b'"1000000000"' in hole.before and b'"9000"' in hole.after
    assert house.link() == (True, []) and not house.channels.dead()


def test_a_gap_that_a_failed_link_found_is_not_forgotten() -> None:
    gaps = Gaps()
    gaps.linked(C1, seen(gaps, 1))
    assert not gaps.seamless()
    gaps.linked(C1, seen(Gaps(), 9))  # and then this link failed before anybody heard of it
    gaps.linked(C1, seen(Gaps(), 10))
    assert not gaps.seamless() and gaps.seamless()


DAMAGE: dict[str, bytes] = {
    "empty": b"", "foreign": b"#!/bin/sh\nexit 0\n", "binary": bytes(range(256)) * 10,
    "version": b"event-agent channels 2 " + C1.encode() + b"\n+a\n", "no core": HEAD.encode() + b"a b\n+a\n",
}  # fmt: skip


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_file_that_is_none_of_ours(kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / FILE).write_bytes(DAMAGE[kind])
    house = House(tmp_path)
    assert "the list of channels can't be read" in caplog.text and house.link() == (True, [])
    house.take(event("CREATE", "z"))
    assert House(tmp_path).channels.count == 1, "it is written anew"


def test_a_torn_end_and_lines_that_are_none(tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(f"{HEAD}{C1}\n+a\n+b\n-b\n\n?x\n+not a uuid\n+\xff\n+c\n+torn".encode("latin-1"))
    house = House(tmp_path)
    assert house.link(seamless=True) == (True, ["a", "c"])


def test_the_file_does_not_grow_without_end(house: House, tmp_path: Path) -> None:
    house.channels.slack = 50
    for number in range(1000):
        house.take(event("CREATE", f"u{number}"), event("DESTROY", f"u{number}"))
    house.take(event("CREATE", "last"))
    assert (tmp_path / FILE).stat().st_size < 2000 and House(tmp_path).channels.count == 1


def test_channels_have_a_bound(house: House, caplog: pytest.LogCaptureFixture) -> None:
    house.channels.most = 3
    house.take(*(event("CREATE", f"u{number}") for number in range(9)))
    assert house.channels.count == 3 and caplog.text.count("more than 3 channels") == 1


def test_a_disk_that_takes_nothing_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    house = House(tmp_path / "file" / "below")
    for core in (C1, C2):
        house.link(core)
        house.take(event("CREATE", "a"))
    assert house.channels.count == 1 and caplog.text.count("can't be kept over a restart") == 1
    house.stop()
    without = House("")
    without.link()
    without.take(event("CREATE", "a"))
    without.stop()


def test_a_disk_that_stops_taking_anything(
    house: House, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, house.channels.file)
    os.close(full)
    house.take(event("CREATE", "a"))
    house.take(event("CREATE", "b"))
    assert house.channels.count == 2 and caplog.text.count("can't be kept over a restart") == 1
    house.stop()
    again = House(tmp_path)
    assert again.link(seamless=True) == (True, []), "what stands there is not taken for the whole"
