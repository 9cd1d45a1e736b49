"""Makes a signed apt repository of the package, in a folder for any web server: what `make apt-repo` does.

    make apt-repo                                  for the Debian that this runs on, into dist/apt
    make apt-repo ARGS="--suite bookworm --suite trixie"   for these; another suite than our own is built in a Debian
                                                   made by debootstrap, which needs root
    make apt-repo ARGS="--key FILE"                signed with this secret key (as gpg --export-secret-keys writes it)

Without --key a key is made once and kept beside the repository, in dist/apt-key: keep it, because users trust that one
key. What is in the pool already stays, so that users can go back. The package of each suite has its own version
(1.1.0+deb12, 1.1.0+deb13), because it holds modules for that suite's Python.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from email.utils import formatdate
from pathlib import Path

import build_deb
from setup_venv import SetupError, run

ROOT = Path(__file__).resolve().parent.parent
SUITES = {"bookworm": "deb12", "trixie": "deb13"}
PACKAGE, COMPONENT = "event-agent", "main"
# What debian/control asks for, in debootstrap's words.
BUILD_NEEDS = (
    "build-essential", "debhelper", "dh-python", "python3-dev", "python3-pip", "python3-setuptools", "swig",
    "python3-nacl", "python3-cffi-backend", "ca-certificates",
)  # fmt: skip
KEY_NAME = "event-agent archive <event-agent@example.org>"
PUBLIC = "event-agent.asc"  # the public key, in the repository's folder


def say(text: str) -> None:
    print(f"apt-repo: {text}", flush=True)


def own_suite() -> str:
    """The code name of the Debian that this runs on; empty if it is none."""
    try:
        lines = Path("/etc/os-release").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    fields = dict(line.split("=", 1) for line in lines if "=" in line)
    return fields.get("VERSION_CODENAME", "").strip('"') if fields.get("ID", "").strip('"') == "debian" else ""


# -- packages


def build(suite: str, chroots: Path) -> list[Path]:
    """The .deb files of a suite, built now. Raises SetupError."""
    suffix = f"+{SUITES[suite]}"
    if suite == own_suite():
        if build_deb.missing():
            build_deb.install()
        return [path for path in build_deb.build(suffix) if path.suffix == ".deb"]
    return _build_elsewhere(suite, suffix, chroots / suite)


def _build_elsewhere(suite: str, suffix: str, root: Path) -> list[Path]:
    """Built in a Debian of that suite, made by debootstrap and kept for the next time."""
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise SetupError(f"building for {suite} on another Debian needs root and debootstrap; or run this on {suite}")
    if not root.exists():
        say(f"making a Debian {suite} in {root}")
        new = root.with_name(f"{root.name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.parent.mkdir(parents=True, exist_ok=True)
        run(["debootstrap", f"--include={','.join(BUILD_NEEDS)}", suite, str(new)])
        new.rename(root)
    stage = root / "build"
    shutil.rmtree(stage, ignore_errors=True)
    source = build_deb.stage(stage, suffix)  # fetches what the package brings along, out here
    try:
        command = f"cd /build/{source.name} && exec dpkg-buildpackage --build=binary -us -uc"
        run(["chroot", str(root), "sh", "-c", command])
        build_deb.DIST.mkdir(exist_ok=True)
        return [Path(shutil.move(path, build_deb.DIST / path.name)) for path in sorted(stage.glob("*.deb"))]
    finally:
        shutil.rmtree(stage, ignore_errors=True)


# -- the repository


def add(out: Path, suite: str, packages: list[Path]) -> None:
    """Put packages into the pool of a suite."""
    pool = out / "pool" / suite
    pool.mkdir(parents=True, exist_ok=True)
    for path in packages:
        if "-dbgsym_" not in path.name:
            shutil.copy(path, pool / path.name)


def index(out: Path, suite: str) -> Path:
    """Write a suite's Packages and Release; returns Release. Raises SetupError."""
    if shutil.which("dpkg-scanpackages") is None:
        raise SetupError("dpkg-scanpackages is missing: apt-get install dpkg-dev")
    top = out / "dists" / suite
    shutil.rmtree(top, ignore_errors=True)
    pool = out / "pool" / suite
    architectures = sorted({path.stem.rpartition("_")[2] for path in pool.glob("*.deb")} - {"all"})
    if not architectures:
        raise SetupError(f"{pool} has no package")
    for architecture in architectures:
        found = subprocess.run(
            ["dpkg-scanpackages", "--multiversion", "--arch", architecture, f"pool/{suite}"],
            cwd=out, capture_output=True, text=True,
        )  # fmt: skip
        if found.returncode:
            raise SetupError(f"dpkg-scanpackages failed: {found.stderr.strip()}")
        folder = top / COMPONENT / f"binary-{architecture}"
        folder.mkdir(parents=True)
        (folder / "Packages").write_text(found.stdout, encoding="utf-8")
        (folder / "Packages.gz").write_bytes(gzip.compress(found.stdout.encode(), mtime=0))
    lines = [
        "Origin: event-agent", "Label: event-agent", f"Suite: {suite}", f"Codename: {suite}",
        f"Date: {formatdate(usegmt=True)}", f"Architectures: {' '.join(architectures)}", f"Components: {COMPONENT}",
        "Description: event-agent, the bridge between FreeSWITCH and NATS", "SHA256:",
    ]  # fmt: skip
    for path in sorted(top.rglob("Packages*")):
        data = path.read_bytes()
        lines.append(f" {hashlib.sha256(data).hexdigest()} {len(data):>12} {path.relative_to(top)}")
    release = top / "Release"
    release.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return release


