"""Log set-up, and the audit line.

All lines go to stderr. Where that is the journal they carry a priority instead of a time. Audit lines are one a
command, and a log record costs as much as a command does, so they are put together as text and written by a thread of
their own, `audit`, a few at a time.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from event_agent.runtime.health import STUCK, Beat, Signs, Watched, only_if

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
_UNFIT = re.compile("[\0-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
AUDIT_LINES = 65536  # lines that wait; beyond, they are counted and the count is logged
AUDIT_WAIT = 0.1  # seconds between two writes
SHOWN = 1024  # names and subjects that are known to stand for themselves
AUDIT_ROUND = 5.0  # seconds after which the thread looks although there is nothing to write


def to_journal(stream: TextIO) -> bool:
    """Whether what is written to `stream` goes to the journal: systemd.exec(5), $JOURNAL_STREAM."""
    # The variable is inherited by whatever a service starts; only its value says whether this very stream is meant.
    try:
        found = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def priority(level: int) -> str:
    """What goes before a line on stderr for the journal to know its syslog level; "" if it is not the journal's."""
    return f"<{level}>" if to_journal(sys.stderr) else ""


class _Formatter(logging.Formatter):
    def __init__(self, journal: bool) -> None:
        super().__init__("%(message)s" if journal else "%(asctime)s %(levelname)s [event_agent] %(message)s")
        self._journal = journal

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = escaped(record.message)
        return super().formatMessage(record)

    def format(self, record: logging.LogRecord) -> str:
        # What has line breaks now is a traceback. None of its lines must look like a record of its own.
        text = "\n | ".join(map(escaped, super().format(record).split("\n")))
        if self._journal:
            text = f"<{_PRIORITY.get(record.levelno, 6)}>[event_agent] {text}"
        return text


class _JsonFormatter(logging.Formatter):
    """One object a line: time (RFC 3339, UTC), level, logger, message; fields and exception if there are some."""

    def __init__(self, journal: bool) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        head = f"<{_PRIORITY.get(record.levelno, 6)}>" if self._journal else ""
        exception = self.formatException(record.exc_info) if record.exc_info else ""
        fields = record.__dict__.get("fields")
        return head + as_json(record.created, record.levelname, record.name, record.getMessage(), fields, exception)


def as_json(
    stamp: float, level: str, logger: str, message: str, fields: Mapping[str, Any] | None = None, exception: str = ""
) -> str:
    """A log line as JSON, in ASCII: nothing in it can be taken for the end of a line."""
    line: dict[str, Any] = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(stamp))}.{int(stamp % 1 * 1000):03d}Z",
        "level": level.lower(), "logger": logger, "message": message,
    }  # fmt: skip
    if fields:
        line["fields"] = fields
    if exception:
        line["exception"] = exception
    return json.dumps(line, separators=(",", ":"))


def change_format(form: str) -> None:
    """`text` or `json`, from the next line on. Nothing before `setup`."""
    for handler in logging.getLogger("event_agent").handlers:
        if isinstance(handler, logging.StreamHandler) and isinstance(handler.formatter, (_Formatter, _JsonFormatter)):
            journal = to_journal(handler.stream)
            handler.setFormatter(_JsonFormatter(journal) if form == "json" else _Formatter(journal))


def setup(level: str, stream: TextIO | None = None, form: str = "text") -> None:
    """Log to `stream` (stderr) from this level on; called again it changes level and form (text or json) only."""
    root = logging.getLogger("event_agent")
    if not root.handlers:
        stream = stream or sys.stderr
        handler = logging.StreamHandler(stream)
        handler.setFormatter(_Formatter(to_journal(stream)))
        root.addHandler(handler)
        root.propagate = False
        # A record need not know these; finding them out costs a fifth of a log call.
        logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    root.setLevel(level.upper())
    change_format(form)


def escaped(text: str) -> str:
    """`text` as it may stand in a record: its control characters, and what UTF-8 can't hold, written as escapes."""
    if text.isprintable():
        return text
    return _UNFIT.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def clean(text: str, limit: int = 64) -> str:
    """`text` as it may stand in a line: no blanks, no control characters, nothing that could begin a second line."""
    if len(text) <= limit and text.isascii() and text.isprintable() and " " not in text:
        return text or "-"
    return "".join(each if each.isascii() and each.isprintable() and each != " " else "?" for each in text[:limit])


