"""The package as users get it, on a booted Debian: from a signed apt repository, from 1.0.0 under load, and back.

    python3 -m tests.package.repository SOURCE APT SUITE [OLD.deb]
        in SOURCE and as root, in a system that may be thrown away, with nats-server installed

APT is a folder that `make apt-repo` has made; a web server here gives it out. OLD.deb is version 1.0.0; if there is no
such file the upgrade and the way back are left out, and a line says so.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from tests.package.busy import Events, Paced
from tests.package.lifecycle import DEFAULT, STATE, purge, surroundings
from tests.package.machine import CONFIG, ESL, UNIT, Failed, ask, check, journal, run, show, until_answered, wait
from tests.package.numbered import SUBJECT

PORT = 8099
KEY, LIST = Path("/etc/apt/keyrings/event-agent.asc"), Path("/etc/apt/sources.list.d/event-agent.list")
KEEP = ("-o", "Dpkg::Options::=--force-confold")
GAP, INBOX = "freeswitch.events.agent.gap", "_INBOX.upgrade"
RATE = 200  # events a second
ASKED = 50  # requests a second


class Witness:
    """A client that asks and subscribes while the package is exchanged; NATS says at once when nobody listens."""

    def __init__(self) -> None:
        self.answered: set[int] = set()
        self.nobody: set[int] = set()
        self.errors: dict[int, str] = {}  # answered that it was not carried out: NATS is there before FreeSWITCH is
        self.numbers: list[int] = []
        self.gaps: list[str] = []
        self._socket = socket.create_connection(("127.0.0.1", 4222), 10)
        self._socket.settimeout(None)
        self._socket.sendall(
            f'CONNECT {{"verbose":false,"headers":true,"no_responders":true}}\r\nSUB {INBOX}.* 1\r\nSUB {SUBJECT} 2\r\n'
            f"SUB {GAP} 3\r\n".encode()
        )
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._read, name="witness")
        self._thread.start()

    def ask(self, first: int, count: int) -> None:
        text = '{"command":"status"}'
        lines = (f"PUB freeswitch.api {INBOX}.{each} {len(text)}\r\n{text}\r\n" for each in range(first, first + count))
        with self._writing:
            self._socket.sendall("".join(lines).encode())

    def _read(self) -> None:
        with self._socket.makefile("rb") as stream:
            while line := stream.readline():
                if line.startswith(b"PING"):
                    with self._writing:
                        self._socket.sendall(b"PONG\r\n")
                elif line.startswith((b"MSG ", b"HMSG ")):
                    self._message(line.split(), stream.read(int(line.split()[-1]) + 2))

    def _message(self, line: list[bytes], text: bytes) -> None:
        if line[2] == b"1":
            number = int(line[1].rpartition(b".")[2])
            if b'"success":true' in text:
                self.answered.add(number)
            elif b"NATS/1.0 503" in text:
                self.nobody.add(number)
            else:
                self.errors[number] = str(json.loads(text)["message"])
        elif line[2] == b"3":
            self.gaps.append(text.decode(errors="replace").strip())
        elif found := re.search(rb'"Number":"(\d+)"', text):
            self.numbers.append(int(found[1]))

    def around(self, numbers: list[int]) -> dict[str, list[int]]:
        """What became of the ten requests before and after these."""
        near = set(range(numbers[0] - 10, numbers[-1] + 11)) if numbers else set()
        found = {"answered": self.answered, "nobody": self.nobody, "errors": set(self.errors)}
        return {name: sorted(each & near)[:30] for name, each in found.items()}

    def ended(self) -> set[int]:
        """The requests whose senders know what became of them."""
        return self.answered | self.nobody | self.errors.keys()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


def sources(signed: bool = True) -> None:
    """The lines of docs/INSTALL.md."""
    KEY.parent.mkdir(mode=0o755, exist_ok=True)
    shutil.copy(Path(sys.argv[2]) / "event-agent.asc", KEY)
    option = f"[signed-by={KEY}] " if signed else ""
    LIST.write_text(f"deb {option}http://127.0.0.1:{PORT} {sys.argv[3]} main\n", encoding="utf-8")


def update() -> str:
    return run("apt-get", "update", code=None)


def serve(apt: Path) -> str:
    """The repository, and nothing else: this system has no way to Debian's."""
    Path("/etc/apt/sources.list").write_text("", encoding="utf-8")
    shutil.copytree(apt, "/srv/apt")
    command = (sys.executable, "-m", "http.server", "--bind", "127.0.0.1", "--directory", "/srv/apt", str(PORT))
    run("systemd-run", "--collect", "--unit=apt-web", *command)

    def there() -> bool:
        try:
            socket.create_connection(("127.0.0.1", PORT), 1).close()
        except OSError:
            return False
        return True

    wait("the web server", there)
    return ", ".join(sorted(path.name for path in Path("/srv/apt/pool", sys.argv[3]).iterdir()))


