"""What tests of all kinds use: waiting for a condition, and a port of their own."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


def until(
    value_now: Callable[[], T],
    what: str | Callable[[], str],
    timeout: float = 30.0,
    *,
    holds: Callable[[T], object] = bool,
) -> T:
    """The first value of which `holds` is true; AssertionError with the last value after `timeout` seconds.

    `what` as a function is asked at the end of the wait: a log that it quotes is then the log of that moment.
    """
    deadline = time.monotonic() + timeout
    pause = 0.001
    while True:
        value = value_now()
        if holds(value):
            return value
        if time.monotonic() > deadline:
            waited_for = what if isinstance(what, str) else what()
            raise AssertionError(f"not within {timeout:g} s: {waited_for}; the last value: {value!r:.1000}")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


_ports = itertools.count(random.Random(os.getpid()).randrange(10000, 30000))


def free_port() -> int:
    """A TCP port that nobody listened on a moment ago.

    Not one of those that the kernel gives to outgoing connections (from 32768 on), or one of them could have it by the
    time a server that is restarted wants it back; and not one that was given out before, by this process.
    """
    while True:
        port = 10000 + next(_ports) % 22000
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def nats_server(program: str) -> Iterator[None]:
    """Whatever looks for nats-server in PATH finds this one; without a name it is the one that PATH has anyway."""
    if not program:
        yield
        return
    found = shutil.which(program)
    if found is None:
        raise FileNotFoundError(f"no program that can be run: {program}")
    before = os.environ["PATH"]
    with tempfile.TemporaryDirectory(prefix="event-agent-bin-") as folder:
        os.symlink(os.path.abspath(found), f"{folder}/nats-server")
        os.environ["PATH"] = f"{folder}:{before}"
        try:
            yield
        finally:
            os.environ["PATH"] = before
