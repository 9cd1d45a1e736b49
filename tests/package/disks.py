"""A disk that is full, and one that is read-only, under the state directory of the installed service.

    python3 -m tests.package.disks PACKAGE.deb SOURCE
        in SOURCE and as root, in a system that may be thrown away, with nats-server installed

The disks are real: a small tmpfs is mounted as /var/lib/event-agent. Each event is stored or announced as lost; what
is wrong is one line, and the agent goes on.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.package.busy import Events
from tests.package.lifecycle import JETSTREAM, STATE, surroundings
from tests.package.machine import UNIT, Failed, ask, check, drop_in, journal, run, show, until_answered, wait
from tests.package.numbered import MARK, Stored

NATS = f"MOD_EVENT_AGENT_URL=nats://127.0.0.1:{JETSTREAM}"
SERVER = ("nats-server", "-a", "127.0.0.1", "-p", str(JETSTREAM), "-js", "-sd", "/var/tmp/js")
SIZE = 2_000  # bytes of each event
MEMORY = 4_000_000  # bytes of event_buffer_size


@contextmanager
def disk(options: str) -> Iterator[None]:
    """A tmpfs as the state directory; the service is stopped before and after."""
    run("systemctl", "stop", UNIT)
    run("mount", "-t", "tmpfs", "-o", f"{options},mode=0750", "tmpfs", str(STATE))
    run("chown", "event-agent:event-agent", str(STATE))
    try:
        yield
    finally:
        run("systemctl", "stop", UNIT)
        run("umount", str(STATE))
        run("systemctl", "start", UNIT)
        until_answered("with its own disk again")


@contextmanager
def stream() -> Iterator[None]:
    """A nats-server with JetStream and our stream."""
    shutil.rmtree("/var/tmp/js", ignore_errors=True)
    broker(True)
    try:
        create = ("env", NATS, "event-agentctl", "stream", "create")
        wait("JetStream", lambda: run(*create, code=None).startswith("stream "))
        yield
    finally:
        broker(False)


def broker(there: bool) -> None:
    if there:
        run("systemd-run", "--collect", "--unit=nats-js", *SERVER)
        wait("nats-server", listening)
    else:
        run("systemctl", "stop", "nats-js.service", code=None)


def listening() -> bool:
    try:
        socket.create_connection(("127.0.0.1", JETSTREAM), 1).close()
    except OSError:
        return False
    return True


def gaps(since: float) -> dict[str, int]:
    """Announced losses by reason, from the log; without those of the time in which the service was stopped."""
    found: dict[str, int] = {}
    for count, reason in re.findall(r"a gap in the events: (\S+).*, (.*)", journal(since)):
        if reason != "unseen":
            found[reason] = found.get(reason, 0) + (int(count) if count.isdigit() else 0)
    return found


def delivery(since: float, events: int, said: str, *lines: str) -> str:
    """Events while the broker is away, more than memory and disk hold; what is stored and what is announced is all."""
    with stream():
        settings = f"{NATS} MOD_EVENT_AGENT_EVENTS_DELIVERY=at_least_once MOD_EVENT_AGENT_INCLUDE={MARK}"
        with drop_in(f"Environment={settings}", f"Environment=MOD_EVENT_AGENT_EVENT_BUFFER_SIZE={MEMORY}", *lines):
            wait("events are stored", lambda: "events are stored by stream events" in journal(since))
            broker(False)
            gun = Events("x" * SIZE)
            for first in range(0, events, 100):
                gun.fire(first, 100)
                time.sleep(0.05)
            wait("the disk's fault is said", lambda: said in journal(since))
            broker(True)
            stored = Stored(JETSTREAM)
            wait("the announcement", lambda: bool(gaps(since)), 60)
            wait(
                "each is stored or announced",
                lambda: len(set(stored.numbers)) + sum(gaps(since).values()) >= events, 60,
            )  # fmt: skip
            numbers, lost = list(stored.numbers), gaps(since)
            # It goes on: events of now are stored.
            gun.fire(events, 100)
            wait("events of now are stored", lambda: len(stored.numbers) == len(numbers) + 100)
            stored.close()
            gun.close()
    check(len(numbers) == len(set(numbers)), "events were stored twice")
    check(numbers == sorted(numbers), "events were stored out of order")
    check(len(numbers) + sum(lost.values()) == events, f"{len(numbers)} of {events} are stored, and {lost} announced")
    found = [line for line in journal(since).splitlines() if said in line and "spool: " in line]
    check(len(found) == 1, f"{len(found)} lines: {found[:3]}")
    return f"{events} events: {len(numbers)} stored in order, announced as lost {lost}: {found[0]}"


def full(_: Path) -> str:
    since = time.time()
    with disk("size=2m"):
        return delivery(since, 6000, "No space left on device")


def read_only(_: Path) -> str:
    """The spool's alone: systemd itself starts no service whose state directory is read-only."""
    place, since = Path("/var/spool/test"), time.time()
    place.mkdir()
    run("mount", "-t", "tmpfs", "-o", "size=20m,mode=0777", "tmpfs", str(place))
    run("mount", "-o", "remount,ro", str(place))

    try:
        settings = f"Environment=MOD_EVENT_AGENT_SPOOL_DIR={place}/spool"
        return delivery(since, 4000, "Read-only file system", settings, f"ReadWritePaths={place}")
    finally:
        run("umount", "--lazy", str(place))


def choices_on_a_full_disk(_: Path) -> str:
    """Park mode is on, and the reply says that it ends with the process."""
    with disk("size=64k"):
        run("systemctl", "start", UNIT)
        until_answered("on a small disk")
        with (STATE / "fill").open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        since = time.time()
        on = ask({"command": "dialplan.enable", "context": "nowhere"})
        check(on.get("success") is True and on.get("persisted") is False, json.dumps(on))
        wait("a line", lambda: "it will not outlast a restart" in journal(since))
        run("systemctl", "restart", UNIT)
        until_answered("restarted on a full disk")
        status = ask({"command": "dialplan.status"})
        check(not str(status.get("info")).startswith("Mode: park"), "it was kept after all")
    return str(on.get("message"))


def main() -> int:
    package, source = Path(sys.argv[1]), Path(sys.argv[2])
    try:
        surroundings(None, source)
        run("apt-get", "install", "-y", "--no-install-recommends", str(package))
        until_answered("installed")
        for each in (full, read_only, choices_on_a_full_disk):
            print(f"{each.__name__}: {each(source)}", flush=True)
        check(show("NRestarts") == "0", "it was started again by systemd")
    except (Failed, OSError) as error:
        print(f"FAILED: {error}", flush=True)
        print(run("journalctl", "--no-pager", "-n", "40", "-u", UNIT, code=None)[-6000:])
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
