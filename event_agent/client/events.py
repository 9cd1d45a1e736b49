"""Events for programs: a stream that keeps them for its reader.

Part of event_agent.client; `Client.events` makes the streams.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any

from event_agent.drivers.base import Message
from event_agent.errors import LinkError
from event_agent_client.subjects import pattern_of as event_pattern

__all__ = ["MAX_WAITING", "Event", "EventStream", "event_pattern"]

log = logging.getLogger(__name__)

MAX_WAITING = 10000  # events that a stream keeps for a reader who is slower than they come

Event = dict[str, Any]


class EventStream:
    """Events as they come, dictionaries as docs/API.md describes them. Iterating ends with `close` or a LinkError.

    At most MAX_WAITING events wait for a slow reader. Further ones are dropped and counted in `dropped`; messages
    that are no events in `malformed`.
    """

    def __init__(self, callback: Callable[[Event], None] | None = None) -> None:
        self.dropped = 0
        self.malformed = 0
        self._callback = callback
        self._on_close: Callable[[], None] = lambda: None
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._lost = ""
        self._ended = False

    @property
    def closed(self) -> bool:
        """True from `close` on."""
        return self._ended

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event, None where none came within `timeout` seconds or after `close`. Raises LinkError."""
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            with self._changed:
                while not self._queue:
                    if self._ended:
                        return None
                    if self._lost:
                        raise LinkError(self._lost)
                    left = None if end is None else end - time.monotonic()
                    if left is not None and left <= 0:
                        return None
                    self._changed.wait(left)
                data = self._queue.popleft()
            event = self._decode(data)
            if event is not None:
                return event

    def __iter__(self) -> Iterator[Event]:
        while (event := self.next()) is not None:
            yield event

    def close(self) -> None:
        """No more events from here on."""
        self._on_close()
        with self._changed:
            self._ended = True
            self._queue.clear()
            self._changed.notify_all()

    def __enter__(self) -> EventStream:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def _put(self, messages: list[Message]) -> None:
        """On the reader thread."""
        for message in messages:
            self._take(message)

    def _take(self, message: Message) -> None:
        if self._callback is not None:
            event = self._decode(message.data)
            if event is not None and not self._ended:
                try:
                    self._callback(event)
                except Exception:  # it must not end the connection's thread
                    log.exception("an event's callback failed")
            return
        with self._changed:
            if len(self._queue) >= MAX_WAITING:
                self.dropped += 1
                return
            self._queue.append(message.data)
            self._changed.notify()

    def _end(self, reason: str) -> None:
        with self._changed:
            self._lost = reason
            self._changed.notify_all()

    def _decode(self, data: bytes) -> Event | None:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            event = None
        if isinstance(event, dict) and isinstance(event.get("event_name"), str):
            return event
        self.malformed += 1
        return None
