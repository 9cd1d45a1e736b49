"""`event-agentctl top`: a table of the nodes and what they do per second, drawn anew each second.

On a terminal it takes the screen, and gives it back however it ends; elsewhere it prints one table after the other.
"""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import sys
import termios
import textwrap
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from event_agent.client.client import AgentTimeout, Client, NoAgent, Reply
from event_agent.ctl.nodes import Nodes, add_counts, count_of, counts, node_table, statuses, summary
from event_agent.ctl.views import Painter, columns_of, is_coloured, safe
from event_agent.errors import LinkError

COUNT_EVERY = 2.0  # seconds between two counts of calls, where agent.status does not tell
COUNT_AGAIN = 30.0  # seconds after a count that no node answered
SCREEN = ("\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l")  # alternate screen and no cursor, and back
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"  # the terminal cuts off what is too wide


def run(client: Client, options: argparse.Namespace) -> int:
    """Draw until q, Ctrl-C or `--count` tables."""
    watch = _Watch(client, options)
    if not sys.stdout.isatty():
        return watch.run(_print, lambda seconds: _wait(None, seconds))
    try:
        with _screen() as wait:
            return watch.run(draw, wait)
    except KeyboardInterrupt:
        return 0  # that is how it is ended


class _Watch:
    """The rounds of asking and drawing."""

    def __init__(self, client: Client, options: argparse.Namespace) -> None:
        self._client = client
        self._options = options
        self._nodes = Nodes()
        self._last = 0.0  # when the last round was
        self._counts: dict[str, list[Reply]] = {"calls": [], "channels": []}
        self._count_at = 0.0
        self._fault = ""

    def run(self, draw: Callable[[list[str]], None], wait: Callable[[float], bool]) -> int:
        """`wait` says True when the user wants to end."""
        paint = Painter(is_coloured(sys.stdout))
        left = self._options.count
        while left is None or left > 0:
            begun = time.monotonic()
            self._round()
            draw([self._head(paint), *self._summary(), *self._table(paint)])
            left = None if left is None else left - 1
            if left != 0 and wait(max(0.05, self._options.interval - (time.monotonic() - begun))):
                break
        return 0

    def _round(self) -> None:
        options, client = self._options, self._client
        limit = options.timeout or max(1.0, options.interval)
        try:
            if not client.connected:
                client.connect()
            self._nodes.asked()
            replies = statuses(client, options.node, limit)
            self._last = time.monotonic()
            self._nodes.update(replies, self._last)
            self._fault = "" if replies else f"no reply within {limit:g} seconds"
            self._count(replies, limit)
        except (LinkError, NoAgent, AgentTimeout) as error:
            self._fault = str(error)
            self._last = time.monotonic()

    def _count(self, replies: list[Reply], limit: float) -> None:
        """Calls and channels, if agent.status does not tell."""
        ask = self._last >= self._count_at
        for kind, answers in self._counts.items():
            if any(count_of(reply, kind) is None for reply in replies):
                if ask:
                    self._nodes.asked()
                    answers[:] = counts(self._client, self._options.node, kind, limit, len(replies))
                    # Where it is not allowed it need not be tried, and counted as a failure, all the time.
                    again = COUNT_EVERY if any(answer.get("success") for answer in answers) else COUNT_AGAIN
                    self._count_at = self._last + again
                add_counts(replies, kind, answers)

    def _summary(self) -> list[str]:
        """On a terminal it has lines of its own, because it may be longer than one; else it is in the first."""
        width = columns_of(sys.stdout)
        return textwrap.wrap(summary(self._nodes, self._last), width) if width else [""]

    def _table(self, paint: Painter) -> list[str]:
        # `draw` cuts off what does not fit: the calm ones.
        return node_table(self._nodes, self._last, paint, columns_of(sys.stdout))

    def _head(self, paint: Painter) -> str:
        head = f"event-agentctl top  {time.strftime('%H:%M:%S')}"
        if not columns_of(sys.stdout):
            head += f"  {summary(self._nodes, self._last)}"
        return f"{paint(head, 'bold')}  {paint(safe(self._fault), 'red')}".rstrip()


# -- where it is drawn


def _print(text: list[str]) -> None:
    print("\n".join([*text, ""]), flush=True)


def draw(text: list[str]) -> None:
    """On the screen, from its top; what does not fit is cut off."""
    rows = shutil.get_terminal_size().lines
    if len(text) > rows - 1:
        text = [*text[: rows - 2], f"… {len(text) - rows + 2} more"]
    # Erased before it is written: behind a line as wide as the screen, erasing would take its last character.
    shown = "".join(f"\x1b[K{line}\r\n" for line in text)
    sys.stdout.write(f"{NO_WRAP}\x1b[H{shown}\x1b[J{WRAP}")
    sys.stdout.flush()


@contextmanager
def _screen() -> Iterator[Callable[[float], bool]]:
    """Take the screen and the keyboard; gives a function that waits and says whether to end."""
    keyboard = _keyboard()
    saved = termios.tcgetattr(keyboard) if keyboard is not None else None

    def ended(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, ended) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        sys.stdout.write(SCREEN[0])
        if keyboard is not None:
            tty.setcbreak(keyboard, termios.TCSANOW)
        yield lambda seconds: _wait(keyboard, seconds)
    finally:
        if keyboard is not None and saved is not None:
            termios.tcsetattr(keyboard, termios.TCSANOW, saved)
        try:
            sys.stdout.write(SCREEN[1])
            sys.stdout.flush()
        except OSError:
            pass  # the terminal is gone
        for number, handler in before.items():
            signal.signal(number, handler)


def _keyboard() -> int | None:
    try:
        number = sys.stdin.fileno()
    except (AttributeError, OSError, ValueError):  # closed, or none at all
        return None
    return number if os.isatty(number) else None


def _wait(keyboard: int | None, seconds: float) -> bool:
    """True when q was pressed within this time."""
    if keyboard is None:
        time.sleep(seconds)
        return False
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if select.select([keyboard], [], [], left)[0]:
            keys = os.read(keyboard, 64)
            if not keys or b"q" in keys or b"Q" in keys:  # no keys: the terminal is gone
                return True
    return False
