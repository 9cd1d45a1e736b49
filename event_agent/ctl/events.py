"""`event-agentctl events`: events as they come, for eyes or for the next program in the pipe."""

from __future__ import annotations

import argparse
import select
import sys
import time
from collections.abc import Callable
from typing import Any

from event_agent.client.client import AgentTimeout, Client, Event, EventStream, NoAgent
from event_agent.ctl.nodes import statuses
from event_agent.ctl.views import Painter, event_line, is_coloured, pick, safe, to_json
from event_agent.errors import LinkError
from event_agent.protocol.subjects import slug

# Headers that tie an event to a channel: its own id, that of the call it is in, that of the other leg.
CHANNEL_HEADERS = ("Unique-ID", "Channel-Call-UUID", "Other-Leg-Unique-ID")
AGAIN = 10.0  # seconds for which a lost link is tried again
RETRY = 0.25  # seconds
LOOK = 0.5  # seconds between two looks whether somebody still reads what we write
ASK = 1.0  # seconds in which the node that is asked for should say that it is there


def run(client: Client, options: argparse.Namespace) -> int:
    """Print events until Ctrl-C, or `--count` of them.

    Raises LinkError when the link is lost and does not come back within `--timeout`.
    """
    tail = Tail(
        matcher(options.node, options.uuid),
        _writer(options.json or not sys.stdout.isatty(), options.fields),
        options.count,
    )
    if options.node:
        try:
            statuses(client, options.node, options.timeout or ASK)
        except NoAgent:
            _note(f"no agent is called {options.node!r} here; waiting for its events all the same")
        except AgentTimeout:
            _note(f"{options.node}: no reply within {options.timeout or ASK:g} seconds; waiting for its events")
    try:
        while True:
            try:
                with client.events(options.pattern) as stream:
                    tail.follow(stream)
                return 0
            except LinkError as error:
                _note(f"{error}; trying again")
                _connect_again(client, options.timeout or AGAIN)
                _note("connected again; events in between are missing here")
    except KeyboardInterrupt:
        sys.stdout.flush()
        return 0  # that is how it is ended


class Tail:
    """Writes the wanted events of one stream after the other, `left` in all (None: any number)."""

    def __init__(self, wanted: Callable[[Event], bool], write: Callable[[Event], None], left: int | None) -> None:
        self._wanted = wanted
        self._write = write
        self.left = left

    def follow(self, stream: EventStream) -> None:
        """Until the stream ends or none is left. Raises LinkError."""
        told = 0
        while self.left is None or self.left > 0:
            event = stream.next(0)
            if event is None:
                sys.stdout.flush()  # nothing waits: show what there is
                while event is None:
                    event = stream.next(LOOK)
                    if event is None and (stream.closed or _reader_is_gone()):
                        return
            if stream.dropped > told:
                _note(f"{stream.dropped - told} events left out: the output is too slow")
                told = stream.dropped
            if self._wanted(event):
                self._write(event)
                self.left = None if self.left is None else self.left - 1
        sys.stdout.flush()


def _reader_is_gone() -> bool:
    """True when stdout is a pipe that nobody reads any more: `| head -1` is to end without a second event."""
    try:
        poll = select.poll()
        poll.register(sys.stdout.fileno(), 0)
        return any(state & select.POLLERR for _, state in poll.poll(0))
    except (OSError, ValueError):  # no file at all
        return False


def _note(text: str) -> None:
    sys.stdout.flush()
    print(f"event-agentctl: {safe(text)}", file=sys.stderr, flush=True)


def _connect_again(client: Client, timeout: float) -> None:
    """Raises LinkError after `timeout` seconds."""
    end = time.monotonic() + timeout
    while True:
        try:
            return client.connect()
        except LinkError:
            if time.monotonic() + RETRY > end:
                raise
            time.sleep(RETRY)


def matcher(node: str | None, uuid: str | None) -> Callable[[Event], bool]:
    """True for events of this node and of this channel, its call and its other leg."""
    wanted_node = slug(node) if node else None

    def wanted(event: Event) -> bool:
        if wanted_node is not None and slug(str(event.get("node_id", ""))) != wanted_node:
            return False
        if uuid is None or event.get("uuid") == uuid:
            return True
        headers = event.get("headers")
        return isinstance(headers, dict) and any(headers.get(name) == uuid for name in CHANNEL_HEADERS)

    return wanted


def _writer(as_json: bool, fields: list[str] | None) -> Callable[[Event], None]:
    if as_json:

        def write(event: Event) -> None:
            shown: dict[str, Any] = pick(event, fields) if fields else event
            sys.stdout.write(to_json(shown) + "\n")

        return write
    paint = Painter(is_coloured(sys.stdout))
    return lambda event: print(event_line(event, paint, fields or ()))
