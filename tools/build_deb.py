"""Builds the Debian package into dist/: what `make deb` does, on Debian 12 or 13, from a clean checkout.

It installs what the build needs (with apt, as root or by sudo; nothing to do the second time), copies the checkout to
build/deb, fetches there what the package brings along, and runs dpkg-buildpackage on the copy.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from setup_venv import SetupError, run

ROOT = Path(__file__).resolve().parent.parent
STAGE = ROOT / "build/deb"
DIST = ROOT / "dist"
LEFT_OUT = (".git", ".venv", "build", "dist", "__pycache__", "*.egg-info", ".*_cache", ".hypothesis", ".ci")


def say(text: str) -> None:
    print(f"deb: {text}", flush=True)


def missing() -> bool:
    """Whether something that debian/control asks for is not installed."""
    if shutil.which("dpkg-checkbuilddeps") is None:
        return True
    done = subprocess.run(["dpkg-checkbuilddeps"], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode != 0


def install() -> None:
    """Have apt install what debian/control asks for."""
    # Build-Depends name no build-essential, which includes dpkg-dev: it is what any build may expect.
    commands = [
        ["apt-get", "install", "-y", "--no-install-recommends", "build-essential"],
        ["apt-get", "build-dep", "-y", "--no-install-recommends", "./"],
    ]
    by_hand = f"As root: apt-get update && {' && '.join(map(shlex.join, commands))}"
    if shutil.which("apt-get") is None:
        raise SetupError("the build needs a Debian: there is no apt-get here")
    prefix = ["env", "DEBIAN_FRONTEND=noninteractive"]
    if os.geteuid() != 0:
        if shutil.which("sudo") is None:
            raise SetupError(f"missing build dependencies; not root, and no sudo.\n{by_hand}")
        prefix = ["sudo", *prefix]
    say("installing what the build needs")
    try:
        run([*prefix, "apt-get", "update"])
        for command in commands:
            run([*prefix, *command])
    except SetupError as error:
        raise SetupError(f"{error}\n{by_hand}") from None


def stage(folder: Path, suffix: str) -> Path:
    """A copy of the checkout in there, with what the package brings along. `suffix` is put behind the version."""
    source = folder / "event-agent"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(*LEFT_OUT))
    changelog = source / "debian/changelog"
    text = changelog.read_text(encoding="utf-8")
    changelog.write_text(text.replace(")", f"{suffix})", 1), encoding="utf-8")
    say("fetching pynats2 and python-ESL")
    run([sys.executable, "tools/vendor.py", "fetch", "vendor"], cwd=source)
    return source


def build(suffix: str = "") -> list[Path]:
    """Build in a copy; returns the packages, now in dist/."""
    shutil.rmtree(STAGE, ignore_errors=True)
    source = stage(STAGE, suffix)
    say("building")
    run(["dpkg-buildpackage", "--build=binary", "--unsigned-changes", "--unsigned-buildinfo"], cwd=source)
    DIST.mkdir(exist_ok=True)
    built = [path for path in sorted(STAGE.iterdir()) if path.is_file()]
    moved = [Path(shutil.move(path, DIST / path.name)) for path in built]
    shutil.rmtree(STAGE)
    return moved


def main() -> int:
    try:
        if missing():
            install()
        for path in build():
            if path.suffix == ".deb":
                say(f"{path.relative_to(ROOT)}, {path.stat().st_size} bytes")
    except SetupError as error:
        print(f"deb: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