class Seldom:
    """Lets a line into the log once in a while: one that others can cause as often as they like."""

    def __init__(self, every: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        """`every`: seconds from one line to the next."""
        self._every = every
        self._clock = clock
        self._next = float("-inf")

    def due(self) -> bool:
        """True if the line may be logged now, which counts as done. Two threads at one time may both be let through."""
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + self._every
        return True


class Tally:
    """A count of what goes wrong, with a line once in a while."""

    def __init__(self) -> None:
        self.count = 0
        self._say = Seldom()

    def add(self) -> bool:
        """One more; True if it is time for a line."""
        self.count += 1
        return self._say.due()


def _more(fields: Mapping[str, str]) -> str:
    return "".join(f" {key}={clean(value, 512)}" for key, value in fields.items())


class Budget:
    """So many lines a second; those beyond are counted. Two threads at one time may let one more through."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._second, self._used, self._over = 0, 0, 0

    def due(self) -> bool:
        """True if a line may be logged, which counts as done."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._used = second, 0
        self._used += 1
        if self._used > self._most:
            self._over += 1
            return False
        return True

    def dropped(self) -> str:
        """What to add to the next line; "" if none was left out."""
        over, self._over = self._over, 0
        return f" ({over} lines like this were left out)" if over else ""


class AuditLog:
    """Writes one line a command. `command` may be called from any thread and never blocks."""

    name = "audit"

    def __init__(self, stream: TextIO | None = None, most: int = AUDIT_LINES, idle: float = AUDIT_ROUND) -> None:
        """`most`: lines that wait. `idle`: seconds after which the thread looks although there is nothing to write."""
        self._stream = stream or sys.stderr
        self._most, self._idle = most, idle
        self._journal = to_journal(self._stream)
        self._lines: deque[tuple[float, str | dict[str, Any]]] = deque()
        self._lost = 0
        self._shown: dict[str, str] = {}  # what may stand as it is
        self._some = threading.Event()
        self._said = False  # that there are some
        self._stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self.enabled = True
        self.json = False
        self.beat = 0.0  # time.monotonic() at which the thread last looked
        self.writing = False  # true for long where nobody reads what is written

    def start(self) -> None:
        """Start the thread."""
        self.thread.start()

    def stop(self, timeout: float) -> None:
        """Write what waits and end the thread."""
        self._stopping.set()
        self._some.set()
        if self.thread.ident:
            self.thread.join(timeout)

    def signs(self) -> Signs:
        """The thread owes nothing while it is writing: then somebody else does not read."""
        beat = only_if(lambda: not self.writing, Beat(lambda: self.beat))
        return Signs(("audit",), (Watched("thread audit", STUCK, beat),))

    def command(
        self, name: str, subject: str, ok: bool, run_async: bool, size: int, more: Mapping[str, str] | None = None
    ) -> None:
        """Note that a command was carried out, or failed. `size`: bytes of the request. `more`: further fields."""
        if not self.enabled:
            return
        if len(self._lines) >= self._most:
            self._lost += 1
            return
        if self.json:
            self._note(time.time(), {
                "cmd": clean(name), "subject": clean(subject, 256), "result": "ok" if ok else "err",
                "async": run_async, "payload_bytes": size,
                **{key: clean(value, 512) for key, value in (more or {}).items()},
            })  # fmt: skip
            return
        shown = self._shown
        self._lines.append((
            time.time(),
            f"audit=command cmd={shown.get(name) or self._show(name, 64)} "
            f"subject={shown.get(subject) or self._show(subject, 256)} result={'ok' if ok else 'err'} "
            f"async={'yes' if run_async else 'no'} payload_bytes={size}{_more(more) if more else ''}\n",
        ))  # fmt: skip
        if not self._said:
            self._said = True
            self._some.set()

    def _note(self, stamp: float, fields: dict[str, Any]) -> None:
        """The same as JSON, which its thread makes of it."""
        self._lines.append((stamp, fields))
        if not self._said:
            self._said = True
            self._some.set()

    def _show(self, text: str, limit: int) -> str:
        shown = clean(text, limit)
        if shown == text and len(text) <= 64 and len(self._shown) < SHOWN:
            self._shown[text] = shown
        return shown

    def _run(self) -> None:
        while True:
            self.beat = time.monotonic()
            if not self._some.wait(self._idle):
                continue
            last = self._stopping.wait(AUDIT_WAIT)
            self._some.clear()
            self._said = False  # after that: a caller that finds it True has put a line in that is written now
            self.write()
            if last:
                return

    def write(self) -> None:
        texts = []
        for _ in range(len(self._lines)):
            stamp, line = self._lines.popleft()
            texts.append(f"{self._head(stamp)}{line}" if isinstance(line, str) else self._object(stamp, line))
        lost, self._lost = self._lost, 0
        if lost and self.json:
            texts.append(self._object(time.time(), {"lost": lost}))
        elif lost:
            texts.append(f"{self._head(time.time())}audit=lost lines={lost}\n")
        self.writing = True
        try:
            self._stream.write("".join(texts))
            self._stream.flush()
        except (OSError, ValueError):
            pass  # stderr is gone: there is nobody to tell
        self.writing = False

    def _object(self, stamp: float, fields: dict[str, Any]) -> str:
        what = "lost" if "lost" in fields else "command"
        line = as_json(stamp, "INFO", "event_agent.audit", f"audit={what}", fields)
        return f"{'<6>' if self._journal else ''}{line}\n"

    def _head(self, stamp: float) -> str:
        if self._journal:
            return "<6>[event_agent] "
        clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(stamp))
        return f"{clock},{int(stamp % 1 * 1000):03d} INFO [event_agent] "
