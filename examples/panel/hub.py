"""The pages that are open, and what is to be sent to each (server-sent events).

A page gets what is new in one go, at most every GATHER seconds: of a leg that has changed several times meanwhile only
the last, of the nodes only how they are now, of the events the last EVENTS. So however many events come, a page has a
bounded number of messages to read, none of them with more than PIECE legs.

Any thread may use it. A page that does not take what it is sent is cut off, and comes back by itself with a fresh
picture: nothing waits for it, and nothing piles up.
"""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Iterable
from itertools import islice

PAGES = 16  # open at a time
BYTES = 16_000_000  # of changes waiting for one page; those of 20,000 legs
EVENTS = 1000  # waiting for one page, as many as it keeps
PIECE = 250  # legs or events in one message: a browser takes each in its turn, and draws in between
GATHER = 0.05  # seconds between two messages to a page
TICK = 0.5  # seconds after which a page without news gets an empty line

Key = tuple[str, str]  # node and uuid


def coded(value: object) -> bytes:
    """JSON in ASCII, which holds no line break: one line whatever stands in it."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def message(kind: str, value: object) -> bytes:
    """One server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    return _line(kind, coded(value))


def _line(kind: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)


def _lines(kind: str, values: Iterable[bytes]) -> bytes:
    """Messages with a list each, of at most PIECE of these."""
    left = iter(values)
    found = []
    while piece := list(islice(left, PIECE)):
        found.append(_line(kind, b"[%b]" % b",".join(piece)))
    return b"".join(found)


class Page:
    """What one open page is still to get."""

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self.without = without
        """Kinds of messages that it is not to get."""
        self.cut = ""
        """Why it was cut off, nothing where it was not."""
        self._changed = threading.Condition()
        self._latest: dict[str, bytes] = {}
        self._changes: dict[Key, bytes] = {}
        self._events: deque[bytes] = deque(maxlen=EVENTS)
        self._bytes = 0  # of the changes
        self._taken = 0.0

    def put(self, kind: str, data: bytes) -> None:
        """How something is now: what waits of that kind is out of date."""
        with self._changed:
            if not self.cut:
                self._latest[kind] = data
                self._changed.notify()

    def change(self, key: Key, data: bytes) -> None:
        """How a leg is now."""
        with self._changed:
            if self.cut:
                return
            self._bytes += len(data) - len(self._changes.pop(key, b""))
            if self._bytes > BYTES:
                self._end("too slow")
                return
            self._changes[key] = data
            self._changed.notify()

    def event(self, data: bytes) -> None:
        with self._changed:
            if not self.cut:
                self._events.append(data)
                self._changed.notify()

    def take(self, timeout: float = TICK) -> bytes | None:
        """All that waits, at most once in GATHER seconds; nothing after `timeout` seconds; None after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self.cut, timeout)
            if self._waiting:
                rest = self._taken + GATHER - time.monotonic()
                self._changed.wait_for(lambda: self.cut, max(0.0, rest))
            if self.cut:
                return None
            latest, changes, events = self._latest, self._changes, list(self._events)
            self._clear()
            self._taken = time.monotonic()
        found = [_line(kind, data) for kind, data in latest.items()]
        return b"".join([*found, _lines("changes", changes.values()), _lines("events", events)])

    @property
    def _waiting(self) -> bool:
        return bool(self._latest or self._changes or self._events)

    def end(self, why: str) -> None:
        with self._changed:
            self._end(why)

    def _end(self, why: str) -> None:
        self.cut = self.cut or why
        self._clear()
        self._changed.notify_all()

    def _clear(self) -> None:
        self._latest, self._changes, self._bytes = {}, {}, 0
        self._events.clear()


class Hub:
    """See the module's text."""

    def __init__(self, pages: int = PAGES) -> None:
        self._most = pages
        self._pages: set[Page] = set()
        self._lock = threading.Lock()
        self._closed = False

    def join(self, without: frozenset[str] = frozenset()) -> Page | None:
        """A new page, None where there are too many or it is the end."""
        with self._lock:
            if self._closed or len(self._pages) >= self._most:
                return None
            page = Page(without)
            self._pages.add(page)
            return page

    def leave(self, page: Page) -> None:
        with self._lock:
            self._pages.discard(page)

    def publish(self, kind: str, value: object) -> None:
        """Tell all pages how something is now: links, load, people, lost."""
        if pages := self._for(kind):
            data = coded(value)
            for page in pages:
                page.put(kind, data)

    def change(self, key: Key, value: object) -> None:
        """Tell all pages how a leg is now, or that it has ended."""
        if pages := self._for("changes"):
            data = coded(value)
            for page in pages:
                page.change(key, data)

    def event(self, value: object) -> None:
        """Tell the pages that want to know of an event."""
        if pages := self._for("events"):
            data = coded(value)
            for page in pages:
                page.event(data)

    def _for(self, kind: str) -> list[Page]:
        with self._lock:
            return [page for page in self._pages if kind not in page.without]

    def close(self) -> None:
        """End all, and let nobody in any more."""
        with self._lock:
            self._closed = True
            pages = list(self._pages)
        for page in pages:
            page.end("the panel stops")

    def __len__(self) -> int:
        return len(self._pages)
