"""Freezes one thread of a process, as root: freeze.py PID THREAD. The others go on; it ends when the process has."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

PTRACE_CONT, PTRACE_SEIZE, PTRACE_INTERRUPT = 7, 0x4206, 0x4207
WALL = 0x40000000  # waitpid: threads too


def find(pid: int, name: str) -> int:
    """The thread called `name`, whose name the kernel cuts off after 15 bytes."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        if (task / "comm").read_text().strip() == name[:15]:
            return int(task.name)
    raise SystemExit(f"process {pid} has no thread {name}")


def slept(pid: int) -> int:
    """How often its main thread has slept."""
    status = Path(f"/proc/{pid}/task/{pid}/status").read_text()
    return int(status.partition("\nvoluntary_ctxt_switches:")[2].split()[0])


def goes_on(pid: int) -> bool:
    """Its main thread wakes up each second; one that waits for the interpreter's lock asks hundreds of times."""
    before = slept(pid)
    time.sleep(2.5)
    return 1 <= slept(pid) - before < 100


def main() -> None:
    pid, thread = int(sys.argv[1]), sys.argv[2]
    tid = int(thread) if thread.isdecimal() else find(pid, thread)
    libc = ctypes.CDLL(None, use_errno=True)

    def trace(request: int) -> None:
        if libc.ptrace(request, tid, None, None) != 0:
            raise SystemExit(f"ptrace: {os.strerror(ctypes.get_errno())}")

    trace(PTRACE_SEIZE)
    while True:
        trace(PTRACE_INTERRUPT)
        os.waitpid(tid, WALL)
        # Frozen with Python's interpreter lock in its hands it would stop all the others too.
        if tid == pid or goes_on(pid):
            break
        trace(PTRACE_CONT)
        time.sleep(0.05)
    print(f"frozen: {thread}", flush=True)
    try:
        # A zombie has ended; who traces one of its threads keeps it from being buried.
        while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            time.sleep(0.2)
    except OSError:
        pass


if __name__ == "__main__":
    main()
