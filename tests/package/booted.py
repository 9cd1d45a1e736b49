"""A throw-away Debian that boots under its own systemd, for a package to be installed in.

Made with debootstrap once (kept in a cache folder, some 400 MB), then booted with systemd-nspawn over it: what is
written goes to memory and is gone afterwards. Its network is its own loopback and nothing else, so what the package
needs is part of the cached system. Needs root, debootstrap and systemd-nspawn.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

PROGRAMS = {"debootstrap": "debootstrap", "systemd-nspawn": "systemd-container", "nsenter": "util-linux"}
SYSTEM = ("systemd-sysv", "dbus", "python3")
# debootstrap knows no virtual packages: python3-cffi-backend is what python3-nacl calls by other names.
NEEDED = ("adduser", "python3-cffi-backend", "python3-nacl", "ca-certificates", "nats-server", "bash-completion")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BOOT_LIMIT = 60.0  # seconds


class NoBoot(Exception):
    """Why no Debian can be booted here."""


def suite() -> str:
    """The code name of the Debian to boot: $EVENT_AGENT_TEST_SUITE, or the one that this runs on."""
    if named := os.environ.get("EVENT_AGENT_TEST_SUITE"):
        return named
    text = Path("/etc/os-release").read_text(encoding="utf-8")
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    if fields.get("ID", "").strip('"') != "debian":
        raise NoBoot("this is not a Debian")
    return fields["VERSION_CODENAME"].strip('"')


def cache() -> Path:
    """Where the system to boot is kept; $EVENT_AGENT_TEST_CACHE may say otherwise."""
    return Path(os.environ.get("EVENT_AGENT_TEST_CACHE", "/var/cache/event-agent-test")) / suite()


def check() -> None:
    """Raises NoBoot, with what is missing."""
    suite()
    if os.geteuid() != 0:
        raise NoBoot("booting a Debian needs root")
    if lacking := [package for program, package in PROGRAMS.items() if shutil.which(program, path=PATH) is None]:
        raise NoBoot(f"missing: apt-get install {' '.join(lacking)}")


def discard(root: Path) -> None:
    """Remove what a debootstrap that was ended has left; its /proc and /sys may still be mounted there."""
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    for mount in reversed(mounts):
        if mount.startswith(f"{root}/"):
            subprocess.run(["umount", mount], check=True)
    shutil.rmtree(root, ignore_errors=True)


def make() -> Path:
    """The system to boot, made if need be. Raises NoBoot."""
    root = cache()
    if not root.exists():
        new = root.with_name(f"{root.name}.new")
        discard(new)
        new.parent.mkdir(parents=True, exist_ok=True)
        options = ["--variant=minbase", f"--include={','.join((*SYSTEM, *NEEDED))}"]
        done = subprocess.run(
            ["debootstrap", *options, suite(), str(new)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if done.returncode != 0:
            raise NoBoot(f"debootstrap failed:\n{done.stdout[-2000:]}")
        new.rename(root)
    return root


def unified() -> Path:
    """Where the control groups are mounted. Raises NoBoot."""
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    raise NoBoot("no unified control groups are mounted here")


class Booted:
    """Boots on entering, is powered off on leaving. Raises NoBoot where it does not come up."""

    def __init__(self, folder: Path) -> None:
        """`folder` appears inside as /srv/test, read-only."""
        self._folder = folder
        self._cgroup: Path | None = None

    def __enter__(self) -> Booted:
        check()
        name = f"event-agent-test-{os.getpid()}"
        command = [
            "systemd-nspawn", "--boot", "--quiet", f"--directory={make()}", "--volatile=overlay", "--private-network",
            "--register=no", "--console=read-only", f"--bind-ro={self._folder}:/srv/test", f"--machine={name}",
            # What a service finds on a real Debian: locked memory for credentials, BPF for IPAddressDeny= and the like.
            "--capability=CAP_IPC_LOCK", "--system-call-filter=bpf",
        ]  # fmt: skip
        if not Path("/run/systemd/system").exists():
            # No systemd here to ask for a place of its own in the control groups: two systems in one place would end
            # each other's services.
            self._cgroup = unified() / name
            self._cgroup.mkdir(exist_ok=True)
            enter = ["sh", "-c", 'echo $$ >"$0"/cgroup.procs && exec "$@"', str(self._cgroup)]
            command = [*enter, *command, "--keep-unit"]
        self._process = subprocess.Popen(
            command,
            env={**os.environ, "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + BOOT_LIMIT
        while time.monotonic() < deadline and self._process.poll() is None:
            if self._init() and self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded"):
                return self
            time.sleep(0.2)
        self.__exit__()
        raise NoBoot(f"systemd-nspawn did not bring it up:\n{(self._process.stdout or '') and self._rest()}")

    def _rest(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.read()[-2000:]

    def __exit__(self, *_: object) -> None:
        if self._init() and self._process.poll() is None:
            self.run("systemctl", "poweroff")
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._cgroup is not None:
            for group in sorted(self._cgroup.rglob("*/"), reverse=True):
                group.rmdir()
            self._cgroup.rmdir()

    def _init(self) -> str:
        """Its first process, as seen from here; "" while there is none."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        try:
            for pid in children.read_text(encoding="ascii").split():
                if Path(f"/proc/{pid}/comm").read_text(encoding="ascii").strip() == "systemd":
                    return pid
        except OSError:
            pass
        return ""

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it, as root; stderr goes with stdout."""
        inside = ["nsenter", "-t", self._init(), "-a", "--", "env", "-i", "-C", "/root", f"PATH={PATH}", "HOME=/root"]
        inside += ["LANG=C.UTF-8", "TERM=dumb", "DEBIAN_FRONTEND=noninteractive", "PYTHONUNBUFFERED=1", *command]
        return subprocess.run(
            inside, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
