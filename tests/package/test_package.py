"""Installs the built package in a bare Debian that boots under its own systemd, and lives a whole life with it there.

`make test-package` runs it: it takes minutes, root, and a system cached on the disk. SUITE=trixie takes Debian 13.
Where no system can be booted it says so loudly and is skipped; with EVENT_AGENT_TEST_PACKAGE=must in the environment
that is a failure. With EVENT_AGENT_TEST_PACKAGE=quick one thread is frozen, not each of them, which takes ten minutes,
and the long load lasts 20 seconds instead of 20 minutes. EVENT_AGENT_TEST_OLD names a package of version 1.0.0 that was
built on the same Debian: it is installed and upgraded under load.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.package.booted import Booted, NoBoot, suite

ROOT = Path(__file__).resolve().parent.parent.parent
REPOSITORY = ROOT / "dist/apt"
INSIDE = "/srv/test"
MODE = os.environ.get("EVENT_AGENT_TEST_PACKAGE", "")


def package() -> Path:
    """The newest package of the Debian to boot in the repository that `make apt-repo` makes."""
    found = sorted((REPOSITORY / "pool" / suite()).glob("event-agent_*.deb"), key=lambda path: path.stat().st_mtime)
    assert found, f"no package for {suite()} in {REPOSITORY}: make apt-repo"
    return found[-1]


def in_debian(tmp_path: Path, capsys: pytest.CaptureFixture[str], module: str, *arguments: str) -> None:
    """Run a module of this folder in a booted Debian: /srv/test has event-agent.deb, source, apt and old.deb."""
    folder = tmp_path / "test"
    folder.mkdir()
    folder.chmod(0o755)
    try:
        shutil.copy(package(), folder / "event-agent.deb")
        shutil.copytree(REPOSITORY, folder / "apt")
        shutil.copytree(ROOT / "tests", folder / "source/tests", ignore=shutil.ignore_patterns("__pycache__"))
        if old := os.environ.get("EVENT_AGENT_TEST_OLD"):
            shutil.copy(old, folder / "old.deb")
        with Booted(folder) as debian:
            source = f"{INSIDE}/source"
            done = debian.run("env", "-C", source, "python3", "-m", f"tests.package.{module}", *arguments)
    except NoBoot as why:
        if MODE == "must":
            raise
        with capsys.disabled():
            print(f"\n*** THE PACKAGE WAS NOT TESTED: no Debian can be booted here: {why}")
        pytest.skip(f"the package was not tested: {why}")
    with capsys.disabled():
        print(f"\n{suite()}\n{done.stdout}")
    assert done.returncode == 0


def test_life_cycle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quick = ["quick"] if MODE == "quick" else []
    in_debian(tmp_path, capsys, "lifecycle", f"{INSIDE}/event-agent.deb", f"{INSIDE}/source", *quick)


def test_from_a_repository(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_debian(tmp_path, capsys, "repository", f"{INSIDE}/source", f"{INSIDE}/apt", suite(), f"{INSIDE}/old.deb")


def test_as_an_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_debian(tmp_path, capsys, "handling", f"{INSIDE}/event-agent.deb", f"{INSIDE}/source")


def test_disks_that_are_full_and_read_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    in_debian(tmp_path, capsys, "disks", f"{INSIDE}/event-agent.deb", f"{INSIDE}/source")


def test_long_load(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = os.environ.get("EVENT_AGENT_TEST_SECONDS") or ("20" if MODE == "quick" else "1200")
    in_debian(tmp_path, capsys, "busy", f"{INSIDE}/event-agent.deb", f"{INSIDE}/source", seconds)
