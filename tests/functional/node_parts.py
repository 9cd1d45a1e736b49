"""The npm package in clients/node: built once a run, from what its lock file names, and its programs."""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.functional import node_snippets
from tests.functional.parts import ROOT
from tests.support import until

PACKAGE = ROOT / "clients" / "node"
NPM_LIMIT = 300  # seconds to fetch what the lock file names
TSC_LIMIT = 300  # seconds, of a machine that does other things as well

missing_node = "" if shutil.which("node") and shutil.which("npm") else "no node and npm in PATH (Debian: nodejs, npm)"
needs_node = pytest.mark.skipif(bool(missing_node), reason=missing_node)


@functools.cache  # once a run
def build() -> Path:
    """Fetch what the package needs (unless it is there), compile the package and its tests. Returns its folder."""
    with open(PACKAGE / ".build.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _installed():
            run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"], PACKAGE, NPM_LIMIT)
        node_snippets.main()
        compile_in(PACKAGE, "tsconfig.json")
        compile_in(PACKAGE, "tsconfig.test.json")
    return PACKAGE


def compile_in(folder: Path, config: str) -> None:
    """Compile a TypeScript project; AssertionError with the compiler's words."""
    tsc(folder, "-p", config)


def tsc(folder: Path, *arguments: str) -> None:
    """The TypeScript compiler; AssertionError with its words."""
    run(["node", str(PACKAGE / "node_modules" / "typescript" / "bin" / "tsc"), *arguments], folder, TSC_LIMIT)


def _installed() -> bool:
    """Whether node_modules holds the versions that the lock file names."""
    wanted = json.loads((PACKAGE / "package-lock.json").read_text())["packages"]
    for name, entry in wanted.items():
        if not name or entry.get("optional"):
            continue
        found = PACKAGE / name / "package.json"
        if not found.exists() or json.loads(found.read_text())["version"] != entry["version"]:
            return False
    return True


def run(command: list[str], folder: Path, limit: float) -> None:
    """A program that ends by itself; AssertionError with its words if it fails."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, f"{' '.join(command)}:\n{(done.stdout + done.stderr)[-4000:]}"


def environ(**more: str) -> dict[str, str]:
    """The environment of a program that uses the package."""
    found = {name: value for name, value in os.environ.items() if name not in ("NATS_URL", "PREFIX", "NODE_OPTIONS")}
    return found | more


def node_test(name: str, limit: float = 180, **variables: str) -> None:
    """Run one file of tests with node's own test runner; AssertionError with what it says."""
    command = ["node", "--test", "--test-reporter=spec", str(PACKAGE / "build" / "test" / f"{name}.test.js")]
    process = subprocess.Popen(
        command, cwd=PACKAGE, env=environ(**variables), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        out, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        out, _ = process.communicate()
        raise AssertionError(f"not within {limit:g} seconds:\n{out[-6000:]}") from None
    assert process.returncode == 0 and "fail 0" in out, out[-8000:]


class Program:
    """A program that runs until it is ended; its output goes to a file."""

    def __init__(self, command: list[str], path: Path, variables: dict[str, str]) -> None:
        self._path = path
        with open(path, "wb") as out:
            self.process = subprocess.Popen(
                command, env=environ(**variables), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    @property
    def output(self) -> str:
        return self._path.read_text(encoding="utf-8")

    def says(self, text: str, timeout: float = 60, count: int = 1) -> None:
        """Wait until it has said this so many times."""
        try:
            until(lambda: self.output.count(text) >= count, text, timeout)
        except AssertionError:
            raise AssertionError(f"it does not say {text!r} {count} times, but:\n{self.output[-3000:]}") from None

    def interrupt(self) -> int:
        """As Ctrl-C does; returns its exit code."""
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(20)

    def kill(self) -> None:
        """SIGKILL."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
