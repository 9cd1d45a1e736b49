"""All tests: the functional ones, and beside them the unit tests, of the checkout and against the installed package.

Run by `make test` with the .venv's Python. The functional tests wait most of the time, so every other of their modules
runs beside the rest, and all together take about as long as that. What the others say is kept until they have ended;
the last line counts the tests of the checkout, as pytest does. Exit code: 0 if all pass.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 1200  # seconds of each run of the unit tests
FUNCTIONAL = "tests/functional"
NAMES = ("failed", "passed", "skipped", "xfailed", "warning", "error")


def main() -> int:
    started = time.monotonic()
    pytest = [sys.executable, "-m", "pytest", *(["--color=yes"] if sys.stdout.isatty() else [])]
    modules = sorted(str(each.relative_to(HERE.parent)) for each in (HERE.parent / FUNCTIONAL).glob("test_*.py"))
    with ThreadPoolExecutor(2, "beside") as beside:
        unit_tests = beside.submit(
            lambda: (kept([sys.executable, str(HERE / "check_installed.py")]),
                     kept([*pytest, "tests", f"--ignore={FUNCTIONAL}"]))
        )  # fmt: skip
        second = beside.submit(kept, [*pytest, *modules[1::2]])
        code, last = shown([*pytest, *modules[::2]])
        (others, other_text), ((installed, text), (unit, units)) = second.result(), unit_tests.result()
    # If all is well its last line is enough.
    print(f"\nThe unit tests against the installed package:\n{text if installed else last_line(text)}")
    print(f"\nThe tests without {FUNCTIONAL}:\n{units}\n\nThe second half of {FUNCTIONAL}:\n{other_text}")
    print(f"\nThe first half of {FUNCTIONAL}:\n{last}\n")
    print(together([last, last_line(other_text), last_line(units)], time.monotonic() - started), flush=True)
    return code or others or unit or installed


def kept(command: list[str]) -> tuple[int, str]:
    """Run it; its exit code and what it said."""
    try:
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=HERE.parent,
            timeout=LIMIT,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        said = error.output or b""  # bytes, even where text was asked for
        return 1, f"{said.decode(errors='replace')}\nIt was ended after {LIMIT} s."
    return done.returncode, done.stdout


def last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]


def shown(command: list[str]) -> tuple[int, str]:
    """Run pytest; its exit code and its last line, which is not printed yet."""
    last = ""
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", cwd=HERE.parent
    ) as tests:
        assert tests.stdout is not None
        for line in tests.stdout:
            if last:
                print(last, flush=True)
            last = line.rstrip("\n")
    return tests.returncode, last


def together(lines: list[str], seconds: float) -> str:
    """The counts of several runs in one line, as pytest writes its last one."""
    counts = Counter[str]()
    for number, name in re.findall(r"(\d+) ([a-z]+)", " ".join(lines)):
        counts[{"warnings": "warning", "errors": "error"}.get(name, name)] += int(number)
    words = [f"{counts[name]} {name}" for name in NAMES if counts[name]]
    return f"===== {', '.join(words)} in {seconds:.2f}s ====="


if __name__ == "__main__":
    sys.exit(main())