def refused_without_a_good_signature() -> str:
    """No key, and a list that was changed after it was signed."""
    sources(signed=False)
    unknown = update()
    check("is not signed" in unknown and "E: " in unknown, unknown)
    sources()
    release = Path("/srv/apt/dists", sys.argv[3], "InRelease")
    text = release.read_text(encoding="utf-8")
    release.write_text(text.replace("Origin: event-agent", "Origin: somebody"), encoding="utf-8")
    changed = update()
    release.write_text(text, encoding="utf-8")
    check("E: " in changed, changed)
    run("apt-get", "install", "-y", "event-agent", code=100)
    said = [line for line in (unknown + changed).splitlines() if line.startswith("E: ")]
    return " / ".join(said)


def install() -> str:
    fine = update()
    check("E: " not in fine and "W: " not in fine, fine)
    begun = time.monotonic()
    run("apt-get", "install", "-y", "--no-install-recommends", "event-agent")
    took = time.monotonic() - begun
    until_answered("installed")
    return f"apt install event-agent: {took:.1f} s, {version()}"


def version() -> str:
    return run("dpkg-query", "-W", "-f", "${Version}", "event-agent")


def upgrade(old: Path) -> str:
    """From 1.0.0 under load, as `apt upgrade` does it."""
    run("apt-get", "purge", "-y", "event-agent")
    run("apt-get", "install", "-y", "--no-install-recommends", str(old))
    until_answered("the old version")
    before = version()
    witness, gun = Witness(), Events()
    try:
        with Paced("ask", ASKED, witness.ask) as asked, Paced("fire", RATE, gun.fire) as fired:
            wait("events of the old version", lambda: len(witness.numbers) > RATE)
            run("apt-get", "upgrade", "-y", *KEEP)
            until_answered("the new version")
            wait("events of the new version", lambda done=fired.count: witness.numbers[-1] > done + RATE)  # type: ignore[misc]
        wait("the last event", lambda: witness.numbers[-1] == fired.count - 1)
        with suppress(Failed):
            wait("each request has its end", lambda: len(witness.ended()) == asked.count)
        left = sorted(set(range(asked.count)) - witness.ended())
        check(not left, f"of {asked.count} requests {len(left)} have no answer: {left[:20]}; {witness.around(left)}")
        said = set(witness.errors.values())
        check(said <= {"FreeSWITCH is not connected"}, f"{said}")
        lost = sorted(set(range(fired.count)) - set(witness.numbers))
        check(len(witness.numbers) == len(set(witness.numbers)), "events came twice")
        wait("the gap is announced", lambda: bool(witness.gaps) or not lost)
    finally:
        gun.close()
        witness.close()
    check(not lost or lost == list(range(lost[0], lost[-1] + 1)), f"missing here and there: {lost[:20]}")
    gap = re.search(r'"from".*', witness.gaps[0]) if witness.gaps else None
    return (
        f"{before} to {version()}: {asked.count} requests, {len(witness.answered)} answered, {len(witness.nobody)} "
        f"refused at once because nobody listened, {len(witness.errors)} because FreeSWITCH was not connected yet, "
        f"0 without an answer; {fired.count} events, {len(lost)} fired while "
        f"no version was connected ({len(lost) / RATE:.1f} s), announced: {gap and gap[0]}"
    )


