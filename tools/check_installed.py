"""Runs the unit tests against the installed package: a wheel is built and unpacked into a place of its own, and the
tests run from a copy outside the checkout, so that nothing but the wheel can supply event_agent.

Run by `make test-installed` with the .venv's Python. Arguments go to pytest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from build_client import stage

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("event_agent", "event_agent_client")
BUILD_INPUTS = (*PACKAGES, "compiled", "setup.py", "pyproject.toml", "README.md", "LICENSE", "event_agent.py")
TEST_INPUTS = ("pyproject.toml", "tests", "etc", "docs", "bench")


def copy(names: tuple[str, ...], target: Path) -> None:
    """Those of the checkout's files that are there; building in the checkout itself would leave files in it."""
    target.mkdir()
    for name in names:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, target / name)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="event-agent-installed-") as name:
        scratch = Path(name)
        source, site, place = scratch / "source", scratch / "site", scratch / "place"
        copy(BUILD_INPUTS, source)
        copy(TEST_INPUTS, place)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        pip += ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(site)]
        subprocess.run([*pip, str(source)], check=True)  # alone: it has what it needs of event_agent_client
        env = {**os.environ, "PYTHONPATH": str(site)}  # comes before the .venv's packages, the editable one included
        where = [sys.executable, "-c", "import event_agent; print(event_agent.__file__)"]
        found = subprocess.run(where, cwd=place, env=env, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        if Path(found) != site / "event_agent/__init__.py" or (site / "event_agent.py").exists():
            print(f"check_installed: the wheel is wrong: event_agent comes from {found}", file=sys.stderr)
            return 1
        if (site / "event_agent_client").exists():
            print("check_installed: the wheel is wrong: it has files of event-agent-client", file=sys.stderr)
            return 1
        for name in ("event-agent", "event-agentctl"):
            script = [str(site / "bin" / name), "--version"]
            subprocess.run(script, cwd=place, env=env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([*pip, "--upgrade", str(stage(scratch))], check=True)
        print("The unit tests against the installed package:", flush=True)
        tests = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/unit", *sys.argv[1:]]
        return subprocess.run(tests, cwd=place, env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
