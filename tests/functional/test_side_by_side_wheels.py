"""event-agent and event-agent-client, each a wheel: both in one environment, and each alone when one is removed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("event_agent", "event_agent_client", "setup.py", "pyproject.toml", "README.md", "LICENSE")
OLD = "from event_agent.client import Client, NoAgent; import event_agent_client.replies as r; print(r.__file__)"
NEW = "import event_agent_client as ea, event_agent_client.testing, event_agent_client.pytest_plugin; print(ea.connect)"
SAME = "from event_agent.client import CommandFailed; import event_agent_client as ea; " \
       "print(issubclass(CommandFailed, ea.CommandFailed))"  # fmt: skip


def run(command: list[str], limit: float = 300, **more: str) -> str:
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "NATS_URL")} | more
    done = subprocess.run(command, capture_output=True, text=True, timeout=limit, cwd="/", env=environ)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for name in SOURCES:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--quiet", "--no-deps"]
    run([*pip, "--no-build-isolation", "--wheel-dir", str(folder), str(folder / "source")])
    run([sys.executable, str(ROOT / "tools" / "build_client.py"), str(folder)])
    found = {path.name.partition("-")[0]: path for path in folder.glob("*.whl")}
    assert set(found) == {"event_agent", "event_agent_client"}
    return found


class Environment:
    """A virtual environment into which wheels are put, and out of which they are taken."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=False, symlinks=True)
        self.python = str(folder / "bin" / "python")
        self._pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", self.python]

    def install(self, wheel: Path) -> None:
        run([*self._pip, "install", "--quiet", "--no-index", "--no-deps", str(wheel)])

    def remove(self, name: str) -> None:
        run([*self._pip, "uninstall", "--quiet", "--yes", name])

    def does(self, code: str) -> str:
        """What a program there says. pynats2 and pytest are this environment's; event_agent is not in that folder."""
        return run([self.python, "-c", code], PYTHONPATH=sysconfig.get_path("purelib")).strip()


def test_no_file_is_of_both(wheels: dict[str, Path]) -> None:
    ours, theirs = (set(zipfile.ZipFile(path).namelist()) for path in wheels.values())
    assert len(ours) > 150 and len(theirs) > 50 and not ours & theirs


@pytest.mark.parametrize("first", ["event_agent", "event_agent_client"])
def test_either_can_be_removed(first: str, wheels: dict[str, Path], tmp_path: Path) -> None:
    there = Environment(tmp_path)
    (second,) = set(wheels) - {first}
    for name in (first, second):
        there.install(wheels[name])
    assert "/client/lib/" not in there.does(OLD)  # one package for both, so that errors of one are errors of the other
    assert there.does(SAME) == "True" and "function connect" in there.does(NEW)
    there.remove(first.replace("_", "-"))
    if second == "event_agent":
        assert "/client/lib/" in there.does(OLD) and there.does(SAME) == "True"
    else:
        assert "function connect" in there.does(NEW)
