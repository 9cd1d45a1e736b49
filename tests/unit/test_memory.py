"""What is freed is used again or given back, and what was never written to is not resident."""

from __future__ import annotations

import subprocess
import sys

import pytest

from event_agent.runtime import memory

PROGRAM = """
from ctypes import CDLL, c_void_p, c_size_t
from threading import Thread
from event_agent.runtime.memory import settle
if {settled}: settle()
libc = CDLL(None)
libc.calloc.restype, libc.calloc.argtypes, libc.free.argtypes = c_void_p, [c_size_t, c_size_t], [c_void_p]
resident = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
def connections():
    for _ in range(5):
        blocks = [libc.calloc(1, 6553600) for _ in range(4)]
        print(resident())
        for block in blocks: libc.free(block)
thread = Thread(target=connections)
thread.start()
thread.join()
"""


def grown(settled: bool) -> int:
    """Kilobytes that four large blocks make resident when they are asked for again, and not touched."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(settled=settled)], capture_output=True, text=True, check=True
    )
    found = [int(line) for line in done.stdout.split()]
    return max(found) - found[0]


def test_large_blocks_are_not_resident_until_they_are_used() -> None:
    assert grown(False) > 10000, "glibc does not do this any more, and memory.py need not either"
    assert grown(True) < 1000


THREADS = """
from ctypes import CDLL, c_void_p, c_size_t
from threading import Thread
from event_agent.runtime.memory import settle
if {settled}: settle()
libc = CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = c_void_p, [c_size_t], [c_void_p]
where = []
def work():
    blocks = [libc.malloc(3000) for _ in range(100)]
    where.extend(block >> 26 for block in blocks)  # an arena of a thread has 64 MB of addresses to itself
    for block in blocks: libc.free(block)
for _ in range(8):
    threads = [Thread(target=work) for _ in range(4)]
    for each in threads: each.start()
    for each in threads: each.join()
print(len(set(where)))
"""


def arenas(settled: bool) -> int:
    """How many separate areas the memory of threads comes from."""
    done = subprocess.run(
        [sys.executable, "-c", THREADS.format(settled=settled)], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


def test_all_threads_share_their_memory() -> None:
    assert arenas(True) <= 2, "the heap may lie across such a border"


READ = """
import socket
from event_agent.runtime.memory import read_buffer
resident = lambda: int(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
before = resident()
buffers = [{made}(262144) for _ in range(40)]
left, right = socket.socketpair()
for buffer in buffers:
    left.send(b"hello")
    assert bytes(memoryview(buffer)[: right.recv_into(buffer, 0, socket.MSG_DONTWAIT)]) == b"hello"
print(resident() - before)
"""


@pytest.mark.parametrize(("made", "least", "most"), [("bytearray", 8000, 1 << 20), ("read_buffer", 0, 2000)])
def test_of_a_buffer_to_read_into_only_what_was_read_is_resident(made: str, least: int, most: int) -> None:
    done = subprocess.run([sys.executable, "-c", READ.format(made=made)], capture_output=True, text=True, check=True)
    assert least <= int(done.stdout) <= most, done.stdout


FLOOD = """
from event_agent.runtime import memory
memory.settle()
now = [0.0]
spare = memory.Spare(lambda: now[0])
def look():
    now[0] += memory.LONGEST
    spare.look()
    return memory.resident() >> 10
before = look()
waiting = [bytes(3000) for _ in range(10_000)]
full = look()
last = waiting[::200]  # what came in between stays, so the heap does not end earlier
del waiting
if {given_back}: after = look()
else: after = memory.resident() >> 10
again = look() if {given_back} else after
print(full - before, after - before, again - before)
"""


def flood(given_back: bool) -> list[int]:
    """Kilobytes more than before: with 30 MB that wait, when they are gone, and a look later."""
    done = subprocess.run(
        [sys.executable, "-c", FLOOD.format(given_back=given_back)], capture_output=True, text=True, check=True
    )
    return [int(each) for each in done.stdout.split()]


def test_what_a_flood_has_taken_is_given_back() -> None:
    full, after, _ = flood(False)
    assert full > 25_000 and after > 25_000, "glibc gives it back by itself, and Spare need not"
    full, after, again = flood(True)
    assert full > 25_000 and after < 5_000 and again <= after + 100


def test_a_flood_right_after_the_start_is_seen() -> None:
    now, trims = [0.0], []
    sizes = iter((20_000_000, 40_000_000, 21_000_000))
    spare = memory.Spare(lambda: now[0], lambda: next(sizes), lambda: trims.append(now[0]))
    for now[0] in (0.0, memory.LOOK / 2, memory.LOOK):
        spare.look()
    assert trims == [memory.LOOK], "by what there was at the start"


SMALL = """
from event_agent.runtime.memory import resident, settle, Spare
{settle}
now = [0.0]
spare = Spare(lambda: now[0])
def look():
    now[0] += 100.0
    spare.look()
look()
before = resident()
flood = [(number, str(number), [number]) for number in range(100000)]
most = resident()
kept = flood[::1000]  # a few live on, all over the place
del flood
look()
print(before, most, resident(), sum(len(each) for each in kept))
"""


def flooded(settle: str) -> tuple[int, int, int]:
    """Resident bytes before a flood of small objects, in it, and after it."""
    program = SMALL.format(settle=settle)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    before, most, after, kept = map(int, done.stdout.split())
    assert kept == 300
    return before, most, after


def test_a_flood_of_small_objects_is_given_back_although_a_few_live_on() -> None:
    before, most, after = flooded("settle()")
    assert most - before > 15_000_000
    assert after - before < 4_000_000
    before, most, after = flooded("")
    assert after - before > 8_000_000, "Python gives it back by itself by now, and memory.py need not"
