"""Commands and events for a long time, on a booted Debian: each is answered, each arrives, and the journal is complete.

    python3 -m tests.package.busy PACKAGE.deb SOURCE [SECONDS [COMMANDS [EVENTS]]]
        in SOURCE and as root, in a system that may be thrown away, with nats-server installed; COMMANDS (500) and
        EVENTS (1,000) a second; then twice as many commands for 15 seconds, with an error in their midst
    python3 -m tests.package.busy - SOURCE ...
        the same if the package is installed already
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from tests.package.lifecycle import surroundings
from tests.package.machine import CONFIG, ESL, UNIT, Failed, check, journal, run, show, until_answered, wait
from tests.package.numbered import MARK, SUBJECT

INBOX = "_INBOX.busy"
COMMAND = b'{"command":"global_setvar","args":"busy=%d"}'
BREATH = 0.01  # seconds between two bursts
MOST = 0.1  # seconds' worth of one burst
CYCLE = 500  # lengths of commands
SHORT = 15.0  # seconds at twice the commands
TURN = 60.0  # seconds between two lines


class Paced:
    """Calls `burst(first, count)` so often that it is `rate` a second, until the `with` block ends."""

    def __init__(self, name: str, rate: float, burst: Callable[[int, int], None]) -> None:
        self.count = 0
        self._rate = rate
        self._burst = burst
        self._ended = threading.Event()
        self._fault: OSError | None = None
        self._thread = threading.Thread(target=self._run, name=name)

    def _run(self) -> None:
        try:
            self._keep_pace()
        except OSError as fault:
            self._fault = fault

    def check(self) -> None:
        """Raises Failed if it has stopped."""
        check(self._fault is None, f"{self._thread.name} has ended after {self.count}: {self._fault}")

    def _keep_pace(self) -> None:
        begun = time.monotonic()
        while not self._ended.wait(BREATH):
            due = int((time.monotonic() - begun) * self._rate) - self.count
            due = min(due, int(self._rate * MOST))  # behind a machine that stood still, no burst that nobody asks for
            if due > 0:
                self._burst(self.count, due)
                self.count += due

    def __enter__(self) -> Paced:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


class Link:
    """A NATS client: it sends commands, and counts their replies and the events."""

    def __init__(self) -> None:
        self.good = self.bad = 0
        self.said: Counter[str] = Counter()  # of those that failed
        self.events = bytearray()  # one for each number: how often it came
        self._socket = socket.create_connection(("127.0.0.1", 4222), 10)
        self._socket.settimeout(None)
        self._socket.sendall(
            b'CONNECT {"verbose":false}\r\nSUB %b 1\r\nSUB %b 2\r\nPING\r\n' % (INBOX.encode(), SUBJECT.encode())
        )
        self._writing = threading.Lock()
        self._there = threading.Event()
        self._thread = threading.Thread(target=self._read, name="link")
        self._thread.start()
        check(self._there.wait(10), "NATS does not answer")

    def commands(self, first: int, count: int) -> None:
        texts = [(COMMAND % number).ljust(100 + number % CYCLE) for number in range(first, first + count)]
        with self._writing:
            self._socket.sendall(
                b"".join(b"PUB freeswitch.api %b %d\r\n%b\r\n" % (INBOX.encode(), len(text), text) for text in texts)
            )

    def _read(self) -> None:
        with self._socket.makefile("rb") as stream:
            while line := stream.readline():
                if line.startswith(b"PING"):
                    with self._writing:
                        self._socket.sendall(b"PONG\r\n")
                elif line.startswith(b"PONG"):
                    self._there.set()
                elif line.startswith((b"MSG ", b"HMSG ")):
                    self._message(line.split()[2] == b"1", stream.read(int(line.split()[-1]) + 2))

    def _message(self, reply: bool, text: bytes) -> None:
        if reply:
            good = b'"success":true' in text
            self.good, self.bad = self.good + good, self.bad + (not good)
            if not good:
                self.said[str(json.loads(text).get("message"))] += 1
        elif found := re.search(rb'"Number":"(\d+)"', text):
            number = int(found[1])
            self.events.extend(bytes(max(0, number + 1 - len(self.events))))
            self.events[number] += 1

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


class Events:
    """Fires numbered events by an event socket of its own."""

    def __init__(self, fill: str = "") -> None:
        self._fill = fill
        self._socket = socket.create_connection(ESL, 10)
        self._socket.settimeout(None)  # a machine that stands still for a while is no fault
        self._socket.sendall(b"auth ClueCon\n\n")
        self._thread = threading.Thread(target=self._drain, name="events")
        self._thread.start()

    def fire(self, first: int, count: int) -> None:
        text = f"sendevent CUSTOM\nEvent-Subclass: {MARK}\nNumber: %d\nFill: {self._fill}\n\n"
        self._socket.sendall("".join(text % number for number in range(first, first + count)).encode())

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while self._socket.recv(65536):
                pass

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()


class Journal:
    """Counts lines of the service in the journal as they come: a long run has more of them than the journal keeps.

    Where a file of it is full journald may store a line twice, in both files, with one time (seen with systemd 252 and
    a program that writes numbered lines: line 255,879 with SystemMaxFileSize=82M). Such a line counts once. Lines that
    come together have one time as well, so commands have CYCLE lengths in turn: no line is like the one before.
    """

    def __init__(self) -> None:
        self.commands = 0
        self.twice = 0  # stored so by journald
        self._last = ("", "")
        fields = "--output-fields=MESSAGE"
        command = ["journalctl", "--follow", "--lines=0", "--output=json", fields, "--unit", UNIT]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._thread = threading.Thread(target=self._read, name="journal")
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if b"cmd=global_setvar" in line:
                entry = json.loads(line)
                found = entry["__MONOTONIC_TIMESTAMP"], entry["MESSAGE"]
                if found == self._last:
                    self.twice += 1
                else:
                    self.commands += 1
                self._last = found

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        self._thread.join(10)


def suppressed(since: float) -> str:
    """What journald says of lines that it has dropped; empty if none."""
    run("journalctl", "--sync")
    text = run("journalctl", "--quiet", "-u", "systemd-journald", "--since", f"@{since:.6f}", "-o", "cat")
    return "\n".join(line for line in text.splitlines() if "uppressed" in line)


def resident(field: str = "VmRSS") -> float:
    """MB of the agent; VmHWM is the most that it had."""
    found = re.search(rf"{field}:\s+(\d+)", Path(f"/proc/{show('MainPID')}/status").read_text(encoding="ascii"))
    assert found
    return int(found[1]) / 1024


def broken_reload() -> str:
    """An error in the journal: a file that can't be read again. Returns the line."""
    since, text = time.time(), CONFIG.read_text(encoding="utf-8")
    CONFIG.write_text(text.replace('name="log_level"', 'name="log_levle"'), encoding="utf-8")
    try:
        run("systemctl", "reload", UNIT, code=1)
    finally:
        CONFIG.write_text(text, encoding="utf-8")
    wait("the error is in the journal", lambda: "log_levle" in journal(since, "-p", "warning"))
    return journal(since, "-p", "warning").splitlines()[0]


