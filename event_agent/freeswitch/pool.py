"""Slow commands: a bounded number of threads, each with a connection of its own.

Which command runs when is the scheduler's business; here are only the threads. concurrent.futures waits at exit for a
thread that is stuck, so they are our own.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from event_agent.errors import BadCommand, LinkError
from event_agent.freeswitch.command import Command, timed_out
from event_agent.freeswitch.connection import Connection
from event_agent.runtime.health import STUCK, Signs, Watched

log = logging.getLogger(__name__)

STOPPING = "event-agent is stopping"
Finished = Callable[[Command, str, str], None]


class WorkerPool:
    """Runs commands that may take their time. `run` may be called from any thread."""

    def __init__(
        self, connect: Callable[[], Connection], workers: int, idle: float = 30.0, connecting: float = 120.0
    ) -> None:
        """`workers`: threads at most. They are made when needed.

        `idle`: seconds after which a worker's idle connection is closed, and an idle worker wakes up.

        `connecting`: seconds a worker may take to connect: a name is resolved, addresses are tried.
        """
        self._connect = connect
        self._rest = idle
        self._connecting = connecting
        self.workers = workers
        self._queue: deque[tuple[Command, Finished]] = deque()
        self._changed = threading.Condition()
        self.threads: list[threading.Thread] = []
        self._connections: set[Connection] = set()
        self.idle = 0
        self._stopping = False
        self._due: dict[str, float] = {}  # worker: time.monotonic() by which it wakes up

    def run(self, command: Command, finished: Finished) -> bool:
        """Have a worker run it; False at the end. `finished(command, answer, why)` is called on the worker's thread.

        `why` says why there is no answer; it is empty when there is one. `command.sent` is True once it was sent.
        """
        with self._changed:
            if self._stopping:
                return False
            self._queue.append((command, finished))
            if len(self._queue) > self.idle and len(self.threads) < self.workers:
                name = f"esl-worker-{len(self.threads) + 1}"
                thread = threading.Thread(target=self._work, name=name, daemon=True)
                self.threads.append(thread)
                thread.start()
            else:
                self._changed.notify()
        return True

    def overdue(self) -> float:
        """Seconds since a worker should have woken up: idle, connecting, or with its command. 0 while all is well."""
        with self._changed:
            first = min(self._due.values(), default=0.0)
        return max(0.0, time.monotonic() - first) if first else 0.0

    def signs(self) -> Signs:
        """By which its threads are known to be alive."""
        return Signs(watched=(Watched("thread esl-worker-N", STUCK, self.overdue),))

    def abort(self) -> None:
        """Break all connections: what runs fails at once."""
        with self._changed:
            for connection in self._connections:
                connection.abort()

    def stop(self, timeout: float) -> None:
        """End all threads within `timeout` seconds; what runs or waits fails."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self.abort()
        deadline = time.monotonic() + timeout
        for thread in self.threads:
            thread.join(max(0.0, deadline - time.monotonic()))
            if thread.is_alive():
                log.warning("thread %s did not end in time", thread.name)

    def _next(self, timeout: float) -> tuple[Command, Finished] | None:
        """The next command; None when there is none for `timeout` seconds, or at the end."""
        with self._changed:
            self._due[threading.current_thread().name] = time.monotonic() + timeout
            self.idle += 1
            self._changed.wait_for(lambda: self._queue or self._stopping, timeout)
            self.idle -= 1
            return self._queue.popleft() if self._queue else None

    def _work(self) -> None:
        connection: Connection | None = None
        while True:
            task = self._next(self._rest)
            if task is None:
                self._drop(connection)
                connection = None
                if self._stopping:
                    return
                continue
            command, finished = task
            started = time.monotonic()
            name = threading.current_thread().name
            answer, why = "", ""
            try:
                if self._stopping:
                    raise LinkError(STOPPING)
                if connection is not None and connection.ended:
                    self._drop(connection)
                    connection = None
                if connection is None:
                    self._due[name] = started + self._connecting
                    connection = self._open()
                # A command that came late still has its whole time.
                self._due[name] = time.monotonic() + command.deadline - started
                command.sent, command.sent_at = True, time.monotonic()
                answer = connection.ask(command.text, command.deadline - started).text
            except LinkError as error:
                why = timed_out(command) if time.monotonic() >= command.deadline else str(error)
                self._drop(connection)
                connection = None
            except BadCommand as error:
                why, command.sent = str(error), False
            finished(command, answer, why)

    def _open(self) -> Connection:
        connection = self._connect()
        with self._changed:
            self._connections.add(connection)
        return connection

    def _drop(self, connection: Connection | None) -> None:
        if connection is not None:
            with self._changed:
                self._connections.discard(connection)
                connection.close()
