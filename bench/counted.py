"""An agent that counts what its two paths do: `counted.py TREE OUT calls|steps|where [arguments of the agent]`.

For each thread: calls of Python functions, calls of built-in ones, or the interpreter's steps (bytecodes), which
`where` counts for each function apart. Counts hardly differ between a busy machine and an idle one. SIGUSR1 writes
those since the last one to OUT and begins anew.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections import Counter, defaultdict
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
KINDS = {"call": "calls", "c_call": "built-in calls"}


def calls(frame: FrameType, event: str, argument: object) -> None:
    """For sys.setprofile."""
    if event in KINDS:
        counts[threading.current_thread().name][KINDS[event]] += 1


def steps(frame: FrameType, event: str, argument: object) -> Any:
    """For sys.settrace."""
    if event == "call":
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
    elif event == "opcode":
        counts[threading.current_thread().name]["steps"] += 1
    return steps


def where(frame: FrameType, event: str, argument: object) -> Any:
    """For sys.settrace."""
    if event == "call":
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
    elif event == "opcode":
        counts[threading.current_thread().name][_name(frame.f_code)] += 1
    return where


def _name(code: CodeType) -> str:
    return f"{Path(code.co_filename).stem}.{code.co_qualname}"


def main() -> int:
    """Run the agent of that checkout."""
    tree, out, what, *arguments = sys.argv[1:]

    def write(*_: object) -> None:
        found = {name: dict(each) for name, each in counts.items()}
        counts.clear()
        with open(f"{out}.new", "w") as file:
            json.dump(found, file)
        os.rename(f"{out}.new", out)

    signal.signal(signal.SIGUSR1, write)
    if what == "calls":
        threading.setprofile(calls)
    else:
        threading.settrace(where if what == "where" else steps)
    sys.path.insert(0, tree)
    sys.argv[1:] = arguments
    from event_agent.__main__ import main as run

    return run()


if __name__ == "__main__":
    sys.exit(main())