def load(seconds: float, commands: int, events: int, midst: Callable[[], str] | None = None) -> str:
    """So many a second, for so long. Each command is answered and logged, each event arrives."""
    since, pid, before, said = time.time(), show("MainPID"), resident(), ""
    with ExitStack() as stack:
        link, lines = Link(), Journal()
        stack.callback(link.close)
        stack.callback(lines.close)
        gun = Events()
        stack.callback(gun.close)
        cpu, begun = int(show("CPUUsageNSec")), time.monotonic()
        with Paced("commands", commands, link.commands) as asked, Paced("fire", events, gun.fire) as fired:
            for _ in turns(seconds, begun):
                print(f"  {asked.count} commands, {fired.count} events, {resident():.1f} MB", flush=True)
                asked.check()
                fired.check()
            said = midst() if midst else ""
        asked.check()
        fired.check()
        took = time.monotonic() - begun
        wait("all are answered", lambda: link.good + link.bad >= asked.count, 120)
        wait("all events are there", lambda: len(link.events) >= fired.count and min(link.events) > 0, 120)
        spent = (int(show("CPUUsageNSec")) - cpu) / 1e9
        check(link.good + link.bad == asked.count, f"{link.good + link.bad} answers to {asked.count} commands")
        check(link.bad == 0, f"{link.bad} of {asked.count} commands failed: {link.said.most_common(3)}")
        check(len(link.events) == fired.count and max(link.events) == 1, "events came twice")
        run("journalctl", "--sync")
        wait(f"{asked.count} lines in the journal, not {lines.commands}", lambda: lines.commands >= asked.count, 120)
        check(lines.commands == asked.count, f"{lines.commands} lines of {asked.count} commands")
    check(not suppressed(since), suppressed(since))
    check(show("MainPID") == pid, "it was restarted")
    check(commands * seconds * 0.9 < asked.count, f"only {asked.count} commands were sent in {took:.0f} s")
    return (
        f"{took:.0f} s: {asked.count} commands answered and in the journal, {fired.count} events there once each; "
        f"nothing suppressed, {lines.twice} stored twice by journald; "
        f"{100 * spent / took:.0f} % of a core, {before:.1f} MB, then {resident():.1f} MB, "
        f"at most {resident('VmHWM'):.1f} MB{said}"
    )


def turns(seconds: float, begun: float) -> Iterator[None]:
    """Waits so long, and says when a line is due."""
    while (left := begun + seconds - time.monotonic()) > 0:
        time.sleep(min(left, TURN))
        yield


def main() -> int:
    package, source = sys.argv[1], Path(sys.argv[2])
    seconds, commands, events = (int(text) for text in (*sys.argv[3:], *("1200", "500", "1000")[len(sys.argv) - 3 :]))
    try:
        surroundings(None, source)
        if package != "-":
            run("apt-get", "install", "-y", "--no-install-recommends", package)
        until_answered("installed")
        print(f"long: {load(seconds, commands, events)}", flush=True)

        def midst() -> str:
            return f"; in its midst: {broken_reload()}"

        print(f"fast: {load(SHORT, 2 * commands, events, midst)}", flush=True)
    except (Failed, OSError) as error:
        print(f"FAILED: {error}", flush=True)
        print(run("journalctl", "--no-pager", "-n", "40", "-u", UNIT, code=None)[-6000:])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
