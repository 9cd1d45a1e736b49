"""Installs the built package in a bare Debian that boots under its own systemd, and lives a whole life with it there.

`make test-package` runs it: it takes minutes, root, and a system cached on the disk. Where no system can be booted
it says so loudly and is skipped; with EVENT_AGENT_TEST_PACKAGE=must in the environment that is a failure. With
EVENT_AGENT_TEST_PACKAGE=quick one thread is frozen, not each of them, which takes ten minutes.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.package.booted import Booted, NoBoot

ROOT = Path(__file__).resolve().parent.parent.parent


def package() -> Path:
    """The newest package in dist/."""
    found = sorted((ROOT / "dist").glob("event-agent_*.deb"), key=lambda path: path.stat().st_mtime)
    assert found, "no package in dist/: make deb"
    return found[-1]


def test_life_cycle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "test"
    folder.mkdir()
    shutil.copy(package(), folder / "event-agent.deb")
    shutil.copytree(ROOT / "tests", folder / "source/tests", ignore=shutil.ignore_patterns("__pycache__"))
    folder.chmod(0o755)
    try:
        with Booted(folder) as debian:
            inside = "/srv/test/source"
            command = ["env", "-C", inside, "python3", "-m", "tests.package.lifecycle"]
            command += ["/srv/test/event-agent.deb", inside]
            done = debian.run(*command, *(["quick"] if os.environ.get("EVENT_AGENT_TEST_PACKAGE") == "quick" else []))
    except NoBoot as why:
        if os.environ.get("EVENT_AGENT_TEST_PACKAGE") == "must":
            raise
        with capsys.disabled():
            print(f"\n*** THE PACKAGE WAS NOT TESTED: no Debian can be booted here: {why}")
        pytest.skip(f"the package was not tested: {why}")
    with capsys.disabled():
        print(f"\n{done.stdout}")
    assert done.returncode == 0
