"""What is to be delivered: order, what goes to disk and comes back, losses counted, all of it at random."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from event_agent.drivers.base import BUFFER_FULL, SPOOL_DAMAGED, SPOOL_FAULT, SPOOL_FULL, STOPPED, STREAM_REFUSED, Loss
from event_agent.drivers.outbox import (
    FRONT,
    OVERHEAD,
    Outbox,
    Outgoing,
    drop_all,
    faults,
    look_at,
    packed,
    unpacked,
)
from event_agent.drivers.segments import SegmentFiles, SpoolError

SIZE = OVERHEAD + 8  # of an event of `events`


class Disk(SegmentFiles):
    """A folder whose disk can be made to refuse."""

    refuses = False

    def append(self, bodies: Sequence[bytes]) -> int:
        if self.refuses:
            raise SpoolError("disk: No space left on device")
        return super().append(bodies)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    files = Disk(str(tmp_path / "spool"), 1_000_000)
    files.open()
    yield files
    files.close()


def events(first: int, count: int) -> list[Outgoing]:
    return [Outgoing(b"s", b"%06d" % number, (b"p",), born=1.0) for number in range(first, first + count)]


def ids(taken: list[tuple[int, Outgoing]]) -> list[int]:
    return [int(event.msg_id) for _, event in taken]


def tickets(taken: list[tuple[int, Outgoing]]) -> list[int]:
    return [ticket for ticket, _ in taken]


def drained(box: Outbox) -> list[int]:
    """The numbers of all events, taken and acknowledged at once."""
    got: list[int] = []
    while taken := box.take(10, 0.0):
        got += ids(taken)
        box.through(tickets(taken))
    return got


def test_an_event_comes_back_from_disk_as_it_was() -> None:
    event = Outgoing("freeswitch.events.é".encode(), b"core.17", (b'{"a":"\xff"}',))
    again = unpacked(3, packed(event))
    assert again is not None
    assert (again.subject, again.msg_id, again.payload, again.disk) == (event.subject, event.msg_id, event.payload, 3)
    assert unpacked(1, b"") is None and unpacked(1, b"\xff\xff\xffx") is None


def test_events_are_taken_in_order_and_gone_when_acknowledged() -> None:
    box = Outbox(100 * SIZE)
    assert box.offer(events(0, 5)) == 5
    taken = box.take(3, 9.0)
    assert ids(taken) == [0, 1, 2] and box.under_way == 3 and box.pending == 5 and box.oldest_sent == 9.0
    assert box.through(tickets(taken)[:1]) == 1
    assert box.under_way == 2 and box.acknowledged == 1
    assert ids(box.take(10, 9.0)) == [3, 4]


def test_an_acknowledgement_that_comes_twice_or_from_nowhere_counts_once() -> None:
    box = Outbox(100 * SIZE)
    box.offer(events(0, 3))
    (first, second, third) = tickets(box.take(3, 0.0))
    assert box.through([second, second, -1, 99]) == 1
    assert box.through([second]) == 0
    assert box.through([first]) == 1 and box.under_way == 1
    assert box.through([first, second]) == 0
    assert box.through([third]) == 1 and box.pending == 0 and box.memory == 0


def test_after_a_lost_link_what_was_not_acknowledged_comes_again_first() -> None:
    box = Outbox(100 * SIZE)
    box.offer(events(0, 6))
    taken = box.take(4, 0.0)
    box.through([tickets(taken)[1]])
    assert box.send_again() == 3
    assert ids(box.take(10, 0.0)) == [0, 2, 3, 4, 5] and box.again == 3
    assert box.through(tickets(taken)) == 0, "tickets of the lost link mean nothing any more"


def test_without_a_disk_what_finds_no_room_is_lost_and_counted_the_newest_first() -> None:
    box = Outbox(10 * SIZE)
    assert box.offer(events(0, 25)) == 10
    assert box.lost == {BUFFER_FULL: 15}
    assert drained(box) == list(range(10))
    assert box.offer(events(25, 1)) == 1


def test_what_memory_does_not_hold_goes_to_disk_and_comes_back_in_order(disk: Disk) -> None:
    box = Outbox(10 * SIZE, disk)
    assert box.offer(events(0, 100)) == 100
    assert disk.unread == 90 and box.memory <= 10 * SIZE
    box.through(tickets(box.take(5, 0.0)))
    box.offer(events(100, 5))  # there is room in memory, and still it must not pass what is on disk
    assert drained(box) == list(range(5, 105))
    assert disk.waiting == 0 and not box.lost


def test_memory_stays_within_its_bound_while_the_disk_is_read(disk: Disk) -> None:
    box = Outbox(10 * SIZE, disk)
    box.offer(events(0, 1000))
    while box.take(50, 0.0):
        assert box.memory <= 11 * SIZE
    assert box.under_way <= 11 and box.pending == 1000, "it waits for acknowledgements rather than read on"


def test_a_full_spool_and_then_a_full_memory_lose_the_newest(tmp_path: Path) -> None:
    files = SegmentFiles(str(tmp_path), 70_000)
    files.open()
    box = Outbox(20 * SIZE, files)
    taken = box.offer(events(0, 5000))
    assert box.lost == {SPOOL_FULL: 5000 - taken} and files.size <= 70_000
    assert drained(box) == list(range(taken))
    files.close()


def test_a_disk_that_refuses_leaves_memory(disk: Disk) -> None:
    box = Outbox(20 * SIZE, disk)
    box.offer(events(0, 30))
    disk.refuses = True
    box.through(tickets(box.take(15, 0.0)))
    assert box.offer(events(30, 5)) == 5 and "No space" in box.fault
    disk.refuses = False
    assert box.offer(events(35, 3)) == 3, "behind those five, though the disk would take it again"
    assert drained(box) == list(range(15, 38)) and not box.lost
    assert box.offer(events(38, 1)) == 1


def test_a_disk_that_refuses_for_long_loses_what_memory_does_not_hold(disk: Disk) -> None:
    box = Outbox(20 * SIZE, disk)
    disk.refuses = True
    assert box.offer(events(0, 30)) == 20 and box.lost == {SPOOL_FAULT: 10}
    assert drained(box) == list(range(20))


def test_always_means_on_disk_before_it_can_be_taken(disk: Disk) -> None:
    box = Outbox(10 * SIZE, disk, always=True)
    box.offer(events(0, 30))
    assert disk.last == 30 and disk.unread == 20
    taken = box.take(4, 0.0)
    assert ids(taken) == [0, 1, 2, 3] and disk.done == 0
    box.through(tickets(taken)[1:])
    assert disk.done == 0, "the first is not acknowledged"
    box.through(tickets(taken)[:1])
    assert disk.done == 4
    assert drained(box) == list(range(4, 30)) and disk.waiting == 0


def test_always_goes_on_in_memory_when_the_disk_refuses(disk: Disk) -> None:
    box = Outbox(50 * SIZE, disk, always=True)
    disk.refuses = True
    box.offer(events(0, 10))
    disk.refuses = False
    box.offer(events(10, 10))
    assert drained(box) == list(range(20)) and disk.waiting == 0


def test_what_is_through_behind_one_that_is_not_leaves_the_disk_with_it(disk: Disk) -> None:
    box = Outbox(50 * SIZE, disk, always=True)
    box.offer(events(0, 4))
    taken = box.take(4, 0.0)
    box.through(tickets(taken)[1:])
    box.send_again()
    (again,) = box.take(4, 0.0)
    box.through([again[0]])
    assert disk.waiting == 0 and box.pending == 0 and box.memory == 0


def test_the_age_of_the_oldest_is_that_of_its_offer() -> None:
    box = Outbox(50 * SIZE)
    assert box.oldest_age(10.0) == 0.0
    box.offer(events(0, 2))
    assert box.oldest_age(10.0) == 9.0
    box.take(1, 5.0)
    assert box.oldest_age(10.0) == 9.0


def test_what_is_in_memory_at_the_end_is_the_first_at_the_next_start(tmp_path: Path, disk: Disk) -> None:
    front = SegmentFiles(str(tmp_path / "front"), 1_000_000)
    front.open()
    box = Outbox(10 * SIZE, disk, front=front)
    box.offer(events(0, 30))
    taken = box.take(5, 0.0)
    box.through(tickets(taken)[1:2])
    disk.refuses = True
    box.offer(events(30, 1))  # memory is full: this one is lost
    disk.refuses = False
    assert box.put_away() == 0
    front.close()
    disk.close()
    front, again = SegmentFiles(str(tmp_path / "front"), 1_000_000), Disk(str(disk.folder), 1_000_000)
    assert front.open().records == 9 and again.open().records == 20
    box = Outbox(10 * SIZE, again, front=front)
    taken = box.take(2, 0.0)
    assert ids(taken) == [0, 2]
    box.through(tickets(taken))
    assert front.waiting == 9, "they go when all of them are through"
    assert drained(box) == list(range(3, 30))
    assert front.waiting == 0 and again.waiting == 0
    front.close()
    again.close()


def test_without_a_disk_what_is_in_memory_at_the_end_is_lost_and_counted() -> None:
    box = Outbox(100 * SIZE)
    box.offer(events(0, 7))
    box.take(3, 0.0)
    assert box.put_away() == 7 and box.lost == {STOPPED: 7}


@pytest.mark.parametrize("always", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_at_random_each_event_is_delivered_in_order_or_counted(tmp_path: Path, seed: int, always: bool) -> None:
    dice = random.Random(seed)
    bound = dice.choice([70_000, 300_000])
    disk = Disk(str(tmp_path), bound)
    disk.open()
    box = Outbox(dice.choice([5, 50]) * SIZE, disk, always)
    accepted: list[int] = []
    done: set[int] = set()
    flying: list[tuple[int, Outgoing]] = []
    number = 0
    lost_before_restart = 0

    def settle() -> None:
        box.through(tickets(flying))
        done.update(ids(flying))
        flying.clear()

    for _ in range(400):
        what = dice.random()
        if what < 0.4:
            batch = events(number, dice.randint(1, 60))
            taken = box.offer(batch)
            accepted += range(number, number + taken)
            number += len(batch)
        elif what < 0.6:
            got = box.take(dice.randint(1, 40), 0.0)
            flying += got
            assert ids(flying) == sorted(ids(flying))
        elif what < 0.8 and flying:
            some = dice.sample(flying, dice.randint(1, len(flying)))
            box.through(tickets(some))
            done.update(ids(some))
            flying = [each for each in flying if each not in some]
        elif what < 0.9:
            disk.refuses = dice.random() < 0.4
        elif what < 0.97 or not always:
            box.send_again()
            flying.clear()
        else:  # killed, and started again: with `always` nothing that was accepted is lost
            if box.fault or disk.refuses or SPOOL_FAULT in box.lost:
                continue
            if not box.safe:
                continue
            lost_before_restart += sum(box.lost.values())
            disk.close()
            disk = Disk(str(tmp_path), bound)
            disk.open()
            box = Outbox(50 * SIZE, disk, always)
            flying.clear()
    disk.refuses = False
    box.send_again()
    flying.clear()
    order: list[int] = []
    while got := box.take(30, 0.0):
        order += ids(got)
        flying += got
        settle()
    assert order == sorted(order), "in order"
    assert done == set(accepted), "each, and nothing else"
    assert number - len(accepted) == sum(box.lost.values()) + lost_before_restart
    assert disk.waiting == 0 and box.pending == 0 and box.memory == 0
    disk.close()


def test_what_is_lost_later_is_reported_with_its_reason_and_its_place(tmp_path: Path) -> None:
    box = Outbox(100 * SIZE)
    box.offer(events(0, 3))
    first, *_ = tickets(box.take(3, 0.0))
    box.give_up(first, STREAM_REFUSED)
    box.give_up(first, STREAM_REFUSED)
    assert box.losses == [Loss(STREAM_REFUSED, 1, b"p", b"p")] and box.lost == {STREAM_REFUSED: 1}
    assert box.put_away() == 2 and [each.count for each in box.losses[1:]] == [2]
    assert b"000001" in box.losses[1].first and b"000002" in box.losses[1].last


def test_damaged_records_are_reported_once(tmp_path: Path) -> None:
    disk = SegmentFiles(str(tmp_path), 1_000_000)
    disk.open()
    disk.append([packed(event) for event in events(0, 5)])
    disk.close()
    (segment,) = tmp_path.glob("*.spool")
    data = bytearray(segment.read_bytes())
    at = data.index(b"000002")
    data[at] ^= 0xFF
    segment.write_bytes(data)
    again = SegmentFiles(str(tmp_path), 1_000_000)
    found = again.open()
    box = Outbox(100 * SIZE, again)
    assert drained(box) == [0, 1] if found.torn else drained(box) == [0, 1, 3, 4]
    reported = sum(each.count or 0 for each in box.losses if each.reason == SPOOL_DAMAGED)
    assert reported == again.damaged == box.lost[SPOOL_DAMAGED]
    again.close()


def test_an_announcement_that_finds_no_room_is_not_counted() -> None:
    box = Outbox(3 * SIZE)
    assert box.offer(events(0, 5)) == 3 and box.refused == BUFFER_FULL and box.lost == {BUFFER_FULL: 2}
    (news,) = events(9, 1)
    assert not box.announce(news) and box.lost == {BUFFER_FULL: 2}
    assert drained(box) == [0, 1, 2] and box.announce(news) and drained(box) == [9]


def test_a_disk_that_comes_later_is_used_with_what_is_on_it(tmp_path: Path) -> None:
    disk, front = Disk(str(tmp_path / "spool"), 1_000_000), SegmentFiles(str(tmp_path / "front"), 1_000_000)
    disk.open()
    front.open()
    disk.append([packed(each) for each in events(3, 2)])
    front.append([packed(each) for each in events(0, 3)])
    box = Outbox(10 * SIZE)
    box.offer(events(10, 4))
    under_way = box.take(2, 0.0)
    box.adopt(disk, front=front)
    box.offer(events(14, 9))
    assert box.pending == 2 + 2 + 3 + 2 + 9
    box.through(tickets(under_way))
    assert front.waiting == 3, "these were not of the front"
    assert drained(box) == [0, 1, 2, 12, 13, 3, 4, *range(14, 23)]
    assert front.waiting == 0 and disk.waiting == 0
    disk.close()
    front.close()


def test_a_disk_that_was_mended_is_seen_without_an_event(disk: Disk) -> None:
    box = Outbox(2 * SIZE, disk)
    disk.refuses = True
    box.offer(events(0, 5))
    assert "No space left" in box.fault and box.lost[SPOOL_FAULT] == 3
    disk.refuses = False
    box.probe()
    assert box.fault == ""
    box.offer(events(5, 1))
    assert box.pending == 3


def test_what_a_spool_holds_counts_its_front(tmp_path: Path) -> None:
    folder = tmp_path / "spool"
    for place, count in ((folder, 2), (folder / FRONT, 3)):
        files = SegmentFiles(str(place), 1_000_000)
        files.open()
        files.append([packed(each) for each in events(0, count)])
        files.close()
    (folder / "notes.txt").write_text("mine")
    found = look_at(str(folder))
    assert found.records == 5 and found.foreign == ("notes.txt",)
    assert faults(str(folder)) == [f"spool: {folder} holds files that are not ours: notes.txt"]
    assert drop_all(str(folder))[0] == 5 and look_at(str(folder)).records == 0
    assert faults(str(tmp_path / "not" / "yet")) == []
    assert faults(str(folder / "notes.txt" / "spool")) == [f"no spool: {folder / 'notes.txt'} is no folder"]
