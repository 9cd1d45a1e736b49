"""The pages that are open: each has a queue of what is to be sent to it (server-sent events).

Any thread may use it. A page that does not take what it is sent is cut off, and comes back by itself with a fresh
picture: nothing waits for it, and nothing piles up.
"""

from __future__ import annotations

import json
import threading
from collections import deque

PAGES = 16  # open at a time
MESSAGES = 4000  # waiting for one page
BYTES = 2_000_000  # waiting for one page
TICK = 0.5  # seconds after which a page without news gets an empty line

Value = dict[str, object] | list[object]


def message(kind: str, value: object) -> bytes:
    """One server-sent event (https://html.spec.whatwg.org/multipage/server-sent-events.html)."""
    # JSON in ASCII holds no line break, so it is one line whatever stands in it.
    return f"event: {kind}\ndata: {json.dumps(value, ensure_ascii=True, separators=(',', ':'))}\n\n".encode()


class Page:
    """One open page's queue."""

    def __init__(self, without: frozenset[str] = frozenset()) -> None:
        self.without = without
        """Kinds of messages that it is not to get."""
        self.cut = ""
        """Why it was cut off, nothing where it was not."""
        self._changed = threading.Condition()
        self._queue: deque[bytes] = deque()
        self._bytes = 0

    def put(self, data: bytes) -> None:
        with self._changed:
            if self.cut:
                return
            if len(self._queue) >= MESSAGES or self._bytes + len(data) > BYTES:
                self._end("too slow")
                return
            self._queue.append(data)
            self._bytes += len(data)
            self._changed.notify()

    def take(self, timeout: float = TICK) -> bytes | None:
        """All that waits, as soon as there is some; nothing after `timeout` seconds; None after the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self.cut, timeout)
            if self.cut:
                return None
            data = b"".join(self._queue)
            self._queue.clear()
            self._bytes = 0
            return data

    def end(self, why: str) -> None:
        with self._changed:
            self._end(why)

    def _end(self, why: str) -> None:
        self.cut = self.cut or why
        self._queue.clear()
        self._bytes = 0
        self._changed.notify_all()


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
        """Send it to all pages."""
        with self._lock:
            pages = [page for page in self._pages if kind not in page.without]
        if pages:
            data = message(kind, value)
            for page in pages:
                page.put(data)

    def close(self) -> None:
        """End all, and let nobody in any more."""
        with self._lock:
            self._closed = True
            pages = list(self._pages)
        for page in pages:
            page.end("the panel stops")

    def __len__(self) -> int:
        return len(self._pages)
