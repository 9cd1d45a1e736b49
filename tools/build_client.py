"""Builds the wheel of event-agent-client into dist/: `make client`.

It is a distribution of its own, with the package event_agent_client and what clients/python says of it. Building goes
on in a folder of its own, so the checkout stays as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
IGNORED = shutil.ignore_patterns("__pycache__")
NO_SIMULATOR = shutil.ignore_patterns("__pycache__", "in_process.py", "recording.py")  # for the project's own tests


def stage(folder: Path) -> Path:
    """What the distribution is built of, laid out as pip wants it."""
    source = folder / "event-agent-client"
    shutil.copytree(ROOT / "clients" / "python", source, ignore=IGNORED)
    package = source / "event_agent_client"
    shutil.copytree(ROOT / "event_agent_client", package, ignore=IGNORED)
    shutil.copytree(ROOT / "tests" / "switchsim", package / "testing" / "switchsim", ignore=NO_SIMULATOR)
    shutil.copy(ROOT / "LICENSE", source)
    return source


def main() -> int:
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist"
    with tempfile.TemporaryDirectory(prefix="event-agent-client-") as name:
        source = stage(Path(name))
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
        return subprocess.run([*pip, "--no-build-isolation", "--wheel-dir", str(target), str(source)]).returncode


if __name__ == "__main__":
    sys.exit(main())
