"""Records in files: order, bound, torn tails, checksums, full disks, restarts, and all of it at random."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from event_agent.drivers.segments import HEAD, MAGIC, SEGMENT_LEAST, SegmentFiles, SpoolError, drop, look

BODY = b"x" * 1000
MOST = 10_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


@pytest.fixture
def opened(folder: Path) -> Iterator[Callable[..., SegmentFiles]]:
    made: list[SegmentFiles] = []

    def make(most: int = MOST) -> SegmentFiles:
        files = SegmentFiles(str(folder), most)
        files.open()
        made.append(files)
        return files

    yield make
    for files in made:
        files.close()


def spools(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.spool"))


def numbers(files: SegmentFiles, most: int = MOST) -> list[int]:
    return [number for number, _ in files.read(most)]


def test_what_was_appended_is_read_once_and_in_order(opened: Callable[..., SegmentFiles]) -> None:
    files = opened()
    assert files.append([b"a", b"", b"c"]) == 3
    assert files.read(MOST) == [(1, b"a"), (2, b""), (3, b"c")]
    assert files.read(MOST) == []
    assert files.append([b"d"]) == 1
    assert files.read(MOST) == [(4, b"d")]
    assert files.waiting == 4 and files.unread == 0


def test_a_read_takes_as_much_as_it_is_asked_for(opened: Callable[..., SegmentFiles]) -> None:
    files = opened()
    files.append([BODY] * 10)
    assert numbers(files, 3000) == [1, 2, 3]
    assert numbers(files, 1) == [4]
    assert files.unread == 6


def test_files_go_when_all_their_records_are_done_with(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    files = opened(SEGMENT_LEAST * 16)
    files.append([BODY] * 300)
    before = len(spools(folder))
    assert before == 5
    files.done_with(299)
    assert len(spools(folder)) == 1 and files.waiting == 1
    files.done_with(300)
    assert files.waiting == 0 and files.size < SEGMENT_LEAST
    assert files.append([b"more"]) == 1
    assert files.read(MOST) == [(301, b"more")]


def test_the_bound_is_hard_and_the_oldest_stay(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    files = opened(300_000)
    taken = files.append([BODY] * 1000)
    assert 250 < taken < 300
    assert files.append([BODY]) == 0
    assert sum(path.stat().st_size for path in spools(folder)) == files.size <= 300_000
    assert numbers(files) == list(range(1, taken + 1))
    files.done_with(100)
    assert files.append([BODY]) == 1


def test_a_restart_goes_on_with_what_is_not_done_with(opened: Callable[..., SegmentFiles]) -> None:
    files = opened()
    files.append([b"%d" % number for number in range(1, 11)])
    files.done_with(4)
    files.close()
    again = opened()
    assert again.waiting == 6
    assert again.read(MOST) == [(number, b"%d" % number) for number in range(5, 11)]
    again.append([b"11"])
    assert again.read(MOST) == [(11, b"11")]


def test_numbers_go_on_when_all_was_done_with(opened: Callable[..., SegmentFiles]) -> None:
    files = opened()
    files.append([b"a", b"b"])
    files.done_with(2)
    files.close()
    again = opened()
    assert again.waiting == 0
    again.append([b"c"])
    assert again.read(MOST) == [(3, b"c")]


def test_without_its_memory_of_what_is_done_all_is_given_again(
    opened: Callable[..., SegmentFiles], folder: Path
) -> None:
    files = opened(SEGMENT_LEAST * 16)
    files.append([BODY] * 300)
    files.done_with(200)
    files.close()
    (folder / "done").write_bytes(b"garbage!")
    again = opened(SEGMENT_LEAST * 16)
    got = numbers(again)
    assert got[-1] == 300 and got == list(range(got[0], 301)) and 100 < got[0] <= 201


@pytest.mark.parametrize("cut", [1, 7, HEAD.size, HEAD.size + 1, 1000, 1015])
def test_a_torn_tail_is_cut_off_and_counted(opened: Callable[..., SegmentFiles], folder: Path, cut: int) -> None:
    files = opened()
    files.append([BODY] * 3)
    files.close()
    (path,) = spools(folder)
    os.truncate(path, path.stat().st_size - cut)
    again = SegmentFiles(str(folder), MOST)
    found = again.open()
    assert found.records == 2 and found.torn == HEAD.size + 1000 - cut
    assert numbers(again) == [1, 2]
    again.append([b"new"])
    assert again.read(MOST) == [(3, b"new")]
    again.close()


def test_a_file_without_a_record_is_no_fault(folder: Path) -> None:
    folder.mkdir()
    (folder / f"{1:016x}.spool").write_bytes(MAGIC[:5])
    (folder / f"{7:016x}.spool").write_bytes(MAGIC)
    files = SegmentFiles(str(folder), MOST)
    assert files.open().records == 0
    files.append([b"a"])
    ((number, body),) = files.read(MOST)
    assert body == b"a" and number >= 1
    files.close()


def test_a_damaged_record_is_skipped_and_counted(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    files = opened(SEGMENT_LEAST * 16)
    files.append([BODY] * 200)
    files.close()
    first = spools(folder)[0]
    data = bytearray(first.read_bytes())
    data[len(MAGIC) + HEAD.size + 500] ^= 1
    first.write_bytes(data)
    again = opened(SEGMENT_LEAST * 16)
    assert numbers(again) == list(range(2, 201))
    assert again.damaged == 1


def test_a_damaged_length_costs_the_rest_of_its_segment(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    files = opened(SEGMENT_LEAST * 16)
    files.append([BODY] * 200)
    second = int(spools(folder)[1].name[:16], 16)
    files.close()
    first = spools(folder)[0]
    data = bytearray(first.read_bytes())
    data[len(MAGIC) + 3] = 0xFF  # the length of the first record
    first.write_bytes(data)
    again = opened(SEGMENT_LEAST * 16)
    assert numbers(again) == list(range(second, 201))
    assert again.damaged == second - 1


def test_a_missing_segment_is_counted(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    files = opened(SEGMENT_LEAST * 16)
    files.append([BODY] * 300)
    files.close()
    first, second, third, *_ = spools(folder)
    gone = int(third.name[:16], 16) - int(second.name[:16], 16)
    second.unlink()
    again = opened(SEGMENT_LEAST * 16)
    assert len(numbers(again)) == 300 - gone and again.damaged == gone


def test_foreign_files_are_left_alone_and_named(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    (folder / f"{1:016x}.spool").write_bytes(b"another program's format, long enough to be none of ours")
    files = SegmentFiles(str(folder), MOST)
    found = files.open()
    assert found.foreign == ("notes.txt", f"{1:016x}.spool") and found.records == 0
    files.close()
    assert (folder / "notes.txt").read_text() == "mine"


def test_one_process_owns_a_folder(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    opened()
    with pytest.raises(SpoolError, match="in use by another process"):
        SegmentFiles(str(folder), MOST).open()


def test_a_folder_that_cant_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SpoolError, match="file"):
        SegmentFiles(str(tmp_path / "file" / "spool"), MOST).open()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_what_was_there(
    opened: Callable[..., SegmentFiles], monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    files = opened()
    files.append([b"kept"])
    real = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) > 10:
            return real(descriptor, data[:10])
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("event_agent.drivers.segments.os.write", half)
    with pytest.raises(SpoolError, match=os.strerror(code)):
        files.append([BODY])
    monkeypatch.undo()
    assert files.append([b"after"]) == 1
    assert files.read(MOST) == [(1, b"kept"), (2, b"after")]
    files.close()
    assert opened().waiting == 2


def test_a_new_segment_that_cant_be_written_leaves_none(
    opened: Callable[..., SegmentFiles], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened()

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("event_agent.drivers.segments.os.write", full)
    with pytest.raises(SpoolError, match="No space left"):
        files.append([b"a"])
    monkeypatch.undo()
    assert not spools(folder)
    files.append([b"b"])
    assert files.read(MOST) == [(1, b"b")]


def test_a_write_that_can_not_be_taken_back_is_followed_by_another_file(
    opened: Callable[..., SegmentFiles], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that has become read-only in the middle of a record: the half of it stays where it is."""
    files = opened()
    files.append([b"kept"])
    real = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) > 10:
            return real(descriptor, data[:10])
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def fails(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("event_agent.drivers.segments.os.write", half)
    monkeypatch.setattr("event_agent.drivers.segments.os.ftruncate", fails)
    with pytest.raises(SpoolError, match="Read-only"):
        files.append([BODY])
    monkeypatch.undo()
    files.append([b"after"])
    assert files.read(MOST) == [(1, b"kept"), (2, b"after")] and len(spools(folder)) == 2
    files.close()
    again = opened()
    assert again.read(MOST) == [(1, b"kept"), (2, b"after")] and again.damaged == 0


def test_a_probe_says_whether_the_disk_takes_and_gives(
    opened: Callable[..., SegmentFiles], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened()
    files.append([b"a"])
    files.probe()
    assert sorted(path.name for path in folder.iterdir()) == ["0000000000000001.spool", "done", "lock"]

    def fails(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("event_agent.drivers.segments.os.fdatasync", fails)
    with pytest.raises(SpoolError, match="No space left"):
        files.probe()
    monkeypatch.undo()
    assert not (folder / "probe").exists()
    files.probe()


def test_a_file_that_somebody_has_deleted_is_lost_and_counted(
    opened: Callable[..., SegmentFiles], folder: Path
) -> None:
    files = opened(SEGMENT_LEAST * 4)
    files.append([BODY] * 150)
    first = spools(folder)[0]
    lost = int(spools(folder)[1].name[:16], 16) - 1
    first.unlink()
    found = []
    while files.unread:
        found += files.read(MOST)
    assert [number for number, _ in found] == list(range(lost + 1, 151)) and files.damaged == lost
    files.done_with(files.last)


def test_a_disk_that_has_lost_a_part_gives_the_rest(
    opened: Callable[..., SegmentFiles], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = opened(SEGMENT_LEAST * 4)
    files.append([BODY] * 150)
    real, calls = os.pread, [0]

    def bad(descriptor: int, size: int, at: int) -> bytes:
        calls[0] += 1
        if calls[0] == 21:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return real(descriptor, size, at)

    monkeypatch.setattr("event_agent.drivers.segments.os.pread", bad)
    found = []
    while files.unread:
        found += files.read(MOST)
    assert found[:10] == [(number, BODY) for number in range(1, 11)]
    assert files.damaged and len(found) + files.damaged == 150 and found[-1] == (150, BODY)


@pytest.mark.parametrize("kind", ["pipe", "folder", "link"])
def test_what_only_bears_the_name_of_a_segment_is_left_alone(
    opened: Callable[..., SegmentFiles], folder: Path, kind: str
) -> None:
    folder.mkdir()
    path = folder / f"{1:016x}.spool"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to("/dev/zero")
    assert look(str(folder)).foreign == (path.name,)
    files = SegmentFiles(str(folder), MOST)
    assert files.open().foreign == (path.name,)
    files.close()


def test_a_number_beyond_all_is_not_ours(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    """Numbers go on from the last one, and have to fit into eight bytes."""
    folder.mkdir()
    (folder / f"{2**64 - 1:016x}.spool").write_bytes(MAGIC)
    files = opened()
    assert files.append([b"a"]) == 1 and files.read(MOST) == [(1, b"a")]


def test_dropping_says_what_it_dropped(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    files = opened()
    files.append([BODY] * 5)
    files.close()
    records, size = drop(str(folder))
    assert records == 5 and size > 5000
    assert not spools(folder)
    again = opened()
    again.append([b"next"])
    assert again.read(MOST) == [(6, b"next")]


def test_a_look_changes_nothing(opened: Callable[..., SegmentFiles], folder: Path) -> None:
    files = opened()
    files.append([BODY] * 5)
    files.done_with(2)
    with open(spools(folder)[0], "ab") as file:
        file.write(b"half a record")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    found = look(str(folder))
    assert (found.records, found.torn) == (3, 13)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with pytest.raises(SpoolError, match="nowhere"):
        look(str(folder / "nowhere"))


@pytest.mark.parametrize("seed", range(40))
def test_at_random_it_is_a_queue_that_outlasts_restarts(folder: Path, seed: int) -> None:
    dice = random.Random(seed)
    most = dice.choice([70_000, 200_000, 2_000_000])
    files = SegmentFiles(str(folder), most)
    files.open()
    kept: list[tuple[int, bytes]] = []  # not done with
    at = 0  # in `kept`, what was read
    last = 0
    for _ in range(300):
        what = dice.random()
        if what < 0.5:
            bodies = [dice.randbytes(dice.choice([0, 10, 700, 5000])) for _ in range(dice.randint(1, 20))]
            taken = files.append(bodies)
            for body in bodies[:taken]:
                last += 1
                kept.append((last, body))
            assert files.size <= most
        elif what < 0.75:
            got = files.read(dice.choice([1, 3000, 100_000]))
            assert got == kept[at : at + len(got)] and (got or at == len(kept))
            at += len(got)
        elif what < 0.9 and kept:
            through = dice.randint(0, at)
            if through:
                files.done_with(kept[through - 1][0])
                del kept[:through]
                at -= through
        elif what < 0.95:
            files.rewind(0)
            at = 0
        else:
            files.close()
            files = SegmentFiles(str(folder), most)
            found = files.open()
            assert (found.records, found.torn, found.damaged) == (len(kept), 0, 0)
            at = 0
        assert files.waiting == len(kept) and files.unread == len(kept) - at
    files.close()