# -- the signature


class Signer:
    """gpg with a home of its own that holds one secret key. For a `with` statement. Raises SetupError."""

    def __init__(self, key: Path) -> None:
        """`key`: a file with the secret key; made if it is missing."""
        self._key = key
        self._home = tempfile.TemporaryDirectory(prefix="apt-repo-")
        os.chmod(self._home.name, 0o700)

    def __enter__(self) -> Signer:
        if shutil.which("gpg") is None:
            raise SetupError("gpg is missing: apt-get install gnupg")
        if self._key.exists():
            self._gpg(f"{self._key} has no secret key that gpg can read", "--import", str(self._key))
        else:
            say(f"making a key, {self._key}: keep it, users trust it")
            self._gpg(
                "no key could be made", "--passphrase", "", "--quick-generate-key", KEY_NAME, "ed25519", "sign", "never"
            )
            secret = self._gpg("the key can't be read", "--armor", "--export-secret-keys")
            self._key.parent.mkdir(parents=True, exist_ok=True)
            self._key.touch(0o600)
            self._key.write_bytes(secret)
        if not self._gpg("", "--list-secret-keys", "--with-colons"):
            raise SetupError(f"{self._key} holds no secret key")
        return self

    def __exit__(self, *_: object) -> None:
        subprocess.run(["gpgconf", "--homedir", self._home.name, "--kill", "all"], check=False)
        self._home.cleanup()

    def _gpg(self, fault: str, *arguments: str) -> bytes:
        command = ["gpg", "--homedir", self._home.name, "--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]
        done = subprocess.run([*command, *arguments], capture_output=True)
        if done.returncode:
            words = " ".join(done.stderr.decode(errors="replace").split())
            raise SetupError(f"{fault or 'gpg failed'}: {words[-300:]}")
        return done.stdout

    def public(self) -> bytes:
        """The public key, for users."""
        return self._gpg("the key can't be read", "--armor", "--export")

    def sign(self, release: Path) -> None:
        """Write InRelease and Release.gpg beside it."""
        top, fault = release.parent, f"{release} could not be signed"
        self._gpg(fault, "--clearsign", "--digest-algo", "SHA512", "--output", str(top / "InRelease"), str(release))
        self._gpg(
            fault, "--detach-sign", "--armor", "--digest-algo", "SHA512", "--output", str(top / "Release.gpg"),
            str(release),
        )  # fmt: skip


def publish(out: Path, key: Path, packages: dict[str, list[Path]]) -> None:
    """Add these packages of each suite, and sign what has changed. Raises SetupError."""
    with Signer(key) as signer:
        out.mkdir(parents=True, exist_ok=True)
        (out / PUBLIC).write_bytes(signer.public())
        for suite, files in packages.items():
            add(out, suite, files)
            signer.sign(index(out, suite))
            say(f"{suite}: {', '.join(sorted(path.name for path in (out / 'pool' / suite).glob('*.deb')))}")


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="make apt-repo", description="Makes a signed apt repository.")
    parser.add_argument("--suite", action="append", choices=SUITES, help="may be given twice; default: this Debian's")
    parser.add_argument("--out", type=Path, default=ROOT / "dist/apt", help="the folder; default: dist/apt")
    parser.add_argument("--key", type=Path, help="the secret key; default: dist/apt-key/secret.asc, made once")
    parser.add_argument("--chroots", type=Path, default=ROOT / "build/chroot", help="where other suites are built")
    options = parser.parse_args(arguments)
    suites = options.suite or [own_suite()]
    try:
        if unknown := [suite for suite in suites if suite not in SUITES]:
            raise SetupError(f"{unknown[0] or 'this'} is none of {', '.join(SUITES)}: give --suite")
        if options.key is not None and not options.key.exists():
            raise SetupError(f"there is no file {options.key}")
        key = options.key or options.out.parent / "apt-key" / "secret.asc"
        publish(options.out, key, {suite: build(suite, options.chroots) for suite in suites})
    except SetupError as error:
        print(f"apt-repo: {error}", file=sys.stderr)
        return 1
    say(f"{options.out} is ready; docs/INSTALL.md has the lines for those who install from it")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
