"""All tests: those of the checkout, and beside them the unit tests against the installed package.

Run by `make test` with the .venv's Python. The functional tests wait most of the time, so both together take about as
long as they alone. What the tests of the installed package say is kept until the others have ended; the last line is
that of the others. Exit code: 0 if both pass.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LIMIT = 1200  # seconds that the tests of the installed package may take longer than the others


def main() -> int:
    with tempfile.TemporaryFile("w+", errors="replace") as said:
        beside = subprocess.Popen([sys.executable, str(HERE / "check_installed.py")], stdout=said, stderr=said)
        try:
            code, last = checkout()
            installed = beside.wait(LIMIT)
        finally:
            if beside.poll() is None:
                beside.kill()
                beside.wait()
        said.seek(0)
        text = said.read()
    # If all is well its last line is enough.
    print(f"\nThe unit tests against the installed package:\n{text if installed else text.strip().splitlines()[-1]}\n")
    print(last, flush=True)
    return code or installed


def checkout() -> tuple[int, str]:
    """Run pytest; its exit code and its last line, which is not printed yet."""
    colour = ["--color=yes"] if sys.stdout.isatty() else []
    last = ""
    with subprocess.Popen(
        [sys.executable, "-m", "pytest", *colour], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        errors="replace", cwd=HERE.parent,
    ) as tests:  # fmt: skip
        assert tests.stdout is not None
        for line in tests.stdout:
            if last:
                print(last, flush=True)
            last = line.rstrip("\n")
    return tests.returncode, last


if __name__ == "__main__":
    sys.exit(main())