def back(old: Path) -> str:
    """apt goes back only if it is told to; then the old version works, with its own file and without our connection."""
    here = version()
    refused = run("apt-get", "install", "-y", "--no-install-recommends", str(old), code=100)
    check("--allow-downgrades" in refused, refused)
    check(version() == here and ask({"command": "status"}).get("success") is True, "it does not go on")
    run("apt-get", "install", "-y", "--no-install-recommends", "--allow-downgrades", *KEEP, str(old))
    until_answered("the old version again")
    environ = Path(f"/proc/{show('MainPID')}/environ").read_bytes()
    check(b"LISTEN_FDS" not in environ, "the old version inherits a connection that it does not know")
    check(show("NFileDescriptorStore") in ("0", ""), "systemd still keeps a connection that nobody will read")
    status = run("event-agentctl", "api", "status")
    check("UP" in status, status)
    old_version = version()
    run("apt-get", "install", "-y", "--no-install-recommends", *KEEP, "event-agent")
    until_answered("the new version again")
    check(version() == here, version())
    said = back_with_a_changed_file(old)
    check(version() == here, version())
    return f"refused without --allow-downgrades; with it {old_version} works, and then {here} again; {said}"


def back_with_a_changed_file(old: Path) -> str:
    """The old version says which setting it does not know; it does not start with half of a configuration."""
    text = CONFIG.read_text(encoding="utf-8")
    CONFIG.write_text(text.replace("<settings>", "<settings><!-- ours -->"), encoding="utf-8")
    since = time.time()
    run("apt-get", "install", "-y", "--no-install-recommends", "--allow-downgrades", *KEEP, str(old), code=None)
    said: list[str] = []

    def why() -> bool:
        said[:] = [line for line in journal(since).splitlines() if "unknown param" in line]
        return bool(said)

    wait("it says why", why)
    check(show("ActiveState") == "failed", f"it is {show('ActiveState')}")
    CONFIG.write_text(text, encoding="utf-8")
    run("apt-get", "install", "-y", "--no-install-recommends", *KEEP, "event-agent")
    until_answered("the new version once more")
    return f"with a changed file it does not start, and says {said[0]}"


def connections() -> int:
    """To FreeSWITCH's event socket, from here."""
    port = f":{ESL[1]:04X}"
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    return sum(line.split()[2].endswith(port) and line.split()[3] == "01" for line in lines)


def gone() -> str:
    LIST.unlink()
    KEY.unlink()
    said = purge(None, Path())
    check(not STATE.exists() and not DEFAULT.exists() and not CONFIG.exists(), "files are left")
    check(not connections(), "a connection to FreeSWITCH is left")
    return said


def main() -> int:
    source, apt = Path(sys.argv[1]), Path(sys.argv[2])
    old = Path(sys.argv[4]) if len(sys.argv) > 4 else None
    steps = {
        "surroundings": lambda: surroundings(None, source),
        "repository": lambda: serve(apt),
        "signature": refused_without_a_good_signature,
        "install": install,
    }
    if old is not None and old.exists():
        steps |= {"upgrade": lambda: upgrade(old), "back": lambda: back(old)}
    else:
        steps["upgrade"] = lambda: "LEFT OUT: EVENT_AGENT_TEST_OLD names no package of version 1.0.0"
    steps["purge"] = gone
    try:
        for name, step in steps.items():
            print(f"{name}: {step()}", flush=True)
    except (Failed, OSError) as error:
        print(f"FAILED: {error}", flush=True)
        print(run("journalctl", "--no-pager", "-n", "60", "-u", UNIT, code=None))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
