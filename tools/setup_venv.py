"""Makes .venv, in which the daemon runs from the checkout and its tests run. `make setup` calls it.

Run it with the Python that the .venv is to be made from. It installs the Debian packages that are missing, the pinned
Python packages, python-ESL built from its source, and the checkout itself (editable). When all that was done before,
for these requirements and by this Python, it returns at once and needs no network.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STAMP = VENV / "setup-stamp"
INPUTS = (
    "requirements.txt", "requirements-dev.txt", "requirements-source.txt", "setup.py", "tools/setup_venv.py",
    *sorted(f"compiled/{path.name}" for path in (ROOT / "compiled").iterdir()),
)  # fmt: skip
PYTHONS = ((3, 11), (3, 13))  # those that the requirements files hold files for
VERSION = sys.version.split()[0]


class SetupError(Exception):
    """What went wrong, for the user to read."""


def say(text: str) -> None:
    print(f"setup: {text}", flush=True)


def fingerprint() -> str:
    """What the .venv depends on: it is made anew when this changes."""
    digest = hashlib.sha256()
    for name in INPUTS:
        digest.update((ROOT / name).read_bytes())
    # A copied checkout holds a .venv with another place's paths; an upgraded Debian, one for another Python.
    python = (os.path.realpath(sys.executable), sys.implementation.cache_tag, platform.machine())
    digest.update(repr((str(ROOT), python)).encode())
    return digest.hexdigest()


def program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")  # not in every user's PATH


def is_made() -> bool:
    try:
        same = STAMP.read_text(encoding="utf-8") == fingerprint()
    except OSError:
        return False
    # A .venv may outlive the machine's packages, in a cache or a mounted folder; of those this one is still needed.
    return same and (VENV / "bin/python").exists() and program("nats-server") is not None


def run(command: list[str], cwd: Path = ROOT) -> None:
    """Run a command quietly; what it said is shown when it fails."""
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "EVENT_AGENT_COMPILED": "1"}
    done = subprocess.run(command, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise SetupError(f"{done.stdout.rstrip()}\nfailed with exit code {done.returncode}: {shlex.join(command)}")


def missing_packages() -> list[str]:
    """The Debian packages that bring what is not there, from wherever it may have come."""
    found = {
        "nats-server": program("nats-server"),
        "swig": program("swig"),
        "g++": program("g++") and program("gcc"),
        "python3-dev": Path(sysconfig.get_path("include"), "Python.h").exists(),
        "python3-venv": importlib.util.find_spec("ensurepip"),
    }
    return [package for package, there in found.items() if not there]


def install_packages(packages: list[str]) -> None:
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    by_hand = f"As root: apt-get update && {shlex.join(command)}"
    if shutil.which("apt-get") is None:
        raise SetupError(f"missing: {', '.join(packages)}, and there is no apt-get to install them with")
    prefix = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise SetupError(f"missing Debian packages: {', '.join(packages)}; not root, and no sudo.\n{by_hand}")
        prefix = ["sudo", *prefix]
    say(f"installing Debian packages: {', '.join(packages)}")
    try:
        run([*prefix, *command])
    except SetupError:  # no package lists yet, or lists that are out of date
        say("that failed; again, with fresh package lists")
        try:
            run([*prefix, "apt-get", "update"])
            run([*prefix, *command])
        except SetupError as error:
            raise SetupError(f"{error}\n{by_hand}") from None
    if left := missing_packages():
        raise SetupError(f"still missing for {sys.executable}: {', '.join(left)}")


def build_esl(python: str) -> None:
    """python-ESL as its authors published it, less one option that SWIG 4 no longer knows."""
    with tempfile.TemporaryDirectory(prefix="event-agent-setup-") as name:
        scratch = Path(name)
        # pip asks the source for its metadata: with our setuptools, not with one it would fetch for that.
        options = ["--no-deps", "--no-binary=:all:", "--no-build-isolation", "--require-hashes"]
        run([python, "-m", "pip", "download", *options, "-r", "requirements-source.txt", "--dest", name])
        (archive,) = scratch.glob("*.tar.gz")
        shutil.unpack_archive(archive, scratch / "source")
        (source,) = (scratch / "source").iterdir()
        text = (source / "setup.py").read_text(encoding="utf-8")
        if "'-classic', " not in text:
            raise SetupError("python-ESL's setup.py is not the one this was written for")
        (source / "setup.py").write_text(text.replace("'-classic', ", ""), encoding="utf-8")
        # build_ext first: SWIG writes the ESL.py that fits; the one in the archive is an old one.
        run([python, "setup.py", "build_ext", "bdist_wheel", "--dist-dir", name], cwd=source)
        (wheel,) = scratch.glob("*.whl")
        run([python, "-m", "pip", "install", "--no-index", "--no-deps", str(wheel)])
    run([python, "-c", "import ESL; ESL.ESLevent('CUSTOM')"])


def make() -> None:
    if sys.version_info[:2] not in PYTHONS:
        known = " or ".join(f"{major}.{minor}" for major, minor in PYTHONS)
        raise SetupError(f"{sys.executable} is Python {VERSION}; Python {known} is needed (make PYTHON=...)")
    if packages := missing_packages():
        install_packages(packages)
    say(f"making .venv with Python {VERSION}")
    STAMP.unlink(missing_ok=True)
    run([sys.executable, "-m", "venv", "--clear", str(VENV)])
    python = str(VENV / "bin/python")
    pip = [python, "-m", "pip", "install", "--no-deps"]
    run([*pip, "--require-hashes", "-r", "requirements.txt", "-r", "requirements-dev.txt"])
    say("building python-ESL")
    build_esl(python)
    run([*pip, "--no-index", "--no-build-isolation", "--editable", "."])
    STAMP.write_text(fingerprint(), encoding="utf-8")
    say("done")


def main() -> int:
    if is_made():
        return 0
    lock = os.open(ROOT, os.O_RDONLY)  # two at a time would spoil each other's work
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_made():
            make()
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    finally:
        os.close(lock)
    return 0


if __name__ == "__main__":
    sys.exit(main())
