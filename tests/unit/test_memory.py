"""Large blocks that were freed do not come back as resident memory."""

from __future__ import annotations

import subprocess
import sys

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
